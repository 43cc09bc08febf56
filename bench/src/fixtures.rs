//! Reads recorded arrays and frames in tests: `.npz` archives without compression, and PNG files.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One array, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Npy {
    /// Sizes of the axes.
    pub(crate) shape: Vec<usize>,
    values: Vec<f64>,
}

/// The arrays of an archive, by name.
pub(crate) struct Npz(BTreeMap<String, Npy>);

impl Npz {
    /// Reads an archive below `tests/fixtures`.
    pub(crate) fn read(name: &str) -> Self {
        let bytes = std::fs::read(path(name)).unwrap();
        let mut arrays = BTreeMap::new();
        let mut rest = bytes.as_slice();
        // Local file headers, one after the other, until the central directory begins.
        while rest.starts_with(b"PK\x03\x04") {
            assert_eq!(u16_at(rest, 8), 0, "{name} is compressed");
            let (size, name_size) = (u32_at(rest, 18), usize::from(u16_at(rest, 26)));
            let start = 30 + name_size + usize::from(u16_at(rest, 28));
            let entry = String::from_utf8(rest[30..30 + name_size].to_vec()).unwrap();
            let end = start + size as usize;
            let key = entry.strip_suffix(".npy").unwrap().to_string();
            arrays.insert(key, Npy::parse(&rest[start..end]));
            rest = &rest[end..];
        }
        Self(arrays)
    }

    /// One array.
    pub(crate) fn array(&self, key: &str) -> &Npy {
        self.0
            .get(key)
            .unwrap_or_else(|| panic!("no array `{key}`"))
    }

    /// The values of one array, widened.
    pub(crate) fn values(&self, key: &str) -> &[f64] {
        &self.array(key).values
    }
}

impl Npy {
    fn parse(bytes: &[u8]) -> Self {
        assert!(bytes.starts_with(b"\x93NUMPY\x01"));
        let data = 10 + usize::from(u16_at(bytes, 8));
        let header = std::str::from_utf8(&bytes[10..data]).unwrap();
        assert!(header.contains("'fortran_order': False"));
        let shape = between(header, "'shape': (", ")").split(',').map(str::trim);
        let shape = shape
            .filter(|size| !size.is_empty())
            .map(|size| size.parse().unwrap())
            .collect();
        let data = &bytes[data..];
        let values = match between(header, "'descr': '", "'") {
            "<f8" => chunks(data).map(f64::from_le_bytes).collect(),
            "<f4" => chunks(data)
                .map(|value| f64::from(f32::from_le_bytes(value)))
                .collect(),
            "<i8" => chunks(data)
                .map(|value| i64::from_le_bytes(value) as f64)
                .collect(),
            "<i2" => chunks(data)
                .map(|value| f64::from(i16::from_le_bytes(value)))
                .collect(),
            "|u1" => data.iter().map(|&value| f64::from(value)).collect(),
            other => panic!("element type {other}"),
        };
        Self { shape, values }
    }
}

/// Pixels of an RGB file below `tests/fixtures`.
pub(crate) fn read_png(name: &str) -> Vec<u8> {
    let file = std::fs::read(path(name)).unwrap();
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    assert_eq!(
        reader.output_color_type(),
        (png::ColorType::Rgb, png::BitDepth::Eight)
    );
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut rgb).unwrap();
    rgb
}

/// Tests run in the folder of their package.
fn path(name: &str) -> PathBuf {
    PathBuf::from("../tests/fixtures").join(name)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before)
        .unwrap()
        .1
        .split_once(after)
        .unwrap()
        .0
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|chunk| chunk.try_into().unwrap())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
