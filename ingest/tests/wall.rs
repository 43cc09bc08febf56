//! The Wall release from end to end: what the reference loaders return, and what damaged files do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{
    ACTION, Column, Dataset, Outcome, PROPRIO, Pixels, STATE, SliceSpec, SplitRule,
};
use jepa_ingest::container::torch_zip::TorchFile;
use jepa_ingest::{Error, Progress, SourceOptions, Summary, source};
use serde::Deserialize;

use crate::support::slices::{check_slice, computed, grid, listed, visual};
use crate::support::torch::tensor;
use crate::support::{self, Arrays, fixture, ingest_with, open, run_to, run_until, sha256, whole};

fn ingest(src: &Path, dst: &Path, rule: &SplitRule) -> Result<(Dataset, Summary), Error> {
    let source = open("wall", src, SourceOptions::default())?;
    run_to(source.as_ref(), dst, rule)
}

/// `tests/fixtures/golden/wall.json`, as far as it is compared.
#[derive(Deserialize)]
struct Golden {
    train: GoldenSplit,
    valid: GoldenSplit,
    stats: BTreeMap<String, Vec<f64>>,
    strides: GoldenStrides,
    env_info_episode0: BTreeMap<String, Vec<f64>>,
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
struct GoldenStrides {
    states: Vec<usize>,
    actions: Vec<usize>,
    states_shape: Vec<usize>,
}

#[derive(Deserialize)]
struct GoldenEpisode {
    file_shape: Vec<usize>,
    frame_f32_sha256: Vec<String>,
}

#[derive(Deserialize)]
struct GoldenDinoWm {
    train_indices: Vec<u64>,
    valid_indices: Vec<u64>,
    train_slices: Vec<[usize; 3]>,
    valid_slices: Vec<[usize; 3]>,
}

fn golden() -> Golden {
    support::golden("wall")
}

fn wall(rule: &SplitRule) -> (tempfile::TempDir, Dataset) {
    let set = whole("wall", "wall_single", rule);
    assert_eq!(set.summary.accepted, 3);
    (set.folder, set.dataset)
}

#[test]
fn strided_views_are_read_where_they_lie() {
    let golden = golden();
    let arrays = Arrays::f32("wall");
    let states = TorchFile::open(&fixture("wall_single/states.pth")).expect("a torch file");
    let tensor = states.tensor().expect("a tensor");
    assert_eq!(
        (tensor.shape(), tensor.strides()),
        (&golden.strides.states_shape[..], &golden.strides.states[..])
    );
    assert_eq!(tensor.to_f32(), arrays.get("states"));
    let actions = TorchFile::open(&fixture("wall_single/actions.pth")).expect("a torch file");
    let tensor = actions.tensor().expect("a tensor");
    assert_eq!(tensor.strides(), golden.strides.actions);
    assert_eq!(tensor.to_f32(), arrays.get("actions"));
}

#[test]
fn frames_are_the_floats_of_the_source_bit_for_bit() {
    let (_folder, dataset) = wall(&SplitRule::Released);
    assert!(dataset.manifest().draft.extra_last_obs);
    for (episode, golden) in golden().episodes.iter().enumerate() {
        let &[count, channels, height, width] = golden.file_shape.as_slice() else {
            panic!("four dimensions")
        };
        assert_eq!(
            dataset.episodes()[episode].frames["top"].count,
            count as u64
        );
        for (frame, expected) in golden.frame_f32_sha256.iter().enumerate() {
            let pixels = dataset
                .read_frames("top", episode as u64, &[frame])
                .expect("a frame");
            let Pixels::F32(values) = pixels else {
                panic!("floats")
            };
            let planes =
                (0..channels).flat_map(|c| (0..height * width).map(move |i| i * channels + c));
            let bytes: Vec<u8> = planes.flat_map(|i| values[i].to_le_bytes()).collect();
            assert_eq!(
                sha256(&bytes),
                *expected,
                "episode {episode}, frame {frame}"
            );
        }
    }
}

#[test]
fn statistics_equal_the_reference_loader() {
    let (_folder, dataset) = wall(&SplitRule::Released);
    let golden = golden().stats;
    for (field, name) in [(ACTION, "action"), (PROPRIO, "proprio"), (STATE, "state")] {
        let stats = dataset.stats().get(field, "all").expect("statistics");
        let std = stats.std.as_ref().expect("more than one row");
        for d in 0..2 {
            let (mean, expected) = (stats.mean[d], golden[&format!("{name}_mean")][d]);
            assert!(
                (mean - expected).abs() <= 1e-5 * expected.abs() + 1e-6,
                "{name} mean: {mean}, not {expected}"
            );
            let expected = golden[&format!("{name}_std")][d];
            assert!(
                (std[d] - expected).abs() <= 1e-5 * expected,
                "{name} std: {}, not {expected}",
                std[d]
            );
        }
    }
}

#[test]
fn splits_and_slice_orders_equal_jepa_wms() {
    let (_folder, dataset) = wall(&SplitRule::Released);
    let golden = golden();
    for (name, context, expected) in [("train", 3, &golden.train), ("val", 7, &golden.valid)] {
        assert_eq!(
            dataset.split(name).expect("a split").episodes,
            expected.trajectory_indices
        );
        let found = listed(&dataset, &SliceSpec::new(context, 5, name));
        assert_eq!(found.len(), expected.n_slices);
        assert_eq!(found, expected.slices_pos_in_subset_start_end);
    }
}

#[test]
fn splits_and_slice_orders_equal_dino_wm() {
    let (_folder, dataset) = wall(&SplitRule::DinoWm);
    let golden = golden().dino_wm;
    for (name, episodes, slices) in [
        ("train", &golden.train_indices, &golden.train_slices),
        ("val", &golden.valid_indices, &golden.valid_slices),
    ] {
        assert_eq!(dataset.split(name).expect("a split").episodes, *episodes);
        assert_eq!(listed(&dataset, &SliceSpec::new(3, 5, name)), *slices);
    }
}

#[test]
fn slices_hold_what_the_reference_loaders_return() {
    let arrays = Arrays::f32("wall");
    let golden = golden();
    let (_folder, dataset) = wall(&SplitRule::Released);
    for position in golden.train.stored_positions {
        check_slice(
            &dataset,
            &SliceSpec::new(3, 5, "train"),
            position,
            &computed(&dataset),
            (&arrays, &format!("train_{position}")),
        );
    }
    for position in golden.valid.stored_positions {
        check_slice(
            &dataset,
            &SliceSpec::new(7, 5, "val"),
            position,
            &computed(&dataset),
            (&arrays, &format!("valid_{position}")),
        );
    }
    let (_folder, dataset) = wall(&SplitRule::DinoWm);
    check_slice(
        &dataset,
        &SliceSpec::new(3, 5, "train"),
        0,
        &computed(&dataset),
        (&arrays, "dino_train_0"),
    );
}

#[test]
fn transformed_frames_equal_the_reference_loaders() {
    let arrays = Arrays::f32("wall");
    let (_folder, dataset) = wall(&SplitRule::Released);
    let small = Transform {
        size: 32,
        norm: NORM,
        ..Transform::released(Geometry::JepaWms)
    };
    let large = Transform {
        norm: NORM,
        ..Transform::released(Geometry::JepaWms)
    };
    for (context, split, name) in [(3, "train", "train_0"), (7, "val", "valid_0")] {
        let spec = SliceSpec::new(context, 5, split);
        let found = visual(&dataset, &spec, 0, &small);
        close_pixels(name, &found, arrays.get(&format!("{name}.visual32")));
        let found = visual(&dataset, &spec, 0, &large);
        close_pixels(
            name,
            &grid(&found),
            arrays.get(&format!("{name}.visual224_grid")),
        );
        let mean =
            |plane: &[f32]| plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64;
        let means: Vec<f64> = found.chunks_exact(224 * 224).map(mean).collect();
        for (a, b) in means
            .iter()
            .zip(arrays.get(&format!("{name}.visual224_mean")))
        {
            assert!(
                (a - f64::from(*b)).abs() < 1e-5,
                "{name}: mean {a} is not {b}"
            );
        }
    }
    let (_folder, dataset) = wall(&SplitRule::DinoWm);
    let found = visual(
        &dataset,
        &SliceSpec::new(3, 5, "train"),
        0,
        &Transform::released(Geometry::DinoWm),
    );
    close_pixels(
        "dino_wm",
        &grid(&found),
        arrays.get("dino_train_0.visual224_grid"),
    );
}

/// Scale of the golden images.
const NORM: PixelNorm = PixelNorm::IMAGENET;

/// Interpolation in float32 in another order of operations: a few units in the last place.
#[track_caller]
fn close_pixels(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < 5e-6, "{name}: differs by {worst}");
}

