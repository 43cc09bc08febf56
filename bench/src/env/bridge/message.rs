//! Messages of the bridge: a length, a JSON header, then the arrays that the header names (docs/bridge.md).

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes of a header; a longer one is none of this protocol.
const LONGEST_HEADER: u32 = 1 << 20;
/// Bytes of all arrays of a message.
const MOST_BYTES: usize = 1 << 28;

/// Numbers as they travel.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Array {
    /// `f64`, one axis.
    F64(Vec<f64>),
    /// `f32`, one axis.
    F32(Vec<f32>),
    /// Bytes, any shape.
    U8(Vec<usize>, Vec<u8>),
}

/// A request or a reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Message {
    /// Everything in the header but the list of arrays.
    pub(super) fields: Map<String, Value>,
    /// Arrays by name.
    pub(super) arrays: BTreeMap<String, Array>,
}

/// What a header says of one array.
#[derive(Debug, Serialize, Deserialize)]
struct Declared {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

impl Message {
    /// A request for an operation.
    pub(super) fn request(op: &str) -> Self {
        let mut message = Self::default();
        message.fields.insert("op".into(), op.into());
        message
    }

    /// With one more field.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// With one more array.
    pub(super) fn with_numbers(mut self, name: &str, values: &[f64]) -> Self {
        self.arrays.insert(name.into(), Array::F64(values.to_vec()));
        self
    }

    /// Writes the message; the other side may act on it when this returns.
    pub(super) fn write(&self, out: &mut impl Write) -> Result<()> {
        let mut header = self.fields.clone();
        let declared = self.arrays.iter().map(|(name, array)| array.declare(name));
        let declared: Vec<Declared> = declared.collect();
        header.insert("arrays".into(), serde_json::to_value(declared)?);
        let text = serde_json::to_vec(&header)?;
        out.write_all(&(text.len() as u32).to_le_bytes())?;
        out.write_all(&text)?;
        for array in self.arrays.values() {
            array.write(out)?;
        }
        out.flush()
    }

    /// Reads a message; `None` at the end of the stream.
    pub(super) fn read(source: &mut impl Read) -> Result<Option<Self>> {
        let mut length = [0; 4];
        match source.read(&mut length[..1])? {
            0 => return Ok(None),
            _ => source.read_exact(&mut length[1..])?,
        }
        let length = u32::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(strange(&format!(
                "it begins with a header of {length} bytes"
            )));
        }
        let mut text = vec![0; length as usize];
        source.read_exact(&mut text)?;
        let header: Map<String, Value> = serde_json::from_slice(&text)
            .map_err(|error| strange(&format!("its header is no JSON object: {error}")))?;
        let mut message = Self {
            fields: header,
            arrays: BTreeMap::new(),
        };
        let declared = message
            .fields
            .remove("arrays")
            .unwrap_or_else(|| Value::Array(Vec::new()));
        let declared: Vec<Declared> = serde_json::from_value(declared)
            .map_err(|error| strange(&format!("its arrays: {error}")))?;
        let mut room = MOST_BYTES;
        for entry in declared {
            let array = Array::read(source, &entry, &mut room)?;
            message.arrays.insert(entry.name, array);
        }
        Ok(Some(message))
    }
}

impl Array {
    fn declare(&self, name: &str) -> Declared {
        let (dtype, shape) = match self {
            Self::F64(values) => ("f64", vec![values.len()]),
            Self::F32(values) => ("f32", vec![values.len()]),
            Self::U8(shape, _) => ("u8", shape.clone()),
        };
        Declared {
            name: name.into(),
            dtype: dtype.into(),
            shape,
        }
    }

    fn write(&self, out: &mut impl Write) -> Result<()> {
        match self {
            Self::F64(values) => values
                .iter()
                .try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Self::F32(values) => values
                .iter()
                .try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Self::U8(_, bytes) => out.write_all(bytes),
        }
    }

    fn read(source: &mut impl Read, declared: &Declared, room: &mut usize) -> Result<Self> {
        let width = match declared.dtype.as_str() {
            "f64" => 8,
            "f32" => 4,
            "u8" => 1,
            other => {
                return Err(strange(&format!(
                    "array `{}` has the unknown type `{other}`",
                    declared.name
                )));
            }
        };
        let count = declared
            .shape
            .iter()
            .try_fold(1_usize, |count, side| count.checked_mul(*side));
        let size = count
            .and_then(|count| count.checked_mul(width))
            .filter(|size| size <= room);
        let size =
            size.ok_or_else(|| strange(&format!("array `{}` is too large", declared.name)))?;
        *room -= size;
        let mut bytes = vec![0; size];
        source.read_exact(&mut bytes)?;
        Ok(match width {
            8 => Self::F64(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b))
                    .collect(),
            ),
            4 => Self::F32(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            ),
            _ => Self::U8(declared.shape.clone(), bytes),
        })
    }
}

fn strange(detail: &str) -> Error {
    Error::new(ErrorKind::InvalidData, detail.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Message {
        let mut message = Message::request("step")
            .with("id", 7)
            .with_numbers("action", &[0.5, -1e300]);
        message.arrays.insert(
            "rgb".into(),
            Array::U8(vec![1, 2, 3], vec![1, 2, 3, 4, 5, 255]),
        );
        message
            .arrays
            .insert("proprio".into(), Array::F32(vec![0.1, f32::MAX]));
        message
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        example().write(&mut bytes).unwrap();
        Message::request("close").write(&mut bytes).unwrap();
        let mut source = bytes.as_slice();
        assert_eq!(Message::read(&mut source).unwrap(), Some(example()));
        assert_eq!(
            Message::read(&mut source).unwrap(),
            Some(Message::request("close"))
        );
        assert_eq!(Message::read(&mut source).unwrap(), None);
    }

    #[test]
    fn a_message_that_ends_early_is_an_error_wherever_it_ends() {
        let mut bytes = Vec::new();
        example().write(&mut bytes).unwrap();
        for length in 1..bytes.len() {
            assert!(
                Message::read(&mut &bytes[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn what_is_no_message_is_refused_before_room_is_made_for_it() {
        let refused = |bytes: &[u8]| Message::read(&mut &*bytes).unwrap_err().to_string();
        assert!(refused(b"Traceback (most recent call last)").contains("a header of"));
        let framed =
            |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        assert!(refused(&framed("[1]")).contains("no JSON object"));
        let huge =
            r#"{"arrays": [{"name": "a", "dtype": "u8", "shape": [4294967296, 4294967296]}]}"#;
        assert!(refused(&framed(huge)).contains("`a` is too large"));
        let strange = r#"{"arrays": [{"name": "a", "dtype": "i4", "shape": [1]}]}"#;
        assert!(refused(&framed(strange)).contains("unknown type `i4`"));
    }
}
