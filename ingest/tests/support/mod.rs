//! Fixtures, ingestion, comparison.

pub(crate) mod bad;
#[cfg(all(feature = "hdf5", feature = "video"))]
pub(crate) mod bad_hdf5;
pub(crate) mod slices;
pub(crate) mod torch;
pub(crate) mod zip;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jepa_datasets::{Codec, Column, Dataset, Pixels, SplitRule, WriterOptions};
use jepa_ingest::container::npy::Npz;
use jepa_ingest::{Error, OnBroken, Progress, Source, SourceOptions, Summary, source};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A split for releases that have none of their own.
pub(crate) const RULE: SplitRule = SplitRule::JepaWms {
    fraction: 0.5,
    seed: 234,
};

/// Tests run in the folder of their package.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new("../tests/fixtures").join(name)
}

/// A JSON document of the fixtures.
pub(crate) fn json(name: &str) -> Value {
    let text = fs::read(fixture(name)).expect("golden values");
    serde_json::from_slice(&text).expect("golden values")
}

/// `golden/NAME.json`.
pub(crate) fn golden<T: DeserializeOwned>(name: &str) -> T {
    let text = fs::read(fixture(&format!("golden/{name}.json"))).expect("golden values");
    serde_json::from_slice(&text).expect("golden values")
}

pub(crate) fn list<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).expect("a list")
}

/// Arrays of the reference loaders, by name.
pub(crate) struct Arrays<T> {
    index: BTreeMap<String, Place>,
    values: Vec<T>,
}

#[derive(Deserialize)]
struct Place {
    offset: usize,
    shape: Vec<usize>,
}

impl Arrays<f32> {
    pub(crate) fn f32(name: &str) -> Self {
        Self::read(name, "f32", f32::from_le_bytes)
    }
}

impl Arrays<f64> {
    pub(crate) fn f64(name: &str) -> Self {
        Self::read(name, "f64", f64::from_le_bytes)
    }
}

impl<T> Arrays<T> {
    fn read<const N: usize>(name: &str, ending: &str, decode: fn([u8; N]) -> T) -> Self {
        let bytes = fs::read(fixture(&format!("golden/{name}.{ending}"))).expect("numbers");
        let numbers = bytes.as_chunks::<N>().0.iter();
        Self {
            index: golden(&format!("{name}.arrays")),
            values: numbers.map(|bytes| decode(*bytes)).collect(),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> &[T] {
        let place = self.index.get(name);
        let place = place.unwrap_or_else(|| panic!("no array {name}"));
        &self.values[place.offset..place.offset + place.shape.iter().product::<usize>()]
    }
}

/// Golden arrays in NumPy's form.
pub(crate) struct Golden(Npz);

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        Self(Npz::open(&fixture(name)).expect("golden arrays"))
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        let array = self.0.array(name).expect("an array");
        array.tensor().expect("values").to_f32()
    }

    pub(crate) fn f64(&self, name: &str) -> Vec<f64> {
        let array = self.0.array(name).expect("an array");
        array.tensor().expect("values").to_f64()
    }
}

/// Values that differ by no more than `tolerance`, relative and absolute.
#[track_caller]
pub(crate) fn close<T: Copy + Into<f64>>(name: &str, found: &[T], expected: &[T], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        let (a, b): (f64, f64) = (a.into(), b.into());
        assert!(
            (a - b).abs() <= tolerance + tolerance * b.abs(),
            "{name}[{i}]: {a} is not {b}"
        );
    }
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<String>>().concat()
}

/// SHA-256 of every frame.
pub(crate) fn frame_hashes(pixels: &Pixels, height: usize, width: usize) -> Vec<String> {
    let Pixels::U8(pixels) = pixels else {
        panic!("bytes")
    };
    let frames = pixels.chunks_exact(height * width * 3);
    frames.map(sha256).collect()
}

#[track_caller]
pub(crate) fn values(columns: &BTreeMap<String, Column>, name: &str) -> Vec<f64> {
    let column = columns.get(name);
    column
        .unwrap_or_else(|| panic!("no column {name}"))
        .to_f64()
}

pub(crate) fn open(
    name: &str,
    src: &Path,
    options: SourceOptions,
) -> Result<Box<dyn Source>, Error> {
    source::open(name, src, options)
}

pub(crate) fn cameras(names: &[&str]) -> SourceOptions {
    SourceOptions {
        cameras: names.iter().map(ToString::to_string).collect(),
        ..SourceOptions::default()
    }
}

