//! Push-T, as released by DINO-WM and re-hosted by JEPA-WMs (datasets.md section 5).
//!
//! ```text
//! pusht_noise/{train,val}/
//!   states.pth        [N, T, 5]   agent x, y, block x, y (pixels of the 512x512 world), block angle
//!   velocities.pth    [N, T, 2]   agent vx, vy
//!   rel_actions.pth   [N, T, 2]   target of the agent relative to it, pixels
//!   abs_actions.pth   [N, T, 2]   the same target in the world; optional
//!   seq_lengths.pkl   N lengths; later rows are padding and are never read
//!   shapes.pkl        N names of block shapes; optional, `T` without it
//!   obses/episode_000.mp4
//! ```
//!
//! Episodes of `train` come first, those of `val` follow; the released split is the two folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Alignment, Camera, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO, PixelType,
    STATE, SplitRule, catalog,
};

use super::port::{Port, declared};
use super::support::{
    Inputs, Table, f32_column, float_column, missing_files, numbered_files, refuse, relative,
    sha256, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::mapped::FileBytes;
use crate::container::pickle_file::PickleFile;
use crate::container::video::Video;
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "pusht",
    summary: "DINO-WM's Push-T release: torch files of states and actions, a pickle of lengths, videos",
    details: "\
SRC is `pusht_noise/`; one of its two parts may be missing:

  {train,val}/
    states.pth, velocities.pth    agent and block, pixels of the 512x512 world
    rel_actions.pth               target of the agent relative to it; stored divided by 100
    abs_actions.pth, shapes.pkl   optional
    seq_lengths.pkl               rows after these are padding and are never read
    obses/episode_000.mp4

`train` holds families of 101 replays of one demonstration. The released split is the two
folders; to split `train` itself without a leak, keep families together: --split-rule family:1.

Examples:
  jepa-bench ingest pusht raw/pusht_noise data/pusht
  jepa-bench ingest pusht raw/pusht_noise data/pusht --split-rule family:1:0.9:234",
    options: &[],
    open: |root, options| Ok(Box::new(PushtSource::open(root, options)?)),
};

const CAMERA: &str = "top";
/// Folder of the release.
const FOLDER: &str = "pusht_noise";
/// The two parts, in the order of their episodes.
const PARTS: [&str; 2] = ["train", "val"];
/// Released actions are divided by this (datasets.md section 5.2).
const ACTION_SCALE: f32 = 100.0;
/// Name of the column with the target in the world.
const ABSOLUTE_ACTION: &str = "action.absolute";
/// Control steps per second.
const CONTROL_HZ: f64 = 10.0;
/// Seed of the reference configurations, which orders the slices.
const SLICE_SEED: u64 = 234;

/// An opened Push-T release.
pub struct PushtSource {
    root: PathBuf,
    parts: Vec<Part>,
    /// Type of the states of all parts.
    state_dtype: Dtype,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// `train/` or `val/`.
struct Part {
    name: &'static str,
    folder: PathBuf,
    states: Table,
    velocities: Table,
    actions: Table,
    absolute: Option<Table>,
    lengths: Vec<i64>,
    shapes: Option<Vec<String>>,
    files: Vec<Option<PathBuf>>,
}

impl Part {
    fn open(root: &Path, name: &'static str, inputs: &mut Inputs) -> Result<Self> {
        let folder = root.join(name);
        let mut table = |file: &str, width| {
            Table::open(&folder.join(file), width, &format!("{name}/{file}"), inputs)
        };
        let states = table("states.pth", 5)?;
        let velocities = table("velocities.pth", 2)?;
        let actions = table("rel_actions.pth", 2)?;
        let absolute = if folder.join("abs_actions.pth").exists() {
            Some(table("abs_actions.pth", 2)?)
        } else {
            None
        };
        let others = [Some(&velocities), Some(&actions), absolute.as_ref()];
        others
            .into_iter()
            .flatten()
            .try_for_each(|other| states.agrees_with(other))?;
        let lengths = list(
            &folder,
            "seq_lengths.pkl",
            name,
            inputs,
            PickleFile::integers,
        )?;
        let shapes = if folder.join("shapes.pkl").exists() {
            Some(list(
                &folder,
                "shapes.pkl",
                name,
                inputs,
                PickleFile::texts,
            )?)
        } else {
            None
        };
        let counts = [
            lengths.len(),
            shapes.as_ref().map_or(lengths.len(), Vec::len),
        ];
        if counts.iter().any(|&count| count != states.episodes) {
            return Err(Error::count(
                &folder.join("seq_lengths.pkl"),
                format!(
                    "{} lengths and {} shapes for {} episodes",
                    counts[0], counts[1], states.episodes
                ),
            ));
        }
        let files = numbered_files(&folder.join("obses"), "mp4", states.episodes)?;
        Ok(Self {
            name,
            folder,
            states,
            velocities,
            actions,
            absolute,
            lengths,
            shapes,
            files,
        })
    }

