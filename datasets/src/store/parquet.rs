//! The tables: one row per native step, one per episode, one per source episode.
//!
//! Steps are written in blocks of [`BLOCK_ROWS`] rows; each block is one Parquet page per column, so
//! the page index leads a reader to exactly the blocks of a run of rows.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch,
    StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector,
};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use zarrs::storage::Bytes;

use super::disk::{AtomicFile, Disk, Sync};
use super::random_access::CountedFile;
use crate::episode::Column;
use crate::pages::{read_footer, read_rows};
use crate::schema::{Dtype, EpisodeMeta, Field, FileEntry, FrameRange, LedgerRow, Outcome};
use crate::{Error, Result};

/// Rows of one Parquet page, and of one block of the reader's cache.
pub(crate) const BLOCK_ROWS: usize = 1024;
/// Rows of one row group.
const GROUP_ROWS: usize = 64 * BLOCK_ROWS;
/// Rows that one byte of a part can stand for at most: every page of every column has a header and an entry in
/// the index, together well over 16 bytes.
const MOST_ROWS_PER_BYTE: u64 = BLOCK_ROWS as u64 / 16;
/// A part ends with the first episode that reaches this many rows.
const PART_ROWS: u64 = 1 << 22;
/// Bookkeeping columns in front of the fields.
const BOOKKEEPING: [&str; 5] = [
    "episode_index",
    "frame_index",
    "timestamp",
    "index",
    "task_index",
];

/// Whether a field name would hide a bookkeeping column.
pub(crate) fn is_reserved(name: &str) -> bool {
    BOOKKEEPING.contains(&name)
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(BLOCK_ROWS)
        .set_write_batch_size(BLOCK_ROWS)
        .build()
}

/// The Arrow type of one field: a scalar for width 1, as LeRobot, else a list of fixed size.
fn arrow_type(field: &Field) -> DataType {
    let item = match field.dtype {
        Dtype::F32 => DataType::Float32,
        Dtype::F64 => DataType::Float64,
        Dtype::I64 => DataType::Int64,
    };
    match field.width() {
        1 => item,
        width => {
            DataType::FixedSizeList(Arc::new(ArrowField::new("item", item, false)), width as i32)
        }
    }
}

fn steps_schema(fields: &[Field]) -> SchemaRef {
    let int = |name| ArrowField::new(name, DataType::Int64, false);
    let mut columns = vec![
        int(BOOKKEEPING[0]),
        int(BOOKKEEPING[1]),
        ArrowField::new(BOOKKEEPING[2], DataType::Float32, false),
        int(BOOKKEEPING[3]),
        int(BOOKKEEPING[4]),
    ];
    columns.extend(
        fields
            .iter()
            .map(|field| ArrowField::new(&field.name, arrow_type(field), false)),
    );
    Arc::new(Schema::new(columns))
}

/// Path of a part inside a dataset.
fn part_name(part: usize) -> String {
    format!("steps/part-{part:05}.parquet")
}

/// Rows waiting for a full block.
#[derive(Debug)]
struct Waiting {
    episode_index: Vec<i64>,
    frame_index: Vec<i64>,
    timestamp: Vec<f32>,
    index: Vec<i64>,
    task_index: Vec<i64>,
    columns: Vec<Column>,
}

impl Waiting {
    fn new(fields: &[Field]) -> Self {
        Self {
            episode_index: Vec::new(),
            frame_index: Vec::new(),
            timestamp: Vec::new(),
            index: Vec::new(),
            task_index: Vec::new(),
            columns: fields
                .iter()
                .map(|f| Column::with_capacity(f.dtype, f.width(), BLOCK_ROWS))
                .collect(),
        }
    }

    /// Takes the first `rows` rows out as a batch.
    fn take(
        &mut self,
        rows: usize,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(
                self.episode_index.drain(..rows),
            )),
            Arc::new(Int64Array::from_iter_values(self.frame_index.drain(..rows))),
            Arc::new(Float32Array::from_iter_values(self.timestamp.drain(..rows))),
            Arc::new(Int64Array::from_iter_values(self.index.drain(..rows))),
            Arc::new(Int64Array::from_iter_values(self.task_index.drain(..rows))),
        ];
        let fields = schema.fields().iter().skip(BOOKKEEPING.len());
        for (column, field) in self.columns.iter_mut().zip(fields) {
            arrays.push(take_column(column, rows, field.data_type())?);
        }
        RecordBatch::try_new(Arc::clone(schema), arrays)
    }
}

