//! Public checks of a dataset: one promise per function, all of them in [`validate`].
//!
//! Each function returns every breach it finds, in a fixed order; an empty list means the promise holds.

mod loss;

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::split::{Member, SplitRule, Splits};
use crate::statistics::statistics;
use crate::store::{FEATURES, check_numbering, hash_file, list_files, read_manifest};
use crate::{Dataset, EpisodeMeta, Error, Manifest, Outcome, PIXEL_RANGE, Pixels, Result, STATE};

pub use loss::the_loss_is_that_of_a_codec;

/// One breach of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// File at fault, relative to the dataset.
    pub file: String,
    /// Episode at fault, where it is one.
    pub episode: Option<u64>,
    /// Short name of the breach.
    pub code: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl Problem {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over errors and literals alike"
    )]
    fn new(file: &str, episode: Option<u64>, code: &'static str, detail: impl ToString) -> Self {
        Self {
            file: file.into(),
            episode,
            code,
            detail: detail.to_string(),
        }
    }

    fn from_error(root: &Path, file: &str, episode: Option<u64>, error: &Error) -> Self {
        let (path, detail) = match error {
            Error::Corrupt { path, detail } => (Some(path), detail.clone()),
            Error::Io {
                path,
                action,
                source,
            } => (Some(path), format!("cannot {action} it: {source}")),
            other => (None, other.to_string()),
        };
        let relative = path
            .and_then(|path| path.strip_prefix(root).ok())
            .map(|p| p.to_string_lossy().into_owned());
        Self::new(
            &relative.unwrap_or_else(|| file.into()),
            episode,
            "unreadable",
            detail,
        )
    }
}

/// Checks every promise. `tick` is called after each file and each episode.
///
/// # Errors
/// When `dataset.json` itself cannot be read: then there is nothing to check against.
pub fn validate(root: &Path, tick: &(dyn Fn() + Sync)) -> Result<Vec<Problem>> {
    let manifest = read_manifest(root)?;
    let mut problems = files_have_their_hashes(root, &manifest, tick);
    problems.extend(no_other_files(root, &manifest)?);
    problems.extend(the_content_hash_is_right(&manifest)?);
    match Dataset::open(root) {
        Ok(dataset) => problems.extend(contents(&dataset, tick)),
        // Damage that the hashes have shown already is not a second problem.
        Err(_) if !problems.is_empty() => {}
        Err(error) => problems.push(Problem::from_error(root, "dataset.json", None, &error)),
    }
    problems.dedup();
    Ok(problems)
}

/// Checks the promises about contents.
fn contents(dataset: &Dataset, tick: &(dyn Fn() + Sync)) -> Vec<Problem> {
    let mut problems = rows_are_numbered(dataset);
    problems.extend(episodes_are_whole(dataset, tick));
    problems.extend(statistics_are_those_of_the_rows(dataset));
    problems.extend(splits_follow_their_rule(dataset));
    problems.extend(the_ledger_accounts_for_every_episode(dataset));
    problems.extend(the_loss_is_that_of_a_codec(dataset));
    problems
}

/// Every file is there with the length and hash of the manifest.
pub fn files_have_their_hashes(
    root: &Path,
    manifest: &Manifest,
    tick: &(dyn Fn() + Sync),
) -> Vec<Problem> {
    let files: Vec<_> = manifest.files.iter().collect();
    let check = |(name, expected): &(&String, &crate::FileEntry)| {
        let found = hash_file(&root.join(name));
        tick();
        match found {
            Ok(found) if found == **expected => None,
            Ok(found) if found.bytes != expected.bytes => {
                let detail = format!("it has {} bytes, not {}", found.bytes, expected.bytes);
                Some(Problem::new(name, None, "length_mismatch", detail))
            }
            Ok(_) => Some(Problem::new(
                name,
                None,
                "hash_mismatch",
                "its bytes are not those that were written",
            )),
            Err(error) => Some(Problem::from_error(root, name, None, &error)),
        }
    };
    files.par_iter().filter_map(check).collect()
}

