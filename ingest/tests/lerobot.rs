//! `LeRobotDataset`: `golden/lerobot_v3.json`, bad case 37, and releases made here.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Float32Array, Float64Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field};
use jepa_datasets::{ACTION, Column, Dtype, PROPRIO, Pixels, REWARD, STATE, SplitRule};
use jepa_ingest::{SourceOptions, source};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::support::bad::bad_case;
use crate::support::{
    self, Golden, Ingested, close, copy, fixture, ingest, list, refused, run, sha256, tasks,
};

const VIDEO: &str = "videos/observation.images.top/chunk-000/file-000.mp4";

fn golden() -> Value {
    support::json("golden/lerobot_v3.json")
}

/// Hash of every frame of the only video of the fixture.
fn frame_hashes() -> Vec<String> {
    list(&golden()["video_files"][VIDEO]["rgb_sha256"])
}

/// The frames of a camera are a run of those of the fixture's video.
fn check_frames(set: &Ingested, camera: &str, episode: u64, first: usize) {
    let hashes = frame_hashes();
    let length = set.dataset.episodes()[episode as usize].length as usize;
    for frame in 0..length {
        let pixels = set
            .dataset
            .read_frames(camera, episode, &[frame])
            .expect("a frame");
        let found = sha256(&pixels.into_u8());
        assert_eq!(
            found,
            hashes[first + frame],
            "{camera}, episode {episode}, frame {frame}"
        );
    }
}

#[test]
fn columns_tasks_and_frames_equal_the_reference() {
    let set = ingest("lerobot", &fixture("lerobot_v3"), &[]).expect("a dataset");
    set.check();
    let golden = golden();
    let arrays = Golden::open("golden/lerobot_v3.npz");
    let manifest = set.dataset.manifest();
    assert!(
        manifest.draft.notes.is_empty(),
        "{:?}",
        manifest.draft.notes
    );
    assert_eq!(
        (manifest.draft.fps, manifest.draft.control_hz),
        (10.0, Some(10.0))
    );
    let tasks: Vec<String> = list(&golden["task_per_frame_first_of_episode"]);
    let mut first = 0;
    for (k, meta) in set.dataset.episodes().iter().enumerate() {
        let length = golden["episodes"][k]["length"].as_u64().expect("a length");
        assert_eq!((meta.length, &meta.task), (length, &tasks[k]));
        let rows = set
            .dataset
            .read_rows(k as u64, 0..length as usize)
            .expect("rows");
        let end = first + length as usize;
        let part = |name: &str, width: usize| arrays.f32(name)[first * width..end * width].to_vec();
        assert_eq!(rows[PROPRIO].to_f32(), part("col.observation.state", 4));
        assert_eq!(rows[STATE].to_f32(), part("col.observation.state", 4));
        assert_eq!(rows[ACTION].to_f32(), part("col.action", 2));
        assert_eq!(rows[REWARD].to_f32(), part("col.next.reward", 1));
        assert!(matches!(rows["next.done"], Column::I64(_)));
        assert_eq!(rows["next.done"].to_f32(), part("col.next.done", 1));
        check_frames(&set, "top", k as u64, first);
        first = end;
    }
    // What LeRobot's own reader returned, through another decoder: every fourth row and column.
    for (episode, frame, name) in [(0, 0, 0), (1, 0, 23), (1, 30, 53)] {
        let pixels = set
            .dataset
            .read_frames("top", episode, &[frame])
            .expect("a frame");
        let Pixels::U8(values) = pixels else {
            panic!("bytes")
        };
        let expected = arrays.f64(&format!("frame{name}.observation.images.top"));
        let found = (0..3).flat_map(|c| {
            let values = &values;
            (0..16).flat_map(move |y| {
                (0..24).map(move |x| f64::from(values[(y * 4 * 96 + x * 4) * 3 + c]))
            })
        });
        let worst = found
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst <= 4.0, "frame {name} differs by {worst}");
    }
}

#[test]
fn statistics_equal_those_of_the_release() {
    let set = ingest("lerobot", &fixture("lerobot_v3"), &[]).expect("a dataset");
    let golden = golden();
    for (field, name) in [(PROPRIO, "observation.state"), (REWARD, "next.reward")] {
        let stats = set.dataset.stats().get(field, "all").expect("statistics");
        let mean: Vec<f64> = list(&golden["stats"][name]["mean"]);
        close(name, &stats.mean, &mean, 1e-5);
    }
}

