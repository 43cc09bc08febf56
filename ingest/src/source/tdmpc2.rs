//! TD-MPC2's multi-task datasets (datasets.md section 8.4).
//!
//! ```text
//! chunk_0.pt ... chunk_19.pt   a TensorDict each, read in the order of the names as text
//!   obs     [E, L, D]   state, zeros beyond the width of the task
//!   action  [E, L, A]   row t holds the action that led to row t; row 0 is filler
//!   reward  [E, L]      row t holds the reward on reaching row t; row 0 is filler
//!   task    [E, L]      number of the task
//! ```
//!
//! The rows of `action` and `reward` move up by one, so that row `t` is applied at row `t`; the filler goes
//! by its position, whatever it holds. An episode has `L - 1` rows; the observation after the last action
//! has no row of its own. There are no images.
//!
//! A file that cannot be used does not hide the others: after all episodes of the others it has one entry of its own,
//! which is rejected with what is wrong with the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Column, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO, REWARD, STATE,
};

use super::support::{
    f32_column, files_in, finite, float_column, refuse, relative, sha256_of, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::torch_zip::{Tensor, TorchFile};
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "tdmpc2",
    summary: "TD-MPC2's mt30 and mt80 datasets: chunks of states, actions and rewards, no images",
    details: "\
SRC is a folder of `.pt` files, or one of them; each is a TensorDict of episodes:

  obs [E, L, D], action [E, L, A], reward [E, L], task [E, L]

Row 0 of actions and rewards is filler and goes by its position, whatever it holds. There are no
images. Tasks are named as in TD-MPC2: --task mw-reach.

Example:
  jepa-bench ingest tdmpc2 raw/mt30 data/mt30",
    options: &["task"],
    open: |root, options| Ok(Box::new(Tdmpc2Source::open(root, &options)?)),
};

/// Rows per episode and number of files of the released sets, mt80 and mt30.
const RELEASED: [(usize, usize); 2] = [(101, 20), (501, 4)];

/// Tasks by number, as in mt80; mt30 has the first 30 of them.
const TASKS: [&str; 80] = [
    "walker-stand",
    "walker-walk",
    "walker-run",
    "cheetah-run",
    "reacher-easy",
    "reacher-hard",
    "acrobot-swingup",
    "pendulum-swingup",
    "cartpole-balance",
    "cartpole-balance-sparse",
    "cartpole-swingup",
    "cartpole-swingup-sparse",
    "cup-catch",
    "finger-spin",
    "finger-turn-easy",
    "finger-turn-hard",
    "fish-swim",
    "hopper-stand",
    "hopper-hop",
    "walker-walk-backwards",
    "walker-run-backwards",
    "cheetah-run-backwards",
    "cheetah-run-front",
    "cheetah-run-back",
    "cheetah-jump",
    "hopper-hop-backwards",
    "reacher-three-easy",
    "reacher-three-hard",
    "cup-spin",
    "pendulum-spin",
    "mw-assembly",
    "mw-basketball",
    "mw-button-press-topdown",
    "mw-button-press-topdown-wall",
    "mw-button-press",
    "mw-button-press-wall",
    "mw-coffee-button",
    "mw-coffee-pull",
    "mw-coffee-push",
    "mw-dial-turn",
    "mw-disassemble",
    "mw-door-open",
    "mw-door-close",
    "mw-drawer-close",
    "mw-drawer-open",
    "mw-faucet-open",
    "mw-faucet-close",
    "mw-hammer",
    "mw-handle-press-side",
    "mw-handle-press",
    "mw-handle-pull-side",
    "mw-handle-pull",
    "mw-lever-pull",
    "mw-peg-insert-side",
    "mw-peg-unplug-side",
    "mw-pick-out-of-hole",
    "mw-pick-place",
    "mw-pick-place-wall",
    "mw-plate-slide",
    "mw-plate-slide-side",
    "mw-plate-slide-back",
    "mw-plate-slide-back-side",
    "mw-push-back",
    "mw-push",
    "mw-push-wall",
    "mw-reach",
    "mw-reach-wall",
    "mw-shelf-place",
    "mw-soccer",
    "mw-stick-push",
    "mw-stick-pull",
    "mw-sweep-into",
    "mw-sweep",
    "mw-window-open",
    "mw-window-close",
    "mw-bin-picking",
    "mw-box-close",
    "mw-door-lock",
    "mw-door-unlock",
    "mw-hand-insert",
];

/// An opened folder of chunks.
pub struct Tdmpc2Source {
    root: PathBuf,
    chunks: Vec<Chunk>,
    /// Every usable episode: its file and its place there.
    places: Vec<(u32, u32)>,
    /// Files that cannot be used.
    broken: Vec<PathBuf>,
    sizes: Sizes,
    manifest: ManifestDraft,
}

