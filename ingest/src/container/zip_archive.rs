//! ZIP archives of a folder, read member by member; nothing is unpacked to disk.
//!
//! An archive with a member whose name leads outside of it (`../x`, `/x`, `C:\x`, a symbolic link) is refused
//! as a whole: whoever made it wanted something else than to hand over data.

use std::path::Path;

use super::mapped::FileBytes;
use super::zip::{END_RECORD, LOCAL_HEADER, Zip, is_unsafe_name};
use crate::{Error, Result};

/// An open archive.
#[derive(Debug)]
pub struct ZipArchive(Zip);

impl ZipArchive {
    /// Maps an archive and reads its directory. Folders and what macOS adds are left out.
    ///
    /// # Errors
    /// [`Error::UnsafeMember`]; [`Error::Duplicate`] for two members of one name; what the file is instead of
    /// an archive, or that it is cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = FileBytes::open(path)?;
        if !bytes.starts_with(LOCAL_HEADER) && !bytes.starts_with(END_RECORD) {
            return Err(bytes.unless_known(Error::Format {
                path: path.to_path_buf(),
                expected: "a ZIP archive",
                detail: "it does not start like one".into(),
            }));
        }
        let zip = Zip::read(bytes)?;
        let mut names = zip.names();
        if let Some(name) = names.find(|name| !is_safe(name) || zip.is_link(name)) {
            return Err(Error::UnsafeMember {
                path: path.to_path_buf(),
                member: name.to_string(),
            });
        }
        drop(names);
        Ok(Self(zip))
    }

    /// Names of all members, in order of bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names().filter(|name| !is_no_data(name))
    }

    /// Length of a member once unpacked, as the directory announces it.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.0.size(name)
    }

    /// The content of a member of at most `limit` bytes; nothing if there is no such member.
    ///
    /// # Errors
    /// When it is longer, damaged, encrypted or packed by another method than deflate.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let at = || self.0.path().join(name);
        if self.size(name).is_some_and(|size| size > limit as u64) {
            return Err(Error::Decode {
                path: at(),
                detail: format!("it is longer than {limit} bytes"),
            });
        }
        match self.0.content(name) {
            Ok(content) => Ok(content.map(std::borrow::Cow::into_owned)),
            Err(error @ Error::Checksum { .. }) => Err(error),
            Err(error) => Err(Error::Decode {
                path: at(),
                detail: error.to_string(),
            }),
        }
    }
}

/// Whether a member's name stays inside the archive on every system.
fn is_safe(name: &str) -> bool {
    !(name.is_empty() || name.contains('\\') || is_unsafe_name(name))
}

/// Folders, and what macOS adds to every archive.
fn is_no_data(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    last.is_empty()
        || last == ".DS_Store"
        || last.starts_with("._")
        || name.starts_with("__MACOSX/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_archive_are_known() {
        for bad in ["../x", "a/../../x", "/x/y", "a\\..\\x", "C:/x", "", "a\0b"] {
            assert!(!is_safe(bad), "{bad}");
        }
        for good in ["a/b.txt", "a/..b", "x.zarr/data/img/0.0.0.0", ".zgroup"] {
            assert!(is_safe(good), "{good}");
        }
    }
}
