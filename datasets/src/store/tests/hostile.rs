//! Datasets made to do harm: right hashes, and contents that no writer writes.

use std::fs::File;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::file::metadata::ParquetMetaDataReader;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use serde_json::{Value, json};

use super::*;
use crate::conformance;
use crate::stream::Stream;

/// A dataset in a folder of its own.
struct Victim {
    _folder: tempfile::TempDir,
    root: PathBuf,
    manifest: Value,
}

impl Victim {
    fn new(total: u64) -> Self {
        let folder = folder();
        let root = folder.path().join("set");
        write(&root, total);
        let manifest = fs::read(root.join(MANIFEST)).expect("a manifest");
        Self {
            _folder: folder,
            manifest: serde_json::from_slice(&manifest).expect("a manifest"),
            root,
        }
    }

    /// Writes the manifest with one value changed.
    fn with(&self, pointer: &str, value: Value) -> &Path {
        let mut manifest = self.manifest.clone();
        *manifest.pointer_mut(pointer).expect(pointer) = value;
        self.write_manifest(&manifest);
        &self.root
    }

    /// Puts bytes in place of a file, with the right hash.
    fn replace(&self, name: &str, bytes: &[u8]) -> &Path {
        fs::write(self.root.join(name), bytes).expect("a file");
        let mut manifest = self.manifest.clone();
        manifest["files"][name] = json!({
            "bytes": bytes.len(),
            "blake3": blake3::hash(bytes).to_hex().as_str(),
        });
        self.write_manifest(&manifest);
        &self.root
    }

    fn write_manifest(&self, manifest: &Value) {
        let text = serde_json::to_vec(manifest).expect("JSON");
        fs::write(self.root.join(MANIFEST), text).expect("a manifest");
    }
}

/// Opening fails, and checking says so too.
#[track_caller]
fn refused(root: &Path, about: &str) -> Error {
    let error = Dataset::open(root).map(|_| ()).expect_err(about);
    match conformance::validate(root, &|| {}) {
        Err(_) => {}
        Ok(problems) => assert!(!problems.is_empty(), "{about}"),
    }
    error
}

/// Reads everything there is, as far as it can be read.
fn read(root: &Path) {
    let Ok(dataset) = Dataset::open(root) else {
        return;
    };
    let _ = dataset.ledger();
    for meta in dataset.episodes() {
        let _ = dataset.read_rows(meta.episode_index, 0..meta.length as usize);
        let _ = dataset.read_frames("top", meta.episode_index, &[0]);
    }
    for split in ["train", "val"] {
        if let Ok(slices) = dataset.slices(&SliceSpec::new(3, 5, split))
            && !slices.is_empty()
        {
            let _ = dataset.read_slice(&SliceSpec::new(3, 5, split), slices.get(0));
        }
    }
    let _ = conformance::validate(root, &|| {});
}

#[test]
fn the_victim_is_sound() {
    let victim = Victim::new(3);
    let same = victim.manifest["fps"].clone();
    let problems = conformance::validate(victim.with("/fps", same), &|| {}).expect("a check");
    assert_eq!(problems, []);
}

#[test]
fn names_do_not_lead_out_of_the_folder() {
    let victim = Victim::new(3);
    let secret = victim.root.parent().expect("a folder").join("secret");
    fs::write(&secret, "secret").expect("a file");
    let entry = json!({"bytes": 6, "blake3": blake3::hash(b"secret").to_hex().as_str()});
    let absolute = secret.to_str().expect("text");
    for name in [
        "../secret",
        absolute,
        "steps/../../secret",
        "./../secret",
        "..\\secret",
        "C:secret",
        "",
    ] {
        let mut files = victim.manifest["files"].clone();
        files[name] = entry.clone();
        let root = victim.with("/files", files);
        assert!(Dataset::open(root).is_err(), "{name}");
        assert!(conformance::validate(root, &|| {}).is_err(), "{name}");
    }
    for name in ["../../secret", "/etc", "a/b", "..", ".", "", "a\0b"] {
        refused(victim.with("/cameras/0/name", json!(name)), name);
    }
}

