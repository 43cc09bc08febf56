//! Zarr format 2: folders or ZIP archives of chunked arrays (datasets.md section 1.8).
//!
//! ```text
//! NAME/.zarray    JSON: shape, chunks, dtype, compressor, filters, order, fill_value
//! NAME/0.3        one chunk, always of the full chunk shape, compressed; absent means all fill values
//! ```
//!
//! Metadata may announce anything, so nothing is allocated on its word: an array may be larger than what its
//! chunk files can hold only by [`FILL_LIMIT`], and a chunk is unpacked up to its announced size, never further.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use zarrs::array::codec::{BloscCodec, BloscCompressionLevel, BloscCompressor, BloscShuffleMode};
use zarrs::array::{BytesRepresentation, BytesToBytesCodecTraits, CodecOptions};

use super::mapped::impostor;
use super::zip_archive::ZipArchive;
use crate::{Error, Result};

/// Bytes of fill values that an array may consist of beyond what is in its chunk files.
pub const FILL_LIMIT: u64 = 256 << 20;
/// Chunks that an array may lack.
const MISSING_LIMIT: u128 = 1 << 20;
/// Largest chunk, unpacked.
const MAX_CHUNK: u64 = 1 << 30;
/// Largest metadata document.
const MAX_DOCUMENT: usize = 1 << 20;
/// Most dimensions of an array.
const MAX_DIMENSIONS: usize = 8;
/// A compressed chunk is not less than this part of the chunk: no codec reaches it on any data.
const MAX_RATIO: u64 = 1 << 16;
/// Length of the header of a Blosc buffer.
const BLOSC_HEADER: usize = 16;

/// A folder or archive that holds a hierarchy of arrays.
#[derive(Debug)]
pub struct ZarrStore {
    root: PathBuf,
    archive: Option<(ZipArchive, String)>,
}

impl ZarrStore {
    /// Opens a store: a folder, or a ZIP archive that holds one at its top or in one folder.
    ///
    /// # Errors
    /// [`Error::Version`] for a store of Zarr format 3; errors of the archive.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        let archive = if metadata.is_dir() {
            None
        } else {
            let archive = ZipArchive::open(path)?;
            let top = archive
                .names()
                .filter_map(|name| name.strip_suffix(".zgroup"))
                .filter(|top| top.is_empty() || top.ends_with('/'))
                .min_by_key(|top| top.len())
                .unwrap_or_default()
                .to_string();
            Some((archive, top))
        };
        let store = Self {
            root: path.to_path_buf(),
            archive,
        };
        match store.read("zarr.json", MAX_DOCUMENT)? {
            Some(_) => Err(Error::Version {
                path: path.to_path_buf(),
                found: "Zarr format 3".into(),
                known: "Zarr format 2",
            }),
            None => Ok(store),
        }
    }

    /// The folder or archive.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a key is, for messages.
    pub fn path_of(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The bytes under a key; nothing if there are none.
    ///
    /// # Errors
    /// When they are more than `limit`, or cannot be read.
    pub fn read(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        if let Some((archive, top)) = &self.archive {
            return archive.read(&format!("{top}{key}"), limit);
        }
        let path = self.path_of(key);
        let size = match fs::metadata(&path) {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, error)),
        };
        if size > limit as u64 {
            let detail = format!("it has {size} bytes, it should not have more than {limit}");
            return Err(Error::Decode { path, detail });
        }
        fs::read(&path).map(Some).map_err(|e| Error::io(&path, e))
    }

    /// A JSON document; nothing if it is not there.
    pub fn document(&self, key: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.read(key, MAX_DOCUMENT)? else {
            return Ok(None);
        };
        let path = self.path_of(key);
        match serde_json::from_slice(&bytes) {
            Ok(document) => Ok(Some(document)),
            Err(error) => Err(pointer(&path, &bytes).unwrap_or(Error::Json {
                path,
                detail: error.to_string(),
            })),
        }
    }

    /// Names of the arrays and of the groups right below a group, in order.
    pub fn children(&self, group: &str) -> Result<(Vec<String>, Vec<String>)> {
        let mut names: Vec<String> = match &self.archive {
            Some((archive, top)) => {
                let below = format!("{top}{group}/");
                let inside = archive.names().filter_map(|n| n.strip_prefix(&below));
                inside
                    .filter_map(|rest| rest.split_once('/'))
                    .map(|(name, _)| name.to_string())
                    .collect()
            }
            None => folders(&self.path_of(group))?,
        };
        names.sort();
        names.dedup();
        let (mut arrays, mut groups) = (Vec::new(), Vec::new());
        for name in names {
            let key = format!("{group}/{name}");
            if self.size(&format!("{key}/.zarray"))?.is_some() {
                arrays.push(name);
            } else if self.size(&format!("{key}/.zgroup"))?.is_some() {
                groups.push(name);
            }
        }
        Ok((arrays, groups))
    }

    /// Length of what is under a key.
    fn size(&self, key: &str) -> Result<Option<u64>> {
        if let Some((archive, top)) = &self.archive {
            return Ok(archive.size(&format!("{top}{key}")));
        }
        let path = self.path_of(key);
        match fs::metadata(&path) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, error)),
        }
    }

    /// Keys below a folder, relative to it, with their lengths.
    fn keys_below(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        if let Some((archive, top)) = &self.archive {
            let below = format!("{top}{folder}/");
            let found = archive.names().filter_map(|name| {
                let key = name.strip_prefix(&below)?;
                Some((key.to_string(), archive.size(name)?))
            });
            return Ok(found.collect());
        }
        let mut found = Vec::new();
        list_files(&self.path_of(folder), "", MAX_DIMENSIONS, &mut found)?;
        Ok(found)
    }
}

