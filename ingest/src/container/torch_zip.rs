//! Files written by `torch.save` since torch 1.6: a ZIP archive of stored members (datasets.md section 1.1).
//!
//! The file is mapped into memory and tensors are views of it, so opening one costs no memory however
//! large it is. Everything an untrusted file could lie about is checked first: member bounds, CRC-32,
//! and that every element a tensor addresses lies inside its storage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::mapped::{FileBytes, impostor};
use super::pickle::{Node, NodeId, Pickle, PickleError};
use crate::{Error, Result};

const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";
const CENTRAL_HEADER: &[u8; 4] = b"PK\x01\x02";
const END_RECORD: &[u8; 4] = b"PK\x05\x06";
const END_RECORD_64: &[u8; 4] = b"PK\x06\x06";
const END_LOCATOR_64: &[u8; 4] = b"PK\x06\x07";
/// Length of the end record without its comment.
const END_RECORD_LENGTH: usize = 22;
/// `0x1950a86a20f9469cfc6c` as pickled by `torch.save` before version 1.6.
const LEGACY_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// An open archive.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    map: FileBytes,
    members: BTreeMap<String, Member>,
    /// Folder of all members, with its slash: the file's stem when it was saved.
    prefix: String,
}

#[derive(Debug)]
struct Member {
    data: Range<usize>,
    crc32: u32,
}

impl TorchFile {
    /// Maps a file and reads its directory.
    ///
    /// # Errors
    /// What the file is instead: empty, a Git LFS pointer, a web page, a legacy torch file, cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let map = FileBytes::open(path)?;
        if !map.starts_with(LOCAL_HEADER) {
            return Err(identify(path, &map));
        }
        let members = read_directory(path, &map)?;
        let mut prefixes = members
            .keys()
            .filter_map(|name| name.strip_suffix("data.pkl"));
        let prefix = match (prefixes.next(), prefixes.next()) {
            (Some(prefix), None) if prefix.ends_with('/') => prefix.to_string(),
            _ => return Err(Error::torch(path, "the archive holds no single `data.pkl`")),
        };
        let file = Self {
            path: path.to_path_buf(),
            map,
            members,
            prefix,
        };
        file.check_byte_order()?;
        Ok(file)
    }

    /// The tensor that is the whole content of the file.
    pub fn tensor(&self) -> Result<Tensor<'_>> {
        let pickle = self.pickle()?;
        Reader {
            file: self,
            pickle: &pickle,
        }
        .tensor(pickle.root())
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file, for its hash.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn pickle(&self) -> Result<Pickle<'_>> {
        let input = self.member("data.pkl")?;
        Pickle::parse(input).map_err(|error| match error {
            PickleError::Forbidden(name) => Error::ForbiddenGlobal {
                path: self.path.clone(),
                name,
            },
            PickleError::Malformed { at, detail } => {
                Error::torch(&self.path, format!("byte {at} of its pickle: {detail}"))
            }
        })
    }

    /// Old files have no such member; they are little-endian.
    fn check_byte_order(&self) -> Result<()> {
        if !self
            .members
            .contains_key(&format!("{}byteorder", self.prefix))
        {
            return Ok(());
        }
        match self.member("byteorder")? {
            b"little" => Ok(()),
            other => Err(Error::Dtype {
                path: self.path.clone(),
                found: format!(
                    "{}-endian",
                    String::from_utf8_lossy(&other[..other.len().min(8)])
                ),
                wanted: "tensors",
            }),
        }
    }

    /// The bytes of a member, whose checksum is right.
    fn member(&self, name: &str) -> Result<&[u8]> {
        let name = format!("{}{name}", self.prefix);
        let member = self.members.get(&name);
        let member = member
            .ok_or_else(|| Error::torch(&self.path, format!("`{name}` is not in the archive")))?;
        let data = &self.map[member.data.clone()];
        if crc32fast::hash(data) != member.crc32 {
            return Err(Error::Checksum {
                path: self.path.clone(),
                member: name,
            });
        }
        Ok(data)
    }
}

