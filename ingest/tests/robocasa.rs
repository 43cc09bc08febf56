//! Robocasa: demos, proprioception, images, segments, damaged files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{ACTION, Column, PROPRIO, Pixels, REWARD, STATE, SliceSpec, SplitRule};
use jepa_ingest::pose::{Pose, deltas};
use jepa_ingest::source::robocasa::subtask_rows;
use jepa_ingest::{Error, SourceOptions};
use serde::Deserialize;

use crate::support::bad_hdf5::case;
use crate::support::{
    Arrays, RULE, cameras, close, faults, fixture, frame_hashes, golden, open, read_all, refused,
    run_to, values,
};

#[derive(Deserialize)]
struct Golden {
    demo_order: Vec<String>,
    lengths: Vec<usize>,
    valid: GoldenSplit,
    stored_positions: Vec<usize>,
    subtask_rows_or_error: BTreeMap<String, serde_json::Value>,
    image_frame_sha256_leftview: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct GoldenSplit {
    trajectory_indices: Vec<u64>,
    n_slices: usize,
    slices_pos_in_subset_start_end: Vec<[usize; 3]>,
}

fn compat() -> SourceOptions {
    SourceOptions {
        compat_quaternion: true,
        ..SourceOptions::default()
    }
}

#[test]
fn demos_are_read_in_the_order_of_their_numbers() {
    let (golden, arrays): (Golden, _) = (golden("robocasa"), Arrays::f64("robocasa"));
    let right =
        open("robocasa", &fixture("robocasa"), SourceOptions::default()).expect("a release");
    let wrong = open("robocasa", &fixture("robocasa"), compat()).expect("a release");
    assert_eq!(right.total(), 3);
    for (index, (name, length)) in golden.demo_order.iter().zip(&golden.lengths).enumerate() {
        let index = index as u64;
        let episode = right.read(index).expect("an episode");
        assert_eq!(
            right.path_of(index),
            format!("combine_all_im256.hdf5/data/{name}")
        );
        assert_eq!(episode.length, *length);
        let action = values(&episode.columns, ACTION);
        close(
            "action",
            &action,
            arrays.get(&format!("{name}.actions7")),
            1e-6,
        );
        let proprio = values(&episode.columns, PROPRIO);
        close(
            "proprio",
            &proprio,
            arrays.get(&format!("{name}.proprio_xyzw")),
            1e-6,
        );
        let proprio = values(&wrong.read(index).expect("an episode").columns, PROPRIO);
        close(
            "compat",
            &proprio,
            arrays.get(&format!("{name}.proprio_compat")),
            1e-6,
        );
        let Some(Column::F64 { width: 12, values }) = episode.columns.get("action_full") else {
            panic!("the whole action")
        };
        let first: Vec<f64> = values
            .chunks(12)
            .flat_map(|row| row[..7].to_vec())
            .collect();
        close(
            "whole",
            &first,
            arrays.get(&format!("{name}.actions7")),
            0.0,
        );
        let frames = &episode.cameras[0];
        assert_eq!(frames.camera, "robot0_leftview");
        let hashes = frame_hashes(&frames.pixels, frames.height, frames.width);
        assert_eq!(hashes, golden.image_frame_sha256_leftview[name]);
    }
    let manifest = right.manifest();
    assert_eq!((manifest.fps, manifest.control_hz), (20.0, Some(20.0)));
    assert!(
        manifest
            .notes
            .iter()
            .any(|note| note.contains("robot0_leftview"))
    );
    assert!(manifest.source.inputs["combine_all_im256.hdf5"].starts_with("sha256:"));
}

#[test]
fn segments_give_the_rows_of_every_subtask() {
    let golden: Golden = golden("robocasa");
    let source =
        open("robocasa", &fixture("robocasa"), SourceOptions::default()).expect("a release");
    for (name, expected) in &golden.subtask_rows_or_error {
        let (demo, subtask) = name.split_once('/').expect("demo and subtask");
        let index = golden
            .demo_order
            .iter()
            .position(|other| other == demo)
            .expect("a demo");
        let episode = source.read(index as u64).expect("an episode");
        let Column::I64(segments) = &episode.columns["segment"] else {
            panic!("integers")
        };
        let rows = subtask_rows(segments, subtask).map(|rows| rows.len() as u64);
        assert_eq!(rows, expected.as_u64(), "{name}");
    }
}

#[test]
fn slices_equal_the_reference() {
    let (golden, arrays): (Golden, _) = (golden("robocasa"), Arrays::f64("robocasa"));
    let source = open("robocasa", &fixture("robocasa"), compat()).expect("a release");
    let folder = tempfile::tempdir().expect("a folder");
    let rule = SplitRule::JepaWms {
        fraction: 0.0,
        seed: 234,
    };
    let (dataset, _) =
        run_to(source.as_ref(), &folder.path().join("set"), &rule).expect("a dataset");
    let split = &dataset.split("val").expect("a split").episodes;
    assert_eq!(*split, golden.valid.trajectory_indices);
    let spec = SliceSpec::new(3, 5, "val");
    let index = dataset.slices(&spec).expect("slices");
    assert_eq!(index.len(), golden.valid.n_slices);
    let listed = (0..index.len()).map(|k| {
        let at = index.get(k);
        let position = split
            .iter()
            .position(|&e| e == at.episode)
            .expect("an episode");
        [position, at.start, at.start + spec.rows()]
    });
    assert_eq!(
        listed.collect::<Vec<_>>(),
        golden.valid.slices_pos_in_subset_start_end
    );
    for position in golden.stored_positions {
        let slice = dataset
            .read_slice(&spec, index.get(position))
            .expect("a slice");
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let expected = |field: &str| arrays.get(&format!("valid_{position}.{field}"));
        close("action", &wide(&slice.action), expected("action"), 1e-6);
        close("proprio", &wide(&slice.proprio), expected("proprio"), 1e-6);
        close("reward", &wide(&slice.reward), expected("reward"), 1e-6);
    }
}

#[test]
fn images_of_right_cameras_are_turned() {
    let (golden, arrays): (Golden, _) = (golden("robocasa"), Arrays::f64("robocasa"));
    let [position, start, _] = golden.valid.slices_pos_in_subset_start_end[0];
    let transform = Transform {
        size: 32,
        norm: PixelNorm::IMAGENET,
        ..Transform::released(Geometry::JepaWms)
    };
    for (camera, name) in [
        ("robot0_leftview", "valid_0.visual32"),
        ("robot0_rightview_image", "valid_0_rightview.visual32"),
    ] {
        let source = open("robocasa", &fixture("robocasa"), cameras(&[camera])).expect("a release");
        let episode = source
            .read(golden.valid.trajectory_indices[position])
            .expect("an episode");
        let frames = &episode.cameras[0];
        let Pixels::U8(pixels) = &frames.pixels else {
            panic!("bytes")
        };
        let size = frames.height * frames.width * 3;
        let rows = (0..4).map(|k| start + 5 * k);
        let clip: Vec<f32> = rows
            .flat_map(|row| &pixels[row * size..(row + 1) * size])
            .map(|&v| f32::from(v))
            .collect();
        let found: Vec<f64> = transform
            .apply(&clip, frames.height, frames.width)
            .into_iter()
            .map(f64::from)
            .collect();
        close(camera, &found, arrays.get(name), 1e-5);
    }
}

/// datasets.md section 11.2: the steps that a DROID model is given, from the wrong Euler angles.
#[test]
fn steps_of_the_reference_come_from_its_wrong_angles() {
    let arrays = Arrays::f64("robocasa");
    let proprio: &[Pose] = arrays.get("demo_1.proprio_compat").as_chunks().0;
    close(
        "steps",
        deltas(proprio).as_flattened(),
        arrays.get("demo0.droid_deltas_compat_quat"),
        1e-9,
    );
}

#[test]
fn a_web_page_is_no_release() {
    let case = case(31);
    let folder = fixture("bad").join(&case.dir);
    for src in [folder.clone(), folder.join(&case.errors[0].file)] {
        let error = refused("robocasa", &src, SourceOptions::default());
        assert_eq!(error.code(), case.errors[0].kind);
        assert!(error.to_string().contains(&case.errors[0].file), "{error}");
    }
}

#[test]
fn bad_demos_lose_only_themselves() {
    let case = case(32);
    let source = open(
        "robocasa",
        &fixture("bad").join(&case.dir),
        SourceOptions::default(),
    );
    let source = source.expect("a release");
    let folder = tempfile::tempdir().expect("a folder");
    let (dataset, summary) =
        run_to(source.as_ref(), &folder.path().join("set"), &RULE).expect("a dataset");
    let name = |index: u64| {
        let path = source.path_of(index);
        path.rsplit('/').next().map(str::to_string)
    };
    let ingested: Vec<_> = read_all(&dataset).into_iter().map(name).collect();
    assert_eq!(
        serde_json::json!(ingested),
        serde_json::json!(case.ingested)
    );
    for (broken, error) in summary.broken.iter().zip(&case.errors) {
        assert_eq!(broken.code, error.kind);
        assert_eq!(serde_json::json!(name(broken.episode)), error.episode);
        assert!(
            error
                .key
                .as_ref()
                .is_none_or(|key| broken.detail.contains(key)),
            "{}",
            broken.detail
        );
    }
    assert_eq!(
        faults(&summary),
        [("count_mismatch", 1), ("missing_key", 2)]
    );
    assert!(summary.broken[0].detail.contains('9') && summary.broken[0].detail.contains("12"));
    // These demos have no segments: nothing is made up for them.
    assert!(dataset.manifest().field("segment").is_none());
    assert!(dataset.manifest().field(REWARD).is_some());
}

#[test]
fn a_file_beside_others_that_cannot_be_opened_is_one_broken_episode() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |name: &str| {
        std::fs::copy(
            fixture("robocasa/combine_all_im256.hdf5"),
            folder.path().join(name),
        )
    };
    copy("b_im256.hdf5").expect("a copy");
    std::fs::write(folder.path().join("a_im256.hdf5"), b"<html></html>").expect("a page");
    let source = open("robocasa", folder.path(), SourceOptions::default()).expect("a release");
    assert_eq!(source.total(), 4);
    assert_eq!(source.path_of(0), "a_im256.hdf5");
    let error = source.read(0).map(|_| ()).expect_err("a page");
    assert!(matches!(error, Error::WebPage { .. }));
    assert_eq!(source.read(1).expect("an episode").length, 34);
}

