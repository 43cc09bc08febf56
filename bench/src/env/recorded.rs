//! Recorded robot episodes without a simulator: how near planned actions come to the recorded ones (evaluation.md section 1.6).
//!
//! An episode is a short clip of a dataset of poses: its first frame, the frame some model steps later as the goal, and the
//! recorded changes of pose between them. The robot does what was recorded, whatever is planned: a step adds the planned
//! action to a sum, and the frame is the next recorded one. The state keeps the sums of both, so the distance between two
//! states is the action error of the paper: `sum over x, y, z of |sum_t planned - sum_t recorded|`, which does not depend on
//! the path.

use std::path::Path;
use std::sync::Arc;

use jepa_datasets::pose::{Pose, deltas};
use jepa_datasets::{Column, Dataset, Pixels, STATE, Stream};
use serde::Deserialize;

use super::{
    Behaviour, Env, EnvEntry, Fields, Image, Limits, Outcome, PLANNER_SIZE, Size, Start,
    check_vector, numpy_seed, settings, unknown_behaviour,
};
use crate::{Error, Result};

/// The line in [`super::ENVIRONMENTS`].
pub const ENTRY: EnvEntry = EnvEntry {
    name: "recorded",
    summary: "recorded robot episodes without a simulator: planned against recorded actions (DROID)",
    limits: LIMITS,
    check: |table| RecordedConfig::from_table(table).map(drop),
    build: |table| {
        Ok(Box::new(Recorded::open(RecordedConfig::from_table(
            table,
        )?)?))
    },
    behaviours: &[],
    outside: true,
    fields: Fields {
        camera: "recorded",
        action: [
            "metres, radians, 1",
            "change of x, y, z, three Euler angles and the gripper",
        ],
        proprio: [
            "metres, radians, 1",
            "x, y, z, three Euler angles and opening of the gripper",
        ],
        state: [
            "rows, metres, radians, 1",
            "episode, first row, steps, sums of planned actions (7), per-step error of the position so far",
        ],
    },
};

/// Numbers of a pose and of an action.
const POSE: usize = 7;
/// Where the sums of planned actions are in a state.
const SUMS: std::ops::Range<usize> = 3..3 + POSE;
/// Where the per-step error is in a state.
const STEP_ERROR: usize = 3 + POSE;

const LIMITS: Limits = Limits {
    state_width: STEP_ERROR + 1,
    proprio_width: POSE,
    action_width: POSE,
    native_size: PLANNER_SIZE,
    nominal_action: 0.1,
    settles: false,
    normalizer: "droid",
    distance_unit: "metres, summed over x, y and z",
    oracle_cost: "squared action error of the position",
};

/// What the settings are, for errors.
const KNOWN: &str = "`recorded` knows `stride` (rows per model step), `clip_frames`, `goal_steps`, `success_distance` in metres, \
                     `frame_size` and `camera`; the dataset comes from `--data`";

/// Settings of recorded episodes; the defaults are those of the DROID evaluation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordedConfig {
    /// Dataset of poses; a run gives it with `--data`.
    pub data: Option<String>,
    /// Rows from one frame that counts to the next: 30 recorded frames a second to 4.
    pub stride: usize,
    /// Frames of the window that a clip is drawn from; it ends before the end of the episode.
    pub clip_frames: usize,
    /// Model steps from the first frame to the goal.
    pub goal_steps: usize,
    /// An action error below this counts as success; the published number is the action score.
    pub success_distance: f64,
    /// Rows and columns of a frame: the middle square of the recorded one, resized.
    pub frame_size: usize,
    /// Camera; the first of the dataset when left out.
    pub camera: Option<String>,
}

impl Default for RecordedConfig {
    fn default() -> Self {
        Self {
            data: None,
            stride: 8,
            clip_frames: 5,
            goal_steps: 3,
            success_distance: 0.05,
            frame_size: PLANNER_SIZE,
            camera: None,
        }
    }
}

impl RecordedConfig {
    /// Reads the `[environment]` table of a task, without its `name`.
    ///
    /// # Errors
    /// When a key is unknown or a value out of range.
    pub fn from_table(table: &toml::Table) -> Result<Self> {
        let config: Self = settings::read(table, KNOWN)?;
        settings::positive("success_distance", config.success_distance, KNOWN)?;
        if config.stride == 0 || config.frame_size == 0 || config.goal_steps == 0 {
            return Err(settings::invalid(
                "`stride`, `goal_steps` and `frame_size` must be at least 1",
                KNOWN,
            ));
        }
        if config.clip_frames <= config.goal_steps {
            let detail = format!(
                "a clip of {} frames does not hold {} steps",
                config.clip_frames, config.goal_steps
            );
            return Err(settings::invalid(&detail, KNOWN));
        }
        Ok(config)
    }

