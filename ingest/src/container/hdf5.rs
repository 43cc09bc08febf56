//! HDF5 files, read only (datasets.md section 1.5).
//!
//! A file is looked at before the library sees it: what it is when it is no HDF5 file, and whether it is as
//! long as its superblock says. A data set is looked at before any memory is asked for: what its header
//! announces must be in the file. Links out of the file, data kept in other files and filters that are not
//! built in are refused, so that a file makes the library open and load nothing but itself.

use std::ffi::CString;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr;

use ::hdf5 as library;
use hdf5_sys::{h5d, h5l, h5p, h5s, h5t};
use library::dataset::{DatasetCreate, Layout};
use library::types::{FixedAscii, FixedUnicode, VarLenAscii, VarLenUnicode};
use library::{Container, Dataspace, Datatype, H5Type};

use super::mapped::FileBytes;
use crate::{Error, Result};

/// First bytes of a superblock.
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// A superblock lies at the start of the file, or at this place or a doubling of it.
const FIRST_USER_BLOCK: usize = 512;
/// Bytes of the shortest superblock with what must follow it.
const SHORTEST_SUPERBLOCK: usize = 48;
/// Filters that the library has built in: deflate, shuffle, fletcher32, nbit and scaleoffset.
const BUILT_IN_FILTERS: [i32; 5] = [1, 2, 3, 5, 6];
/// Reads of more bytes than this are refused: no episode is that long.
const MOST_BYTES: u64 = 8 << 30;
/// The built-in filters compress about a thousand times at best; more is a header that lies.
const MOST_RATIO: u64 = 4096;
/// What a small data set may announce whatever it stores.
const SMALL: u64 = 1 << 20;
/// Longest text of fixed length in a data set.
const LONGEST_TEXT: usize = 256;
/// Longest text of fixed length in an attribute: HDF5 keeps no more in a header.
const LONGEST_ATTRIBUTE: usize = 1 << 16;

/// A group of an opened file.
#[derive(Clone)]
pub struct Group {
    file: library::File,
    inner: library::Group,
    path: PathBuf,
    /// Path of the group inside the file, without a slash at either end.
    name: String,
    file_bytes: u64,
}

/// Number type of a data set or an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Floats of that many bytes.
    Float(usize),
    /// Signed integers of that many bytes.
    Signed(usize),
    /// Unsigned integers of that many bytes.
    Unsigned(usize),
    /// Names for integers, of that many bytes each; booleans are stored like this.
    Enumeration(usize),
    /// Text, of a fixed length in bytes or of any.
    Text {
        /// Length of every text, padded.
        fixed: Option<usize>,
        /// Whether it is declared as UTF-8, not ASCII.
        utf8: bool,
    },
    /// Anything else: compounds, references, ...
    Other,
}

/// A data set whose values are known to be in the file.
pub struct Data {
    dataset: library::Dataset,
    path: PathBuf,
    name: String,
    shape: Vec<usize>,
    kind: Kind,
}

/// Opens a file and returns its root group.
///
/// # Errors
/// What the file is instead of an HDF5 file; that it is cut short; what the library does not like about it.
pub fn open(path: &Path) -> Result<Group> {
    let bytes = FileBytes::open(path)?;
    check_superblock(&bytes)?;
    let file_bytes = bytes.len() as u64;
    drop(bytes);
    let file = library::File::open(path).map_err(|e| unreadable(path, &e))?;
    let inner = file.group("/").map_err(|e| unreadable(path, &e))?;
    Ok(Group {
        file,
        inner,
        path: path.to_path_buf(),
        name: String::new(),
        file_bytes,
    })
}

impl Group {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of what the group holds, in alphabetical order.
    ///
    /// # Errors
    /// When the index of the group is damaged.
    pub fn children(&self) -> Result<Vec<String>> {
        let names = self.inner.member_names();
        let mut names = names.map_err(|e| damaged(&self.path, &self.name, &e))?;
        names.sort();
        Ok(names)
    }

    /// Whether there is something at a path inside the group, without leaving the file.
    pub fn contains(&self, path: &str) -> bool {
        self.walk(path).is_ok()
    }

    /// The group at a path inside this one.
    ///
    /// # Errors
    /// [`Error::MissingKey`] when there is none.
    pub fn group(&self, path: &str) -> Result<Self> {
        let (parent, last) = self.walk(path)?;
        let inner = parent
            .group(last)
            .map_err(|e| damaged(&self.path, &self.full(path), &e))?;
        Ok(Self {
            file: self.file.clone(),
            inner,
            path: self.path.clone(),
            name: self.full(path),
            file_bytes: self.file_bytes,
        })
    }

