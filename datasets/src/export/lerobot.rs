//! `LeRobotDataset` version 3.0, frames as PNG inside the tables (datasets.md section 14.1).
//!
//! ```text
//! meta/info.json  meta/stats.json  meta/tasks.parquet  meta/episodes/chunk-000/file-000.parquet
//! data/chunk-000/file-000.parquet        one row group per episode
//! ```
//!
//! Frames are of type `image`: lossless, and nobody needs a video decoder. Statistics of frames are those of
//! evenly spaced frames, as LeRobot takes them, but of all their pixels; quantiles of the whole dataset are
//! true ones, not envelopes of the episodes'.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{PROVENANCE, Plan, Progress, go_on, provenance, runs, write_file};
use crate::episode::Column;
use crate::normalizer::{Moments, QUANTILES, Statistics};
use crate::schema::to_json;
use crate::{Camera, Dtype, EpisodeMeta, Error, Result};

/// Columns that every dataset of this layout has.
pub(super) const BOOKKEEPING: [&str; 5] = [
    "timestamp",
    "frame_index",
    "episode_index",
    "index",
    "task_index",
];
/// Files of one chunk folder.
const CHUNK_FILES: usize = 1000;
/// A data file ends before the episode that would make it larger than this.
const FILE_MEGABYTES: usize = 100;
/// What LeRobot's own files say about videos; there are none here.
const VIDEO_MEGABYTES: usize = 200;
/// Episodes per row group of the episode table.
const EPISODES_AT_ONCE: usize = 10;
/// Names of the statistics, in LeRobot's order.
const MOMENTS: [&str; 5] = ["min", "max", "mean", "std", "count"];

/// Name of a field in this layout.
pub(super) fn field_name(name: &str) -> &str {
    match name {
        crate::PROPRIO => "observation.state",
        crate::STATE => "observation.environment_state",
        other => other,
    }
}

/// Name of a camera in this layout.
pub(super) fn camera_name(_: usize, name: &str) -> String {
    format!("observation.images.{name}")
}

/// The rate that this layout can state: a whole number, at least 1.
pub(super) fn fps(fps: f64) -> u32 {
    fps.round().clamp(1.0, f64::from(u32::MAX)) as u32
}

/// Writes the folder.
pub(super) fn write(plan: &Plan<'_>, out: &Path, progress: &Progress<'_>) -> Result<()> {
    let mut writer = Writer::new(plan, out);
    for episode in plan.dataset.episodes() {
        go_on(progress)?;
        writer.push(episode)?;
        (progress.tick)();
    }
    writer.finish()
}

/// Everything that grows with the episodes.
struct Writer<'a> {
    plan: &'a Plan<'a>,
    out: &'a Path,
    fps: u32,
    data: Table,
    episodes: Table,
    waiting: Vec<EpisodeRow>,
    /// Statistics of the frames of every camera, over all episodes.
    pixels: Vec<PixelCounts>,
    /// Bookkeeping columns of all rows, for their statistics.
    bookkeeping: [Vec<f64>; 5],
}

