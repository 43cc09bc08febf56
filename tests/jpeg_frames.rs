//! `--codec jpeg:Q` from the command line: recorded, shown, validated, exported; refused for floats.

use jepa_datasets::{Dataset, Pixels};
use serde_json::Value;

use crate::support::{exits_with, succeeds, text};

#[test]
fn what_jpeg_lost_is_shown_and_goes_with_every_export() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let collect = ["collect", "wall", text(&data), "--episodes", "3"];
    succeeds(&[&collect[..], &["--codec", "jpeg:80"]].concat());
    succeeds(&["validate", text(&data)]);

    let shown: Value =
        serde_json::from_str(&succeeds(&["inspect", text(&data), "--json"])).unwrap();
    assert_eq!(
        shown["codec"],
        serde_json::json!({"name": "jpeg", "quality": 80})
    );
    let camera = shown["cameras"][0]["name"].as_str().unwrap();
    let psnr = shown["loss"][camera]["psnr_db"].as_f64().unwrap();
    let worst = shown["loss"][camera]["max_error"].as_u64().unwrap();
    assert!(psnr > 20.0 && worst > 0, "{psnr} dB, {worst}");
    let line = format!("loss      {camera} by jpeg:80: PSNR {psnr:.2} dB, largest error {worst}");
    let printed = succeeds(&["inspect", text(&data)]);
    assert!(printed.lines().any(|found| found == line), "{printed}");

    for format in ["lerobot", "swm", "zarr"] {
        let out = folder.path().join(format);
        let said = succeeds(&["export", format, text(&data), text(&out), "--json"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        let first = said["changes"][0].as_str().unwrap();
        assert!(first.contains("jpeg:80") && first.contains("dB"), "{first}");
        if format != "swm" {
            let document = std::fs::read(out.join("meta/jepa_bench.json")).unwrap();
            let document: Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document["dataset"]["codec"], shown["codec"]);
            assert_eq!(document["dataset"]["loss"], shown["loss"]);
        }
    }

    // The export has the decoded frames.
    let again = folder.path().join("again");
    let zarr = folder.path().join("zarr");
    succeeds(&["ingest", "zarr", text(&zarr), text(&again), "--strict"]);
    let (first, second) = (
        Dataset::open(&data).unwrap(),
        Dataset::open(&again).unwrap(),
    );
    assert!(second.manifest().loss.is_empty());
    let indices: Vec<usize> = (0..first.episodes()[1].length as usize).collect();
    let decoded: Pixels = first.read_frames(camera, 1, &indices).unwrap();
    assert_eq!(decoded, second.read_frames("img", 1, &indices).unwrap());
}

#[test]
fn floats_are_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ingest = [
        "ingest",
        "wall",
        "fixtures/wall_single",
        text(&data),
        "--codec",
        "jpeg:90",
    ];
    for more in [&[][..], &["--dry-run"]] {
        let said = exits_with(2, &[&ingest[..], more].concat());
        assert!(said.contains("has float32 frames"), "{said}");
        assert!(!data.exists());
    }
}