    /// Rows of the window that a clip is drawn from.
    fn window(&self) -> usize {
        self.stride * self.clip_frames
    }
}

/// Recorded episodes of a dataset.
#[derive(Debug, Clone)]
pub struct Recorded {
    config: RecordedConfig,
    dataset: Arc<Dataset>,
    camera: String,
    /// Episodes that are longer than the window, with their rows.
    episodes: Arc<Vec<(u64, usize)>>,
    state: Vec<f64>,
    /// Poses from the first row of the clip on, `stride` rows apart.
    poses: Vec<Pose>,
}

impl Recorded {
    /// Opens the dataset.
    ///
    /// # Errors
    /// When there is none, it holds no poses or no such camera, or no episode is long enough.
    pub fn open(config: RecordedConfig) -> Result<Self> {
        let Some(path) = config.data.as_deref() else {
            return Err(Error::Config {
                what: "environment `recorded`".into(),
                detail: "it shows recorded episodes, and no dataset is named".into(),
                hint: Some("add `--data DST` (`rollout`: `--set data=DST`), a dataset made by `jepa-bench ingest droid` or `ingest franka`".into()),
            });
        };
        let dataset = Dataset::open(Path::new(path))?;
        let unfit = |detail: String| Error::Config {
            what: format!("dataset `{path}`"),
            detail,
            hint: Some(
                "pass a dataset of poses, made by `jepa-bench ingest droid` or `ingest franka`"
                    .into(),
            ),
        };
        let fields = &dataset.manifest().draft.fields;
        let width = fields
            .iter()
            .find(|field| field.name == STATE)
            .map_or(0, jepa_datasets::Field::width);
        if width != POSE {
            return Err(unfit(format!(
                "its states have {width} numbers, a pose has {POSE}"
            )));
        }
        let camera = dataset
            .manifest()
            .camera(config.camera.as_deref())?
            .name
            .clone();
        let window = config.window();
        let long = dataset
            .episodes()
            .iter()
            .map(|episode| (episode.episode_index, episode.length as usize));
        let long: Vec<(u64, usize)> = long.filter(|(_, length)| *length > window).collect();
        if long.is_empty() {
            return Err(unfit(format!(
                "none of its episodes has more than {window} rows"
            )));
        }
        let mut recorded = Self {
            config,
            camera,
            dataset: Arc::new(dataset),
            episodes: Arc::new(long),
            state: vec![0.0; LIMITS.state_width],
            poses: Vec::new(),
        };
        let first = recorded.sample(0)?;
        recorded.reset_to(&first.init)?;
        Ok(recorded)
    }

    /// The poses of a clip.
    fn clip(&self, episode: u64, first: usize) -> Result<Vec<Pose>> {
        let steps = self.config.goal_steps;
        let rows = self
            .dataset
            .read_rows(episode, first..first + steps * self.config.stride + 1)?;
        let values = rows.get(STATE).map(Column::to_f64).unwrap_or_default();
        Ok(values
            .as_chunks::<POSE>()
            .0
            .iter()
            .step_by(self.config.stride)
            .copied()
            .collect())
    }

    fn steps(&self) -> usize {
        self.state[2] as usize
    }

    /// The middle square of a recorded frame.
    fn square(&self) -> Result<Image> {
        let row = self.state[1] as usize + self.steps() * self.config.stride;
        let camera = self.dataset.manifest().camera(Some(&self.camera))?;
        let (height, width) = (camera.height, camera.width);
        let pixels = self
            .dataset
            .read_frames(&self.camera, self.state[0] as u64, &[row])?;
        let rgb = match pixels {
            Pixels::U8(rgb) => rgb,
            // Frames kept as floats are numbers of 0 to 255.
            Pixels::F32(values) => values
                .into_iter()
                .map(|value| (value + 0.5) as u8)
                .collect(),
        };
        let whole = Image { height, width, rgb };
        let side = height.min(width);
        Ok(whole.cropped((height - side) / 2, (width - side) / 2, side, side))
    }
}

/// The action errors between two states: of the position, of the rotation, and of the gripper.
///
/// Each is the sum over its components of `|sum_t a_t - sum_t b_t|` (evaluation.md section 1.6).
pub fn action_errors(goal: &[f64], state: &[f64]) -> [f64; 3] {
    let apart: Vec<f64> = SUMS.map(|at| (goal[at] - state[at]).abs()).collect();
    [apart[..3].iter().sum(), apart[3..6].iter().sum(), apart[6]]
}

