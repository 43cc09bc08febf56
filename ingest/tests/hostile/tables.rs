//! Parquet files: footers and pages that lie.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use jepa_ingest::Error;
use jepa_ingest::container::table::TableFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use zarrs::storage::Bytes;

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

/// 2^31 - 1 as the count of a list: the most that the decoder believes.
const LOTS: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x07];

/// A file of nothing but a footer.
fn footer(fields: &[&[u8]]) -> Vec<u8> {
    let footer = fields.concat();
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1", &footer[..], &length, b"PAR1"].concat()
}

/// The file is refused for a reason, in the memory of a small one.
#[track_caller]
fn refused(scratch: &Scratch, bytes: &[u8], reason: &str) {
    let path = scratch.write(bytes);
    let refused = within(4 * bytes.len() + (1 << 18), || {
        TableFile::open(path).map(|_| ())
    });
    assert!(
        matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains(reason)),
        "{refused:?}"
    );
}

/// Room is made by the items that a list of the footer announces, and by the children that a column announces.
#[test]
fn lists_of_a_footer_cost_no_more_than_their_bytes() {
    let scratch = Scratch::new("a.parquet");
    let version: &[u8] = &[0x15, 0x02];
    let schema: &[u8] = &[0x19, 0x1c, 0x48, 0x01, b'a', 0x00];
    let rows: &[u8] = &[0x16, 0x00];
    let announces = "announces 2147483647 items";
    // The schema, row groups, texts beside them; lists, sets and maps that nobody knows, of values and of truths.
    refused(
        &scratch,
        &footer(&[version, &[0x19, 0xfc], &LOTS]),
        announces,
    );
    for list in [
        [0x19, 0xfc],
        [0x29, 0xfc],
        [0xf9, 0xf5],
        [0xf9, 0xf1],
        [0xfa, 0xf2],
    ] {
        let bytes = footer(&[version, schema, rows, &list, &LOTS, &[0]]);
        refused(&scratch, &bytes, announces);
    }
    let map = footer(&[version, schema, rows, &[0xfb], &LOTS, &[0x11, 0]]);
    refused(&scratch, &map, announces);
    let truths = footer(&[version, schema, rows, &[0xf9, 0x31, 1, 1, 1, 0]]);
    refused(&scratch, &truths, "3 truth values");
    // A column of 2^31 - 1 columns.
    let children: &[u8] = &[0x48, 1, b'a', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
    let bytes = footer(&[version, &[0x19, 0x1c], children, rows, &[0]]);
    refused(&scratch, &bytes, "announces 2147483647 columns");
}

/// The decoder of a schema calls itself for every level.
#[test]
fn columns_within_columns_do_not_exhaust_the_stack() {
    const LEVELS: usize = 100_000;
    let scratch = Scratch::new("a.parquet");
    // Groups of one group each: repetition, name, children.
    let level: &[u8] = &[0x35, 0, 0x18, 1, b'a', 0x15, 2, 0];
    let count = [
        LEVELS as u8 | 0x80,
        (LEVELS >> 7) as u8 | 0x80,
        (LEVELS >> 14) as u8,
    ];
    let levels = level.repeat(LEVELS);
    let bytes = footer(&[&[0x15, 0x02, 0x19, 0xfc], &count, &levels, &[0]]);
    refused(&scratch, &bytes, "nested more than");
}

/// What the footer of a sound table says.
fn metadata(table: &[u8]) -> ParquetMetaData {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    let bytes = Bytes::copy_from_slice(table);
    reader.parse_and_finish(&bytes).expect("a table")
}

/// Room is made by the pages that an index announces.
#[test]
fn page_indexes_cost_no_more_than_their_bytes() {
    let scratch = Scratch::new("a.parquet");
    let good = table(10_000, Compression::SNAPPY, false, true);
    let metadata = metadata(&good);
    let column = metadata.row_group(0).column(0);
    let places = column.offset_index_range().expect("an index");
    let values = column.column_index_range().expect("an index");
    for (range, list) in [(places, [0x19, 0xfc]), (values, [0x19, 0xf1])] {
        let mut bad = good.clone();
        let at = range.start as usize;
        assert_eq!(bad[at], 0x19, "a list is the first field");
        bad[at..at + 2].copy_from_slice(&list);
        bad[at + 2..at + 7].copy_from_slice(&LOTS);
        refused(&scratch, &bad, "announces 2147483647 items");
    }
}

/// Room is made for the index of every column, also if all are the same bytes.
#[test]
fn page_indexes_share_no_bytes() {
    let scratch = Scratch::new("a.parquet");
    let column = || Arc::new(Int64Array::from_iter_values(0..1000)) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("a", column()), ("b", column())]).expect("rows");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a table");
    writer.write(&batch).expect("rows");
    let good = writer.into_inner().expect("a table");
    assert!(TableFile::open(scratch.write(&good)).is_ok());
    let metadata = metadata(&good);
    let start = |column| {
        let range = metadata.row_group(0).column(column).offset_index_range();
        varint(range.expect("an index").start as u32)
    };
    // The footer comes last.
    let at = good.windows(3).rposition(|bytes| bytes == start(1));
    let at = at.expect("the place of the second index");
    let mut bad = good;
    bad[at..at + 3].copy_from_slice(&start(0));
    refused(&scratch, &bad, "two columns share bytes");
}

