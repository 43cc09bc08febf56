//! The metadata file of an episode (datasets.md section 9.2).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::container::mapped::FileBytes;
use crate::{Error, Result};

/// Folder of the recordings inside an episode; also what separates a path of the metadata from its file
/// name.
const RECORDINGS: &str = "recordings/MP4";

/// What is known about an episode.
pub(super) struct Metadata {
    pub(super) bytes: FileBytes,
    values: Map<String, Value>,
}

impl Metadata {
    /// Reads the metadata of an episode's folder: `metadata_*.json`, of several the one whose `uuid` is
    /// that of the folder, of none the only other JSON file (datasets.md section 16, case 25).
    pub(super) fn of_folder(folder: &Path, episode: u64) -> Result<Self> {
        let files = json_files(folder)?;
        let is_named = |path: &&PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("metadata"))
        };
        let named: Vec<&PathBuf> = files.iter().filter(is_named).collect();
        let candidates = if named.is_empty() {
            files.iter().collect()
        } else {
            named
        };
        match candidates.as_slice() {
            [] => Err(Error::Missing {
                path: folder.join("metadata_*.json"),
            }),
            [only] => Self::open(only),
            [first, second, ..] => {
                let readable = candidates.iter().filter_map(|path| Self::open(path).ok());
                let mut matching = readable.filter(|metadata| metadata.is_about(folder));
                match (matching.next(), matching.next()) {
                    (Some(metadata), None) => Ok(metadata),
                    _ => Err(Error::Ambiguous {
                        episode,
                        first: (*first).clone(),
                        second: (*second).clone(),
                    }),
                }
            }
        }
    }

    fn open(path: &Path) -> Result<Self> {
        let bytes = FileBytes::open(path)?;
        let refused = |detail: String| Error::Json {
            path: path.to_path_buf(),
            detail,
        };
        let parsed = parse(&bytes).map_err(|e| refused(e.to_string()))?;
        match parsed {
            Value::Object(values) => Ok(Self { bytes, values }),
            _ => Err(refused("it is no object".into())),
        }
    }

    /// Whether its `uuid` is the folder's name, or has the time of day that the name has.
    fn is_about(&self, folder: &Path) -> bool {
        let (Some(uuid), Some(name)) = (self.text("uuid"), folder.file_name()) else {
            return false;
        };
        let name = name.to_string_lossy().replace([':', '\u{ff1a}'], "_");
        uuid == name || time_of_day(uuid).is_some_and(|time| name.contains(&time))
    }

    /// A text value.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.as_str()
    }

    /// A truth value.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.values.get(key)?.as_bool()
    }

    /// The recording of a view inside the episode's folder.
    pub(super) fn video(&self, folder: &Path, key: &str) -> Result<PathBuf> {
        let listed = self.text(key).ok_or_else(|| Error::MissingKey {
            path: self.bytes.path().to_path_buf(),
            key: key.into(),
        })?;
        let name = listed
            .rsplit_once(&format!("{RECORDINGS}/"))
            .map_or(listed, |(_, name)| name);
        let name = name.rsplit('/').next().unwrap_or(name);
        if name.is_empty() || name == ".." || name.contains('\\') {
            return Err(Error::Format {
                path: self.bytes.path().to_path_buf(),
                expected: "metadata of an episode",
                detail: format!("`{key}` is `{listed}`, which names no file"),
            });
        }
        Ok(folder.join(RECORDINGS).join(name))
    }
}

/// Parses JSON as Python writes it: a number that is not finite stands there as a bare word, and becomes `null`, no
/// value at all.
fn parse(json: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(json)
        .or_else(|_| serde_json::from_slice(&without_words_for_numbers(json)))
}

/// The same text with `null` for every `NaN`, `Infinity` and `-Infinity` outside strings. What is no JSON for another
/// reason stays so.
fn without_words_for_numbers(json: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut text = Vec::with_capacity(json.len() + json.len() / 3);
    let (mut rest, mut is_string) = (json, false);
    while let Some(&byte) = rest.first() {
        let word = WORDS.iter().find(|word| rest.starts_with(word));
        let taken = match (byte, word) {
            // What follows a backslash does not end the string.
            (b'\\', _) if is_string => 2.min(rest.len()),
            (_, Some(word)) if !is_string => {
                text.extend(b"null");
                rest = &rest[word.len()..];
                continue;
            }
            _ => 1,
        };
        is_string ^= byte == b'"';
        text.extend(&rest[..taken]);
        rest = &rest[taken..];
    }
    text
}

