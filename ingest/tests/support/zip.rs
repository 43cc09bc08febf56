//! ZIP archives, true and false.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// A member as it is written into an archive, which may lie about everything.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    /// The bytes that lie in the archive.
    pub(crate) packed: &'a [u8],
    pub(crate) method: u16,
    pub(crate) size: u64,
    pub(crate) crc32: u32,
    /// Of a Unix system: `0o120777` is a link.
    pub(crate) mode: u32,
    /// Numbers go into ZIP64 records.
    pub(crate) wide: bool,
    /// The member lies where an earlier one does.
    pub(crate) same_place_as: Option<usize>,
}

impl<'a> Member<'a> {
    pub(crate) fn stored(name: &'a str, content: &'a [u8]) -> Self {
        Self {
            name,
            packed: content,
            method: 0,
            size: content.len() as u64,
            crc32: crc32fast::hash(content),
            mode: 0o100_644,
            wide: false,
            same_place_as: None,
        }
    }

    pub(crate) fn deflated(name: &'a str, packed: &'a [u8], content: &[u8]) -> Self {
        Self {
            method: 8,
            size: content.len() as u64,
            crc32: crc32fast::hash(content),
            ..Self::stored(name, packed)
        }
    }

    fn common(&self, extra: usize) -> Vec<u8> {
        let narrow = |value: u64| {
            let value = if self.wide { u64::MAX } else { value };
            (value as u32).to_le_bytes()
        };
        let mut bytes = [45_u16, 0, self.method, 0, 33]
            .map(u16::to_le_bytes)
            .concat();
        bytes.extend(self.crc32.to_le_bytes());
        bytes.extend(narrow(self.packed.len() as u64));
        bytes.extend(narrow(self.size));
        bytes.extend((self.name.len() as u16).to_le_bytes());
        bytes.extend((extra as u16).to_le_bytes());
        bytes
    }

    fn extra(&self, numbers: &[u64]) -> Vec<u8> {
        if !self.wide {
            return Vec::new();
        }
        let mut bytes = [1, 8 * numbers.len() as u16].map(u16::to_le_bytes).concat();
        bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        bytes
    }
}

/// An archive of members, with records for both widths where one of them is wide.
pub(crate) fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let (mut bytes, mut directory, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for member in members {
        let place = match member.same_place_as {
            Some(other) => places[other],
            None => bytes.len() as u64,
        };
        places.push(place);
        let sizes = [member.size, member.packed.len() as u64];
        if member.same_place_as.is_none() {
            let extra = member.extra(&sizes);
            bytes.extend(b"PK\x03\x04");
            bytes.extend(member.common(extra.len()));
            bytes.extend(member.name.bytes());
            bytes.extend(extra);
            bytes.extend(member.packed);
        }
        let extra = member.extra(&[sizes[0], sizes[1], place]);
        directory.extend(b"PK\x01\x02\x2d\x03");
        directory.extend(member.common(extra.len()));
        directory.extend([0; 6]);
        directory.extend((member.mode << 16).to_le_bytes());
        let start = if member.wide { u32::MAX } else { place as u32 };
        directory.extend(start.to_le_bytes());
        directory.extend(member.name.bytes());
        directory.extend(extra);
    }
    let start = bytes.len() as u64;
    bytes.extend(&directory);
    let count = members.len() as u64;
    if members.iter().any(|member| member.wide) {
        let record = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44_u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let numbers = [count, count, directory.len() as u64, start];
        bytes.extend(numbers.map(u64::to_le_bytes).concat());
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(record.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([0xff; 12]);
    } else {
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([count as u16; 2].map(u16::to_le_bytes).concat());
        bytes.extend((directory.len() as u32).to_le_bytes());
        bytes.extend((start as u32).to_le_bytes());
    }
    bytes.extend([0, 0]);
    bytes
}

/// An archive of stored members.
pub(crate) fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members = members
        .iter()
        .map(|&(name, bytes)| Member::stored(name, bytes));
    archive(&members.collect::<Vec<_>>())
}

/// A DEFLATE stream.
pub(crate) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("compressed");
    encoder.finish().expect("compressed")
}
