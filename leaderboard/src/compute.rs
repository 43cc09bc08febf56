//! Score against compute: what a success rate cost to plan.

use serde::{Deserialize, Serialize};

use crate::record::{CONFIDENCE, RunRecord};
use crate::run::Run;
use crate::statistics::{Interval, wilson};

/// One run in a plot of score against compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputePoint {
    /// Name to print.
    pub label: String,
    /// Share of the episodes that reached the goal.
    pub success_rate: f64,
    /// Wilson 95% interval of that share.
    pub interval: Interval,
    /// Candidate model steps imagined per episode, the same on every machine; 0 for policies that do not plan.
    pub candidate_steps: f64,
    /// Wall-clock seconds per plan on the machine of the run; `None` without plans or timings.
    pub seconds_per_plan: Option<f64>,
    /// Whether no other run of the list has a higher success rate for as many candidate steps or less, or the same for
    /// less.
    pub on_front: bool,
}

/// The runs of one task by what they imagined, in the order given; runs without episodes are left out.
pub fn score_against_compute(runs: &[(&Run, String)]) -> Vec<ComputePoint> {
    let points = runs.iter().filter_map(|(run, label)| point(run, label));
    with_front(points.collect())
}

/// As [`score_against_compute`] from records alone, as a board has them. They do not say how many plans there were, so
/// `seconds_per_plan` is missing.
pub fn score_against_compute_of_records(records: &[(&RunRecord, String)]) -> Vec<ComputePoint> {
    let point = |(record, label): &(&RunRecord, String)| {
        let summary = &record.summary;
        Some(ComputePoint {
            label: label.clone(),
            success_rate: summary.success_rate,
            interval: wilson(summary.successes, summary.episodes, CONFIDENCE)?,
            candidate_steps: summary.candidate_steps as f64 / summary.episodes as f64,
            seconds_per_plan: None,
            on_front: false,
        })
    };
    with_front(records.iter().filter_map(point).collect())
}

fn with_front(mut points: Vec<ComputePoint>) -> Vec<ComputePoint> {
    let on_front: Vec<bool> = points
        .iter()
        .map(|point| !points.iter().any(|other| beats(other, point)))
        .collect();
    for (point, on_front) in points.iter_mut().zip(on_front) {
        point.on_front = on_front;
    }
    points
}

fn beats(other: &ComputePoint, point: &ComputePoint) -> bool {
    let at_least =
        other.success_rate >= point.success_rate && other.candidate_steps <= point.candidate_steps;
    at_least
        && (other.success_rate > point.success_rate
            || other.candidate_steps < point.candidate_steps)
}

fn point(run: &Run, label: &str) -> Option<ComputePoint> {
    let episodes = run.episodes.len() as u64;
    let successes = run.episodes.iter().filter(|row| row.success).count() as u64;
    let steps: u64 = run.episodes.iter().map(|row| row.candidate_steps).sum();
    let plans: u64 = run.episodes.iter().map(|row| u64::from(row.plans)).sum();
    let seconds: f64 = run.timings.iter().map(|row| row.plan_seconds).sum();
    let timed = plans > 0 && run.timings.len() == run.episodes.len();
    Some(ComputePoint {
        label: label.into(),
        success_rate: successes as f64 / episodes as f64,
        interval: wilson(successes, episodes, CONFIDENCE)?,
        candidate_steps: steps as f64 / episodes as f64,
        seconds_per_plan: timed.then(|| seconds / plans as f64),
        on_front: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SyntheticRun;

    fn run(name: &str, share: f64) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let synthetic = SyntheticRun::new(name, 20).reaching(share);
        Run::load(&synthetic.write(folder.path()).unwrap()).unwrap()
    }

    #[test]
    fn compute_is_counted_per_episode_and_timed_per_plan() {
        let mut model = run("pldm", 0.9);
        for row in &mut model.episodes {
            row.plans = 4;
        }
        for row in &mut model.timings {
            row.plan_seconds = 6.0;
        }
        let floor = run("floor:random", 0.0);
        let points = score_against_compute(&[(&model, "m".into()), (&floor, "f".into())]);
        // 30 iterations of 300 candidates over 6 steps; 6 seconds for 4 plans.
        assert_eq!(points[0].candidate_steps, 54_000.0);
        assert_eq!(points[0].seconds_per_plan, Some(1.5));
        assert_eq!(
            (points[1].candidate_steps, points[1].seconds_per_plan),
            (0.0, None)
        );
        model.timings.pop();
        let untimed = score_against_compute(&[(&model, "m".into())]);
        assert_eq!(untimed[0].seconds_per_plan, None);
        model.episodes.clear();
        assert!(score_against_compute(&[(&model, "m".into())]).is_empty());
    }

    #[test]
    fn records_alone_say_the_same_but_for_the_clock() {
        let runs = [run("pldm", 0.9), run("floor:random", 0.0)];
        let labelled = runs
            .each_ref()
            .map(|run| (run, run.record.model.label.clone()));
        let records = runs
            .each_ref()
            .map(|run| (&run.record, run.record.model.label.clone()));
        let mut expected = score_against_compute(&labelled);
        assert!(expected[0].seconds_per_plan.is_some());
        expected[0].seconds_per_plan = None;
        assert_eq!(score_against_compute_of_records(&records), expected);
    }

    #[test]
    fn the_front_is_what_nothing_beats_for_less() {
        let (good, cheap) = (run("good", 0.9), run("cheap", 0.5));
        let mut wasteful = run("cheap", 0.5);
        let mut cheap = cheap;
        for row in &mut cheap.episodes {
            row.candidate_steps = 10;
        }
        wasteful.episodes[0].candidate_steps += 1;
        let labelled = [&good, &cheap, &wasteful, &good].map(|run| (run, String::new()));
        let front: Vec<bool> = score_against_compute(&labelled)
            .iter()
            .map(|point| point.on_front)
            .collect();
        assert_eq!(front, [true, true, false, true]);
    }
}