/// A page is read whole, of a length that its index only announces.
#[test]
fn pages_are_no_longer_than_the_file() {
    let scratch = Scratch::new("a.parquet");
    let good = table(200_000, Compression::UNCOMPRESSED, false, true);
    assert_eq!(
        first_rows_within(8 << 20, &scratch, &good).expect("rows"),
        [0, 1, 2, 3, 4]
    );
    let metadata = metadata(&good);
    let index = metadata.row_group(0).column(0).offset_index_range();
    let at = index.expect("an index").start as usize;
    // One page: its offset, its length in four bytes.
    assert_eq!(good[at..at + 5], [0x19, 0x1c, 0x16, 0x08, 0x15]);
    assert_eq!(good[at + 9], 0x16);
    let mut bad = good;
    bad[at + 5..at + 9].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
    let refused = first_rows_within(8 << 20, &scratch, &bad);
    assert!(
        matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains("134217727 bytes from 4")),
        "{refused:?}"
    );
}

/// The header of a page has no list; one of 2^31 - 1 truth values, which need no bytes, would be counted through.
#[test]
fn page_headers_have_no_lists() {
    let scratch = Scratch::new("a.parquet");
    for index in [true, false] {
        let mut bad = table(10_000, Compression::SNAPPY, false, index);
        let at = bad[..64].windows(2).position(|w| w == [0x2c, 0x15]);
        let at = at.expect("the header of a data page");
        bad[at..at + 2].copy_from_slice(&[0x79, 0xf1]);
        bad[at + 2..at + 7].copy_from_slice(&LOTS);
        let refused = first_rows(&scratch, &bad);
        assert!(
            matches!(&refused, Err(Error::Format { detail, .. }) if detail.contains("may have none")),
            "{refused:?}"
        );
    }
}

/// One column of whole numbers in one page, with a dictionary or without, and with an index or without.
fn table(values: u32, compression: Compression, dictionary: bool, index: bool) -> Vec<u8> {
    let values = Int64Array::from_iter_values(0..i64::from(values));
    let batch = RecordBatch::try_from_iter([("a", Arc::new(values) as ArrayRef)]).expect("rows");
    // Statistics of pages are an index, and bring the other one with them.
    let statistics = if index {
        EnabledStatistics::Page
    } else {
        EnabledStatistics::Chunk
    };
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(dictionary)
        .set_offset_index_disabled(!index)
        .set_statistics_enabled(statistics)
        .set_data_page_row_count_limit(usize::MAX)
        .set_data_page_size_limit(usize::MAX)
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
    first_rows_within(2 << 20, scratch, bytes)
}

fn first_rows_within(most: usize, scratch: &Scratch, bytes: &[u8]) -> Result<Vec<i64>, Error> {
    let table = TableFile::open(scratch.write(bytes)).expect("a table");
    within(most, || table.read(&["a"], 0..5)?.integers("a"))
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
