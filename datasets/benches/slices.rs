//! Reading trajectory slices in random order: 7 frames of 65x65, as a training step on Wall asks for, and 4 frames
//! of 224x224, as the reference configurations of the larger datasets ask for, drawn and textured.

mod scene;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jepa_datasets::{
    ACTION, Camera, CameraFrames, Codec, Column, Dataset, DatasetWriter, Dtype, Episode, Field,
    ManifestDraft, PROPRIO, PixelType, Pixels, STATE, SliceSpec, Source, SplitRule, Stream,
    WriterOptions,
};
use rayon::prelude::*;

/// The allocator of the program: decoding a frame takes and gives back large blocks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EPISODES: u64 = 200;
const LENGTH: usize = 50;
/// Pixels on each side of Wall's native frames.
const SIDE: usize = 65;
/// Pixels on each side of the frames of the larger datasets.
const LARGE: usize = 224;
/// Episodes of the larger frames: 0.3 GB, so that they stay in the page cache.
const LARGE_EPISODES: u64 = 40;

/// A white room, a black wall and a round dot: what the Wall simulator draws.
fn frame(side: usize, x: f64, y: f64) -> impl Iterator<Item = u8> {
    let pixel = SIDE as f64 / side as f64;
    (0..side * side).flat_map(move |at| {
        let (column, row) = ((at % side) as f64 * pixel, (at / side) as f64 * pixel);
        let wall = (column - 32.0).abs() < 3.0 && (row - 20.0).abs() > 4.0;
        let dot = libm::exp(-((column - x).powi(2) + (row - y).powi(2)) / (2.0 * 1.7 * 1.7));
        let base = if wall { 0.0 } else { 255.0 };
        [base, base * (1.0 - dot), base * (1.0 - dot)].map(|v| v as u8)
    })
}

/// What the frames show.
#[derive(Clone, Copy)]
enum Picture {
    /// What the Wall simulator draws.
    Drawn,
    /// A scene with texture and noise (`scene/mod.rs`).
    Textured,
}

fn pixels(picture: Picture, index: u64, side: usize, places: &[f64]) -> Vec<u8> {
    let places = places.chunks_exact(2);
    match picture {
        Picture::Drawn => places.flat_map(|at| frame(side, at[0], at[1])).collect(),
        Picture::Textured => {
            let scene = scene::Scene::new(index);
            let windows = (0..places.len()).map(|k| ([3 * k, 2 * k], k as u32));
            windows
                .flat_map(|(at, k)| scene.frame(side, at, index as u32 * 1000 + k))
                .collect()
        }
    }
}

fn episode(index: u64, side: usize, picture: Picture) -> Episode {
    let mut random = Stream::new(1, &["bench", &index.to_string()]);
    let places: Vec<f64> = (0..2 * (LENGTH + 1))
        .map(|_| 5.0 + 55.0 * random.uniform())
        .collect();
    let values = |n: usize| Column::F32 {
        width: 2,
        values: places[..2 * n].iter().map(|&v| v as f32).collect(),
    };
    let columns = [ACTION, PROPRIO, STATE].map(|name| (name.to_string(), values(LENGTH)));
    let pixels = pixels(picture, index, side, &places);
    Episode {
        source_index: index,
        source_path: "bench".into(),
        source_hash: index.to_string(),
        task: "bench".into(),
        seed: Some(index),
        length: LENGTH,
        columns: BTreeMap::from(columns),
        cameras: vec![CameraFrames {
            camera: "top".into(),
            height: side,
            width: side,
            count: LENGTH + 1,
            pixels: Pixels::U8(pixels),
        }],
        extras: BTreeMap::new(),
    }
}

