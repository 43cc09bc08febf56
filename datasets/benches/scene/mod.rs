//! Frames with the texture of a rendered scene, for the benches: a drawing compresses and decodes too well.
//!
//! A scene is a hundred rectangles of random size and colour, one over the other, under a slow shade. Half of them are
//! plain; the others have a texture, value noise of five octaves (cells of 32 to 2 pixels, each 0.7 times as strong as
//! the one before), and a noise of 3 levels that every value of a frame has for itself. A frame is a window of the scene
//! that moves with the episode. At 224x224 it is as hard to compress as a Metaworld render (11 kB as JPEG of quality 90,
//! 44 kB as PNG): 9 kB and 40 kB.

use jepa_datasets::Stream;

/// Pixels on each side of a scene, which repeats beyond them.
const SCENE: usize = 512;
/// Rectangles of a scene.
const RECTANGLES: usize = 100;

/// The scene of one episode.
pub(crate) struct Scene {
    /// `[SCENE, SCENE, 3]`, 0 to 255.
    levels: Vec<f32>,
    /// Where it has texture, `[SCENE, SCENE]`.
    is_textured: Vec<bool>,
}

impl Scene {
    /// Draws a scene.
    pub(crate) fn new(seed: u64) -> Self {
        let mut scene = Self {
            levels: vec![140.0; SCENE * SCENE * 3],
            is_textured: vec![true; SCENE * SCENE],
        };
        let mut random = Stream::new(seed, &["rectangles"]);
        for _ in 0..RECTANGLES {
            scene.paint(&mut random);
        }
        scene.add(&Cells::new(Stream::new(seed, &["shade"]), 128), 40.0, false);
        let mut strength = 40.0;
        for cell in [32, 16, 8, 4, 2] {
            let stream = Stream::new(seed, &["texture", &cell.to_string()]);
            scene.add(&Cells::new(stream, cell), strength, true);
            strength *= 0.7;
        }
        scene
    }

    /// Paints a rectangle over what is there.
    fn paint(&mut self, random: &mut Stream) {
        let [height, width] = [(); 2].map(|()| 16 + random.below(112) as usize);
        let [top, left] = [(); 2].map(|()| random.below(SCENE as u64) as usize);
        let colour = [(); 3].map(|()| 40.0 + 160.0 * random.uniform() as f32);
        let is_textured = random.below(2) == 0;
        for row in top..top + height {
            for column in left..left + width {
                let at = row % SCENE * SCENE + column % SCENE;
                self.levels[3 * at..][..3].copy_from_slice(&colour);
                self.is_textured[at] = is_textured;
            }
        }
    }

    /// Adds noise, to everything or to what has texture.
    fn add(&mut self, cells: &Cells, strength: f32, to_texture: bool) {
        for (at, pixel) in self.levels.chunks_exact_mut(3).enumerate() {
            if self.is_textured[at] || !to_texture {
                let value = strength * cells.at(at % SCENE, at / SCENE);
                for level in pixel {
                    *level += value;
                }
            }
        }
    }

    /// A frame, `[side, side, 3]`: the window at `(x, y)`, with noise that `number` decides.
    pub(crate) fn frame(&self, side: usize, [x, y]: [usize; 2], number: u32) -> Vec<u8> {
        let mut state = number.wrapping_mul(0x9e37_79b9) | 1;
        let mut noise = move || {
            // xorshift32: quick, and no codec foresees it.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state % 3) as f32 - 1.0
        };
        let mut pixels = Vec::with_capacity(side * side * 3);
        for row in 0..side {
            for column in 0..side {
                let at = (y + row) % SCENE * SCENE + (x + column) % SCENE;
                for level in &self.levels[3 * at..3 * at + 3] {
                    let noise = if self.is_textured[at] { noise() } else { 0.0 };
                    pixels.push((level + noise) as u8);
                }
            }
        }
        pixels
    }
}

/// Random values, -1/2 to 1/2, on the corners of square cells.
struct Cells {
    side: usize,
    corners: Vec<f32>,
}

impl Cells {
    fn new(mut random: Stream, side: usize) -> Self {
        let across = SCENE / side;
        let corners = (0..across * across).map(|_| random.uniform() as f32 - 0.5);
        Self {
            side,
            corners: corners.collect(),
        }
    }

    /// Bilinear between the corners.
    fn at(&self, x: usize, y: usize) -> f32 {
        let across = SCENE / self.side;
        let corner =
            |row: usize, column: usize| self.corners[row % across * across + column % across];
        let (row, column) = (y / self.side, x / self.side);
        let share = |at: usize| (at % self.side) as f32 / self.side as f32;
        let (down, right) = (share(y), share(x));
        let between = |row| corner(row, column) * (1.0 - right) + corner(row, column + 1) * right;
        between(row) * (1.0 - down) + between(row + 1) * down
    }
}
