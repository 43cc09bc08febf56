//! The dataset of `benches/compare_readers.py`, and our reader's share of that comparison.
//!
//! ```text
//! read_slices make DIR             DIR/{raw,lossless,jpeg}, and DIR/{export.h5,lerobot,export.zarr} made of them
//! read_slices read DATASET ORDER   reads the slices numbered in the text file ORDER, prints a JSON line
//! ```
//!
//! A slice is 4 frames, 5 rows apart, and the actions and proprioception of its 20 rows; slices are numbered by episode,
//! then by first row. One thread reads, and only its CPU time counts (`/proc/self/schedstat`, so Linux only).
#![expect(clippy::print_stdout, reason = "its output is a JSON line")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use jepa_datasets::export::{Format, Progress, export};
use jepa_datasets::{
    ACTION, Camera, CameraFrames, Codec, Column, Dataset, DatasetWriter, Episode, Field,
    ManifestDraft, Order, PROPRIO, PixelType, Pixels, SliceSpec, Source, SplitRule, Stream,
    WriterOptions,
};

#[path = "../benches/scene/mod.rs"]
mod scene;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const EPISODES: u64 = 40;
const LENGTH: usize = 50;
/// Pixels on each side of a frame.
const SIDE: usize = 224;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", folder] => make(Path::new(folder)),
        ["read", dataset, order] => read(Path::new(dataset), Path::new(order)),
        _ => Err("write `make DIR` or `read DATASET ORDER`".into()),
    }
}

fn make(folder: &Path) -> Result<()> {
    let codecs = [
        ("raw", Codec::Raw),
        ("lossless", Codec::Lossless),
        ("jpeg", Codec::Jpeg { quality: 90 }),
    ];
    for (name, codec) in codecs {
        let writer = DatasetWriter::open(&folder.join(name), options(codec))?;
        for index in writer.pending() {
            writer.accept(episode(index))?;
        }
        writer.finish(&SplitRule::JEPA_WMS)?;
    }
    let dataset = Dataset::open(&folder.join("raw"))?;
    let progress = Progress {
        tick: &|| (),
        stopped: &|| false,
    };
    for (name, format) in [
        ("export.h5", Format::Swm),
        ("lerobot", Format::Lerobot),
        ("export.zarr", Format::Zarr),
    ] {
        export(&dataset, format, &folder.join(name), true, &progress)?;
    }
    Ok(())
}

fn options(codec: Codec) -> WriterOptions {
    WriterOptions {
        manifest: ManifestDraft {
            source: Source {
                name: "wall".into(),
                ..Source::default()
            },
            fields: vec![
                Field::action(2, "pixels", "dx, dy"),
                Field::proprio(2, "pixels", "x, y"),
            ],
            cameras: vec![Camera::new("top", SIDE, SIDE, PixelType::U8)],
            fps: 10.0,
            control_hz: None,
            extra_last_obs: false,
            licence: None,
            citation: None,
            notes: Vec::new(),
        },
        codec,
        overwrite: true,
        total_episodes: EPISODES,
        selection: None,
    }
}

fn episode(index: u64) -> Episode {
    let mut random = Stream::new(1, &["compare", &index.to_string()]);
    let mut column = || Column::F32 {
        width: 2,
        values: (0..2 * LENGTH).map(|_| random.uniform() as f32).collect(),
    };
    let scene = scene::Scene::new(index);
    let frames = (0..LENGTH).flat_map(|k| {
        let number = index as u32 * 1000 + k as u32;
        scene.frame(SIDE, [3 * k, 2 * k], number)
    });
    Episode {
        source_index: index,
        source_path: "compare".into(),
        source_hash: index.to_string(),
        task: "compare".into(),
        seed: None,
        length: LENGTH,
        columns: BTreeMap::from([(ACTION.into(), column()), (PROPRIO.into(), column())]),
        cameras: vec![CameraFrames {
            camera: "top".into(),
            height: SIDE,
            width: SIDE,
            count: LENGTH,
            pixels: Pixels::U8(frames.collect()),
        }],
        extras: BTreeMap::new(),
    }
}

fn read(path: &Path, order: &Path) -> Result<()> {
    let dataset = Dataset::open(path)?;
    let spec = SliceSpec {
        order: Order::Sequential,
        ..SliceSpec::new(3, 5, "all")
    };
    let index = dataset.slices(&spec)?;
    let order = std::fs::read_to_string(order)?;
    let order: std::result::Result<Vec<usize>, _> =
        order.split_whitespace().map(str::parse).collect();
    let order = order?;
    let slice = |k: &usize| dataset.read_slice(&spec, index.get(*k));
    // The sums show that every reader reads the same, and fill the page cache.
    let (mut pixels, mut actions) = (0_u64, 0.0_f64);
    for k in &order {
        let slice = slice(k)?;
        let Pixels::U8(frames) = &slice.frames else {
            return Err("the frames are not bytes".into());
        };
        pixels += frames.iter().map(|&v| u64::from(v)).sum::<u64>();
        actions += slice.action[..2].iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    let before = cpu_seconds()?;
    for k in &order {
        black_box(slice(k)?);
    }
    let seconds = cpu_seconds()? - before;
    println!(
        r#"{{"slices": {}, "samples": {}, "cpu_s": {seconds}, "pixels": {pixels}, "actions": {actions}}}"#,
        index.len(),
        order.len(),
    );
    Ok(())
}

/// CPU time of this thread.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().ok_or("no CPU time")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
