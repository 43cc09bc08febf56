//! ZIP archives read member by member; nothing is unpacked to disk.
//!
//! Members may be stored or deflated, and the archive may be ZIP64. An archive with a member whose name
//! leads outside of it (`../x`, `/x`, `C:\x`, a symbolic link) is refused as a whole: whoever made it wanted
//! something else than to hand over data.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::mapped::FileBytes;
use crate::{Error, Result};

const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";
const CENTRAL_HEADER: &[u8; 4] = b"PK\x01\x02";
const END_RECORD: &[u8; 4] = b"PK\x05\x06";
const END_RECORD_64: &[u8; 4] = b"PK\x06\x06";
const END_LOCATOR_64: &[u8; 4] = b"PK\x06\x07";
/// Length of the end record without its comment.
const END_RECORD_LENGTH: usize = 22;
/// Length of a local header without its name and extra field.
const LOCAL_HEADER_LENGTH: usize = 30;
/// Length of a directory entry without its name, extra field and comment.
const CENTRAL_HEADER_LENGTH: usize = 46;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// File type bits of a Unix mode, and their value for a symbolic link.
const FILE_TYPE: u32 = 0o170_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// An open archive.
#[derive(Debug)]
pub struct ZipArchive {
    path: PathBuf,
    bytes: FileBytes,
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    data: Range<usize>,
    method: u16,
    size: u64,
    crc32: u32,
}

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
        let members = read_directory(path, &bytes)?;
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            members,
        })
    }

    /// Names of all members, in order of bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Length of a member once unpacked, as the directory announces it.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|member| member.size)
    }

    /// The content of a member of at most `limit` bytes; nothing if there is no such member.
    ///
    /// # Errors
    /// When it is longer, damaged, encrypted or packed by another method than deflate.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.members.get(name) else {
            return Ok(None);
        };
        let at = self.path.join(name);
        let fault = |detail: String| Error::Decode {
            path: at.clone(),
            detail,
        };
        let packed = &self.bytes[member.data.clone()];
        let content = match member.method {
            STORED => packed
                .get(..packed.len().min(limit + 1))
                .map(<[u8]>::to_vec),
            DEFLATED => {
                let mut content = Vec::new();
                flate2::read::DeflateDecoder::new(packed)
                    .take(limit as u64 + 1)
                    .read_to_end(&mut content)
                    .map_err(|e| fault(e.to_string()))?;
                Some(content)
            }
            _ => None,
        };
        let content = content
            .ok_or_else(|| fault(format!("packing method {} is not known", member.method)))?;
        if content.len() > limit {
            return Err(fault(format!("it is longer than {limit} bytes")));
        }
        if content.len() as u64 != member.size || crc32fast::hash(&content) != member.crc32 {
            return Err(Error::Checksum {
                path: self.path.clone(),
                member: name.into(),
            });
        }
        Ok(Some(content))
    }
}

/// Whether a member's name stays inside the archive on every system.
fn is_safe(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    let leaves = name.split('/').any(|part| part == "..");
    !(name.is_empty() || name.starts_with('/') || name.contains(['\\', '\0']) || drive || leaves)
}

/// Folders, and what macOS adds to every archive.
fn is_no_data(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    last.is_empty()
        || last == ".DS_Store"
        || last.starts_with("._")
        || name.starts_with("__MACOSX/")
}

