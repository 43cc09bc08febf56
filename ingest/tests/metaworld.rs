//! Metaworld: `golden/metaworld.json`, bad cases 20 to 27.

use std::path::Path;

use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{
    ACTION, Dataset, Dtype, Likeness, Normalizer, PROPRIO, Pixels, REWARD, STATE, SliceSpec,
    SplitRule, duplicates, families,
};
use jepa_ingest::{Error, SourceOptions, source};

use crate::support::bad::bad_case;
use crate::support::{
    Golden, close, copy, fixture, ingest, json, list, refused, run, sha256, tasks, wide,
};

#[test]
fn rows_are_those_of_the_release_in_the_order_of_its_shards() {
    let set = ingest("metaworld", &fixture("metaworld"), &[]).expect("a dataset");
    set.check();
    let golden = json("golden/metaworld.json");
    let arrays = Golden::open("golden/metaworld.npz");
    let manifest = set.dataset.manifest();
    assert_eq!(manifest.draft.fps, 15.0);
    assert_eq!(manifest.field(STATE).expect("states").dtype, Dtype::F32);
    let rows = golden["rows"].as_array().expect("rows");
    assert_eq!(set.dataset.episodes().len(), rows.len());
    for (meta, row) in set.dataset.episodes().iter().zip(rows) {
        assert_eq!(meta.task, row["task"].as_str().expect("a task"));
        assert_eq!(meta.seed, row["seed"].as_u64());
        assert_eq!(
            meta.extras["episode"],
            row["episode"].as_f64().expect("a number")
        );
        assert_eq!(
            meta.source_path,
            format!("data/{}", row["file"].as_str().expect("a file"))
        );
        assert_eq!((meta.length, meta.frames["corner2"].count), (99, 99));
        let hashes: Vec<String> = list(&row["video"]["rgb_sha256"]);
        for (frame, expected) in hashes.iter().take(99).enumerate() {
            let pixels = set
                .dataset
                .read_frames("corner2", meta.episode_index, &[frame]);
            let Pixels::U8(bytes) = pixels.expect("a frame") else {
                panic!("bytes")
            };
            assert_eq!(
                sha256(&bytes),
                *expected,
                "{}, frame {frame}",
                meta.episode_index
            );
        }
    }
    for episode in [0, 3] {
        let rows = set.dataset.read_rows(episode, 0..99).expect("rows");
        let same = |field: &str, name: &str| {
            let expected = arrays.f32(&format!("row{episode}.{name}"));
            let found = rows[field].to_f32();
            assert_eq!(found, expected[..found.len()], "row {episode}, {name}");
            found
        };
        assert_eq!(same(ACTION, "actions").len(), 99 * 4);
        assert_eq!(same(REWARD, "rewards").len(), 99);
        let states = same(STATE, "states");
        assert_eq!(states.len(), 99 * 39);
        let proprio: Vec<f32> = states
            .chunks(39)
            .flat_map(|state| state[..4].to_vec())
            .collect();
        assert_eq!(rows[PROPRIO].to_f32(), proprio);
    }
}

#[test]
fn statistics_splits_and_slice_orders_equal_the_reference() {
    let set = ingest("metaworld", &fixture("metaworld"), &[]).expect("a dataset");
    let golden = json("golden/metaworld.json");
    for (field, name) in [(ACTION, "action"), (PROPRIO, "proprio"), (STATE, "state")] {
        let stats = set.dataset.stats().get(field, "all").expect("statistics");
        let mean: Vec<f64> = list(&golden["stats"][format!("{name}_mean")]);
        let std: Vec<f64> = list(&golden["stats"][format!("{name}_std")]);
        close(name, &stats.mean, &mean, 1e-5);
        close(name, stats.std.as_ref().expect("rows"), &std, 1e-5);
    }
    for (name, key, context) in [("train", "train", 3), ("val", "valid", 17)] {
        let split = set.dataset.split(name).expect("a split").episodes.clone();
        let expected: Vec<u64> = list(&golden[key]["trajectory_indices"]);
        assert_eq!(split, expected);
        let spec = SliceSpec::new(context, 5, name);
        let index = set.dataset.slices(&spec).expect("slices");
        let slices: Vec<[usize; 3]> = list(&golden[key]["slices_pos_in_subset_start_end"]);
        assert_eq!(index.len(), slices.len());
        for (k, [position, start, end]) in slices.into_iter().enumerate() {
            let at = index.get(k);
            assert_eq!(
                (at.episode, at.start, at.start + spec.rows()),
                (split[position], start, end)
            );
        }
    }
}