#[test]
fn masks_and_instructions_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("masked.hdf5");
    std::fs::copy(fixture("robocasa/combine_all_im256.hdf5"), &path).expect("a copy");
    let file = hdf5::File::open_rw(&path).expect("a file");
    let mask = file.create_group("mask").expect("a group");
    let names = ["demo_1", "demo_10"]
        .map(|name| hdf5::types::FixedAscii::<8>::from_ascii(name).expect("a name"));
    mask.new_dataset_builder()
        .with_data(&names)
        .create("train")
        .expect("a mask");
    file.close().expect("closed");
    let source = open("robocasa", &path, SourceOptions::default()).expect("a release");
    let members: Vec<f64> = (0..3)
        .map(|index| source.read(index).expect("an episode").extras["mask.train"])
        .collect();
    assert_eq!(members, [1.0, 0.0, 1.0]);
    assert!(
        source
            .manifest()
            .notes
            .iter()
            .any(|note| note.contains("mask `train` has 2 demos"))
    );
    let numbers: Vec<f64> = (0..3)
        .map(|index| source.read(index).expect("an episode").extras["demo"])
        .collect();
    assert_eq!(numbers, [1.0, 2.0, 10.0]);
}

fn states() -> SourceOptions {
    SourceOptions {
        simulator_states: true,
        ..SourceOptions::default()
    }
}