    /// Rows of an episode, checked against the tables.
    fn length(&self, index: usize) -> Result<usize> {
        let path = self.folder.join("seq_lengths.pkl");
        let length = self.lengths[index];
        if length == 0 {
            return Err(Error::EmptyEpisode {
                path,
                episode: index as u64,
            });
        }
        let rows = self.states.rows;
        usize::try_from(length)
            .ok()
            .filter(|&length| length <= rows)
            .ok_or_else(|| Error::Length {
                path,
                detail: format!("episode {index} has length {length}, the tables {rows} rows"),
            })
    }

    fn file(&self, index: usize) -> Result<&Path> {
        self.files[index].as_deref().ok_or_else(|| Error::Missing {
            path: self.folder.join(format!("obses/episode_{index:03}.mp4")),
        })
    }

    fn task(&self, index: usize) -> String {
        let shape = self.shapes.as_ref().map_or("T", |shapes| &shapes[index]);
        format!("push the {shape} block onto its target")
    }

    /// The columns of an episode of that many rows.
    fn columns(
        &self,
        index: usize,
        rows: usize,
        state_dtype: Dtype,
    ) -> Result<BTreeMap<String, jepa_datasets::Column>> {
        let state = self.states.episode(index, rows, "the state")?;
        let velocity = self.velocities.episode(index, rows, "the velocity")?;
        let action = self.actions.episode(index, rows, "the action")?;
        let both = || state.chunks_exact(5).zip(velocity.chunks_exact(2));
        let proprio: Vec<f64> = both().flat_map(|(s, v)| [s[0], s[1], v[0], v[1]]).collect();
        let full: Vec<f64> = both()
            .flat_map(|(s, v)| [s[0], s[1], s[2], s[3], s[4], v[0], v[1]])
            .collect();
        let scaled = action.iter().map(|&a| a as f32 / ACTION_SCALE).collect();
        let mut columns = BTreeMap::from([
            (
                ACTION.to_string(),
                jepa_datasets::Column::F32 {
                    width: 2,
                    values: scaled,
                },
            ),
            (PROPRIO.to_string(), f32_column(4, &proprio)),
            (STATE.to_string(), float_column(state_dtype, 7, full)),
        ]);
        if let Some(absolute) = &self.absolute {
            let values = absolute.episode(index, rows, "the absolute action")?;
            columns.insert(ABSOLUTE_ACTION.into(), f32_column(2, &values));
        }
        Ok(columns)
    }

    fn state_dtype(&self) -> Dtype {
        let both = [&self.states, &self.velocities].map(Table::stored_dtype);
        if both.contains(&Dtype::F64) {
            Dtype::F64
        } else {
            Dtype::F32
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let tables = [&self.states, &self.velocities, &self.actions];
        let tables = tables.into_iter().chain(&self.absolute);
        tables
            .map(|table| &table.path)
            .chain(self.files.iter().flatten())
    }
}

/// Reads a pickled list and notes its hash.
fn list<T>(
    folder: &Path,
    file: &str,
    part: &str,
    inputs: &mut Inputs,
    read: fn(&PickleFile) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let pickle = PickleFile::open(&folder.join(file))?;
    let items = read(&pickle)?;
    inputs.insert(format!("{part}/{file}"), sha256(pickle.bytes()));
    Ok(items)
}

impl PushtSource {
    /// Opens a release at `pusht_noise/` or at the folder that holds it. One of its parts may be missing.
    ///
    /// # Errors
    /// Anything wrong with the shared tensors and lists: without them there is no episode at all.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        refuse("task", &options.tasks, "Push-T has one task")?;
        let root = resolve(root);
        let mut inputs = Inputs::new();
        let mut parts = Vec::new();
        for name in PARTS {
            if root.join(name).is_dir() {
                parts.push(Part::open(&root, name, &mut inputs)?);
            }
        }
        let Some(first) = parts.first() else {
            return Err(Error::Missing {
                path: root.join(PARTS[0]),
            });
        };
        if parts
            .iter()
            .any(|part| part.absolute.is_some() != first.absolute.is_some())
        {
            return Err(Error::Missing {
                path: root.join("{train,val}/abs_actions.pth"),
            });
        }
        let state_dtype = if parts.iter().any(|part| part.state_dtype() == Dtype::F64) {
            Dtype::F64
        } else {
            Dtype::F32
        };
        let manifest = declare(&parts, state_dtype, inputs);
        let mut source = Self {
            root,
            parts,
            state_dtype,
            options,
            manifest,
        };
        source.declare_camera();
        Ok(source)
    }

