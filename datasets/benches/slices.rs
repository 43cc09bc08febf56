//! Reading trajectory slices in random order: 7 frames of 65x65, as a training step on Wall asks for.

use std::collections::BTreeMap;
use std::hint::black_box;

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
const SIDE: usize = 65;
/// Slices of one batch.
const BATCH: usize = 32;

/// A white room, a black wall and a round dot: what the Wall simulator draws.
fn frame(x: f64, y: f64) -> impl Iterator<Item = u8> {
    (0..SIDE * SIDE).flat_map(move |at| {
        let (column, row) = ((at % SIDE) as f64, (at / SIDE) as f64);
        let wall = (column - 32.0).abs() < 3.0 && (row - 20.0).abs() > 4.0;
        let dot = libm::exp(-((column - x).powi(2) + (row - y).powi(2)) / (2.0 * 1.7 * 1.7));
        let base = if wall { 0.0 } else { 255.0 };
        [base, base * (1.0 - dot), base * (1.0 - dot)].map(|v| v as u8)
    })
}

fn episode(index: u64) -> Episode {
    let mut random = Stream::new(1, &["bench", &index.to_string()]);
    let places: Vec<f64> = (0..2 * (LENGTH + 1))
        .map(|_| 5.0 + 55.0 * random.uniform())
        .collect();
    let values = |n: usize| Column::F32 {
        width: 2,
        values: places[..2 * n].iter().map(|&v| v as f32).collect(),
    };
    let columns = [ACTION, PROPRIO, STATE].map(|name| (name.to_string(), values(LENGTH)));
    let pixels = places
        .chunks_exact(2)
        .flat_map(|at| frame(at[0], at[1]))
        .collect();
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
            height: SIDE,
            width: SIDE,
            count: LENGTH + 1,
            pixels: Pixels::U8(pixels),
        }],
        extras: BTreeMap::new(),
    }
}

fn dataset(root: &std::path::Path, codec: Codec) -> Dataset {
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
        cameras: vec![Camera::new("top", SIDE, SIDE, PixelType::U8)],
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
        total_episodes: EPISODES,
        selection: None,
    };
    let writer = DatasetWriter::open(&root.join(codec.to_string()), options).expect("a writer");
    writer
        .pending()
        .into_par_iter()
        .for_each(|index| writer.accept(episode(index)).expect("an episode"));
    writer.finish(&SplitRule::JEPA_WMS).expect("a dataset")
}

/// Random batches of slices, by one thread and by all of them.
fn read_slices(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = SliceSpec {
        last_block: false,
        ..SliceSpec::new(6, 5, "train")
    };
    let mut group = criterion.benchmark_group("32 slices of 7 frames of 65x65");
    group.throughput(Throughput::Elements(BATCH as u64));
    for codec in [Codec::Lossless, Codec::Raw] {
        let dataset = dataset(folder.path(), codec);
        let index = dataset.slices(&spec).expect("slices");
        let read = |k: usize| {
            dataset
                .read_slice(&spec, index.get(k % index.len()))
                .expect("a slice")
        };
        let mut next = 0;
        group.bench_function(BenchmarkId::new("one thread", codec), |bencher| {
            bencher.iter(|| {
                next += BATCH;
                (next..next + BATCH).for_each(|k| drop(black_box(read(k))));
            });
        });
        group.bench_function(BenchmarkId::new("all threads", codec), |bencher| {
            bencher.iter(|| {
                next += BATCH;
                (next..next + BATCH)
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
            |()| drop(dataset(folder.path(), Codec::Lossless)),
        );
    });
    group.finish();
}

criterion_group!(benches, read_slices, write_episodes);
criterion_main!(benches);
