//! Files written by `torch.save` since torch 1.6: a ZIP archive of stored members (datasets.md section 1.1).
//!
//! The file is mapped into memory and tensors are views of it, so opening one costs no memory however
//! large it is. Everything an untrusted file could lie about is checked first: member bounds, CRC-32,
//! and that every element a tensor addresses lies inside its storage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mapped::{FileBytes, impostor};
use super::pickle::{Node, NodeId, Pickle, PickleError};
use super::zip::{LOCAL_HEADER, Zip};
use crate::{Error, Result};

/// `0x1950a86a20f9469cfc6c` as pickled by `torch.save` before version 1.6.
const LEGACY_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Values looked at in search of tensors: shared values could otherwise be visited without end.
const MOST_VALUES: usize = 100_000;
/// Deepest nesting of dicts and lists.
const DEEPEST: usize = 32;

/// An open archive.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    zip: Zip,
    /// Folder of all members, with its slash: the file's stem when it was saved.
    prefix: String,
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
        let zip = Zip::read(map)?;
        if let Some(name) = zip.names().find(|name| !zip.is_stored(name)) {
            let detail = format!("`{name}` is compressed or encrypted");
            return Err(Error::torch(path, detail));
        }
        let prefixes: Vec<&str> = zip
            .names()
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .collect();
        let prefix = match *prefixes {
            [prefix] if prefix.ends_with('/') => prefix.to_string(),
            _ => return Err(Error::torch(path, "the archive holds no single `data.pkl`")),
        };
        let file = Self {
            path: path.to_path_buf(),
            prefix,
            zip,
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

    /// Every tensor of the file by its name: the keys of a dict or of a `TensorDict`, the positions of a
    /// list; nested ones are joined by dots (datasets.md section 1.3). One bare tensor has an empty name.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor<'_>>> {
        let pickle = self.pickle()?;
        let reader = Reader {
            file: self,
            pickle: &pickle,
        };
        let mut found = Found {
            budget: MOST_VALUES,
            tensors: BTreeMap::new(),
        };
        reader.collect(pickle.root(), "", 0, &mut found)?;
        Ok(found.tensors)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file, for its hash.
    pub fn bytes(&self) -> &[u8] {
        self.zip.bytes()
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
        if !self.zip.contains(&format!("{}byteorder", self.prefix)) {
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
        self.zip
            .stored(&name)?
            .ok_or_else(|| Error::torch(&self.path, format!("`{name}` is not in the archive")))
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

impl TensorType {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether every value of this type is exactly an `f32`.
    pub fn fits_f32(self) -> bool {
        !matches!(
            self,
            Self::F64 | Self::I64 | Self::I32 | Self::U64 | Self::U32
        )
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
            "uint64" => Self::U64,
            "uint32" => Self::U32,
            "uint16" => Self::U16,
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
    pub(super) fn new(
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
            TensorType::U64 => self.map(|b| u64::from_le_bytes(b) as f32),
            TensorType::U32 => self.map(|b| u32::from_le_bytes(b) as f32),
            TensorType::U16 => self.map(|b| f32::from(u16::from_le_bytes(b))),
            TensorType::U8 | TensorType::Bool => self.map(|[b]| f32::from(b)),
        }
    }

    /// All values as `f64` in C order.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            TensorType::F64 => self.map(f64::from_le_bytes),
            TensorType::I64 => self.map(|b| i64::from_le_bytes(b) as f64),
            TensorType::I32 => self.map(|b| f64::from(i32::from_le_bytes(b))),
            TensorType::U64 => self.map(|b| u64::from_le_bytes(b) as f64),
            TensorType::U32 => self.map(|b| f64::from(u32::from_le_bytes(b))),
            _ => self.to_f32().into_iter().map(f64::from).collect(),
        }
    }

    /// All values as `i64` in C order, for tensors of whole numbers of at most 63 bits.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            TensorType::I64 => self.map(i64::from_le_bytes),
            TensorType::I32 => self.map(|b| i64::from(i32::from_le_bytes(b))),
            TensorType::I16 => self.map(|b| i64::from(i16::from_le_bytes(b))),
            TensorType::I8 => self.map(|b| i64::from(i8::from_le_bytes(b))),
            TensorType::U32 => self.map(|b| i64::from(u32::from_le_bytes(b))),
            TensorType::U16 => self.map(|b| i64::from(u16::from_le_bytes(b))),
            TensorType::U8 | TensorType::Bool => self.map(|[b]| i64::from(b)),
            TensorType::U64
            | TensorType::F64
            | TensorType::F32
            | TensorType::F16
            | TensorType::Bf16 => {
                return None;
            }
        })
    }

    /// The bytes of all elements in C order, little-endian, in their own type.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match self.dtype.bytes() {
            8 => self.map(|b: [u8; 8]| b).concat(),
            4 => self.map(|b: [u8; 4]| b).concat(),
            2 => self.map(|b: [u8; 2]| b).concat(),
            _ => self.map(|[b]: [u8; 1]| b),
        }
    }

    /// Some indices of the first dimension; nothing when they do not all exist.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Option<Self> {
        let (&length, &stride) = (self.shape.first()?, self.strides.first()?);
        if range.start > range.end || range.end > length {
            return None;
        }
        let mut part = self.clone();
        part.shape[0] = range.len();
        if !range.is_empty() {
            part.offset += range.start * stride;
        }
        Some(part)
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