/// Names of the folders in a folder; none if it is not there.
fn folders(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn list_files(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<(String, u64)>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let metadata = fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        if metadata.is_file() {
            found.push((format!("{prefix}{name}"), metadata.len()));
        } else if depth > 1 {
            list_files(&path, &format!("{prefix}{name}/"), depth - 1, found)?;
        }
    }
    Ok(())
}

/// A Git LFS pointer in place of the file.
fn pointer(path: &Path, bytes: &[u8]) -> Option<Error> {
    impostor(path, bytes).filter(|error| matches!(error, Error::LfsPointer { .. }))
}

/// Number type of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
    /// 64-bit integer without sign.
    U64,
    /// 32-bit integer without sign.
    U32,
    /// 16-bit integer without sign.
    U16,
    /// 8-bit integer without sign.
    U8,
    /// Truth value.
    Bool,
}

impl NumberType {
    /// From NumPy's name without its byte order.
    fn from_numpy(name: &str) -> Option<Self> {
        Some(match name {
            "f8" => Self::F64,
            "f4" => Self::F32,
            "i8" => Self::I64,
            "i4" => Self::I32,
            "i2" => Self::I16,
            "i1" => Self::I8,
            "u8" => Self::U64,
            "u4" => Self::U32,
            "u2" => Self::U16,
            "u1" => Self::U8,
            "b1" => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether the values are whole numbers.
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F64 | Self::F32)
    }

    /// Whether every value of this type is exactly an `f32`.
    pub fn fits_f32(self) -> bool {
        matches!(self, Self::F32) || self.is_integer() && self.bytes() <= 2
    }

    /// A value of `.zarray` in this type, little endian.
    fn encode(self, value: &Value) -> Option<Vec<u8>> {
        if value.is_null() {
            return Some(vec![0; self.bytes()]);
        }
        if !self.is_integer() {
            let number = match value.as_str() {
                Some("NaN") => f64::NAN,
                Some("Infinity") => f64::INFINITY,
                Some("-Infinity") => f64::NEG_INFINITY,
                Some(_) => return None,
                None => value.as_f64()?,
            };
            return Some(match self {
                Self::F32 => (number as f32).to_le_bytes().to_vec(),
                _ => number.to_le_bytes().to_vec(),
            });
        }
        let number = match value {
            Value::Bool(truth) => i128::from(*truth),
            _ => value
                .as_i64()
                .map(i128::from)
                .or(value.as_u64().map(i128::from))
                .or_else(|| {
                    value
                        .as_f64()
                        .filter(|v| v.fract() == 0.0)
                        .map(|v| v as i128)
                })?,
        };
        Some(number.to_le_bytes()[..self.bytes()].to_vec())
    }
}

/// `.zarray`, as far as it is used.
#[derive(Deserialize)]
struct Header {
    zarr_format: u32,
    shape: Vec<u64>,
    chunks: Vec<u64>,
    dtype: Value,
    compressor: Option<Compressor>,
    #[serde(default)]
    filters: Option<Vec<Compressor>>,
    #[serde(default)]
    fill_value: Value,
    order: String,
    #[serde(default)]
    dimension_separator: Option<String>,
}

#[derive(Deserialize)]
struct Compressor {
    id: String,
}

/// How chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Raw,
    Blosc,
    Zlib,
    Gzip,
    Zstd,
}

