//! Robocasa demonstrations in robomimic's layout (datasets.md section 11).
//!
//! ```text
//! combine_all_im256.hdf5
//!   data/demo_<n>/                       in the order of n
//!     actions                  [T, 12]   end effector 3 + 3, gripper, base 4, mode
//!     rewards                  [T]
//!     states                   [T, K]    of MuJoCo, K differs from demo to demo
//!     obs/robot0_eef_pos       [T, 3]    metres
//!     obs/robot0_eef_quat      [T, 4]    x, y, z, w
//!     obs/robot0_gripper_qpos  [T, 2]    metres
//!     obs/<camera>_image       [T, h, w, 3], bytes
//!     meta_data_info/current_task_segment [T]
//!   mask/<key>                           names of demos
//! ```
//!
//! The reference loader takes the quaternion's numbers in the wrong order; `compat_quaternion` repeats
//! that. Images of cameras named `right` are turned by half a turn, as that loader does. Simulator states
//! are kept when they are asked for (datasets.md section 11.2), as they are: a column of one width, so all
//! demos that are read must have states of that width.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Alignment, Column, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO, REWARD,
    STATE, SplitRule, catalog,
};
use serde_json::Value;

use super::hdf5_release::{RESIZED, camera, find_files, one_camera, read_images, size_of_file};
use super::port::{Port, declared};
use super::support::{Hash, refuse, relative};
use super::window::{CLIP_FPS, FpsMode, Window};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::hdf5::{self, Data, Group};
use crate::container::mapped::FileBytes;
use crate::pose::{QuaternionOrder, quaternion_to_euler};
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "robocasa",
    summary: "Robocasa demonstrations in robomimic's HDF5: a file, or a folder of them",
    details: "\
SRC is a robomimic HDF5 file such as `combine_all_im256.hdf5`, or a folder of them:

  data/demo_<n>/                          in the order of n
    actions                  [T, 12]
    obs/robot0_eef_pos       [T, 3]       obs/robot0_eef_quat      [T, 4]
    obs/robot0_gripper_qpos  [T, 2]       obs/<camera>_image       [T, h, w, 3]

The reference loader takes the quaternion's numbers in the wrong order; here they are right,
unless --compat-quaternion asks for the error. Images of cameras named `right` are turned by half
a turn, as that loader does. Segments and masks are kept with the episodes.

--simulator-states keeps `states` [T, K], the flattened state of MuJoCo, as the column `state` of
K 64-bit numbers. K is a matter of the kitchen and differs between demos; nothing is padded or
cut. If the demos differ, the command stops and lists which episodes have which K: select some of
one K with --episodes A..B. A demo without states is then rejected, with its reason.

Examples:
  jepa-bench ingest robocasa raw/robocasa data/robocasa --camera robot0_leftview
  jepa-bench ingest robocasa raw/robocasa data/robocasa.0 --simulator-states --episodes 0..4",
    options: &[
        "camera",
        "frames-per-clip",
        "compat-quaternion",
        "simulator-states",
    ],
    open: |root, options| Ok(Box::new(RobocasaSource::open(root, options)?)),
};

/// Control steps per second where the file does not say.
pub const CONTROL_HZ: f64 = 20.0;

/// Numbers of an action that the reference loader uses.
const ACTION_WIDTH: usize = 7;
/// Column of the whole action.
const ACTION_FULL: &str = "action_full";
/// States of the simulator.
const STATES: &str = "states";
/// Column of the segment of the task.
const SEGMENT: &str = "segment";
/// Where the segment of the task is kept.
const SEGMENTS: [&str; 4] = [
    "meta_data_info/current_task_segment",
    "meta_data_info/meta_info_current_task_segment",
    "meta_info_current_task_segment",
    "obs/meta_info_current_task_segment",
];
/// Segment of rows of a demo that has none.
const NO_SEGMENT: i64 = -1;
/// Ending of the images of a camera.
const IMAGE: &str = "_image";
/// The cameras of the reference configurations, custom and public.
const CAMERAS: [&str; 2] = ["robot0_leftview", "robot0_agentview_left"];
/// Files of more bytes together are not hashed.
const MOST_HASHED: u64 = 16 << 30;
/// Task of a file that names none.
const TASK: &str = "PnPCounterTop";
/// Endings of the names of released files; the first kind that there is counts.
const RELEASED: [&str; 4] = ["im256.hdf5", "im128.hdf5", "im128_randcams.hdf5", ".hdf5"];

