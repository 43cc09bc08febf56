//! Frames of Push-T: a canvas of 512 pixels, reduced (evaluation.md section 1.3, "Rendering").
//!
//! Most of a frame is the same in all of them. It is drawn and reduced once; a frame redraws the rectangles around
//! block, agent and contact marks.

use super::canvas::{Area, Canvas, Colour, Disc, Pixel, pixel};
use super::collision::WALLS;
use super::coverage::TARGET;
use super::geometry::{Quad, Rotation, Vector};
use super::resize::Resize;
use super::shape::Shape;
use crate::env::Image;

/// Rows and columns of the canvas.
const CANVAS: i32 = 512;
const WHOLE: Area = Area {
    from: [0; 2],
    to: [CANVAS; 2],
};
/// Half the width of a fat line, and a pixel for its rounding.
const LINE_REACH: i32 = 3;
const AGENT_REACH: i32 = 16;

const WHITE: Colour = [255; 3];
const TARGET_GREEN: Colour = [144, 238, 144];
const BLOCK_FILL: Colour = [143, 163, 184];
const BLOCK_EDGE: Colour = [119, 136, 153];
const AGENT_RIM: Colour = [65, 105, 225];
const AGENT_FILL: Colour = [78, 126, 255];
const WALL_GREY: Colour = [211; 3];
const MARK_RED: Colour = [231, 76, 60];

/// What is in a picture besides walls and target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene<'a> {
    pub(super) parts: &'a [Quad],
    pub(super) agent: Vector,
    /// Both ends of every contact mark.
    pub(super) marks: &'a [[Vector; 2]],
}

/// Draws frames of one size with the target of one shape.
#[derive(Debug, Clone)]
pub(super) struct Renderer {
    resize: Resize,
    /// Table and target, without walls.
    table: Canvas,
    /// For each pixel of the canvas, whether it is wall.
    is_wall: Vec<bool>,
    /// Table, target and walls, reduced.
    still: Image,
}

impl Renderer {
    pub(super) fn new(shape: Shape, size: usize) -> Self {
        let mut table = Canvas::filled(WHOLE, WHITE);
        let (origin, angle) = TARGET;
        for rectangle in shape.rectangles() {
            let part = Quad::rectangle(*rectangle).placed(Rotation::new(angle), origin);
            table.polygon(&part.corners.map(pixel), TARGET_GREEN);
        }
        let mut walls = Canvas::filled(WHOLE, WHITE);
        for wall in WALLS {
            let [start, end] = wall.ends.map(pixel);
            walls.fat_line(start, end, WALL_GREY);
        }
        let is_wall = walls.rgb.as_chunks::<3>().0.iter();
        let mut renderer = Self {
            resize: Resize::new(CANVAS as usize, size),
            table,
            is_wall: is_wall.map(|colour| *colour == WALL_GREY).collect(),
            still: Image::filled(size, size, WHITE),
        };
        let mut canvas = renderer.table.clone();
        renderer.paint_walls(&mut canvas);
        renderer.resize.update(&mut renderer.still, &canvas, WHOLE);
        renderer
    }

    /// The frame of a scene.
    pub(super) fn draw(&self, scene: &Scene) -> Image {
        let mut image = self.still.clone();
        for area in scene.areas() {
            if let Some(needed) = area.and_then(|area| self.resize.needed(area))
                && let Some(area) = area
            {
                let part = self.paint(needed, scene);
                self.resize.update(&mut image, &part, area);
            }
        }
        image
    }

    fn paint(&self, area: Area, scene: &Scene) -> Canvas {
        let mut canvas = self.table.cut(area);
        for part in scene.parts {
            let corners = part.corners.map(pixel);
            canvas.polygon(&corners, BLOCK_FILL);
            for index in 0..4 {
                canvas.fat_line(corners[index], corners[(index + 1) % 4], BLOCK_EDGE);
            }
        }
        let agent = pixel(scene.agent);
        canvas.disc(agent, Disc::Outer, AGENT_RIM);
        canvas.disc(agent, Disc::Inner, AGENT_FILL);
        self.paint_walls(&mut canvas);
        for mark in scene.marks {
            let [start, end] = mark.map(pixel);
            canvas.thin_line(start, end, MARK_RED);
        }
        canvas
    }

    fn paint_walls(&self, canvas: &mut Canvas) {
        let Area { from, to } = canvas.area;
        for row in from[1]..to[1] {
            let start = (row * CANVAS) as usize;
            let walls = &self.is_wall[start + from[0] as usize..start + to[0] as usize];
            let at = canvas.at([from[0], row]);
            let pixels = canvas.rgb[at..].as_chunks_mut::<3>().0;
            for (pixel, is_wall) in pixels.iter_mut().zip(walls) {
                if *is_wall {
                    *pixel = WALL_GREY;
                }
            }
        }
    }
}

impl Scene<'_> {
    /// The areas that differ from the still picture: around the block, and around agent and marks.
    fn areas(&self) -> [Option<Area>; 2] {
        let corners = self.parts.iter().flat_map(|part| part.corners.map(pixel));
        let mut agent = vec![pixel(self.agent)];
        agent.extend(self.marks.iter().flat_map(|mark| mark.map(pixel)));
        [
            around(corners, LINE_REACH),
            around(agent.into_iter(), AGENT_REACH),
        ]
    }
}

