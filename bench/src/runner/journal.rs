//! The finished episodes of a running evaluation, one JSON document per line.
//!
//! A line is on disk before its episode counts as done. A line that was cut off by a crash is dropped
//! when the run continues, and its episode runs again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jepa_leaderboard::{EpisodeRow, TimingRow};
use serde::{Deserialize, Serialize};

use super::folder::io;
use crate::{Error, Result};

/// Name of the journal in a run folder.
pub(super) const JOURNAL_FILE: &str = "episodes.jsonl";

/// One finished episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What happened.
    pub row: EpisodeRow,
    /// How long it took.
    pub timing: TimingRow,
    /// Steps in which the simulator replaced a number that is NaN in the reference.
    pub nan_guard_steps: u64,
    /// The episode was at its goal before the first step.
    #[serde(default)]
    pub solved_at_start: bool,
    /// Episodes that were drawn and passed over before it, as they were at their goal from the start.
    #[serde(default)]
    pub redrawn: u32,
    /// Wall-clock seconds of the run, over all its sessions, when the episode was done.
    pub elapsed_s: f64,
}

/// The journal of a run, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    began: Instant,
    /// Wall-clock seconds of earlier sessions.
    earlier_s: f64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    lines: BTreeMap<u32, Line>,
}

impl Journal {
    /// Opens the journal of a run folder and reads what is in it.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(JOURNAL_FILE);
        let options = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let mut file = options.map_err(|source| io("open", &path, source))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .map_err(|source| io("read", &path, source))?;
        let (lines, sound) = parse(&path, &text)?;
        let cut = |file: &mut File| {
            file.set_len(sound)?;
            file.seek(SeekFrom::End(0))
        };
        cut(&mut file).map_err(|source| io("write", &path, source))?;
        let earlier_s = lines
            .values()
            .map(|line| line.elapsed_s)
            .fold(0.0, f64::max);
        let inner = Mutex::new(Inner { file, lines });
        Ok(Self {
            path,
            began: Instant::now(),
            earlier_s,
            inner,
        })
    }

    /// Episodes that are done.
    pub(super) fn episodes(&self) -> BTreeSet<u32> {
        self.lock().lines.keys().copied().collect()
    }

    /// Adds a finished episode; it is on disk when this returns.
    pub(super) fn append(&self, mut line: Line) -> Result<EpisodeRow> {
        line.elapsed_s = self.earlier_s + self.began.elapsed().as_secs_f64();
        let mut text = serde_json::to_vec(&line).map_err(|error| Error::Invalid {
            what: format!("episode {}", line.row.episode),
            detail: error.to_string(),
        })?;
        text.push(b'\n');
        let mut inner = self.lock();
        let write = |file: &mut File| {
            file.write_all(&text)?;
            file.sync_data()
        };
        write(&mut inner.file).map_err(|source| io("write", &self.path, source))?;
        let row = line.row.clone();
        inner.lines.insert(line.row.episode, line);
        Ok(row)
    }

    /// All finished episodes in order.
    pub(super) fn into_lines(self) -> Vec<Line> {
        let inner = self
            .inner
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        inner.lines.into_values().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A worker that panicked ends the whole run; what was appended before stays sound.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The complete lines of a journal, and the length of the text they take up.
fn parse(path: &Path, text: &[u8]) -> Result<(BTreeMap<u32, Line>, u64)> {
    let mut lines = BTreeMap::new();
    let mut sound = 0;
    for (number, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let is_last = sound + line.len() == text.len();
        let complete = line.strip_suffix(b"\n").map(serde_json::from_slice::<Line>);
        match complete {
            Some(Ok(parsed)) => {
                lines.insert(parsed.row.episode, parsed);
                sound += line.len();
            }
            // Cut off by a crash.
            None => break,
            Some(Err(_)) if is_last => break,
            Some(Err(error)) => {
                return Err(Error::Run {
                    path: path.to_path_buf(),
                    detail: format!("line {} is damaged: {error}", number + 1),
                    hint: "pass `--fresh` to start over".into(),
                });
            }
        }
    }
    Ok((lines, sound as u64))
}