/// Subtasks and the segments that they consist of: 0 reach, 1 pick, 2 place (datasets.md section 11.3).
pub const SUBTASKS: [(&str, &[i64]); 6] = [
    ("reach", &[0]),
    ("pick", &[1]),
    ("place", &[2]),
    ("reach-pick", &[0, 1]),
    ("pick-place", &[1, 2]),
    ("reach-pick-place", &[0, 1, 2]),
];

/// Rows of an episode that belong to a subtask; nothing for an unknown subtask, or when the episode lacks
/// one of its segments.
pub fn subtask_rows(segments: &[i64], subtask: &str) -> Option<Vec<usize>> {
    let (_, needed) = SUBTASKS.iter().find(|(name, _)| *name == subtask)?;
    if !needed.iter().all(|segment| segments.contains(segment)) {
        return None;
    }
    let rows = segments.iter().enumerate();
    let inside = rows.filter(|(_, segment)| needed.contains(segment));
    Some(inside.map(|(row, _)| row).collect())
}

/// An opened release.
pub struct RobocasaSource {
    root: PathBuf,
    files: Vec<File>,
    demos: Vec<Demo>,
    layout: Layout,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// One file of demonstrations.
struct File {
    path: PathBuf,
    /// Its `data` group; nothing where the file cannot be opened.
    data: Option<Group>,
    /// Demos of every mask.
    masks: Vec<(String, BTreeSet<String>)>,
    env: Option<Value>,
}

/// One demonstration, or a file that cannot be opened.
struct Demo {
    file: usize,
    number: Option<u64>,
}

/// What every episode has, taken from the first demo that has it.
struct Layout {
    camera: String,
    native: Option<[usize; 2]>,
    action_width: usize,
    has_reward: bool,
    has_segments: bool,
    /// Width of the simulator's states, where they are kept.
    state_width: Option<usize>,
}

impl RobocasaSource {
    /// Opens a file or a folder of files.
    ///
    /// # Errors
    /// When no file can be opened, or none holds a demo.
    pub fn open(src: &Path, options: SourceOptions) -> Result<Self> {
        refuse(
            "task",
            &options.tasks,
            "this source has no tasks to choose from",
        )?;
        let (root, paths) = find(src)?;
        let mut files = Vec::new();
        let mut first_fault = None;
        for path in paths {
            let opened = File::open(&path);
            files.push(opened.unwrap_or_else(|fault| {
                first_fault.get_or_insert(fault);
                File::unreadable(path)
            }));
        }
        let demos = demos(&files);
        if demos.iter().all(|demo| demo.number.is_none()) {
            return Err(first_fault.unwrap_or_else(|| Error::Nothing {
                path: src.to_path_buf(),
                detail: "no file has a group `data/demo_<n>`".into(),
            }));
        }
        let mut layout = Layout::find(&files, &demos, one_camera(&options)?);
        if options.simulator_states {
            layout.state_width = Some(state_width(src, &files, &demos, &options)?);
        }
        let mut manifest = declare(&layout, &files, &options);
        add_inputs(&mut manifest, &root, &files);
        Ok(Self {
            root,
            files,
            demos,
            layout,
            options,
            manifest,
        })
    }

    /// The file of an episode, and its name and group inside.
    fn demo(&self, index: u64) -> Result<(&File, u64, Group)> {
        let demo = usize::try_from(index).ok().and_then(|i| self.demos.get(i));
        let missing = || Error::MissingKey {
            path: self.root.clone(),
            key: format!("episode {index}"),
        };
        let demo = demo.ok_or_else(missing)?;
        let file = self.files.get(demo.file).ok_or_else(missing)?;
        let (Some(data), Some(number)) = (&file.data, demo.number) else {
            // The file could not be opened before: say why.
            hdf5::open(&file.path)?.group("data")?;
            return Err(missing());
        };
        Ok((file, number, data.group(&format!("demo_{number}"))?))
    }

