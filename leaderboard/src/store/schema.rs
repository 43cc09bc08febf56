//! The tables of a board's file, and how older ones become them.

use rusqlite::Connection;

/// Layout of the file, in SQLite's `user_version`.
pub(super) const VERSION: i64 = 2;
/// Marks the file as a board, in SQLite's `application_id` ("JEPA").
pub(super) const APPLICATION_ID: i64 = 0x4a45_5041;

const TABLES: &str = "
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    data TEXT, -- content hash of the dataset that goals come from
    UNIQUE (name, version, hash)
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

/// New with layout 2.
const SUBMISSIONS: &str = "
CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL UNIQUE REFERENCES runs (id),
    bundle TEXT NOT NULL,
    claims TEXT NOT NULL,
    method TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (subject, kind);
";

/// What layout 1 lacked: tasks of one name and version but with other data beside each other.
const FROM_1: &str = "
CREATE TABLE tasks_2 (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    data TEXT,
    UNIQUE (name, version, hash)
) STRICT;
INSERT INTO tasks_2 (id, name, version, hash) SELECT id, name, version, hash FROM tasks;
DROP TABLE tasks;
ALTER TABLE tasks_2 RENAME TO tasks;
";

/// Creates the tables of an empty file.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {SUBMISSIONS} {} COMMIT;",
        marks()
    ))
}

/// Brings a file of layout 1 up to date, in one step.
pub(super) fn migrate_from_1(connection: &Connection) -> rusqlite::Result<()> {
    // References to a table are by name; they are checked when all is done.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "legacy_alter_table", true)?;
    let done = connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {FROM_1} {SUBMISSIONS} {} COMMIT;",
        marks()
    ));
    if done.is_err() {
        // The error counts, not whether there was something to take back.
        let _ = connection.execute_batch("ROLLBACK");
    }
    connection.pragma_update(None, "legacy_alter_table", false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    done
}

fn marks() -> String {
    format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};")
}