/// The fixture with other states in some of its demos: as wide as given, none of no width.
fn with_states(folder: &Path, demos: &[(&str, usize)]) -> PathBuf {
    let path = folder.join("some.hdf5");
    std::fs::copy(fixture("robocasa/combine_all_im256.hdf5"), &path).expect("a copy");
    let file = hdf5::File::open_rw(&path).expect("a file");
    for &(demo, width) in demos {
        let group = file.group(&format!("data/{demo}")).expect("a demo");
        let rows = group.dataset("states").expect("states").shape()[0];
        group.unlink("states").expect("unlinked");
        if width > 0 {
            let states = group.new_dataset::<f64>().shape((rows, width));
            let states = states.create("states").expect("states");
            let values: Vec<f64> = (0..rows * width).map(|k| 0.25 * k as f64).collect();
            states.write_raw(&values).expect("written");
        }
    }
    file.close().expect("closed");
    path
}

/// The states of a demo as they are in a file.
fn stored(path: &Path, demo: &str) -> (usize, Column) {
    let file = hdf5::File::open(path).expect("a file");
    let states = file
        .dataset(&format!("data/{demo}/states"))
        .expect("states");
    let [rows, width] = states.shape()[..] else {
        panic!("rows")
    };
    let values = states.read_raw::<f64>().expect("numbers");
    (rows, Column::F64 { width, values })
}

