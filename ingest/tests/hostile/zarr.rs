//! Zarr stores: metadata that announces, nests and overflows.

use std::fs;
use std::sync::Arc;

use jepa_ingest::Error;
use jepa_ingest::container::zarr_v2::{ZarrArray, ZarrStore};

use super::Dice;
use super::memory::within;
use crate::support::fixture;

/// Opens an array of one chunk file and reads up to 100 of its rows.
fn read(header: &str, chunk: &[u8]) -> Result<usize, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("data/a")).expect("a folder");
    fs::write(folder.path().join("data/a/.zarray"), header).expect("a header");
    for name in ["0", "0.0", "0.0.0.0"] {
        fs::write(folder.path().join("data/a").join(name), chunk).expect("a chunk");
    }
    let store = Arc::new(ZarrStore::open(folder.path())?);
    let array = ZarrArray::open(&store, "data/a")?;
    let rows = array.shape()[0].min(100);
    array.rows(0..rows).map(|bytes| bytes.len())
}

fn header(shape: &str, chunks: &str, compressor: &str) -> String {
    format!(
        r#"{{"zarr_format": 2, "shape": {shape}, "chunks": {chunks}, "dtype": "<f4",
            "compressor": {compressor}, "filters": null, "fill_value": 0, "order": "C"}}"#
    )
}

#[test]
fn shapes_and_chunks_cost_no_more_than_what_is_there() {
    assert_eq!(
        read(&header("[2, 2]", "[2, 2]", "null"), &[0; 16]).expect("rows"),
        16
    );
    let cases = [
        ("[1099511627776]", "[1]"),
        ("[2]", "[1099511627776]"),
        ("[2]", "[18446744073709551615]"),
        ("[4294967296, 4294967296]", "[1, 1]"),
        (
            "[4294967296, 4294967296, 4294967296]",
            "[4294967296, 4294967296, 4294967296]",
        ),
        ("[18446744073709551615]", "[18446744073709551615]"),
        ("[2]", "[0]"),
        ("[2, 2]", "[2]"),
        ("[]", "[]"),
        ("[-1]", "[1]"),
        ("[1e30]", "[1]"),
        ("[1.5]", "[1]"),
        ("[true]", "[1]"),
        ("[1,1,1,1,1,1,1,1,1,1]", "[1,1,1,1,1,1,1,1,1,1]"),
        ("[536870912]", "[536870912]"),
    ];
    for (shape, chunks) in cases {
        let text = header(shape, chunks, "null");
        let found = within(1 << 20, || read(&text, &[0; 16]));
        assert!(found.is_err(), "{shape} {chunks}: {found:?}");
    }
}

#[test]
fn documents_that_nest_or_grow_are_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let dtype = header("[2]", "[2]", "null").replace("\"<f4\"", &deep);
    let fill = header("[2]", "[2]", "null")
        .replace("\"fill_value\": 0", &format!("\"fill_value\": {deep}"));
    let long = " ".repeat(8 << 20);
    let other = header("[2]", "[2]", "{\"id\": \"blosc\", \"id\": \"zlib\"}");
    for text in [deep, dtype, fill, long, other] {
        let found = within(4 << 20, || read(&text, &[0; 16]));
        assert!(found.is_err(), "{text:.60}: {found:?}");
    }
}

/// Blosc says in its own header how long it will be.
#[test]
fn chunks_are_unpacked_to_their_announced_size_and_no_further() {
    let text = header("[4]", "[4]", r#"{"id": "blosc"}"#);
    for length in [0, 15, 17, 1 << 20, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for flags in [0, 1, 2, 0xff] {
            let mut chunk = vec![2, 1, flags, 4];
            chunk.extend(u32::to_le_bytes(length));
            chunk.extend(16_u32.to_le_bytes());
            chunk.extend(32_u32.to_le_bytes());
            chunk.extend([0; 16]);
            let found = within(1 << 20, || read(&text, &chunk));
            assert!(found.is_err(), "{length}, {flags}: {found:?}");
        }
    }
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("compressed");
    let bomb = within(1 << 20, || {
        read(&header("[4]", "[4]", r#"{"id": "zstd"}"#), &zeros)
    });
    assert!(bomb.is_err(), "{bomb:?}");
}

#[test]
fn no_damage_of_a_header_does_more_than_an_error() {
    let mut dice = Dice(8);
    for name in ["zstd", "blosc-lz4-1", "raw-columns", "big-endian"] {
        let folder = fixture("zarr_codecs").join(format!("{name}.zarr/data/action"));
        let good = fs::read(folder.join(".zarray")).unwrap();
        let chunk = fs::read(folder.join("0.0")).unwrap();
        for _ in 0..300 {
            let text = String::from_utf8_lossy(&dice.damage(&good)).into_owned();
            let _ = within(4 << 20, || read(&text, &chunk));
        }
    }
}