/// No file is in the folder that the manifest does not list.
pub fn no_other_files(root: &Path, manifest: &Manifest) -> Result<Vec<Problem>> {
    let known: BTreeSet<&str> = manifest
        .files
        .keys()
        .map(String::as_str)
        .chain(["dataset.json"])
        .collect();
    // What encoders made of the frames can be made again, and states by itself what it belongs to.
    let computed = |name: &str| name.split_once('/').is_some_and(|(top, _)| top == FEATURES);
    let others = list_files(root)?
        .into_iter()
        .filter(|name| !known.contains(name.as_str()) && !computed(name));
    Ok(others
        .map(|name| {
            Problem::new(
                &name,
                None,
                "unlisted_file",
                "`dataset.json` does not list it",
            )
        })
        .collect())
}

/// The manifest has the hash it states.
pub fn the_content_hash_is_right(manifest: &Manifest) -> Result<Option<Problem>> {
    let found = manifest.compute_content_hash()?;
    let detail = format!(
        "`content_hash` is {}, the document hashes to {found}",
        manifest.content_hash
    );
    Ok((found != manifest.content_hash)
        .then(|| Problem::new("dataset.json", None, "hash_mismatch", detail)))
}

/// Rows are numbered without gaps, over the dataset and within each episode.
pub fn rows_are_numbered(dataset: &Dataset) -> Vec<Problem> {
    match check_numbering(dataset) {
        Ok(faults) => faults
            .into_iter()
            .map(|(e, detail)| Problem::new("steps", Some(e), "misaligned", detail))
            .collect(),
        Err(error) => vec![Problem::from_error(dataset.path(), "steps", None, &error)],
    }
}

/// Every row is finite, every frame can be decoded and lies in 0 to 255.
pub fn episodes_are_whole(dataset: &Dataset, tick: &(dyn Fn() + Sync)) -> Vec<Problem> {
    let check = |meta: &EpisodeMeta| {
        let mut problems = check_rows(dataset, meta);
        problems.extend(check_frames(dataset, meta));
        tick();
        problems
    };
    dataset.episodes().par_iter().flat_map_iter(check).collect()
}

fn check_rows(dataset: &Dataset, meta: &EpisodeMeta) -> Vec<Problem> {
    let episode = Some(meta.episode_index);
    match dataset.read_rows(meta.episode_index, 0..meta.length as usize) {
        Ok(columns) => columns
            .iter()
            .filter_map(|(name, column)| {
                let (row, dim) = column.first_non_finite()?;
                Some(Problem::new(
                    "steps",
                    episode,
                    "non_finite",
                    format!("`{name}`, row {row}, dimension {dim}"),
                ))
            })
            .collect(),
        Err(error) => vec![Problem::from_error(
            dataset.path(),
            "steps",
            episode,
            &error,
        )],
    }
}

/// One frame at a time: an episode may be larger than memory.
fn check_frames(dataset: &Dataset, meta: &EpisodeMeta) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (camera, range) in &meta.frames {
        let file = format!("frames/{camera}.zarr");
        for frame in 0..range.count as usize {
            match dataset.read_frames(camera, meta.episode_index, &[frame]) {
                Ok(Pixels::F32(values)) if !values.iter().all(|v| PIXEL_RANGE.contains(v)) => {
                    let detail = format!("frame {frame} has values outside 0 to 255");
                    problems.push(Problem::new(
                        &file,
                        Some(meta.episode_index),
                        "out_of_range",
                        detail,
                    ));
                }
                Ok(_) => {}
                Err(error) => {
                    problems.push(Problem::from_error(
                        dataset.path(),
                        &file,
                        Some(meta.episode_index),
                        &error,
                    ));
                }
            }
        }
    }
    problems
}

