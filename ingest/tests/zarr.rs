//! Replay buffers of `diffusion_policy` from end to end: what its own loader returns, and what damage does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jepa_datasets::{
    ACTION, Column, Dataset, Outcome, PROPRIO, Pixels, STATE, SplitRule, conformance,
};
use jepa_ingest::container::zarr_v2::{ZarrArray, ZarrStore};
use jepa_ingest::container::zip_archive::ZipArchive;
use jepa_ingest::{Error, SourceOptions, source};
use serde::Deserialize;

use crate::support::zip::{Member, archive, deflate};
use crate::support::{self, Arrays, Ingested, fixture, sha256};

const PUSHT: &str = "dp_zarr/pusht_cchi_v7_replay.zarr";

fn ingest_with(src: &Path, rule: &SplitRule, asked: SourceOptions) -> Result<Ingested, Error> {
    support::ingest_with("zarr", src, asked, rule)
}

fn ingest(src: &Path) -> Result<Ingested, Error> {
    ingest_with(src, &SplitRule::Released, SourceOptions::default())
}

fn refused(src: &Path) -> Error {
    support::refused("zarr", src, SourceOptions::default())
}

/// `tests/fixtures/golden/dp_zarr.json`, as far as it is compared.
#[derive(Deserialize)]
struct Golden {
    episode_lengths: Vec<u64>,
    arrays: BTreeMap<String, GoldenArray>,
    #[serde(rename = "val_mask_ratio0.02_seed42")]
    released_mask: Vec<bool>,
    #[serde(rename = "val_mask_ratio0.4_seed7")]
    other_mask: Vec<bool>,
}

#[derive(Deserialize)]
struct GoldenArray {
    shape: Vec<usize>,
    c_order_le_sha256: String,
    chunk_files_missing: u64,
}

fn golden() -> Golden {
    support::golden("dp_zarr")
}

/// An array of the reference loader.
fn reference(name: &str) -> Vec<f32> {
    Arrays::f32("dp_zarr").get(name).to_vec()
}

fn rows(dataset: &Dataset, field: &str) -> Vec<f64> {
    let of_episode = |meta: &jepa_datasets::EpisodeMeta| {
        let rows = dataset.read_rows(meta.episode_index, 0..meta.length as usize);
        rows.expect("rows")[field].to_f64()
    };
    dataset.episodes().iter().flat_map(of_episode).collect()
}

#[test]
fn every_array_has_the_bytes_that_the_reference_reads() {
    let store = Arc::new(ZarrStore::open(&fixture(PUSHT)).expect("a store"));
    for (name, golden) in golden().arrays {
        let array = ZarrArray::open(&store, &format!("data/{name}")).expect("an array");
        assert_eq!(array.shape(), golden.shape);
        assert_eq!(array.missing_chunks(), golden.chunk_files_missing);
        let bytes = array.rows(0..golden.shape[0]).expect("its values");
        assert_eq!(sha256(&bytes), golden.c_order_le_sha256, "{name}");
    }
}

#[test]
fn episodes_are_those_of_the_reference() {
    let Ingested {
        folder: _folder,
        dataset,
        summary,
    } = ingest(&fixture(PUSHT)).expect("a dataset");
    assert_eq!(summary.broken, []);
    let lengths: Vec<u64> = dataset.episodes().iter().map(|e| e.length).collect();
    assert_eq!(lengths, golden().episode_lengths);
    for (field, name) in [
        (ACTION, "action"),
        (STATE, "state"),
        ("keypoint", "keypoint"),
        ("n_contacts", "n_contacts"),
    ] {
        let found: Vec<f32> = rows(&dataset, field)
            .into_iter()
            .map(|v| v as f32)
            .collect();
        assert_eq!(found, reference(name), "{field}");
    }
    let agent: Vec<f64> = rows(&dataset, STATE)
        .chunks_exact(5)
        .flat_map(|row| [row[0], row[1]])
        .collect();
    assert_eq!(rows(&dataset, PROPRIO), agent);
    for (episode, frame, name) in [(0, 5, "img_step5"), (2, 30, "img_last")] {
        let pixels = dataset.read_frames("img", episode, &[frame]);
        assert_eq!(pixels.expect("a frame"), Pixels::F32(reference(name)));
    }
    let draft = &dataset.manifest().draft;
    assert_eq!((draft.fps, draft.control_hz), (10.0, Some(10.0)));
    let problems = conformance::validate(dataset.path(), &|| {}).expect("a check");
    assert_eq!(problems, []);
}

