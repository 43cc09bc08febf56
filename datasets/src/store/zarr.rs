//! Frames: one Zarr v3 array per camera, `[frames, height, width, 3]`, sharded, one inner chunk per frame.
//!
//! Frames are encoded one by one as their episode arrives; a shard is those bytes in order, followed by
//! the index that the Zarr sharding specification asks for. Every inner chunk ends in a CRC-32C, so a
//! damaged frame is noticed before it is decoded.
//!
//! ```text
//! lossless   bytes (little endian), zstd level 3, crc32c
//! raw        bytes (little endian), crc32c
//! jpeg:Q     imagecodecs_jpeg {"level": Q, "subsampling": "420"}, crc32c
//! ```
//!
//! Zarr itself names no JPEG codec. `imagecodecs_jpeg` is what zarr-python calls the codec that the package
//! `imagecodecs-zarr` registers with it; there as here an inner chunk is one whole JPEG file of `[height, width]`
//! pixels (`store/jpeg.rs`) and then its checksum.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde_json::{Value, json};
use zarrs::array::codec::{Crc32cCodec, ZstdCodec};
use zarrs::array::{ArrayBuilder, BytesToBytesCodecTraits, CodecOptions, data_type};

use super::disk::{Disk, Sync};
use super::jpeg;
use super::random_access::{Count, CountedFile};
use crate::episode::{Frame, Pixels};
use crate::schema::{Camera, Codec, FileEntry, FrameLoss, PixelType, parse_json, to_json};
use crate::{Error, Result};

/// A shard holds at most this many frames.
const SHARD_FRAMES: u64 = 1024;
/// A shard holds at most about this many bytes before compression.
const SHARD_BYTES: u64 = 64 << 20;
/// Zstandard level of the lossless codec.
const ZSTD_LEVEL: i32 = 3;
/// Files kept open per camera.
const OPEN_FILES: u64 = 128;
/// Bytes of a CRC-32C.
const CHECKSUM: usize = 4;
/// Offset and length of an inner chunk that does not exist.
const ABSENT: [u8; 16] = [0xff; 16];

/// Frames per shard of a camera. It depends on the size of a frame only, so it never changes on a resume.
pub(crate) fn shard_frames(camera: &Camera) -> u64 {
    (SHARD_BYTES / camera.frame_bytes().max(1) as u64).clamp(1, SHARD_FRAMES)
}

/// `frames/<camera>.zarr`.
pub(crate) fn array_name(camera: &str) -> String {
    format!("frames/{camera}.zarr")
}

/// `frames/<camera>.zarr/c/<shard>/0/0/0`.
pub(crate) fn shard_name(camera: &str, shard: u64) -> String {
    format!("{}/c/{shard}/0/0/0", array_name(camera))
}

/// `frames/<camera>.zarr/zarr.json`.
pub(crate) fn metadata_name(camera: &str) -> String {
    format!("{}/zarr.json", array_name(camera))
}

/// Codecs after the array has become bytes, for one frame.
fn codecs(codec: Codec) -> Vec<Arc<dyn BytesToBytesCodecTraits>> {
    let crc: Arc<dyn BytesToBytesCodecTraits> = Arc::new(Crc32cCodec::new());
    match codec {
        Codec::Lossless => vec![Arc::new(ZstdCodec::new(ZSTD_LEVEL, false)), crc],
        Codec::Raw | Codec::Jpeg { .. } => vec![crc],
    }
}

fn encode(bytes: Cow<'_, [u8]>, codec: Codec) -> Result<Vec<u8>> {
    if codec == Codec::Lossless {
        let compressed = compress(&bytes).map_err(|e| Error::invalid("codec", codec, e))?;
        return Ok(compressed);
    }
    let options = CodecOptions::default().with_concurrent_target(1);
    let chain = codecs(codec);
    let encoded = chain
        .iter()
        .try_fold(bytes, |bytes, codec| codec.encode(bytes, &options));
    encoded
        .map(Cow::into_owned)
        .map_err(|e| Error::invalid("codec", codec, e))
}

/// A frame as an inner chunk, and what encoding lost.
pub(crate) struct Encoded {
    /// The inner chunk.
    pub(crate) chunk: Vec<u8>,
    /// Nothing where the codec is exact.
    pub(crate) loss: Option<FrameLoss>,
}