    fn columns(&self, demo: &Group) -> Result<BTreeMap<String, Column>> {
        let actions = demo.data("actions")?;
        let width = self.layout.action_width;
        let rows = actions.rows_of(&[width])?;
        let full = actions.f64(None)?;
        let used = full
            .chunks(width)
            .flat_map(|row| &row[..ACTION_WIDTH.min(width)]);
        let mut columns = BTreeMap::from([(
            ACTION.to_string(),
            Column::F32 {
                width: ACTION_WIDTH,
                values: used.map(|&v| v as f32).collect(),
            },
        )]);
        let proprio = self.proprio(&demo.group("obs")?, rows)?;
        columns.insert(PROPRIO.into(), proprio);
        if width > ACTION_WIDTH {
            let column = Column::F64 {
                width,
                values: full,
            };
            columns.insert(ACTION_FULL.into(), column);
        }
        if self.layout.has_reward {
            let rewards = demo.data("rewards")?;
            same_rows(&rewards, rewards.rows_of(&[1])?, rows)?;
            let values = rewards.f64(None)?.into_iter().map(|v| v as f32).collect();
            columns.insert(REWARD.into(), Column::F32 { width: 1, values });
        }
        if let Some(width) = self.layout.state_width {
            let states = demo.data(STATES)?;
            same_rows(&states, states.rows_of(&[width])?, rows)?;
            let values = states.f64(None)?;
            columns.insert(STATE.into(), Column::F64 { width, values });
        }
        if self.layout.has_segments {
            columns.insert(SEGMENT.into(), Column::I64(segments(demo, rows)?));
        }
        Ok(columns)
    }

    /// Position, Euler angles and opening of the gripper.
    fn proprio(&self, obs: &Group, rows: usize) -> Result<Column> {
        let read = |name: &str, width: usize| {
            let data = obs.data(name)?;
            same_rows(&data, data.rows_of(&[width])?, rows)?;
            data.f64(None)
        };
        let places = read("robot0_eef_pos", 3)?;
        let turns = read("robot0_eef_quat", 4)?;
        let fingers = read("robot0_gripper_qpos", 2)?;
        let order = if self.options.compat_quaternion {
            QuaternionOrder::Wxyz
        } else {
            QuaternionOrder::Xyzw
        };
        let mut values = Vec::with_capacity(rows * ACTION_WIDTH);
        let (places, turns, fingers) = (
            places.as_chunks::<3>().0,
            turns.as_chunks::<4>().0,
            fingers.as_chunks::<2>().0,
        );
        for (row, ((place, turn), [left, right])) in
            places.iter().zip(turns).zip(fingers).enumerate()
        {
            let angles = quaternion_to_euler(*turn, order).ok_or_else(|| Error::Range {
                path: obs.path().to_path_buf(),
                detail: format!("`robot0_eef_quat` is no rotation at row {row}: {turn:?}"),
            })?;
            let pose = place.iter().chain(&angles).copied().chain([left - right]);
            values.extend(pose.map(|v| v as f32));
        }
        Ok(Column::F32 {
            width: ACTION_WIDTH,
            values,
        })
    }

    fn frames(
        &self,
        demo: &Group,
        rows: usize,
        hash: &mut Hash,
        sink: &mut dyn FrameSink,
    ) -> Result<()> {
        let images = demo.data(&format!("obs/{}{IMAGE}", self.layout.camera))?;
        let native = images.image_size()?;
        let count = images.shape().first().copied().unwrap_or(0);
        same_rows(&images, count, rows)?;
        let is_turned = self.layout.camera.contains("right");
        let see = &mut |pixels: &mut [u8]| {
            hash.add(pixels);
            if is_turned {
                half_turn(pixels, native);
            }
        };
        let camera = declared(&self.manifest, 0, demo.path(), images.name())?;
        let mut port = Port::open(sink, camera, native, self.options.size, demo.path())?;
        read_images(&images, 0..rows, &mut port, see)
    }
}

impl Source for RobocasaSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.demos.len() as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    /// The demonstrations are for evaluation only (datasets.md section 11.2).
    fn released_split(&self) -> SplitRule {
        SplitRule::First {
            train: 0,
            seed: SplitRule::JEPA_WMS.seed(),
        }
    }

