//! DROID: lists, poses, recordings, clips.

use std::fs;
use std::path::{Path, PathBuf};

use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{ACTION, Dtype, PROPRIO, Pixels, STATE};
use jepa_ingest::pose::{Pose, deltas, in_camera_frame};
use jepa_ingest::source::droid::CONTROL_HZ;
use jepa_ingest::source::window::{CLIP_FPS, FpsMode, Starts, Window};
use jepa_ingest::{Error, Source, SourceOptions};
use serde::Deserialize;

use crate::support::bad_hdf5::{Case, case};
use crate::support::{
    Arrays, RULE, cameras, close, faults, fixture, frame_hashes, golden, open, read_all, refused,
    run_to, values,
};

#[derive(Deserialize)]
struct Golden {
    episodes: Vec<GoldenEpisode>,
    jepa_wms: Items,
}

#[derive(Deserialize)]
struct GoldenEpisode {
    path: String,
    rows: usize,
    views: std::collections::BTreeMap<String, GoldenView>,
}

#[derive(Deserialize)]
struct GoldenView {
    #[serde(default)]
    missing: bool,
    avg_fps: Option<f64>,
    #[serde(default)]
    frames: usize,
    #[serde(default)]
    stride_reference_fps4: usize,
    #[serde(default)]
    stride_control_hz15_fps4: usize,
    reference_starts_4: Option<[usize; 2]>,
    reference_starts_8: Option<[usize; 2]>,
    video: Option<GoldenVideo>,
}

#[derive(Deserialize)]
struct GoldenVideo {
    height: Option<usize>,
    width: Option<usize>,
    rgb_sha256: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Items {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    key: Option<String>,
    served: usize,
    frame_indices: Vec<usize>,
}

/// A list of the fixtures with the place that they lie at.
fn list(folder: &Path, name: &str) -> PathBuf {
    let root = fs::canonicalize(fixture("")).expect("fixtures");
    let listed = fs::read_to_string(fixture(name)).expect("a list");
    let at = if name.starts_with("DROID") {
        root.join("DROID")
    } else {
        root
    };
    let path = folder.join("list.csv");
    let text = listed.replace("@ROOT@", &at.to_string_lossy());
    fs::write(&path, text).expect("a list");
    path
}

fn release(options: SourceOptions) -> (tempfile::TempDir, Box<dyn Source>) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = open(
        "droid",
        &list(folder.path(), "DROID/droid_paths.csv"),
        options,
    );
    (folder, source.expect("a release"))
}

/// One recording has smaller frames than the others.
fn small() -> SourceOptions {
    SourceOptions {
        size: Some([90, 160]),
        ..SourceOptions::default()
    }
}

fn folder_of(episode: &GoldenEpisode) -> PathBuf {
    fixture("DROID").join(episode.path.trim_start_matches("@ROOT@/"))
}

fn poses(values: &[f64]) -> Vec<Pose> {
    values.as_chunks::<7>().0.to_vec()
}

#[test]
fn poses_and_steps_equal_the_reference_to_64_bits() {
    let arrays = Arrays::f64("droid");
    let (_folder, source) = release(small());
    assert!(
        source
            .manifest()
            .fields
            .iter()
            .all(|field| field.dtype == Dtype::F64)
    );
    for (index, length) in [(0, 124), (1, 66), (2, 64)] {
        let episode = source.read(index).expect("an episode");
        assert_eq!(episode.length, length);
        let states = &arrays.get(&format!("ep{index}.states"))[..length * 7];
        let steps = &arrays.get(&format!("ep{index}.actions_stride1"))[..(length - 1) * 7];
        close("state", &values(&episode.columns, STATE), states, 1e-9);
        close("proprio", &values(&episode.columns, PROPRIO), states, 1e-9);
        let action = values(&episode.columns, ACTION);
        close("action", &action[..steps.len()], steps, 1e-9);
        assert_eq!(
            action[steps.len()..],
            [0.0; 7],
            "the last row leads nowhere"
        );
    }
}

#[test]
fn steps_between_sampled_rows_equal_the_reference() {
    let arrays = Arrays::f64("droid");
    for episode in 0..3 {
        let states = poses(arrays.get(&format!("ep{episode}.states")));
        let sampled: Vec<Pose> = states.into_iter().step_by(15).collect();
        let expected = arrays.get(&format!("ep{episode}.actions_stride15"));
        close("stride 15", deltas(&sampled).as_flattened(), expected, 1e-9);
    }
}