#[test]
fn doors_and_walls_are_kept_with_the_episode() {
    let (_folder, dataset) = wall(&SplitRule::Released);
    for (name, values) in golden().env_info_episode0 {
        assert_eq!(dataset.episodes()[0].extras.get(&name), values.first());
    }
}

/// datasets.md section 2.5: `state[t + 1] - state[t] == 2 * action[t]` away from walls and borders.
#[test]
fn actions_are_applied_at_their_row() {
    let (_folder, dataset) = wall(&SplitRule::Released);
    let rows = dataset.read_rows(0, 0..50).expect("rows");
    let (state, action) = (rows[STATE].to_f64(), rows[ACTION].to_f64());
    let moves = |t: usize| {
        (0..2).all(|d| {
            ((state[2 * t + 2 + d] - state[2 * t + d]) - 2.0 * action[2 * t + d]).abs() < 1e-4
        })
    };
    let free = (0..49).filter(|&t| moves(t)).count();
    assert!(
        free > 25,
        "only {free} of 49 steps move by twice their action"
    );
}

#[derive(Deserialize)]
struct Expected {
    cases: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct BadCase {
    dir: String,
    #[serde(default)]
    fatal: bool,
    errors: Vec<BadError>,
    ingested: Vec<u64>,
    #[serde(default)]
    must_not_exist: Vec<String>,
}

#[derive(Deserialize)]
struct BadError {
    kind: String,
    episode: Option<u64>,
    file: String,
    global_name: Option<String>,
}

#[test]
fn damaged_releases_lose_exactly_their_damaged_episodes() {
    let text = std::fs::read(fixture("bad/expected.json")).expect("cases");
    let expected: Expected = serde_json::from_slice(&text).expect("cases");
    let of_wall = expected
        .cases
        .into_iter()
        .filter(|case| case["format"] == "wall");
    let cases: Vec<BadCase> = of_wall
        .map(|case| serde_json::from_value(case).expect("a case"))
        .collect();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let outcome = ingest(
            &fixture("bad").join(&case.dir),
            &folder.path().join("set"),
            &SplitRule::Released,
        );
        match outcome {
            Err(error) => {
                assert!(case.fatal, "{}: {error}", case.dir);
                let text = error.to_string();
                assert_eq!(error.code(), case.errors[0].kind, "{}", case.dir);
                assert!(text.contains(&case.errors[0].file), "{text}");
                assert!(
                    case.errors[0]
                        .global_name
                        .as_ref()
                        .is_none_or(|name| text.contains(name)),
                    "{text}"
                );
            }
            Ok((dataset, summary)) => {
                assert!(!case.fatal, "{}", case.dir);
                check_case(&case, &dataset, &summary);
            }
        }
        for name in &case.must_not_exist {
            assert!(
                !Path::new(name).exists() && !fixture("bad").join(&case.dir).join(name).exists(),
                "{name}"
            );
        }
    }
}

