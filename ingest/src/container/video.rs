//! Video files, decoded by `FFmpeg` from their first frame to their last (datasets.md section 1.7).
//!
//! Frames are counted in presentation order; times in the file never decide which frame is which. A file
//! that announces more frames than it yields is cut short, whatever its header says. The demuxer reads
//! from memory only and knows video containers only: a playlist under the name of a video cannot make
//! it open anything else.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Once;

use ffmpeg_next as ffmpeg;

use ffmpeg::codec::context::Context as Codec;
use ffmpeg::codec::decoder::Check;
use ffmpeg::codec::threading;
use ffmpeg::format::Pixel;
use ffmpeg::format::context::{Input, StreamIo};
use ffmpeg::media::Type;
use ffmpeg::software::scaling::{Context as Scaler, Flags};
use ffmpeg::util::frame::Video as Picture;
use ffmpeg::{Dictionary, Error as Fault, Packet};

use super::mapped::FileBytes;
use crate::{Error, Result};

/// Containers a data set may use; anything else is not opened.
const CONTAINERS: &str =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,ogg,h264,hevc,obu,ivf";

/// Frames with more pixels are refused before any memory is asked for.
const MOST_PIXELS: u64 = 64 << 20;

/// What a file says of its video stream.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// Frames that the file's index lists, in as far as it has one.
    pub announced: Option<u64>,
    /// Pixels, top to bottom.
    pub height: usize,
    /// Pixels, left to right.
    pub width: usize,
    /// Average frames per second; nothing where the header says 0 or nonsense.
    pub fps: Option<f64>,
    /// Name of the codec, e.g. `h264`.
    pub codec: String,
}

/// One decoded frame.
pub struct Frame<'a> {
    path: &'a Path,
    picture: &'a Picture,
    scaler: &'a mut Option<Scaler>,
}

/// A video, opened but not decoded.
#[derive(Debug, Clone)]
pub struct Video {
    bytes: FileBytes,
    info: VideoInfo,
}

