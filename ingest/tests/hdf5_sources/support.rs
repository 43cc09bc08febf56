//! Fixtures, golden arrays, and a whole ingestion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jepa_datasets::{Codec, Column, Dataset, Pixels, SplitRule, WriterOptions};
use jepa_ingest::{Error, OnBroken, Progress, Source, SourceOptions, Summary, source};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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

pub(crate) fn golden<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read(fixture("golden").join(name)).expect("golden values");
    serde_json::from_slice(&text).expect("golden values")
}

/// Arrays of the reference loaders, by name, widened to 64-bit floats.
pub(crate) struct Arrays {
    index: BTreeMap<String, Place>,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Place {
    offset: usize,
    shape: Vec<usize>,
}

impl Arrays {
    pub(crate) fn read(name: &str) -> Self {
        let bytes = std::fs::read(fixture(&format!("golden/{name}.f64"))).expect("numbers");
        let numbers = bytes.as_chunks().0.iter();
        Self {
            index: golden(&format!("{name}.arrays.json")),
            values: numbers.map(|b| f64::from_le_bytes(*b)).collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &[f64] {
        let place = self
            .index
            .get(name)
            .unwrap_or_else(|| panic!("no array {name}"));
        &self.values[place.offset..place.offset + place.shape.iter().product::<usize>()]
    }
}

#[track_caller]
pub(crate) fn near(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let close = (a - b).abs() <= tolerance + tolerance * b.abs();
        assert!(close, "{name}[{i}]: {a} is not {b}");
    }
}

pub(crate) fn values(columns: &BTreeMap<String, Column>, name: &str) -> Vec<f64> {
    columns
        .get(name)
        .unwrap_or_else(|| panic!("no column {name}"))
        .to_f64()
}

/// SHA-256 of every frame.
pub(crate) fn frame_hashes(pixels: &Pixels, height: usize, width: usize) -> Vec<String> {
    let Pixels::U8(pixels) = pixels else {
        panic!("bytes")
    };
    let frames = pixels.chunks_exact(height * width * 3);
    frames
        .map(|frame| {
            let digits: Vec<String> = Sha256::digest(frame)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            digits.concat()
        })
        .collect()
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
        cameras: names.iter().map(|name| (*name).to_string()).collect(),
        ..SourceOptions::default()
    }
}

pub(crate) fn refused(name: &str, src: &Path, options: SourceOptions) -> Error {
    open(name, src, options).map(|_| ()).expect_err("no source")
}

pub(crate) fn ingest(source: &dyn Source, dst: &Path, rule: &SplitRule) -> (Dataset, Summary) {
    let options = WriterOptions {
        manifest: source.manifest().clone(),
        codec: Codec::Lossless,
        overwrite: false,
        total_episodes: source.total(),
        selection: None,
    };
    let progress = Progress {
        tick: &|_, _| {},
        stop: &AtomicBool::new(false),
    };
    jepa_ingest::run(source, dst, options, rule, OnBroken::Reject, &progress).expect("a dataset")
}

/// Codes and numbers of the episodes that could not be used.
pub(crate) fn faults(summary: &Summary) -> Vec<(&str, u64)> {
    let broken = summary.broken.iter();
    broken.map(|b| (b.code.as_str(), b.episode)).collect()
}

/// Every row and every frame of every accepted episode can be read.
pub(crate) fn read_all(dataset: &Dataset) -> Vec<u64> {
    for meta in dataset.episodes() {
        let rows = dataset
            .read_rows(meta.episode_index, 0..meta.length as usize)
            .expect("rows");
        assert!(
            rows.values()
                .all(|column| column.rows() == meta.length as usize)
        );
        assert!(!meta.frames.is_empty());
        for (camera, range) in &meta.frames {
            let frames: Vec<usize> = (0..range.count as usize).collect();
            dataset
                .read_frames(camera, meta.episode_index, &frames)
                .expect("frames");
        }
    }
    dataset
        .episodes()
        .iter()
        .map(|meta| meta.source_index)
        .collect()
}

/// One case of `bad/expected_hdf5.json`.
#[derive(Deserialize)]
pub(crate) struct Case {
    id: u32,
    pub(crate) dir: String,
    #[serde(default)]
    pub(crate) errors: Vec<Fault>,
    #[serde(default)]
    pub(crate) ingested: Vec<serde_json::Value>,
    #[serde(default)]
    pub(crate) files: BTreeMap<String, FileCase>,
}

#[derive(Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) episode: serde_json::Value,
    #[serde(default)]
    pub(crate) file: String,
    pub(crate) key: Option<String>,
    pub(crate) filter_id: Option<i32>,
}

#[derive(Deserialize)]
pub(crate) struct FileCase {
    #[serde(default)]
    pub(crate) fatal: bool,
    pub(crate) errors: Vec<Fault>,
    #[serde(default)]
    pub(crate) ingested: Vec<u64>,
}

pub(crate) fn case(id: u32) -> Case {
    #[derive(Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }
    let text = std::fs::read(fixture("bad/expected_hdf5.json")).expect("cases");
    let cases: Cases = serde_json::from_slice(&text).expect("cases");
    let case = cases.cases.into_iter().find(|case| case.id == id);
    case.expect("the case")
}
