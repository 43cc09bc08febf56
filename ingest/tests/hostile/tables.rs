//! Parquet files: footers and pages that lie.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use jepa_ingest::Error;
use jepa_ingest::container::table::TableFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

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

/// One column of whole numbers, its pages with a dictionary or without, and with an index or without.
fn table(values: u32, compression: Compression, dictionary: bool, index: bool) -> Vec<u8> {
    let values = Int64Array::from_iter_values(0..i64::from(values));
    let batch = RecordBatch::try_from_iter([("a", Arc::new(values) as ArrayRef)]).expect("rows");
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(dictionary)
        .set_offset_index_disabled(!index)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties));
    let writer = writer.as_mut().expect("a table");
    writer.write(&batch).expect("rows");
    writer.finish().expect("a table");
    writer.inner().clone()
}

/// Numbers of page headers are zigzag varints; these take three bytes.
fn varint(value: u32) -> [u8; 3] {
    let zigzag = 2 * value;
    [
        zigzag as u8 | 0x80,
        (zigzag >> 7) as u8 | 0x80,
        (zigzag >> 14) as u8,
    ]
}

/// Puts another number in place of one in the header of the first page.
fn lie(table: &[u8], number: u32, lie: u32) -> Vec<u8> {
    let at = table[..64].windows(3).position(|w| w == varint(number));
    let at = at.expect("the number");
    let mut bad = table.to_vec();
    bad[at..at + 3].copy_from_slice(&varint(lie));
    bad
}

/// The first rows of a table, in the memory of a small one.
fn first_rows(scratch: &Scratch, bytes: &[u8]) -> Result<Vec<i64>, Error> {
    let table = TableFile::open(scratch.write(bytes)).expect("a table");
    within(2 << 20, || table.read(&["a"], 0..5)?.integers("a"))
}

/// A page is made room for by its length once it is decompressed, which it only announces.
#[test]
fn pages_cost_no_more_than_their_bytes() {
    let scratch = Scratch::new("a.parquet");
    for (compression, index) in [
        (Compression::SNAPPY, true),
        (Compression::SNAPPY, false),
        (Compression::UNCOMPRESSED, true),
        (Compression::UNCOMPRESSED, false),
    ] {
        let good = table(10_000, compression, false, index);
        assert_eq!(first_rows(&scratch, &good).expect("rows"), [0, 1, 2, 3, 4]);
        for number in [1_000_000, (1 << 20) - 1] {
            let bad = lie(&good, 80_000, number);
            let refused = first_rows(&scratch, &bad);
            assert!(
                matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains("announces")),
                "{refused:?}"
            );
        }
    }
}

/// The same number in the long form of its field, which no writer uses: it could not be compared.
#[test]
fn headers_in_other_words_are_refused() {
    let scratch = Scratch::new("a.parquet");
    for index in [true, false] {
        let mut bad = table(10_000, Compression::SNAPPY, false, index);
        let at = bad[..64].windows(3).position(|w| w == varint(80_000));
        let at = at.expect("the length");
        assert_eq!(bad[at - 1], 0x15, "a number, one field further");
        // A number, field 2, 8000.
        bad[at - 1..at + 3].copy_from_slice(&[0x05, 0x04, 0x80, 0x7d]);
        let refused = first_rows(&scratch, &bad);
        assert!(
            matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains("as any writer writes it")),
            "{refused:?}"
        );
    }
}

/// A dictionary is made room for by the number of its values, which its page only announces.
#[test]
fn dictionaries_cost_no_more_than_their_bytes() {
    const VALUES: u32 = 10_000;
    let scratch = Scratch::new("a.parquet");
    for index in [true, false] {
        let good = table(VALUES, Compression::UNCOMPRESSED, true, index);
        assert_eq!(first_rows(&scratch, &good).expect("rows"), [0, 1, 2, 3, 4]);
        for number in [VALUES + 1, 2 * VALUES, (1 << 20) - 1] {
            let refused = first_rows(&scratch, &lie(&good, VALUES, number));
            assert!(
                matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains("dictionary")),
                "{refused:?}"
            );
        }
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