/// The error of the position, step by step: `mean_t sum_xyz |planned_t - recorded_t|`. It is not the published number.
pub fn action_error_per_step(state: &[f64]) -> Option<f64> {
    (state[2] > 0.0).then(|| state[STEP_ERROR] / state[2])
}

impl Env for Recorded {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn limits(&self) -> Limits {
        Limits {
            native_size: self.config.frame_size,
            ..LIMITS
        }
    }

    fn reset_to(&mut self, state: &[f64]) -> Result<()> {
        check_vector("state of `recorded`", state, LIMITS.state_width)?;
        let [episode, first, steps] = [state[0], state[1], state[2]];
        let whole = |value: f64| value >= 0.0 && value.fract() == 0.0;
        let known = self
            .episodes
            .iter()
            .find(|(index, _)| whole(episode) && *index == episode as u64);
        let reach = (self.config.goal_steps * self.config.stride) as f64;
        let inside =
            known.is_some_and(|(_, length)| whole(first) && first + reach < *length as f64);
        if !(inside && whole(steps) && steps <= self.config.goal_steps as f64) {
            return Err(Error::Invalid {
                what: "state of `recorded`".into(),
                detail: format!(
                    "episode {episode}, row {first}, step {steps} is not in the dataset"
                ),
            });
        }
        self.poses = self.clip(episode as u64, first as usize)?;
        self.state = state.to_vec();
        Ok(())
    }

    fn step(&mut self, action: &[f64]) -> Result<Outcome> {
        check_vector("action of `recorded`", action, POSE)?;
        let at = self.steps();
        let recorded = self.poses.get(at..at + 2).map(deltas);
        let Some([recorded]) = recorded.as_deref() else {
            return Err(Error::Invalid {
                what: "step of `recorded`".into(),
                detail: format!("the clip ends after {at} steps"),
            });
        };
        for (sum, planned) in self.state[SUMS].iter_mut().zip(action) {
            *sum += planned;
        }
        let apart = action
            .iter()
            .zip(recorded)
            .take(3)
            .map(|(planned, recorded)| (planned - recorded).abs());
        self.state[STEP_ERROR] += apart.sum::<f64>();
        self.state[2] += 1.0;
        Ok(Outcome {
            reward: 0.0,
            nan_guard: false,
        })
    }

    fn state(&self) -> &[f64] {
        &self.state
    }

    fn proprio(&self) -> Vec<f32> {
        self.poses[self.steps()]
            .iter()
            .map(|&value| value as f32)
            .collect()
    }

    fn render(&self, size: Size) -> Result<Image> {
        let side = match size {
            Size::Native => self.config.frame_size,
            Size::Planner => PLANNER_SIZE,
        };
        Ok(self.square()?.resized(side))
    }

    /// A uniform episode among those that are longer than the window, a window that ends before its last row, and a
    /// beginning in it; the distributions are those of the release, the random numbers our own.
    fn sample(&self, seed: u64) -> Result<Start> {
        let seed = numpy_seed(seed, ENTRY.name)?;
        let mut stream = Stream::new(u64::from(seed), &["goal", ENTRY.name]);
        let (episode, length) = self.episodes[stream.below(self.episodes.len() as u64) as usize];
        let window = self.config.window();
        let ends = stream.below((length - window) as u64) as usize;
        let offsets = self.config.clip_frames - self.config.goal_steps;
        let first = ends + self.config.stride * stream.below(offsets as u64) as usize;
        let clip = self.clip(episode, first)?;
        let mut init = vec![0.0; LIMITS.state_width];
        (init[0], init[1]) = (episode as f64, first as f64);
        let mut goal = init.clone();
        goal[2] = self.config.goal_steps as f64;
        for step in deltas(&clip) {
            for (sum, value) in goal[SUMS].iter_mut().zip(step) {
                *sum += value;
            }
        }
        Ok(Start {
            init,
            goal,
            way: Vec::new(),
        })
    }

    fn success(&self, goal: &[f64], state: &[f64]) -> bool {
        state[2] > 0.0 && self.state_distance(goal, state) < self.config.success_distance
    }

    /// The action error of the position.
    fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64 {
        action_errors(goal, state)[0]
    }

    fn behaviour(&self, name: &str, _stream: Stream) -> Result<Box<dyn Behaviour>> {
        Err(unknown_behaviour(name, &ENTRY))
    }

    /// The recorded action.
    fn expert(&self) -> Result<Vec<f64>> {
        let at = self.steps();
        let recorded = self.poses.get(at..at + 2).map(deltas);
        match recorded.as_deref() {
            Some([action]) => Ok(action.to_vec()),
            _ => Err(Error::Invalid {
                what: "expert of `recorded`".into(),
                detail: format!("the clip ends after {at} steps"),
            }),
        }
    }

