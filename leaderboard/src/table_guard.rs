//! Looks at a Parquet file of a stranger before anything decodes it.
//!
//! A table of a kilobyte can claim lists of a billion numbers. Here its pages are walked by their headers: only what our
//! own writer produces is let through (zstd, plain data and dictionary pages), each page is decompressed against the
//! size that it states, and the numbers that it states are added up. What passes can be decoded in bounded memory.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};

/// Bytes of all pages of a table together, decompressed.
const MOST_BYTES: u64 = 192 << 20;
/// Numbers in all columns of a table together.
const MOST_VALUES: u64 = 24 << 20;
/// Rows of a table.
const MOST_ROWS: i64 = 10_000;
/// Columns of a table.
const MOST_COLUMNS: usize = 64;

/// Checks that a table can be decoded safely.
///
/// # Errors
/// In words that follow the name of the file.
pub(crate) fn check(table: &[u8]) -> Result<(), String> {
    // The footer is parsed by the library, whose every failure must stay a refusal.
    let parsed = std::panic::catch_unwind(|| {
        ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(table))
    });
    let metadata = match parsed {
        Ok(Ok(metadata)) => metadata,
        Ok(Err(error)) => return Err(format!("is not a Parquet file: {error}")),
        Err(_) => return Err("is not a Parquet file".into()),
    };
    let rows = metadata.file_metadata().num_rows();
    if !(0..=MOST_ROWS).contains(&rows) {
        return Err(format!(
            "claims {rows} rows, at most {MOST_ROWS} are accepted"
        ));
    }
    let mut total = Total::default();
    let mut counted = 0;
    for group in metadata.row_groups() {
        counted += group.num_rows();
        if group.num_columns() > MOST_COLUMNS {
            return Err(format!("has more than {MOST_COLUMNS} columns"));
        }
        for column in group.columns() {
            total.add_chunk(table, column).map_err(|why| {
                let name = crate::key::shown(&column.column_path().string());
                format!("has a column `{name}` that {why}")
            })?;
        }
    }
    if counted != rows {
        return Err(format!("claims {rows} rows and has {counted}"));
    }
    Ok(())
}

/// What the pages of a table add up to.
#[derive(Default)]
struct Total {
    bytes: u64,
    values: u64,
}

impl Total {
    /// Walks the pages of one column.
    fn add_chunk(&mut self, table: &[u8], column: &ColumnChunkMetaData) -> Result<(), String> {
        if !matches!(column.compression(), Compression::ZSTD(_)) {
            return Err("is not compressed with zstd, as tables of `jepa-bench` are".into());
        }
        let outside = || "lies outside the file".to_string();
        let begin = column
            .dictionary_page_offset()
            .unwrap_or_else(|| column.data_page_offset());
        let begin = usize::try_from(begin).map_err(|_| outside())?;
        let length = usize::try_from(column.compressed_size()).map_err(|_| outside())?;
        let end = begin.checked_add(length).ok_or_else(outside)?;
        let mut rest = table.get(begin..end).ok_or_else(outside)?;
        let (bytes, values) = (self.bytes, self.values);
        while !rest.is_empty() {
            let header = PageHeader::read(&mut rest).ok_or("has a page without a header")?;
            let page = rest
                .split_off(..header.compressed)
                .ok_or("ends in the middle of a page")?;
            self.bytes = self.bytes.saturating_add(header.uncompressed as u64);
            self.values = self.values.saturating_add(header.values);
            if self.bytes > MOST_BYTES || self.values > MOST_VALUES {
                return Err("unpacks to more than is accepted".into());
            }
            check_page(page, header.uncompressed)?;
        }
        let claimed = u64::try_from(column.uncompressed_size()).unwrap_or(u64::MAX);
        if self.bytes - bytes > claimed {
            return Err("unpacks to more than it says".into());
        }
        let claimed = u64::try_from(column.num_values()).unwrap_or(u64::MAX);
        // A dictionary counts its own entries, at most one for each value.
        if self.values - values > claimed.saturating_mul(2) {
            return Err("has more values than it says".into());
        }
        Ok(())
    }
}

/// A page must unpack to exactly the size that it states.
fn check_page(page: &[u8], uncompressed: usize) -> Result<(), String> {
    let damaged = |_| "has a page that cannot be unpacked".to_string();
    let decoder = zstd::Decoder::with_buffer(page).map_err(damaged)?;
    let mut most = decoder.take(uncompressed as u64 + 1);
    let size = std::io::copy(&mut most, &mut std::io::sink()).map_err(damaged)?;
    if size == uncompressed as u64 {
        Ok(())
    } else {
        Err("has a page of another size than it states".into())
    }
}

/// What a page says of itself (parquet-format, `PageHeader`, in Thrift's compact protocol).
struct PageHeader {
    uncompressed: usize,
    compressed: usize,
    values: u64,
}