#[test]
fn the_released_split_is_the_one_of_diffusion_policy() {
    let golden = golden();
    let other = SplitRule::DiffusionPolicy {
        ratio: 0.4,
        seed: 7,
    };
    for (rule, mask) in [
        (SplitRule::Released, golden.released_mask),
        (other, golden.other_mask),
    ] {
        let ingested = ingest_with(&fixture(PUSHT), &rule, SourceOptions::default());
        let ingested = ingested.expect("a dataset");
        let of = |wanted: bool| -> Vec<u64> {
            let chosen = mask.iter().enumerate().filter(|(_, val)| **val == wanted);
            chosen.map(|(episode, _)| episode as u64).collect()
        };
        let split = |name| {
            ingested
                .dataset
                .split(name)
                .expect("a split")
                .episodes
                .clone()
        };
        assert_eq!((split("train"), split("val")), (of(false), of(true)));
    }
}

#[test]
fn a_zip_archive_holds_the_same_numbers() {
    let folder = ingest(&fixture(PUSHT)).expect("a dataset");
    let zip = ingest(&fixture("dp_zarr/small.zarr.zip")).expect("a dataset");
    for field in [ACTION, STATE, PROPRIO, "keypoint", "n_contacts"] {
        assert_eq!(
            rows(&zip.dataset, field),
            rows(&folder.dataset, field),
            "{field}"
        );
    }
    assert!(zip.dataset.manifest().draft.cameras.is_empty());
}

#[test]
fn every_compression_and_layout_is_read() {
    let names = [
        "blosc-lz4-0",
        "blosc-lz4-1",
        "blosc-lz4hc-2",
        "blosc-blosclz-1",
        "blosc-zlib-1",
        "blosc-zstd-2",
        "zlib",
        "gzip",
        "zstd",
        "raw-columns",
        "big-endian",
        "slashes",
    ];
    for name in names {
        let src = fixture("zarr_codecs").join(format!("{name}.zarr"));
        let Ingested {
            folder: _folder,
            dataset,
            summary,
        } = ingest(&src).expect(name);
        assert_eq!((summary.accepted, summary.rows), (2, 12), "{name}");
        let action = (0..12).flat_map(|t| [f64::from(t), f64::from(t) / 2.0]);
        assert_eq!(rows(&dataset, ACTION), action.collect::<Vec<_>>(), "{name}");
        let state = (0..12).flat_map(|t| (0..40).map(move |d| f64::from(10 * t + d)));
        assert_eq!(rows(&dataset, STATE), state.collect::<Vec<_>>(), "{name}");
        let notes = dataset.manifest().draft.notes.join("; ");
        assert_eq!(
            notes.contains("rounded to float32"),
            name == "big-endian",
            "{notes}"
        );
    }
}

/// Every file below a folder as a deflated member, below `top`; `damage` may change the packed bytes.
fn zip_of(folder: &Path, top: &str, damage: impl Fn(&str, &mut Vec<u8>)) -> Vec<u8> {
    let mut names = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                names.push(path);
            }
        }
    }
    let content: Vec<Vec<u8>> = names
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    let mut packed: Vec<(String, Vec<u8>)> = Vec::new();
    for (path, content) in names.iter().zip(&content) {
        let inside = path.strip_prefix(folder).expect("inside");
        let name = format!("{top}{}", inside.display());
        let mut bytes = deflate(content);
        damage(&name, &mut bytes);
        packed.push((name, bytes));
    }
    let members = packed.iter().zip(&content);
    let members = members.map(|((name, packed), content)| Member::deflated(name, packed, content));
    archive(&members.collect::<Vec<_>>())
}

