//! Pages of Parquet files that may come from anywhere.
//!
//! The decoders of the `parquet` crate make room by numbers that a file only announces: the items of a list in its
//! footer and in its page index, the length of a page once it is decompressed, the values of a dictionary. Here all
//! are compared with the bytes that there are first.

mod footer;
mod layout;
mod thrift;

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, RowGroups, RowSelection,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use zarrs::storage::Bytes;

pub use footer::read_footer;

/// Reads some columns of some rows of some row groups, in batches.
///
/// # Errors
/// Damage of the file.
pub fn read_rows<R: ChunkReader + 'static>(
    file: R,
    metadata: &ArrowReaderMetadata,
    columns: ProjectionMask,
    groups: Vec<usize>,
    selection: Option<RowSelection>,
    batch_rows: usize,
) -> Result<ParquetRecordBatchReader> {
    let fields = Some(metadata.schema().fields());
    let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), columns, fields)?;
    let count = metadata.metadata().num_row_groups();
    if let Some(group) = groups.iter().find(|&&group| group >= count) {
        return Err(ParquetError::General(format!(
            "row group {group} of {count}"
        )));
    }
    let groups = Groups {
        file: Arc::new(file),
        metadata: Arc::clone(metadata.metadata()),
        chosen: groups,
    };
    ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, batch_rows, selection)
}

/// Some row groups of a file.
struct Groups<R> {
    file: Arc<R>,
    metadata: Arc<ParquetMetaData>,
    chosen: Vec<usize>,
}

