//! The board as files: the same pages as the server's, to be opened from disk or put on any web server.
//!
//! ```text
//! index.html  submit.html  keys.html  log.html  feed.atom  export.json
//! task/wall@1.html  task/wall@1/rules.html
//! run/HASH.html  run/HASH/bundle.jbs  run/HASH/episode/3.html  run/HASH/film/3-0.png
//! compare/HASH/HASH.html
//! asset/HASH.css  asset/HASH.js           and .json and .csv beside every page
//! ```
//!
//! Links are relative and nothing is fetched; sorting and filtering need the script, reading does not. The same board
//! gives the same bytes. A folder is written beside the old one and renamed, so a reader never sees half of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::page::snapshot::{Details, Row, TaskView};
use crate::page::{Form, Links, Place, Shelf, Site, Snapshot};
use crate::record::{EpisodeRow, ModelKind};
use crate::referee::Referee;
use crate::store::Board;

/// Marks a folder as an export, which may be replaced by another.
const MARK: &str = "export.json";
/// What stands in that file.
const FORMAT: &str = "jepa-bench.site/1";
/// The first so many models are all compared with each other; the rest with the best alone.
const COMPARED: usize = 10;

/// What an export holds beside the pages of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteOptions {
    /// Episodes of each run that get a page, failures first.
    pub episodes: usize,
    /// Whether films are drawn where there is a simulator.
    pub films: bool,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            episodes: 100,
            films: true,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenSite {
    /// Number of files.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Head of the log of the board.
    pub head: String,
}

/// Writes a board as a folder of files, in place of an earlier export.
///
/// # Errors
/// When the board cannot be read, the folder is there and is not an export, or cannot be written.
pub fn export_site(
    board: Board,
    referee: Arc<dyn Referee>,
    out: &Path,
    options: SiteOptions,
) -> Result<WrittenSite> {
    check_target(out)?;
    let shelf = Shelf::new(board, referee);
    let snapshot = Snapshot::of(&shelf.board())?;
    let beside = Beside::new(out)?;
    let mut writer = Writer {
        root: beside.fresh.clone(),
        shelf: &shelf,
        snapshot: &snapshot,
        options,
        places: BTreeSet::new(),
        files: 0,
        bytes: 0,
    };
    writer.data()?;
    writer.pages()?;
    writer.mark()?;
    let exported = WrittenSite {
        files: writer.files,
        bytes: writer.bytes,
        head: snapshot.head.clone(),
    };
    beside.put_in_place(out)?;
    Ok(exported)
}

