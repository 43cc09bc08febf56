//! `jepa-bench preview`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jepa_datasets::{ACTION, Camera, Column, Dataset};
use serde::Serialize;

use super::Context;
use crate::env::Image;

/// Draw an episode: a contact sheet or a clip, with its actions.
///
/// Under every frame stands its number; the bars to the right of it are the numbers of the action applied
/// there, up for positive, down for negative, scaled to the largest of each in the episode. A frame after
/// the last action has no bars.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench preview data/wall --episode 3 --out episode.png
  jepa-bench preview data/wall --episode 3 --out episode.mp4")]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
    /// Number of the episode in the dataset.
    #[arg(long, value_name = "E")]
    episode: u64,
    /// File to write: `.png` for a contact sheet, `.gif` (of 256 colours per frame) or `.mp4` for a clip.
    #[arg(long, value_name = "X.png|X.gif|X.mp4")]
    out: PathBuf,
    /// Camera; the first one unless given.
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Frames of a contact sheet, evenly spaced from first to last; a clip has all of them.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=400))]
    frames: u64,
}

/// Shortest side of a drawn frame, in pixels: small frames are enlarged by whole factors.
const SMALLEST_SIDE: usize = 96;
/// Longest side of a drawn frame, in pixels: large frames are reduced by whole factors.
const LONGEST_SIDE: usize = 320;
/// Height of the strip under a frame.
const STRIP: usize = 34;
/// Pixels around every cell.
const GAP: usize = 4;
/// Side of a dot of a digit.
const DOT: usize = 2;
/// Dots of a digit, from left to right and from top to bottom.
const DIGIT: (usize, usize) = (3, 5);
/// Longest width of a bar.
const WIDEST_BAR: usize = 10;
const PAPER: [u8; 3] = [225, 225, 225];
const INK: [u8; 3] = [40, 40, 40];
const AXIS: [u8; 3] = [160, 160, 160];
const UP: [u8; 3] = [0, 114, 178];
const DOWN: [u8; 3] = [213, 94, 0];
/// Hundredths of a second between two frames of a clip without a control rate.
const DELAY: f64 = 10.0;

/// What the file name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Png,
    Gif,
    Mp4,
}