#[test]
fn a_deflated_archive_below_a_folder_is_read_member_by_member() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.zarr.zip");
    let plain = fixture("zarr_codecs/zstd.zarr");
    fs::write(&path, zip_of(&plain, "inner.zarr/", |_, _| {})).expect("an archive");
    let zip = ingest(&path).expect("a dataset");
    let state = (0..12).flat_map(|t| (0..40).map(move |d| f64::from(10 * t + d)));
    assert_eq!(rows(&zip.dataset, STATE), state.collect::<Vec<_>>());
    // A folder that holds one archive stands for it.
    assert_eq!(
        ingest(folder.path()).expect("a dataset").summary.accepted,
        2
    );
    let damage = |name: &str, packed: &mut Vec<u8>| {
        if name.ends_with("data/action/2.0") {
            packed.fill(0xff);
        }
    };
    fs::write(&path, zip_of(&plain, "inner.zarr/", damage)).expect("an archive");
    let Ingested { summary, .. } = ingest(&path).expect("a dataset");
    assert_eq!((summary.accepted, summary.broken.len()), (1, 1));
    assert_eq!(
        (summary.broken[0].episode, &*summary.broken[0].code),
        (1, "decode_error")
    );
    assert!(summary.broken[0].detail.contains("data/action/2.0"));
    let whole = fs::read(&path).expect("an archive");
    fs::write(&path, &whole[..whole.len() - 30]).expect("an archive");
    assert_eq!(refused(&path).code(), "truncated_file");
}

/// Bad case 36, store by store.
fn bad(store: &str) -> PathBuf {
    fixture("bad/36_zarr_problems").join(store)
}

#[test]
fn an_end_given_twice_is_an_empty_episode() {
    let Ingested {
        folder: _folder,
        dataset,
        summary,
    } = ingest(&bad("dup_ends.zarr")).expect("a dataset");
    let [broken] = summary.broken.as_slice() else {
        panic!("one broken episode: {:?}", summary.broken)
    };
    assert_eq!((broken.episode, broken.code.as_str()), (1, "empty_episode"));
    let kept: Vec<u64> = dataset.episodes().iter().map(|e| e.source_index).collect();
    assert_eq!(kept, [0, 2]);
    let ledger = dataset.ledger().expect("a ledger");
    assert_eq!(ledger[1].outcome, Outcome::Rejected);
}

#[test]
fn stores_that_contradict_themselves_are_refused() {
    let disagree = refused(&bad("ends_disagree.zarr"));
    assert_eq!(disagree.code(), "count_mismatch");
    let text = disagree.to_string();
    assert!(text.contains("31") && text.contains("30 rows"), "{text}");
    assert_eq!(
        refused(&bad("decreasing_ends.zarr")).code(),
        "length_out_of_range"
    );
    assert_eq!(refused(&bad("empty.zarr")).code(), "empty_dataset");
}

#[test]
fn a_missing_chunk_is_fill_values_and_a_note() {
    let Ingested {
        folder: _folder,
        dataset,
        summary,
    } = ingest(&bad("missing_chunk.zarr")).expect("a dataset");
    assert_eq!((summary.accepted, summary.broken.len()), (2, 0));
    let notes = &dataset.manifest().draft.notes;
    let note = "1 chunk of data/state missing, filled with fill_value";
    assert!(notes.iter().any(|n| n == note), "{notes:?}");
    let state = rows(&dataset, STATE);
    let blank = state
        .chunks_exact(5)
        .filter(|row| row.iter().all(|v| *v == 0.0));
    assert_eq!(blank.count(), 10, "one chunk of ten rows");
}

#[test]
fn a_corrupt_chunk_ends_only_the_episodes_that_touch_it() {
    let Ingested {
        folder: _folder,
        dataset,
        summary,
    } = ingest(&bad("corrupt_chunk.zarr")).expect("a dataset");
    let [broken] = summary.broken.as_slice() else {
        panic!("one broken episode: {:?}", summary.broken)
    };
    assert_eq!((broken.episode, broken.code.as_str()), (1, "decode_error"));
    assert!(
        broken.detail.contains("data/action/1.0"),
        "{}",
        broken.detail
    );
    assert_eq!(dataset.episodes().len(), 1);
}

#[test]
fn a_value_that_is_not_finite_is_found_in_its_chunk() {
    let (_folder, store) = copy("zarr_codecs/raw-columns.zarr");
    // Column-major, 5 rows of 2: the first number of row 6 is the second byte group of chunk 1.0.
    let path = store.join("data/action/1.0");
    let mut bytes = fs::read(&path).expect("a chunk");
    bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).expect("a chunk");
    let Ingested { summary, .. } = ingest(&store).expect("a dataset");
    let [broken] = summary.broken.as_slice() else {
        panic!("one broken episode: {:?}", summary.broken)
    };
    assert_eq!((broken.episode, broken.code.as_str()), (0, "non_finite"));
    let detail = "`data/action/1.0`: a value is not finite at row 6, dimension 0";
    assert_eq!(broken.detail, detail);
}

