//! Frames of Wall: a red dot on white, cut by black walls (evaluation.md section 1.1, "Rendering").

use std::ops::Range;
use std::sync::LazyLock;

use super::{BORDER, DOOR, DOT_STD, Image, SIZE, SLAB};
use crate::env::PLANNER_SIZE;

/// Draws the dot at `position` (x, y) at native resolution.
///
/// The intensity of the dot is a Gaussian divided by its maximum over pixel centres. The maximum of
/// a separable Gaussian is the product of the maxima along its axes, so each axis is normalised by
/// itself, in the exponent, where it cannot underflow.
pub(super) fn draw(position: [f64; 2]) -> Image {
    draw_dot(position).0
}

/// The frame, and the rows and columns in which the dot may leave a trace.
fn draw_dot(position: [f64; 2]) -> (Image, [Range<usize>; 2]) {
    let [across, down] = position.map(axis);
    let windows = [trace(&down), trace(&across)];
    let [rows, columns] = windows.clone();
    let Scene { walls, frame, .. } = &*SCENE;
    let mut image = frame.clone();
    for row in rows {
        for column in columns.clone() {
            if !walls.hold(row, column) {
                let level = 255 - (255.0 * (down[row] * across[column])) as u8;
                let at = 3 * (row * SIZE + column);
                image.rgb[at..at + 3].copy_from_slice(&[255, level, level]);
            }
        }
    }
    (image, windows)
}

/// [`draw`], as released planners see it: [`PLANNER_SIZE`] pixels wide. Only what the dot changes is resized.
pub(super) fn draw_for_planner(position: [f64; 2]) -> Image {
    let (native, windows) = draw_dot(position);
    let mut image = SCENE.enlarged.clone();
    let scale = PLANNER_SIZE as f64 / SIZE as f64;
    // A resized pixel mixes two neighbours, so the trace grows by one native pixel on each side.
    let [rows, columns] = windows.map(|window| {
        let low = (scale * (window.start as f64 - 1.5)).max(0.0) as usize;
        let high = (scale * (window.end as f64 + 1.5)) as usize;
        low..high.min(PLANNER_SIZE)
    });
    native.resize_window(&mut image, rows, columns);
    image
}

/// Where `255 * intensity` is 1 or more along an axis, and so may be in the frame: the other axis has at most 1.
fn trace(axis: &[f64; SIZE]) -> Range<usize> {
    let shows = |intensity: &f64| 255.0 * intensity >= 1.0;
    let first = axis.iter().position(shows).unwrap_or(0);
    let last = axis.iter().rposition(shows).unwrap_or(0);
    first..last + 1
}

/// What is the same in every frame.
struct Scene {
    walls: Walls,
    /// The frame without a dot.
    frame: Image,
    /// The same at [`PLANNER_SIZE`].
    enlarged: Image,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let walls = Walls::new();
    let mut frame = Image::filled(SIZE, SIZE, [255; 3]);
    for (at, pixel) in frame.rgb.chunks_exact_mut(3).enumerate() {
        if walls.hold(at / SIZE, at % SIZE) {
            pixel.copy_from_slice(&[0; 3]);
        }
    }
    Scene {
        enlarged: frame.resized(PLANNER_SIZE),
        frame,
        walls,
    }
});

/// Intensity of the dot along one axis: 1 at the pixel centre nearest to `centre`.
fn axis(centre: f64) -> [f64; SIZE] {
    let square = |pixel: usize| (pixel as f64 - centre) * (pixel as f64 - centre);
    let nearest = (0..SIZE).map(square).fold(f64::INFINITY, f64::min);
    let scale = 2.0 * DOT_STD * DOT_STD;
    std::array::from_fn(|pixel| libm::exp((nearest - square(pixel)) / scale))
}

/// Which rows and columns of pixels carry walls.
struct Walls {
    border: [bool; SIZE],
    slab: [bool; SIZE],
    door: [bool; SIZE],
}

impl Walls {
    fn new() -> Self {
        let within = |range: [f64; 2]| {
            std::array::from_fn(|pixel| (range[0]..=range[1]).contains(&(pixel as f64)))
        };
        let border = std::array::from_fn(|pixel| BORDER.contains(&(pixel as f64)));
        Self {
            border,
            slab: within(SLAB),
            door: within(DOOR),
        }
    }

