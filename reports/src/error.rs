//! What can go wrong when a report is written, and what to do about it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A report needs at least one run.
    #[error("a report needs at least one run")]
    NoRuns,
    /// The paper's layouts need a run of one of the paper's tasks.
    #[error("no run is of a trained model on a task of the paper")]
    NoPaperRuns,
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file that does not parse.
    #[error("`{}`, line {line}, is not what a {what} holds", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// `metrics file`, `film index`, ...
        what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A picture that is not a PNG file.
    #[error("`{}` is not a PNG picture", path.display())]
    Picture {
        /// Which file.
        path: PathBuf,
        /// What the decoder said.
        source: png::DecodingError,
    },
    /// A figure could not be drawn.
    #[error("cannot draw the figure `{figure}`: {detail}")]
    Figure {
        /// Name of the figure.
        figure: String,
        /// What the drawing library said.
        detail: String,
    },
    /// The document could not be set as a PDF.
    #[error("cannot set the PDF: {detail}")]
    Pdf {
        /// What the typesetter said, first problem first.
        detail: String,
    },
    /// The document could not be written as JSON.
    #[error("cannot write the results as JSON")]
    Results(#[source] serde_json::Error),
    /// The numbers could not be computed.
    #[error(transparent)]
    Leaderboard(#[from] jepa_leaderboard::Error),
}

impl Error {
    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRuns => Some("pass run folders written by `jepa-bench eval`".into()),
            Self::NoPaperRuns => Some(
                "evaluate a model on wall, pointmaze, pusht, mw-reach, mw-reach-wall or droid"
                    .into(),
            ),
            Self::Pdf { .. } => {
                Some("write the other formats with `--format html,md,latex,json`".into())
            }
            Self::Json {
                what: "metrics file",
                ..
            } => Some("leave the training run out, or train again".into()),
            Self::Leaderboard(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}