/// Says what a file is that is not a ZIP archive.
fn identify(path: &Path, bytes: &[u8]) -> Error {
    if bytes
        .get(2..)
        .is_some_and(|rest| rest.starts_with(LEGACY_MAGIC))
        || bytes.get(257..262) == Some(b"ustar")
    {
        return Error::LegacyTorch {
            path: path.to_path_buf(),
        };
    }
    impostor(path, bytes).unwrap_or_else(|| Error::torch(path, "it is not a ZIP archive"))
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
        if entry.method != 0 || entry.flags & 1 != 0 {
            return Err(Error::torch(
                path,
                format!("`{}` is compressed or encrypted", entry.name),
            ));
        }
        let data = entry
            .data(bytes)
            .ok_or_else(|| Error::truncated(path, format!("`{}` is not all there", entry.name)))?;
        at = entry.next;
        members.insert(
            entry.name,
            Member {
                data,
                crc32: entry.crc32,
            },
        );
    }
    Ok(members)
}

/// One entry of the central directory.
struct Entry {
    name: String,
    flags: u16,
    method: u16,
    crc32: u32,
    size: u64,
    header: u64,
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
        let size = if size == u32::MAX {
            wide.next()?
        } else {
            u64::from(size)
        };
        if packed == u32::MAX {
            wide.next()?;
        }
        let header = if header == u32::MAX {
            wide.next()?
        } else {
            u64::from(header)
        };
        Some(Self {
            name: String::from_utf8_lossy(bytes.get(name_start..extra_start)?).into_owned(),
            flags: u16_at(bytes, at + 8)?,
            method: u16_at(bytes, at + 10)?,
            crc32: u32_at(bytes, at + 16)?,
            size,
            header,
            next: comment_start + comment_length?,
        })
    }

    /// Where the content is, if all of it is in the file.
    fn data(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let header = usize::try_from(self.header).ok()?;
        bytes
            .get(header..)?
            .starts_with(LOCAL_HEADER)
            .then_some(())?;
        let name_length = usize::from(u16_at(bytes, header + 26)?);
        let extra_length = usize::from(u16_at(bytes, header + 28)?);
        let start = header + 30 + name_length + extra_length;
        let end = start.checked_add(usize::try_from(self.size).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
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

/// Number type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 16-bit float with 8 bits of exponent.
    Bf16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
    /// 8-bit integer without sign.
    U8,
    /// Truth value.
    Bool,
}

impl TensorType {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether every value of this type is exactly an `f32`.
    pub fn fits_f32(self) -> bool {
        !matches!(self, Self::F64 | Self::I64 | Self::I32)
    }

    /// `FloatStorage` (old files) or `float32` (with an untyped storage).
    fn from_torch(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" | "float64" => Self::F64,
            "FloatStorage" | "float32" => Self::F32,
            "HalfStorage" | "float16" => Self::F16,
            "BFloat16Storage" | "bfloat16" => Self::Bf16,
            "LongStorage" | "int64" => Self::I64,
            "IntStorage" | "int32" => Self::I32,
            "ShortStorage" | "int16" => Self::I16,
            "CharStorage" | "int8" => Self::I8,
            "ByteStorage" | "uint8" => Self::U8,
            "BoolStorage" | "bool" => Self::Bool,
            _ => return None,
        })
    }
}

