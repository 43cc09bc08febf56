//! Writing: crash-safe, resumable, and with the same bytes whatever happened on the way.
//!
//! Every finished episode is staged as files that appear by a rename, then recorded in an append-only
//! journal. The end of the process at any moment, even by `kill -9`, loses at most the episodes in
//! hand. (A power cut may lose more: the system's cache goes with it. Staged files are checked by hash
//! on the next start, and damaged episodes are done again.) When every episode has its line in the
//! journal, [`DatasetWriter::finish`] assembles the dataset in source order, so its bytes do not depend
//! on threads, on the order of arrival or on interruptions. `dataset.json` comes last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, Sync, hash_file};
use super::journal::{Entry, Journal};
use super::{ENTRIES, MANIFEST, STAGING, assembly, parquet, staging, zarr};
use crate::schema::{FORMAT_VERSION, LedgerRow, Outcome, parse_json, to_json};
use crate::{
    CameraFrames, Codec, Dataset, Episode, Error, FileEntry, ManifestDraft, Result, Shard,
    SplitRule,
};

/// Reason code of episodes outside the selection.
pub(super) const NOT_SELECTED: &str = "not_selected";

/// What to write, and how.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Fields, cameras and provenance.
    pub manifest: ManifestDraft,
    /// How frames are stored.
    pub codec: Codec,
    /// Replace a finished dataset, or an unfinished one with other settings.
    pub overwrite: bool,
    /// Number of episodes in the source. Splits are drawn over all of them.
    pub total_episodes: u64,
    /// The source episodes to take; the others are `skipped` in the ledger. Nothing means all.
    pub selection: Option<Range<u64>>,
}

impl WriterOptions {
    /// Finds what cannot be written, before any work is done; [`DatasetWriter::open`] does the same.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field, camera, selection or codec.
    pub fn check(&self) -> Result<()> {
        Plan::new(self.clone()).check()
    }
}

/// The settings of an unfinished dataset; a resume must repeat them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) format_version: u32,
    pub(super) manifest: ManifestDraft,
    pub(super) codec: Codec,
    pub(super) total_episodes: u64,
    pub(super) selection: Option<Range<u64>>,
    /// Which part of the selection is written here, and the split of the whole; nothing for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Part>,
}

/// What a shard is a part of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) shard: Shard,
    /// The rule of [`SplitRule`], as text.
    pub(super) split_rule: String,
}

impl Plan {
    fn new(options: WriterOptions) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            manifest: options.manifest,
            codec: options.codec,
            total_episodes: options.total_episodes,
            selection: options.selection,
            part: None,
        }
    }

    /// Source episodes that are written here, in order.
    pub(super) fn assigned(&self) -> impl Iterator<Item = u64> + '_ {
        let shard = self.part.as_ref().map(|part| part.shard);
        self.selected()
            .filter(move |&index| shard.is_none_or(|shard| shard.holds(index)))
    }

    /// The source episodes to take.
    pub(super) fn selected(&self) -> Range<u64> {
        self.selection.clone().unwrap_or(0..self.total_episodes)
    }

    fn check(&self) -> Result<()> {
        let manifest = &self.manifest;
        if !(manifest.fps.is_finite() && manifest.fps > 0.0) {
            return Err(Error::invalid(
                "fps",
                manifest.fps,
                "the rate of the timestamps must be positive",
            ));
        }
        let selected = self.selected();
        if selected.is_empty() || selected.end > self.total_episodes {
            let range = format!("{}..{}", selected.start, selected.end);
            return Err(Error::invalid(
                "selection",
                range,
                format!("the source has {} episodes", self.total_episodes),
            ));
        }
        let mut names = BTreeSet::new();
        for field in &manifest.fields {
            let reserved = parquet::is_reserved(&field.name) || field.name.contains('/');
            if reserved || field.width() == 0 || !names.insert(&field.name) {
                return Err(Error::invalid(
                    "field",
                    &field.name,
                    "names are unique and not reserved, widths at least 1",
                ));
            }
        }
        let mut names = BTreeSet::new();
        for camera in &manifest.cameras {
            if !is_file_name(&camera.name)
                || camera.frame_bytes() == 0
                || !names.insert(&camera.name)
            {
                return Err(Error::invalid(
                    "camera",
                    &camera.name,
                    "names are unique file names, sizes at least 1x1",
                ));
            }
        }
        Ok(())
    }

    /// Refuses to resume with other settings, naming the first one that differs.
    fn same_as(&self, asked: &Self, path: &Path) -> Result<()> {
        let differs = |field, found: String, asked: String| Error::OtherSettings {
            path: path.to_path_buf(),
            field,
            found,
            asked,
        };
        if self.codec != asked.codec {
            return Err(differs(
                "codec",
                self.codec.to_string(),
                asked.codec.to_string(),
            ));
        }
        if self.total_episodes != asked.total_episodes || self.selection != asked.selection {
            let text = |plan: &Self| format!("{:?} of {}", plan.selected(), plan.total_episodes);
            return Err(differs("range of episodes", text(self), text(asked)));
        }
        if self.part != asked.part {
            let text = |plan: &Self| {
                plan.part.as_ref().map_or_else(
                    || "everything".into(),
                    |part| format!("shard {} of a split by {}", part.shard, part.split_rule),
                )
            };
            return Err(differs("shard", text(self), text(asked)));
        }
        if self != asked {
            let (found, now) = first_difference(&self.manifest, &asked.manifest);
            return Err(differs("source or schema", found, now));
        }
        Ok(())
    }
}

