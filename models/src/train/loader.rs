//! Batches of trajectory slices, read ahead of the training loop.
//!
//! A batch depends on nothing but the seed and the step, so a resumed run draws the same
//! ones. A thread reads and converts while the optimiser works; the time the loop still waits is
//! measured.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::pose::deltas;
use jepa_datasets::transform::Transform;
use jepa_datasets::{
    Column, Dataset, Normalizer, Order, PROPRIO, Pixels as Frames, SliceIndex, SliceRef, SliceSpec,
    Stream,
};
use rayon::prelude::*;

use super::config::{CrossingConfig, TrainConfig};
use super::views::{Draws, Views};
use super::{FrameInput, NamedArray, SliceTensors};
use crate::encoder::conv::frames_to_input;
use crate::pldm::DataShape;
use crate::{Error, Result};

/// Numbers of a pose, and of a change of pose.
const POSE: usize = 7;
/// Batches that wait, ready, for the optimiser.
const READ_AHEAD: usize = 4;

/// The slices that a run trains on.
pub fn training_slices(config: &TrainConfig) -> SliceSpec {
    slices("train", config.rows_per_step(), config.training.horizon)
}

/// The pixels of frames of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels {
    pub height: usize,
    pub width: usize,
}

impl FrameInput for Pixels {
    fn shape(&self) -> [usize; 3] {
        [3, self.height, self.width]
    }

    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>> {
        Ok(frames_to_input(rgb, self.height, self.width))
    }
}

/// Frames resized by a released transform.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transformed {
    pub transform: Transform,
    pub height: usize,
    pub width: usize,
}

impl FrameInput for Transformed {
    fn shape(&self) -> [usize; 3] {
        [3, self.transform.size, self.transform.size]
    }

    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>> {
        let frames = rgb.par_chunks_exact(3 * self.height * self.width);
        let transformed = frames.flat_map_iter(|frame| {
            let values: Vec<f32> = frame.iter().map(|v| f32::from(*v)).collect();
            self.transform.apply(&values, self.height, self.width)
        });
        Ok(transformed.collect())
    }
}

fn slices(split: &str, frameskip: usize, horizon: usize) -> SliceSpec {
    SliceSpec {
        context: horizon,
        frameskip,
        split: split.to_string(),
        order: Order::Sequential,
        last_block: false,
        camera: None,
    }
}

/// Slices of one split of a dataset, converted for a model.
#[derive(Debug, Clone)]
pub(crate) struct SliceSource {
    dataset: Arc<Dataset>,
    spec: SliceSpec,
    index: Arc<SliceIndex>,
    action: Normalizer,
    proprio: Normalizer,
    shape: DataShape,
    input: Arc<dyn FrameInput>,
    /// Slices drawn for part of each batch, see [`CrossingConfig`].
    crossing: Option<(f64, Arc<Vec<SliceRef>>)>,
    /// Whether an action is the change of pose from one frame to the next.
    poses: bool,
    /// Frames that are drawn from every slice, in place of all of them.
    views: Option<Views>,
}

/// Slices in host memory.
#[derive(Debug, Clone)]
pub(crate) struct SliceArrays {
    /// `[B * (H + 1), C, h, w]`
    images: Vec<f32>,
    /// `[C, h, w]`
    input: [usize; 3],
    /// `[B, H, A]`, normalised
    actions: Vec<f32>,
    /// Proprio of the frames, `[B, H + 1, P]`, native units
    pub proprio: Vec<f32>,
    /// Proprio of all rows, `[B, H * f + 1, P]`, native units
    rows_proprio: Vec<f32>,
    proprio_normalizer: Normalizer,
    slices: usize,
    horizon: usize,
    shape: DataShape,
    block: usize,
}

