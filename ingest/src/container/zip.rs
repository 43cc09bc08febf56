//! ZIP archives: the directory at their end, ZIP64 too, and members that are stored or deflated.
//!
//! Nothing is taken on trust: members must lie inside the file, a size is compared with what its bytes
//! can hold before memory is asked for, and content is handed out only with the right CRC-32.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::DeflateDecoder;

use super::mapped::FileBytes;
use crate::{Error, Result};

/// First bytes of a member.
pub(crate) const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";
pub(super) const CENTRAL_HEADER: &[u8; 4] = b"PK\x01\x02";
/// First bytes of the record at the end; an archive without members begins with it.
pub(crate) const END_RECORD: &[u8; 4] = b"PK\x05\x06";
pub(super) const END_RECORD_64: &[u8; 4] = b"PK\x06\x06";
pub(super) const END_LOCATOR_64: &[u8; 4] = b"PK\x06\x07";
/// Length of the end record without its comment.
const END_RECORD_LENGTH: usize = 22;
/// Bytes that one byte of a DEFLATE stream can become at most.
const MOST_INFLATION: u64 = 1032;
/// Largest member that is decompressed into memory.
const LARGEST_INFLATED: u64 = 4 << 30;

/// File type bits of a Unix mode, and their value for a symbolic link.
const FILE_TYPE: u32 = 0o170_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// An open archive.
#[derive(Debug)]
pub struct Zip {
    bytes: FileBytes,
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    data: Range<usize>,
    method: u16,
    size: u64,
    crc32: u32,
    /// It is a symbolic link, whose content is where it leads to.
    is_link: bool,
    /// The checksum of a stored member was right before.
    is_checked: AtomicBool,
}

impl Zip {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// When the directory is missing or damaged, a member is not all there, or two have one name.
    pub fn read(bytes: FileBytes) -> Result<Self> {
        let members = read_directory(bytes.path(), &bytes)?;
        Ok(Self { bytes, members })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names of the members, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Whether there is a member of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Length of a member once unpacked, as the directory announces it.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|member| member.size)
    }

    /// Whether a member is a symbolic link.
    pub fn is_link(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|member| member.is_link)
    }

    /// Whether a member lies in the file as it is.
    pub fn is_stored(&self, name: &str) -> bool {
        self.members
            .get(name)
            .is_some_and(|member| member.method == STORED)
    }

    /// The bytes of a stored member, whose checksum is right; nothing where there is no such member.
    ///
    /// The checksum is computed once: later calls cost nothing.
    pub fn stored(&self, name: &str) -> Result<Option<&[u8]>> {
        let Some(member) = self.members.get(name) else {
            return Ok(None);
        };
        if member.method != STORED {
            return Err(self.fault(format!("`{name}` is compressed or encrypted")));
        }
        let data = &self.bytes[member.data.clone()];
        if !member.is_checked.load(Ordering::Relaxed) {
            self.check(name, member, data)?;
            member.is_checked.store(true, Ordering::Relaxed);
        }
        Ok(Some(data))
    }

    /// The content of a member, stored or deflated; nothing where there is no such member.
    ///
    /// # Errors
    /// Also when it is encrypted, or announces more than its bytes can hold.
    pub fn content(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>> {
        match self.members.get(name) {
            Some(member) if member.method == DEFLATED => {
                Ok(Some(Cow::Owned(self.inflate(name, member)?)))
            }
            _ => Ok(self.stored(name)?.map(Cow::Borrowed)),
        }
    }

    fn inflate(&self, name: &str, member: &Member) -> Result<Vec<u8>> {
        let packed = &self.bytes[member.data.clone()];
        let most = (packed.len() as u64)
            .saturating_mul(MOST_INFLATION)
            .min(LARGEST_INFLATED);
        let too_large = || Error::Range {
            path: self.path().to_path_buf(),
            detail: format!(
                "`{name}` announces {} bytes, its {} compressed bytes may become {most} at most",
                member.size,
                packed.len()
            ),
        };
        if member.size > most {
            return Err(too_large());
        }
        let mut content = Vec::new();
        content
            .try_reserve_exact(member.size as usize)
            .map_err(|_| too_large())?;
        let found = DeflateDecoder::new(packed)
            .take(member.size + 1)
            .read_to_end(&mut content);
        found.map_err(|e| self.fault(format!("`{name}` cannot be decompressed: {e}")))?;
        if content.len() as u64 != member.size {
            return Err(Error::Length {
                path: self.path().to_path_buf(),
                detail: format!(
                    "`{name}` announces {} bytes and holds {}",
                    member.size,
                    if content.len() as u64 > member.size {
                        "more".into()
                    } else {
                        content.len().to_string()
                    }
                ),
            });
        }
        self.check(name, member, &content)?;
        Ok(content)
    }

    fn check(&self, name: &str, member: &Member, content: &[u8]) -> Result<()> {
        if crc32fast::hash(content) == member.crc32 {
            return Ok(());
        }
        Err(Error::Checksum {
            path: self.path().to_path_buf(),
            member: name.into(),
        })
    }

    fn fault(&self, detail: String) -> Error {
        Error::Format {
            path: self.path().to_path_buf(),
            expected: "a readable ZIP archive",
            detail,
        }
    }
}

