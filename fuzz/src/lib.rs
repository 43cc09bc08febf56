//! What the fuzz targets share: files that live in memory, archives around a payload, a small dataset.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

pub mod archive;
pub mod dataset;

/// A folder in memory where there is one.
///
/// # Panics
/// When there is no place for temporary files.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    let folder = if memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    folder.expect("a folder for temporary files")
}

/// A file of these bytes; the next call replaces it.
///
/// # Panics
/// When the file cannot be written.
pub fn file(bytes: &[u8]) -> PathBuf {
    thread_local! {
        static FOLDER: tempfile::TempDir = scratch();
    }
    let path = FOLDER.with(|folder| folder.path().join("input"));
    fs::write(&path, bytes).expect("a temporary file");
    path
}

/// Lets panics of dependencies unwind, for readers that catch them; those of our own code end the process.
///
/// The panic handler of libFuzzer ends it in both cases. A panic that nobody catches is a finding in any case.
pub fn allow_caught_panics() {
    panic::set_hook(Box::new(|info| {
        let file = info.location().map_or("", |location| location.file());
        if !file.contains("/registry/") && !file.contains("/rustc/") {
            eprintln!("{info}");
            std::process::abort();
        }
        if std::env::var_os("SHOW_PANICS").is_some() {
            eprintln!("{info}");
        }
    }));
}
