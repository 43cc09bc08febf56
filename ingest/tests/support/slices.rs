//! Slices and images beside those of the reference loaders.

use jepa_datasets::transform::Transform;
use jepa_datasets::{ACTION, Dataset, Normalizer, PROPRIO, SliceSpec};

use super::{Arrays, close};

/// Slices of a split as `[position in the split, start, end]`.
pub(crate) fn listed(dataset: &Dataset, spec: &SliceSpec) -> Vec<[usize; 3]> {
    let split = &dataset.split(&spec.split).expect("a split").episodes;
    let index = dataset.slices(spec).expect("slices");
    let of_split = |episode| split.iter().position(|&e| e == episode);
    (0..index.len())
        .map(|k| {
            let at = index.get(k);
            let position = of_split(at.episode).expect("an episode of the split");
            [position, at.start, at.start + spec.rows()]
        })
        .collect()
}

/// The normalizers of a dataset, over all of its rows.
pub(crate) fn computed(dataset: &Dataset) -> impl Fn(&str) -> Normalizer {
    |field| {
        let stats = dataset.stats().get(field, "all").expect("statistics");
        Normalizer::from_statistics(stats)
    }
}

/// A slice of a split as the reference loaders return it: action and proprio normalised.
#[track_caller]
pub(crate) fn check_slice(
    dataset: &Dataset,
    spec: &SliceSpec,
    position: usize,
    normalizer: &dyn Fn(&str) -> Normalizer,
    (arrays, prefix): (&Arrays<f32>, &str),
) {
    let index = dataset.slices(spec).expect("slices");
    let slice = dataset.read_slice(spec, index.get(position));
    let slice = slice.expect("a slice");
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
    let name = format!("{prefix}.reward");
    if arrays.contains(&name) {
        assert_eq!(slice.reward, arrays.get(&name), "{name}");
    }
}

/// A slice's frames under a transform, `[n, 3, S, S]`.
pub(crate) fn visual(
    dataset: &Dataset,
    spec: &SliceSpec,
    position: usize,
    transform: &Transform,
) -> Vec<f32> {
    let index = dataset.slices(spec).expect("slices");
    let slice = dataset.read_slice(spec, index.get(position));
    let slice = slice.expect("a slice");
    transform.apply(&slice.frames.into_f32(), slice.height, slice.width)
}

/// Rows and columns of the 224-pixel images that are stored.
const GRID: [usize; 6] = [0, 31, 64, 111, 160, 223];

/// The stored pixels of images of 224 pixels.
pub(crate) fn grid(visual: &[f32]) -> Vec<f32> {
    let pixels = |plane: &[f32]| {
        GRID.iter()
            .flat_map(|y| GRID.iter().map(move |x| y * 224 + x))
            .map(|at| plane[at])
            .collect::<Vec<f32>>()
    };
    visual
        .chunks_exact(224 * 224)
        .map(pixels)
        .collect::<Vec<_>>()
        .concat()
}
