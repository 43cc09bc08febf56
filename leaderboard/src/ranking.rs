//! Ordering the runs of one task, and saying how much of the order is noise.
//!
//! A board may hold a thousand runs, half a million pairs. Outcomes are kept as bits (`ranking/outcomes.rs`), so that a
//! pair is a few counts; what a page does not show, the bootstrap of distances of pairs without the best model, is not
//! made. The plain definition of every number stands in `ranking/plain.rs`, and tests compare the two.

mod letters;
mod outcomes;
#[cfg(test)]
mod plain;
mod rank_interval;

use serde::{Deserialize, Serialize};

use crate::compare::{Comparison, Scored, compare_with, success_if_shared};
use crate::error::Result;
use crate::record::{CONFIDENCE, ModelKind, ModelRef};
use crate::statistics::{Difference, Interval, mean, minimal_detectable_difference, wilson};
use letters::letters;
use outcomes::Outcomes;
use rank_interval::rank_intervals;

/// Power at which the minimal detectable difference is stated.
pub(crate) const POWER: f64 = 0.8;
/// Registry name of the floor that `above_random` is about.
pub const RANDOM_FLOOR: &str = "floor:random";

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
    /// Success rate above random actions (`floor:random`), on the episodes shared with them; none where the board does not
    /// know which run that is.
    #[serde(default)]
    pub above_random: Option<Difference>,
    /// Difference to the best trained model; `None` for that model itself.
    pub to_best: Option<Comparison>,
    /// Models that share a letter could not be told apart (McNemar, Holm-corrected, 5%). After `z` come `aa`, `ab`, ..; on a
    /// board with so many groups they are separated by spaces.
    pub letters: String,
    /// Smallest rise of the success rate that this many unpaired episodes detect with 80% power.
    pub detectable: Option<f64>,
    /// Smallest difference to the best trained model that a paired comparison detects with 80% power, were the share of
    /// episodes on which just one succeeds what was seen.
    #[serde(default)]
    pub detectable_paired: Option<f64>,
}

/// A run with what its board needs to know of its model.
struct Entry<'a> {
    run: &'a Scored,
    kind: ModelKind,
    is_random: bool,
}

/// Orders the runs of one task: trained models by success rate, then mean final distance, then label;
/// after them the ceiling and the floors. [`rank_models`] also says how far they are above random actions.
///
/// # Errors
/// When the runs belong to different tasks or disagree about an episode.
pub fn rank(runs: &[(Scored, ModelKind)]) -> Result<Vec<Ranked>> {
    let entries = runs.iter().map(|(run, kind)| Entry {
        run,
        kind: *kind,
        is_random: false,
    });
    ranked(&entries.collect::<Vec<_>>())
}

/// As [`rank`], for runs whose models are known: fills in `above_random` as well.
///
/// # Errors
/// As [`rank`].
pub fn rank_models(runs: &[(Scored, &ModelRef)]) -> Result<Vec<Ranked>> {
    let entries = runs.iter().map(|(run, model)| Entry {
        run,
        kind: model.kind,
        is_random: model.name == RANDOM_FLOOR,
    });
    ranked(&entries.collect::<Vec<_>>())
}

fn ranked(entries: &[Entry]) -> Result<Vec<Ranked>> {
    let mut rows = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        rows.extend(row(index, entry.run, entry.kind));
    }
    rows.sort_by(order);
    let trained = rows
        .iter()
        .take_while(|row| row.kind == ModelKind::Trained)
        .count();
    let order: Vec<&Scored> = rows.iter().map(|row| entries[row.index].run).collect();
    let floor = best(entries, |entry| entry.kind == ModelKind::Floor);
    let random = best(entries, |entry| entry.is_random);
    for (position, row) in rows.iter_mut().enumerate() {
        row.above_floor = above(order[position], floor)?;
        row.above_random = above(order[position], random)?;
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
        above_random: None,
        to_best: None,
        letters: String::new(),
        detectable: minimal_detectable_difference(success_rate, episodes, CONFIDENCE, POWER),
        detectable_paired: None,
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

/// Of the runs that `claim` holds for, the one with the most successes (the last of equals): the floor to beat.
fn best<'a>(entries: &[Entry<'a>], claim: impl Fn(&Entry) -> bool) -> Option<&'a Scored> {
    let successes = |run: &Scored| run.scores.values().filter(|score| score.success).count();
    let runs = entries.iter().filter(|entry| claim(entry));
    runs.map(|entry| entry.run).max_by_key(|run| successes(run))
}

