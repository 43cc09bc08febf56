//! The paper's published results, as reported by its authors; nothing here was verified.
//!
//! Table S5.1 of arXiv 2512.24497, of which the rows with planner CEM and distance L2 are Table 1.
//! A cell is the mean and the population standard deviation over seeds and the last epochs of
//! training (evaluation.md section 4.2), not a binomial interval: it cannot be compared with one.

use serde::Serialize;

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
    PUBLISHED
        .iter()
        .filter(move |row| row.planner == planner && row.distance == distance)
        .filter_map(move |row| Some((row, row.scores[column?]?)))
}

/// Column of a task in [`TASK_GROUPS`].
fn column_of(task: &str) -> Option<usize> {
    let group = match task {
        "pointmaze" => "Maze",
        "wall" => "Wall",
        "pusht" => "Push-T",
        "metaworld-reach" => "MW-R",
        "metaworld-reach-wall" => "MW-RW",
        "robocasa-reach" => "Rc-R",
        "robocasa-place" => "Rc-Pl",
        "droid" => "DROID",
        _ => return None,
    };
    TASK_GROUPS.iter().position(|name| *name == group)
}

const DINO_WM: &str = "DINO-WM";
const V_JEPA_2_AC: &str = "V-JEPA-2-AC (fixed)";
const PAPER_MODEL: &str = "JEPA-WM of the paper";

