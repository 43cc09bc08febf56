//! The few ways in which the writer changes the disk.
//!
//! Every change is atomic: a whole file appears under its name by a rename, a journal line is appended,
//! a file or folder is removed. Tests interrupt the writer before each of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::schema::FileEntry;
use crate::{Error, Result};

/// Access to the disk; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) fuse: std::sync::Arc<Fuse>,
}

impl Disk {
    /// Starts a file that appears under `path` when it is committed.
    pub(crate) fn create(&self, path: &Path) -> Result<AtomicFile> {
        let temporary = temporary_name(path);
        let file = File::create(&temporary).map_err(|e| Error::io("create", &temporary, e))?;
        Ok(AtomicFile {
            disk: self.clone(),
            file: BufWriter::with_capacity(1 << 16, file),
            temporary,
            path: path.to_path_buf(),
            hasher: blake3::Hasher::new(),
            bytes: 0,
        })
    }

    /// Writes a whole file at once. `sync` waits until it is on the disk itself.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8], sync: Sync) -> Result<FileEntry> {
        let mut file = self.create(path)?;
        file.write_all(bytes)
            .map_err(|e| Error::io("write", path, e))?;
        file.commit(sync)
    }

    /// Appends a line to an open file.
    pub(crate) fn append(&self, file: &mut File, path: &Path, line: &[u8]) -> Result<()> {
        let written = self.step(path).and_then(|()| {
            file.write_all(line)
                .map_err(|e| Error::io("write", path, e))
        });
        #[cfg(test)]
        if written.is_err() {
            // An interrupted append leaves any part of the line behind.
            let _ = file.write_all(&line[..line.len() / 2]);
        }
        written
    }

    /// Creates a folder and its parents.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<()> {
        self.step(path)?;
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))
    }

    /// Removes a file or a folder with everything in it; it may be gone already.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        self.step(path)?;
        let gone = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    fn step(&self, path: &Path) -> Result<()> {
        self.fuse.step(path)
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests interrupt here"
    )]
    fn step(&self, _path: &Path) -> Result<()> {
        Ok(())
    }
}

/// Whether a finished file must be on the disk itself, or may still be in the system's cache.
///
/// The cache survives the end of the process, whatever ends it; only a power cut loses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Wait for the disk.
    Yes,
    /// The cache will do: the file is checked by hash before it is used.
    No,
}

/// A file being written under a temporary name.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    disk: Disk,
    file: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl AtomicFile {
    /// Removes what was written so far. What cannot be removed goes with the folder it is in.
    pub(crate) fn discard(self) {
        let Self {
            disk, temporary, ..
        } = self;
        let _ = disk.remove(&temporary);
    }

    /// Gives the file its name. Until then nobody sees it.
    pub(crate) fn commit(mut self, sync: Sync) -> Result<FileEntry> {
        self.disk.step(&self.path)?;
        self.file
            .flush()
            .map_err(|e| Error::io("write", &self.path, e))?;
        if sync == Sync::Yes {
            self.file
                .get_ref()
                .sync_all()
                .map_err(|e| Error::io("sync", &self.path, e))?;
        }
        self.disk.step(&self.path)?;
        fs::rename(&self.temporary, &self.path).map_err(|e| Error::io("rename", &self.path, e))?;
        if sync == Sync::Yes {
            sync_parent(&self.path)?;
        }
        Ok(FileEntry {
            bytes: self.bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Length and hash of a file on disk.
pub(crate) fn hash_file(path: &Path) -> Result<FileEntry> {
    let mut file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut file, &mut hasher).map_err(|e| Error::io("read", path, e))?;
    Ok(FileEntry {
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

/// Reads a whole file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io("read", path, e))
}

/// `folder/name` -> `folder/.name.tmp`.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Makes a rename permanent. Not every system lets a folder be opened; there it is permanent already.
fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    match File::open(parent) {
        Ok(folder) => folder.sync_all().map_err(|e| Error::io("sync", parent, e)),
        Err(_) => Ok(()),
    }
}

/// Ends the simulated process after a number of changes.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Fuse {
    left: std::sync::atomic::AtomicI64,
}

#[cfg(test)]
impl Default for Fuse {
    fn default() -> Self {
        Self {
            left: i64::MAX.into(),
        }
    }
}

#[cfg(test)]
impl Fuse {
    /// A fuse that burns through at the change after `steps` of them.
    pub(crate) fn after(steps: i64) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { left: steps.into() })
    }

    /// Whether it has burned through.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.load(std::sync::atomic::Ordering::SeqCst) < 0
    }

    fn step(&self, path: &Path) -> Result<()> {
        let before = self.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        if before > 0 {
            return Ok(());
        }
        Err(Error::io(
            "continue with",
            path,
            io::Error::other("simulated end of the process"),
        ))
    }
}