#[test]
fn decoded_frames_equal_the_reference() {
    let golden: Golden = golden("droid");
    for (index, episode) in golden.episodes.iter().enumerate().take(3) {
        let video = episode.views["left_mp4_path"]
            .video
            .as_ref()
            .expect("a recording");
        let source =
            open("droid", &folder_of(episode), SourceOptions::default()).expect("one episode");
        assert_eq!(source.total(), 1);
        let found = source.read(0).expect("an episode");
        let frames = &found.cameras[0];
        assert_eq!(frames.camera, "left");
        assert_eq!(
            (Some(frames.height), Some(frames.width)),
            (video.height, video.width)
        );
        let hashes = frame_hashes(&frames.pixels, frames.height, frames.width);
        assert_eq!(Some(&hashes), video.rgb_sha256.as_ref(), "episode {index}");
        let camera = &source.manifest().cameras[0];
        assert_eq!((camera.height, camera.width), (frames.height, frames.width));
    }
}

/// The strip of cells on the top left of every fixture frame is its number, highest bit first.
fn marker(pixels: &[u8], width: usize) -> usize {
    let side = (width / 16).max(4) & !1;
    let bit =
        |cell: usize| usize::from(pixels[(side / 2 * width + cell * side + side / 2) * 3] > 127);
    (0..8).fold(0, |number, cell| number << 1 | bit(cell))
}

#[test]
fn frame_and_row_have_the_same_number_in_every_view() {
    let (_folder, source) = release(SourceOptions {
        cameras: ["wrist", "left", "right_mp4_path"].map(String::from).into(),
        ..SourceOptions::default()
    });
    let names: Vec<&str> = source
        .manifest()
        .cameras
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["wrist", "left", "right"]);
    for index in [0, 1] {
        let episode = source.read(index).expect("an episode");
        for frames in &episode.cameras {
            let Pixels::U8(pixels) = &frames.pixels else {
                panic!("bytes")
            };
            assert_eq!(frames.count, episode.length);
            let each = pixels.chunks_exact(frames.height * frames.width * 3);
            let numbers: Vec<usize> = each.map(|frame| marker(frame, frames.width)).collect();
            let expected: Vec<usize> = (0..episode.length).collect();
            assert_eq!(numbers, expected, "episode {index}, {}", frames.camera);
        }
        let extras = |key: &str| episode.extras.get(key).copied();
        let rows = if index == 0 { 124.0 } else { 67.0 };
        assert_eq!(extras("rows_in_file"), Some(rows));
        assert_eq!(extras("frames_in_file.wrist"), Some(episode.length as f64));
        assert_eq!(extras("container_fps"), Some(60.0));
        assert_eq!(extras("stride"), Some(15.0));
        assert_eq!(extras("success"), Some(1.0));
        assert!(episode.task.starts_with("Move object"));
    }
}

/// Metadata as Python's `json` writes them where the calibration of a camera failed.
#[test]
fn numbers_that_are_not_finite_in_the_metadata_cost_no_episode() {
    let golden: Golden = golden("droid");
    let from = folder_of(&golden.episodes[0]);
    let root = tempfile::tempdir().expect("a folder");
    let to = root.path().join(from.file_name().expect("a name"));
    let videos = to.join("recordings/MP4");
    fs::create_dir_all(&videos).expect("a folder");
    fs::copy(from.join("trajectory.h5"), to.join("trajectory.h5")).expect("a copy");
    for video in fs::read_dir(from.join("recordings/MP4")).expect("recordings") {
        let video = video.expect("a file");
        fs::copy(video.path(), videos.join(video.file_name())).expect("a copy");
    }
    let is_metadata = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
    let mut files = fs::read_dir(&from)
        .expect("a folder")
        .map(|file| file.expect("a file").path());
    let metadata = files.find(is_metadata).expect("metadata");
    let text = fs::read_to_string(&metadata).expect("metadata");
    let (before, after) = text
        .split_once("\"ext1_cam_extrinsics\": [")
        .expect("extrinsics");
    let (_, after) = after.split_once(']').expect("an end");
    let text = format!(
        "{before}\"ext1_cam_extrinsics\": [NaN, Infinity, -Infinity, NaN, NaN, NaN]{after}"
    );
    fs::write(to.join(metadata.file_name().expect("a name")), text).expect("a file");
    let read = |folder: &Path| {
        let source = open("droid", folder, SourceOptions::default()).expect("one episode");
        source.read(0).expect("an episode")
    };
    let (whole, failed) = (read(&from), read(&to));
    assert_eq!(whole.columns, failed.columns);
    assert_eq!(whole.cameras, failed.cameras);
    assert_eq!(whole.task, failed.task);
    assert_ne!(whole.source_hash, failed.source_hash, "the files differ");
}