impl SliceArrays {
    /// A batch of made-up numbers.
    pub(crate) fn synthetic(
        config: &TrainConfig,
        shape: DataShape,
        proprio_normalizer: Normalizer,
        noise: &mut dyn FnMut(usize) -> Vec<f32>,
    ) -> Self {
        let (slices, horizon) = (config.training.batch, config.training.horizon);
        let (frames, rows) = (horizon + 1, horizon * config.frameskip() + 1);
        let block = config.frameskip() * shape.action_dim;
        Self {
            images: noise(slices * frames * 3 * shape.height * shape.width),
            input: [3, shape.height, shape.width],
            actions: noise(slices * horizon * block),
            proprio: noise(slices * frames * shape.proprio_dim),
            rows_proprio: noise(slices * rows * shape.proprio_dim),
            proprio_normalizer,
            slices,
            horizon,
            shape,
            block,
        }
    }

    /// Number of slices.
    pub(crate) fn slices(&self) -> usize {
        self.slices
    }

    /// The arrays of the batch by their names in [`SliceTensors`]; proprio in native units.
    pub(crate) fn named(&self) -> [NamedArray; 4] {
        let frames = self.slices * (self.horizon + 1);
        let [channels, height, width] = self.input;
        let proprio = self.shape.proprio_dim;
        let rows = self.rows_proprio.len() / (self.slices * proprio).max(1);
        let array = |name: &str, shape: &[usize], values: &[f32]| NamedArray {
            name: name.to_string(),
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        [
            array("images", &[frames, channels, height, width], &self.images),
            array(
                "actions",
                &[self.slices, self.horizon, self.block],
                &self.actions,
            ),
            array("proprio", &[frames, proprio], &self.proprio),
            array(
                "rows_proprio",
                &[self.slices, rows, proprio],
                &self.rows_proprio,
            ),
        ]
    }

    /// The batch in `count` parts of as many slices, which is a divisor of their number.
    pub(crate) fn parts(&self, count: usize) -> Vec<Cow<'_, Self>> {
        if count <= 1 {
            return vec![Cow::Borrowed(self)];
        }
        let slices = self.slices / count;
        let part = |values: &[f32], index: usize| {
            let length = values.len() / count;
            values[index * length..(index + 1) * length].to_vec()
        };
        let parts = (0..count).map(|index| {
            Cow::Owned(Self {
                images: part(&self.images, index),
                actions: part(&self.actions, index),
                proprio: part(&self.proprio, index),
                rows_proprio: part(&self.rows_proprio, index),
                proprio_normalizer: self.proprio_normalizer.clone(),
                slices,
                ..*self
            })
        });
        parts.collect()
    }

    /// Copies to the device.
    pub(crate) fn to_device(&self, device: &Device) -> SliceTensors {
        let [channels, height, width] = self.input;
        let frames = self.slices * (self.horizon + 1);
        let images = TensorData::new(self.images.clone(), [frames, channels, height, width]);
        let actions = TensorData::new(
            self.actions.clone(),
            [self.slices, self.horizon, self.block],
        );
        let normalised = |values: &[f32]| {
            let mut values = values.to_vec();
            self.proprio_normalizer.normalize(&mut values);
            values
        };
        let width = self.shape.proprio_dim;
        let rows = self.rows_proprio.len() / (self.slices * width).max(1);
        let proprio = TensorData::new(normalised(&self.proprio), [frames, width]);
        let rows_proprio =
            TensorData::new(normalised(&self.rows_proprio), [self.slices, rows, width]);
        SliceTensors {
            images: Tensor::from_data(images, device),
            actions: Tensor::from_data(actions, device),
            proprio: Tensor::from_data(proprio, device),
            rows_proprio: Tensor::from_data(rows_proprio, device),
        }
    }
}

