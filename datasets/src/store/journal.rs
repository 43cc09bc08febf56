//! The append-only record of finished episodes while a dataset is being written.
//!
//! One line per source episode: 16 hex digits of the `BLAKE3` of what follows, a space, a JSON entry. A
//! process may end in the middle of a line; on the next start everything from the first damaged line
//! on is cut off, and those episodes are done again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use crate::schema::{FileEntry, FrameLoss, LedgerRow};
use crate::{Error, Result};

/// Hex digits of hash in front of every line.
const CHECK_DIGITS: usize = 16;

/// What is known about one finished source episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The row of the ledger.
    pub(crate) row: LedgerRow,
    /// Staged files of an accepted episode, by file name.
    pub(crate) staged: BTreeMap<String, FileEntry>,
    /// What the codec lost, by camera; empty where it is exact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) loss: BTreeMap<String, FrameLoss>,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    disk: Disk,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    entries: BTreeMap<u64, Entry>,
}

impl Journal {
    /// Opens or creates a journal; entries that `keep` refuses are forgotten.
    pub(crate) fn open(path: &Path, disk: &Disk, keep: impl Fn(&Entry) -> bool) -> Result<Self> {
        let io = |action| move |e| Error::io(action, path, e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let (entries, intact) = parse(&bytes);
        file.set_len(intact).map_err(io("repair"))?;
        file.seek(SeekFrom::End(0)).map_err(io("read"))?;
        let entries = entries
            .into_iter()
            .filter(|(_, entry)| keep(entry))
            .collect();
        Ok(Self {
            path: path.to_path_buf(),
            disk: disk.clone(),
            state: Mutex::new(State { file, entries }),
        })
    }

    /// The entries of a journal that somebody else may be writing; nothing without one.
    pub(crate) fn read(path: &Path) -> Result<BTreeMap<u64, Entry>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(parse(&bytes).0),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(e) => Err(Error::io("read", path, e)),
        }
    }

    /// Appends one entry. A later entry of the same episode replaces an earlier one.
    pub(crate) fn append(&self, entry: Entry) -> Result<()> {
        let line = line(&entry)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.disk
            .append(&mut state.file, &self.path, line.as_bytes())?;
        state.entries.insert(entry.row.source_index, entry);
        Ok(())
    }

    /// Whether an episode has an entry.
    pub(crate) fn holds(&self, source_index: u64) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .contains_key(&source_index)
    }

    /// Every entry, by source index.
    pub(crate) fn entries(&self) -> BTreeMap<u64, Entry> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .clone()
    }
}

fn line(entry: &Entry) -> Result<String> {
    let json = serde_json::to_string(entry)
        .map_err(|e| Error::invalid("journal entry", entry.row.source_index, e))?;
    Ok(format!("{} {json}\n", check(json.as_bytes())))
}

fn check(json: &[u8]) -> String {
    blake3::hash(json).to_hex()[..CHECK_DIGITS].to_string()
}

/// Entries up to the first damaged line, and the length of that intact part.
fn parse(bytes: &[u8]) -> (BTreeMap<u64, Entry>, u64) {
    let mut entries = BTreeMap::new();
    let mut intact = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let Some(entry) = parse_line(line) else { break };
        entries.insert(entry.row.source_index, entry);
        intact += line.len() as u64;
    }
    (entries, intact)
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = line.split_at_checked(CHECK_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if check(json).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Outcome;

    fn entry(source_index: u64) -> Entry {
        let row = LedgerRow {
            source_index,
            path: format!("episode_{source_index}"),
            outcome: Outcome::Rejected,
            code: "decode_error".into(),
            detail: "a line\nbreak".into(),
            bytes: 0,
            seconds: Some(0.1),
        };
        Entry {
            row,
            staged: BTreeMap::new(),
            loss: BTreeMap::new(),
        }
    }

    fn written(path: &Path) -> Vec<u8> {
        let journal = Journal::open(path, &Disk::default(), |_| true).expect("a new journal");
        for k in 0..3 {
            journal.append(entry(k)).expect("an entry");
        }
        std::fs::read(path).expect("the journal")
    }

    #[test]
    fn a_journal_cut_at_any_byte_keeps_its_whole_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let bytes = written(&path);
        let ends: Vec<usize> = bytes
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(i, _)| i + 1)
            .collect();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("a torn journal");
            let journal = Journal::open(&path, &Disk::default(), |_| true).expect("it opens");
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(journal.entries().len(), whole, "cut at {cut}");
            journal.append(entry(9)).expect("it goes on");
            drop(journal);
            let again = Journal::open(&path, &Disk::default(), |_| true).expect("it opens again");
            assert_eq!(again.entries().len(), whole + 1);
            assert_eq!(again.entries().get(&9), Some(&entry(9)));
        }
    }

    #[test]
    fn a_changed_byte_ends_the_journal_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut bytes = written(&path);
        let second = bytes.iter().position(|&b| b == b'\n').expect("a line") + 30;
        bytes[second] ^= 1;
        std::fs::write(&path, &bytes).expect("a damaged journal");
        let journal = Journal::open(&path, &Disk::default(), |_| true).expect("it opens");
        assert_eq!(journal.entries().keys().copied().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn refused_entries_are_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        written(&path);
        let journal =
            Journal::open(&path, &Disk::default(), |e| e.row.source_index != 1).expect("it opens");
        assert!(journal.holds(0) && !journal.holds(1) && journal.holds(2));
    }
}
