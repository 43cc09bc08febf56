//! Comparing runs episode by episode.
//!
//! Two success rates over different episodes say little; over the same episodes, every pair in which
//! only one succeeds counts. Episodes are paired by seed, and only if their initial state and goal
//! have the same bits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ranking::POWER;
use crate::record::{CONFIDENCE, EpisodeRow, RunRecord, TaskRef};
use crate::run::Run;
use crate::statistics::{
    Difference, PairedOutcomes, holm, mcnemar_exact, minimal_detectable_paired_difference,
    paired_bootstrap, paired_bootstraps, paired_rate_difference,
};

/// Resamples behind every bootstrap interval.
const RESAMPLES: usize = 10_000;
/// Seed of every bootstrap interval.
const BOOTSTRAP_SEED: u64 = 1;

/// What a comparison needs to know of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Name to print; different for every run of a comparison.
    pub label: String,
    /// The task.
    pub task: TaskRef,
    /// Outcomes by seed.
    pub scores: BTreeMap<u64, Score>,
}

/// The outcome of one episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Whether the final state is at the goal.
    pub success: bool,
    /// Distance to the goal after the last step.
    pub final_distance: f64,
    /// Hash (blake3, hex) of the bits of initial state and goal.
    pub start_hash: String,
}

/// Two runs on the episodes they share. Differences are first minus second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The task of both.
    pub task: TaskRef,
    /// Label of the first run.
    pub first: String,
    /// Label of the second run.
    pub second: String,
    /// Episodes that both ran.
    pub shared: u64,
    /// Episodes that only the first ran; not used.
    pub only_in_first: u64,
    /// Episodes that only the second ran; not used.
    pub only_in_second: u64,
    /// How the shared episodes went.
    pub outcomes: PairedOutcomes,
    /// Difference of the success rates with Newcombe's paired 95% interval.
    pub success: Difference,
    /// Exact McNemar test of the success rates.
    pub p_value: f64,
    /// The same after Holm's correction for all pairs compared together.
    pub p_holm: f64,
    /// Difference of the final distances with a paired bootstrap 95% interval.
    pub final_distance: Difference,
}

impl Comparison {
    /// Whether the success rates differ at the 5 % level after Holm's correction.
    pub fn is_significant(&self) -> bool {
        self.p_holm < 1.0 - CONFIDENCE
    }

    /// Smallest difference of the success rates that as many paired episodes detect with 80% power, were the share of
    /// episodes on which just one of the two succeeds what was seen here; `None` where it cannot be so large.
    pub fn detectable(&self) -> Option<f64> {
        let discordant = self.outcomes.only_first + self.outcomes.only_second;
        let share = discordant as f64 / self.shared as f64;
        minimal_detectable_paired_difference(share, self.shared, CONFIDENCE, POWER)
    }
}

impl Scored {
    /// The outcomes of a run under the name `label`.
    pub fn new(run: &Run, label: String) -> Self {
        let scores = run
            .episodes
            .iter()
            .map(|row| (row.seed, Score::new(row)))
            .collect();
        Self {
            label,
            task: run.record.task.clone(),
            scores,
        }
    }
}

impl Score {
    pub(crate) fn new(row: &EpisodeRow) -> Self {
        let mut hasher = blake3::Hasher::new();
        for state in [&row.init, &row.goal] {
            hasher.update(&(state.len() as u64).to_le_bytes());
            for value in state {
                hasher.update(&value.to_bits().to_le_bytes());
            }
        }
        let start_hash = hasher.finalize().to_hex().to_string();
        Self {
            success: row.success,
            final_distance: row.final_distance,
            start_hash,
        }
    }
}

/// Compares two runs on the episodes they share.
///
/// # Errors
/// When the tasks differ, no episode is shared, or a seed stands for different episodes.
pub fn compare(first: &Scored, second: &Scored) -> Result<Comparison> {
    let pairs = Pairs::new(first, second)?;
    let distance = paired_bootstrap(&pairs.distances, RESAMPLES, CONFIDENCE, BOOTSTRAP_SEED);
    let comparison = distance.and_then(|distance| pairs.comparison(first, second, distance));
    comparison.ok_or_else(|| no_shared(first, second))
}