/// One row of the episode table.
struct EpisodeRow {
    index: i64,
    task: String,
    length: i64,
    first: i64,
    data: Place,
    stats: Vec<FeatureStats>,
    place: Place,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan<'a>, out: &'a Path) -> Self {
        let huggingface = huggingface(plan).to_string();
        let metadata = vec![KeyValue::new("huggingface".into(), huggingface)];
        Self {
            plan,
            out,
            fps: fps(plan.dataset.manifest().draft.fps),
            data: Table::new(out.join("data"), data_schema(plan), metadata),
            episodes: Table::new(out.join("meta/episodes"), episodes_schema(plan), Vec::new()),
            waiting: Vec::new(),
            pixels: vec![PixelCounts::default(); plan.cameras.len()],
            bookkeeping: std::array::from_fn(|_| Vec::new()),
        }
    }

    /// Writes the rows of one episode as one row group.
    fn push(&mut self, episode: &EpisodeMeta) -> Result<()> {
        let length = episode.length as usize;
        let columns = self
            .plan
            .dataset
            .read_rows(episode.episode_index, 0..length)?;
        let bookkeeping = self.number(episode)?;
        self.data.make_room(length)?;
        let counted = sampled(length);
        let mut pixels = vec![PixelCounts::default(); self.plan.cameras.len()];
        for run in runs(length) {
            let mut arrays: Vec<ArrayRef> = Vec::new();
            for (field, _) in &self.plan.fields {
                arrays.push(fixed(&columns[&field.name], run.clone()));
            }
            for ((camera, _), counts) in self.plan.cameras.iter().zip(&mut pixels) {
                let frames = self.plan.frames(camera, episode, run.clone())?;
                let size = camera.height * camera.width * 3;
                for (k, frame) in frames.chunks_exact(size).enumerate() {
                    if counted.binary_search(&(run.start + k)).is_ok() {
                        counts.add(frame);
                    }
                }
                arrays.push(images(camera, &frames, run.start)?);
            }
            arrays.extend(bookkeeping_arrays(&bookkeeping, run));
            self.data.write(arrays)?;
        }
        let data = self.data.end_group()?;
        let stats = self.statistics(&columns, &bookkeeping, &pixels)?;
        for (all, new) in self.pixels.iter_mut().zip(&pixels) {
            all.merge(new);
        }
        for (all, new) in self.bookkeeping.iter_mut().zip(bookkeeping) {
            all.extend(new);
        }
        let first = episode.first_row as i64;
        self.waiting.push(EpisodeRow {
            index: episode.episode_index as i64,
            task: episode.task.clone(),
            length: length as i64,
            first,
            data,
            stats,
            place: Place::default(),
        });
        if self.waiting.len() == EPISODES_AT_ONCE {
            self.write_episodes()?;
        }
        Ok(())
    }

    /// Bookkeeping columns of an episode, in the order of [`BOOKKEEPING`].
    fn number(&self, episode: &EpisodeMeta) -> Result<[Vec<f64>; 5]> {
        let rows = 0..episode.length;
        let task = self.plan.task_index(episode)? as f64;
        let same = |value: f64| vec![value; episode.length as usize];
        let timestamp = |row| f64::from((row as f64 / f64::from(self.fps)) as f32);
        Ok([
            rows.clone().map(timestamp).collect(),
            rows.clone().map(|row| row as f64).collect(),
            same(episode.episode_index as f64),
            rows.map(|row| (episode.first_row + row) as f64).collect(),
            same(task),
        ])
    }

    /// Statistics of one episode, in the order of [`features`].
    fn statistics(
        &self,
        columns: &BTreeMap<String, Column>,
        bookkeeping: &[Vec<f64>; 5],
        pixels: &[PixelCounts],
    ) -> Result<Vec<FeatureStats>> {
        let fields = self.plan.fields.iter();
        let of_field = fields.map(|(field, _)| {
            let column = &columns[&field.name];
            FeatureStats::of(&column.to_f64(), column.width())
        });
        let of_pixels = pixels.iter().map(PixelCounts::statistics);
        let of_rest = bookkeeping.iter().map(|values| FeatureStats::of(values, 1));
        let all: Option<Vec<FeatureStats>> = of_field.chain(of_pixels).chain(of_rest).collect();
        all.ok_or_else(|| Error::invalid("statistics", "an episode", "it has no rows"))
    }

    fn write_episodes(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.waiting);
        self.episodes.make_room(rows.len())?;
        for row in &mut rows {
            row.place = self.episodes.place;
        }
        self.episodes.write(episode_arrays(self.plan, &rows))?;
        self.episodes.end_group()?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.write_episodes()?;
        let stats = self.all_statistics()?;
        self.data.close()?;
        self.episodes.close()?;
        write_tasks(
            &self.plan.dataset.manifest().tasks,
            &self.out.join("meta/tasks.parquet"),
        )?;
        let json = |name: &str, what, document: &Value| {
            write_file(&self.out.join(name), &to_json(what, document)?)
        };
        json("meta/stats.json", "statistics", &stats)?;
        json(PROVENANCE, "provenance", &provenance::document(self.plan))?;
        json("meta/info.json", "info", &info(self.plan, self.fps))
    }

    /// `stats.json`.
    fn all_statistics(&self) -> Result<Value> {
        let mut all = Map::new();
        for (field, name) in &self.plan.fields {
            let stats = self.plan.dataset.stats().get(&field.name, "all")?;
            all.insert(name.clone(), FeatureStats::from(stats).to_json());
        }
        let named = self.plan.cameras.iter().zip(&self.pixels);
        let pixels = named.map(|((_, name), counts)| (name.as_str(), counts.statistics()));
        let rest = BOOKKEEPING.into_iter().zip(&self.bookkeeping);
        let rest = rest.map(|(name, values)| (name, FeatureStats::of(values, 1)));
        for (name, stats) in pixels.chain(rest) {
            if let Some(stats) = stats {
                all.insert(name.into(), stats.to_json());
            }
        }
        Ok(Value::Object(all))
    }
}

