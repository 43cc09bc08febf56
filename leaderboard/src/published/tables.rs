//! The paper's tables as data: one CSV file each under `leaderboard/data/published/`, with its source in its comments.

use std::sync::LazyLock;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::PublishedScore;

/// A published table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedTable {
    /// Name, as the paper numbers it: `S5.1`.
    pub name: &'static str,
    /// What its numbers are and where they come from, line by line.
    pub notes: Vec<&'static str>,
    /// Headings of the columns that say what a row is about.
    pub labels: Vec<&'static str>,
    /// Headings of the columns of numbers.
    pub columns: Vec<&'static str>,
    /// Rows, in the order of the paper.
    pub rows: Vec<PublishedRow>,
}

/// A row of a published table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedRow {
    /// What it is about, one word per label.
    pub labels: Vec<&'static str>,
    /// One cell per column; `None` where the paper gives no number.
    pub cells: Vec<Option<PublishedCell>>,
}

/// A number as published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedCell {
    /// The number.
    pub value: f64,
    /// What stands in parentheses or after a plus-minus sign: a standard deviation.
    pub std: Option<f64>,
    /// Both, as written in the file.
    pub text: &'static str,
}

impl Serialize for PublishedCell {
    /// The numbers, without the text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("value", &self.value)?;
        if let Some(std) = &self.std {
            map.serialize_entry("std", std)?;
        }
        map.end()
    }
}

impl PublishedCell {
    /// The cell as a score with its deviation, if it has one.
    pub(super) fn score(self) -> Option<PublishedScore> {
        let mean = self.value;
        self.std.map(|std| PublishedScore { mean, std })
    }
}

/// Files with the names of their tables and how many columns of each are labels.
const FILES: [(&str, usize, &str); 8] = [
    (
        "S2.3",
        1,
        include_str!("../../data/published/table_s2_3.csv"),
    ),
    (
        "S3.1",
        1,
        include_str!("../../data/published/table_s3_1.csv"),
    ),
    (
        "S4.1",
        1,
        include_str!("../../data/published/table_s4_1.csv"),
    ),
    (
        "S5.1",
        3,
        include_str!("../../data/published/table_s5_1.csv"),
    ),
    (
        "S5.2",
        1,
        include_str!("../../data/published/table_s5_2.csv"),
    ),
    (
        "S5.3",
        1,
        include_str!("../../data/published/table_s5_3.csv"),
    ),
    (
        "S5.4",
        1,
        include_str!("../../data/published/table_s5_4.csv"),
    ),
    (
        "S5.5",
        1,
        include_str!("../../data/published/table_s5_5.csv"),
    ),
];

static TABLES: LazyLock<Vec<PublishedTable>> = LazyLock::new(|| {
    let tables = FILES.iter();
    tables
        .map(|(name, labels, text)| parse(name, *labels, text))
        .collect()
});

/// Every published table, in the order of the paper. Table 1 is the rows of S5.1 with planner `cem` and distance `l2`.
pub fn published_tables() -> &'static [PublishedTable] {
    &TABLES
}

/// The published table of that name.
pub fn published_table(name: &str) -> Option<&'static PublishedTable> {
    TABLES.iter().find(|table| table.name == name)
}

impl PublishedTable {
    /// The cells of a column with a number in them, from top to bottom; none for an unknown heading.
    pub fn column(&self, heading: &str) -> Vec<PublishedCell> {
        let at = self.columns.iter().position(|column| *column == heading);
        let cells = self.rows.iter().filter_map(|row| row.cells[at?]);
        cells.collect()
    }
}

