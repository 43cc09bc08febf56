//! The tables of a run: `episodes.parquet`, one row per episode, and `timings.parquet`.
//!
//! The same rows give the same bytes: fixed column order, one row group, zstd level 3, no creation
//! time. Files are written under a temporary name and renamed. Any Parquet reader opens them;
//! vectors are list columns, matrices are row-major lists.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, RecordBatch, StringArray,
    UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float64Type, Schema, UInt32Type, UInt64Type,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::record::{EpisodeRow, TimingRow};

/// Column of the digests of the visited states. Tables that were written before there was one are read without it.
const STATE_DIGEST: &str = "state_digest";

/// Writes the episode table.
///
/// # Errors
/// When the file cannot be written.
pub fn write_episodes(path: &Path, rows: &[EpisodeRow]) -> Result<()> {
    let columns = vec![
        column(
            "episode",
            UInt32Array::from_iter_values(rows.iter().map(|r| r.episode)),
        ),
        column(
            "seed",
            UInt64Array::from_iter_values(rows.iter().map(|r| r.seed)),
        ),
        list("init", rows, |r| &r.init),
        list("goal", rows, |r| &r.goal),
        list("final_state", rows, |r| &r.final_state),
        column(
            "success",
            rows.iter()
                .map(|r| Some(r.success))
                .collect::<BooleanArray>(),
        ),
        column(
            "success_any",
            rows.iter()
                .map(|r| Some(r.success_any))
                .collect::<BooleanArray>(),
        ),
        column(
            "final_distance",
            Float64Array::from_iter_values(rows.iter().map(|r| r.final_distance)),
        ),
        list("distances", rows, |r| &r.distances),
        list("states", rows, |r| &r.states),
        list("actions", rows, |r| &r.actions),
        column(
            "plans",
            UInt32Array::from_iter_values(rows.iter().map(|r| r.plans)),
        ),
        column(
            "world_model_calls",
            UInt64Array::from_iter_values(rows.iter().map(|r| r.world_model_calls)),
        ),
        column(
            "candidate_steps",
            UInt64Array::from_iter_values(rows.iter().map(|r| r.candidate_steps)),
        ),
        list("cost_best", rows, |r| &r.cost_best),
        list("cost_elite_mean", rows, |r| &r.cost_elite_mean),
        list("cost_elite_std", rows, |r| &r.cost_elite_std),
        column(
            STATE_DIGEST,
            StringArray::from_iter_values(rows.iter().map(EpisodeRow::state_digest)),
        ),
    ];
    write_table(path, "episodes/1", columns)
}

/// Reads an episode table.
///
/// # Errors
/// When the file cannot be read, is damaged, or has other columns.
pub fn read_episodes(path: &Path) -> Result<Vec<EpisodeRow>> {
    let mut rows = Vec::new();
    for table in read_table(path)? {
        let table = Table {
            path,
            batch: table?,
        };
        rows.extend(table.episodes()?);
    }
    Ok(rows)
}

/// Writes the timing table.
///
/// # Errors
/// When the file cannot be written.
pub fn write_timings(path: &Path, rows: &[TimingRow]) -> Result<()> {
    let columns = vec![
        column(
            "episode",
            UInt32Array::from_iter_values(rows.iter().map(|r| r.episode)),
        ),
        column(
            "plan_seconds",
            Float64Array::from_iter_values(rows.iter().map(|r| r.plan_seconds)),
        ),
        column(
            "env_seconds",
            Float64Array::from_iter_values(rows.iter().map(|r| r.env_seconds)),
        ),
    ];
    write_table(path, "timings/1", columns)
}

/// Reads a timing table.
///
/// # Errors
/// When the file cannot be read, is damaged, or has other columns.
pub fn read_timings(path: &Path) -> Result<Vec<TimingRow>> {
    let mut rows = Vec::new();
    for table in read_table(path)? {
        let table = Table {
            path,
            batch: table?,
        };
        rows.extend(table.timings()?);
    }
    Ok(rows)
}

/// A named column without missing values.
pub(crate) fn column(name: &str, array: impl Array + 'static) -> (Field, ArrayRef) {
    (
        Field::new(name, array.data_type().clone(), false),
        Arc::new(array),
    )
}