impl SliceSource {
    /// Slices of `horizon` model steps of `split`, drawn uniformly.
    pub(crate) fn new(
        dataset: &Arc<Dataset>,
        split: &str,
        frameskip: usize,
        horizon: usize,
        normalizers: (Normalizer, Normalizer),
        shape: DataShape,
        input: Arc<dyn FrameInput>,
    ) -> Result<Self> {
        let (action, proprio) = normalizers;
        let spec = slices(split, frameskip, horizon);
        let index = Arc::new(dataset.slices(&spec)?);
        if index.is_empty() {
            return Err(Error::Config {
                key: "training.horizon",
                detail: format!(
                    "no episode of split `{split}` is long enough for {horizon} steps of {frameskip} rows"
                ),
            });
        }
        let dataset = Arc::clone(dataset);
        Ok(Self {
            dataset,
            spec,
            index,
            action,
            proprio,
            shape,
            input,
            crossing: None,
            poses: false,
            views: None,
        })
    }

    /// The windows of `split` with frames that are drawn from them. There are no actions between drawn frames: a batch
    /// has zeros in their place.
    pub(crate) fn of_views(
        dataset: &Arc<Dataset>,
        split: &str,
        views: Views,
        normalizers: (Normalizer, Normalizer),
        shape: DataShape,
        input: Arc<dyn FrameInput>,
    ) -> Result<Self> {
        let steps = views.window - 1;
        let windows = Self::new(dataset, split, 1, steps, normalizers, shape, input)?;
        Ok(Self {
            views: Some(views),
            ..windows
        })
    }

    /// Takes the change of pose from one frame to the next for the action between them.
    pub(crate) fn with_poses(mut self) -> Result<Self> {
        let widths = [self.shape.action_dim, self.dataset.manifest().state_width];
        if widths != [POSE; 2] {
            return Err(Error::Config {
                key: "training.pose_stride",
                detail: format!(
                    "needs poses of {POSE} numbers as states, and their changes as actions; the data has {} and {}",
                    widths[1], widths[0]
                ),
            });
        }
        self.poses = true;
        Ok(self)
    }

    /// Numbers of an action block.
    fn block(&self) -> usize {
        if self.poses {
            return POSE;
        }
        self.spec.frameskip * self.shape.action_dim
    }

    /// Draws a share of each batch from the slices in which a field crosses a value.
    pub(crate) fn with_crossing(mut self, config: &CrossingConfig) -> Result<Self> {
        let mut found = Vec::new();
        for episode in &self.dataset.split(&self.spec.split)?.episodes {
            found.extend(self.crossings(*episode, config)?);
        }
        if found.is_empty() {
            return Err(Error::Config {
                key: "training.crossing",
                detail: format!(
                    "no slice of `{}` crosses {} in dimension {} of `{}`",
                    self.spec.split, config.value, config.dimension, config.field
                ),
            });
        }
        self.crossing = Some((config.share, Arc::new(found)));
        Ok(self)
    }

    /// Slices of an episode with rows on both sides of the value.
    fn crossings(&self, episode: u64, config: &CrossingConfig) -> Result<Vec<SliceRef>> {
        let length = self.dataset.episode(episode)?.length as usize;
        let columns = self.dataset.read_rows(episode, 0..length)?;
        let column = columns
            .get(&config.field)
            .filter(|c| config.dimension < c.width());
        let Some(column) = column else {
            return Err(Error::Config {
                key: "training.crossing",
                detail: format!(
                    "field `{}` has no dimension {}",
                    config.field, config.dimension
                ),
            });
        };
        let values = column.to_f64();
        let above: Vec<bool> = values
            .chunks_exact(column.width())
            .map(|row| row[config.dimension] > config.value)
            .collect();
        let starts = above.windows(self.spec.rows()).enumerate();
        let crossing = starts.filter(|(_, window)| window.iter().any(|a| *a != window[0]));
        Ok(crossing
            .map(|(start, _)| SliceRef { episode, start })
            .collect())
    }

    /// Number of slices.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// `count` slices drawn with replacement.
    fn draw(&self, stream: &mut Stream, count: usize) -> Vec<SliceRef> {
        let mut below = |n: usize| stream.below(n as u64) as usize;
        let crossing = self
            .crossing
            .as_ref()
            .map_or(0, |(share, _)| (share * count as f64).round() as usize);
        (0..count)
            .map(|i| match &self.crossing {
                Some((_, slices)) if i < crossing => slices[below(slices.len())],
                _ => self.index.get(below(self.index.len())),
            })
            .collect()
    }

