//! Franka recordings: poses, images, clips, damaged files.

use std::fs;

use jepa_datasets::{ACTION, STATE};
use jepa_ingest::pose::{Pose, deltas};
use jepa_ingest::source::franka::CONTROL_HZ;
use jepa_ingest::source::window::{CLIP_FPS, FpsMode, Starts, Window};
use jepa_ingest::{Error, SourceOptions};
use serde::Deserialize;

use crate::support::{
    Arrays, RULE, cameras, close, faults, fixture, frame_hashes, golden, open, read_all, refused,
    run_to, values,
};

#[derive(Deserialize)]
struct Golden {
    probe_frame_indices: Vec<usize>,
    draws_frame_indices: Vec<Vec<usize>>,
    rows: usize,
    image_shape: [usize; 4],
    image_frame_sha256: Vec<String>,
}

const FILE: &str = "franka_custom/data/pick/liftcup_v0/run_0001/episode.h5";

fn poses(values: &[f64]) -> Vec<Pose> {
    values.as_chunks::<7>().0.to_vec()
}

#[test]
fn poses_images_and_clips_equal_the_reference() {
    let (golden, arrays): (Golden, _) = (golden("franka"), Arrays::f64("franka"));
    let source = open(
        "franka",
        &fixture("franka_custom"),
        SourceOptions::default(),
    )
    .expect("a release");
    assert_eq!(source.total(), 1);
    assert_eq!(
        source.path_of(0),
        "data/pick/liftcup_v0/run_0001/episode.h5"
    );
    let episode = source.read(0).expect("an episode");
    assert_eq!(
        (episode.length, episode.task.as_str()),
        (golden.rows, "liftcup_v0")
    );
    close(
        "state",
        &values(&episode.columns, STATE),
        arrays.get("states"),
        1e-9,
    );
    let frames = &episode.cameras[0];
    assert_eq!(frames.camera, "exterior_image_2_left");
    assert_eq!(
        [frames.count, frames.height, frames.width, 3],
        golden.image_shape
    );
    assert_eq!(
        frame_hashes(&frames.pixels, frames.height, frames.width),
        golden.image_frame_sha256
    );

    let stride = FpsMode::Reference.stride(None, CONTROL_HZ, CLIP_FPS);
    let window = Window { frames: 5, stride };
    assert_eq!(stride, 8);
    assert_eq!(
        window.rows(golden.probe_frame_indices[0]),
        golden.probe_frame_indices
    );
    let states = poses(&values(&episode.columns, STATE));
    let every: Vec<Pose> = states.iter().copied().step_by(stride).collect();
    close(
        "stride 8",
        deltas(&every).as_flattened(),
        arrays.get("actions_stride8"),
        1e-9,
    );
    for (draw, rows) in golden.draws_frame_indices.iter().enumerate() {
        assert!(
            window
                .starts(golden.rows, Starts::Reference)
                .contains(&rows[0])
        );
        assert_eq!(window.rows(rows[0]), *rows);
        let clip: Vec<Pose> = rows.iter().map(|&row| states[row]).collect();
        close(
            "clip",
            clip.as_flattened(),
            arrays.get(&format!("draw{draw}.state")),
            1e-9,
        );
        let mut steps = deltas(&clip);
        steps.push([0.0; 7]);
        close(
            "steps",
            steps.as_flattened(),
            arrays.get(&format!("draw{draw}.action")),
            1e-9,
        );
    }
    let action = values(&episode.columns, ACTION);
    close(
        "action",
        &action[..46 * 7],
        deltas(&states).as_flattened(),
        0.0,
    );
    assert_eq!(action[46 * 7..], [0.0; 7]);
}

#[test]
fn a_file_another_camera_and_another_size_may_be_asked_for() {
    let options = SourceOptions {
        size: Some([14, 24]),
        ..cameras(&["exterior_image_1_left"])
    };
    let source = open("franka", &fixture(FILE), options).expect("one file");
    assert_eq!(source.path_of(0), "episode.h5");
    let frames = source.read(0).expect("an episode").cameras.remove(0);
    assert_eq!(
        (frames.camera.as_str(), frames.height, frames.width),
        ("exterior_image_1_left", 14, 24)
    );
    let none = open("franka", &fixture(FILE), cameras(&["top"])).expect("one file");
    assert_eq!(
        none.read(0).map(|_| ()).expect_err("no camera").code(),
        "missing_key"
    );
    let two = refused("franka", &fixture(FILE), cameras(&["a", "b"]));
    assert!(matches!(two, Error::Invalid { what: "camera", .. }));
}

/// datasets.md section 16, case 29: one released file is cut short.
#[test]
fn a_file_cut_short_loses_only_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(fixture(FILE)).expect("a file");
    let copies: [(&str, &[u8]); 4] = [
        ("a", &bytes),
        ("b", &bytes[..bytes.len() * 3 / 4]),
        ("c", b"<html>404</html>"),
        ("d", b""),
    ];
    for (name, content) in copies {
        let run = folder.path().join(name).join("run_0001");
        fs::create_dir_all(&run).expect("a folder");
        fs::write(run.join("episode.h5"), content).expect("a file");
    }
    let source = open("franka", folder.path(), SourceOptions::default()).expect("a release");
    let (dataset, summary) =
        run_to(source.as_ref(), &folder.path().join("set"), &RULE).expect("a dataset");
    assert_eq!(read_all(&dataset), [0]);
    let expected = [
        ("truncated_file", 1),
        ("html_or_json_instead_of_data", 2),
        ("empty_file", 3),
    ];
    assert_eq!(faults(&summary), expected);
    assert!(
        summary.broken[0].detail.contains(&bytes.len().to_string()),
        "{}",
        summary.broken[0].detail
    );
    let clips = SourceOptions {
        frames_per_clip: Some(6),
        ..SourceOptions::default()
    };
    let short = open("franka", folder.path(), clips)
        .expect("a release")
        .read(0);
    assert_eq!(short.map(|_| ()).expect_err("47 rows").code(), "too_short");
}
