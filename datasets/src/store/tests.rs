//! The store as a whole: round trips, interruptions, damage, and what a read touches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::disk::{Disk, Fuse};
use super::*;
use crate::{
    ACTION, Camera, CameraFrames, Codec, Column, Episode, Error, Field, FrameSink, ManifestDraft,
    Order, Outcome, PROPRIO, PixelType, Pixels, REWARD, Result, STATE, SliceSpec, Source,
    SplitRule,
};

mod blank;
#[cfg(not(feature = "jpeg"))]
mod features;
mod hostile;
mod released;

const SIDE: usize = 4;

fn draft(dtype: PixelType) -> ManifestDraft {
    ManifestDraft {
        source: Source {
            name: "wall".into(),
            ..Source::default()
        },
        fields: vec![
            Field::action(2, "pixels", "dx, dy"),
            Field::proprio(3, "pixels", "x, y, z"),
            Field::state(crate::Dtype::F64, 2, "pixels", "x, y"),
            Field::reward("none"),
        ],
        cameras: vec![Camera::new("top", SIDE, SIDE, dtype)],
        fps: 10.0,
        control_hz: Some(10.0),
        extra_last_obs: true,
        licence: None,
        citation: None,
        notes: Vec::new(),
    }
}

fn options(total: u64) -> WriterOptions {
    WriterOptions {
        manifest: draft(PixelType::U8),
        codec: Codec::Lossless,
        overwrite: false,
        total_episodes: total,
        selection: None,
    }
}

/// Every number says where it belongs: `1000 * episode + row` and its dimension.
fn value(index: u64, row: usize, dim: usize) -> f64 {
    1000.0 * index as f64 + row as f64 + 0.125 * dim as f64
}

fn pixel(index: u64, frame: usize, at: usize) -> u8 {
    (index as usize * 31 + frame * 7 + at) as u8
}

fn length_of(index: u64) -> usize {
    60 + (index as usize * 17) % 40
}

fn episode(index: u64) -> Episode {
    let length = length_of(index);
    let grid =
        |width: usize| (0..length).flat_map(move |r| (0..width).map(move |d| value(index, r, d)));
    let f32s = |width| Column::F32 {
        width,
        values: grid(width).map(|v| v as f32).collect(),
    };
    let size = SIDE * SIDE * 3;
    let pixels: Vec<u8> = (0..=length)
        .flat_map(|f| (0..size).map(move |i| pixel(index, f, i)))
        .collect();
    Episode {
        source_index: index,
        source_path: format!("episode_{index:03}"),
        source_hash: format!("sha256:{index}"),
        task: if index.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        }
        .into(),
        seed: Some(u64::MAX - index),
        length,
        columns: BTreeMap::from([
            (ACTION.into(), f32s(2)),
            (PROPRIO.into(), f32s(3)),
            (
                STATE.into(),
                Column::F64 {
                    width: 2,
                    values: grid(2).collect(),
                },
            ),
            (REWARD.into(), f32s(1)),
        ]),
        cameras: vec![CameraFrames {
            camera: "top".into(),
            height: SIDE,
            width: SIDE,
            count: length + 1,
            pixels: Pixels::U8(pixels),
        }],
        extras: BTreeMap::from([("door".into(), index as f64)]),
    }
}

fn write(dst: &Path, total: u64) -> Dataset {
    write_as(dst, total, Codec::Lossless)
}

fn write_as(dst: &Path, total: u64, codec: Codec) -> Dataset {
    let options = WriterOptions {
        codec,
        ..options(total)
    };
    let writer = DatasetWriter::open(dst, options).expect("a writer");
    writer
        .pending()
        .into_iter()
        .for_each(|k| writer.accept(episode(k)).expect("an episode"));
    writer.finish(&SplitRule::JEPA_WMS).expect("a dataset")
}

/// Relative path -> bytes of every file under a folder.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(root)
                    .expect("inside")
                    .to_string_lossy()
                    .into_owned();
                files.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn what_was_written_is_read_back_exactly() {
    let root = folder();
    let dataset = write(&root.path().join("set"), 25);
    for meta in dataset.episodes() {
        let original = episode(meta.source_index);
        assert_eq!(meta.length as usize, original.length);
        assert_eq!(
            (meta.seed, meta.task.as_str()),
            (original.seed, original.task.as_str())
        );
        assert_eq!(meta.extras, original.extras);
        let rows = dataset
            .read_rows(meta.episode_index, 0..original.length)
            .expect("rows");
        assert_eq!(rows, original.columns);
        let part = dataset
            .read_rows(meta.episode_index, 7..9)
            .expect("two rows");
        assert_eq!(
            part[STATE].to_f64(),
            [(7, 0), (7, 1), (8, 0), (8, 1)].map(|(r, d)| value(meta.source_index, r, d))
        );
        let all: Vec<usize> = (0..=original.length).collect();
        let frames = dataset
            .read_frames("top", meta.episode_index, &all)
            .expect("frames");
        assert_eq!(frames, original.cameras[0].pixels);
    }
    let counts = dataset.manifest().counts;
    let rows: usize = (0..25).map(length_of).sum();
    assert_eq!(
        (counts.episodes, counts.rows, counts.frames),
        (25, rows as u64, rows as u64 + 25)
    );
    assert!(
        counts.rows > 1024 && counts.frames > 1024,
        "more than one block and one shard"
    );
}

