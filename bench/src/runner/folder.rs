//! The folder of a run: its name, its lock, and finding the unfinished one to continue.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jepa_leaderboard::{CONFIG_FILE, RECORD_FILE};

use super::journal::JOURNAL_FILE;
use super::provenance::Utc;
use super::{Destination, Evaluation};
use crate::{Error, Result};

/// Name of the file that is locked while a process writes the run.
const LOCK_FILE: &str = "lock";

/// What to do with an unfinished run of the same configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Continue {
    /// Continue it if there is one.
    #[default]
    IfThere,
    /// Leave it alone and start another run beside it.
    Never,
}

/// An open run folder. The lock ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct RunFolder {
    pub(super) path: PathBuf,
    /// When this run, or this session of it, began.
    pub(super) started: Utc,
    pub(super) clock: Instant,
    lock: File,
}

impl RunFolder {
    /// Opens the unfinished run of this evaluation, or a new one.
    pub(super) fn open(evaluation: &Evaluation, destination: &Destination) -> Result<Self> {
        let started = Utc::now();
        let parent = parent(evaluation, &destination.runs);
        let suffix = suffix(evaluation);
        let unfinished = match destination.unfinished {
            Continue::IfThere => newest(&parent, &suffix, false)?,
            Continue::Never => None,
        };
        let path = unfinished.unwrap_or_else(|| fresh_path(&parent, &started.compact(), &suffix));
        std::fs::create_dir_all(&path).map_err(|source| io("create", &path, source))?;
        let lock = lock(&path)?;
        // Between looking and locking, another process may have finished this very run.
        if path.join(RECORD_FILE).exists() {
            return Err(in_use(&path, "it was finished by another process just now"));
        }
        let config = path.join(CONFIG_FILE);
        if !config.exists() {
            write_atomically(&config, evaluation.config.to_toml()?.as_bytes())?;
        }
        Ok(Self {
            path,
            started,
            clock: Instant::now(),
            lock,
        })
    }

    /// Removes what only a running evaluation needs.
    pub(super) fn close(self) -> Result<PathBuf> {
        for name in [JOURNAL_FILE, LOCK_FILE] {
            let path = self.path.join(name);
            std::fs::remove_file(&path).map_err(|source| io("remove", &path, source))?;
        }
        drop(self.lock);
        Ok(self.path)
    }
}

/// The end of the folder's name: what is run, and which part of it.
fn suffix(evaluation: &Evaluation) -> String {
    let hash = &evaluation.run_hash()[..16];
    match evaluation.shard {
        Some(shard) => format!("_{hash}-shard-{}-of-{}", shard.index, shard.count),
        None => format!("_{hash}"),
    }
}

/// A path that does not exist yet: two runs may start in the same second.
fn fresh_path(parent: &Path, utc: &str, suffix: &str) -> PathBuf {
    let first = parent.join(format!("{utc}{suffix}"));
    let more = (2..).map(|n: u32| parent.join(format!("{utc}-{n}{suffix}")));
    std::iter::once(first)
        .chain(more)
        .find(|path| !path.exists())
        .unwrap_or_default()
}

/// The newest finished run of this very evaluation below a folder of runs, if there is one.
///
/// # Errors
/// When the folder cannot be read.
pub fn finished_run(evaluation: &Evaluation, runs: &Path) -> Result<Option<PathBuf>> {
    newest(&parent(evaluation, runs), &suffix(evaluation), true)
}

/// Where the runs of this model on this task are.
fn parent(evaluation: &Evaluation, runs: &Path) -> PathBuf {
    let model = evaluation.policy.name().replace([':', '/'], "-");
    runs.join(&evaluation.config.task).join(model)
}

/// The newest folder with this suffix that has a record, or has none.
fn newest(parent: &Path, suffix: &str, with_record: bool) -> Result<Option<PathBuf>> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("read", parent, error)),
    };
    let mut found = None;
    for entry in entries {
        let path = entry.map_err(|source| io("read", parent, source))?.path();
        let is_ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(suffix));
        if is_ours && path.is_dir() && path.join(RECORD_FILE).exists() == with_record {
            found = found.max(Some(path));
        }
    }
    Ok(found)
}

/// Takes the lock of a run folder; the operating system gives it back when the process ends.
fn lock(path: &Path) -> Result<File> {
    let name = path.join(LOCK_FILE);
    // Appending leaves the holder's note alone when the lock is taken.
    let open = File::options().create(true).append(true).open(&name);
    let mut file = open.map_err(|source| io("create", &name, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(in_use(path, "another process is writing it"));
        }
        Err(TryLockError::Error(source)) => return Err(io("lock", &name, source)),
    }
    // For people who look into the folder; the lock itself does not depend on it.
    let _ = file.set_len(0);
    let _ = writeln!(file, "{}", std::process::id());
    Ok(file)
}

fn in_use(path: &Path, detail: &str) -> Error {
    Error::Run {
        path: path.to_path_buf(),
        detail: detail.into(),
        hint: "wait for it, or pass `--fresh` to start another run beside it".into(),
    }
}

/// Writes a file under a temporary name and renames it.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| io("write", path, source))
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}
