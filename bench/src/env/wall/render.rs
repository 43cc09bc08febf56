//! Frames of Wall: a red dot on white, cut by black walls (evaluation.md section 1.1, "Rendering").

use super::{BORDER, DOOR, DOT_STD, Image, SIZE, SLAB};

/// Draws the dot at `position` (x, y) at native resolution.
///
/// The intensity of the dot is a Gaussian divided by its maximum over pixel centres. The maximum of
/// a separable Gaussian is the product of the maxima along its axes, so each axis is normalised by
/// itself, in the exponent, where it cannot underflow.
pub(super) fn draw(position: [f64; 2]) -> Image {
    let across = axis(position[0]);
    let down = axis(position[1]);
    let walls = Walls::new();
    let mut image = Image::filled(SIZE, SIZE, [0; 3]);
    for (row, pixels) in image.rgb.chunks_exact_mut(3 * SIZE).enumerate() {
        for (column, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            if !walls.hold(row, column) {
                let level = 255 - (255.0 * (down[row] * across[column])) as u8;
                pixel.copy_from_slice(&[255, level, level]);
            }
        }
    }
    image
}

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