    /// The data set at a path inside the group.
    ///
    /// # Errors
    /// [`Error::MissingKey`] when there is none, [`Error::Filter`] when this build cannot decompress it,
    /// [`Error::Length`] when the file does not hold what its header announces.
    pub fn data(&self, path: &str) -> Result<Data> {
        let (parent, last) = self.walk(path)?;
        let name = self.full(path);
        let dataset = parent
            .dataset(last)
            .map_err(|e| damaged(&self.path, &name, &e))?;
        Data::open(self, name, dataset)
    }

    /// A text attribute of the group; nothing where there is none.
    ///
    /// # Errors
    /// When it is there and is not one text.
    pub fn text_attribute(&self, name: &str) -> Result<Option<String>> {
        let fault = |e: library::Error| damaged(&self.path, &self.full(name), &e);
        if !self
            .inner
            .attr_names()
            .map_err(fault)?
            .iter()
            .any(|n| n == name)
        {
            return Ok(None);
        }
        let attribute = self.inner.attr(name).map_err(fault)?;
        let kind = kind_of(&attribute).map_err(fault)?;
        let too_long =
            matches!(kind, Kind::Text { fixed: Some(length), .. } if length > LONGEST_ATTRIBUTE);
        if !matches!(kind, Kind::Text { .. }) || attribute.size() != 1 || too_long {
            return Err(Error::Dtype {
                path: self.path.clone(),
                found: format!("{kind} of `{}`", self.full(name)),
                wanted: "one text",
            });
        }
        let texts = texts::<LONGEST_ATTRIBUTE>(&attribute, kind).map_err(fault)?;
        let text = texts.into_iter().next().unwrap_or_default();
        let text = String::from_utf8(text).map_err(|_| Error::Format {
            path: self.path.clone(),
            expected: "UTF-8 text",
            detail: format!("attribute `{}` is not", self.full(name)),
        })?;
        Ok(Some(text.trim_end_matches('\0').to_string()))
    }

    /// A JSON attribute of the group; nothing where there is none.
    ///
    /// # Errors
    /// When it is there and is not JSON.
    pub fn json_attribute(&self, name: &str) -> Result<Option<serde_json::Value>> {
        let Some(text) = self.text_attribute(name)? else {
            return Ok(None);
        };
        let value = serde_json::from_str(&text).map_err(|e| Error::Json {
            path: self.path.clone(),
            detail: format!("attribute `{}`: {e}", self.full(name)),
        })?;
        Ok(Some(value))
    }

    /// Path inside the file.
    fn full(&self, path: &str) -> String {
        if self.name.is_empty() {
            path.to_string()
        } else {
            format!("{}/{path}", self.name)
        }
    }

    /// The group that holds the last part of a path, and that part.
    fn walk<'a>(&self, path: &'a str) -> Result<(library::Group, &'a str)> {
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        let mut group = self.inner.clone();
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            self.check_link(&group, part, path)?;
            group = group
                .group(part)
                .map_err(|e| damaged(&self.path, &self.full(path), &e))?;
        }
        self.check_link(&group, last, path)?;
        Ok((group, last))
    }

    /// Whether a group holds something of that name itself, and not a link to another place.
    fn check_link(&self, group: &library::Group, name: &str, path: &str) -> Result<()> {
        match link_kind(group, name) {
            Some(kind) if kind == h5l::H5L_type_t::H5L_TYPE_HARD as i32 => Ok(()),
            Some(_) => Err(Error::Format {
                path: self.path.clone(),
                expected: "a self-contained HDF5 file",
                detail: format!(
                    "`{name}` in `{}` is a link to another place",
                    self.full(path)
                ),
            }),
            None => Err(Error::MissingKey {
                path: self.path.clone(),
                key: self.full(path),
            }),
        }
    }
}

