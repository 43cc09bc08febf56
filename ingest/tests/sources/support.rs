//! Ingesting fixtures, and comparing with golden values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jepa_datasets::transform::Transform;
use jepa_datasets::{
    ACTION, Codec, Dataset, Normalizer, PROPRIO, SliceSpec, SplitRule, WriterOptions,
};
use jepa_ingest::{Error, OnBroken, Progress, SourceOptions, Summary, source};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Tests run in the folder of their package.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new("../tests/fixtures").join(name)
}

/// Ingests a release under a rule, losslessly.
pub(crate) fn ingest(
    format: &str,
    src: &Path,
    dst: &Path,
    rule: &SplitRule,
) -> Result<(Dataset, Summary), Error> {
    let source = source::open(format, src, SourceOptions::default())?;
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
    jepa_ingest::run(
        source.as_ref(),
        dst,
        options,
        rule,
        OnBroken::Reject,
        &progress,
    )
}

/// A dataset of a fixture without broken episodes.
pub(crate) fn dataset(format: &str, name: &str, rule: &SplitRule) -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, summary) =
        ingest(format, &fixture(name), &folder.path().join("set"), rule).unwrap();
    assert!(summary.broken.is_empty(), "{:?}", summary.broken);
    (folder, dataset)
}

/// `golden/NAME.json`.
pub(crate) fn golden<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read(fixture(&format!("golden/{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Arrays of the reference loaders, by name.
pub(crate) struct Arrays {
    index: BTreeMap<String, Place>,
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Place {
    offset: usize,
    shape: Vec<usize>,
}

impl Arrays {
    pub(crate) fn read(name: &str) -> Self {
        let index = std::fs::read(fixture(&format!("golden/{name}.arrays.json"))).unwrap();
        let bytes = std::fs::read(fixture(&format!("golden/{name}.f32"))).unwrap();
        let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        Self {
            index: serde_json::from_slice(&index).unwrap(),
            values: values.collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &[f32] {
        let place = &self.index[name];
        &self.values[place.offset..place.offset + place.shape.iter().product::<usize>()]
    }
}

/// Values that differ by no more than `tolerance`, relative and absolute.
#[track_caller]
pub(crate) fn close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance + tolerance * b.abs(),
            "{name}[{i}]: {a} is not {b}"
        );
    }
}

/// Slices of a split as `[position in the split, start, end]`.
pub(crate) fn listed(dataset: &Dataset, spec: &SliceSpec) -> Vec<[usize; 3]> {
    let split = &dataset.split(&spec.split).unwrap().episodes;
    let index = dataset.slices(spec).unwrap();
    (0..index.len())
        .map(|k| {
            let at = index.get(k);
            let position = split.iter().position(|&e| e == at.episode).unwrap();
            [position, at.start, at.start + spec.rows()]
        })
        .collect()
}

/// A slice of a split as the reference loaders return it: action and proprio normalised.
pub(crate) fn check_slice(
    dataset: &Dataset,
    spec: &SliceSpec,
    position: usize,
    normalizer: &dyn Fn(&str) -> Normalizer,
    (arrays, prefix): (&Arrays, &str),
) {
    let index = dataset.slices(spec).unwrap();
    let slice = dataset.read_slice(spec, index.get(position)).unwrap();
    for (field, short, values) in [
        (ACTION, "action", &slice.action),
        (PROPRIO, "proprio", &slice.proprio),
    ] {
        let mut values = values.clone();
        normalizer(field).normalize(&mut values);
        let name = format!("{prefix}.{short}");
        // The reference accumulates its statistics in float32: 1e-5 is what it promises.
        close(&name, &values, arrays.get(&name), 1e-5);
    }
    let state: Vec<f32> = slice.state.iter().map(|&v| v as f32).collect();
    let name = format!("{prefix}.state");
    close(&name, &state, arrays.get(&name), 1e-6);
}

/// A slice's frames under a transform, `[n, 3, S, S]`.
pub(crate) fn visual(
    dataset: &Dataset,
    spec: &SliceSpec,
    position: usize,
    transform: &Transform,
) -> Vec<f32> {
    let index = dataset.slices(spec).unwrap();
    let slice = dataset.read_slice(spec, index.get(position)).unwrap();
    transform.apply(&slice.frames.into_f32(), slice.height, slice.width)
}

/// Rows and columns of the 224-pixel images that are stored.
const GRID: [usize; 6] = [0, 31, 64, 111, 160, 223];

/// The stored pixels of images of 224 pixels.
pub(crate) fn grid(visual: &[f32]) -> Vec<f32> {
    let planes = visual.chunks_exact(224 * 224);
    planes
        .flat_map(|plane| {
            GRID.iter()
                .flat_map(move |y| GRID.iter().map(move |x| plane[y * 224 + x]))
        })
        .collect()
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digits: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digits.concat()
}
