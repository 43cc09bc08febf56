//! Inverse dynamics: the action read from the latents before and after it (models.md sections 7.3 and 7.4).
//!
//! Without it a model that plans with the other losses fails (1 % success, models.md section 7.4): nothing
//! else makes a latent hold what actions change.

use burn::tensor::Tensor;

use super::prediction::mean_squared;

/// Mean squared error of the actions that `inverse` reads from consecutive latents.
///
/// # Shapes
/// - `latents`: `[B, T, D]`; `actions`: `[B, H, A]` with `H >= T - 1`, action `t` between frames `t` and
///   `t + 1`, later ones are not used
/// - `inverse`: `[n, 2 D]` to `[n, A]`
pub(crate) fn inverse_dynamics(
    latents: Tensor<3>,
    actions: Tensor<3>,
    inverse: impl Fn(Tensor<2>) -> Tensor<2>,
) -> Tensor<1> {
    let [batch, frames, width] = latents.dims();
    let pairs = Tensor::cat(
        vec![
            latents.clone().slice_dim(1, 0..frames - 1),
            latents.slice_dim(1, 1..frames),
        ],
        2,
    );
    let count = batch * (frames - 1);
    let read = inverse(pairs.reshape([count, 2 * width]));
    let taken = actions.slice_dim(1, 0..frames - 1);
    let block = taken.dims()[2];
    mean_squared(read, taken.reshape([count, block]))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn an_action_is_read_from_the_frames_around_it() {
        let device = Device::flex();
        let latents =
            Tensor::<3>::from_floats([[[1.0], [4.0], [2.0]], [[0.0], [0.0], [5.0]]], &device);
        let change = |pairs: Tensor<2>| pairs.clone().slice_dim(1, 1..2) - pairs.slice_dim(1, 0..1);
        // Changes 3, -2 and 0, 5; the last action of a slice has no frame after it.
        let actions =
            Tensor::<3>::from_floats([[[3.0], [-2.0], [9.0]], [[0.0], [3.0], [9.0]]], &device);
        let loss: f32 = inverse_dynamics(latents, actions, change).into_scalar();
        assert!((loss - 1.0).abs() < 1e-6, "{loss}");
    }
}