#[test]
fn floats_and_raw_frames_are_read_back_exactly() {
    for codec in [Codec::Lossless, Codec::Raw] {
        let root = folder();
        let options = WriterOptions {
            manifest: draft(PixelType::F32),
            codec,
            ..options(2)
        };
        let writer = DatasetWriter::open(&root.path().join("set"), options).expect("a writer");
        let floats = |index| {
            let mut episode = episode(index);
            let bytes = episode.cameras[0].pixels.clone().into_f32();
            episode.cameras[0].pixels = Pixels::F32(bytes.iter().map(|v| v / 3.0).collect());
            episode
        };
        (0..2).for_each(|k| writer.accept(floats(k)).expect("an episode"));
        let dataset = writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
        let Pixels::F32(expected) = floats(1).cameras[0].pixels.clone() else {
            panic!("floats")
        };
        let size = SIDE * SIDE * 3;
        assert_eq!(
            dataset.read_frames("top", 1, &[3]).expect("a frame"),
            Pixels::F32(expected[3 * size..4 * size].to_vec())
        );
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_on_the_order_of_arrival() {
    let root = folder();
    write(&root.path().join("a"), 25);
    let writer = DatasetWriter::open(&root.path().join("b"), options(25)).expect("a writer");
    (0..25_u32)
        .into_par_iter()
        .rev()
        .for_each(|k| writer.accept(episode(k.into())).expect("an episode"));
    writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    assert_eq!(tree(&root.path().join("a")), tree(&root.path().join("b")));
}

/// Runs the whole command once; the process ends where the fuse burns through.
fn attempt(dst: &Path, total: u64, fuse: &Arc<Fuse>) -> Result<()> {
    let writer = DatasetWriter::open_on(
        dst,
        options(total),
        Disk {
            fuse: Arc::clone(fuse),
        },
    )?;
    for index in writer.pending() {
        match index {
            1 => writer.reject(1, "episode_001", "truncated_file", "cut")?,
            _ => writer.accept(episode(index))?,
        }
    }
    writer.finish(&SplitRule::JEPA_WMS).map(drop)
}

#[test]
fn an_interruption_at_any_step_resumes_to_the_same_bytes() {
    let root = folder();
    let whole = root.path().join("whole");
    attempt(&whole, 14, &Fuse::after(i64::MAX)).expect("no interruption");
    let expected = tree(&whole);
    for steps in 0.. {
        let dst = root.path().join(format!("after-{steps}"));
        let fuse = Fuse::after(steps);
        let first = attempt(&dst, 14, &fuse);
        if !fuse.is_spent() {
            assert!(steps > 80, "only {steps} steps were interrupted");
            break;
        }
        assert!(first.is_err(), "interrupted after {steps} steps");
        match attempt(&dst, 14, &Fuse::after(i64::MAX)) {
            // `dataset.json` was in place already.
            Err(Error::Exists { .. }) | Ok(()) => {}
            Err(other) => panic!("after {steps} steps: {other}"),
        }
        let found = tree(&dst);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "after {steps} steps"
        );
        assert!(found == expected, "other bytes after {steps} steps");
        fs::remove_dir_all(&dst).expect("cleaned up");
    }
}

#[test]
fn many_interruptions_in_a_row_still_end_in_the_same_bytes() {
    let root = folder();
    let whole = root.path().join("whole");
    attempt(&whole, 14, &Fuse::after(i64::MAX)).expect("no interruption");
    let dst = root.path().join("often");
    let mut attempts = 0;
    // The assembly alone takes about forty steps, and it starts again each time.
    while let Err(error) = attempt(&dst, 14, &Fuse::after(60)) {
        attempts += 1;
        if matches!(error, Error::Exists { .. }) {
            break;
        }
        assert!(attempts < 50, "no progress: {error}");
    }
    assert!(attempts > 1, "it was interrupted {attempts} times");
    assert!(tree(&dst) == tree(&whole));
}

#[test]
fn a_staged_file_that_lost_its_bytes_is_done_again() {
    let root = folder();
    let dst = root.path().join("set");
    let writer = DatasetWriter::open(&dst, options(3)).expect("a writer");
    (0..3).for_each(|k| writer.accept(episode(k)).expect("an episode"));
    drop(writer);
    fs::write(
        dst.join(STAGING)
            .join("episodes")
            .join(staging::frames_name(2, 0)),
        b"",
    )
    .expect("a power cut");
    let writer = DatasetWriter::open(&dst, options(3)).expect("it resumes");
    assert_eq!(writer.pending(), [2]);
}

#[test]
fn a_full_disk_is_one_clear_error_and_the_work_goes_on_afterwards() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let root = folder();
    let dst = root.path().join("set");
    let writer = DatasetWriter::open(&dst, options(2)).expect("a writer");
    writer.accept(episode(0)).expect("an episode");
    let temporary = dst
        .join(STAGING)
        .join("episodes")
        .join(format!(".{}.tmp", staging::rows_name(1)));
    #[cfg(unix)]
    std::os::unix::fs::symlink("/dev/full", &temporary).expect("a full disk");
    let error = writer.accept(episode(1)).expect_err("the disk is full");
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("free some disk space"))
    );
    drop(writer);
    fs::remove_file(&temporary).expect("space is freed");
    let writer = DatasetWriter::open(&dst, options(2)).expect("it resumes");
    assert_eq!(writer.pending(), [1]);
    writer.accept(episode(1)).expect("an episode");
    assert_eq!(
        writer
            .finish(&SplitRule::JEPA_WMS)
            .expect("a dataset")
            .episodes()
            .len(),
        2
    );
}