/// The visible part of the rectangle around some pixels, with a margin.
fn around(pixels: impl Iterator<Item = Pixel>, margin: i32) -> Option<Area> {
    let mut area = Area {
        from: [i32::MAX; 2],
        to: [i32::MIN; 2],
    };
    for pixel in pixels {
        for (axis, at) in pixel.into_iter().enumerate() {
            area.from[axis] = area.from[axis].min(at - margin).max(0);
            area.to[axis] = area.to[axis].max(at + margin + 1).min(CANVAS);
        }
    }
    (0..2)
        .all(|axis| area.from[axis] < area.to[axis])
        .then_some(area)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::pusht::{Dynamics, STATE};
    use crate::fixtures::read_png;

    /// A row of `frames.json`.
    #[derive(serde::Deserialize)]
    struct Recorded {
        name: String,
        episode: usize,
        step: usize,
        shape: String,
        state: [f64; STATE],
        contact_marks: Vec<[f64; 4]>,
    }

    fn recorded() -> Vec<Recorded> {
        let text = std::fs::read("../tests/fixtures/sims/pusht_frames/frames.json").unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Canvas and frame of a recorded state, with the recorded marks.
    fn drawn(recorded: &Recorded) -> (Vec<u8>, Image) {
        let shape: Shape = toml::Value::String(recorded.shape.clone())
            .try_into()
            .unwrap();
        let [x, y, block_x, block_y, angle, ..] = recorded.state;
        let parts = shape.block().parts;
        let place = |part: &Quad| part.placed(Rotation::new(angle), [block_x, block_y]);
        let parts: Vec<Quad> = parts.iter().map(place).collect();
        let marks = recorded.contact_marks.iter();
        let marks: Vec<[Vector; 2]> = marks.map(|[a, b, c, d]| [[*a, *b], [*c, *d]]).collect();
        let scene = Scene {
            parts: &parts,
            agent: [x, y],
            marks: &marks,
        };
        let renderer = Renderer::new(shape, 224);
        (renderer.paint(WHOLE, &scene).rgb, renderer.draw(&scene))
    }

    #[test]
    fn frames_are_those_of_the_reference() {
        let mut exact = 0;
        let recorded = recorded();
        for recorded in &recorded {
            let (canvas, frame) = drawn(recorded);
            let read = |size| read_png(&format!("sims/pusht_frames/{}_{size}.png", recorded.name));
            let expected = read(512);
            let pixels = canvas.as_chunks::<3>().0.iter();
            let different = pixels.zip(expected.as_chunks::<3>().0);
            let different = different.filter(|(a, b)| a != b).count();
            let reduced = read(224);
            if different == 0 {
                exact += 1;
                assert_eq!(frame.rgb, reduced, "{}", recorded.name);
                continue;
            }
            // Shades of a mark, where a share of a third is rounded. Asked: 262 pixels, none without marks.
            assert!(!recorded.contact_marks.is_empty(), "{}", recorded.name);
            assert!(different <= 2, "{}: {different}", recorded.name);
            let apart = canvas.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
            assert_eq!(apart.max(), Some(1), "{}", recorded.name);
            let apart = frame.rgb.iter().zip(&reduced).map(|(a, b)| a.abs_diff(*b));
            assert!(apart.clone().max() <= Some(1), "{}", recorded.name);
            assert!(
                apart.filter(|apart| *apart > 0).count() <= 2,
                "{}",
                recorded.name
            );
        }
        assert_eq!((exact, recorded.len()), (15, 18));
    }

    #[test]
    fn a_frame_is_the_whole_canvas_reduced() {
        let mut dynamics = Dynamics::new(Shape::T);
        let mut random = jepa_datasets::Stream::new(3, &["test", "frames"]);
        for size in [224, 256] {
            let renderer = Renderer::new(Shape::T, size);
            let mut marks = 0;
            for _ in 0..200 {
                let mut within = |low: f64, high: f64| low + (high - low) * random.uniform();
                let [x, y, block_x, block_y] = [0; 4].map(|_| within(-40.0, 552.0));
                let agent = if within(0.0, 1.0) < 0.5 {
                    [x, y]
                } else {
                    [block_x, block_y]
                };
                let angle = within(0.0, 7.0);
                dynamics.reset([agent[0], agent[1], block_x, block_y, angle, 0.0, 0.0]);
                let found = dynamics.marks();
                marks += found.len();
                let scene = Scene {
                    parts: dynamics.parts(),
                    agent: dynamics.agent(),
                    marks: &found,
                };
                let whole = renderer.paint(WHOLE, &scene);
                let mut expected = Image::filled(size, size, WHITE);
                renderer.resize.update(&mut expected, &whole, WHOLE);
                assert!(renderer.draw(&scene) == expected, "{:?}", dynamics.state());
            }
            assert!(marks > 50, "{marks}");
        }
    }

    #[test]
    fn recorded_marks_are_found() {
        let recorded = crate::fixtures::Npz::read("sims/pusht_episodes.npz");
        let rows = |key: &str, size: usize, episode: usize| {
            &recorded.values(key)[size * episode..][..size]
        };
        for frame in self::recorded().iter().filter(|frame| frame.shape == "T") {
            let (episode, step) = (frame.episode, frame.step);
            let mut dynamics = Dynamics::new(Shape::T);
            dynamics.reset(rows("init", STATE, episode).try_into().unwrap());
            for action in rows("actions", 60, episode)
                .as_chunks::<2>()
                .0
                .iter()
                .take(step)
            {
                dynamics.step(*action);
            }
            let found = dynamics.marks();
            assert_eq!(found.len(), frame.contact_marks.len(), "{}", frame.name);
            for (found, expected) in found.iter().zip(&frame.contact_marks) {
                for (found, expected) in found.as_flattened().iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-9,
                        "{}: {found} {expected}",
                        frame.name
                    );
                }
            }
        }
    }
}
