//! Signed bundles on the board: names and keys, copies, errata, what maintainers found, fresh seeds.

use std::collections::HashMap;

use rusqlite::params;
use serde::Serialize;
use serde_json::Value;

use super::events::{
    ADD_RUN, CHALLENGE, Challenge, ERRATUM, Erratum, Event, IMPORT, RERUN, REVOKE, Rerun,
    Revocation, SUBMIT, Taken, append, happened,
};
use super::{Added, Board, Stored, StoredEpisode, database, detail};
use crate::error::{Error, Refusal, Result};
use crate::interop::ImportedRow;
use crate::key::{PublicKey, Purpose, shown, to_hex};
use crate::record::{ModelKind, RunRecord, TaskRef};
use crate::run::{EPISODES_FILE, Run};
use crate::submission::{Bundle, METHOD_FILE, SUBMISSION_FILE, Submission};
use crate::verification::{Level, Verdict, Verified};

/// What a board knows of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardSubmission {
    /// Identity: hash (blake3, hex) of the claims.
    pub id: String,
    /// What was claimed, by whom.
    pub submission: Submission,
    /// The words of the submitter; not to be shown without escaping.
    pub method: String,
    /// What was checked when it was taken.
    pub verdict: Verdict,
    /// What maintainers found later who ran the weights, oldest first.
    pub reruns: Vec<Rerun>,
    /// Hash of the bundle, for [`Board::blob`].
    pub bundle: String,
    /// Why the key is no longer trusted, if it is not.
    pub revoked: Option<Revocation>,
}

impl BoardSubmission {
    /// How far it can be believed: what was checked when it was taken, or found later by a maintainer.
    pub fn level(&self) -> Option<Level> {
        let later = self
            .reruns
            .iter()
            .filter(|rerun| rerun.holds)
            .map(|rerun| rerun.level);
        self.verdict.level.max(later.max())
    }

    /// A maintainer ran the weights and got something else.
    pub fn contradicted(&self) -> Option<&Rerun> {
        self.reruns.iter().rev().find(|rerun| !rerun.holds)
    }
}

/// A name and the key that used it first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedKey {
    /// The name.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// When it was first used.
    pub since_utc: String,
    /// Submissions under it.
    pub submissions: u64,
    /// Why it is no longer trusted, if it is not.
    pub revoked: Option<Revocation>,
}

impl Erratum {
    /// Whether a run is one of those that it is about. One that names nothing is about every run.
    pub fn touches(&self, id: &str, record: &RunRecord) -> bool {
        let among = |list: &[String], holds: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|entry| holds(entry))
        };
        let (task, provenance) = (record.task.id(), &record.provenance);
        among(&self.tasks, &|name| name == task)
            && among(&self.commits, &|commit| {
                !commit.is_empty() && provenance.commit.starts_with(commit)
            })
            && among(&self.versions, &|version| version == provenance.version)
            && among(&self.runs, &|run| run == id)
    }
}

impl Board {
    /// Takes a verified bundle. The very same bundle again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] when a check failed, the name belongs to another key, the key was revoked, or the episodes were
    /// submitted before; [`Error::TaskChanged`] when the board knows another task of that name and version; and when the
    /// board cannot be written.
    pub fn submit(&mut self, bundle: &Bundle, verified: &Verified) -> Result<Added> {
        let run = accepted(verified)?;
        let id = run.id()?;
        if happened(&self.connection, SUBMIT, &bundle.id).map_err(|e| self.reading(e))? {
            return Ok(Added {
                id,
                is_new: false,
                head: self.head()?,
            });
        }
        self.check_task(&run.record.task)?;
        self.check_key(&bundle.submission)?;
        // The blobs come first: what an event names is there.
        let kept = self.blobs.keep(&bundle.to_bytes()?)?;
        self.blobs.keep_file(&run.dir.join(EPISODES_FILE))?;
        let record = run.record.to_json()?;
        let stored = Stored {
            id: &id,
            task: &run.record.task,
            data: verified.data.as_deref(),
            record: &record,
            episodes: StoredEpisode::of(run),
        };
        let taken = Taken {
            run: id.clone(),
            submitter: bundle.submission.submitter.clone(),
            key: bundle.submission.key.clone(),
            bundle: kept,
            method_hash: blake3::hash(bundle.method().as_bytes())
                .to_hex()
                .to_string(),
            verdict: verified.verdict.clone(),
        };
        let is_new = self.insert_submission(bundle, run, &stored, &taken)?;
        Ok(Added {
            id,
            is_new,
            head: self.head()?,
        })
    }