    /// Reads and converts `count` slices.
    pub(crate) fn read(&self, draws: &mut Draws, count: usize) -> Result<SliceArrays> {
        let horizon = self
            .views
            .map_or(self.spec.context, |views| views.count - 1);
        let block = self.block();
        let mut arrays = SliceArrays {
            images: Vec::new(),
            input: self.input.shape(),
            actions: Vec::with_capacity(count * horizon * block),
            proprio: Vec::with_capacity(count * (horizon + 1) * self.shape.proprio_dim),
            rows_proprio: Vec::with_capacity(count * self.spec.rows() * self.shape.proprio_dim),
            proprio_normalizer: self.proprio.clone(),
            slices: count,
            horizon,
            shape: self.shape,
            block,
        };
        let stored = self.input.is_stored();
        let pixels = (horizon + 1) * 3 * self.shape.height * self.shape.width;
        let mut frames = Vec::with_capacity(if stored { 0 } else { count * pixels });
        for at in self.draw(&mut draws.slices, count) {
            let rows = self
                .dataset
                .read_rows(at.episode, at.start..at.start + self.spec.rows())?;
            let proprio = rows.get(PROPRIO).map(Column::to_f32).unwrap_or_default();
            if let Some(views) = self.views {
                let places = views.draw(&mut draws.views());
                self.read_views(at, &places, &proprio, &mut arrays, &mut frames)?;
            } else {
                self.read_slice(at, &mut arrays, &mut frames)?;
            }
            arrays.rows_proprio.extend(proprio);
        }
        if !stored {
            arrays.images = self.input.convert(&frames)?;
        }
        if self.views.is_none() {
            self.action.normalize(&mut arrays.actions);
        }
        Ok(arrays)
    }

    /// Adds a slice to a batch: its input where that is stored, or else its frames to those that are to be converted.
    fn read_slice(
        &self,
        at: SliceRef,
        arrays: &mut SliceArrays,
        frames: &mut Vec<u8>,
    ) -> Result<()> {
        let slice = if self.input.is_stored() {
            let slice = self.dataset.read_slice_rows(&self.spec, at)?;
            let input = self.input.stored(at.episode, &slice.rows)?;
            arrays.images.extend(input);
            slice
        } else {
            let mut slice = self.dataset.read_slice(&self.spec, at)?;
            let pixels = std::mem::replace(&mut slice.frames, Frames::U8(Vec::new()));
            frames.extend(pixels.into_u8());
            slice
        };
        if self.poses {
            arrays.actions.extend(pose_changes(&slice.state));
        } else {
            arrays.actions.extend(slice.action);
        }
        arrays.proprio.extend(slice.proprio);
        Ok(())
    }

    /// Adds the frames at `places` of a window with this proprio, without actions.
    fn read_views(
        &self,
        at: SliceRef,
        places: &[usize],
        proprio: &[f32],
        arrays: &mut SliceArrays,
        frames: &mut Vec<u8>,
    ) -> Result<()> {
        let camera = &self.dataset.manifest().camera(None)?.name;
        let seen: Vec<usize> = places.iter().map(|place| at.start + place).collect();
        let pixels = self.dataset.read_frames(camera, at.episode, &seen)?;
        frames.extend(pixels.into_u8());
        let width = self.shape.proprio_dim;
        for place in places {
            let row = proprio.get(place * width..(place + 1) * width);
            arrays.proprio.extend(row.unwrap_or_default());
        }
        let zeros = (places.len() - 1) * self.spec.frameskip * self.shape.action_dim;
        arrays.actions.resize(arrays.actions.len() + zeros, 0.0);
        Ok(())
    }
}

