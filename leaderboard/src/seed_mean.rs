//! One recipe trained with several seeds: the mean that a claim should rest on.
//!
//! A recipe is as good as its mean over training seeds, not as its best seed. Runs belong together when
//! nothing but the training seed differs: model, training configuration and steps, data, planner, objective,
//! and every episode.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::compare::{Score, Scored};
use crate::record::{CONFIDENCE, ModelRef, RunRecord};
use crate::statistics::{Interval, mean, wilson_rate};

/// The success of one recipe over its training seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedMean {
    /// Name to print, different for every mean of a task: `pldm, mean of 3 seeds`.
    pub label: String,
    /// Positions of its runs in the list given to [`seed_means`], by training seed.
    pub members: Vec<usize>,
    /// Training seeds, rising.
    pub seeds: Vec<u64>,
    /// Episodes of each run, the same for all.
    pub episodes: u64,
    /// Mean over the seeds of the success rate, in `[0, 1]`.
    pub success_rate: f64,
    /// Sample standard deviation over the seeds of the success rate (divisor `n - 1`).
    pub standard_deviation: f64,
    /// Success rate of the worst seed.
    pub lowest: f64,
    /// Success rate of the best seed.
    pub highest: f64,
    /// Wilson 95% interval of the mean for the draw of the episodes, seeds held fixed. Its size is the
    /// number of episodes, not of attempts, as if all seeds agreed on every episode: never too narrow.
    pub interval: Interval,
    /// Mean over the seeds of the mean distance to the goal after the last step.
    pub final_distance_mean: f64,
}

/// Means over training seeds, best first; recipes with a single seed have none.
///
/// Runs of the same weights are all members, but count once: their episodes are the same.
pub fn seed_means(runs: &[(&RunRecord, &Scored)]) -> Vec<SeedMean> {
    let steps = |record: &RunRecord| record.model.training.as_ref().map(|t| t.steps);
    let groups = grouped(runs, |a, b| steps(a) == steps(b));
    let mut means: Vec<SeedMean> = groups
        .into_iter()
        .filter_map(|group| of_group(runs, group))
        .collect();
    means.sort_by(|a, b| {
        b.success_rate
            .total_cmp(&a.success_rate)
            .then(a.final_distance_mean.total_cmp(&b.final_distance_mean))
            .then_with(|| a.members.cmp(&b.members))
    });
    tell_apart(&mut means, runs);
    means
}

/// Runs of one recipe, of any training seed and after any number of steps, by their positions.
///
/// Those whose training is not known are in no group.
pub fn recipes(runs: &[(&RunRecord, &Scored)]) -> Vec<Vec<usize>> {
    grouped(runs, |_, _| true)
}

/// Runs that belong together and that `alike` accepts besides.
fn grouped(
    runs: &[(&RunRecord, &Scored)],
    alike: impl Fn(&RunRecord, &RunRecord) -> bool,
) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (k, &(record, scored)) in runs.iter().enumerate() {
        if recipe(&record.model).is_none() || scored.scores.is_empty() {
            continue;
        }
        let fits = |group: &&mut Vec<usize>| {
            let first = runs[group[0]];
            belong_together(first, (record, scored)) && alike(first.0, record)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(k),
            None => groups.push(vec![k]),
        }
    }
    groups
}

/// Adds to the labels what tells equal ones apart: the steps, the planner, or else a number.
fn tell_apart(means: &mut [SeedMean], runs: &[(&RunRecord, &Scored)]) {
    let suffixes: [fn(&RunRecord, usize) -> String; 4] = [
        |_, _| String::new(),
        |record, _| {
            let training = record.model.training.as_ref();
            training.map_or_else(String::new, |t| format!(", {} steps", t.steps))
        },
        |record, _| format!(", {} {}", record.planner.name, record.planner.preset),
        |_, k| format!(" #{}", k + 1),
    ];
    for suffix in suffixes {
        let labels: Vec<String> = means
            .iter()
            .enumerate()
            .map(|(k, mean)| mean.label.clone() + &suffix(runs[mean.members[0]].0, k))
            .collect();
        let distinct: BTreeSet<&String> = labels.iter().collect();
        if distinct.len() == labels.len() {
            for (mean, label) in means.iter_mut().zip(labels) {
                mean.label = label;
            }
            return;
        }
    }
}

