//! NumPy archives: `golden/npz.json`, bad case 34.

use std::path::Path;

use jepa_datasets::{ACTION, PROPRIO, Pixels, STATE, SplitRule};
use jepa_ingest::container::npy::Npz;
use jepa_ingest::source::npz::NpzSource;
use jepa_ingest::{SourceOptions, source};
use serde_json::Value;

use crate::support::bad::bad_case;
use crate::support::{Golden, close, fixture, json, list, run, sha256, wide};

#[test]
fn arrays_of_every_type_and_order_are_read() {
    let golden = json("golden/npz.json");
    for (name, arrays) in golden["files"].as_object().expect("files") {
        let file = Npz::open(&fixture("npz").join(name)).expect("an archive");
        let arrays = arrays.as_object().expect("arrays");
        let mut expected: Vec<&str> = arrays.keys().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(file.names().collect::<Vec<_>>(), expected);
        for (array, expected) in arrays {
            let found = file.array(array).expect("an array");
            let shape: Vec<usize> = list(&expected["shape"]);
            assert_eq!(found.shape(), shape, "{name}, {array}");
            assert_eq!(
                found.is_fortran_order(),
                expected["fortran_order"] == Value::Bool(true)
            );
            let tensor = found.tensor().expect("values");
            let bytes = tensor.to_le_bytes();
            assert_eq!(
                expected["c_order_le_sha256"],
                sha256(&bytes),
                "{name}, {array}"
            );
            let first: Vec<f64> = list(&expected["first"]);
            let values = tensor.to_f64();
            close(array, &values[..first.len()], &first, 1e-12);
            let narrow = wide(&tensor.to_f32());
            close(array, &narrow[..first.len()], &first, 1e-6);
        }
    }
}

fn open(name: &str, compat_poses: bool) -> NpzSource {
    let path = fixture("npz").join(name);
    let options = SourceOptions {
        compat_poses,
        ..SourceOptions::default()
    };
    NpzSource::open(&path, options).expect("a sample")
}

#[test]
fn the_sample_of_v_jepa_2_is_two_frames_and_one_action() {
    let source = open("franka_example_traj.npz", false);
    let set = run(&source, &SplitRule::JEPA_WMS).expect("a dataset");
    set.check();
    let golden = Golden::open("golden/npz.npz");
    let file = Golden::open("npz/franka_example_traj.npz");
    let rows = set.dataset.read_rows(0, 0..2).expect("rows");
    assert_eq!(rows[STATE].to_f32(), file.f32("states"));
    assert_eq!(rows[PROPRIO], rows[STATE]);
    let expected = &golden.f64("demo_data.actions_from_poses_0_3")[..7];
    let action = rows[ACTION].to_f64();
    close("action", &action[..7], expected, 1e-6);
    assert_eq!(action[7..], [0.0; 7]);
    let frames = set
        .dataset
        .read_frames("exterior", 0, &[0, 1])
        .expect("frames");
    let observations =
        json("golden/npz.json")["files"]["franka_example_traj.npz"]["observations"].clone();
    assert_eq!(observations["c_order_le_sha256"], sha256(&frames.into_u8()));
}

#[test]
fn the_sample_of_jepa_wms_has_the_poses_of_its_images() {
    let source = open("demo_data.npz", false);
    let set = run(&source, &SplitRule::JEPA_WMS).expect("a dataset");
    set.check();
    let golden = Golden::open("golden/npz.npz");
    let file = Golden::open("npz/demo_data.npz");
    let poses = file.f32("poses_sequence");
    let rows = set.dataset.read_rows(0, 0..4).expect("rows");
    assert_eq!(rows[STATE].to_f32(), poses[..28]);
    let action = rows[ACTION].to_f64();
    close(
        "action",
        &action[..21],
        &golden.f64("demo_data.actions_from_poses_0_3"),
        1e-6,
    );
    close("action", &action[..21], &file.f64("actions"), 1e-6);
    // A pose follows the last image, so the last action is known.
    let moved = f64::from(poses[28]) - f64::from(poses[21]);
    close("last action", &action[21..22], &[moved], 1e-6);
    let goal = file.f64("goal_pose");
    for (k, value) in goal.iter().enumerate() {
        assert_eq!(
            set.dataset.episodes()[0].extras[&format!("goal_pose_{k}")],
            *value
        );
    }
    let Pixels::U8(first) = set
        .dataset
        .read_frames("exterior", 0, &[0])
        .expect("a frame")
    else {
        panic!("bytes")
    };
    let start = json("golden/npz.json")["files"]["demo_data.npz"]["start_image"].clone();
    assert_eq!(start["c_order_le_sha256"], sha256(&first));
}

#[test]
fn poses_are_a_straight_line_only_when_asked() {
    let source = open("demo_data.npz", true);
    let set = run(&source, &SplitRule::JEPA_WMS).expect("a dataset");
    let golden = Golden::open("golden/npz.npz");
    let rows = set.dataset.read_rows(0, 0..4).expect("rows");
    let line = golden.f64("demo_data.compat_proprio_linear");
    close("pose", &rows[PROPRIO].to_f64(), &line, 1e-6);
    let action = rows[ACTION].to_f64();
    close(
        "action",
        &action[..21],
        &golden.f64("demo_data.compat_actions"),
        1e-6,
    );
    assert_eq!(action[21..], [0.0; 7]);
}

#[test]
fn a_folder_is_every_archive_in_it_and_others_are_reported() {
    let source = source::open("npz", &fixture("npz"), SourceOptions::default()).expect("a folder");
    let set = run(source.as_ref(), &SplitRule::JEPA_WMS).expect("a dataset");
    assert_eq!(set.kept(), [0, 1]);
    assert_eq!(
        set.rejected(),
        [("missing_key".to_string(), "dtypes.npz".to_string())]
    );
}

/// Case 34, file by file.
#[test]
fn damaged_and_hostile_archives_are_refused() {
    let (root, case) = bad_case(34);
    for (name, expected) in case["files"].as_object().expect("files") {
        let path = root.join(name);
        let refused = source::open("npz", &path, SourceOptions::default()).map(|_| ());
        let error = refused.expect_err(name);
        let kind = match expected["errors"][0]["kind"].as_str().expect("a kind") {
            "length_mismatch" => "length_out_of_range",
            kind => kind,
        };
        assert_eq!(error.code(), kind, "{name}: {error}");
        assert!(error.to_string().contains(name.as_str()), "{error}");
    }
    for name in list::<String>(&case["must_not_exist"]) {
        assert!(
            !Path::new(&name).exists() && !root.join(&name).exists(),
            "{name}"
        );
    }
    assert!(!root.join("../../evil.npy").exists());
}
