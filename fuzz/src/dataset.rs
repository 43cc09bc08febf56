//! A finished dataset of two short episodes, one file of which the fuzzer writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Camera, CameraFrames, Codec, Column, DatasetWriter, Dtype, Episode, Field,
    ManifestDraft, PixelType, Pixels, STATE, Source, SplitRule, WriterOptions,
};
use serde_json::Value;

const MANIFEST: &str = "dataset.json";

/// The dataset, and its files as they were written.
pub struct Base {
    root: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
    manifest: Value,
    _folder: tempfile::TempDir,
}

impl Base {
    /// Writes the dataset.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn new() -> Self {
        let folder = crate::scratch();
        let root = folder.path().join("dataset");
        let writer = DatasetWriter::open(&root, options()).expect("a writer");
        (0..2).for_each(|k| writer.accept(episode(k)).expect("an episode"));
        writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
        let manifest = fs::read(root.join(MANIFEST)).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
        let listed = manifest["files"].as_object().expect("files").keys();
        let names = listed.cloned().chain([MANIFEST.to_string()]);
        let files = names.map(|name| {
            let bytes = fs::read(root.join(&name)).expect("a file");
            (name, bytes)
        });
        Self {
            files: files.collect(),
            manifest,
            root,
            _folder: folder,
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files, in the order of the first byte of an input.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter();
        files.map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Puts bytes in place of one file and makes its hash right. Gives the file back to [`Self::restore`].
    pub fn replace(&self, choice: u8, bytes: &[u8]) -> String {
        let at = usize::from(choice) % self.files.len();
        let name = self.files.keys().nth(at).expect("one of them").clone();
        fs::write(self.root.join(&name), bytes).expect("a file in memory");
        if name != MANIFEST {
            let mut manifest = self.manifest.clone();
            manifest["files"][&name] = serde_json::json!({
                "bytes": bytes.len(),
                "blake3": blake3::hash(bytes).to_hex().as_str(),
            });
            let text = serde_json::to_vec(&manifest).expect("JSON");
            fs::write(self.root.join(MANIFEST), text).expect("a file in memory");
        }
        name
    }

    /// Writes the file as it was.
    pub fn restore(&self, name: &str) {
        fs::write(self.root.join(name), &self.files[name]).expect("a file in memory");
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::new()
    }
}

fn options() -> WriterOptions {
    WriterOptions {
        manifest: ManifestDraft {
            source: Source {
                name: "wall".into(),
                ..Source::default()
            },
            fields: vec![
                Field::action(2, "pixels", "dx, dy"),
                Field::state(Dtype::F64, 1, "pixels", "x"),
            ],
            cameras: vec![Camera::new("top", 2, 2, PixelType::U8)],
            fps: 10.0,
            control_hz: None,
            extra_last_obs: false,
            licence: None,
            citation: None,
            notes: Vec::new(),
        },
        codec: Codec::Raw,
        overwrite: false,
        total_episodes: 2,
        selection: None,
    }
}

fn episode(index: u64) -> Episode {
    let length = 21 + index as usize;
    Episode {
        source_index: index,
        source_path: format!("episode_{index}"),
        source_hash: String::new(),
        task: "go".into(),
        seed: Some(index),
        length,
        columns: BTreeMap::from([
            (
                ACTION.into(),
                Column::F32 {
                    width: 2,
                    values: (0..2 * length).map(|v| v as f32).collect(),
                },
            ),
            (
                STATE.into(),
                Column::F64 {
                    width: 1,
                    values: (0..length).map(|v| v as f64).collect(),
                },
            ),
        ]),
        cameras: vec![CameraFrames {
            camera: "top".into(),
            height: 2,
            width: 2,
            count: length,
            pixels: Pixels::U8((0..12 * length).map(|v| v as u8).collect()),
        }],
        extras: BTreeMap::from([("door".into(), 1.0)]),
    }
}