/// Case 37, release by release.
#[test]
fn damaged_releases_say_what_is_wrong() {
    let (root, case) = bad_case(37);
    for (name, expected) in case["datasets"].as_object().expect("releases") {
        let error = &expected["errors"][0];
        let (kind, file) = (
            error["kind"].as_str().expect("a kind"),
            error["file"].as_str().expect("a file"),
        );
        let root = root.join(name);
        if expected["fatal"] == Value::Bool(true) {
            let found = refused("lerobot", &root, tasks(&[]));
            assert_eq!(found.code(), kind, "{name}: {found}");
            assert!(found.to_string().contains(file), "{found}");
            continue;
        }
        let source = source::open("lerobot", &root, SourceOptions::default()).expect("a release");
        assert_eq!(source.missing(), [0, 1]);
        for episode in list::<u64>(&error["episode"]) {
            let found = source.read(episode).map(|_| ()).expect_err("no video");
            assert_eq!(found.code(), kind, "{name}: {found}");
            assert!(found.to_string().contains(file), "{found}");
        }
    }
    let old = refused("lerobot", &root.join("old_version"), tasks(&[]));
    assert!(old.to_string().contains("v1.6"), "{old}");
}

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn times(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values.iter().copied()))
}

fn text_lists(values: &[&str]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for value in values {
        lists.values().append_value(value);
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// Rows of episodes of given numbers, lengths and tasks: `action` counts the rows of the file.
fn row_columns(episodes: &[(i64, usize, i64)]) -> Vec<(&'static str, ArrayRef)> {
    let rows: Vec<(i64, i64, i64)> = episodes
        .iter()
        .flat_map(|&(episode, length, task)| (0..length as i64).map(move |k| (episode, k, task)))
        .collect();
    let count = rows.len();
    vec![
        (
            "action",
            Arc::new(Float32Array::from_iter_values((0..count).map(|k| k as f32))),
        ),
        (
            "observation.state",
            times(&(0..count).map(|k| k as f64 / 3.0).collect::<Vec<_>>()),
        ),
        // Times of a real robot: never those of the frames.
        (
            "timestamp",
            Arc::new(Float32Array::from_iter_values(
                rows.iter().map(|r| r.1 as f32 * 0.13),
            )),
        ),
        ("frame_index", ints(rows.iter().map(|r| r.1))),
        ("episode_index", ints(rows.iter().map(|r| r.0))),
        ("index", ints(0..count as i64)),
        ("task_index", ints(rows.iter().map(|r| r.2))),
    ]
}

fn features(cameras: &[(&str, &str)]) -> Value {
    let one = |dtype: &str| json!({"dtype": dtype, "shape": [1], "names": null});
    let mut features = json!({
        "action": one("float32"),
        "observation.state": one("float64"),
        "timestamp": one("float32"),
        "frame_index": one("int64"),
        "episode_index": one("int64"),
        "index": one("int64"),
        "task_index": one("int64"),
        "language": {"dtype": "string", "shape": [1], "names": null},
    });
    for (name, dtype) in cameras {
        features[*name] = json!({"dtype": dtype, "shape": [64, 96, 3], "names": null});
    }
    features
}

fn write_info(root: &Path, version: &str, features: &Value, paths: [&str; 2]) {
    let info = json!({
        "codebase_version": version,
        "fps": 10,
        "features": features,
        "total_episodes": 2,
        "chunks_size": 1000,
        "data_path": paths[0],
        "video_path": paths[1],
        "something_new": {"ignored": true},
    });
    std::fs::create_dir_all(root.join("meta")).expect("a folder");
    std::fs::write(root.join("meta/info.json"), info.to_string()).expect("written");
}

const PATHS_V3: [&str; 2] = [
    "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
];
const PATHS_V2: [&str; 2] = [
    "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
];

/// Two episodes in one file of rows, two cameras in differently numbered files, tasks out of order.
fn write_v3(root: &Path) {
    let (top, wrist) = ("observation.images.top", "observation.images.wrist");
    write_info(
        root,
        "v3.0",
        &features(&[(top, "video"), (wrist, "video")]),
        PATHS_V3,
    );
    write_table(
        &root.join("meta/tasks.parquet"),
        vec![
            ("task_index", ints([4, 2])),
            (
                "__index_level_0__",
                Arc::new(StringArray::from(vec!["four", "two"])),
            ),
        ],
    );
    write_table(
        &root.join("meta/episodes/chunk-000/file-000.parquet"),
        vec![
            ("length", ints([23, 31])),
            ("episode_index", ints([0, 1])),
            ("tasks", text_lists(&["two", "four"])),
            ("data/chunk_index", ints([0, 0])),
            ("data/file_index", ints([3, 3])),
            ("videos/observation.images.top/chunk_index", ints([0, 0])),
            ("videos/observation.images.top/file_index", ints([0, 0])),
            (
                "videos/observation.images.top/from_timestamp",
                times(&[0.0, 2.3]),
            ),
            (
                "videos/observation.images.top/to_timestamp",
                times(&[2.3, 5.4]),
            ),
            (
                "videos/observation.images.wrist/chunk_index",
                ints([12, 12]),
            ),
            ("videos/observation.images.wrist/file_index", ints([1, 1])),
            (
                "videos/observation.images.wrist/from_timestamp",
                times(&[3.1, 0.0]),
            ),
            (
                "videos/observation.images.wrist/to_timestamp",
                times(&[5.4, 3.1]),
            ),
            ("stats/action/mean", times(&[0.0, 0.0])),
        ],
    );
    write_table(
        &root.join("data/chunk-000/file-003.parquet"),
        row_columns(&[(0, 23, 2), (1, 31, 4)]),
    );
    for (camera, file) in [
        (top, "chunk-000/file-000.mp4"),
        (wrist, "chunk-012/file-001.mp4"),
    ] {
        let to = root.join("videos").join(camera).join(file);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(fixture("lerobot_v3").join(VIDEO), to).expect("a copy");
    }
    // Whoever takes the number of the file of rows finds this.
    for trap in [
        "observation.images.wrist/chunk-000/file-000.mp4",
        "observation.images.top/chunk-000/file-003.mp4",
    ] {
        let trap = root.join("videos").join(trap);
        std::fs::create_dir_all(trap.parent().expect("a folder")).expect("a folder");
        std::fs::write(trap, b"not this one").expect("written");
    }
}

#[test]
fn each_camera_has_its_own_file_numbers_and_tasks_are_looked_up_by_index() {
    let folder = tempfile::tempdir().expect("a folder");
    write_v3(folder.path());
    let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
    set.check();
    assert_eq!(set.kept(), [0, 1]);
    for (camera, firsts) in [("top", [0, 23]), ("wrist", [31, 0])] {
        check_frames(&set, camera, 0, firsts[0]);
        check_frames(&set, camera, 1, firsts[1]);
    }
    let tasks: Vec<&str> = set
        .dataset
        .episodes()
        .iter()
        .map(|e| e.task.as_str())
        .collect();
    assert_eq!(tasks, ["two", "four"]);
    let draft = &set.dataset.manifest().draft;
    let notes = draft.notes.join("\n");
    assert!(
        notes.contains("not in the order of `task_index`") && notes.contains("language"),
        "{notes}"
    );
    assert!(
        notes.contains("frames are taken by their number"),
        "{notes}"
    );
    let rows = set.dataset.read_rows(1, 0..31).expect("rows");
    assert_eq!(rows[ACTION].to_f64()[0], 23.0);
    assert_eq!(rows[STATE].dtype(), Dtype::F64);
    assert_eq!(rows[STATE].to_f64()[1], 8.0);
}

#[test]
fn cameras_and_tasks_can_be_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    write_v3(folder.path());
    let open = |camera: &str, task: &str| {
        let options = SourceOptions {
            size: Some([32, 48]),
            cameras: vec![camera.into()],
            tasks: vec![task.into()],
            ..SourceOptions::default()
        };
        source::open("lerobot", folder.path(), options)
    };
    let source = open("observation.images.wrist", "four").expect("a release");
    let set = run(source.as_ref(), &SplitRule::JEPA_WMS).expect("a dataset");
    let cameras = &set.dataset.manifest().draft.cameras;
    assert_eq!(cameras.len(), 1);
    assert_eq!(
        (
            cameras[0].name.as_str(),
            cameras[0].height,
            cameras[0].resized_from
        ),
        ("wrist", 32, Some([64, 96]))
    );
    assert_eq!(set.dataset.episodes()[0].extras["episode_index"], 1.0);
    let error = open("left", "four")
        .map(|_| ())
        .expect_err("no such camera");
    assert!(error.to_string().contains("top, wrist"), "{error}");
    let error = open("top", "five").map(|_| ()).expect_err("no such task");
    assert!(error.to_string().contains("two, four"), "{error}");
}

#[test]
fn files_that_are_not_there_cost_their_own_episodes_only() {
    let folder = tempfile::tempdir().expect("a folder");
    write_v3(folder.path());
    // A second file of episodes, of which the file of rows has no footer.
    let whole = folder
        .path()
        .join("meta/episodes/chunk-000/file-000.parquet");
    let second = folder
        .path()
        .join("meta/episodes/chunk-000/file-001.parquet");
    let bytes = std::fs::read(&whole).expect("a table");
    std::fs::write(&second, &bytes[..bytes.len() / 2]).expect("written");
    let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
    assert_eq!(set.kept(), [0, 1]);
    let path = "meta/episodes/chunk-000/file-001.parquet".to_string();
    assert_eq!(set.rejected(), [("truncated_file".to_string(), path)]);
    // Rows that are not as many as their entry says.
    std::fs::remove_file(&second).expect("removed");
    write_table(
        &folder.path().join("data/chunk-000/file-003.parquet"),
        row_columns(&[(0, 22, 2), (1, 31, 4)]),
    );
    let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
    assert_eq!(
        (set.kept(), set.rejected()[0].0.as_str()),
        (vec![1], "count_mismatch")
    );
}

#[test]
fn a_video_that_ends_too_early_costs_the_episodes_beyond_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture("lerobot_v3"), folder.path());
    write_table(
        &folder
            .path()
            .join("meta/episodes/chunk-000/file-000.parquet"),
        vec![
            ("length", ints([23, 31])),
            ("episode_index", ints([0, 1])),
            ("data/chunk_index", ints([0, 0])),
            ("data/file_index", ints([0, 0])),
            ("videos/observation.images.top/chunk_index", ints([0, 0])),
            ("videos/observation.images.top/file_index", ints([0, 0])),
            (
                "videos/observation.images.top/from_timestamp",
                times(&[0.0, 2.4]),
            ),
            (
                "videos/observation.images.top/to_timestamp",
                times(&[2.3, 5.5]),
            ),
        ],
    );
    let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
    assert_eq!(
        (set.kept(), set.rejected()[0].0.as_str()),
        (vec![0], "count_mismatch")
    );
}