impl Video {
    /// Opens a video and reads its header.
    ///
    /// # Errors
    /// What the bytes are instead, or that they hold no video stream.
    pub fn open(bytes: FileBytes) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::Empty {
                path: bytes.path().to_path_buf(),
            });
        }
        let input = demux(&bytes)?;
        let stream = input.streams().best(Type::Video);
        let stream = stream.ok_or_else(|| Error::NoVideo {
            path: bytes.path().to_path_buf(),
        })?;
        let codec = Codec::from_parameters(stream.parameters()).map_err(|e| broken(&bytes, e))?;
        let name = codec.id().name().to_string();
        let decoder = codec.decoder().video().map_err(|e| broken(&bytes, e))?;
        let (height, width) = (decoder.height(), decoder.width());
        check_size(&bytes, height, width)?;
        let rate = f64::from(stream.avg_frame_rate());
        let info = VideoInfo {
            announced: u64::try_from(stream.frames()).ok().filter(|&n| n > 0),
            height: height as usize,
            width: width as usize,
            fps: (rate.is_finite() && rate > 0.0).then_some(rate),
            codec: name,
        };
        Ok(Self { bytes, info })
    }

    /// What the header says.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// Hands every frame to `see`, in order of presentation, until it breaks off; returns the number of
    /// frames seen.
    ///
    /// # Errors
    /// When the stream is damaged or ends before the frames its index lists, or `see` fails.
    pub fn decode(
        &self,
        see: &mut dyn FnMut(usize, &mut Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<usize> {
        self.decode_after(0, see)
    }

    /// As [`Self::decode`], except that frames before `first` may be left out: a file of many episodes
    /// need not be decoded from its start for each of them. Numbers still count from the first frame of
    /// the file, and the number returned includes the frames left out.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_from(
        &self,
        first: usize,
        see: &mut dyn FnMut(usize, &mut Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<usize> {
        let packets = self.packets()?;
        self.decode_after(start_before(&packets, first), see)
    }

    /// Every packet of the stream in the order of the file; none where they do not stand for one frame
    /// each, as far as can be told.
    fn packets(&self) -> Result<Vec<PacketTime>> {
        let mut input = demux(&self.bytes)?;
        let index = input
            .streams()
            .best(Type::Video)
            .map(|stream| stream.index());
        let mut packets = Vec::new();
        while let Ok(packet) = next_packet(&mut input) {
            if Some(packet.stream()) != index {
                continue;
            }
            // Packets before time 0 are those that an edit list hides.
            let Some(time) = packet.pts().filter(|&time| time >= 0) else {
                return Ok(Vec::new());
            };
            packets.push(PacketTime {
                time,
                is_key: packet.is_key(),
            });
        }
        let is_whole = self.info.announced == Some(packets.len() as u64);
        Ok(if is_whole { packets } else { Vec::new() })
    }

    /// Decodes all but the first packets, each of which is one frame.
    fn decode_after(
        &self,
        skipped: usize,
        see: &mut dyn FnMut(usize, &mut Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<usize> {
        let mut input = demux(&self.bytes)?;
        let stream = input.streams().best(Type::Video);
        let (index, parameters) = stream
            .map(|stream| (stream.index(), stream.parameters()))
            .ok_or_else(|| Error::NoVideo {
                path: self.bytes.path().to_path_buf(),
            })?;
        let fault = |e| broken(&self.bytes, e);
        let mut codec = Codec::from_parameters(parameters).map_err(fault)?;
        // Episodes are decoded side by side, each on one thread.
        codec.set_threading(threading::Config::count(1));
        let mut decoder = codec.decoder();
        // Errors end the episode: pixels that the decoder made up are not data.
        decoder.check(Check::EXPLODE | Check::CRC | Check::BITSTREAM);
        let mut decoder = decoder.video().map_err(fault)?;
        let mut seen = Seen {
            bytes: &self.bytes,
            info: &self.info,
            frames: skipped,
            picture: Picture::empty(),
            scaler: None,
            see,
        };
        let mut to_skip = skipped;
        loop {
            let packet = match next_packet(&mut input) {
                Ok(packet) => packet,
                Err(Fault::Eof) => break,
                Err(error) => return Err(fault(error)),
            };
            if packet.stream() != index {
                continue;
            }
            if to_skip > 0 {
                to_skip -= 1;
                continue;
            }
            if packet.is_corrupt() {
                return Err(self.cut_short(seen.frames));
            }
            decoder.send_packet(&packet).map_err(fault)?;
            if seen.drain(&mut decoder)?.is_break() {
                return Ok(seen.frames);
            }
        }
        decoder.send_eof().map_err(fault)?;
        if seen.drain(&mut decoder)?.is_break() {
            return Ok(seen.frames);
        }
        let frames = seen.frames;
        match self.info.announced {
            Some(announced) if (frames as u64) < announced => Err(self.cut_short(frames)),
            _ if frames == 0 => Err(self.cut_short(0)),
            _ => Ok(frames),
        }
    }

    fn cut_short(&self, frames: usize) -> Error {
        let announced = self.info.announced;
        let detail = announced.map_or_else(
            || format!("it ends after {frames} frames"),
            |n| format!("it lists {n} frames and {frames} can be decoded"),
        );
        Error::truncated(self.bytes.path(), detail)
    }
}

/// When the frame of a packet is shown, and whether decoding can begin with it.
#[derive(Debug, Clone, Copy)]
struct PacketTime {
    time: i64,
    is_key: bool,
}

/// The last packet at or before `first` with which decoding can begin so that its frame is the one of the
/// packet's own number: a key packet that no earlier one is shown after and no later one before.
fn start_before(packets: &[PacketTime], first: usize) -> usize {
    let mut earliest_after = vec![i64::MAX; packets.len()];
    let mut earliest = i64::MAX;
    for (k, packet) in packets.iter().enumerate().rev() {
        earliest_after[k] = earliest;
        earliest = earliest.min(packet.time);
    }
    let mut latest_before = i64::MIN;
    let mut start = 0;
    for (k, packet) in packets.iter().enumerate().take(first.saturating_add(1)) {
        let is_clean = latest_before < packet.time && packet.time < earliest_after[k];
        if packet.is_key && is_clean {
            start = k;
        }
        latest_before = latest_before.max(packet.time);
    }
    start
}

/// Where the frames of one decoding go.
struct Seen<'a> {
    bytes: &'a FileBytes,
    info: &'a VideoInfo,
    frames: usize,
    picture: Picture,
    scaler: Option<Scaler>,
    see: &'a mut dyn FnMut(usize, &mut Frame<'_>) -> Result<ControlFlow<()>>,
}

impl Seen<'_> {
    /// Takes every frame that the decoder has ready.
    fn drain(&mut self, decoder: &mut ffmpeg::decoder::Video) -> Result<ControlFlow<()>> {
        loop {
            match decoder.receive_frame(&mut self.picture) {
                Ok(()) => {}
                Err(Fault::Eof) => return Ok(ControlFlow::Continue(())),
                Err(Fault::Other { errno }) if errno == ffmpeg::util::error::EAGAIN => {
                    return Ok(ControlFlow::Continue(()));
                }
                Err(error) => return Err(broken(self.bytes, error)),
            }
            if self.picture.is_corrupt() || self.picture.has_decode_errors() {
                return Err(Error::Decode {
                    path: self.bytes.path().to_path_buf(),
                    detail: format!("frame {} is damaged", self.frames),
                });
            }
            let (height, width) = (
                self.picture.height() as usize,
                self.picture.width() as usize,
            );
            if (height, width) != (self.info.height, self.info.width) {
                return Err(Error::count(
                    self.bytes.path(),
                    format!(
                        "frame {} is {height}x{width}, the header says {}x{}",
                        self.frames, self.info.height, self.info.width
                    ),
                ));
            }
            let mut frame = Frame {
                path: self.bytes.path(),
                picture: &self.picture,
                scaler: &mut self.scaler,
            };
            let flow = (self.see)(self.frames, &mut frame)?;
            self.frames += 1;
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }
}

impl Frame<'_> {
    /// Appends the frame as RGB, `[height, width, 3]`, as swscale converts it by default.
    ///
    /// # Errors
    /// When `FFmpeg` cannot convert its pixel format.
    pub fn rgb_into(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let (height, width) = (self.picture.height(), self.picture.width());
        let convert = |e: Fault| Error::Decode {
            path: self.path.to_path_buf(),
            detail: format!("no conversion from {:?} to RGB: {e}", self.picture.format()),
        };
        if self.scaler.is_none() {
            let (from, to) = (self.picture.format(), Pixel::RGB24);
            let scaler = Scaler::get(from, width, height, to, width, height, Flags::BILINEAR);
            *self.scaler = Some(scaler.map_err(convert)?);
        }
        let mut rgb = Picture::empty();
        if let Some(scaler) = self.scaler.as_mut() {
            scaler.run(self.picture, &mut rgb).map_err(convert)?;
        }
        let (row, stride) = (width as usize * 3, rgb.stride(0));
        let rows = rgb.data(0).chunks(stride).take(height as usize);
        rows.for_each(|line| out.extend_from_slice(&line[..row]));
        Ok(())
    }

    /// The planes as decoded, without their padding, one after the other.
    pub fn planes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for plane in 0..self.picture.planes() {
            let (width, height) = (
                self.picture.plane_width(plane) as usize,
                self.picture.plane_height(plane) as usize,
            );
            let lines = self.picture.data(plane).chunks(self.picture.stride(plane));
            lines
                .take(height)
                .for_each(|line| out.extend_from_slice(&line[..width]));
        }
        out
    }
}