    /// Takes the size of the frames from the first video that can be opened.
    fn declare_camera(&mut self) {
        let mut files = self
            .parts
            .iter()
            .flat_map(|part| part.files.iter().flatten());
        let first = files.find_map(|path| Video::open(FileBytes::open(path).ok()?).ok());
        let Some(video) = first else { return };
        let info = video.info();
        let native = [info.height, info.width];
        let size = self.options.size.unwrap_or(native);
        self.manifest.cameras = vec![Camera {
            resized_from: (size != native).then_some(native),
            ..Camera::new(CAMERA, size[0], size[1], PixelType::U8)
        }];
        self.manifest
            .notes
            .push(format!("frames were decoded from {} video", info.codec));
    }

    /// Part of an episode and its position there.
    fn part(&self, index: u64) -> Result<(&Part, usize)> {
        let mut rest = index as usize;
        for part in &self.parts {
            if rest < part.states.episodes {
                return Ok((part, rest));
            }
            rest -= part.states.episodes;
        }
        Err(Error::Missing {
            path: self.root.join(format!("episode {index}")),
        })
    }
}

impl Source for PushtSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        let episodes = self.parts.iter().map(|part| part.states.episodes as u64);
        episodes.sum()
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn released_split(&self) -> SplitRule {
        let train = self.parts.iter().filter(|part| part.name == PARTS[0]);
        SplitRule::First {
            train: train.map(|part| part.states.episodes as u64).sum(),
            seed: SLICE_SEED,
        }
    }

    fn path_of(&self, index: u64) -> String {
        let Ok((part, k)) = self.part(index) else {
            return String::new();
        };
        part.files[k].as_deref().map_or_else(
            || format!("{}/obses/episode_{k:03}.mp4", part.name),
            |path| relative(&self.root, path),
        )
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let (part, k) = self.part(index)?;
        let rows = part.length(k)?;
        let columns = part.columns(k, rows, self.state_dtype)?;
        let path = part.file(k)?;
        let bytes = FileBytes::open(path)?;
        let source_hash = sha256(&bytes);
        let camera = declared(&self.manifest, 0, path, CAMERA)?;
        let video = Video::open(bytes)?;
        let native = [video.info().height, video.info().width];
        let mut port = Port::open(sink, camera, native, self.options.size, path)?;
        let in_file = decode(&video, path, rows, &mut port)?;
        let mut extras = BTreeMap::new();
        if in_file != rows {
            extras.insert("video_frames".to_string(), in_file as f64);
        }
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash,
            task: part.task(k),
            seed: None,
            length: rows,
            columns,
            cameras: Vec::new(),
            extras,
        })
    }

    fn missing(&self) -> Vec<u64> {
        let mut missing = Vec::new();
        let mut before = 0;
        for part in &self.parts {
            missing.extend(missing_files(&part.files).into_iter().map(|k| before + k));
            before += part.states.episodes as u64;
        }
        missing
    }

    fn bytes(&self) -> u64 {
        total_bytes(self.parts.iter().flat_map(Part::paths))
    }
}

/// Decodes a video to its end, so that damage anywhere is found; the first `rows` frames go to the port.
/// Returns how many frames there are.
fn decode(video: &Video, path: &Path, rows: usize, port: &mut Port<'_>) -> Result<usize> {
    let mut rgb = Vec::new();
    let in_file = video.decode(&mut |k, frame| {
        if k < rows {
            rgb.clear();
            frame.rgb_into(&mut rgb)?;
            port.push(&rgb)?;
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    if in_file < rows {
        let detail = format!("it has {in_file} frames for {rows} rows");
        return Err(Error::count(path, detail));
    }
    Ok(in_file)
}

/// The folder that holds `train/` and `val/`.
fn resolve(root: &Path) -> PathBuf {
    let has_parts = |folder: &Path| PARTS.iter().any(|part| folder.join(part).is_dir());
    let nested = root.join(FOLDER);
    if !has_parts(root) && has_parts(&nested) {
        return nested;
    }
    root.to_path_buf()
}

fn declare(parts: &[Part], state_dtype: Dtype, inputs: Inputs) -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let mut fields = vec![
        Field::action(
            2,
            "hundreds of pixels",
            "target of the agent relative to it, x and y, divided by 100",
        ),
        Field::proprio(
            4,
            "pixels, pixels per second",
            "agent x, y and its velocity vx, vy",
        ),
        Field::state(
            state_dtype,
            7,
            "pixels, radians, pixels per second",
            "agent x, y, block x, y, block angle, agent vx, vy",
        ),
    ];
    if parts.iter().all(|part| part.absolute.is_some()) {
        fields.push(Field::new(
            ABSOLUTE_ACTION,
            Dtype::F32,
            2,
            "pixels",
            "the same target in the world, x and y",
            Alignment::AppliedAtRow,
        ));
    }
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: None,
            inputs,
        },
        fields,
        cameras: Vec::new(),
        fps: CONTROL_HZ,
        control_hz: Some(CONTROL_HZ),
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes: vec![
            "`train` holds families of 101 replays of one demonstration: a random split leaks"
                .into(),
        ],
    }
}
