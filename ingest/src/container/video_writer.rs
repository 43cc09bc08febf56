//! Videos to look at, written by `FFmpeg` (feature `video`): H.264 where it has libx264, else MPEG-4 part 2.
//!
//! Compression loses what the eye does not miss; datasets are never stored this way.

use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;

use ffmpeg::codec::{Flags as CodecFlags, Id, context::Context};
use ffmpeg::format::Pixel;
use ffmpeg::format::context::Output;
use ffmpeg::frame::Video as Picture;
use ffmpeg::software::scaling::{Context as Scaler, Flags};
use ffmpeg::{Dictionary, Error as Fault, Packet, Rational};

use super::video::quieten;
use crate::{Error, Result};

/// Quality of H.264: visually without loss.
const CRF: &str = "17";
/// Frame rates are kept to a thousandth.
const RATE_STEPS: f64 = 1000.0;

/// An MP4 file that is being written. It is whole only after [`finish`](Self::finish).
pub struct Mp4Writer {
    path: PathBuf,
    output: Output,
    encoder: ffmpeg::encoder::Video,
    scaler: Scaler,
    /// Height and width of the frames that come; those of the video are even.
    size: [usize; 2],
    time_base: Rational,
    frames: i64,
}

impl Mp4Writer {
    /// Starts a file of frames of that height and width, shown at `fps`.
    ///
    /// # Errors
    /// When the file cannot be made, or when `FFmpeg` has no encoder for such frames.
    pub fn create(path: &Path, size: [usize; 2], fps: f64) -> Result<Self> {
        let fault = |e| failed(path, e);
        let rate = (fps * RATE_STEPS).round();
        let sides = size.map(|side| u32::try_from(side + side % 2).unwrap_or(u32::MAX));
        if !(1.0..=1e6).contains(&rate) || sides.iter().any(|side| !(2..=16_384).contains(side)) {
            let [height, width] = size;
            return Err(Error::Encode {
                path: path.to_path_buf(),
                detail: format!("{height}x{width} pixels at {fps} frames per second"),
            });
        }
        quieten();
        let time_base = Rational(RATE_STEPS as i32, rate as i32);
        let mut output = ffmpeg::format::output_as(path, "mp4").map_err(fault)?;
        let x264 = ffmpeg::encoder::find_by_name("libx264");
        let mut options = Dictionary::new();
        if x264.is_some() {
            options.set("crf", CRF);
        } else {
            options.set("qscale", "2");
        }
        let codec = x264.or_else(|| ffmpeg::encoder::find(Id::MPEG4));
        let codec = codec.ok_or_else(|| fault(Fault::EncoderNotFound))?;
        let context = Context::new_with_codec(codec).encoder().video();
        let mut encoder = context.map_err(fault)?;
        encoder.set_height(sides[0]);
        encoder.set_width(sides[1]);
        encoder.set_format(Pixel::YUV420P);
        encoder.set_time_base(time_base);
        encoder.set_frame_rate(Some(time_base.invert()));
        encoder.set_flags(CodecFlags::GLOBAL_HEADER);
        let encoder = encoder.open_with(options).map_err(fault)?;
        let mut stream = output.add_stream(codec).map_err(fault)?;
        stream.set_parameters(&encoder);
        stream.set_time_base(time_base);
        output.write_header().map_err(fault)?;
        let (from, to, [h, w]) = (Pixel::RGB24, Pixel::YUV420P, sides);
        let scaler = Scaler::get(from, w, h, to, w, h, Flags::BICUBIC).map_err(fault)?;
        Ok(Self {
            path: path.to_path_buf(),
            output,
            encoder,
            scaler,
            size,
            time_base,
            frames: 0,
        })
    }

