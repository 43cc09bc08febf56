//! stable-worldmodel: columns, fillers, frames, damaged files.

use std::path::Path;

use jepa_datasets::{ACTION, Alignment, Dtype, PROPRIO, REWARD, STATE, SliceSpec, SplitRule};
use jepa_ingest::{Error, SourceOptions};
use serde::Deserialize;

use crate::support::bad_hdf5::case;
use crate::support::{
    Arrays, RULE, cameras, close, faults, fixture, frame_hashes, golden, open, read_all, refused,
    run_to, values,
};

#[derive(Deserialize)]
struct Golden {
    ep_len: Vec<usize>,
    ep_offset: Vec<usize>,
    pixels_sha256: Vec<String>,
    clips_frameskip5_steps4: Vec<[usize; 2]>,
}

const FILE: &str = "swm_h5/pusht_expert_train.h5";

#[test]
fn columns_and_frames_equal_the_reference() {
    let (golden, arrays): (Golden, _) = (golden("swm_h5"), Arrays::f64("swm_h5"));
    let source = open("swm", &fixture(FILE), SourceOptions::default()).expect("a file");
    assert_eq!(source.total(), 2);
    let episodes = golden.ep_len.iter().zip(&golden.ep_offset).enumerate();
    for (index, (&length, &offset)) in episodes {
        let episode = source.read(index as u64).expect("an episode");
        assert_eq!(episode.length, length);
        assert_eq!(episode.task, "pusht_expert_train");
        for (column, name, width) in [
            (ACTION, "action", 2),
            (PROPRIO, "proprio", 4),
            (STATE, "state", 7),
            (REWARD, "reward", 1),
        ] {
            let rows = &arrays.get(name)[offset * width..(offset + length) * width];
            let nan = rows.iter().filter(|v| v.is_nan()).count();
            let zeroed: Vec<f64> = rows
                .iter()
                .map(|v| if v.is_nan() { 0.0 } else { *v })
                .collect();
            close(name, &values(&episode.columns, column), &zeroed, 0.0);
            let expected = match name {
                "action" => 2,
                "reward" => 1,
                _ => 0,
            };
            assert_eq!(nan, expected, "{name}");
        }
        assert_eq!(episode.extras["filled.action"], 1.0);
        assert_eq!(episode.extras["filled.reward"], 1.0);
        let frames = &episode.cameras[0];
        assert_eq!((frames.camera.as_str(), frames.height), ("pixels", 32));
        let hashes = frame_hashes(&frames.pixels, frames.height, frames.width);
        assert_eq!(hashes, golden.pixels_sha256[offset..offset + length]);
    }
    let manifest = source.manifest();
    let action = manifest
        .fields
        .iter()
        .find(|field| field.name == ACTION)
        .expect("a field");
    assert_eq!(
        (action.dtype, action.alignment),
        (Dtype::F32, Alignment::AppliedAtRow)
    );
    assert!(
        manifest
            .notes
            .iter()
            .any(|note| note.contains("`step_idx`"))
    );
    assert!(manifest.notes.iter().any(|note| note.contains("filler")));
}

#[test]
fn clips_are_those_of_the_reference() {
    let golden: Golden = golden("swm_h5");
    let source = open("swm", &fixture(FILE), SourceOptions::default()).expect("a file");
    let folder = tempfile::tempdir().expect("a folder");
    let rule = SplitRule::JepaWms {
        fraction: 1.0,
        seed: 234,
    };
    let (dataset, _) =
        run_to(source.as_ref(), &folder.path().join("set"), &rule).expect("a dataset");
    let index = dataset
        .slices(&SliceSpec::new(3, 5, "train"))
        .expect("slices");
    let mut found: Vec<[usize; 2]> = (0..index.len())
        .map(|k| [index.get(k).episode as usize, index.get(k).start])
        .collect();
    found.sort_unstable();
    assert_eq!(found, golden.clips_frameskip5_steps4);
}

