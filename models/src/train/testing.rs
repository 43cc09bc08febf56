//! A dataset in a folder whose frames and numbers say where they are from.

use std::collections::BTreeMap;
use std::path::Path;

use jepa_datasets::{
    ACTION, Camera, CameraFrames, Codec, Column, Dataset, DatasetWriter, Episode, Field,
    ManifestDraft, PROPRIO, PixelType, Pixels, Source, SplitRule, WriterOptions,
};

/// Sides of the frames.
pub(crate) const SIDE: usize = 8;
/// Rows of an episode.
pub(crate) const ROWS: usize = 20;
/// Episodes; with the rows of each they make numbers up to 239.
pub(crate) const EPISODES: u64 = 12;

/// The number of a row among all.
fn number(episode: u64, row: usize) -> usize {
    episode as usize * ROWS + row
}

/// Rows whose frames have the number of the row in the middle, and whose proprio is episode and row.
fn episode(index: u64) -> Episode {
    let column = |values: fn(u64, usize) -> [f32; 2]| Column::F32 {
        width: 2,
        values: (0..ROWS).flat_map(|row| values(index, row)).collect(),
    };
    let frame = |row: usize| {
        let middle = 3 * (SIDE / 2 * SIDE + SIDE / 2);
        let mut pixels = vec![255; 3 * SIDE * SIDE];
        pixels[middle..middle + 3].fill(number(index, row) as u8);
        pixels
    };
    Episode {
        source_index: index,
        source_path: format!("episode_{index:03}"),
        source_hash: format!("sha256:{index}"),
        task: "none".into(),
        seed: None,
        length: ROWS,
        columns: BTreeMap::from([
            (
                ACTION.into(),
                column(|episode, row| [episode as f32 - 5.5, row as f32 - 9.5]),
            ),
            (
                PROPRIO.into(),
                column(|episode, row| [episode as f32, row as f32]),
            ),
        ]),
        cameras: vec![CameraFrames {
            camera: "top".into(),
            height: SIDE,
            width: SIDE,
            count: ROWS,
            pixels: Pixels::U8((0..ROWS).flat_map(frame).collect()),
        }],
        extras: BTreeMap::new(),
    }
}

/// Writes the dataset.
pub(crate) fn dataset(folder: &Path) -> Dataset {
    let options = WriterOptions {
        manifest: ManifestDraft {
            source: Source {
                name: "wall".into(),
                ..Source::default()
            },
            fields: vec![
                Field::action(2, "pixels", "dx, dy"),
                Field::proprio(2, "none", "episode, row"),
            ],
            cameras: vec![Camera::new("top", SIDE, SIDE, PixelType::U8)],
            fps: 10.0,
            control_hz: None,
            extra_last_obs: false,
            licence: None,
            citation: None,
            notes: Vec::new(),
        },
        codec: Codec::Lossless,
        overwrite: false,
        total_episodes: EPISODES,
        selection: None,
    };
    let writer = DatasetWriter::open(folder, options).unwrap();
    for index in writer.pending() {
        writer.accept(episode(index)).unwrap();
    }
    writer.finish(&SplitRule::JEPA_WMS).unwrap()
}