/// An array, opened: its metadata, and which of its chunks are there.
#[derive(Debug)]
pub struct ZarrArray {
    store: Arc<ZarrStore>,
    name: String,
    dtype: NumberType,
    is_big_endian: bool,
    shape: Vec<usize>,
    chunks: Vec<usize>,
    is_fortran: bool,
    separator: char,
    codec: Codec,
    fill: Vec<u8>,
    missing: u64,
    stored_bytes: u64,
}

impl ZarrArray {
    /// Opens the array of a name, such as `data/action`.
    ///
    /// # Errors
    /// [`Error::MissingKey`]; [`Error::UnknownCodec`], [`Error::Dtype`], [`Error::ObjectArray`] for what this
    /// build does not read; [`Error::Length`] for a size that its chunk files cannot hold.
    pub fn open(store: &Arc<ZarrStore>, name: &str) -> Result<Self> {
        let key = format!("{name}/.zarray");
        let path = store.path_of(&key);
        let document = store.document(&key)?.ok_or_else(|| Error::MissingKey {
            path: store.root.clone(),
            key: name.into(),
        })?;
        let header: Header = serde_json::from_value(document).map_err(|e| Error::Json {
            path: path.clone(),
            detail: e.to_string(),
        })?;
        let (dtype, is_big_endian) = number_type(&path, name, &header.dtype)?;
        let codec = codec(&path, name, &header)?;
        let (shape, chunks) = sizes(&path, &header, dtype)?;
        let fill = dtype
            .encode(&header.fill_value)
            .ok_or_else(|| Error::Json {
                path: path.clone(),
                detail: format!("`fill_value` {} is not a {dtype:?}", header.fill_value),
            })?;
        let mut array = Self {
            store: Arc::clone(store),
            name: name.into(),
            dtype,
            is_big_endian,
            shape,
            chunks,
            is_fortran: header.order == "F",
            separator: match header.dimension_separator.as_deref() {
                Some("/") => '/',
                _ => '.',
            },
            codec,
            fill,
            missing: 0,
            stored_bytes: 0,
        };
        array.count_chunks()?;
        Ok(array)
    }

    /// Name in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number type.
    pub fn dtype(&self) -> NumberType {
        self.dtype
    }

