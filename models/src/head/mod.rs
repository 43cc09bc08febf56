//! Heads: decoders that turn latents back into pictures or states, and the measures their pictures are judged by
//! (models.md section 6).
//!
//! They are probes. Nothing plans with them and no world model trains with them; they show what a latent holds. Each
//! head is filled from the weights of a file and works on plain arrays.

pub mod dino_wm_decoder;
pub mod image_decoder;
pub mod image_metric;
pub mod lpips;
pub mod state_decoder;

mod grid;

use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::Array;
use crate::{Error, Result};

/// An error about sizes that do not make a head.
fn unfit(name: &str, detail: impl Into<String>) -> Error {
    Error::Weights {
        name: name.to_string(),
        detail: detail.into(),
    }
}

/// Patch features of frames, each on a grid of its own.
///
/// # Shapes
/// - result: `[frames, h w, D]`, and `(h, w)`
fn grid_features(array: &Array, width: usize, device: &Device) -> Result<(Tensor<3>, [usize; 2])> {
    let [frames, rows, columns, features] = array.shape[..] else {
        return Err(shape("features", "[frames, h, w, D]", &array.shape));
    };
    if features != width || rows * columns == 0 {
        return Err(shape(
            "features",
            &format!("[frames, h, w, {width}]"),
            &array.shape,
        ));
    }
    let data = TensorData::new(array.values.clone(), [frames, rows * columns, features]);
    Ok((Tensor::from_data(data, device), [rows, columns]))
}

/// Pictures as a tensor.
///
/// # Shapes
/// - result: `[B, C, h, w]`
fn pictures(array: &Array, device: &Device) -> Result<Tensor<4>> {
    let [batch, channels, height, width] = array.shape[..] else {
        return Err(shape("pictures", "[B, C, h, w]", &array.shape));
    };
    let data = TensorData::new(array.values.clone(), [batch, channels, height, width]);
    Ok(Tensor::from_data(data, device))
}

/// The values of a tensor with its shape.
fn array<const D: usize>(tensor: Tensor<D>) -> Result<Array> {
    let shape = tensor.dims().to_vec();
    let values = tensor.into_data().try_to_vec::<f32>();
    Array::new(
        shape,
        values.map_err(|e| unfit("output", format!("{e:?}")))?,
    )
}

fn shape(what: &'static str, expected: &str, actual: &[usize]) -> Error {
    Error::Shape {
        what,
        expected: expected.to_string(),
        actual: format!("{actual:?}"),
    }
}
