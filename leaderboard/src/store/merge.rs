//! Boards that become one, copies of boards, and what lies beside them.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::params;
use serde::Serialize;

use super::events::{
    ADD_RUN, ERRATUM, Event, IMPORT, MERGE, REVOKE, SUBMIT, Taken, append, happened,
};
use super::{Board, Stored};
use crate::error::{Error, Result};
use crate::files::hash_file;
use crate::record::RunRecord;
use crate::run::EPISODES_FILE;

/// What [`Board::merge`] brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Merged {
    /// Runs that are new here.
    pub runs: u64,
    /// Submissions that are new here.
    pub submissions: u64,
    /// Revocations, errata and rows of other boards that are new here.
    pub notes: u64,
}

/// What [`Board::check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Events of the chain.
    pub events: u64,
    /// Blobs that are named and whole.
    pub blobs: u64,
    /// Blobs that are named and missing or damaged.
    pub damaged: Vec<String>,
    /// Blobs that nothing names: what a crash left, or runs that came without their tables.
    pub unnamed: Vec<String>,
}

impl Board {
    /// Takes over everything that `other` knows and this board does not: a union, so that it does not matter which board
    /// takes the other, or how often. What maintainers of the other board found by running weights is not taken on trust.
    ///
    /// A name that is pinned to different keys stays with both; a task of one name and version with different hashes
    /// becomes two tasks.
    ///
    /// # Errors
    /// When a board cannot be read or written. Nothing is written then, except blobs that nothing names.
    pub fn merge(&mut self, other: &Self) -> Result<Merged> {
        for hash in other.named_blobs()? {
            if let (Some(path), None) = (other.blobs.find(&hash), self.blobs.find(&hash)) {
                self.blobs.keep_file(&path)?;
            }
        }
        let incoming = other
            .events()?
            .into_iter()
            .map(|event| Incoming::of(event, other))
            .collect::<Result<Vec<_>>>()?;
        let source = other.head()?;
        self.write(|transaction| {
            let mut merged = Merged::default();
            for entry in incoming.into_iter().flatten() {
                entry.insert(transaction, &mut merged)?;
            }
            if merged != Merged::default() {
                let document = serde_json::json!(merged).to_string();
                append(transaction, MERGE, &source, &document, None)?;
            }
            Ok(merged)
        })
    }

    /// Hash (blake3, hex) of what is on the board, whatever the order in which it came: boards with the same runs,
    /// submissions, revocations, errata and foreign rows have the same.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        let entries: BTreeSet<(String, String)> = self
            .events()?
            .into_iter()
            .filter(|event| travels(&event.kind))
            .map(|event| (event.kind, event.subject))
            .collect();
        let mut hasher = blake3::Hasher::new_derive_key("jepa-bench 2026 board content");
        for (kind, subject) in entries {
            for field in [kind, subject] {
                hasher.update(&(field.len() as u64).to_le_bytes());
                hasher.update(field.as_bytes());
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Copies the board as it is at this moment, with its blobs, while others may write to it.
    ///
    /// # Errors
    /// When there is something at `to` already, or it cannot be written.
    pub fn backup(&self, to: &Path) -> Result<()> {
        if to.exists() {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Error::io("create", to, exists));
        }
        self.connection
            .backup("main", to, None::<fn(rusqlite::backup::Progress)>)
            .map_err(|source| super::database("write", to, source))?;
        let copy = Self::open(to)?;
        for hash in copy.named_blobs()? {
            if let Some(path) = self.blobs.find(&hash) {
                copy.blobs.keep_file(&path)?;
            }
        }
        Ok(())
    }

    /// Looks at everything: the chain, the rows, and the hash of every blob.
    ///
    /// # Errors
    /// As [`Board::verify`]; damaged blobs are no error but in what is returned.
    pub fn check(&self) -> Result<Checked> {
        self.verify()?;
        let named = self.named_blobs()?;
        let mut checked = Checked {
            events: self.events()?.len() as u64,
            ..Checked::default()
        };
        for hash in &named {
            match self.blobs.find(hash) {
                Some(path) if hash_file(&path)? == *hash => checked.blobs += 1,
                _ => checked.damaged.push(hash.clone()),
            }
        }
        let all = self.blobs.all()?;
        checked.unnamed = all
            .into_iter()
            .filter(|name| !named.contains(name))
            .collect();
        Ok(checked)
    }

    /// Hashes of the blobs that records and submissions name.
    fn named_blobs(&self) -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for record in self.rows("SELECT record FROM runs", [], |row| row.get::<_, String>(0))? {
            let record = RunRecord::from_json(record.as_bytes(), &self.path)?;
            named.extend(record.files.get(EPISODES_FILE).cloned());
        }
        let query = "SELECT bundle FROM submissions";
        named.extend(self.rows(query, [], |row| row.get::<_, String>(0))?);
        Ok(named)
    }
}

