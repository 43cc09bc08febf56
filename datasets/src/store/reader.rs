//! Reading: one slice touches its frames and one run of rows.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::disk::read_file;
use super::parquet::{BLOCK_ROWS, StepTable, read_episodes, read_ledger};
use super::zarr::FrameStore;
use super::{EPISODES, LEDGER, MANIFEST, SPLITS, STATS, writer};
use crate::episode::{ACTION, Column, PROPRIO, Pixels, REWARD, STATE};
use crate::schema::{EpisodeMeta, FORMAT_VERSION, Field, LedgerRow, Manifest, parse_json};
use crate::slice::{Shuffle, Slice, SliceIndex, SliceRef, SliceSpec};
use crate::split::{Split, SplitRule, Splits};
use crate::{Error, Result, Stats, WriterOptions};

/// Memory for rows that were read already.
const CACHE_BYTES: usize = 64 << 20;

/// An open dataset. All methods take `&self` and may be called from many threads.
#[derive(Debug)]
pub struct Dataset {
    root: PathBuf,
    manifest: Manifest,
    episodes: Vec<EpisodeMeta>,
    splits: Splits,
    stats: Stats,
    steps: StepTable,
    blocks: BlockCache,
    cameras: Vec<FrameStore>,
}

/// How much was read from disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCount {
    /// Reads of the step table.
    pub row_reads: u64,
    /// Bytes of the step table.
    pub row_bytes: u64,
    /// Reads of frame stores: one per frame, one per shard for its index, one for the metadata.
    pub frame_reads: u64,
    /// Bytes of frame stores.
    pub frame_bytes: u64,
}

