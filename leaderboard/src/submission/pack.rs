//! Making a bundle from a run folder.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    Budget, Bundle, ENVIRONMENT_FILE, FileRef, METHOD_FILE, SIGNATURE_FILE, SUBMISSION_FILE,
    SUBMISSION_SCHEMA, Seeds, SignatureFile, Submission, VIDEO_FOLDER, refused,
};
use crate::error::{Error, Result};
use crate::key::{Identity, Purpose};
use crate::run::{RECORD_FILE, Run};

/// What a submitter says besides the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Licence of weights and method, an SPDX expression.
    pub licence: String,
    /// Where to ask.
    pub contact: String,
    /// What was done, in words (Markdown).
    pub method: String,
    /// Where the code is, if it is public.
    pub code_url: Option<String>,
    /// Where the weights are, if they are public.
    pub weights_url: Option<String>,
    /// When the bundle is made, `YYYY-MM-DDThh:mm:ssZ`.
    pub created_utc: String,
    /// Videos to take along.
    pub videos: Vec<Video>,
}

/// A video or film strip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// File name, `NAME.gif`, `.png` or `.mp4`.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Bundle {
    /// Bundles a run and signs it.
    ///
    /// # Errors
    /// When a file of the run cannot be read, or what is claimed would be refused by [`Bundle::read`].
    pub fn new(run: &Run, claims: &Claims, identity: &Identity) -> Result<Self> {
        let mut files = run_files(run)?;
        files.insert(METHOD_FILE.into(), claims.method.clone().into_bytes());
        files.insert(ENVIRONMENT_FILE.into(), environment(run)?);
        for video in &claims.videos {
            let name = format!("{VIDEO_FOLDER}{}", video.name);
            if !super::archive::is_video(&name) {
                return Err(Error::Bundle {
                    detail: format!("`{}` is no name of a video", crate::key::shown(&video.name)),
                    hint: Some(
                        "use letters, digits, `-`, `_` and an ending of gif, png or mp4".into(),
                    ),
                });
            }
            files.insert(name, video.bytes.clone());
        }
        let submission = submission(run, claims, identity, &files);
        let text = serde_json::to_vec_pretty(&submission)
            .map_err(|error| refused(format!("its claims cannot be written: {error}")))?;
        let signature = SignatureFile {
            algorithm: "ed25519".into(),
            key: identity.public(),
            signature: identity.sign(Purpose::Submission, &text),
        };
        let signature = serde_json::to_vec_pretty(&signature)
            .map_err(|error| refused(format!("its signature cannot be written: {error}")))?;
        files.insert(SUBMISSION_FILE.into(), text);
        files.insert(SIGNATURE_FILE.into(), signature);
        Self::from_files(files)
    }
}

/// The files that the record names, and the record.
fn run_files(run: &Run) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = run.record.files.keys().map(String::as_str);
    names
        .chain([RECORD_FILE])
        .map(|name| {
            let path = run.dir.join(name);
            let bytes = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
            Ok((name.to_string(), bytes))
        })
        .collect()
}

/// `env.json`: what the record says of code and machine.
fn environment(run: &Run) -> Result<Vec<u8>> {
    let provenance = &run.record.provenance;
    let document = json!({
        "commit": provenance.commit,
        "version": provenance.version,
        "os": provenance.os,
        "cpu": provenance.cpu,
        "threads": provenance.threads,
        "device": provenance.device,
        "dependencies": provenance.dependencies,
        "command": provenance.command,
    });
    serde_json::to_vec_pretty(&document)
        .map_err(|error| refused(format!("`{ENVIRONMENT_FILE}` cannot be written: {error}")))
}

fn submission(
    run: &Run,
    claims: &Claims,
    identity: &Identity,
    files: &BTreeMap<String, Vec<u8>>,
) -> Submission {
    let record = &run.record;
    let summary = record.summary.clone();
    Submission {
        schema: SUBMISSION_SCHEMA.into(),
        submitter: identity.name().into(),
        key: identity.public(),
        created_utc: claims.created_utc.clone(),
        task: record.task.clone(),
        model: record.model.clone(),
        code_commit: record.provenance.commit.clone(),
        training_manifest_hash: record.files.get("manifest.json").cloned(),
        planner: record.planner.clone(),
        objective: record.objective.clone(),
        budget: Budget {
            world_model_calls: summary.world_model_calls,
            candidate_steps: summary.candidate_steps,
        },
        seeds: Seeds {
            first: record.first_seed,
            stride: record.seed_stride,
            count: summary.episodes,
        },
        summary,
        licence: claims.licence.clone(),
        contact: claims.contact.clone(),
        code_url: claims.code_url.clone(),
        weights_url: claims.weights_url.clone(),
        files: files
            .iter()
            .map(|(name, bytes)| (name.clone(), file_ref(bytes)))
            .collect(),
    }
}

fn file_ref(bytes: &[u8]) -> FileRef {
    FileRef {
        hash: blake3::hash(bytes).to_hex().to_string(),
        bytes: bytes.len() as u64,
    }
}