/// Table S5.1, row by row. Table 1 is its first three rows.
#[rustfmt::skip] // one row of the paper per line
pub const PUBLISHED: &[Published] = &[
    row("cem", "l2", DINO_WM, [score(81.6, 3.4), score(64.1, 4.6), score(66.0, 4.7), score(44.8, 8.9), score(35.1, 9.4), score(19.1, 13.4), score(21.7, 7.2), score(39.4, 2.1)]),
    row("cem", "l2", V_JEPA_2_AC, [None, None, None, None, None, score(16.2, 8.3), score(33.1, 7.2), score(42.9, 2.5)]),
    row("cem", "l2", PAPER_MODEL, [score(83.9, 2.3), score(78.8, 3.9), score(70.2, 2.8), score(58.2, 9.3), score(41.6, 10.0), score(25.4, 16.6), score(30.7, 8.0), score(48.2, 1.8)]),
    row("cem", "l1", DINO_WM, [score(78.8, 2.9), score(48.7, 4.0), score(61.6, 4.5), score(45.1, 10.4), score(34.0, 9.1), score(14.4, 11.3), score(19.6, 7.4), score(41.7, 2.7)]),
    row("cem", "l1", V_JEPA_2_AC, [None, None, None, None, None, score(13.2, 10.3), score(30.9, 7.3), score(38.5, 5.7)]),
    row("cem", "l1", PAPER_MODEL, [score(79.7, 3.1), score(46.7, 3.6), score(63.4, 2.1), score(55.1, 8.5), score(40.8, 9.2), score(17.6, 12.3), score(30.5, 8.7), score(47.2, 1.8)]),
    row("ng", "l2", DINO_WM, [score(54.2, 3.8), score(25.3, 4.2), score(47.6, 5.4), score(28.1, 7.8), score(27.9, 10.0), score(25.8, 16.7), score(27.1, 8.6), score(36.0, 3.6)]),
    row("ng", "l2", V_JEPA_2_AC, [None, None, None, None, None, score(22.1, 8.9), score(31.1, 7.0), score(36.2, 3.2)]),
    row("ng", "l2", PAPER_MODEL, [score(72.7, 4.5), score(35.4, 5.9), score(48.0, 3.0), score(29.3, 8.6), score(21.0, 7.7), score(30.5, 10.7), score(36.9, 9.1), score(39.9, 1.9)]),
    row("ng", "l1", DINO_WM, [score(52.3, 4.0), score(24.6, 5.2), score(46.2, 5.1), score(27.5, 8.5), score(28.6, 8.9), score(21.6, 15.5), score(26.0, 8.0), score(35.4, 3.3)]),
    row("ng", "l1", V_JEPA_2_AC, [None, None, None, None, None, score(18.4, 11.8), score(29.4, 5.1), score(33.7, 3.9)]),
    row("ng", "l1", PAPER_MODEL, [score(69.5, 2.1), score(30.9, 4.1), score(48.2, 5.1), score(27.8, 8.2), score(21.3, 8.9), score(25.7, 12.0), score(32.0, 9.9), score(40.0, 2.2)]),
    row("adam", "l2", DINO_WM, [score(14.8, 1.5), score(0.1, 0.3), score(8.0, 2.4), score(62.0, 8.3), score(49.9, 9.9), score(2.8, 3.7), score(21.5, 8.6), score(0.0, 0.0)]),
    row("adam", "l2", V_JEPA_2_AC, [None, None, None, None, None, score(0.0, 0.0), score(5.9, 5.1), score(0.0, 0.0)]),
    row("adam", "l2", PAPER_MODEL, [score(17.7, 3.3), score(1.1, 1.1), score(9.0, 2.1), score(55.3, 9.9), score(39.7, 9.7), score(0.0, 0.0), score(10.5, 5.0), score(0.0, 0.0)]),
    row("adam", "l1", DINO_WM, [score(12.6, 2.8), score(0.1, 0.3), score(2.1, 1.5), score(50.7, 8.5), score(37.2, 8.3), score(0.9, 1.4), score(22.1, 7.5), score(0.0, 0.0)]),
    row("adam", "l1", V_JEPA_2_AC, [None, None, None, None, None, score(0.0, 0.0), score(3.5, 2.8), score(0.0, 0.0)]),
    row("adam", "l1", PAPER_MODEL, [score(16.1, 3.5), score(0.0, 0.2), score(0.9, 0.9), score(53.2, 7.4), score(43.1, 6.4), score(0.2, 0.7), score(7.5, 3.9), score(0.0, 0.0)]),
    row("gd", "l2", DINO_WM, [score(14.5, 1.9), score(0.1, 0.3), score(8.1, 2.4), score(62.2, 8.2), score(50.0, 10.1), score(2.9, 3.8), score(21.9, 8.4), score(0.0, 0.0)]),
    row("gd", "l2", V_JEPA_2_AC, [None, None, None, None, None, score(0.0, 0.0), score(8.1, 3.6), score(0.0, 0.0)]),
    row("gd", "l2", PAPER_MODEL, [score(17.7, 3.3), score(1.1, 1.1), score(9.1, 1.9), score(55.3, 9.9), score(39.7, 9.7), score(0.0, 0.0), score(10.5, 5.0), score(0.0, 0.0)]),
    row("gd", "l1", DINO_WM, [score(12.4, 2.6), score(0.1, 0.3), score(2.0, 1.3), score(50.9, 8.5), score(37.1, 8.4), score(1.0, 1.4), score(22.2, 7.3), score(0.0, 0.0)]),
    row("gd", "l1", V_JEPA_2_AC, [None, None, None, None, None, score(0.0, 0.0), score(4.0, 2.6), score(0.0, 0.0)]),
    row("gd", "l1", PAPER_MODEL, [score(16.1, 3.5), score(0.0, 0.2), score(0.9, 0.9), score(53.3, 7.3), score(40.1, 12.3), score(0.2, 0.7), score(7.5, 3.9), score(0.0, 0.0)]),
];

const fn row(
    planner: &'static str,
    distance: &'static str,
    model: &'static str,
    scores: [Option<PublishedScore>; 8],
) -> Published {
    Published {
        model,
        planner,
        distance,
        scores,
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a cell of the table, beside `None`"
)]
const fn score(mean: f64, std: f64) -> Option<PublishedScore> {
    Some(PublishedScore { mean, std })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn every_planner_and_distance_has_three_models() {
        assert_eq!(PUBLISHED.len(), 24);
        for row in PUBLISHED {
            let same = PUBLISHED
                .iter()
                .filter(|r| (r.planner, r.distance) == (row.planner, row.distance));
            assert_eq!(same.count(), 3);
            assert_eq!(row.scores[1].is_none(), row.model == V_JEPA_2_AC);
        }
    }

    #[test]
    fn scores_are_percentages_and_unknown_tasks_have_none() {
        let scores = PUBLISHED.iter().flat_map(|row| row.scores).flatten();
        assert!(
            scores
                .into_iter()
                .all(|s| (0.0..=100.0).contains(&s.mean) && s.std >= 0.0)
        );
        assert_eq!(published_for("no-such-task", "cem", "l2").count(), 0);
    }
}