    /// Length of every dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values per step of the first dimension.
    pub fn width(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Number of chunks that are not there and read as fill values.
    pub fn missing_chunks(&self) -> u64 {
        self.missing
    }

    /// Bytes of the chunks that are there, compressed.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Some steps of the first dimension, row-major and little endian. Only their chunks are read.
    ///
    /// # Errors
    /// [`Error::Decode`], naming the chunk.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>> {
        if rows.end > self.shape[0] {
            return Err(Error::Length {
                path: self.store.path_of(&self.name),
                detail: format!(
                    "rows up to {} were asked for, it has {}",
                    rows.end, self.shape[0]
                ),
            });
        }
        if rows.is_empty() || self.width() == 0 {
            return Ok(Vec::new());
        }
        let row_bytes = self.width() * self.dtype.bytes();
        let mut out = Vec::new();
        let step = self.chunks[0];
        for block in rows.start / step..=(rows.end - 1) / step {
            let first = (block * step).max(rows.start);
            let last = ((block + 1) * step).min(rows.end);
            let mut target = Vec::new();
            for grid in self.grid_below(block) {
                let chunk = self.chunk(&grid)?;
                if target.is_empty() {
                    target = self
                        .fill
                        .repeat((last - first) * row_bytes / self.fill.len());
                }
                if let Some(chunk) = chunk {
                    self.copy(&chunk, &grid, first..last, &mut target);
                }
            }
            out.append(&mut target);
        }
        Ok(out)
    }

    /// Counts the chunks that are there, and refuses sizes that they cannot hold.
    fn count_chunks(&mut self) -> Result<()> {
        let mut present = 0;
        for (key, size) in self.store.keys_below(&self.name)? {
            if self.is_chunk(&key) {
                present += 1;
                self.stored_bytes += size;
            }
        }
        let grid: u128 = self.grid().iter().map(|&n| n as u128).product();
        let item = self.dtype.bytes() as u128;
        let announced = self.shape.iter().map(|&n| n as u128).product::<u128>() * item;
        let held = present * self.chunk_bytes() as u128;
        let missing = grid.saturating_sub(present);
        if announced > held + u128::from(FILL_LIMIT) || missing > MISSING_LIMIT {
            return Err(Error::Length {
                path: self.store.path_of(&self.name),
                detail: format!(
                    "it announces {announced} bytes, its {present} chunks can hold {held}: most of it is not there"
                ),
            });
        }
        self.missing = missing as u64;
        Ok(())
    }

    /// Number of chunks along every dimension.
    fn grid(&self) -> Vec<usize> {
        let sizes = self.shape.iter().zip(&self.chunks);
        sizes.map(|(n, chunk)| n.div_ceil(*chunk)).collect()
    }

    /// Positions of all chunks that share a place along the first dimension.
    fn grid_below(&self, block: usize) -> Vec<Vec<usize>> {
        let mut positions = vec![vec![block]];
        for &count in &self.grid()[1..] {
            positions = positions
                .into_iter()
                .flat_map(|position| {
                    (0..count).map(move |k| position.iter().copied().chain([k]).collect())
                })
                .collect();
        }
        positions
    }

    /// Whether a key below the array names a chunk of its grid.
    fn is_chunk(&self, key: &str) -> bool {
        let grid = self.grid();
        let parts: Vec<Option<usize>> = key
            .split(self.separator)
            .map(|part| part.parse().ok())
            .collect();
        parts.len() == grid.len()
            && parts
                .iter()
                .zip(&grid)
                .all(|(part, count)| part.is_some_and(|k| k < *count))
    }

    fn chunk_bytes(&self) -> usize {
        self.chunks.iter().product::<usize>() * self.dtype.bytes()
    }

    /// The chunk file that a value lies in, by its row and its place in the row.
    pub fn chunk_path(&self, row: usize, place: usize) -> PathBuf {
        let mut rest = place;
        let mut position = vec![row / self.chunks[0]];
        for d in 1..self.shape.len() {
            let below = self.shape[d + 1..].iter().product::<usize>().max(1);
            position.push(rest / below / self.chunks[d]);
            rest %= below;
        }
        self.store.path_of(&self.key_of(&position))
    }

    fn key_of(&self, position: &[usize]) -> String {
        let parts: Vec<String> = position.iter().map(usize::to_string).collect();
        format!("{}/{}", self.name, parts.join(&self.separator.to_string()))
    }