fn take_column(
    column: &mut Column,
    rows: usize,
    target: &DataType,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let values: ArrayRef = match column {
        Column::F32 { width, values } => Arc::new(Float32Array::from_iter_values(
            values.drain(..rows * *width),
        )),
        Column::F64 { width, values } => Arc::new(Float64Array::from_iter_values(
            values.drain(..rows * *width),
        )),
        Column::I64(values) => Arc::new(Int64Array::from_iter_values(values.drain(..rows))),
    };
    match target {
        DataType::FixedSizeList(item, width) => Ok(Arc::new(FixedSizeListArray::try_new(
            Arc::clone(item),
            *width,
            values,
            None,
        )?)),
        _ => Ok(values),
    }
}

/// Writes the step table, episode by episode.
pub(crate) struct StepWriter<'a> {
    disk: &'a Disk,
    root: &'a Path,
    fps: f64,
    schema: SchemaRef,
    waiting: Waiting,
    part: Option<ArrowWriter<AtomicFile>>,
    part_rows: u64,
    next_row: u64,
    done: BTreeMap<String, FileEntry>,
}

impl<'a> StepWriter<'a> {
    pub(crate) fn new(disk: &'a Disk, root: &'a Path, fields: &[Field], fps: f64) -> Self {
        Self {
            disk,
            root,
            fps,
            schema: steps_schema(fields),
            waiting: Waiting::new(fields),
            part: None,
            part_rows: 0,
            next_row: 0,
            done: BTreeMap::new(),
        }
    }

    fn part_path(&self) -> PathBuf {
        self.root.join(part_name(self.done.len()))
    }

    fn parquet_error(&self) -> impl Fn(parquet::errors::ParquetError) -> Error + use<> {
        let path = self.part_path();
        move |source| Error::Parquet {
            path: path.clone(),
            source,
        }
    }

    /// Adds the rows of one episode. `columns` are those of the schema, in its order.
    pub(crate) fn push(
        &mut self,
        meta: &EpisodeMeta,
        task_index: i64,
        columns: &[Column],
    ) -> Result<()> {
        let rows = meta.length as usize;
        let waiting = &mut self.waiting;
        for row in 0..rows {
            waiting.episode_index.push(meta.episode_index as i64);
            waiting.frame_index.push(row as i64);
            waiting.timestamp.push((row as f64 / self.fps) as f32);
            waiting.index.push((self.next_row + row as u64) as i64);
            waiting.task_index.push(task_index);
        }
        for (target, column) in waiting.columns.iter_mut().zip(columns) {
            target.extend_rows(column, 0..rows);
        }
        self.next_row += rows as u64;
        self.part_rows += rows as u64;
        while self.waiting.index.len() >= BLOCK_ROWS {
            self.write_block(BLOCK_ROWS)?;
        }
        if self.part_rows >= PART_ROWS {
            self.end_part()
        } else {
            Ok(())
        }
    }

    fn write_block(&mut self, rows: usize) -> Result<()> {
        let error = self.parquet_error();
        let batch = self
            .waiting
            .take(rows, &self.schema)
            .map_err(|e| error(e.into()))?;
        if self.part.is_none() {
            let file = self.disk.create(&self.part_path())?;
            let writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties()));
            self.part = Some(writer.map_err(&error)?);
        }
        self.part
            .as_mut()
            .map_or(Ok(()), |part| part.write(&batch).map_err(error))
    }

    fn end_part(&mut self) -> Result<()> {
        let error = self.parquet_error();
        let rest = self.waiting.index.len();
        if rest > 0 {
            self.write_block(rest)?;
        }
        if let Some(part) = self.part.take() {
            let file = part.into_inner().map_err(error)?;
            let name = part_name(self.done.len());
            self.done.insert(name, file.commit(Sync::Yes)?);
        }
        self.part_rows = 0;
        Ok(())
    }

    /// Ends the last part and returns every file written.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<String, FileEntry>> {
        self.end_part()?;
        Ok(self.done)
    }
}