/// Whether a name would leave the folder that an archive is unpacked into.
pub fn is_unsafe_name(name: &str) -> bool {
    let is_rooted = name.starts_with(['/', '\\']) || name.as_bytes().get(1) == Some(&b':');
    is_rooted || name.contains('\0') || name.split(['/', '\\']).any(|part| part == "..")
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

/// Start and number of entries of the central directory.
struct Directory {
    start: usize,
    entries: u64,
}

/// Finds the central directory, in ZIP64 archives too.
fn find_directory(bytes: &[u8]) -> Option<Directory> {
    let from = bytes
        .len()
        .saturating_sub(END_RECORD_LENGTH + usize::from(u16::MAX));
    let end = bytes[from..]
        .windows(4)
        .rposition(|window| window == END_RECORD)?
        + from;
    let entries = u64::from(u16_at(bytes, end + 10)?);
    let start = u64::from(u32_at(bytes, end + 16)?);
    let locator = end
        .checked_sub(20)
        .filter(|&at| bytes[at..].starts_with(END_LOCATOR_64));
    let (entries, start) = match locator {
        Some(at) => {
            let record = usize::try_from(u64_at(bytes, at + 8)?).ok()?;
            bytes
                .get(record..)?
                .starts_with(END_RECORD_64)
                .then_some(())?;
            (
                u64_at(bytes, record.checked_add(32)?)?,
                u64_at(bytes, record.checked_add(48)?)?,
            )
        }
        None => (entries, start),
    };
    Some(Directory {
        start: usize::try_from(start).ok()?,
        entries,
    })
}

fn read_directory(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Member>> {
    let Directory { start, entries } = find_directory(bytes).ok_or_else(|| {
        Error::truncated(path, "the directory at the end of the archive is missing")
    })?;
    let mut members = BTreeMap::new();
    let mut at = start;
    for _ in 0..entries {
        let entry = Entry::read(bytes, at)
            .ok_or_else(|| Error::truncated(path, "the directory of the archive is damaged"))?;
        let data = entry
            .data(bytes)
            .ok_or_else(|| Error::truncated(path, format!("`{}` is not all there", entry.name)))?;
        at = entry.next;
        let name = entry.name.clone();
        if members.insert(name, entry.member(data)).is_some() {
            return Err(Error::Duplicate {
                path: path.to_path_buf(),
                detail: format!("two members of the archive are called `{}`", entry.name),
            });
        }
    }
    Ok(members)
}

/// One entry of the central directory.
struct Entry {
    name: String,
    flags: u16,
    method: u16,
    crc32: u32,
    packed: u64,
    size: u64,
    header: u64,
    is_link: bool,
    next: usize,
}

impl Entry {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        bytes.get(at..)?.starts_with(CENTRAL_HEADER).then_some(())?;
        let lengths = [28, 30, 32].map(|field| u16_at(bytes, at + field).map(usize::from));
        let [name_length, extra_length, comment_length] = lengths;
        let name_start = at + 46;
        let extra_start = name_start + name_length?;
        let comment_start = extra_start + extra_length?;
        let packed = u32_at(bytes, at + 20)?;
        let size = u32_at(bytes, at + 24)?;
        let header = u32_at(bytes, at + 42)?;
        let mut wide = Zip64::find(bytes.get(extra_start..comment_start)?);
        let mut widen = |narrow: u32| match narrow {
            u32::MAX => wide.next(),
            narrow => Some(u64::from(narrow)),
        };
        Some(Self {
            name: String::from_utf8_lossy(bytes.get(name_start..extra_start)?).into_owned(),
            flags: u16_at(bytes, at + 8)?,
            method: u16_at(bytes, at + 10)?,
            crc32: u32_at(bytes, at + 16)?,
            // The extra field gives them in this order.
            size: widen(size)?,
            packed: widen(packed)?,
            header: widen(header)?,
            is_link: (u32_at(bytes, at + 38)? >> 16) & FILE_TYPE == SYMBOLIC_LINK,
            next: comment_start + comment_length?,
        })
    }

    /// Where the bytes are, if all of them are in the file.
    fn data(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let header = usize::try_from(self.header).ok()?;
        bytes
            .get(header..)?
            .starts_with(LOCAL_HEADER)
            .then_some(())?;
        let name_length = usize::from(u16_at(bytes, header + 26)?);
        let extra_length = usize::from(u16_at(bytes, header + 28)?);
        let start = header + 30 + name_length + extra_length;
        if self.method == STORED && self.packed != self.size {
            return None;
        }
        let end = start.checked_add(usize::try_from(self.packed).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
    }

    fn member(&self, data: Range<usize>) -> Member {
        /// A method that nothing reads: encrypted members have it.
        const UNKNOWN: u16 = u16::MAX;
        let is_encrypted = self.flags & 1 != 0;
        Member {
            data,
            method: if is_encrypted { UNKNOWN } else { self.method },
            size: self.size,
            crc32: self.crc32,
            is_link: self.is_link,
            is_checked: AtomicBool::new(false),
        }
    }
}

/// The 64-bit numbers of a ZIP64 extra field, in the order the format gives them.
struct Zip64<'a>(&'a [u8]);

impl<'a> Zip64<'a> {
    fn find(mut extra: &'a [u8]) -> Self {
        while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
            let Some(body) = extra.get(4..4 + usize::from(length)) else {
                break;
            };
            if id == 1 {
                return Self(body);
            }
            extra = &extra[4 + usize::from(length)..];
        }
        Self(&[])
    }
}