    /// A chunk in row-major order and little endian; nothing where it is not there.
    fn chunk(&self, position: &[usize]) -> Result<Option<Vec<u8>>> {
        let key = self.key_of(position);
        let size = self.chunk_bytes();
        // No codec makes data more than a little longer.
        let Some(bytes) = self.store.read(&key, size + size / 8 + (64 << 10))? else {
            return Ok(None);
        };
        let path = self.store.path_of(&key);
        let mut chunk = match unpack(self.codec, &bytes, size) {
            Ok(chunk) => chunk,
            Err(detail) => {
                return Err(pointer(&path, &bytes).unwrap_or(Error::Decode { path, detail }));
            }
        };
        // Nothing computes floats of these bits; a disk or a broken copy leaves them behind.
        if !self.dtype.is_integer() && chunk.iter().all(|byte| *byte == 0xff) {
            let detail = "every byte of it is 0xff: it was overwritten".into();
            return Err(Error::Decode { path, detail });
        }
        if self.is_big_endian {
            chunk
                .chunks_exact_mut(self.dtype.bytes())
                .for_each(<[u8]>::reverse);
        }
        if self.is_fortran {
            chunk = to_row_major(&chunk, &self.chunks, self.dtype.bytes());
        }
        Ok(Some(chunk))
    }

    /// Copies the part of a chunk that lies in `rows` to where it belongs in them.
    fn copy(&self, chunk: &[u8], position: &[usize], rows: Range<usize>, target: &mut [u8]) {
        let dimensions = self.shape.len();
        let (mut from, mut to, mut extent) = (Vec::new(), Vec::new(), Vec::new());
        let mut target_shape = self.shape.clone();
        target_shape[0] = rows.len();
        let sizes = position.iter().zip(&self.chunks).zip(&self.shape);
        for (d, ((&at, &chunk), &size)) in sizes.enumerate() {
            let wanted = if d == 0 { rows.clone() } else { 0..size };
            let start = at * chunk;
            let first = start.max(wanted.start);
            from.push(first - start);
            to.push(first - wanted.start);
            extent.push((start + chunk).min(wanted.end).saturating_sub(first));
        }
        let item = self.dtype.bytes();
        // Trailing dimensions that are whole on both sides are one run of bytes.
        let mut run = dimensions - 1;
        while run > 0 && extent[run] == self.chunks[run] && extent[run] == target_shape[run] {
            run -= 1;
        }
        let below = |shape: &[usize], d: usize| shape[d + 1..].iter().product::<usize>() * item;
        let length = extent[run] * below(&self.chunks, run);
        let offset = |at: &[usize], start: &[usize], shape: &[usize]| -> usize {
            (0..dimensions)
                .map(|d| (start[d] + at.get(d).copied().unwrap_or(0)) * below(shape, d))
                .sum()
        };
        for at in positions(&extent[..run]) {
            let source = offset(&at, &from, &self.chunks);
            let place = offset(&at, &to, &target_shape);
            target[place..place + length].copy_from_slice(&chunk[source..source + length]);
        }
    }
}

/// All positions in a box, in row-major order; one empty position in a box of no dimensions.
fn positions(extent: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let count: usize = extent.iter().product();
    (0..count).map(move |number| {
        let mut rest = number;
        let mut at = vec![0; extent.len()];
        for (place, &size) in at.iter_mut().zip(extent).rev() {
            *place = rest % size;
            rest /= size;
        }
        at
    })
}

/// Turns column-major values into row-major ones.
fn to_row_major(values: &[u8], shape: &[usize], item: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len());
    for at in positions(shape) {
        let place = at
            .iter()
            .zip(shape)
            .rev()
            .fold(0, |place, (k, size)| place * size + k);
        out.extend_from_slice(&values[place * item..(place + 1) * item]);
    }
    out
}

/// Number type and whether it is big endian.
fn number_type(path: &Path, name: &str, dtype: &Value) -> Result<(NumberType, bool)> {
    let text = dtype.as_str().unwrap_or("structured");
    if text.contains('O') {
        return Err(Error::ObjectArray {
            path: path.to_path_buf(),
            array: name.into(),
        });
    }
    let mut letters = text.chars();
    let order = letters.next().unwrap_or_default();
    let found = NumberType::from_numpy(letters.as_str()).filter(|_| "<>|=".contains(order));
    let known = found.ok_or_else(|| Error::Dtype {
        path: path.to_path_buf(),
        found: dtype.to_string(),
        wanted: "an array of numbers",
    })?;
    Ok((known, order == '>'))
}