impl Data {
    fn open(group: &Group, name: String, dataset: library::Dataset) -> Result<Self> {
        let fault = |e: library::Error| damaged(&group.path, &name, &e);
        let space = dataset.space().map_err(fault)?;
        let kind = kind_of(&dataset).map_err(fault)?;
        let item = dataset.dtype().map_err(fault)?.size();
        let plist = dataset.create_plist().map_err(fault)?;
        let layout = plist.get_layout().map_err(fault)?;
        let chunk = plist.get_chunk().map_err(fault)?;
        let data = Self {
            shape: space.shape(),
            kind,
            dataset,
            path: group.path.clone(),
            name,
        };
        if space.is_null() {
            return Err(data.length("has no values"));
        }
        let filters = data.check_filters(&plist)?;
        data.check_place(&plist, layout)?;
        data.check_size(item, chunk.as_deref(), filters > 0, group.file_bytes)?;
        Ok(data)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path inside the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length along each axis; empty for a single value.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number type in the file.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Checks that the shape is `[rows, row...]` and returns the number of rows; `[rows]` stands for
    /// `[rows, 1]`.
    ///
    /// # Errors
    /// [`Error::Count`] for any other shape.
    pub fn rows_of(&self, row: &[usize]) -> Result<usize> {
        match self.shape.split_first() {
            Some((&rows, rest)) if rest == row || (rest.is_empty() && row == [1]) => Ok(rows),
            _ => Err(Error::count(
                &self.path,
                format!(
                    "`{}` has the shape {:?}, not [rows, {row:?}]",
                    self.name, self.shape
                ),
            )),
        }
    }

    /// Height and width of images, `[count, height, width, 3]` bytes.
    ///
    /// # Errors
    /// [`Error::Count`] for any other shape, [`Error::Dtype`] for any other type.
    pub fn image_size(&self) -> Result<[usize; 2]> {
        match (self.kind, self.shape.as_slice()) {
            (Kind::Unsigned(1), &[_, height, width, 3]) if height > 0 && width > 0 => {
                Ok([height, width])
            }
            (Kind::Unsigned(1), shape) => Err(Error::count(
                &self.path,
                format!(
                    "`{}` has the shape {shape:?}, not [frames, height, width, 3]",
                    self.name
                ),
            )),
            _ => Err(self.unsuitable("frames")),
        }
    }

    /// Values of all rows or of some as 64-bit floats, row-major.
    ///
    /// # Errors
    /// [`Error::Dtype`] for types that do not fit, [`Error::Decode`] for damaged data.
    pub fn f64(&self, rows: Option<Range<usize>>) -> Result<Vec<f64>> {
        match self.kind {
            Kind::Float(2 | 4 | 8) | Kind::Signed(1 | 2 | 4) | Kind::Unsigned(1 | 2 | 4) => {
                self.read(rows)
            }
            Kind::Signed(8) | Kind::Unsigned(8) | Kind::Enumeration(_) => {
                let whole = self.i64(rows)?;
                let exact = |v: &i64| v.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS;
                match whole.iter().find(|v| !exact(v)) {
                    Some(v) => Err(self.range(&format!("{v} is no 64-bit float"))),
                    None => Ok(whole.into_iter().map(|v| v as f64).collect()),
                }
            }
            _ => Err(self.unsuitable("64-bit floats")),
        }
    }

    /// Values of all rows or of some as 32-bit floats, row-major.
    ///
    /// # Errors
    /// As [`Self::f64`]; 64-bit floats and large integers do not fit.
    pub fn f32(&self, rows: Option<Range<usize>>) -> Result<Vec<f32>> {
        match self.kind {
            Kind::Float(2 | 4) | Kind::Signed(1 | 2) | Kind::Unsigned(1 | 2) => self.read(rows),
            _ => Err(self.unsuitable("32-bit floats")),
        }
    }

    /// Values of all rows or of some as integers, row-major.
    ///
    /// # Errors
    /// As [`Self::f64`]; floats do not fit.
    pub fn i64(&self, rows: Option<Range<usize>>) -> Result<Vec<i64>> {
        match self.kind {
            Kind::Signed(1 | 2 | 4 | 8)
            | Kind::Unsigned(1 | 2 | 4)
            | Kind::Enumeration(1 | 2 | 4) => self.read(rows),
            Kind::Unsigned(8) => {
                let values: Vec<u64> = self.read(rows)?;
                let signed = values.into_iter().map(i64::try_from);
                signed
                    .collect::<Result<_, _>>()
                    .map_err(|_| self.range("it has a value beyond 63 bits"))
            }
            _ => Err(self.unsuitable("integers")),
        }
    }

    /// Values of all rows or of some as bytes, row-major.
    ///
    /// # Errors
    /// As [`Self::f64`]; only bytes fit.
    pub fn u8(&self, rows: Option<Range<usize>>) -> Result<Vec<u8>> {
        match self.kind {
            Kind::Unsigned(1) => self.read(rows),
            _ => Err(self.unsuitable("bytes")),
        }
    }

    /// All values as texts.
    ///
    /// # Errors
    /// [`Error::Dtype`] when it holds no text or longer texts than names have.
    pub fn texts(&self) -> Result<Vec<String>> {
        match self.kind {
            Kind::Text { fixed, .. } if fixed.is_none_or(|length| length <= LONGEST_TEXT) => {}
            _ => return Err(self.unsuitable("texts")),
        }
        let texts = texts::<LONGEST_TEXT>(&self.dataset, self.kind)
            .map_err(|e| damaged(&self.path, &self.name, &e))?;
        let strings = texts.into_iter().map(String::from_utf8);
        strings
            .map(|text| text.map(|text| text.trim_end_matches('\0').to_string()))
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Format {
                path: self.path.clone(),
                expected: "UTF-8 text",
                detail: format!("`{}` is not", self.name),
            })
    }