/// Compares one run with each of `others`, with the numbers of [`compare`] in a fraction of its time. `None` for those that
/// share no episode with it.
pub(crate) fn compare_with(first: &Scored, others: &[&Scored]) -> Result<Vec<Option<Comparison>>> {
    let pairs = others
        .iter()
        .map(|second| if_shared(Pairs::new(first, second)))
        .collect::<Result<Vec<Option<Pairs>>>>()?;
    let distances: Vec<Vec<f64>> = pairs
        .iter()
        .map(|pairs| {
            pairs
                .as_ref()
                .map_or_else(Vec::new, |p| p.distances.clone())
        })
        .collect();
    let distances = paired_bootstraps(&distances, RESAMPLES, CONFIDENCE, BOOTSTRAP_SEED);
    let comparison = |((pairs, second), distance): ((Option<Pairs>, &&Scored), _)| {
        pairs?.comparison(first, second, distance?)
    };
    Ok(pairs
        .into_iter()
        .zip(others)
        .zip(distances)
        .map(comparison)
        .collect())
}

/// How the episodes that two runs share went.
pub(crate) struct Pairs {
    outcomes: PairedOutcomes,
    /// Success of the first, 0 or 1, less that of the second.
    pub(crate) successes: Vec<f64>,
    /// Final distance of the first less that of the second.
    distances: Vec<f64>,
}

impl Pairs {
    /// # Errors
    /// As [`compare`].
    pub(crate) fn new(first: &Scored, second: &Scored) -> Result<Self> {
        check_task(first, second)?;
        let pairs = pair(first, second)?;
        let success = |score: &Score| f64::from(u8::from(score.success));
        Ok(Self {
            successes: pairs.iter().map(|(a, b)| success(a) - success(b)).collect(),
            outcomes: PairedOutcomes::count(pairs.iter().map(|(a, b)| (a.success, b.success))),
            distances: pairs
                .iter()
                .map(|(a, b)| a.final_distance - b.final_distance)
                .collect(),
        })
    }

    fn comparison(
        self,
        first: &Scored,
        second: &Scored,
        final_distance: Difference,
    ) -> Option<Comparison> {
        let Self {
            outcomes,
            distances,
            ..
        } = self;
        let p_value = mcnemar_exact(outcomes.only_first, outcomes.only_second);
        Some(Comparison {
            task: first.task.clone(),
            first: first.label.clone(),
            second: second.label.clone(),
            shared: distances.len() as u64,
            only_in_first: (first.scores.len() - distances.len()) as u64,
            only_in_second: (second.scores.len() - distances.len()) as u64,
            outcomes,
            success: paired_rate_difference(outcomes, CONFIDENCE)?,
            p_value,
            p_holm: p_value,
            final_distance,
        })
    }
}

/// Difference of the success rates as [`compare`] gives it, without the rest; `None` where [`compare_if_shared`] has none.
pub(crate) fn success_if_shared(first: &Scored, second: &Scored) -> Result<Option<Difference>> {
    let pairs = if_shared(Pairs::new(first, second))?;
    let finite = |pairs: &Pairs| pairs.distances.iter().all(|distance| distance.is_finite());
    Ok(pairs
        .filter(finite)
        .and_then(|pairs| paired_rate_difference(pairs.outcomes, CONFIDENCE)))
}

/// Whether two runs can be compared, apart from sharing an episode.
pub(crate) fn check_pair(first: &Scored, second: &Scored) -> Result<()> {
    if_shared(Pairs::new(first, second)).map(drop)
}

/// Compares every pair of runs, in order, and corrects the p-values for their number.
///
/// # Errors
/// As [`compare`], for the first pair that cannot be compared.
pub fn compare_all(runs: &[Scored]) -> Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for (k, first) in runs.iter().enumerate() {
        for second in &runs[k + 1..] {
            comparisons.push(compare(first, second)?);
        }
    }
    correct(&mut comparisons);
    Ok(comparisons)
}

/// As [`compare_all`], but leaves out pairs that share no episode.
///
/// # Errors
/// As [`compare`], for a pair that shares episodes but cannot be compared.
pub fn compare_sharing(runs: &[Scored]) -> Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    let runs: Vec<&Scored> = runs.iter().collect();
    for (k, first) in runs.iter().enumerate() {
        let of_first = compare_with(first, &runs[k + 1..])?;
        comparisons.extend(of_first.into_iter().flatten());
    }
    correct(&mut comparisons);
    Ok(comparisons)
}