/// Chunk and file of a row group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    chunk: usize,
    file: usize,
}

impl Place {
    fn next(self) -> Self {
        if self.file + 1 == CHUNK_FILES {
            return Self {
                chunk: self.chunk + 1,
                file: 0,
            };
        }
        Self {
            file: self.file + 1,
            ..self
        }
    }
}

/// A table over several files.
struct Table {
    folder: PathBuf,
    schema: SchemaRef,
    metadata: Vec<KeyValue>,
    place: Place,
    open: Option<(PathBuf, ArrowWriter<BufWriter<File>>)>,
    rows_in_file: usize,
}

impl Table {
    fn new(folder: PathBuf, schema: SchemaRef, metadata: Vec<KeyValue>) -> Self {
        Self {
            folder,
            schema,
            metadata,
            place: Place::default(),
            open: None,
            rows_in_file: 0,
        }
    }

    /// Goes on to the next file if `rows` of average size would make this one too large.
    fn make_room(&mut self, rows: usize) -> Result<()> {
        let Some((_, writer)) = &self.open else {
            return Ok(());
        };
        let written = writer.bytes_written();
        let average = written as f64 / self.rows_in_file.max(1) as f64;
        let limit = (FILE_MEGABYTES << 20) as f64;
        if self.rows_in_file > 0 && written as f64 + average * rows as f64 >= limit {
            self.close()?;
            self.place = self.place.next();
        }
        Ok(())
    }

    fn write(&mut self, arrays: Vec<ArrayRef>) -> Result<()> {
        if self.open.is_none() {
            self.open = Some(self.start_file()?);
        }
        let Some((path, writer)) = &mut self.open else {
            return Ok(());
        };
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|e| Error::invalid("table", path.display(), e))?;
        self.rows_in_file += batch.num_rows();
        writer.write(&batch).map_err(|e| parquet_error(path, e))
    }

    fn start_file(&self) -> Result<(PathBuf, ArrowWriter<BufWriter<File>>)> {
        let Place { chunk, file } = self.place;
        let path = self
            .folder
            .join(format!("chunk-{chunk:03}/file-{file:03}.parquet"));
        let writer = start_parquet(&path, &self.schema, self.metadata.clone())?;
        Ok((path, writer))
    }

    /// Ends the row group; where it is.
    fn end_group(&mut self) -> Result<Place> {
        if let Some((path, writer)) = &mut self.open {
            writer.flush().map_err(|e| parquet_error(path, e))?;
        }
        Ok(self.place)
    }

    fn close(&mut self) -> Result<()> {
        self.rows_in_file = 0;
        match self.open.take() {
            Some((path, writer)) => finish_parquet(&path, writer),
            None => Ok(()),
        }
    }
}