/// The step table of a finished dataset.
#[derive(Debug)]
pub(crate) struct StepTable {
    parts: Vec<Part>,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Part {
    file: CountedFile,
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
    first_row: u64,
    rows: u64,
}

impl StepTable {
    /// Opens every part and checks that they hold `rows` rows of `fields`.
    pub(crate) fn open(root: &Path, fields: &[Field], rows: u64) -> Result<Self> {
        let mut parts = Vec::new();
        let mut first_row = 0;
        while first_row < rows {
            let part = Part::open(&root.join(part_name(parts.len())), fields, first_row)?;
            if part.rows == 0 {
                return Err(Error::corrupt(part.file.path(), "it has no rows"));
            }
            first_row = first_row.saturating_add(part.rows);
            parts.push(part);
        }
        if first_row != rows {
            let path = root.join("steps");
            return Err(Error::corrupt(
                &path,
                format!("it has {first_row} rows, `dataset.json` says {rows}"),
            ));
        }
        Ok(Self {
            parts,
            fields: fields.to_vec(),
        })
    }

    /// Number of a block, and the rows of the table in it, for the block that holds `row`.
    pub(crate) fn block_of(&self, row: u64) -> Range<u64> {
        let part = &self.parts[self
            .parts
            .partition_point(|part| part.first_row <= row)
            .saturating_sub(1)];
        let within = (row - part.first_row) / BLOCK_ROWS as u64 * BLOCK_ROWS as u64;
        let end = (within + BLOCK_ROWS as u64).min(part.rows);
        part.first_row + within..part.first_row + end
    }

    /// Reads one block: every field, in order.
    pub(crate) fn read_block(&self, rows: &Range<u64>) -> Result<Vec<Column>> {
        let part = &self.parts[self
            .parts
            .partition_point(|part| part.first_row <= rows.start)
            .saturating_sub(1)];
        let batch = part.read(rows.start - part.first_row..rows.end - part.first_row)?;
        let columns = self.fields.iter().map(|field| {
            let array = batch.column_by_name(&field.name);
            array
                .and_then(|array| to_column(array, field))
                .ok_or_else(|| {
                    Error::corrupt(
                        part.file.path(),
                        format!("column `{}` is not as `dataset.json` says", field.name),
                    )
                })
        });
        columns.collect()
    }

    /// Calls `check` with episode, frame, index and task of every row, in order.
    pub(crate) fn for_each_number(&self, mut check: impl FnMut([i64; 4])) -> Result<()> {
        let names = [
            BOOKKEEPING[0],
            BOOKKEEPING[1],
            BOOKKEEPING[3],
            BOOKKEEPING[4],
        ];
        for part in &self.parts {
            for batch in part.numbers(&names)? {
                let columns = names.map(|name| {
                    batch
                        .column_by_name(name)?
                        .as_any()
                        .downcast_ref::<Int64Array>()
                });
                let [Some(a), Some(b), Some(c), Some(d)] = columns else {
                    return Err(Error::corrupt(
                        part.file.path(),
                        "a numbering column is not int64",
                    ));
                };
                (0..batch.num_rows())
                    .for_each(|i| check([a.value(i), b.value(i), c.value(i), d.value(i)]));
            }
        }
        Ok(())
    }