#[test]
fn two_writers_of_one_folder_do_not_meet() {
    let root = folder();
    let dst = root.path().join("set");
    let first = DatasetWriter::open(&dst, options(2)).expect("a writer");
    assert!(matches!(
        DatasetWriter::open(&dst, options(2)),
        Err(Error::Locked { .. })
    ));
    drop(first);
    DatasetWriter::open(&dst, options(2)).expect("the lock is free again");
}

#[test]
fn finished_foreign_and_other_folders_are_refused() {
    let root = folder();
    let dst = root.path().join("set");
    write(&dst, 2);
    let before = tree(&dst);
    assert!(matches!(
        DatasetWriter::open(&dst, options(2)),
        Err(Error::Exists { .. })
    ));
    assert_eq!(tree(&dst), before, "a refused writer changes nothing");

    let foreign = root.path().join("home");
    fs::create_dir_all(foreign.join("frames")).expect("a folder");
    let overwrite = WriterOptions {
        overwrite: true,
        ..options(2)
    };
    assert!(matches!(
        DatasetWriter::open(&foreign, overwrite.clone()),
        Err(Error::Foreign { .. })
    ));
    assert!(foreign.join("frames").exists());

    let begun = root.path().join("begun");
    DatasetWriter::open(&begun, options(2))
        .expect("a writer")
        .accept(episode(0))
        .expect("an episode");
    let other = WriterOptions {
        codec: Codec::Raw,
        ..options(2)
    };
    match DatasetWriter::open(&begun, other.clone()) {
        Err(Error::OtherSettings {
            field,
            found,
            asked,
            ..
        }) => {
            assert_eq!(
                (field, found.as_str(), asked.as_str()),
                ("codec", "lossless", "raw")
            );
        }
        other => panic!("{other:?}"),
    }
    let again = DatasetWriter::open(
        &begun,
        WriterOptions {
            overwrite: true,
            ..other
        },
    )
    .expect("overwritten");
    assert_eq!(again.pending(), [0, 1]);
}

#[test]
fn overwriting_a_finished_dataset_leaves_nothing_of_it() {
    let root = folder();
    write(&root.path().join("a"), 25);
    write(&root.path().join("b"), 3);
    let overwrite = WriterOptions {
        overwrite: true,
        ..options(3)
    };
    let writer = DatasetWriter::open(&root.path().join("a"), overwrite).expect("a writer");
    assert!(
        Dataset::open(&root.path().join("a")).is_err(),
        "half a dataset does not open"
    );
    (0..3).for_each(|k| writer.accept(episode(k)).expect("an episode"));
    writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    assert_eq!(tree(&root.path().join("a")), tree(&root.path().join("b")));
}

#[test]
fn an_unfinished_dataset_says_how_much_is_left() {
    let root = folder();
    let dst = root.path().join("set");
    let writer = DatasetWriter::open(&dst, options(5)).expect("a writer");
    writer.accept(episode(3)).expect("an episode");
    assert!(matches!(
        Dataset::open(&dst),
        Err(Error::Unfinished {
            pending: 4,
            total: 5,
            ..
        })
    ));
    assert!(matches!(
        writer.finish(&SplitRule::JEPA_WMS),
        Err(Error::Unfinished { pending: 4, .. })
    ));
    assert!(matches!(
        Dataset::open(&root.path().join("none")),
        Err(Error::NotADataset { .. })
    ));
}