impl PageHeader {
    /// Reads the header at the beginning of `bytes` and moves past it; `None` when it is none, or of a kind of page that
    /// our writer does not produce.
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut thrift = Thrift { bytes, depth: 0 };
        let (mut kind, mut uncompressed, mut compressed, mut values) = (None, None, None, None);
        let mut field = 0;
        loop {
            let (id, wire) = thrift.field(field)?;
            if (id, wire) == END {
                break;
            }
            field = id;
            match (id, wire) {
                (1, 5) => kind = Some(thrift.signed()?),
                (2, 5) => uncompressed = Some(thrift.signed()?),
                (3, 5) => compressed = Some(thrift.signed()?),
                // The headers of a data page and of a dictionary page begin with their number of values.
                (5 | 7, 12) => values = Some(thrift.first_number()?),
                _ => thrift.skip(wire)?,
            }
        }
        // Data page, dictionary page.
        matches!(kind?, 0 | 2).then_some(())?;
        Some(Self {
            uncompressed: usize::try_from(uncompressed?).ok()?,
            compressed: usize::try_from(compressed?).ok()?,
            values: u64::try_from(values?).ok()?,
        })
    }
}

/// What stands for the end of a struct: no field has kind 0.
const END: (i64, u8) = (0, 0);

/// Just enough of Thrift's compact protocol.
struct Thrift<'a, 'b> {
    bytes: &'a mut &'b [u8],
    depth: u32,
}

impl Thrift<'_, '_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        *self.bytes = rest;
        Some(first)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next field of a struct, its number and kind; [`END`] at the end of the struct.
    fn field(&mut self, before: i64) -> Option<(i64, u8)> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(END);
        }
        let id = match byte >> 4 {
            0 => self.signed()?,
            step => before.checked_add(i64::from(step))?,
        };
        Some((id, byte & 0x0f))
    }

    /// The first field of a struct, a number; the rest of the struct is passed over.
    fn first_number(&mut self) -> Option<i64> {
        let (mut number, mut field) = (None, 0);
        loop {
            let (id, wire) = self.field(field)?;
            if (id, wire) == END {
                return number;
            }
            field = id;
            match (id, wire) {
                (1, 5) => number = Some(self.signed()?),
                _ => self.skip(wire)?,
            }
        }
    }

    fn skip(&mut self, wire: u8) -> Option<()> {
        match wire {
            1 | 2 => Some(()),
            3 => self.byte().map(|_| ()),
            4..=6 => self.unsigned().map(|_| ()),
            7 => self.pass(8),
            8 => {
                let length = self.unsigned()?;
                self.pass(usize::try_from(length).ok()?)
            }
            12 => {
                self.depth += 1;
                (self.depth < 8).then_some(())?;
                let mut field = 0;
                loop {
                    let (id, wire) = self.field(field)?;
                    if (id, wire) == END {
                        break;
                    }
                    field = id;
                    self.skip(wire)?;
                }
                self.depth -= 1;
                Some(())
            }
            // Lists, sets and maps: no page header has any.
            _ => None,
        }
    }

    fn pass(&mut self, count: usize) -> Option<()> {
        self.bytes.split_off(..count).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episodes::{read_episodes, write_episodes};
    use crate::testing::SyntheticRun;
    use proptest::prelude::*;

    fn table(episodes: u32) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("episodes.parquet");
        write_episodes(&path, &SyntheticRun::new("pldm", episodes).episodes()).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn tables_of_our_own_pass() {
        for episodes in [1, 96, 500] {
            assert_eq!(check(&table(episodes)), Ok(()));
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(check(b"").is_err());
        assert!(check(b"PAR1PAR1").is_err());
        let whole = table(4);
        assert!(check(&whole[..whole.len() - 1]).is_err());
        assert!(check(&whole[1..]).is_err());
    }

    /// A column of one list with `n` times the same number: a few hundred bytes whatever `n` is.
    fn bomb(n: usize) -> Vec<u8> {
        let mut row = SyntheticRun::new("pldm", 1).episodes().remove(0);
        row.actions = vec![1.0; n];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("episodes.parquet");
        write_episodes(&path, &[row]).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_small_table_of_a_great_many_numbers_is_refused() {
        let small = bomb(1_000_000);
        assert!(small.len() < 30_000, "{}", small.len());
        assert_eq!(check(&small), Ok(()));
        let large = bomb(30_000_000);
        assert!(large.len() < 300_000, "{}", large.len());
        let said = check(&large).unwrap_err();
        assert!(
            said.contains("`actions") && said.contains("more than is accepted"),
            "{said}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Whatever a stranger changes: a refusal or a table, never a panic.
        #[test]
        fn damaged_tables_are_refused_or_read(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = table(3);
            for (place, value) in places {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            if check(&bytes).is_ok() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("episodes.parquet");
                std::fs::write(&path, &bytes).unwrap();
                let _ = read_episodes(&path);
            }
        }
    }
}
