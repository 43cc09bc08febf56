//! Writers: one document, five formats.

mod html;
mod json;
mod latex;
mod markdown;
mod pdf;
mod terminal;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::content;
use crate::content::board::{BoardInput, BoardTaskFacts};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::input::{Input, TaskFacts};
use crate::paper::{Layouts, PaperInput};

pub use terminal::text_table;

/// A format that reports are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// `report.pdf`, for reading and printing.
    Pdf,
    /// `report.html`, one self-contained page.
    Html,
    /// `report.md` with `figures/` and `films/` beside it.
    Markdown,
    /// `tables.tex`, for papers.
    Latex,
    /// `results.json`, every number in full.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [
        Self::Pdf,
        Self::Html,
        Self::Markdown,
        Self::Latex,
        Self::Json,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Html => "html",
            Self::Markdown => "md",
            Self::Latex => "latex",
            Self::Json => "json",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| format!("unknown format `{name}`; there are {known}"))
    }
}

/// Writes a report into the folder `out` and returns the files, in the order of `formats`.
///
/// The same input gives the same bytes. Files appear whole or not at all.
///
/// # Errors
/// When there are no runs, a figure cannot be drawn, or a file cannot be written.
pub fn write_report(input: &Input, out: &Path, formats: &[Format]) -> Result<Vec<PathBuf>> {
    let tasks = TaskFacts::of(input)?;
    let document = content::build(input, &tasks)?;
    write_document(&document, out, formats, || json::render(input, &tasks))
}

/// Writes the paper's tables and figures, filled with runs, into the folder `out`; as [`write_report`].
///
/// # Errors
/// When no run has a place there, a figure cannot be drawn, or a file cannot be written.
pub fn write_paper(input: &PaperInput, out: &Path, formats: &[Format]) -> Result<Vec<PathBuf>> {
    let layouts = Layouts::of(input);
    let document = content::layouts::build(input, &layouts)?;
    write_document(&document, out, formats, || {
        json::render_paper(input, &layouts)
    })
}

/// Writes a report of a leaderboard into the folder `out`; as [`write_report`].
///
/// # Errors
/// When the board is empty, a figure cannot be drawn, or a file cannot be written.
pub fn write_board(input: &BoardInput, out: &Path, formats: &[Format]) -> Result<Vec<PathBuf>> {
    let tasks = BoardTaskFacts::of(input)?;
    let document = content::board::build(input, &tasks)?;
    write_document(&document, out, formats, || {
        json::render_board(input, &tasks)
    })
}

fn write_document(
    document: &Document,
    out: &Path,
    formats: &[Format],
    results: impl Fn() -> Result<String>,
) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out).map_err(|source| Error::io("create", out, source))?;
    let mut files = Vec::new();
    for format in formats {
        let (name, bytes) = match format {
            Format::Pdf => ("report.pdf", pdf::render(document)?),
            Format::Html => ("report.html", html::render(document).into_bytes()),
            Format::Markdown => ("report.md", markdown::render(document).into_bytes()),
            Format::Latex => ("tables.tex", latex::render(document).into_bytes()),
            Format::Json => ("results.json", results()?.into_bytes()),
        };
        if *format == Format::Markdown {
            write_pictures(document, out)?;
        }
        files.push(write(out, name, &bytes)?);
    }
    Ok(files)
}

/// Figures and films as files, for formats that cannot hold them.
fn write_pictures(document: &Document, out: &Path) -> Result<()> {
    for figure in document.figures() {
        write(
            &out.join("figures"),
            &format!("{}.svg", figure.name),
            figure.svg.as_bytes(),
        )?;
    }
    for picture in document.pictures() {
        write(
            &out.join("films"),
            &format!("{}.png", picture.name),
            &picture.png,
        )?;
    }
    Ok(())
}

/// Writes a file under a temporary name and renames it.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
    let (path, partial) = (folder.join(name), folder.join(format!("{name}.partial")));
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, &path))
        .map_err(|source| Error::io("write", &path, source))?;
    Ok(path)
}
