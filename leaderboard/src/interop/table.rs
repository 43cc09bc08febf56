//! Runs as one Parquet table, a row per episode: what is behind every number of a board, for anybody's own statistics.

use arrow::array::{BooleanArray, Float64Array, StringArray, UInt32Array, UInt64Array};

use super::ExportRun;
use crate::compare::Score;
use crate::episodes::{column, encode_table};
use crate::error::{Error, Result};

/// Columns `run`, `task`, `task_version`, `task_hash`, `model`, `kind`, `label`, `training_seed`, `seed`, `start_hash`,
/// `success` and `final_distance`; rows in the order of the runs and by seed. `training_seed` may be missing.
///
/// # Errors
/// When the table cannot be encoded.
pub fn export_parquet(runs: &[ExportRun]) -> Result<Vec<u8>> {
    let rows: Vec<(&ExportRun, u64, &Score)> = runs
        .iter()
        .flat_map(|run| {
            run.scores
                .iter()
                .map(move |(&seed, score)| (run, seed, score))
        })
        .collect();
    let text = |name: &str, get: fn(&ExportRun, &Score) -> String| {
        let values = rows.iter().map(|(run, _, score)| get(run, score));
        column(name, StringArray::from_iter_values(values))
    };
    let training_seeds = rows.iter().map(|(run, ..)| {
        let training = run.record.model.training.as_ref();
        training.map(|training| training.seed)
    });
    let (field, training_seeds) = column("training_seed", training_seeds.collect::<UInt64Array>());
    let versions = rows.iter().map(|(run, ..)| run.record.task.version);
    let columns = vec![
        text("run", |run, _| run.id.clone()),
        text("task", |run, _| run.record.task.name.clone()),
        column("task_version", UInt32Array::from_iter_values(versions)),
        text("task_hash", |run, _| run.record.task.hash.clone()),
        text("model", |run, _| run.record.model.name.clone()),
        text("kind", |run, _| run.record.model.kind.as_str().into()),
        text("label", |run, _| run.record.model.label.clone()),
        (field.with_nullable(true), training_seeds),
        column(
            "seed",
            UInt64Array::from_iter_values(rows.iter().map(|&(_, seed, _)| seed)),
        ),
        text("start_hash", |_, score| score.start_hash.clone()),
        column(
            "success",
            rows.iter()
                .map(|(.., score)| Some(score.success))
                .collect::<BooleanArray>(),
        ),
        column(
            "final_distance",
            Float64Array::from_iter_values(rows.iter().map(|(.., score)| score.final_distance)),
        ),
    ];
    encode_table("public-episodes/1", columns).map_err(|source| Error::Parquet {
        path: "episodes.parquet".into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::{Float64Type, UInt64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::interop::tests::runs;

    fn read(bytes: Vec<u8>) -> Vec<RecordBatch> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        builder.build().unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn every_episode_is_a_row_with_its_run() {
        let mut runs = runs(&["pldm", "floor:random"]);
        runs[0].record.model.label = "\u{0}\"\n🙂".into();
        let exported: Vec<ExportRun> = runs
            .iter()
            .map(|run| ExportRun::of_run(run).unwrap())
            .collect();
        let batches = read(export_parquet(&exported).unwrap());
        let batch = &batches[0];
        assert_eq!(
            (batches.len(), batch.num_rows(), batch.num_columns()),
            (1, 16, 12)
        );
        let text = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap();
            column.as_string::<i32>().value(row).to_string()
        };
        assert_eq!(text("label", 0), "\u{0}\"\n🙂");
        assert_eq!(
            (text("run", 0), text("run", 8)),
            (exported[0].id.clone(), exported[1].id.clone())
        );
        assert_eq!(
            (text("task", 0), text("kind", 8)),
            ("wall".into(), "floor".into())
        );
        let seeds = batch.column_by_name("training_seed").unwrap();
        assert_eq!((seeds.is_null(0), seeds.is_null(8)), (false, true));
        for (row, episode) in runs.iter().flat_map(|run| &run.episodes).enumerate() {
            let seed = batch
                .column_by_name("seed")
                .unwrap()
                .as_primitive::<UInt64Type>();
            let success = batch.column_by_name("success").unwrap().as_boolean();
            let distance = batch.column_by_name("final_distance").unwrap();
            let distance = distance.as_primitive::<Float64Type>();
            let found = (seed.value(row), success.value(row), distance.value(row));
            assert_eq!(
                found,
                (episode.seed, episode.success, episode.final_distance)
            );
        }
    }

    #[test]
    fn no_runs_are_a_table_without_rows() {
        let batches = read(export_parquet(&[]).unwrap());
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
}
