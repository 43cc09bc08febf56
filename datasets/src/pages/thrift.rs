//! Values of Thrift's compact protocol, walked over before they are decoded.
//!
//! The decoder of the `parquet` crate makes room by counts that a list only announces, and takes a field for what
//! its number says whatever its type. The walk sees that a known field has the type it should have, so that both
//! see the same bytes, and that what is announced has room in the bytes that are left.
//!
//! ```text
//! struct    (field)* 0            field     delta << 4 | type [number if the delta is 0] value
//! list      count << 4 | type items, or 0xf0 | type count items
//! ```

use std::io::{self, Read};

/// Deepest nesting of values; that of a footer is eight.
const MOST_DEPTH: usize = 32;
/// Bytes of the longest varint of 64 bits.
const MOST_DIGITS: u32 = 10;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const NUMBERS: std::ops::RangeInclusive<u8> = 4..=6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// What a known field is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A truth value.
    Bool,
    /// One byte.
    Byte,
    /// A whole number of any width: all are written alike.
    Number,
    /// A number of 64 bits.
    Double,
    /// Bytes or a text.
    Binary,
    /// Items of one shape.
    List(&'static Shape),
    /// Fields by their numbers.
    Struct(Fields),
    /// A struct that is a node of a tree written in preorder.
    Node(Fields),
    /// The number of children of such a node.
    Children,
}

/// The known fields of a struct.
pub(super) type Fields = &'static [(i16, Shape)];

impl Shape {
    fn is_written_as(self, kind: u8) -> bool {
        match self {
            Self::Bool => kind == TRUE || kind == FALSE,
            Self::Byte => kind == BYTE,
            Self::Number | Self::Children => NUMBERS.contains(&kind),
            Self::Double => kind == DOUBLE,
            Self::Binary => kind == BINARY,
            Self::List(_) => kind == LIST,
            Self::Struct(_) | Self::Node(_) => kind == STRUCT,
        }
    }
}

/// Why a value is refused.
pub(super) type Refused = String;

/// Walks over a value that must fit into some bytes.
///
/// Returns the number of children of every [`Shape::Node`], in the order of the bytes.
pub(super) fn walk(bytes: &[u8], fields: Fields) -> Result<Vec<u64>, Refused> {
    let mut walker = Walker {
        left: Some(bytes.len() as u64),
        bytes,
        nodes: Vec::new(),
    };
    walker.fields(fields, MOST_DEPTH)?;
    Ok(walker.nodes)
}

/// Walks over a value at the start of a stream; it may hold no list that is not empty.
pub(super) fn walk_stream(stream: impl Read, fields: Fields) -> Result<(), Refused> {
    let mut walker = Walker {
        left: None,
        bytes: stream,
        nodes: Vec::new(),
    };
    walker.fields(fields, MOST_DEPTH)
}

struct Walker<R> {
    bytes: R,
    /// Bytes that are left; nothing for a stream.
    left: Option<u64>,
    nodes: Vec<u64>,
}

