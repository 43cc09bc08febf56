//! Datasets whose frames are JPEG files: what is lost is stated, and nothing but such frames is accepted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jepa_datasets::conformance::{Problem, validate};
use jepa_datasets::{
    ACTION, Camera, CameraFrames, Codec, Column, Dataset, DatasetWriter, Episode, Error, Field,
    FrameLoss, Manifest, ManifestDraft, PixelType, Pixels, Source, SplitRule, StatedLoss, Stream,
    WriterOptions, merge_shards,
};

const HEIGHT: usize = 37;
const WIDTH: usize = 51;
const ROWS: usize = 9;
const EPISODES: u64 = 7;

fn options(quality: u8, dtype: PixelType, [height, width]: [usize; 2]) -> WriterOptions {
    WriterOptions {
        manifest: ManifestDraft {
            source: Source {
                name: "wall".into(),
                ..Source::default()
            },
            fields: vec![Field::action(1, "unitless", "none")],
            cameras: vec![
                Camera::new("top", height, width, dtype),
                Camera::new("wrist", height, width, PixelType::U8),
            ],
            fps: 10.0,
            control_hz: None,
            extra_last_obs: false,
            licence: None,
            citation: None,
            notes: Vec::new(),
        },
        codec: Codec::Jpeg { quality },
        overwrite: false,
        total_episodes: EPISODES,
        selection: None,
    }
}

/// Slopes with noise; the two cameras see different ones.
fn pixels(camera: &str, episode: u64, size: [usize; 2]) -> Vec<u8> {
    let mut random = Stream::new(3, &["jpeg", camera, &episode.to_string()]);
    let [height, width] = size;
    let mut pixels = Vec::new();
    for frame in 0..ROWS {
        for at in 0..height * width {
            let (y, x) = (at / width, at % width);
            for slope in [3 * x + 9 * frame, 4 * y, 2 * x + y] {
                pixels.push((slope as f64 + 40.0 * random.uniform()) as u8);
            }
        }
    }
    pixels
}

fn episode(index: u64, size: [usize; 2]) -> Episode {
    let frames = |camera: &str| CameraFrames {
        camera: camera.into(),
        height: size[0],
        width: size[1],
        count: ROWS,
        pixels: Pixels::U8(pixels(camera, index, size)),
    };
    let action = Column::F32 {
        width: 1,
        values: vec![index as f32; ROWS],
    };
    Episode {
        source_index: index,
        source_path: index.to_string(),
        source_hash: index.to_string(),
        task: "none".into(),
        seed: None,
        length: ROWS,
        columns: BTreeMap::from([(ACTION.into(), action)]),
        cameras: vec![frames("top"), frames("wrist")],
        extras: BTreeMap::new(),
    }
}

fn write_sized(dst: &Path, quality: u8, size: [usize; 2]) -> Dataset {
    let writer = DatasetWriter::open(dst, options(quality, PixelType::U8, size)).unwrap();
    for index in writer.pending() {
        writer.accept(episode(index, size)).unwrap();
    }
    writer.finish(&SplitRule::JEPA_WMS).unwrap()
}

fn write(dst: &Path, quality: u8) -> Dataset {
    write_sized(dst, quality, [HEIGHT, WIDTH])
}

fn read(dataset: &Dataset, camera: &str, episode: u64) -> Vec<u8> {
    let all: Vec<usize> = (0..ROWS).collect();
    dataset
        .read_frames(camera, episode, &all)
        .unwrap()
        .into_u8()
}

#[test]
fn the_stated_loss_is_that_of_the_decoded_frames() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = write(&folder.path().join("set"), 90);
    for camera in ["top", "wrist"] {
        let (mut squares, mut worst, mut values) = (0_u64, 0_i64, 0_u64);
        for index in 0..EPISODES {
            let before = pixels(camera, index, [HEIGHT, WIDTH]);
            let after = read(&dataset, camera, index);
            assert_eq!(before.len(), after.len());
            for (&a, &b) in before.iter().zip(&after) {
                let difference = i64::from(a) - i64::from(b);
                squares += (difference * difference) as u64;
                worst = worst.max(difference.abs());
                values += 1;
            }
        }
        let StatedLoss { psnr_db, sums } = dataset.manifest().loss[camera];
        let found = (sums.values, sums.squared_error, i64::from(sums.max_error));
        assert_eq!(found, (values, squares, worst), "{camera}");
        let mean = squares as f64 / values as f64;
        let psnr = 20.0 * 255.0_f64.log10() - 10.0 * mean.log10();
        assert!((psnr_db.unwrap() - psnr).abs() < 1e-9, "{camera}");
        assert!(psnr > 25.0 && worst < 100, "{camera}: {psnr} dB, {worst}");
    }
    let [top, wrist] = ["top", "wrist"].map(|camera| dataset.manifest().loss[camera]);
    assert_ne!(top, wrist, "every camera has its own");
}

