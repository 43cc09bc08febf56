//! Releases made to do harm, as the program meets them: it ends by itself, within its memory, and writes nowhere
//! but where it was told to.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{text, tree};

/// Address space of the program in KiB. A size that a file announces and does not hold is far beyond it.
const MEMORY_KIB: u32 = 3 << 20;

/// A release in a folder of its own, with folders beside it that must stay as they are.
struct Case {
    folder: tempfile::TempDir,
    source: &'static str,
}

impl Case {
    fn new(source: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["release", "here", "home", "temporary"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, source }
    }

    /// A copy of a fixture, a file or a folder.
    fn of(source: &'static str, fixture: &Path) -> Self {
        let case = Self::new(source);
        let to = case.release().join(fixture.file_name().unwrap());
        copy(fixture, &to);
        case
    }

    fn release(&self) -> PathBuf {
        self.folder.path().join("release")
    }

    /// Ingests what is in the release folder; returns stdout and stderr.
    #[track_caller]
    fn ingest(&self, what: &str) -> String {
        let mut entries = std::fs::read_dir(self.release()).unwrap();
        let src = entries.next().unwrap().unwrap().path();
        let before = tree(self.folder.path());
        let dst = self.folder.path().join("dst");
        let limit = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
        let output = Command::new("sh")
            .args(["-c", &limit, env!("CARGO_BIN_EXE_jepa-bench-under-test")])
            .args(["ingest", self.source, text(&src), text(&dst)])
            .current_dir(self.folder.path().join("here"))
            .env("HOME", self.folder.path().join("home"))
            .env("TMPDIR", self.folder.path().join("temporary"))
            .env("NO_PROGRESS", "1")
            .env("RAYON_NUM_THREADS", "2")
            .env_remove("JEPA_BENCH_HOME")
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        // 0 everything, 1 some episodes left out, 2 nothing; no signal, no failed allocation, no panic.
        let code = output.status.code();
        assert!(matches!(code, Some(0..=2)), "{what}: {code:?}: {said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
        let _ = std::fs::remove_dir_all(&dst);
        assert!(tree(self.folder.path()) == before, "{what}: {said}");
        said
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        copy(&path, &to.join(path.file_name().unwrap()));
    }
}

fn sorted(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn damaged_and_malicious_releases_leave_no_trace() {
    let mut cases: Vec<(&str, PathBuf)> = Vec::new();
    for path in sorted("fixtures/bad") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = name.split_once('_').map_or("", |(_, rest)| rest);
        let sources = ["pusht", "wall", "metaworld", "tdmpc2"];
        if let Some(source) = sources.iter().find(|source| name.starts_with(**source)) {
            cases.push((source, path));
        }
    }
    for (source, folder) in [
        ("npz", "fixtures/bad/34_npz_problems"),
        ("zarr", "fixtures/bad/35_zip_slip_archive"),
        ("zarr", "fixtures/bad/36_zarr_problems"),
        ("lerobot", "fixtures/bad/37_lerobot_problems"),
        ("swm", "fixtures/bad/33_swm_hdf5_problems"),
    ] {
        cases.extend(sorted(folder).into_iter().map(|path| (source, path)));
    }
    assert!(cases.len() > 40, "{}", cases.len());
    for (source, path) in cases {
        let case = Case::of(source, &path);
        case.ingest(text(&path));
    }
    assert!(!Path::new("/tmp/escaped_absolute.txt").exists());
}

/// Changes a few bytes of one file, the same ones in every run (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.next() % 3 {
            let at = (self.next() % bytes.len() as u64) as usize;
            let width = [1, 2, 4, 8][(self.next() % 4) as usize].min(bytes.len() - at);
            let value = match self.next() % 3 {
                0 => u64::MAX,
                1 => 1 << (self.next() % 64),
                _ => self.next(),
            };
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
}

/// Libraries in C read these formats: a fault in them would end the program, and their memory is their own.
#[test]
fn damage_of_any_byte_ends_in_an_error_or_a_dataset() {
    let dice = &mut Dice(1);
    for (source, release, file) in [
        ("swm", "fixtures/swm_h5", "pusht_expert_train.h5"),
        ("robocasa", "fixtures/robocasa", ""),
        (
            "lerobot",
            "fixtures/lerobot_v3",
            "videos/observation.images.top/chunk-000/file-000.mp4",
        ),
        (
            "zarr",
            "fixtures/zarr_codecs/blosc-lz4-1.zarr",
            "data/state/0.0",
        ),
    ] {
        let case = Case::of(source, Path::new(release));
        let top = case.release().join(Path::new(release).file_name().unwrap());
        let file = match file {
            "" => sorted(text(&top)).remove(0),
            file => top.join(file),
        };
        let good = std::fs::read(&file).unwrap();
        for round in 0..25 {
            let mut bad = good.clone();
            // Headers are small: half of the damage goes to the first and last kilobytes.
            let (start, end) = match round % 4 {
                0 => (0, bad.len().min(4096)),
                1 => (bad.len().saturating_sub(4096), bad.len()),
                _ => (0, bad.len()),
            };
            dice.damage(&mut bad[start..end]);
            std::fs::write(&file, &bad).unwrap();
            case.ingest(&format!("{release}, round {round}"));
        }
    }
}

/// A frame of 65535 x 65535 pixels, and tables of four billion samples.
#[test]
fn videos_larger_than_memory_are_refused() {
    let release = Path::new("fixtures/lerobot_v3");
    let case = Case::of("lerobot", release);
    let file = "lerobot_v3/videos/observation.images.top/chunk-000/file-000.mp4";
    let file = case.release().join(file);
    let good = std::fs::read(&file).unwrap();
    let find = |name: &[u8]| good.windows(4).position(|w| w == name).unwrap();
    let cases: [(&str, usize, &[u8]); 6] = [
        ("avc1", 28, &[0xff; 4]),
        ("stsz", 12, &[0xff; 4]),
        ("stsz", 8, &[0x7f, 0xff, 0xff, 0xff]),
        ("stts", 8, &[0xff; 4]),
        ("stsc", 8, &[0x7f, 0xff, 0xff, 0xff]),
        ("moov", 4, &[0xff; 12]),
    ];
    for (name, offset, bytes) in cases {
        let mut bad = good.clone();
        let at = find(name.as_bytes()) + offset;
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&file, bad).unwrap();
        case.ingest(name);
    }
}
