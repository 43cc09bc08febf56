//! HDF5 files: what is read from them, and what files that lie cannot do.

use std::fs;
use std::path::{Path, PathBuf};

use hdf5::types::{FixedAscii, VarLenAscii, VarLenUnicode};
use jepa_ingest::Error;
use jepa_ingest::container::hdf5::{Group, Kind, open};

use crate::support::fixture;

fn file(write: impl FnOnce(&hdf5::File)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data.h5");
    let file = hdf5::File::create(&path).expect("a file");
    write(&file);
    file.close().expect("closed");
    (folder, path)
}

fn root(path: &Path) -> Group {
    open(path).expect("a file")
}

fn code(result: Result<impl Sized, Error>) -> &'static str {
    result.map(|_| ()).expect_err("an error").code()
}

#[test]
fn numbers_widen_and_never_narrow() {
    let (_folder, path) = file(|file| {
        let put = |name: &str| {
            file.new_dataset_builder()
                .with_data(&[1_i16, -2])
                .create(name)
        };
        put("i16").expect("data");
        file.new_dataset_builder()
            .with_data(&[0.5_f32, -1.5])
            .create("f32")
            .expect("data");
        file.new_dataset_builder()
            .with_data(&[0.1_f64, 2.0])
            .create("f64")
            .expect("data");
        file.new_dataset_builder()
            .with_data(&[1_u8, 255])
            .create("u8")
            .expect("data");
        file.new_dataset_builder()
            .with_data(&[true, false])
            .create("bool")
            .expect("data");
        file.new_dataset_builder()
            .with_data(&[1_u64, u64::MAX])
            .create("u64")
            .expect("data");
        file.new_dataset_builder()
            .with_data(&[1_i64, (1 << 53) + 1])
            .create("i64")
            .expect("data");
    });
    let data = |name: &str| root(&path).data(name).expect("data");
    assert_eq!(data("i16").f64(None).expect("floats"), [1.0, -2.0]);
    assert_eq!(data("i16").f32(None).expect("floats"), [1.0, -2.0]);
    assert_eq!(data("i16").i64(None).expect("integers"), [1, -2]);
    assert_eq!(data("f32").f64(None).expect("floats"), [0.5, -1.5]);
    assert_eq!(data("f64").f64(None).expect("floats"), [0.1, 2.0]);
    assert_eq!(data("u8").u8(None).expect("bytes"), [1, 255]);
    assert_eq!(data("u8").i64(None).expect("integers"), [1, 255]);
    assert_eq!(data("bool").i64(None).expect("integers"), [1, 0]);
    assert_eq!(data("bool").kind(), Kind::Enumeration(1));
    assert_eq!(code(data("f64").f32(None)), "unsupported_dtype");
    assert_eq!(code(data("f32").i64(None)), "unsupported_dtype");
    assert_eq!(code(data("i16").u8(None)), "unsupported_dtype");
    assert_eq!(code(data("u64").i64(None)), "out_of_range");
    assert_eq!(code(data("i64").f64(None)), "out_of_range");
}

#[test]
fn rows_may_be_read_by_range() {
    let (_folder, path) = file(|file| {
        let values: Vec<f32> = (0..24).map(|v| v as f32).collect();
        for (name, chunk) in [("plain", None), ("chunked", Some((1, 3, 2)))] {
            let builder = file.new_dataset::<f32>().shape((4, 3, 2));
            let builder = match chunk {
                Some(chunk) => builder.chunk(chunk).deflate(4),
                None => builder,
            };
            builder
                .create(name)
                .expect("data")
                .as_writer()
                .write_raw(&values)
                .expect("written");
        }
    });
    for name in ["plain", "chunked"] {
        let data = root(&path).data(name).expect("data");
        assert_eq!(data.rows_of(&[3, 2]).expect("rows"), 4);
        let expected: Vec<f32> = (6..18).map(|v| v as f32).collect();
        assert_eq!(data.f32(Some(1..3)).expect("rows"), expected);
        assert_eq!(data.f32(Some(2..2)).expect("no rows"), Vec::<f32>::new());
        assert_eq!(data.f32(None).expect("all rows").len(), 24);
        assert_eq!(code(data.f32(Some(3..5))), "length_out_of_range");
        let backwards = std::ops::Range { start: 3, end: 1 };
        assert_eq!(code(data.f32(Some(backwards))), "length_out_of_range");
        assert_eq!(code(data.rows_of(&[6])), "count_mismatch");
    }
}

