//! How many bytes a run of slices takes from the disk: what its frames and rows occupy there, and little more.

use std::collections::BTreeMap;
use std::path::Path;

use jepa_datasets::{
    ACTION, Camera, CameraFrames, Codec, Column, Dataset, DatasetWriter, Episode, Field,
    ManifestDraft, Order, PixelType, Pixels, SliceSpec, Source, SplitRule, Stream, WriterOptions,
};

const SIDE: usize = 48;
const EPISODES: u64 = 30;
const LENGTH: usize = 40;
const FRAMES: u64 = EPISODES * LENGTH as u64;

fn write(dst: &Path, codec: Codec) {
    let options = WriterOptions {
        manifest: ManifestDraft {
            source: Source {
                name: "wall".into(),
                ..Source::default()
            },
            fields: vec![Field::action(2, "unitless", "none")],
            cameras: vec![Camera::new("top", SIDE, SIDE, PixelType::U8)],
            fps: 10.0,
            control_hz: None,
            extra_last_obs: false,
            licence: None,
            citation: None,
            notes: Vec::new(),
        },
        codec,
        overwrite: false,
        total_episodes: EPISODES,
        selection: None,
    };
    let writer = DatasetWriter::open(dst, options).unwrap();
    for index in writer.pending() {
        writer.accept(episode(index)).unwrap();
    }
    writer.finish(&SplitRule::JEPA_WMS).unwrap();
}

/// Frames of slopes and noise.
fn episode(index: u64) -> Episode {
    let mut random = Stream::new(5, &["reads", &index.to_string()]);
    let values = (0..2 * LENGTH).map(|_| random.uniform() as f32).collect();
    let pixels = (0..LENGTH * SIDE * SIDE * 3)
        .map(|at| (at / 3 % SIDE * 4) as u8 ^ (random.below(16) as u8));
    let pixels = Pixels::U8(pixels.collect());
    Episode {
        source_index: index,
        source_path: index.to_string(),
        source_hash: index.to_string(),
        task: "none".into(),
        seed: None,
        length: LENGTH,
        columns: BTreeMap::from([(ACTION.into(), Column::F32 { width: 2, values })]),
        cameras: vec![CameraFrames {
            camera: "top".into(),
            height: SIDE,
            width: SIDE,
            count: LENGTH,
            pixels,
        }],
        extras: BTreeMap::new(),
    }
}

/// Bytes of the files of a dataset below a folder.
fn stored(dataset: &Dataset, folder: &str) -> u64 {
    let files = dataset.manifest().files.iter();
    files
        .filter(|(name, _)| name.starts_with(folder))
        .map(|(_, file)| file.bytes)
        .sum()
}

/// Reads every frame and every row once, in slices of 4 rows in random order.
fn bytes_read_are_those_stored(codec: Codec) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    write(&root, codec);
    let dataset = Dataset::open(&root).unwrap();
    let spec = SliceSpec {
        order: Order::Sequential,
        ..SliceSpec::new(3, 1, "all")
    };
    let index = dataset.slices(&spec).unwrap();
    let mut slices: Vec<_> = (0..index.len())
        .map(|k| index.get(k))
        .filter(|at| at.start.is_multiple_of(4))
        .collect();
    assert_eq!(slices.len() as u64, FRAMES / 4);
    Stream::new(1, &["order"]).shuffle(&mut slices);
    let opened = dataset.read_count();
    for at in slices {
        dataset.read_slice(&spec, at).unwrap();
    }
    let read = dataset.read_count();

    let frame_bytes = read.frame_bytes - opened.frame_bytes;
    let occupied = stored(&dataset, "frames/top.zarr/c/");
    assert!(
        frame_bytes * 10 <= occupied * 11,
        "{codec}: {frame_bytes} of {occupied} bytes"
    );
    // One read per frame, and the index of two shards of 1024.
    assert_eq!(read.frame_reads - opened.frame_reads, FRAMES + 2, "{codec}");
    let row_bytes = read.row_bytes - opened.row_bytes;
    let occupied = stored(&dataset, "steps/");
    assert!(
        row_bytes * 10 <= occupied * 11,
        "{codec}: {row_bytes} of {occupied} bytes of rows"
    );
}

#[test]
fn shuffled_slices_read_what_exact_frames_occupy() {
    bytes_read_are_those_stored(Codec::Lossless);
    bytes_read_are_those_stored(Codec::Raw);
}

#[cfg(feature = "jpeg")]
#[test]
fn shuffled_slices_read_what_jpeg_frames_occupy() {
    bytes_read_are_those_stored(Codec::Jpeg { quality: 90 });
}
