//! Episodes that hold the same trajectory (datasets.md section 16, case 35).
//!
//! Two episodes are duplicates when their states and actions agree in every bit; frames do not count,
//! since one trajectory may be encoded twice. Duplicates are reported and never dropped: released splits
//! are drawn over all episodes.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::episode::{ACTION, PROPRIO, STATE};
use crate::{Column, Dataset, EpisodeMeta, Error, Member, Result};

/// Groups of two and more episodes with the same states and actions, by episode index, in order.
///
/// Without states, proprioception stands in for them.
///
/// # Errors
/// When a row cannot be read, and for a dataset that has neither states, proprioception nor actions.
pub fn duplicates(dataset: &Dataset) -> Result<Vec<Vec<u64>>> {
    let names: Vec<&str> = [STATE, PROPRIO, ACTION]
        .into_iter()
        .filter(|name| dataset.manifest().field(name).is_some())
        .collect();
    let columns = match names.as_slice() {
        [] => {
            let path = dataset.path().display();
            return Err(Error::invalid(
                "dataset",
                path,
                "it has no states and no actions to compare",
            ));
        }
        [state, .., action] => vec![*state, *action],
        one => one.to_vec(),
    };
    let hash = |meta: &EpisodeMeta| Ok((hash(dataset, meta, &columns)?, meta.episode_index));
    let hashes: Result<Vec<([u8; 32], u64)>> = dataset.episodes().par_iter().map(hash).collect();
    let mut groups: BTreeMap<[u8; 32], Vec<u64>> = BTreeMap::new();
    for (hash, episode) in hashes? {
        groups.entry(hash).or_default().push(episode);
    }
    let mut groups: Vec<Vec<u64>> = groups
        .into_values()
        .filter(|group| group.len() > 1)
        .collect();
    groups.sort();
    Ok(groups)
}

/// Hash of some columns of one episode.
fn hash(dataset: &Dataset, meta: &EpisodeMeta, columns: &[&str]) -> Result<[u8; 32]> {
    let rows = dataset.read_rows(meta.episode_index, 0..meta.length as usize)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&meta.length.to_le_bytes());
    for values in columns.iter().filter_map(|name| rows.get(*name)) {
        for value in values.to_f64() {
            hasher.update(&value.to_le_bytes());
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Which values two episodes must share to be of one family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    /// Rows at the start that are compared.
    pub rows: usize,
    /// Largest difference of any number of the state, in its own units.
    pub tolerance: f64,
}

/// Groups of two and more episodes that begin alike: replays of one demonstration, such as Push-T's 101 noisy
/// ones of each, belong in one group and should not be split between training and validation.
///
/// An episode joins the family of the first earlier episode whose first states are within the
/// tolerance of its own. Episodes shorter than the rows compared, and those of other tasks, are alone.
///
/// # Errors
/// When a row cannot be read, and for a dataset without states.
pub fn families(dataset: &Dataset, likeness: Likeness) -> Result<Vec<Vec<u64>>> {
    let field = dataset.manifest().field(STATE).ok_or_else(|| {
        Error::invalid(
            "dataset",
            dataset.path().display(),
            "it has no states to compare",
        )
    })?;
    let width = field.width() * likeness.rows;
    let start = |meta: &EpisodeMeta| -> Result<Vec<f64>> {
        let rows = likeness.rows.min(meta.length as usize);
        let columns = dataset.read_rows(meta.episode_index, 0..rows)?;
        Ok(columns.get(STATE).map(Column::to_f64).unwrap_or_default())
    };
    let values: Result<Vec<Vec<f64>>> = dataset.episodes().par_iter().map(start).collect();
    let values = values?;
    let long_enough = |(meta, values)| -> Option<(u64, Start<'_>)> {
        let (meta, values): (&EpisodeMeta, &Vec<f64>) = (meta, values);
        let start = Start {
            task: &meta.task,
            values,
        };
        (values.len() == width).then_some((meta.episode_index, start))
    };
    let (episodes, starts): (Vec<u64>, Vec<Start<'_>>) = dataset
        .episodes()
        .iter()
        .zip(&values)
        .filter_map(long_enough)
        .unzip();
    let families = group(&starts, likeness.tolerance);
    let families = families.into_iter().filter(|family| family.len() > 1);
    Ok(families
        .map(|family| family.into_iter().map(|k| episodes[k]).collect())
        .collect())
}

/// How an episode begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    task: &'a str,
    values: &'a [f64],
}

impl<'a> From<&Member<'a>> for Start<'a> {
    fn from(member: &Member<'a>) -> Self {
        Self {
            task: member.task,
            values: member.start,
        }
    }
}

impl Start<'_> {
    fn is_like(&self, other: &Self, tolerance: f64) -> bool {
        let mut pairs = self.values.iter().zip(other.values);
        pairs.all(|(a, b)| (a - b).abs() <= tolerance)
            && self.values.len() == other.values.len()
            && self.task == other.task
    }
}

/// Families by position, those of one included: each start joins the family of the first earlier one that it
/// is like.
pub(crate) fn group(starts: &[Start<'_>], tolerance: f64) -> Vec<Vec<usize>> {
    let mut families: Vec<Vec<usize>> = Vec::new();
    for (k, start) in starts.iter().enumerate() {
        let is_like = |family: &&mut Vec<usize>| start.is_like(&starts[family[0]], tolerance);
        match families.iter_mut().find(is_like) {
            Some(family) => family.push(k),
            None => families.push(vec![k]),
        }
    }
    families
}
