//! Which folders are episodes: a list of paths, or what a search finds (datasets.md section 9.4).

use std::fs;
use std::path::{Path, PathBuf};

use super::super::hdf5_release::find_files;
use super::super::support::Hash;
use crate::container::mapped::FileBytes;
use crate::{Error, Result};

/// Name of the file that makes a folder an episode.
pub(super) const TRAJECTORY: &str = "trajectory.h5";

/// The episodes of a release, in order.
pub(super) struct List {
    /// Folder that messages are relative to.
    pub(super) root: PathBuf,
    /// Folder of every episode, whether it is there or not.
    pub(super) folders: Vec<PathBuf>,
    /// Name and hash of the list, where there is one.
    pub(super) input: Option<(String, String)>,
    /// What was made of it, where that is not plain.
    pub(super) notes: Vec<String>,
}

impl List {
    /// Reads a list, or searches a folder for `trajectory.h5`.
    pub(super) fn open(src: &Path) -> Result<Self> {
        if src.is_dir() {
            return Self::search(src);
        }
        let bytes = FileBytes::open(src)?;
        let parent = src.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_path_buf();
        if src.file_name().is_some_and(|name| name == TRAJECTORY) {
            return Ok(Self {
                folders: vec![parent.clone()],
                root: parent,
                input: None,
                notes: Vec::new(),
            });
        }
        let text = text_of(&bytes)?;
        let mut list = Self {
            root: parent,
            folders: Vec::new(),
            input: src
                .file_name()
                .map(|name| (name.to_string_lossy().into_owned(), hash(&bytes))),
            notes: Vec::new(),
        };
        list.read(text);
        if list.folders.is_empty() {
            return Err(Error::Nothing {
                path: src.to_path_buf(),
                detail: "the list names no folder".into(),
            });
        }
        Ok(list)
    }

    fn search(src: &Path) -> Result<Self> {
        let files = find_files(src, &|name| name == TRAJECTORY)?;
        if files.is_empty() {
            return Err(Error::Nothing {
                path: src.to_path_buf(),
                detail: format!("no folder below it holds `{TRAJECTORY}`"),
            });
        }
        let folders = files.iter().filter_map(|file| file.parent());
        Ok(Self {
            root: src.to_path_buf(),
            folders: folders.map(Path::to_path_buf).collect(),
            input: None,
            notes: vec!["episodes are the folders with a `trajectory.h5`, by path".into()],
        })
    }

    fn read(&mut self, text: &str) {
        let mut moved = 0;
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let spellings = paths_of(line);
            let found = spellings.iter().find_map(|path| locate(&self.root, path));
            let is_path = line.contains(['/', '\\']);
            match found {
                Some((folder, was_moved)) => {
                    moved += usize::from(was_moved);
                    self.folders.push(folder);
                }
                None if number == 0 && !is_path => self.notes.push(format!(
                    "the first path of the list, `{}`, does not exist and was taken for a header",
                    line.trim()
                )),
                None => {
                    let path = spellings.last().map_or("", String::as_str);
                    self.folders.push(self.root.join(path));
                }
            }
        }
        if moved > 0 {
            self.notes.push(format!(
                "{moved} of {} paths of the list do not exist as written and were found below its folder",
                self.folders.len()
            ));
        }
    }
}

/// What a line may mean by its path: all of it, or all but a number in a second column.
fn paths_of(line: &str) -> Vec<String> {
    let line = line.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = line.strip_prefix(quote) {
            return vec![unquote(rest, quote)];
        }
    }
    let mut paths = vec![line.to_string()];
    if let Some((path, index)) = line.rsplit_once([' ', '\t', ',', ';'])
        && !index.is_empty()
        && index.bytes().all(|b| b.is_ascii_digit())
    {
        paths.push(path.trim_end().to_string());
    }
    paths
}

/// Text up to the closing quote; a doubled quote stands for one.
fn unquote(rest: &str, quote: char) -> String {
    let mut text = String::new();
    let mut letters = rest.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == quote && letters.next_if_eq(&quote).is_none() {
            break;
        }
        text.push(letter);
    }
    text
}

/// The folder that a path of a list means, and whether it lies elsewhere than the path says: lists hold
/// absolute paths, and releases move.
fn locate(root: &Path, path: &str) -> Option<(PathBuf, bool)> {
    let path = Path::new(path);
    let folder = if path.file_name().is_some_and(|name| name == TRAJECTORY) {
        path.parent()?
    } else {
        path
    };
    if folder.as_os_str().is_empty() {
        return None;
    }
    if let Some(found) = as_spelled(&root.join(folder)) {
        return Some((found, false));
    }
    let parts: Vec<_> = folder.components().collect();
    let shorter = (1..parts.len()).map(|skipped| parts[skipped..].iter().collect::<PathBuf>());
    shorter
        .filter(|rest| !rest.starts_with(".."))
        .find_map(|rest| as_spelled(&root.join(rest)))
        .map(|found| (found, true))
}

/// The folder under its own name, or under the only name that differs in how times are separated
/// (datasets.md section 16, case 27).
fn as_spelled(folder: &Path) -> Option<PathBuf> {
    if folder.is_dir() {
        return Some(folder.to_path_buf());
    }
    let plain = |name: &str| name.replace([':', '\u{ff1a}'], "_");
    let wanted = plain(&folder.file_name()?.to_string_lossy());
    let entries = fs::read_dir(folder.parent()?).ok()?;
    let mut alike = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| plain(&name.to_string_lossy()) == wanted)
        });
    let first = alike.next()?;
    alike.next().is_none().then_some(first)
}

fn text_of(bytes: &FileBytes) -> Result<&str> {
    let refused = |detail: &str| Error::Format {
        path: bytes.path().to_path_buf(),
        expected: "a list of folders",
        detail: detail.into(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refused("it is not text"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = text.trim_start();
    if start.starts_with(['<', '{', '[']) || start.starts_with("version https://git-lfs") {
        return Err(bytes.unless_known(refused("it does not start with a path")));
    }
    Ok(text)
}

fn hash(bytes: &[u8]) -> String {
    let mut hash = Hash::default();
    hash.add(bytes);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_be_quoted_and_have_an_index() {
        assert_eq!(paths_of("/a/b 12"), ["/a/b 12", "/a/b"]);
        assert_eq!(paths_of("/a/b"), ["/a/b"]);
        assert_eq!(paths_of("/a b/c"), ["/a b/c"]);
        assert_eq!(paths_of("\"/a b/c 1\" 3"), ["/a b/c 1"]);
        assert_eq!(paths_of("\"/a \"\"b\"\"\""), ["/a \"b\""]);
        assert_eq!(paths_of("'/a b'"), ["/a b"]);
    }

    #[test]
    fn folders_are_found_where_the_release_lies_now() {
        let root = tempfile::tempdir().expect("a folder");
        let real = root.path().join("LAB/success/Fri_Jul__7_09_42_23_2023");
        fs::create_dir_all(&real).expect("a folder");
        let at = |path: &str| locate(root.path(), path);
        let moved = "/elsewhere/LAB/success/Fri_Jul__7_09_42_23_2023";
        assert_eq!(at(moved), Some((real.clone(), true)));
        assert_eq!(
            at("LAB/success/Fri_Jul__7_09:42:23_2023"),
            Some((real.clone(), false))
        );
        let wide = "LAB/success/Fri_Jul__7_09\u{ff1a}42\u{ff1a}23_2023/trajectory.h5";
        assert_eq!(at(wide), Some((real, false)));
        assert_eq!(at("/elsewhere/LAB/failure/other"), None);
        assert_eq!(at(""), None);
    }
}