    /// Reads values as `T`, which must hold every value of the type in the file.
    fn read<T: H5Type + Copy + Default>(&self, rows: Option<Range<usize>>) -> Result<Vec<T>> {
        let fault = |e: library::Error| damaged(&self.path, &self.name, &e);
        let space = self.dataset.space().map_err(fault)?;
        let count = self.select(&space, rows)?;
        let mut values = Vec::new();
        let fits = (count as u64).saturating_mul(size_of::<T>() as u64) <= MOST_BYTES;
        if !fits || values.try_reserve_exact(count).is_err() {
            return Err(self.range(&format!("its {count} values do not fit into memory")));
        }
        values.resize(count, T::default());
        if count == 0 {
            return Ok(values);
        }
        let memory = Dataspace::try_new(count).map_err(fault)?;
        let datatype = Datatype::from_type::<T>().map_err(fault)?;
        let outcome = locked(|| {
            // SAFETY: the buffer has `count` values of `T`, the memory space as many, and the memory type
            // is that of `T`; all identifiers are held by live objects.
            let status = unsafe {
                h5d::H5Dread(
                    self.dataset.id(),
                    datatype.id(),
                    memory.id(),
                    space.id(),
                    h5p::H5P_DEFAULT,
                    values.as_mut_ptr().cast(),
                )
            };
            (status >= 0).then_some(()).ok_or_else(last_error)
        });
        outcome.map_err(fault)?;
        Ok(values)
    }

    /// Selects rows in a data space and returns the number of values selected.
    fn select(&self, space: &Dataspace, rows: Option<Range<usize>>) -> Result<usize> {
        let Some(rows) = rows else {
            return Ok(self.shape.iter().product());
        };
        let available = self.shape.first().copied().unwrap_or(0);
        if rows.start > rows.end || rows.end > available {
            let detail = format!("has {available} rows; rows {rows:?} were asked for");
            return Err(self.length(&detail));
        }
        let mut start = vec![0_u64; self.shape.len()];
        let mut count: Vec<u64> = self.shape.iter().map(|&n| n as u64).collect();
        if let (Some(start), Some(count)) = (start.first_mut(), count.first_mut()) {
            *start = rows.start as u64;
            *count = rows.len() as u64;
        }
        let total: u64 = count.iter().product();
        if total == 0 {
            return Ok(0);
        }
        locked(|| {
            // SAFETY: both arrays have one number per axis of the space; null means steps of one.
            let status = unsafe {
                h5s::H5Sselect_hyperslab(
                    space.id(),
                    h5s::H5S_seloper_t::H5S_SELECT_SET,
                    start.as_ptr(),
                    ptr::null(),
                    count.as_ptr(),
                    ptr::null(),
                )
            };
            (status >= 0).then_some(()).ok_or_else(last_error)
        })
        .map_err(|e| damaged(&self.path, &self.name, &e))?;
        Ok(total as usize)
    }