/// Bad case 35.
#[test]
fn an_archive_that_reaches_outside_is_refused_and_nothing_is_written() {
    let path = fixture("bad/35_zip_slip_archive/pusht_noise.zip");
    let error = ZipArchive::open(&path).map(|_| ()).expect_err("refused");
    assert!(
        matches!(&error, Error::UnsafeMember { member, .. } if member.contains("..")),
        "{error}"
    );
    assert_eq!(refused(&path).code(), "unsafe_member_name");
    assert!(!Path::new("/tmp/escaped_absolute.txt").exists());
    assert!(!fixture("bad/escaped_by_dotdot.txt").exists());
    assert!(!Path::new("../escaped_by_dotdot.txt").exists());
}

/// A copy of a fixture that may be damaged.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("copy.zarr");
    support::copy(&fixture(name), &to);
    (folder, to)
}

/// Replaces text in the metadata of an array.
fn edit(store: &Path, array: &str, from: &str, to: &str) {
    let path = store.join(array).join(".zarray");
    let text = fs::read_to_string(&path).expect("metadata");
    assert!(text.contains(from), "`{from}` is not in {text}");
    fs::write(&path, text.replace(from, to)).expect("metadata");
}

#[test]
fn announced_sizes_do_not_make_memory() {
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    edit(&store, "data/action", "[12, 2]", "[12, 200000000000]");
    assert_eq!(refused(&store).code(), "length_out_of_range");
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    edit(
        &store,
        "meta/episode_ends",
        "\"shape\": [2]",
        "\"shape\": [900000000000]",
    );
    assert_eq!(refused(&store).code(), "length_out_of_range");
    // An end that would be a row beyond any array.
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    let ends: Vec<u8> = [7, i64::MAX].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(store.join("meta/episode_ends/0"), ends).expect("ends");
    assert_eq!(refused(&store).code(), "count_mismatch");
    let ends: Vec<u8> = [-7_i64, 12].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(store.join("meta/episode_ends/0"), ends).expect("ends");
    assert_eq!(refused(&store).code(), "length_out_of_range");
}

#[test]
fn what_cannot_be_read_is_named() {
    let damage: [(&str, &str, &str, &str); 6] = [
        (
            "data/state",
            "\"zstd\"",
            "\"imagecodecs_jpeg2k\"",
            "unsupported_filter",
        ),
        (
            "data/state",
            "\"filters\": null",
            "\"filters\": [{\"id\": \"delta\"}]",
            "unsupported_filter",
        ),
        ("data/state", "\"<f4\"", "\"|O\"", "object_array"),
        ("data/state", "\"<f4\"", "\"<c8\"", "unsupported_dtype"),
        (
            "data/state",
            "\"zarr_format\": 2",
            "\"zarr_format\": 3",
            "unsupported_version",
        ),
        ("data/state", "\"order\"", "order", "invalid_json"),
    ];
    for (array, from, to, code) in damage {
        let (_folder, store) = copy("zarr_codecs/zstd.zarr");
        edit(&store, array, from, to);
        assert_eq!(refused(&store).code(), code, "{to}");
    }
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    fs::remove_dir_all(store.join("data/action")).expect("removed");
    assert!(matches!(refused(&store), Error::MissingKey { key, .. } if key == "data/action"));
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    fs::write(store.join("zarr.json"), "{}").expect("a file");
    assert_eq!(refused(&store).code(), "unsupported_version");
    assert_eq!(refused(Path::new("nowhere.zarr")).code(), "missing_file");
    assert_eq!(refused(&fixture("zarr_codecs")).code(), "invalid_header");
}

#[test]
fn no_damaged_byte_of_a_chunk_does_more_than_an_error() {
    for name in [
        "blosc-lz4-0",
        "blosc-lz4hc-2",
        "blosc-blosclz-1",
        "blosc-zlib-1",
        "blosc-zstd-2",
        "zlib",
        "gzip",
        "zstd",
    ] {
        let (_folder, folder) = copy(&format!("zarr_codecs/{name}.zarr"));
        let path = folder.join("data/state/0.0");
        let whole = fs::read(&path).expect("a chunk");
        let store = Arc::new(ZarrStore::open(&folder).expect("a store"));
        let array = ZarrArray::open(&store, "data/state").expect("an array");
        let mut errors = 0;
        // Every byte of the header and of what follows it, then a part of the rest.
        for at in (0..whole.len()).filter(|at| *at < 48 || at % 11 == 0) {
            for change in [1_u8, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                fs::write(&path, damaged).expect("a chunk");
                match array.rows(0..12) {
                    Ok(bytes) => assert_eq!(bytes.len(), 12 * 40 * 4, "{name}, byte {at}"),
                    Err(error) => {
                        assert_eq!(error.code(), "decode_error", "{name}, byte {at}");
                        errors += 1;
                    }
                }
            }
            fs::write(&path, &whole[..at]).expect("a chunk");
            assert!(array.rows(0..12).is_err(), "{name}, cut at {at}");
        }
        assert!(errors > 0, "{name}");
    }
}

