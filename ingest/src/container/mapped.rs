//! Files mapped into memory, and what a file is when it is not what it should be (datasets.md section 1.9).

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::{Error, Result};

/// The bytes of a file or of a part of one, cheap to clone.
#[derive(Debug, Clone)]
pub struct FileBytes {
    path: PathBuf,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Map(Arc<Mmap>),
    Owned(Arc<[u8]>),
}

impl FileBytes {
    /// Maps a file.
    ///
    /// # Errors
    /// When it is missing, unreadable or empty.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if metadata.is_dir() {
            return Err(Error::Format {
                path: path.to_path_buf(),
                expected: "a file",
                detail: "it is a folder".into(),
            });
        }
        if metadata.len() == 0 {
            return Err(Error::Empty {
                path: path.to_path_buf(),
            });
        }
        // SAFETY: the map is only read, and every access is bounds-checked against its length. A file
        // that another program truncates meanwhile ends this one with SIGBUS, as documented for all
        // memory-mapped readers; it cannot make it read anything else.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Self {
            path: path.to_path_buf(),
            source: Source::Map(Arc::new(map)),
        })
    }

    /// Bytes that lie inside another file, such as a video in a table; `path` names that file in messages.
    pub fn inside(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_path_buf(),
            source: Source::Owned(bytes.into()),
        }
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says what these bytes are if they are a Git LFS pointer, a web page or other text; otherwise `other`.
    pub fn unless_known(&self, other: Error) -> Error {
        impostor(&self.path, self).unwrap_or_else(|| {
            if is_text(self) {
                page(&self.path, &head(self))
            } else {
                other
            }
        })
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.source {
            Source::Map(map) => map,
            Source::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// What stands in place of a data file: a Git LFS pointer, or a page or answer that a server sent instead.
pub(crate) fn impostor(path: &Path, bytes: &[u8]) -> Option<Error> {
    let head = head(bytes);
    if head.starts_with("version https://git-lfs") {
        let size = head
            .lines()
            .find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
        return Some(Error::LfsPointer {
            path: path.to_path_buf(),
            size: size.unwrap_or(0),
        });
    }
    let is_page = head.trim_start().starts_with(['<', '{', '[']);
    is_page.then(|| page(path, &head))
}

fn head(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

/// Whether a small file is text from its first byte to its last.
fn is_text(bytes: &[u8]) -> bool {
    let plain = |c: char| !c.is_control() || c.is_whitespace();
    bytes.len() < 100_000 && std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(plain))
}

fn page(path: &Path, head: &str) -> Error {
    Error::WebPage {
        path: path.to_path_buf(),
        head: head
            .trim_start()
            .chars()
            .take(40)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_told_from_data() {
        let path = Path::new("x");
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5832113\n";
        assert!(matches!(
            impostor(path, pointer),
            Some(Error::LfsPointer {
                size: 5_832_113,
                ..
            })
        ));
        for page in [&b"<!doctype html>"[..], b" {\"error\": 1}"] {
            assert!(matches!(impostor(path, page), Some(Error::WebPage { .. })));
        }
        let other = || Error::Missing { path: path.into() };
        let text = FileBytes::inside(path, b"access denied\n".to_vec());
        assert!(matches!(text.unless_known(other()), Error::WebPage { .. }));
        let data = FileBytes::inside(path, b"\x80\x02".to_vec());
        assert!(matches!(data.unless_known(other()), Error::Missing { .. }));
        for data in [
            &b"PK\x03\x04\x00"[..],
            b"\x89HDF\r\n\x1a\n",
            b"\x00\x00\x00\x20ftypisom",
        ] {
            assert!(impostor(path, data).is_none());
        }
    }

    #[test]
    fn nothing_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(FileBytes::open(&empty), Err(Error::Empty { .. })));
        assert!(matches!(
            FileBytes::open(folder.path()),
            Err(Error::Format { .. })
        ));
        assert!(matches!(
            FileBytes::open(&folder.path().join("none")),
            Err(Error::Missing { .. })
        ));
    }
}
