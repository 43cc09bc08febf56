//! Frames: one Zarr v3 array per camera, `[frames, height, width, 3]`, sharded, one inner chunk per frame.
//!
//! Frames are encoded one by one as their episode arrives; a shard is those bytes in order, followed by
//! the index that the Zarr sharding specification asks for. Every inner chunk ends in a CRC-32C, so a
//! damaged frame is noticed before it is decoded.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zarrs::array::codec::{Crc32cCodec, ZstdCodec};
use zarrs::array::{
    Array, ArrayBuilder, ArrayShardedExt, ArrayShardedReadableExt, ArrayShardedReadableExtCache,
    BytesRepresentation, BytesToBytesCodecTraits, CodecOptions, data_type,
};
use zarrs::filesystem::{FilesystemStore, FilesystemStoreOptions};
use zarrs::storage::storage_adapter::performance_metrics::PerformanceMetricsStorageAdapter;

use super::disk::{Disk, Sync};
use crate::episode::{Frame, Pixels};
use crate::schema::{Camera, Codec, FileEntry, PixelType, to_json};
use crate::{Error, Result};

/// A shard holds at most this many frames.
const SHARD_FRAMES: u64 = 1024;
/// A shard holds at most about this many bytes before compression.
const SHARD_BYTES: u64 = 64 << 20;
/// Zstandard level of the lossless codec.
const ZSTD_LEVEL: i32 = 3;
/// Files kept open per camera.
const OPEN_FILES: usize = 128;
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

/// Codecs after the conversion to little-endian bytes, for one frame.
fn codecs(codec: Codec) -> Vec<Arc<dyn BytesToBytesCodecTraits>> {
    let crc: Arc<dyn BytesToBytesCodecTraits> = Arc::new(Crc32cCodec::new());
    match codec {
        Codec::Lossless => vec![Arc::new(ZstdCodec::new(ZSTD_LEVEL, false)), crc],
        Codec::Raw => vec![crc],
    }
}

fn encode(bytes: Cow<'_, [u8]>, codec: Codec) -> Result<Vec<u8>> {
    let options = CodecOptions::default().with_concurrent_target(1);
    let chain = codecs(codec);
    let encoded = chain
        .iter()
        .try_fold(bytes, |bytes, codec| codec.encode(bytes, &options));
    encoded
        .map(Cow::into_owned)
        .map_err(|e| Error::invalid("codec", codec, e))
}

/// Encodes a frame, as an inner chunk.
pub(crate) fn encode_frame(frame: Frame<'_>, codec: Codec) -> Result<Vec<u8>> {
    let bytes = match frame {
        Frame::U8(values) => Cow::Borrowed(values),
        Frame::F32(values) => Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    encode(bytes, codec)
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
    let metadata = builder
        .build_metadata()
        .map_err(|e| Error::invalid("camera", &camera.name, e))?;
    disk.write(
        &root.join(metadata_name(&camera.name)),
        &to_json("zarr.json", &metadata)?,
        Sync::Yes,
    )
}

type Store = PerformanceMetricsStorageAdapter<FilesystemStore>;

/// The frames of one camera.
pub(crate) struct FrameStore {
    camera: Camera,
    path: PathBuf,
    root: PathBuf,
    array: Array<Store>,
    store: Arc<Store>,
    shards: ArrayShardedReadableExtCache,
    codec: Codec,
    options: CodecOptions,
}

impl std::fmt::Debug for FrameStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameStore")
            .field("camera", &self.camera)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FrameStore {
    /// Opens the array of a camera and checks that it holds `frames` frames in existing shards.
    pub(crate) fn open(root: &Path, camera: &Camera, codec: Codec, frames: u64) -> Result<Self> {
        let path = root.join(array_name(&camera.name));
        let metadata = root.join(metadata_name(&camera.name));
        let corrupt = |e: &dyn Display| Error::corrupt(&metadata, e);
        fs::metadata(&metadata).map_err(|e| Error::io("read", &metadata, e))?;
        let mut options = FilesystemStoreOptions::default();
        options.file_handle_cache_size(OPEN_FILES);
        let store = FilesystemStore::new_with_options(&path, options).map_err(|e| corrupt(&e))?;
        let store = Arc::new(Store::new(Arc::new(store)));
        let array = Array::open(Arc::clone(&store), "/").map_err(|e| corrupt(&e))?;
        let expected = [frames, camera.height as u64, camera.width as u64, 3];
        if array.shape() != expected || !array.is_exclusively_sharded() {
            return Err(corrupt(&format!(
                "the array is {:?}, `dataset.json` says {expected:?}",
                array.shape()
            )));
        }
        for shard in 0..frames.div_ceil(shard_frames(camera)) {
            let shard = root.join(shard_name(&camera.name, shard));
            fs::metadata(&shard).map_err(|e| Error::io("read", &shard, e))?;
        }
        Ok(Self {
            camera: camera.clone(),
            root: root.to_path_buf(),
            shards: ArrayShardedReadableExtCache::new(&array),
            codec,
            options: CodecOptions::default().with_concurrent_target(1),
            path,
            array,
            store,
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
            let decoded = self
                .read_one(frame)
                .map_err(|detail| self.corrupt(frame, &detail))?;
            bytes.extend_from_slice(&decoded);
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

    /// One decoded frame. The codecs are applied here and not by the array, whose partial decoder
    /// takes the checksum off without looking at it, and which makes a decompressor for every frame.
    fn read_one(&self, frame: u64) -> Result<Vec<u8>, String> {
        let encoded = self
            .array
            .retrieve_encoded_subchunk(&self.shards, &[frame, 0, 0, 0]);
        let encoded = encoded
            .map_err(|e| e.to_string())?
            .ok_or("it is not in its shard")?;
        let bytes = Crc32cCodec::new()
            .decode(
                Cow::Owned(encoded),
                &BytesRepresentation::UnboundedSize,
                &self.options,
            )
            .map_err(|e| e.to_string())?;
        let size = self.camera.frame_bytes();
        let bytes = match self.codec {
            Codec::Lossless => decompress(&bytes, size)?,
            Codec::Raw => bytes.into_owned(),
        };
        if bytes.len() == size {
            Ok(bytes)
        } else {
            Err("it has another size".into())
        }
    }

    fn corrupt(&self, frame: u64, detail: &str) -> Error {
        let shard = shard_name(&self.camera.name, frame / shard_frames(&self.camera));
        Error::corrupt(&self.root.join(shard), format!("frame {frame}: {detail}"))
    }

    /// Reads and bytes so far.
    pub(crate) fn reads(&self) -> (u64, u64) {
        (self.store.reads() as u64, self.store.bytes_read() as u64)
    }
}

thread_local! {
    /// Making a decompressor costs three times as much as decompressing a small frame.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Decompresses a frame of `size` bytes; anything longer is an error, not an allocation.
fn decompress(bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?),
        };
        decompressor
            .decompress(bytes, size)
            .map_err(|e| e.to_string())
    })
}
