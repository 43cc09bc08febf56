//! One frame as a JPEG file, by libjpeg-turbo (feature `jpeg`).
//!
//! Baseline, YCbCr, Huffman tables of the standard, chroma halved in both directions (4:2:0): what PIL writes by
//! default, and what it reads back to the same pixels (accurate DCT, smooth upsampling of chroma). Sides need not be
//! multiples of 16: the last blocks are filled up by repeating the border, and cut again on reading.
//!
//! Reading takes nothing else. The header must state the size of the camera before anything is allocated for the
//! pixels, and whatever the library complains about, cut data included, is an error.

/// The longest side that a JPEG file of libjpeg-turbo can have.
pub(crate) const MAX_SIDE: usize = 65_500;

#[cfg(feature = "jpeg")]
pub(crate) use library::{decode, encode};

#[cfg(not(feature = "jpeg"))]
pub(crate) use absent::{decode, encode};

#[cfg(feature = "jpeg")]
mod library {
    use std::cell::RefCell;

    use turbojpeg::{Colorspace, Compressor, Decompressor, Image, PixelFormat, Subsamp};

    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
        static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
    }

    /// Encodes a frame, `[height, width, 3]`, at a quality of 1 to 100.
    pub(crate) fn encode(
        frame: &[u8],
        [height, width]: [usize; 2],
        quality: u8,
    ) -> Result<Vec<u8>, String> {
        let image = Image {
            pixels: frame,
            width,
            pitch: width * 3,
            height,
            format: PixelFormat::RGB,
        };
        COMPRESSOR.with_borrow_mut(|slot| {
            let compressor = match slot {
                Some(compressor) => compressor,
                None => slot.insert(Compressor::new().map_err(|e| e.to_string())?),
            };
            compressor
                .set_subsamp(Subsamp::Sub2x2)
                .and_then(|()| compressor.set_quality(quality.into()))
                .and_then(|()| compressor.compress_to_vec(image))
                .map_err(|e| e.to_string())
        })
    }

    /// Decodes a frame into `pixels`, `[height, width, 3]`.
    pub(crate) fn decode(
        bytes: &[u8],
        [height, width]: [usize; 2],
        pixels: &mut [u8],
    ) -> Result<(), String> {
        DECOMPRESSOR.with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(Decompressor::new().map_err(|e| e.to_string())?),
            };
            let header = decompressor.read_header(bytes).map_err(|e| e.to_string())?;
            if (header.height, header.width) != (height, width) {
                let found = format!("{}x{}", header.height, header.width);
                return Err(format!("it is a JPEG of {found}, not {height}x{width}"));
            }
            let is_ours = header.subsamp == Subsamp::Sub2x2
                && header.colorspace == Colorspace::YCbCr
                && !(header.is_progressive || header.is_arithmetic || header.is_lossless);
            if !is_ours {
                return Err("it is a JPEG of another kind than baseline YCbCr 4:2:0".into());
            }
            let image = Image {
                pixels,
                width,
                pitch: width * 3,
                height,
                format: PixelFormat::RGB,
            };
            decompressor
                .decompress(bytes, image)
                .map_err(|e| e.to_string())
        })
    }
}

#[cfg(not(feature = "jpeg"))]
mod absent {
    /// Who opens a dataset, or a writer, was told before.
    const NO_JPEG: &str = "this build lacks the feature `jpeg`";

    pub(crate) fn encode(_: &[u8], _: [usize; 2], _: u8) -> Result<Vec<u8>, String> {
        Err(NO_JPEG.into())
    }

    pub(crate) fn decode(_: &[u8], _: [usize; 2], _: &mut [u8]) -> Result<(), String> {
        Err(NO_JPEG.into())
    }
}
