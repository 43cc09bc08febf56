//! Ordering the runs of one task, and saying how much of the order is noise.

use serde::{Deserialize, Serialize};

use crate::compare::{Comparison, Scored, compare_if_shared, correct};
use crate::error::Result;
use crate::record::{CONFIDENCE, ModelKind};
use crate::statistics::{
    Difference, Draws, Interval, mean, minimal_detectable_difference, quantile, wilson,
};

/// Resamples behind a rank interval.
const RESAMPLES: usize = 2_000;
/// Seed of the resampling.
const SEED: u64 = 2;
/// Power at which the minimal detectable difference is stated.
const POWER: f64 = 0.8;

/// One row of a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Position in the list given to [`rank`].
    pub index: usize,
    /// Name to print.
    pub label: String,
    /// Role of the run; only trained models have a rank.
    pub kind: ModelKind,
    /// 1 for the best trained model; equal success rates and distances are ordered by label.
    pub rank: Option<u32>,
    /// 95% interval of the rank when the shared episodes are resampled.
    pub rank_interval: Option<(u32, u32)>,
    /// Number of episodes.
    pub episodes: u64,
    /// Episodes at the goal at the end.
    pub successes: u64,
    /// `successes / episodes`.
    pub success_rate: f64,
    /// Wilson 95% interval of the success rate.
    pub interval: Interval,
    /// Mean distance to the goal after the last step.
    pub final_distance_mean: f64,
    /// Success rate above the best floor, on the episodes shared with it.
    pub above_floor: Option<Difference>,
    /// Difference to the best trained model; `None` for that model itself.
    pub to_best: Option<Comparison>,
    /// Models that share a letter could not be told apart (McNemar, Holm-corrected, 5%).
    pub letters: String,
    /// Smallest rise of the success rate that this many unpaired episodes detect with 80% power.
    pub detectable: Option<f64>,
}

/// Orders the runs of one task: trained models by success rate, then mean final distance, then label;
/// after them the ceiling and the floors.
///
/// # Errors
/// When the runs belong to different tasks or disagree about an episode.
pub fn rank(runs: &[(Scored, ModelKind)]) -> Result<Vec<Ranked>> {
    let mut rows = Vec::with_capacity(runs.len());
    for (index, (run, kind)) in runs.iter().enumerate() {
        rows.extend(row(index, run, *kind));
    }
    rows.sort_by(order);
    let trained = rows
        .iter()
        .take_while(|row| row.kind == ModelKind::Trained)
        .count();
    let order: Vec<&Scored> = rows.iter().map(|row| &runs[row.index].0).collect();
    let floor = best_floor(runs);
    for (position, row) in rows.iter_mut().enumerate() {
        row.above_floor = above(order[position], floor)?;
    }
    let ranked = &mut rows[..trained];
    set_ranks(ranked, &order[..trained]);
    set_comparisons(ranked, &order[..trained])?;
    Ok(rows)
}

/// The row of one run before it is compared; `None` for a run without episodes.
fn row(index: usize, run: &Scored, kind: ModelKind) -> Option<Ranked> {
    let episodes = run.scores.len() as u64;
    let successes = run.scores.values().filter(|score| score.success).count() as u64;
    let distances: Vec<f64> = run
        .scores
        .values()
        .map(|score| score.final_distance)
        .collect();
    let success_rate = successes as f64 / episodes as f64;
    Some(Ranked {
        index,
        label: run.label.clone(),
        kind,
        rank: None,
        rank_interval: None,
        episodes,
        successes,
        success_rate,
        interval: wilson(successes, episodes, CONFIDENCE)?,
        final_distance_mean: mean(&distances)?,
        above_floor: None,
        to_best: None,
        letters: String::new(),
        detectable: minimal_detectable_difference(success_rate, episodes, CONFIDENCE, POWER),
    })
}

