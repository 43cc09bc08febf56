//! NumPy archives: a ZIP file of stored `.npy` members, as `numpy.savez` writes them.
//!
//! No times are recorded, so equal arrays give equal bytes.

use std::io::{Seek, Write};

use crate::{Error, Result};

/// Values of one array.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `uint8`.
    U8(Vec<u8>),
    /// `float32`.
    F32(Vec<f32>),
    /// `float64`.
    F64(Vec<f64>),
    /// `int64`.
    I64(Vec<i64>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// NumPy's name of the type.
    fn descr(&self) -> &'static str {
        match self {
            Self::U8(_) => "|u1",
            Self::F32(_) => "<f4",
            Self::F64(_) => "<f8",
            Self::I64(_) => "<i8",
        }
    }

    fn to_le_bytes(&self) -> Vec<u8> {
        match self {
            Self::U8(values) => values.clone(),
            Self::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// One array in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Name in the archive.
    pub name: &'static str,
    /// Length of every dimension; empty for a single number.
    pub shape: Vec<usize>,
    /// Values, as many as the shape says.
    pub values: Values,
}

impl Array {
    /// Checks that shape and values agree.
    pub fn new(name: &'static str, shape: &[usize], values: Values) -> Result<Self> {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::invalid(
                "array",
                name,
                format!("{} values for shape {shape:?}", values.len()),
            ));
        }
        Ok(Self {
            name,
            shape: shape.to_vec(),
            values,
        })
    }

    /// The bytes of a `.npy` file, version 1.0: the header is padded to a multiple of 64.
    fn to_npy(&self) -> Vec<u8> {
        let dimensions: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let shape = match dimensions.as_slice() {
            [one] => format!("({one},)"),
            many => format!("({})", many.join(", ")),
        };
        let header = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}",
            self.values.descr()
        );
        let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(format!("{header:<width$}\n", width = length - 1).as_bytes());
        bytes.extend_from_slice(&self.values.to_le_bytes());
        bytes
    }
}

/// Date of every member: 1 January 1980, the first that ZIP can tell.
const DOS_DATE: u16 = 0x21;
/// Version of the format needed to read a stored member.
const VERSION: u16 = 20;

/// Writes an archive.
///
/// # Errors
/// Errors of the output, and arrays of 4 GiB or more, which a ZIP file cannot hold.
pub fn write(out: &mut (impl Write + Seek), arrays: &[Array]) -> std::io::Result<()> {
    let mut directory = Vec::new();
    for array in arrays {
        let offset = out.stream_position()?;
        let npy = array.to_npy();
        let name = format!("{}.npy", array.name);
        let (Ok(size), Ok(offset)) = (u32::try_from(npy.len()), u32::try_from(offset)) else {
            return Err(std::io::Error::other(format!(
                "array `{}` makes the archive larger than 4 GiB",
                array.name
            )));
        };
        let common = member_header(crc32fast::hash(&npy), size, name.len() as u16);
        out.write_all(b"PK\x03\x04")?;
        out.write_all(&common)?;
        out.write_all(name.as_bytes())?;
        out.write_all(&npy)?;
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&VERSION.to_le_bytes());
        directory.extend_from_slice(&common);
        // Comment length, disk, internal attributes (2 bytes each), external attributes (4 bytes).
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    write_end(out, &directory, arrays.len() as u16)
}

/// The fields that the local header and the directory share, from the version on.
fn member_header(crc32: u32, size: u32, name_length: u16) -> Vec<u8> {
    let mut header = Vec::with_capacity(26);
    for field in [VERSION, 0, 0, 0, DOS_DATE] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    for field in [crc32, size, size] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    header.extend_from_slice(&name_length.to_le_bytes());
    header.extend_from_slice(&0_u16.to_le_bytes());
    header
}

fn write_end(out: &mut (impl Write + Seek), directory: &[u8], entries: u16) -> std::io::Result<()> {
    let offset = u32::try_from(out.stream_position()?).map_err(std::io::Error::other)?;
    out.write_all(directory)?;
    out.write_all(b"PK\x05\x06\0\0\0\0")?;
    out.write_all(&entries.to_le_bytes())?;
    out.write_all(&entries.to_le_bytes())?;
    out.write_all(&(directory.len() as u32).to_le_bytes())?;
    out.write_all(&offset.to_le_bytes())?;
    out.write_all(&0_u16.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_one_numpy_writes() {
        let array = Array::new("a", &[2, 3], Values::F32(vec![0.0; 6])).expect("an array");
        let npy = array.to_npy();
        assert_eq!(npy.len(), 128 + 24);
        assert!(npy.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  "));
        assert_eq!(npy[127], b'\n');
        let scalar = Array::new("s", &[], Values::I64(vec![7])).expect("a number");
        assert!(String::from_utf8_lossy(&scalar.to_npy()).contains("'shape': (), }"));
        let vector = Array::new("v", &[1], Values::U8(vec![7])).expect("a vector");
        assert!(String::from_utf8_lossy(&vector.to_npy()).contains("'shape': (1,), }"));
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        assert!(Array::new("a", &[2, 3], Values::U8(vec![0; 5])).is_err());
    }

    /// Bytes of `numpy.savez` layout, member by member; read back by NumPy in the project's own check.
    #[test]
    fn an_archive_lists_every_member_at_its_offset() {
        let arrays = [
            Array::new("x", &[2], Values::F64(vec![1.5, -2.5])).expect("an array"),
            Array::new("y", &[1], Values::I64(vec![-1])).expect("an array"),
        ];
        let mut out = std::io::Cursor::new(Vec::new());
        write(&mut out, &arrays).expect("an archive");
        let bytes = out.into_inner();
        let second = 30 + 5 + arrays[0].to_npy().len();
        assert!(bytes[second..].starts_with(b"PK\x03\x04"));
        let end = bytes.len() - 22;
        assert!(bytes[end..].starts_with(b"PK\x05\x06"));
        assert_eq!(bytes[end + 10..end + 12], [2, 0]);
        let directory =
            u32::from_le_bytes(bytes[end + 16..end + 20].try_into().expect("4 bytes")) as usize;
        let entry = directory + 46 + 5;
        assert!(bytes[entry..].starts_with(b"PK\x01\x02"));
        assert_eq!(bytes[entry + 42..entry + 46], (second as u32).to_le_bytes());
    }
}
