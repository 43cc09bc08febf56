//! Reads every episode of a source into a dataset, in parallel, resuming where an earlier run ended.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jepa_datasets::{Dataset, DatasetWriter, Outcome, STATE, Shard, SplitRule, WriterOptions};
use rayon::prelude::*;
use serde::Serialize;

use crate::source::Source;
use crate::{Error, Result};

/// What to do with episodes that cannot be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBroken {
    /// Record them as rejected: something is wrong with the data.
    #[default]
    Reject,
    /// Record them as skipped: the user knows and goes without them.
    Skip,
}

/// A source episode that is not in the dataset because something is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Position in the source.
    pub episode: u64,
    /// The file at fault, relative to the release.
    pub path: String,
    /// Reason code.
    pub code: String,
    /// Reason in words.
    pub detail: String,
}

impl Broken {
    pub(crate) fn new(source: &dyn Source, episode: u64, fault: &Error) -> Self {
        Self {
            episode,
            path: source.path_of(episode),
            code: fault.code().into(),
            detail: describe(fault, source.root()),
        }
    }
}

/// What an ingestion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Episodes in the dataset.
    pub accepted: u64,
    /// Rows in the dataset.
    pub rows: u64,
    /// Episodes that an earlier run had finished.
    pub resumed: u64,
    /// Episodes that could not be used.
    pub broken: Vec<Broken>,
    /// Hash of the dataset.
    pub content_hash: String,
}

/// How far an ingestion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Episodes finished, those of earlier runs included.
    pub done: u64,
    /// Episodes asked for.
    pub total: u64,
    /// Episodes finished by this run.
    pub done_now: u64,
    /// Frames stored by this run.
    pub frames: u64,
}

/// Who is told, and who may stop it.
pub struct Progress<'a> {
    /// Called after every episode, from the thread that finished it.
    pub tick: &'a (dyn Fn(Tick) + Sync),
    /// Set to stop after the episodes in hand.
    pub stop: &'a AtomicBool,
}

/// Reads a source into `dst` and opens the result.
///
/// # Errors
/// [`Error::Interrupted`] when asked to stop; errors of the store, such as a full disk. An episode that
/// cannot be used is not an error: it is in the ledger, and in the summary.
pub fn run(
    source: &dyn Source,
    dst: &Path,
    options: WriterOptions,
    rule: &SplitRule,
    on_broken: OnBroken,
    progress: &Progress<'_>,
) -> Result<(Dataset, Summary)> {
    let rule = concrete(source, rule)?;
    let writer = DatasetWriter::open(dst, options)?;
    let resumed = take_all(source, &writer, on_broken, progress)?;
    let dataset = writer.finish(&rule)?;
    let summary = summarize(&dataset, resumed)?;
    Ok((dataset, summary))
}

/// Reads one part of a source into `dst`, for [`jepa_datasets::merge_shards`] to join with the others.
///
/// # Errors
/// As [`run`].
pub fn run_shard(
    source: &dyn Source,
    dst: &Path,
    options: WriterOptions,
    (rule, shard): (&SplitRule, Shard),
    on_broken: OnBroken,
    progress: &Progress<'_>,
) -> Result<()> {
    let rule = concrete(source, rule)?;
    let writer = DatasetWriter::open_shard(dst, options, shard, &rule)?;
    take_all(source, &writer, on_broken, progress)?;
    Ok(writer.finish_shard()?)
}

/// The split rule, with that of the release in place of its name.
///
/// # Errors
/// For a rule that looks at states, where the source has none.
pub fn concrete(source: &dyn Source, rule: &SplitRule) -> Result<SplitRule> {
    let rule = match rule {
        SplitRule::Released => source.released_split(),
        other => other.clone(),
    };
    let has_states = source.manifest().fields.iter().any(|f| f.name == STATE);
    if rule.needs_states() && !has_states {
        return Err(Error::Invalid {
            what: "split rule",
            value: rule.to_string(),
            detail: format!("`{}` has no states", source.manifest().source.name),
        });
    }
    Ok(rule)
}

/// Reads every pending episode; returns how many were done before.
fn take_all(
    source: &dyn Source,
    writer: &DatasetWriter,
    on_broken: OnBroken,
    progress: &Progress<'_>,
) -> Result<u64> {
    let pending = writer.pending();
    let asked = writer.assigned();
    let resumed = asked - pending.len() as u64;
    let (done, frames) = (AtomicU64::new(0), AtomicU64::new(0));
    pending.par_iter().try_for_each(|&index| {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted {
                done: resumed + done.load(Ordering::Relaxed),
                total: asked,
            });
        }
        let stored = take(source, writer, index, on_broken)?;
        let done_now = done.fetch_add(1, Ordering::Relaxed) + 1;
        (progress.tick)(Tick {
            done: resumed + done_now,
            total: asked,
            done_now,
            frames: frames.fetch_add(stored, Ordering::Relaxed) + stored,
        });
        Ok(())
    })?;
    Ok(resumed)
}

/// Reads one episode and records it, one way or the other. Returns how many frames were stored.
fn take(
    source: &dyn Source,
    writer: &DatasetWriter,
    index: u64,
    on_broken: OnBroken,
) -> Result<u64> {
    let outcome = read_and_write(source, writer, index);
    let fault = match outcome {
        Ok(stored) => return Ok(stored),
        // The store itself failed: nothing is wrong with the episode.
        Err(Error::Store(error)) if !matches!(error, jepa_datasets::Error::Episode { .. }) => {
            return Err(error.into());
        }
        Err(fault) => fault,
    };
    let Broken {
        path, code, detail, ..
    } = Broken::new(source, index, &fault);
    tracing::debug!(index, code, "{detail}");
    match on_broken {
        OnBroken::Reject => writer.reject(index, &path, &code, &detail)?,
        OnBroken::Skip => writer.skip(index, &path, &code, &detail)?,
    }
    Ok(0)
}

fn read_and_write(source: &dyn Source, writer: &DatasetWriter, index: u64) -> Result<u64> {
    let mut frames = writer.begin(index)?;
    let episode = source.read_into(index, &mut frames)?;
    let stored = frames.frames();
    frames.accept(episode)?;
    Ok(stored)
}

/// An error with its causes, on one line, with paths relative to the release: the ledger of one input is
/// the same wherever that lies.
fn describe(error: &Error, root: &Path) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    // Messages quote paths; only at the start of one does the root stand for the release.
    text.replace(
        &format!("`{}{}", root.display(), std::path::MAIN_SEPARATOR),
        "`",
    )
}

/// What is in a finished dataset, as an ingestion reports it.
pub fn summarize(dataset: &Dataset, resumed: u64) -> Result<Summary> {
    let left_out = dataset
        .ledger()?
        .into_iter()
        .filter(|row| row.outcome != Outcome::Accepted && !row.path.is_empty());
    let broken = left_out.map(|row| Broken {
        episode: row.source_index,
        path: row.path,
        code: row.code,
        detail: row.detail,
    });
    Ok(Summary {
        accepted: dataset.manifest().counts.episodes,
        rows: dataset.manifest().counts.rows,
        resumed,
        broken: broken.collect(),
        content_hash: dataset.content_hash().to_string(),
    })
}
