//! Joining the shards of an evaluation into the run that one process would have made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jepa_leaderboard::{CONFIG_FILE, RECORD_FILE, Run};

use super::folder::{io, write_atomically};
use super::results::{RunManifest, summary, write_files};
use super::{Finished, films};
use crate::metric;
use crate::protocol::RunConfig;
use crate::{Error, Result};

/// Joins finished shards into the run folder `out`. Its `episodes.parquet` is byte-identical to that
/// of the same evaluation run in one piece.
///
/// # Errors
/// When a shard is unfinished, missing, given twice, or of another evaluation or build, or when `out`
/// already holds a run.
pub fn merge(out: &Path, shards: &[PathBuf]) -> Result<Finished> {
    if out.join(RECORD_FILE).exists() {
        return Err(fault(
            out,
            "it holds a finished run already",
            "choose another folder",
        ));
    }
    let mut parts = Vec::with_capacity(shards.len());
    for dir in shards {
        parts.push((Run::load(dir)?, RunManifest::read(dir)?));
    }
    parts.sort_by_key(|(_, manifest)| manifest.shard);
    check(out, &parts)?;
    let Some((first, manifest)) = parts.first() else {
        return Err(fault(
            out,
            "there are no shards to join",
            "name the folders of all shards",
        ));
    };

    let config = RunConfig::from_toml("config.toml of the first shard", &first.config_toml)?;
    let (mut rows, mut timings): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for (run, _) in &parts {
        rows.extend(run.episodes.iter().cloned());
        timings.extend(run.timings.iter().copied());
    }
    rows.sort_by_key(|row| row.episode);
    timings.sort_by_key(|row| row.episode);
    let complete = rows
        .iter()
        .map(|row| row.episode)
        .eq(0..config.episodes.count);
    if !complete {
        let detail = format!(
            "the shards hold {} of {} episodes",
            rows.len(),
            config.episodes.count
        );
        return Err(fault(out, &detail, "finish every shard first"));
    }

    let mut record = first.record.clone();
    record.summary = summary(out, &rows, &timings)?;
    record.provenance.wall_seconds = parts
        .iter()
        .map(|(run, _)| run.record.provenance.wall_seconds)
        .sum();
    record.files.clear();
    let total =
        |number: fn(&RunManifest) -> u64| parts.iter().map(|(_, manifest)| number(manifest)).sum();
    let manifest = RunManifest {
        shard: None,
        episodes: rows.len() as u64,
        nan_guard_steps: total(|manifest| manifest.nan_guard_steps),
        solved_at_start: total(|manifest| manifest.solved_at_start),
        redrawn: total(|manifest| manifest.redrawn),
        metrics: metric::of_environment(&config.environment.name, &rows),
        ..manifest.clone()
    };
    std::fs::create_dir_all(out).map_err(|source| io("create", out, source))?;
    write_atomically(&out.join(CONFIG_FILE), first.config_toml.as_bytes())?;
    films::join(out, shards)?;
    let record = write_files(out, record, &manifest, &rows, &timings)?;
    Ok(Finished {
        dir: out.to_path_buf(),
        record,
        manifest,
    })
}

/// Every shard of one evaluation and one build, each exactly once.
fn check(out: &Path, parts: &[(Run, RunManifest)]) -> Result<()> {
    let Some((_, first)) = parts.first() else {
        return Ok(());
    };
    let mut seen = BTreeSet::new();
    for (run, manifest) in parts {
        let Some(shard) = manifest.shard else {
            return Err(fault(
                &run.dir,
                "it is a whole run, not a shard",
                "leave it out",
            ));
        };
        if manifest.run_hash != first.run_hash {
            let hint = "shards must come from the same command, apart from `--shard`";
            return Err(fault(&run.dir, "it is a shard of another evaluation", hint));
        }
        let build = |manifest: &RunManifest| (manifest.version.clone(), manifest.commit.clone());
        if build(manifest) != build(first) {
            let hint = "run every shard with the same program";
            return Err(fault(&run.dir, "it was made with another build", hint));
        }
        if !seen.insert(shard) {
            return Err(fault(
                &run.dir,
                &format!("shard {shard} is given twice"),
                "leave one out",
            ));
        }
    }
    let count = first.shard.map_or(0, |shard| shard.count);
    let missing =
        (0..count).find(|&index| !seen.iter().any(|s| s.index == index && s.count == count));
    match missing {
        Some(index) => {
            let detail = format!("shard {index}/{count} is missing");
            Err(fault(out, &detail, "name the folders of all shards"))
        }
        None if seen.len() as u32 != count => {
            let hint = "shards must come from one division of the list";
            Err(fault(out, "the shards divide the list differently", hint))
        }
        None => Ok(()),
    }
}

fn fault(path: &Path, detail: &str, hint: &str) -> Error {
    Error::Run {
        path: path.to_path_buf(),
        detail: detail.into(),
        hint: hint.into(),
    }
}