impl<R: ChunkReader + 'static> RowGroups for Groups<R> {
    fn num_rows(&self) -> usize {
        let rows = self.row_groups().map(rows_of);
        rows.fold(0, usize::saturating_add)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(Chunks {
            file: Arc::clone(&self.file),
            metadata: Arc::clone(&self.metadata),
            groups: self.chosen.clone().into_iter(),
            column,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        let chosen = self.chosen.iter();
        Box::new(chosen.map(|&group| self.metadata.row_group(group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// Number of rows of a group; a negative one holds none.
fn rows_of(group: &RowGroupMetaData) -> usize {
    usize::try_from(group.num_rows()).unwrap_or(0)
}

/// One column in some row groups.
struct Chunks<R> {
    file: Arc<R>,
    metadata: Arc<ParquetMetaData>,
    groups: std::vec::IntoIter<usize>,
    column: usize,
}

impl<R: ChunkReader + 'static> Chunks<R> {
    fn pages(&self, group: usize) -> Result<CheckedPages<R>> {
        let rows = self.metadata.row_group(group);
        let column = rows.column(self.column);
        let index = self.metadata.page_index();
        let places = index.and_then(|index| index.page_locations(group, self.column).cloned());
        let file = Arc::new(CheckedHeaders {
            file: Arc::clone(&self.file),
            is_indexed: places.is_some(),
            most_inflation: most_inflation(column.compression()),
        });
        Ok(CheckedPages {
            pages: SerializedPageReader::new(file, column, rows_of(rows), places)?,
            least_bytes: least_bytes(column),
        })
    }
}

impl<R: ChunkReader + 'static> Iterator for Chunks<R> {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.groups.next()?;
        Some(self.pages(group).map(|pages| Box::new(pages) as _))
    }
}

impl<R: ChunkReader + 'static> PageIterator for Chunks<R> {}

/// Bytes that one value of a dictionary takes at least; a text has its length in front.
fn least_bytes(column: &ColumnChunkMetaData) -> usize {
    match column.column_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => {
            let length = column.column_descr().type_length();
            usize::try_from(length).unwrap_or(0).max(1)
        }
    }
}

/// Bytes that one byte can become at most.
fn most_inflation(compression: Compression) -> u64 {
    match compression {
        Compression::UNCOMPRESSED => 1,
        // A copy of 64 bytes takes three.
        Compression::SNAPPY => 22,
        Compression::LZ4 | Compression::LZ4_RAW => 255,
        Compression::GZIP(_) => 1032,
        // A block of 128 KiB of one byte takes four.
        _ => 1 << 15,
    }
}

/// A file whose pages are looked at before they are decompressed.
struct CheckedHeaders<R> {
    file: Arc<R>,
    /// Pages are read whole, header and all; otherwise the header is read as a stream of its own.
    is_indexed: bool,
    most_inflation: u64,
}

impl<R: ChunkReader> Length for CheckedHeaders<R> {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl<R: ChunkReader> ChunkReader for CheckedHeaders<R> {
    type T = HeaderStream<R::T>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(HeaderStream {
            rest: self.file.get_read(start)?,
            head: None,
            most_inflation: self.most_inflation,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let size = self.len();
        if start
            .checked_add(length as u64)
            .is_none_or(|end| end > size)
        {
            return Err(ParquetError::EOF(format!(
                "{length} bytes from {start} of {size}"
            )));
        }
        let bytes = self.file.get_bytes(start, length)?;
        if self.is_indexed {
            check_header(&bytes[..], self.most_inflation).map_err(ParquetError::General)?;
        }
        Ok(bytes)
    }
}

/// The header of a page, checked as soon as something is read of it. Streams are also opened where no header is,
/// and never read.
struct HeaderStream<R> {
    head: Option<Cursor<Vec<u8>>>,
    rest: R,
    most_inflation: u64,
}

impl<R: Read> Read for HeaderStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = if let Some(head) = &mut self.head {
            head
        } else {
            let head = check_header(&mut self.rest, self.most_inflation);
            self.head
                .insert(Cursor::new(head.map_err(io::Error::other)?))
        };
        match head.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

/// A stream that keeps what was read of it.
struct Kept<R> {
    stream: R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// Refuses a page that announces more than its bytes can become, or a list in its header, where no writer puts one.
/// Returns the bytes of the header.
fn check_header(stream: impl Read, most_inflation: u64) -> std::result::Result<Vec<u8>, String> {
    let mut page = Kept {
        stream,
        bytes: Vec::new(),
    };
    let walked = thrift::walk_stream(&mut page, layout::PAGE);
    let header = page.bytes;
    // A file that ends here is told so by whoever reads the header.
    if header.is_empty() {
        return Ok(header);
    }
    walked.map_err(|e| format!("the header of a page: {e}"))?;
    let (inflated, packed) =
        lengths(&header).ok_or("the header of a page is not as any writer writes it")?;
    if inflated > packed.saturating_mul(most_inflation).saturating_add(64) {
        return Err(format!("a page of {packed} bytes announces {inflated}"));
    }
    Ok(header)
}

/// Length of a page decompressed and as it is, the second and third field of its header; nothing where the first
/// three fields are not there in their order and short form, as every writer writes them.
///
/// ```text
/// 0x15 type  0x15 length decompressed  0x15 length            numbers are zigzag varints
/// ```
fn lengths(mut page: &[u8]) -> Option<(u64, u64)> {
    let mut field = || {
        let rest = page.strip_prefix(&[0x15])?;
        let end = rest.iter().take(5).position(|byte| byte & 0x80 == 0)?;
        let digits = rest[..=end].iter().rev();
        let zigzag = digits.fold(0_u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
        page = &rest[end + 1..];
        // A negative length is refused by whoever reads the header.
        (zigzag & 1 == 0).then_some(zigzag >> 1)
    };
    let (_, inflated, packed) = (field()?, field()?, field()?);
    Some((inflated, packed))
}

/// The pages of one column in one row group.
struct CheckedPages<R: ChunkReader + 'static> {
    pages: SerializedPageReader<CheckedHeaders<R>>,
    least_bytes: usize,
}

impl<R: ChunkReader + 'static> CheckedPages<R> {
    fn checked(&self, page: Option<Page>) -> Result<Option<Page>> {
        if let Some(Page::DictionaryPage {
            buf, num_values, ..
        }) = &page
        {
            let most = buf.len() / self.least_bytes;
            if *num_values as usize > most {
                return Err(ParquetError::General(format!(
                    "a dictionary of {} bytes announces {num_values} values",
                    buf.len()
                )));
            }
        }
        Ok(page)
    }
}

impl<R: ChunkReader + 'static> Iterator for CheckedPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader + 'static> PageReader for CheckedPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        self.checked(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        self.checked(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_where_a_header_has_them() {
        // A dictionary page of 10 bytes in 12, and one of 300 in 5.
        assert_eq!(
            lengths(&[0x15, 4, 0x15, 20, 0x15, 24, 0x4c]),
            Some((10, 12))
        );
        let wide = [0x15, 0, 0x15, 0xd8, 4, 0x15, 10];
        assert_eq!(lengths(&wide), Some((300, 5)));
        for end in 0..wide.len() {
            assert_eq!(lengths(&wide[..end]), None);
        }
        assert_eq!(lengths(&[0x15, 0, 0x15, 1, 0x15, 10]), None);
        assert_eq!(lengths(&[0x15, 0, 0x25, 2, 0x15, 10]), None);
        assert_eq!(lengths(&[0xff; 20]), None);
    }
}
