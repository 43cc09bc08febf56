//! TD-MPC2: `golden/tdmpc2.json`, bad cases 28 and 29.

use jepa_datasets::{ACTION, Order, PROPRIO, Pixels, REWARD, STATE, SliceSpec, SplitRule};
use jepa_ingest::container::torch_zip::TorchFile;
use jepa_ingest::{Error, SourceOptions, source};

use crate::support::bad::bad_case;
use crate::support::{Golden, close, fixture, ingest, json, refused, run, tasks};

#[test]
fn chunks_are_dicts_of_tensors_of_the_listed_shapes() {
    let golden = json("golden/tdmpc2.json");
    for file in golden["files_in_load_order"].as_array().expect("files") {
        let name = file["file"].as_str().expect("a name");
        let file_found = TorchFile::open(&fixture("tdmpc2").join(name)).expect("a chunk");
        let tensors = file_found.tensors().expect("tensors");
        let keys = file["keys"].as_object().expect("keys");
        assert_eq!(tensors.len(), keys.len());
        for (key, shape) in keys {
            let expected: Vec<usize> = crate::support::list(&shape[1]);
            assert_eq!(tensors[key].shape(), expected, "{name}, {key}");
        }
    }
}

#[test]
fn episodes_are_numbered_and_aligned_as_in_the_reference() {
    let set = ingest("tdmpc2", &fixture("tdmpc2"), &[]).expect("a dataset");
    let golden = json("golden/tdmpc2.json");
    let arrays = Golden::open("golden/tdmpc2.npz");
    let episodes = golden["episodes"].as_array().expect("episodes");
    assert_eq!(set.dataset.episodes().len(), episodes.len());
    for (meta, expected) in set.dataset.episodes().iter().zip(episodes) {
        let k = meta.episode_index;
        assert_eq!(meta.source_path, expected["file"].as_str().expect("a file"));
        assert_eq!(
            meta.extras["row_in_file"],
            expected["row"].as_f64().expect("a row")
        );
        assert_eq!(
            meta.extras["task_id"],
            expected["task"].as_f64().expect("a task")
        );
        assert_eq!(
            meta.length,
            expected["transitions"].as_u64().expect("a length")
        );
        let rows = set
            .dataset
            .read_rows(k, 0..meta.length as usize)
            .expect("rows");
        assert_eq!(rows[STATE].to_f64(), rows[PROPRIO].to_f64());
        for (field, name) in [(STATE, "obs"), (ACTION, "action"), (REWARD, "reward")] {
            let found = rows[field].to_f32();
            let golden = arrays.f32(&format!("ep{k}.{name}"));
            assert_eq!(found[..golden.len()], golden, "episode {k}, {name}");
            let total: f64 = rows[field].to_f64().iter().sum();
            let sum = expected[format!("{name}_sum")].as_f64().expect("a sum");
            if name != "obs" {
                close(name, &[total], &[sum], 1e-6);
            }
        }
    }
    let tasks: Vec<&str> = set
        .dataset
        .episodes()
        .iter()
        .map(|e| e.task.as_str())
        .collect();
    let expected = [
        "mw-assembly",
        "reacher-hard",
        "mw-reach",
        "mw-reach-wall",
        "mw-reach",
    ];
    assert_eq!(tasks, expected);
}

#[test]
fn a_dataset_without_cameras_is_whole() {
    let set = ingest("tdmpc2", &fixture("tdmpc2"), &[]).expect("a dataset");
    set.check();
    assert!(set.dataset.manifest().draft.cameras.is_empty());
    let notes = set.dataset.manifest().draft.notes.join("\n");
    assert!(
        notes.contains("there are 2 files") && notes.contains("has 20"),
        "{notes}"
    );
    let spec = SliceSpec {
        order: Order::Sequential,
        ..SliceSpec::new(3, 5, "train")
    };
    let index = set.dataset.slices(&spec).expect("slices");
    assert_eq!(index.len(), 4 * 81);
    let slice = set
        .dataset
        .read_slice(&spec, index.get(100))
        .expect("a slice");
    assert_eq!(
        (slice.frames, slice.height, slice.width),
        (Pixels::U8(Vec::new()), 0, 0)
    );
    assert_eq!(
        (slice.action.len(), slice.state.len(), slice.reward.len()),
        (4 * 30, 4 * 39, 4)
    );
    let named = SliceSpec {
        camera: Some("top".into()),
        ..spec
    };
    assert!(set.dataset.read_slice(&named, index.get(0)).is_err());
}

#[test]
fn tasks_can_be_chosen_by_name() {
    let set = ingest("tdmpc2", &fixture("tdmpc2"), &["mw-reach"]).expect("a dataset");
    let rows: Vec<f64> = set
        .dataset
        .episodes()
        .iter()
        .map(|e| e.extras["row_in_file"])
        .collect();
    assert_eq!((set.kept(), rows), (vec![0, 1], vec![0.0, 2.0]));
    let error = refused("tdmpc2", &fixture("tdmpc2"), tasks(&["reach"]));
    assert_eq!(error.code(), "empty_filter_result");
    assert!(error.to_string().contains("mw-reach-wall"), "{error}");
    let sized = SourceOptions {
        size: Some([8, 8]),
        ..SourceOptions::default()
    };
    let refused = source::open("tdmpc2", &fixture("tdmpc2"), sized).map(|_| ());
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

/// Case 28: a chunk of shorter episodes, a chunk without rewards.
#[test]
fn chunks_unlike_the_others_are_reported_by_file() {
    let (root, case) = bad_case(28);
    let set = ingest("tdmpc2", &root, &[]).expect("a dataset");
    assert_eq!(set.kept(), [0, 1]);
    let found: Vec<&str> = set.summary.broken.iter().map(|b| b.path.as_str()).collect();
    let expected: Vec<&str> = case["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|e| e["file"].as_str().expect("a file"))
        .collect();
    assert_eq!(found, expected);
    let [short, lacking] = set.summary.broken.as_slice() else {
        panic!("two files")
    };
    assert_eq!(short.code, "length_out_of_range");
    assert!(
        short.detail.contains("60") && short.detail.contains("101"),
        "{}",
        short.detail
    );
    assert_eq!(lacking.code, "missing_key");
    assert!(lacking.detail.contains("reward"), "{}", lacking.detail);
}

/// Case 29: filler that is no number is fine, a value that is none is not.
#[test]
fn only_filler_may_be_no_number() {
    let (root, case) = bad_case(29);
    let set = ingest("tdmpc2", &root, &[]).expect("a dataset");
    assert_eq!(set.kept(), [0]);
    let [broken] = set.summary.broken.as_slice() else {
        panic!("one episode")
    };
    assert_eq!((broken.episode, broken.code.as_str()), (1, "non_finite"));
    let row = case["errors"][0]["row"].as_u64().expect("a row");
    assert!(
        broken.detail.contains(&format!("row {row}")),
        "{}",
        broken.detail
    );
}

#[test]
fn one_chunk_alone_is_a_release() {
    let path = fixture("tdmpc2/chunk_2.pt");
    let source = source::open("tdmpc2", &path, SourceOptions::default()).expect("a chunk");
    let set = run(source.as_ref(), &SplitRule::JEPA_WMS).expect("a dataset");
    assert_eq!(set.kept(), [0, 1, 2]);
    let empty = tempfile::tempdir().expect("a folder");
    assert_eq!(
        refused("tdmpc2", empty.path(), tasks(&[])).code(),
        "empty_filter_result"
    );
}
