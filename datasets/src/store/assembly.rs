//! From staged episodes to a finished dataset, in source order.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::disk::{Sync, hash_file};
use super::journal::Entry;
use super::parquet::{StepWriter, write_episodes, write_ledger};
use super::staging::{self, StagedRows};
use super::writer::{DatasetWriter, NOT_SELECTED, assembly_mark, staging_episodes};
use super::{EPISODES, LEDGER, MANIFEST, SPLITS, STATS, zarr};
use crate::episode::{ACTION, Column, PROPRIO, STATE};
use crate::normalizer::Stats;
use crate::schema::{
    Camera, Counts, EpisodeMeta, FORMAT_VERSION, Field, FileEntry, FrameLoss, FrameRange,
    LedgerRow, Manifest, Outcome, StatedLoss, to_json,
};
use crate::split::{Member, SplitRule, Splits};
use crate::statistics::statistics;
use crate::{Error, Result};

/// Writes every file of the dataset, `dataset.json` last.
///
/// An interruption is harmless: frames that are in a shard stay there, everything else is written again.
pub(super) fn assemble(writer: &DatasetWriter, rule: &SplitRule) -> Result<()> {
    let rule = rule.resolve(&writer.plan.manifest.source.name)?;
    let entries = writer.journal.entries();
    let ledger = ledger(writer, &entries);
    let mut episodes = lay_out(writer, &entries)?;
    if episodes.is_empty() {
        return Err(nothing(writer, &entries));
    }
    let splits = divide(writer, &rule, &mut episodes)?;
    writer
        .disk
        .write(&assembly_mark(&writer.root), b"", Sync::Yes)?;
    let mut assembly = Assembly {
        writer,
        loss: loss(&entries),
        tasks: tasks(&episodes),
        episodes,
        files: BTreeMap::new(),
    };
    assembly.write_steps()?;
    assembly.write_frames()?;
    assembly.write_json(STATS, &assembly.stats(&splits)?)?;
    assembly.write_json(SPLITS, &splits)?;
    assembly.write_tables(&ledger)?;
    assembly.write_manifest(&ledger)
}

fn nothing(writer: &DatasetWriter, entries: &BTreeMap<u64, Entry>) -> Error {
    let first = entries.values().next().map(|entry| {
        let LedgerRow {
            source_index,
            code,
            detail,
            ..
        } = &entry.row;
        format!("episode {source_index}: {code}: {detail}")
    });
    Error::Empty {
        path: writer.root.clone(),
        total: writer.plan.total_episodes,
        first: first.unwrap_or_default(),
    }
}

/// One row per source episode, the ones outside the selection included.
fn ledger(writer: &DatasetWriter, entries: &BTreeMap<u64, Entry>) -> Vec<LedgerRow> {
    let not_selected = |source_index| LedgerRow {
        source_index,
        path: String::new(),
        outcome: Outcome::Skipped,
        code: NOT_SELECTED.into(),
        detail: String::new(),
        bytes: 0,
        seconds: None,
    };
    let row = |index| {
        entries
            .get(&index)
            .map_or_else(|| not_selected(index), |entry| entry.row.clone())
    };
    (0..writer.plan.total_episodes).map(row).collect()
}

/// Accepted episodes in source order, with their place in the tables and stores.
fn lay_out(writer: &DatasetWriter, entries: &BTreeMap<u64, Entry>) -> Result<Vec<EpisodeMeta>> {
    let accepted = entries
        .values()
        .filter(|entry| entry.row.outcome == Outcome::Accepted);
    let mut episodes: Vec<EpisodeMeta> = Vec::new();
    let mut next_row = 0;
    let mut next_frame: BTreeMap<String, u64> = BTreeMap::new();
    for entry in accepted {
        let mut meta = staged_rows(writer, entry.row.source_index)?.meta;
        meta.episode_index = episodes.len() as u64;
        meta.first_row = next_row;
        next_row += meta.length;
        for (camera, range) in &mut meta.frames {
            let next = next_frame.entry(camera.clone()).or_default();
            range.first = *next;
            *next += range.count;
        }
        episodes.push(meta);
    }
    Ok(episodes)
}

fn staged_rows(writer: &DatasetWriter, source_index: u64) -> Result<StagedRows> {
    staging::read_rows(&staging_episodes(&writer.root).join(staging::rows_name(source_index)))
}

