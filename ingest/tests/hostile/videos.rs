//! Videos: boxes, tables and pictures of any size.

use std::ops::ControlFlow;

use jepa_ingest::Error;
use jepa_ingest::container::mapped::FileBytes;
use jepa_ingest::container::video::Video;

use super::{Dice, Scratch};
use crate::support::fixture;

fn video(bytes: Vec<u8>) -> Result<Video, Error> {
    Video::open(FileBytes::inside("x.mp4".as_ref(), bytes))
}

/// Decodes at most 50 frames to pixels.
fn decode(bytes: Vec<u8>) -> Result<usize, Error> {
    let video = video(bytes)?;
    let mut rgb = Vec::new();
    video.decode(&mut |k, frame| {
        rgb.clear();
        frame.rgb_into(&mut rgb)?;
        Ok(if k < 50 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })
}

/// Where the four letters of a box stand, behind its length.
fn boxes(bytes: &[u8], name: &str) -> Vec<usize> {
    let windows = bytes.windows(4).enumerate();
    windows
        .filter(|(_, w)| *w == name.as_bytes())
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn boxes_of_any_length_end() {
    let good = std::fs::read(fixture("video/h264_bframes.mp4")).unwrap();
    assert!(decode(good.clone()).expect("frames") > 0);
    for name in [
        "ftyp", "moov", "mvhd", "trak", "tkhd", "mdia", "minf", "stbl", "stsd", "avc1", "avcC",
        "stts", "ctts", "stss", "stsc", "stsz", "stco", "mdat",
    ] {
        for at in boxes(&good, name) {
            for length in [0, 1, 7, 8, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                let mut bad = good.clone();
                bad[at - 4..at].copy_from_slice(&u32::to_be_bytes(length));
                let _ = decode(bad);
            }
            // A length of 1 says that 64 bits follow.
            for length in [0, 1 << 31, 1 << 63, u64::MAX] {
                let mut bad = good.clone();
                bad[at - 4..at].copy_from_slice(&1_u32.to_be_bytes());
                bad.splice(at + 4..at + 4, u64::to_be_bytes(length));
                let _ = decode(bad);
            }
        }
    }
}

#[test]
fn tables_announce_more_samples_than_the_file_has() {
    let good = std::fs::read(fixture("video/h264_bframes.mp4")).unwrap();
    for (name, count_at) in [
        ("stts", 8),
        ("ctts", 8),
        ("stss", 8),
        ("stsc", 8),
        ("stsz", 12),
        ("stco", 8),
    ] {
        let found = boxes(&good, name);
        assert!(!found.is_empty(), "{name:?}");
        for at in found {
            for count in [1 << 16, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                let mut bad = good.clone();
                let place = at + count_at;
                bad[place..place + 4].copy_from_slice(&u32::to_be_bytes(count));
                let _ = decode(bad);
            }
        }
    }
    // One sample of all the bytes there are, and every sample of the same size.
    for size in [1, 0x7fff_ffff, u32::MAX] {
        let at = boxes(&good, "stsz")[0];
        let mut bad = good.clone();
        bad[at + 8..at + 12].copy_from_slice(&u32::to_be_bytes(size));
        assert!(decode(bad).is_err(), "{size}");
    }
}

#[test]
fn pictures_larger_than_memory_are_refused() {
    let good = std::fs::read(fixture("video/mpeg4.mp4")).unwrap();
    let at = boxes(&good, "mp4v")
        .into_iter()
        .find(|&at| good[at + 9] == 0 && good[at + 11] == 1);
    let at = at.expect("a description of samples");
    let sizes = at + 4 + 24;
    for (width, height) in [(u16::MAX, u16::MAX), (0, 0), (1, u16::MAX), (u16::MAX, 1)] {
        let mut bad = good.clone();
        bad[sizes..sizes + 2].copy_from_slice(&width.to_be_bytes());
        bad[sizes + 2..sizes + 4].copy_from_slice(&height.to_be_bytes());
        assert_ne!(bad, good);
        let _ = decode(bad);
    }
    // A raw picture takes its size from the box alone.
    let mut bad = good.clone();
    bad[at..at + 4].copy_from_slice(b"raw ");
    let description = boxes(&good, "esds")[0];
    bad[description..description + 4].copy_from_slice(b"free");
    bad[sizes..sizes + 4].fill(0xff);
    let refused = video(bad).map(|video| video.info().clone());
    assert!(matches!(refused, Err(Error::Range { .. })), "{refused:?}");
}

#[test]
fn no_damage_of_a_video_does_more_than_an_error() {
    let mut dice = Dice(7);
    for name in ["h264_bframes.mp4", "mpeg4.mp4", "hevc.mp4", "av1.mp4"] {
        let good = std::fs::read(fixture(&format!("video/{name}"))).unwrap();
        let (mut whole, mut errors) = (0, 0);
        for _ in 0..150 {
            match decode(dice.damage(&good)) {
                Ok(_) => whole += 1,
                Err(_) => errors += 1,
            }
        }
        assert!(
            whole > 0 && errors > 0,
            "{name}: {whole} whole, {errors} errors"
        );
    }
    let scratch = Scratch::new("x.mp4");
    let good = std::fs::read(fixture("video/mpeg4.mp4")).unwrap();
    for end in (0..good.len()).step_by(97) {
        let opened = FileBytes::open(scratch.write(&good[..end])).and_then(Video::open);
        let _ = opened.map(|video| video.decode(&mut |_, _| Ok(ControlFlow::Continue(()))));
    }
    scratch.holds_nothing_else();
}
