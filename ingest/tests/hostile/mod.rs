//! Files made to do harm: every one ends in an error or in data, with memory in proportion to its size.

mod archives;
#[cfg(feature = "hdf5")]
mod hdf5;
mod memory;
mod numbers;
mod pickles;
mod tables;
#[cfg(feature = "video")]
mod videos;
mod zarr;

use std::path::PathBuf;

/// A file that goes with its folder.
struct Scratch {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        Self { folder, path }
    }

    fn write(&self, bytes: &[u8]) -> &std::path::Path {
        std::fs::write(&self.path, bytes).expect("a file");
        &self.path
    }

    /// Nothing is in the folder but the file that was read.
    #[track_caller]
    fn holds_nothing_else(&self) {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder");
        let names: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
        assert_eq!(names, [self.path.as_path()]);
    }
}

/// Numbers from one seed (SplitMix64): the same damage in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A copy with one to three changes: a byte, or 2, 4 or 8 bytes that read as nothing, as everything, or
    /// as something large.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(damaged.len());
            let width = [1, 1, 2, 4, 8][self.below(5)].min(damaged.len() - at);
            let value = match self.below(5) {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << self.below(64),
                3 => u64::from(damaged[at] ^ (1 << self.below(8))),
                _ => self.next(),
            };
            damaged[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        damaged
    }
}