    /// Writes a submission and its run, unless somebody did since it was looked at.
    fn insert_submission(
        &mut self,
        bundle: &Bundle,
        run: &Run,
        stored: &Stored<'_>,
        taken: &Taken,
    ) -> Result<bool> {
        let text = |name: &str| {
            let bytes = bundle.file(name).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let (claims, method) = (text(SUBMISSION_FILE), text(METHOD_FILE));
        let document = to_json(taken)?;
        let digest = detail(stored.record, &stored.episodes);
        // A floor is the same for everyone; what is copied is the work of a model.
        let unique = run.record.model.kind == ModelKind::Trained;
        let outcome = self.write(|transaction| {
            if happened(transaction, SUBMIT, &bundle.id)? {
                return Ok(Ok(false));
            }
            if let Some(earlier) = earlier_copy(transaction, stored, &digest, unique)? {
                return Ok(Err(earlier));
            }
            stored.insert(transaction, None)?;
            transaction.execute(
                "INSERT INTO submissions (id, run, bundle, claims, method) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![bundle.id, stored.id, taken.bundle, claims, method],
            )?;
            append(transaction, SUBMIT, &bundle.id, &document, None)?;
            Ok(Ok(true))
        })?;
        outcome.map_err(|earlier| Error::Refused {
            reason: Refusal::Copy,
            detail: format!("these episodes were submitted before, as run {earlier}"),
            hint: Some("evaluate again to submit a result of your own".into()),
        })
    }

    /// A name belongs to the keys that it is pinned to, and none of them may be revoked.
    fn check_key(&self, submission: &Submission) -> Result<()> {
        let (name, key) = (&submission.submitter, &submission.key);
        if let Some(revocation) = self.revocations()?.get(key) {
            return Err(Error::Refused {
                reason: Refusal::Revoked,
                detail: format!(
                    "key {} was revoked: {}",
                    key.short(),
                    shown(&revocation.reason)
                ),
                hint: Some("make a new key under a new name with `jepa-bench key new`".into()),
            });
        }
        let pinned: Vec<PinnedKey> = self
            .keys()?
            .into_iter()
            .filter(|pinned| pinned.name == *name)
            .collect();
        if pinned.is_empty() || pinned.iter().any(|pinned| pinned.key == *key) {
            return Ok(());
        }
        Err(Error::Refused {
            reason: Refusal::Name,
            detail: format!(
                "the name `{name}` belongs to key {} on this board, not to {}",
                pinned[0].key.short(),
                key.short()
            ),
            hint: Some("sign with the key that used the name first, or take another name".into()),
        })
    }

    /// Names and their keys, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn keys(&self) -> Result<Vec<PinnedKey>> {
        let revocations = self.revocations()?;
        let mut keys: Vec<PinnedKey> = Vec::new();
        for event in self.events_of(SUBMIT)? {
            let Some(taken) = event.read::<Taken>() else {
                continue;
            };
            let known = keys
                .iter_mut()
                .find(|pinned| pinned.name == taken.submitter && pinned.key == taken.key);
            match known {
                Some(pinned) => pinned.submissions += 1,
                None => keys.push(PinnedKey {
                    revoked: revocations.get(&taken.key).cloned(),
                    name: taken.submitter,
                    key: taken.key,
                    since_utc: event.utc,
                    submissions: 1,
                }),
            }
        }
        keys.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.key.cmp(&b.key)));
        Ok(keys)
    }

    /// Keys that are no longer trusted; the first revocation counts.
    fn revocations(&self) -> Result<HashMap<PublicKey, Revocation>> {
        let mut revoked = HashMap::new();
        for event in self.events_of(REVOKE)? {
            if let (Ok(key), Some(revocation)) = (PublicKey::parse(&event.subject), event.read()) {
                revoked.entry(key).or_insert(revocation);
            }
        }
        Ok(revoked)
    }

    /// Calls a key invalid: its runs are marked, and it can submit no more. `signature` is that of the key over the reason;
    /// without one it is the decision of a maintainer.
    ///
    /// # Errors
    /// When the signature is not one of the key, or the board cannot be written.
    pub fn revoke(&mut self, key: &PublicKey, reason: &str, signature: Option<&str>) -> Result<()> {
        if let Some(signature) = signature {
            key.check(Purpose::Revocation, reason.as_bytes(), signature)?;
        }
        let by = if signature.is_some() {
            "owner"
        } else {
            "maintainer"
        };
        let document = to_json(&Revocation {
            reason: reason.into(),
            by: by.into(),
            signature: signature.map(String::from),
        })?;
        self.write(|transaction| append(transaction, REVOKE, &key.to_string(), &document, None))
    }

    /// Notes an error in results. Noting the same one again changes nothing.
    ///
    /// # Errors
    /// When it says nothing, or the board cannot be written.
    pub fn add_erratum(&mut self, erratum: &Erratum) -> Result<()> {
        if erratum.text.trim().is_empty() {
            return Err(self.damaged("takes no erratum without a text".into()));
        }
        let document = to_json(erratum)?;
        self.append_once(ERRATUM, &hash(&document), &document)
    }

    /// Notes what a maintainer found who ran the weights of a submission.
    ///
    /// # Errors
    /// When there is no such submission, the level is not one that takes running, or the board cannot be written.
    pub fn add_rerun(&mut self, submission: &str, rerun: &Rerun) -> Result<()> {
        if rerun.level < Level::V3 {
            return Err(self.damaged("takes no rerun below V3: those are checked here".into()));
        }
        if !happened(&self.connection, SUBMIT, submission).map_err(|e| self.reading(e))? {
            return Err(self.damaged(format!("has no submission {}", shown(submission))));
        }
        let document = to_json(rerun)?;
        self.write(|transaction| append(transaction, RERUN, submission, &document, None))
    }

    /// Draws a number for fresh episodes of a submission; the same one when it was drawn before.
    ///
    /// # Errors
    /// When there is no such submission, it names no weights, or the board cannot be written.
    pub fn challenge(&mut self, submission: &str) -> Result<Challenge> {
        let drawn = self.events_of(CHALLENGE)?;
        let earlier = drawn.iter().find(|event| event.subject == submission);
        if let Some(challenge) = earlier.and_then(Event::read) {
            return Ok(challenge);
        }
        let query = "SELECT claims FROM submissions WHERE id = ?1";
        let claims = self.rows(query, [submission], |row| row.get::<_, String>(0))?;
        let claims: Option<Submission> = claims
            .first()
            .and_then(|text| serde_json::from_str(text).ok());
        let weights_hash = claims
            .ok_or_else(|| self.damaged(format!("has no submission {}", shown(submission))))?
            .model
            .weights_hash
            .ok_or_else(|| self.damaged("has no weights to try on fresh episodes".into()))?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| self.damaged(format!("got no random numbers: {error}")))?;
        let challenge = Challenge {
            nonce: to_hex(&bytes),
            weights_hash,
        };
        let document = to_json(&challenge)?;
        self.write(|transaction| append(transaction, CHALLENGE, submission, &document, None))?;
        Ok(challenge)
    }

    /// Notes a row of another board, unverified. Noting the same one again changes nothing.
    ///
    /// # Errors
    /// When the board cannot be written.
    pub fn add_imported(&mut self, row: &ImportedRow) -> Result<()> {
        let document = to_json(row)?;
        self.append_once(IMPORT, &hash(&document), &document)
    }

    /// Rows of other boards, unverified, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn imported(&self) -> Result<Vec<ImportedRow>> {
        Ok(self
            .events_of(IMPORT)?
            .iter()
            .filter_map(Event::read)
            .collect())
    }

    fn append_once(&mut self, kind: &str, subject: &str, document: &str) -> Result<()> {
        self.write(|transaction| {
            if happened(transaction, kind, subject)? {
                return Ok(());
            }
            append(transaction, kind, subject, document, None)
        })
    }

    /// The submissions of a task, by run.
    pub(super) fn submissions_of(
        &self,
        task: &TaskRef,
    ) -> Result<HashMap<String, BoardSubmission>> {
        let query = "SELECT submissions.id, run, claims, method, events.detail FROM submissions
                     JOIN runs ON runs.id = run JOIN tasks ON tasks.id = runs.task
                     JOIN events ON events.subject = submissions.id AND events.kind = 'submit'
                     WHERE tasks.hash = ?1";
        let rows = self.rows(query, [&task.hash], |row| {
            let text = |k: usize| row.get::<_, String>(k);
            Ok((text(0)?, text(1)?, text(2)?, text(3)?, text(4)?))
        })?;
        let revocations = self.revocations()?;
        let mut reruns: HashMap<String, Vec<Rerun>> = HashMap::new();
        for event in self.events_of(RERUN)? {
            reruns
                .entry(event.subject.clone())
                .or_default()
                .extend(event.read::<Rerun>());
        }
        let mut found = HashMap::new();
        for (id, run, claims, method, taken) in rows {
            let broken = |_| self.damaged(format!("has claims of {id} that do not parse"));
            let submission: Submission = serde_json::from_str(&claims).map_err(broken)?;
            let taken: Taken = serde_json::from_str(&taken).map_err(broken)?;
            let entry = BoardSubmission {
                reruns: reruns.remove(&id).unwrap_or_default(),
                revoked: revocations.get(&submission.key).cloned(),
                id,
                submission,
                method,
                verdict: taken.verdict,
                bundle: taken.bundle,
            };
            found.insert(run, entry);
        }
        Ok(found)
    }

    /// What is wrong with a submission that an event speaks of.
    pub(super) fn submission_problem(&self, event: &Event) -> Result<Option<String>> {
        let query = "SELECT run, bundle, claims, method FROM submissions WHERE id = ?1";
        let rows = self.rows(query, [&event.subject], |row| {
            let text = |k: usize| row.get::<_, String>(k);
            Ok((text(0)?, text(1)?, text(2)?, text(3)?))
        })?;
        let Some((run, bundle, claims, method)) = rows.first() else {
            return Ok(Some("speaks of a submission that is gone".into()));
        };
        let Some(taken) = event.read::<Taken>() else {
            return Ok(Some("says nothing of its submission".into()));
        };
        let intact = hash(claims) == event.subject
            && hash(method) == taken.method_hash
            && (run, bundle) == (&taken.run, &taken.bundle);
        Ok((!intact).then(|| "speaks of a submission that was changed since".into()))
    }

    pub(super) fn reading(&self, source: rusqlite::Error) -> Error {
        database("read", &self.path, source)
    }
}