#[test]
fn clips_start_where_the_reference_lets_them_start() {
    let golden: Golden = golden("droid");
    for episode in &golden.episodes {
        for view in episode.views.values().filter(|view| !view.missing) {
            let stride = |mode: FpsMode| mode.stride(view.avg_fps, CONTROL_HZ, CLIP_FPS);
            assert_eq!(stride(FpsMode::Reference), view.stride_reference_fps4);
            assert_eq!(stride(FpsMode::ControlHz), view.stride_control_hz15_fps4);
            for (frames, expected) in [(4, view.reference_starts_4), (8, view.reference_starts_8)] {
                let window = Window {
                    frames,
                    stride: stride(FpsMode::Reference),
                };
                let starts = window.starts(view.frames, Starts::Reference);
                let ends = starts.clone().min().zip(starts.clone().max());
                assert_eq!(ends.map(|(first, last)| [first, last]), expected);
                let native = window.starts(view.frames, Starts::Native);
                assert_eq!(
                    native.len(),
                    (view.frames + 1).saturating_sub(window.span())
                );
            }
        }
    }
}

/// Clips as both reference loaders draw them: the frames, their poses and the steps between them.
#[test]
fn sampled_clips_equal_both_reference_loaders() {
    let (_folder, source) = release(small());
    let jepa_wms = golden::<Golden>("droid").jepa_wms;
    let vjepa2: Items = golden("droid_vjepa2");
    let jepa_wms = jepa_wms
        .items
        .into_iter()
        .enumerate()
        .map(|(i, item)| (format!("jw_item{i}"), item));
    let vjepa2 = vjepa2
        .items
        .into_iter()
        .map(|item| (item.key.clone().expect("a name"), item));
    for (arrays, items) in [
        (Arrays::f64("droid"), jepa_wms.collect::<Vec<_>>()),
        (Arrays::f64("droid_vjepa2"), vjepa2.collect()),
    ] {
        for (key, item) in items {
            let episode = source.read(item.served as u64).expect("an episode");
            let window = Window {
                frames: item.frame_indices.len(),
                stride: episode.extras["stride"] as usize,
            };
            let start = item.frame_indices[0];
            assert!(
                window
                    .starts(episode.length, Starts::Reference)
                    .contains(&start)
            );
            assert_eq!(window.rows(start), item.frame_indices, "{key}");
            let states = poses(&values(&episode.columns, STATE));
            let clip: Vec<Pose> = item.frame_indices.iter().map(|&row| states[row]).collect();
            close(
                &key,
                clip.as_flattened(),
                arrays.get(&format!("{key}.state")),
                1e-9,
            );
            let expected = arrays.get(&format!("{key}.action"));
            let mut steps = deltas(&clip);
            if expected.len() == clip.len() * 7 {
                // JEPA-WMs appends a row of zeros.
                steps.push([0.0; 7]);
            }
            close(&key, steps.as_flattened(), expected, 1e-9);
        }
    }
}

#[test]
fn poses_in_the_camera_frame_equal_the_reference() {
    let arrays = Arrays::f64("droid");
    let states = poses(arrays.get("jw_item0.state"));
    let extrinsics = arrays
        .get("jw_item0_camera_frame.extrinsics")
        .as_chunks::<6>()
        .0;
    let seen: Vec<Pose> = states
        .iter()
        .zip(extrinsics)
        .map(|(p, e)| in_camera_frame(p, e))
        .collect();
    close(
        "state",
        seen.as_flattened(),
        arrays.get("jw_item0_camera_frame.state"),
        1e-9,
    );
    let steps = deltas(&seen);
    let expected = &arrays.get("jw_item0_camera_frame.action")[..steps.len() * 7];
    close("action", steps.as_flattened(), expected, 1e-9);
}

#[test]
fn transformed_frames_equal_the_reference() {
    let arrays = Arrays::f64("droid");
    let golden: Golden = golden("droid");
    let item = &golden.jepa_wms.items[0];
    let source = open(
        "droid",
        &folder_of(&golden.episodes[item.served]),
        SourceOptions::default(),
    );
    let episode = source.expect("one episode").read(0).expect("an episode");
    let frames = &episode.cameras[0];
    let Pixels::U8(pixels) = &frames.pixels else {
        panic!("bytes")
    };
    let size = frames.height * frames.width * 3;
    let each = item
        .frame_indices
        .iter()
        .flat_map(|&k| &pixels[k * size..(k + 1) * size]);
    let clip: Vec<f32> = each.copied().map(f32::from).collect();
    let transform = Transform {
        size: 32,
        norm: PixelNorm::IMAGENET,
        ..Transform::released(Geometry::JepaWms)
    };
    let found = transform.apply(&clip, frames.height, frames.width);
    let expected = arrays.get("jw_item0.visual32");
    assert_eq!(found.len(), expected.len());
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-5, "differs by {worst}");
}