struct Chunk {
    path: PathBuf,
    file: TorchFile,
}

/// What all files of a set have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// `L`: rows of an episode, the first with filler.
    rows: usize,
    /// Numbers per observation.
    obs: usize,
    /// Numbers per action.
    action: usize,
    /// Observations are `float64`.
    is_wide: bool,
}

/// The tensors of one file.
struct Tensors<'a> {
    path: &'a Path,
    episodes: usize,
    sizes: Sizes,
    obs: Tensor<'a>,
    action: Tensor<'a>,
    reward: Tensor<'a>,
    task: Tensor<'a>,
    has_images: bool,
}

impl<'a> Tensors<'a> {
    fn of(file: &'a TorchFile) -> Result<Self> {
        let path = file.path();
        let mut named = file.tensors()?;
        let has_images = named.contains_key("obs.rgb");
        let obs = named.remove("obs").or_else(|| named.remove("obs.state"));
        let mut take = |key: &str, found: Option<Tensor<'a>>| {
            let found = found.or_else(|| named.remove(key));
            found.ok_or_else(|| Error::MissingKey {
                path: path.to_path_buf(),
                key: key.into(),
            })
        };
        let obs = take("obs", obs)?;
        let action = take("action", None)?;
        let reward = take("reward", None)?;
        let task = take("task", None)?;
        let &[episodes, rows, obs_width] = obs.shape() else {
            return Err(misshapen(path, "obs", &obs, "[episodes, rows, width]"));
        };
        let action_width = match *action.shape() {
            [e, r, width] if (e, r) == (episodes, rows) => width,
            _ => return Err(misshapen(path, "action", &action, "that of `obs`")),
        };
        for (key, tensor) in [("reward", &reward), ("task", &task)] {
            match *tensor.shape() {
                [e, r] | [e, r, 1] if (e, r) == (episodes, rows) => {}
                _ => return Err(misshapen(path, key, tensor, "that of `obs`")),
            }
        }
        let sizes = Sizes {
            rows,
            obs: obs_width,
            action: action_width,
            is_wide: !obs.dtype().fits_f32(),
        };
        Ok(Self {
            path,
            episodes,
            sizes,
            obs,
            action,
            reward,
            task,
            has_images,
        })
    }

    /// Refuses a file unlike the others.
    fn check(&self, expected: &Sizes) -> Result<()> {
        let Sizes { rows, .. } = self.sizes;
        if rows != expected.rows || rows < 2 {
            let detail = format!("its episodes have {rows} rows, expected {}", expected.rows);
            return Err(Error::Length {
                path: self.path.to_path_buf(),
                detail,
            });
        }
        if self.sizes != *expected {
            let detail = format!(
                "sizes {:?} are not {expected:?} of the other files",
                self.sizes
            );
            return Err(Error::count(self.path, detail));
        }
        Ok(())
    }

    /// Number of the task of an episode, the same in every row.
    fn task(&self, episode: usize) -> Result<i64> {
        let rows = self.task.at(episode).and_then(|rows| rows.to_i64());
        let rows = rows.ok_or_else(|| Error::Dtype {
            path: self.path.to_path_buf(),
            found: format!("{:?}", self.task.dtype()),
            wanted: "task numbers",
        })?;
        let first = rows.first().copied().unwrap_or(-1);
        if let Some(row) = rows.iter().position(|&task| task != first) {
            let detail = format!("the task of episode {episode} changes at row {row}");
            return Err(Error::count(self.path, detail));
        }
        Ok(first)
    }

    /// Some rows of one episode, all finite.
    fn rows(
        &self,
        tensor: &Tensor<'_>,
        what: &'static str,
        episode: usize,
        rows: std::ops::Range<usize>,
    ) -> Result<Vec<f64>> {
        let first = rows.start;
        let part = tensor.at(episode).and_then(|part| part.rows(rows));
        let part = part.ok_or_else(|| {
            Error::count(
                self.path,
                format!("it has no episode {episode} of that length"),
            )
        })?;
        let values = part.to_f64();
        let width = part.shape().get(1).copied().unwrap_or(1);
        finite(self.path, what, &values, width, first)?;
        Ok(values)
    }
}

fn misshapen(path: &Path, key: &str, tensor: &Tensor<'_>, wanted: &str) -> Error {
    let shape = tensor.shape();
    Error::count(
        path,
        format!("`{key}` has the shape {shape:?}, not {wanted}"),
    )
}