fn read_directory(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Member>> {
    let damaged = |detail: &str| Error::truncated(path, detail);
    let (mut at, entries) = find_directory(bytes)
        .ok_or_else(|| damaged("the directory at the end of the archive is missing"))?;
    let mut members = BTreeMap::new();
    for _ in 0..entries {
        let entry = Entry::read(bytes, at)
            .ok_or_else(|| damaged("the directory of the archive is damaged"))?;
        at = entry.next;
        if !is_safe(&entry.name) || entry.is_link {
            return Err(Error::UnsafeMember {
                path: path.to_path_buf(),
                member: entry.name,
            });
        }
        if is_no_data(&entry.name) {
            continue;
        }
        let data = entry
            .data(bytes)
            .ok_or_else(|| damaged(&format!("`{}` is not all there", entry.name)))?;
        let member = Member {
            data,
            method: if entry.is_encrypted {
                u16::MAX
            } else {
                entry.method
            },
            size: entry.size,
            crc32: entry.crc32,
        };
        if members.insert(entry.name.clone(), member).is_some() {
            return Err(Error::Duplicate {
                path: path.to_path_buf(),
                detail: format!("it has two members `{}`", entry.name),
            });
        }
    }
    Ok(members)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Start of the central directory and number of its entries.
fn find_directory(bytes: &[u8]) -> Option<(usize, u64)> {
    let from = bytes
        .len()
        .saturating_sub(END_RECORD_LENGTH + usize::from(u16::MAX));
    let end = bytes[from..]
        .windows(END_RECORD.len())
        .rposition(|window| window == END_RECORD)?
        + from;
    let locator = end
        .checked_sub(20)
        .filter(|&at| bytes[at..].starts_with(END_LOCATOR_64));
    let Some(locator) = locator else {
        let start = u32_at(bytes, end + 16)?;
        return Some((start as usize, u64::from(u16_at(bytes, end + 10)?)));
    };
    let record = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
    bytes
        .get(record..)?
        .starts_with(END_RECORD_64)
        .then_some(())?;
    let entries = u64_at(bytes, record.checked_add(32)?)?;
    let start = u64_at(bytes, record.checked_add(48)?)?;
    Some((usize::try_from(start).ok()?, entries))
}

/// One entry of the central directory.
struct Entry {
    name: String,
    is_link: bool,
    is_encrypted: bool,
    method: u16,
    crc32: u32,
    packed: u64,
    size: u64,
    header: u64,
    next: usize,
}

impl Entry {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let fixed = bytes.get(at..at.checked_add(CENTRAL_HEADER_LENGTH)?)?;
        fixed.starts_with(CENTRAL_HEADER).then_some(())?;
        let length = |field| u16_at(fixed, field).map(usize::from);
        let name_start = at + CENTRAL_HEADER_LENGTH;
        let extra_start = name_start + length(28)?;
        let comment_start = extra_start + length(30)?;
        let mut wide = Wide::find(bytes.get(extra_start..comment_start)?);
        // In this order: only the numbers that do not fit into 32 bits are in the extra field.
        let size = wide.or(u32_at(fixed, 24)?)?;
        let packed = wide.or(u32_at(fixed, 20)?)?;
        let header = wide.or(u32_at(fixed, 42)?)?;
        Some(Self {
            name: String::from_utf8_lossy(bytes.get(name_start..extra_start)?).into_owned(),
            is_link: (u32_at(fixed, 38)? >> 16) & FILE_TYPE == SYMBOLIC_LINK,
            is_encrypted: u16_at(fixed, 8)? & 1 != 0,
            method: u16_at(fixed, 10)?,
            crc32: u32_at(fixed, 16)?,
            packed,
            size,
            header,
            next: comment_start + length(32)?,
        })
    }

    /// Where the packed content is, if all of it is in the file.
    fn data(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let header = usize::try_from(self.header).ok()?;
        let fixed = bytes.get(header..header.checked_add(LOCAL_HEADER_LENGTH)?)?;
        fixed.starts_with(LOCAL_HEADER).then_some(())?;
        let name_length = usize::from(u16_at(fixed, 26)?);
        let extra_length = usize::from(u16_at(fixed, 28)?);
        let start = header + LOCAL_HEADER_LENGTH + name_length + extra_length;
        let end = start.checked_add(usize::try_from(self.packed).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
    }
}

/// The 64-bit numbers of a ZIP64 extra field, in the order the format gives them.
struct Wide<'a>(&'a [u8]);

impl<'a> Wide<'a> {
    fn find(mut extra: &'a [u8]) -> Self {
        while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
            let Some((body, rest)) = extra
                .get(4..)
                .and_then(|rest| rest.split_at_checked(usize::from(length)))
            else {
                break;
            };
            if id == 1 {
                return Self(body);
            }
            extra = rest;
        }
        Self(&[])
    }

    /// `narrow`, or the next 64-bit number where `narrow` says that it is there instead.
    fn or(&mut self, narrow: u32) -> Option<u64> {
        if narrow != u32::MAX {
            return Some(u64::from(narrow));
        }
        let value = u64_at(self.0, 0)?;
        self.0 = &self.0[8..];
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_archive_are_known() {
        for bad in [
            "../x",
            "a/../../x",
            "/tmp/x",
            "a\\..\\x",
            "C:/x",
            "",
            "a\0b",
        ] {
            assert!(!is_safe(bad), "{bad}");
        }
        for good in ["a/b.txt", "a/..b", "x.zarr/data/img/0.0.0.0", ".zgroup"] {
            assert!(is_safe(good), "{good}");
        }
    }

    #[test]
    fn wide_numbers_stand_in_for_full_narrow_ones_only() {
        let mut extra = vec![9, 0, 1, 0, 7, 1, 0, 16, 0];
        extra.extend_from_slice(&(5_u64 << 32).to_le_bytes());
        extra.extend_from_slice(&6_u64.to_le_bytes());
        let mut wide = Wide::find(&extra);
        assert_eq!(wide.or(u32::MAX), Some(5 << 32));
        assert_eq!(wide.or(12), Some(12));
        assert_eq!(wide.or(u32::MAX), Some(6));
        assert_eq!(wide.or(u32::MAX), None);
    }
}