#[test]
fn damaged_files_are_refused_each_for_its_reason() {
    let case = case(33);
    assert_eq!(case.files.len(), 4);
    for (name, expected) in &case.files {
        let path = fixture("bad").join(&case.dir).join(name);
        let fault = &expected.errors[0];
        if expected.fatal || fault.filter_id.is_some() {
            let error = refused("swm", &path, SourceOptions::default());
            assert_eq!(error.code(), fault.kind, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            if let Some(id) = fault.filter_id {
                assert!(
                    error.to_string().contains(&format!("filter {id}")),
                    "{error}"
                );
            }
            continue;
        }
        let source = open("swm", &path, SourceOptions::default()).expect("a file");
        let folder = tempfile::tempdir().expect("a folder");
        let (dataset, summary) =
            run_to(source.as_ref(), &folder.path().join("set"), &RULE).expect("a dataset");
        assert_eq!(read_all(&dataset), expected.ingested, "{name}");
        let episode = fault.episode.as_u64().expect("an episode");
        assert_eq!(faults(&summary), [(fault.kind.as_str(), episode)], "{name}");
    }
}

/// A dataset of two episodes, 3 and 2 rows.
fn write(path: &Path, action: &[f32; 10], lengths: [i32; 2], offsets: [i64; 2]) {
    let file = hdf5::File::create(path).expect("a file");
    let put = |name: &str, shape: &[usize], values: &[f32]| {
        let dataset = file
            .new_dataset::<f32>()
            .shape(shape)
            .create(name)
            .expect("a column");
        dataset
            .as_writer()
            .write_raw(values)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    put("action", &[5, 2], action);
    put("state", &[5, 2, 2], &[0.5; 20]);
    let reward = [1.0, 0.0, 0.0, 1.0, 0.0];
    file.new_dataset_builder()
        .with_data(&reward)
        .create("reward")
        .expect("a column");
    file.new_dataset_builder()
        .with_data(&[true, false, true, false, true])
        .create("done")
        .expect("a column");
    file.new_dataset_builder()
        .with_data(&[7_i32, 8, 9, 10, 11])
        .create("count")
        .expect("a column");
    let texts =
        ["a", "b", "c", "d", "e"].map(|t| t.parse::<hdf5::types::VarLenUnicode>().expect("text"));
    file.new_dataset_builder()
        .with_data(&texts)
        .create("caption")
        .expect("a column");
    let grey = file
        .new_dataset::<u8>()
        .shape([5, 2, 3, 1])
        .create("pixels_grey")
        .expect("images");
    let values: Vec<u8> = (0..30).collect();
    grey.as_writer().write_raw(&values).expect("images");
    let times = [0.0_f32, 0.1, 0.2, 0.0, 0.1];
    file.new_dataset_builder()
        .with_data(&times)
        .create("timestamp")
        .expect("a column");
    for name in ["pixels", "pixels_side", "depth"] {
        let images = file
            .new_dataset::<u8>()
            .shape([5, 2, 3, 3])
            .create(name)
            .expect("images");
        let values: Vec<u8> = (0..90).collect();
        images.as_writer().write_raw(&values).expect("images");
    }
    file.new_dataset_builder()
        .with_data(&lengths)
        .create("ep_len")
        .expect("lengths");
    file.new_dataset_builder()
        .with_data(&offsets)
        .create("ep_offset")
        .expect("offsets");
}

#[test]
fn columns_are_sorted_by_name_shape_and_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("toy.h5");
    write(&path, &[0.25; 10], [3, 2], [0, 3]);
    let source = open("swm", folder.path(), cameras(&["pixels_side"])).expect("a folder");
    let manifest = source.manifest();
    let fields: Vec<(&str, Dtype, usize)> = manifest
        .fields
        .iter()
        .map(|field| (field.name.as_str(), field.dtype, field.width()))
        .collect();
    assert_eq!(
        fields,
        [
            (ACTION, Dtype::F32, 2),
            ("count", Dtype::I64, 1),
            ("done", Dtype::I64, 1),
            (REWARD, Dtype::F32, 1),
            (STATE, Dtype::F32, 4),
            ("source.timestamp", Dtype::F32, 1),
        ]
    );
    for name in [
        "`caption`: it is text",
        "`depth`",
        "`pixels`: another camera",
        "`reward` is float64",
    ] {
        assert!(
            manifest.notes.iter().any(|note| note.contains(name)),
            "{name}: {:?}",
            manifest.notes
        );
    }
    let episode = source.read(1).expect("an episode");
    assert_eq!(values(&episode.columns, "count"), [10.0, 11.0]);
    assert_eq!(values(&episode.columns, "done"), [0.0, 1.0]);
    assert_eq!(values(&episode.columns, ACTION), [0.25; 4]);
    assert!(
        !episode.extras.contains_key("filled.action"),
        "a finite last action is kept"
    );
    assert_eq!(
        (episode.cameras.len(), episode.cameras[0].camera.as_str()),
        (1, "pixels_side")
    );
    let dst = folder.path().join("set");
    let (dataset, summary) = run_to(source.as_ref(), &dst, &RULE).expect("a dataset");
    assert_eq!(read_all(&dataset), [0, 1]);
    assert!(summary.broken.is_empty());
    let refused = refused("swm", &path, cameras(&["top"]));
    assert!(matches!(refused, Error::MissingKey { .. }));
}

#[test]
fn nan_is_a_filler_only_where_fillers_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nan.h5");
    let mut action = [0.5; 10];
    action[2] = f32::NAN;
    action[8] = f32::NAN;
    write(&path, &action, [3, 2], [0, 3]);
    let source = open("swm", &path, SourceOptions::default()).expect("a file");
    let (dataset, summary) =
        run_to(source.as_ref(), &folder.path().join("set"), &RULE).expect("a dataset");
    assert_eq!(faults(&summary), [("non_finite", 0)]);
    assert_eq!(read_all(&dataset), [1]);
    let rows = dataset.read_rows(0, 0..2).expect("rows");
    assert_eq!(values(&rows, ACTION), [0.5, 0.5, 0.0, 0.0]);
}

