//! What can go wrong with a dataset, and what to try next.

use std::io;
use std::path::{Path, PathBuf};

use crate::Shard;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of schemas, splits, statistics, slices and stores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read, write, rename or sync something.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that holds no finished dataset.
    #[error("`{}` is not a dataset: {detail}", path.display())]
    NotADataset {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// An ingestion or collection that has not finished.
    #[error("the dataset `{}` is not finished: {pending} of {total} source episodes are still to do", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// Episodes without a line in the ledger.
        pending: u64,
        /// Episodes of the source.
        total: u64,
    },
    /// A part of a dataset, finished but not joined with the others.
    #[error("`{}` is shard {shard} of a dataset, not a dataset", path.display())]
    IsShard {
        /// The folder.
        path: PathBuf,
        /// Which part.
        shard: Shard,
    },
    /// Shards that do not make up a dataset.
    #[error("`{}` cannot be joined: {detail}", path.display())]
    Shards {
        /// The shard, or the dataset to be.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// The dataset was written by a newer version of this program.
    #[error("`{}` has format version {found}; this program reads up to {known}", path.display())]
    NewerFormat {
        /// `dataset.json`.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Newest version this program knows.
        known: u32,
    },
    /// The destination already holds a finished dataset.
    #[error("`{}` already holds a finished dataset", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The destination of an export exists.
    #[error("`{}` exists already", path.display())]
    Occupied {
        /// The file or folder.
        path: PathBuf,
    },
    /// Something that is no export would be replaced by one.
    #[error("`{}` is not an export of this program; it is not replaced", path.display())]
    NotAnExport {
        /// The file or folder.
        path: PathBuf,
    },
    /// The user asked to stop; nothing was written.
    #[error("interrupted; nothing was written")]
    Stopped,
    /// The destination holds files that are not ours.
    #[error("`{}` is not empty and is not a dataset: it holds `{entry}`", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the entries found.
        entry: String,
    },
    /// The unfinished dataset in the destination was started with other settings.
    #[error("the unfinished dataset in `{}` was started with another {field}: {found}, now {asked}", path.display())]
    OtherSettings {
        /// The folder.
        path: PathBuf,
        /// The setting that differs.
        field: &'static str,
        /// Its value in the folder.
        found: String,
        /// Its value now.
        asked: String,
    },
    /// Another process writes the same dataset.
    #[error("another process is writing `{}`", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the dataset is damaged.
    #[error("`{}` is damaged: {detail}", path.display())]
    Corrupt {
        /// The file: a Parquet part, a Zarr shard, a JSON document.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// An episode that does not fit the declared fields and cameras.
    #[error("episode {episode}: {detail}")]
    Episode {
        /// Index in the source.
        episode: u64,
        /// Reason code, as written to the ledger.
        code: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Not one episode of the source could be used.
    #[error("`{}` would be empty: none of the {total} source episodes could be used; {first}", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// Episodes of the source.
        total: u64,
        /// What is wrong with the first of them.
        first: String,
    },
    /// A name that the dataset does not hold.
    #[error("the dataset has no {kind} `{name}`")]
    UnknownName {
        /// `split`, `camera`, `column`, ...
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// An index outside its range.
    #[error("{what} {index} is out of range: there are {len}")]
    OutOfRange {
        /// What was indexed.
        what: &'static str,
        /// The index.
        index: u64,
        /// How many there are.
        len: u64,
    },
    /// A setting that makes no sense, such as a context of 0.
    #[error("{what} `{value}` is not valid: {detail}")]
    Invalid {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Something that this build was made without.
    #[error("{what} needs the feature `{feature}`, which this build lacks")]
    Lacks {
        /// What was asked for.
        what: String,
        /// The feature of the crate.
        feature: &'static str,
    },
    /// The writer of a Parquet file failed.
    #[error("cannot write `{}`", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: parquet::errors::ParquetError,
    },
}

impl Error {
    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if is_full(source) => {
                Some("free some disk space and run the same command again; what was finished is kept".into())
            }
            Self::NotADataset { .. } => {
                Some("`jepa-bench ingest` and `jepa-bench collect` write datasets".into())
            }
            Self::Unfinished { .. } => Some("run the command that started it again; it resumes".into()),
            Self::IsShard { .. } => Some("join all shards with `jepa-bench merge OUT SHARD...`".into()),
            Self::Shards { .. } => Some("give every shard of one `ingest --shard` command, each once".into()),
            Self::NewerFormat { .. } => Some("update jepa-bench, or write the dataset again with this version".into()),
            Self::Exists { .. } => Some("choose another folder, or pass `--overwrite` to replace it".into()),
            Self::Occupied { .. } => {
                Some("choose another name, or pass `--overwrite` to replace an earlier export".into())
            }
            Self::NotAnExport { .. } => Some("choose another name, or remove it yourself".into()),
            Self::Foreign { .. } => Some("choose an empty or a new folder".into()),
            Self::OtherSettings { .. } => {
                Some("repeat the first settings to resume, or pass `--overwrite` to start again".into())
            }
            Self::Locked { .. } => Some("wait for it to end, or choose another folder".into()),
            Self::Corrupt { .. } => {
                Some("`jepa-bench validate` lists every damaged file; write the dataset again with `--overwrite`".into())
            }
            Self::Lacks { feature, .. } => {
                Some(format!("build jepa-bench with its default features, or with `--features {feature}`"))
            }
            Self::UnknownName { kind, name, known } if !known.is_empty() => Some(name_hint(kind, name, known)),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over errors and literals alike"
    )]
    pub(crate) fn corrupt(path: &Path, detail: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_path_buf(),
            detail: detail.to_string(),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over errors and literals alike"
    )]
    pub(crate) fn invalid(what: &'static str, value: impl ToString, detail: impl ToString) -> Self {
        Self::Invalid {
            what,
            value: value.to_string(),
            detail: detail.to_string(),
        }
    }
}

