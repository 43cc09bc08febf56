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
use std::fs;
use std::path::{Path, PathBuf};

use jepa_datasets::transform::Plane;
use jepa_datasets::{
    ACTION, Camera, CameraFrames, Column, Dtype, Episode, Field, ManifestDraft, PIXEL_RANGE,
    PROPRIO, PixelType, Pixels, STATE, catalog,
};
use sha2::{Digest, Sha256};

use super::{Source, SourceEntry, SourceOptions};
use crate::container::torch_zip::{Tensor, TensorType, TorchFile};
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "wall",
    summary: "DINO-WM's Wall release: torch files of states, actions, doors, walls and frames",
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

/// A `[episodes, rows, width]` tensor, copied out of its file.
struct Table {
    path: PathBuf,
    episodes: usize,
    rows: usize,
    width: usize,
    dtype: TensorType,
    values: Vec<f64>,
}

impl Table {
    /// Reads a table whose rows must have `width` numbers.
    fn open(path: &Path, width: usize, inputs: &mut BTreeMap<String, String>) -> Result<Self> {
        let file = TorchFile::open(path)?;
        let tensor = file.tensor()?;
        let (episodes, rows) = match *tensor.shape() {
            [episodes, rows, found] if found == width => (episodes, rows),
            _ => {
                let found = tensor.shape();
                let detail = format!("shape {found:?} is not [episodes, rows, {width}]");
                return Err(Error::count(path, detail));
            }
        };
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        inputs.insert(name, sha256(file.bytes()));
        Ok(Self {
            path: path.to_path_buf(),
            episodes,
            rows,
            width,
            dtype: tensor.dtype(),
            values: tensor.to_f64(),
        })
    }

    /// The `[rows, width]` values of an episode, all finite.
    fn episode(&self, index: usize, what: &'static str) -> Result<&[f64]> {
        let length = self.rows * self.width;
        let values = &self.values[index * length..(index + 1) * length];
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                let (row, dim) = (at / self.width, at % self.width);
                Err(Error::NonFinite {
                    path: self.path.clone(),
                    what,
                    row,
                    dim,
                })
            }
            None => Ok(values),
        }
    }
}