#[test]
fn texts_of_all_kinds_are_read() {
    let json = r#"{"lang": "öffne"}"#;
    let (_folder, path) = file(|file| {
        let group = file.create_group("data").expect("a group");
        let unicode: VarLenUnicode = json.parse().expect("text");
        group
            .new_attr_builder()
            .with_data(&[unicode])
            .create("variable")
            .expect("an attribute");
        let scalar = group
            .new_attr::<VarLenAscii>()
            .create("ascii")
            .expect("an attribute");
        scalar
            .write_scalar(&VarLenAscii::from_ascii("plain").expect("text"))
            .expect("written");
        let fixed = group
            .new_attr::<FixedAscii<40>>()
            .create("fixed")
            .expect("an attribute");
        fixed
            .write_scalar(&FixedAscii::<40>::from_ascii("{\"a\": 1}").expect("text"))
            .expect("written");
        let broken = group
            .new_attr::<FixedAscii<4>>()
            .create("broken")
            .expect("an attribute");
        broken
            .write_scalar(&FixedAscii::<4>::from_ascii("{\"a\"").expect("text"))
            .expect("written");
        let number = group
            .new_attr::<f64>()
            .create("number")
            .expect("an attribute");
        number.write_scalar(&1.5).expect("written");
        let names = ["demo_1", "demo_22"].map(|n| FixedAscii::<12>::from_ascii(n).expect("text"));
        group
            .new_dataset_builder()
            .with_data(&names)
            .create("names")
            .expect("texts");
    });
    let group = root(&path).group("data").expect("a group");
    let lang = |name: &str| group.json_attribute(name).expect("JSON").expect("there");
    assert_eq!(lang("variable")["lang"], "öffne");
    assert_eq!(lang("fixed")["a"], 1);
    assert_eq!(
        group.text_attribute("ascii").expect("text").as_deref(),
        Some("plain")
    );
    assert_eq!(group.text_attribute("none").expect("nothing"), None);
    assert_eq!(code(group.json_attribute("broken")), "invalid_json");
    assert_eq!(code(group.text_attribute("number")), "unsupported_dtype");
    assert_eq!(
        group.data("names").expect("data").texts().expect("texts"),
        ["demo_1", "demo_22"]
    );
    assert_eq!(
        code(group.data("names").expect("data").f64(None)),
        "unsupported_dtype"
    );
    assert_eq!(group.children().expect("names"), ["names"]);
}