    fn path_of(&self, index: u64) -> String {
        let demo = self.demos.get(index as usize);
        let file = demo.and_then(|demo| self.files.get(demo.file));
        let (Some(demo), Some(file)) = (demo, file) else {
            return String::new();
        };
        let path = relative(&self.root, &file.path);
        match demo.number {
            Some(number) => format!("{path}/data/demo_{number}"),
            None => path,
        }
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let (file, number, demo) = self.demo(index)?;
        let columns = self.columns(&demo)?;
        let length = columns.get(ACTION).map_or(0, Column::rows);
        if length == 0 {
            return Err(Error::EmptyEpisode {
                path: file.path.clone(),
                episode: index,
            });
        }
        if let Some(frames) = self.options.frames_per_clip {
            let hz = self.manifest.fps;
            let stride = FpsMode::ControlHz.stride(None, hz, CLIP_FPS);
            Window { frames, stride }.check(&file.path, length)?;
        }
        let mut hash = Hash::default();
        for column in columns.values() {
            hash.add_column(column);
        }
        self.frames(&demo, length, &mut hash, sink)?;
        let name = format!("demo_{number}");
        let masks = file.masks.iter();
        let mut extras: BTreeMap<String, f64> = masks
            .map(|(key, demos)| {
                (
                    format!("mask.{key}"),
                    f64::from(u8::from(demos.contains(&name))),
                )
            })
            .collect();
        extras.insert("demo".into(), number as f64);
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: hash.finish(),
            task: task(&demo, file)?,
            seed: None,
            length,
            columns,
            cameras: Vec::new(),
            extras,
        })
    }

    fn missing(&self) -> Vec<u64> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| size_of_file(&file.path)).sum()
    }
}

impl File {
    fn open(path: &Path) -> Result<Self> {
        let root = hdf5::open(path)?;
        let data = root.group("data")?;
        Ok(Self {
            path: path.to_path_buf(),
            masks: masks(&root)?,
            env: data.json_attribute("env_args")?,
            data: Some(data),
        })
    }

    fn unreadable(path: PathBuf) -> Self {
        Self {
            path,
            data: None,
            masks: Vec::new(),
            env: None,
        }
    }
}

impl Demo {
    /// Its group, where it can be opened.
    fn group(&self, files: &[File]) -> Option<Group> {
        let data = files.get(self.file)?.data.as_ref()?;
        data.group(&format!("demo_{}", self.number?)).ok()
    }
}

impl Layout {
    fn find(files: &[File], demos: &[Demo], asked: Option<&str>) -> Self {
        let groups = || demos.iter().filter_map(|demo| demo.group(files));
        let asked = asked.map(|name| name.strip_suffix(IMAGE).unwrap_or(name).to_string());
        let camera = asked
            .or_else(|| groups().find_map(|demo| default_camera(&demo)))
            .unwrap_or_else(|| CAMERAS[0].into());
        let images = format!("obs/{camera}{IMAGE}");
        let width = |demo: Group| match demo.data("actions").ok()?.shape() {
            [_, width] if *width >= ACTION_WIDTH => Some(*width),
            _ => None,
        };
        Self {
            native: groups().find_map(|demo| demo.data(&images).ok()?.image_size().ok()),
            camera,
            action_width: groups().find_map(width).unwrap_or(ACTION_WIDTH),
            has_reward: groups().any(|demo| demo.contains("rewards")),
            has_segments: groups().any(|demo| SEGMENTS.iter().any(|name| demo.contains(name))),
            state_width: None,
        }
    }
}

/// The one width of the simulator's states in the demos that are read; a demo without states has none.
///
/// # Errors
/// When there are several widths, or none.
fn state_width(
    src: &Path,
    files: &[File],
    demos: &[Demo],
    options: &SourceOptions,
) -> Result<usize> {
    let asked = options.episodes.clone().unwrap_or(0..demos.len() as u64);
    let mut widths: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (index, demo) in (0..).zip(demos) {
        if !asked.contains(&index) {
            continue;
        }
        let states = demo.group(files).and_then(|demo| demo.data(STATES).ok());
        if let Some(&[_, width]) = states.as_ref().map(Data::shape) {
            widths.entry(width).or_default().push(index);
        }
    }
    match widths.keys().copied().collect::<Vec<_>>().as_slice() {
        [] => Err(Error::MissingKey {
            path: src.to_path_buf(),
            key: format!("data/demo_<n>/{STATES}"),
        }),
        [width] => Ok(*width),
        _ => {
            let listed = widths
                .iter()
                .map(|(width, episodes)| format!("{width} in {}", runs(episodes)));
            Err(Error::Invalid {
                what: "option",
                value: "--simulator-states".into(),
                detail: format!(
                    "a column has one width, and the states of these demos have {}; select episodes of one width with `--episodes A..B`",
                    listed.collect::<Vec<_>>().join(", ")
                ),
            })
        }
    }
}

