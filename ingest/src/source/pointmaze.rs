//! PointMaze, as released by DINO-WM and re-hosted by JEPA-WMs (datasets.md section 6).
//!
//! ```text
//! point_maze/
//!   states.pth        [N, T, 4]   x, y, vx, vy in maze units
//!   actions.pth       [N, T, 2]   force applied at each row
//!   seq_lengths.pth   [N]         rows of each episode; later rows are padding
//!   obses/episode_000.pth         [T, h, w, 3], bytes
//! ```
//!
//! The downloaded archive may unpack into `point_maze/point_maze/`; both places are tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Camera, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO, Pixels, STATE,
    catalog,
};

use super::support::{
    Inputs, Table, f32_column, float_column, missing_files, numbered_files, pixels, refuse,
    relative, resized, rounded_note, sha256, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::torch_zip::{TensorType, TorchFile};
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "pointmaze",
    summary: "DINO-WM's PointMaze release: torch files of states, actions, lengths and frames",
    details: "\
SRC is `point_maze/`, also where it was unpacked into `point_maze/point_maze/`:

  states.pth       [N, T, 4]  x, y, vx, vy in maze units
  actions.pth      [N, T, 2]  force
  seq_lengths.pth  [N]        rows after these are padding and are never read
  obses/episode_000.pth       [T, h, w, 3]

Example:
  jepa-bench ingest pointmaze raw/point_maze data/pointmaze",
    options: &[],
    open: |root, options| Ok(Box::new(PointMazeSource::open(root, options)?)),
};

const CAMERA: &str = "top";
const TASK: &str = "move the ball to the goal through the maze";
/// Folder of the release, and of the archive's members.
const FOLDER: &str = "point_maze";
const STATE_WIDTH: usize = 4;
const ACTION_WIDTH: usize = 2;
/// Control rate of the simulation in Hz is not part of the release; timestamps count steps.
const FPS: f64 = 1.0;

/// An opened PointMaze release.
pub struct PointMazeSource {
    root: PathBuf,
    states: Table,
    actions: Table,
    lengths: Vec<usize>,
    lengths_path: PathBuf,
    files: Vec<Option<PathBuf>>,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// Frames of one episode.
struct Frames {
    pixels: Pixels,
    native: [usize; 2],
    size: [usize; 2],
    source_hash: String,
}

impl PointMazeSource {
    /// Opens a release at `point_maze/`, or at the folder that holds it once or twice over.
    ///
    /// # Errors
    /// Anything wrong with the shared tensors: without them there is no episode at all.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        refuse("task", &options.tasks, "PointMaze has one task")?;
        let root = resolve(root);
        let mut inputs = Inputs::new();
        let states = Table::open(
            &root.join("states.pth"),
            STATE_WIDTH,
            "states.pth",
            &mut inputs,
        )?;
        let actions = Table::open(
            &root.join("actions.pth"),
            ACTION_WIDTH,
            "actions.pth",
            &mut inputs,
        )?;
        states.agrees_with(&actions)?;
        let lengths_path = root.join("seq_lengths.pth");
        let lengths = read_lengths(&lengths_path, states.episodes, &mut inputs)?;
        let files = numbered_files(&root.join("obses"), "pth", states.episodes)?;
        let manifest = declare(&states, &actions, inputs);
        let mut source = Self {
            root,
            states,
            actions,
            lengths,
            lengths_path,
            files,
            options,
            manifest,
        };
        source.declare_camera();
        Ok(source)
    }

    /// Takes size and type of the frames from the first episode that can be read.
    fn declare_camera(&mut self) {
        let first = (0..self.files.len()).find_map(|index| self.frames(index).ok());
        let Some(frames) = first else { return };
        let [height, width] = frames.size;
        self.manifest.cameras = vec![Camera {
            resized_from: (frames.native != frames.size).then_some(frames.native),
            ..Camera::new(CAMERA, height, width, frames.pixels.dtype())
        }];
        if matches!(frames.pixels, Pixels::F32(_)) {
            self.manifest
                .notes
                .push("frames are stored as the floats of the source, 0 to 255".into());
        }
    }

    fn file(&self, index: usize) -> Result<&Path> {
        let missing = || Error::Missing {
            path: self.root.join(format!("obses/episode_{index:03}.pth")),
        };
        self.files
            .get(index)
            .and_then(Option::as_deref)
            .ok_or_else(missing)
    }

    /// Rows of an episode, checked against the tables.
    fn length(&self, index: usize) -> Result<usize> {
        let length = self.lengths[index];
        if length == 0 {
            return Err(Error::EmptyEpisode {
                path: self.lengths_path.clone(),
                episode: index as u64,
            });
        }
        if length > self.states.rows {
            return Err(Error::Length {
                path: self.lengths_path.clone(),
                detail: format!(
                    "episode {index} has {length} rows, the tables {}",
                    self.states.rows
                ),
            });
        }
        Ok(length)
    }

