//! Where tensors are computed.

use burn::tensor::Device;

use crate::{Error, Result};

/// The processor, or a GPU in builds with the feature `cuda`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compute {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

impl Compute {
    /// What `--device` says: `cpu`, `cuda` (the first GPU), `cuda:N`, or `auto`: the first GPU where this build and this
    /// machine have one, else the processor.
    ///
    /// # Errors
    /// [`Error::Device`] for anything else, and for a GPU that is not there.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |detail: String| {
            Err(Error::Device {
                device: text.to_string(),
                detail,
            })
        };
        match text {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::gpu(0).unwrap_or(Self::Cpu)),
            _ => {
                let index = match text.strip_prefix("cuda") {
                    Some("") => Some(0),
                    Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()),
                    None => None,
                };
                match index {
                    None => wrong("is none of `auto`, `cpu`, `cuda` and `cuda:N`".into()),
                    Some(index) => match Self::gpu(index) {
                        Some(gpu) => Ok(gpu),
                        None => wrong(Self::why_no_gpu()),
                    },
                }
            }
        }
    }

    /// GPUs that this build sees; the driver is asked first, so a machine without one is no error.
    #[cfg(feature = "cuda")]
    fn gpus() -> Vec<Device> {
        Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec()
    }

    #[cfg(feature = "cuda")]
    fn gpu(index: usize) -> Option<Self> {
        (index < Self::gpus().len()).then_some(Self::Cuda(index))
    }

    #[cfg(not(feature = "cuda"))]
    fn gpu(_index: usize) -> Option<Self> {
        None
    }

    #[cfg(feature = "cuda")]
    fn why_no_gpu() -> String {
        match Self::gpus().len() {
            0 => "this machine has no NVIDIA driver or no GPU".into(),
            count => format!("this machine has {count} of them, counted from 0"),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn why_no_gpu() -> String {
        "this build computes on the CPU only; build it with `--features cuda`".into()
    }

    /// The devices that this build and machine have, for people.
    pub fn available() -> Vec<String> {
        #[cfg(feature = "cuda")]
        let gpus = (0..Self::gpus().len()).map(|index| format!("cuda:{index}"));
        #[cfg(not(feature = "cuda"))]
        let gpus = std::iter::empty();
        std::iter::once("cpu".to_string()).chain(gpus).collect()
    }

    /// The device of the back end, without gradients.
    pub(crate) fn device(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Device::cuda(index),
        }
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Whether the operations with hand-written passes (`layer`) exist for a device: they do for the processor; elsewhere
/// the plain versions beside them are used.
pub(crate) fn has_fused_operations(device: &Device) -> bool {
    // Equal devices are the same hardware, whether they keep gradients or not.
    *device == Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there_and_other_words_are_refused() {
        assert_eq!(Compute::parse("cpu").unwrap(), Compute::Cpu);
        assert!(Compute::parse("auto").is_ok());
        assert_eq!(Compute::available()[0], "cpu");
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda0", "", "CPU"] {
            let error = Compute::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("none of `auto`"), "{wrong}: {error}");
        }
        // No machine has that many.
        assert!(Compute::parse("cuda:4096").is_err());
    }

    #[test]
    fn the_processor_has_fused_operations_with_gradients_too() {
        assert!(has_fused_operations(&Device::flex()));
        assert!(has_fused_operations(&Device::flex().autodiff()));
    }
}