/// Whether an event of this kind is taken over by another board.
fn travels(kind: &str) -> bool {
    matches!(kind, ADD_RUN | SUBMIT | REVOKE | ERRATUM | IMPORT)
}

/// An event of another board with the rows that it speaks of.
struct Incoming {
    event: Event,
    rows: Rows,
}

enum Rows {
    Run {
        task: crate::record::TaskRef,
        data: Option<String>,
        record: String,
        episodes: Vec<super::StoredEpisode>,
    },
    Submission {
        taken: Box<Taken>,
        claims: String,
        method: String,
    },
    None,
}

impl Incoming {
    /// `None` for an event that stays where it is.
    fn of(event: Event, other: &Board) -> Result<Option<Self>> {
        let rows = match event.kind.as_str() {
            ADD_RUN => other.run_rows(&event.subject)?,
            SUBMIT => other.submission_rows(&event)?,
            kind if travels(kind) => Rows::None,
            _ => return Ok(None),
        };
        Ok(Some(Self { event, rows }))
    }

    fn insert(
        self,
        transaction: &rusqlite::Transaction<'_>,
        merged: &mut Merged,
    ) -> rusqlite::Result<()> {
        let Event {
            utc,
            kind,
            subject,
            detail,
            ..
        } = &self.event;
        if happened(transaction, kind, subject)? {
            return Ok(());
        }
        match self.rows {
            Rows::Run {
                task,
                data,
                record,
                episodes,
            } => {
                let stored = Stored {
                    id: subject,
                    task: &task,
                    data: data.as_deref(),
                    record: &record,
                    episodes,
                };
                merged.runs += u64::from(stored.insert(transaction, Some(utc))?);
            }
            Rows::Submission {
                taken,
                claims,
                method,
            } => {
                // Two submissions of one run, made on two boards: the first to arrive stays.
                let inserted = transaction.execute(
                    "INSERT OR IGNORE INTO submissions (id, run, bundle, claims, method) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![subject, taken.run, taken.bundle, claims, method],
                )?;
                if inserted == 1 {
                    append(transaction, kind, subject, detail, Some(utc))?;
                    merged.submissions += 1;
                }
            }
            Rows::None => {
                append(transaction, kind, subject, detail, Some(utc))?;
                merged.notes += 1;
            }
        }
        Ok(())
    }
}

impl Board {
    fn run_rows(&self, id: &str) -> Result<Rows> {
        let query = "SELECT name, version, hash, data, record FROM runs
                     JOIN tasks ON tasks.id = runs.task WHERE runs.id = ?1";
        let mut rows = self.rows(query, [id], |row| {
            let task = crate::record::TaskRef {
                name: row.get(0)?,
                version: row.get(1)?,
                hash: row.get(2)?,
            };
            Ok((task, row.get(3)?, row.get(4)?))
        })?;
        let (task, data, record) = rows
            .pop()
            .ok_or_else(|| self.damaged(format!("has lost run {id}")))?;
        Ok(Rows::Run {
            task,
            data,
            record,
            episodes: self.episodes(id)?,
        })
    }

    fn submission_rows(&self, event: &Event) -> Result<Rows> {
        let lost = || self.damaged(format!("has lost submission {}", event.subject));
        let query = "SELECT claims, method FROM submissions WHERE id = ?1";
        let mut rows = self.rows(query, [&event.subject], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let (claims, method) = rows.pop().ok_or_else(lost)?;
        let taken: Taken = event.read().ok_or_else(lost)?;
        Ok(Rows::Submission {
            taken: Box::new(taken),
            claims,
            method,
        })
    }
}
