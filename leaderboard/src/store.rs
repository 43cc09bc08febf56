//! The board: runs and their episodes in one SQLite file, with a log that cannot be rewritten quietly.
//!
//! `add` takes a loaded [`Run`], whose numbers have been recomputed, and stores its record, the outcome
//! of every episode and an event. Events form a chain: each holds the hash of the one before it, and
//! the hash of the last, the *head*, fixes everything on the board. [`Board::open`] recomputes the
//! chain and the hash of every run and episode, so a changed row is found before it is shown.
//!
//! ```text
//! tasks     name, version, hash                      one hash per name and version
//! runs      id (blake3 of the record), task, record
//! episodes  run, episode, seed, success, success_any, final_distance, start_hash
//! events    number, utc, kind, subject, detail, previous, hash        append-only
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;

use crate::compare::{Score, Scored};
use crate::error::{Error, Result};
use crate::record::{RunRecord, TaskRef};
use crate::run::Run;

/// Layout of the file, in SQLite's `user_version`.
const SCHEMA_VERSION: i64 = 1;
/// Marks the file as a board, in SQLite's `application_id` ("JEPA").
const APPLICATION_ID: i64 = 0x4a45_5041;
/// What the first event calls its predecessor.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const SCHEMA: &str = "
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    UNIQUE (name, version)
) STRICT;
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks (id),
    record TEXT NOT NULL
) STRICT;
CREATE TABLE episodes (
    run TEXT NOT NULL REFERENCES runs (id),
    episode INTEGER NOT NULL,
    seed INTEGER NOT NULL, -- the bits of an unsigned number
    success INTEGER NOT NULL,
    success_any INTEGER NOT NULL,
    final_distance REAL NOT NULL,
    start_hash TEXT NOT NULL,
    PRIMARY KEY (run, episode)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    utc TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE (ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE (ABORT, 'events are append-only'); END;
";

/// A leaderboard in a file.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    connection: Connection,
}

/// What [`Board::add`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    /// Identity of the run.
    pub id: String,
    /// `false` when the board held this very run already and nothing was written.
    pub is_new: bool,
    /// Head of the event chain afterwards.
    pub head: String,
}

/// A task of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoardTask {
    /// Name, version and hash.
    pub task: TaskRef,
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
}