#[test]
fn a_higher_quality_loses_less_and_takes_more_room() {
    let folder = tempfile::tempdir().unwrap();
    let of = |quality: u8| {
        let dataset = write(&folder.path().join(quality.to_string()), quality);
        let bytes = dataset.manifest().files["frames/top.zarr/c/0/0/0/0"].bytes;
        (dataset.manifest().loss["top"].psnr_db.unwrap(), bytes)
    };
    let all = [1, 50, 90, 100].map(of);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{all:?}");
}

#[test]
fn a_loss_of_nothing_has_no_ratio() {
    let mut loss = FrameLoss::default();
    loss.add(&[1, 2, 3], &[1, 2, 3]);
    assert_eq!(loss.psnr_db(), None);
    // Squares 1 + 4 over 6 values: 10 log10(65025 / (5 / 6)).
    loss.add(&[10, 20, 30], &[11, 20, 28]);
    assert_eq!((loss.values, loss.squared_error, loss.max_error), (6, 5, 2));
    assert!((loss.psnr_db().unwrap() - 48.922_616_3).abs() < 1e-6);
}

#[test]
fn a_dataset_of_jpeg_frames_has_no_problems() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    for (k, size) in [[HEIGHT, WIDTH], [32, 16], [1, 1]].into_iter().enumerate() {
        let root = root.join(k.to_string());
        write_sized(&root, 75, size);
        assert_eq!(validate(&root, &|| ()).unwrap(), [], "{size:?}");
    }
}

#[test]
fn codec_and_quality_are_in_the_manifest_and_in_the_array() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    write(&root, 83);
    let manifest = fs::read_to_string(root.join("dataset.json")).unwrap();
    let compact = manifest.replace(char::is_whitespace, "");
    assert!(compact.contains(r#""codec":{"name":"jpeg","quality":83},"loss":{"top":{"psnr_db":"#));
    let array = fs::read_to_string(root.join("frames/top.zarr/zarr.json")).unwrap();
    let codecs = r#""codecs":[{"name":"imagecodecs_jpeg","configuration":{"level":83,"subsampling":"420"}},{"name":"crc32c"}]"#;
    assert!(array.replace(char::is_whitespace, "").contains(codecs));
}

/// Writes a manifest with the right hash, and says what `validate` finds.
fn problems(root: &Path, manifest: &Manifest) -> Vec<String> {
    let mut manifest = manifest.clone();
    manifest.content_hash = manifest.compute_content_hash().unwrap();
    let text = serde_json::to_vec(&manifest).unwrap();
    fs::write(root.join("dataset.json"), text).unwrap();
    let problems = validate(root, &|| ()).unwrap();
    let is_ours = |p: &Problem| p.file == "dataset.json" && p.code == "loss_mismatch";
    assert!(problems.iter().all(is_ours), "{problems:?}");
    problems.into_iter().map(|problem| problem.detail).collect()
}

/// It cannot be computed again without the frames of the source.
#[test]
fn a_stated_loss_that_no_frames_can_have_is_a_problem() {
    type Change = fn(&mut StatedLoss);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    let good = write(&root, 90).manifest().clone();
    assert_eq!(problems(&root, &good), [""; 0]);
    let with = |change: &dyn Fn(&mut StatedLoss)| {
        let mut manifest = good.clone();
        change(manifest.loss.get_mut("top").unwrap());
        problems(&root, &manifest)
    };
    let changes: [(Change, &str); 5] = [
        (
            |loss| loss.psnr_db = Some(90.0),
            "the PSNR stated is 90.00 dB",
        ),
        (|loss| loss.psnr_db = None, "the PSNR stated is none"),
        (|loss| loss.sums.max_error = 0, "a largest error of 0"),
        (
            |loss| loss.sums.squared_error = u64::MAX,
            "no squared error",
        ),
        (|loss| loss.sums.values -= 1, "the frames have"),
    ];
    for (change, words) in changes {
        let found = with(&change);
        assert!(
            found.iter().any(|detail| detail.contains(words)),
            "{found:?}"
        );
        assert!(
            found.iter().all(|detail| detail.contains("`top`")),
            "{found:?}"
        );
    }

    let mut manifest = good.clone();
    let loss = manifest.loss.remove("top").unwrap();
    assert_eq!(
        problems(&root, &manifest),
        ["camera `top`: what jpeg:90 lost is not stated"]
    );
    manifest.loss.insert("top".into(), loss);
    manifest.loss.insert("other".into(), loss);
    let found = problems(&root, &manifest);
    assert!(
        found.len() == 1 && found[0].contains("`other`"),
        "{found:?}"
    );

    // Exact frames have lost nothing.
    let root = folder.path().join("exact");
    let exact = WriterOptions {
        codec: Codec::Lossless,
        ..options(90, PixelType::U8, [HEIGHT, WIDTH])
    };
    let writer = DatasetWriter::open(&root, exact).unwrap();
    for index in writer.pending() {
        writer.accept(episode(index, [HEIGHT, WIDTH])).unwrap();
    }
    let mut manifest = writer
        .finish(&SplitRule::JEPA_WMS)
        .unwrap()
        .manifest()
        .clone();
    assert_eq!(problems(&root, &manifest), [""; 0]);
    manifest.loss.insert("top".into(), loss);
    assert_eq!(
        problems(&root, &manifest),
        ["camera `top`: lossless loses nothing, and a loss is stated"]
    );
}

#[test]
fn a_quality_out_of_range_is_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    let mut manifest = write(&root, 90).manifest().clone();
    for quality in [0, 101] {
        manifest.codec = Codec::Jpeg { quality };
        let text = serde_json::to_vec(&manifest).unwrap();
        fs::write(root.join("dataset.json"), text).unwrap();
        let error = validate(&root, &|| ()).unwrap_err().to_string();
        assert!(error.contains("the quality is 1 to 100"), "{error}");
    }
}

