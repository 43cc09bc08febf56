//! Film strips of a run: `films/index.json` and the pictures it names.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// A film strip of one episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Film {
    /// Seed of the episode.
    pub seed: u64,
    /// Whether the episode ended at the goal.
    pub success: bool,
    /// What the strip shows.
    pub caption: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The PNG file.
    pub png: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    seed: u64,
    success: bool,
    file: String,
    #[serde(default)]
    caption: String,
}

/// Reads the film strips of a run folder; none if it has no `films/index.json`.
///
/// # Errors
/// When the index does not parse or a picture that it names cannot be read.
pub fn load_films(run: &Path) -> Result<Vec<Film>> {
    let index = run.join("films").join("index.json");
    let bytes = match std::fs::read(&index) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read", &index, source)),
    };
    let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
        path: index.clone(),
        line: source.line(),
        what: "film index",
        source,
    })?;
    entries.into_iter().map(|entry| load(run, entry)).collect()
}

fn load(run: &Path, entry: Entry) -> Result<Film> {
    let file = Path::new(&entry.file);
    // The index may name files relative to the run or to its own folder; only the name counts.
    let name = file.file_name().unwrap_or(file.as_os_str());
    let path = run.join("films").join(name);
    let png = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
    let reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info();
    let size = reader
        .map_err(|source| Error::Picture { path, source })?
        .info()
        .size();
    Ok(Film {
        seed: entry.seed,
        success: entry.success,
        caption: entry.caption,
        size,
        png,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_films_has_none_and_a_missing_picture_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load_films(folder.path()).unwrap(), []);
        std::fs::create_dir(folder.path().join("films")).unwrap();
        let index = folder.path().join("films").join("index.json");
        std::fs::write(
            &index,
            r#"[{"seed":3,"success":true,"file":"a.png","caption":"x"}]"#,
        )
        .unwrap();
        assert!(matches!(load_films(folder.path()), Err(Error::Io { .. })));
        std::fs::write(folder.path().join("films").join("a.png"), "no picture").unwrap();
        assert!(matches!(
            load_films(folder.path()),
            Err(Error::Picture { .. })
        ));
    }
}