impl BoardRun {
    /// The outcomes under the name `label`, for comparisons.
    pub fn scored(&self, label: String) -> Scored {
        Scored {
            label,
            task: self.record.task.clone(),
            scores: self.scores.clone(),
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Position, from 1.
    pub number: u64,
    /// Time, `YYYY-MM-DDThh:mm:ssZ`.
    pub utc: String,
    /// `add-run`.
    pub kind: String,
    /// Identity of the run.
    pub subject: String,
    /// JSON with the task and the hash of the stored episodes.
    pub detail: String,
    /// Hash of the event before.
    pub previous: String,
    /// Hash of this event.
    pub hash: String,
}

impl Event {
    /// Hash (blake3, hex) of everything but the hash itself; lengths keep neighbours apart.
    fn digest(&self) -> String {
        let number = self.number.to_string();
        let fields = [
            &number,
            &self.utc,
            &self.kind,
            &self.subject,
            &self.detail,
            &self.previous,
        ];
        let mut hasher = blake3::Hasher::new_derive_key("jepa-bench 2026 board event");
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl Board {
    /// Opens a board, creating an empty one where there is no file, and checks all of it.
    ///
    /// # Errors
    /// When the file is not a board, is of a newer layout, or has been changed by other means.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(|source| database("open", path, source))?;
        let board = Self {
            path: path.to_path_buf(),
            connection,
        };
        board.prepare()?;
        board.verify()?;
        Ok(board)
    }

    /// Opens a board that must be there already, and checks all of it.
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

    /// Creates the tables of a new file; recognises an existing one.
    fn prepare(&self) -> Result<()> {
        let opening = |source| database("open", &self.path, source);
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
        match (application, version) {
            (0, 0) if tables == 0 => self
                .create()
                .map_err(|source| database("create", &self.path, source)),
            (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
            (APPLICATION_ID, newer) => Err(self.damaged(format!(
                "is a board of layout {newer}; this build knows layout {SCHEMA_VERSION}"
            ))),
            _ => Err(self.damaged("is another program's database, not a board".into())),
        }
    }

    fn create(&self) -> rusqlite::Result<()> {
        let marks = format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        );
        self.connection
            .execute_batch(&format!("BEGIN; {SCHEMA} {marks} COMMIT;"))
    }

    /// Adds a run. Adding the same run again changes nothing.
    ///
    /// # Errors
    /// When the task file differs from the one this board knows under that name and version, or the
    /// file cannot be written.
    pub fn add(&mut self, run: &Run) -> Result<Added> {
        let id = run.id()?;
        let record = run.record.to_json()?;
        self.check_task(&run.record.task)?;
        let path = self.path.clone();
        let writing = |source| database("write", &path, source);
        let transaction = self.connection.transaction().map_err(writing)?;
        let is_new = insert(&transaction, &id, &record, run).map_err(writing)?;
        transaction.commit().map_err(writing)?;
        Ok(Added {
            id,
            is_new,
            head: self.head()?,
        })
    }

    /// A name and version stands for one task file.
    fn check_task(&self, task: &TaskRef) -> Result<()> {
        let known: Option<String> = self
            .connection
            .query_row(
                "SELECT hash FROM tasks WHERE name = ?1 AND version = ?2",
                params![task.name, task.version],
                |row| row.get(0),
            )
            .optional()
            .map_err(|source| database("read", &self.path, source))?;
        match known {
            Some(known) if known != task.hash => Err(Error::TaskChanged {
                task: task.id(),
                known,
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
        let query = "SELECT name, version, hash, (SELECT count(*) FROM runs WHERE task = tasks.id)
                     FROM tasks ORDER BY name, version";
        self.rows(query, [], |row| {
            let task = TaskRef {
                name: row.get(0)?,
                version: row.get(1)?,
                hash: row.get(2)?,
            };
            Ok(BoardTask {
                task,
                runs: row.get::<_, i64>(3)? as u64,
            })
        })
    }

    /// The runs of a task, in the order they were added.
    ///
    /// # Errors
    /// When the file cannot be read or a record does not parse.
    pub fn runs(&self, task: &TaskRef) -> Result<Vec<BoardRun>> {
        let query = "SELECT runs.id, runs.record, events.utc FROM runs
                     JOIN tasks ON tasks.id = runs.task JOIN events ON events.subject = runs.id
                     WHERE tasks.hash = ?1 ORDER BY events.number";
        let found = self.rows(query, [&task.hash], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
            ))
        })?;
        found
            .into_iter()
            .map(|(id, record, added_utc)| {
                let record = RunRecord::from_json(record.as_bytes(), &self.path)?;
                let scores = self
                    .episodes(&id)?
                    .into_iter()
                    .map(|row| (row.seed, row.score()))
                    .collect();
                Ok(BoardRun {
                    id,
                    added_utc,
                    record,
                    scores,
                })
            })
            .collect()
    }

    /// The log, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(&self) -> Result<Vec<Event>> {
        let query =
            "SELECT number, utc, kind, subject, detail, previous, hash FROM events ORDER BY number";
        self.rows(query, [], |row| {
            Ok(Event {
                number: row.get::<_, i64>(0)? as u64,
                utc: row.get(1)?,
                kind: row.get(2)?,
                subject: row.get(3)?,
                detail: row.get(4)?,
                previous: row.get(5)?,
                hash: row.get(6)?,
            })
        })
    }

    /// Hash of the last event; zeros for an empty board.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn head(&self) -> Result<String> {
        head(&self.connection).map_err(|source| database("read", &self.path, source))
    }

    /// Recomputes the chain of events and the hash of every run and its episodes.
    ///
    /// # Errors
    /// Names the first event that does not hold.
    pub fn verify(&self) -> Result<()> {
        let events = self.events()?;
        let mut previous = GENESIS.to_string();
        for (event, number) in events.iter().zip(1..) {
            let problem = self.event_problem(event, number, &previous)?;
            if let Some(detail) = problem {
                return Err(Error::BrokenChain {
                    path: self.path.clone(),
                    event: number,
                    detail,
                });
            }
            previous.clone_from(&event.hash);
        }
        let runs = self.rows("SELECT id FROM runs ORDER BY id", [], |row| {
            row.get::<_, String>(0)
        })?;
        match runs
            .iter()
            .find(|id| !events.iter().any(|event| event.subject == **id))
        {
            Some(id) => Err(self.damaged(format!("run {id} was added without an event"))),
            None => Ok(()),
        }
    }

    /// What is wrong with an event, if anything is.
    fn event_problem(&self, event: &Event, number: u64, previous: &str) -> Result<Option<String>> {
        if event.number != number {
            return Ok(Some("is missing".into()));
        }
        if event.previous != previous || event.hash != event.digest() {
            return Ok(Some("was changed after it was written".into()));
        }
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
        self.rows(query, [run], |row| {
            Ok(StoredEpisode {
                episode: row.get(0)?,
                seed: row.get::<_, i64>(1)?.cast_unsigned(),
                success: row.get(2)?,
                success_any: row.get(3)?,
                final_distance: row.get(4)?,
                start_hash: row.get(5)?,
            })
        })
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
                .prepare(query)?
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
fn insert(
    transaction: &Transaction<'_>,
    id: &str,
    record: &str,
    run: &Run,
) -> rusqlite::Result<bool> {
    let known = transaction
        .query_row("SELECT 1 FROM runs WHERE id = ?1", [id], |_| Ok(()))
        .optional()?;
    if known.is_some() {
        return Ok(false);
    }
    let task = &run.record.task;
    transaction.execute(
        "INSERT OR IGNORE INTO tasks (name, version, hash) VALUES (?1, ?2, ?3)",
        params![task.name, task.version, task.hash],
    )?;
    transaction.execute(
        "INSERT INTO runs (id, task, record)
         VALUES (?1, (SELECT id FROM tasks WHERE name = ?2 AND version = ?3), ?4)",
        params![id, task.name, task.version, record],
    )?;
    let episodes = StoredEpisode::of(run);
    insert_episodes(transaction, id, &episodes)?;
    append(transaction, "add-run", id, &detail(record, &episodes))?;
    Ok(true)
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

/// Appends an event to the chain.
fn append(
    transaction: &Transaction<'_>,
    kind: &str,
    subject: &str,
    detail: &str,
) -> rusqlite::Result<()> {
    let number: i64 = transaction.query_row(
        "SELECT coalesce(max(number), 0) + 1 FROM events",
        [],
        |row| row.get(0),
    )?;
    let utc: String =
        transaction.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now')", [], |row| {
            row.get(0)
        })?;
    let mut event = Event {
        number: number as u64,
        utc,
        kind: kind.into(),
        subject: subject.into(),
        detail: detail.into(),
        previous: head(transaction)?,
        hash: String::new(),
    };
    event.hash = event.digest();
    transaction.execute(
        "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            number,
            event.utc,
            event.kind,
            event.subject,
            event.detail,
            event.previous,
            event.hash
        ],
    )?;
    Ok(())
}

fn head(connection: &Connection) -> rusqlite::Result<String> {
    let last = connection.query_row(
        "SELECT hash FROM events ORDER BY number DESC LIMIT 1",
        [],
        |row| row.get(0),
    );
    Ok(last.optional()?.unwrap_or_else(|| GENESIS.into()))
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
mod tests {
    use super::*;
    use crate::testing::SyntheticRun;

    struct Scene {
        folder: tempfile::TempDir,
        run: Run,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let run =
                Run::load(&SyntheticRun::new("pldm", 12).write(folder.path()).unwrap()).unwrap();
            Self { folder, run }
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("board.sqlite")
        }

        /// A board with one run, then changed behind its back.
        fn tampered(&self, statement: &str) -> Error {
            Board::open(&self.file()).unwrap().add(&self.run).unwrap();
            Connection::open(self.file())
                .unwrap()
                .execute_batch(statement)
                .unwrap();
            Board::open(&self.file()).unwrap_err()
        }
    }

    #[test]
    fn a_run_comes_back_as_it_was_added() {
        let scene = Scene::new();
        let added = Board::open(&scene.file()).unwrap().add(&scene.run).unwrap();
        let board = Board::open(&scene.file()).unwrap();
        assert!(added.is_new && added.head == board.head().unwrap());
        let tasks = board.tasks().unwrap();
        assert_eq!(
            (tasks.len(), tasks[0].runs, tasks[0].task.id().as_str()),
            (1, 1, "wall@1")
        );
        let runs = board.runs(&tasks[0].task).unwrap();
        assert_eq!(runs[0].record, scene.run.record);
        assert_eq!(
            runs[0].scored("x".into()).scores,
            Scored::new(&scene.run, "x".into()).scores
        );
    }

    #[test]
    fn adding_a_run_twice_changes_nothing() {
        let scene = Scene::new();
        let mut board = Board::open(&scene.file()).unwrap();
        let first = board.add(&scene.run).unwrap();
        let second = board.add(&scene.run).unwrap();
        assert_eq!(
            (second.is_new, &second.id, &second.head),
            (false, &first.id, &first.head)
        );
        assert_eq!(board.events().unwrap().len(), 1);
    }

    #[test]
    fn events_chain_and_their_head_moves() {
        let scene = Scene::new();
        let mut board = Board::open(&scene.file()).unwrap();
        assert_eq!(board.head().unwrap(), GENESIS);
        let first = board.add(&scene.run).unwrap();
        let other = SyntheticRun::new("oracle", 12)
            .write(scene.folder.path())
            .unwrap();
        let second = board.add(&Run::load(&other).unwrap()).unwrap();
        let events = board.events().unwrap();
        assert_eq!(
            (events[1].previous.as_str(), events[1].hash.as_str()),
            (first.head.as_str(), second.head.as_str())
        );
    }

    #[test]
    fn tampering_is_found() {
        let cases = [
            (
                "UPDATE episodes SET success = 1 - success WHERE episode = 3",
                "changed since",
            ),
            ("DELETE FROM episodes WHERE episode = 3", "changed since"),
            (
                "UPDATE runs SET record = replace(record, 'PLDM', 'BEST')",
                "changed since",
            ),
            (
                "DROP TRIGGER events_are_not_changed; UPDATE events SET utc = '2020-01-01T00:00:00Z'",
                "was changed",
            ),
            (
                "DROP TRIGGER events_are_not_deleted; DELETE FROM events",
                "without an event",
            ),
        ];
        for (statement, words) in cases {
            let error = Scene::new().tampered(statement);
            assert!(error.to_string().contains(words), "{statement}: {error}");
        }
    }

    #[test]
    fn an_event_written_anew_breaks_the_chain_behind_it() {
        let scene = Scene::new();
        let mut board = Board::open(&scene.file()).unwrap();
        board.add(&scene.run).unwrap();
        let other = SyntheticRun::new("oracle", 12)
            .write(scene.folder.path())
            .unwrap();
        board.add(&Run::load(&other).unwrap()).unwrap();
        let mut forged = board.events().unwrap().remove(0);
        drop(board);
        forged.utc = "2020-01-01T00:00:00Z".into();
        forged.hash = forged.digest();
        let connection = Connection::open(scene.file()).unwrap();
        connection
            .execute_batch("DROP TRIGGER events_are_not_changed")
            .unwrap();
        connection
            .execute(
                "UPDATE events SET utc = ?1, hash = ?2 WHERE number = ?3",
                rusqlite::params![forged.utc, forged.hash, forged.number as i64],
            )
            .unwrap();
        drop(connection);
        let error = Board::open(&scene.file()).unwrap_err().to_string();
        assert!(error.contains("event 2 was changed"), "{error}");
    }

    #[test]
    fn the_file_itself_refuses_to_change_events() {
        let scene = Scene::new();
        Board::open(&scene.file()).unwrap().add(&scene.run).unwrap();
        let connection = Connection::open(scene.file()).unwrap();
        let error = connection
            .execute("UPDATE events SET utc = 'x'", [])
            .unwrap_err();
        assert!(error.to_string().contains("append-only"));
    }

    #[test]
    fn a_changed_task_file_needs_a_new_version() {
        let mut scene = Scene::new();
        let mut board = Board::open(&scene.file()).unwrap();
        board.add(&scene.run).unwrap();
        scene.run.record.task.hash = "f".repeat(64);
        assert!(matches!(
            board.add(&scene.run),
            Err(Error::TaskChanged { .. })
        ));
        scene.run.record.task.version = 2;
        assert!(board.add(&scene.run).unwrap().is_new);
        assert_eq!(board.tasks().unwrap().len(), 2);
    }

    #[test]
    fn looking_at_a_board_does_not_make_one() {
        let scene = Scene::new();
        assert!(matches!(
            Board::open_existing(&scene.file()),
            Err(Error::NoBoard { .. })
        ));
        assert!(!scene.file().exists());
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let scene = Scene::new();
        let other = Connection::open(scene.file()).unwrap();
        other
            .execute_batch("CREATE TABLE notes (text TEXT)")
            .unwrap();
        drop(other);
        assert!(matches!(
            Board::open(&scene.file()),
            Err(Error::Board { .. })
        ));
        std::fs::write(scene.folder.path().join("text"), "x".repeat(200)).unwrap();
        assert!(matches!(
            Board::open(&scene.folder.path().join("text")),
            Err(Error::Database { .. })
        ));
    }
}
