//! Frames on their way from a recording to a sink, one at a time.

use std::path::Path;

use jepa_datasets::{Camera, Frame, FrameSink, ManifestDraft};

use super::support::resized_frame;
use crate::{Error, Result};

/// Hands the byte frames of one camera to a sink, resized to the size that the dataset declares.
pub(crate) struct Port<'a> {
    sink: &'a mut dyn FrameSink,
    camera: &'a Camera,
    native: [usize; 2],
    size: [usize; 2],
}

impl<'a> Port<'a> {
    /// Opens a port for frames of `native` height and width that are stored as `wanted`, or as they come.
    ///
    /// # Errors
    /// When that is not the size that the manifest declares; `path` is the file to name then.
    pub(crate) fn open(
        sink: &'a mut dyn FrameSink,
        camera: &'a Camera,
        native: [usize; 2],
        wanted: Option<[usize; 2]>,
        path: &Path,
    ) -> Result<Self> {
        let size = wanted.unwrap_or(native);
        let [height, width] = size;
        let (h, w) = (camera.height, camera.width);
        if size != [h, w] {
            let detail = format!(
                "its frames are {height}x{width}, those of the first episode {h}x{w}; \
                 a common size has to be asked for"
            );
            return Err(Error::count(path, detail));
        }
        Ok(Self {
            sink,
            camera,
            native,
            size,
        })
    }

    /// Takes frames, `[.., height, width, 3]` RGB of the native size.
    pub(crate) fn push(&mut self, rgb: &[u8]) -> Result<()> {
        for frame in rgb.chunks_exact(self.native[0] * self.native[1] * 3) {
            if self.size == self.native {
                self.send(frame)?;
            } else {
                self.send(&resized_frame(frame, self.native, self.size))?;
            }
        }
        Ok(())
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        let frame = Frame::U8(frame);
        Ok(self.sink.push(&self.camera.name, self.size, frame)?)
    }
}

/// The camera that a manifest declares at a position. There is none where no recording could be opened.
pub(crate) fn declared<'a>(
    manifest: &'a ManifestDraft,
    position: usize,
    path: &Path,
    name: &str,
) -> Result<&'a Camera> {
    let camera = manifest.cameras.get(position);
    camera.ok_or_else(|| Error::MissingKey {
        path: path.to_path_buf(),
        key: name.into(),
    })
}
