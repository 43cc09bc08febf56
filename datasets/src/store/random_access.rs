//! A file read at any position from many threads, with a count of what was read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// An open file; clones share it and its counters.
#[derive(Debug, Clone)]
pub(crate) struct CountedFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    count: Arc<Count>,
}

/// Reads and bytes of one file, or of several that are counted together.
#[derive(Debug, Default)]
pub(crate) struct Count {
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    /// Number of reads and of bytes so far.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (
            self.reads.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    fn add(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl CountedFile {
    /// Opens a file for reading, with a count of its own.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Arc::default())
    }

    /// Opens a file for reading; what is read is added to `count`.
    pub(crate) fn open_with(path: &Path, count: Arc<Count>) -> Result<Self> {
        let io = |e| Error::io("read", path, e);
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        Ok(Self(Arc::new(Inner {
            path: path.to_path_buf(),
            file,
            size,
            count,
        })))
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Length when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.0.size
    }

    /// Number of reads and of bytes so far.
    pub(crate) fn reads(&self) -> (u64, u64) {
        self.0.count.so_far()
    }

    /// Fills `buffer` with the bytes from `start` on.
    pub(crate) fn fill_at(&self, mut start: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match read_some_at(&self.0.file, buffer, start) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.0.count.add(count);
                    buffer = &mut buffer[count..];
                    start += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Exactly `length` bytes from `start`.
    pub(crate) fn read_at(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        if start
            .checked_add(length as u64)
            .is_none_or(|end| end > self.0.size)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::with_capacity(length);
        self.reader_at(start)
            .take(length as u64)
            .read_to_end(&mut bytes)?;
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// A reader from `start` on, independent of every other one.
    pub(crate) fn reader_at(&self, start: u64) -> PositionedReader {
        PositionedReader {
            file: self.clone(),
            position: start,
        }
    }
}

/// Reads on from a position of its own.
#[derive(Debug)]
pub(crate) struct PositionedReader {
    file: CountedFile,
    position: u64,
}

impl Read for PositionedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = &self.file.0;
        let count = read_some_at(&inner.file, buffer, self.position)?;
        inner.count.add(count);
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(unix)]
fn read_some_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
fn read_some_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}
