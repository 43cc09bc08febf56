//! The paper's published results, as reported by its authors; nothing here was verified.
//!
//! [`published_tables`] has every table that is kept; [`published`] is Table S5.1 of arXiv 2512.24497 ready to stand
//! beside runs, of which the rows with planner CEM and distance L2 are Table 1.
//! A cell is the mean and the population standard deviation over seeds and the last epochs of
//! training (evaluation.md section 4.2), not a binomial interval: it cannot be compared with one.

mod tables;

use std::sync::LazyLock;

use serde::Serialize;

pub use tables::{PublishedCell, PublishedRow, PublishedTable, published_table, published_tables};

/// The paper in one line.
pub const PAPER: &str = "What Drives Success in Physical Planning with Joint-Embedding Predictive World Models? (arXiv 2512.24497)";

/// Columns of the published tables, in their order. `DROID` holds an action score, the others
/// success rates in percent.
pub const TASK_GROUPS: [&str; 8] = [
    "Maze", "Wall", "Push-T", "MW-R", "MW-RW", "Rc-R", "Rc-Pl", "DROID",
];

/// One published cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PublishedScore {
    /// Mean, in percent.
    pub mean: f64,
    /// Population standard deviation over seeds and epochs, in percentage points.
    pub std: f64,
}

/// One published row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Published {
    /// Model, as the paper names it.
    pub model: &'static str,
    /// Planner: `cem`, `ng`, `adam` (as released, equal to gradient descent) or `gd`.
    pub planner: &'static str,
    /// Distance of the planning objective: `l1` or `l2`.
    pub distance: &'static str,
    /// One cell per column of [`TASK_GROUPS`]; `None` where the paper gives none.
    pub scores: [Option<PublishedScore>; 8],
}

impl Published {
    fn of(row: &PublishedRow) -> Self {
        let mut scores = [None; 8];
        for (score, cell) in scores.iter_mut().zip(&row.cells) {
            *score = cell.and_then(PublishedCell::score);
        }
        Self {
            planner: row.labels[0],
            distance: row.labels[1],
            model: row.labels[2],
            scores,
        }
    }

    /// Where the row stands: Table 1 repeats the rows with CEM and L2.
    pub fn source(&self) -> &'static str {
        if self.planner == "cem" && self.distance == "l2" {
            "Table 1"
        } else {
            "Table S5.1"
        }
    }
}

/// Rows of `planner` and `distance` that have a value for the task, with that value.
///
/// `task` is a task name without version, e.g. `wall`. Unknown names give no rows.
pub fn published_for(
    task: &str,
    planner: &str,
    distance: &str,
) -> impl Iterator<Item = (&'static Published, PublishedScore)> {
    let column = column_of(task);
    let (planner, distance) = (planner.to_string(), distance.to_string());
    published()
        .iter()
        .filter(move |row| row.planner == planner && row.distance == distance)
        .filter_map(move |row| Some((row, row.scores[column?]?)))
}

/// Column of a task in [`TASK_GROUPS`].
pub(crate) fn column_of(task: &str) -> Option<usize> {
    let group = match task {
        "pointmaze" => "Maze",
        "wall" => "Wall",
        "pusht" => "Push-T",
        "mw-reach" | "metaworld-reach" => "MW-R",
        "mw-reach-wall" | "metaworld-reach-wall" => "MW-RW",
        "robocasa-reach" => "Rc-R",
        "robocasa-place" => "Rc-Pl",
        "droid" => "DROID",
        _ => return None,
    };
    TASK_GROUPS.iter().position(|name| *name == group)
}

/// Table S5.1, row by row.
static ROWS: LazyLock<Vec<Published>> = LazyLock::new(|| {
    let rows = published_table("S5.1").map_or(&[][..], |table| &table.rows);
    rows.iter().map(Published::of).collect()
});

/// Table S5.1, row by row. Table 1 is its first three rows.
pub fn published() -> &'static [Published] {
    &ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    const DINO_WM: &str = "DINO-WM";
    const V_JEPA_2_AC: &str = "V-JEPA-2-AC (fixed)";
    const PAPER_MODEL: &str = "JEPA-WM of the paper";

    #[test]
    fn wall_with_cem_and_l2_has_the_two_rows_of_table_1() {
        let rows: Vec<_> = published_for("wall", "cem", "l2").collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].0.model, rows[0].1.mean, rows[0].1.std),
            (DINO_WM, 64.1, 4.6)
        );
        assert_eq!(
            (rows[1].0.model, rows[1].1.mean, rows[1].1.std),
            (PAPER_MODEL, 78.8, 3.9)
        );
        assert_eq!(rows[0].0.source(), "Table 1");
    }

    #[test]
    fn tasks_of_metaworld_are_known_by_their_own_names() {
        for (task, group) in [("mw-reach", "MW-R"), ("mw-reach-wall", "MW-RW")] {
            assert_eq!(
                column_of(task).map(|column| TASK_GROUPS[column]),
                Some(group)
            );
            assert_eq!(published_for(task, "cem", "l2").count(), 2);
        }
    }

    #[test]
    fn every_planner_and_distance_has_three_models() {
        assert_eq!(published().len(), 24);
        for row in published() {
            let same = published()
                .iter()
                .filter(|r| (r.planner, r.distance) == (row.planner, row.distance));
            assert_eq!(same.count(), 3);
            assert_eq!(row.scores[1].is_none(), row.model == V_JEPA_2_AC);
        }
    }

    #[test]
    fn scores_are_percentages_and_unknown_tasks_have_none() {
        let scores = published().iter().flat_map(|row| row.scores).flatten();
        assert!(
            scores
                .into_iter()
                .all(|s| (0.0..=100.0).contains(&s.mean) && s.std >= 0.0)
        );
        assert_eq!(published_for("no-such-task", "cem", "l2").count(), 0);
    }

    #[test]
    fn rows_with_cem_and_l2_are_table_1() {
        // Typed from Table 1, evaluation.md section 5.1.
        let table_1 = [
            (
                DINO_WM,
                "81.6 (3.4) | 64.1 (4.6) | 66.0 (4.7) | 44.8 (8.9) | 35.1 (9.4) | 19.1 (13.4) | 21.7 (7.2) | 39.4 (2.1)",
            ),
            (
                V_JEPA_2_AC,
                "- | - | - | - | - | 16.2 (8.3) | 33.1 (7.2) | 42.9 (2.5)",
            ),
            (
                PAPER_MODEL,
                "83.9 (2.3) | 78.8 (3.9) | 70.2 (2.8) | 58.2 (9.3) | 41.6 (10.0) | 25.4 (16.6) | 30.7 (8.0) | 48.2 (1.8)",
            ),
        ];
        let rows: Vec<&Published> = published()
            .iter()
            .filter(|row| row.source() == "Table 1")
            .collect();
        assert_eq!(rows.len(), 3);
        for (row, (model, cells)) in rows.into_iter().zip(table_1) {
            let shown = row.scores.map(|score| match score {
                Some(PublishedScore { mean, std }) => format!("{mean:.1} ({std:.1})"),
                None => "-".into(),
            });
            assert_eq!((row.model, shown.join(" | ")), (model, cells.to_string()));
        }
        assert_eq!(published_table("S5.1").unwrap().columns, TASK_GROUPS);
    }
}