/// A slice of a split, as the reference loader returns it.
fn check_slice(
    dataset: &Dataset,
    spec: &SliceSpec,
    position: usize,
    prefix: &str,
    arrays: &Golden,
) {
    let index = dataset.slices(spec).expect("slices");
    let slice = dataset
        .read_slice(spec, index.get(position))
        .expect("a slice");
    for (field, values) in [(ACTION, &slice.action), (PROPRIO, &slice.proprio)] {
        let mut values = values.clone();
        let stats = dataset.stats().get(field, "all").expect("statistics");
        Normalizer::from_statistics(stats).normalize(&mut values);
        let short = field.rsplit('.').next().expect("a name");
        let expected = arrays.f64(&format!("{prefix}.{short}"));
        close(
            &format!("{prefix}.{short}"),
            &wide(&values),
            &expected,
            2e-5,
        );
    }
    close(
        prefix,
        &slice.state,
        &arrays.f64(&format!("{prefix}.state")),
        1e-6,
    );
    close(
        prefix,
        &wide(&slice.reward),
        &arrays.f64(&format!("{prefix}.reward")),
        1e-6,
    );
    if position == 0 {
        let small = Transform {
            size: 32,
            norm: PixelNorm::IMAGENET,
            ..Transform::released(Geometry::JepaWms)
        };
        let frames = slice.frames.into_f32();
        let found = small.apply(&frames, slice.height, slice.width);
        let expected = arrays.f64(&format!("{prefix}.visual32"));
        close(
            &format!("{prefix}.visual32"),
            &wide(&found),
            &expected,
            1e-5,
        );
    }
}

#[test]
fn slices_hold_what_the_reference_returns() {
    let set = ingest("metaworld", &fixture("metaworld"), &[]).expect("a dataset");
    let arrays = Golden::open("golden/metaworld.npz");
    let golden = json("golden/metaworld.json");
    for (name, key, context) in [("train", "train", 3), ("val", "valid", 17)] {
        let stored: Vec<usize> = list(&golden[key]["stored_positions"]);
        for position in stored {
            let spec = SliceSpec::new(context, 5, name);
            check_slice(
                &set.dataset,
                &spec,
                position,
                &format!("{key}_{position}"),
                &arrays,
            );
        }
    }
}

#[test]
fn a_task_filter_numbers_the_rows_that_are_left() {
    let golden = json("golden/metaworld.json")["filtered"].clone();
    let tasks: Vec<String> = list(&golden["filter_tasks"]);
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let set = ingest("metaworld", &fixture("metaworld"), &tasks).expect("a dataset");
    assert_eq!(
        set.dataset.episodes().len() as u64,
        golden["n_trajectories"]
    );
    for (name, key) in [
        ("train", "train_indices_in_filtered"),
        ("val", "valid_indices_in_filtered"),
    ] {
        let expected: Vec<u64> = list(&golden[key]);
        assert_eq!(set.dataset.split(name).expect("a split").episodes, expected);
    }
}

/// Cases 20, 21 and 22: a pointer, web pages, a shard without its end.
#[test]
fn a_shard_that_cannot_be_used_is_reported_and_the_others_are_read() {
    for id in [20, 21, 22] {
        let (root, case) = bad_case(id);
        let set = ingest("metaworld", &root, &[]).expect("a dataset");
        let expected: Vec<u64> = list(&case["ingested"]);
        assert_eq!(set.kept(), expected, "case {id}");
        let errors = case["errors"].as_array().expect("errors");
        let rejected = set.rejected();
        assert_eq!(rejected.len(), errors.len(), "case {id}");
        for ((code, path), error) in rejected.iter().zip(errors) {
            assert_eq!(error["kind"], *code, "case {id}");
            assert!(
                error["file"].as_str().expect("a file").ends_with(path),
                "{path}"
            );
        }
        // The entries of broken shards come after all episodes.
        let broken = set.summary.broken.iter();
        assert!(broken.map(|b| b.episode).eq(3..3 + errors.len() as u64));
        if let Some(size) = errors[0]["size"].as_u64() {
            assert!(set.summary.broken[0].detail.contains(&size.to_string()));
        }
    }
}

/// Cases 23 and 24: a state too few, a video that is none, a video too short.
#[test]
fn damaged_rows_are_rejected_one_by_one() {
    for id in [23, 24] {
        let (root, case) = bad_case(id);
        let set = ingest("metaworld", &root, &[]).expect("a dataset");
        let expected: Vec<u64> = list(&case["ingested"]);
        assert_eq!(set.kept(), expected, "case {id}");
        let mut errors: Vec<(u64, String)> = case["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|e| {
                (
                    e["episode"].as_u64().expect("an episode"),
                    e["kind"].as_str().expect("a kind").into(),
                )
            })
            .collect();
        errors.sort();
        let broken = set
            .summary
            .broken
            .iter()
            .map(|b| (b.episode, b.code.clone()));
        assert_eq!(broken.collect::<Vec<_>>(), errors, "case {id}");
        set.check();
    }
}

/// Case 25.
#[test]
fn a_release_without_a_column_is_refused_with_its_name() {
    let (root, case) = bad_case(25);
    let error = refused("metaworld", &root, tasks(&[]));
    let key = case["errors"][0]["key"].as_str().expect("a key");
    assert!(
        matches!(&error, Error::MissingKey { key: found, .. } if found == key),
        "{error}"
    );
    assert!(error.to_string().contains("train-00000-of-00001.parquet"));
}