fn codec(path: &Path, name: &str, header: &Header) -> Result<Codec> {
    let unknown = |codec: &str| Error::UnknownCodec {
        path: path.to_path_buf(),
        array: name.into(),
        codec: codec.into(),
    };
    if header.zarr_format != 2 {
        return Err(Error::Version {
            path: path.to_path_buf(),
            found: format!("Zarr format {}", header.zarr_format),
            known: "Zarr format 2",
        });
    }
    if let Some(filter) = header.filters.as_deref().unwrap_or_default().first() {
        return Err(unknown(&filter.id));
    }
    if !matches!(header.order.as_str(), "C" | "F") {
        return Err(Error::Json {
            path: path.to_path_buf(),
            detail: format!("`order` is `{}`, not `C` or `F`", header.order),
        });
    }
    match header.compressor.as_ref().map(|codec| codec.id.as_str()) {
        None => Ok(Codec::Raw),
        Some("blosc") => Ok(Codec::Blosc),
        Some("zlib") => Ok(Codec::Zlib),
        Some("gzip") => Ok(Codec::Gzip),
        Some("zstd") => Ok(Codec::Zstd),
        Some(other) => Err(unknown(other)),
    }
}

/// Shape and chunk shape, with every product of them known to fit.
fn sizes(path: &Path, header: &Header, dtype: NumberType) -> Result<(Vec<usize>, Vec<usize>)> {
    let fault = |detail: String| Error::Length {
        path: path.to_path_buf(),
        detail,
    };
    let Header { shape, chunks, .. } = header;
    let dimensions = shape.len();
    if dimensions == 0 || dimensions > MAX_DIMENSIONS || dimensions != chunks.len() {
        return Err(fault(format!(
            "shape {shape:?} in chunks of {chunks:?} is not an array of 1 to {MAX_DIMENSIONS} dimensions"
        )));
    }
    let item = dtype.bytes() as u64;
    let product = |sizes: &[u64]| sizes.iter().try_fold(item, |n, &size| n.checked_mul(size));
    let chunk = product(chunks).filter(|&bytes| bytes > 0 && bytes <= MAX_CHUNK);
    if chunk.is_none() {
        return Err(fault(format!(
            "chunks of {chunks:?} are empty or larger than {MAX_CHUNK} bytes"
        )));
    }
    // Zero along one dimension must not hide an overflow along the others.
    let longest: Vec<u64> = shape.iter().map(|&n| n.max(1)).collect();
    if product(&longest).is_none_or(|bytes| i64::try_from(bytes).is_err()) {
        return Err(fault(format!("shape {shape:?} is larger than any memory")));
    }
    let whole = |sizes: &[u64]| sizes.iter().map(|&n| n as usize).collect();
    Ok((whole(shape), whole(chunks)))
}

/// Unpacks a chunk of exactly `size` bytes.
fn unpack(codec: Codec, bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let chunk = match codec {
        Codec::Raw => bytes.to_vec(),
        Codec::Blosc => unblosc(bytes, size)?,
        Codec::Zlib => inflate(flate2::read::ZlibDecoder::new(bytes), size)?,
        Codec::Gzip => inflate(flate2::read::MultiGzDecoder::new(bytes), size)?,
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|e| e.to_string())?;
            inflate(decoder, size)?
        }
    };
    if chunk.len() == size {
        Ok(chunk)
    } else {
        Err(format!(
            "it holds {} bytes, a chunk has {size}",
            chunk.len()
        ))
    }
}

/// Reads one byte more than wanted at most, so that a chunk that is too long is noticed.
fn inflate(decoder: impl Read, size: usize) -> Result<Vec<u8>, String> {
    let mut chunk = Vec::new();
    decoder
        .take(size as u64 + 1)
        .read_to_end(&mut chunk)
        .map_err(|e| e.to_string())?;
    Ok(chunk)
}