/// A column of `f64` lists.
fn list<'a>(
    name: &str,
    rows: &'a [EpisodeRow],
    get: impl Fn(&'a EpisodeRow) -> &'a Vec<f64>,
) -> (Field, ArrayRef) {
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| get(row).len()));
    let values =
        Float64Array::from_iter_values(rows.iter().flat_map(|row| get(row).iter().copied()));
    let item = Arc::new(Field::new("element", DataType::Float64, false));
    column(name, ListArray::new(item, offsets, Arc::new(values), None))
}

/// Encodes a table in memory and writes it in one go.
fn write_table(path: &Path, kind: &str, columns: Vec<(Field, ArrayRef)>) -> Result<()> {
    let bytes = encode_table(kind, columns).map_err(|source| Error::Parquet {
        path: path.to_path_buf(),
        source,
    })?;
    write_atomically(path, &bytes)
}

/// Encodes a table in memory: the same columns give the same bytes.
pub(crate) fn encode_table(
    kind: &str,
    columns: Vec<(Field, ArrayRef)>,
) -> Result<Vec<u8>, ParquetError> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), arrays)?;
    let properties = WriterProperties::builder()
        .set_created_by("jepa-bench".into())
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "jepa-bench.table".into(),
            kind.to_string(),
        )]))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()
}

/// The record batches of a Parquet file.
fn read_table(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let damaged = |source| Error::Parquet {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(damaged)?;
    Ok(reader.map(move |batch| batch.map_err(|source| damaged(source.into()))))
}

/// A batch with the name of its file, so that errors can say where.
struct Table<'a> {
    path: &'a Path,
    batch: RecordBatch,
}