/// A hint for an unknown name: the names that exist, after the closest one when it looks like a slip.
pub fn name_hint(kind: &str, name: &str, known: &[String]) -> String {
    let kinds = match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{kind}s"),
    };
    let listed = format!("the {kinds} are: {}", known.join(", "));
    match closest(name, known) {
        Some(near) => format!("did you mean `{near}`? {listed}"),
        None => listed,
    }
}

/// The known name at the smallest edit distance, if that is small enough for a slip.
pub fn closest<'a>(name: &str, known: &'a [impl AsRef<str>]) -> Option<&'a str> {
    let distance = |known: &'a str| (edit_distance(name, known), known);
    let (distance, near) = known
        .iter()
        .map(|k| distance(k.as_ref()))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.chars().count() / 3)).then_some(near)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Whether the system says that there is no space left, for this user or on this disk.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_the_name() {
        let hint = |kind: &str| name_hint(kind, "rando", &["random".into(), "push".into()]);
        assert_eq!(
            hint("policy"),
            "did you mean `random`? the policies are: random, push"
        );
        assert_eq!(
            hint("key"),
            "did you mean `random`? the keys are: random, push"
        );
        assert_eq!(
            hint("task"),
            "did you mean `random`? the tasks are: random, push"
        );
        let known = ["train", "val", "all"];
        assert_eq!(closest("trian", &known), Some("train"));
        assert_eq!(closest("vall", &known), Some("val"));
        assert_eq!(closest("something", &known), None);
        assert_eq!(closest("x", &[] as &[&str]), None);
    }

    #[test]
    fn edit_distance_counts_insertions_deletions_and_substitutions() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn unknown_names_list_what_exists() {
        let error = Error::UnknownName {
            kind: "split",
            name: "vall".into(),
            known: vec!["train".into(), "val".into()],
        };
        assert_eq!(
            error.hint().as_deref(),
            Some("did you mean `val`? the splits are: train, val")
        );
    }
}
