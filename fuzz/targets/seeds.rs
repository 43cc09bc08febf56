//! Writes the first inputs of every target: small fixtures in the form that the target takes.
//!
//! ```text
//! seeds [CORPUS]        from the root of the project; CORPUS is `fuzz/corpus` by default
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jepa_bench_fuzz::archive;
use jepa_bench_fuzz::dataset::Base;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// Larger fixtures slow a target down and show it nothing new.
const LARGEST: u64 = 20_000;

struct Corpus {
    root: PathBuf,
    written: usize,
}

impl Corpus {
    fn add(&mut self, target: &str, parts: &[&[u8]]) {
        let folder = self.root.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        let bytes = parts.concat();
        let name = blake3::hash(&bytes).to_hex();
        fs::write(folder.join(&name.as_str()[..16]), bytes).expect("a file");
        self.written += 1;
    }
}

fn main() {
    let root = std::env::args().nth(1).unwrap_or("fuzz/corpus".into());
    let mut corpus = Corpus {
        root: root.into(),
        written: 0,
    };
    for path in fixtures(Path::new("tests/fixtures")) {
        let bytes = fs::read(&path).expect("a fixture");
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        match ending.as_ref() {
            "pth" | "pt" => torch(&mut corpus, &bytes),
            "pkl" => corpus.add("pickle", &[&bytes]),
            "npz" => numpy(&mut corpus, &bytes),
            "parquet" => corpus.add("table", &[&bytes]),
            "zip" => corpus.add("zip", &[&bytes]),
            _ => {}
        }
    }
    for (k, (_, bytes)) in Base::new().files().enumerate() {
        for choice in [k as u8, k as u8 | 0x80] {
            corpus.add("manifest", &[&[choice], bytes]);
        }
        if bytes.starts_with(b"PAR1") {
            let plain = uncompressed(bytes);
            corpus.add("manifest", &[&[k as u8], &plain]);
            corpus.add("table", &[bytes]);
            corpus.add("table", &[&plain]);
        }
    }
    zarr(
        &mut corpus,
        Path::new("tests/fixtures/bad/36_zarr_problems"),
    );
    zarr(&mut corpus, Path::new("tests/fixtures/zarr_codecs"));
    println!("{} inputs in {}", corpus.written, corpus.root.display());
}

/// Small files below a folder, in order.
fn fixtures(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the fixtures") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("an entry");
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.len() <= LARGEST {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// A table whose numbers lie open: a change of one byte changes one of them.
fn uncompressed(bytes: &[u8]) -> Vec<u8> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes));
    let reader = reader.expect("a table");
    let schema = reader.schema().clone();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).expect("a table");
    for batch in reader.build().expect("rows") {
        writer.write(&batch.expect("rows")).expect("rows");
    }
    writer.into_inner().expect("a table")
}

fn torch(corpus: &mut Corpus, bytes: &[u8]) {
    corpus.add("torch_zip", &[&[0], bytes]);
    corpus.add("zip", &[bytes]);
    if let Some(pickle) = member(bytes, "/data.pkl") {
        corpus.add("torch_zip", &[&[1], pickle]);
        corpus.add("pickle", &[pickle]);
    }
}

fn numpy(corpus: &mut Corpus, bytes: &[u8]) {
    corpus.add("npy", &[&[2], bytes]);
    corpus.add("zip", &[bytes]);
    if let Some(array) = member(bytes, ".npy") {
        corpus.add("npy", &[&[0], array]);
        corpus.add("npy", &[&[1], array]);
        corpus.add("zip", &[&archive::stored(&[("../a", array), ("b", array)])]);
    }
}

/// The stored content behind the first local header whose name ends so.
fn member<'a>(bytes: &'a [u8], ending: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(header) = bytes
        .get(at..at + 30)
        .filter(|h| h.starts_with(b"PK\x03\x04"))
    {
        let number = |k: usize| usize::from(u16::from_le_bytes([header[k], header[k + 1]]));
        let size = u32::from_le_bytes([header[18], header[19], header[20], header[21]]) as usize;
        let start = at + 30 + number(26) + number(28);
        let name = bytes.get(at + 30..at + 30 + number(26))?;
        let content = bytes.get(start..start.checked_add(size)?);
        if name.ends_with(ending.as_bytes()) && number(8) == 0 {
            return content.filter(|content| !content.is_empty());
        }
        at = start + size;
    }
    None
}

fn zarr(corpus: &mut Corpus, folder: &Path) {
    for path in fixtures(folder) {
        if !path.ends_with(".zarray") {
            continue;
        }
        let header = fs::read(&path).expect("a header");
        let chunks = ["0", "0.0", "0.0.0.0"].map(|name| fs::read(path.with_file_name(name)));
        let chunk = chunks.into_iter().flatten().next().unwrap_or_default();
        let length = (header.len() as u16).to_le_bytes();
        corpus.add("zarr_v2", &[&length, &header, &chunk]);
    }
}