/// Tensors gathered so far, and how many more values may be looked at.
struct Found<'a> {
    budget: usize,
    tensors: BTreeMap<String, Tensor<'a>>,
}

fn dotted(name: &str, key: &str) -> String {
    if name.is_empty() {
        return key.to_string();
    }
    format!("{name}.{key}")
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

    /// Gathers the tensors of a value under the name it has. Text, numbers and the like are no tensors.
    fn collect(&self, node: &Node, name: &str, depth: usize, found: &mut Found<'a>) -> Result<()> {
        found.budget = found.budget.saturating_sub(1);
        if found.budget == 0 || depth > DEEPEST {
            return self.fault("too many values, or too deeply nested");
        }
        match node {
            Node::List(items) | Node::Tuple(items) => {
                for (k, &item) in items.iter().enumerate() {
                    let name = dotted(name, &k.to_string());
                    self.collect(self.pickle.node(item), &name, depth + 1, found)?;
                }
                Ok(())
            }
            Node::Dict(pairs) => self.collect_pairs(pairs, name, depth, found),
            Node::Call { .. } if self.is_tensor(node) => {
                let tensor = self.tensor(node)?;
                found.tensors.insert(name.to_string(), tensor);
                Ok(())
            }
            Node::Call { items, .. } if !items.is_empty() => {
                self.collect_pairs(items, name, depth, found)
            }
            Node::Call { .. } => match self.dict_of_tensors(node, &mut found.budget) {
                Some(pairs) => self.collect_pairs(pairs, name, depth, found),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn collect_pairs(
        &self,
        pairs: &[(NodeId, NodeId)],
        name: &str,
        depth: usize,
        found: &mut Found<'a>,
    ) -> Result<()> {
        for &(key, value) in pairs {
            if let Some(key) = self.pickle.text(key) {
                let name = dotted(name, key);
                self.collect(self.pickle.node(value), &name, depth + 1, found)?;
            }
        }
        Ok(())
    }

    /// The dict of tensors in the arguments or the state of a `TensorDict`, whichever version wrote it: the
    /// value of `_tensordict`, or else the first dict with a tensor in it, breadth first.
    fn dict_of_tensors<'b>(
        &'b self,
        node: &'b Node,
        budget: &mut usize,
    ) -> Option<&'b [(NodeId, NodeId)]> {
        let mut queue: std::collections::VecDeque<&Node> = [node].into();
        let mut first = None;
        while let Some(node) = queue.pop_front() {
            *budget = budget.checked_sub(1)?;
            let pairs = match node {
                Node::Dict(pairs) => pairs,
                Node::Call {
                    args, state, items, ..
                } => {
                    queue.extend(
                        [Some(args), state.as_ref()]
                            .into_iter()
                            .flatten()
                            .map(|&id| self.pickle.node(id)),
                    );
                    items
                }
                Node::List(items) | Node::Tuple(items) => {
                    queue.extend(items.iter().map(|&id| self.pickle.node(id)));
                    continue;
                }
                _ => continue,
            };
            let inner = pairs
                .iter()
                .find(|(key, _)| self.pickle.text(*key) == Some("_tensordict"));
            if let Some((_, inner)) = inner {
                match self.pickle.node(*inner) {
                    Node::Dict(pairs) | Node::Call { items: pairs, .. } => return Some(pairs),
                    _ => {}
                }
            }
            let holds_tensor = pairs
                .iter()
                .any(|(_, value)| self.is_tensor(self.pickle.node(*value)));
            if holds_tensor && first.is_none() {
                first = Some(pairs.as_slice());
            }
            queue.extend(pairs.iter().map(|(_, value)| self.pickle.node(*value)));
        }
        first
    }

    fn is_tensor(&self, node: &Node) -> bool {
        self.call(node)
            .is_ok_and(|(name, _)| name.starts_with("_rebuild_"))
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

    use super::super::zip::{CENTRAL_HEADER, END_LOCATOR_64, END_RECORD, END_RECORD_64};
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

    /// `name` as a pickled text.
    fn text(name: &str) -> Vec<u8> {
        [
            b"X",
            &(name.len() as u32).to_le_bytes()[..],
            name.as_bytes(),
        ]
        .concat()
    }

    /// The opcodes of a tensor of six floats, without the frame of a pickle.
    fn inner(shape: &[u8], stride: &[u8]) -> Vec<u8> {
        let whole = pickled("FloatStorage", 0, shape, stride);
        whole[2..whole.len() - 1].to_vec()
    }

    fn names(pickle: &[u8]) -> Vec<String> {
        let file = open(&saved(pickle, &six(), false)).expect("an archive");
        file.tensors().expect("tensors").into_keys().collect()
    }

    #[test]
    fn tensors_are_found_in_dicts_lists_and_every_kind_of_tensordict() {
        let (a, b) = (inner(&[6], &[1]), inner(&[2, 3], &[3, 1]));
        let dict = [
            b"}(".to_vec(),
            text("a"),
            a.clone(),
            text("b"),
            b.clone(),
            b"u".to_vec(),
        ]
        .concat();
        let head = b"\x80\x02".to_vec();
        assert_eq!(
            names(&[head.clone(), dict.clone(), b".".to_vec()].concat()),
            ["a", "b"]
        );
        let list = [
            head.clone(),
            b"](".to_vec(),
            a.clone(),
            b.clone(),
            b"e.".to_vec(),
        ]
        .concat();
        assert_eq!(names(&list), ["0", "1"]);

        // The form since tensordict 0.9: `_make_td(TensorDict, {..., '_tensordict': {...}})`, one nested.
        let make = |dict: &[u8]| {
            [
                b"ctensordict._reductions\n_make_td\n(ctensordict._td\nTensorDict\n}(".to_vec(),
                text("_batch_size"),
                b")".to_vec(),
                text("_tensordict"),
                dict.to_vec(),
                b"utR".to_vec(),
            ]
            .concat()
        };
        let outer = [
            b"}(".to_vec(),
            text("a"),
            a.clone(),
            text("obs"),
            make(&dict),
            b"u".to_vec(),
        ]
        .concat();
        let new = [head.clone(), make(&outer), b".".to_vec()].concat();
        assert_eq!(names(&new), ["a", "obs.a", "obs.b"]);

        // The older one: an object made empty and given a state, its items in a subclass of dict.
        let old = [
            head.clone(),
            b"ctensordict.tensordict\nTensorDict\n)\x81}(".to_vec(),
            text("_tensordict"),
            b"ctensordict.utils\n_StringOnlyDict\n)\x81(".to_vec(),
            text("a"),
            a.clone(),
            b"u".to_vec(),
            text("_device"),
            b"Nub.".to_vec(),
        ]
        .concat();
        assert_eq!(names(&old), ["a"]);
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