/// Times that are no frames of any file.
#[test]
fn senseless_times_cost_their_own_episode_only() {
    for (from, to) in [
        (f64::NAN, f64::NAN),
        (f64::INFINITY, f64::INFINITY),
        (1e300, 1e301),
        (-1e300, 5.4),
        (2.3, -1.0),
        (2.3, f64::NAN),
        (1e17, 1e17 + 16.0),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&fixture("lerobot_v3"), folder.path());
        write_table(
            &folder
                .path()
                .join("meta/episodes/chunk-000/file-000.parquet"),
            vec![
                ("length", ints([23, 31])),
                ("episode_index", ints([0, 1])),
                ("data/chunk_index", ints([0, 0])),
                ("data/file_index", ints([0, 0])),
                ("videos/observation.images.top/chunk_index", ints([0, 0])),
                ("videos/observation.images.top/file_index", ints([0, 0])),
                (
                    "videos/observation.images.top/from_timestamp",
                    times(&[0.0, from]),
                ),
                (
                    "videos/observation.images.top/to_timestamp",
                    times(&[2.3, to]),
                ),
            ],
        );
        let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
        let code = set.rejected().pop().map(|(code, _)| code);
        assert_eq!(
            (set.kept(), code.as_deref()),
            (vec![0], Some("count_mismatch")),
            "{from} to {to}"
        );
    }
}

