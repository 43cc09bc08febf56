//! `golden/video.json`: four codecs, decoded by `FFmpeg` and decord.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jepa_ingest::Error;
use jepa_ingest::container::mapped::FileBytes;
use jepa_ingest::container::video::Video;
use serde::Deserialize;

use crate::support::{fixture, golden, sha256};

#[derive(Deserialize)]
struct Golden {
    files: BTreeMap<String, File>,
}

#[derive(Deserialize)]
struct File {
    codec: String,
    avg_frame_rate: String,
    decoded_frames: usize,
    planes_sha256: Vec<String>,
    rgb_sha256: Vec<String>,
}

fn open(name: &str) -> Result<Video, Error> {
    Video::open(FileBytes::open(&fixture(name))?)
}

#[test]
fn four_codecs_decode_to_the_planes_and_pixels_of_the_references() {
    for (name, expected) in golden::<Golden>("video").files {
        let video = open(&format!("video/{name}")).unwrap();
        let info = video.info();
        assert_eq!(info.codec, expected.codec);
        assert_eq!(
            format!("{}/1", info.fps.expect("a rate")),
            expected.avg_frame_rate
        );
        let (mut planes, mut pixels) = (Vec::new(), Vec::new());
        let frames = video
            .decode(&mut |_, frame| {
                planes.push(sha256(&frame.planes()));
                let mut rgb = Vec::new();
                frame.rgb_into(&mut rgb)?;
                pixels.push(sha256(&rgb));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        assert_eq!(frames, expected.decoded_frames, "{name}");
        assert_eq!(planes, expected.planes_sha256, "{name}");
        assert_eq!(pixels, expected.rgb_sha256, "{name}");
    }
}

/// The marker of a frame: a strip of 8 cells of 6x6 pixels at the top left, most significant bit first.
fn marker(rgb: &[u8], width: usize) -> usize {
    (0..8).fold(0, |number, cell| {
        let at = (3 * width + cell * 6 + 3) * 3;
        2 * number + usize::from(rgb[at] > 127)
    })
}

#[test]
fn frames_come_in_the_order_of_presentation_and_decoding_may_stop() {
    for name in ["h264_bframes.mp4", "hevc.mp4", "av1.mp4", "mpeg4.mp4"] {
        let video = open(&format!("video/{name}")).unwrap();
        let mut numbers = Vec::new();
        let seen = video.decode(&mut |k, frame| {
            let mut rgb = Vec::new();
            frame.rgb_into(&mut rgb)?;
            numbers.push(marker(&rgb, video.info().width));
            Ok(if k == 9 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        });
        assert_eq!(seen.unwrap(), 10, "{name}");
        assert_eq!(numbers, (0..10).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn files_that_are_no_sound_video_are_named_for_what_they_are() {
    let decoded = |name: &str| {
        let video = open(&format!("bad/38_video_files/{name}"))?;
        video.decode(&mut |_, _| Ok(ControlFlow::Continue(())))
    };
    for (name, code) in [
        ("zero_bytes.mp4", "empty_file"),
        ("text.mp4", "html_or_json_instead_of_data"),
        ("audio_only.mp4", "no_video_stream"),
        ("garbage.mp4", "decode_error"),
        ("corrupt_nal.mp4", "decode_error"),
    ] {
        let error = decoded(name).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
    }
}

/// datasets.md section 16, case 8: a header without a rate is no fault of the frames.
#[test]
fn a_rate_of_zero_is_no_rate() {
    let good = std::fs::read(fixture("video/mpeg4.mp4")).unwrap();
    let at = |name: &[u8; 4]| good.windows(4).position(|w| w == name).expect("a box");
    // The only entry of `stts`: so many samples, each so long. The durations of `mvhd`, `tkhd` and `mdhd`, and of
    // the edit list.
    let entry = at(b"stts") + 12;
    let ends = [
        entry + 4,
        at(b"mvhd") + 20,
        at(b"tkhd") + 24,
        at(b"mdhd") + 20,
        at(b"elst") + 12,
    ];
    let mut bad = good.clone();
    for place in ends {
        bad[place..place + 4].fill(0);
    }
    let opened = |bytes: Vec<u8>| Video::open(FileBytes::inside("x.mp4".as_ref(), bytes)).unwrap();
    assert!(opened(good).info().fps.is_some());
    let video = opened(bad);
    assert_eq!(video.info().fps, None);
}

/// A playlist that names another file must not make the demuxer open it.
#[test]
fn a_playlist_in_disguise_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let inner = std::fs::canonicalize(fixture("video/mpeg4.mp4")).unwrap();
    let path = folder.path().join("episode.mp4");
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", inner.display());
    let playlist = format!("#EXTM3U\n#EXTINF:1,\nfile://{}\n", inner.display());
    for text in [concat, playlist] {
        std::fs::write(&path, text).unwrap();
        let opened = FileBytes::open(&path).and_then(Video::open);
        assert!(opened.is_err());
    }
}