#[test]
fn the_ledger_has_a_row_for_every_source_episode_and_splits_do_not_move() {
    use Outcome::{Accepted as A, Rejected as R, Skipped as S};
    let root = folder();
    let full = write(&root.path().join("full"), 10);
    let selection = Some(2..9);
    let writer = DatasetWriter::open(
        &root.path().join("part"),
        WriterOptions {
            selection,
            ..options(10)
        },
    );
    let writer = writer.expect("a writer");
    assert_eq!(writer.pending(), (2..9).collect::<Vec<_>>());
    assert!(writer.accept(episode(9)).is_err(), "outside the selection");
    for index in writer.pending() {
        match index {
            4 => writer
                .reject(4, "four", "checksum_mismatch", "one byte")
                .expect("a rejection"),
            5 => writer
                .skip(5, "five", "too_short", "known")
                .expect("a skip"),
            _ => writer.accept(episode(index)).expect("an episode"),
        }
    }
    assert!(writer.accept(episode(4)).is_err(), "it is in the ledger");
    let part = writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    let ledger = part.ledger().expect("a ledger");
    let outcomes: Vec<Outcome> = ledger.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [S, S, A, A, R, S, A, A, A, S]);
    assert_eq!(
        (ledger[4].code.as_str(), ledger[4].path.as_str()),
        ("checksum_mismatch", "four")
    );
    assert_eq!(ledger[2].seconds, Some(length_of(2) as f64 / 10.0));
    for meta in part.episodes() {
        let same = &full.episodes()[meta.source_index as usize];
        assert_eq!(
            meta.split, same.split,
            "source episode {}",
            meta.source_index
        );
    }
    assert_eq!(part.manifest().counts.rejected, 1);
    assert_eq!(part.manifest().counts.skipped, 4);
}

#[test]
fn families_stay_together_in_the_dataset_and_validation_repeats_it() {
    let folder = folder();
    let dst = folder.path().join("data");
    let writer = DatasetWriter::open(&dst, options(9)).expect("a writer");
    for index in writer.pending() {
        let mut one = episode(index);
        one.task = "push".into();
        let first = index % 3;
        let Some(Column::F64 { values, .. }) = one.columns.get_mut(STATE) else {
            panic!("states of 64 bits");
        };
        values.fill(100.0 * first as f64 + 0.1 * index as f64);
        writer.accept(one).expect("an episode");
    }
    let rule: SplitRule = "family:1:0.7:3".parse().expect("a rule");
    let dataset = writer.finish(&rule).expect("a dataset");
    let part = |name| -> Vec<u64> { dataset.split(name).expect(name).episodes.clone() };
    let val = part("val");
    assert_eq!(val.len(), 3);
    assert!(val.iter().all(|e| e % 3 == val[0] % 3), "{val:?}");
    assert_eq!(part("train").len(), 6);
    assert_eq!(
        crate::conformance::validate(&dst, &|| ()).expect("it opens"),
        []
    );
    forge(&dst, "splits.json", "family:1:0.7:3", "family:900:0.7:3");
    let problems =
        crate::conformance::splits_follow_their_rule(&Dataset::open(&dst).expect("it opens"));
    assert!(!problems.is_empty());
}

#[test]
fn a_dataset_of_nothing_is_an_error() {
    let root = folder();
    let writer = DatasetWriter::open(&root.path().join("set"), options(1)).expect("a writer");
    writer
        .reject(0, "zero", "decode_error", "all of it")
        .expect("a rejection");
    assert!(matches!(
        writer.finish(&SplitRule::JEPA_WMS),
        Err(Error::Empty { total: 1, .. })
    ));
}

/// One thing done to a good episode.
type Change<'a> = &'a dyn Fn(&mut Episode);