impl Tdmpc2Source {
    /// Opens a folder of chunks, or a single chunk.
    ///
    /// # Errors
    /// When there is no chunk, or none that can be used: the fault of the first.
    pub fn open(root: &Path, options: &SourceOptions) -> Result<Self> {
        refuse("camera", &options.cameras, "this source has no images")?;
        if let Some([h, w]) = options.size {
            let size = [format!("{h}x{w}")];
            refuse("size", &size, "this source has no images")?;
        }
        let (root, paths) = if root.is_file() {
            let parent = root.parent().unwrap_or(root).to_path_buf();
            (parent, vec![root.to_path_buf()])
        } else {
            (root.to_path_buf(), files_in(root, &["pt"])?)
        };
        let opened: Vec<Result<TorchFile>> =
            paths.iter().map(|path| TorchFile::open(path)).collect();
        let sizes = common_sizes(opened.iter().filter_map(|file| file.as_ref().ok()));
        let mut faults = Vec::new();
        let mut chunks = Vec::new();
        let mut has_images = false;
        for (path, file) in paths.into_iter().zip(opened) {
            let checked = file.and_then(|file| {
                let tensors = Tensors::of(&file)?;
                tensors.check(&sizes.unwrap_or(tensors.sizes))?;
                has_images |= tensors.has_images;
                Ok(file)
            });
            match checked {
                Ok(file) => chunks.push(Chunk { path, file }),
                Err(fault) => faults.push((path, fault)),
            }
        }
        let Some(sizes) = sizes.filter(|_| !chunks.is_empty()) else {
            let first = faults.into_iter().next().map(|(_, fault)| fault);
            return Err(first.unwrap_or_else(|| Error::Nothing {
                path: root,
                detail: "there is no file `*.pt`".into(),
            }));
        };
        let places = places(&chunks, &options.tasks, &root)?;
        let mut manifest = declare(&sizes);
        let files = chunks.len() + faults.len();
        manifest.notes.extend(remark_on_files(sizes.rows, files));
        if has_images {
            manifest
                .notes
                .push("the images under `obs.rgb` are not stored".into());
        }
        Ok(Self {
            root,
            chunks,
            places,
            broken: faults.into_iter().map(|(path, _)| path).collect(),
            sizes,
            manifest,
        })
    }

    /// The fault of a file that could not be used when the release was opened.
    fn fault_of(&self, path: &Path) -> Error {
        let again = TorchFile::open(path)
            .and_then(|file| Tensors::of(&file).and_then(|tensors| tensors.check(&self.sizes)));
        again
            .err()
            .unwrap_or_else(|| Error::count(path, "it has changed since the release was opened"))
    }

    /// File of an entry.
    fn path_at(&self, index: u64) -> Option<&Path> {
        let index = index as usize;
        match self.places.get(index) {
            Some(&(chunk, _)) => self
                .chunks
                .get(chunk as usize)
                .map(|chunk| chunk.path.as_path()),
            None => self
                .broken
                .get(index - self.places.len())
                .map(PathBuf::as_path),
        }
    }
}

/// Number of files of the released set whose episodes have so many rows.
fn released_files(rows: usize) -> Option<usize> {
    let set = RELEASED.iter().find(|(released, _)| *released == rows);
    set.map(|(_, files)| *files)
}

/// Says that there are more or fewer files than in the release.
fn remark_on_files(rows: usize, found: usize) -> Option<String> {
    let files = released_files(rows).filter(|&files| files != found)?;
    let note =
        format!("there are {found} files; the released set of episodes of {rows} rows has {files}");
    tracing::warn!("{note}");
    Some(note)
}

/// The sizes that the files of a set must have: those of the first file with a released length, or else of
/// the first file.
fn common_sizes<'a>(files: impl Iterator<Item = &'a TorchFile>) -> Option<Sizes> {
    let all: Vec<Sizes> = files
        .filter_map(|file| Tensors::of(file).ok().map(|tensors| tensors.sizes))
        .collect();
    let released = all
        .iter()
        .find(|sizes| released_files(sizes.rows).is_some());
    released.or_else(|| all.first()).copied()
}

/// The episodes of some tasks, in the order of the files.
fn places(chunks: &[Chunk], tasks: &[String], root: &Path) -> Result<Vec<(u32, u32)>> {
    let mut places = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    let mut total: usize = 0;
    for (k, chunk) in chunks.iter().enumerate() {
        let tensors = Tensors::of(&chunk.file)?;
        total += tensors.episodes;
        for episode in 0..tensors.episodes {
            // An episode whose task cannot be told is reported when it is read.
            let name = if tasks.is_empty() {
                None
            } else {
                tensors
                    .task(episode)
                    .and_then(|task| task_name(&chunk.path, task))
                    .ok()
            };
            let is_wanted = name.is_none_or(|name| {
                known.insert(name);
                tasks.iter().any(|task| task == name)
            });
            if is_wanted {
                places.push((k as u32, episode as u32));
            }
        }
    }
    if places.is_empty() {
        let known: Vec<&str> = known.into_iter().collect();
        return Err(Error::Nothing {
            path: root.to_path_buf(),
            detail: format!(
                "0 of {total} episodes are of the tasks asked for; available tasks: {}",
                known.join(", ")
            ),
        });
    }
    Ok(places)
}