    /// Appends a frame, `[height, width, 3]` RGB. An odd side is made even by repeating the last row or column.
    ///
    /// # Errors
    /// For a frame of another size, and when the file cannot be written.
    pub fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let [height, width] = self.size;
        if rgb.len() != height * width * 3 {
            let detail = format!("a frame of {} values, not {height}x{width}x3", rgb.len());
            let path = self.path.clone();
            return Err(Error::Encode { path, detail });
        }
        let (encoder, path) = (&self.encoder, &self.path);
        let mut picture = Picture::new(Pixel::RGB24, encoder.width(), encoder.height());
        let stride = picture.stride(0);
        let lines = picture.data_mut(0).chunks_mut(stride);
        for (k, line) in lines.take(height + height % 2).enumerate() {
            let row = k.min(height - 1) * width * 3;
            line[..width * 3].copy_from_slice(&rgb[row..row + width * 3]);
            if width % 2 == 1 {
                line.copy_within((width - 1) * 3..width * 3, width * 3);
            }
        }
        let mut planes = Picture::empty();
        let converted = self.scaler.run(&picture, &mut planes);
        converted.map_err(|e| failed(path, e))?;
        planes.set_pts(Some(self.frames));
        self.frames += 1;
        let sent = self.encoder.send_frame(&planes);
        sent.map_err(|e| failed(&self.path, e))?;
        self.write_packets()
    }

    /// Writes what is left and the index, without which no program plays the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        let ended = self.encoder.send_eof();
        ended.map_err(|e| failed(&self.path, e))?;
        self.write_packets()?;
        let closed = self.output.write_trailer();
        closed.map_err(|e| failed(&self.path, e))
    }

    fn write_packets(&mut self) -> Result<()> {
        loop {
            let mut packet = Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(Fault::Eof) => return Ok(()),
                Err(Fault::Other { errno }) if errno == ffmpeg::util::error::EAGAIN => {
                    return Ok(());
                }
                Err(error) => return Err(failed(&self.path, error)),
            }
            packet.set_stream(0);
            packet.set_duration(1);
            let to = self.output.stream(0).map(|stream| stream.time_base());
            packet.rescale_ts(self.time_base, to.unwrap_or(self.time_base));
            let written = packet.write_interleaved(&mut self.output);
            written.map_err(|e| failed(&self.path, e))?;
        }
    }
}

fn failed(path: &Path, error: Fault) -> Error {
    Error::Encode {
        path: path.to_path_buf(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::container::mapped::FileBytes;
    use crate::container::video::Video;

    /// A picture whose colours say which frame it is.
    fn frame([height, width]: [usize; 2], k: usize) -> Vec<u8> {
        let colour = [(40 * k) as u8, 200 - (30 * k) as u8, 90];
        colour.repeat(height * width)
    }

    #[test]
    fn what_is_written_is_decoded_in_order_and_at_its_rate() {
        for size in [[48, 64], [33, 47]] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("clip.mp4");
            let mut writer = Mp4Writer::create(&path, size, 12.5).expect("a file");
            for k in 0..5 {
                writer.push(&frame(size, k)).expect("a frame");
            }
            writer.finish().expect("a whole file");
            let video = Video::open(FileBytes::open(&path).expect("a file")).expect("a video");
            let info = video.info();
            let even = size.map(|side| side + side % 2);
            assert_eq!([info.height, info.width], even);
            assert!(
                (info.fps.expect("a rate") - 12.5).abs() < 1e-6,
                "{:?}",
                info.fps
            );
            let count = video.decode(&mut |k, frame_k| {
                let mut rgb = Vec::new();
                frame_k.rgb_into(&mut rgb)?;
                let expected = frame(even, k);
                let far = rgb.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(far.is_some_and(|far| far < 12), "frame {k}: {far:?}");
                Ok(ControlFlow::Continue(()))
            });
            assert_eq!(count.expect("frames"), 5);
        }
    }

    #[test]
    fn senseless_sizes_rates_and_places_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clip.mp4");
        for (size, fps) in [
            ([0, 8], 10.0),
            ([8, 8], 0.0),
            ([8, 8], f64::NAN),
            ([8, 99_999], 1.0),
        ] {
            let refused = Mp4Writer::create(&path, size, fps).err();
            assert!(
                matches!(refused, Some(Error::Encode { .. })),
                "{size:?} {fps}"
            );
        }
        let nowhere = folder.path().join("no/such/clip.mp4");
        assert!(Mp4Writer::create(&nowhere, [8, 8], 10.0).is_err());
        let mut writer = Mp4Writer::create(&path, [8, 8], 10.0).expect("a file");
        assert!(writer.push(&[0; 5]).is_err());
    }
}
