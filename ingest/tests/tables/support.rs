//! Fixtures, ingestion, comparison.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jepa_datasets::{Codec, Dataset, SplitRule, WriterOptions};
use jepa_ingest::container::npy::Npz;
use jepa_ingest::{Error, OnBroken, Progress, Source, SourceOptions, Summary, source};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Tests run in the folder of their package.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new("../tests/fixtures").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read(fixture(name)).expect("golden values");
    serde_json::from_slice(&text).expect("golden values")
}

pub(crate) fn list<T: for<'a> Deserialize<'a>>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).expect("a list")
}

/// Golden arrays.
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

pub(crate) fn options(source: &dyn Source) -> WriterOptions {
    WriterOptions {
        manifest: source.manifest().clone(),
        codec: Codec::Lossless,
        overwrite: false,
        total_episodes: source.total(),
        selection: None,
    }
}

pub(crate) fn run(source: &dyn Source, rule: &SplitRule) -> Result<Ingested, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let progress = Progress {
        tick: &|_, _| {},
        stop: &AtomicBool::new(false),
    };
    let (dataset, summary) = jepa_ingest::run(
        source,
        &folder.path().join("set"),
        options(source),
        rule,
        OnBroken::Reject,
        &progress,
    )?;
    Ok(Ingested {
        dataset,
        summary,
        _folder: folder,
    })
}

/// A dataset in a folder that goes with it.
pub(crate) struct Ingested {
    pub(crate) dataset: Dataset,
    pub(crate) summary: Summary,
    _folder: tempfile::TempDir,
}

impl Ingested {
    /// The promises of a dataset hold.
    pub(crate) fn check(&self) {
        let problems = jepa_datasets::conformance::validate(self.dataset.path(), &|| {});
        assert_eq!(problems.expect("a check"), []);
    }

    /// Source indices of the episodes that were kept.
    pub(crate) fn kept(&self) -> Vec<u64> {
        let episodes = self.dataset.episodes().iter();
        episodes.map(|episode| episode.source_index).collect()
    }

    /// Code and path of what was rejected.
    pub(crate) fn rejected(&self) -> Vec<(String, String)> {
        let broken = self.summary.broken.iter();
        broken.map(|b| (b.code.clone(), b.path.clone())).collect()
    }
}

pub(crate) fn ingest(name: &str, root: &Path, tasks: &[&str]) -> Result<Ingested, Error> {
    let options = SourceOptions {
        tasks: tasks.iter().map(ToString::to_string).collect(),
        ..SourceOptions::default()
    };
    let source = source::open(name, root, options)?;
    run(source.as_ref(), &SplitRule::JEPA_WMS)
}

/// The error with which a release is refused as a whole.
pub(crate) fn refused(name: &str, root: &Path, tasks: &[&str]) -> Error {
    match ingest(name, root, tasks) {
        Ok(_) => panic!("{} was accepted", root.display()),
        Err(error) => error,
    }
}

/// One case of `bad/tables.json`.
pub(crate) fn bad_case(id: u64) -> (PathBuf, Value) {
    let cases = json("bad/tables.json");
    let cases = cases["cases"].as_array().expect("cases");
    let case = cases
        .iter()
        .find(|case| case["id"] == id)
        .expect("the case");
    let dir = case["dir"].as_str().expect("a folder");
    (fixture("bad").join(dir), case.clone())
}

/// 1e-6 relative plus 1e-6 absolute.
#[track_caller]
pub(crate) fn close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance + tolerance * b.abs(),
            "{name}[{i}]: {a} is not {b}"
        );
    }
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    digits
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<String>>()
        .concat()
}

/// Copies a folder, so that a test may damage the copy.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}