    fn duplicate(&self) -> Result<Box<dyn Env>> {
        Ok(Box::new(self.clone()))
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers must agree to the last bit")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jepa_datasets::{
        ACTION, Camera, CameraFrames, Codec, DatasetWriter, Dtype, Episode, Field, ManifestDraft,
        PROPRIO, PixelType, Source, SplitRule, WriterOptions,
    };

    use super::*;

    const HEIGHT: usize = 6;
    const WIDTH: usize = 10;

    /// The pose of a row: position, turn about z, gripper.
    fn pose(episode: u64, row: usize) -> Pose {
        let (e, t) = (episode as f64, row as f64);
        [
            0.01 * t,
            0.3 - 0.002 * t * (1.0 + e),
            0.1 * libm::sin(0.2 * t),
            0.0,
            0.0,
            0.01 * t,
            (0.02 * t).min(1.0),
        ]
    }

    /// Two episodes of 60 rows, and one that is too short; every pixel of a frame holds its row, red the column.
    fn dataset(folder: &Path) -> String {
        let manifest = ManifestDraft {
            source: Source {
                name: "droid".into(),
                url: None,
                revision: None,
                inputs: BTreeMap::new(),
            },
            fields: vec![
                Field::action(POSE, "m", "change of pose"),
                Field::proprio(POSE, "m", "pose"),
                Field::state(Dtype::F64, POSE, "m", "pose"),
            ],
            cameras: vec![Camera::new("left", HEIGHT, WIDTH, PixelType::U8)],
            fps: 30.0,
            control_hz: None,
            extra_last_obs: false,
            licence: None,
            citation: None,
            notes: Vec::new(),
        };
        let path = folder.join("data");
        let options = WriterOptions {
            manifest,
            codec: Codec::Lossless,
            overwrite: false,
            total_episodes: 3,
            selection: None,
        };
        let writer = DatasetWriter::open(&path, options).unwrap();
        for (episode, rows) in [(0, 60), (1, 60), (2, 40)] {
            let poses: Vec<f64> = (0..rows).flat_map(|row| pose(episode, row)).collect();
            let singles: Vec<f32> = poses.iter().map(|&value| value as f32).collect();
            let pixel = |row: usize, at: usize| [(at % WIDTH) as u8, row as u8, episode as u8];
            let frames =
                (0..rows).flat_map(|row| (0..HEIGHT * WIDTH).flat_map(move |at| pixel(row, at)));
            let columns = [
                (
                    ACTION,
                    Column::F32 {
                        width: POSE,
                        values: vec![0.0; rows * POSE],
                    },
                ),
                (
                    PROPRIO,
                    Column::F32 {
                        width: POSE,
                        values: singles,
                    },
                ),
                (
                    STATE,
                    Column::F64 {
                        width: POSE,
                        values: poses,
                    },
                ),
            ];
            let cameras = CameraFrames {
                camera: "left".into(),
                height: HEIGHT,
                width: WIDTH,
                count: rows,
                pixels: frames.collect::<Vec<u8>>().into(),
            };
            let accepted = writer.accept(Episode {
                source_index: episode,
                source_path: format!("{episode}"),
                source_hash: String::new(),
                task: "test".into(),
                seed: None,
                length: rows,
                columns: columns
                    .into_iter()
                    .map(|(name, column)| (name.to_string(), column))
                    .collect(),
                cameras: vec![cameras],
                extras: BTreeMap::new(),
            });
            accepted.unwrap();
        }
        writer.finish(&SplitRule::JEPA_WMS).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn open(folder: &Path) -> Recorded {
        let config = RecordedConfig {
            data: Some(dataset(folder)),
            ..RecordedConfig::default()
        };
        Recorded::open(config).unwrap()
    }

    #[test]
    fn an_episode_is_a_clip_of_four_frames_eight_rows_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut env = open(folder.path());
        let mut beginnings = BTreeSet::new();
        for seed in 0..400 {
            let Start { init, goal, .. } = env.sample(seed).unwrap();
            let (episode, first) = (init[0] as u64, init[1] as usize);
            // A window of 40 rows that ends before the last row, and one of two beginnings in it.
            assert!(episode < 2 && first < 20 + 8, "{init:?}");
            beginnings.insert((episode, first));
            let (from, to) = (pose(episode, first), pose(episode, first + 24));
            for axis in 0..3 {
                assert!((goal[3 + axis] - (to[axis] - from[axis])).abs() < 1e-12);
            }
            assert!(
                (goal[8] - 0.24).abs() < 1e-9,
                "the turn about z is {}",
                goal[8]
            );
            env.reset_to(&goal).unwrap();
            assert_eq!(
                env.square().unwrap().pixel(0, 0),
                [2, (first + 24) as u8, episode as u8]
            );
        }
        assert_eq!(beginnings.len(), 2 * 28);
    }

