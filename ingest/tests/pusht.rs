//! `golden/pusht.json`: the unmodified JEPA-WMs and DINO-WM loaders on `pusht_noise/`.

use std::collections::BTreeMap;

use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{ACTION, Dataset, Normalizer, PROPRIO, Pixels, STATE, SliceSpec, SplitRule};
use serde::Deserialize;

use crate::support::slices::{check_slice, grid, listed, visual};
use crate::support::{Arrays, close, golden, sha256, whole};

#[derive(Deserialize)]
struct Golden {
    train: Part,
    valid: Part,
    stats: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Part {
    lengths: Vec<u64>,
    n_slices: usize,
    slices_traj_start_end: Vec<[usize; 3]>,
    stored_positions: Vec<usize>,
    videos: Vec<Video>,
}

#[derive(Deserialize)]
struct Video {
    rgb_sha256: Vec<String>,
}

fn pusht() -> (tempfile::TempDir, Dataset) {
    let set = whole("pusht", "pusht_noise", &SplitRule::Released);
    (set.folder, set.dataset)
}

fn released(field: &str) -> Normalizer {
    Normalizer::released("pusht", field).expect("published constants")
}

/// Golden parts by the name of their split, with the position of their first episode in the dataset.
fn parts(golden: &Golden) -> [(&str, &str, usize, &Part, u64); 2] {
    let first = golden.train.lengths.len() as u64;
    [
        ("train", "train", 3, &golden.train, 0),
        ("val", "valid", 7, &golden.valid, first),
    ]
}

#[test]
fn the_two_folders_are_the_split() {
    let (_folder, dataset) = pusht();
    let golden: Golden = golden("pusht");
    for (split, _, context, part, first) in parts(&golden) {
        let episodes = &dataset.split(split).unwrap().episodes;
        let lengths: Vec<u64> = episodes
            .iter()
            .map(|&e| dataset.episodes()[e as usize].length)
            .collect();
        assert_eq!(episodes[0], first);
        assert_eq!(lengths, part.lengths);
        let found = listed(&dataset, &SliceSpec::new(context, 5, split));
        assert_eq!(found.len(), part.n_slices);
        assert_eq!(found, part.slices_traj_start_end);
    }
}

#[test]
fn rows_are_those_of_the_reference_loader() {
    let (_folder, dataset) = pusht();
    let (golden, arrays) = (golden::<Golden>("pusht"), Arrays::f32("pusht"));
    for (_, prefix, _, part, first) in parts(&golden) {
        for (k, &length) in part.lengths.iter().enumerate() {
            let rows = dataset
                .read_rows(first + k as u64, 0..length as usize)
                .unwrap();
            for (field, name) in [
                (ACTION, "action_raw_over_100"),
                (PROPRIO, "proprio_raw"),
                (STATE, "state"),
            ] {
                let name = format!("{prefix}_traj{k}.{name}");
                assert_eq!(rows[field].to_f32(), arrays.get(&name), "{name}");
            }
        }
    }
}

/// Half of a frame's bits could be wrong and its mean still right: whole frames are compared.
#[test]
fn frames_are_decoded_to_the_bytes_of_the_reference_decoder() {
    let (_folder, dataset) = pusht();
    let golden: Golden = golden("pusht");
    for (_, _, _, part, first) in parts(&golden) {
        for (k, video) in part.videos.iter().enumerate() {
            let episode = first + k as u64;
            assert_eq!(video.rgb_sha256.len() as u64, part.lengths[k]);
            for (frame, expected) in video.rgb_sha256.iter().enumerate() {
                let pixels = dataset.read_frames("top", episode, &[frame]).unwrap();
                let Pixels::U8(values) = pixels else {
                    panic!("bytes")
                };
                assert_eq!(
                    sha256(&values),
                    *expected,
                    "episode {episode}, frame {frame}"
                );
            }
        }
    }
}

#[test]
fn slices_and_images_equal_jepa_wms() {
    let (_folder, dataset) = pusht();
    let (golden, arrays) = (golden::<Golden>("pusht"), Arrays::f32("pusht"));
    let imagenet = Transform {
        norm: PixelNorm::IMAGENET,
        ..Transform::released(Geometry::JepaWms)
    };
    for (split, prefix, context, part, _) in parts(&golden) {
        let spec = SliceSpec::new(context, 5, split);
        for &position in &part.stored_positions {
            let prefix = format!("{prefix}_{position}");
            check_slice(&dataset, &spec, position, &released, (&arrays, &prefix));
            let name = format!("{prefix}.visual224_grid");
            let images = visual(&dataset, &spec, position, &imagenet);
            close(&name, &grid(&images), arrays.get(&name), 5e-6);
        }
    }
}

#[test]
fn published_constants_are_those_of_the_reference_loader() {
    let golden = golden::<Golden>("pusht").stats;
    for (field, name) in [(ACTION, "action"), (PROPRIO, "proprio"), (STATE, "state")] {
        let normalizer = released(field);
        let near = |found: &[f64], expected: &[f64]| {
            let pairs = found.iter().zip(expected);
            found.len() == expected.len()
                && pairs
                    .clone()
                    .all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs() + 1e-9)
        };
        assert!(
            near(&normalizer.mean, &golden[&format!("{name}_mean")]),
            "{name}"
        );
        assert!(
            near(&normalizer.std, &golden[&format!("{name}_std")]),
            "{name}"
        );
    }
}