fn order(a: &Ranked, b: &Ranked) -> std::cmp::Ordering {
    let section = |row: &Ranked| match row.kind {
        ModelKind::Trained => 0,
        ModelKind::Oracle => 1,
        ModelKind::Floor => 2,
    };
    section(a)
        .cmp(&section(b))
        .then(b.success_rate.total_cmp(&a.success_rate))
        .then(a.final_distance_mean.total_cmp(&b.final_distance_mean))
        .then_with(|| a.label.cmp(&b.label))
}

/// The floor to beat: the one with the most successes.
fn best_floor(runs: &[(Scored, ModelKind)]) -> Option<&Scored> {
    let successes = |run: &Scored| run.scores.values().filter(|score| score.success).count();
    let floors = runs
        .iter()
        .filter(|(_, kind)| *kind == ModelKind::Floor)
        .map(|(run, _)| run);
    floors.max_by_key(|run| successes(run))
}

/// Difference to the floor, where there is one with shared episodes that is not the run itself.
fn above(run: &Scored, floor: Option<&Scored>) -> Result<Option<Difference>> {
    match floor {
        Some(floor) if floor.label != run.label => {
            Ok(compare_if_shared(run, floor)?.map(|pair| pair.success))
        }
        _ => Ok(None),
    }
}

fn set_ranks(rows: &mut [Ranked], runs: &[&Scored]) {
    let intervals = rank_intervals(runs);
    for (position, row) in rows.iter_mut().enumerate() {
        row.rank = Some(position as u32 + 1);
        row.rank_interval = intervals.as_ref().map(|all| all[position]);
    }
}

/// Rank intervals from resampling the episodes that all runs share; `None` without such episodes.
fn rank_intervals(runs: &[&Scored]) -> Option<Vec<(u32, u32)>> {
    let (first, rest) = runs.split_first()?;
    let seeds: Vec<u64> = first
        .scores
        .keys()
        .copied()
        .filter(|seed| rest.iter().all(|run| run.scores.contains_key(seed)))
        .collect();
    if seeds.is_empty() {
        return None;
    }
    let outcomes: Vec<Vec<bool>> = runs
        .iter()
        .map(|run| seeds.iter().map(|seed| run.scores[seed].success).collect())
        .collect();
    let mut draws = Draws::new(SEED);
    let mut ranks = vec![Vec::with_capacity(RESAMPLES); runs.len()];
    for _ in 0..RESAMPLES {
        let chosen: Vec<usize> = seeds
            .iter()
            .map(|_| draws.below(seeds.len() as u32) as usize)
            .collect();
        let counts: Vec<usize> = outcomes
            .iter()
            .map(|run| chosen.iter().filter(|&&k| run[k]).count())
            .collect();
        for (list, &count) in ranks.iter_mut().zip(&counts) {
            // Ties share the middle of the places they take.
            let better = counts.iter().filter(|&&other| other > count).count();
            let equal = counts.iter().filter(|&&other| other == count).count();
            list.push(better as f64 + f64::midpoint(1.0, equal as f64));
        }
    }
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let interval = |list: &Vec<f64>| {
        Some((
            quantile(list, tail)?.floor() as u32,
            quantile(list, 1.0 - tail)?.ceil() as u32,
        ))
    };
    ranks.iter().map(interval).collect()
}

/// Compares all pairs, corrects for their number, and sets the distance to the best and the letters.
fn set_comparisons(rows: &mut [Ranked], runs: &[&Scored]) -> Result<()> {
    let (mut pairs, mut comparisons) = (Vec::new(), Vec::new());
    for first in 0..runs.len() {
        for second in first + 1..runs.len() {
            if let Some(comparison) = compare_if_shared(runs[first], runs[second])? {
                pairs.push((first, second));
                comparisons.push(comparison);
            }
        }
    }
    correct(&mut comparisons);
    let differ: Vec<(usize, usize)> = pairs
        .iter()
        .zip(&comparisons)
        .filter(|(_, comparison)| comparison.is_significant())
        .map(|(&pair, _)| pair)
        .collect();
    for (row, letters) in rows.iter_mut().zip(letters(runs.len(), &differ)) {
        row.letters = letters;
    }
    for ((first, second), comparison) in pairs.into_iter().zip(comparisons) {
        if first == 0 {
            rows[second].to_best = Some(comparison);
        }
    }
    Ok(())
}