    /// Reads and bytes so far.
    pub(crate) fn reads(&self) -> (u64, u64) {
        self.parts
            .iter()
            .map(|part| part.file.reads())
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Part {
    fn open(path: &Path, fields: &[Field], first_row: u64) -> Result<Self> {
        let file = CountedFile::open(path)?;
        let metadata = guarded(path, || {
            read_footer(&file, PageIndexPolicy::Required, ArrowReaderOptions::new())
                .map_err(|e| Error::corrupt(path, e))
        })?;
        let rows = count_rows(&file, &metadata)?;
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let schema = metadata.schema();
        if let Some(missing) = names
            .iter()
            .find(|name| schema.column_with_name(name).is_none())
        {
            return Err(Error::corrupt(
                path,
                format!("column `{missing}` is missing"),
            ));
        }
        let roots = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| names.contains(&f.name().as_str()));
        let projection = ProjectionMask::roots(metadata.parquet_schema(), roots.map(|(i, _)| i));
        Ok(Self {
            file,
            metadata,
            projection,
            first_row,
            rows,
        })
    }

    /// Reads some columns of all rows.
    fn numbers(&self, names: &[&str]) -> Result<Vec<RecordBatch>> {
        guarded(self.file.path(), || self.decode_numbers(names))
    }

    fn decode_numbers(&self, names: &[&str]) -> Result<Vec<RecordBatch>> {
        let corrupt = |e: &dyn std::fmt::Display| Error::corrupt(self.file.path(), e);
        let projection =
            ProjectionMask::columns(self.metadata.parquet_schema(), names.iter().copied());
        let groups = (0..self.metadata.metadata().num_row_groups()).collect();
        let file = self.file.clone();
        let reader = read_rows(file, &self.metadata, projection, groups, None, BLOCK_ROWS)
            .map_err(|e| corrupt(&e))?;
        reader.collect::<Result<_, _>>().map_err(|e| corrupt(&e))
    }

    /// Reads rows of one row group of this part; the page index skips everything else.
    fn read(&self, rows: Range<u64>) -> Result<RecordBatch> {
        guarded(self.file.path(), || self.decode(rows))
    }

    fn decode(&self, rows: Range<u64>) -> Result<RecordBatch> {
        let corrupt = |e: &dyn std::fmt::Display| Error::corrupt(self.file.path(), e);
        let group = rows.start / GROUP_ROWS as u64;
        let within = (rows.start - group * GROUP_ROWS as u64) as usize;
        let count = (rows.end - rows.start) as usize;
        let selection =
            RowSelection::from(vec![RowSelector::skip(within), RowSelector::select(count)]);
        let mut reader = read_rows(
            self.file.clone(),
            &self.metadata,
            self.projection.clone(),
            vec![group as usize],
            Some(selection),
            BLOCK_ROWS,
        )
        .map_err(|e| corrupt(&e))?;
        let batch = reader
            .next()
            .ok_or_else(|| corrupt(&"rows are missing"))?
            .map_err(|e| corrupt(&e))?;
        if batch.num_rows() == count {
            Ok(batch)
        } else {
            Err(corrupt(&"rows are missing"))
        }
    }
}

/// Rows of a part, whose groups are all full but the last.
fn count_rows(file: &CountedFile, metadata: &ArrowReaderMetadata) -> Result<u64> {
    let metadata = metadata.metadata();
    let announced = metadata.file_metadata().num_rows();
    let mut left = announced;
    for group in metadata.row_groups() {
        if group.num_rows() != left.min(GROUP_ROWS as i64) {
            let detail = format!("a group has {} of {left} rows", group.num_rows());
            return Err(Error::corrupt(file.path(), detail));
        }
        left -= group.num_rows();
    }
    let most = file.size().saturating_mul(MOST_ROWS_PER_BYTE);
    match u64::try_from(announced) {
        Ok(rows) if left == 0 && rows <= most => Ok(rows),
        _ => Err(Error::corrupt(
            file.path(),
            format!("it announces {announced} rows"),
        )),
    }
}

/// Runs a decoder of bytes that may be anything: a fault that it did not foresee is damage of the file.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(Error::corrupt(path, "its pages are damaged")))
}

/// The values of an array as a column of a field; nothing when the types differ.
fn to_column(array: &ArrayRef, field: &Field) -> Option<Column> {
    let width = field.width();
    let flat: ArrayRef = match array.as_any().downcast_ref::<FixedSizeListArray>() {
        Some(list) if list.value_length() as usize == width => list
            .values()
            .slice(list.offset() * width, list.len() * width),
        None if width == 1 => Arc::clone(array),
        _ => return None,
    };
    if flat.null_count() > 0 {
        return None;
    }
    let any = flat.as_any();
    match field.dtype {
        Dtype::F32 => any.downcast_ref::<Float32Array>().map(|a| Column::F32 {
            width,
            values: a.values().to_vec(),
        }),
        Dtype::F64 => any.downcast_ref::<Float64Array>().map(|a| Column::F64 {
            width,
            values: a.values().to_vec(),
        }),
        Dtype::I64 => any
            .downcast_ref::<Int64Array>()
            .map(|a| Column::I64(a.values().to_vec())),
    }
}

impl Length for CountedFile {
    fn len(&self) -> u64 {
        self.size()
    }
}

impl ChunkReader for CountedFile {
    type T = BufReader<Box<dyn Read + Send>>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(Box::new(self.reader_at(start))))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(Bytes::from(self.read_at(start, length)?))
    }
}

/// Writes a small table at once.
fn write_table(
    disk: &Disk,
    path: &Path,
    columns: Vec<(ArrowField, ArrayRef)>,
) -> Result<FileEntry> {
    let error = |source| Error::Parquet {
        path: path.to_path_buf(),
        source,
    };
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|e| error(e.into()))?;
    let mut writer =
        ArrowWriter::try_new(disk.create(path)?, schema, Some(properties())).map_err(error)?;
    writer.write(&batch).map_err(error)?;
    writer.into_inner().map_err(error)?.commit(Sync::Yes)
}

