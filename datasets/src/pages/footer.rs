//! The footer of a file and its page index.

use std::ops::Range;
use std::sync::Arc;

use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    FooterTail, PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, ParquetMetaDataReader,
};
use parquet::file::reader::ChunkReader;
use zarrs::storage::Bytes;

use super::layout::{COLUMN_INDEX, FOOTER, OFFSET_INDEX};
use super::thrift::{self, Fields};

/// Bytes behind the footer: its length and `PAR1`.
const TAIL: usize = 8;
/// Deepest nesting of columns; a list of lists takes four levels, and the decoder one call for each.
const MOST_LEVELS: usize = 100;

/// Reads the footer of a file and, as `index` says, its page index.
///
/// Both are walked over first: no list of them announces more than its bytes can hold, and no two indexes share
/// bytes.
///
/// # Errors
/// Damage of the file.
pub fn read_footer<R: ChunkReader>(
    file: &R,
    index: PageIndexPolicy,
    options: ArrowReaderOptions,
) -> Result<ArrowReaderMetadata> {
    let too_short = || ParquetError::EOF("the footer is longer than the file".into());
    let size = file.len();
    let tail_start = size.checked_sub(TAIL as u64).ok_or_else(too_short)?;
    let tail = file.get_bytes(tail_start, TAIL)?;
    let tail: &[u8; TAIL] = tail.as_ref().try_into().map_err(|_| too_short())?;
    let tail = FooterTail::try_new(tail)?;
    if tail.is_encrypted_footer() {
        return Err(ParquetError::General("the footer is encrypted".into()));
    }
    let length = tail.metadata_length();
    let start = tail_start
        .checked_sub(length as u64)
        .ok_or_else(too_short)?;
    let footer = file.get_bytes(start, length)?;
    check_footer(&footer).map_err(|e| refused("the footer", &e))?;
    let metadata = ParquetMetaDataReader::decode_metadata(&footer)?;
    let metadata = match index {
        PageIndexPolicy::Skip => metadata,
        _ => read_index(file, start, metadata, index)?,
    };
    ArrowReaderMetadata::try_new(Arc::new(metadata), options)
}

fn refused(what: &str, detail: &str) -> ParquetError {
    ParquetError::General(format!("{what}: {detail}"))
}

/// Refuses a footer that announces more than it has, or columns nested too deeply.
fn check_footer(footer: &[u8]) -> std::result::Result<(), String> {
    let children = thrift::walk(footer, FOOTER)?;
    let announced = children.iter().copied().fold(0, u64::saturating_add);
    if announced > children.len() as u64 {
        return Err(format!(
            "the schema announces {announced} columns and groups, and has {}",
            children.len()
        ));
    }
    // How many children of every node above are still to come.
    let mut open: Vec<u64> = Vec::new();
    for children in children {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        open.push(children);
        if open.len() > MOST_LEVELS {
            return Err(format!("columns are nested more than {MOST_LEVELS} deep"));
        }
    }
    Ok(())
}

/// Where every index is, and what it is.
fn indexes(metadata: &ParquetMetaData) -> impl Iterator<Item = (Range<u64>, Fields)> {
    let groups = metadata.row_groups().iter();
    groups
        .flat_map(parquet::file::metadata::RowGroupMetaData::columns)
        .flat_map(|column| {
            let values = column.column_index_range();
            let places = column.offset_index_range();
            let values = values.map(|range| (range, COLUMN_INDEX));
            values
                .into_iter()
                .chain(places.map(|range| (range, OFFSET_INDEX)))
        })
}

/// Adds the page index, which lies before `end`.
fn read_index<R: ChunkReader>(
    file: &R,
    end: u64,
    metadata: ParquetMetaData,
    policy: PageIndexPolicy,
) -> Result<ParquetMetaData> {
    let mut ranges = Vec::new();
    for (range, _) in indexes(&metadata) {
        if range.end > end {
            let detail = format!("it ends at byte {}, the data at {end}", range.end);
            return Err(refused("the page index", &detail));
        }
        ranges.push((range.start, range.end));
    }
    ranges.sort_unstable();
    // Room is made for every index anew, however many share their bytes.
    if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(refused("the page index", "two columns share bytes of it"));
    }
    let walked: Vec<_> = indexes(&metadata).collect();
    let decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(file.len(), metadata)?;
    let mut decoder = decoder.with_page_index_policy(policy);
    loop {
        match decoder.try_decode()? {
            DecodeResult::NeedsData(needed) => {
                for span in needed {
                    let length = usize::try_from(span.end - span.start)?;
                    let bytes = file.get_bytes(span.start, length)?;
                    check_indexes(&walked, span.start, &bytes)
                        .map_err(|e| refused("the page index", &e))?;
                    decoder.push_range(span, bytes)?;
                }
            }
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::Finished => {
                return Err(refused("the page index", "it is not there"));
            }
        }
    }
}

/// Walks over the indexes in a run of bytes that begins at `start`.
fn check_indexes(
    indexes: &[(Range<u64>, Fields)],
    start: u64,
    bytes: &Bytes,
) -> std::result::Result<(), String> {
    for (range, fields) in indexes {
        let inside = range
            .start
            .checked_sub(start)
            .zip(range.end.checked_sub(start));
        let index = inside.and_then(|(from, to)| bytes.get(from as usize..to as usize));
        let index = index.ok_or("it lies where nobody looks for it")?;
        thrift::walk(index, fields)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number below 16,384 in two bytes.
    fn varint(number: usize) -> [u8; 2] {
        [number as u8 | 0x80, (number >> 7) as u8]
    }

    /// A footer of nothing but a schema: the children of each of its elements.
    fn schema(children: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0x29, 0xfc];
        bytes.extend(varint(children.len()));
        for &count in children {
            let [low, high] = varint(2 * count);
            bytes.extend([0x48, 1, b'a', 0x15, low, high, 0]);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn children_are_no_more_than_there_are_elements() {
        assert_eq!(check_footer(&schema(&[2, 0, 1, 0])), Ok(()));
        let refused = check_footer(&schema(&[2, 60, 0]));
        assert!(refused.is_err_and(|e| e.contains("announces 62 columns")));
    }

    #[test]
    fn columns_are_nested_so_deep_and_no_deeper() {
        let chain = |levels: usize| {
            let mut children = vec![1; levels];
            *children.last_mut().expect("a level") = 0;
            check_footer(&schema(&children))
        };
        assert_eq!(chain(MOST_LEVELS), Ok(()));
        assert!(chain(MOST_LEVELS + 1).is_err_and(|e| e.contains("deep")));
        // Many beside each other are not deep.
        let mut wide = vec![0; 120];
        wide[0] = 119;
        assert_eq!(check_footer(&schema(&wide)), Ok(()));
    }
}