#[test]
fn a_release_is_ingested_at_its_own_rate() {
    let (_folder, source) = release(small());
    let dst = tempfile::tempdir().expect("a folder");
    let (dataset, summary) =
        run_to(source.as_ref(), &dst.path().join("set"), &RULE).expect("a dataset");
    assert_eq!(read_all(&dataset), [0, 1, 2]);
    assert_eq!(faults(&summary), [("missing_file", 3)]);
    assert!(
        summary.broken[0].detail.contains("22008760.mp4"),
        "{}",
        summary.broken[0].detail
    );
    assert_eq!(summary.rows, 124 + 66 + 64);
    let draft = &dataset.manifest().draft;
    assert_eq!((draft.fps, draft.control_hz), (15.0, Some(15.0)));
    assert_eq!(draft.cameras[0].resized_from, Some([180, 320]));
    assert!(draft.source.inputs["list.csv"].starts_with("sha256:"));
    let rows = dataset.read_rows(0, 0..124).expect("rows");
    close(
        "state",
        &values(&rows, STATE),
        Arrays::f64("droid").get("ep0.states"),
        1e-9,
    );
}

#[test]
fn recordings_of_another_size_are_refused_unless_all_are_resized() {
    let (_folder, source) = release(SourceOptions::default());
    assert_eq!(source.read(0).expect("an episode").cameras[0].height, 180);
    let refused = source.read(2).map(|_| ()).expect_err("another size");
    assert_eq!(refused.code(), "count_mismatch");
    assert!(refused.to_string().contains("90x160"), "{refused}");
}

#[test]
fn lists_may_have_one_column_lie_elsewhere_or_be_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let one_column = list(folder.path(), "DROID/droid_paths_one_column.csv");
    let source = open("droid", &one_column, small()).expect("a release");
    assert_eq!((source.total(), source.missing()), (3, vec![]));
    // As released, with the paths of another machine.
    let moved = open("droid", &fixture("DROID/droid_paths.csv"), small()).expect("a release");
    assert_eq!((moved.total(), moved.missing()), (4, vec![]));
    assert!(
        moved
            .manifest()
            .notes
            .iter()
            .any(|note| note.contains("4 of 4 paths"))
    );
    let found = open("droid", &fixture("DROID"), small()).expect("a folder");
    assert_eq!(found.total(), 4);
    let paths: Vec<String> = (0..4).map(|i| found.path_of(i)).collect();
    assert!(
        paths.is_sorted() && paths[0].starts_with("1.0.1/AUTOLab/failure"),
        "{paths:?}"
    );
    assert!(found.bytes() > 500_000);
    let spaced = folder.path().join("an episode 1");
    std::fs::create_dir(&spaced).expect("a folder");
    let quoted = folder.path().join("quoted.csv");
    let text = format!(
        "\"{}\" 0\n{}\nan episode 1 2\n",
        spaced.display(),
        spaced.display()
    );
    std::fs::write(&quoted, text).expect("a list");
    let source = open("droid", &quoted, small()).expect("a list");
    assert_eq!((source.total(), source.missing()), (3, vec![]));
}

#[test]
fn a_header_is_reported_and_the_next_line_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let case = case(30);
    let path = list(
        folder.path(),
        &format!("bad/{}/droid_paths_header.csv", case.dir),
    );
    let source = open("droid", &path, SourceOptions::default()).expect("a list");
    assert_eq!(source.total(), 1);
    assert_eq!(source.read(0).expect("an episode").length, 23);
    let reported = |note: &String| note.contains("path index") && note.contains("does not exist");
    assert!(source.manifest().notes.iter().any(reported));
}

/// What became of the episodes of a case.
struct Outcome {
    case: Case,
    found: Vec<(String, u64)>,
    ingested: Vec<u64>,
    details: Vec<String>,
}

fn read_case(options: SourceOptions) -> Outcome {
    let case = case(30);
    let folder = tempfile::tempdir().expect("a folder");
    let path = list(folder.path(), &format!("bad/{}/droid_paths.csv", case.dir));
    let source = open("droid", &path, options).expect("a list");
    assert_eq!(source.missing(), [15]);
    let (dataset, summary) =
        run_to(source.as_ref(), &folder.path().join("set"), &RULE).expect("a dataset");
    let found = faults(&summary);
    let found = found
        .into_iter()
        .map(|(code, episode)| (code.to_string(), episode))
        .collect();
    let details = summary
        .broken
        .iter()
        .map(|b| format!("{} {}", b.path, b.detail))
        .collect();
    Outcome {
        case,
        found,
        ingested: read_all(&dataset),
        details,
    }
}

