//! Previews: what is drawn is what is stored.

use std::path::Path;

use crate::support::{collect, exits_with, succeeds, text};

#[test]
fn a_contact_sheet_and_a_clip_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 2);
    let draw = |name: &str, more: &[&str]| -> serde_json::Value {
        let out = folder.path().join(name);
        let args = [
            "preview",
            text(&data),
            "--episode",
            "1",
            "--out",
            text(&out),
            "--json",
        ];
        serde_json::from_str(&succeeds(&[&args[..], more].concat())).unwrap()
    };
    let sheet = draw("a.png", &["--frames", "6"]);
    assert_eq!(sheet["frames"], serde_json::json!([0, 10, 20, 30, 40, 50]));
    let png = std::fs::read(folder.path().join("a.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let side = |at: usize| u64::from(u32::from_be_bytes(png[at..at + 4].try_into().unwrap()));
    assert_eq!(
        (side(16), side(20)),
        (
            sheet["width"].as_u64().unwrap(),
            sheet["height"].as_u64().unwrap()
        )
    );
    let clip = draw("a.gif", &[]);
    assert_eq!(clip["frames"].as_array().unwrap().len(), 51);
    let gif = std::fs::read(folder.path().join("a.gif")).unwrap();
    assert!(gif.starts_with(b"GIF89a") && gif.ends_with(b";"));
    let film = draw("a.mp4", &[]);
    assert_eq!(film["frames"], clip["frames"]);
    let mp4 = std::fs::read(folder.path().join("a.mp4")).unwrap();
    assert_eq!(&mp4[4..8], b"ftyp");
    let index = mp4.windows(4).position(|window| window == b"moov");
    assert!(index.is_some(), "a file without an index cannot be played");
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 2);
    let refused = |more: &[&str]| exits_with(2, &[&["preview", text(&data)], more].concat());
    let avi = refused(&["--episode", "0", "--out", "a.avi"]);
    assert!(avi.contains(".png") && avi.contains(".gif"), "{avi}");
    assert!(!Path::new("a.avi").exists());
    assert!(refused(&["--episode", "7", "--out", "a.png"]).contains("out of range"));
    let camera = refused(&["--episode", "0", "--out", "a.png", "--camera", "tpo"]);
    assert!(camera.contains("did you mean `top`"), "{camera}");
}