fn task_name(path: &Path, task: i64) -> Result<&'static str> {
    let name = usize::try_from(task).ok().and_then(|task| TASKS.get(task));
    name.copied().ok_or_else(|| Error::Range {
        path: path.to_path_buf(),
        detail: format!("task {task} is not one of the {} of mt80", TASKS.len()),
    })
}

fn declare(sizes: &Sizes) -> ManifestDraft {
    let obs = "observation of the environment, zeros beyond the width of the task";
    let dtype = if sizes.is_wide {
        Dtype::F64
    } else {
        Dtype::F32
    };
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: Some("https://huggingface.co/datasets/nicklashansen/tdmpc2".into()),
            revision: None,
            inputs: BTreeMap::new(),
        },
        fields: vec![
            Field::action(
                sizes.action,
                "unitless",
                "action of the environment, zeros beyond the width of the task",
            ),
            Field::proprio(sizes.obs, "mixed", obs),
            Field::state(dtype, sizes.obs, "mixed", obs),
            Field::reward("reward for the action of the row"),
        ],
        cameras: Vec::new(),
        fps: 1.0,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: Some("Hansen et al., TD-MPC2: Scalable, Robust World Models for Continuous Control, arXiv 2310.16828".into()),
        notes: vec![
            "the rates of the tasks differ: `timestamp` counts steps".into(),
            "action and reward are moved up by one row: row t of the release holds what led to it".into(),
            "the observation after the last action is not stored".into(),
        ],
    }
}

impl Source for Tdmpc2Source {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        (self.places.len() + self.broken.len()) as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        self.path_at(index)
            .map(|path| relative(&self.root, path))
            .unwrap_or_default()
    }

    fn read_into(&self, index: u64, _sink: &mut dyn FrameSink) -> Result<Episode> {
        let place = self.places.get(index as usize);
        let Some((chunk, &(_, row))) =
            place.and_then(|place| Some((self.chunks.get(place.0 as usize)?, place)))
        else {
            let path = self.path_at(index).unwrap_or(&self.root);
            return Err(self.fault_of(path));
        };
        let tensors = Tensors::of(&chunk.file)?;
        let row = row as usize;
        let task = tensors.task(row)?;
        let Sizes {
            rows,
            obs,
            action,
            is_wide,
        } = self.sizes;
        let length = rows - 1;
        let state = tensors.rows(&tensors.obs, "the observation", row, 0..length)?;
        let actions = tensors.rows(&tensors.action, "the action", row, 1..rows)?;
        let rewards = tensors.rows(&tensors.reward, "the reward", row, 1..rows)?;
        let bytes = [&tensors.obs, &tensors.action, &tensors.reward].map(|tensor| {
            tensor
                .at(row)
                .map(|part| part.to_le_bytes())
                .unwrap_or_default()
        });
        let dtype = if is_wide { Dtype::F64 } else { Dtype::F32 };
        let columns: [(&str, Column); 4] = [
            (ACTION, f32_column(action, &actions)),
            (PROPRIO, f32_column(obs, &state)),
            (REWARD, f32_column(1, &rewards)),
            (STATE, float_column(dtype, obs, state)),
        ];
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: sha256_of(&[&bytes[0], &bytes[1], &bytes[2]]),
            task: task_name(&chunk.path, task)?.into(),
            seed: None,
            length,
            columns: columns
                .map(|(name, column)| (name.to_string(), column))
                .into(),
            cameras: Vec::new(),
            extras: BTreeMap::from([
                ("row_in_file".into(), row as f64),
                ("task_id".into(), task as f64),
            ]),
        })
    }

    fn missing(&self) -> Vec<u64> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        let chunks = self.chunks.iter().map(|chunk| chunk.path.as_path());
        total_bytes(chunks.chain(self.broken.iter().map(PathBuf::as_path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_the_numbers_of_mt80() {
        let name = |task| task_name(Path::new("x"), task);
        assert_eq!(name(0).expect("a task"), "walker-stand");
        assert_eq!(name(29).expect("a task"), "pendulum-spin");
        assert_eq!(name(30).expect("a task"), "mw-assembly");
        assert_eq!(name(65).expect("a task"), "mw-reach");
        assert_eq!(name(79).expect("a task"), "mw-hand-insert");
        assert!(name(80).is_err() && name(-1).is_err());
        let distinct: std::collections::BTreeSet<&str> = TASKS.into_iter().collect();
        assert_eq!(distinct.len(), TASKS.len());
    }
}