#[test]
fn episodes_cover_every_row_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ([3, 3], [0, 3], "count_mismatch"),
        ([3, 2], [0, 2], "count_mismatch"),
        ([6, -1], [0, 5], "length_out_of_range"),
        ([3, 2], [0, 4], "length_out_of_range"),
        ([3, 2], [-1, 3], "length_out_of_range"),
    ];
    for (at, (lengths, offsets, code)) in cases.into_iter().enumerate() {
        let path = folder.path().join(format!("{at}.h5"));
        write(&path, &[0.0; 10], lengths, offsets);
        let error = refused("swm", &path, SourceOptions::default());
        assert_eq!(error.code(), code, "{lengths:?} {offsets:?}: {error}");
    }
    let path = folder.path().join("swapped.h5");
    write(&path, &[0.0; 10], [2, 3], [3, 0]);
    let source = open("swm", &path, SourceOptions::default()).expect("any order");
    assert_eq!(
        values(&source.read(0).expect("an episode").columns, "count"),
        [10.0, 11.0]
    );
}

#[test]
fn grey_images_get_three_equal_channels() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("grey.h5");
    write(&path, &[0.0; 10], [3, 2], [0, 3]);
    let source = open("swm", &path, cameras(&["pixels_grey", "pixels"])).expect("a file");
    let episode = source.read(1).expect("an episode");
    let [grey, colour] = episode.cameras.as_slice() else {
        panic!("two cameras")
    };
    let expected: Vec<u8> = (18..30).flat_map(|v| [v; 3]).collect();
    assert_eq!(grey.pixels, expected.into());
    assert_eq!((grey.camera.as_str(), grey.count), ("pixels_grey", 2));
    let expected: Vec<u8> = (54..90).collect();
    assert_eq!(colour.pixels, expected.into());
    assert!(
        source
            .manifest()
            .notes
            .iter()
            .any(|note| note.contains("one channel"))
    );
}