#[test]
fn sizes_that_no_memory_holds_are_refused() {
    let victim = Victim::new(3);
    let huge = json!(u64::MAX);
    let cases = [
        ("/fields/0/shape", json!([])),
        ("/fields/0/shape", json!([0])),
        ("/fields/0/shape", json!([u64::MAX])),
        ("/fields/0/shape", json!([1_u64 << 40, 1_u64 << 40])),
        ("/fields/0/shape", json!([1 << 21])),
        ("/fields/0/shape", json!([-1])),
        ("/fields/0/shape", json!([3])),
        ("/fields/0/name", json!("episode_index")),
        ("/fields/0/name", json!("a/b")),
        ("/cameras/0/height", json!(0)),
        ("/cameras/0/height", huge.clone()),
        ("/cameras/0/width", json!(1_u64 << 40)),
        ("/cameras/0/width", json!(1 << 30)),
        ("/fps", json!(0)),
        ("/fps", json!(-1)),
        ("/fps", json!(null)),
        ("/action_width", json!(3)),
        ("/proprio_width", huge.clone()),
        ("/state_width", json!(0)),
        ("/counts/episodes", huge.clone()),
        ("/counts/episodes", json!(2)),
        ("/counts/rows", huge.clone()),
        ("/counts/rows", json!(i64::MAX)),
        ("/counts/frames", huge.clone()),
        ("/source_episodes", json!(0)),
        ("/selection", json!({"start": 0, "end": u64::MAX})),
        ("/selection", json!({"start": 2, "end": 1})),
        ("/files/episodes.parquet/bytes", huge),
    ];
    for (pointer, value) in cases {
        let about = format!("{pointer} {value}");
        refused(victim.with(pointer, value), &about);
    }
}

/// A split is drawn over every source episode: the number is only believed with a ledger of as many rows.
#[test]
fn a_number_of_source_episodes_costs_nothing() {
    let victim = Victim::new(3);
    for total in [4, (1_u64 << 32) / 20 - 1, u64::MAX] {
        let root = victim.with("/source_episodes", json!(total));
        let problems = conformance::validate(root, &|| {}).expect("a check");
        assert!(
            problems.iter().any(|p| p.file == "ledger.parquet"),
            "{problems:?}"
        );
        assert!(problems.iter().all(|p| p.code != "split_mismatch"));
    }
}

/// A table with the numbers of one column changed.
fn edited(path: &Path, column: &str, change: impl Fn(usize, i64) -> i64) -> Vec<u8> {
    let file = File::open(path).expect("a table");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a table");
    let schema = Arc::clone(reader.schema());
    let batches: Vec<RecordBatch> = reader
        .build()
        .and_then(|reader| reader.map(|batch| Ok(batch?)).collect())
        .expect("rows");
    let batch = concat_batches(&schema, &batches).expect("rows");
    let position = schema.index_of(column).expect("the column");
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let numbers = columns[position].as_any().downcast_ref::<Int64Array>();
    let numbers = numbers.expect("whole numbers").values().iter().enumerate();
    columns[position] = Arc::new(Int64Array::from_iter_values(
        numbers.map(|(row, &value)| change(row, value)),
    ));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("rows");
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).expect("a table");
    writer.write(&batch).expect("rows");
    writer.into_inner().expect("a table")
}

#[test]
fn counts_without_a_sum_are_refused() {
    let victim = Victim::new(3);
    let path = victim.root.join(EPISODES);
    let good = fs::read(&path).expect("a table");
    for column in [
        "length",
        "first_row",
        "episode_index",
        "frames/top/first",
        "frames/top/count",
    ] {
        for lie in [-1, i64::MIN, i64::MAX, 1 << 40] {
            for row in 0..3 {
                let bytes = edited(&path, column, |k, value| if k == row { lie } else { value });
                let about = format!("{column} {row}: {lie}");
                refused(victim.replace(EPISODES, &bytes), &about);
                fs::write(&path, &good).expect("a table");
            }
        }
        let all = edited(&path, column, |_, _| i64::MAX);
        refused(victim.replace(EPISODES, &all), column);
        fs::write(&path, &good).expect("a table");
    }
}

/// A table of nothing but a footer, of nothing but a schema.
fn table_of_schema(schema: &[u8]) -> Vec<u8> {
    let footer = [&[0x15, 0x02, 0x19], schema].concat();
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1", &footer[..], &length, b"PAR1"].concat()
}

