//! Frames that show nothing.

use super::*;
use crate::{BlankFrames, blank_frames};

/// Writes two episodes of three frames each.
fn frames(dtype: PixelType, pixels: [Pixels; 2]) -> Vec<BlankFrames> {
    let root = folder();
    let options = WriterOptions {
        manifest: ManifestDraft {
            extra_last_obs: false,
            ..draft(dtype)
        },
        ..options(2)
    };
    let writer = DatasetWriter::open(&root.path().join("set"), options).expect("a writer");
    for (index, pixels) in (0..).zip(pixels) {
        let mut episode = episode(index);
        episode.length = 3;
        for column in episode.columns.values_mut() {
            *column = match column {
                Column::F32 { width, values } => Column::F32 {
                    width: *width,
                    values: values[..3 * *width].to_vec(),
                },
                Column::F64 { width, values } => Column::F64 {
                    width: *width,
                    values: values[..3 * *width].to_vec(),
                },
                Column::I64(values) => Column::I64(values[..3].to_vec()),
            };
        }
        episode.cameras[0].count = 3;
        episode.cameras[0].pixels = pixels;
        writer.accept(episode).expect("an episode");
    }
    let dataset = writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    blank_frames(&dataset).expect("frames")
}

#[test]
fn black_white_and_almost_even_frames_are_found_and_faint_pictures_are_not() {
    const FRAME: usize = SIDE * SIDE * 3;
    let even = |value: u8| vec![value; FRAME];
    // Half of the values one step above the others: a deviation of half a step.
    let noise: Vec<u8> = (0..FRAME).map(|k| 30 + (k % 2) as u8).collect();
    // Half of them two steps above: one step, which is a picture.
    let faint: Vec<u8> = (0..FRAME).map(|k| 30 + 2 * (k % 2) as u8).collect();
    let first = [faint.clone(), even(0), noise].concat();
    let second = [faint.clone(), faint.clone(), faint].concat();
    let expected = BlankFrames {
        episode: 0,
        camera: "top".into(),
        blank: 2,
        frames: 3,
        first: 1,
    };
    let wide = |bytes: &[u8]| Pixels::F32(bytes.iter().map(|&v| f32::from(v)).collect());
    let expected = [expected];
    let found = frames(PixelType::F32, [wide(&first), wide(&second)]);
    assert_eq!(found, expected);
    let found = frames(PixelType::U8, [Pixels::U8(first), Pixels::U8(second)]);
    assert_eq!(found, expected);
}