/// What has to agree in the model; `None` for weights of unknown origin.
fn recipe(model: &ModelRef) -> Option<[&str; 4]> {
    let training = model.training.as_ref()?;
    Some([
        &model.name,
        training.config_hash.as_deref()?,
        &training.dataset_hash,
        &training.train_split_hash,
    ])
}

fn belong_together(a: (&RunRecord, &Scored), b: (&RunRecord, &Scored)) -> bool {
    recipe(&a.0.model) == recipe(&b.0.model)
        && a.0.task == b.0.task
        && a.0.planner == b.0.planner
        && a.0.objective == b.0.objective
        && same_episodes(a.1, b.1)
}

fn same_episodes(a: &Scored, b: &Scored) -> bool {
    let same = |((seed, score), (other_seed, other)): ((&u64, &Score), (&u64, &Score))| {
        seed == other_seed && score.start_hash == other.start_hash
    };
    a.scores.len() == b.scores.len() && a.scores.iter().zip(&b.scores).all(same)
}

fn of_group(runs: &[(&RunRecord, &Scored)], mut members: Vec<usize>) -> Option<SeedMean> {
    let training_seed = |&k: &usize| runs[k].0.model.training.as_ref().map(|t| t.seed);
    let weights = |&k: &usize| (training_seed(&k), runs[k].0.model.weights_hash.clone());
    members.sort_by_key(weights);
    let mut distinct = members.clone();
    distinct.dedup_by_key(|k| weights(k));
    if distinct.len() < 2 {
        return None;
    }
    let seeds = distinct.iter().filter_map(training_seed).collect();
    let scores = distinct.iter().map(|&k| rate_and_distance(runs[k].1));
    let (rates, distances): (Vec<f64>, Vec<f64>) = scores.unzip();
    let success_rate = mean(&rates)?;
    let episodes = runs[members[0]].1.scores.len() as u64;
    let squares: f64 = rates.iter().map(|rate| (rate - success_rate).powi(2)).sum();
    Some(SeedMean {
        label: format!(
            "{}, mean of {} seeds",
            runs[members[0]].0.model.name,
            distinct.len()
        ),
        seeds,
        episodes,
        success_rate,
        standard_deviation: (squares / (rates.len() - 1) as f64).sqrt(),
        lowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
        highest: rates.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        interval: wilson_rate(success_rate, episodes, CONFIDENCE)?,
        final_distance_mean: mean(&distances)?,
        members,
    })
}

