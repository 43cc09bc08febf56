//! What can go wrong with a model, its training or its weights.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of models, training and weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model name that the zoo does not hold.
    #[error("unknown model `{name}`")]
    UnknownModel {
        /// The name as typed.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// An encoder name that the table of encoders does not hold.
    #[error("unknown encoder `{name}`")]
    UnknownEncoder {
        /// The name as typed.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A device that this build or machine does not have.
    #[error("device `{device}` is not available: {detail}")]
    Device {
        /// The device as typed.
        device: String,
        /// Why not.
        detail: String,
    },
    /// A training configuration with a value outside its range.
    #[error("training configuration: `{key}` {detail}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        detail: String,
    },
    /// An array of the wrong size for this model.
    #[error("{what}: expected {expected}, got {actual}")]
    Shape {
        /// Which array.
        what: &'static str,
        /// What the model takes.
        expected: String,
        /// What it was given.
        actual: String,
    },
    /// A file of a training run that is missing, damaged or of another model.
    #[error("training run `{}`: {detail}", path.display())]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
        /// How to go on.
        hint: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A planner asked for gradients that the model does not offer.
    #[error("model `{model}` offers no gradients of its costs")]
    NoGradients {
        /// Its name.
        model: String,
    },
    /// Training left the numbers that mean anything.
    #[error("the training loss is not finite at step {step} ({term} = {value})")]
    Diverged {
        /// Optimiser step.
        step: u64,
        /// The loss term.
        term: &'static str,
        /// Its value.
        value: f64,
    },
    /// Training was interrupted; the last checkpoint is kept.
    #[error("interrupted at step {step} of {total}")]
    Interrupted {
        /// Steps done.
        step: u64,
        /// Steps asked for.
        total: u64,
    },
    /// A weight file or reference case that is damaged or of another kind.
    #[error("weights `{name}`: {detail}")]
    Weights {
        /// The file, case or key.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A released model without statistics of the data that it was trained on.
    #[error("statistics of `{model}`: {detail}")]
    Statistics {
        /// The model.
        model: String,
        /// What is missing or does not fit.
        detail: String,
    },
    /// A weight file that its reader refuses; the reason is the source.
    #[error("cannot read weights `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A weight file whose keys are not those of the model.
    #[error(
        "the keys of `{name}` are not those of the model: {} missing [{}], {} unexpected [{}], {} of another shape [{}]",
        missing.len(), missing.join(", "), unexpected.len(), unexpected.join(", "), shapes.len(), shapes.join("; ")
    )]
    Keys {
        /// The model part.
        name: String,
        /// Keys that the model needs and the file lacks.
        missing: Vec<String>,
        /// Keys of the file that the model has no place for.
        unexpected: Vec<String>,
        /// Keys with both shapes.
        shapes: Vec<String>,
    },
    /// The dataset could not be read.
    #[error(transparent)]
    Data(#[from] jepa_datasets::Error),
}

impl Error {
    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownModel { name, known } => {
                Some(jepa_datasets::name_hint("model", name, known))
            }
            Self::UnknownEncoder { name, known } => {
                Some(jepa_datasets::name_hint("encoder", name, known))
            }
            Self::Device { .. } => Some("use `--device cpu`".into()),
            Self::Run { hint, .. } => Some(hint.clone()),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("free some disk space and run the same command again; it continues".into())
            }
            Self::NoGradients { .. } => {
                Some("use a planner that only compares costs, such as `--planner cem`".into())
            }
            Self::Diverged { .. } => {
                Some("lower `learning_rate`, or lengthen `warmup_fraction`".into())
            }
            Self::Interrupted { .. } => Some("run the same command again to continue".into()),
            Self::Keys { .. } => Some(
                "check that the file belongs to this model, and its sizes to this configuration"
                    .into(),
            ),
            Self::Statistics { .. } => Some(
                "pass `--stats FILE` with what `jepa-bench stats DATASET --split train --json` prints of its data".into(),
            ),
            Self::Data(error) => error.hint(),
            _ => None,
        }
    }

    /// An [`Error::Io`] for `path`, for use with `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
