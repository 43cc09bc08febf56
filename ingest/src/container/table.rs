//! Parquet files, read a run of rows and a few columns at a time (datasets.md section 1.6).
//!
//! Columns come out as plain vectors whatever their physical form: lists of fixed or free size, 32 or
//! 64 bits, dictionaries, any of the usual compressions. Types are those of the Parquet schema; what
//! Arrow or Python noted beside it is ignored. A missing value is an error: no column of an episode has
//! one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, ListArray, RecordBatch, RecordBatchReader,
    StringArray, StructArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use jepa_datasets::pages::{read_footer, read_rows};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector,
};
use parquet::file::metadata::PageIndexPolicy;

use super::mapped::impostor;
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"PAR1";
/// Rows decoded at once.
const BATCH_ROWS: usize = 1024;

/// An open Parquet file: its footer is read, its rows are not.
#[derive(Debug, Clone)]
pub struct TableFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl TableFile {
    /// Reads the footer of a file.
    ///
    /// # Errors
    /// What the file is instead: empty, a Git LFS pointer, a web page, cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        check_ends(path, &mut file)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = guarded(path, || {
            read_footer(&file, PageIndexPolicy::Optional, options).map_err(|e| fault(path, &e))
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            metadata,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.fold(0, |rows: usize, group| {
            rows.saturating_add(rows_of(group.num_rows()))
        })
    }

    /// Names of the columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let fields = self.metadata.schema().fields().iter();
        fields.map(|field| field.name().as_str())
    }

    /// Whether there is a column of that name.
    pub fn has(&self, column: &str) -> bool {
        self.columns().any(|name| name == column)
    }

    /// Whether the numbers of a column, in lists or not, are all exactly `f32`.
    pub fn fits_f32(&self, column: &str) -> bool {
        let field = self.metadata.schema().field_with_name(column);
        let mut inner = field.map(|field| field.data_type().clone());
        while let Ok(
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _),
        ) = inner
        {
            inner = Ok(item.data_type().clone());
        }
        matches!(
            inner,
            Ok(DataType::Float32
                | DataType::Float16
                | DataType::Boolean
                | DataType::Int8
                | DataType::Int16
                | DataType::UInt8
                | DataType::UInt16)
        )
    }

    /// Reads some columns of a run of rows; nothing else of the file is decompressed, as far as its
    /// pages allow.
    ///
    /// # Errors
    /// [`Error::MissingKey`] for a column that is not there; damage of the file.
    pub fn read(&self, columns: &[&str], rows: Range<usize>) -> Result<Rows> {
        if rows.start > rows.end || rows.end > self.rows() {
            let detail = format!("rows {rows:?} of {}", self.rows());
            return Err(Error::count(&self.path, detail));
        }
        let names: Vec<&str> = self.columns().collect();
        let root = |column: &&str| {
            let position = names.iter().position(|name| name == column);
            position.ok_or_else(|| Error::MissingKey {
                path: self.path.clone(),
                key: (*column).into(),
            })
        };
        let roots: Vec<usize> = columns.iter().map(root).collect::<Result<_>>()?;
        let batch = guarded(&self.path, || self.decode(&roots, &rows))?;
        if batch.num_rows() != rows.len() {
            let detail = format!("{} of {} rows can be read", batch.num_rows(), rows.len());
            return Err(Error::truncated(&self.path, detail));
        }
        Ok(Rows {
            path: self.path.clone(),
            batch,
        })
    }

    fn decode(&self, roots: &[usize], rows: &Range<usize>) -> Result<RecordBatch> {
        // A file of its own for every reader: they share their position otherwise.
        let file = File::open(&self.path).map_err(|e| Error::io(&self.path, e))?;
        let (groups, inside) = self.groups(rows);
        let parquet = self.metadata.parquet_schema();
        let selection = RowSelection::from(vec![
            RowSelector::skip(inside.start),
            RowSelector::select(inside.len()),
        ]);
        let columns = ProjectionMask::roots(parquet, roots.iter().copied());
        let batch = inside.len().clamp(1, BATCH_ROWS);
        let reader = read_rows(
            file,
            &self.metadata,
            columns,
            groups,
            Some(selection),
            batch,
        )
        .map_err(|e| fault(&self.path, &e))?;
        let schema = reader.schema();
        let batches: Result<Vec<RecordBatch>, _> = reader.collect();
        let batches = batches.map_err(|e| fault(&self.path, &e))?;
        concat_batches(&schema, &batches).map_err(|e| fault(&self.path, &e))
    }

    /// The row groups that hold a run of rows, and the run counted from the first of them.
    fn groups(&self, rows: &Range<usize>) -> (Vec<usize>, Range<usize>) {
        let mut groups = Vec::new();
        let (mut start, mut before) = (0, 0);
        for (k, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            let end = rows_of(group.num_rows()).saturating_add(start);
            if end > rows.start && start < rows.end {
                if groups.is_empty() {
                    before = start;
                }
                groups.push(k);
            }
            start = end;
        }
        (groups, rows.start - before..rows.end - before)
    }
}