fn check_case(case: &BadCase, dataset: &Dataset, summary: &Summary) {
    let ingested: Vec<u64> = dataset.episodes().iter().map(|e| e.source_index).collect();
    assert_eq!(ingested, case.ingested, "{}", case.dir);
    let found: Vec<(&str, u64)> = summary
        .broken
        .iter()
        .map(|b| (b.code.as_str(), b.episode))
        .collect();
    let expected: Vec<(&str, u64)> = case
        .errors
        .iter()
        .map(|e| (e.kind.as_str(), e.episode.unwrap_or(0)))
        .collect();
    assert_eq!(found, expected, "{}", case.dir);
    for (broken, error) in summary.broken.iter().zip(&case.errors) {
        assert!(
            error.file.ends_with(&broken.path),
            "{}: {}",
            case.dir,
            broken.path
        );
        assert!(
            !broken.detail.contains("tests/fixtures"),
            "paths are relative: {}",
            broken.detail
        );
    }
    let rejected: Vec<u64> = dataset
        .ledger()
        .expect("a ledger")
        .iter()
        .filter(|row| row.outcome == Outcome::Rejected)
        .map(|row| row.source_index)
        .collect();
    assert_eq!(rejected, expected.iter().map(|e| e.1).collect::<Vec<_>>());
    for meta in dataset.episodes() {
        let rows = dataset
            .read_rows(meta.episode_index, 0..meta.length as usize)
            .expect("rows");
        assert!(rows.values().all(|column| !column.is_empty()));
        let frames: Vec<usize> = (0..meta.frames["top"].count as usize).collect();
        dataset
            .read_frames("top", meta.episode_index, &frames)
            .expect("frames");
    }
}