impl Kind {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "gif" => Ok(Self::Gif),
            "mp4" if cfg!(feature = "video") => Ok(Self::Mp4),
            "mp4" => bail!(
                "`{}`: this build lacks the feature `video`; write `.gif`",
                path.display()
            ),
            _ => bail!(
                "`{}`: a preview is `.png` (a contact sheet), `.gif` or `.mp4` (a clip), not `.{extension}`",
                path.display()
            ),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    out: &'a Path,
    kind: Kind,
    episode: u64,
    task: &'a str,
    frames: &'a [usize],
    height: usize,
    width: usize,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let kind = Kind::of(&args.out)?;
    let dataset = Dataset::open(&args.dataset)?;
    let meta = dataset.episode(args.episode)?;
    let camera = dataset.manifest().camera(args.camera.as_deref())?;
    let count = meta
        .frames
        .get(&camera.name)
        .map_or(0, |range| range.count as usize);
    let shown = match kind {
        Kind::Png => evenly(count, args.frames as usize),
        Kind::Gif | Kind::Mp4 => (0..count).collect(),
    };
    let actions = Actions::read(&dataset, args.episode)?;
    let drawn: Vec<Image> = shown
        .iter()
        .map(|&frame| cell(&dataset, camera, args.episode, frame, &actions))
        .collect::<anyhow::Result<_>>()?;
    let Some(first) = drawn.first() else {
        bail!(
            "episode {} has no frames of `{}`",
            args.episode,
            camera.name
        );
    };
    let hz = dataset.manifest().draft.control_hz;
    let mut side = [first.height, first.width];
    let written = match kind {
        Kind::Png => {
            let sheet = sheet(&drawn);
            side = [sheet.height, sheet.width];
            write(&args.out, |file| Ok(file.write_all(&sheet.to_png()?)?))
        }
        Kind::Gif => write(&args.out, |file| Ok(file.write_all(&clip(&drawn, hz)?)?)),
        Kind::Mp4 => write(&args.out, |file| film(file.path(), &drawn, hz)),
    };
    written.with_context(|| format!("cannot write `{}`", args.out.display()))?;
    let [height, width] = side;
    let document = Document {
        out: &args.out,
        kind,
        episode: args.episode,
        task: &meta.task,
        frames: &shown,
        height,
        width,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        ctx.print(&format!(
            "{}: {} of {count} frames of episode {}, {height}x{width} pixels",
            args.out.display(),
            shown.len(),
            args.episode
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes under a temporary name and renames.
fn write(
    path: &Path,
    fill: impl FnOnce(&mut tempfile::NamedTempFile) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    fill(&mut temporary)?;
    temporary.persist(path)?;
    Ok(())
}

/// At most `wanted` of `count` positions, evenly spaced, the first and the last among them.
fn evenly(count: usize, wanted: usize) -> Vec<usize> {
    let wanted = wanted.min(count);
    let last = count.saturating_sub(1);
    let mut chosen: Vec<usize> = (0..wanted)
        .map(|k| (k * last + wanted.saturating_sub(1) / 2) / wanted.saturating_sub(1).max(1))
        .collect();
    chosen.dedup();
    chosen
}

/// The actions of an episode, each dimension scaled to -1 to 1.
struct Actions {
    width: usize,
    values: Vec<f64>,
}

impl Actions {
    fn read(dataset: &Dataset, episode: u64) -> anyhow::Result<Self> {
        let length = dataset.episode(episode)?.length as usize;
        let mut rows = dataset.read_rows(episode, 0..length)?;
        Ok(rows.remove(ACTION).map_or_else(
            || Self {
                width: 0,
                values: Vec::new(),
            },
            |column| Self::scaled(&column),
        ))
    }

    fn scaled(column: &Column) -> Self {
        let (width, mut values) = (column.width(), column.to_f64());
        for d in 0..width {
            let of_dimension = || values.iter().skip(d).step_by(width);
            let largest = of_dimension().fold(0.0_f64, |largest, v| largest.max(v.abs()));
            if largest > 0.0 {
                let scale = |v: &mut f64| *v /= largest;
                values.iter_mut().skip(d).step_by(width).for_each(scale);
            }
        }
        Self { width, values }
    }

    /// The action of a row; nothing after the last one.
    fn at(&self, row: usize) -> &[f64] {
        self.values
            .get(row * self.width..(row + 1) * self.width)
            .unwrap_or_default()
    }
}

/// One frame with its strip.
fn cell(
    dataset: &Dataset,
    camera: &Camera,
    episode: u64,
    frame: usize,
    actions: &Actions,
) -> anyhow::Result<Image> {
    let pixels = dataset.read_frames(&camera.name, episode, &[frame])?;
    let native = Image {
        height: camera.height,
        width: camera.width,
        rgb: pixels.into_u8(),
    };
    let picture = scaled(&native);
    let mut cell = Image::filled(picture.height + STRIP, picture.width, PAPER);
    cell.paste(&picture, 0, 0);
    let top = picture.height + (STRIP - DIGIT.1 * DOT) / 2;
    let used = draw_number(&mut cell, frame, top, GAP / 2);
    draw_bars(&mut cell, actions.at(frame), picture.height, used + 2 * GAP);
    Ok(cell)
}

/// Enlarged by repeating pixels, or reduced by taking every k-th one: what is drawn is what is stored.
fn scaled(image: &Image) -> Image {
    let (short, long) = (image.height.min(image.width), image.height.max(image.width));
    let up = SMALLEST_SIDE
        .div_ceil(short.max(1))
        .min(LONGEST_SIDE.div_ceil(long.max(1)));
    let down = long.div_ceil(LONGEST_SIDE).max(1);
    let (height, width) = (
        (image.height * up).div_ceil(down),
        (image.width * up).div_ceil(down),
    );
    let mut out = Image::filled(height, width, PAPER);
    for row in 0..height {
        for column in 0..width {
            put(
                &mut out,
                row,
                column,
                image.pixel(row * down / up, column * down / up),
            );
        }
    }
    out
}

fn put(image: &mut Image, row: usize, column: usize, colour: [u8; 3]) {
    if row < image.height && column < image.width {
        let at = (row * image.width + column) * 3;
        image.rgb[at..at + 3].copy_from_slice(&colour);
    }
}

fn fill(
    image: &mut Image,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    colour: [u8; 3],
) {
    for row in rows {
        for column in columns.clone() {
            put(image, row, column, colour);
        }
    }
}

/// Dots of the digits 0 to 9, three bits per line.
const DIGITS: [[u8; DIGIT.1]; 10] = [
    [0b111, 0b101, 0b101, 0b101, 0b111],
    [0b010, 0b110, 0b010, 0b010, 0b111],
    [0b111, 0b001, 0b111, 0b100, 0b111],
    [0b111, 0b001, 0b111, 0b001, 0b111],
    [0b101, 0b101, 0b111, 0b001, 0b001],
    [0b111, 0b100, 0b111, 0b001, 0b111],
    [0b111, 0b100, 0b111, 0b101, 0b111],
    [0b111, 0b001, 0b010, 0b010, 0b010],
    [0b111, 0b101, 0b111, 0b101, 0b111],
    [0b111, 0b101, 0b111, 0b001, 0b111],
];

/// Draws a number; the column after it.
fn draw_number(image: &mut Image, number: usize, top: usize, left: usize) -> usize {
    let mut left = left;
    for digit in number.to_string().bytes() {
        let lines = DIGITS[usize::from(digit - b'0')];
        for (line, bits) in lines.iter().enumerate() {
            for dot in (0..DIGIT.0).filter(|dot| bits >> (DIGIT.0 - 1 - dot) & 1 == 1) {
                let (row, column) = (top + line * DOT, left + dot * DOT);
                fill(image, row..row + DOT, column..column + DOT, INK);
            }
        }
        left += (DIGIT.0 + 1) * DOT;
    }
    left
}

/// Draws one bar per number of an action, from `left` to the right end of the strip.
fn draw_bars(image: &mut Image, action: &[f64], top: usize, left: usize) {
    let room = image.width.saturating_sub(left + GAP);
    let step = room / action.len().max(1);
    if action.is_empty() || step == 0 {
        return;
    }
    let step = step.min(WIDEST_BAR + 2);
    let half = STRIP / 2 - GAP / 2;
    let middle = top + STRIP / 2;
    fill(
        image,
        middle..middle + 1,
        left..left + step * action.len(),
        AXIS,
    );
    for (k, &value) in action.iter().enumerate() {
        let length = (value.abs() * half as f64).round() as usize;
        let column = left + k * step;
        let columns = column..column + step.saturating_sub(2).max(1);
        if value >= 0.0 {
            fill(image, middle - length..middle, columns, UP);
        } else {
            fill(image, middle + 1..middle + 1 + length, columns, DOWN);
        }
    }
}

/// Cells in rows of a sheet that is about as wide as high.
fn sheet(cells: &[Image]) -> Image {
    let (height, width) = cells.first().map_or((0, 0), |c| (c.height, c.width));
    let across = (1..=cells.len().max(1))
        .find(|&across| across * width >= cells.len().div_ceil(across) * height)
        .unwrap_or(cells.len().max(1));
    let down = cells.len().div_ceil(across);
    let mut sheet = Image::filled(
        GAP + down * (height + GAP),
        GAP + across * (width + GAP),
        PAPER,
    );
    for (k, cell) in cells.iter().enumerate() {
        let (row, column) = (k / across, k % across);
        sheet.paste(
            cell,
            GAP + row * (height + GAP),
            GAP + column * (width + GAP),
        );
    }
    sheet
}

/// An endless GIF at the control rate, or at ten frames per second.
fn clip(cells: &[Image], control_hz: Option<f64>) -> anyhow::Result<Vec<u8>> {
    let Some(first) = cells.first() else {
        bail!("the episode has no frames");
    };
    let side = |n: usize| u16::try_from(n).context("the frames are too large for a GIF");
    let (height, width) = (side(first.height)?, side(first.width)?);
    let delay = control_hz.map_or(DELAY, |hz| 100.0 / hz).round();
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &[])?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    for cell in cells {
        let mut frame = gif::Frame::from_rgb_speed(width, height, &cell.rgb, 10);
        // Programs show delays below 2 hundredths as something else.
        frame.delay = delay.clamp(2.0, 500.0) as u16;
        encoder.write_frame(&frame)?;
    }
    drop(encoder);
    Ok(bytes)
}

/// An MP4 at the control rate, or at ten frames per second.
#[cfg(feature = "video")]
fn film(path: &Path, cells: &[Image], control_hz: Option<f64>) -> anyhow::Result<()> {
    use jepa_ingest::container::video_writer::Mp4Writer;

    let size = cells
        .first()
        .map_or([0; 2], |cell| [cell.height, cell.width]);
    let mut writer = Mp4Writer::create(path, size, control_hz.unwrap_or(100.0 / DELAY))?;
    for cell in cells {
        writer.push(&cell.rgb)?;
    }
    Ok(writer.finish()?)
}

#[cfg(not(feature = "video"))]
fn film(_: &Path, _: &[Image], _: Option<f64>) -> anyhow::Result<()> {
    bail!("this build lacks the feature `video`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_evenly_spaced_with_both_ends() {
        assert_eq!(evenly(51, 6), [0, 10, 20, 30, 40, 50]);
        assert_eq!(evenly(3, 24), [0, 1, 2]);
        assert_eq!(evenly(9, 1), [0]);
        assert_eq!(evenly(0, 5), [] as [usize; 0]);
    }

    #[test]
    fn file_names_decide_and_others_are_refused() {
        assert_eq!(Kind::of(Path::new("a.PNG")).unwrap(), Kind::Png);
        assert_eq!(Kind::of(Path::new("b.gif")).unwrap(), Kind::Gif);
        #[cfg(feature = "video")]
        assert_eq!(Kind::of(Path::new("c.mp4")).unwrap(), Kind::Mp4);
        let refused = Kind::of(Path::new("d.avi")).unwrap_err().to_string();
        assert!(
            refused.contains(".png") && refused.contains(".gif"),
            "{refused}"
        );
    }

    #[test]
    fn actions_are_scaled_per_dimension() {
        let column = Column::F32 {
            width: 2,
            values: vec![1.0, 0.0, -4.0, 0.0],
        };
        let actions = Actions::scaled(&column);
        assert_eq!(actions.at(0), [0.25, 0.0]);
        assert_eq!(actions.at(1), [-1.0, 0.0]);
        assert_eq!(actions.at(2), [] as [f64; 0]);
    }

    #[test]
    fn small_frames_grow_and_large_ones_shrink_by_whole_factors() {
        let small = scaled(&Image::filled(20, 30, [1, 2, 3]));
        assert_eq!((small.height, small.width), (100, 150));
        assert_eq!(small.pixel(99, 149), [1, 2, 3]);
        let large = scaled(&Image::filled(720, 1280, [1, 2, 3]));
        assert_eq!((large.height, large.width), (180, 320));
    }

    #[test]
    fn bars_go_up_and_down_from_the_middle() {
        let mut image = Image::filled(STRIP, 60, PAPER);
        draw_bars(&mut image, &[1.0, -1.0], 0, 10);
        assert_eq!(image.pixel(STRIP / 2 - 5, 11), UP);
        assert_eq!(image.pixel(STRIP / 2 + 5, 11), PAPER);
        assert_eq!(image.pixel(STRIP / 2 + 5, 23), DOWN);
    }
}