/// Unpacks a Blosc buffer, whose header is compared with what is known before it is believed.
///
/// ```text
/// version  codec version  flags  item size  | bytes  block size  compressed bytes   (u8 x 4, u32 x 3)
/// ```
fn unblosc(bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let number = |at: usize| -> Option<u64> {
        let field = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*field)))
    };
    let header = bytes
        .get(..BLOSC_HEADER)
        .and_then(|_| Some((number(4)?, number(12)?)));
    let (announced, compressed) = header.ok_or("it is shorter than a Blosc header")?;
    if announced != size as u64 {
        return Err(format!(
            "its header says {announced} bytes, a chunk has {size}"
        ));
    }
    if compressed != bytes.len() as u64 || announced / MAX_RATIO > compressed {
        return Err(format!(
            "its header says {compressed} compressed bytes, there are {}",
            bytes.len()
        ));
    }
    // The buffer itself says how it is compressed; these settings are for writing.
    let level = BloscCompressionLevel::try_from(5).map_err(|level| format!("level {level}"))?;
    let codec = BloscCodec::new(
        BloscCompressor::LZ4,
        level,
        None,
        BloscShuffleMode::NoShuffle,
        None,
    )
    .map_err(|e| e.to_string())?;
    let unpacked = codec.decode(
        bytes.into(),
        &BytesRepresentation::FixedSize(size as u64),
        &CodecOptions::default(),
    );
    unpacked
        .map(std::borrow::Cow::into_owned)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path, name: &str, header: &str, chunks: &[(&str, &[u8])]) -> Arc<ZarrStore> {
        let array = folder.join(name);
        fs::create_dir_all(&array).unwrap();
        fs::write(array.join(".zarray"), header).unwrap();
        for (key, bytes) in chunks {
            fs::create_dir_all(array.join(key).parent().unwrap()).unwrap();
            fs::write(array.join(key), bytes).unwrap();
        }
        Arc::new(ZarrStore::open(folder).unwrap())
    }

    fn header(shape: &str, chunks: &str, dtype: &str, more: &str) -> String {
        format!(
            r#"{{"zarr_format": 2, "shape": {shape}, "chunks": {chunks}, "dtype": "{dtype}", "compressor": null, "filters": null{more}}}"#
        )
    }

    const C_ORDER: &str = r#", "order": "C", "fill_value": 7"#;

    #[test]
    fn a_grid_of_chunks_is_put_together() {
        let folder = tempfile::tempdir().unwrap();
        // Rows 0 1 2 / 3 4 5 / 6 7 8 in chunks of 2x2; the last column and row are padded with 99.
        let chunks: [(&str, &[u8]); 3] = [
            ("0.0", &[0, 1, 3, 4]),
            ("0.1", &[2, 99, 5, 99]),
            ("1.0", &[6, 7, 99, 99]),
        ];
        let store = store(
            folder.path(),
            "a",
            &header("[3, 3]", "[2, 2]", "|u1", C_ORDER),
            &chunks,
        );
        let array = ZarrArray::open(&store, "a").unwrap();
        assert_eq!((array.missing_chunks(), array.stored_bytes()), (1, 12));
        // Chunk 1.1 is missing: its value is the fill value.
        assert_eq!(array.rows(0..3).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 7]);
        assert_eq!(array.rows(1..2).unwrap(), [3, 4, 5]);
        assert!(array.chunk_path(1, 2).ends_with("a/0.1"));
        assert!(array.chunk_path(2, 0).ends_with("a/1.0"));
        assert_eq!(array.rows(1..1).unwrap(), [] as [u8; 0]);
    }

    #[test]
    fn column_major_big_endian_and_slashes_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        // 1 2 3 / 4 5 6, column by column.
        let values = [1_u16, 4, 2, 5, 3, 6];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
        let more = r#", "order": "F", "fill_value": 0, "dimension_separator": "/""#;
        let store = store(
            folder.path(),
            "a",
            &header("[2, 3]", "[2, 3]", ">u2", more),
            &[("0/0", &bytes)],
        );
        let rows = ZarrArray::open(&store, "a").unwrap().rows(0..2).unwrap();
        assert_eq!(rows, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    }

    #[test]
    fn three_dimensions_split_along_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        // value = 100 i + 10 j + k, shape 2x3x4 in chunks of 1x2x3.
        let mut chunks = Vec::new();
        for at in positions(&[2, 2, 2]) {
            let values: Vec<u8> = positions(&[1, 2, 3])
                .map(|p| (100 * at[0] + 10 * (2 * at[1] + p[1]) + 3 * at[2] + p[2]) as u8)
                .collect();
            chunks.push((format!("{}.{}.{}", at[0], at[1], at[2]), values));
        }
        let chunks: Vec<(&str, &[u8])> = chunks.iter().map(|(k, v)| (&**k, &**v)).collect();
        let store = store(
            folder.path(),
            "a",
            &header("[2, 3, 4]", "[1, 2, 3]", "|u1", C_ORDER),
            &chunks,
        );
        let array = ZarrArray::open(&store, "a").unwrap();
        let expected: Vec<u8> = positions(&[1, 3, 4])
            .map(|p| (100 + 10 * p[1] + p[2]) as u8)
            .collect();
        assert_eq!(array.rows(1..2).unwrap(), expected);
    }

    #[test]
    fn announced_sizes_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, shape, chunks) in [
            ("a", "[1000000000000, 2]", "[1, 2]"),
            (
                "b",
                "[18446744073709551615, 18446744073709551615]",
                "[1, 1]",
            ),
            ("c", "[0, 18446744073709551615]", "[1, 1]"),
            ("d", "[4]", "[1099511627776]"),
            ("e", "[4]", "[0]"),
            ("f", "[4, 2]", "[4]"),
            ("g", "[]", "[]"),
        ] {
            let header = header(shape, chunks, "<f4", C_ORDER);
            let store = store(folder.path(), name, &header, &[]);
            let error = ZarrArray::open(&store, name).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), "length_out_of_range", "{name}: {error}");
        }
    }

    #[test]
    fn chunks_of_another_size_are_refused() {
        for codec in [
            Codec::Raw,
            Codec::Blosc,
            Codec::Zlib,
            Codec::Gzip,
            Codec::Zstd,
        ] {
            assert!(unpack(codec, &[1, 2, 3], 8).is_err(), "{codec:?}");
            assert!(unpack(codec, &[], 8).is_err(), "{codec:?}");
        }
        let long = zstd::bulk::compress(&vec![0; 1 << 20], 3).unwrap();
        assert!(
            unpack(Codec::Zstd, &long, 8)
                .unwrap_err()
                .contains("9 bytes")
        );
        // A Blosc header that announces 1 GiB over 16 bytes.
        let mut bomb = vec![2, 1, 1, 4];
        for field in [1_u32 << 30, 1 << 30, 16] {
            bomb.extend_from_slice(&field.to_le_bytes());
        }
        assert!(unpack(Codec::Blosc, &bomb, 1 << 30).is_err());
        assert!(unpack(Codec::Blosc, &bomb, 64).is_err());
    }

    #[test]
    fn fill_values_are_read_in_the_type_of_the_array() {
        let json = |text: &str| serde_json::from_str(text).unwrap();
        let f32s = |text: &str| NumberType::F32.encode(&json(text));
        assert_eq!(f32s("1.5"), Some(1.5_f32.to_le_bytes().to_vec()));
        assert!(
            f32s("\"NaN\"").is_some_and(|b| f32::from_le_bytes(b.try_into().unwrap()).is_nan())
        );
        assert_eq!(f32s("\"AAAA\""), None);
        assert_eq!(f32s("null"), Some(vec![0; 4]));
        assert_eq!(NumberType::I16.encode(&json("-2")), Some(vec![254, 255]));
        assert_eq!(NumberType::Bool.encode(&json("true")), Some(vec![1]));
    }
}
