//! The log: what happened on a board, in order, each entry holding the hash of the one before.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::key::PublicKey;
use crate::verification::{Level, Verdict};

/// What the first event calls its predecessor.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A run was added; the subject is its identity.
pub(super) const ADD_RUN: &str = "add-run";
/// A submission was taken; the subject is its identity, the detail a [`Taken`].
pub(super) const SUBMIT: &str = "submit";
/// A key was called invalid; the subject is the key, the detail a [`Revocation`].
pub(super) const REVOKE: &str = "revoke";
/// An error was found in results; the subject is the hash of the detail, an [`Erratum`].
pub(super) const ERRATUM: &str = "erratum";
/// A maintainer ran weights; the subject is the submission, the detail a [`Rerun`].
pub(super) const RERUN: &str = "rerun";
/// A number for fresh seeds was drawn; the subject is the submission, the detail a [`Challenge`].
pub(super) const CHALLENGE: &str = "challenge";
/// A row of another board was noted; the subject is the hash of the detail, the row.
pub(super) const IMPORT: &str = "import";
/// Another board was merged into this one; the subject is its head.
pub(super) const MERGE: &str = "merge";

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Position, from 1.
    pub number: u64,
    /// Time, `YYYY-MM-DDThh:mm:ssZ`. Entries of a merged board keep theirs.
    pub utc: String,
    /// `add-run`, `submit`, `revoke`, `erratum`, `rerun`, `challenge`, `import` or `merge`.
    pub kind: String,
    /// Identity of what it is about: a run, a submission, a key, ...
    pub subject: String,
    /// JSON: all that there is to know of it, or hashes of the rows that hold it.
    pub detail: String,
    /// Hash of the event before.
    pub previous: String,
    /// Hash of this event.
    pub hash: String,
}

/// Detail of [`SUBMIT`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    pub(super) run: String,
    pub(super) submitter: String,
    pub(super) key: PublicKey,
    /// Hash of the stored bundle.
    pub(super) bundle: String,
    /// Hash of the words of the submitter.
    pub(super) method_hash: String,
    pub(super) verdict: Verdict,
}

/// A key that is no longer trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Why.
    pub reason: String,
    /// `owner`, with a signature of the key over the reason, or `maintainer`.
    pub by: String,
    /// The owner's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// An error in results that cannot be edited away: runs it touches are shown struck out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erratum {
    /// What was wrong and what to do.
    pub text: String,
    /// Tasks that it touches, `name@version`; all when empty.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Commits of the code that it touches, or their beginnings.
    #[serde(default)]
    pub commits: Vec<String>,
    /// Versions of the program that it touches.
    #[serde(default)]
    pub versions: Vec<String>,
    /// Single runs that it touches, by identity.
    #[serde(default)]
    pub runs: Vec<String>,
}

/// What a maintainer found who ran the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rerun {
    /// [`Level::V3`] or [`Level::V4`].
    pub level: Level,
    /// Whether the result held.
    pub holds: bool,
    /// Who ran it.
    pub by: String,
    /// What came out, in words.
    pub detail: String,
    /// Identity of the run that was made.
    pub run: String,
}

/// A number drawn by the board after the hash of the weights was known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// 64 hexadecimal digits.
    pub nonce: String,
    /// Hash of the weights that it is for.
    pub weights_hash: String,
}

impl Challenge {
    /// Seed of the first fresh episode: below 2^31, far from nothing that a submitter could have chosen.
    pub fn first_seed(&self) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("jepa-bench 2026 fresh episodes");
        hasher.update(self.nonce.as_bytes());
        hasher.update(self.weights_hash.as_bytes());
        let bytes = hasher.finalize();
        let [a, b, c, d, ..] = *bytes.as_bytes();
        u64::from(u32::from_le_bytes([a, b, c, d]) >> 1)
    }
}

impl Event {
    /// Hash (blake3, hex) of everything but the hash itself; lengths keep neighbours apart.
    pub(super) fn digest(&self) -> String {
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

    /// The detail as what it should be; `None` when it is not.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.detail).ok()
    }
}

/// Appends an event to the chain; at the present time where none is given.
pub(super) fn append(
    transaction: &Transaction<'_>,
    kind: &str,
    subject: &str,
    detail: &str,
    utc: Option<&str>,
) -> rusqlite::Result<()> {
    let number: i64 = transaction.query_row(
        "SELECT coalesce(max(number), 0) + 1 FROM events",
        [],
        |row| row.get(0),
    )?;
    let now = || {
        transaction.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now')", [], |row| {
            row.get(0)
        })
    };
    let mut event = Event {
        number: number as u64,
        utc: utc.map_or_else(now, |utc| Ok(utc.to_string()))?,
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

/// Hash of the last event.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<String> {
    let last = connection.query_row(
        "SELECT hash FROM events ORDER BY number DESC LIMIT 1",
        [],
        |row| row.get(0),
    );
    Ok(last.optional()?.unwrap_or_else(|| GENESIS.into()))
}

/// Whether there is an event of that kind about that subject.
pub(super) fn happened(
    connection: &Connection,
    kind: &str,
    subject: &str,
) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM events WHERE subject = ?1 AND kind = ?2 LIMIT 1";
    let found = connection.query_row(query, [subject, kind], |_| Ok(()));
    Ok(found.optional()?.is_some())
}