fn int(name: &str, values: impl Iterator<Item = u64>) -> (ArrowField, ArrayRef) {
    let array = Int64Array::from_iter_values(values.map(|v| v as i64));
    (
        ArrowField::new(name, DataType::Int64, false),
        Arc::new(array),
    )
}

fn text<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> (ArrowField, ArrayRef) {
    (
        ArrowField::new(name, DataType::Utf8, false),
        Arc::new(StringArray::from_iter_values(values)),
    )
}

fn optional(name: &str, values: impl Iterator<Item = Option<f64>>) -> (ArrowField, ArrayRef) {
    (
        ArrowField::new(name, DataType::Float64, true),
        Arc::new(values.collect::<Float64Array>()),
    )
}

/// Writes `episodes.parquet`.
pub(crate) fn write_episodes(
    disk: &Disk,
    path: &Path,
    episodes: &[EpisodeMeta],
    cameras: &[String],
) -> Result<FileEntry> {
    let all = || episodes.iter();
    let seeds: UInt64Array = all().map(|e| e.seed).collect();
    let mut columns = vec![
        int("episode_index", all().map(|e| e.episode_index)),
        int("source_index", all().map(|e| e.source_index)),
        int("length", all().map(|e| e.length)),
        int("first_row", all().map(|e| e.first_row)),
        text("task", all().map(|e| e.task.as_str())),
        text("split", all().map(|e| e.split.as_str())),
        (
            ArrowField::new("seed", DataType::UInt64, true),
            Arc::new(seeds),
        ),
        text("source_path", all().map(|e| e.source_path.as_str())),
        text("source_hash", all().map(|e| e.source_hash.as_str())),
    ];
    for camera in cameras {
        let range = |e: &EpisodeMeta| e.frames.get(camera).copied().unwrap_or_default();
        columns.push(int(
            &format!("frames/{camera}/first"),
            all().map(|e| range(e).first),
        ));
        columns.push(int(
            &format!("frames/{camera}/count"),
            all().map(|e| range(e).count),
        ));
    }
    let mut extras: Vec<&String> = all().flat_map(|e| e.extras.keys()).collect();
    extras.sort();
    extras.dedup();
    for key in extras {
        columns.push(optional(
            &format!("extras/{key}"),
            all().map(|e| e.extras.get(key).copied()),
        ));
    }
    write_table(disk, path, columns)
}

/// Writes `ledger.parquet`.
pub(crate) fn write_ledger(disk: &Disk, path: &Path, rows: &[LedgerRow]) -> Result<FileEntry> {
    let all = || rows.iter();
    let columns = vec![
        int("source_index", all().map(|r| r.source_index)),
        text("path", all().map(|r| r.path.as_str())),
        text("outcome", all().map(|r| r.outcome.as_str())),
        text("code", all().map(|r| r.code.as_str())),
        text("detail", all().map(|r| r.detail.as_str())),
        int("bytes", all().map(|r| r.bytes)),
        optional("seconds", all().map(|r| r.seconds)),
    ];
    write_table(disk, path, columns)
}

/// A small table in memory.
struct Table<'a> {
    path: &'a Path,
    batch: RecordBatch,
}

impl<'a> Table<'a> {
    fn read(path: &'a Path, bytes: Vec<u8>) -> Result<Self> {
        guarded(path, || Self::decode(path, bytes))
    }

    fn decode(path: &'a Path, bytes: Vec<u8>) -> Result<Self> {
        let corrupt = |e: &dyn std::fmt::Display| Error::corrupt(path, e);
        let bytes = Bytes::from(bytes);
        let metadata = read_footer(&bytes, PageIndexPolicy::Skip, ArrowReaderOptions::new())
            .map_err(|e| corrupt(&e))?;
        let schema = Arc::clone(metadata.schema());
        let groups = (0..metadata.metadata().num_row_groups()).collect();
        let columns = ProjectionMask::all();
        let rows = read_rows(bytes, &metadata, columns, groups, None, BLOCK_ROWS)
            .map_err(|e| corrupt(&e))?;
        let batches: Result<Vec<RecordBatch>, _> = rows.collect();
        let batches = batches.map_err(|e| corrupt(&e))?;
        let batch = arrow::compute::concat_batches(&schema, &batches).map_err(|e| corrupt(&e))?;
        Ok(Self { path, batch })
    }

