//! What can go wrong in an evaluation, and what to do about it.

use std::path::PathBuf;

use jepa_datasets::name_hint;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of environments, planners, tasks and runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no registry holds.
    #[error("unknown {kind} `{name}`")]
    UnknownName {
        /// What was looked up: `task`, `planner`, `environment`, ...
        kind: &'static str,
        /// The name as typed.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A configuration file or a `--set` that does not parse.
    #[error("{what} is not valid: {detail}")]
    Config {
        /// File or flag.
        what: String,
        /// What the parser said, with the line where there is one.
        detail: String,
        /// How to mend it.
        hint: Option<String>,
    },
    /// A value outside its range or of the wrong shape.
    #[error("{what}: {detail}")]
    Invalid {
        /// The thing at fault.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A number that must be finite is not.
    #[error("{what} is not finite in episode {episode}")]
    NotFinite {
        /// Which quantity.
        what: String,
        /// Episode index in the run.
        episode: u32,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A simulator outside this program failed; it is an error of the episode in hand.
    #[error("simulator `{name}`: {detail}{}", last_words(said))]
    Bridge {
        /// Environment.
        name: String,
        /// What happened.
        detail: String,
        /// The last lines that it wrote.
        said: String,
    },
    /// Some episodes failed; the others are kept.
    #[error("{failed} of {total} episodes failed: {detail}")]
    Episodes {
        /// Episodes that failed.
        failed: usize,
        /// Episodes asked for.
        total: usize,
        /// Which, and why.
        detail: String,
    },
    /// The run was interrupted by the user; finished episodes are kept.
    #[error("interrupted after {done} of {total} {what}")]
    Interrupted {
        /// Units finished.
        done: usize,
        /// Units asked for.
        total: usize,
        /// Name of the unit, e.g. `episodes`.
        what: &'static str,
    },
    /// A run folder that cannot be continued or used.
    #[error("run folder `{}`: {detail}", path.display())]
    Run {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        detail: String,
        /// How to go on.
        hint: String,
    },
    /// The dataset layer failed.
    #[error(transparent)]
    Data(#[from] jepa_datasets::Error),
    /// The model layer failed.
    #[error(transparent)]
    Model(#[from] jepa_models::Error),
    /// The record layer failed.
    #[error(transparent)]
    Leaderboard(#[from] jepa_leaderboard::Error),
}

impl Error {
    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { kind, name, known } => Some(name_hint(kind, name, known)),
            Self::Config { hint, .. } => hint.clone(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Some(
                "free some disk space and run the same command again; finished work is kept".into(),
            ),
            Self::Bridge { .. } => Some(
                "`jepa-bench doctor` says what simulators outside this program need and whether they work".into(),
            ),
            Self::Episodes { .. } => Some(
                "the same command runs the failed episodes again; finished ones are kept".into(),
            ),
            Self::Interrupted { .. } => Some("run the same command again to continue".into()),
            Self::Run { hint, .. } => Some(hint.clone()),
            Self::Data(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Leaderboard(error) => error.hint(),
            _ => None,
        }
    }
}

/// The last lines of a process, set apart.
fn last_words(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!("; it last wrote:\n{said}")
    }
}
