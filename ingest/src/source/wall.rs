//! Wall, as released by DINO-WM and re-hosted by JEPA-WMs (datasets.md section 7).
//!
//! ```text
//! wall_single/
//!   states.pth          [N, T, 2]   dot position (x, y), pixels of the 65x65 grid
//!   actions.pth         [N, T, 2]   the dot moves by twice the action, stopped by walls and borders
//!   door_locations.pth  [N, T, 1]   constant within an episode
//!   wall_locations.pth  [N, T, 1]   constant within an episode
//!   obses/episode_000.pth           [T + 1, 3, h, w], floats 0 to 255
//! ```
//!
//! The frames are a 65x65 render resized as floats, so they are not whole numbers. They are stored as the
//! floats they are: rounding would change what the reference loaders return. The frame after the last
//! action, which those loaders never use, is kept too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Camera, Episode, Field, FrameSink, ManifestDraft, PROPRIO, PixelType, Pixels, STATE,
    catalog,
};

use super::support::{
    Inputs, Table, f32_column, float_column, missing_files, numbered_files, pixels, refuse,
    relative, resized, sha256, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::torch_zip::TorchFile;
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "wall",
    summary: "DINO-WM's Wall release: torch files of states, actions, doors, walls and frames",
    details: "\
SRC is `wall_single/`:

  states.pth   [N, T, 2]  position of the dot (x, y), pixels of the 65x65 grid
  actions.pth  [N, T, 2]
  door_locations.pth, wall_locations.pth
  obses/episode_000.pth   [T + 1, 3, h, w]

The frames are floats, and are stored as the floats they are. The frame after the last action is
kept.

Examples:
  jepa-bench ingest wall raw/wall_single data/wall
  jepa-bench ingest wall raw/wall_single data/wall --split-rule dino-wm --strict",
    options: &[],
    open: |root, options| Ok(Box::new(WallSource::open(root, options)?)),
};

/// Name of the only camera.
const CAMERA: &str = "top";
/// Task string of every episode.
const TASK: &str = "move the dot to the goal through the door in the wall";
/// Tensors that hold one number per episode, by the name reference environments give it.
const EXTRAS: [(&str, &str); 2] = [
    ("door_locations.pth", "fix_door_location"),
    ("wall_locations.pth", "fix_wall_location"),
];
/// SHA-256 of the released files (datasets.md section 7).
const RELEASED: [(&str, &str); 4] = [
    (
        "actions.pth",
        "c9620d6d5029f50b452d31fd04add070591379269903f67f7a4a38c24f718b07",
    ),
    (
        "door_locations.pth",
        "1d6920542c0a986a68677145a91cc837b8de98bec7f30cd7e95be5a75f4da354",
    ),
    (
        "states.pth",
        "4fd7e0b44dcd37e5adcc32a7f8f310cd0d9bc224cad1c150fe146240d0d6f004",
    ),
    (
        "wall_locations.pth",
        "cc6a714d4599b067d4178e417b130f8ce7fcefbb75c90dbea1b2003268ac8473",
    ),
];