/// Encodes a frame of that height and width.
pub(crate) fn encode_frame(frame: Frame<'_>, size: [usize; 2], codec: Codec) -> Result<Encoded> {
    let bytes = match (codec, frame) {
        (Codec::Jpeg { quality }, Frame::U8(values)) => {
            return encode_jpeg(values, size, quality);
        }
        (Codec::Jpeg { .. }, Frame::F32(_)) => {
            return Err(Error::invalid("codec", codec, "a frame has floats"));
        }
        (_, Frame::U8(values)) => Cow::Borrowed(values),
        (_, Frame::F32(values)) => {
            Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    };
    Ok(Encoded {
        chunk: encode(bytes, codec)?,
        loss: None,
    })
}

/// Encodes a frame as JPEG, decodes it again and measures the difference.
fn encode_jpeg(frame: &[u8], size: [usize; 2], quality: u8) -> Result<Encoded> {
    let codec = Codec::Jpeg { quality };
    let fault = |detail: String| Error::invalid("codec", codec, detail);
    let bytes = jpeg::encode(frame, size, quality).map_err(fault)?;
    let mut decoded = vec![0; frame.len()];
    jpeg::decode(&bytes, size, &mut decoded).map_err(fault)?;
    let mut loss = FrameLoss::default();
    loss.add(frame, &decoded);
    Ok(Encoded {
        chunk: encode(Cow::Owned(bytes), codec)?,
        loss: Some(loss),
    })
}

/// Joins encoded frames to one shard; the last shard of an array may have fewer than `capacity`.
///
/// ```text
/// shard = chunk_0 .. chunk_n  (offset_0, length_0) .. (offset_capacity, length_capacity)  crc32c(index)
/// ```
pub(crate) fn join_shard(frames: &[Vec<u8>], capacity: u64) -> Result<Vec<u8>> {
    let mut shard =
        Vec::with_capacity(frames.iter().map(Vec::len).sum::<usize>() + capacity as usize * 16 + 4);
    let mut index = Vec::with_capacity(capacity as usize * 16);
    for frame in frames {
        index.extend_from_slice(&(shard.len() as u64).to_le_bytes());
        index.extend_from_slice(&(frame.len() as u64).to_le_bytes());
        shard.extend_from_slice(frame);
    }
    (frames.len() as u64..capacity).for_each(|_| index.extend_from_slice(&ABSENT));
    shard.extend_from_slice(&encode(Cow::Owned(index), Codec::Raw)?);
    Ok(shard)
}

/// Writes `zarr.json` of an array of `frames` frames.
pub(crate) fn write_metadata(
    disk: &Disk,
    root: &Path,
    camera: &Camera,
    codec: Codec,
    frames: u64,
) -> Result<FileEntry> {
    disk.write(
        &root.join(metadata_name(&camera.name)),
        &to_json("zarr.json", &metadata(camera, codec, frames)?)?,
        Sync::Yes,
    )
}

/// `zarr.json` of an array of `frames` frames.
fn metadata(camera: &Camera, codec: Codec, frames: u64) -> Result<Value> {
    let (h, w) = (camera.height as u64, camera.width as u64);
    let data_type = match camera.dtype {
        PixelType::U8 => data_type::uint8(),
        PixelType::F32 => data_type::float32(),
    };
    let shard = vec![shard_frames(camera), h, w, 3];
    let mut builder = match camera.dtype {
        PixelType::U8 => ArrayBuilder::new(vec![frames, h, w, 3], shard, data_type, 0_u8),
        PixelType::F32 => ArrayBuilder::new(vec![frames, h, w, 3], shard, data_type, 0_f32),
    };
    builder
        .subchunk_shape(vec![1, h, w, 3])
        .bytes_to_bytes_codecs(codecs(codec));
    builder.dimension_names(["frame", "y", "x", "rgb"].into());
    let invalid = |e: &dyn Display| Error::invalid("camera", &camera.name, e);
    let metadata = builder.build_metadata().map_err(|e| invalid(&e))?;
    let mut metadata = serde_json::to_value(&metadata).map_err(|e| invalid(&e))?;
    if let Codec::Jpeg { quality } = codec {
        let first = metadata.pointer_mut("/codecs/0/configuration/codecs/0");
        *first.ok_or_else(|| invalid(&"it has no inner codecs"))? = json!({
            "name": "imagecodecs_jpeg",
            "configuration": {"level": quality, "subsampling": "420"},
        });
    }
    Ok(metadata)
}

/// What reading relies on in `zarr.json`; it has to be what writing says.
const READ_BY: [&str; 10] = [
    "/shape",
    "/data_type",
    "/chunk_grid/configuration/chunk_shape",
    "/codecs/0/name",
    "/codecs/0/configuration/chunk_shape",
    "/codecs/0/configuration/index_location",
    "/codecs/0/configuration/codecs/0/name",
    "/codecs/0/configuration/codecs/1/name",
    "/codecs/0/configuration/codecs/2/name",
    "/codecs/0/configuration/codecs/3/name",
];

/// The frames of one camera.
#[derive(Debug)]
pub(crate) struct FrameStore {
    camera: Camera,
    codec: Codec,
    root: PathBuf,
    /// Frames per shard.
    capacity: u64,
    /// The index of every shard, once it was read.
    indexes: Vec<OnceLock<Vec<Place>>>,
    /// The files that are open. Each shard has one slot, which it shares with others where there are many.
    files: Vec<RwLock<Option<(u64, CountedFile)>>>,
    count: Arc<Count>,
}

/// Offset and length of an inner chunk in its shard.
type Place = (u64, u64);

impl FrameStore {
    /// Opens the array of a camera and checks that it holds `frames` frames in existing shards.
    pub(crate) fn open(root: &Path, camera: &Camera, codec: Codec, frames: u64) -> Result<Self> {
        codec.check_build()?;
        let count = Arc::default();
        check_metadata(root, camera, codec, frames, &count)?;
        let capacity = shard_frames(camera);
        let shards = frames.div_ceil(capacity);
        for shard in 0..shards {
            let shard = root.join(shard_name(&camera.name, shard));
            fs::metadata(&shard).map_err(|e| Error::io("read", &shard, e))?;
        }
        Ok(Self {
            camera: camera.clone(),
            codec,
            root: root.to_path_buf(),
            capacity,
            indexes: (0..shards).map(|_| OnceLock::new()).collect(),
            files: (0..shards.clamp(1, OPEN_FILES))
                .map(|_| RwLock::default())
                .collect(),
            count,
        })
    }

    /// Size and type of the frames.
    pub(crate) fn camera(&self) -> &Camera {
        &self.camera
    }

    /// Reads frames by their index in the array, in the order asked for.
    pub(crate) fn read(&self, frames: impl Iterator<Item = u64>) -> Result<Pixels> {
        let mut bytes = Vec::with_capacity(frames.size_hint().0 * self.camera.frame_bytes());
        for frame in frames {
            self.read_one(frame, &mut bytes)?;
        }
        Ok(match self.camera.dtype {
            PixelType::U8 => Pixels::U8(bytes),
            PixelType::F32 => Pixels::F32(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            ),
        })
    }

    /// Appends one decoded frame to `pixels`.
    fn read_one(&self, frame: u64, pixels: &mut Vec<u8>) -> Result<()> {
        let shard = frame / self.capacity;
        let path = || self.root.join(shard_name(&self.camera.name, shard));
        let file = self.file(shard)?;
        let (offset, length) = self.index(shard, &file)?[(frame % self.capacity) as usize];
        let inside = offset.checked_add(length).filter(|&end| end <= file.size());
        if inside.is_none() {
            return Err(corrupt(&path(), frame, "it is not in its shard"));
        }
        ENCODED.with_borrow_mut(|buffer| {
            let length = length as usize;
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            file.fill_at(offset, &mut buffer[..length])
                .map_err(|e| Error::io("read", &path(), e))?;
            checked(&buffer[..length])
                .and_then(|bytes| self.decode(bytes, pixels))
                .map_err(|detail| corrupt(&path(), frame, &detail))
        })
    }

    /// Appends a decoded frame to `pixels`, which has room for it.
    fn decode(&self, bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), String> {
        let size = self.camera.frame_bytes();
        let end = pixels.len() + size;
        match self.codec {
            Codec::Lossless => decompress(bytes, pixels)?,
            Codec::Raw => pixels.extend_from_slice(bytes),
            Codec::Jpeg { .. } => {
                let start = pixels.len();
                pixels.resize(end, 0);
                let size = [self.camera.height, self.camera.width];
                jpeg::decode(bytes, size, &mut pixels[start..])?;
            }
        }
        if pixels.len() == end {
            Ok(())
        } else {
            Err("it has another size".into())
        }
    }

    /// The open file of a shard.
    fn file(&self, shard: u64) -> Result<CountedFile> {
        let slot = &self.files[(shard % self.files.len() as u64) as usize];
        if let Some((open, file)) = slot.read().unwrap_or_else(PoisonError::into_inner).as_ref()
            && *open == shard
        {
            return Ok(file.clone());
        }
        let path = self.root.join(shard_name(&self.camera.name, shard));
        let file = CountedFile::open_with(&path, Arc::clone(&self.count))?;
        *slot.write().unwrap_or_else(PoisonError::into_inner) = Some((shard, file.clone()));
        Ok(file)
    }

    /// The places of the frames of a shard.
    fn index(&self, shard: u64, file: &CountedFile) -> Result<&[Place]> {
        let known = &self.indexes[shard as usize];
        if let Some(places) = known.get() {
            return Ok(places);
        }
        let fault = |detail: &str| Error::corrupt(file.path(), format!("its index: {detail}"));
        let mut bytes = vec![0; self.capacity as usize * 16 + CHECKSUM];
        let start = file.size().checked_sub(bytes.len() as u64);
        let start = start.ok_or_else(|| fault("it is cut short"))?;
        file.fill_at(start, &mut bytes)
            .map_err(|e| Error::io("read", file.path(), e))?;
        let (numbers, _) = checked(&bytes).map_err(|e| fault(&e))?.as_chunks();
        let mut numbers = numbers.iter().map(|b| u64::from_le_bytes(*b));
        let places = std::iter::from_fn(|| Some((numbers.next()?, numbers.next()?))).collect();
        Ok(known.get_or_init(|| places))
    }

    /// Reads and bytes so far.
    pub(crate) fn reads(&self) -> (u64, u64) {
        self.count.so_far()
    }
}

/// Compares `zarr.json` with what writing would have put there.
fn check_metadata(
    root: &Path,
    camera: &Camera,
    codec: Codec,
    frames: u64,
    count: &Arc<Count>,
) -> Result<()> {
    let path = root.join(metadata_name(&camera.name));
    let file = CountedFile::open_with(&path, Arc::clone(count))?;
    let mut bytes = vec![0; file.size() as usize];
    file.fill_at(0, &mut bytes)
        .map_err(|e| Error::io("read", &path, e))?;
    let found: Value = parse_json(&path, &bytes)?;
    let expected = metadata(camera, codec, frames)?;
    for pointer in READ_BY {
        let (found, expected) = (found.pointer(pointer), expected.pointer(pointer));
        if found != expected {
            let text = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            return Err(Error::corrupt(
                &path,
                format!(
                    "`{pointer}` is {}, by `dataset.json` it is {}",
                    text(found),
                    text(expected)
                ),
            ));
        }
    }
    Ok(())
}

fn corrupt(shard: &Path, frame: u64, detail: &str) -> Error {
    Error::corrupt(shard, format!("frame {frame}: {detail}"))
}

/// The bytes in front of their checksum.
fn checked(bytes: &[u8]) -> Result<&[u8], String> {
    let (data, sum) = bytes
        .split_last_chunk::<CHECKSUM>()
        .ok_or("it is cut short")?;
    if crc32c::crc32c(data) == u32::from_le_bytes(*sum) {
        Ok(data)
    } else {
        Err("the checksum is wrong".into())
    }
}

thread_local! {
    /// Making a compressor costs as much as compressing a few kilobytes.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { RefCell::new(None) };
    /// The encoded frame in hand.
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Making a decompressor costs three times as much as decompressing a small frame.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// The bytes that the codecs of [`Codec::Lossless`] make, without a compressor of their own for every frame: a
/// Zstandard frame, then its checksum.
fn compress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = if let Some(compressor) = slot {
            compressor
        } else {
            let made = zstd::bulk::Compressor::new(ZSTD_LEVEL);
            slot.insert(made.map_err(|e| e.to_string())?)
        };
        ENCODED.with_borrow_mut(|buffer| {
            let room = zstd::zstd_safe::compress_bound(bytes.len());
            if buffer.len() < room {
                buffer.resize(room, 0);
            }
            let length = compressor
                .compress_to_buffer(bytes, &mut buffer[..])
                .map_err(|e| e.to_string())?;
            let mut chunk = Vec::with_capacity(length + CHECKSUM);
            chunk.extend_from_slice(&buffer[..length]);
            chunk.extend_from_slice(&crc32c::crc32c(&buffer[..length]).to_le_bytes());
            Ok(chunk)
        })
    })
}

/// Appends a decompressed frame to `pixels`; more than there is room for is an error, not an allocation.
fn decompress(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), String> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?),
        };
        let mut rest = Cursor::new(pixels);
        rest.set_position(rest.get_ref().len() as u64);
        let done = decompressor.decompress_to_buffer(bytes, &mut rest);
        done.map(drop).map_err(|e| e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_compressor_makes_the_bytes_of_the_codecs_that_the_metadata_names() {
        let options = CodecOptions::default().with_concurrent_target(1);
        for size in [0, 1, 1000, 150_528, 7] {
            let frame: Vec<u8> = (0..size)
                .map(|at: usize| (at * at / 97 % 251) as u8)
                .collect();
            let chain = codecs(Codec::Lossless);
            let expected = chain
                .iter()
                .try_fold(Cow::Borrowed(frame.as_slice()), |bytes, codec| {
                    codec.encode(bytes, &options)
                });
            let found = encode(Cow::Borrowed(&frame), Codec::Lossless).unwrap();
            assert_eq!(found, expected.unwrap().into_owned(), "{size} bytes");
        }
    }
}
