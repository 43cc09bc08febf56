//! Push-T: a disc pushes a T-shaped block over a table (evaluation.md section 1.3).

mod canvas;
mod collision;
mod contact;
mod coverage;
mod dynamics;
mod geometry;
mod render;
mod resize;
mod shape;

pub use dynamics::{Dynamics, STATE};
pub use shape::Shape;

#[cfg(test)]
mod tests;