/// A comparison, or `None` when the two share no episode.
#[cfg(test)]
pub(crate) fn compare_if_shared(first: &Scored, second: &Scored) -> Result<Option<Comparison>> {
    if_shared(compare(first, second))
}

/// `None` in place of the error that no episode is shared.
fn if_shared<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NoSharedEpisodes { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets `p_holm` of comparisons that are read together.
pub(crate) fn correct(comparisons: &mut [Comparison]) {
    let p_values: Vec<f64> = comparisons
        .iter()
        .map(|comparison| comparison.p_value)
        .collect();
    for (comparison, adjusted) in comparisons.iter_mut().zip(holm(&p_values)) {
        comparison.p_holm = adjusted;
    }
}

/// A label for each run: that of its model, followed by what tells equal ones apart: the training
/// seed, the planner, or else the name given beside the record.
pub fn distinct_labels(runs: &[(&RunRecord, String)]) -> Vec<String> {
    let label = |suffix: fn(&RunRecord, &str) -> String| {
        let labels = runs
            .iter()
            .map(|(record, name)| record.model.label.clone() + &suffix(record, name));
        labels.collect::<Vec<String>>()
    };
    let candidates = [
        label(no_suffix),
        label(seed_suffix),
        label(planner_suffix),
        label(name_suffix),
    ];
    let numbered = || {
        let labels = runs
            .iter()
            .zip(1..)
            .map(|((record, _), k)| format!("{} #{k}", record.model.label));
        labels.collect()
    };
    candidates
        .into_iter()
        .find(|labels| all_distinct(labels))
        .unwrap_or_else(numbered)
}

fn no_suffix(_: &RunRecord, _: &str) -> String {
    String::new()
}

fn seed_suffix(record: &RunRecord, _: &str) -> String {
    let training = record.model.training.as_ref();
    training.map_or_else(String::new, |training| {
        format!(", training seed {}", training.seed)
    })
}

fn planner_suffix(record: &RunRecord, _: &str) -> String {
    format!(", {} {}", record.planner.name, record.planner.preset)
}

fn name_suffix(_: &RunRecord, name: &str) -> String {
    format!(", {name}")
}

fn all_distinct(labels: &[String]) -> bool {
    labels
        .iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
        == labels.len()
}

fn check_task(first: &Scored, second: &Scored) -> Result<()> {
    if first.task == second.task {
        return Ok(());
    }
    let name = |task: &TaskRef| format!("{} ({})", task.id(), short(&task.hash));
    Err(Error::DifferentTasks {
        left: first.label.clone(),
        right: second.label.clone(),
        left_task: name(&first.task),
        right_task: name(&second.task),
    })
}

/// The shared episodes in order of their seeds.
fn pair<'a>(first: &'a Scored, second: &'a Scored) -> Result<Vec<(&'a Score, &'a Score)>> {
    let mut pairs = Vec::new();
    for (&seed, a) in &first.scores {
        let Some(b) = second.scores.get(&seed) else {
            continue;
        };
        if a.start_hash != b.start_hash {
            return Err(Error::EpisodesDiffer {
                left: first.label.clone(),
                right: second.label.clone(),
                seed,
            });
        }
        pairs.push((a, b));
    }
    if pairs.is_empty() {
        Err(no_shared(first, second))
    } else {
        Ok(pairs)
    }
}

fn no_shared(first: &Scored, second: &Scored) -> Error {
    Error::NoSharedEpisodes {
        left: first.label.clone(),
        right: second.label.clone(),
    }
}