/// Reads a packet. Each is a new one: reading into a packet that was read before loses its memory.
fn next_packet(input: &mut Input) -> Result<Packet, Fault> {
    let mut packet = Packet::empty();
    packet.read(input)?;
    Ok(packet)
}

fn check_size(bytes: &FileBytes, height: u32, width: u32) -> Result<()> {
    let pixels = u64::from(height) * u64::from(width);
    if (1..=MOST_PIXELS).contains(&pixels) {
        return Ok(());
    }
    Err(Error::Range {
        path: bytes.path().to_path_buf(),
        detail: format!("frames of {height}x{width} pixels"),
    })
}

/// Every fault is an error of this crate; `FFmpeg`'s own words would repeat it on stderr.
pub(super) fn quieten() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| ffmpeg::util::log::set_level(ffmpeg::util::log::Level::Quiet));
}

fn demux(bytes: &FileBytes) -> Result<Input> {
    quieten();
    let reader = StreamIo::from_read_seek(Cursor::new(bytes.clone()));
    let mut options = Dictionary::new();
    options.set("format_whitelist", CONTAINERS);
    options.set("protocol_whitelist", "");
    let opened =
        reader.and_then(|reader| ffmpeg::format::input_from_stream(reader, None, Some(options)));
    opened.map_err(|e| bytes.unless_known(broken(bytes, e)))
}

