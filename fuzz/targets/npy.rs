//! NumPy arrays, and archives of them: byte 0 says which, and for arrays whether an archive is made around them.

#![no_main]

use std::borrow::Cow;
use std::path::Path;

use jepa_bench_fuzz::{archive, file};
use jepa_ingest::container::npy::{Array, Npz};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&mode, content)) = input.split_first() else {
        return;
    };
    match mode % 3 {
        0 => {
            if let Ok(array) = Array::parse(Path::new("a.npy"), "a", Cow::Borrowed(content)) {
                read(&array);
            }
        }
        1 => archived(&archive::stored(&[("a.npy", content)])),
        _ => archived(content),
    }
});

fn archived(bytes: &[u8]) {
    let Ok(archive) = Npz::open(&file(bytes)) else {
        return;
    };
    for name in archive.names() {
        if let Ok(array) = archive.array(name) {
            read(&array);
        }
    }
}

fn read(array: &Array<'_>) {
    let values: usize = array.shape().iter().product();
    if let Ok(tensor) = array.tensor() {
        assert_eq!(tensor.shape(), array.shape());
        assert_eq!(tensor.to_f64().len(), values);
        assert_eq!(tensor.to_f32().len(), values);
        let _ = (tensor.to_i64(), tensor.to_u8(), tensor.to_le_bytes());
    }
}
