//! Frames that show nothing (datasets.md section 16, case 33): a camera that was covered, or an image that a
//! failed rendering left black. They are reported and never dropped.

use rayon::prelude::*;
use serde::Serialize;

use crate::{Dataset, EpisodeMeta, Pixels, Result};

/// A frame whose values have a smaller standard deviation shows nothing: one step of 255.
pub const BLANK_STD: f64 = 1.0;

/// Frames of one camera in one episode that show nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlankFrames {
    /// Episode index.
    pub episode: u64,
    /// Name of the camera.
    pub camera: String,
    /// How many frames show nothing.
    pub blank: u64,
    /// How many frames there are.
    pub frames: u64,
    /// Number of the first of them.
    pub first: u64,
}

/// Episodes with frames that show nothing, in order. Every frame is read, one at a time.
///
/// # Errors
/// When a frame cannot be read.
pub fn blank_frames(dataset: &Dataset) -> Result<Vec<BlankFrames>> {
    let of_episode = |meta: &EpisodeMeta| -> Result<Vec<BlankFrames>> {
        let cameras = meta.frames.keys();
        let found = cameras.map(|camera| of_camera(dataset, meta, camera));
        Ok(found
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    };
    let found: Result<Vec<Vec<BlankFrames>>> =
        dataset.episodes().par_iter().map(of_episode).collect();
    Ok(found?.concat())
}

fn of_camera(dataset: &Dataset, meta: &EpisodeMeta, camera: &str) -> Result<Option<BlankFrames>> {
    let frames = meta.frames.get(camera).map_or(0, |range| range.count);
    let mut found: Option<BlankFrames> = None;
    for frame in 0..frames {
        let pixels = dataset.read_frames(camera, meta.episode_index, &[frame as usize])?;
        if std_of(&pixels).is_none_or(|std| std >= BLANK_STD) {
            continue;
        }
        let blank = found.get_or_insert_with(|| BlankFrames {
            episode: meta.episode_index,
            camera: camera.to_string(),
            blank: 0,
            frames,
            first: frame,
        });
        blank.blank += 1;
    }
    Ok(found)
}

/// Standard deviation of all values, with the divisor `n`; nothing of nothing.
fn std_of(pixels: &Pixels) -> Option<f64> {
    let (sum, squares) = match pixels {
        Pixels::U8(values) => sums(values.iter().map(|&v| f64::from(v))),
        Pixels::F32(values) => sums(values.iter().map(|&v| f64::from(v))),
    };
    let n = pixels.len() as f64;
    // Values are at most 255: the squares of a frame are far from the end of what an f64 counts exactly.
    (n > 0.0).then(|| (squares / n - (sum / n).powi(2)).max(0.0).sqrt())
}

fn sums(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_all_values() {
        let std = |values: &[u8]| std_of(&Pixels::U8(values.to_vec()));
        assert_eq!(std(&[]), None);
        assert_eq!(std(&[7]), Some(0.0));
        assert_eq!(std(&[255; 300]), Some(0.0));
        assert_eq!(std(&[1, 3, 1, 3]), Some(1.0));
        assert_eq!(std_of(&Pixels::F32(vec![0.5, 1.5])), Some(0.5));
    }
}