impl Table<'_> {
    fn episodes(&self) -> Result<Vec<EpisodeRow>> {
        let (episode, seed) = (
            self.numbers::<UInt32Type>("episode")?,
            self.numbers::<UInt64Type>("seed")?,
        );
        let (init, goal) = (self.lists("init")?, self.lists("goal")?);
        let final_state = self.lists("final_state")?;
        let (success, success_any) = (self.flags("success")?, self.flags("success_any")?);
        let final_distance = self.numbers::<Float64Type>("final_distance")?;
        let (distances, states) = (self.lists("distances")?, self.lists("states")?);
        let (actions, plans) = (self.lists("actions")?, self.numbers::<UInt32Type>("plans")?);
        let calls = self.numbers::<UInt64Type>("world_model_calls")?;
        let steps = self.numbers::<UInt64Type>("candidate_steps")?;
        let (best, elite_mean) = (self.lists("cost_best")?, self.lists("cost_elite_mean")?);
        let elite_std = self.lists("cost_elite_std")?;
        let row = |k: usize| EpisodeRow {
            episode: episode[k],
            seed: seed[k],
            init: init[k].clone(),
            goal: goal[k].clone(),
            final_state: final_state[k].clone(),
            success: success[k],
            success_any: success_any[k],
            final_distance: final_distance[k],
            distances: distances[k].clone(),
            states: states[k].clone(),
            actions: actions[k].clone(),
            plans: plans[k],
            world_model_calls: calls[k],
            candidate_steps: steps[k],
            cost_best: best[k].clone(),
            cost_elite_mean: elite_mean[k].clone(),
            cost_elite_std: elite_std[k].clone(),
        };
        let rows: Vec<EpisodeRow> = (0..self.batch.num_rows()).map(row).collect();
        self.check_digests(&rows)?;
        Ok(rows)
    }

    /// The digests, where there are any, are those of the states.
    fn check_digests(&self, rows: &[EpisodeRow]) -> Result<()> {
        if self.batch.column_by_name(STATE_DIGEST).is_none() {
            return Ok(());
        }
        let digests = self
            .column(STATE_DIGEST)?
            .as_string_opt::<i32>()
            .ok_or_else(|| self.wrong(STATE_DIGEST, "does not hold text"))?;
        let wrong = rows
            .iter()
            .zip(digests)
            .find(|(row, digest)| *digest != Some(row.state_digest().as_str()));
        match wrong {
            None => Ok(()),
            Some((row, _)) => Err(self.wrong(
                STATE_DIGEST,
                &format!("is not that of the states of episode {}", row.episode),
            )),
        }
    }

    fn timings(&self) -> Result<Vec<TimingRow>> {
        let episode = self.numbers::<UInt32Type>("episode")?;
        let plan_seconds = self.numbers::<Float64Type>("plan_seconds")?;
        let env_seconds = self.numbers::<Float64Type>("env_seconds")?;
        let row = |k: usize| TimingRow {
            episode: episode[k],
            plan_seconds: plan_seconds[k],
            env_seconds: env_seconds[k],
        };
        Ok((0..self.batch.num_rows()).map(row).collect())
    }

    /// A column without missing values.
    fn column(&self, name: &str) -> Result<&ArrayRef> {
        let array = self
            .batch
            .column_by_name(name)
            .ok_or_else(|| self.wrong(name, "is missing"))?;
        if array.null_count() > 0 {
            return Err(self.wrong(name, "has missing values"));
        }
        Ok(array)
    }

    fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<T::Native>> {
        let array = self.column(name)?;
        let typed = array
            .as_primitive_opt::<T>()
            .ok_or_else(|| self.wrong_type(name, array))?;
        Ok(typed.values().to_vec())
    }

    fn flags(&self, name: &str) -> Result<Vec<bool>> {
        let array = self.column(name)?;
        let typed = array
            .as_boolean_opt()
            .ok_or_else(|| self.wrong_type(name, array))?;
        Ok(typed.values().iter().collect())
    }

    fn lists(&self, name: &str) -> Result<Vec<Vec<f64>>> {
        let array = self.column(name)?;
        let typed = array
            .as_list_opt::<i32>()
            .ok_or_else(|| self.wrong_type(name, array))?;
        (0..typed.len())
            .map(|k| {
                let values = typed.value(k);
                if values.null_count() > 0 {
                    return Err(self.wrong(name, "has missing values"));
                }
                let values = values.as_primitive_opt::<Float64Type>();
                values
                    .map(|v| v.values().to_vec())
                    .ok_or_else(|| self.wrong_type(name, array))
            })
            .collect()
    }

    fn wrong_type(&self, name: &str, array: &ArrayRef) -> Error {
        self.wrong(name, &format!("has type {}", array.data_type()))
    }

    fn wrong(&self, name: &str, detail: &str) -> Error {
        Error::Column {
            path: self.path.to_path_buf(),
            column: name.into(),
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SyntheticRun;

    #[test]
    fn episodes_survive_their_file_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("episodes.parquet");
        let mut rows = SyntheticRun::new("pldm", 7).episodes();
        rows[3].final_distance = f64::from_bits(0x3ff0_0000_0000_0001);
        rows[4].cost_best.clear();
        write_episodes(&path, &rows).unwrap();
        assert_eq!(read_episodes(&path).unwrap(), rows);
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("a.parquet"),
            folder.path().join("b.parquet"),
        );
        let rows = SyntheticRun::new("pldm", 20).episodes();
        write_episodes(&a, &rows).unwrap();
        write_episodes(&b, &rows).unwrap();
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn timings_survive_their_file_and_no_rows_are_a_table_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timings.parquet");
        let rows = SyntheticRun::new("pldm", 5).timings();
        write_timings(&path, &rows).unwrap();
        assert_eq!(read_timings(&path).unwrap(), rows);
        write_timings(&path, &[]).unwrap();
        assert_eq!(read_timings(&path).unwrap(), []);
    }

    #[test]
    fn a_table_of_another_kind_names_the_missing_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timings.parquet");
        write_timings(&path, &SyntheticRun::new("pldm", 5).timings()).unwrap();
        let error = read_episodes(&path).unwrap_err();
        assert!(
            error.to_string().contains("column `seed` is missing"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("episodes.parquet");
        write_episodes(&path, &SyntheticRun::new("pldm", 5).episodes()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(read_episodes(&path), Err(Error::Parquet { .. })));
        assert!(matches!(
            read_episodes(&folder.path().join("none")),
            Err(Error::Io { .. })
        ));
    }
}
