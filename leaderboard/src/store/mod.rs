//! The board: runs and their episodes in one SQLite file, with a log that cannot be rewritten quietly.
//!
//! [`Board::add`] takes a loaded [`Run`], whose numbers have been recomputed; [`Board::submit`] a verified bundle. Both
//! store the record, the outcome of every episode and an event. Events form a chain: each holds the hash of the one before
//! it, and the hash of the last, the *head*, fixes everything on the board. [`Board::open`] recomputes the chain and the
//! hash of every row, so a change is found before it is shown.
//!
//! ```text
//! tasks        name, version, hash, data              what is compared with what
//! runs         id (blake3 of the record), task, record
//! episodes     run, episode, seed, success, success_any, final_distance, start_hash
//! submissions  id (blake3 of the claims), run, bundle (blake3), claims, method
//! events       number, utc, kind, subject, detail, previous, hash        append-only
//! ```
//!
//! Whatever else a board knows (which key a name is pinned to, what was revoked, errata, verifications) is read off the
//! events. Bundles and tables of episodes lie beside the file, under their hash (`blobs`). They are written, and made
//! durable, before the row that names them: a crash at any point leaves a board that opens.

mod blobs;
mod events;
mod merge;
mod schema;
mod submissions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;

use crate::compare::{Score, Scored};
use crate::episodes::read_episodes;
use crate::error::{Error, Result};
use crate::record::{EpisodeRow, RunRecord, TaskRef};
use crate::run::{EPISODES_FILE, Run};
use crate::verification::Level;

use blobs::Blobs;
use events::{ADD_RUN, ERRATUM, GENESIS, SUBMIT, append, head};

pub use events::{Challenge, Erratum, Event, Rerun, Revocation};
pub use merge::{Checked, Merged};
pub use submissions::{BoardSubmission, PinnedKey};

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(20);

/// A leaderboard in a file.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    connection: Connection,
    blobs: Blobs,
}

/// What [`Board::add`] or [`Board::submit`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    /// Identity of the run.
    pub id: String,
    /// `false` when the board held this very run or submission already and nothing was written.
    pub is_new: bool,
    /// Head of the event chain afterwards.
    pub head: String,
}

/// A task of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoardTask {
    /// Name, version and hash.
    pub task: TaskRef,
    /// Content hash of the dataset that its goals come from, if there is one.
    pub data: Option<String>,
    /// Number of runs.
    pub runs: u64,
}

/// A run of the board.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardRun {
    /// Identity: hash (blake3, hex) of the record.
    pub id: String,
    /// When it was added.
    pub added_utc: String,
    /// The record.
    pub record: RunRecord,
    /// Outcomes by seed.
    pub scores: BTreeMap<u64, Score>,
    /// The bundle it came in; `None` for a run that was added from a folder.
    pub submission: Option<BoardSubmission>,
    /// Errors known of it: it is shown struck out.
    pub errata: Vec<Erratum>,
}

impl BoardRun {
    /// How far it can be believed. The numbers of a run that was added from a folder were recomputed, no more.
    pub fn level(&self) -> Level {
        let submitted = self.submission.as_ref().and_then(BoardSubmission::level);
        submitted.unwrap_or(Level::V1)
    }

    /// The outcomes under the name `label`, for comparisons.
    pub fn scored(&self, label: String) -> Scored {
        Scored {
            label,
            task: self.record.task.clone(),
            scores: self.scores.clone(),
        }
    }
}

