//! In place of the products that are written for the vector instructions of x86-64: there are none.

use std::convert::Infallible;

use super::kernel::BlockShape;

/// Never made.
#[derive(Debug)]
pub(super) struct Direct(Infallible);

impl Direct {
    /// `None`: this processor has no direct way.
    pub(super) fn new(_: &BlockShape) -> Option<Self> {
        None
    }

    pub(super) fn pack(&self, _: &[f32], _: usize, _: &mut Vec<f32>) {
        match self.0 {}
    }

    pub(super) fn convolve(&self, _: &[f32], _: &[f32], _: &mut [f32]) {
        match self.0 {}
    }

    pub(super) fn add_weight_gradient(&self, _: &[f32], _: &[f32], _: &mut [f32]) {
        match self.0 {}
    }
}