#[test]
fn missing_keys_are_named_in_full() {
    let (_folder, path) = file(|file| {
        file.create_group("a/b").expect("a group");
    });
    let group = root(&path).group("a").expect("a group");
    assert!(group.contains("b") && !group.contains("b/c") && !group.contains("x/y"));
    let error = group.data("b/c").map(|_| ()).expect_err("no data");
    let Error::MissingKey { key, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(key, "a/b/c");
}

#[test]
fn links_to_other_places_are_not_followed() {
    let (folder, path) = file(|file| {
        file.new_dataset_builder()
            .with_data(&[1.0])
            .create("own")
            .expect("data");
        file.link_external("other.h5", "secret", "out")
            .expect("a link");
        file.link_soft("/own", "alias").expect("a link");
    });
    let other = hdf5::File::create(folder.path().join("other.h5")).expect("a file");
    other
        .new_dataset_builder()
        .with_data(&[2.0])
        .create("secret")
        .expect("data");
    other.close().expect("closed");
    let root = root(&path);
    assert_eq!(
        root.data("own").expect("data").f64(None).expect("floats"),
        [1.0]
    );
    for name in ["out", "alias"] {
        assert_eq!(code(root.data(name)), "invalid_header", "{name}");
        assert!(!root.contains(name));
    }
}

#[test]
fn values_in_other_files_are_not_read() {
    let (_folder, path) = file(|file| {
        file.new_dataset::<u8>()
            .external("/etc/passwd", 0, 8)
            .shape([8])
            .create("raw")
            .expect("data");
    });
    assert_eq!(code(root(&path).data("raw")), "invalid_header");
}

/// A header of a few bytes may announce any size: nothing is allocated for it.
#[test]
fn announced_sizes_are_compared_with_the_file() {
    let (_folder, path) = file(|file| {
        let huge = |name: &str, filtered: bool| {
            let builder = file.new_dataset::<f64>().shape((1 << 40, 7)).chunk((1, 7));
            let builder = if filtered {
                builder.deflate(1)
            } else {
                builder
            };
            builder.create(name).expect("data");
        };
        huge("chunked", false);
        huge("compressed", true);
        file.new_dataset::<f64>()
            .shape([1 << 30])
            .create("late")
            .expect("data");
        let empty = file.new_dataset::<f64>().shape((0.., 7)).chunk((1, 7));
        empty.create("empty").expect("data");
    });
    let root = root(&path);
    for name in ["chunked", "compressed", "late"] {
        assert_eq!(code(root.data(name)), "length_out_of_range", "{name}");
    }
    assert_eq!(
        root.data("empty")
            .expect("data")
            .f64(None)
            .expect("nothing"),
        Vec::<f64>::new()
    );
}

#[test]
fn well_compressed_data_is_read() {
    let (_folder, path) = file(|file| {
        let images = file
            .new_dataset::<u8>()
            .shape((40, 64, 64, 3))
            .chunk((8, 64, 64, 3))
            .deflate(9);
        let images = images.create("black").expect("data");
        images
            .as_writer()
            .write_raw(&vec![0_u8; 40 * 64 * 64 * 3])
            .expect("written");
    });
    let black = root(&path).data("black").expect("data");
    assert_eq!(black.image_size().expect("images"), [64, 64]);
    assert!(black.u8(Some(3..5)).expect("bytes").iter().all(|&v| v == 0));
}

#[test]
fn unknown_filters_are_named() {
    let path = fixture("bad/33_swm_hdf5_problems/lzf_filter.h5");
    let root = root(&path);
    let faults = root
        .children()
        .expect("names")
        .into_iter()
        .filter_map(|name| root.data(&name).err());
    let filters: Vec<i32> = faults
        .map(|error| match error {
            Error::Filter { filter, .. } => filter,
            other => panic!("{other}"),
        })
        .collect();
    assert!(
        !filters.is_empty() && filters.iter().all(|id| *id == 32000),
        "{filters:?}"
    );
}

#[test]
fn cut_files_are_told_by_their_superblock() {
    for latest in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.h5");
        let mut builder = hdf5::FileBuilder::new();
        if latest {
            builder.with_fapl(|p| p.libver_latest());
        }
        let file = builder.create(&path).expect("a file");
        file.new_dataset_builder()
            .with_data(&[1.0; 500])
            .create("x")
            .expect("data");
        file.close().expect("closed");
        let bytes = fs::read(&path).expect("bytes");
        assert!(root(&path).data("x").is_ok());
        for length in [bytes.len() - 1, bytes.len() / 2, 60, 40, 9] {
            fs::write(&path, &bytes[..length]).expect("a cut file");
            assert_eq!(
                code(open(&path)),
                "truncated_file",
                "{length} bytes, latest {latest}"
            );
        }
        let mut behind_a_block = vec![0; 512];
        behind_a_block.extend(&bytes);
        fs::write(&path, &behind_a_block).expect("a file");
        assert!(open(&path).is_ok(), "latest {latest}");
        fs::write(&path, &behind_a_block[..behind_a_block.len() - 1]).expect("a file");
        assert_eq!(code(open(&path)), "truncated_file", "latest {latest}");
    }
}

#[test]
fn what_is_no_hdf5_file_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&[u8], &str); 5] = [
        (b"", "empty_file"),
        (b"<html>404</html>", "html_or_json_instead_of_data"),
        (
            b"version https://git-lfs.github.com/spec/v1\nsize 5\n",
            "lfs_pointer",
        ),
        (b"PK\x03\x04 something else", "invalid_header"),
        (
            b"\x89HDF\r\n\x1a\n\x09 a version from the future, long enough to be one....",
            "invalid_header",
        ),
    ];
    for (content, expected) in cases {
        let path = folder.path().join("data.h5");
        fs::write(&path, content).expect("a file");
        assert_eq!(code(open(&path)), expected);
    }
    assert_eq!(code(open(&folder.path().join("none.h5"))), "missing_file");
    assert_eq!(code(open(folder.path())), "invalid_header");
}

/// Bytes all over a small file changed, one at a time: an error or a value, never the end of the program.
#[test]
fn damaged_bytes_end_in_errors() {
    let (_folder, path) = file(|file| {
        let group = file.create_group("g").expect("a group");
        let data = group
            .new_dataset::<f64>()
            .shape((6, 2))
            .chunk((2, 2))
            .deflate(4);
        data.create("x")
            .expect("data")
            .as_writer()
            .write_raw(&[0.5; 12])
            .expect("written");
        let text: VarLenUnicode = "{}".parse().expect("text");
        group
            .new_attr_builder()
            .with_data(&[text])
            .create("meta")
            .expect("an attribute");
    });
    let bytes = fs::read(&path).expect("bytes");
    let mut read = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, &damaged).expect("a file");
        let values = open(&path).and_then(|root| {
            let group = root.group("g")?;
            let _text = group.text_attribute("meta");
            group.data("x")?.f64(None)
        });
        read += usize::from(values.is_ok());
    }
    assert!(read > 0, "most bytes do not matter");
}