/// An opened Wall release.
pub struct WallSource {
    root: PathBuf,
    states: Table,
    actions: Table,
    extras: Vec<(&'static str, Table)>,
    /// File of every episode; nothing where it is missing.
    files: Vec<Option<PathBuf>>,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// Numbers per state and per action: x and y (datasets.md section 7).
const POINT: usize = 2;

impl WallSource {
    /// Opens a release at `wall_single/` or at the folder that holds it.
    ///
    /// # Errors
    /// Anything wrong with the shared tensors: without them there is no episode at all.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        let root = resolve(root);
        refuse("task", &options.tasks, "Wall has one task")?;
        let mut inputs = Inputs::new();
        let mut open = |name: &str, width| Table::open(&root.join(name), width, name, &mut inputs);
        let states = open("states.pth", POINT)?;
        let actions = open("actions.pth", POINT)?;
        states.agrees_with(&actions)?;
        let mut extras = Vec::new();
        for (file, name) in EXTRAS {
            let path = root.join(file);
            if path.exists() {
                let table = open(file, 1)?;
                states.agrees_with(&table)?;
                extras.push((name, table));
            }
        }
        let files = numbered_files(&root.join("obses"), "pth", states.episodes)?;
        let manifest = declare(&states, &actions, &inputs);
        let mut source = Self {
            root,
            states,
            actions,
            extras,
            files,
            options,
            manifest,
        };
        source.declare_camera();
        Ok(source)
    }

    /// Takes size and type of the frames from the first episode that can be read, in order, so that the
    /// manifest does not depend on which episode is read first.
    fn declare_camera(&mut self) {
        let first = (0..self.files.len()).find_map(|index| self.frames(index).ok());
        let Some(Frames {
            height,
            width,
            pixels,
            count,
            native,
            ..
        }) = first
        else {
            return;
        };
        self.manifest.extra_last_obs = count > self.states.rows;
        let resized_from = (native != [height, width]).then_some(native);
        self.manifest.cameras = vec![Camera {
            resized_from,
            ..Camera::new(CAMERA, height, width, pixels.dtype())
        }];
        if resized_from.is_some() {
            self.manifest
                .notes
                .push("frames were resized by bilinear interpolation without antialias".into());
        }
        if pixels.dtype() == PixelType::F32 {
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

    /// Frames of an episode, top to bottom, RGB last.
    fn frames(&self, index: usize) -> Result<Frames> {
        let path = self.file(index)?;
        let file = TorchFile::open(path)?;
        let tensor = file.tensor()?;
        let &[count, channels, height, width] = tensor.shape() else {
            return Err(Error::count(
                path,
                format!(
                    "shape {:?} is not [frames, 3, height, width]",
                    tensor.shape()
                ),
            ));
        };
        let rows = self.states.rows;
        if channels != 3 || height == 0 || width == 0 {
            return Err(Error::count(
                path,
                format!(
                    "shape {:?} is not [frames, 3, height, width]",
                    tensor.shape()
                ),
            ));
        }
        if count != rows && count != rows + 1 {
            return Err(Error::count(
                path,
                format!("it has {count} frames for {rows} states"),
            ));
        }
        let pixels = pixels(path, &tensor.permute(&[0, 2, 3, 1]))?;
        let (pixels, [h, w]) = resized(pixels, [height, width], self.options.size);
        Ok(Frames {
            pixels,
            count,
            height: h,
            width: w,
            native: [height, width],
            source_hash: sha256(file.bytes()),
        })
    }

    /// Row 0 of the tensors that are constant within an episode, as the reference environments take it.
    fn extras(&self, index: usize) -> Result<BTreeMap<String, f64>> {
        let first = |(name, table): &(&'static str, Table)| {
            let values = table.episode(index, table.rows, name)?;
            Ok((name.to_string(), values[0]))
        };
        self.extras.iter().map(first).collect()
    }
}

impl Source for WallSource {
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
        let frames = self.frames(i)?;
        let rows = self.states.rows;
        let state = self.states.episode(i, rows, "the state")?;
        let action = self.actions.episode(i, rows, "the action")?;
        sink.push_all(CAMERA, [frames.height, frames.width], &frames.pixels)?;
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: frames.source_hash,
            task: TASK.into(),
            seed: None,
            length: self.states.rows,
            columns: BTreeMap::from([
                (ACTION.into(), f32_column(self.actions.width, &action)),
                (PROPRIO.into(), f32_column(self.states.width, &state)),
                (
                    STATE.into(),
                    float_column(self.states.stored_dtype(), self.states.width, state),
                ),
            ]),
            cameras: Vec::new(),
            extras: self.extras(i)?,
        })
    }

    fn missing(&self) -> Vec<u64> {
        missing_files(&self.files)
    }

    fn bytes(&self) -> u64 {
        let tables = [&self.states.path, &self.actions.path].into_iter();
        let all = tables
            .chain(self.extras.iter().map(|(_, table)| &table.path))
            .chain(self.files.iter().flatten());
        total_bytes(all)
    }
}

/// Frames of one episode.
struct Frames {
    pixels: Pixels,
    count: usize,
    height: usize,
    width: usize,
    native: [usize; 2],
    source_hash: String,
}

/// The folder that holds `states.pth`.
fn resolve(root: &Path) -> PathBuf {
    let nested = root.join("wall_single");
    if !root.join("states.pth").exists() && nested.join("states.pth").exists() {
        return nested;
    }
    root.to_path_buf()
}

/// Fields and provenance; the camera is added once a frame has been seen.
fn declare(states: &Table, actions: &Table, inputs: &BTreeMap<String, String>) -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let is_release = RELEASED
        .iter()
        .all(|(file, hash)| inputs.get(*file).is_some_and(|found| found.ends_with(hash)));
    let state = "dot position x, y in the 65x65 render";
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: is_release.then(|| "DINO-WM release, equal by SHA-256".into()),
            inputs: inputs.clone(),
        },
        fields: vec![
            Field::action(
                actions.width,
                "half pixels",
                "dx, dy; the dot moves by twice the action, stopped by walls",
            ),
            Field::proprio(states.width, "pixels", state),
            Field::state(states.stored_dtype(), states.width, "pixels", state),
        ],
        cameras: Vec::new(),
        fps: 1.0,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes: vec![
            "the world has no physical time: `timestamp` counts steps".into(),
            "door and wall positions are those of the first row of each episode".into(),
        ],
    }
}