fn dataset(root: &Path, codec: Codec, work: &Work) -> Dataset {
    let Work {
        side,
        episodes,
        picture,
        ..
    } = *work;
    let manifest = ManifestDraft {
        source: Source {
            name: "wall".into(),
            ..Source::default()
        },
        fields: vec![
            Field::action(2, "pixels", "dx, dy"),
            Field::proprio(2, "pixels", "x, y"),
            Field::state(Dtype::F32, 2, "pixels", "x, y"),
        ],
        cameras: vec![Camera::new("top", side, side, PixelType::U8)],
        fps: 1.0,
        control_hz: None,
        extra_last_obs: true,
        licence: None,
        citation: None,
        notes: Vec::new(),
    };
    let options = WriterOptions {
        manifest,
        codec,
        overwrite: false,
        total_episodes: episodes,
        selection: None,
    };
    let writer = DatasetWriter::open(&root.join(codec.to_string()), options).expect("a writer");
    writer.pending().into_par_iter().for_each(|index| {
        writer
            .accept(episode(index, side, picture))
            .expect("an episode");
    });
    writer.finish(&SplitRule::JEPA_WMS).expect("a dataset")
}

/// What one group of benches reads.
struct Work {
    name: &'static str,
    picture: Picture,
    side: usize,
    episodes: u64,
    /// Slices of one batch.
    batch: usize,
    spec: SliceSpec,
    codecs: &'static [Codec],
}

/// The codecs that are exact.
const EXACT: &[Codec] = &[Codec::Lossless, Codec::Raw];

/// A training batch on Wall.
fn wall() -> Work {
    Work {
        name: "32 slices of 7 frames of 65x65",
        picture: Picture::Drawn,
        side: SIDE,
        episodes: EPISODES,
        batch: 32,
        spec: SliceSpec {
            last_block: false,
            ..SliceSpec::new(6, 5, "train")
        },
        codecs: EXACT,
    }
}

/// A training batch on the larger datasets.
fn large(name: &'static str, picture: Picture, codecs: &'static [Codec]) -> Work {
    Work {
        name,
        picture,
        side: LARGE,
        episodes: LARGE_EPISODES,
        batch: 64,
        spec: SliceSpec::new(3, 5, "train"),
        codecs,
    }
}

/// Random batches of slices, by one thread and by all of them.
fn read_slices(criterion: &mut Criterion) {
    let textured: &[Codec] = if cfg!(feature = "jpeg") {
        &[Codec::Lossless, Codec::Raw, Codec::Jpeg { quality: 90 }]
    } else {
        EXACT
    };
    let works = [
        wall(),
        large("64 slices of 4 frames of 224x224", Picture::Drawn, EXACT),
        large(
            "64 slices of 4 textured frames of 224x224",
            Picture::Textured,
            textured,
        ),
    ];
    for work in works {
        read_batches(criterion, &work);
    }
}

fn read_batches(criterion: &mut Criterion, work: &Work) {
    let folder = tempfile::tempdir().expect("a folder");
    let (spec, batch) = (&work.spec, work.batch);
    let mut group = criterion.benchmark_group(work.name);
    group.throughput(Throughput::Elements(batch as u64));
    for &codec in work.codecs {
        let dataset = dataset(folder.path(), codec, work);
        let index = dataset.slices(spec).expect("slices");
        let read = |k: usize| {
            dataset
                .read_slice(spec, index.get(k % index.len()))
                .expect("a slice")
        };
        let mut next = 0;
        group.bench_function(BenchmarkId::new("one thread", codec), |bencher| {
            bencher.iter(|| {
                next += batch;
                (next..next + batch).for_each(|k| drop(black_box(read(k))));
            });
        });
        group.bench_function(BenchmarkId::new("all threads", codec), |bencher| {
            bencher.iter(|| {
                next += batch;
                (next..next + batch)
                    .into_par_iter()
                    .for_each(|k| drop(black_box(read(k))));
            });
        });
    }
    group.finish();
}

/// Writing one episode of 51 frames: encoding, staging and the journal.
fn write_episodes(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = criterion.benchmark_group("write a dataset of 200 episodes");
    group.throughput(Throughput::Elements(EPISODES * (LENGTH as u64 + 1)));
    group.sample_size(10);
    group.bench_function("lossless", |bencher| {
        bencher.iter_with_setup(
            || drop(std::fs::remove_dir_all(folder.path().join("lossless"))),
            |()| drop(dataset(folder.path(), Codec::Lossless, &wall())),
        );
    });
    group.finish();
}

criterion_group!(benches, read_slices, write_episodes);
criterion_main!(benches);
