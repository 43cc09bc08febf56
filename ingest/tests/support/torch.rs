//! Tensors as `torch.save` writes them, true and false.

use super::zip::stored;

/// `_rebuild_tensor_v2((storage, class, "0", device, numel), offset, size, stride)`.
pub(crate) struct View<'a> {
    pub(crate) class: &'a str,
    pub(crate) device: &'a str,
    pub(crate) numel: i64,
    pub(crate) offset: i64,
    pub(crate) size: &'a [i64],
    pub(crate) stride: &'a [i64],
}

impl Default for View<'_> {
    fn default() -> Self {
        Self {
            class: "FloatStorage",
            device: "cpu",
            numel: 0,
            offset: 0,
            size: &[],
            stride: &[],
        }
    }
}

impl View<'_> {
    /// A file of the tensor and these bytes as its storage.
    pub(crate) fn saved(&self, storage: &[u8]) -> Vec<u8> {
        let text = |value: &str| {
            let length = (value.len() as u32).to_le_bytes();
            [b"X", &length[..], value.as_bytes()].concat()
        };
        let int = |value: &i64| [&[0x8a, 8][..], &value.to_le_bytes()].concat();
        let tuple = |list: &[i64]| {
            let items: Vec<u8> = list.iter().flat_map(int).collect();
            [b"(", &items[..], b"t"].concat()
        };
        let pickle = [
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            format!("ctorch\n{}\n", self.class).into_bytes(),
            text("0"),
            text(self.device),
            int(&self.numel),
            b"tQ".to_vec(),
            int(&self.offset),
            tuple(self.size),
            tuple(self.stride),
            b"\x89ccollections\nOrderedDict\n)RtR.".to_vec(),
        ]
        .concat();
        stored(&[("a/data.pkl", &pickle), ("a/data/0", storage)])
    }
}

/// A contiguous tensor of bytes or floats.
pub(crate) fn tensor(class: &str, shape: &[i64], storage: &[u8]) -> Vec<u8> {
    let below = |d: usize| shape[d + 1..].iter().product();
    let stride: Vec<i64> = (0..shape.len()).map(below).collect();
    let view = View {
        class,
        numel: shape.iter().product(),
        size: shape,
        stride: &stride,
        ..View::default()
    };
    view.saved(storage)
}