/// `stats.json` is what the rows give, bit for bit.
pub fn statistics_are_those_of_the_rows(dataset: &Dataset) -> Vec<Problem> {
    let mut train = vec![false; dataset.episodes().len()];
    let members = dataset
        .split("train")
        .map(|split| split.episodes.clone())
        .unwrap_or_default();
    for episode in members {
        if let Some(is_train) = train.get_mut(episode as usize) {
            *is_train = true;
        }
    }
    let fields = &dataset.manifest().draft.fields;
    let expected = statistics(fields, &train, |episode| {
        let meta = &dataset.episodes()[episode];
        let mut rows = dataset.read_rows(meta.episode_index, 0..meta.length as usize)?;
        let in_order = fields.iter().filter_map(|field| rows.remove(&field.name));
        Ok(in_order.collect())
    });
    // A row that cannot be read is reported where rows are checked.
    let Ok(expected) = expected else {
        return Vec::new();
    };
    let names = fields.iter().map(|field| &field.name);
    let differs = |name: &&String| dataset.stats().fields.get(*name) != expected.fields.get(*name);
    let problem = |name: &String| {
        let detail = format!("the statistics of `{name}` are not those of its rows");
        Problem::new("stats.json", None, "statistics_mismatch", detail)
    };
    names.filter(differs).map(problem).collect()
}

/// The splits are what their rule and seed give.
pub fn splits_follow_their_rule(dataset: &Dataset) -> Vec<Problem> {
    let needs_states = dataset.splits().iter().any(|split| {
        let rule = split.rule.parse::<SplitRule>();
        rule.is_ok_and(|rule| rule.needs_states())
    });
    let first_state = |meta: &EpisodeMeta| {
        let row = dataset.read_rows(meta.episode_index, 0..1).ok();
        let state = row.and_then(|mut row| row.remove(STATE));
        state.map_or(Vec::new(), |column| column.first_row())
    };
    let starts: Vec<Vec<f64>> = if needs_states {
        dataset.episodes().par_iter().map(first_state).collect()
    } else {
        vec![Vec::new(); dataset.episodes().len()]
    };
    let members = Member::all(dataset.episodes(), &starts);
    let mut problems = Vec::new();
    // A total that the ledger does not bear out is a problem of the ledger, and may be any number.
    let total = dataset.manifest().source_episodes;
    if !dataset
        .ledger()
        .is_ok_and(|rows| rows.len() as u64 == total)
    {
        return problems;
    }
    for split in dataset.splits() {
        let rule = split.rule.parse::<SplitRule>();
        let expected = rule.and_then(|rule| Splits::new(&rule, total, &members));
        if !expected.is_ok_and(|splits| splits.get(&split.name).is_ok_and(|found| found == split)) {
            let detail = format!(
                "split `{}` is not what the rule `{}` gives",
                split.name, split.rule
            );
            problems.push(Problem::new("splits.json", None, "split_mismatch", detail));
        }
        for &episode in split.episodes.iter().filter(|_| split.name != "all") {
            let written = dataset
                .episode(episode)
                .map(|meta| meta.split.as_str())
                .unwrap_or_default();
            if written != split.name {
                let detail = format!("it is in split `{}`, its row says `{written}`", split.name);
                problems.push(Problem::new(
                    "episodes.parquet",
                    Some(episode),
                    "split_mismatch",
                    detail,
                ));
            }
        }
    }
    problems
}

/// The ledger has one row per source episode, and its accepted ones are the episodes of the dataset.
pub fn the_ledger_accounts_for_every_episode(dataset: &Dataset) -> Vec<Problem> {
    let file = "ledger.parquet";
    let ledger = match dataset.ledger() {
        Ok(ledger) => ledger,
        Err(error) => return vec![Problem::from_error(dataset.path(), file, None, &error)],
    };
    let mut problems = Vec::new();
    let total = dataset.manifest().source_episodes;
    if !ledger.iter().map(|row| row.source_index).eq(0..total) {
        problems.push(Problem::new(
            file,
            None,
            "count_mismatch",
            format!("it is not one row for each of {total} episodes"),
        ));
    }
    let accepted = ledger
        .iter()
        .filter(|row| row.outcome == Outcome::Accepted)
        .map(|row| row.source_index);
    if !accepted.eq(dataset.episodes().iter().map(|meta| meta.source_index)) {
        problems.push(Problem::new(
            file,
            None,
            "count_mismatch",
            "its accepted episodes are not those of the dataset",
        ));
    }
    problems
}