/// Letters for `n` ordered rows: each longest stretch of rows in which no pair differs gets one.
fn letters(n: usize, differ: &[(usize, usize)]) -> Vec<String> {
    let mut letters = vec![String::new(); n];
    let mut covered = 0;
    let mut names = ('a'..='z').cycle();
    for start in 0..n {
        let alike = |&end: &usize| !differ.iter().any(|&(a, b)| start <= a && b <= end);
        let end = (start..n).take_while(alike).last().unwrap_or(start) + 1;
        if end > covered {
            covered = end;
            let Some(name) = names.next() else { break };
            letters[start..end]
                .iter_mut()
                .for_each(|row| row.push(name));
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;
    use crate::testing::SyntheticRun;

    fn scored(synthetic: &SyntheticRun, label: &str) -> Scored {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::load(&synthetic.write(folder.path()).unwrap()).unwrap();
        Scored::new(&run, label.into())
    }

    #[test]
    fn trained_models_are_ranked_and_the_rest_follows() {
        let good = scored(&SyntheticRun::new("good", 60).reaching(0.95), "good");
        let weak = scored(&SyntheticRun::new("weak", 60).reaching(0.3), "weak");
        let floor = scored(&SyntheticRun::new("floor:random", 60), "random");
        let oracle = scored(&SyntheticRun::new("oracle", 60), "oracle");
        let runs = [
            (floor, ModelKind::Floor),
            (weak, ModelKind::Trained),
            (oracle, ModelKind::Oracle),
            (good, ModelKind::Trained),
        ];
        let rows = rank(&runs).unwrap();
        let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["good", "weak", "oracle", "random"]);
        assert_eq!(
            (rows[0].rank, rows[1].rank, rows[2].rank),
            (Some(1), Some(2), None)
        );
        assert_eq!(
            (rows[0].rank_interval, rows[1].rank_interval),
            (Some((1, 1)), Some((2, 2)))
        );
        assert_eq!(
            (rows[0].letters.as_str(), rows[1].letters.as_str()),
            ("a", "b")
        );
        assert!(rows[0].to_best.is_none() && rows[1].to_best.as_ref().unwrap().success.mean > 0.4);
        assert!(rows[0].above_floor.unwrap().interval.low > 0.5);
        assert!(rows[3].above_floor.is_none());
    }

    #[test]
    fn equal_models_share_a_letter_and_both_ranks() {
        let a = scored(&SyntheticRun::new("a", 40).reaching(0.8), "a");
        let b = Scored {
            label: "b".into(),
            ..a.clone()
        };
        let rows = rank(&[(b, ModelKind::Trained), (a, ModelKind::Trained)]).unwrap();
        assert_eq!(
            (
                rows[0].label.as_str(),
                rows[0].letters.as_str(),
                rows[1].letters.as_str()
            ),
            ("a", "a", "a")
        );
        assert_eq!(rows[0].rank_interval, Some((1, 2)));
    }

    #[test]
    fn letters_cover_every_stretch_without_a_difference() {
        assert_eq!(letters(4, &[]), ["a", "a", "a", "a"]);
        assert_eq!(letters(3, &[(0, 2)]), ["a", "ab", "b"]);
        assert_eq!(letters(3, &[(0, 1), (0, 2), (1, 2)]), ["a", "b", "c"]);
        assert!(letters(0, &[]).is_empty());
    }

    #[test]
    fn an_empty_board_has_no_rows() {
        assert!(rank(&[]).unwrap().is_empty());
    }
}
