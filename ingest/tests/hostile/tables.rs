//! Parquet files: footers and pages that lie.

use jepa_ingest::Error;
use jepa_ingest::container::table::TableFile;

use super::memory::within;
use super::{Dice, Scratch};
use crate::support::fixture;

/// Reads every column as everything.
fn read(table: &TableFile) -> usize {
    let mut good = 0;
    let columns: Vec<&str> = table.columns().collect();
    for column in columns {
        let Ok(rows) = table.read(&[column], 0..table.rows().min(100)) else {
            continue;
        };
        good += usize::from(rows.numbers(column).is_ok());
        good += usize::from(rows.integers(column).is_ok());
        good += usize::from(rows.texts(column).is_ok());
        good += usize::from(rows.text_lists(column).is_ok());
        good += usize::from(rows.bytes(column).is_ok());
    }
    good
}

#[test]
fn footers_cost_no_more_than_the_file() {
    let scratch = Scratch::new("a.parquet");
    let good = std::fs::read(fixture("lerobot_v3/meta/tasks.parquet")).unwrap();
    let at = good.len() - 8;
    for length in [0, 1, at as u32 + 1, 1 << 30, 1 << 31, u32::MAX] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&length.to_le_bytes());
        let refused = within(1 << 20, || TableFile::open(scratch.write(&bad)).map(|_| ()));
        assert!(
            matches!(refused, Err(Error::Format { .. } | Error::Truncated { .. })),
            "{length}: {refused:?}"
        );
    }
}

#[test]
fn no_damage_of_a_table_does_more_than_an_error() {
    let scratch = Scratch::new("a.parquet");
    let mut dice = Dice(5);
    for (name, rounds) in [
        ("lerobot_v3/meta/tasks.parquet", 1500),
        ("lerobot_v3/data/chunk-000/file-000.parquet", 500),
    ] {
        let good = std::fs::read(fixture(name)).unwrap();
        assert!(read(&TableFile::open(&fixture(name)).expect("a table")) > 0);
        for _ in 0..rounds {
            scratch.write(&dice.damage(&good));
            within(64 << 20, || {
                if let Ok(table) = TableFile::open(&scratch.path) {
                    read(&table);
                }
            });
        }
    }
}
