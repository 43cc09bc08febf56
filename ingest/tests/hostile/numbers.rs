//! Arrays and tensors whose headers announce what is not there.

use std::borrow::Cow;
use std::path::Path;

use jepa_ingest::Error;
use jepa_ingest::container::npy::{Array, Npz};
use jepa_ingest::container::torch_zip::TorchFile;

use super::memory::within;
use super::{Dice, Scratch};
use crate::support::fixture;
use crate::support::torch::View;

fn npy(version: u8, length: &[u8], header: &str) -> Vec<u8> {
    [
        b"\x93NUMPY",
        &[version, 0][..],
        length,
        header.as_bytes(),
        &[0; 16],
    ]
    .concat()
}

fn parse(bytes: &[u8]) -> Result<(), Error> {
    Array::parse(Path::new("x.npz"), "a", Cow::Borrowed(bytes)).map(|_| ())
}

#[test]
fn arrays_cost_no_more_than_their_bytes() {
    let shapes = [
        format!("({},)", 1_u64 << 60),
        format!("({0}, {0}, {0})", u64::from(u32::MAX)),
        format!("({}, 0)", u64::MAX),
        format!("({}0, 1)", u64::MAX),
        "(-1,)".into(),
        "(2, -1)".into(),
        format!("({})", "1, ".repeat(100_000)),
        format!("({}", "(".repeat(100_000)),
        "(1e9,)".into(),
        "(True,)".into(),
        "(0x10,)".into(),
    ];
    for shape in shapes {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let length = (header.len() as u32).to_le_bytes();
        let bytes = npy(2, &length, &header);
        assert!(within(64 << 10, || parse(&bytes)).is_err(), "{shape}");
    }
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }";
    for length in [0, 1, 200, 1 << 16, 1 << 31, u32::MAX] {
        let bytes = npy(2, &u32::to_le_bytes(length), header);
        assert!(within(4096, || parse(&bytes)).is_err(), "{length}");
    }
    for length in [0, 1, 200, u16::MAX] {
        let bytes = npy(1, &u16::to_le_bytes(length), header);
        assert!(within(4096, || parse(&bytes)).is_err(), "{length}");
    }
    let whole = npy(1, &(header.len() as u16).to_le_bytes(), header);
    parse(&whole).expect("the header that all of them are made from");
}

#[test]
fn types_that_are_no_plain_numbers_are_refused() {
    let types = [
        "'|O'",
        "'O'",
        "[('a', '|O')]",
        "[('a', [('b', '<f4', (99999999, 99999999))])]",
        "'<M8[ns]'",
        "'<U9999999999'",
        "'|S0'",
        "'|V8'",
        "'<c16'",
        "'<f999'",
        "'<f16'",
        "''",
        "__import__('os').system('true')",
    ];
    for descr in types {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}");
        let bytes = npy(1, &(header.len() as u16).to_le_bytes(), &header);
        assert!(within(4096, || parse(&bytes)).is_err(), "{descr}");
    }
}

/// A tensor of a storage of 24 bytes.
fn tensor(class: &str, numel: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let view = View {
        class,
        numel,
        offset,
        size,
        stride,
        ..View::default()
    };
    view.saved(&[1; 24])
}

#[test]
fn tensors_cost_no_more_than_their_storage() {
    let scratch = Scratch::new("a.pth");
    let read = |bytes: &[u8]| {
        let file = TorchFile::open(scratch.write(bytes)).expect("an archive");
        within(1 << 20, || {
            file.tensor().map(|tensor| tensor.to_f64().len())
        })
    };
    let good = tensor("FloatStorage", 6, 1, &[2, 2], &[2, 1]);
    assert_eq!(read(&good).expect("a tensor"), 4);
    let big = i64::MAX;
    let cases: [(i64, i64, &[i64], &[i64]); 13] = [
        (6, 0, &[7], &[1]),
        (6, 3, &[4], &[1]),
        (6, 0, &[1 << 60], &[0]),
        (6, 0, &[1 << 32, 1 << 32], &[0, 0]),
        (6, 0, &[2], &[big]),
        (6, 0, &[3, 2], &[big / 2, big / 2]),
        (6, big, &[1], &[1]),
        (6, -1, &[1], &[1]),
        (6, 0, &[-1], &[1]),
        (6, 5, &[2], &[-1]),
        (6, 0, &[2, 2], &[1]),
        (6, 0, &[7, 1], &[0, 0]),
        (big, 0, &[big], &[1]),
    ];
    for (numel, offset, size, stride) in cases {
        let bytes = tensor("FloatStorage", numel, offset, size, stride);
        let found = read(&bytes);
        assert!(
            found.is_err(),
            "{numel} {offset} {size:?} {stride:?}: {found:?}"
        );
    }
    // Nothing is nothing, however large the other dimensions.
    let empty = tensor("FloatStorage", 6, 0, &[0, big, big], &[big, big, 1]);
    assert!(!matches!(read(&empty), Ok(1..)));
    let unknown = tensor("QInt8Storage", 6, 0, &[1], &[1]);
    assert!(matches!(read(&unknown), Err(Error::ForbiddenGlobal { .. })));
}

/// datasets.md section 16, case 56: where a tensor was does not matter to where it is read.
#[test]
fn tensors_of_every_device_and_float_are_read() {
    let scratch = Scratch::new("a.pth");
    for device in ["cpu", "cuda:0", "cuda:7", "mps", "meta"] {
        for (class, storage) in [
            ("DoubleStorage", 1.5_f64.to_le_bytes().to_vec()),
            ("FloatStorage", 1.5_f32.to_le_bytes().to_vec()),
            ("HalfStorage", vec![0x00, 0x3e]),
            ("BFloat16Storage", vec![0xc0, 0x3f]),
        ] {
            let view = View {
                class,
                device,
                numel: 1,
                size: &[1],
                stride: &[1],
                ..View::default()
            };
            let file = TorchFile::open(scratch.write(&view.saved(&storage))).expect("an archive");
            let values = file.tensor().map(|tensor| tensor.to_f64());
            assert_eq!(values.expect("a tensor"), [1.5], "{class} on {device}");
        }
    }
}

#[test]
fn no_damage_of_a_tensor_file_does_more_than_an_error() {
    let scratch = Scratch::new("a.pth");
    let mut dice = Dice(3);
    let chunk = std::fs::read(fixture("bad/28_tdmpc2_wrong_lengths/chunk_1.pt")).unwrap();
    let strided = tensor("FloatStorage", 6, 0, &[3, 2], &[1, 3]);
    for (good, rounds) in [(chunk, 1500), (strided, 3000)] {
        for _ in 0..rounds {
            scratch.write(&dice.damage(&good));
            within(2 << 20, || {
                let Ok(file) = TorchFile::open(&scratch.path) else {
                    return;
                };
                for tensor in file.tensors().unwrap_or_default().values() {
                    assert_eq!(
                        tensor.to_f64().len(),
                        tensor.shape().iter().product::<usize>()
                    );
                }
            });
        }
    }
    scratch.holds_nothing_else();
}

#[test]
fn no_damage_of_an_array_does_more_than_an_error() {
    let scratch = Scratch::new("a.npz");
    let good = std::fs::read(fixture("npz/dtypes.npz")).unwrap();
    let mut dice = Dice(4);
    for _ in 0..2000 {
        scratch.write(&dice.damage(&good));
        within(2 << 20, || {
            let Ok(file) = Npz::open(&scratch.path) else {
                return;
            };
            for name in file.names() {
                if let Ok(array) = file.array(name) {
                    let _ = array.tensor().map(|tensor| tensor.to_f64());
                }
            }
        });
    }
}