impl Board {
    /// Opens a board, creating an empty one where there is no file, and checks all of it but the blobs.
    ///
    /// # Errors
    /// When the file is not a board, is of a newer layout, or has been changed by other means.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(|source| database("open", path, source))?;
        let board = Self {
            path: path.to_path_buf(),
            connection,
            blobs: Blobs::beside(path),
        };
        board.prepare()?;
        board.verify()?;
        Ok(board)
    }

    /// Opens a board that must be there already, and checks all of it but the blobs.
    ///
    /// # Errors
    /// As [`Board::open`], and when there is no file.
    pub fn open_existing(path: &Path) -> Result<Self> {
        if path.exists() {
            Self::open(path)
        } else {
            Err(Error::NoBoard {
                path: path.to_path_buf(),
            })
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the tables of a new file; recognises an existing one.
    fn prepare(&self) -> Result<()> {
        let opening = |source| database("open", &self.path, source);
        self.connection.busy_timeout(PATIENCE).map_err(opening)?;
        self.connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(opening)?;
        let pragma = |name: &str| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let application = pragma("application_id").map_err(opening)?;
        let version = pragma("user_version").map_err(opening)?;
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(opening)?;
        let writing = |source| database("create", &self.path, source);
        match (application, version) {
            (0, 0) if tables == 0 => self.create().map_err(writing),
            (schema::APPLICATION_ID, schema::VERSION) => Ok(()),
            (schema::APPLICATION_ID, 1) => {
                schema::migrate_from_1(&self.connection).map_err(writing)
            }
            (schema::APPLICATION_ID, newer) => Err(self.damaged(format!(
                "is a board of layout {newer}; this build knows layout {}",
                schema::VERSION
            ))),
            _ => Err(self.damaged("is another program's database, not a board".into())),
        }?;
        // Readers go on while one writes, and what is committed survives a crash.
        self.connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(opening)
    }

    fn create(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        match schema::create(&self.connection) {
            // Another process made the tables in the meantime.
            Err(_) if self.has_tables()? => Ok(()),
            done => done,
        }
    }

    fn has_tables(&self) -> rusqlite::Result<bool> {
        // A failed batch leaves its transaction open.
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        let version: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(version == schema::VERSION)
    }

    /// Adds a run. Adding the same run again changes nothing, except that its table of episodes is kept where it was
    /// missing.
    ///
    /// # Errors
    /// When the task file differs from the one this board knows under that name and version, or the
    /// file cannot be written.
    pub fn add(&mut self, run: &Run) -> Result<Added> {
        let id = run.id()?;
        self.check_task(&run.record.task)?;
        self.blobs.keep_file(&run.dir.join(EPISODES_FILE))?;
        let data = run.goal_data();
        let is_new =
            self.write(|transaction| insert_run(transaction, &id, run, data.as_deref()))?;
        Ok(Added {
            id,
            is_new,
            head: self.head()?,
        })
    }

    /// One change, whole or not at all.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let path = self.path.clone();
        let writing = |source| database("write", &path, source);
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(writing)?;
        let done = change(&transaction).map_err(writing)?;
        transaction.commit().map_err(writing)?;
        Ok(done)
    }

    /// A name and version stands for the task files that this board has seen.
    fn check_task(&self, task: &TaskRef) -> Result<()> {
        let query = "SELECT hash FROM tasks WHERE name = ?1 AND version = ?2 ORDER BY id";
        let known = self.rows(query, params![task.name, task.version], |row| {
            row.get::<_, String>(0)
        })?;
        match known.first() {
            Some(first) if !known.contains(&task.hash) => Err(Error::TaskChanged {
                task: task.id(),
                known: first.clone(),
                found: task.hash.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The tasks, by name and version.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tasks(&self) -> Result<Vec<BoardTask>> {
        let query =
            "SELECT name, version, hash, data, (SELECT count(*) FROM runs WHERE task = tasks.id)
                     FROM tasks ORDER BY name, version, hash";
        self.rows(query, [], |row| {
            let task = TaskRef {
                name: row.get(0)?,
                version: row.get(1)?,
                hash: row.get(2)?,
            };
            Ok(BoardTask {
                task,
                data: row.get(3)?,
                runs: row.get::<_, i64>(4)? as u64,
            })
        })
    }

    /// The runs of a task, in the order they were added.
    ///
    /// # Errors
    /// When the file cannot be read or a record does not parse.
    pub fn runs(&self, task: &TaskRef) -> Result<Vec<BoardRun>> {
        let query = "SELECT runs.id, runs.record, events.utc FROM runs
                     JOIN tasks ON tasks.id = runs.task
                     JOIN events ON events.subject = runs.id AND events.kind = 'add-run'
                     WHERE tasks.hash = ?1 ORDER BY events.number";
        let found = self.rows(query, [&task.hash], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
            ))
        })?;
        let mut scores = self.scores(task)?;
        let mut submissions = self.submissions_of(task)?;
        let errata = self.errata()?;
        found
            .into_iter()
            .map(|(id, record, added_utc)| {
                let record = RunRecord::from_json(record.as_bytes(), &self.path)?;
                let touching = errata
                    .iter()
                    .filter(|erratum| erratum.touches(&id, &record));
                Ok(BoardRun {
                    scores: scores.remove(&id).unwrap_or_default(),
                    submission: submissions.remove(&id),
                    errata: touching.cloned().collect(),
                    id,
                    added_utc,
                    record,
                })
            })
            .collect()
    }

    /// Every episode of a run, with states and actions; `None` for a run whose table was not kept.
    ///
    /// # Errors
    /// When the table is damaged.
    pub fn episodes_of(&self, run: &str) -> Result<Option<Vec<EpisodeRow>>> {
        let query = "SELECT record FROM runs WHERE id = ?1";
        let records = self.rows(query, [run], |row| row.get::<_, String>(0))?;
        let Some(record) = records.first() else {
            return Ok(None);
        };
        let record = RunRecord::from_json(record.as_bytes(), &self.path)?;
        match record
            .files
            .get(EPISODES_FILE)
            .and_then(|hash| self.blob(hash))
        {
            Some(path) => read_episodes(&path).map(Some),
            None => Ok(None),
        }
    }

    /// The file of a blob, if it is there.
    pub fn blob(&self, hash: &str) -> Option<PathBuf> {
        self.blobs.find(hash)
    }

    /// The log, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(&self) -> Result<Vec<Event>> {
        let query =
            "SELECT number, utc, kind, subject, detail, previous, hash FROM events ORDER BY number";
        self.rows(query, [], read_event)
    }

    /// The entries of one kind, oldest first.
    fn events_of(&self, kind: &str) -> Result<Vec<Event>> {
        let query = "SELECT number, utc, kind, subject, detail, previous, hash FROM events
                     WHERE kind = ?1 ORDER BY number";
        self.rows(query, [kind], read_event)
    }

    /// Hash of the last event; zeros for an empty board.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn head(&self) -> Result<String> {
        head(&self.connection).map_err(|source| database("read", &self.path, source))
    }

    /// Errors known of results, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn errata(&self) -> Result<Vec<Erratum>> {
        Ok(self
            .events_of(ERRATUM)?
            .iter()
            .filter_map(Event::read)
            .collect())
    }

    /// Recomputes the chain of events and the hash of every run, its episodes and its submission.
    ///
    /// # Errors
    /// Names the first event that does not hold.
    pub fn verify(&self) -> Result<()> {
        let events = self.events()?;
        let mut previous = GENESIS;
        for (event, number) in events.iter().zip(1..) {
            let problem = self.event_problem(event, number, previous)?;
            if let Some(detail) = problem {
                return Err(Error::BrokenChain {
                    path: self.path.clone(),
                    event: number,
                    detail,
                });
            }
            previous = &event.hash;
        }
        let spoken: HashSet<(&str, &str)> = events
            .iter()
            .map(|event| (event.kind.as_str(), event.subject.as_str()))
            .collect();
        for (table, kind) in [("runs", ADD_RUN), ("submissions", SUBMIT)] {
            let query = format!("SELECT id FROM {table} ORDER BY id");
            let ids = self.rows(&query, [], |row| row.get::<_, String>(0))?;
            if let Some(id) = ids.iter().find(|id| !spoken.contains(&(kind, id.as_str()))) {
                return Err(self.damaged(format!("{id} is in `{table}` without an event")));
            }
        }
        Ok(())
    }

    /// What is wrong with an event, if anything is.
    fn event_problem(&self, event: &Event, number: u64, previous: &str) -> Result<Option<String>> {
        if event.number != number {
            return Ok(Some("is missing".into()));
        }
        if event.previous != previous || event.hash != event.digest() {
            return Ok(Some("was changed after it was written".into()));
        }
        match event.kind.as_str() {
            ADD_RUN => self.run_problem(event),
            SUBMIT => self.submission_problem(event),
            _ => Ok(None),
        }
    }

    fn run_problem(&self, event: &Event) -> Result<Option<String>> {
        let query = "SELECT record FROM runs WHERE id = ?1";
        let records = self.rows(query, [&event.subject], |row| row.get::<_, String>(0))?;
        let Some(record) = records.first() else {
            return Ok(Some("speaks of a run that is gone".into()));
        };
        let stored = detail(record, &self.episodes(&event.subject)?);
        let intact = blake3::hash(record.as_bytes()).to_hex().as_str() == event.subject
            && stored == event.detail;
        Ok((!intact).then(|| "speaks of a run that was changed since".into()))
    }

    fn episodes(&self, run: &str) -> Result<Vec<StoredEpisode>> {
        let query = "SELECT episode, seed, success, success_any, final_distance, start_hash
                     FROM episodes WHERE run = ?1 ORDER BY episode";
        self.rows(query, [run], |row| StoredEpisode::read(row, 0))
    }

    /// Outcomes of every run of a task, by run and seed.
    fn scores(&self, task: &TaskRef) -> Result<HashMap<String, BTreeMap<u64, Score>>> {
        let query = "SELECT run, episode, seed, success, success_any, final_distance, start_hash
                     FROM episodes JOIN runs ON runs.id = run JOIN tasks ON tasks.id = runs.task
                     WHERE tasks.hash = ?1";
        let rows = self.rows(query, [&task.hash], |row| {
            Ok((row.get::<_, String>(0)?, StoredEpisode::read(row, 1)?))
        })?;
        let mut scores: HashMap<String, BTreeMap<u64, Score>> = HashMap::new();
        for (run, episode) in rows {
            scores
                .entry(run)
                .or_default()
                .insert(episode.seed, episode.score());
        }
        Ok(scores)
    }

    /// All rows of a query.
    fn rows<T>(
        &self,
        query: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let collect = || -> rusqlite::Result<Vec<T>> {
            self.connection
                .prepare_cached(query)?
                .query_map(params, read)?
                .collect()
        };
        collect().map_err(|source| database("read", &self.path, source))
    }

    fn damaged(&self, detail: String) -> Error {
        Error::Board {
            path: self.path.clone(),
            detail,
        }
    }
}

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        number: row.get::<_, i64>(0)? as u64,
        utc: row.get(1)?,
        kind: row.get(2)?,
        subject: row.get(3)?,
        detail: row.get(4)?,
        previous: row.get(5)?,
        hash: row.get(6)?,
    })
}