/// Relative path -> bytes of every file under a folder.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn resumed_and_joined_datasets_have_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("whole"), 90);
    let expected = tree(&at("whole"));
    let size = [HEIGHT, WIDTH];
    let options = || options(90, PixelType::U8, size);

    // Two processes, the last episodes first.
    let writer = DatasetWriter::open(&at("resumed"), options()).unwrap();
    for index in [6, 5, 2] {
        writer.accept(episode(index, size)).unwrap();
    }
    drop(writer);
    let writer = DatasetWriter::open(&at("resumed"), options()).unwrap();
    assert_eq!(writer.pending(), [0, 1, 3, 4]);
    for index in writer.pending().into_iter().rev() {
        writer.accept(episode(index, size)).unwrap();
    }
    writer.finish(&SplitRule::JEPA_WMS).unwrap();
    assert!(tree(&at("resumed")) == expected);

    let shards = ["0/2", "1/2"].map(|shard| {
        let dst = at(&shard.replace('/', "of"));
        let part = shard.parse().unwrap();
        let writer =
            DatasetWriter::open_shard(&dst, options(), part, &SplitRule::JEPA_WMS).unwrap();
        for index in writer.pending() {
            writer.accept(episode(index, size)).unwrap();
        }
        writer.finish_shard().unwrap();
        dst
    });
    merge_shards(&at("joined"), &shards).unwrap();
    assert!(tree(&at("joined")) == expected);
}

#[test]
fn another_quality_is_another_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let size = [HEIGHT, WIDTH];
    let dst = folder.path().join("set");
    drop(DatasetWriter::open(&dst, options(90, PixelType::U8, size)).unwrap());
    let error = DatasetWriter::open(&dst, options(91, PixelType::U8, size)).unwrap_err();
    assert!(
        matches!(&error, Error::OtherSettings { found, asked, .. } if found == "jpeg:90" && asked == "jpeg:91"),
        "{error}"
    );
}

#[test]
fn float_frames_and_other_qualities_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let dst = folder.path().join("set");
    let size = [HEIGHT, WIDTH];
    for (options, words) in [
        (
            options(90, PixelType::F32, size),
            "camera `top` has float32 frames",
        ),
        (options(0, PixelType::U8, size), "the quality is 1 to 100"),
        (options(101, PixelType::U8, size), "the quality is 1 to 100"),
        (
            options(90, PixelType::U8, [1, 65_501]),
            "sides of at most 65500",
        ),
    ] {
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let error = DatasetWriter::open(&dst, options).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!dst.exists(), "nothing is written");
    }
}

#[test]
fn qualities_are_read_as_written() {
    for text in ["lossless", "raw", "jpeg:1", "jpeg:90", "jpeg:100"] {
        assert_eq!(text.parse::<Codec>().unwrap().to_string(), text);
    }
    for text in ["jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:9x", "jpeg:-1"] {
        let error = text.parse::<Codec>().unwrap_err().to_string();
        assert!(error.contains("1 to 100"), "{error}");
    }
    assert!("raw:1".parse::<Codec>().is_err());
}

