//! State distance: how far from the goal an episode ends (evaluation.md section 4.1, `ep_state_dist`).

use super::MetricEntry;

/// The line in [`super::METRICS`].
pub const ENTRY: MetricEntry = MetricEntry {
    name: "final_distance",
    summary: "distance between the last state and the goal state",
    unit: "the environment's unit (Wall: pixels)",
    higher_is_better: false,
};

/// Distance after the last step. `distances` holds the distance after the reset and after each step,
/// `[M + 1]`; `None` when no step was made or a distance is not finite.
pub fn final_distance(distances: &[f64]) -> Option<f64> {
    let (_, after_steps) = distances.split_first()?;
    let is_sound = distances.iter().all(|distance| distance.is_finite());
    after_steps.last().copied().filter(|_| is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_distance_counts() {
        assert_eq!(final_distance(&[9.0, 2.0, 3.0]), Some(3.0));
    }

    #[test]
    fn an_episode_without_steps_or_with_nan_has_no_distance() {
        assert_eq!(final_distance(&[9.0]), None);
        assert_eq!(final_distance(&[]), None);
        assert_eq!(final_distance(&[9.0, f64::NAN, 3.0]), None);
    }
}