/// The first twelve digits of a hash, for people.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SyntheticRun, episode};

    fn scored(label: &str, outcomes: &[(u32, bool, f64)]) -> Scored {
        let rows = outcomes
            .iter()
            .map(|&(k, success, distance)| episode(k, success, distance));
        Scored {
            label: label.into(),
            task: TaskRef {
                name: "wall".into(),
                version: 1,
                hash: "abc".into(),
            },
            scores: rows.map(|row| (row.seed, Score::new(&row))).collect(),
        }
    }

    #[test]
    fn only_shared_episodes_are_compared() {
        let a = scored(
            "a",
            &[
                (0, true, 1.0),
                (1, true, 1.0),
                (2, false, 9.0),
                (3, true, 2.0),
            ],
        );
        let b = scored(
            "b",
            &[
                (1, false, 7.0),
                (2, false, 9.0),
                (3, true, 1.0),
                (4, true, 1.0),
            ],
        );
        let result = compare(&a, &b).unwrap();
        assert_eq!(
            (result.shared, result.only_in_first, result.only_in_second),
            (3, 1, 1)
        );
        assert_eq!(
            result.outcomes,
            PairedOutcomes {
                both: 1,
                only_first: 1,
                only_second: 0,
                neither: 1
            }
        );
        assert!((result.success.mean - 1.0 / 3.0).abs() < 1e-12);
        assert!((result.final_distance.mean - (-5.0 / 3.0)).abs() < 1e-12);
        assert_eq!(result.p_value, 1.0);
    }

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let a = scored("a", &[(0, true, 1.0), (1, false, 8.0)]);
        let result = compare(&a, &a).unwrap();
        assert_eq!(
            (
                result.success.mean,
                result.final_distance.mean,
                result.p_value
            ),
            (0.0, 0.0, 1.0)
        );
        assert!(result.success.interval.contains(0.0) && !result.is_significant());
    }

    #[test]
    fn runs_that_cannot_be_paired_are_refused() {
        let a = scored("a", &[(0, true, 1.0)]);
        let b = scored("b", &[(1, true, 1.0)]);
        assert!(matches!(
            compare(&a, &b),
            Err(Error::NoSharedEpisodes { .. })
        ));
        let mut other = a.clone();
        other.task.hash = "abd".into();
        assert!(matches!(
            compare(&a, &other),
            Err(Error::DifferentTasks { .. })
        ));
        let mut moved = a.clone();
        moved
            .scores
            .values_mut()
            .for_each(|score| score.start_hash.push('0'));
        assert!(matches!(
            compare(&a, &moved),
            Err(Error::EpisodesDiffer { seed: 2, .. })
        ));
    }

    #[test]
    fn pairs_without_shared_episodes_can_be_left_out() {
        let runs = [
            scored("a", &[(0, true, 1.0)]),
            scored("b", &[(1, true, 1.0)]),
            scored("c", &[(0, true, 2.0), (1, true, 3.0)]),
        ];
        let results = compare_sharing(&runs).unwrap();
        let names: Vec<_> = results
            .iter()
            .map(|r| (r.first.as_str(), r.second.as_str()))
            .collect();
        assert_eq!(names, [("a", "c"), ("b", "c")]);
        assert!(matches!(
            compare_all(&runs),
            Err(Error::NoSharedEpisodes { .. })
        ));
    }

    #[test]
    fn equal_labels_are_told_apart_by_what_differs() {
        let a = SyntheticRun::new("pldm", 2).record();
        let b = SyntheticRun::new("pldm", 2).seeded(2).record();
        let named = |name: &str| name.to_string();
        let labels = distinct_labels(&[(&a, named("x")), (&b, named("y"))]);
        assert_eq!(labels, ["PLDM, training seed 1", "PLDM, training seed 2"]);
        assert_eq!(
            distinct_labels(&[(&a, named("x")), (&a, named("y"))]),
            ["PLDM, x", "PLDM, y"]
        );
        assert_eq!(
            distinct_labels(&[(&a, named("x")), (&a, named("x"))]),
            ["PLDM #1", "PLDM #2"]
        );
        assert_eq!(distinct_labels(&[(&a, named("x"))]), ["PLDM"]);
    }

    #[test]
    fn all_pairs_are_corrected_together() {
        let good: Vec<_> = (0..12).map(|k| (k, true, 1.0)).collect();
        let bad: Vec<_> = (0..12).map(|k| (k, false, 9.0)).collect();
        let results =
            compare_all(&[scored("a", &good), scored("b", &bad), scored("c", &bad)]).unwrap();
        let names: Vec<_> = results
            .iter()
            .map(|r| (r.first.as_str(), r.second.as_str()))
            .collect();
        assert_eq!(names, [("a", "b"), ("a", "c"), ("b", "c")]);
        let p = 2.0 / 4096.0;
        assert!(
            (results[0].p_value - p).abs() < 1e-12 && (results[0].p_holm - 3.0 * p).abs() < 1e-12
        );
        assert!(results[0].is_significant() && !results[2].is_significant());
    }
}
