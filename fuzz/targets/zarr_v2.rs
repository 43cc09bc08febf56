//! Zarr v2 arrays: two bytes of length, `.zarray`, and the bytes of every chunk.

#![no_main]

use std::fs;
use std::sync::{Arc, LazyLock};

use jepa_bench_fuzz::scratch;
use jepa_ingest::container::zarr_v2::{ZarrArray, ZarrStore};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = scratch();
    fs::create_dir_all(folder.path().join("data/a")).expect("a folder");
    fs::write(folder.path().join(".zgroup"), "{\"zarr_format\": 2}").expect("a file");
    folder
});

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (header, chunk) = rest.split_at(length);
    let folder = FOLDER.path().join("data/a");
    fs::write(folder.join(".zarray"), header).expect("a file");
    for name in ["0", "1", "0.0", "1.0", "0.0.0.0"] {
        fs::write(folder.join(name), chunk).expect("a file");
    }
    let Ok(store) = ZarrStore::open(FOLDER.path()) else {
        return;
    };
    let Ok(array) = ZarrArray::open(&Arc::new(store), "data/a") else {
        return;
    };
    let rows = array.shape().first().copied().unwrap_or(0);
    let _ = array.rows(0..rows.min(100));
    let _ = array.rows(rows.saturating_sub(3)..rows);
});