/// What the board keeps of an episode.
struct StoredEpisode {
    episode: u32,
    seed: u64,
    success: bool,
    success_any: bool,
    final_distance: f64,
    start_hash: String,
}

impl StoredEpisode {
    /// Six columns from `first` on.
    fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            episode: row.get(first)?,
            seed: row.get::<_, i64>(first + 1)?.cast_unsigned(),
            success: row.get(first + 2)?,
            success_any: row.get(first + 3)?,
            final_distance: row.get(first + 4)?,
            start_hash: row.get(first + 5)?,
        })
    }

    fn of(run: &Run) -> Vec<Self> {
        let rows = run.episodes.iter().map(|row| {
            let Score {
                success,
                final_distance,
                start_hash,
            } = Score::new(row);
            let (episode, seed, success_any) = (row.episode, row.seed, row.success_any);
            Self {
                episode,
                seed,
                success,
                success_any,
                final_distance,
                start_hash,
            }
        });
        let mut rows: Vec<Self> = rows.collect();
        rows.sort_by_key(|row| row.episode);
        rows
    }

    fn score(self) -> Score {
        Score {
            success: self.success,
            final_distance: self.final_distance,
            start_hash: self.start_hash,
        }
    }
}

/// Writes a run, its task, episodes and event; `false` when it is there already.
fn insert_run(
    transaction: &Transaction<'_>,
    id: &str,
    run: &Run,
    data: Option<&str>,
) -> rusqlite::Result<bool> {
    let record = run
        .record
        .to_json()
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let stored = Stored {
        id,
        task: &run.record.task,
        data,
        record: &record,
        episodes: StoredEpisode::of(run),
    };
    stored.insert(transaction, None)
}