/// The decoder makes room by what a footer announces: 2^31 - 1 columns, or one column of so many.
#[test]
fn footers_that_announce_more_than_they_have_are_refused() {
    let victim = Victim::new(3);
    let list = [0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
    let column = [
        0x1c, 0x48, 1, b'a', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0,
    ];
    for (schema, about) in [
        (&list[..], "2147483647 items"),
        (&column, "2147483647 columns"),
    ] {
        let bytes = table_of_schema(schema);
        for name in [EPISODES, "steps/part-00000.parquet"] {
            let good = fs::read(victim.root.join(name)).expect("a table");
            let error = refused(victim.replace(name, &bytes), name);
            assert!(error.to_string().contains(about), "{error}");
            assert!(error.to_string().contains("announces"), "{error}");
            fs::write(victim.root.join(name), good).expect("a table");
        }
    }
}

/// The same of the page index of the steps.
#[test]
fn page_indexes_that_announce_more_than_they_have_are_refused() {
    let victim = Victim::new(3);
    let name = "steps/part-00000.parquet";
    let good = fs::read(victim.root.join(name)).expect("a table");
    let file = File::open(victim.root.join(name)).expect("a table");
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file);
    let metadata = metadata.expect("a table");
    let column = metadata.row_group(0).column(0);
    for (range, list) in [
        (column.offset_index_range(), [0x19, 0xfc]),
        (column.column_index_range(), [0x19, 0xf1]),
    ] {
        let at = range.expect("an index").start as usize;
        assert_eq!(good[at], 0x19, "a list is the first field");
        let mut bad = good.clone();
        bad[at..at + 2].copy_from_slice(&list);
        bad[at + 2..at + 7].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x07]);
        let error = refused(victim.replace(name, &bad), name);
        let text = error.to_string();
        assert!(text.contains("announces 2147483647 items"), "{text}");
    }
}

#[test]
fn statistics_and_splits_of_another_size_are_refused() {
    let victim = Victim::new(3);
    let edit = |name: &str, pointer: &str, value: Value| {
        let good = fs::read(victim.root.join(name)).expect("a document");
        let mut document: Value = serde_json::from_slice(&good).expect("a document");
        *document.pointer_mut(pointer).expect(pointer) = value;
        let bytes = serde_json::to_vec(&document).expect("JSON");
        refused(victim.replace(name, &bytes), pointer);
        fs::write(victim.root.join(name), good).expect("a document");
    };
    for pointer in [
        "/fields/action/all/mean",
        "/fields/action/train/std",
        "/fields/action/all/constant",
        "/fields/action/all/quantiles/q50",
    ] {
        edit(STATS, pointer, json!([]));
        edit(STATS, pointer, json!([1.0, 2.0, 3.0]));
    }
    edit(STATS, "/fields", json!({}));
    edit(SPLITS, "/splits/0/episodes", json!([3]));
    edit(SPLITS, "/splits/0/episodes", json!([u64::MAX]));
    edit(SPLITS, "/splits/0/episodes", json!([-1]));
}

/// Seeded damage of every file, with right hashes: errors or data, and no panic.
#[test]
fn no_damage_of_a_file_does_more_than_an_error() {
    let victim = Victim::new(2);
    let mut names: Vec<String> = victim.manifest["files"]
        .as_object()
        .expect("files")
        .keys()
        .cloned()
        .collect();
    names.push(MANIFEST.into());
    let stream = &mut Stream::new(9, &["damage"]);
    for name in names {
        let good = fs::read(victim.root.join(&name)).expect("a file");
        for _ in 0..120 {
            let mut bytes = good.clone();
            for _ in 0..=stream.below(3) {
                let at = stream.below(bytes.len() as u64) as usize;
                bytes[at] = match stream.below(4) {
                    0 => 0xff,
                    1 => bytes[at] ^ (1 << stream.below(8)),
                    _ => stream.below(256) as u8,
                };
            }
            if name == MANIFEST {
                fs::write(victim.root.join(MANIFEST), &bytes).expect("a file");
            } else {
                victim.replace(&name, &bytes);
            }
            read(&victim.root);
        }
        fs::write(victim.root.join(&name), good).expect("a file");
    }
}
