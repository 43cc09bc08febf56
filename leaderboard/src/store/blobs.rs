//! Files beside the board, each under the hash of its bytes: bundles and tables of episodes.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::hash_file;

/// The folder of a board's blobs.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Beside `board.sqlite`: `board.sqlite.blobs`.
    pub(super) fn beside(board: &Path) -> Self {
        let mut name = board.as_os_str().to_os_string();
        name.push(".blobs");
        Self {
            folder: PathBuf::from(name),
        }
    }

    /// Where the blob of a hash lies, whether it is there or not; `None` for what is no hash.
    pub(super) fn path(&self, hash: &str) -> Option<PathBuf> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_hash = hash.len() == 64 && hash.bytes().all(digit);
        is_hash.then(|| self.folder.join(&hash[..2]).join(hash))
    }

    /// The blob of a hash, if it is there.
    pub(super) fn find(&self, hash: &str) -> Option<PathBuf> {
        self.path(hash).filter(|path| path.is_file())
    }

    /// Keeps bytes, durably, and gives their hash. What is there already stays.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<String> {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let Some(path) = self.path(&hash) else {
            return Ok(hash);
        };
        if path.is_file() && hash_file(&path)? == hash {
            return Ok(hash);
        }
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
        // Under a name of its own: others may be keeping the same bytes.
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            std::fs::File::open(folder)?.sync_all()
        };
        write().map_err(|source| Error::io("write", &path, source))?;
        Ok(hash)
    }

    /// Keeps the bytes of a file.
    pub(super) fn keep_file(&self, file: &Path) -> Result<String> {
        let bytes = std::fs::read(file).map_err(|source| Error::io("read", file, source))?;
        self.keep(&bytes)
    }

    /// Every hash there is a file for.
    pub(super) fn all(&self) -> Result<Vec<String>> {
        let list = |folder: &Path| -> Result<Vec<PathBuf>> {
            let reading = |source| Error::io("read", folder, source);
            match std::fs::read_dir(folder) {
                Ok(entries) => entries
                    .map(|entry| entry.map(|entry| entry.path()).map_err(reading))
                    .collect(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(reading(error)),
            }
        };
        let mut names = Vec::new();
        for folder in list(&self.folder)? {
            for file in list(&folder)? {
                names.extend(
                    file.file_name()
                        .map(|name| name.to_string_lossy().into_owned()),
                );
            }
        }
        names.sort();
        Ok(names)
    }
}