impl WallSource {
    /// Opens a release at `wall_single/` or at the folder that holds it.
    ///
    /// # Errors
    /// Anything wrong with the shared tensors: without them there is no episode at all.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        let root = resolve(root);
        let mut inputs = BTreeMap::new();
        let states = Table::open(&root.join("states.pth"), POINT, &mut inputs)?;
        let actions = Table::open(&root.join("actions.pth"), POINT, &mut inputs)?;
        agree(&states, &actions)?;
        let mut extras = Vec::new();
        for (file, name) in EXTRAS {
            let path = root.join(file);
            if path.exists() {
                let table = Table::open(&path, 1, &mut inputs)?;
                agree(&states, &table)?;
                extras.push((name, table));
            }
        }
        let files = find_episodes(&root.join("obses"), states.episodes)?;
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
        let (pixels, [h, w]) = self.resize(pixels, [height, width]);
        Ok(Frames {
            pixels,
            count,
            height: h,
            width: w,
            native: [height, width],
            source_hash: sha256(file.bytes()),
        })
    }

    fn resize(&self, pixels: Pixels, native: [usize; 2]) -> (Pixels, [usize; 2]) {
        let Some(size) = self.options.size.filter(|size| *size != native) else {
            return (pixels, native);
        };
        let dtype = pixels.dtype();
        let resized = Pixels::F32(resize(&pixels.into_f32(), native, size));
        match dtype {
            PixelType::U8 => (Pixels::U8(resized.into_u8()), size),
            PixelType::F32 => (resized, size),
        }
    }

    /// Row 0 of the tensors that are constant within an episode, as the reference environments take it.
    fn extras(&self, index: usize) -> Result<BTreeMap<String, f64>> {
        let first = |(name, table): &(&'static str, Table)| {
            let values = table.episode(index, name)?;
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
        let relative = path.and_then(|path| path.strip_prefix(&self.root).ok());
        relative.map_or_else(
            || format!("obses/episode_{index:03}.pth"),
            |path| path.to_string_lossy().replace('\\', "/"),
        )
    }

    fn read(&self, index: u64) -> Result<Episode> {
        let i = index as usize;
        let frames = self.frames(i)?;
        let state = self.states.episode(i, "the state")?;
        let action = self.actions.episode(i, "the action")?;
        let f32s = |values: &[f64], width| Column::F32 {
            width,
            values: values.iter().map(|&v| v as f32).collect(),
        };
        let state_column = match state_dtype(&self.states) {
            Dtype::F64 => Column::F64 {
                width: self.states.width,
                values: state.to_vec(),
            },
            _ => f32s(state, self.states.width),
        };
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: frames.source_hash,
            task: TASK.into(),
            seed: None,
            length: self.states.rows,
            columns: BTreeMap::from([
                (ACTION.into(), f32s(action, self.actions.width)),
                (PROPRIO.into(), f32s(state, self.states.width)),
                (STATE.into(), state_column),
            ]),
            cameras: vec![CameraFrames {
                camera: CAMERA.into(),
                height: frames.height,
                width: frames.width,
                count: frames.count,
                pixels: frames.pixels,
            }],
            extras: self.extras(i)?,
        })
    }

    fn missing(&self) -> Vec<u64> {
        self.files
            .iter()
            .enumerate()
            .filter(|(_, file)| file.is_none())
            .map(|(index, _)| index as u64)
            .collect()
    }

    fn bytes(&self) -> u64 {
        let tables = [&self.states.path, &self.actions.path].into_iter();
        let all = tables
            .chain(self.extras.iter().map(|(_, table)| &table.path))
            .chain(self.files.iter().flatten());
        all.filter_map(|path| fs::metadata(path).ok())
            .map(|metadata| metadata.len())
            .sum()
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

/// Both tables are about the same episodes and rows.
fn agree(states: &Table, other: &Table) -> Result<()> {
    if (states.episodes, states.rows) == (other.episodes, other.rows)
        && states.rows > 0
        && other.width > 0
    {
        return Ok(());
    }
    let (n, t) = (states.episodes, states.rows);
    Err(Error::count(
        &other.path,
        format!(
            "it has {} episodes of {} rows, the states {n} of {t}",
            other.episodes, other.rows
        ),
    ))
}

/// Finds the file of every episode, under any padding of its number (datasets.md section 16, case 22).
fn find_episodes(folder: &Path, total: usize) -> Result<Vec<Option<PathBuf>>> {
    let mut files: Vec<Option<PathBuf>> = vec![None; total];
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let number = name
            .strip_prefix("episode_")
            .and_then(|rest| rest.strip_suffix(".pth"));
        let Some(index) = number
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|&index| index < total)
        else {
            continue;
        };
        if let Some(first) = files[index].replace(path.clone()) {
            let (first, second) = if first < path {
                (first, path)
            } else {
                (path, first)
            };
            return Err(Error::Ambiguous {
                episode: index as u64,
                first,
                second,
            });
        }
    }
    Ok(files)
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
            Field::state(state_dtype(states), states.width, "pixels", state),
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

/// States keep the type of their file; whole numbers and half floats widen to `float32`.
fn state_dtype(states: &Table) -> Dtype {
    if states.dtype.fits_f32() {
        Dtype::F32
    } else {
        Dtype::F64
    }
}

/// Pixels in the type of the file, checked to lie in 0 to 255.
fn pixels(path: &Path, tensor: &Tensor<'_>) -> Result<Pixels> {
    if let Some(values) = tensor.to_u8() {
        return Ok(Pixels::U8(values));
    }
    if !tensor.dtype().fits_f32() {
        let found = format!("{:?}", tensor.dtype());
        return Err(Error::Dtype {
            path: path.to_path_buf(),
            found,
            wanted: "frames",
        });
    }
    let values = tensor.to_f32();
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let size: usize = tensor.shape()[1..].iter().product();
        return Err(Error::NonFinite {
            path: path.to_path_buf(),
            what: "a pixel",
            row: at / size,
            dim: at % size,
        });
    }
    let (low, high) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| {
            (low.min(v), high.max(v))
        });
    if !PIXEL_RANGE.contains(&low) || !PIXEL_RANGE.contains(&high) || high <= 1.5 {
        let detail = format!("pixels lie between {low} and {high}, the release has 0 to 255");
        return Err(Error::Range {
            path: path.to_path_buf(),
            detail,
        });
    }
    Ok(Pixels::F32(values))
}

/// Resizes `[T, h, w, 3]` frames by bilinear interpolation without antialias.
fn resize(frames: &[f32], [height, width]: [usize; 2], [h, w]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(frames.len() / (height * width) * h * w);
    for frame in frames.chunks_exact(height * width * 3) {
        let plane = |c| Plane {
            height,
            width,
            values: frame.iter().skip(c).step_by(3).copied().collect(),
        };
        let [red, green, blue] = [0, 1, 2].map(|c| plane(c).bilinear(h, w).values);
        out.extend((0..h * w).flat_map(|i| [red[i], green[i], blue[i]]));
    }
    out
}

fn sha256(bytes: &[u8]) -> String {
    let digits: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", digits.concat())
}