pub(crate) fn tasks(names: &[&str]) -> SourceOptions {
    SourceOptions {
        tasks: names.iter().map(ToString::to_string).collect(),
        ..SourceOptions::default()
    }
}

/// Why a release cannot be opened.
#[track_caller]
pub(crate) fn refused(name: &str, src: &Path, options: SourceOptions) -> Error {
    open(name, src, options).map(|_| ()).expect_err("no source")
}

pub(crate) fn options(source: &dyn Source) -> WriterOptions {
    WriterOptions {
        manifest: source.manifest().clone(),
        codec: Codec::Lossless,
        overwrite: false,
        total_episodes: source.total(),
        selection: None,
    }
}

/// Ingests a source, losslessly, until `stop` is set.
pub(crate) fn run_until(
    source: &dyn Source,
    dst: &Path,
    rule: &SplitRule,
    progress: &Progress<'_>,
) -> Result<(Dataset, Summary), Error> {
    let options = options(source);
    jepa_ingest::run(source, dst, options, rule, OnBroken::Reject, progress)
}

/// Ingests a source, losslessly, into a folder.
pub(crate) fn run_to(
    source: &dyn Source,
    dst: &Path,
    rule: &SplitRule,
) -> Result<(Dataset, Summary), Error> {
    let progress = Progress {
        tick: &|_| {},
        stop: &AtomicBool::new(false),
    };
    run_until(source, dst, rule, &progress)
}

/// A dataset in a folder that goes with it.
pub(crate) struct Ingested {
    pub(crate) dataset: Dataset,
    pub(crate) summary: Summary,
    pub(crate) folder: tempfile::TempDir,
}

impl Ingested {
    /// The promises of a dataset hold.
    #[track_caller]
    pub(crate) fn check(&self) {
        let problems = jepa_datasets::conformance::validate(self.dataset.path(), &|| {});
        assert_eq!(problems.expect("a check"), []);
    }

    /// Source indices of the episodes that were kept.
    pub(crate) fn kept(&self) -> Vec<u64> {
        kept(&self.dataset)
    }

    /// Code and path of what was rejected.
    pub(crate) fn rejected(&self) -> Vec<(String, String)> {
        let broken = self.summary.broken.iter();
        broken.map(|b| (b.code.clone(), b.path.clone())).collect()
    }
}

pub(crate) fn kept(dataset: &Dataset) -> Vec<u64> {
    let episodes = dataset.episodes().iter();
    episodes.map(|episode| episode.source_index).collect()
}

pub(crate) fn run(source: &dyn Source, rule: &SplitRule) -> Result<Ingested, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let (dataset, summary) = run_to(source, &folder.path().join("set"), rule)?;
    Ok(Ingested {
        dataset,
        summary,
        folder,
    })
}

/// Opens and ingests some tasks of a release; none means all.
pub(crate) fn ingest(name: &str, src: &Path, names: &[&str]) -> Result<Ingested, Error> {
    ingest_with(name, src, tasks(names), &SplitRule::JEPA_WMS)
}

/// Opens and ingests a release.
pub(crate) fn ingest_with(
    name: &str,
    src: &Path,
    options: SourceOptions,
    rule: &SplitRule,
) -> Result<Ingested, Error> {
    run(open(name, src, options)?.as_ref(), rule)
}

/// A dataset of a fixture without broken episodes.
#[track_caller]
pub(crate) fn whole(name: &str, src: &str, rule: &SplitRule) -> Ingested {
    let set = ingest_with(name, &fixture(src), SourceOptions::default(), rule).expect("a dataset");
    assert_eq!(set.summary.broken, []);
    set
}

/// Codes and numbers of the episodes that could not be used.
pub(crate) fn faults(summary: &Summary) -> Vec<(&str, u64)> {
    let broken = summary.broken.iter();
    broken.map(|b| (b.code.as_str(), b.episode)).collect()
}

/// Every row and every frame of every accepted episode can be read; their source indices.
#[track_caller]
pub(crate) fn read_all(dataset: &Dataset) -> Vec<u64> {
    for meta in dataset.episodes() {
        let length = meta.length as usize;
        let rows = dataset.read_rows(meta.episode_index, 0..length);
        let rows = rows.expect("rows");
        assert!(rows.values().all(|column| column.rows() == length));
        assert!(!meta.frames.is_empty());
        for (camera, range) in &meta.frames {
            let frames: Vec<usize> = (0..range.count as usize).collect();
            let pixels = dataset.read_frames(camera, meta.episode_index, &frames);
            pixels.expect("frames");
        }
    }
    kept(dataset)
}

/// Copies a folder, so that a test may damage the copy.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}