    fn frames(&self, index: usize) -> Result<Frames> {
        let path = self.file(index)?;
        let length = self.length(index)?;
        let file = TorchFile::open(path)?;
        let tensor = file.tensor()?;
        let wrong = || {
            Error::count(
                path,
                format!(
                    "shape {:?} is not [frames, height, width, 3]",
                    tensor.shape()
                ),
            )
        };
        let &[count, height, width, 3] = tensor.shape() else {
            return Err(wrong());
        };
        if height == 0 || width == 0 {
            return Err(wrong());
        }
        if count < length {
            return Err(Error::count(
                path,
                format!("it has {count} frames for {length} rows"),
            ));
        }
        let native = [height, width];
        let mut all = pixels(path, &tensor)?;
        let wanted = length * height * width * 3;
        match &mut all {
            Pixels::U8(values) => values.truncate(wanted),
            Pixels::F32(values) => values.truncate(wanted),
        }
        let (pixels, size) = resized(all, native, self.options.size);
        Ok(Frames {
            pixels,
            native,
            size,
            source_hash: sha256(file.bytes()),
        })
    }
}

impl Source for PointMazeSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.states.episodes as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        let path = self.files.get(index as usize).and_then(Option::as_deref);
        path.map_or_else(
            || format!("obses/episode_{index:03}.pth"),
            |path| relative(&self.root, path),
        )
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let i = index as usize;
        let rows = self.length(i)?;
        let state = self.states.episode(i, rows, "the state")?;
        let action = self.actions.episode(i, rows, "the action")?;
        let frames = self.frames(i)?;
        sink.push_all(CAMERA, frames.size, &frames.pixels)?;
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: frames.source_hash,
            task: TASK.into(),
            seed: None,
            length: rows,
            columns: BTreeMap::from([
                (ACTION.into(), f32_column(ACTION_WIDTH, &action)),
                (PROPRIO.into(), f32_column(STATE_WIDTH, &state)),
                (
                    STATE.into(),
                    float_column(self.states.stored_dtype(), STATE_WIDTH, state),
                ),
            ]),
            cameras: Vec::new(),
            extras: BTreeMap::new(),
        })
    }

    fn missing(&self) -> Vec<u64> {
        missing_files(&self.files)
    }

    fn bytes(&self) -> u64 {
        let tables = [&self.states.path, &self.actions.path, &self.lengths_path];
        total_bytes(tables.into_iter().chain(self.files.iter().flatten()))
    }
}

/// The folder that holds `states.pth`: the one given, or one or two levels further down.
fn resolve(root: &Path) -> PathBuf {
    let nested = root.join(FOLDER);
    let candidates = [root.to_path_buf(), nested.clone(), nested.join(FOLDER)];
    let found = candidates
        .into_iter()
        .find(|folder| folder.join("states.pth").exists());
    found.unwrap_or_else(|| root.to_path_buf())
}

fn read_lengths(path: &Path, episodes: usize, inputs: &mut Inputs) -> Result<Vec<usize>> {
    let file = TorchFile::open(path)?;
    let tensor = file.tensor()?;
    let whole = matches!(
        tensor.dtype(),
        TensorType::I64 | TensorType::I32 | TensorType::I16 | TensorType::I8 | TensorType::U8
    );
    if !whole {
        return Err(Error::Dtype {
            path: path.to_path_buf(),
            found: format!("{:?}", tensor.dtype()),
            wanted: "episode lengths",
        });
    }
    if tensor.shape() != [episodes] {
        return Err(Error::count(
            path,
            format!(
                "shape {:?}, the states have {episodes} episodes",
                tensor.shape()
            ),
        ));
    }
    inputs.insert("seq_lengths.pth".into(), sha256(file.bytes()));
    let lengths = tensor.to_f64().into_iter().enumerate();
    lengths
        .map(|(episode, length)| {
            if length >= 0.0 {
                Ok(length as usize)
            } else {
                Err(Error::Length {
                    path: path.to_path_buf(),
                    detail: format!("episode {episode} has length {length}"),
                })
            }
        })
        .collect()
}

fn declare(states: &Table, actions: &Table, inputs: Inputs) -> ManifestDraft {
    let mut notes = vec!["the release gives no rate: `timestamp` counts steps".into()];
    if actions.stored_dtype() == Dtype::F64 {
        notes.push(rounded_note("actions.pth"));
    }
    let entry = catalog::find(ENTRY.name);
    let state = "ball position x, y and velocity vx, vy";
    let units = "maze units, maze units per second";
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: None,
            inputs,
        },
        fields: vec![
            Field::action(ACTION_WIDTH, "newtons", "force fx, fy on the ball"),
            Field::proprio(STATE_WIDTH, units, state),
            Field::state(states.stored_dtype(), STATE_WIDTH, units, state),
        ],
        cameras: Vec::new(),
        fps: FPS,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes,
    }
}