    fn column<A: Clone + 'static>(&self, name: &str) -> Result<A> {
        let array = self
            .batch
            .column_by_name(name)
            .and_then(|array| array.as_any().downcast_ref::<A>());
        array.cloned().ok_or_else(|| {
            Error::corrupt(
                self.path,
                format!("column `{name}` is missing or of another type"),
            )
        })
    }

    fn ints(&self, name: &str) -> Result<Vec<u64>> {
        let values = self.column::<Int64Array>(name)?;
        let values = values.values().iter().map(|&v| u64::try_from(v));
        values
            .collect::<Result<_, _>>()
            .map_err(|_| Error::corrupt(self.path, format!("`{name}` has a negative number")))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let values = self.column::<StringArray>(name)?;
        Ok((0..values.len())
            .map(|i| values.value(i).to_string())
            .collect())
    }

    fn optionals(&self, name: &str) -> Result<Vec<Option<f64>>> {
        Ok(self.column::<Float64Array>(name)?.iter().collect())
    }
}

/// Reads `episodes.parquet`.
pub(crate) fn read_episodes(
    path: &Path,
    bytes: Vec<u8>,
    cameras: &[String],
) -> Result<Vec<EpisodeMeta>> {
    let table = Table::read(path, bytes)?;
    let numbers =
        ["episode_index", "source_index", "length", "first_row"].map(|name| table.ints(name));
    let [episode_index, source_index, length, first_row] = numbers;
    let (episode_index, source_index, length, first_row) =
        (episode_index?, source_index?, length?, first_row?);
    let [task, split, source_path, source_hash] =
        ["task", "split", "source_path", "source_hash"].map(|n| table.texts(n));
    let (task, split, source_path, source_hash) = (task?, split?, source_path?, source_hash?);
    let seed: Vec<Option<u64>> = table.column::<UInt64Array>("seed")?.iter().collect();
    let mut episodes: Vec<EpisodeMeta> = (0..episode_index.len())
        .map(|i| EpisodeMeta {
            episode_index: episode_index[i],
            source_index: source_index[i],
            length: length[i],
            first_row: first_row[i],
            task: task[i].clone(),
            split: split[i].clone(),
            seed: seed[i],
            source_path: source_path[i].clone(),
            source_hash: source_hash[i].clone(),
            ..EpisodeMeta::default()
        })
        .collect();
    read_ranges(&table, cameras, &mut episodes)?;
    read_extras(&table, &mut episodes)?;
    Ok(episodes)
}

fn read_ranges(table: &Table<'_>, cameras: &[String], episodes: &mut [EpisodeMeta]) -> Result<()> {
    for camera in cameras {
        let first = table.ints(&format!("frames/{camera}/first"))?;
        let count = table.ints(&format!("frames/{camera}/count"))?;
        for ((episode, first), count) in episodes.iter_mut().zip(first).zip(count) {
            episode
                .frames
                .insert(camera.clone(), FrameRange { first, count });
        }
    }
    Ok(())
}

fn read_extras(table: &Table<'_>, episodes: &mut [EpisodeMeta]) -> Result<()> {
    let schema = table.batch.schema();
    for name in schema.fields().iter().map(|field| field.name()) {
        let Some(key) = name.strip_prefix("extras/") else {
            continue;
        };
        for (episode, value) in episodes.iter_mut().zip(table.optionals(name)?) {
            if let Some(value) = value {
                episode.extras.insert(key.to_string(), value);
            }
        }
    }
    Ok(())
}

/// Reads `ledger.parquet`.
pub(crate) fn read_ledger(path: &Path, bytes: Vec<u8>) -> Result<Vec<LedgerRow>> {
    let table = Table::read(path, bytes)?;
    let (source_index, bytes) = (table.ints("source_index")?, table.ints("bytes")?);
    let [paths, outcome, code, detail] =
        ["path", "outcome", "code", "detail"].map(|name| table.texts(name));
    let (paths, outcome, code, detail) = (paths?, outcome?, code?, detail?);
    let seconds = table.optionals("seconds")?;
    let row = |i: usize| {
        Ok(LedgerRow {
            source_index: source_index[i],
            path: paths[i].clone(),
            outcome: outcome_of(&outcome[i])
                .ok_or_else(|| Error::corrupt(path, format!("outcome `{}`", outcome[i])))?,
            code: code[i].clone(),
            detail: detail[i].clone(),
            bytes: bytes[i],
            seconds: seconds[i],
        })
    };
    (0..source_index.len()).map(row).collect()
}

fn outcome_of(text: &str) -> Option<Outcome> {
    [Outcome::Accepted, Outcome::Rejected, Outcome::Skipped]
        .into_iter()
        .find(|o| o.as_str() == text)
}