/// Letters, digits, `_`, `-` and inner dots: safe as one component of a path on every system.
fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// The first line in which two manifests differ.
fn first_difference(found: &ManifestDraft, asked: &ManifestDraft) -> (String, String) {
    let lines = |draft| serde_json::to_string_pretty(draft).unwrap_or_default();
    let (found, asked) = (lines(found), lines(asked));
    let pair = found.lines().zip(asked.lines()).find(|(a, b)| a != b);
    let (a, b) = pair.unwrap_or(("(another length)", "(another length)"));
    (a.trim().to_string(), b.trim().to_string())
}

/// Writes a dataset episode by episode, from any number of threads.
///
/// ```no_run
/// use jepa_datasets::{Dataset, DatasetWriter, Episode, Error, SplitRule, WriterOptions};
///
/// fn record(
///     options: WriterOptions,
///     episode: impl Fn(u64) -> Episode,
/// ) -> Result<Dataset, Error> {
///     let writer = DatasetWriter::open("data/wall".as_ref(), options)?;
///     for index in writer.pending() {
///         writer.accept(episode(index))?;
///     }
///     writer.finish(&SplitRule::JEPA_WMS)
/// }
/// ```
#[derive(Debug)]
pub struct DatasetWriter {
    pub(super) root: PathBuf,
    pub(super) plan: Plan,
    pub(super) disk: Disk,
    pub(super) journal: Journal,
    _lock: File,
}

impl DatasetWriter {
    /// Creates a dataset, or resumes an unfinished one with the same settings.
    ///
    /// # Errors
    /// [`Error::Exists`] for a finished dataset and [`Error::OtherSettings`] for an unfinished one
    /// with other settings, unless `overwrite`; [`Error::Foreign`] for a folder of something else;
    /// [`Error::Locked`] while another process writes it.
    pub fn open(dst: &Path, options: WriterOptions) -> Result<Self> {
        Self::open_on(dst, options, Disk::default())
    }

    /// Creates or resumes one part of a dataset, to be joined by [`merge_shards`](super::merge_shards).
    ///
    /// # Errors
    /// As [`Self::open`], and when the split rule has no meaning for this source.
    pub fn open_shard(
        dst: &Path,
        options: WriterOptions,
        shard: Shard,
        split_rule: &SplitRule,
    ) -> Result<Self> {
        let rule = split_rule.resolve(&options.manifest.source.name)?;
        let overwrite = options.overwrite;
        let plan = Plan {
            part: Some(Part {
                shard,
                split_rule: rule.to_string(),
            }),
            ..Plan::new(options)
        };
        Self::open_plan(dst, plan, overwrite, Disk::default())
    }

    /// The dataset that an earlier call with these options and this rule has finished, if there is one.
    /// What a process left that ended right after it had finished is removed.
    ///
    /// # Errors
    /// When the leftovers cannot be removed.
    pub fn finished_before(
        dst: &Path,
        options: &WriterOptions,
        split_rule: &SplitRule,
    ) -> Result<Option<Dataset>> {
        let Ok(dataset) = Dataset::open(dst) else {
            return Ok(None);
        };
        if options.overwrite || !dataset.was_written_with(options, split_rule) {
            return Ok(None);
        }
        remove_leftovers(&dst.join(STAGING), &Disk::default())?;
        Ok(Some(dataset))
    }

