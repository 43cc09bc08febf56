//! What can go wrong with records, runs and the board, and what to do about it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of records, run folders, comparisons and the board.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// A folder that should be a run but lacks its record.
    #[error("`{}` is not a finished run: it has no `record.json`", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A JSON file that does not parse.
    #[error("`{}` is not a valid record", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A record of another version.
    #[error("`{}` has record version {found}; this build reads version {}", path.display(), crate::RECORD_VERSION)]
    RecordVersion {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// A Parquet file that cannot be decoded or encoded.
    #[error("`{}` is not a valid Parquet file", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// What the library said.
        source: parquet::errors::ParquetError,
    },
    /// A Parquet file whose columns are not those of an episode or timing table.
    #[error("`{}`: column `{column}` {detail}", path.display())]
    Column {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A run without a single episode.
    #[error("`{}` holds no episodes, so it has no success rate", path.display())]
    Empty {
        /// The run folder.
        path: PathBuf,
    },
    /// A row of the episode table that contradicts itself or the record.
    #[error("`{}`, episode {episode}: {detail}", path.display())]
    Episode {
        /// The run folder.
        path: PathBuf,
        /// Position in the run.
        episode: u32,
        /// What is wrong.
        detail: String,
    },
    /// A file named in the record is missing or has changed since.
    #[error("`{}`: `{file}` has hash {found}, its record says {expected}", path.display())]
    HashMismatch {
        /// The run folder.
        path: PathBuf,
        /// The file, relative to the folder.
        file: String,
        /// Hash of the file as it is.
        found: String,
        /// Hash in the record.
        expected: String,
    },
    /// A file that a record must name is not named in it.
    #[error("`{}`: the record does not name the hash of `{file}`", path.display())]
    Unhashed {
        /// The run folder.
        path: PathBuf,
        /// The file, relative to the folder.
        file: String,
    },
    /// The record claims a number that its episodes do not give.
    #[error("`{}`: the record claims `{field}` = {claimed}, its episodes give {computed}", path.display())]
    SummaryDisagrees {
        /// The run folder.
        path: PathBuf,
        /// Field of the summary.
        field: &'static str,
        /// Value in the record.
        claimed: f64,
        /// Value recomputed.
        computed: f64,
    },
    /// Runs of different tasks cannot be compared.
    #[error("`{left}` and `{right}` are runs of different tasks: {left_task} and {right_task}")]
    DifferentTasks {
        /// First run.
        left: String,
        /// Second run.
        right: String,
        /// Task of the first run, with its hash.
        left_task: String,
        /// Task of the second run, with its hash.
        right_task: String,
    },
    /// Two runs of one task share no episode.
    #[error("`{left}` and `{right}` share no episode")]
    NoSharedEpisodes {
        /// First run.
        left: String,
        /// Second run.
        right: String,
    },
    /// The same seed, but not the same initial state and goal.
    #[error("seed {seed} stands for different episodes in `{left}` and `{right}`")]
    EpisodesDiffer {
        /// First run.
        left: String,
        /// Second run.
        right: String,
        /// The seed.
        seed: u64,
    },
    /// Two runs of one model where a statement over tasks has room for one.
    #[error("`{left}` and `{right}` are both runs of `{task}`")]
    TaskTwice {
        /// Task, or column of the paper's tables.
        task: String,
        /// First run.
        left: String,
        /// Second run.
        right: String,
    },
    /// A file of another benchmark that cannot be imported.
    #[error("cannot import from {from}: {file}: `{field}` {detail}")]
    Import {
        /// The other benchmark.
        from: &'static str,
        /// Which file or part of it.
        file: String,
        /// Which field.
        field: String,
        /// What is wrong with it.
        detail: String,
        /// What to do about it.
        fix: String,
    },
    /// An export format that does not exist.
    #[error("there is no export format `{name}`")]
    UnknownFormat {
        /// What was asked for.
        name: String,
    },
    /// An export that needs to know what no record says.
    #[error("the export to {format} needs `{option}`")]
    MissingOption {
        /// The format.
        format: &'static str,
        /// Which option.
        option: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A record whose start is not a time.
    #[error("the record of run `{run}` starts at `{text}`, which is not a time")]
    NotATime {
        /// Identity of the run.
        run: String,
        /// What stands there.
        text: String,
    },
    /// A group of tasks that the paper's tables do not have.
    #[error("there is no group of tasks `{name}`")]
    UnknownGroup {
        /// What was asked for.
        name: String,
    },
    /// A task name and version that stands for another task file on this board.
    #[error("this board knows {task} as {known}, the run was made with {found}")]
    TaskChanged {
        /// `name@version`.
        task: String,
        /// Hash on the board.
        known: String,
        /// Hash in the record.
        found: String,
    },
    /// There is no board at this path.
    #[error("there is no leaderboard at `{}`", path.display())]
    NoBoard {
        /// The path.
        path: PathBuf,
    },
    /// The board file is damaged or is not a board.
    #[error("`{}`: {detail}", path.display())]
    Board {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The event chain of the board is broken.
    #[error("`{}`: event {event} {detail}", path.display())]
    BrokenChain {
        /// The file.
        path: PathBuf,
        /// Number of the first bad event.
        event: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// SQLite failed.
    #[error("cannot {action} the board `{}`", path.display())]
    Database {
        /// `open`, `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A name, key or signature that is not one.
    #[error("{detail}")]
    Key {
        /// What is wrong.
        detail: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A bundle that cannot be read or made.
    #[error("the bundle is refused: {detail}")]
    Bundle {
        /// What is wrong, and where.
        detail: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A simulator failed while episodes were played again.
    #[error("episodes of {task} cannot be played again: {detail}")]
    Simulator {
        /// `name@version`.
        task: String,
        /// What it said.
        detail: String,
    },
    /// A board does not take a submission.
    #[error("{detail}")]
    Refused {
        /// Why, as one of a few words for programs.
        reason: Refusal,
        /// Why, in a sentence.
        detail: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A query over the tables failed.
    #[error("cannot compute the table of {what}")]
    Table {
        /// Which table.
        what: &'static str,
        /// What the library said.
        source: polars::error::PolarsError,
    },
}

/// Why a board does not take a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The name belongs to another key.
    Name,
    /// The key was revoked.
    Revoked,
    /// The same episodes were submitted before.
    Copy,
    /// A check of the bundle failed.
    Check,
    /// The task is another one, or unknown here.
    Task,
}

impl Error {
    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotARun { path } if path.join("episodes.jsonl").exists() => {
                "the run is unfinished; continue it with `jepa-bench eval --resume`".into()
            }
            Self::NotARun { .. } => "pass a folder written by `jepa-bench eval`".into(),
            Self::RecordVersion { .. } => "update jepa-bench, or evaluate again with this one".into(),
            Self::HashMismatch { .. } | Self::SummaryDisagrees { .. } | Self::Unhashed { .. } => {
                "the folder was changed after the run; evaluate again to get one that can be checked".into()
            }
            Self::DifferentTasks { .. } => {
                "compare runs of one task version; `jepa-bench leaderboard show` groups them".into()
            }
            Self::NoSharedEpisodes { .. } | Self::EpisodesDiffer { .. } => {
                "evaluate both with the same `--task` and `--seed`".into()
            }
            Self::TaskTwice { .. } => {
                "leave out one of the two; means over training seeds are made per task".into()
            }
            Self::Import { fix, .. } => fix.clone(),
            Self::UnknownFormat { .. } => {
                let names = crate::ExportFormat::ALL.map(crate::ExportFormat::name);
                format!("formats are {}", names.join(", "))
            }
            Self::MissingOption { what, .. } => format!("name {what}"),
            Self::UnknownGroup { .. } => {
                format!("groups are {}", crate::TASK_GROUPS.join(", "))
            }
            Self::TaskChanged { .. } => {
                "a task file that changes needs a new version; rename it or use another board with `--db`".into()
            }
            Self::BrokenChain { .. } => {
                "the file was edited by hand; restore a copy, or start a new board and add the runs again".into()
            }
            Self::NoBoard { .. } => {
                "make one with `jepa-bench leaderboard add RUN`, or name another with `--db`".into()
            }
            Self::Key { hint, .. } | Self::Bundle { hint, .. } | Self::Refused { hint, .. } => {
                return hint.clone();
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "check the path".into()
            }
            _ => return None,
        };
        Some(hint)
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}
