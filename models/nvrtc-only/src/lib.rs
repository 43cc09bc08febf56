//! Stands in for `cubecl-llvm`, the second way of `cubecl-cuda` to make kernels.
//!
//! `cubecl-cuda` can write CUDA C++ and hand it to NVRTC, or go through LLVM. The crate behind the second way downloads
//! a prebuilt LLVM when it is built, and `cubecl-cuda` depends on it even where only the first way is used. This
//! project uses the first one (feature `cubecl/cuda-cpp`), so the second only needs to exist: here are the names that
//! `cubecl-cuda` 0.11.3 mentions, and [`PlironCompiler::compile`] says why it does nothing.

use std::fmt;

use cubecl_environment::backtrace::BackTrace;
use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_server::compiler::CompilationError;
use cubecl_server::kernel::BufferIOAttr;

/// Versions of PTX.
pub mod nvptx {
    /// The version of PTX that a driver takes.
    pub mod ptx_version {
        use std::fmt;

        /// There is none: no PTX is made here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// Always `None`.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }
    }
}

/// What kernels may use.
pub mod shared {
    /// Features of devices that this way of making kernels does not reach.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// Kinds of devices.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA.
            Nvptx,
        }

        /// Leaves the features alone: no kernel is made here that could miss them.
        pub fn restrict_features(_features: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// What a kernel would be made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA.
    #[default]
    Nvptx,
}

/// A compiler that refuses.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would compile for.
    pub target: LlvmTarget,
}

impl PlironCompiler {
    /// An error that says how kernels are made in this build.
    pub fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this build makes CUDA kernels through NVRTC only; the feature `cubecl/cuda-cpp` must be on"
                .to_string(),
            backtrace: BackTrace::capture(),
        })
    }

    /// Name of the language of its kernels.
    pub fn lang_tag(&self) -> &'static str {
        "none"
    }
}

/// Settings of the compiler.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// Architecture of a device of another maker.
    pub arch: Option<OtherArch>,
    /// Architecture of the device.
    pub sm_arch: Option<SmArch>,
    /// Version of PTX.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether scalars are passed in the parameters of a kernel.
    pub grid_constants: bool,
    /// Settings that nobody names.
    pub others: (),
}

/// An architecture of another maker: there is none.
#[derive(Clone, Copy, Debug)]
pub enum OtherArch {}

/// What the compiler would make.
pub enum PlironArtifact {
    /// A module for NVIDIA.
    NvptxCode(NvptxModule),
    /// Anything else.
    Other,
}

/// A module for NVIDIA: there is none.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// Its assembly.
    pub ptx: Vec<std::ffi::c_char>,
    /// Name of the kernel.
    pub entrypoint: String,
    /// For logs.
    pub ir: String,
    /// Bytes of shared memory.
    pub shared_memory_size: usize,
    /// Which buffers are read and written.
    pub io: Vec<BufferIOAttr>,
}

impl fmt::Debug for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlironArtifact")
    }
}
