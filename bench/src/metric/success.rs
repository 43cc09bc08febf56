//! Success: did an episode reach its goal, and how often do episodes (evaluation.md section 4.1, 4.2).

use jepa_leaderboard::{CONFIDENCE, Interval, wilson};

use super::MetricEntry;
use crate::protocol::SuccessRule;

/// The line in [`super::METRICS`].
pub const ENTRY: MetricEntry = MetricEntry {
    name: "success_rate",
    summary: "share of episodes that reach their goal, with its Wilson 95% interval",
    unit: "[0, 1]",
    higher_is_better: true,
};

/// Whether an episode succeeded. `at_goal` says for the state after the reset and after each step
/// whether it is at the goal, `[M + 1]`; the state after the reset never counts. `plan_steps` is the number of steps that
/// are executed per plan.
///
/// `None` when no step was made.
pub fn succeeded(rule: SuccessRule, at_goal: &[bool], plan_steps: usize) -> Option<bool> {
    let (_, after_steps) = at_goal.split_first()?;
    let last = after_steps.last()?;
    Some(match rule {
        SuccessRule::Final => *last,
        SuccessRule::Any => after_steps.contains(&true),
        SuccessRule::Plan => after_steps
            .chunks(plan_steps.max(1))
            .any(|plan| plan.last() == Some(&true)),
    })
}

/// A success rate and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Episodes that succeeded.
    pub successes: u64,
    /// Episodes.
    pub episodes: u64,
    /// `successes / episodes`, in `[0, 1]`.
    pub value: f64,
    /// Wilson 95% interval.
    pub interval: Interval,
}

/// The success rate of a set of episodes; `None` when it is empty.
pub fn rate(outcomes: &[bool]) -> Option<Rate> {
    let episodes = outcomes.len() as u64;
    let successes = outcomes.iter().filter(|&&outcome| outcome).count() as u64;
    let interval = wilson(successes, episodes, CONFIDENCE)?;
    Some(Rate {
        successes,
        episodes,
        value: successes as f64 / episodes as f64,
        interval,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaching_and_leaving_the_goal_is_no_final_success() {
        let oscillating = [false, true, false, true, false];
        assert_eq!(succeeded(SuccessRule::Final, &oscillating, 4), Some(false));
        assert_eq!(succeeded(SuccessRule::Any, &oscillating, 4), Some(true));
    }

    #[test]
    fn ends_of_plans_count_where_plans_count() {
        let of_plan = |at_goal: &[bool]| succeeded(SuccessRule::Plan, at_goal, 2).unwrap();
        // The reset, two plans of two steps, and one that the budget cuts short.
        assert!(of_plan(&[false, false, true, false, false, false]));
        assert!(of_plan(&[false, false, false, false, false, true]));
        assert!(!of_plan(&[true, true, false, true, false, false]));
    }

    #[test]
    fn the_state_after_the_reset_does_not_count() {
        for rule in [SuccessRule::Final, SuccessRule::Any, SuccessRule::Plan] {
            assert_eq!(succeeded(rule, &[true, false], 5), Some(false));
            assert_eq!(succeeded(rule, &[true], 5), None);
            assert_eq!(succeeded(rule, &[], 5), None);
            assert_eq!(succeeded(rule, &[false, true], 5), Some(true));
        }
    }

    #[test]
    fn the_rate_is_a_share_inside_its_interval() {
        let found = rate(&[true, false, true, true]).unwrap();
        assert_eq!((found.successes, found.episodes, found.value), (3, 4, 0.75));
        assert!(found.interval.low < 0.75 && found.interval.high > 0.75);
        assert_eq!(rate(&[]), None);
    }
}