    #[test]
    fn the_recorded_actions_have_no_error_and_others_what_the_paper_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut env = open(folder.path());
        let start = env.sample(5).unwrap();
        start.enter(&mut env).unwrap();
        let mut recorded = Vec::new();
        for _ in 0..3 {
            recorded.push(env.expert().unwrap());
            env.step(recorded.last().unwrap()).unwrap();
        }
        assert!(env.expert().is_err() && env.step(&[0.0; POSE]).is_err());
        assert_eq!(env.state_distance(&start.goal, env.state()), 0.0);
        assert!(env.success(&start.goal, env.state()));
        assert_eq!(action_error_per_step(env.state()), Some(0.0));

        // The same actions in another order: the path does not count, the steps do.
        start.enter(&mut env).unwrap();
        for at in [1, 2, 0] {
            env.step(&recorded[at]).unwrap();
        }
        assert!(env.state_distance(&start.goal, env.state()) < 1e-12);
        let apart = |a: &[f64], b: &[f64]| {
            a.iter()
                .zip(b)
                .take(3)
                .map(|(a, b)| (a - b).abs())
                .sum::<f64>()
        };
        let expected =
            [(1, 0), (2, 1), (0, 2)].map(|(planned, at)| apart(&recorded[planned], &recorded[at]));
        let found = action_error_per_step(env.state()).unwrap();
        assert!((found - expected.iter().sum::<f64>() / 3.0).abs() < 1e-12 && found > 0.01);

        // Nothing at all: errors are the recorded changes.
        start.enter(&mut env).unwrap();
        for _ in 0..3 {
            env.step(&[0.0; POSE]).unwrap();
        }
        let [position, rotation, gripper] = action_errors(&start.goal, env.state());
        assert_eq!(
            position,
            start.goal[3..6]
                .iter()
                .map(|value| value.abs())
                .sum::<f64>()
        );
        assert!((rotation - 0.24).abs() < 1e-9 && gripper > 0.0);
        assert!(!env.success(&start.goal, env.state()));
    }

    #[test]
    fn frames_are_the_middle_square_of_the_recorded_ones_whatever_is_planned() {
        let folder = tempfile::tempdir().unwrap();
        let mut env = open(folder.path());
        let start = env.sample(2).unwrap();
        start.enter(&mut env).unwrap();
        env.step(&[0.7; POSE]).unwrap();
        let square = env.square().unwrap();
        assert_eq!((square.height, square.width), (6, 6));
        let row = (start.init[1] as usize + 8) as u8;
        assert_eq!(
            (square.pixel(0, 0), square.pixel(5, 5)),
            (
                [2, row, square.pixel(0, 0)[2]],
                [7, row, square.pixel(0, 0)[2]]
            )
        );
        assert_eq!(env.render(Size::Native).unwrap(), square.resized(224));
        let expected: Vec<f32> = pose(start.init[0] as u64, usize::from(row))
            .map(|value| value as f32)
            .to_vec();
        assert_eq!(env.proprio(), expected);
    }

    #[test]
    fn states_outside_the_dataset_and_data_without_poses_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut env = open(folder.path());
        let state = |episode: f64, first: f64, steps: f64| {
            let mut state = vec![0.0; LIMITS.state_width];
            state[..3].copy_from_slice(&[episode, first, steps]);
            state
        };
        env.reset_to(&state(1.0, 35.0, 3.0)).unwrap();
        for wrong in [
            state(2.0, 0.0, 0.0),
            state(0.5, 0.0, 0.0),
            state(1.0, 36.0, 0.0),
            state(1.0, -1.0, 0.0),
            state(1.0, 0.0, 4.0),
        ] {
            assert!(env.reset_to(&wrong).is_err(), "{wrong:?}");
        }
        assert!(env.sample(1 << 32).is_err());
        let open = |text: &str| Recorded::open(RecordedConfig::from_table(&text.parse().unwrap())?);
        assert!(open("").unwrap_err().hint().unwrap().contains("--data DST"));
        assert!(open("clip_frames = 3").is_err() && open("stride = 0").is_err());
        let data = env.config.data.clone().unwrap();
        let long = open(&format!("data = \"{data}\"\nstride = 20"))
            .unwrap_err()
            .to_string();
        assert!(long.contains("more than 100 rows"), "{long}");
    }
}