#[test]
fn episodes_that_do_not_fit_are_refused_with_a_reason_code() {
    let root = folder();
    let writer = DatasetWriter::open(&root.path().join("set"), options(1)).expect("a writer");
    let doubles = |e: &Episode| Column::F64 {
        width: 2,
        values: vec![0.0; 2 * e.length],
    };
    let filled = |rows: usize, value| Column::F32 {
        width: 2,
        values: vec![value; 2 * rows],
    };
    let with_action = |e: &mut Episode, action| {
        e.columns.insert(ACTION.into(), action);
    };
    let changes: [(&str, Change<'_>); 9] = [
        ("missing_key", &|e| {
            e.columns.retain(|name, _| name != ACTION);
        }),
        ("missing_key", &|e| {
            e.columns.extend([("other".into(), filled(e.length, 0.0))]);
        }),
        ("missing_key", &|e| e.cameras.clear()),
        ("unsupported_dtype", &|e| with_action(e, doubles(e))),
        ("count_mismatch", &|e| with_action(e, filled(3, 0.0))),
        ("count_mismatch", &|e| e.cameras[0].count = 3),
        ("count_mismatch", &|e| e.cameras[0].height = 3),
        ("non_finite", &|e| {
            with_action(e, filled(e.length, f32::NAN));
        }),
        ("empty_episode", &|e| e.length = 0),
    ];
    let cases = changes.map(|(code, change)| {
        let mut changed = episode(0);
        change(&mut changed);
        (code, changed)
    });
    for (expected, episode) in cases {
        match writer.accept(episode) {
            Err(Error::Episode { code, .. }) => assert_eq!(code, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert_eq!(writer.pending(), [0], "a refused episode is still to do");
}

#[test]
fn a_frame_after_the_last_row_has_to_be_declared() {
    let root = folder();
    let mut options = options(1);
    options.manifest.extra_last_obs = false;
    let writer = DatasetWriter::open(&root.path().join("set"), options).expect("a writer");
    match writer.accept(episode(0)) {
        Err(Error::Episode { code, detail, .. }) => {
            assert_eq!(code, "count_mismatch");
            assert!(detail.contains("after the last row"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let mut frames = writer.begin(0).expect("an episode");
    let whole = episode(0);
    let size = [SIDE, SIDE];
    frames
        .push_all("top", size, &whole.cameras[0].pixels)
        .expect("frames");
    frames.keep_first(whole.length);
    frames
        .accept(Episode {
            cameras: Vec::new(),
            ..whole
        })
        .expect("an episode");
    let dataset = writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    assert_eq!(
        dataset.episodes()[0].frames["top"].count,
        length_of(0) as u64
    );
}

/// Noise after the last row would be by far the largest loss.
#[cfg(feature = "jpeg")]
#[test]
fn frames_that_are_not_kept_do_not_count_as_lost() {
    let root = folder();
    let mut options = options(1);
    options.codec = Codec::Jpeg { quality: 90 };
    let writer = DatasetWriter::open(&root.path().join("set"), options).expect("a writer");
    let (length, size) = (length_of(0), [SIDE, SIDE]);
    let mut frames = writer.begin(0).expect("an episode");
    for _ in 0..length {
        let grey = crate::Frame::U8(&[128; SIDE * SIDE * 3]);
        frames.push("top", size, grey).expect("a frame");
    }
    let noise: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| (i * 151) as u8).collect();
    frames
        .push("top", size, crate::Frame::U8(&noise))
        .expect("a frame");
    frames.keep_first(length);
    let cameras = Vec::new();
    frames
        .accept(Episode {
            cameras,
            ..episode(0)
        })
        .expect("an episode");
    let dataset = writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    let loss = &dataset.manifest().loss["top"].sums;
    let values = (length * SIDE * SIDE * 3) as u64;
    assert_eq!((loss.values, loss.max_error), (values, 0));
}

#[test]
fn a_slice_holds_the_right_rows_frames_and_actions() {
    let root = folder();
    let dataset = write(&root.path().join("set"), 25);
    let spec = SliceSpec::new(3, 5, "all");
    let at = crate::SliceRef {
        episode: 11,
        start: 13,
    };
    let slice = dataset.read_slice(&spec, at).expect("a slice");
    assert_eq!(slice.rows, [13, 18, 23, 28]);
    let actions: Vec<f32> = (13..33)
        .flat_map(|r| (0..2).map(move |d| value(11, r, d) as f32))
        .collect();
    assert_eq!(slice.action, actions);
    let rows = |width: usize| {
        slice
            .rows
            .iter()
            .flat_map(move |&r| (0..width).map(move |d| value(11, r as usize, d)))
    };
    assert_eq!(slice.state, rows(2).collect::<Vec<_>>());
    assert_eq!(slice.proprio, rows(3).map(|v| v as f32).collect::<Vec<_>>());
    assert_eq!(slice.reward, rows(1).map(|v| v as f32).collect::<Vec<_>>());
    let size = SIDE * SIDE * 3;
    let frames = slice
        .rows
        .iter()
        .flat_map(|&f| (0..size).map(move |i| pixel(11, f as usize, i)));
    assert_eq!(slice.frames, Pixels::U8(frames.collect()));

    let short = SliceSpec {
        last_block: false,
        ..spec.clone()
    };
    let last = crate::SliceRef {
        episode: 11,
        start: length_of(11) - 16,
    };
    let slice = dataset
        .read_slice(&short, last)
        .expect("the last slice without a last block");
    assert_eq!((slice.action.len(), slice.rows.len()), (3 * 10, 4));
    assert!(
        dataset.read_slice(&spec, last).is_err(),
        "with a last block it does not fit"
    );
}

#[test]
fn reading_a_slice_touches_its_frames_and_one_run_of_rows_and_nothing_else() {
    let root = folder();
    let dst = root.path().join("set");
    let rows: u64 = write(&dst, 60).manifest().counts.rows;
    assert!(rows > 4 * 1024);
    let spec = SliceSpec {
        order: Order::Sequential,
        ..SliceSpec::new(3, 5, "all")
    };
    let table = fs::metadata(dst.join("steps/part-00000.parquet"))
        .expect("the table")
        .len();
    for k in [0, 700, 3000] {
        let dataset = Dataset::open(&dst).expect("a dataset");
        let at = dataset.slices(&spec).expect("an index").get(k);
        let opened = dataset.read_count();
        dataset.read_slice(&spec, at).expect("a slice");
        let first = dataset.read_count();
        let first_row = dataset.episodes()[at.episode as usize].first_row + at.start as u64;
        let blocks = (first_row + 19) / 1024 - first_row / 1024 + 1;
        let row_reads = first.row_reads - opened.row_reads;
        // One page per field; the end of a list may show only in the page after it.
        assert!(
            (4 * blocks..=4 * blocks + 3).contains(&row_reads),
            "slice {k}: {row_reads} pages"
        );
        assert!(first.row_bytes - opened.row_bytes < table / 2, "slice {k}");
        let frame_reads = first.frame_reads - opened.frame_reads;
        assert!(
            (5..=6).contains(&frame_reads),
            "slice {k}: 4 frames and the index of 1 or 2 shards, not {frame_reads}"
        );
        dataset.read_slice(&spec, at).expect("the same slice");
        let again = dataset.read_count();
        assert_eq!(again.row_reads, first.row_reads, "rows stay in memory");
        assert_eq!(
            again.frame_reads - first.frame_reads,
            4,
            "one read per frame"
        );
    }
}

#[test]
fn slices_read_by_many_threads_are_the_ones_read_by_one() {
    let root = folder();
    let dataset = write(&root.path().join("set"), 40);
    let spec = SliceSpec::new(3, 5, "train");
    let index = dataset.slices(&spec).expect("an index");
    let read = |k: usize| dataset.read_slice(&spec, index.get(k)).expect("a slice");
    let one: Vec<_> = (0..300).map(read).collect();
    let many: Vec<_> = (0..300_usize).into_par_iter().map(read).collect();
    assert_eq!(one, many);
}

/// Changes one byte of a file, at a share of its length.
fn damage(path: &Path, share: f64) {
    let mut bytes = fs::read(path).expect("a file");
    let at = (bytes.len() as f64 * share) as usize;
    bytes[at] ^= 0x5a;
    fs::write(path, bytes).expect("a damaged file");
}

#[test]
fn a_damaged_shard_or_table_is_named() {
    let root = folder();
    let dst = root.path().join("set");
    write(&dst, 25);
    damage(&dst.join("frames/top.zarr/c/1/0/0/0"), 0.2);
    let dataset = Dataset::open(&dst).expect("lengths are right");
    let read = |e: u64| {
        let all: Vec<usize> = (0..=dataset.episodes()[e as usize].length as usize).collect();
        dataset.read_frames("top", e, &all)
    };
    read(0).expect("the other shard is intact");
    let error = (12..25)
        .find_map(|e| read(e).err())
        .expect("a damaged frame");
    assert!(
        matches!(&error, Error::Corrupt { path, .. } if path.ends_with("frames/top.zarr/c/1/0/0/0")),
        "{error}"
    );

    for name in [EPISODES, SPLITS, STATS] {
        let dst = root.path().join(name);
        write(&dst, 2);
        damage(&dst.join(name), 0.5);
        let error = Dataset::open(&dst).expect_err("a damaged table");
        assert!(
            matches!(&error, Error::Corrupt { path, .. } if path.ends_with(name)),
            "{error}"
        );
    }
}

#[test]
fn missing_cut_and_newer_files_are_named() {
    let root = folder();
    let dst = root.path().join("set");
    write(&dst, 2);
    let shard = dst.join("frames/top.zarr/c/0/0/0/0");
    let bytes = fs::read(&shard).expect("a shard");
    fs::write(&shard, &bytes[..bytes.len() - 1]).expect("a cut shard");
    assert!(matches!(Dataset::open(&dst), Err(Error::Corrupt { path, .. }) if path == shard));
    fs::remove_file(&shard).expect("removed");
    assert!(matches!(Dataset::open(&dst), Err(Error::Io { path, .. }) if path == shard));
    fs::write(&shard, &bytes).expect("restored");
    Dataset::open(&dst).expect("whole again");
    let manifest = fs::read_to_string(dst.join(MANIFEST)).expect("a manifest");
    fs::write(
        dst.join(MANIFEST),
        manifest.replacen("\"format_version\": 1", "\"format_version\": 2", 1),
    )
    .expect("newer");
    assert!(matches!(
        Dataset::open(&dst),
        Err(Error::NewerFormat {
            found: 2,
            known: 1,
            ..
        })
    ));
}

#[test]
fn statistics_are_those_of_the_values() {
    let root = folder();
    let dataset = write(&root.path().join("set"), 12);
    let stats = dataset.stats().get(STATE, "train").expect("statistics");
    let train = &dataset.split("train").expect("a split").episodes;
    let column = |d: usize| {
        train
            .iter()
            .flat_map(move |&e| (0..length_of(e)).map(move |r| value(e, r, d)))
            .collect::<Vec<f64>>()
    };
    for d in 0..2 {
        let mut values = column(d);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let m2 = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        assert_eq!(stats.count, values.len() as u64);
        assert!((stats.mean[d] - mean).abs() < 1e-9 * mean.abs());
        let std = stats.std.as_ref().expect("more than one row")[d];
        assert!((std - (m2 / (n - 1.0)).sqrt()).abs() < 1e-9 * std);
        assert!((stats.std_population[d] - (m2 / n).sqrt()).abs() < 1e-9 * std);
        values.sort_by(f64::total_cmp);
        assert_eq!(
            (stats.min[d], stats.max[d]),
            (values[0], values[values.len() - 1])
        );
        assert_eq!(
            Some(stats.quantiles["q10"][d]),
            crate::quantile(&values, 0.1)
        );
        assert!(!stats.constant[d]);
    }
}

#[test]
fn a_sound_dataset_has_no_problems_and_every_damage_is_listed() {
    let root = folder();
    let dst = root.path().join("set");
    write(&dst, 25);
    let problems = || crate::conformance::validate(&dst, &|| ()).expect("a manifest");
    assert_eq!(problems(), []);
    damage(&dst.join("frames/top.zarr/c/1/0/0/0"), 0.2);
    damage(&dst.join("steps/part-00000.parquet"), 0.4);
    fs::write(dst.join("notes.txt"), b"mine").expect("another file");
    let found = problems();
    let has = |file: &str, code: &str| found.iter().any(|p| p.file == file && p.code == code);
    assert!(
        has("frames/top.zarr/c/1/0/0/0", "hash_mismatch"),
        "{found:?}"
    );
    assert!(has("frames/top.zarr/c/1/0/0/0", "unreadable"), "{found:?}");
    assert!(
        has("steps/part-00000.parquet", "hash_mismatch"),
        "{found:?}"
    );
    assert!(has("notes.txt", "unlisted_file"), "{found:?}");
    fs::remove_file(dst.join("stats.json")).expect("removed");
    assert!(
        problems()
            .iter()
            .any(|p| p.file == "stats.json" && p.code == "unreadable")
    );
}

/// Replaces a JSON file and makes the manifest agree, as somebody who edits numbers by hand would.
fn forge(dst: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(dst.join(name)).expect("a file");
    assert!(text.contains(from), "`{name}` has no {from}");
    fs::write(dst.join(name), text.replacen(from, to, 1)).expect("forged");
    let mut manifest = read_manifest(dst).expect("a manifest");
    let entry = super::disk::hash_file(&dst.join(name)).expect("a file");
    manifest.files.insert(name.into(), entry);
    manifest.content_hash = manifest.compute_content_hash().expect("a hash");
    let text = crate::schema::to_json(MANIFEST, &manifest).expect("a document");
    fs::write(dst.join(MANIFEST), text).expect("forged");
}

#[test]
fn numbers_edited_by_hand_are_found_even_when_the_hashes_agree() {
    let root = folder();
    for (name, from, to, code) in [
        (STATS, "\"count\": ", "\"count\": 1", "statistics_mismatch"),
        (
            SPLITS,
            "jepa-wms:0.9:234",
            "jepa-wms:0.9:235",
            "split_mismatch",
        ),
    ] {
        let dst = root.path().join(name);
        write(&dst, 12);
        forge(&dst, name, from, to);
        let found = crate::conformance::validate(&dst, &|| ()).expect("a manifest");
        assert!(found.iter().any(|p| p.code == code), "{name}: {found:?}");
    }
    let dst = root.path().join("manifest");
    write(&dst, 2);
    let text = fs::read_to_string(dst.join(MANIFEST)).expect("a manifest");
    fs::write(dst.join(MANIFEST), text.replacen("pixels", "metres", 1)).expect("forged");
    let found = crate::conformance::validate(&dst, &|| ()).expect("a manifest");
    assert_eq!(
        found.iter().map(|p| p.code).collect::<Vec<_>>(),
        ["hash_mismatch"]
    );
}

fn write_shard(dst: &Path, total: u64, shard: &str) -> PathBuf {
    let shard = shard.parse().expect("a shard");
    let writer = DatasetWriter::open_shard(dst, options(total), shard, &SplitRule::JEPA_WMS)
        .expect("a writer");
    for k in writer.pending() {
        writer.accept(episode(k)).expect("an episode");
    }
    writer.finish_shard().expect("a finished shard");
    dst.to_path_buf()
}

#[test]
fn joined_shards_are_the_dataset_of_one_process_byte_for_byte() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    write(&at("whole"), 25);
    let shards =
        ["2/3", "0/3", "1/3"].map(|shard| write_shard(&at(&shard.replace('/', "-")), 25, shard));
    assert!(shards.iter().all(|shard| is_shard(shard)) && !is_shard(&at("whole")));
    merge_shards(&at("joined"), &shards).expect("a dataset");
    assert_eq!(tree(&at("joined")), tree(&at("whole")));
    // The shards are still there, and can be joined again elsewhere.
    merge_shards(&at("again"), &shards).expect("a dataset");
    assert_eq!(tree(&at("again")), tree(&at("whole")));
}

#[test]
fn a_shard_is_no_dataset_and_says_so() {
    let root = folder();
    let shard = write_shard(&root.path().join("a"), 8, "0/2");
    let error = Dataset::open(&shard).expect_err("a shard");
    assert!(matches!(error, Error::IsShard { .. }), "{error}");
    let shard = "0/2".parse().expect("a shard");
    let path = root.path().join("b");
    let writer = DatasetWriter::open_shard(&path, options(8), shard, &SplitRule::JEPA_WMS)
        .expect("a writer");
    assert_eq!(writer.pending(), [0, 2, 4, 6]);
    assert!(
        writer.accept(episode(1)).is_err(),
        "an episode of the other shard"
    );
    let error = writer.finish(&SplitRule::JEPA_WMS).expect_err("a shard");
    assert!(matches!(error, Error::IsShard { .. }), "{error}");
}

#[test]
fn shards_that_are_not_all_there_are_refused() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    let (a, b) = (
        write_shard(&at("a"), 8, "0/2"),
        write_shard(&at("b"), 8, "1/2"),
    );
    let other = write_shard(&at("other"), 9, "1/2");
    let third = write_shard(&at("third"), 8, "1/3");
    write(&at("whole"), 8);
    for (shards, words) in [
        (vec![], "there are no shards"),
        (vec![a.clone()], "shard 1/2 is missing"),
        (
            vec![a.clone(), b.clone(), a.clone()],
            "shard 0/2 is given twice",
        ),
        (vec![a.clone(), other], "other settings"),
        (vec![a.clone(), third], "others are of"),
        (vec![a.clone(), at("whole")], "no shard"),
        (vec![a.clone(), at("nothing")], "no shard"),
    ] {
        let error = merge_shards(&at("out"), &shards)
            .expect_err(words)
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    let unfinished = at("unfinished");
    let shard = "1/2".parse().expect("a shard");
    drop(
        DatasetWriter::open_shard(&unfinished, options(8), shard, &SplitRule::JEPA_WMS)
            .expect("a writer"),
    );
    let error = merge_shards(&at("out"), &[a, unfinished]).expect_err("unfinished");
    assert!(
        matches!(error, Error::Unfinished { pending: 4, .. }),
        "{error}"
    );
}

#[test]
fn what_an_end_right_after_the_finish_leaves_is_removed_by_the_same_command() {
    let root = folder();
    let path = root.path().join("set");
    write(&path, 8);
    let whole = tree(&path);
    fs::create_dir(path.join(".staging")).expect("a folder");
    fs::write(path.join(".staging/assembling"), b"").expect("a file");
    let rule = SplitRule::JEPA_WMS;
    let found = DatasetWriter::finished_before(&path, &options(8), &rule).expect("a dataset");
    assert!(found.is_some());
    assert_eq!(tree(&path), whole);
    let other = DatasetWriter::finished_before(&path, &options(8), &SplitRule::DinoWm);
    assert!(other.expect("another split").is_none());
    let again = WriterOptions {
        overwrite: true,
        ..options(8)
    };
    let again = DatasetWriter::finished_before(&path, &again, &rule);
    assert!(again.expect("a request to write it anew").is_none());
}

#[test]
fn exact_codecs_write_the_bytes_they_always_wrote() {
    for (codec, hash) in [
        (
            Codec::Raw,
            "03354f197eec4d4a3069beb80df7fe6253195a7bda48cbdacc273709e0a182e4",
        ),
        (
            Codec::Lossless,
            "3c246a4ec52d757ddcd7c862f7d5f0e6528b23e17d8de63c9705257be94e4bfc",
        ),
    ] {
        let root = folder();
        let dataset = write_as(&root.path().join("set"), 3, codec);
        assert_eq!(dataset.content_hash(), hash, "{codec}");
    }
}