/// Makes the splits and writes their names into the episodes.
fn divide(
    writer: &DatasetWriter,
    rule: &SplitRule,
    episodes: &mut [EpisodeMeta],
) -> Result<Splits> {
    let first_state = |meta: &EpisodeMeta| -> Result<Vec<f64>> {
        let columns = staged_rows(writer, meta.source_index)?.columns;
        let state = columns.iter().find(|(name, _)| name == STATE);
        Ok(state.map_or(Vec::new(), |(_, column)| column.first_row()))
    };
    let starts: Vec<Vec<f64>> = if rule.needs_states() {
        let starts: Result<_> = episodes.par_iter().map(first_state).collect();
        starts?
    } else {
        vec![Vec::new(); episodes.len()]
    };
    let members = Member::all(episodes, &starts);
    let splits = Splits::new(rule, writer.plan.total_episodes, &members)?;
    for split in splits.splits.iter().filter(|split| split.name != "all") {
        for &episode in &split.episodes {
            episodes[episode as usize].split.clone_from(&split.name);
        }
    }
    Ok(splits)
}

/// Task strings in order of first appearance.
fn tasks(episodes: &[EpisodeMeta]) -> Vec<String> {
    let mut tasks: Vec<String> = Vec::new();
    for episode in episodes {
        if !tasks.contains(&episode.task) {
            tasks.push(episode.task.clone());
        }
    }
    tasks
}

/// What the codec lost over all episodes, by camera.
fn loss(entries: &BTreeMap<u64, Entry>) -> BTreeMap<String, StatedLoss> {
    let mut sums: BTreeMap<String, FrameLoss> = BTreeMap::new();
    for (camera, loss) in entries.values().flat_map(|entry| &entry.loss) {
        sums.entry(camera.clone()).or_default().merge(loss);
    }
    sums.into_iter()
        .map(|(camera, loss)| (camera, loss.into()))
        .collect()
}

struct Assembly<'a> {
    writer: &'a DatasetWriter,
    loss: BTreeMap<String, StatedLoss>,
    episodes: Vec<EpisodeMeta>,
    tasks: Vec<String>,
    files: BTreeMap<String, FileEntry>,
}