/// The run of a bundle that may be taken.
fn accepted(verified: &Verified) -> Result<&Run> {
    let refused = |detail: String| Error::Refused {
        reason: Refusal::Check,
        detail,
        hint: Some("see what is missing with `jepa-bench submit RUN --check`".into()),
    };
    if let Some((name, why)) = verified.verdict.failure() {
        return Err(refused(format!("a check failed, {name}: {why}")));
    }
    match (&verified.run, verified.verdict.level) {
        (Some(run), Some(level)) if level >= Level::V1 => Ok(run),
        _ => Err(refused("it did not reach V1".into())),
    }
}

/// Another run with the same outcomes on the same episodes, or a submission of the very same run.
fn earlier_copy(
    transaction: &rusqlite::Transaction<'_>,
    stored: &Stored<'_>,
    digest: &str,
    unique: bool,
) -> rusqlite::Result<Option<String>> {
    let found: rusqlite::Result<Vec<String>> = transaction
        .prepare_cached("SELECT run FROM submissions WHERE run = ?1")?
        .query_map([stored.id], |row| row.get(0))?
        .collect();
    if let Some(run) = found?.pop() {
        return Ok(Some(run));
    }
    if !unique {
        return Ok(None);
    }
    let same = |detail: &str| -> Option<String> {
        let value: Value = serde_json::from_str(detail).ok()?;
        Some(value.get("episodes_hash")?.as_str()?.to_string())
    };
    let own = same(digest);
    let mut statement =
        transaction.prepare_cached("SELECT subject, detail FROM events WHERE kind = ?1")?;
    let rows = statement.query_map([ADD_RUN], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    for row in rows {
        let (run, detail) = row?;
        if run != stored.id && own.is_some() && same(&detail) == own {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Bundle {
        detail: format!("an entry of the log cannot be written: {error}"),
        hint: None,
    })
}
