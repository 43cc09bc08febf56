//! What there is to imitate in a slice: from a frame, with a later frame as the goal, the actions that were taken.
//!
//! The goal is drawn in hindsight: whatever frame came later was reached, so the actions on the way there are a
//! demonstration of how to reach it. Goals and masks are drawn from streams of their own per step and slice, so they do
//! not depend on threads, on the size of a batch, or on the parts that it is split into.

use jepa_datasets::Stream;

use crate::train::Moment;

/// A demonstration: the actions from frame `start` of slice `slice` on, to be found again by who sees the frames `start`
/// and `goal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Example {
    /// Slice of the batch.
    pub slice: usize,
    /// Frame of the slice.
    pub start: usize,
    /// Later frame of the slice.
    pub goal: usize,
}

/// The stream `name` of a slice of the present step.
fn stream(moment: &Moment, name: &str, slice: usize) -> Stream {
    let slice = moment.first_slice + slice;
    Stream::new(
        moment.seed,
        &[name, &moment.step.to_string(), &slice.to_string()],
    )
}

/// One example from each of the first `starts` frames of every slice, its goal drawn from the frames after it up to the
/// last, `horizon`.
pub(crate) fn examples(
    moment: &Moment,
    slices: usize,
    starts: usize,
    horizon: usize,
) -> Vec<Example> {
    let of_slice = |slice| {
        let mut stream = stream(moment, "goals", slice);
        let example = move |start: usize| Example {
            slice,
            start,
            goal: start + 1 + stream.below((horizon - start) as u64) as usize,
        };
        (0..starts).map(example)
    };
    (0..slices).flat_map(of_slice).collect()
}

/// Which of the tokens that a decoder is shown are masked, `share` of them on average: those of slice after slice,
/// `per_slice` each.
pub(crate) fn masks(moment: &Moment, slices: usize, per_slice: usize, share: f64) -> Vec<bool> {
    let of_slice = |slice| {
        let mut stream = stream(moment, "masks", slice);
        (0..per_slice).map(move |_| stream.uniform() < share)
    };
    (0..slices).flat_map(of_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Moment = Moment {
        seed: 5,
        step: 12,
        progress: 0.0,
        first_slice: 0,
    };

    #[test]
    fn goals_are_drawn_from_all_later_frames() {
        let found = examples(&MOMENT, 400, 3, 4);
        assert_eq!(found.len(), 1200);
        for start in 0..3 {
            for goal in 0..=4 {
                let is_it = |example: &&Example| (example.start, example.goal) == (start, goal);
                let count = found.iter().filter(is_it).count() as f64;
                let expected = if goal > start {
                    400.0 / (4 - start) as f64
                } else {
                    0.0
                };
                // Four standard deviations of a count of 400 draws.
                assert!((count - expected).abs() <= 40.0, "{start} {goal}: {count}");
                assert!((count > 0.0) == (expected > 0.0));
            }
        }
    }

    #[test]
    fn as_many_tokens_are_masked_as_was_asked_for() {
        let share = |share| {
            let masks = masks(&MOMENT, 100, 81, share);
            masks.iter().filter(|masked| **masked).count() as f64 / masks.len() as f64
        };
        assert!((share(0.4) - 0.4).abs() < 0.02, "{}", share(0.4));
        assert!(share(0.0).abs() < f64::EPSILON);
    }

    #[test]
    fn draws_of_a_slice_do_not_depend_on_its_batch() {
        let later = Moment {
            first_slice: 3,
            ..MOMENT
        };
        let whole = masks(&MOMENT, 8, 20, 0.4);
        assert_eq!(whole[..60], masks(&MOMENT, 3, 20, 0.4));
        assert_eq!(whole[60..], masks(&later, 5, 20, 0.4));
        let goals = |moment: &Moment, slices| -> Vec<usize> {
            let found = examples(moment, slices, 6, 6);
            found.iter().map(|example| example.goal).collect()
        };
        let whole = goals(&MOMENT, 8);
        assert_eq!(whole[..18], goals(&MOMENT, 3));
        assert_eq!(whole[18..], goals(&later, 5));
        // Another step draws others.
        let next = Moment { step: 13, ..MOMENT };
        assert_ne!(masks(&next, 8, 20, 0.4), masks(&MOMENT, 8, 20, 0.4));
        assert_ne!(goals(&next, 8), whole);
    }
}
