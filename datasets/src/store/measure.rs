//! What frames would take on disk, without writing them.

use super::zarr;
use crate::{Codec, Frame, FrameSink, Result};

/// Encodes frames, counts their bytes and throws them away.
#[derive(Debug)]
pub struct SizeMeter {
    codec: Codec,
    frames: u64,
    bytes: u64,
}

impl SizeMeter {
    /// A meter for frames stored that way.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            frames: 0,
            bytes: 0,
        }
    }

    /// Frames seen, over all cameras.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes of the frames once encoded.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl FrameSink for SizeMeter {
    fn push(&mut self, _camera: &str, size: [usize; 2], frame: Frame<'_>) -> Result<()> {
        let encoded = zarr::encode_frame(frame, size, self.codec)?;
        self.frames += 1;
        self.bytes += encoded.chunk.len() as u64;
        Ok(())
    }

    /// A frame or two at the end of a recording are of no weight in an estimate.
    fn keep_first(&mut self, _count: usize) {}
}