#[test]
fn a_pointer_in_place_of_a_chunk_is_known() {
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 77\n";
    fs::write(store.join("data/action/2.0"), pointer).expect("a file");
    let Ingested { summary, .. } = ingest(&store).expect("a dataset");
    let [broken] = summary.broken.as_slice() else {
        panic!("one broken episode: {:?}", summary.broken)
    };
    assert_eq!((broken.episode, broken.code.as_str()), (1, "lfs_pointer"));
}

/// Writes an uncompressed `data/img` of floats into a store of twelve rows.
fn add_images(store: &Path, value: impl Fn(usize) -> f32) {
    let folder = store.join("data/img");
    fs::create_dir_all(&folder).expect("a folder");
    let header = r#"{"zarr_format": 2, "shape": [12, 4, 6, 3], "chunks": [12, 4, 6, 3], "dtype": "<f4",
        "compressor": null, "filters": null, "fill_value": 0, "order": "C"}"#;
    fs::write(folder.join(".zarray"), header).expect("metadata");
    let values = (0..12 * 4 * 6 * 3).map(|k| value(k / (4 * 6 * 3)));
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    fs::write(folder.join("0.0.0.0"), bytes).expect("a chunk");
}

#[test]
fn frames_outside_0_to_255_are_errors_of_their_episode() {
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    // Fractions in the first episode, black frames in the second.
    add_images(&store, |row| if row < 7 { 0.5 } else { 0.0 });
    let Ingested { summary, .. } = ingest(&store).expect("a dataset");
    assert_eq!(
        (summary.broken[0].episode, &*summary.broken[0].code),
        (0, "out_of_range")
    );
    assert_eq!(summary.accepted, 1);
    add_images(&store, |row| if row == 8 { f32::NAN } else { 30.0 });
    let Ingested { summary, .. } = ingest(&store).expect("a dataset");
    assert_eq!(
        (summary.broken[0].episode, &*summary.broken[0].code),
        (1, "non_finite")
    );
}

#[test]
fn frames_are_resized_and_cameras_chosen_on_request() {
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    add_images(&store, |row| row as f32 * 10.0);
    let asked = |size, cameras: &[&str]| SourceOptions {
        size,
        cameras: cameras.iter().map(ToString::to_string).collect(),
        ..SourceOptions::default()
    };
    let resized = ingest_with(&store, &SplitRule::Released, asked(Some([8, 8]), &["img"]));
    let Ingested {
        folder: _folder,
        dataset,
        ..
    } = resized.expect("a dataset");
    let camera = &dataset.manifest().draft.cameras[0];
    assert_eq!(
        (camera.height, camera.width, camera.resized_from),
        (8, 8, Some([4, 6]))
    );
    let frame = dataset.read_frames("img", 1, &[0]).expect("a frame");
    assert_eq!(frame, Pixels::F32(vec![70.0; 8 * 8 * 3]));
    let unknown = source::open("zarr", &store, asked(None, &["wrist"])).map(|_| ());
    assert_eq!(unknown.expect_err("no such camera").code(), "missing_key");
}

#[test]
fn tables_of_whole_numbers_keep_their_type() {
    let (_folder, store) = copy("zarr_codecs/zstd.zarr");
    let folder = store.join("data/done");
    fs::create_dir_all(&folder).expect("a folder");
    let header = r#"{"zarr_format": 2, "shape": [12], "chunks": [12], "dtype": "|b1", "compressor": null,
        "filters": null, "fill_value": false, "order": "C"}"#;
    fs::write(folder.join(".zarray"), header).expect("metadata");
    fs::write(folder.join("0"), [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]).expect("a chunk");
    let Ingested {
        folder: _folder,
        dataset,
        ..
    } = ingest(&store).expect("a dataset");
    let rows = dataset.read_rows(1, 0..5).expect("rows");
    assert_eq!(rows["done"], Column::I64(vec![0, 0, 0, 0, 1]));
}
