//! Runs as comma-separated values (RFC 4180): a header, one row per run, lines that end in CR LF.

use super::ExportRun;

/// Columns, in order. Shares are in `[0, 1]`, distances in the units of the task.
const COLUMNS: [&str; 27] = [
    "task",
    "task_hash",
    "model",
    "kind",
    "label",
    "weights_hash",
    "parameters",
    "training_seed",
    "training_steps",
    "track",
    "planner",
    "preset",
    "episodes",
    "successes",
    "success_rate",
    "wilson_low",
    "wilson_high",
    "success_any",
    "final_distance_mean",
    "final_distance_median",
    "candidate_steps",
    "plan_seconds_p50",
    "device",
    "version",
    "commit",
    "started_utc",
    "run",
];

/// One row per run. A value that a run does not have is an empty cell.
pub fn export_csv(runs: &[ExportRun]) -> String {
    let header = COLUMNS.map(String::from);
    let rows = runs.iter().map(cells);
    let lines = std::iter::once(header)
        .chain(rows)
        .map(|cells| line(&cells));
    lines.collect()
}

fn cells(run: &ExportRun) -> [String; 27] {
    let (record, summary) = (run.record, &run.record.summary);
    let (model, provenance) = (&record.model, &record.provenance);
    let training = model.training.as_ref();
    let optional = |value: Option<u64>| value.map_or_else(String::new, |v| v.to_string());
    [
        record.task.id(),
        record.task.hash.clone(),
        model.name.clone(),
        model.kind.as_str().into(),
        model.label.clone(),
        model.weights_hash.clone().unwrap_or_default(),
        optional(model.parameters),
        optional(training.map(|t| t.seed)),
        optional(training.map(|t| t.steps)),
        training.map_or_else(String::new, |t| t.track.clone()),
        record.planner.name.clone(),
        record.planner.preset.clone(),
        summary.episodes.to_string(),
        summary.successes.to_string(),
        summary.success_rate.to_string(),
        summary.wilson_low.to_string(),
        summary.wilson_high.to_string(),
        summary.success_any.to_string(),
        summary.final_distance_mean.to_string(),
        summary.final_distance_median.to_string(),
        summary.candidate_steps.to_string(),
        summary.plan_seconds_p50.to_string(),
        provenance.device.clone(),
        provenance.version.clone(),
        provenance.commit.clone(),
        provenance.started_utc.clone(),
        run.id.clone(),
    ]
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    cells.join(",") + "\r\n"
}

/// A cell, in quotes where it needs them.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interop::tests::runs;

    /// The cells of a text, by the grammar of RFC 4180.
    fn parse(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
        let mut chars = text.chars().peekable();
        let mut inside = false;
        while let Some(c) = chars.next() {
            match c {
                '"' if inside && chars.peek() == Some(&'"') => {
                    chars.next();
                    cell.push('"');
                }
                '"' => inside = !inside,
                ',' if !inside => row.push(std::mem::take(&mut cell)),
                '\r' if !inside => {
                    assert_eq!(chars.next(), Some('\n'));
                    row.push(std::mem::take(&mut cell));
                    rows.push(std::mem::take(&mut row));
                }
                c => cell.push(c),
            }
        }
        assert!(!inside && row.is_empty() && cell.is_empty());
        rows
    }

    #[test]
    fn a_table_has_a_header_and_a_row_per_run() {
        let mut runs = runs(&["pldm", "floor:random"]);
        runs[0].record.model.label = "a, \"b\"\nc".into();
        let exported: Vec<ExportRun> = runs
            .iter()
            .map(|run| ExportRun::of_run(run).unwrap())
            .collect();
        let rows = parse(&export_csv(&exported));
        assert_eq!(rows[0], COLUMNS);
        assert_eq!(rows.len(), 3);
        let cell = |row: usize, name: &str| {
            let column = COLUMNS.iter().position(|column| *column == name).unwrap();
            rows[row][column].as_str()
        };
        assert_eq!(
            (cell(1, "task"), cell(1, "label")),
            ("wall@1", "a, \"b\"\nc")
        );
        assert_eq!(
            (cell(1, "training_seed"), cell(2, "training_seed")),
            ("1", "")
        );
        assert_eq!(
            (cell(2, "kind"), cell(2, "run")),
            ("floor", exported[1].id.as_str())
        );
        let rate: f64 = cell(1, "success_rate").parse().unwrap();
        assert_eq!(rate, runs[0].record.summary.success_rate);
    }

    proptest! {
        #[test]
        fn any_cells_are_read_back(
            cells in prop::collection::vec("[,;\"\r\n ab\u{e9}]{0,6}", 1..6),
        ) {
            let text = line(&cells);
            prop_assert_eq!(parse(&text), [cells]);
        }
    }
}
