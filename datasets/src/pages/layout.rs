//! The structs of a Parquet file, by the numbers of their fields (`parquet.thrift` of the format, version 2.12).
//!
//! Fields that are not here are passed over by readers, and by the walk as well.

use super::thrift::Fields;
use super::thrift::Shape::{Binary, Bool, Byte, Children, Double, List, Node, Number, Struct};

/// `FileMetaData`, the footer.
pub(super) const FOOTER: Fields = &[
    (1, Number),
    (2, List(&Node(SCHEMA_ELEMENT))),
    (3, Number),
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(KEY_VALUE))),
    (6, Binary),
    (7, List(&Struct(COLUMN_ORDER))),
];

const SCHEMA_ELEMENT: Fields = &[
    (1, Number),
    (2, Number),
    (3, Number),
    (4, Binary),
    (5, Children),
    (6, Number),
    (7, Number),
    (8, Number),
    (9, Number),
    (10, Struct(LOGICAL_TYPE)),
];

/// A union: one of its fields is there.
const LOGICAL_TYPE: Fields = &[
    (1, Struct(&[])),
    (2, Struct(&[])),
    (3, Struct(&[])),
    (4, Struct(&[])),
    (5, Struct(&[(1, Number), (2, Number)])),
    (6, Struct(&[])),
    (7, Struct(TIME)),
    (8, Struct(TIME)),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, Struct(&[])),
    (12, Struct(&[])),
    (13, Struct(&[])),
    (14, Struct(&[])),
    (15, Struct(&[])),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, Number)])),
    (19, Struct(&[])),
];

const TIME: Fields = &[
    (1, Bool),
    (
        2,
        Struct(&[(1, Struct(&[])), (2, Struct(&[])), (3, Struct(&[]))]),
    ),
];

const KEY_VALUE: Fields = &[(1, Binary), (2, Binary)];

const COLUMN_ORDER: Fields = &[(1, Struct(&[])), (2, Struct(&[])), (3, Struct(&[]))];

const ROW_GROUP: Fields = &[
    (1, List(&Struct(COLUMN_CHUNK))),
    (2, Number),
    (3, Number),
    (4, List(&Struct(&[(1, Number), (2, Bool), (3, Bool)]))),
    (5, Number),
    (6, Number),
    (7, Number),
];

const COLUMN_CHUNK: Fields = &[
    (1, Binary),
    (2, Number),
    (3, Struct(COLUMN)),
    (4, Number),
    (5, Number),
    (6, Number),
    (7, Number),
];

/// `ColumnMetaData`.
const COLUMN: Fields = &[
    (1, Number),
    (2, List(&Number)),
    (3, List(&Binary)),
    (4, Number),
    (5, Number),
    (6, Number),
    (7, Number),
    (8, List(&Struct(KEY_VALUE))),
    (9, Number),
    (10, Number),
    (11, Number),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, Number), (2, Number), (3, Number)]))),
    (14, Number),
    (15, Number),
    (16, Struct(SIZES)),
    (17, Struct(PLACES)),
];

const STATISTICS: Fields = &[
    (1, Binary),
    (2, Binary),
    (3, Number),
    (4, Number),
    (5, Binary),
    (6, Binary),
    (7, Bool),
    (8, Bool),
    (9, Number),
];

/// `SizeStatistics`.
const SIZES: Fields = &[(1, Number), (2, List(&Number)), (3, List(&Number))];

/// `GeospatialStatistics`.
const PLACES: Fields = &[(1, Struct(BOX)), (2, List(&Number))];

const BOX: Fields = &[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
];

/// `ColumnIndex`: what is in every page of a column.
pub(super) const COLUMN_INDEX: Fields = &[
    (1, List(&Bool)),
    (2, List(&Binary)),
    (3, List(&Binary)),
    (4, Number),
    (5, List(&Number)),
    (6, List(&Number)),
    (7, List(&Number)),
    (8, List(&Number)),
];

/// `OffsetIndex`: where every page of a column is.
pub(super) const OFFSET_INDEX: Fields = &[
    (1, List(&Struct(&[(1, Number), (2, Number), (3, Number)]))),
    (2, List(&Number)),
];

/// `PageHeader`.
pub(super) const PAGE: Fields = &[
    (1, Number),
    (2, Number),
    (3, Number),
    (4, Number),
    (5, Struct(DATA_PAGE)),
    (6, Struct(&[])),
    (7, Struct(&[(1, Number), (2, Number), (3, Bool)])),
    (8, Struct(DATA_PAGE_2)),
];

const DATA_PAGE: Fields = &[
    (1, Number),
    (2, Number),
    (3, Number),
    (4, Number),
    (5, Struct(STATISTICS)),
];

/// `DataPageHeaderV2`.
const DATA_PAGE_2: Fields = &[
    (1, Number),
    (2, Number),
    (3, Number),
    (4, Number),
    (5, Number),
    (6, Number),
    (7, Bool),
    (8, Struct(STATISTICS)),
];
