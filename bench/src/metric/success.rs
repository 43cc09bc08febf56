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
/// whether it is at the goal, `[M + 1]`; the state after the reset never counts.
///
/// `None` when no step was made.
pub fn succeeded(rule: SuccessRule, at_goal: &[bool]) -> Option<bool> {
    let (_, after_steps) = at_goal.split_first()?;
    let last = after_steps.last()?;
    Some(match rule {
        SuccessRule::Final => *last,
        SuccessRule::Any => after_steps.contains(&true),
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
        assert_eq!(succeeded(SuccessRule::Final, &oscillating), Some(false));
        assert_eq!(succeeded(SuccessRule::Any, &oscillating), Some(true));
    }

    #[test]
    fn the_state_after_the_reset_does_not_count() {
        for rule in [SuccessRule::Final, SuccessRule::Any] {
            assert_eq!(succeeded(rule, &[true, false]), Some(false));
            assert_eq!(succeeded(rule, &[true]), None);
            assert_eq!(succeeded(rule, &[]), None);
            assert_eq!(succeeded(rule, &[false, true]), Some(true));
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