fn start_parquet(
    path: &Path,
    schema: &SchemaRef,
    metadata: Vec<KeyValue>,
) -> Result<ArrowWriter<BufWriter<File>>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    }
    let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
    // Readers look for it in the Arrow schema or, without one, in the file.
    let pairs = metadata.iter();
    let pairs = pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()));
    let pairs: HashMap<String, String> = pairs.collect();
    let schema = Arc::new(schema.as_ref().clone().with_metadata(pairs));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(true)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata((!metadata.is_empty()).then_some(metadata))
        .build();
    ArrowWriter::try_new(BufWriter::new(file), schema, Some(properties))
        .map_err(|e| parquet_error(path, e))
}

fn finish_parquet(path: &Path, writer: ArrowWriter<BufWriter<File>>) -> Result<()> {
    let buffer = writer.into_inner().map_err(|e| parquet_error(path, e))?;
    let flushed = buffer
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error);
    flushed.map(|_| ()).map_err(|e| Error::io("write", path, e))
}

/// A full disk is the system's error, whatever layers it came through.
fn parquet_error(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => Error::io("write", path, *io),
            Err(inner) => Error::Parquet {
                path: path.to_path_buf(),
                source: ParquetError::External(inner),
            },
        },
        source => Error::Parquet {
            path: path.to_path_buf(),
            source,
        },
    }
}

/// Frames of an episode that its statistics are taken of: LeRobot's number of them, evenly spaced.
fn sampled(length: usize) -> Vec<usize> {
    let wanted = ((length as f64).powf(0.75) as usize)
        .clamp(100, 10_000)
        .min(length);
    let last = length.saturating_sub(1) as f64;
    let step = last / wanted.saturating_sub(1).max(1) as f64;
    let mut chosen: Vec<usize> = (0..wanted)
        .map(|k| (k as f64 * step).round() as usize)
        .collect();
    chosen.dedup();
    chosen
}

/// Name, type and shape of every column, in order.
fn features(plan: &Plan<'_>) -> Vec<(String, &'static str, Vec<usize>)> {
    let fields = plan.fields.iter();
    let fields = fields.map(|(field, name)| {
        let dtype = match field.dtype {
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::I64 => "int64",
        };
        (name.clone(), dtype, vec![field.width()])
    });
    let cameras = plan.cameras.iter();
    let cameras =
        cameras.map(|(camera, name)| (name.clone(), "image", vec![camera.height, camera.width, 3]));
    let rest = BOOKKEEPING.iter().map(|&name| {
        let dtype = if name == "timestamp" {
            "float32"
        } else {
            "int64"
        };
        (name.to_string(), dtype, vec![1])
    });
    fields.chain(cameras).chain(rest).collect()
}

fn info(plan: &Plan<'_>, fps: u32) -> Value {
    let features = features(plan).into_iter().map(|(name, dtype, shape)| {
        let names = match dtype {
            "image" => json!(["height", "width", "channels"]),
            _ => Value::Null,
        };
        (
            name,
            json!({"dtype": dtype, "shape": shape, "names": names}),
        )
    });
    let features: Map<String, Value> = features.collect();
    let manifest = plan.dataset.manifest();
    let episodes = manifest.counts.episodes;
    json!({
        "codebase_version": "v3.0",
        "robot_type": null,
        "total_episodes": episodes,
        "total_frames": manifest.counts.rows,
        "total_tasks": manifest.tasks.len(),
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_MEGABYTES,
        "video_files_size_in_mb": VIDEO_MEGABYTES,
        "fps": fps,
        "splits": {"train": format!("0:{episodes}")},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": null,
        "features": features,
    })
}