/// Number of rows of a group; a negative one holds none.
fn rows_of(announced: i64) -> usize {
    usize::try_from(announced).unwrap_or(0)
}

/// A Parquet file begins and ends with `PAR1`; the end is written last.
fn check_ends(path: &Path, file: &mut File) -> Result<()> {
    let io = |e| Error::io(path, e);
    let length = file.metadata().map_err(io)?.len();
    if length == 0 {
        return Err(Error::Empty {
            path: path.to_path_buf(),
        });
    }
    let mut head = Vec::new();
    file.by_ref()
        .take(4096)
        .read_to_end(&mut head)
        .map_err(io)?;
    if !head.starts_with(MAGIC) {
        let other = Error::Format {
            path: path.to_path_buf(),
            expected: "a Parquet file",
            detail: "it does not begin with `PAR1`".into(),
        };
        return Err(impostor(path, &head).unwrap_or(other));
    }
    let mut tail = [0; 4];
    let end = file
        .seek(SeekFrom::End(-4))
        .and_then(|_| file.read_exact(&mut tail));
    end.map_err(io)?;
    if length < 12 || tail != *MAGIC {
        return Err(Error::truncated(path, "its footer is missing"));
    }
    Ok(())
}

/// Runs a decoder of untrusted bytes: a fault that it did not foresee is a fault of the file.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(fault(path, &"its pages are damaged")))
}

fn fault(path: &Path, detail: &dyn std::fmt::Display) -> Error {
    Error::Format {
        path: path.to_path_buf(),
        expected: "a readable Parquet file",
        detail: detail.to_string(),
    }
}

/// A run of rows of some columns.
#[derive(Debug, Clone)]
pub struct Rows {
    path: PathBuf,
    batch: RecordBatch,
}

