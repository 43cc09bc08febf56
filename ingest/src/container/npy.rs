//! NumPy's `.npy` arrays and `.npz` archives of them (datasets.md section 1.4).
//!
//! A header is a Python literal. It is read as data by a parser that knows nothing but the three keys
//! every header has; anything else is a fault of the file. Arrays of objects hold a pickle and are
//! refused.

use std::borrow::Cow;
use std::path::Path;

use super::mapped::{FileBytes, impostor};
use super::torch_zip::{Tensor, TensorType};
use super::zip::{END_RECORD, LOCAL_HEADER, Zip, is_unsafe_name};
use crate::{Error, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read. NumPy's own are below 200 bytes.
const LONGEST_HEADER: usize = 1 << 16;
/// Most dimensions, as in NumPy.
const MOST_DIMENSIONS: usize = 64;

/// An open `.npz` archive.
#[derive(Debug)]
pub struct Npz {
    zip: Zip,
}

impl Npz {
    /// Maps an archive and reads its directory.
    ///
    /// # Errors
    /// What the file is instead, or that a member's name points outside the archive.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = FileBytes::open(path)?;
        if !bytes.starts_with(LOCAL_HEADER) && !bytes.starts_with(END_RECORD) {
            let other = Error::Format {
                path: path.to_path_buf(),
                expected: "an npz archive",
                detail: "it is not a ZIP archive".into(),
            };
            return Err(impostor(path, &bytes).unwrap_or(other));
        }
        let zip = Zip::read(bytes)?;
        if let Some(name) = zip.names().find(|name| is_unsafe_name(name)) {
            return Err(Error::UnsafeMember {
                path: path.to_path_buf(),
                member: name.into(),
            });
        }
        Ok(Self { zip })
    }

    /// Where the archive is.
    pub fn path(&self) -> &Path {
        self.zip.path()
    }

    /// All bytes of the archive, for its hash.
    pub fn bytes(&self) -> &[u8] {
        self.zip.bytes()
    }

    /// Names of the arrays, sorted; members that are no arrays have none.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.zip
            .names()
            .filter_map(|name| name.strip_suffix(".npy"))
            .filter(|name| !name.starts_with("__MACOSX/") && !name.starts_with("._"))
    }

    /// Whether there is an array of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.zip.contains(&format!("{name}.npy"))
    }

    /// One array, decompressed where it has to be.
    pub fn array(&self, name: &str) -> Result<Array<'_>> {
        let content = self.zip.content(&format!("{name}.npy"))?;
        let content = content.ok_or_else(|| Error::MissingKey {
            path: self.path().to_path_buf(),
            key: name.into(),
        })?;
        Array::parse(self.path(), name, content)
    }
}

/// One array, in the order of its file.
#[derive(Debug)]
pub struct Array<'a> {
    header: Header,
    /// Little-endian values, from `start` on.
    content: Cow<'a, [u8]>,
    start: usize,
}

impl<'a> Array<'a> {
    /// Reads the header of an array and compares its shape with the bytes that follow.
    ///
    /// # Errors
    /// A header that is not one, objects, a number type that cannot be read, and a shape of more or
    /// fewer values than there are.
    pub fn parse(path: &Path, name: &str, content: Cow<'a, [u8]>) -> Result<Self> {
        let fault = |detail: String| Error::Format {
            path: path.to_path_buf(),
            expected: "a NumPy archive",
            detail: format!("array `{name}`: {detail}"),
        };
        let (text, start) = split_header(&content).map_err(fault)?;
        let literal = Literal::parse(text).map_err(fault)?;
        let header = literal.header(path, name)?;
        let held = content.len() - start;
        if header.bytes() != Some(held) {
            return Err(Error::Length {
                path: path.to_path_buf(),
                detail: format!(
                    "array `{name}` has the shape {:?} of {:?}, and {held} bytes",
                    header.shape, header.dtype
                ),
            });
        }
        let (content, start) = if header.is_big_endian {
            let values = swapped(&content[start..], header.dtype.bytes());
            (Cow::Owned(values), 0)
        } else {
            (content, start)
        };
        Ok(Self {
            header,
            content,
            start,
        })
    }

    /// Length of every dimension.
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    /// Number type.
    pub fn dtype(&self) -> TensorType {
        self.header.dtype
    }

    /// Whether the first index runs fastest in the file.
    pub fn is_fortran_order(&self) -> bool {
        self.header.is_fortran_order
    }

    /// Whether the file has the most significant byte first.
    pub fn is_big_endian(&self) -> bool {
        self.header.is_big_endian
    }

    /// The values as a view, whatever their order in the file.
    pub fn tensor(&self) -> Result<Tensor<'_>> {
        let Header { dtype, shape, .. } = &self.header;
        let strides = self.header.strides();
        let storage = &self.content[self.start..];
        Tensor::new(*dtype, storage, 0, shape.clone(), strides).ok_or_else(|| {
            Error::ViewOutOfBounds {
                path: Path::new("").to_path_buf(),
                detail: format!("shape {shape:?}"),
            }
        })
    }
}