/// Numbers in order as runs, `0..3 5..6`.
fn runs(numbers: &[u64]) -> String {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    let runs: Vec<String> = runs.iter().map(|run| format!("{run:?}")).collect();
    runs.join(" ")
}

/// Notes the hashes of the files; not of collections that take minutes to read.
fn add_inputs(manifest: &mut ManifestDraft, root: &Path, files: &[File]) {
    let bytes: u64 = files.iter().map(|file| size_of_file(&file.path)).sum();
    if bytes > MOST_HASHED {
        manifest.notes.push(format!(
            "the {bytes} bytes of the files are not hashed; every episode is"
        ));
        return;
    }
    for file in files {
        let Ok(bytes) = FileBytes::open(&file.path) else {
            continue;
        };
        let mut hash = Hash::default();
        hash.add(&bytes);
        let name = relative(root, &file.path);
        manifest.source.inputs.insert(name, hash.finish());
    }
}

/// The files of a release, and the folder that they are named relative to.
fn find(src: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if !src.is_dir() {
        let parent = src.parent().filter(|parent| !parent.as_os_str().is_empty());
        let root = parent.unwrap_or(Path::new(".")).to_path_buf();
        return Ok((root, vec![src.to_path_buf()]));
    }
    for ending in RELEASED {
        let files = find_files(src, &|name| name.ends_with(ending))?;
        if !files.is_empty() {
            return Ok((src.to_path_buf(), files));
        }
    }
    Err(Error::Nothing {
        path: src.to_path_buf(),
        detail: "there is no `.hdf5` file below it".into(),
    })
}

/// The demos of all files, in the order of files and then of their numbers; a file that cannot be opened
/// counts as one.
fn demos(files: &[File]) -> Vec<Demo> {
    let mut demos = Vec::new();
    for (file, opened) in files.iter().enumerate() {
        let names = opened.data.as_ref().and_then(|data| data.children().ok());
        let Some(names) = names else {
            demos.push(Demo { file, number: None });
            continue;
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        demos.extend(numbers.into_iter().map(|number| Demo {
            file,
            number: Some(number),
        }));
    }
    demos
}

/// The number of `demo_<n>`, written without leading zeros.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("demo_")?.parse().ok()?;
    (format!("demo_{number}") == name).then_some(number)
}

/// Names of the demos of every mask of a file.
fn masks(root: &Group) -> Result<Vec<(String, BTreeSet<String>)>> {
    if !root.contains("mask") {
        return Ok(Vec::new());
    }
    let group = root.group("mask")?;
    let read = |key: String| {
        let names = group.data(&key)?.texts()?;
        Ok((key, names.into_iter().collect()))
    };
    group.children()?.into_iter().map(read).collect()
}

/// The camera of the reference configurations, or else the first of this demo.
fn default_camera(demo: &Group) -> Option<String> {
    let names = demo.group("obs").ok()?.children().ok()?;
    let cameras: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_suffix(IMAGE))
        .collect();
    let preferred = CAMERAS.into_iter().find(|camera| cameras.contains(camera));
    preferred.or(cameras.first().copied()).map(str::to_string)
}

/// The instruction of the demo, or else the name of its environment.
fn task(demo: &Group, file: &File) -> Result<String> {
    let meta = demo.json_attribute("ep_meta")?;
    let lang = meta.as_ref().and_then(|meta| meta.get("lang")?.as_str());
    let name = file
        .env
        .as_ref()
        .and_then(|env| env.get("env_name")?.as_str());
    Ok(lang.or(name).unwrap_or(TASK).to_string())
}

/// The segment of every row; [`NO_SEGMENT`] where the demo has none.
fn segments(demo: &Group, rows: usize) -> Result<Vec<i64>> {
    let Some(name) = SEGMENTS.iter().find(|name| demo.contains(name)) else {
        return Ok(vec![NO_SEGMENT; rows]);
    };
    let data = demo.data(name)?;
    same_rows(&data, data.rows_of(&[1])?, rows)?;
    data.i64(None)
}

fn same_rows(data: &Data, found: usize, rows: usize) -> Result<()> {
    if found == rows {
        return Ok(());
    }
    let detail = format!("`{}` has {found} rows, the actions {rows}", data.name());
    Err(Error::count(data.path(), detail))
}