/// Puts bytes in the place of one frame of a shard, with the right checksum.
fn forge(root: &Path, frame: usize, bytes: &[u8]) {
    let shard = root.join("frames/top.zarr/c/0/0/0/0");
    let old = fs::read(&shard).unwrap();
    let capacity = (64 << 20) / (HEIGHT * WIDTH * 3);
    let index = old.len() - 4 - 16 * capacity.min(1024);
    let place = index + 16 * frame;
    let mut new = old[..index].to_vec();
    let offset = new.len() as u64;
    new.extend_from_slice(bytes);
    new.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    let length = new.len() as u64 - offset;
    let mut places = old[index..old.len() - 4].to_vec();
    places[place - index..][..8].copy_from_slice(&offset.to_le_bytes());
    places[place - index + 8..][..8].copy_from_slice(&length.to_le_bytes());
    new.extend_from_slice(&places);
    new.extend_from_slice(&crc32c::crc32c(&places).to_le_bytes());
    fs::write(&shard, &new).unwrap();
    let manifest = fs::read_to_string(root.join("dataset.json")).unwrap();
    let (before, after) = manifest
        .split_once(r#""frames/top.zarr/c/0/0/0/0""#)
        .unwrap();
    let after = after.replacen(&old.len().to_string(), &new.len().to_string(), 1);
    let manifest = format!(r#"{before}"frames/top.zarr/c/0/0/0/0"{after}"#);
    fs::write(root.join("dataset.json"), manifest).unwrap();
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new("../tests/fixtures/jpeg").join(name)).unwrap()
}

/// Reads the forged frame.
fn read_forged(root: &Path, frame: usize, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    forge(root, frame, bytes);
    let dataset = Dataset::open(root)?;
    let (episode, row) = (frame / ROWS, frame % ROWS);
    let pixels = dataset.read_frames("top", episode as u64, &[row])?;
    Ok(pixels.into_u8())
}

#[test]
fn pixels_are_those_that_pil_decodes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [("odd", [HEIGHT, WIDTH]), ("even", [48, 64])] {
        let root = folder.path().join(name);
        write_sized(&root, 90, size);
        // The forger counts on the shards of the odd size; both hold 1024 frames.
        let found = read_forged(&root, 10, &fixture(&format!("{name}.jpg"))).unwrap();
        assert!(found == fixture(&format!("{name}.rgb")), "{name}");
    }
}

#[test]
fn frames_that_are_no_such_jpeg_are_errors_that_name_shard_and_frame() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    write(&root, 90);
    let whole = fixture("odd.jpg");
    for (bytes, words) in [
        (fixture("even.jpg"), "a JPEG of 48x64, not 37x51"),
        (fixture("progressive.jpg"), "of another kind"),
        (fixture("without_subsampling.jpg"), "of another kind"),
        (fixture("grey.jpg"), "of another kind"),
        (fixture("cmyk.jpg"), "of another kind"),
        (whole[..whole.len() - 100].to_vec(), "Premature end"),
        (whole[..whole.len() - 2].to_vec(), "Premature end"),
        (whole[..500].to_vec(), "missing SOS"),
        (vec![], ""),
        (b"not a picture".to_vec(), "Not a JPEG"),
    ] {
        let error = read_forged(&root, 12, &bytes).unwrap_err();
        let Error::Corrupt { path, detail } = &error else {
            panic!("{error}")
        };
        assert!(path.ends_with("frames/top.zarr/c/0/0/0/0"));
        assert!(
            detail.starts_with("frame 12: ") && detail.contains(words),
            "{detail}"
        );
    }
    // The decoder is as good as new afterwards.
    assert!(read_forged(&root, 12, &whole).unwrap() == fixture("odd.rgb"));
}

#[test]
fn a_flipped_bit_is_noticed_before_the_frame_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    write(&root, 90);
    let shard = root.join("frames/top.zarr/c/0/0/0/0");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[700] ^= 4;
    fs::write(&shard, bytes).unwrap();
    let dataset = Dataset::open(&root).unwrap();
    let all: Vec<usize> = (0..ROWS).collect();
    let error = dataset.read_frames("top", 0, &all).unwrap_err().to_string();
    assert!(
        error.contains("frame 0: the checksum is wrong") && error.contains("c/0/0/0/0"),
        "{error}"
    );
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    write(&root, 90);
    let whole = fixture("odd.jpg");
    let mut random = Stream::new(9, &["damage"]);
    let mut below = |n: usize| (random.uniform() * n as f64) as usize;
    let mut refused = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..=below(8) {
            let at = below(bytes.len());
            bytes[at] = below(256) as u8;
        }
        // Headers are short: half of the rounds damage one for certain.
        if round % 2 == 0 {
            let at = below(600.min(bytes.len()));
            bytes[at] ^= 1 << below(8);
        }
        match read_forged(&root, 5, &bytes) {
            Ok(pixels) => assert_eq!(pixels.len(), HEIGHT * WIDTH * 3),
            Err(Error::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 100, "{refused}");
}