const DEMOS: [&str; 3] = ["demo_1", "demo_2", "demo_10"];

/// datasets.md section 11.2: states of the simulator only when they are asked for.
#[test]
fn simulator_states_are_kept_when_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = with_states(folder.path(), &[("demo_2", 50), ("demo_10", 50)]);
    let without = open("robocasa", &path, SourceOptions::default()).expect("a release");
    assert!(without.manifest().fields.iter().all(|f| f.name != STATE));
    let episode = without.read(0).expect("an episode");
    assert!(!episode.columns.contains_key(STATE));

    let source = open("robocasa", &path, states()).expect("a release");
    let (dataset, summary) =
        run_to(source.as_ref(), &folder.path().join("set"), &RULE).expect("a dataset");
    assert!(summary.broken.is_empty());
    assert_eq!(dataset.manifest().state_width, 50);
    for (episode, demo) in DEMOS.into_iter().enumerate() {
        let (rows, expected) = stored(&path, demo);
        let columns = dataset.read_rows(episode as u64, 0..rows).expect("rows");
        assert_eq!(columns[STATE], expected, "{demo}");
    }
    let notes = &dataset.manifest().draft.notes;
    let is_said = |words: &str| notes.iter().any(|note| note.contains(words));
    assert!(is_said("those of the simulator") && !is_said("left out"));
}

#[test]
fn states_of_several_widths_are_refused_with_their_episodes() {
    let path = fixture("robocasa/combine_all_im256.hdf5");
    let error = refused("robocasa", &path, states());
    let text = error.to_string();
    let listed = "50 in 0..1, 57 in 1..2, 64 in 2..3";
    assert!(
        text.contains(listed) && text.contains("--episodes A..B"),
        "{text}"
    );
    // Episodes of one width are read.
    for (index, demo) in (0..).zip(DEMOS) {
        let options = SourceOptions {
            episodes: Some(index..index + 1),
            ..states()
        };
        let source = open("robocasa", &path, options).expect("a release");
        let episode = source.read(index).expect("an episode");
        assert_eq!(episode.columns[STATE], stored(&path, demo).1, "{demo}");
        // One that was not asked for is not made to fit.
        let other = source.read((index + 1) % 3);
        assert!(matches!(other, Err(Error::Count { .. })), "{demo}");
    }
}

#[test]
fn demos_without_simulator_states_are_rejected_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = with_states(folder.path(), &[("demo_2", 0), ("demo_10", 50)]);
    let source = open("robocasa", &path, states()).expect("a release");
    let missing = source.read(1).unwrap_err();
    assert!(missing.to_string().contains("states"), "{missing}");
    assert_eq!(missing.code(), "missing_key");
    assert!(source.read(0).is_ok());
    let options = SourceOptions {
        episodes: Some(1..2),
        ..states()
    };
    let error = refused("robocasa", &path, options);
    assert!(error.to_string().contains("states"), "{error}");
}

#[test]
fn a_demo_without_segments_is_kept_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("some.hdf5");
    std::fs::copy(fixture("robocasa/combine_all_im256.hdf5"), &path).expect("a copy");
    let file = hdf5::File::open_rw(&path).expect("a file");
    let info = file.group("data/demo_2/meta_data_info").expect("a group");
    info.unlink("current_task_segment").expect("unlinked");
    drop(info);
    file.close().expect("closed");
    let source = open("robocasa", &path, SourceOptions::default()).expect("a release");
    let segments = |index: u64| source.read(index).expect("an episode").columns["segment"].clone();
    assert_eq!(segments(1), Column::I64(vec![-1; 41]));
    assert_ne!(segments(0), Column::I64(vec![-1; 34]));
}