impl Assembly<'_> {
    fn write_json(&mut self, name: &'static str, document: &impl serde::Serialize) -> Result<()> {
        let path = self.writer.root.join(name);
        let entry = self
            .writer
            .disk
            .write(&path, &to_json(name, document)?, Sync::Yes)?;
        self.files.insert(name.into(), entry);
        Ok(())
    }

    fn write_steps(&mut self) -> Result<()> {
        let DatasetWriter {
            root, plan, disk, ..
        } = self.writer;
        disk.create_dir(&root.join("steps"))?;
        let mut table = StepWriter::new(disk, root, &plan.manifest.fields, plan.manifest.fps);
        for meta in &self.episodes {
            let rows = staged_rows(self.writer, meta.source_index)?;
            let columns = in_order(&plan.manifest.fields, rows.columns);
            let task = self
                .tasks
                .iter()
                .position(|task| *task == meta.task)
                .unwrap_or_default();
            table.push(meta, task as i64, &columns)?;
        }
        self.files.append(&mut table.finish()?);
        Ok(())
    }

    fn write_frames(&mut self) -> Result<()> {
        for (position, camera) in self.writer.plan.manifest.cameras.iter().enumerate() {
            let mut files = self.write_camera(position, camera)?;
            self.files.append(&mut files);
        }
        Ok(())
    }

    /// Writes the shards of a camera a few at a time, and removes staged frames once they are in one.
    fn write_camera(
        &self,
        position: usize,
        camera: &Camera,
    ) -> Result<BTreeMap<String, FileEntry>> {
        let DatasetWriter {
            root, plan, disk, ..
        } = self.writer;
        let total = self
            .episodes
            .iter()
            .map(|e| range(e, camera).count)
            .sum::<u64>();
        let capacity = zarr::shard_frames(camera);
        let shards: Vec<u64> = (0..total.div_ceil(capacity)).collect();
        let mut files = BTreeMap::new();
        disk.create_dir(&root.join(zarr::array_name(&camera.name)))?;
        files.insert(
            zarr::metadata_name(&camera.name),
            zarr::write_metadata(disk, root, camera, plan.codec, total)?,
        );
        let mut first_kept = 0;
        for wave in shards.chunks(rayon::current_num_threads()) {
            let written: Result<Vec<_>> = wave
                .par_iter()
                .map(|&shard| self.write_shard(position, camera, shard))
                .collect();
            files.extend(written?);
            let in_shards = (wave[wave.len() - 1] + 1) * capacity;
            first_kept = self.remove_staged(position, camera, first_kept, in_shards)?;
        }
        Ok(files)
    }

    /// Writes one shard, unless it is there already from before an interruption.
    fn write_shard(
        &self,
        position: usize,
        camera: &Camera,
        shard: u64,
    ) -> Result<(String, FileEntry)> {
        let name = zarr::shard_name(&camera.name, shard);
        let path = self.writer.root.join(&name);
        if path.exists() {
            return Ok((name, hash_file(&path)?));
        }
        let capacity = zarr::shard_frames(camera);
        let (start, end) = (shard * capacity, (shard + 1) * capacity);
        let first = self
            .episodes
            .partition_point(|e| range(e, camera).first + range(e, camera).count <= start);
        let mut frames = Vec::with_capacity(capacity as usize);
        for meta in self.episodes[first..]
            .iter()
            .take_while(|e| range(e, camera).first < end)
        {
            let FrameRange { first, count } = range(meta, camera);
            let wanted = start.saturating_sub(first) as usize..count.min(end - first) as usize;
            frames.append(&mut staging::read_frames(
                &self.staged_frames(position, meta),
                wanted,
            )?);
        }
        if let Some(parent) = path.parent() {
            self.writer.disk.create_dir(parent)?;
        }
        let bytes = zarr::join_shard(&frames, capacity)?;
        Ok((name, self.writer.disk.write(&path, &bytes, Sync::Yes)?))
    }

    /// Removes the staged frames of episodes, from the one at `from` on, that end by frame `in_shards`.
    fn remove_staged(
        &self,
        position: usize,
        camera: &Camera,
        from: usize,
        in_shards: u64,
    ) -> Result<usize> {
        let end = self
            .episodes
            .partition_point(|e| range(e, camera).first + range(e, camera).count <= in_shards);
        for meta in &self.episodes[from..end] {
            self.writer
                .disk
                .remove(&self.staged_frames(position, meta))?;
        }
        Ok(end)
    }

    fn staged_frames(&self, position: usize, meta: &EpisodeMeta) -> PathBuf {
        staging_episodes(&self.writer.root).join(staging::frames_name(meta.source_index, position))
    }

    /// Statistics of every field, over the training split and over everything.
    fn stats(&self, splits: &Splits) -> Result<Stats> {
        let mut train = vec![false; self.episodes.len()];
        splits
            .get("train")?
            .episodes
            .iter()
            .for_each(|&e| train[e as usize] = true);
        let fields = &self.writer.plan.manifest.fields;
        statistics(fields, &train, |episode| {
            let rows = staged_rows(self.writer, self.episodes[episode].source_index)?;
            Ok(in_order(fields, rows.columns))
        })
    }

    fn write_tables(&mut self, ledger: &[LedgerRow]) -> Result<()> {
        let DatasetWriter {
            root, plan, disk, ..
        } = self.writer;
        let cameras: Vec<String> = plan
            .manifest
            .cameras
            .iter()
            .map(|camera| camera.name.clone())
            .collect();
        let episodes = write_episodes(disk, &root.join(EPISODES), &self.episodes, &cameras)?;
        self.files.insert(EPISODES.into(), episodes);
        self.files.insert(
            LEDGER.into(),
            write_ledger(disk, &root.join(LEDGER), ledger)?,
        );
        Ok(())
    }

    /// Writes `dataset.json`; from then on the dataset is finished.
    fn write_manifest(self, ledger: &[LedgerRow]) -> Result<()> {
        let plan = &self.writer.plan;
        let width = |name| {
            plan.manifest
                .fields
                .iter()
                .find(|f| f.name == name)
                .map_or(0, Field::width)
        };
        let count = |outcome| ledger.iter().filter(|row| row.outcome == outcome).count() as u64;
        let frames = self
            .episodes
            .iter()
            .flat_map(|e| e.frames.values())
            .map(|range| range.count)
            .sum();
        let mut manifest = Manifest {
            format_version: FORMAT_VERSION,
            tool: concat!("jepa-bench ", env!("CARGO_PKG_VERSION")).into(),
            action_width: width(ACTION),
            proprio_width: width(PROPRIO),
            state_width: width(STATE),
            draft: plan.manifest.clone(),
            codec: plan.codec,
            loss: self.loss,
            source_episodes: plan.total_episodes,
            selection: plan.selection.clone(),
            counts: Counts {
                episodes: self.episodes.len() as u64,
                rows: self.episodes.iter().map(|e| e.length).sum(),
                frames,
                rejected: count(Outcome::Rejected),
                skipped: count(Outcome::Skipped),
            },
            tasks: self.tasks,
            files: self.files,
            content_hash: String::new(),
        };
        manifest.content_hash = manifest.compute_content_hash()?;
        let path = self.writer.root.join(MANIFEST);
        self.writer
            .disk
            .write(&path, &to_json(MANIFEST, &manifest)?, Sync::Yes)?;
        Ok(())
    }
}

/// Frames of an episode in a camera's store.
fn range(episode: &EpisodeMeta, camera: &Camera) -> FrameRange {
    episode
        .frames
        .get(&camera.name)
        .copied()
        .unwrap_or_default()
}

/// The columns of a staged episode in the order of the fields.
fn in_order(fields: &[Field], columns: Vec<(String, Column)>) -> Vec<Column> {
    let mut columns: BTreeMap<String, Column> = columns.into_iter().collect();
    let find = |field: &Field| columns.remove(&field.name);
    fields.iter().filter_map(find).collect()
}
