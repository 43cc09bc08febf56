//! `torch.save` files: byte 0 says whether the rest is a whole file, or the pickle in one whose checksums are right.

#![no_main]

use jepa_bench_fuzz::{archive, file};
use jepa_ingest::container::torch_zip::{Tensor, TorchFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&mode, content)) = input.split_first() else {
        return;
    };
    let path = if mode == 0 {
        file(content)
    } else {
        let storage: Vec<u8> = (0..=255).collect();
        file(&archive::stored(&[
            ("a/data.pkl", content),
            ("a/byteorder", b"little"),
            ("a/data/0", &storage),
            ("a/data/1", &storage[..48]),
            ("a/data/2", b""),
        ]))
    };
    let Ok(found) = TorchFile::open(&path) else {
        return;
    };
    if let Ok(tensor) = found.tensor() {
        read(&tensor);
    }
    if let Ok(tensors) = found.tensors() {
        tensors.values().for_each(read);
    }
});

fn read(tensor: &Tensor<'_>) {
    let values: usize = tensor.shape().iter().product();
    assert_eq!(tensor.to_f32().len(), values);
    assert_eq!(tensor.to_f64().len(), values);
    assert_eq!(tensor.to_le_bytes().len(), values * tensor.dtype().bytes());
    let _ = (tensor.to_i64(), tensor.to_u8());
    if let Some(&length) = tensor.shape().first() {
        assert!(tensor.at(length).is_none() && tensor.rows(0..length + 1).is_none());
        if let Some(last) = length.checked_sub(1) {
            let rows = tensor.rows(last..length).expect("the last row");
            assert_eq!(
                rows.to_le_bytes(),
                tensor.at(last).expect("it").to_le_bytes()
            );
        }
    }
}