/// What the `datasets` library wants to know of the columns.
fn huggingface(plan: &Plan<'_>) -> Value {
    let features = features(plan).into_iter().map(|(name, dtype, shape)| {
        let value = json!({"dtype": dtype, "_type": "Value"});
        let feature = match (dtype, shape.as_slice()) {
            ("image", _) => json!({"_type": "Image"}),
            (_, [1]) => value,
            (_, shape) => json!({"feature": value, "length": shape[0], "_type": "Sequence"}),
        };
        (name, feature)
    });
    json!({"info": {"features": features.collect::<Map<String, Value>>()}})
}

fn item(dtype: DataType) -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", dtype, true))
}

fn image_fields() -> Fields {
    Fields::from(vec![
        ArrowField::new("bytes", DataType::Binary, true),
        ArrowField::new("path", DataType::Utf8, true),
    ])
}

fn data_schema(plan: &Plan<'_>) -> SchemaRef {
    let columns = features(plan).into_iter().map(|(name, dtype, shape)| {
        let number = match dtype {
            "float32" => DataType::Float32,
            "float64" => DataType::Float64,
            _ => DataType::Int64,
        };
        let dtype = match (dtype, shape.as_slice()) {
            ("image", _) => DataType::Struct(image_fields()),
            (_, [1]) => number,
            (_, shape) => DataType::FixedSizeList(item(number), shape[0] as i32),
        };
        ArrowField::new(name, dtype, true)
    });
    Arc::new(Schema::new(columns.collect::<Vec<_>>()))
}

/// A run of rows of a column: numbers for width 1, else lists.
fn fixed(column: &Column, rows: std::ops::Range<usize>) -> ArrayRef {
    let width = column.width();
    let range = rows.start * width..rows.end * width;
    let (values, dtype): (ArrayRef, DataType) = match column {
        Column::F32 { values, .. } => (
            Arc::new(Float32Array::from(values[range].to_vec())),
            DataType::Float32,
        ),
        Column::F64 { values, .. } => (
            Arc::new(Float64Array::from(values[range].to_vec())),
            DataType::Float64,
        ),
        Column::I64(values) => (
            Arc::new(Int64Array::from(values[range].to_vec())),
            DataType::Int64,
        ),
    };
    match width {
        1 => values,
        _ => Arc::new(FixedSizeListArray::new(
            item(dtype),
            width as i32,
            values,
            None,
        )),
    }
}

/// Frames as PNG files with the names that LeRobot gives them.
fn images(camera: &Camera, frames: &[u8], first: usize) -> Result<ArrayRef> {
    let size = camera.height * camera.width * 3;
    let encoded: Result<Vec<Vec<u8>>> = frames
        .par_chunks_exact(size)
        .map(|frame| png(camera, frame))
        .collect();
    let encoded = encoded?;
    let names = (first..).map(|k| format!("frame-{k:06}.png"));
    let names: StringArray = names.take(encoded.len()).map(Some).collect();
    let bytes = BinaryArray::from_iter_values(encoded.iter());
    Ok(Arc::new(StructArray::new(
        image_fields(),
        vec![Arc::new(bytes), Arc::new(names)],
        None,
    )))
}

fn png(camera: &Camera, rgb: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, camera.width as u32, camera.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(rgb)?;
            writer.finish()
        })
        .map_err(|e| Error::invalid("frame of camera", &camera.name, e))?;
    Ok(bytes)
}

/// Bookkeeping columns of a run of rows.
fn bookkeeping_arrays(
    columns: &[Vec<f64>; 5],
    rows: std::ops::Range<usize>,
) -> impl Iterator<Item = ArrayRef> {
    columns.iter().enumerate().map(move |(k, values)| {
        let values = &values[rows.clone()];
        match k {
            0 => Arc::new(Float32Array::from_iter_values(
                values.iter().map(|&v| v as f32),
            )) as ArrayRef,
            _ => Arc::new(Int64Array::from_iter_values(
                values.iter().map(|&v| v as i64),
            )),
        }
    })
}