    /// Number of filters, all of which the library has built in.
    fn check_filters(&self, plist: &DatasetCreate) -> Result<usize> {
        // SAFETY: the property list is alive.
        let count = locked(|| unsafe { h5p::H5Pget_nfilters(plist.id()) });
        for at in 0..count.max(0) {
            let (mut flags, mut parameters) = (0, 0);
            // SAFETY: no room is offered for parameters or the name, so nothing is written there.
            let filter = locked(|| unsafe {
                h5p::H5Pget_filter2(
                    plist.id(),
                    at as u32,
                    &raw mut flags,
                    &raw mut parameters,
                    ptr::null_mut(),
                    0,
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            });
            if !BUILT_IN_FILTERS.contains(&filter) {
                return Err(Error::Filter {
                    path: self.path.clone(),
                    dataset: self.name.clone(),
                    filter,
                });
            }
        }
        Ok(count.max(0) as usize)
    }

    /// The values lie in this very file.
    fn check_place(&self, plist: &DatasetCreate, layout: Layout) -> Result<()> {
        // SAFETY: the property list is alive.
        let external = locked(|| unsafe { h5p::H5Pget_external_count(plist.id()) });
        if external == 0 && layout != Layout::Virtual {
            return Ok(());
        }
        Err(Error::Format {
            path: self.path.clone(),
            expected: "a self-contained HDF5 file",
            detail: format!("the values of `{}` lie in other files", self.name),
        })
    }

    /// The file holds as many values as the header announces.
    fn check_size(
        &self,
        item: usize,
        chunk: Option<&[usize]>,
        is_filtered: bool,
        file_bytes: u64,
    ) -> Result<()> {
        let announced = product(&self.shape).and_then(|n| n.checked_mul(item as u64));
        let stored = self.dataset.storage_size();
        let announced = announced.filter(|_| stored <= file_bytes);
        let held = match (announced, chunk) {
            (Some(0), _) => return Ok(()),
            (Some(announced), None) => stored >= announced,
            (Some(announced), Some(chunk)) => {
                let needed: Option<Vec<usize>> = self
                    .shape
                    .iter()
                    .zip(chunk)
                    .map(|(n, chunk)| (*chunk > 0).then(|| n.div_ceil(*chunk)))
                    .collect();
                let needed = needed.and_then(|counts| product(&counts));
                let chunks = self.dataset.num_chunks().map(|n| n as u64);
                let chunk_bytes = product(chunk).and_then(|n| n.checked_mul(item as u64));
                let ratio = if is_filtered { MOST_RATIO } else { 1 };
                let most = stored.saturating_mul(ratio).saturating_add(SMALL);
                needed.is_some_and(|needed| chunks.is_some_and(|chunks| chunks >= needed))
                    && announced <= most
                    && chunk_bytes.is_some_and(|bytes| bytes <= most)
            }
            (None, _) => false,
        };
        if held {
            return Ok(());
        }
        Err(self.length(&format!(
            "announces the shape {:?}, of which the file holds only {stored} bytes",
            self.shape
        )))
    }

    fn length(&self, detail: &str) -> Error {
        Error::Length {
            path: self.path.clone(),
            detail: format!("`{}` {detail}", self.name),
        }
    }

    fn range(&self, detail: &str) -> Error {
        Error::Range {
            path: self.path.clone(),
            detail: format!("`{}`: {detail}", self.name),
        }
    }

    fn unsuitable(&self, wanted: &'static str) -> Error {
        Error::Dtype {
            path: self.path.clone(),
            found: format!("{} of `{}`", self.kind, self.name),
            wanted,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(bytes) => write!(f, "float{}", bytes * 8),
            Self::Signed(bytes) => write!(f, "int{}", bytes * 8),
            Self::Unsigned(bytes) => write!(f, "uint{}", bytes * 8),
            Self::Enumeration(_) => f.write_str("enumeration"),
            Self::Text { .. } => f.write_str("text"),
            Self::Other => f.write_str("compound or reference"),
        }
    }
}

/// Checks the signature, and the length of the file against the end that the superblock gives.
fn check_superblock(bytes: &FileBytes) -> Result<()> {
    let doublings = std::iter::successors(Some(FIRST_USER_BLOCK), |at| at.checked_mul(2));
    let places = std::iter::once(0).chain(doublings);
    let found = places
        .take_while(|at| *at < bytes.len())
        .find(|at| bytes[*at..].starts_with(SIGNATURE));
    let Some(at) = found else {
        let head = &bytes[..bytes.len().min(8)];
        return Err(bytes.unless_known(Error::Format {
            path: bytes.path().to_path_buf(),
            expected: "an HDF5 file",
            detail: format!("it starts with the bytes {head:02x?}"),
        }));
    };
    if bytes.len() - at < SHORTEST_SUPERBLOCK {
        return Err(Error::truncated(bytes.path(), "it ends within its header"));
    }
    match announced_length(&bytes[at..]) {
        Some(length) if (bytes.len() - at) as u64 >= length => Ok(()),
        Some(length) => Err(Error::truncated(
            bytes.path(),
            format!("it has {} of {} bytes", bytes.len(), length + at as u64),
        )),
        // A version that only the library knows, or an end that was never written.
        None => Ok(()),
    }
}

/// Bytes from the superblock to the end of the file, as the superblock gives them.
fn announced_length(block: &[u8]) -> Option<u64> {
    let (size_at, addresses_at) = match *block.get(8)? {
        0 => (13, 24),
        1 => (13, 28),
        2 | 3 => (9, 12),
        _ => return None,
    };
    let size = usize::from(*block.get(size_at)?);
    if !(1..=8).contains(&size) {
        return None;
    }
    // Addresses in the order of both layouts: base, another one, end of file.
    let address = |k: usize| {
        let at = addresses_at + k * size;
        let bytes = block.get(at..at + size)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(bytes.iter().rev().fold(0, fold))
    };
    let (base, end) = (address(0)?, address(2)?);
    let undefined = u64::MAX >> (64 - 8 * size);
    (end != undefined).then(|| end.saturating_sub(base))
}

/// What kind of link a group has under a name; nothing where there is none.
fn link_kind(group: &library::Group, name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    let mut info = MaybeUninit::<h5l::H5L_info2_t>::zeroed();
    // SAFETY: the group is alive, the name ends with a zero byte, and there is room for the answer.
    let status = locked(|| unsafe {
        h5l::H5Lget_info2(
            group.id(),
            name.as_ptr(),
            info.as_mut_ptr(),
            h5p::H5P_DEFAULT,
        )
    });
    // SAFETY: the kind is the first field, a C enumeration; it is read as the integer that it is, because
    // a file may hold kinds that the enumeration lacks.
    (status >= 0).then(|| unsafe { info.as_ptr().cast::<i32>().read() })
}

/// Number type of a data set or attribute.
fn kind_of(container: &Container) -> library::Result<Kind> {
    let datatype = container.dtype()?;
    let id = datatype.id();
    // SAFETY: the type is alive; each question is only asked of the classes that it is meant for.
    Ok(locked(|| unsafe {
        let size = h5t::H5Tget_size(id);
        match h5t::H5Tget_class(id) {
            h5t::H5T_class_t::H5T_FLOAT => Kind::Float(size),
            h5t::H5T_class_t::H5T_INTEGER => match h5t::H5Tget_sign(id) {
                h5t::H5T_sign_t::H5T_SGN_NONE => Kind::Unsigned(size),
                _ => Kind::Signed(size),
            },
            h5t::H5T_class_t::H5T_ENUM => Kind::Enumeration(size),
            h5t::H5T_class_t::H5T_STRING => Kind::Text {
                fixed: (h5t::H5Tis_variable_str(id) <= 0).then_some(size),
                utf8: h5t::H5Tget_cset(id) == h5t::H5T_cset_t::H5T_CSET_UTF8,
            },
            _ => Kind::Other,
        }
    }))
}

/// Bytes of every text; fixed texts have at most `N`.
fn texts<const N: usize>(container: &Container, kind: Kind) -> library::Result<Vec<Vec<u8>>> {
    fn all<T: H5Type + AsRef<[u8]>>(container: &Container) -> library::Result<Vec<Vec<u8>>> {
        let texts = container.read_raw::<T>()?;
        Ok(texts.iter().map(|text| text.as_ref().to_vec()).collect())
    }
    match kind {
        Kind::Text {
            fixed: Some(_),
            utf8: true,
        } => all::<FixedUnicode<N>>(container),
        Kind::Text { fixed: Some(_), .. } => all::<FixedAscii<N>>(container),
        Kind::Text { utf8: true, .. } => all::<VarLenUnicode>(container),
        _ => all::<VarLenAscii>(container),
    }
}

/// Product of lengths, if it can be counted.
fn product(lengths: &[usize]) -> Option<u64> {
    lengths
        .iter()
        .try_fold(1_u64, |product, &n| product.checked_mul(n as u64))
}

/// Calls the library while no other thread does.
fn locked<T>(call: impl FnOnce() -> T) -> T {
    let _guard = hdf5_sys::LOCK.lock();
    call()
}

/// What the library said about the call that just failed.
fn last_error() -> library::Error {
    library::Error::query().unwrap_or_else(|error| error)
}

fn unreadable(path: &Path, error: &library::Error) -> Error {
    Error::Format {
        path: path.to_path_buf(),
        expected: "a readable HDF5 file",
        detail: error.to_string(),
    }
}

fn damaged(path: &Path, name: &str, error: &library::Error) -> Error {
    Error::Decode {
        path: path.to_path_buf(),
        detail: format!("`{name}`: {error}"),
    }
}
