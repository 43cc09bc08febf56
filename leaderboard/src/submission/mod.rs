//! A run as it travels: a signed bundle, `.jbs`.
//!
//! ```text
//! tar + zstd
//!   submission.json    what is claimed, and the hash (blake3) of every other file; its own hash is the identity
//!   signature.json     ed25519 over submission.json
//!   METHOD.md          what was done, in words
//!   env.json           code, machine, versions
//!   record.json config.toml episodes.parquet timings.parquet manifest.json       the run folder, as it was
//!   videos/NAME.gif|png|mp4                                                       optional
//! ```
//!
//! The same run, words, key and time give the same bytes. Reading ([`Bundle::read`]) believes nothing: sizes, counts,
//! names, kinds of entries and time are limited while the bytes stream in, nothing is unpacked to disk under a name of
//! the sender's, and nothing is executed. A bundle that can be read is not yet one that tells the truth: see
//! [`crate::verify`].

mod archive;
mod pack;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::key::{PublicKey, Purpose, check_name};
use crate::record::{ModelRef, PlannerRef, RunRecord, Summary, TaskRef};

pub use archive::Limits;
pub use pack::{Claims, Video};

/// The layout of `submission.json` that this build writes and reads.
pub const SUBMISSION_SCHEMA: &str = "jepa-bench.submission/1";
/// Name of the claims in a bundle.
pub const SUBMISSION_FILE: &str = "submission.json";
/// Name of the signature in a bundle.
pub const SIGNATURE_FILE: &str = "signature.json";
/// Name of the description in a bundle.
pub const METHOD_FILE: &str = "METHOD.md";
/// Name of the list of versions in a bundle.
pub const ENVIRONMENT_FILE: &str = "env.json";
/// Folder of the videos in a bundle.
pub const VIDEO_FOLDER: &str = "videos/";

/// `submission.json`: what is claimed, by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// [`SUBMISSION_SCHEMA`].
    pub schema: String,
    /// Name of the submitter.
    pub submitter: String,
    /// Public key of the submitter.
    pub key: PublicKey,
    /// When it was made, `YYYY-MM-DDThh:mm:ssZ`.
    pub created_utc: String,
    /// The task with its hash.
    pub task: TaskRef,
    /// What chose the actions, with the hash of its weights.
    pub model: ModelRef,
    /// Commit of the code that evaluated.
    pub code_commit: String,
    /// Hash (blake3, hex) of `manifest.json` of the run: which data and weights it was made of.
    pub training_manifest_hash: Option<String>,
    /// Planner and every setting of it.
    pub planner: PlannerRef,
    /// What planners minimised.
    pub objective: BTreeMap<String, Value>,
    /// What was spent.
    pub budget: Budget,
    /// Which episodes were run.
    pub seeds: Seeds,
    /// The numbers, as claimed.
    pub summary: Summary,
    /// Licence of weights and method, an SPDX expression.
    pub licence: String,
    /// Where to ask: a mail address or a page.
    pub contact: String,
    /// Where the code is, if it is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_url: Option<String>,
    /// Where the weights are, if they are public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_url: Option<String>,
    /// The other files but the signature, by name.
    pub files: BTreeMap<String, FileRef>,
}

/// What a run spent on planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Batched one-step predictions over all episodes.
    pub world_model_calls: u64,
    /// Candidate model steps over all episodes.
    pub candidate_steps: u64,
}

/// Which episodes were run: seeds `first + k * stride` for `k` below `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// Seed of the first episode.
    pub first: u64,
    /// From one seed to the next.
    pub stride: u64,
    /// Number of episodes.
    pub count: u64,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Hash (blake3, hex) of its bytes.
    pub hash: String,
    /// Number of its bytes.
    pub bytes: u64,
}

/// `signature.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    algorithm: String,
    key: PublicKey,
    signature: String,
}

/// A bundle in memory, its signature and hashes checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// What is claimed.
    pub submission: Submission,
    /// Hash (blake3, hex) of `submission.json`: the identity of the submission.
    pub id: String,
    /// Every file by name, the claims and the signature included.
    files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// The bytes of a file.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Every file with its bytes, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Names of the videos, without their folder.
    pub fn videos(&self) -> impl Iterator<Item = &str> {
        self.files
            .keys()
            .filter_map(|name| name.strip_prefix(VIDEO_FOLDER))
    }

    /// The words of the submitter, as they are: not to be shown without escaping.
    pub fn method(&self) -> &str {
        self.file(METHOD_FILE)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// Puts files together; checks everything that can be checked without looking at episodes.
    fn from_files(files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let claims = required(&files, SUBMISSION_FILE)?;
        let submission: Submission = parse(SUBMISSION_FILE, claims)?;
        let signature: SignatureFile = parse(SIGNATURE_FILE, required(&files, SIGNATURE_FILE)?)?;
        let id = blake3::hash(claims).to_hex().to_string();
        let bundle = Self {
            submission,
            id,
            files,
        };
        bundle.check_signature(&signature)?;
        bundle.check_files()?;
        bundle.submission.check()?;
        std::str::from_utf8(required(&bundle.files, METHOD_FILE)?)
            .map_err(|_| refused(format!("`{METHOD_FILE}` is not UTF-8 text")))?;
        Ok(bundle)
    }

    fn check_signature(&self, file: &SignatureFile) -> Result<()> {
        if file.algorithm != "ed25519" {
            return Err(refused(
                "`signature.json` names an algorithm other than `ed25519`".into(),
            ));
        }
        if file.key != self.submission.key {
            return Err(refused(
                "it is signed with another key than it names".into(),
            ));
        }
        let claims = required(&self.files, SUBMISSION_FILE)?;
        file.key
            .check(Purpose::Submission, claims, &file.signature)
            .map_err(|error| refused(error.to_string()))
    }

    /// The files are those that are named, with those hashes.
    fn check_files(&self) -> Result<()> {
        let named = &self.submission.files;
        for (name, bytes) in &self.files {
            if name == SUBMISSION_FILE || name == SIGNATURE_FILE {
                continue;
            }
            let Some(expected) = named.get(name) else {
                return Err(refused(format!("`{name}` is not among the signed files")));
            };
            let hash = blake3::hash(bytes).to_hex();
            if hash.as_str() != expected.hash || bytes.len() as u64 != expected.bytes {
                return Err(refused(format!(
                    "`{name}` is not the file that was signed: it has hash {hash}"
                )));
            }
        }
        for name in named.keys() {
            required(&self.files, name)?;
        }
        for name in [
            METHOD_FILE,
            ENVIRONMENT_FILE,
            crate::RECORD_FILE,
            crate::CONFIG_FILE,
            crate::EPISODES_FILE,
        ] {
            required(&self.files, name)?;
        }
        Ok(())
    }
}

