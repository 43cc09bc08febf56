//! Parquet tables of releases.

#![no_main]

use jepa_bench_fuzz::{allow_caught_panics, file};
use jepa_ingest::container::table::TableFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: allow_caught_panics(), |input: &[u8]| {
    let Ok(table) = TableFile::open(&file(input)) else {
        return;
    };
    let columns: Vec<&str> = table.columns().collect();
    for column in columns {
        let _ = table.fits_f32(column);
        let Ok(rows) = table.read(&[column], 0..table.rows().min(50)) else {
            continue;
        };
        let _ = (rows.numbers(column), rows.integers(column));
        let _ = (rows.texts(column), rows.text_lists(column), rows.bytes(column));
    }
});