/// Statistics of one column.
struct FeatureStats {
    /// Values per statistic.
    width: usize,
    /// In the order of [`MOMENTS`] without the count.
    moments: [Vec<f64>; 4],
    count: u64,
    /// In the order of [`QUANTILES`].
    quantiles: Vec<Vec<f64>>,
    /// Statistics of channels of frames are nested: `[[[v]], ..]`.
    is_image: bool,
}

impl From<&Statistics> for FeatureStats {
    fn from(stats: &Statistics) -> Self {
        let quantile = |(name, _): &(&str, f64)| stats.quantiles.get(*name).cloned();
        Self {
            width: stats.mean.len(),
            moments: [
                stats.min.clone(),
                stats.max.clone(),
                stats.mean.clone(),
                stats.std_population.clone(),
            ],
            count: stats.count,
            quantiles: QUANTILES.iter().filter_map(quantile).collect(),
            is_image: false,
        }
    }
}

impl FeatureStats {
    /// Of `[rows, width]` values; nothing of no rows.
    fn of(values: &[f64], width: usize) -> Option<Self> {
        let moments = Moments::of(values, width);
        let dimension = |d| values.iter().skip(d).step_by(width).copied().collect();
        let mut dimensions: Vec<Vec<f64>> = (0..width).map(dimension).collect();
        Statistics::new(&moments, &mut dimensions).map(|stats| Self::from(&stats))
    }

    /// Names and values but for the count, in LeRobot's order.
    fn values(&self) -> impl Iterator<Item = (&'static str, &Vec<f64>)> {
        let quantiles = QUANTILES.iter().map(|(name, _)| *name).zip(&self.quantiles);
        MOMENTS.into_iter().zip(&self.moments).chain(quantiles)
    }

    fn to_json(&self) -> Value {
        let nested = |values: &Vec<f64>| {
            if self.is_image {
                json!(values.iter().map(|v| [[v]]).collect::<Vec<_>>())
            } else {
                json!(values)
            }
        };
        let mut all: Map<String, Value> = self
            .values()
            .map(|(name, values)| (name.to_string(), nested(values)))
            .collect();
        all.insert("count".into(), json!([self.count]));
        Value::Object(all)
    }
}

/// How often every value occurs in each channel.
#[derive(Clone)]
struct PixelCounts {
    frames: u64,
    channels: [[u64; 256]; 3],
}

impl Default for PixelCounts {
    fn default() -> Self {
        Self {
            frames: 0,
            channels: [[0; 256]; 3],
        }
    }
}

