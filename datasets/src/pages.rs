//! Pages of Parquet files that may come from anywhere.
//!
//! The decoders of the `parquet` crate make room for a dictionary by the number of values that its page announces.
//! Here that number is compared with the bytes of the page first. Everything else they check themselves.

use std::sync::Arc;

use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, RowGroups, RowSelection,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Type;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

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
        groups,
    };
    ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, batch_rows, selection)
}

/// Some row groups of a file.
struct Groups<R> {
    file: Arc<R>,
    metadata: Arc<ParquetMetaData>,
    groups: Vec<usize>,
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
            groups: self.groups.clone().into_iter(),
            column,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        let groups = self.groups.iter();
        Box::new(groups.map(|&group| self.metadata.row_group(group)))
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
        let file = Arc::clone(&self.file);
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

/// The pages of one column in one row group.
struct CheckedPages<R: ChunkReader> {
    pages: SerializedPageReader<R>,
    least_bytes: usize,
}

impl<R: ChunkReader> CheckedPages<R> {
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

impl<R: ChunkReader> Iterator for CheckedPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for CheckedPages<R> {
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
