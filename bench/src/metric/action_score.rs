//! Action score: how near plans come to recorded actions, without a simulator (evaluation.md section 1.6).

use std::collections::BTreeMap;

use jepa_leaderboard::EpisodeRow;

use super::MetricEntry;
use crate::env::recorded::{action_error_per_step, action_errors};

/// The line in [`super::METRICS`].
pub const ENTRY: MetricEntry = MetricEntry {
    name: "action_score",
    summary: "800 (0.1 - E), not below 0, with E the mean action error of the position over the episodes",
    unit: "[0, 80]",
    higher_is_better: true,
};

/// The score of a mean action error of the position, in metres. The map is applied to the mean, then cut off at 0.
pub fn action_score(mean_error: f64) -> f64 {
    (800.0 * (0.1 - mean_error)).max(0.0)
}

/// The score, and the mean errors of position, rotation and gripper, and of the position step by step. Nothing without
/// episodes.
pub(super) fn all(rows: &[EpisodeRow]) -> BTreeMap<String, f64> {
    if rows.is_empty() {
        return BTreeMap::new();
    }
    let mean = |value: &dyn Fn(&EpisodeRow) -> f64| {
        rows.iter().map(value).sum::<f64>() / rows.len() as f64
    };
    let error = |part: usize| mean(&|row| action_errors(&row.goal, &row.final_state)[part]);
    let per_step = mean(&|row| action_error_per_step(&row.final_state).unwrap_or_default());
    let named = [
        ("action_score", action_score(error(0))),
        ("action_error_position", error(0)),
        ("action_error_rotation", error(1)),
        ("action_error_gripper", error(2)),
        ("action_error_per_step", per_step),
    ];
    named.map(|(name, value)| (name.to_string(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_of_an_error_is_the_papers() {
        // evaluation.md section 8.6.
        for (error, score) in [(0.0, 80.0), (0.04, 48.0), (0.1, 0.0), (0.2, 0.0)] {
            assert!((action_score(error) - score).abs() < 1e-12, "{error}");
        }
    }

    fn row(planned: [f64; 7], recorded: [f64; 7], per_step: f64) -> EpisodeRow {
        let state = |sums: [f64; 7], steps: f64, error: f64| {
            [&[0.0, 5.0, steps], &sums[..], &[error]].concat()
        };
        EpisodeRow {
            episode: 0,
            seed: 1,
            init: state([0.0; 7], 0.0, 0.0),
            goal: state(recorded, 3.0, 0.0),
            final_state: state(planned, 3.0, per_step),
            success: false,
            success_any: false,
            final_distance: 0.0,
            distances: Vec::new(),
            states: Vec::new(),
            actions: Vec::new(),
            plans: 1,
            world_model_calls: 0,
            candidate_steps: 0,
            cost_best: Vec::new(),
            cost_elite_mean: Vec::new(),
            cost_elite_std: Vec::new(),
        }
    }

    #[test]
    fn errors_are_means_over_episodes_and_the_score_is_that_of_the_mean() {
        let recorded = [0.1, -0.1, 0.0, 0.2, 0.0, 0.0, 1.0];
        let rows = [
            row([0.1, -0.08, 0.01, 0.1, 0.05, 0.0, 0.5], recorded, 0.3),
            row([0.1, -0.1, 0.25, 0.2, 0.0, 0.0, 1.0], recorded, 0.6),
        ];
        let found = all(&rows);
        let close = |name: &str, expected: f64| {
            let value = found[name];
            assert!((value - expected).abs() < 1e-12, "{name}: {value}");
        };
        close("action_error_position", f64::midpoint(0.03, 0.25));
        close("action_error_rotation", 0.15 / 2.0);
        close("action_error_gripper", 0.25);
        close("action_error_per_step", f64::midpoint(0.1, 0.2));
        // The second episode alone is beyond the cut, and so is the mean: scores are not averaged.
        close("action_score", 0.0);
        assert!(all(&[]).is_empty());
        let better = all(&rows[..1]);
        assert!((better["action_score"] - 56.0).abs() < 1e-9, "{better:?}");
    }
}