    pub(super) fn open_on(dst: &Path, options: WriterOptions, disk: Disk) -> Result<Self> {
        let overwrite = options.overwrite;
        Self::open_plan(dst, Plan::new(options), overwrite, disk)
    }

    pub(super) fn open_plan(dst: &Path, plan: Plan, overwrite: bool, disk: Disk) -> Result<Self> {
        plan.check()?;
        let staging = dst.join(STAGING);
        let finished = dst.join(MANIFEST).exists();
        if finished && !overwrite {
            remove_leftovers(&staging, &disk)?;
            return Err(Error::Exists {
                path: dst.to_path_buf(),
            });
        }
        refuse_foreign(dst, finished || staging.exists())?;
        disk.create_dir(&staging)?;
        let lock = lock(&staging, dst)?;
        match read_plan(&staging)? {
            Some(found) if !finished && found == plan => {}
            Some(found) if !overwrite => found.same_as(&plan, dst)?,
            _ => start_afresh(dst, &staging, &plan, &disk)?,
        }
        let journal = open_journal(&staging, &disk)?;
        Ok(Self {
            root: dst.to_path_buf(),
            plan,
            disk,
            journal,
            _lock: lock,
        })
    }

    /// Source indices that are not in the ledger yet, in order.
    pub fn pending(&self) -> Vec<u64> {
        self.plan
            .assigned()
            .filter(|&index| !self.journal.holds(index))
            .collect()
    }

    /// Number of source episodes that this writer has to see, those in the ledger included.
    pub fn assigned(&self) -> u64 {
        self.plan.assigned().count() as u64
    }