/// What a header says.
#[derive(Debug)]
struct Header {
    dtype: TensorType,
    is_big_endian: bool,
    is_fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Bytes of all values; nothing where no memory could hold them.
    fn bytes(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(self.dtype.bytes(), |n, &d| n.checked_mul(d))
    }

    /// Elements from one index to the next, for every dimension.
    fn strides(&self) -> Vec<usize> {
        let rank = self.shape.len();
        let mut strides = vec![1; rank];
        let mut step: usize = 1;
        for k in 0..rank {
            let d = if self.is_fortran_order {
                k
            } else {
                rank - 1 - k
            };
            strides[d] = step;
            // An array with a dimension of 0 has no elements, and strides that do not matter.
            step = step.saturating_mul(self.shape[d].max(1));
        }
        strides
    }
}

/// The text of a header, and where the values begin.
fn split_header(content: &[u8]) -> Result<(&str, usize), String> {
    if !content.starts_with(MAGIC) {
        return Err("it does not begin as a `.npy` file".into());
    }
    let prefix = content.get(6..12).ok_or("it ends inside its header")?;
    let (length, start) = match prefix[0] {
        1 => (usize::from(u16::from_le_bytes([prefix[2], prefix[3]])), 10),
        2 | 3 => {
            let length = [prefix[2], prefix[3], prefix[4], prefix[5]];
            (u32::from_le_bytes(length) as usize, 12)
        }
        other => return Err(format!("version {other} of the format")),
    };
    if length > LONGEST_HEADER {
        return Err(format!("a header of {length} bytes"));
    }
    let end = start + length;
    let text = content.get(start..end).ok_or("it ends inside its header")?;
    let text = std::str::from_utf8(text).map_err(|_| "a header that is not text".to_string())?;
    Ok((text, end))
}

/// Every value with its bytes turned around.
fn swapped(bytes: &[u8], size: usize) -> Vec<u8> {
    let values = bytes.chunks_exact(size);
    values
        .flat_map(|value| value.iter().rev().copied())
        .collect()
}

/// The three entries of a header, as written.
#[derive(Debug, Default)]
struct Literal<'a> {
    descr: Option<Cow<'a, str>>,
    fortran_order: Option<bool>,
    shape: Option<Vec<usize>>,
}

impl<'a> Literal<'a> {
    /// Parses `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut at = Cursor(text.trim());
        let mut literal = Self::default();
        at.expect('{')?;
        while !at.take('}') {
            let key = at.string()?;
            at.expect(':')?;
            match key {
                "descr" => literal.descr = Some(at.descr()?),
                "fortran_order" => literal.fortran_order = Some(at.boolean()?),
                "shape" => literal.shape = Some(at.tuple()?),
                other => return Err(format!("a header with the key `{other}`")),
            }
            if !at.take(',') {
                at.expect('}')?;
                break;
            }
        }
        if !at.0.is_empty() {
            return Err("a header with something behind it".into());
        }
        Ok(literal)
    }

    fn header(self, path: &Path, name: &str) -> Result<Header> {
        let (Some(descr), Some(is_fortran_order), Some(shape)) =
            (self.descr, self.fortran_order, self.shape)
        else {
            return Err(Error::Format {
                path: path.to_path_buf(),
                expected: "a NumPy archive",
                detail: format!(
                    "array `{name}`: its header lacks `descr`, `fortran_order` or `shape`"
                ),
            });
        };
        if descr.contains('O') {
            return Err(Error::ObjectArray {
                path: path.to_path_buf(),
                array: name.into(),
            });
        }
        let (dtype, is_big_endian) = number_type(&descr).ok_or_else(|| Error::Dtype {
            path: path.to_path_buf(),
            found: descr.into_owned(),
            wanted: "arrays",
        })?;
        Ok(Header {
            dtype,
            is_big_endian,
            is_fortran_order,
            shape,
        })
    }
}

/// `<f4`, `|u1`, `>i8`: the type, and whether its most significant byte comes first.
fn number_type(descr: &str) -> Option<(TensorType, bool)> {
    let mut rest = descr.chars();
    let order = rest.next()?;
    let dtype = match rest.as_str() {
        "f8" => TensorType::F64,
        "f4" => TensorType::F32,
        "f2" => TensorType::F16,
        "i8" => TensorType::I64,
        "i4" => TensorType::I32,
        "i2" => TensorType::I16,
        "i1" => TensorType::I8,
        "u8" => TensorType::U64,
        "u4" => TensorType::U32,
        "u2" => TensorType::U16,
        "u1" => TensorType::U8,
        "b1" => TensorType::Bool,
        _ => return None,
    };
    match order {
        '>' => Some((dtype, dtype.bytes() > 1)),
        '<' | '|' | '=' => Some((dtype, false)),
        _ => None,
    }
}