/// datasets.md section 16, case 41: as text, chunk 1000 comes before chunk 101.
#[test]
fn chunks_beyond_999_keep_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    write_info(root, "v3.0", &features(&[]), PATHS_V3);
    let task = ("task", Arc::new(StringArray::from(vec!["go"])) as ArrayRef);
    write_table(
        &root.join("meta/tasks.parquet"),
        vec![("task_index", ints([0])), task],
    );
    for (episode, chunk) in [(0, 101), (1, 1000), (2, 1001)] {
        let file = format!("chunk-{chunk:03}/file-000.parquet");
        write_table(
            &root.join("meta/episodes").join(&file),
            vec![
                ("length", ints([4 + episode])),
                ("episode_index", ints([episode])),
                ("data/chunk_index", ints([chunk])),
                ("data/file_index", ints([0])),
            ],
        );
        let rows = row_columns(&[(episode, 4 + episode as usize, 0)]);
        write_table(&root.join("data").join(&file), rows);
    }
    let set = ingest("lerobot", root, &[]).expect("a dataset");
    assert_eq!(set.summary.broken, []);
    let found = set.dataset.episodes().iter();
    let found: Vec<(u64, &str)> = found.map(|e| (e.length, e.source_path.as_str())).collect();
    let expected = [
        (4, "data/chunk-101/file-000.parquet"),
        (5, "data/chunk-1000/file-000.parquet"),
        (6, "data/chunk-1001/file-000.parquet"),
    ];
    assert_eq!(found, expected);
}