impl PixelCounts {
    fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        for pixel in frame.as_chunks::<3>().0 {
            for (channel, &value) in self.channels.iter_mut().zip(pixel) {
                channel[usize::from(value)] += 1;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        for (channel, more) in self.channels.iter_mut().zip(&other.channels) {
            for (count, more) in channel.iter_mut().zip(more) {
                *count += more;
            }
        }
    }

    /// Statistics of values scaled to 0 to 1; nothing of no frames.
    fn statistics(&self) -> Option<FeatureStats> {
        let of = |pick: fn(&[u64; 256]) -> f64| self.channels.iter().map(pick).collect();
        let quantile = |(_, q): &(&str, f64)| {
            let of_channel = |counts| Self::quantile(counts, *q);
            self.channels.iter().map(of_channel).collect()
        };
        (self.frames > 0).then(|| FeatureStats {
            width: 3,
            moments: [
                of(|counts| Self::order(counts, 0)),
                of(|counts| Self::order(counts, counts.iter().sum::<u64>() - 1)),
                of(Self::mean),
                of(Self::std),
            ],
            count: self.frames,
            quantiles: QUANTILES.iter().map(quantile).collect(),
            is_image: true,
        })
    }

    /// Every value that occurs, scaled, with how often it does.
    fn scaled(counts: &[u64; 256]) -> impl Iterator<Item = (f64, f64)> {
        let pairs = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        pairs.map(|(value, &count)| (value as f64 / 255.0, count as f64))
    }

    fn mean(counts: &[u64; 256]) -> f64 {
        let n = counts.iter().sum::<u64>() as f64;
        Self::scaled(counts)
            .map(|(value, count)| value * count)
            .sum::<f64>()
            / n
    }

    fn std(counts: &[u64; 256]) -> f64 {
        let (n, mean) = (counts.iter().sum::<u64>() as f64, Self::mean(counts));
        let squares = Self::scaled(counts).map(|(value, count)| count * (value - mean).powi(2));
        (squares.sum::<f64>() / n).sqrt()
    }

    /// The value at a position of the sorted pixels, scaled.
    fn order(counts: &[u64; 256], position: u64) -> f64 {
        let mut below = 0;
        let at = counts.iter().position(|count| {
            below += count;
            below > position
        });
        at.unwrap_or(255) as f64 / 255.0
    }

    /// Linearly interpolated quantile.
    fn quantile(counts: &[u64; 256], q: f64) -> f64 {
        let position = q * (counts.iter().sum::<u64>() - 1) as f64;
        let below = Self::order(counts, position.floor() as u64);
        let above = Self::order(counts, position.ceil() as u64);
        below + (above - below) * (position - position.floor())
    }
}

/// `stats/<feature>/<statistic>` columns: name, whether they are counts, whether they are nested.
fn stats_columns(plan: &Plan<'_>) -> Vec<(String, bool, bool)> {
    let mut columns = Vec::new();
    for (name, dtype, _) in features(plan) {
        let quantiles = QUANTILES.iter().map(|(quantile, _)| *quantile);
        for statistic in MOMENTS.into_iter().chain(quantiles) {
            let is_count = statistic == "count";
            let is_nested = dtype == "image" && !is_count;
            columns.push((format!("stats/{name}/{statistic}"), is_count, is_nested));
        }
    }
    columns
}

fn list_of(dtype: DataType) -> DataType {
    DataType::List(item(dtype))
}

fn episodes_schema(plan: &Plan<'_>) -> SchemaRef {
    let int = |name: &str| ArrowField::new(name, DataType::Int64, true);
    let mut columns = vec![
        int("episode_index"),
        ArrowField::new("tasks", list_of(DataType::Utf8), true),
        int("length"),
        int("data/chunk_index"),
        int("data/file_index"),
        int("dataset_from_index"),
        int("dataset_to_index"),
    ];
    for (name, is_count, is_nested) in stats_columns(plan) {
        let dtype = match (is_count, is_nested) {
            (true, _) => list_of(DataType::Int64),
            (_, true) => list_of(list_of(list_of(DataType::Float64))),
            _ => list_of(DataType::Float64),
        };
        columns.push(ArrowField::new(name, dtype, true));
    }
    columns.push(int("meta/episodes/chunk_index"));
    columns.push(int("meta/episodes/file_index"));
    Arc::new(Schema::new(columns))
}

/// Lists of the same length over an array.
fn lists(values: ArrayRef, length: usize, rows: usize) -> ArrayRef {
    let field = item(values.data_type().clone());
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, rows));
    Arc::new(ListArray::new(field, offsets, values, None))
}

/// Columns of the episode table, in the order of [`episodes_schema`].
fn episode_arrays(plan: &Plan<'_>, rows: &[EpisodeRow]) -> Vec<ArrayRef> {
    let n = rows.len();
    let int = |of: &dyn Fn(&EpisodeRow) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let tasks: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.task)));
    let mut arrays = vec![
        int(&|row| row.index),
        lists(tasks, 1, n),
        int(&|row| row.length),
        int(&|row| row.data.chunk as i64),
        int(&|row| row.data.file as i64),
        int(&|row| row.first),
        int(&|row| row.first + row.length),
    ];
    for feature in 0..features(plan).len() {
        let of: Vec<&FeatureStats> = rows.iter().map(|row| &row.stats[feature]).collect();
        arrays.extend(stats_arrays(&of));
    }
    arrays.push(int(&|row| row.place.chunk as i64));
    arrays.push(int(&|row| row.place.file as i64));
    arrays
}