/// A view of numbers in a file: nothing is copied until values are asked for.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    dtype: TensorType,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    /// In elements.
    offset: usize,
    storage: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// A view whose every element lies inside the storage; nothing otherwise.
    ///
    /// A view may not have more elements than its storage: a stride of 0 would make a small file
    /// announce a tensor larger than memory.
    fn new(
        dtype: TensorType,
        storage: &'a [u8],
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Option<Self> {
        let held = storage.len() / dtype.bytes();
        let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))?;
        let reach = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |reach, (&d, &stride)| {
                reach.checked_add(d.saturating_sub(1).checked_mul(stride)?)
            })?;
        let inside = elements == 0 || reach < held;
        (inside && elements <= held && shape.len() == strides.len()).then_some(Self {
            dtype,
            shape,
            strides,
            offset,
            storage,
        })
    }

    /// Number type.
    pub fn dtype(&self) -> TensorType {
        self.dtype
    }

    /// Length of every dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one index to the next, for every dimension.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The part at one index of the first dimension; nothing when there is no such index.
    pub fn at(&self, index: usize) -> Option<Self> {
        let (&length, shape) = self.shape.split_first()?;
        let (&stride, strides) = self.strides.split_first()?;
        let offset = self.offset + index * stride;
        let part = Self {
            dtype: self.dtype,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            offset,
            storage: self.storage,
        };
        (index < length).then_some(part)
    }

    /// The same elements with their dimensions in another order.
    ///
    /// # Panics
    /// When `order` is not a permutation of the dimensions.
    #[must_use]
    pub fn permute(&self, order: &[usize]) -> Self {
        let mut seen: Vec<usize> = order.to_vec();
        seen.sort_unstable();
        assert!(
            seen.iter().copied().eq(0..self.shape.len()),
            "{order:?} of {} dimensions",
            self.shape.len()
        );
        Self {
            shape: order.iter().map(|&d| self.shape[d]).collect(),
            strides: order.iter().map(|&d| self.strides[d]).collect(),
            ..self.clone()
        }
    }

    /// All values as `f32` in C order; 64-bit types are rounded to the nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            TensorType::F64 => self.map(|b| f64::from_le_bytes(b) as f32),
            TensorType::F32 => self.map(f32::from_le_bytes),
            TensorType::F16 => self.map(|b| f16_to_f32(u16::from_le_bytes(b))),
            TensorType::Bf16 => {
                self.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
            }
            TensorType::I64 => self.map(|b| i64::from_le_bytes(b) as f32),
            TensorType::I32 => self.map(|b| i32::from_le_bytes(b) as f32),
            TensorType::I16 => self.map(|b| f32::from(i16::from_le_bytes(b))),
            TensorType::I8 => self.map(|b| f32::from(i8::from_le_bytes(b))),
            TensorType::U8 | TensorType::Bool => self.map(|[b]| f32::from(b)),
        }
    }

    /// All values as `f64` in C order.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            TensorType::F64 => self.map(f64::from_le_bytes),
            TensorType::I64 => self.map(|b| i64::from_le_bytes(b) as f64),
            TensorType::I32 => self.map(|b| f64::from(i32::from_le_bytes(b))),
            _ => self.to_f32().into_iter().map(f64::from).collect(),
        }
    }

    /// All values in C order, for tensors of bytes.
    pub fn to_u8(&self) -> Option<Vec<u8>> {
        (self.dtype == TensorType::U8).then(|| self.map(|[b]| b))
    }

    /// Converts every element, in C order.
    fn map<T, const N: usize>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let total: usize = self.shape.iter().product();
        let mut out = Vec::with_capacity(total);
        if total == 0 {
            return out;
        }
        let elements = self.storage.as_chunks::<N>().0;
        let (inner, inner_stride) = match (self.shape.last(), self.strides.last()) {
            (Some(&length), Some(&stride)) => (length, stride),
            _ => (1, 1),
        };
        let mut index = vec![0; self.shape.len().saturating_sub(1)];
        let mut start = self.offset;
        for _ in 0..total / inner {
            out.extend((0..inner).map(|i| convert(elements[start + i * inner_stride])));
            start = self.advance(&mut index, start);
        }
        out
    }

    /// Steps to the next run of the last dimension: an odometer over the other ones.
    fn advance(&self, index: &mut [usize], mut start: usize) -> usize {
        for d in (0..index.len()).rev() {
            index[d] += 1;
            start += self.strides[d];
            if index[d] < self.shape[d] {
                break;
            }
            start -= self.shape[d] * self.strides[d];
            index[d] = 0;
        }
        start
    }
}

fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * (1.0 / 16_777_216.0),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + mantissa / 1024.0) * f32::from_bits(((exponent - 15 + 127) as u32) << 23),
    };
    sign * magnitude
}

/// Interprets the nodes of a torch pickle.
struct Reader<'a, 'p> {
    file: &'a TorchFile,
    pickle: &'p Pickle<'a>,
}

impl<'a> Reader<'a, '_> {
    fn fault<T>(&self, detail: impl ToString) -> Result<T> {
        Err(Error::torch(&self.file.path, detail))
    }

    /// A tensor, or the tensor inside a `Parameter`.
    fn tensor(&self, node: &Node) -> Result<Tensor<'a>> {
        match self.call(node)? {
            ("_rebuild_parameter", [data, ..]) => self.plain_tensor(self.pickle.node(*data)),
            _ => self.plain_tensor(node),
        }
    }

    fn plain_tensor(&self, node: &Node) -> Result<Tensor<'a>> {
        match self.call(node)? {
            ("_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, size, stride, ..]) => {
                self.view(*storage, None, [*offset, *size, *stride])
            }
            ("_rebuild_tensor_v3", [storage, offset, size, stride, _, _, dtype, ..]) => {
                self.view(*storage, Some(*dtype), [*offset, *size, *stride])
            }
            (other, _) => self.fault(format!("it holds `{other}`, not one tensor")),
        }
    }

    /// Name of a called function, and its arguments.
    fn call(&self, node: &Node) -> Result<(&str, &[NodeId])> {
        let Node::Call { function, args, .. } = node else {
            return self.fault("it does not hold one tensor");
        };
        match (self.pickle.node(*function), self.pickle.tuple(*args)) {
            (Node::Global(_, name), Some(args)) => Ok((name, args)),
            _ => self.fault("a call without a tuple of arguments"),
        }
    }

    fn view(
        &self,
        storage: NodeId,
        dtype: Option<NodeId>,
        [offset, size, stride]: [NodeId; 3],
    ) -> Result<Tensor<'a>> {
        let (class, key) = self.storage(storage)?;
        let name = match dtype.map(|id| self.pickle.node(id)) {
            Some(Node::Global(_, name)) => name,
            Some(_) => return self.fault("a tensor without a number type"),
            None => class,
        };
        let dtype = TensorType::from_torch(name).ok_or_else(|| Error::Dtype {
            path: self.file.path.clone(),
            found: name.to_string(),
            wanted: "tensors",
        })?;
        let bytes = self.file.member(&format!("data/{key}"))?;
        let offset = self.number(offset)?;
        let shape = self.numbers(size)?;
        let strides = self.numbers(stride)?;
        let described = format!(
            "shape {shape:?}, strides {strides:?}, offset {offset}, in a storage of {} numbers",
            bytes.len() / dtype.bytes()
        );
        Tensor::new(dtype, bytes, offset, shape, strides).ok_or_else(|| Error::ViewOutOfBounds {
            path: self.file.path.clone(),
            detail: described,
        })
    }

    /// Class name and key of `('storage', class, key, device, numel)`.
    fn storage(&self, id: NodeId) -> Result<(&str, &'a str)> {
        let Node::Persistent(id) = self.pickle.node(id) else {
            return self.fault("a tensor without a storage");
        };
        let Some([kind, class, key, ..]) = self.pickle.tuple(*id) else {
            return self.fault("a malformed storage");
        };
        match (
            self.pickle.text(*kind),
            self.pickle.node(*class),
            self.pickle.text(*key),
        ) {
            (Some("storage"), Node::Global(_, class), Some(key)) => Ok((class, key)),
            _ => self.fault("a malformed storage"),
        }
    }

    fn number(&self, id: NodeId) -> Result<usize> {
        match self.pickle.int(id).map(usize::try_from) {
            Some(Ok(value)) => Ok(value),
            _ => self.fault("a size, stride or offset that is not a natural number"),
        }
    }

    /// A tuple of numbers, or a `torch.Size` of one.
    fn numbers(&self, id: NodeId) -> Result<Vec<usize>> {
        let mut id = id;
        if let Node::Call { .. } = self.pickle.node(id)
            && let ("Size", [inner]) = self.call(self.pickle.node(id))?
        {
            id = *inner;
        }
        match self.pickle.tuple(id) {
            Some(items) => items.iter().map(|&item| self.number(item)).collect(),
            None => self.fault("a size or stride that is not a tuple"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the values are read, not computed")]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// A ZIP archive of stored members, with 64-bit sizes and offsets where `wide`.
    fn archive(members: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut directory = Vec::new();
        for (name, data) in members {
            let (offset, size) = (bytes.len() as u64, data.len() as u64);
            let narrow = |value: u64| if wide { u32::MAX } else { value as u32 }.to_le_bytes();
            let mut common = vec![45, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
            common.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
            let mut extra = Vec::new();
            if wide {
                extra.extend_from_slice(&[9, 9, 2, 0, 7, 7, 1, 0, 24, 0]);
                for v in [size, size, offset] {
                    extra.extend_from_slice(&v.to_le_bytes());
                }
            }
            bytes.extend_from_slice(LOCAL_HEADER);
            bytes.extend_from_slice(&common);
            bytes.extend_from_slice(&[narrow(size), narrow(size)].concat());
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&3_u16.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b"pad");
            bytes.extend_from_slice(data);
            directory.extend_from_slice(CENTRAL_HEADER);
            directory.extend_from_slice(&[45, 0]);
            directory.extend_from_slice(&common);
            directory.extend_from_slice(&[narrow(size), narrow(size)].concat());
            directory.extend_from_slice(&(name.len() as u16).to_le_bytes());
            directory.extend_from_slice(&(extra.len() as u16).to_le_bytes());
            directory.extend_from_slice(&[0; 10]);
            directory.extend_from_slice(&narrow(offset));
            directory.extend_from_slice(name.as_bytes());
            directory.extend_from_slice(&extra);
        }
        let (start, count) = (bytes.len() as u64, members.len() as u64);
        bytes.extend_from_slice(&directory);
        if wide {
            let record = bytes.len() as u64;
            bytes.extend_from_slice(END_RECORD_64);
            bytes.extend_from_slice(&44_u64.to_le_bytes());
            bytes.extend_from_slice(&[0; 12]);
            for v in [count, count, directory.len() as u64, start] {
                bytes.extend_from_slice(&v.to_le_bytes());
            }
            bytes.extend_from_slice(END_LOCATOR_64);
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&record.to_le_bytes());
            bytes.extend_from_slice(&1_u32.to_le_bytes());
        }
        let (count, start) = if wide {
            (u16::MAX, u32::MAX)
        } else {
            (count as u16, start as u32)
        };
        bytes.extend_from_slice(END_RECORD);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[count.to_le_bytes(), count.to_le_bytes()].concat());
        bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(b"\0\0");
        bytes
    }

    /// The pickle of a tensor: `_rebuild_tensor_v2(('storage', class, '0', 'cpu', n), offset, size, stride, False, {})`.
    fn pickled(class: &str, offset: u8, size: &[u8], stride: &[u8]) -> Vec<u8> {
        let tuple = |values: &[u8]| {
            let mut bytes = vec![b'('];
            for v in values {
                bytes.extend_from_slice(&[b'K', *v]);
            }
            bytes.push(b't');
            bytes
        };
        let mut bytes =
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
                .to_vec();
        bytes.extend_from_slice(class.as_bytes());
        bytes.extend_from_slice(b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK");
        bytes.push(offset);
        bytes.extend_from_slice(&[tuple(size), tuple(stride)].concat());
        bytes.extend_from_slice(b"\x89}tR.");
        bytes
    }

    fn open(bytes: &[u8]) -> Result<TorchFile> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        TorchFile::open(file.path())
    }

    fn six() -> Vec<u8> {
        (0_u8..6).flat_map(|v| f32::from(v).to_le_bytes()).collect()
    }

    fn saved(pickle: &[u8], storage: &[u8], wide: bool) -> Vec<u8> {
        archive(
            &[
                ("t/data.pkl", pickle),
                ("t/byteorder", b"little"),
                ("t/data/0", storage),
                ("t/version", b"3\n"),
            ],
            wide,
        )
    }

    #[test]
    fn offsets_and_strides_are_followed_in_plain_and_64_bit_archives() {
        for wide in [false, true] {
            let file = open(&saved(
                &pickled("FloatStorage", 1, &[2, 2], &[1, 3]),
                &six(),
                wide,
            ))
            .expect("an archive");
            let tensor = file.tensor().expect("a tensor");
            assert_eq!(tensor.to_f32(), [1.0, 4.0, 2.0, 5.0]);
            assert_eq!(tensor.permute(&[1, 0]).to_f32(), [1.0, 2.0, 4.0, 5.0]);
            assert_eq!(tensor.at(1).expect("a row").to_f32(), [2.0, 5.0]);
            assert!(tensor.at(2).is_none());
        }
    }

    #[test]
    fn empty_tensors_and_single_numbers_are_tensors() {
        let file =
            open(&saved(&pickled("FloatStorage", 3, &[], &[]), &six(), false)).expect("an archive");
        assert_eq!(file.tensor().expect("a number").to_f32(), [3.0]);
        let file = open(&saved(
            &pickled("FloatStorage", 0, &[0, 2], &[2, 1]),
            &[],
            false,
        ))
        .expect("an archive");
        assert!(file.tensor().expect("nothing").to_f32().is_empty());
    }

    #[test]
    fn views_that_leave_their_storage_or_multiply_it_are_refused() {
        for (offset, size, stride) in [
            (1, [2, 3], [3, 1]),
            (0, [3, 3], [0, 1]),
            (6, [1, 1], [1, 1]),
            (0, [2, 2], [5, 1]),
        ] {
            let file = open(&saved(
                &pickled("FloatStorage", offset, &size, &stride),
                &six(),
                false,
            ))
            .expect("an archive");
            let refused = file.tensor().map(|_| ());
            assert!(
                matches!(refused, Err(Error::ViewOutOfBounds { .. })),
                "{offset} {size:?} {stride:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn complex_numbers_and_damaged_members_are_named() {
        let file = open(&saved(
            &pickled("ComplexFloatStorage", 0, &[1], &[1]),
            &six(),
            false,
        ))
        .expect("an archive");
        assert!(
            matches!(file.tensor(), Err(Error::Dtype { found, .. }) if found == "ComplexFloatStorage")
        );
        let good = saved(&pickled("FloatStorage", 0, &[6], &[1]), &six(), false);
        let at = good
            .windows(8)
            .position(|w| w == &six()[4..12])
            .expect("the storage");
        let mut bad = good.clone();
        bad[at] ^= 1;
        let file = open(&bad).expect("an archive");
        assert!(
            matches!(file.tensor(), Err(Error::Checksum { member, .. }) if member == "t/data/0")
        );
    }

    /// IEEE 754 half precision: signs, subnormals, largest, infinity.
    #[test]
    fn half_floats_widen_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
        ];
        for (bits, expected) in cases {
            assert_eq!(
                f16_to_f32(bits).to_bits(),
                f32::to_bits(expected),
                "{bits:#06x}"
            );
        }
        assert_eq!(f16_to_f32(0xfc00), f32::NEG_INFINITY);
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    proptest! {
        #[test]
        fn no_change_of_a_file_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = saved(&pickled("FloatStorage", 1, &[2, 2], &[1, 3]), &six(), byte % 2 == 0);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                if let Ok(file) = open(bytes) {
                    let _ = file.tensor().map(|tensor| tensor.to_f64());
                }
            }
        }

        #[test]
        fn no_bytes_make_the_pickle_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pickle::parse(&bytes);
        }
    }
}
