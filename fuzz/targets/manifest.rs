//! Datasets: byte 0 chooses a file of a finished dataset, the rest is put in its place with the right hash. Its
//! highest bit says whether the dataset is read or checked.

#![no_main]

use std::sync::LazyLock;

use jepa_bench_fuzz::allow_caught_panics;
use jepa_bench_fuzz::dataset::Base;
use jepa_datasets::{Dataset, Order, SliceSpec, conformance};
use libfuzzer_sys::fuzz_target;

static BASE: LazyLock<Base> = LazyLock::new(Base::new);

fuzz_target!(init: allow_caught_panics(), |input: &[u8]| {
    let Some((&choice, content)) = input.split_first() else {
        return;
    };
    let name = BASE.replace(choice & 0x7f, content);
    if choice > 0x7f {
        let _ = conformance::validate(BASE.root(), &|| ());
    } else if let Ok(dataset) = Dataset::open(BASE.root()) {
        read(&dataset);
    }
    BASE.restore(&name);
});

fn read(dataset: &Dataset) {
    let _ = dataset.ledger();
    for episode in dataset.episodes().iter().take(3) {
        let length = episode.length as usize;
        let _ = dataset.read_rows(episode.episode_index, 0..length.min(3000));
        for camera in episode.frames.keys() {
            let _ = dataset.read_frames(camera, episode.episode_index, &[0, length.max(1) - 1]);
        }
    }
    for split in ["train", "val", "all"] {
        let mut spec = SliceSpec::new(3, 2, split);
        spec.order = Order::Sequential;
        let Ok(slices) = dataset.slices(&spec) else {
            continue;
        };
        let _ = slices.dropped();
        if !slices.is_empty() {
            let _ = dataset.read_slice(&spec, slices.get(0));
        }
    }
}