/// What is left of a header.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn take(&mut self, wanted: char) -> bool {
        match self.0.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        let found: String = self.0.chars().take(20).collect();
        Err(format!("a header with `{found}` where `{wanted}` belongs"))
    }

    /// A quoted text without escapes.
    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.take('"') {
            '"'
        } else {
            self.expect('\'')?;
            '\''
        };
        let (text, rest) = self
            .0
            .split_once(quote)
            .ok_or("a header with an open quote")?;
        self.0 = rest.trim_start();
        Ok(text)
    }

    /// A text, or a list of the fields of a record; the latter are only named, never read.
    fn descr(&mut self) -> Result<Cow<'a, str>, String> {
        if !self.0.starts_with('[') {
            return self.string().map(Cow::Borrowed);
        }
        let end = self.0.rfind(']').ok_or("a header with an open list")?;
        let (list, rest) = self.0.split_at(end + 1);
        self.0 = rest.trim_start();
        Ok(Cow::Owned(format!("record {list}")))
    }

    fn boolean(&mut self) -> Result<bool, String> {
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest.trim_start();
                return Ok(value);
            }
        }
        Err("a header whose `fortran_order` is not True or False".into())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.take(')') {
            if shape.len() >= MOST_DIMENSIONS {
                return Err("a header with too many dimensions".into());
            }
            shape.push(self.natural()?);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }

    /// A number, with the `L` that Python 2 wrote behind long ones.
    fn natural(&mut self) -> Result<usize, String> {
        let end = self.0.find(|c: char| !c.is_ascii_digit());
        let (digits, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.strip_prefix('L').unwrap_or(rest).trim_start();
        digits
            .parse()
            .map_err(|_| "a header with a length that is not a natural number".to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn npy(header: &str, values: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Array<'_>> {
        Array::parse(Path::new("x.npz"), "a", Cow::Borrowed(bytes))
    }

    #[test]
    fn orders_of_dimensions_and_of_bytes_are_followed() {
        let values: Vec<u8> = (0..6_u16).flat_map(u16::to_le_bytes).collect();
        let c = npy(
            "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }",
            &values,
        );
        let f = npy(
            "{'descr': '<u2', 'fortran_order': True, 'shape': (2, 3), }",
            &values,
        );
        let big: Vec<u8> = (0..6_u16).flat_map(u16::to_be_bytes).collect();
        let b = npy(
            "{\"shape\":(6L,),'fortran_order':False,'descr':'>u2'}  \n",
            &big,
        );
        let read = |bytes: &[u8]| {
            let array = parse(bytes).expect("an array");
            array.tensor().expect("values").to_i64().expect("integers")
        };
        assert_eq!(read(&c), [0, 1, 2, 3, 4, 5]);
        assert_eq!(read(&f), [0, 2, 4, 1, 3, 5]);
        assert_eq!(read(&b), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn headers_are_data_and_never_more() {
        let cases = [
            "{'descr': __import__('os').system('true') or '<f8', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f8', 'fortran_order': 1 == 1, 'shape': (1,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} or 1",
            "{'descr': '<f8', 'fortran_order': False}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}",
            "",
        ];
        for header in cases {
            let refused = parse(&npy(header, &[0; 8])).map(|_| ());
            assert!(
                matches!(refused, Err(Error::Format { .. })),
                "{header}: {refused:?}"
            );
        }
    }

    #[test]
    fn objects_records_and_wrong_lengths_have_their_own_errors() {
        let with = |descr: &str, shape: &str| {
            npy(
                &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"),
                &[0; 8],
            )
        };
        assert!(matches!(
            parse(&with("'|O'", "(1,)")),
            Err(Error::ObjectArray { .. })
        ));
        assert!(matches!(
            parse(&with("[('a', '|O')]", "(1,)")),
            Err(Error::ObjectArray { .. })
        ));
        assert!(matches!(
            parse(&with("[('a', '<f4'), ('b', '<f4')]", "(1,)")),
            Err(Error::Dtype { .. })
        ));
        assert!(matches!(
            parse(&with("'<c8'", "(1,)")),
            Err(Error::Dtype { .. })
        ));
        for shape in [
            "(2,)",
            "(0,)",
            "(1000000000000,)",
            "(9999999999, 9999999999, 9999999999)",
        ] {
            assert!(
                matches!(parse(&with("'<f8'", shape)), Err(Error::Length { .. })),
                "{shape}"
            );
        }
        let scalar = with("'<f8'", "()");
        assert_eq!(
            parse(&scalar)
                .expect("a number")
                .tensor()
                .expect("a number")
                .to_f64(),
            [0.0]
        );
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(text in "[ -~]{0,80}") {
            let _ = parse(&npy(&text, &[0; 8]));
            let _ = parse(&npy(&format!("{{'descr': '<f4', 'fortran_order': True, 'shape': {text}"), &[0; 8]));
        }
    }
}