/// The folder is not there, is empty, or is an export.
fn check_target(out: &Path) -> Result<()> {
    let Ok(mut entries) = std::fs::read_dir(out) else {
        return if out.exists() {
            Err(not_ours(out))
        } else {
            Ok(())
        };
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let mark = std::fs::read(out.join(MARK)).unwrap_or_default();
    let mark: serde_json::Value = serde_json::from_slice(&mark).unwrap_or_default();
    if mark.get("format").and_then(serde_json::Value::as_str) == Some(FORMAT) {
        Ok(())
    } else {
        Err(not_ours(out))
    }
}

fn not_ours(out: &Path) -> Error {
    let why = std::io::Error::new(
        std::io::ErrorKind::AlreadyExists,
        "it holds something else than an export of a board",
    );
    Error::io("replace", out, why)
}

/// A folder beside the target, which takes its place in the end and is removed when that fails.
struct Beside {
    fresh: PathBuf,
    old: PathBuf,
}

impl Beside {
    fn new(out: &Path) -> Result<Self> {
        let name = out
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        std::fs::create_dir_all(&parent).map_err(|source| Error::io("create", &parent, source))?;
        let process = std::process::id();
        let fresh = parent.join(format!(".{name}.new-{process}"));
        let old = parent.join(format!(".{name}.old-{process}"));
        std::fs::create_dir(&fresh).map_err(|source| Error::io("create", &fresh, source))?;
        Ok(Self { fresh, old })
    }

    fn put_in_place(&self, out: &Path) -> Result<()> {
        let rename = |from: &Path, to: &Path| {
            std::fs::rename(from, to).map_err(|source| Error::io("replace", out, source))
        };
        let was_there = out.exists();
        if was_there {
            rename(out, &self.old)?;
        }
        if let Err(error) = rename(&self.fresh, out) {
            if was_there {
                rename(&self.old, out)?;
            }
            return Err(error);
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What cannot be removed is a hidden folder with our name and process in its name.
        let _ = std::fs::remove_dir_all(&self.fresh);
        let _ = std::fs::remove_dir_all(&self.old);
    }
}

/// Writes the files of an export.
struct Writer<'a> {
    root: PathBuf,
    shelf: &'a Shelf,
    snapshot: &'a Snapshot,
    options: SiteOptions,
    /// What there is to link to.
    places: BTreeSet<Place>,
    files: u64,
    bytes: u64,
}

impl Writer<'_> {
    /// Bundles, videos and films; what they are is known before the pages that link to them are drawn.
    fn data(&mut self) -> Result<()> {
        let snapshot = self.snapshot;
        self.places.extend([
            Place::Index,
            Place::Submit,
            Place::Keys,
            Place::Log,
            Place::Feed,
            Place::Style,
            Place::Script,
        ]);
        for task in &snapshot.tasks {
            self.places.insert(Place::Board(task.slug.clone()));
            self.places.insert(Place::Rules(task.slug.clone()));
            self.places.extend(comparisons(task));
            for row in &task.rows {
                self.run(task, row)?;
            }
        }
        Ok(())
    }

    fn run(&mut self, task: &TaskView, row: &Row) -> Result<()> {
        let id = &row.run.id;
        self.places.insert(Place::Run(id.clone()));
        if let Some(path) = self.shelf.bundle_path(self.snapshot, id) {
            let bytes = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
            self.put(Place::Bundle(id.clone()), &bytes)?;
        }
        for name in row.videos() {
            if let Some(bytes) = self.shelf.video(self.snapshot, id, name) {
                self.put(Place::Video(id.clone(), name.to_string()), &bytes)?;
            }
        }
        let Some(kept) = self.shelf.episodes(id) else {
            return Ok(());
        };
        for episode in worst(&kept, self.options.episodes) {
            self.places
                .insert(Place::Episode(id.clone(), episode.episode));
            self.film(task, id, episode)?;
        }
        Ok(())
    }

    fn film(&mut self, task: &TaskView, id: &str, episode: &EpisodeRow) -> Result<()> {
        let rules = self.shelf.rules(&task.task, task.data.as_deref());
        if !self.options.films || rules.is_none_or(|rules| rules.not_replayed.is_some()) {
            return Ok(());
        }
        let pictures = self.shelf.film(self.snapshot, id, episode.episode);
        for (number, picture) in (0..).zip(pictures.unwrap_or_default()) {
            self.put(
                Place::Frame(id.to_string(), episode.episode, number),
                &picture,
            )?;
        }
        Ok(())
    }

    /// Every page in every form.
    fn pages(&mut self) -> Result<()> {
        let mut site = Site {
            snapshot: self.snapshot,
            details: self.shelf,
            links: Links::files(self.places.clone()),
        };
        let is_drawn = |place: &&Place| {
            place.is_page() || matches!(place, Place::Feed | Place::Style | Place::Script)
        };
        let drawn: Vec<Place> = self.places.iter().filter(is_drawn).cloned().collect();
        for place in drawn {
            let forms: &[Form] = if place.is_page() {
                &[Form::Page, Form::Json, Form::Csv]
            } else {
                &[Form::Page]
            };
            for &form in forms {
                if let Some(rendered) = site.render(&place, form, "") {
                    self.write(&place.file(form), &rendered.body)?;
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        let mark = json!({ "format": FORMAT, "head": self.snapshot.head, "events": self.snapshot.events.len() });
        self.write(MARK, format!("{mark}\n").as_bytes())
    }

    fn put(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        self.write(&place.file(Form::Page), bytes)?;
        self.places.insert(place);
        Ok(())
    }

    fn write(&mut self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(file);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::io("create", folder, source))?;
        }
        std::fs::write(&path, bytes).map_err(|source| Error::io("write", &path, source))?;
        self.files += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Failures first, the farthest from the goal before the others.
fn worst(kept: &[EpisodeRow], most: usize) -> Vec<&EpisodeRow> {
    let mut rows: Vec<&EpisodeRow> = kept.iter().collect();
    rows.sort_by(|a, b| {
        a.success
            .cmp(&b.success)
            .then(b.final_distance.total_cmp(&a.final_distance))
            .then(a.episode.cmp(&b.episode))
    });
    rows.truncate(most);
    rows
}

/// Pairs of trained models, the better one first.
fn comparisons(task: &TaskView) -> Vec<Place> {
    let is_trained = |row: &&Row| row.ranked.kind == ModelKind::Trained;
    let ids: Vec<&String> = task
        .rows
        .iter()
        .filter(is_trained)
        .map(|row| &row.run.id)
        .collect();
    let mut pairs = Vec::new();
    for (k, first) in ids.iter().enumerate().take(COMPARED) {
        for (l, second) in ids.iter().enumerate().skip(k + 1) {
            if k == 0 || l < COMPARED {
                pairs.push(Place::Compare((*first).clone(), (*second).clone()));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests;