/// Difference to the floor, where there is one with shared episodes that is not the run itself.
fn above(run: &Scored, floor: Option<&Scored>) -> Result<Option<Difference>> {
    match floor {
        Some(floor) if floor.label != run.label => success_if_shared(run, floor),
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

/// Compares all pairs, corrects for their number, and sets the distance to the best and the letters.
fn set_comparisons(rows: &mut [Ranked], runs: &[&Scored]) -> Result<()> {
    let outcomes = Outcomes::new(runs)?;
    let tests = outcomes.tests();
    let names = letters(&outcomes.first_differing(&tests));
    for (row, letters) in rows.iter_mut().zip(names) {
        row.letters = letters;
    }
    let Some((best, others)) = runs.split_first() else {
        return Ok(());
    };
    let comparisons = compare_with(best, others)?;
    for (position, comparison) in (1..).zip(comparisons) {
        let Some(mut comparison) = comparison else {
            continue;
        };
        comparison.p_holm = tests.holm(comparison.outcomes);
        rows[position].detectable_paired = comparison.detectable();
        rows[position].to_best = Some(comparison);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compare::compare_if_shared;
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
    fn random_actions_are_known_by_name_and_beaten_on_shared_episodes() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, share: f64| {
            let synthetic = SyntheticRun::new(name, 60).reaching(share);
            Run::load(&synthetic.write(folder.path()).unwrap()).unwrap()
        };
        let runs = [
            run("good", 0.9),
            run("floor:noop", 0.5),
            run("floor:random", 0.2),
        ];
        let scored: Vec<(Scored, &ModelRef)> = runs
            .iter()
            .map(|run| {
                (
                    Scored::new(run, run.record.model.name.clone()),
                    &run.record.model,
                )
            })
            .collect();
        let rows = rank_models(&scored).unwrap();
        let expected = crate::compare(&scored[0].0, &scored[2].0).unwrap().success;
        assert_eq!(rows[0].above_random, Some(expected));
        assert!(rows[0].above_floor.unwrap().mean < expected.mean);
        assert_eq!((rows[1].index, rows[2].index), (1, 2));
        assert!(rows[1].above_random.is_some() && rows[2].above_random.is_none());
        let kinds: Vec<(Scored, ModelKind)> = scored
            .into_iter()
            .map(|(scored, model)| (scored, model.kind))
            .collect();
        assert_eq!(rank(&kinds).unwrap()[0].above_random, None);
    }

    #[test]
    fn runs_that_disagree_about_an_episode_are_refused_by_the_first_such_pair() {
        let a = scored(&SyntheticRun::new("a", 20).reaching(1.0), "a");
        let named = |label: &str| Scored {
            label: label.into(),
            ..a.clone()
        };
        let (mut c, mut d) = (named("c"), named("d"));
        for run in [&mut c, &mut d] {
            run.scores.get_mut(&5).unwrap().start_hash.push('0');
        }
        d.scores.get_mut(&4).unwrap().start_hash.push('0');
        let error = |runs: &[&Scored]| {
            let runs: Vec<_> = runs
                .iter()
                .map(|&run| (run.clone(), ModelKind::Trained))
                .collect();
            rank(&runs).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[&a, &named("b"), &c, &d]),
            "seed 5 stands for different episodes in `a` and `c`"
        );
        let mut other = named("e");
        other.task.version = 7;
        assert!(error(&[&a, &other]).contains("different tasks"));
    }

    /// Outcome and distance by seed, of trained models whose success rates lie far apart, and of floors.
    fn boards() -> impl Strategy<Value = Vec<(Scored, ModelKind)>> {
        let distance = prop_oneof![40 => (0_u8..5).prop_map(f64::from), 1 => Just(f64::INFINITY)];
        let episode = (0_u8..10, distance, prop::bool::weighted(0.9));
        let kind = prop_oneof![4 => Just(ModelKind::Trained), 1 => Just(ModelKind::Floor)];
        let run = move |n: usize| {
            let level = prop::sample::select(vec![0_u8, 1, 5, 9, 10]);
            (
                level,
                prop::bool::ANY,
                prop::collection::vec(episode.clone(), n),
                kind.clone(),
            )
        };
        let runs = (1_usize..140).prop_flat_map(move |n| prop::collection::vec(run(n), 1..6));
        runs.prop_map(|runs| {
            let scored = |(k, (level, all, episodes, kind)): (usize, (u8, bool, Vec<_>, _))| {
                let score = |(seed, (draw, final_distance, kept)): (u64, (u8, f64, bool))| {
                    let score = crate::Score {
                        success: draw < level,
                        final_distance,
                        start_hash: format!("{seed}"),
                    };
                    (kept || all).then_some((seed, score))
                };
                let run = Scored {
                    label: format!("run {k}"),
                    task: SyntheticRun::new("a", 1).record().task,
                    scores: (0..).zip(episodes).filter_map(score).collect(),
                };
                (run, kind)
            };
            runs.into_iter().enumerate().map(scored).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_number_of_a_board_is_that_of_the_plain_definition(board in boards()) {
            let rows = rank(&board).unwrap();
            let trained: Vec<&Ranked> = rows.iter().filter(|row| row.rank.is_some()).collect();
            let runs: Vec<&Scored> = trained.iter().map(|row| &board[row.index].0).collect();
            let comparisons = plain::comparisons(&runs);
            let differ: Vec<(usize, usize)> = comparisons
                .iter()
                .filter(|(_, comparison)| comparison.is_significant())
                .map(|&(pair, _)| pair)
                .collect();
            let letters: Vec<&str> = trained.iter().map(|row| row.letters.as_str()).collect();
            prop_assert_eq!(letters, plain::letters(runs.len(), &differ));
            let intervals = plain::rank_intervals(&runs);
            for (k, row) in trained.iter().enumerate() {
                prop_assert_eq!(row.rank_interval, intervals.as_ref().map(|all| all[k]));
                let to_best = comparisons.iter().find(|(pair, _)| *pair == (0, k));
                prop_assert_eq!(row.to_best.as_ref(), to_best.map(|(_, comparison)| comparison));
            }
            let floors = board.iter().filter(|(_, kind)| *kind == ModelKind::Floor);
            let successes = |run: &Scored| run.scores.values().filter(|s| s.success).count();
            let floor = floors.map(|(run, _)| run).max_by_key(|run| successes(run));
            for row in &rows {
                let run = &board[row.index].0;
                let other = floor.filter(|floor| floor.label != run.label);
                let plain = other.and_then(|floor| compare_if_shared(run, floor).unwrap());
                prop_assert_eq!(row.above_floor, plain.map(|comparison| comparison.success));
            }
        }
    }

    #[test]
    fn an_empty_board_has_no_rows() {
        assert!(rank(&[]).unwrap().is_empty());
    }
}