impl<R: Read> Walker<R> {
    fn byte(&mut self) -> Result<u8, Refused> {
        let mut byte = [0];
        self.bytes
            .read_exact(&mut byte)
            .map_err(|e| unreadable(&e))?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, Refused> {
        let mut number = 0;
        for digit in 0..MOST_DIGITS {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * digit);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(format!("a number of more than {MOST_DIGITS} bytes"))
    }

    fn skip(&mut self, count: u64) -> Result<(), Refused> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(count)
                .ok_or_else(|| format!("a value of {count} bytes where {left} are left"))?;
        }
        let skipped = io::copy(&mut self.bytes.by_ref().take(count), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == count => Ok(()),
            Ok(_) => Err(unreadable(&io::ErrorKind::UnexpectedEof.into())),
            Err(e) => Err(unreadable(&e)),
        }
    }

    fn fields(&mut self, known: Fields, depth: usize) -> Result<(), Refused> {
        let mut number = 0_i16;
        loop {
            let head = self.byte()?;
            let kind = head & 0xf;
            if kind == 0 {
                return Ok(());
            }
            number = match head >> 4 {
                0 => zigzag(self.varint()?) as i16,
                delta => number.wrapping_add(i16::from(delta)),
            };
            let shape = known.iter().find(|(known, _)| *known == number);
            let shape = shape.map(|(_, shape)| *shape);
            if shape.is_some_and(|shape| !shape.is_written_as(kind)) {
                return Err(format!("field {number} is of type {kind}"));
            }
            // The type of a truth value says which it is.
            if kind != TRUE && kind != FALSE {
                self.value(kind, shape, depth)?;
            }
        }
    }

    fn value(&mut self, kind: u8, shape: Option<Shape>, depth: usize) -> Result<(), Refused> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| format!("values are nested more than {MOST_DEPTH} deep"))?;
        match kind {
            BYTE => self.skip(1),
            DOUBLE => self.skip(8),
            UUID => self.skip(16),
            BINARY => {
                let length = self.varint()?;
                self.skip(length)
            }
            LIST | SET => self.items(shape, depth),
            MAP => self.pairs(depth),
            STRUCT => match shape {
                Some(Shape::Struct(fields)) => self.fields(fields, depth),
                Some(Shape::Node(fields)) => {
                    self.nodes.push(0);
                    self.fields(fields, depth)
                }
                _ => self.fields(&[], depth),
            },
            _ if NUMBERS.contains(&kind) => {
                let number = self.varint()?;
                if let (Some(Shape::Children), Some(node)) = (shape, self.nodes.last_mut()) {
                    // A negative number is refused by whoever decodes it.
                    *node = u64::try_from(zigzag(number)).unwrap_or(0);
                }
                Ok(())
            }
            _ => Err(format!("there is no type {kind}")),
        }
    }

    fn items(&mut self, shape: Option<Shape>, depth: usize) -> Result<(), Refused> {
        let head = self.byte()?;
        let kind = head & 0xf;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        self.check_count(count)?;
        let item = match shape {
            Some(Shape::List(item)) => Some(*item),
            _ => None,
        };
        if count > 0 && item.is_some_and(|item| !item.is_written_as(kind)) {
            return Err(format!("a list has items of type {kind}"));
        }
        match (kind, item) {
            (TRUE | FALSE, Some(_)) => self.skip(count),
            (TRUE | FALSE, None) => refuse_truths(count),
            _ => (0..count).try_for_each(|_| self.value(kind, item, depth)),
        }
    }

    fn pairs(&mut self, depth: usize) -> Result<(), Refused> {
        let count = self.varint()?;
        self.check_count(count)?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        for _ in 0..count {
            for kind in [kinds >> 4, kinds & 0xf] {
                if kind == TRUE || kind == FALSE {
                    refuse_truths(count)?;
                }
                self.value(kind, None, depth)?;
            }
        }
        Ok(())
    }

    /// An item takes a byte at least.
    fn check_count(&self, count: u64) -> Result<(), Refused> {
        match self.left {
            Some(left) if count <= left => Ok(()),
            Some(left) => Err(format!("a list announces {count} items in {left} bytes")),
            None if count == 0 => Ok(()),
            None => Err(format!("a list announces {count} items, and may have none")),
        }
    }
}

/// Readers do not agree on the bytes of truth values in an unknown list: the `parquet` crate passes over them as if
/// they had none, however many there are.
fn refuse_truths(count: u64) -> Result<(), Refused> {
    match count {
        0 => Ok(()),
        _ => Err(format!("an unknown list has {count} truth values")),
    }
}

fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn unreadable(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends within a value".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Fields = &[(1, Shape::Number), (2, Shape::Bool)];
    const THINGS: Fields = &[
        (1, Shape::List(&Shape::Struct(POINT))),
        (2, Shape::List(&Shape::Bool)),
        (3, Shape::Binary),
        (4, Shape::Children),
    ];

    /// Refused, and for that reason.
    #[track_caller]
    fn refused(bytes: &[u8], reason: &str) {
        let found = walk(bytes, THINGS).expect_err("refused");
        assert!(found.contains(reason), "{found}");
    }

    #[test]
    fn values_end_where_they_end() {
        let good = [
            0x19, 0x2c, // 1: two structs
            0x15, 0x02, 0x11, 0x00, // 1 and true
            0x15, 0x80, 0x01, 0x00, // 64
            0x19, 0x21, 0x01, 0x02, // 2: true, false
            0x18, 0x02, 0xff, 0xff, // 3: two bytes
            0x2b, 0x01, 0x88, 0x01, 0x40, 0x00, // 5, unknown: a map of one text
            0x1d, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, // 6: a UUID
            0x17, 0, 0, 0, 0, 0, 0, 0, 0, // 7: a double
            0x09, 0x20, 0x00, // 16, in its long form: an empty list
            0x00,
        ];
        assert_eq!(walk(&good, THINGS), Ok(vec![]));
        for end in 0..good.len() {
            assert!(walk(&good[..end], THINGS).is_err(), "{end}");
        }
    }

    #[test]
    fn what_is_announced_has_room_or_is_refused() {
        // 2^31 structs, texts in an unknown list, pairs in an unknown map, and a text of 2^31 bytes.
        let lots = [0x80, 0x80, 0x80, 0x80, 0x08];
        for (head, reason) in [
            (&[0x19, 0xfc][..], "announces 2147483648 items"),
            (&[0x59, 0xf8], "announces 2147483648 items"),
            (&[0x5a, 0xf8], "announces 2147483648 items"),
            (&[0x5b], "announces 2147483648 items"),
            (&[0x38], "a value of 2147483648 bytes"),
        ] {
            refused(&[head, &lots, &[0; 9]].concat(), reason);
        }
        refused(&[0x18; 40], "is of type 8");
        refused(&[[0x15].as_slice(), &[0xff; 11]].concat(), "is of type 5");
        refused(
            &[[0x55].as_slice(), &[0xff; 11]].concat(),
            "more than 10 bytes",
        );
        refused(&[0x19, 0x15, 0x02, 0x00], "items of type 5");
        refused(&[0x5e, 0x00], "no type 14");
    }

    #[test]
    fn truth_values_count_only_where_they_are_known() {
        assert_eq!(walk(&[0x29, 0x22, 1, 2, 0], THINGS), Ok(vec![]));
        refused(&[0x59, 0x21, 1, 2, 0], "2 truth values");
        refused(&[0x5b, 0x01, 0x81, 1, 0, 0], "1 truth values");
        assert_eq!(walk(&[0x59, 0x01, 0], THINGS), Ok(vec![]));
    }

    #[test]
    fn depth_has_an_end() {
        let nested = |levels: usize| {
            let mut bytes = vec![0x5c; levels];
            bytes.resize(2 * levels + 1, 0);
            walk(&bytes, THINGS)
        };
        assert_eq!(nested(MOST_DEPTH), Ok(vec![]));
        assert!(nested(MOST_DEPTH + 1).is_err_and(|e| e.contains("deep")));
    }

    #[test]
    fn children_are_told_node_by_node() {
        const TREE: Fields = &[(1, Shape::List(&Shape::Node(&[(5, Shape::Children)])))];
        // Two children, no number, minus one.
        let bytes = [0x19, 0x3c, 0x55, 0x04, 0, 0, 0x55, 0x01, 0, 0];
        assert_eq!(walk(&bytes, TREE), Ok(vec![2, 0, 0]));
    }

    #[test]
    fn streams_have_no_lists() {
        let mut stream = &[0x38, 0x01, 0x61, 0x00, 0x99][..];
        assert_eq!(walk_stream(&mut stream, THINGS), Ok(()));
        assert_eq!(stream, [0x99], "nothing is read beyond the value");
        assert_eq!(walk_stream(&[0x19, 0x0c, 0x00][..], THINGS), Ok(()));
        let refused = walk_stream(&[0x19, 0x1c, 0x00, 0x00][..], THINGS);
        assert!(refused.is_err_and(|e| e.contains("may have none")));
    }
}
