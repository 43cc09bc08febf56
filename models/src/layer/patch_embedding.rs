//! Images as tokens: every square patch through one linear map (arXiv 2010.11929, section 3.1).
//!
//! Patches do not overlap, so the convolution of the reference code is one matrix product. The weights keep
//! the shape of its kernel.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

/// Patches of one image.
///
/// # Shapes
/// - input `[B, 3, h, w]`, both sides multiples of the patch
/// - output `[B, N, D]`, patches row by row
#[derive(Module, Debug)]
pub(crate) struct PatchEmbedding {
    proj: PatchKernel,
}

/// `weight`: `[D, 3, patch, patch]`; `bias`: `[D]`.
#[derive(Module, Debug)]
struct PatchKernel {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl PatchEmbedding {
    pub(crate) fn new(width: usize, patch: usize, device: &Device) -> Self {
        Self {
            proj: PatchKernel {
                weight: Initializer::Zeros.init([width, 3, patch, patch], device),
                bias: Initializer::Zeros.init([width], device),
            },
        }
    }

    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        project(images, self.proj.weight.val(), self.proj.bias.val())
    }
}

/// Patches of a short video whose frames are all the same picture, which makes an image encoder of a video
/// encoder (models.md sections 1.4 and 1.7).
///
/// ```text
/// sum_t W[:, :, t] x  =  (sum_t W[:, :, t]) x        the frames x are equal
/// ```
///
/// # Shapes
/// - input `[B, 3, h, w]`, one frame of each video
/// - output `[B, N, D]`
#[derive(Module, Debug)]
pub(crate) struct TubeletEmbedding {
    proj: TubeletKernel,
}

/// `weight`: `[D, 3, frames, patch, patch]`; `bias`: `[D]`.
#[derive(Module, Debug)]
struct TubeletKernel {
    weight: Param<Tensor<5>>,
    bias: Param<Tensor<1>>,
}

impl TubeletEmbedding {
    pub(crate) fn new(width: usize, frames: usize, patch: usize, device: &Device) -> Self {
        Self {
            proj: TubeletKernel {
                weight: Initializer::Zeros.init([width, 3, frames, patch, patch], device),
                bias: Initializer::Zeros.init([width], device),
            },
        }
    }

    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        // Folded at every call: a millionth of the work of the blocks that follow.
        let weight = self.proj.weight.val().sum_dim(2).squeeze_dim(2);
        project(images, weight, self.proj.bias.val())
    }
}

fn project(images: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<3> {
    let [width, channels, patch, _] = weight.dims();
    let [batch, _, height, side] = images.dims();
    let (rows, columns) = (height / patch, side / patch);
    let pixels = channels * patch * patch;
    let patches = images
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch * rows * columns, pixels]);
    let tokens =
        patches.matmul(weight.reshape([width, pixels]).transpose()) + bias.unsqueeze::<2>();
    tokens.reshape([batch, rows * columns, width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    #[test]
    fn tokens_are_those_of_a_strided_convolution_row_by_row() {
        let (images, weight, bias) = (random([2, 3, 8, 12]), random([5, 3, 4, 4]), random([5]));
        let options = ConvOptions::new([4, 4], [0, 0], [1, 1], 1);
        let expected = conv2d(images.clone(), weight.clone(), Some(bias.clone()), options)
            .reshape([2, 5, 6])
            .swap_dims(1, 2);
        let tokens = project(images, weight, bias);
        tokens
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-4));
    }

    #[test]
    fn equal_frames_add_up_their_weights() {
        let device = Device::flex();
        let mut tubelet = TubeletEmbedding::new(5, 2, 4, &device);
        let weight = random([5, 3, 2, 4, 4]);
        tubelet.proj.weight = Param::from_tensor(weight.clone());
        let frame = |t: usize| weight.clone().slice_dim(2, t..t + 1).squeeze_dim::<4>(2);
        let (images, bias) = (random([1, 3, 8, 4]), Tensor::zeros([5], &device));
        let expected = project(images.clone(), frame(0), bias.clone())
            + project(images.clone(), frame(1), bias);
        let tokens = tubelet.forward(images);
        tokens
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-4));
    }
}