/// A run as it is kept.
struct Stored<'a> {
    id: &'a str,
    task: &'a TaskRef,
    data: Option<&'a str>,
    record: &'a str,
    episodes: Vec<StoredEpisode>,
}

impl Stored<'_> {
    /// Writes everything; `false` when the run is there already.
    fn insert(&self, transaction: &Transaction<'_>, utc: Option<&str>) -> rusqlite::Result<bool> {
        let known = transaction
            .query_row("SELECT 1 FROM runs WHERE id = ?1", [self.id], |_| Ok(()))
            .optional()?;
        if known.is_some() {
            return Ok(false);
        }
        let task = self.task;
        transaction.execute(
            "INSERT OR IGNORE INTO tasks (name, version, hash, data) VALUES (?1, ?2, ?3, ?4)",
            params![task.name, task.version, task.hash, self.data],
        )?;
        transaction.execute(
            "INSERT INTO runs (id, task, record) VALUES
             (?1, (SELECT id FROM tasks WHERE name = ?2 AND version = ?3 AND hash = ?4), ?5)",
            params![self.id, task.name, task.version, task.hash, self.record],
        )?;
        insert_episodes(transaction, self.id, &self.episodes)?;
        let detail = detail(self.record, &self.episodes);
        append(transaction, ADD_RUN, self.id, &detail, utc)?;
        Ok(true)
    }
}

fn insert_episodes(
    transaction: &Transaction<'_>,
    run: &str,
    rows: &[StoredEpisode],
) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare("INSERT INTO episodes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for row in rows {
        insert.execute(params![
            run,
            row.episode,
            row.seed.cast_signed(),
            row.success,
            row.success_any,
            row.final_distance,
            row.start_hash,
        ])?;
    }
    Ok(())
}

/// The JSON of an event: hashes of the record and of what is stored of the episodes.
fn detail(record: &str, episodes: &[StoredEpisode]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("jepa-bench 2026 board episodes");
    for row in episodes {
        hasher.update(&row.episode.to_le_bytes());
        hasher.update(&row.seed.to_le_bytes());
        hasher.update(&[u8::from(row.success), u8::from(row.success_any)]);
        hasher.update(&row.final_distance.to_bits().to_le_bytes());
        hasher.update(row.start_hash.as_bytes());
    }
    let document = serde_json::json!({
        "episodes": episodes.len(),
        "episodes_hash": hasher.finalize().to_hex().as_str(),
        "record_hash": blake3::hash(record.as_bytes()).to_hex().as_str(),
    });
    document.to_string()
}

fn database(action: &'static str, path: &Path, source: rusqlite::Error) -> Error {
    Error::Database {
        action,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests;
