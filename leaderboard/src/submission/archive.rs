//! Reading and writing the archive: tar in zstd, every limit kept while the bytes stream in.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use super::{
    Bundle, ENVIRONMENT_FILE, METHOD_FILE, SIGNATURE_FILE, SUBMISSION_FILE, VIDEO_FOLDER, refused,
};
use crate::error::{Error, Result};
use crate::key::shown;
use crate::run::{CONFIG_FILE, EPISODES_FILE, RECORD_FILE, TIMINGS_FILE};

/// Name of the manifest in a run folder.
const MANIFEST_FILE: &str = "manifest.json";
/// Size of a block of a tar archive.
const BLOCK: usize = 512;
/// Compression level of zstd.
const LEVEL: i32 = 9;
/// Largest window of zstd that is accepted, as a power of two: 8 MiB of memory.
const WINDOW_LOG: u32 = 23;
/// Two empty blocks end an archive; GNU tar fills up to twenty blocks.
const MOST_PADDING: usize = 20 * BLOCK;

/// What a bundle may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub compressed: u64,
    /// Bytes of its contents together.
    pub unpacked: u64,
    /// Number of files.
    pub files: usize,
    /// Bytes of a JSON, TOML or Markdown file.
    pub text: u64,
    /// Bytes of a table or video.
    pub data: u64,
    /// Time that reading may take, from the first byte to the last.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            compressed: 64 << 20,
            unpacked: 128 << 20,
            files: 64,
            text: 1 << 20,
            data: 32 << 20,
            time: Duration::from_mins(1),
        }
    }
}

impl Limits {
    /// Bytes that the file `name` may have; `None` for a name that no bundle has.
    fn of(&self, name: &str) -> Option<u64> {
        match name {
            SUBMISSION_FILE | SIGNATURE_FILE | METHOD_FILE | ENVIRONMENT_FILE | RECORD_FILE
            | CONFIG_FILE | MANIFEST_FILE => Some(self.text),
            EPISODES_FILE | TIMINGS_FILE => Some(self.data),
            _ => is_video(name).then_some(self.data),
        }
    }
}

/// `videos/NAME.EXT` with a plain name.
pub(super) fn is_video(name: &str) -> bool {
    let Some((stem, extension)) = name
        .strip_prefix(VIDEO_FOLDER)
        .and_then(|name| name.rsplit_once('.'))
    else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    matches!(extension, "gif" | "png" | "mp4")
        && (1..=64).contains(&stem.len())
        && stem.bytes().all(plain)
}

/// A reader that counts, and stops at a number of bytes or a moment.
struct Guarded<R> {
    inner: R,
    left: u64,
    until: Instant,
    what: &'static str,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() > self.until {
            return Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "reading it takes too long",
            ));
        }
        // One byte more than is left tells whether there is more.
        let most = usize::try_from(self.left.saturating_add(1))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read as u64 > self.left {
            let text = format!("{} has more bytes than are accepted", self.what);
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Bundle {
    /// Reads a bundle, believing nothing.
    ///
    /// # Errors
    /// [`Error::Bundle`] when it exceeds a limit, is truncated or damaged, has an entry that is no plain file of a known
    /// name, misses a file, or its signature or hashes are wrong.
    pub fn read(reader: impl Read, limits: &Limits) -> Result<Self> {
        let until = Instant::now() + limits.time;
        let packed = Guarded {
            inner: reader,
            left: limits.compressed,
            until,
            what: "the file",
        };
        let mut decoder = zstd::Decoder::new(packed).map_err(|error| broken(&error))?;
        decoder
            .window_log_max(WINDOW_LOG)
            .map_err(|error| broken(&error))?;
        let headers = (limits.files as u64 + 1) * 2 * BLOCK as u64 + MOST_PADDING as u64;
        let mut unpacked = Guarded {
            inner: decoder,
            left: limits.unpacked.saturating_add(headers),
            until,
            what: "what is in it",
        };
        let files = read_entries(&mut unpacked, limits)?;
        Self::from_files(files)
    }

    /// The bytes of the bundle: the same files give the same bytes.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let broken = |error: std::io::Error| refused(format!("it cannot be packed: {error}"));
        let mut builder = tar::Builder::new(Vec::new());
        // What is claimed comes first, so that a reader can stop early.
        let first = [SUBMISSION_FILE, SIGNATURE_FILE];
        let rest = self.files.keys().map(String::as_str);
        let names = first
            .into_iter()
            .chain(rest.filter(|name| !first.contains(name)));
        for name in names {
            let bytes = self.files.get(name).map_or(&[][..], Vec::as_slice);
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            builder
                .append_data(&mut header, name, bytes)
                .map_err(broken)?;
        }
        let archive = builder.into_inner().map_err(broken)?;
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(broken)?;
        encoder.include_checksum(true).map_err(broken)?;
        encoder.window_log(WINDOW_LOG).map_err(broken)?;
        std::io::Write::write_all(&mut encoder, &archive).map_err(broken)?;
        encoder.finish().map_err(broken)
    }
}