/// The changes from one pose to the next, in single precision (datasets.md section 9.6).
fn pose_changes(poses: &[f64]) -> Vec<f32> {
    let (poses, _) = poses.as_chunks::<POSE>();
    let steps = deltas(poses).into_iter().flatten();
    steps.map(|number| number as f32).collect()
}

/// Reads the batches of steps `first..=last` ahead of the training loop.
pub(crate) struct Prefetcher {
    receiver: Receiver<Result<SliceArrays>>,
    waited: Duration,
}

impl Prefetcher {
    /// Starts the reading thread. A step always gets the same slices.
    pub(crate) fn start(
        source: SliceSource,
        seed: u64,
        batch: usize,
        steps: std::ops::RangeInclusive<u64>,
    ) -> Self {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        std::thread::spawn(move || {
            for step in steps {
                let read = source.read(&mut Draws::of_step(seed, step), batch);
                let failed = read.is_err();
                // The loop hangs up when it ends early; there is nobody left to read for.
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self {
            receiver,
            waited: Duration::ZERO,
        }
    }

    /// The next batch.
    pub(crate) fn next(&mut self) -> Result<SliceArrays> {
        let start = Instant::now();
        let batch = self.receiver.recv();
        self.waited += start.elapsed();
        batch.unwrap_or_else(|_| {
            Err(Error::Config {
                key: "training.steps",
                detail: "the reading thread stopped early".into(),
            })
        })
    }

    /// Time the training loop spent waiting for data.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SIDE, dataset};
    use super::*;

    #[test]
    fn batches_have_the_same_hash_on_one_and_two_threads_and_from_whatever_step_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = Arc::new(dataset(&folder.path().join("data")));
        let shape = DataShape {
            height: SIDE,
            width: SIDE,
            action_dim: 2,
            proprio_dim: 2,
        };
        let input = Arc::new(Pixels {
            height: SIDE,
            width: SIDE,
        });
        let scales = (Normalizer::identity(2), Normalizer::identity(2));
        let source = SliceSource::new(&dataset, "train", 2, 3, scales, shape, input).unwrap();
        let hash = |batch: &SliceArrays| {
            let mut hasher = blake3::Hasher::new();
            for array in batch.named() {
                for value in array.values {
                    hasher.update(&value.to_le_bytes());
                }
            }
            hasher.finalize()
        };
        let read = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let steps = 1..=6;
                let read = steps.map(|step| source.read(&mut Draws::of_step(7, step), 5).unwrap());
                read.map(|batch| hash(&batch)).collect::<Vec<_>>()
            })
        };
        let one = read(1);
        assert_eq!(one, read(2));
        assert!(one.windows(2).all(|two| two[0] != two[1]), "{one:?}");
        // A run that continues after step 3 sees what it would have seen.
        let mut ahead = Prefetcher::start(source.clone(), 7, 5, 4..=6);
        for expected in &one[3..] {
            assert_eq!(hash(&ahead.next().unwrap()), *expected);
        }
        let other_seed = source.read(&mut Draws::of_step(8, 1), 5).unwrap();
        assert_ne!(hash(&other_seed), one[0]);
    }

    #[test]
    fn changes_of_pose_are_those_of_the_rows_that_a_slice_has() {
        // datasets.md section 17: a turn over the end of the circle is no difference of angles.
        let poses = [
            [0.1, 0.2, 0.3, 3.0, 0.1, -1.9, 0.6],
            [1.1, 0.2, -0.7, -3.1, 0.05, -1.85, 1.0],
            [1.1, 0.2, -0.7, -3.1, 0.05, -1.85, 0.5],
        ];
        let found = pose_changes(poses.as_flattened());
        let turned = [
            1.0,
            0.0,
            -1.0,
            -0.106_037_78,
            -0.157_193_12,
            0.044_590_574,
            0.4,
        ];
        let closed = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5];
        assert_eq!(found.len(), 14);
        for (found, expected) in found.iter().zip(turned.iter().chain(&closed)) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