impl Dataset {
    /// Opens a finished dataset.
    ///
    /// # Errors
    /// [`Error::NotADataset`], [`Error::Unfinished`], [`Error::NewerFormat`]; [`Error::Io`] or
    /// [`Error::Corrupt`], naming the file, for one that is missing or does not have its length.
    /// Tables, splits and statistics are checked by hash, frames by checksum when they are read, and
    /// everything at once by [`crate::conformance::validate`].
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = read_manifest(path)?;
        check_files(path, &manifest)?;
        let names: Vec<String> = manifest
            .draft
            .cameras
            .iter()
            .map(|camera| camera.name.clone())
            .collect();
        let episodes = read_episodes(
            &path.join(EPISODES),
            read_checked(path, &manifest, EPISODES)?,
            &names,
        )?;
        check_layout(path, &manifest, &episodes)?;
        let splits: Splits =
            parse_json(&path.join(SPLITS), &read_checked(path, &manifest, SPLITS)?)?;
        check_splits(path, &splits, episodes.len() as u64)?;
        let stats: Stats = parse_json(&path.join(STATS), &read_checked(path, &manifest, STATS)?)?;
        check_stats(path, &manifest, &stats)?;
        let steps = StepTable::open(path, &manifest.draft.fields, manifest.counts.rows)?;
        let cameras: Result<Vec<FrameStore>> = manifest
            .draft
            .cameras
            .iter()
            .map(|camera| {
                FrameStore::open(
                    path,
                    camera,
                    manifest.codec,
                    frames_in(&episodes, &camera.name),
                )
            })
            .collect();
        Ok(Self {
            root: path.to_path_buf(),
            blocks: BlockCache::new(&manifest),
            cameras: cameras?,
            manifest,
            episodes,
            splits,
            stats,
            steps,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `dataset.json`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every episode, by index.
    pub fn episodes(&self) -> &[EpisodeMeta] {
        &self.episodes
    }

    /// One episode.
    pub fn episode(&self, index: u64) -> Result<&EpisodeMeta> {
        let len = self.episodes.len() as u64;
        self.episodes.get(index as usize).ok_or(Error::OutOfRange {
            what: "episode",
            index,
            len,
        })
    }

    /// The split `train`, `val` or `all`.
    pub fn split(&self, name: &str) -> Result<&Split> {
        self.splits.get(name)
    }

    /// Every split.
    pub fn splits(&self) -> &[Split] {
        &self.splits.splits
    }

    /// Statistics of every field, over the training split and over everything.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Hash of the manifest, which covers every file.
    pub fn content_hash(&self) -> &str {
        &self.manifest.content_hash
    }

    /// What became of every source episode.
    pub fn ledger(&self) -> Result<Vec<LedgerRow>> {
        read_ledger(
            &self.root.join(LEDGER),
            read_checked(&self.root, &self.manifest, LEDGER)?,
        )
    }

    /// Whether writing with these options and this rule would make this dataset again.
    pub(super) fn was_written_with(&self, options: &WriterOptions, rule: &SplitRule) -> bool {
        let manifest = &self.manifest;
        let rule = rule
            .resolve(&manifest.draft.source.name)
            .map(|rule| rule.to_string());
        manifest.draft == options.manifest
            && manifest.codec == options.codec
            && manifest.source_episodes == options.total_episodes
            && manifest.selection == options.selection
            && self
                .splits
                .splits
                .iter()
                .all(|split| rule.as_ref().is_ok_and(|rule| *rule == split.rule))
    }

    /// A run of rows of one episode, every field.
    pub fn read_rows(&self, episode: u64, range: Range<usize>) -> Result<BTreeMap<String, Column>> {
        let meta = self.episode(episode)?;
        check_range("row", range.start, range.end, meta.length)?;
        let fields = &self.manifest.draft.fields;
        // Room is made as rows are found: an episode may be longer in its table than in truth.
        let empty = |field: &Field| Column::with_capacity(field.dtype, field.width(), 0);
        let mut columns: Vec<Column> = fields.iter().map(empty).collect();
        let end = meta.first_row + range.end as u64;
        let mut row = meta.first_row + range.start as u64;
        while row < end {
            let block = self.steps.block_of(row);
            let values = self
                .blocks
                .get_or_read(&block, || self.steps.read_block(&block))?;
            let stop = end.min(block.end);
            for (column, source) in columns.iter_mut().zip(values.iter()) {
                column.extend_rows(
                    source,
                    (row - block.start) as usize..(stop - block.start) as usize,
                );
            }
            row = stop;
        }
        Ok(fields
            .iter()
            .map(|field| field.name.clone())
            .zip(columns)
            .collect())
    }

    /// Some frames of one episode, `[indices, height, width, 3]`.
    ///
    /// An episode has as many frames as rows, or one more where the manifest says `extra_last_obs`.
    pub fn read_frames(&self, camera: &str, episode: u64, indices: &[usize]) -> Result<Pixels> {
        let meta = self.episode(episode)?;
        let store = self.camera(Some(camera))?;
        let range = meta.frames.get(camera).copied().unwrap_or_default();
        let last = indices.iter().copied().max().unwrap_or(0);
        check_range("frame", last, last + 1, range.count)?;
        store.read(indices.iter().map(|&index| range.first + index as u64))
    }

    /// The slices of a split, by number.
    pub fn slices(&self, spec: &SliceSpec) -> Result<SliceIndex> {
        let split = self.split(&spec.split)?;
        SliceIndex::new(spec, &self.lengths(split), self.shuffle(spec, split)?)
    }

    /// One slice: `W + 1` frames and one run of rows.
    pub fn read_slice(&self, spec: &SliceSpec, at: SliceRef) -> Result<Slice> {
        let slice = self.read_slice_rows(spec, at)?;
        let chosen: Vec<usize> = spec.rows_of(at.start).collect();
        let (frames, [height, width]) = self.slice_frames(spec, at.episode, &chosen)?;
        Ok(Slice {
            frames,
            height,
            width,
            ..slice
        })
    }

    /// One slice without its frames: `frames` is empty, `height` and `width` are 0.
    pub fn read_slice_rows(&self, spec: &SliceSpec, at: SliceRef) -> Result<Slice> {
        spec.check()?;
        let meta = self.episode(at.episode)?;
        let run = at.start..at.start.saturating_add(spec.rows());
        check_range("row", run.start, run.end, meta.length)?;
        let chosen: Vec<usize> = spec.rows_of(at.start).collect();
        let columns = self.read_rows(at.episode, run)?;
        let strided = |name: &str| {
            columns
                .get(name)
                .map(|column| every(column, spec.frameskip, spec.frames()))
        };
        let action = columns.get(ACTION).map(|action| {
            let mut values = action.to_f32();
            values.truncate(spec.blocks() * spec.frameskip * action.width());
            values
        });
        Ok(Slice {
            frames: Pixels::U8(Vec::new()),
            height: 0,
            width: 0,
            action: action.unwrap_or_default(),
            proprio: strided(PROPRIO)
                .map(|column| column.to_f32())
                .unwrap_or_default(),
            state: strided(STATE)
                .map(|column| column.to_f64())
                .unwrap_or_default(),
            reward: strided(REWARD)
                .map_or_else(|| vec![0.0; spec.frames()], |column| column.to_f32()),
            rows: chosen.iter().map(|&row| row as u64).collect(),
            at,
        })
    }

    /// The frames of a slice and their size. A dataset without cameras has slices without frames.
    fn slice_frames(
        &self,
        spec: &SliceSpec,
        episode: u64,
        rows: &[usize],
    ) -> Result<(Pixels, [usize; 2])> {
        if self.cameras.is_empty() && spec.camera.is_none() {
            return Ok((Pixels::U8(Vec::new()), [0, 0]));
        }
        let camera = self.manifest.camera(spec.camera.as_deref())?;
        let frames = self.read_frames(&camera.name, episode, rows)?;
        Ok((frames, [camera.height, camera.width]))
    }

    /// How much was read from the step table and the frame stores since the dataset was opened, that
    /// opening included.
    pub fn read_count(&self) -> ReadCount {
        let (row_reads, row_bytes) = self.steps.reads();
        let frames = self.cameras.iter().map(FrameStore::reads);
        let (frame_reads, frame_bytes) =
            frames.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        ReadCount {
            row_reads,
            row_bytes,
            frame_reads,
            frame_bytes,
        }
    }

    fn camera(&self, name: Option<&str>) -> Result<&FrameStore> {
        let wanted = self.manifest.camera(name)?;
        let found = self
            .cameras
            .iter()
            .find(|store| store.camera().name == wanted.name);
        found.ok_or_else(|| Error::NotADataset {
            path: self.root.clone(),
            detail: "it has no cameras".into(),
        })
    }

    /// Episode and length, in the order of a split.
    fn lengths(&self, split: &Split) -> Vec<(u64, u64)> {
        split
            .episodes
            .iter()
            .map(|&e| (e, self.episodes[e as usize].length))
            .collect()
    }

    /// The permutation that the released order of a split is (datasets.md section 2.3).
    fn shuffle(&self, spec: &SliceSpec, split: &Split) -> Result<Shuffle> {
        if spec.order == crate::Order::Sequential {
            return Ok(Shuffle::None);
        }
        if split.rule.parse::<SplitRule>()? != SplitRule::DinoWm {
            return Ok(Shuffle::Torch { seed: split.seed });
        }
        let before = if split.name == "val" {
            self.lengths(self.split("train")?)
        } else {
            Vec::new()
        };
        Ok(Shuffle::NumpyAfter {
            drawn: before.iter().map(|(_, length)| spec.windows(*length)).sum(),
        })
    }
}

/// Every `step`-th row of a column, `count` of them.
fn every(column: &Column, step: usize, count: usize) -> Column {
    let mut out = Column::with_capacity(column.dtype(), column.width(), count);
    (0..count).for_each(|i| out.extend_rows(column, i * step..i * step + 1));
    out
}

fn check_range(what: &'static str, start: usize, end: usize, len: u64) -> Result<()> {
    if start <= end && end as u64 <= len {
        return Ok(());
    }
    Err(Error::OutOfRange {
        what,
        index: end.max(1) as u64 - 1,
        len,
    })
}

/// Reads `dataset.json`, the version first: newer ones may look different.
pub(crate) fn read_manifest(root: &Path) -> Result<Manifest> {
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let path = root.join(MANIFEST);
    if !path.exists() {
        return Err(not_finished(root));
    }
    let bytes = read_file(&path)?;
    let Version {
        format_version: found,
    } = parse_json(&path, &bytes)?;
    if found > FORMAT_VERSION {
        return Err(Error::NewerFormat {
            path,
            found,
            known: FORMAT_VERSION,
        });
    }
    let manifest = parse_json(&path, &bytes)?;
    super::manifest::check(&path, &manifest)?;
    Ok(manifest)
}

fn not_finished(root: &Path) -> Error {
    let path = root.to_path_buf();
    match writer::progress(root) {
        Ok(Some((pending, total))) => Error::Unfinished {
            path,
            pending,
            total,
        },
        Err(error @ Error::IsShard { .. }) => error,
        _ if !root.exists() => Error::NotADataset {
            path,
            detail: "there is no such folder".into(),
        },
        _ => Error::NotADataset {
            path,
            detail: format!("it has no `{MANIFEST}`"),
        },
    }
}

/// Every file under a dataset, relative to it, in order.
pub(crate) fn list_files(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))? {
            let path = entry.map_err(|e| Error::io("read", &folder, e))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(name) = path.strip_prefix(root) {
                files.push(name.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Compares the numbering columns of the step table with the episodes: the first fault of each episode.
pub(crate) fn check_numbering(dataset: &Dataset) -> Result<Vec<(u64, String)>> {
    let mut faults: BTreeMap<u64, String> = BTreeMap::new();
    let mut episodes = dataset
        .episodes
        .iter()
        .flat_map(|e| (0..e.length).map(|row| (e.episode_index, row)));
    let tasks = &dataset.manifest.tasks;
    let mut index = 0;
    dataset.steps.for_each_number(|found| {
        let Some((episode, row)) = episodes.next() else {
            return;
        };
        let task = tasks
            .iter()
            .position(|task| *task == dataset.episodes[episode as usize].task);
        let expected = [
            episode as i64,
            row as i64,
            index,
            task.map_or(-1, |task| task as i64),
        ];
        if found != expected {
            let text = format!(
                "row {row}: episode, frame, index and task are {found:?}, not {expected:?}"
            );
            faults.entry(episode).or_insert(text);
        }
        index += 1;
    })?;
    Ok(faults.into_iter().collect())
}

/// Every file is there and has its length.
fn check_files(root: &Path, manifest: &Manifest) -> Result<()> {
    for (name, entry) in &manifest.files {
        let path = root.join(name);
        let found = fs::metadata(&path)
            .map_err(|e| Error::io("read", &path, e))?
            .len();
        if found != entry.bytes {
            return Err(Error::corrupt(
                &path,
                format!("it has {found} bytes, `{MANIFEST}` says {}", entry.bytes),
            ));
        }
    }
    Ok(())
}

/// Reads a small file whole and checks its hash.
fn read_checked(root: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
    let path = root.join(name);
    let bytes = read_file(&path)?;
    match manifest.files.get(name) {
        Some(entry) if entry.blake3 == blake3::hash(&bytes).to_hex().as_str() => Ok(bytes),
        Some(_) => Err(Error::corrupt(
            &path,
            "its hash is not the one in `dataset.json`",
        )),
        None => Err(Error::corrupt(&path, "`dataset.json` does not list it")),
    }
}

/// Episodes are numbered without gaps, and their rows and frames follow each other.
fn check_layout(root: &Path, manifest: &Manifest, episodes: &[EpisodeMeta]) -> Result<()> {
    let fault = |detail: String| Err(Error::corrupt(&root.join(EPISODES), detail));
    let add = |a: u64, b: u64| {
        let sum = a.checked_add(b);
        sum.ok_or_else(|| Error::corrupt(&root.join(EPISODES), "its counts have no sum"))
    };
    let mut row = 0;
    let mut frame: BTreeMap<&str, u64> = BTreeMap::new();
    for (k, episode) in episodes.iter().enumerate() {
        if episode.episode_index != k as u64 || episode.first_row != row {
            return fault(format!("episode {k} is not where it belongs"));
        }
        row = add(row, episode.length)?;
        for (camera, range) in &episode.frames {
            let next = frame.entry(camera).or_default();
            if range.first != *next || range.count < episode.length {
                return fault(format!(
                    "the frames of episode {k}, camera `{camera}`, are not where they belong"
                ));
            }
            *next = add(*next, range.count)?;
        }
    }
    let counts = manifest.counts;
    if (episodes.len() as u64, row) != (counts.episodes, counts.rows) {
        let (n, counted) = (episodes.len(), counts.episodes);
        return fault(format!(
            "it has {n} episodes of {row} rows, `{MANIFEST}` says {counted} of {}",
            counts.rows
        ));
    }
    Ok(())
}

fn check_splits(root: &Path, splits: &Splits, episodes: u64) -> Result<()> {
    let stray = splits
        .splits
        .iter()
        .find(|split| split.episodes.iter().any(|&e| e >= episodes));
    match stray {
        Some(split) => Err(Error::corrupt(
            &root.join(SPLITS),
            format!("split `{}` names a missing episode", split.name),
        )),
        None => Ok(()),
    }
}

/// Every field has statistics of its width.
fn check_stats(root: &Path, manifest: &Manifest, stats: &Stats) -> Result<()> {
    let is_whole = |field: &&Field| {
        let found = stats.fields.get(&field.name);
        found.is_some_and(|found| found.has_width(field.width()))
    };
    match manifest.draft.fields.iter().find(|field| !is_whole(field)) {
        Some(field) => Err(Error::corrupt(
            &root.join(STATS),
            format!("the statistics of `{}` are not of its width", field.name),
        )),
        None => Ok(()),
    }
}

fn frames_in(episodes: &[EpisodeMeta], camera: &str) -> u64 {
    episodes
        .iter()
        .filter_map(|e| e.frames.get(camera))
        .map(|range| range.count)
        .sum()
}

/// First row of a block, and its columns.
type CachedBlock = (u64, Arc<Vec<Column>>);

/// Decoded blocks of the step table. Each block has one slot, which it shares with others when the
/// table is larger than the memory set aside; the last one read stays.
#[derive(Debug)]
struct BlockCache {
    slots: Vec<RwLock<Option<CachedBlock>>>,
}

impl BlockCache {
    fn new(manifest: &Manifest) -> Self {
        let row_bytes: usize = manifest
            .draft
            .fields
            .iter()
            .map(|f| f.width() * f.dtype.bytes())
            .sum();
        let budget = CACHE_BYTES / (row_bytes.max(1) * BLOCK_ROWS);
        let blocks = manifest.counts.rows as usize / BLOCK_ROWS + 2;
        Self {
            slots: (0..budget.clamp(8, 1 << 16).min(blocks))
                .map(|_| RwLock::new(None))
                .collect(),
        }
    }

    fn get_or_read(
        &self,
        rows: &Range<u64>,
        read: impl FnOnce() -> Result<Vec<Column>>,
    ) -> Result<Arc<Vec<Column>>> {
        let slot = &self.slots[(rows.start / BLOCK_ROWS as u64) as usize % self.slots.len()];
        if let Some((start, block)) = slot.read().unwrap_or_else(PoisonError::into_inner).as_ref()
            && *start == rows.start
        {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(read()?);
        *slot.write().unwrap_or_else(PoisonError::into_inner) =
            Some((rows.start, Arc::clone(&block)));
        Ok(block)
    }
}
