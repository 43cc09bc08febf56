//! Parquet files: footers and pages that lie.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use jepa_ingest::Error;
use jepa_ingest::container::table::TableFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

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

/// A dictionary is made room for by the number of its values, which its page only announces.
#[test]
fn dictionaries_cost_no_more_than_their_bytes() {
    const VALUES: u32 = 10_000;
    let values = Int64Array::from_iter_values(0..i64::from(VALUES));
    let batch = RecordBatch::try_from_iter([("a", Arc::new(values) as ArrayRef)]).expect("rows");
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(true)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties));
    let writer = writer.as_mut().expect("a table");
    writer.write(&batch).expect("rows");
    writer.finish().expect("a table");
    let good = writer.inner().clone();
    let scratch = Scratch::new("a.parquet");
    let read = |bytes: &[u8]| {
        let table = TableFile::open(scratch.write(bytes)).expect("a table");
        let rows = table.read(&["a"], 0..5)?;
        rows.integers("a")
    };
    assert_eq!(read(&good).expect("rows"), [0, 1, 2, 3, 4]);
    // In the header of the first page, which is the dictionary, the number is a varint of its double.
    let varint = |value: u32| {
        [
            value as u8 | 0x80,
            (value >> 7) as u8 | 0x80,
            (value >> 14) as u8,
        ]
    };
    let number = varint(2 * VALUES);
    let at = good[..64].windows(3).position(|w| w == number);
    let at = at.expect("the number of values");
    for lie in [VALUES + 1, 2 * VALUES, (1 << 20) - 1] {
        let mut bad = good.clone();
        bad[at..at + 3].copy_from_slice(&varint(2 * lie));
        let refused = within(2 << 20, || read(&bad));
        assert!(
            matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains("dictionary")),
            "{refused:?}"
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