impl Submission {
    /// Checks texts and ranges.
    fn check(&self) -> Result<()> {
        if self.schema != SUBMISSION_SCHEMA {
            return Err(Error::Bundle {
                detail: format!(
                    "its schema is `{}`, this build reads `{SUBMISSION_SCHEMA}`",
                    crate::key::shown(&self.schema)
                ),
                hint: Some("make the bundle again with `jepa-bench submit` of this version".into()),
            });
        }
        check_name(&self.submitter)?;
        if !is_utc(&self.created_utc) {
            return Err(refused(
                "`created_utc` is not a time like 2026-01-31T12:00:00Z".into(),
            ));
        }
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let texts: [(&str, String, usize); 12] = [
            ("task.name", self.task.name.clone(), 64),
            ("task.hash", self.task.hash.clone(), 64),
            ("model.name", self.model.name.clone(), 128),
            ("model.label", self.model.label.clone(), 128),
            ("model.weights_hash", optional(&self.model.weights_hash), 64),
            ("code_commit", self.code_commit.clone(), 80),
            ("planner.name", self.planner.name.clone(), 64),
            ("planner.preset", self.planner.preset.clone(), 64),
            ("licence", self.licence.clone(), 64),
            ("contact", self.contact.clone(), 128),
            ("code_url", optional(&self.code_url), 256),
            ("weights_url", optional(&self.weights_url), 256),
        ];
        for (name, text, longest) in texts {
            check_text(name, &text, longest)?;
        }
        for (name, url) in [
            ("code_url", &self.code_url),
            ("weights_url", &self.weights_url),
        ] {
            check_url(name, url.as_deref())?;
        }
        for (name, text) in [("licence", &self.licence), ("contact", &self.contact)] {
            if text.trim().is_empty() {
                return Err(refused(format!("`{name}` is empty")));
            }
        }
        Ok(())
    }

    /// The first claim that the record of the run does not make: its name.
    pub(crate) fn departs_from(&self, record: &RunRecord) -> Option<&'static str> {
        let seeds = Seeds {
            first: record.first_seed,
            stride: record.seed_stride,
            count: record.summary.episodes,
        };
        let budget = Budget {
            world_model_calls: record.summary.world_model_calls,
            candidate_steps: record.summary.candidate_steps,
        };
        let claims = [
            ("task", self.task == record.task),
            ("model", self.model == record.model),
            ("code_commit", self.code_commit == record.provenance.commit),
            ("planner", self.planner == record.planner),
            ("objective", self.objective == record.objective),
            ("budget", self.budget == budget),
            ("seeds", self.seeds == seeds),
            ("summary", self.summary == record.summary),
        ];
        claims
            .into_iter()
            .find_map(|(name, agrees)| (!agrees).then_some(name))
    }
}

/// A line of text: not too long, no control characters, nothing that turns the direction of writing.
fn check_text(name: &str, text: &str, longest: usize) -> Result<()> {
    if text.chars().count() > longest {
        return Err(refused(format!(
            "`{name}` has more than {longest} characters"
        )));
    }
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    match text.chars().find(|&c| hidden(c)) {
        Some(c) => Err(refused(format!(
            "`{name}` has a character that cannot be seen, {}",
            c.escape_unicode()
        ))),
        None => Ok(()),
    }
}

/// Links are shown on pages: only the web's own, with nothing that ends an attribute.
fn check_url(name: &str, url: Option<&str>) -> Result<()> {
    let Some(url) = url else { return Ok(()) };
    let fine = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`');
    if url.starts_with("https://") && url.chars().all(fine) {
        Ok(())
    } else {
        Err(refused(format!(
            "`{name}` is not an address that begins with https://"
        )))
    }
}

/// `YYYY-MM-DDThh:mm:ssZ`.
fn is_utc(text: &str) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:ddZ";
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, &kind)| match kind {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        })
}

fn required<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8]> {
    files
        .get(name)
        .map(Vec::as_slice)
        .ok_or_else(|| refused(format!("it has no `{}`", crate::key::shown(name))))
}

/// Reads a JSON file. The parser gives up on nesting deeper than 128.
fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| refused(format!("`{name}`: {error}")))
}

fn refused(detail: String) -> Error {
    Error::Bundle { detail, hint: None }
}

#[cfg(test)]
mod tests;
