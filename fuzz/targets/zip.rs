//! ZIP archives.

#![no_main]

use std::path::Path;

use jepa_bench_fuzz::file;
use jepa_ingest::container::mapped::FileBytes;
use jepa_ingest::container::zip::Zip;
use jepa_ingest::container::zip_archive::ZipArchive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(zip) = Zip::read(FileBytes::inside(Path::new("a.zip"), input.to_vec())) {
        for name in zip.names() {
            if let Ok(Some(content)) = zip.content(name) {
                assert_eq!(Some(content.len() as u64), zip.size(name));
            }
            let _ = (zip.stored(name), zip.is_link(name), zip.is_stored(name));
        }
    }
    if let Ok(archive) = ZipArchive::open(&file(input)) {
        for name in archive.names() {
            let _ = archive.read(name, 1 << 20);
        }
    }
});
