//! Which rows a clip of a recording is made of (datasets.md section 9.5).
//!
//! The reference loaders sample four frames per second and take the rate of the recording from its header.
//! DROID's headers give the rate of the cameras, 60 Hz, although there is one frame per 15 Hz control
//! step, so that a reference clip has one frame per second. Both readings are offered.

use std::ops::Range;
use std::path::Path;

use crate::{Error, Result};

/// Frames per second that the reference loaders ask for.
pub const CLIP_FPS: f64 = 4.0;

/// Where the rate of a recording is taken from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FpsMode {
    /// The header of the video, as the reference loaders do; the control rate where it says nothing.
    #[default]
    Reference,
    /// The control rate, at which rows and frames really come.
    ControlHz,
}

/// Whether a clip may start at the last row that leaves enough rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Starts {
    /// Every start that fits.
    #[default]
    Native,
    /// As the reference loaders, which never use the last frame of a recording.
    Reference,
}

/// A clip of `frames` frames, `stride` rows apart. It spans `frames * stride` rows, those after its last
/// frame included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Frames of the clip.
    pub frames: usize,
    /// Rows from one frame to the next, at least 1.
    pub stride: usize,
}

impl FpsMode {
    /// Rows from one frame of a clip to the next: `ceil(rate / clip_fps)`, at least 1.
    ///
    /// `container_fps` is what the header of the video says, if anything.
    pub fn stride(self, container_fps: Option<f64>, control_hz: f64, clip_fps: f64) -> usize {
        let stated = container_fps.filter(|fps| fps.is_finite() && *fps > 0.0);
        let rate = match self {
            Self::Reference => stated.unwrap_or(control_hz),
            Self::ControlHz => control_hz,
        };
        ((rate / clip_fps).ceil() as usize).max(1)
    }
}

impl Window {
    /// Rows that the clip spans.
    pub fn span(&self) -> usize {
        self.frames.saturating_mul(self.stride)
    }

    /// Possible first rows in a recording of `rows` rows; empty when it is too short.
    pub fn starts(&self, rows: usize, starts: Starts) -> Range<usize> {
        let room = rows.checked_sub(self.span());
        let count = match starts {
            Starts::Native => room.map_or(0, |room| room + 1),
            Starts::Reference => room.unwrap_or(0),
        };
        0..count
    }

    /// Rows of the frames of the clip that starts at a row.
    pub fn rows(&self, start: usize) -> Vec<usize> {
        (0..self.frames).map(|k| start + k * self.stride).collect()
    }

    /// Checks that a recording of `rows` rows holds at least one clip.
    ///
    /// # Errors
    /// [`Error::TooShort`], naming both lengths.
    pub fn check(&self, path: &Path, rows: usize) -> Result<()> {
        if !self.starts(rows, Starts::Native).is_empty() {
            return Ok(());
        }
        let (frames, stride, span) = (self.frames, self.stride, self.span());
        Err(Error::TooShort {
            path: path.to_path_buf(),
            detail: format!(
                "it has {rows} rows; a clip of {frames} frames, {stride} rows apart, spans {span}"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_follow_the_header_or_the_control_rate() {
        let stride = |mode: FpsMode, fps| mode.stride(fps, 15.0, CLIP_FPS);
        assert_eq!(stride(FpsMode::Reference, Some(60.0)), 15);
        assert_eq!(stride(FpsMode::Reference, Some(59.94)), 15);
        assert_eq!(stride(FpsMode::Reference, Some(15.0)), 4);
        assert_eq!(stride(FpsMode::ControlHz, Some(60.0)), 4);
        // datasets.md section 16, case 8.
        for nonsense in [None, Some(0.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(stride(FpsMode::Reference, nonsense), 4);
        }
        assert_eq!(FpsMode::Reference.stride(None, 30.0, CLIP_FPS), 8);
        assert_eq!(FpsMode::ControlHz.stride(None, 2.0, CLIP_FPS), 1);
    }

    #[test]
    fn a_recording_as_long_as_the_clip_has_one_start_or_none() {
        let window = Window {
            frames: 4,
            stride: 4,
        };
        assert_eq!(window.starts(16, Starts::Native), 0..1);
        assert_eq!(window.starts(16, Starts::Reference), 0..0);
        assert_eq!(window.starts(15, Starts::Native), 0..0);
        assert_eq!(window.starts(18, Starts::Reference), 0..2);
        assert_eq!(window.rows(2), [2, 6, 10, 14]);
        assert!(window.check(Path::new("x"), 16).is_ok());
        let refused = window.check(Path::new("x"), 10).unwrap_err();
        assert_eq!(refused.code(), "too_short");
        assert!(refused.to_string().contains("10 rows"), "{refused}");
    }
}