/// Cases 1, 3, 4, 15, 23, 24, 25, 26, 28 and 29 of datasets.md section 16. The case asks for clips of four
/// frames at the control rate, 16 rows: an episode of 10 rows has none, one of 16 rows has one.
#[test]
fn damaged_episodes_are_refused_each_for_its_reason() {
    let Outcome {
        case,
        found,
        ingested,
        details,
    } = read_case(SourceOptions {
        fps_mode: Some(FpsMode::ControlHz),
        frames_per_clip: Some(4),
        ..SourceOptions::default()
    });
    assert_eq!(
        serde_json::json!(ingested),
        serde_json::json!(case.ingested)
    );
    assert_eq!(found.len(), case.errors.len());
    for (((code, episode), detail), error) in found.iter().zip(&details).zip(&case.errors) {
        assert_eq!(serde_json::json!(episode), error.episode);
        let same = match error.kind.as_str() {
            // A folder of the list that is not there is a missing file.
            "path_not_found" => code == "missing_file",
            // What is left of a cut recording may be noticed by its index or by its decoder.
            "decode_error" => ["decode_error", "truncated_file"].contains(&code.as_str()),
            kind => code == kind,
        };
        assert!(same, "{code} is not {}", error.kind);
        assert!(detail.contains(&error.file), "{detail}");
        assert!(
            error.key.as_ref().is_none_or(|key| detail.contains(key)),
            "{detail}"
        );
    }
}

/// Without a clip in mind every readable episode is kept: a short one is not broken.
#[test]
fn short_episodes_are_kept_unless_clips_are_asked_for() {
    let Outcome {
        case,
        found,
        ingested,
        ..
    } = read_case(SourceOptions::default());
    let mut expected: Vec<u64> = case
        .ingested
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect();
    expected.push(11);
    expected.sort_unstable();
    assert_eq!(ingested, expected);
    assert_eq!(found.len(), case.errors.len() - 1);
    assert!(found.iter().all(|(code, _)| code != "too_short"));
}

#[test]
fn rows_and_frames_are_cut_to_what_both_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = list(folder.path(), "bad/30_droid_mixed/droid_paths.csv");
    let source = open("droid", &path, SourceOptions::default()).expect("a list");
    for (index, rows, frames) in [(0, 23.0, 24.0), (6, 24.0, 23.0)] {
        let episode = source.read(index).expect("an episode");
        assert_eq!((episode.length, episode.cameras[0].count), (23, 23));
        assert_eq!(episode.extras["rows_in_file"], rows);
        assert_eq!(episode.extras["frames_in_file.left"], frames);
    }
    let refused = source.read(7).map(|_| ()).expect_err("half the frames");
    assert!(
        refused.to_string().contains("19 frames for 40 rows"),
        "{refused}"
    );
}

#[test]
fn what_is_no_list_and_no_camera_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.csv");
    fs::write(&page, "<!doctype html><title>404</title>").expect("a page");
    let none = SourceOptions::default;
    assert!(matches!(
        refused("droid", &page, none()),
        Error::WebPage { .. }
    ));
    let pointer = folder.path().join("pointer.csv");
    fs::write(
        &pointer,
        "version https://git-lfs.github.com/spec/v1\nsize 12\n",
    )
    .expect("a pointer");
    assert!(matches!(
        refused("droid", &pointer, none()),
        Error::LfsPointer { size: 12, .. }
    ));
    let empty = folder.path().join("empty.csv");
    fs::write(&empty, "\n\n").expect("a list");
    assert!(matches!(
        refused("droid", &empty, none()),
        Error::Nothing { .. }
    ));
    assert!(matches!(
        refused("droid", folder.path(), none()),
        Error::Nothing { .. }
    ));
    let missing = folder.path().join("none.csv");
    assert!(matches!(
        refused("droid", &missing, none()),
        Error::Missing { .. }
    ));
    for names in [&["top"][..], &["left", "left_mp4_path"]] {
        let refused = refused("droid", &fixture("DROID"), cameras(names));
        assert!(
            refused
                .to_string()
                .contains("left, right, wrist, ext1, ext2"),
            "{refused}"
        );
    }
}

#[test]
fn the_golden_file_describes_the_fixtures() {
    let golden: Golden = golden("droid");
    let rows: Vec<usize> = golden.episodes.iter().map(|episode| episode.rows).collect();
    assert_eq!(rows, [124, 67, 64, 6]);
}