/// `09_42_23` of `...-09h-42m-23s`.
fn time_of_day(uuid: &str) -> Option<String> {
    let mut parts = uuid.rsplit('-');
    let mut next = |unit| parts.next()?.strip_suffix(unit);
    let (seconds, minutes, hours) = (next('s')?, next('m')?, next('h')?);
    Some(format!("{hours}_{minutes}_{seconds}"))
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|ext| ext == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("Fri_Jul__7_09:42:23_2023");
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("a file");
        }
        (root, folder)
    }

    fn uuid(files: &[(&str, &str)]) -> Result<Option<String>> {
        let (_root, folder) = folder(files);
        let metadata = Metadata::of_folder(&folder, 3)?;
        Ok(metadata.text("uuid").map(str::to_string))
    }

    #[test]
    fn of_several_files_the_one_about_the_folder_is_taken() {
        let (ours, other) = (
            r#"{"uuid": "LAB+u+2023-07-07-09h-42m-23s"}"#,
            r#"{"uuid": "LAB+u+2023-07-07-10h-42m-23s"}"#,
        );
        let found = uuid(&[("metadata_a.json", other), ("metadata_b.json", ours)]);
        assert_eq!(
            found.expect("one"),
            Some("LAB+u+2023-07-07-09h-42m-23s".into())
        );
        let found = uuid(&[("a_notes.json", "[]"), ("metadata_b.json", other)]);
        assert_eq!(
            found.expect("one"),
            Some("LAB+u+2023-07-07-10h-42m-23s".into())
        );
        let found = uuid(&[("info.json", ours)]);
        assert!(found.expect("one").is_some());
        let refused = uuid(&[("metadata_a.json", other), ("metadata_b.json", other)]);
        assert!(matches!(refused, Err(Error::Ambiguous { episode: 3, .. })));
        assert!(matches!(uuid(&[]), Err(Error::Missing { .. })));
        let refused = uuid(&[("metadata_a.json", "{\"uuid\": ")]);
        assert!(matches!(refused, Err(Error::Json { .. })));
    }

    /// Python writes numbers that are not finite, of a calibration that failed for example, as bare words.
    #[test]
    fn numbers_that_are_not_finite_are_no_values() {
        let text = r#"{"ext1_cam_extrinsics": [NaN, -Infinity,Infinity], "n": -1.5e3, "nan": "NaN",
            "current_task": "press \"Infinity\", NaN \\", "success": NaN, "uuid":NaN}"#;
        let (_root, folder) = folder(&[("metadata_a.json", text)]);
        let metadata = Metadata::of_folder(&folder, 0).expect("metadata");
        assert_eq!(
            metadata.values["ext1_cam_extrinsics"],
            serde_json::json!([null, null, null])
        );
        assert_eq!(metadata.values["n"], serde_json::json!(-1500.0));
        assert_eq!(metadata.text("nan"), Some("NaN"));
        assert_eq!(
            metadata.text("current_task"),
            Some(r#"press "Infinity", NaN \"#)
        );
        assert_eq!(metadata.flag("success"), None);
        assert_eq!(metadata.text("uuid"), None);
        assert_eq!(&*metadata.bytes, text.as_bytes(), "the hash is of the file");
    }

    #[test]
    fn what_is_no_json_stays_no_json() {
        for text in [
            r#"{"a": NaN"#,
            r#"{"a": -NaN}"#,
            r#"{"a": 1NaN}"#,
            r#"{"a": NaNa}"#,
            r"{NaN: 1}",
            r#"{"a": +Infinity}"#,
            r#"{"a": nan}"#,
            "{\"a\": \"NaN",
            "{\"a\": \"\\",
        ] {
            let refused = uuid(&[("metadata_a.json", text)]);
            assert!(matches!(refused, Err(Error::Json { .. })), "{text}");
        }
    }

    #[test]
    fn recordings_lie_inside_their_episode_whatever_the_path_says() {
        let text = r#"{"left_mp4_path": "a/recordings/MP4/1.mp4", "up": "recordings/MP4/../../2.mp4", "no": ".."}"#;
        let (_root, folder) = folder(&[("metadata_a.json", text)]);
        let metadata = Metadata::of_folder(&folder, 0).expect("metadata");
        let at = |name: &str| folder.join("recordings/MP4").join(name);
        assert_eq!(
            metadata.video(&folder, "left_mp4_path").expect("a path"),
            at("1.mp4")
        );
        assert_eq!(metadata.video(&folder, "up").expect("a path"), at("2.mp4"));
        assert!(metadata.video(&folder, "no").is_err());
        let missing = metadata.video(&folder, "right_mp4_path").unwrap_err();
        assert_eq!(missing.code(), "missing_key");
    }
}
