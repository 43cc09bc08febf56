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
    use std::sync::Arc;

    use jepa_datasets::Normalizer;

    use super::super::loader::SliceSource;
    use super::super::testing::{ROWS, SIDE, dataset};
    use super::super::{NamedArray, Pixels};
    use super::*;
    use crate::pldm::DataShape;

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

    /// Images and proprio of a batch of views of `testing::dataset`.
    fn batch(source: &SliceSource, count: usize) -> [NamedArray; 2] {
        let arrays = source.read(&mut Draws::of_step(7, 3), count).unwrap();
        let [images, _, proprio, _] = arrays.named();
        [images, proprio]
    }

    #[test]
    fn views_are_near_frames_of_one_trajectory_and_the_same_in_a_larger_batch() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = Arc::new(dataset(&folder.path().join("data")));
        let identity = || Normalizer::identity(2);
        let source = SliceSource::of_views(
            &dataset,
            "train",
            Views {
                count: 3,
                window: 6,
            },
            (identity(), identity()),
            DataShape {
                height: SIDE,
                width: SIDE,
                action_dim: 2,
                proprio_dim: 2,
            },
            Arc::new(Pixels {
                height: SIDE,
                width: SIDE,
            }),
        )
        .unwrap();
        let [images, proprio] = batch(&source, 400);
        assert_eq!(images.shape, [400 * 3, 3, SIDE, SIDE]);
        let middle = SIDE / 2 * SIDE + SIDE / 2;
        let mut reach = BTreeSet::new();
        for (images, rows) in images
            .values
            .chunks_exact(3 * 3 * SIDE * SIDE)
            .zip(proprio.values.chunks_exact(3 * 2))
        {
            let seen: Vec<usize> = images
                .chunks_exact(3 * SIDE * SIDE)
                .map(|frame| (255.0 - 255.0 * frame[middle]).round() as usize)
                .collect();
            let said: Vec<usize> = rows
                .chunks_exact(2)
                .map(|row| row[0] as usize * ROWS + row[1] as usize)
                .collect();
            assert_eq!(seen, said, "frames and rows are of the same moments");
            let episodes: BTreeSet<usize> = seen.iter().map(|number| number / ROWS).collect();
            let distinct: BTreeSet<usize> = seen.iter().copied().collect();
            assert!(episodes.len() == 1 && distinct.len() == 3, "{seen:?}");
            reach.insert(distinct.last().unwrap() - distinct.first().unwrap());
        }
        assert_eq!(reach, BTreeSet::from([2, 3, 4, 5]));

        let [few, _] = batch(&source, 5);
        assert_eq!(few.values[..], images.values[..few.values.len()]);
    }
}