    /// Whether a pixel belongs to a border line or to the dividing wall beside its door.
    fn hold(&self, row: usize, column: usize) -> bool {
        self.border[row] || self.border[column] || self.slab[column] && !self.door[row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::bilinear;
    use crate::fixtures::{Npz, read_png};

    #[test]
    fn the_documented_frame_is_reproduced() {
        let image = draw([20.3, 41.7]);
        assert_eq!(image.channel_sums(), [915_705, 910_995, 910_995]);
        assert_eq!(image.pixel(41, 20), [255, 18, 18]);
        assert_eq!(image.pixel(42, 20), [255, 0, 0]);
        assert_eq!(image.pixel(41, 24), [255, 233, 233]);
        for white in [(32, 32), (2, 2)] {
            assert_eq!(image.pixel(white.0, white.1), [255; 3]);
        }
        for black in [(20, 32), (4, 10), (10, 60)] {
            assert_eq!(image.pixel(black.0, black.1), [0; 3]);
        }
    }

    #[test]
    fn only_what_the_dot_changes_is_drawn_and_nothing_is_missed() {
        let everywhere = |position: [f64; 2]| {
            let (across, down) = (axis(position[0]), axis(position[1]));
            let mut image = Image::filled(SIZE, SIZE, [0; 3]);
            for (at, pixel) in image.rgb.chunks_exact_mut(3).enumerate() {
                if !SCENE.walls.hold(at / SIZE, at % SIZE) {
                    let level = 255 - (255.0 * (down[at / SIZE] * across[at % SIZE])) as u8;
                    pixel.copy_from_slice(&[255, level, level]);
                }
            }
            image
        };
        let mut stream = jepa_datasets::Stream::new(5, &["test", "frames"]);
        let mut coordinate = || 80.0 * stream.uniform() - 8.0;
        let anywhere = (0..200).map(|_| [coordinate(), coordinate()]);
        let corners = [[0.0, 0.0], [64.0, 64.0], [-500.0, 1e9], [31.5, 30.0]];
        for position in anywhere.collect::<Vec<_>>().into_iter().chain(corners) {
            let whole = everywhere(position);
            assert!(draw(position) == whole, "{position:?}");
            assert!(
                draw_for_planner(position) == whole.resized(PLANNER_SIZE),
                "{position:?}"
            );
        }
    }

    #[test]
    fn the_documented_enlarged_frame_is_reproduced() {
        let image = draw([20.3, 41.7]);
        let large = image.resized(224);
        assert_eq!(large.pixel(143, 69), [255, 35, 35]);
        // At most 10 values of a frame may be off by one level.
        for (sum, expected) in large
            .channel_sums()
            .into_iter()
            .zip([10_859_834, 10_803_903, 10_803_903])
        {
            assert!(sum.abs_diff(expected) <= 10, "{sum} instead of {expected}");
        }
        for (sum, expected) in
            float_sums(&image)
                .into_iter()
                .zip([10_859_416., 10_803_468., 10_803_468.])
        {
            assert!(
                (sum - expected).abs() <= 1e-3 * expected,
                "{sum} instead of {expected}"
            );
        }
    }

    fn float_sums(image: &Image) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for pixel in bilinear(image, 224, 224).chunks(3) {
            sums.iter_mut()
                .zip(pixel)
                .for_each(|(sum, value)| *sum += value);
        }
        sums
    }

    #[test]
    fn every_recorded_frame_is_reproduced() {
        let recorded = Npz::read("sims/wall_frames.npz");
        let [states, sums] = ["state", "float224_channel_sums"].map(|key| recorded.values(key));
        for frame in 0..12 {
            let image = draw([states[2 * frame], states[2 * frame + 1]]);
            assert_eq!(
                image.rgb,
                read_png(&format!("sims/wall_frames/{frame:02}_65.png")),
                "frame {frame}"
            );
            assert_nearly_equal(
                &image.resized(224).rgb,
                &read_png(&format!("sims/wall_frames/{frame:02}_224.png")),
            );
            for (sum, expected) in float_sums(&image).iter().zip(&sums[3 * frame..]) {
                assert!(
                    (sum - expected).abs() <= 1e-3 * 1e7,
                    "frame {frame}: {sum} instead of {expected}"
                );
            }
        }
    }

    /// At most one level of difference, in at most 10 values.
    fn assert_nearly_equal(actual: &[u8], expected: &[u8]) {
        assert_eq!(actual.len(), expected.len());
        let differences = actual.iter().zip(expected).map(|(a, e)| a.abs_diff(*e));
        let (mut largest, mut count) = (0, 0);
        for difference in differences {
            largest = largest.max(difference);
            count += usize::from(difference > 0);
        }
        assert!(
            largest <= 1 && count <= 10,
            "{count} values differ, by up to {largest}"
        );
    }

    #[test]
    fn a_dot_far_outside_is_drawn_at_the_nearest_edge() {
        let image = draw([1e6, 30.0]);
        assert_eq!(image.pixel(30, 64), [255, 0, 0]);
        assert_eq!(image.pixel(30, 10), [255, 255, 255]);
    }
}