/// Turns every frame by half a turn: both axes are reversed.
fn half_turn(pixels: &mut [u8], [height, width]: [usize; 2]) {
    for frame in pixels.chunks_exact_mut(height * width * 3) {
        let (pixels, _) = frame.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

fn declare(layout: &Layout, files: &[File], options: &SourceOptions) -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let env = files.iter().find_map(|file| file.env.as_ref());
    let hz = env.and_then(|env| env.get("env_kwargs")?.get("control_freq")?.as_f64());
    let hz = hz
        .filter(|hz| hz.is_finite() && *hz > 0.0)
        .unwrap_or(CONTROL_HZ);
    let cameras: Vec<_> = layout
        .native
        .map(|native| camera(&layout.camera, native, options.size))
        .into_iter()
        .collect();
    let resized = cameras.iter().any(|camera| camera.resized_from.is_some());
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: None,
            inputs: BTreeMap::new(),
        },
        fields: fields(layout),
        cameras,
        fps: hz,
        control_hz: Some(hz),
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes: notes(layout, files, options, resized),
    }
}

fn fields(layout: &Layout) -> Vec<Field> {
    let mut fields = vec![
        Field::action(
            ACTION_WIDTH,
            "controller input",
            "end effector: change of position and of orientation (axis and angle), gripper",
        ),
        Field::proprio(
            ACTION_WIDTH,
            "metres, radians",
            "end effector: x, y, z, extrinsic xyz Euler angles; distance of the fingers",
        ),
    ];
    if layout.action_width > ACTION_WIDTH {
        fields.push(Field::new(
            ACTION_FULL,
            Dtype::F64,
            layout.action_width,
            "controller input",
            "the whole action of the file: end effector 3 + 3, gripper, base 4, mode",
            Alignment::AppliedAtRow,
        ));
    }
    if layout.has_reward {
        fields.push(Field::reward("reward of the simulator"));
    }
    if let Some(width) = layout.state_width {
        let meaning = "flattened state of MuJoCo: time, positions, velocities";
        fields.push(Field::state(Dtype::F64, width, "mixed", meaning));
    }
    if layout.has_segments {
        fields.push(Field::new(
            SEGMENT,
            Dtype::I64,
            1,
            "unitless",
            "0 reach, 1 pick, 2 place, -1 not recorded",
            Alignment::AtRow,
        ));
    }
    fields
}

fn notes(layout: &Layout, files: &[File], options: &SourceOptions, resized: bool) -> Vec<String> {
    let turned = if layout.camera.contains("right") {
        "turned by half a turn, as the reference loader does with cameras named `right`"
    } else {
        "as they are stored"
    };
    let mut notes = vec![
        format!(
            "frames are those of the camera `{}`, {turned}",
            layout.camera
        ),
        "actions and proprioception are 64-bit in the file and stored as the nearest float32"
            .into(),
        match layout.state_width {
            Some(_) => "states are those of the simulator, as they are in the file",
            None => "simulator states are left out: their width differs between demos",
        }
        .into(),
    ];
    if options.compat_quaternion {
        notes.push("quaternions are taken for w, x, y, z, as the reference loader does; the Euler angles are wrong".into());
    }
    if resized {
        notes.push(RESIZED.into());
    }
    for file in files {
        for (key, demos) in &file.masks {
            notes.push(format!(
                "mask `{key}` has {} demos; `mask.{key}` is 1 for their episodes",
                demos.len()
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_turn_reverses_rows_and_columns_and_keeps_colours() {
        let mut frames: Vec<u8> = (0..24).collect();
        half_turn(&mut frames, [2, 2]);
        assert_eq!(frames[..12], [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]);
        assert_eq!(frames[12..15], [21, 22, 23]);
    }

    #[test]
    fn demos_are_known_by_their_number() {
        assert_eq!(number_of("demo_10"), Some(10));
        for name in ["demo_", "demo_07", "demo_x", "10", "demo_-1"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_in_a_row_are_one_run() {
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), "0..3 5..6 7..9");
        assert_eq!(runs(&[]), "");
    }

    #[test]
    fn subtasks_need_all_their_segments() {
        let segments = [0, 0, 1, 1, 1];
        assert_eq!(subtask_rows(&segments, "reach"), Some(vec![0, 1]));
        assert_eq!(
            subtask_rows(&segments, "reach-pick").map(|rows| rows.len()),
            Some(5)
        );
        assert_eq!(subtask_rows(&segments, "pick-place"), None);
        assert_eq!(subtask_rows(&segments, "dance"), None);
    }
}
