//! Columns of PNG files: one image per row.

use std::io::Cursor;
use std::path::Path;

use png::{ColorType, Decoder, Limits, Transformations};

use super::super::port::Port;
use super::super::support::Hash;
use crate::{Error, Result};

/// Memory that one image may take.
const LARGEST: usize = 256 << 20;

/// Height and width of the first image.
pub(super) fn size(path: &Path, images: &[Vec<u8>]) -> Result<[usize; 2]> {
    let first = images
        .first()
        .ok_or_else(|| Error::count(path, "it has no images"))?;
    rgb_into(first, &mut Vec::new()).map_err(|detail| fault(path, 0, &detail))
}

/// Decodes one image per row to RGB and hands it on; all must have one size. Returns the hash of the pixels.
pub(super) fn decode(
    path: &Path,
    images: &[Vec<u8>],
    size: [usize; 2],
    port: &mut Port<'_>,
) -> Result<String> {
    let mut hash = Hash::default();
    let mut pixels = Vec::new();
    for (row, image) in images.iter().enumerate() {
        pixels.clear();
        let found = rgb_into(image, &mut pixels).map_err(|detail| fault(path, row, &detail))?;
        if found != size {
            let detail = format!("the image of row {row} has another size than those before it");
            return Err(Error::count(path, detail));
        }
        hash.add(&pixels);
        port.push(&pixels)?;
    }
    Ok(hash.finish())
}

fn fault(path: &Path, row: usize, detail: &str) -> Error {
    Error::Decode {
        path: path.to_path_buf(),
        detail: format!("the image of row {row}: {detail}"),
    }
}

/// Appends one image, and returns its height and width.
fn rgb_into(image: &[u8], pixels: &mut Vec<u8>) -> Result<[usize; 2], String> {
    if image.starts_with(&[0xff, 0xd8]) {
        return Err("it is a JPEG, this build decodes PNG".into());
    }
    let text = |e: png::DecodingError| e.to_string();
    let mut decoder = Decoder::new_with_limits(Cursor::new(image), Limits { bytes: LARGEST });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(text)?;
    let length = reader
        .output_buffer_size()
        .filter(|&length| length <= LARGEST);
    let length = length.ok_or("it is too large")?;
    let mut buffer = vec![0; length];
    let info = reader.next_frame(&mut buffer).map_err(text)?;
    let values = &buffer[..info.buffer_size()];
    match info.color_type {
        ColorType::Rgb => pixels.extend_from_slice(values),
        ColorType::Grayscale => pixels.extend(values.iter().flat_map(|&v| [v; 3])),
        ColorType::Rgba => {
            let (values, _) = values.as_chunks::<4>();
            if values.iter().any(|v| v[3] != u8::MAX) {
                return Err("it is transparent".into());
            }
            pixels.extend(values.iter().flat_map(|v| [v[0], v[1], v[2]]));
        }
        other => return Err(format!("colours {other:?}")),
    }
    Ok([info.height as usize, info.width as usize])
}

#[cfg(test)]
mod tests {
    use jepa_datasets::{Camera, CameraFrames, PixelType, Pixels};

    use super::*;

    fn png(color: ColorType, values: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(color);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(values).expect("values");
        writer.finish().expect("an image");
        bytes
    }

    /// What the port is handed for images of one row each.
    fn decoded(images: &[Vec<u8>]) -> Result<Vec<CameraFrames>> {
        let path = Path::new("x.parquet");
        let camera = Camera::new("top", 1, 2, PixelType::U8);
        let mut frames: Vec<CameraFrames> = Vec::new();
        let native = size(path, images)?;
        let mut port = Port::open(&mut frames, &camera, native, None, path)?;
        decode(path, images, native, &mut port)?;
        Ok(frames)
    }

    #[test]
    fn colours_become_rgb_and_nothing_else_passes() {
        let rgb = png(ColorType::Rgb, &[1, 2, 3, 4, 5, 6]);
        let rgba = png(ColorType::Rgba, &[1, 2, 3, 255, 4, 5, 6, 255]);
        let grey = png(ColorType::Grayscale, &[7, 8]);
        let frames = decoded(&[rgb.clone(), rgba, grey]).expect("frames");
        let expected = [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 8, 8];
        assert_eq!(frames[0].pixels, Pixels::U8(expected.into()));
        assert_eq!(frames[0].count, 3);
        let glass = png(ColorType::Rgba, &[1, 2, 3, 254, 4, 5, 6, 255]);
        for bad in [
            glass,
            rgb[..40].to_vec(),
            b"\xff\xd8\xff\xe0".to_vec(),
            Vec::new(),
        ] {
            let refused = decoded(&[rgb.clone(), bad]).map(|frames| frames.len());
            assert!(matches!(refused, Err(Error::Decode { .. })), "{refused:?}");
        }
    }
}