fn broken(bytes: &FileBytes, error: Fault) -> Error {
    Error::Decode {
        path: bytes.path().to_path_buf(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(times: &[(i64, bool)]) -> Vec<PacketTime> {
        let packet = |&(time, is_key)| PacketTime { time, is_key };
        times.iter().map(packet).collect()
    }

    #[test]
    fn decoding_begins_only_where_packet_and_frame_have_one_number() {
        // Two closed groups with frames out of order: 0 2 1 | 3 5 4.
        let closed = packets(&[
            (0, true),
            (2, false),
            (1, false),
            (3, true),
            (5, false),
            (4, false),
        ]);
        let starts: Vec<usize> = (0..8).map(|first| start_before(&closed, first)).collect();
        assert_eq!(starts, [0, 0, 0, 3, 3, 3, 3, 3]);
        // An open group: a frame before the second key frame follows it in the file.
        let open = packets(&[(0, true), (1, false), (4, true), (2, false), (3, false)]);
        assert_eq!(start_before(&open, 4), 0);
        assert_eq!(start_before(&[], 4), 0);
    }

    /// Packets are `FFmpeg`'s memory, which no allocator of ours counts: the process itself has to stay small.
    #[cfg(target_os = "linux")]
    #[test]
    fn packets_that_were_read_are_given_back() {
        let resident = || -> usize {
            let text = std::fs::read_to_string("/proc/self/statm").expect("the memory in use");
            let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
            pages.map_or(0, |pages: usize| pages * 4096)
        };
        let path =
            "../tests/fixtures/lerobot_v3/videos/observation.images.top/chunk-000/file-000.mp4";
        let bytes = FileBytes::open(std::path::Path::new(path)).expect("a video");
        let size = bytes.len();
        let video = Video::open(bytes).expect("a video");
        let rounds = (400 << 20) / size;
        let before = resident();
        for _ in 0..rounds {
            assert!(!video.packets().expect("packets").is_empty());
        }
        let grown = resident().saturating_sub(before);
        assert!(
            grown < 200 << 20,
            "{grown} bytes more after {rounds} rounds"
        );
    }

    /// The fixture has several key frames; every frame must be the same wherever decoding begins.
    #[test]
    fn frames_do_not_depend_on_where_decoding_begins() {
        let path =
            "../tests/fixtures/lerobot_v3/videos/observation.images.top/chunk-000/file-000.mp4";
        let bytes = FileBytes::open(std::path::Path::new(path)).expect("a video");
        let video = Video::open(bytes).expect("a video");
        let mut whole = Vec::new();
        let count = video.decode(&mut |_, frame| {
            whole.push(frame.planes());
            Ok(ControlFlow::Continue(()))
        });
        assert_eq!(count.expect("frames"), whole.len());
        let packets = video.packets().expect("packets");
        assert!((1..whole.len()).any(|first| start_before(&packets, first) > 0));
        for first in 0..whole.len() {
            let mut next = start_before(&packets, first);
            let count = video.decode_from(first, &mut |k, frame| {
                assert_eq!(k, next);
                assert_eq!(frame.planes(), whole[k], "frame {k} from {first}");
                next += 1;
                Ok(ControlFlow::Continue(()))
            });
            assert_eq!(count.expect("frames"), whole.len());
        }
    }
}