fn rate_and_distance(scored: &Scored) -> (f64, f64) {
    let n = scored.scores.len() as f64;
    let successes = scored.scores.values().filter(|score| score.success).count();
    let distance: f64 = scored.scores.values().map(|s| s.final_distance).sum();
    (successes as f64 / n, distance / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;
    use crate::testing::SyntheticRun;

    /// A run of `pldm` with that training seed, reaching about that share of 40 goals.
    fn run(seed: u64, share: f64) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let synthetic = SyntheticRun::new("pldm", 40).reaching(share).seeded(seed);
        Run::load(&synthetic.write(folder.path()).unwrap()).unwrap()
    }

    fn means(runs: &[Run]) -> Vec<SeedMean> {
        let scored: Vec<Scored> = runs
            .iter()
            .map(|run| Scored::new(run, String::new()))
            .collect();
        let pairs: Vec<_> = runs.iter().map(|run| &run.record).zip(&scored).collect();
        seed_means(&pairs)
    }

    #[test]
    fn three_seeds_give_mean_spread_and_an_interval_as_wide_as_one_run() {
        let runs = [run(2, 0.9), run(0, 0.5), run(1, 0.7)];
        let means = means(&runs);
        assert_eq!(means.len(), 1);
        let only = &means[0];
        assert_eq!(
            (&only.seeds[..], &only.members[..]),
            (&[0, 1, 2][..], &[1, 2, 0][..])
        );
        let rates = runs.each_ref().map(|run| run.record.summary.success_rate);
        let mean = (rates[0] + rates[1] + rates[2]) / 3.0;
        assert!((only.success_rate - mean).abs() < 1e-15);
        let variance = rates.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / 2.0;
        assert!((only.standard_deviation - variance.sqrt()).abs() < 1e-15);
        assert_eq!(only.episodes, 40);
        assert_eq!(
            only.interval,
            wilson_rate(only.success_rate, 40, CONFIDENCE).unwrap()
        );
        assert_eq!(only.label, "pldm, mean of 3 seeds");
    }

    #[test]
    fn anything_but_the_seed_makes_another_recipe() {
        let (a, b) = (run(0, 0.5), run(1, 0.7));
        let changes: [fn(&mut Run); 6] = [
            |r| training(r).config_hash = Some("another".into()),
            |r| training(r).config_hash = None,
            |r| training(r).dataset_hash = "another".into(),
            |r| r.record.planner.preset = "another".into(),
            |r| drop(r.record.objective.insert("steps".into(), "all".into())),
            |r| drop(r.episodes.pop()),
        ];
        assert_eq!(means(&[a.clone(), b.clone()]).len(), 1);
        for (k, change) in changes.into_iter().enumerate() {
            let mut other = b.clone();
            change(&mut other);
            assert!(means(&[a.clone(), other]).is_empty(), "change {k}");
        }
    }

    fn training(run: &mut Run) -> &mut crate::TrainingRef {
        run.record.model.training.as_mut().unwrap()
    }

    #[test]
    fn the_same_weights_count_once() {
        let (a, b) = (run(0, 0.5), run(1, 0.7));
        let twice = means(&[a.clone(), b.clone(), a.clone()]);
        assert_eq!(
            (&twice[0].seeds[..], &twice[0].members[..]),
            (&[0, 1][..], &[0, 2, 1][..])
        );
        assert_eq!(
            twice[0].success_rate,
            means(&[a.clone(), b])[0].success_rate
        );
        assert!(means(&[a.clone(), a]).is_empty());
    }

    #[test]
    fn models_of_one_recipe_after_other_steps_are_no_seeds_of_each_other() {
        let mut runs = [run(0, 0.3), run(1, 0.5), run(0, 0.6), run(1, 0.9)];
        for run in &mut runs[2..] {
            training(run).steps = 5;
        }
        let means = means(&runs);
        let members: Vec<_> = means.iter().map(|mean| &mean.members[..]).collect();
        assert_eq!(members, [[2, 3], [0, 1]]);
        let scored: Vec<Scored> = runs
            .iter()
            .map(|run| Scored::new(run, String::new()))
            .collect();
        let pairs: Vec<_> = runs.iter().map(|run| &run.record).zip(&scored).collect();
        assert_eq!(recipes(&pairs), [[0, 1, 2, 3]]);
    }

    #[test]
    fn the_best_recipe_comes_first() {
        let other = |seed, share| {
            let mut run = run(seed, share);
            training(&mut run).config_hash = Some("another".into());
            run
        };
        let mut runs = [run(0, 0.3), other(0, 0.9), run(1, 0.3), other(1, 0.9)];
        let both = means(&runs);
        assert_eq!(
            (&both[0].members[..], &both[1].members[..]),
            (&[1, 3][..], &[0, 2][..])
        );
        let labels = |means: &[SeedMean]| [means[0].label.clone(), means[1].label.clone()];
        assert_eq!(
            labels(&both),
            ["pldm, mean of 2 seeds #1", "pldm, mean of 2 seeds #2"]
        );
        for k in [1, 3] {
            training(&mut runs[k]).steps = 5;
        }
        let apart = [
            "pldm, mean of 2 seeds, 5 steps",
            "pldm, mean of 2 seeds, 9000 steps",
        ];
        assert_eq!(labels(&means(&runs)), apart);
    }
}
