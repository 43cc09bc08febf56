//! GELU in its exact form: `x * 0.5 * (1 + erf(x / sqrt 2))` (arXiv 1606.08415). The tanh form differs by about
//! 1e-3 and is used by none of the models here.

use burn::tensor::{Tensor, activation};

/// GELU of every element, of any shape.
pub(crate) fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    activation::gelu(input)
}
