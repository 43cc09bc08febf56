//! Views of a moment, drawn among its neighbours in time.
//!
//! An encoder that learns from views of one thing needs some for a frame. Crops would hide the agent of a small scene
//! (models.md section 8.4), so its views are frames of the same trajectory, a few steps apart.

use jepa_datasets::Stream;

/// Which frames are views of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Views {
    /// Views of a sample, at most as many as the window has frames.
    pub count: usize,
    /// Consecutive frames of one trajectory that they are drawn from.
    pub window: usize,
}

impl Views {
    /// Places of the views in a window, all different.
    pub(crate) fn draw(self, stream: &mut Stream) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.window).collect();
        stream.shuffle(&mut places);
        places.truncate(self.count);
        places
    }
}

/// What a batch is drawn from: its slices one after the other, and the views of each slice from a stream of its own, so
/// that they do not depend on the size of the batch.
#[derive(Debug)]
pub(crate) struct Draws {
    /// Slices.
    pub slices: Stream,
    seed: u64,
    batch: String,
    viewed: u64,
}

impl Draws {
    /// Of a training step, from the streams `data_order` and `views`.
    pub(crate) fn of_step(seed: u64, step: u64) -> Self {
        let batch = step.to_string();
        Self {
            slices: Stream::new(seed, &["data_order", &batch]),
            seed,
            batch,
            viewed: 0,
        }
    }

    /// Of all batches of a validation: the same for every seed, so that errors can be compared.
    pub(crate) fn of_validation(name: &str) -> Self {
        Self {
            slices: Stream::new(0, &["validation", name]),
            seed: 0,
            batch: format!("validation {name}"),
            viewed: 0,
        }
    }

    /// The stream of the views of the next slice.
    pub(crate) fn views(&mut self) -> Stream {
        let slice = self.viewed.to_string();
        self.viewed += 1;
        Stream::new(self.seed, &["views", &self.batch, &slice])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn views_are_different_frames_of_their_window_and_reach_all_of_it() {
        let views = Views {
            count: 3,
            window: 5,
        };
        let mut draws = Draws::of_step(7, 1);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let places = views.draw(&mut draws.views());
            let distinct: BTreeSet<usize> = places.iter().copied().collect();
            assert!(distinct.len() == 3 && places.len() == 3, "{places:?}");
            assert!(distinct.iter().all(|place| *place < 5), "{places:?}");
            seen.insert(places);
        }
        // 5 * 4 * 3 ordered choices: 200 draws leave out three of them on average.
        assert!(seen.len() > 45, "{}", seen.len());
    }

    #[test]
    fn the_views_of_a_slice_depend_on_seed_step_and_place_in_the_batch_alone() {
        let views = Views {
            count: 4,
            window: 64,
        };
        let drawn = |mut draws: Draws, count: usize| -> Vec<Vec<usize>> {
            (0..count)
                .map(|_| {
                    draws.slices.next_u64();
                    views.draw(&mut draws.views())
                })
                .collect()
        };
        let eight = drawn(Draws::of_step(7, 3), 8);
        assert_eq!(eight[..3], drawn(Draws::of_step(7, 3), 3));
        assert_ne!(eight[0], eight[1]);
        assert_ne!(eight, drawn(Draws::of_step(7, 4), 8));
        assert_ne!(eight, drawn(Draws::of_step(8, 3), 8));
        assert_ne!(
            drawn(Draws::of_validation("train"), 2),
            drawn(Draws::of_validation("val"), 2)
        );
    }
}
