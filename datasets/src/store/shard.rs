//! Joining the shards of a dataset into what one process would have written, byte for byte.
//!
//! A shard is the staging folder of its episodes: a plan, a journal and staged files. Joining copies them
//! into one staging folder and assembles that, so it resumes like any other writing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::STAGING;
use super::disk::Disk;
use super::writer::{DatasetWriter, Part, Plan, read_plan, staging_episodes};
use crate::{Dataset, Error, Result, SplitRule};

/// Whether a folder holds a shard of a dataset, finished or not.
pub fn is_shard(path: &Path) -> bool {
    let plan = read_plan(&path.join(STAGING));
    plan.is_ok_and(|plan| plan.is_some_and(|plan| plan.part.is_some()))
}

/// Joins all shards of a dataset, in any order, into `out`. The shards stay.
///
/// # Errors
/// [`Error::Shards`] when they are not all shards of one command, each once and finished.
pub fn merge_shards(out: &Path, shards: &[PathBuf]) -> Result<Dataset> {
    let mut parts = Vec::with_capacity(shards.len());
    for path in shards {
        parts.push(Piece::read(path)?);
    }
    parts.sort_by_key(|piece| piece.part.shard);
    let rule = check(out, &parts)?;
    let mut opened = Vec::with_capacity(parts.len());
    for piece in &parts {
        opened.push(piece.open()?);
    }
    let plan = whole(&parts[0].plan);
    let writer = DatasetWriter::open_plan(out, plan, false, Disk::default())?;
    for shard in &opened {
        take(&writer, shard)?;
    }
    writer.finish(&rule)
}

/// A shard, as its plan describes it.
struct Piece {
    path: PathBuf,
    plan: Plan,
    part: Part,
}

impl Piece {
    fn read(path: &Path) -> Result<Self> {
        let plan = read_plan(&path.join(STAGING))?;
        let parts = plan.and_then(|plan| Some((plan.part.clone()?, plan)));
        let (part, plan) = parts.ok_or_else(|| fault(path, "it is no shard of a dataset"))?;
        Ok(Self {
            path: path.to_path_buf(),
            plan,
            part,
        })
    }

    /// Opens the shard, which must be finished; its staged files are checked against its journal.
    fn open(&self) -> Result<DatasetWriter> {
        let plan = self.plan.clone();
        let writer = DatasetWriter::open_plan(&self.path, plan, false, Disk::default())?;
        writer.check_complete()?;
        Ok(writer)
    }
}

/// Every shard of one plan, each once; their split rule.
fn check(out: &Path, parts: &[Piece]) -> Result<SplitRule> {
    let Some(first) = parts.first() else {
        return Err(fault(out, "there are no shards"));
    };
    let (count, rule) = (first.part.shard.count, &first.part.split_rule);
    let mut seen = BTreeSet::new();
    for Piece { path, plan, part } in parts {
        let shard = part.shard;
        if whole(plan) != whole(&first.plan) || part.split_rule != *rule {
            return Err(fault(path, "it was written with other settings"));
        }
        if shard.count != count {
            return Err(fault(
                path,
                &format!("it is shard {shard}, others are of {count}"),
            ));
        }
        if !seen.insert(shard.index) {
            return Err(fault(path, &format!("shard {shard} is given twice")));
        }
    }
    match (0..count).find(|index| !seen.contains(index)) {
        Some(index) => Err(fault(out, &format!("shard {index}/{count} is missing"))),
        None => rule.parse(),
    }
}

/// The plan of the dataset that a shard is part of.
fn whole(plan: &Plan) -> Plan {
    Plan {
        part: None,
        ..plan.clone()
    }
}

/// Copies what a shard holds, apart from episodes that an earlier call has copied.
fn take(writer: &DatasetWriter, shard: &DatasetWriter) -> Result<()> {
    let (from, to) = (
        staging_episodes(&shard.root),
        staging_episodes(&writer.root),
    );
    for (index, entry) in shard.journal.entries() {
        if writer.journal.holds(index) {
            continue;
        }
        for name in entry.staged.keys() {
            link(&from.join(name), &to.join(name))?;
        }
        writer.journal.append(entry)?;
    }
    Ok(())
}

/// A hard link where the file system has them, a copy elsewhere. Staged files are never written again.
fn link(from: &Path, to: &Path) -> Result<()> {
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", to, e)),
        _ => {}
    }
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).map_err(|e| Error::io("copy", to, e))?;
    }
    Ok(())
}

fn fault(path: &Path, detail: &str) -> Error {
    Error::Shards {
        path: path.to_path_buf(),
        detail: detail.into(),
    }
}