/// Reads a table: lines of comments, headings, rows.
///
/// # Panics
/// When the text, which is part of the program, is no table.
fn parse(name: &'static str, labels: usize, text: &'static str) -> PublishedTable {
    let (notes, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('#'));
    let mut lines = lines.into_iter().map(|line| line.split(',').collect());
    let headings: Vec<&str> = lines.next().unwrap_or_default();
    let row = |words: Vec<&'static str>| {
        assert!(
            words.len() == headings.len(),
            "table {name}: a row has {} fields instead of {}: {words:?}",
            words.len(),
            headings.len()
        );
        PublishedRow {
            labels: words[..labels].to_vec(),
            cells: words[labels..]
                .iter()
                .map(|word| cell(name, word))
                .collect(),
        }
    };
    PublishedTable {
        name,
        notes: notes
            .into_iter()
            .map(|note| note.trim_start_matches("# "))
            .collect(),
        labels: headings[..labels].to_vec(),
        columns: headings[labels..].to_vec(),
        rows: lines.map(row).collect(),
    }
}

/// `81.6 (3.4)`, `0.40`, or nothing.
fn cell(table: &str, text: &'static str) -> Option<PublishedCell> {
    if text.is_empty() {
        return None;
    }
    let number = |text: &str| -> f64 {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("table {table}: `{text}` is no number"))
    };
    let (value, std) = match text.split_once(" (") {
        Some((value, std)) => (number(value), Some(number(std.trim_end_matches(')')))),
        None => (number(text), None),
    };
    Some(PublishedCell { value, std, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table, rows, then for every column its numbers, their sum and the sum of their deviations; added up from the
    /// paper's tables as restated in evaluation.md section 5, by another program, before these files existed.
    type Sums = (
        &'static str,
        usize,
        &'static [(&'static str, usize, f64, f64)],
    );
    const SUMS: &[Sums] = &[
        (
            "S2.3",
            9,
            &[
                ("Metaworld", 9, 216.0, 0.0),
                ("Push-T", 9, 463.0, 0.0),
                ("Maze", 9, 58.0, 0.0),
                ("Wall", 9, 11.0, 0.0),
                ("DROID", 9, 86.0, 0.0),
            ],
        ),
        (
            "S3.1",
            5,
            &[
                ("trajectories", 5, 43_020.0, 0.0),
                ("shortest", 5, 370.0, 0.0),
                ("longest", 5, 600.0, 0.0),
            ],
        ),
        (
            "S4.1",
            6,
            &[
                ("N", 6, 1800.0, 0.0),
                ("H", 6, 30.0, 0.0),
                ("m", 6, 25.0, 0.0),
                ("K", 6, 60.0, 0.0),
                ("J", 6, 135.0, 0.0),
                ("Wp", 6, 12.0, 0.0),
                ("f", 6, 26.0, 0.0),
                ("M", 6, 253.0, 0.0),
            ],
        ),
        (
            "S5.1",
            24,
            &[
                ("Maze", 16, 694.6, 48.5),
                ("Wall", 16, 357.1, 39.3),
                ("Push-T", 16, 491.3, 46.1),
                ("MW-R", 16, 758.8, 138.2),
                ("MW-RW", 16, 587.1, 148.0),
                ("Rc-R", 24, 258.0, 159.5),
                ("Rc-Pl", 24, 494.2, 157.2),
                ("DROID", 24, 479.1, 34.7),
            ],
        ),
        (
            "S5.2",
            10,
            &[
                ("WM", 10, 33.43, 3.8),
                ("WM_W", 10, 29.12, 7.6),
                ("WM-prop", 10, 44.41, 4.1),
                ("WM-2-step", 10, 31.97, 5.8),
                ("WM-L", 10, 21.37, 5.8),
                ("Mean", 9, 3.68, 0.0),
            ],
        ),
        (
            "S5.3",
            9,
            &[
                ("WM", 9, 7.37, 0.0),
                ("WM_W", 9, 6.6, 0.0),
                ("WM-prop", 9, 7.94, 0.0),
                ("WM-2-step", 9, 7.29, 0.0),
                ("WM-L", 9, 7.77, 0.0),
                ("Mean", 9, 7.4, 0.0),
            ],
        ),
        (
            "S5.4",
            9,
            &[
                ("WM", 9, 5.04, 0.0),
                ("WM_W", 9, 7.08, 0.0),
                ("WM-prop", 9, 5.18, 0.0),
                ("WM-2-step", 9, 5.12, 0.0),
                ("WM-3-step", 9, 4.66, 0.0),
                ("WM-L", 9, 5.2, 0.0),
                ("Mean", 9, 5.38, 0.0),
            ],
        ),
        (
            "S5.5",
            9,
            &[
                ("WM", 9, 2.49, 0.0),
                ("WM_W", 9, 3.33, 0.0),
                ("WM-prop", 9, 5.11, 0.0),
                ("WM-2-step", 9, 3.68, 0.0),
                ("WM-3-step", 9, 3.57, 0.0),
                ("WM-L", 9, 1.63, 0.0),
                ("Mean", 9, 3.3, 0.0),
            ],
        ),
    ];

    #[test]
    fn every_column_has_the_published_count_and_sum() {
        assert_eq!(published_tables().len(), SUMS.len());
        for (table, (name, rows, columns)) in published_tables().iter().zip(SUMS) {
            assert_eq!((table.name, table.rows.len()), (*name, *rows));
            let headings: Vec<&str> = columns.iter().map(|(heading, ..)| *heading).collect();
            assert_eq!(table.columns, headings, "{name}");
            for (heading, count, sum, deviations) in *columns {
                let cells = table.column(heading);
                let value: f64 = cells.iter().map(|cell| cell.value).sum();
                let std: f64 = cells.iter().filter_map(|cell| cell.std).sum();
                assert_eq!(cells.len(), *count, "{name} {heading}");
                assert!((value - sum).abs() < 1e-9, "{name} {heading}: {value}");
                assert!((std - deviations).abs() < 1e-9, "{name} {heading}: {std}");
            }
        }
    }

    #[test]
    fn means_over_models_are_those_of_the_rows() {
        // Printed to two digits from numbers that are printed to two digits.
        for name in ["S5.2", "S5.3", "S5.4", "S5.5"] {
            let table = published_table(name).unwrap();
            for row in table.rows.iter().filter(|row| row.labels != ["SR"]) {
                let values: Vec<f64> = row.cells.iter().flatten().map(|cell| cell.value).collect();
                let (mean, models) = values.split_last().unwrap();
                let found = models.iter().sum::<f64>() / models.len() as f64;
                assert!((mean - found).abs() < 0.0151, "{name} {row:?}: {found}");
            }
        }
    }

    #[test]
    fn planning_settings_of_the_paper_are_the_defaults_of_its_tasks() {
        let table = published_table("S4.1").unwrap();
        let values = |task: &str| -> Vec<f64> {
            let row = table.rows.iter().find(|row| row.labels == [task]).unwrap();
            row.cells.iter().flatten().map(|cell| cell.value).collect()
        };
        assert_eq!(
            values("Wall"),
            [300.0, 6.0, 6.0, 10.0, 30.0, 2.0, 5.0, 30.0]
        );
        assert_eq!(
            values("DROID"),
            [300.0, 3.0, 3.0, 10.0, 15.0, 2.0, 1.0, 3.0]
        );
        assert!(published_table("S9.9").is_none() && table.column("Q").is_empty());
    }

    #[test]
    fn every_file_names_its_source() {
        for table in published_tables() {
            let source = format!("Source: arXiv 2512.24497, Table {}", table.name);
            assert!(table.notes.iter().any(|note| note.starts_with(&source)));
        }
    }

    #[test]
    fn empty_cells_are_absent_and_not_zero() {
        let table = parse("X", 1, "# note\nname,a,b\none,,0.0 (0.5)\n");
        let cells = &table.rows[0].cells;
        assert_eq!(cells[0], None);
        let zero = cells[1].unwrap();
        assert_eq!((zero.value, zero.std), (0.0, Some(0.5)));
        let json = serde_json::to_string(cells).unwrap();
        assert_eq!(json, r#"[null,{"value":0.0,"std":0.5}]"#);
    }

    #[test]
    #[should_panic(expected = "`6.x` is no number")]
    fn a_damaged_cell_is_a_panic() {
        parse("X", 1, "name,a\none,6.x\n");
    }
}