/// Statistics columns of one feature, one row per episode.
fn stats_arrays(rows: &[&FeatureStats]) -> Vec<ArrayRef> {
    let (n, width, is_image) = rows.first().map_or((0, 0, false), |first| {
        (rows.len(), first.width, first.is_image)
    });
    let counts = rows.iter().map(|row| row.count as i64);
    let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(counts));
    let all: Vec<Vec<&Vec<f64>>> = rows
        .iter()
        .map(|row| row.values().map(|(_, values)| values).collect())
        .collect();
    let mut arrays = Vec::new();
    for k in 0..MOMENTS.len() - 1 + QUANTILES.len() {
        if k == MOMENTS.len() - 1 {
            arrays.push(lists(Arc::clone(&counts), 1, n));
        }
        let values = all.iter().flat_map(|row| row[k].iter().copied());
        let mut values: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
        if is_image {
            values = lists(lists(values, 1, n * width), 1, n * width);
        }
        arrays.push(lists(values, width, n));
    }
    arrays
}

/// Task strings, as a table whose index pandas restores.
fn write_tasks(tasks: &[String], path: &Path) -> Result<()> {
    let schema = Arc::new(Schema::new(vec![
        ArrowField::new("task_index", DataType::Int64, true),
        ArrowField::new("task", DataType::Utf8, true),
    ]));
    let column = |name: &str, pandas: &str, numpy: &str| json!({"name": name, "field_name": name, "pandas_type": pandas, "numpy_type": numpy, "metadata": null});
    let pandas = json!({
        "index_columns": ["task"],
        "column_indexes": [{
            "name": null,
            "field_name": null,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "jepa-bench", "version": env!("CARGO_PKG_VERSION")},
        "pandas_version": "2.0.0",
    });
    let metadata = vec![KeyValue::new("pandas".into(), pandas.to_string())];
    let mut writer = start_parquet(path, &schema, metadata)?;
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from_iter_values(0..tasks.len() as i64)),
            Arc::new(StringArray::from_iter_values(tasks)),
        ],
    )
    .map_err(|e| Error::invalid("table", path.display(), e))?;
    writer.write(&batch).map_err(|e| parquet_error(path, e))?;
    finish_parquet(path, writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_pixels_have_the_statistics_of_the_pixels() {
        let frame: Vec<u8> = [0, 51, 255, 102, 51, 255, 204, 51, 0, 255, 51, 0].to_vec();
        let mut counts = PixelCounts::default();
        counts.add(&frame);
        let of_pixels = counts.statistics().unwrap();
        let values: Vec<f64> = frame.iter().map(|&v| f64::from(v) / 255.0).collect();
        let plain = FeatureStats::of(&values, 3).unwrap();
        for ((name, found), (_, expected)) in of_pixels.values().zip(plain.values()) {
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-12, "{name}: {found:?}, not {expected:?}");
            }
        }
        assert_eq!(of_pixels.count, 1);
        assert_eq!(
            of_pixels.to_json()["min"],
            json!([[[0.0]], [[0.2]], [[0.0]]])
        );
    }

    #[test]
    fn frames_for_statistics_are_evenly_spaced_from_first_to_last() {
        assert_eq!(sampled(3), [0, 1, 2]);
        assert_eq!(sampled(1), [0]);
        assert_eq!(sampled(0), [] as [usize; 0]);
        let many = sampled(10_000);
        assert_eq!((many.len(), many[0], many[999]), (1000, 0, 9999));
    }

    #[test]
    fn files_are_counted_through_chunks() {
        let last = Place {
            chunk: 0,
            file: 999,
        };
        assert_eq!(last.next(), Place { chunk: 1, file: 0 });
        assert_eq!(Place::default().next(), Place { chunk: 0, file: 1 });
    }
}