/// Version 2: one file per episode, numbers with a gap, documents of lines.
fn write_v2(root: &Path, version: &str, rows: usize) {
    let top = "observation.images.top";
    write_info(root, version, &features(&[(top, "video")]), PATHS_V2);
    let meta = root.join("meta");
    std::fs::write(
        meta.join("tasks.jsonl"),
        "{\"task_index\": 0, \"task\": \"push\"}\n",
    )
    .expect("written");
    let lines = format!(
        "{{\"episode_index\": 1007, \"tasks\": [\"push\"], \"length\": {rows}}}\n\n{{\"episode_index\": 3, \"tasks\": [\"push\"], \"length\": 54}}\n"
    );
    std::fs::write(meta.join("episodes.jsonl"), lines).expect("written");
    for (chunk, episode, length) in [("000", 3, 54), ("001", 1007, rows)] {
        let data = root.join(format!("data/chunk-{chunk}/episode_{episode:06}.parquet"));
        write_table(&data, row_columns(&[(episode, length, 0)]));
        let video = root.join(format!(
            "videos/chunk-{chunk}/{top}/episode_{episode:06}.mp4"
        ));
        std::fs::create_dir_all(video.parent().expect("a folder")).expect("a folder");
        std::fs::copy(fixture("lerobot_v3").join(VIDEO), video).expect("a copy");
    }
}

#[test]
fn versions_2_are_read_and_numbered_anew() {
    for version in ["v2.0", "v2.1"] {
        let folder = tempfile::tempdir().expect("a folder");
        write_v2(folder.path(), version, 54);
        let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
        set.check();
        let numbers: Vec<f64> = set
            .dataset
            .episodes()
            .iter()
            .map(|e| e.extras["episode_index"])
            .collect();
        assert_eq!(numbers, [3.0, 1007.0]);
        assert!(
            set.dataset
                .manifest()
                .draft
                .notes
                .join("\n")
                .contains("numbered anew")
        );
        check_frames(&set, "top", 0, 0);
        check_frames(&set, "top", 1, 0);
    }
    let folder = tempfile::tempdir().expect("a folder");
    write_v2(folder.path(), "v2.1", 53);
    let set = ingest("lerobot", folder.path(), &[]).expect("a dataset");
    assert_eq!(
        (set.kept(), set.rejected()[0].0.as_str()),
        (vec![0], "count_mismatch")
    );
}

fn png(shade: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&[shade; 18]).expect("values");
    writer.finish().expect("an image");
    bytes
}

#[test]
fn image_columns_need_no_video() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let camera = "observation.image";
    let mut features = features(&[(camera, "image")]);
    features[camera]["shape"] = json!([3, 2, 3]);
    write_info(root, "v3.0", &features, PATHS_V3);
    write_table(
        &root.join("meta/tasks.parquet"),
        vec![
            ("task_index", ints([0])),
            ("task", Arc::new(StringArray::from(vec!["look"]))),
        ],
    );
    write_table(
        &root.join("meta/episodes/chunk-000/file-000.parquet"),
        vec![
            ("length", ints([4, 0])),
            ("episode_index", ints([0, 1])),
            ("data/chunk_index", ints([0, 0])),
            ("data/file_index", ints([0, 0])),
        ],
    );
    let images: Vec<Vec<u8>> = (0..4).map(|k| png(k * 10)).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let cells = StructArray::from(vec![
        (
            Arc::new(Field::new("bytes", DataType::Binary, true)),
            Arc::new(BinaryArray::from(images)) as ArrayRef,
        ),
        (
            Arc::new(Field::new("path", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![None::<&str>; 4])) as ArrayRef,
        ),
    ]);
    let mut columns = row_columns(&[(0, 4, 0)]);
    columns.push((camera, Arc::new(cells)));
    write_table(&root.join("data/chunk-000/file-000.parquet"), columns);
    let set = ingest("lerobot", root, &[]).expect("a dataset");
    // An episode of no rows keeps its number and is reported.
    assert_eq!(
        (set.kept(), set.rejected()[0].0.as_str()),
        (vec![0], "empty_episode")
    );
    let frames = set
        .dataset
        .read_frames("image", 0, &[0, 3])
        .expect("frames")
        .into_u8();
    assert_eq!((frames[0], frames[35], frames.len()), (0, 30, 36));
}