fn copy_release(to: &Path) {
    std::fs::create_dir_all(to.join("obses")).expect("a folder");
    let from = fixture("wall_single");
    for name in [
        "states.pth",
        "actions.pth",
        "door_locations.pth",
        "wall_locations.pth",
    ] {
        std::fs::copy(from.join(name), to.join(name)).expect("a copy");
    }
    for index in 0..3 {
        let name = format!("obses/episode_{index:03}.pth");
        std::fs::copy(from.join(&name), to.join(&name)).expect("a copy");
    }
}

#[test]
fn missing_pointer_page_and_empty_files_are_told_apart() {
    let cases: [(&str, Option<&[u8]>); 5] = [
        ("missing_file", None),
        (
            "lfs_pointer",
            Some(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n"),
        ),
        (
            "html_or_json_instead_of_data",
            Some(b"<!DOCTYPE html><html>login</html>"),
        ),
        ("empty_file", Some(b"")),
        ("invalid_header", Some(b"something else entirely")),
    ];
    for (code, content) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let src = folder.path().join("wall_single");
        copy_release(&src);
        let broken = src.join("obses/episode_001.pth");
        match content {
            Some(bytes) => std::fs::write(&broken, bytes).expect("a bad file"),
            None => std::fs::remove_file(&broken).expect("no file"),
        }
        let source = source::open("wall", folder.path(), SourceOptions::default())
            .expect("the parent folder will do");
        let missing = if content.is_none() { vec![1] } else { vec![] };
        assert_eq!(source.missing(), missing);
        let (_, summary) =
            ingest(&src, &folder.path().join("set"), &SplitRule::Released).expect("a dataset");
        let found: Vec<(&str, u64)> = summary
            .broken
            .iter()
            .map(|b| (b.code.as_str(), b.episode))
            .collect();
        assert_eq!(found, [(code, 1)]);
    }
}

#[test]
fn other_paddings_are_read_and_two_files_for_one_episode_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_release(folder.path());
    let obses = folder.path().join("obses");
    std::fs::rename(obses.join("episode_001.pth"), obses.join("episode_1.pth")).expect("renamed");
    std::fs::write(obses.join("._episode_002.pth"), b"of another system").expect("a stray file");
    let source = source::open("wall", folder.path(), SourceOptions::default()).expect("a release");
    assert_eq!(source.missing(), Vec::<u64>::new());
    std::fs::copy(obses.join("episode_1.pth"), obses.join("episode_00001.pth")).expect("a copy");
    let refused = source::open("wall", folder.path(), SourceOptions::default());
    assert!(matches!(
        refused.map(|_| ()),
        Err(Error::Ambiguous { episode: 1, .. })
    ));
}