fn read_entries(reader: &mut impl Read, limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut total = 0_u64;
    let mut block = [0; BLOCK];
    loop {
        if !fill(reader, &mut block)? {
            return Err(refused("it ends in the middle".into()));
        }
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        let (name, size) = entry(&block)?;
        let Some(most) = limits.of(&name) else {
            return Err(Error::Bundle {
                detail: format!("`{}` is no file of a bundle", shown(&name)),
                hint: Some("bundles are made by `jepa-bench submit`; videos are `videos/NAME.gif`, `.png` or `.mp4`".into()),
            });
        };
        total = total.saturating_add(size);
        if size > most || total > limits.unpacked {
            return Err(refused(format!(
                "`{name}` has {size} bytes, more than are accepted"
            )));
        }
        if files.len() >= limits.files {
            return Err(refused(format!("it has more than {} files", limits.files)));
        }
        let bytes = contents(reader, size)?;
        if files.insert(name.clone(), bytes).is_some() {
            return Err(refused(format!("`{name}` is in it twice")));
        }
    }
    check_end(reader)?;
    Ok(files)
}

/// Name and size of an entry, which must be a plain file with a checksum that holds.
fn entry(block: &[u8; BLOCK]) -> Result<(String, u64)> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(block);
    let mut summed = header.clone();
    summed.set_cksum();
    let damaged = || refused("the header of an entry is damaged".into());
    if header.cksum().map_err(|_| damaged())? != summed.cksum().map_err(|_| damaged())? {
        return Err(damaged());
    }
    let name = String::from_utf8(header.path_bytes().into_owned()).map_err(|_| damaged())?;
    // Links, folders, devices, and the extensions that carry long names or sparse files.
    if header.entry_type() != tar::EntryType::Regular {
        return Err(refused(format!("`{}` is not a plain file", shown(&name))));
    }
    Ok((name, header.size().map_err(|_| damaged())?))
}

/// `size` bytes and what fills their last block. Memory grows with what really arrives.
fn contents(reader: &mut impl Read, size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(|error| broken(&error))?;
    let fill_up = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    let mut rest = [0; BLOCK];
    if read as u64 != size || !fill(reader, &mut rest[..fill_up as usize])? {
        return Err(refused("it ends in the middle".into()));
    }
    Ok(bytes)
}

/// After the last entry there are zeros, and not many.
fn check_end(reader: &mut impl Read) -> Result<()> {
    let mut rest = Vec::new();
    reader
        .take(MOST_PADDING as u64 + 1)
        .read_to_end(&mut rest)
        .map_err(|error| broken(&error))?;
    if rest.len() < BLOCK {
        return Err(refused("it ends in the middle".into()));
    }
    if rest.len() > MOST_PADDING || rest.iter().any(|&byte| byte != 0) {
        return Err(refused("something follows its last file".into()));
    }
    Ok(())
}

/// Fills `buffer`; `false` when the bytes end before.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(broken(&error)),
    }
}

fn broken(error: &std::io::Error) -> Error {
    refused(match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it ends in the middle".into(),
        std::io::ErrorKind::FileTooLarge | std::io::ErrorKind::TimedOut => error.to_string(),
        _ => format!("it is not a bundle, or damaged ({error})"),
    })
}
