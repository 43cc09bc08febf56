//! What can go wrong in an evaluation, and what to do about it.

use std::path::PathBuf;

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
            Self::UnknownName { kind, name, known } => Some(known_names(kind, name, known)),
            Self::Config { hint, .. } => hint.clone(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Some(
                "free some disk space and run the same command again; finished work is kept".into(),
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

/// `known: a, b, c` with the closest name first in a "did you mean".
fn known_names(kind: &str, name: &str, known: &[String]) -> String {
    let listed = known.join(", ");
    match closest(name, known) {
        Some(near) => format!("did you mean `{near}`? known {kind}s: {listed}"),
        None => format!("known {kind}s: {listed}"),
    }
}

/// The known name at the smallest edit distance, if it is close enough to be a slip.
pub(crate) fn closest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let best = known
        .iter()
        .map(|k| (edit_distance(name, k), k))
        .min_by_key(|(d, _)| *d)?;
    (best.0 <= 2.max(name.chars().count() / 3)).then_some(best.1.as_str())
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_the_name() {
        let known = vec!["wall".to_string(), "pointmaze".to_string()];
        assert_eq!(closest("wal", &known), Some("wall"));
        assert_eq!(closest("point-maze", &known), Some("pointmaze"));
        assert_eq!(closest("xyzzyx", &known), None);
    }

    #[test]
    fn edit_distance_counts_insertions_deletions_and_substitutions() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