impl Iterator for Zip64<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let value = u64_at(self.0, 0)?;
        self.0 = &self.0[8..];
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// An archive of one deflated member that announces `size` bytes.
    fn deflated(content: &[u8], size: u32) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).expect("compressed");
        let packed = encoder.finish().expect("compressed");
        let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0];
        common.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        common.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        common.extend_from_slice(&size.to_le_bytes());
        common.extend_from_slice(&[1, 0, 0, 0]);
        let mut bytes = [LOCAL_HEADER.as_slice(), &common, b"a", &packed].concat();
        let start = bytes.len() as u32;
        bytes.extend_from_slice(CENTRAL_HEADER);
        bytes.extend_from_slice(&[20, 0]);
        bytes.extend_from_slice(&common);
        bytes.extend_from_slice(&[0; 14]);
        bytes.push(b'a');
        bytes.extend_from_slice(END_RECORD);
        bytes.extend_from_slice(&[0, 0, 0, 0, 1, 0, 1, 0, 47, 0, 0, 0]);
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }

    fn zip(bytes: Vec<u8>) -> Zip {
        Zip::read(FileBytes::inside(Path::new("x.zip"), bytes)).expect("an archive")
    }

    #[test]
    fn deflated_members_are_read_and_checked() {
        let content: Vec<u8> = (0..10_000_u32)
            .flat_map(|v| (v / 7).to_le_bytes())
            .collect();
        let good = zip(deflated(&content, content.len() as u32));
        assert_eq!(good.content("a").expect("content").expect("a"), content);
        assert!(good.stored("a").is_err());
        assert!(good.content("b").expect("no fault").is_none());
    }

    #[test]
    fn sizes_that_are_not_true_are_refused_before_memory_is_asked_for() {
        let zeros = vec![0; 1000];
        for size in [999, 1001] {
            let refused = zip(deflated(&zeros, size)).content("a").map(|_| ());
            assert!(matches!(refused, Err(Error::Length { .. })), "{refused:?}");
        }
        let refused = zip(deflated(&zeros, 4_000_000_000))
            .content("a")
            .map(|_| ());
        assert!(matches!(refused, Err(Error::Range { .. })), "{refused:?}");
    }

    #[test]
    fn no_change_of_one_byte_makes_the_reader_panic_or_lie() {
        let content = b"what is in the archive";
        let good = deflated(content, content.len() as u32);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let read = Zip::read(FileBytes::inside(Path::new("x.zip"), bad));
            if let Ok(Some(found)) = read.as_ref().map(|zip| zip.content("a").ok().flatten()) {
                assert_eq!(found.as_ref(), content, "byte {at}");
            }
        }
    }

    #[test]
    fn names_that_leave_the_archive_are_known() {
        for name in ["../a", "a/../../b", "/etc/x", "..\\a", "C:\\x", "a\0b"] {
            assert!(is_unsafe_name(name), "{name}");
        }
        for name in ["a.npy", "a/b.npy", "..a/b..npy", "..."] {
            assert!(!is_unsafe_name(name), "{name}");
        }
    }
}