/// Case 26: identities and trajectories that occur twice are reported and kept.
#[test]
fn repeated_identities_and_trajectories_are_reported_and_kept() {
    let (root, case) = bad_case(26);
    let set = ingest("metaworld", &root, &[]).expect("a dataset");
    let expected: Vec<u64> = list(&case["ingested"]);
    assert_eq!((set.kept(), set.rejected().len()), (expected, 0));
    let groups: Vec<Vec<u64>> = list(&case["duplicate_trajectories"]);
    assert_eq!(duplicates(&set.dataset).expect("groups"), groups);
    let ids: Vec<Vec<u64>> = list(&case["duplicate_ids"]);
    let notes = set.dataset.manifest().draft.notes.join("\n");
    for group in ids {
        assert!(notes.contains(&format!("{group:?}")), "{notes}");
    }
    let whole = ingest("metaworld", &fixture("metaworld"), &[]).expect("a dataset");
    assert_eq!(
        duplicates(&whole.dataset).expect("groups"),
        Vec::<Vec<u64>>::new()
    );
    assert!(
        !whole
            .dataset
            .manifest()
            .draft
            .notes
            .join("\n")
            .contains("more than once")
    );
}

/// Case 27.
#[test]
fn a_filter_that_nothing_passes_lists_the_tasks_there_are() {
    let (root, case) = bad_case(27);
    let names: Vec<String> = list(&case["options"]["filter_tasks"]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = refused("metaworld", &root, tasks(&names));
    assert_eq!(error.code(), "empty_filter_result");
    for available in list::<String>(&case["errors"][0]["available"]) {
        assert!(error.to_string().contains(&available), "{error}");
    }
}

#[test]
fn shards_are_read_in_the_order_of_their_numbers_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    let from = fixture("metaworld/data");
    // As text, 10 comes before 9; padding differs.
    for (name, number) in [
        ("train-00001-of-00002", "train-9-of-12"),
        ("train-00000-of-00002", "train-10-of-12"),
    ] {
        let to = data.join(format!("{number}.parquet"));
        std::fs::copy(from.join(format!("{name}.parquet")), to).expect("a copy");
    }
    std::fs::write(data.join("._train-9-of-12.parquet"), b"of another system")
        .expect("a stray file");
    let source =
        source::open("metaworld", folder.path(), SourceOptions::default()).expect("a release");
    assert_eq!(source.total(), 6);
    assert_eq!(source.read(0).expect("a row").task, "mw-reach-wall");
    assert_eq!(source.read(3).expect("a row").task, "mw-reach");
    assert_eq!(source.path_of(3), "data/train-10-of-12.parquet");
    let notes = source.manifest().notes.join("\n");
    assert!(notes.contains("10 of 12 shards are not there"), "{notes}");
}

#[test]
fn frames_are_resized_and_other_cameras_refused() {
    let options = SourceOptions {
        size: Some([16, 24]),
        cameras: vec!["corner2".into()],
        tasks: vec!["mw-reach".into()],
        ..SourceOptions::default()
    };
    let source = source::open("metaworld", &fixture("metaworld"), options).expect("a release");
    let set = run(source.as_ref(), &SplitRule::Released).expect("a dataset");
    let camera = &set.dataset.manifest().draft.cameras[0];
    assert_eq!(
        (camera.height, camera.width, camera.resized_from),
        (16, 24, Some([64, 64]))
    );
    let other = SourceOptions {
        cameras: vec!["corner".into()],
        ..SourceOptions::default()
    };
    let refused = source::open("metaworld", &fixture("metaworld"), other).map(|_| ());
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

#[test]
fn a_folder_without_shards_and_a_damaged_shard_are_errors() {
    let empty = tempfile::tempdir().expect("a folder");
    assert_eq!(
        refused("metaworld", empty.path(), tasks(&[])).code(),
        "missing_file"
    );
    assert_eq!(
        refused("metaworld", Path::new("nowhere"), tasks(&[])).code(),
        "missing_file"
    );
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture("metaworld"), folder.path());
    let shard = folder.path().join("data/train-00001-of-00002.parquet");
    let mut bytes = std::fs::read(&shard).expect("a shard");
    let length = bytes.len();
    bytes[length / 4..length / 2].fill(0x5a);
    std::fs::write(&shard, bytes).expect("written");
    let set = ingest("metaworld", folder.path(), &[]).expect("a dataset");
    assert_eq!(set.kept()[..3], [0, 1, 2]);
    assert!(!set.rejected().is_empty());
    set.check();
}

#[test]
fn episodes_that_begin_alike_are_one_family() {
    let alike = |set: &crate::support::Ingested, rows, tolerance| {
        families(&set.dataset, Likeness { rows, tolerance }).expect("families")
    };
    let whole = ingest("metaworld", &fixture("metaworld"), &[]).expect("a dataset");
    assert_eq!(alike(&whole, 1, 10.0), [vec![0, 1, 2], vec![3, 4, 5]]);
    assert_eq!(alike(&whole, 200, 10.0), Vec::<Vec<u64>>::new());
    let (root, _) = bad_case(26);
    let twice = ingest("metaworld", &root, &[]).expect("a dataset");
    assert_eq!(alike(&twice, 10, 0.0), [vec![1, 3]]);
}