    /// Adds one episode. Any thread, any order; when it returns, the end of the process does not lose it.
    ///
    /// # Errors
    /// [`Error::Episode`] for an episode that does not fit the declared fields and cameras; it is not
    /// recorded, so the caller may [`reject`](Self::reject) it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an episode is handed over; its memory is free afterwards"
    )]
    pub fn accept(&self, episode: Episode) -> Result<()> {
        self.check_index(episode.source_index)?;
        episode.check()?;
        self.check_fields(&episode)?;
        self.check_cameras(&episode)?;
        let staged = self.stage(&episode)?;
        let hz = self.plan.manifest.control_hz;
        self.journal.append(Entry {
            row: LedgerRow {
                source_index: episode.source_index,
                path: episode.source_path.clone(),
                outcome: Outcome::Accepted,
                code: String::new(),
                detail: String::new(),
                bytes: raw_bytes(&episode),
                seconds: hz.map(|hz| episode.length as f64 / hz),
            },
            staged,
        })
    }

    /// Records that a source episode could not be used.
    pub fn reject(&self, source_index: u64, path: &str, code: &str, detail: &str) -> Result<()> {
        self.leave_out(Outcome::Rejected, source_index, path, code, detail)
    }

    /// Records that a source episode was left out on purpose.
    pub fn skip(&self, source_index: u64, path: &str, code: &str, detail: &str) -> Result<()> {
        self.leave_out(Outcome::Skipped, source_index, path, code, detail)
    }

    /// Assembles the dataset, opens it and removes everything temporary.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while episodes are pending, [`Error::Empty`] when none was accepted.
    pub fn finish(self, split_rule: &SplitRule) -> Result<Dataset> {
        if let Some(part) = &self.plan.part {
            return Err(Error::IsShard {
                path: self.root.clone(),
                shard: part.shard,
            });
        }
        self.check_complete()?;
        assembly::assemble(&self, split_rule)?;
        self.disk.remove(&self.root.join(STAGING))?;
        Dataset::open(&self.root)
    }

    /// Ends a shard, which stays as it is until it is joined with the others.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while episodes are pending.
    pub fn finish_shard(self) -> Result<()> {
        self.check_complete()
    }

    pub(super) fn check_complete(&self) -> Result<()> {
        let pending = self.pending().len() as u64;
        if pending == 0 {
            return Ok(());
        }
        Err(Error::Unfinished {
            path: self.root.clone(),
            pending,
            total: self.plan.total_episodes,
        })
    }

    fn leave_out(
        &self,
        outcome: Outcome,
        source_index: u64,
        path: &str,
        code: &str,
        detail: &str,
    ) -> Result<()> {
        self.check_index(source_index)?;
        let (code, detail) = (code.to_string(), detail.to_string());
        let row = LedgerRow {
            source_index,
            path: path.into(),
            outcome,
            code,
            detail,
            bytes: 0,
            seconds: None,
        };
        self.journal.append(Entry {
            row,
            staged: BTreeMap::new(),
        })
    }

    fn check_index(&self, source_index: u64) -> Result<()> {
        let elsewhere = |part: &Part| !part.shard.holds(source_index);
        if !self.plan.selected().contains(&source_index)
            || self.plan.part.as_ref().is_some_and(elsewhere)
        {
            return Err(Error::OutOfRange {
                what: "source episode",
                index: source_index,
                len: self.plan.total_episodes,
            });
        }
        if self.journal.holds(source_index) {
            return Err(Error::invalid(
                "source episode",
                source_index,
                "it is in the ledger already",
            ));
        }
        Ok(())
    }

    fn check_fields(&self, episode: &Episode) -> Result<()> {
        let fault = |code, detail| {
            Err(Error::Episode {
                episode: episode.source_index,
                code,
                detail,
            })
        };
        let fields = &self.plan.manifest.fields;
        if let Some(extra) = episode
            .columns
            .keys()
            .find(|name| fields.iter().all(|field| field.name != **name))
        {
            return fault("missing_key", format!("column `{extra}` is not declared"));
        }
        for field in fields {
            let Some(column) = episode.columns.get(&field.name) else {
                return fault("missing_key", format!("column `{}` is missing", field.name));
            };
            if column.dtype() != field.dtype || column.width() != field.width() {
                let (found, expected) = (column.dtype(), field.dtype);
                let widths = (column.width(), field.width());
                let detail = format!(
                    "`{}` is {found} [{}], not {expected} [{}]",
                    field.name, widths.0, widths.1
                );
                return fault("unsupported_dtype", detail);
            }
        }
        Ok(())
    }

    fn check_cameras(&self, episode: &Episode) -> Result<()> {
        let fault = |code, detail| {
            Err(Error::Episode {
                episode: episode.source_index,
                code,
                detail,
            })
        };
        let cameras = &self.plan.manifest.cameras;
        if episode.cameras.len() != cameras.len() {
            return fault(
                "missing_key",
                format!(
                    "it has {} cameras, not {}",
                    episode.cameras.len(),
                    cameras.len()
                ),
            );
        }
        for (frames, camera) in episode.cameras.iter().zip(cameras) {
            if frames.camera != camera.name {
                return fault(
                    "missing_key",
                    format!(
                        "camera `{}` stands where `{}` belongs",
                        frames.camera, camera.name
                    ),
                );
            }
            let found = (frames.height, frames.width, frames.pixels.dtype());
            if found != (camera.height, camera.width, camera.dtype) {
                let (h, w, dtype) = found;
                let expected = format!("{}x{} {}", camera.height, camera.width, camera.dtype);
                return fault(
                    "count_mismatch",
                    format!(
                        "camera `{}` has {h}x{w} {dtype} frames, not {expected}",
                        camera.name
                    ),
                );
            }
            if frames.count > episode.length && !self.plan.manifest.extra_last_obs {
                return fault(
                    "count_mismatch",
                    format!("camera `{}` has a frame after the last row", camera.name),
                );
            }
        }
        Ok(())
    }

    /// Writes the files of an episode; they count only once the journal says so.
    fn stage(&self, episode: &Episode) -> Result<BTreeMap<String, FileEntry>> {
        let folder = staging_episodes(&self.root);
        let rows = staging::rows_name(episode.source_index);
        let mut files = BTreeMap::new();
        files.insert(
            rows.clone(),
            staging::write_rows(&self.disk, &folder.join(&rows), episode)?,
        );
        for (position, frames) in episode.cameras.iter().enumerate() {
            let name = staging::frames_name(episode.source_index, position);
            let encoded = zarr::encode_frames(frames, self.plan.codec)?;
            files.insert(
                name.clone(),
                staging::write_frames(&self.disk, &folder.join(&name), &encoded)?,
            );
        }
        Ok(files)
    }
}

