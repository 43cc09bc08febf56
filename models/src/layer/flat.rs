//! CPU tensors as plain slices.

use burn::backend::TensorMetadata;
use burn::tensor::{Shape, TensorData};
use burn_flex::FlexTensor;

/// The numbers of a contiguous tensor.
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    let values = tensor.as_slice::<f32>();
    assert!(
        values.is_some(),
        "a contiguous f32 tensor of shape {:?}",
        tensor.shape()
    );
    values.unwrap_or_default()
}

/// The same tensor to be written over: itself if nothing else uses its memory, a copy otherwise.
pub(crate) fn own(tensor: FlexTensor) -> FlexTensor {
    let contiguous = tensor.to_contiguous();
    drop(tensor);
    contiguous
}

/// The numbers of a tensor that comes from [`own`].
pub(crate) fn floats_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    tensor.storage_mut::<f32>()
}

/// A tensor of these numbers.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
