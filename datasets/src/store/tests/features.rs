//! What a build without JPEG says of it.

use serde_json::{Value, json};

use super::*;
use crate::conformance::validate;

#[track_caller]
fn lacks_jpeg(error: &Error) {
    assert_eq!(
        error.to_string(),
        "the codec `jpeg:90` needs the feature `jpeg`, which this build lacks"
    );
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("--features jpeg"), "{hint}");
}

#[test]
fn a_dataset_of_jpeg_frames_needs_another_build_and_is_not_damaged() {
    let root = folder();
    let root = root.path().join("set");
    write(&root, 1);
    let path = root.join(MANIFEST);
    let text = fs::read(&path).expect("a manifest");
    let mut manifest: Value = serde_json::from_slice(&text).expect("a manifest");
    manifest["codec"] = json!({"name": "jpeg", "quality": 90});
    fs::write(&path, serde_json::to_vec(&manifest).expect("JSON")).expect("a manifest");
    lacks_jpeg(&Dataset::open(&root).map(|_| ()).expect_err("an error"));
    lacks_jpeg(&validate(&root, &|| {}).expect_err("an error"));
}

#[test]
fn jpeg_is_not_written_either() {
    let root = folder();
    let root = root.path().join("set");
    let options = WriterOptions {
        codec: Codec::Jpeg { quality: 90 },
        ..options(1)
    };
    lacks_jpeg(
        &DatasetWriter::open(&root, options)
            .map(|_| ())
            .expect_err("an error"),
    );
    assert!(!root.exists(), "nothing is written");
    lacks_jpeg(&"jpeg:90".parse::<Codec>().expect_err("an error"));
}