/// Numbers of a column: one row after the other, each of the same shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Shape of one row; empty for scalars.
    pub shape: Vec<usize>,
    /// `[rows, shape...]`, row-major.
    pub values: Vec<f64>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers, in lists of any depth; within these rows all lists of one level have one length.
    pub fn numbers(&self, column: &str) -> Result<Numbers> {
        let mut array = self.column(column)?;
        let mut shape = Vec::new();
        while let DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) =
            array.data_type()
        {
            let (length, items) = self.unnest(column, &array)?;
            shape.push(length);
            array = items;
        }
        if !(array.data_type().is_numeric() || *array.data_type() == DataType::Boolean) {
            return Err(self.dtype(column, &array, "numbers"));
        }
        self.refuse_nulls(column, &array)?;
        let values = if let Some(bools) = array.as_any().downcast_ref::<BooleanArray>() {
            let numbers = bools.iter().map(|v| f64::from(u8::from(v == Some(true))));
            numbers.collect()
        } else {
            let floats = cast(&array, &DataType::Float64).map_err(|e| fault(&self.path, &e))?;
            floats.as_primitive::<Float64Type>().values().to_vec()
        };
        Ok(Numbers { shape, values })
    }

    /// Whole numbers, one per row.
    pub fn integers(&self, column: &str) -> Result<Vec<i64>> {
        let array = self.unwrapped(column)?;
        let is_whole = array.data_type().is_integer() || *array.data_type() == DataType::Boolean;
        if !is_whole {
            return Err(self.dtype(column, &array, "whole numbers"));
        }
        self.refuse_nulls(column, &array)?;
        let wide = cast(&array, &DataType::Int64).map_err(|e| fault(&self.path, &e))?;
        self.refuse_nulls(column, &wide)?;
        Ok(wide.as_primitive::<Int64Type>().values().to_vec())
    }

    /// Texts, one per row.
    pub fn texts(&self, column: &str) -> Result<Vec<String>> {
        let array = self.column(column)?;
        self.refuse_nulls(column, &array)?;
        let texts = self.as_texts(column, &array)?;
        Ok(texts.iter().flatten().map(str::to_string).collect())
    }

    /// Lists of texts, one list per row.
    pub fn text_lists(&self, column: &str) -> Result<Vec<Vec<String>>> {
        let array = self.column(column)?;
        let lists = array
            .as_any()
            .downcast_ref::<ListArray>()
            .ok_or_else(|| self.dtype(column, &array, "lists of texts"))?;
        let lists = (0..lists.len()).map(|row| {
            if lists.is_null(row) {
                return Ok(Vec::new());
            }
            let texts = self.as_texts(column, &lists.value(row))?;
            Ok(texts.iter().flatten().map(str::to_string).collect())
        });
        lists.collect()
    }

    /// Bytes, one run per row: a binary column, or the field `bytes` of a struct as the `datasets` library
    /// writes images and videos.
    pub fn bytes(&self, column: &str) -> Result<Vec<Vec<u8>>> {
        let array = self.column(column)?;
        let array = match array.as_any().downcast_ref::<StructArray>() {
            Some(fields) => {
                let inner = fields.column_by_name("bytes").cloned();
                inner.ok_or_else(|| self.missing(&format!("{column}.bytes")))?
            }
            None => array,
        };
        let binary =
            cast(&array, &DataType::Binary).map_err(|_| self.dtype(column, &array, "files"))?;
        let Some(binary) = binary.as_any().downcast_ref::<BinaryArray>() else {
            return Err(self.dtype(column, &array, "files"));
        };
        // A row without bytes names a file elsewhere, which is not part of the release.
        if binary.null_count() > 0 {
            return Err(self.missing(&format!("{column}.bytes")));
        }
        Ok(binary.iter().flatten().map(<[u8]>::to_vec).collect())
    }

    fn column(&self, name: &str) -> Result<ArrayRef> {
        let column = self.batch.column_by_name(name);
        column.cloned().ok_or_else(|| self.missing(name))
    }

    /// A column of scalars, also where each stands in a list of one.
    fn unwrapped(&self, name: &str) -> Result<ArrayRef> {
        let array = self.column(name)?;
        match array.data_type() {
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                match self.unnest(name, &array)? {
                    (1, items) => Ok(items),
                    _ => Err(self.dtype(name, &array, "whole numbers")),
                }
            }
            _ => Ok(array),
        }
    }

    fn as_texts(&self, column: &str, array: &ArrayRef) -> Result<StringArray> {
        let is_text = matches!(
            array.data_type(),
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::Dictionary(..)
        );
        let texts = cast(array, &DataType::Utf8).ok().filter(|_| is_text);
        let texts = texts.ok_or_else(|| self.dtype(column, array, "texts"))?;
        Ok(texts.as_string::<i32>().clone())
    }

    /// Length that all lists have, and their items one after the other.
    fn unnest(&self, column: &str, array: &ArrayRef) -> Result<(usize, ArrayRef)> {
        self.refuse_nulls(column, array)?;
        let (lengths, items): (Vec<usize>, ArrayRef) = match array.data_type() {
            DataType::FixedSizeList(..) => {
                let lists = array.as_fixed_size_list();
                let length = lists.value_length() as usize;
                let items = lists
                    .values()
                    .slice(lists.offset() * length, lists.len() * length);
                (vec![length; lists.len().min(1)], items)
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                let offsets = lists.value_offsets();
                let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
                let lengths = offsets.windows(2).map(|w| (w[1] - w[0]) as usize);
                (lengths.collect(), lists.values().slice(first, last - first))
            }
            _ => {
                let lists = array.as_list::<i32>();
                let offsets = lists.value_offsets();
                let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
                let lengths = offsets.windows(2).map(|w| (w[1] - w[0]) as usize);
                (lengths.collect(), lists.values().slice(first, last - first))
            }
        };
        let length = lengths.first().copied().unwrap_or(0);
        if let Some(other) = lengths.iter().find(|&&other| other != length) {
            let detail =
                format!("`{column}` has lists of {length} and of {other} items side by side");
            return Err(Error::count(&self.path, detail));
        }
        Ok((length, items))
    }

    fn refuse_nulls(&self, column: &str, array: &ArrayRef) -> Result<()> {
        if array.null_count() == 0 {
            return Ok(());
        }
        Err(self.missing(&format!("{column} (a row has no value)")))
    }

    fn missing(&self, key: &str) -> Error {
        Error::MissingKey {
            path: self.path.clone(),
            key: key.into(),
        }
    }

    fn dtype(&self, column: &str, array: &ArrayRef, wanted: &'static str) -> Error {
        Error::Dtype {
            path: self.path.clone(),
            found: format!("{} of column `{column}`", array.data_type()),
            wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, FixedSizeListBuilder, Float32Builder, Float64Builder, Int32Array,
        LargeListBuilder, LargeStringArray, ListBuilder,
    };
    use arrow::datatypes::Int8Type;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;

    const ROWS: i32 = 50;

    fn batch() -> RecordBatch {
        let mut fixed = FixedSizeListBuilder::new(Float32Builder::new(), 2);
        let mut large = LargeListBuilder::new(ListBuilder::new(Float64Builder::new()));
        for row in 0..ROWS {
            fixed.values().append_slice(&[row as f32, 0.5]);
            fixed.append(true);
            for k in 0..3 {
                let inner = large.values();
                inner.values().append_slice(&[f64::from(row), f64::from(k)]);
                inner.append(true);
            }
            large.append(true);
        }
        let tasks = (0..ROWS).map(|row| if row % 2 == 0 { "even" } else { "odd" });
        let dictionary: DictionaryArray<Int8Type> = tasks.clone().collect();
        let columns: [(&str, ArrayRef); 5] = [
            ("fixed", Arc::new(fixed.finish())),
            ("nested", Arc::new(large.finish())),
            ("task", Arc::new(dictionary)),
            ("large", Arc::new(LargeStringArray::from_iter_values(tasks))),
            (
                "id.with.dots",
                Arc::new(Int32Array::from_iter_values(0..ROWS)),
            ),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    fn written(compression: Compression) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let batch = batch();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(20))
            .build();
        let mut writer = ArrowWriter::try_new(
            file.reopen().expect("a file"),
            batch.schema(),
            Some(properties),
        )
        .expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        file
    }

    #[test]
    fn every_compression_list_and_text_is_read_across_row_groups() {
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let file = written(compression);
            let table = TableFile::open(file.path()).expect("a table");
            assert_eq!(table.rows(), 50);
            assert!(table.fits_f32("fixed") && !table.fits_f32("nested"));
            let rows = table
                .read(
                    &["fixed", "nested", "task", "large", "id.with.dots"],
                    18..41,
                )
                .expect("rows");
            let fixed = rows.numbers("fixed").expect("numbers");
            assert_eq!(
                (fixed.shape, fixed.values[0], fixed.values[45]),
                (vec![2], 18.0, 0.5)
            );
            let nested = rows.numbers("nested").expect("numbers");
            assert_eq!(nested.shape, [3, 2]);
            assert_eq!(nested.values[6..12], [19.0, 0.0, 19.0, 1.0, 19.0, 2.0]);
            assert_eq!(rows.texts("task").expect("texts")[..2], ["even", "odd"]);
            assert_eq!(rows.texts("large").expect("texts")[..2], ["even", "odd"]);
            assert_eq!(rows.integers("id.with.dots").expect("integers")[22], 40);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let file = written(Compression::SNAPPY);
        let table = TableFile::open(file.path()).expect("a table");
        let missing = table.read(&["reward"], 0..1).map(|_| ());
        assert!(matches!(missing, Err(Error::MissingKey { key, .. }) if key == "reward"));
        assert!(table.read(&["task"], 49..51).is_err());
        let rows = table.read(&["task", "fixed"], 0..2).expect("rows");
        assert!(matches!(rows.numbers("task"), Err(Error::Dtype { .. })));
        assert!(matches!(rows.texts("fixed"), Err(Error::Dtype { .. })));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_panic() {
        let file = written(Compression::SNAPPY);
        let good = std::fs::read(file.path()).expect("bytes");
        for at in (4..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            std::fs::write(file.path(), &bad).expect("written");
            if let Ok(table) = TableFile::open(file.path()) {
                let rows = table.read(&["fixed", "nested", "task"], 0..table.rows().min(50));
                let _ = rows.map(|rows| (rows.numbers("nested"), rows.texts("task")));
            }
        }
        std::fs::write(file.path(), &good[..good.len() - 1]).expect("written");
        assert!(matches!(
            TableFile::open(file.path()),
            Err(Error::Truncated { .. })
        ));
    }
}