/// Folder of the staged episodes.
pub(super) fn staging_episodes(root: &Path) -> PathBuf {
    root.join(STAGING).join("episodes")
}

/// A file that says that the assembly has begun: staged frames may be gone, in shards already.
pub(super) fn assembly_mark(root: &Path) -> PathBuf {
    root.join(STAGING).join("assembling")
}

/// Episodes still to do and episodes of the source, of an unfinished dataset.
pub(super) fn progress(root: &Path) -> Result<Option<(u64, u64)>> {
    let staging = root.join(STAGING);
    let Some(plan) = read_plan(&staging)? else {
        return Ok(None);
    };
    let done = Journal::read(&journal_path(&staging))?.len() as u64;
    let pending = (plan.assigned().count() as u64).saturating_sub(done);
    match plan.part {
        Some(part) if pending == 0 => Err(Error::IsShard {
            path: root.to_path_buf(),
            shard: part.shard,
        }),
        _ => Ok(Some((pending, plan.total_episodes))),
    }
}

fn journal_path(staging: &Path) -> PathBuf {
    staging.join("journal")
}

fn plan_path(staging: &Path) -> PathBuf {
    staging.join("plan.json")
}

fn raw_bytes(episode: &Episode) -> u64 {
    let rows: usize = episode
        .columns
        .values()
        .map(|c| c.len() * c.dtype().bytes())
        .sum();
    let pixels = |c: &CameraFrames| c.pixels.len() * c.pixels.dtype().bytes();
    (rows + episode.cameras.iter().map(pixels).sum::<usize>()) as u64
}

/// Refuses a folder with anything in it that is not ours.
fn refuse_foreign(dst: &Path, ours: bool) -> Result<()> {
    let entries = match fs::read_dir(dst) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| Error::io("read", dst, e))?,
    };
    for entry in entries {
        let name = entry
            .map_err(|e| Error::io("read", dst, e))?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let known = name == STAGING
            || ENTRIES
                .iter()
                .any(|known| name == *known || name == format!(".{known}.tmp"));
        if !ours || !known {
            return Err(Error::Foreign {
                path: dst.to_path_buf(),
                entry: name,
            });
        }
    }
    Ok(())
}

/// Takes the lock of a dataset. The system gives it back when the process ends, whatever ends it.
fn lock(staging: &Path, dst: &Path) -> Result<File> {
    let path = staging.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|e| Error::io("create", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: dst.to_path_buf(),
        }),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
    }
}

/// Removes what a process left that ended right after `dataset.json` was in place.
fn remove_leftovers(staging: &Path, disk: &Disk) -> Result<()> {
    if !staging.exists() {
        return Ok(());
    }
    match lock(staging, staging) {
        Ok(_held) => disk.remove(staging),
        Err(_) => Ok(()),
    }
}

pub(super) fn read_plan(staging: &Path) -> Result<Option<Plan>> {
    let path = plan_path(staging);
    match fs::read(&path) {
        Ok(bytes) => parse_json(&path, &bytes).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path, e)),
    }
}

/// Clears the folder and records the plan. The plan goes first and comes last: an interruption in
/// between leads here again.
fn start_afresh(dst: &Path, staging: &Path, plan: &Plan, disk: &Disk) -> Result<()> {
    disk.remove(&plan_path(staging))?;
    for entry in ENTRIES {
        disk.remove(&dst.join(entry))?;
    }
    disk.remove(&journal_path(staging))?;
    disk.remove(&assembly_mark(dst))?;
    disk.remove(&staging_episodes(dst))?;
    disk.create_dir(&staging_episodes(dst))?;
    disk.write(&plan_path(staging), &to_json("plan.json", plan)?, Sync::Yes)?;
    Ok(())
}

/// Opens the journal, forgetting episodes whose staged files are not what it says.
fn open_journal(staging: &Path, disk: &Disk) -> Result<Journal> {
    let assembling = staging.join("assembling").exists();
    let episodes = staging.join("episodes");
    let intact = |(name, entry): (&String, &FileEntry)| {
        hash_file(&episodes.join(name)).is_ok_and(|found| found == *entry)
    };
    Journal::open(&journal_path(staging), disk, |entry| {
        assembling || entry.staged.iter().all(intact)
    })
}