/// datasets.md section 16, case 44: Wall has its channels before height and width.
#[test]
fn frames_in_another_order_of_dimensions_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_release(folder.path());
    let path = folder.path().join("obses/episode_001.pth");
    let storage: Vec<u8> = (0..51 * 4 * 5 * 3)
        .flat_map(|k| (k as f32 % 255.0).to_le_bytes())
        .collect();
    let ingested = |shape: &[i64]| {
        std::fs::write(&path, tensor("FloatStorage", shape, &storage)).expect("a file");
        let sized = SourceOptions {
            size: Some([20, 20]),
            ..SourceOptions::default()
        };
        let set = ingest_with("wall", folder.path(), sized, &SplitRule::Released);
        let broken = set.expect("a dataset").summary.broken.into_iter();
        broken.map(|b| (b.path, b.detail)).collect::<Vec<_>>()
    };
    assert_eq!(ingested(&[51, 3, 4, 5]), []);
    for shape in [[51, 4, 5, 3], [3, 51, 4, 5], [51, 4, 3, 5], [1, 3, 51, 20]] {
        let broken = ingested(&shape);
        let [(path, detail)] = broken.as_slice() else {
            panic!("{shape:?}: {broken:?}")
        };
        assert_eq!(path, "obses/episode_001.pth");
        let wanted = if shape[1] == 3 {
            "1 frames"
        } else {
            "is not [frames, 3,"
        };
        assert!(detail.contains(wanted), "{shape:?}: {detail}");
    }
}

/// datasets.md section 16, case 52: no name of a folder says what is in it.
#[test]
fn the_format_is_what_was_asked_for_whatever_the_path_is_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder
        .path()
        .join("droid_work/pusht_noise/metaworld/robocasa.zarr");
    copy_release(&root);
    let hash = |src: &Path, name: &str| {
        let dst = folder.path().join(name);
        let (dataset, _) = ingest(src, &dst, &SplitRule::Released).expect("a dataset");
        dataset.content_hash().to_string()
    };
    assert_eq!(hash(&root, "a"), hash(&fixture("wall_single"), "b"));
    for name in ["droid", "pusht", "metaworld", "pointmaze"] {
        let opened = source::open(name, &root, SourceOptions::default());
        assert!(opened.is_err(), "{name}");
    }
}

#[test]
fn frames_are_resized_when_asked_and_the_manifest_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = source::open(
        "wall",
        &fixture("wall_single"),
        SourceOptions {
            size: Some([10, 12]),
            ..SourceOptions::default()
        },
    )
    .expect("a release");
    let dst = folder.path().join("set");
    let (dataset, _) = run_to(source.as_ref(), &dst, &SplitRule::Released).expect("a dataset");
    let camera = &dataset.manifest().draft.cameras[0];
    assert_eq!(
        (camera.height, camera.width, camera.resized_from),
        (10, 12, Some([20, 20]))
    );
    assert_eq!(
        dataset.read_frames("top", 0, &[0]).expect("a frame").len(),
        10 * 12 * 3
    );
}

#[test]
fn an_interrupted_ingestion_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let dst = folder.path().join("set");
    let source =
        source::open("wall", &fixture("wall_single"), SourceOptions::default()).expect("a release");
    let stop = AtomicBool::new(false);
    let tick = |_| stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let progress = Progress {
        tick: &tick,
        stop: &stop,
    };
    let rule = SplitRule::Released;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("one thread");
    let first = pool.install(|| run_until(source.as_ref(), &dst, &rule, &progress));
    assert!(
        matches!(first, Err(Error::Interrupted { done: 1, total: 3 })),
        "{:?}",
        first.map(|_| ())
    );
    let (dataset, summary) = ingest(&fixture("wall_single"), &dst, &rule).expect("it goes on");
    assert_eq!(summary.resumed, 1);
    let whole = ingest(&fixture("wall_single"), &folder.path().join("whole"), &rule)
        .expect("at once")
        .0;
    assert_eq!(dataset.content_hash(), whole.content_hash());
}

#[test]
fn unknown_sources_are_refused_with_the_ones_that_exist() {
    let refused = |name| {
        source::open(name, Path::new("x"), SourceOptions::default())
            .map(|_| ())
            .expect_err("no source")
    };
    assert!(matches!(
        refused("minari"),
        Error::UnknownSource { planned: true, .. }
    ));
    assert!(matches!(
        refused("wal"),
        Error::UnknownSource { planned: false, .. }
    ));
    let hint = refused("wal").hint().expect("a hint");
    assert!(
        hint.starts_with("this build reads: ") && hint.contains("wall"),
        "{hint}"
    );
}

#[test]
fn columns_have_the_types_of_the_release() {
    let (_folder, dataset) = wall(&SplitRule::Released);
    let rows = dataset.read_rows(0, 0..1).expect("a row");
    assert!(
        rows.values()
            .all(|column| matches!(column, Column::F32 { width: 2, .. }))
    );
}
