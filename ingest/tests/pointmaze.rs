//! `golden/point_maze.json`: the unmodified JEPA-WMs and DINO-WM loaders on `point_maze/`.

use std::collections::BTreeMap;

use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{ACTION, Dataset, PROPRIO, Pixels, STATE, SliceSpec, SplitRule};
use jepa_ingest::SourceOptions;
use serde::Deserialize;

use crate::support::slices::{check_slice, computed, grid, listed, visual};
use crate::support::torch::tensor;
use crate::support::{Arrays, close, copy, fixture, golden, ingest_with, sha256, whole};

#[derive(Deserialize)]
struct Golden {
    train: GoldenSplit,
    valid: GoldenSplit,
    stats: BTreeMap<String, Vec<f64>>,
    lengths: Vec<u64>,
    episodes: Vec<GoldenEpisode>,
    dino_wm: GoldenDinoWm,
}

#[derive(Deserialize)]
struct GoldenSplit {
    trajectory_indices: Vec<u64>,
    n_slices: usize,
    slices_pos_in_subset_start_end: Vec<[usize; 3]>,
    stored_positions: Vec<usize>,
}

#[derive(Deserialize)]
struct GoldenEpisode {
    frame_u8_sha256: Vec<String>,
}

#[derive(Deserialize)]
struct GoldenDinoWm {
    train_indices: Vec<u64>,
    valid_indices: Vec<u64>,
}

fn maze(rule: &SplitRule) -> (tempfile::TempDir, Dataset) {
    let set = whole("pointmaze", "point_maze", rule);
    (set.folder, set.dataset)
}

#[test]
fn frames_are_the_bytes_of_the_source() {
    let (_folder, dataset) = maze(&SplitRule::Released);
    let golden: Golden = golden("point_maze");
    for (episode, expected) in golden.episodes.iter().enumerate() {
        assert_eq!(dataset.episodes()[episode].length, golden.lengths[episode]);
        for (frame, hash) in expected.frame_u8_sha256.iter().enumerate() {
            let pixels = dataset
                .read_frames("top", episode as u64, &[frame])
                .unwrap();
            let Pixels::U8(values) = pixels else {
                panic!("bytes")
            };
            assert_eq!(sha256(&values), *hash, "episode {episode}, frame {frame}");
        }
    }
}

#[test]
fn rows_are_those_of_the_tables() {
    let (_folder, dataset) = maze(&SplitRule::Released);
    let arrays = Arrays::f32("point_maze");
    for episode in 0..3 {
        let rows = dataset.read_rows(episode, 0..100).unwrap();
        for (field, name) in [(ACTION, "action"), (STATE, "state")] {
            let name = format!("traj{episode}.{name}");
            close(&name, &rows[field].to_f32(), arrays.get(&name), 1e-6);
        }
        assert_eq!(rows[PROPRIO].to_f32(), rows[STATE].to_f32());
    }
    let notes = dataset.manifest().draft.notes.join("\n");
    assert!(notes.contains("`actions.pth` is of 64 bits"), "{notes}");
}

#[test]
fn statistics_equal_the_reference_loader() {
    let (_folder, dataset) = maze(&SplitRule::Released);
    let golden = golden::<Golden>("point_maze").stats;
    for (field, name) in [(ACTION, "action"), (PROPRIO, "proprio"), (STATE, "state")] {
        let stats = dataset.stats().get(field, "all").unwrap();
        for (part, found) in [("mean", &stats.mean), ("std", stats.std.as_ref().unwrap())] {
            for (found, expected) in found.iter().zip(&golden[&format!("{name}_{part}")]) {
                let near = (found - expected).abs() <= 1e-5 * expected.abs() + 1e-6;
                assert!(near, "{name} {part}: {found} is not {expected}");
            }
        }
    }
}

#[test]
fn splits_slices_and_images_equal_jepa_wms() {
    let (_folder, dataset) = maze(&SplitRule::Released);
    let (golden, arrays) = (golden::<Golden>("point_maze"), Arrays::f32("point_maze"));
    let half = Transform {
        norm: PixelNorm::HALF,
        ..Transform::released(Geometry::JepaWms)
    };
    for (name, prefix, context, expected) in [
        ("train", "train", 3, &golden.train),
        ("val", "valid", 7, &golden.valid),
    ] {
        assert_eq!(
            dataset.split(name).unwrap().episodes,
            expected.trajectory_indices
        );
        let spec = SliceSpec::new(context, 5, name);
        let found = listed(&dataset, &spec);
        assert_eq!(found.len(), expected.n_slices);
        assert_eq!(found, expected.slices_pos_in_subset_start_end);
        for &position in &expected.stored_positions {
            let prefix = format!("{prefix}_{position}");
            check_slice(
                &dataset,
                &spec,
                position,
                &computed(&dataset),
                (&arrays, &prefix),
            );
            let name = format!("{prefix}.visual224_grid");
            let images = visual(&dataset, &spec, position, &half);
            close(&name, &grid(&images), arrays.get(&name), 5e-6);
        }
    }
}

#[test]
fn splits_and_images_equal_dino_wm() {
    let (_folder, dataset) = maze(&SplitRule::DinoWm);
    let (golden, arrays) = (
        golden::<Golden>("point_maze").dino_wm,
        Arrays::f32("point_maze"),
    );
    assert_eq!(
        dataset.split("train").unwrap().episodes,
        golden.train_indices
    );
    assert_eq!(dataset.split("val").unwrap().episodes, golden.valid_indices);
    // Position 0 of the golden order, found again by its window in ours.
    let spec = SliceSpec::new(3, 5, "train");
    let state = arrays.get("dino_train_0.state");
    let index = dataset.slices(&spec).unwrap();
    let same = |k: &usize| {
        let slice = dataset.read_slice(&spec, index.get(*k)).unwrap();
        slice
            .state
            .iter()
            .map(|&v| v as f32)
            .eq(state.iter().copied())
    };
    let position = (0..index.len()).find(same).expect("the golden slice");
    check_slice(
        &dataset,
        &spec,
        position,
        &computed(&dataset),
        (&arrays, "dino_train_0"),
    );
    let images = visual(
        &dataset,
        &spec,
        position,
        &Transform::released(Geometry::DinoWm),
    );
    let name = "dino_train_0.visual224_grid";
    close(name, &grid(&images), arrays.get(name), 5e-6);
}

/// datasets.md section 16, case 44: the channels of a maze come last.
#[test]
fn frames_in_another_order_of_dimensions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("point_maze"), folder.path());
    let path = folder.path().join("obses/episode_001.pth");
    let storage = vec![7; 100 * 24 * 24 * 3];
    for (shape, wrong) in [
        ([100, 24, 24, 3], None),
        ([100, 3, 24, 24], Some("is not [frames, height, width, 3]")),
        ([24, 100, 24, 3], Some("24 frames for 100 rows")),
    ] {
        std::fs::write(&path, tensor("ByteStorage", &shape, &storage)).unwrap();
        let options = SourceOptions::default();
        let set = ingest_with("pointmaze", folder.path(), options, &SplitRule::Released).unwrap();
        let details = set.summary.broken.iter().map(|b| b.detail.as_str());
        let details: Vec<&str> = details.collect();
        assert_eq!(details.len(), usize::from(wrong.is_some()), "{details:?}");
        assert!(
            wrong.is_none_or(|text| details[0].contains(text)),
            "{details:?}"
        );
    }
}
