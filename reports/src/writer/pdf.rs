//! `report.pdf`, set with typst.
//!
//! The template `report.typ` reads the document as JSON and the figures as files of a small virtual
//! folder; nothing outside it can be reached. Fonts are embedded, there is no date and no random
//! identifier, so the same document gives the same bytes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Bytes, Datetime, Duration, Smart};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World};
use typst_kit::fonts::FontStore;
use typst_layout::PagedDocument;
use typst_pdf::PdfOptions;

use crate::document::Document;
use crate::error::{Error, Result};

const TEMPLATE: &str = include_str!("report.typ");
const TEMPLATE_FILE: &str = "report.typ";
const TEXT_FONTS: [&[u8]; 3] = [
    include_bytes!("../../fonts/Inter-Regular.otf"),
    include_bytes!("../../fonts/Inter-SemiBold.otf"),
    include_bytes!("../../fonts/Inter-Italic.otf"),
];

/// Text fonts of this crate, and the typewriter fonts that come with typst.
static FONTS: LazyLock<FontStore> = LazyLock::new(|| {
    let mut fonts = FontStore::new();
    for data in TEXT_FONTS {
        fonts.extend(Font::iter(Bytes::new(data)).map(|font| {
            let info = font.info().clone();
            (font, info)
        }));
    }
    fonts.extend(typst_kit::fonts::embedded());
    fonts
});
static LIBRARY: LazyLock<LazyHash<Library>> = LazyLock::new(|| LazyHash::new(Library::default()));

/// The PDF file.
pub(super) fn render(document: &Document) -> Result<Vec<u8>> {
    let folder = Folder::of(document)?;
    let pages: PagedDocument = typst::compile(&folder)
        .output
        .map_err(|errors| failure(&errors))?;
    let options = PdfOptions {
        creator: Smart::Custom(Some("jepa-bench".into())),
        ..PdfOptions::default()
    };
    typst_pdf::pdf(&pages, &options).map_err(|errors| failure(&errors))
}

/// The files that the template may read.
struct Folder {
    main: Source,
    files: BTreeMap<String, Bytes>,
}

impl Folder {
    fn of(document: &Document) -> Result<Self> {
        let json = serde_json::to_vec(document).map_err(Error::Results)?;
        let mut files = BTreeMap::from([("document.json".to_string(), Bytes::new(json))]);
        for figure in document.figures() {
            files.insert(
                format!("figures/{}.svg", figure.name),
                Bytes::from_string(figure.svg.clone()),
            );
        }
        for picture in document.pictures() {
            files.insert(
                format!("films/{}.png", picture.name),
                Bytes::new(picture.png.clone()),
            );
        }
        let path = VirtualPath::new(TEMPLATE_FILE).map_err(|error| Error::Pdf {
            detail: error.to_string(),
        })?;
        let id = RootedPath::new(VirtualRoot::Project, path).intern();
        Ok(Self {
            main: Source::new(id, TEMPLATE.into()),
            files,
        })
    }
}

impl World for Folder {
    fn library(&self) -> &LazyHash<Library> {
        &LIBRARY
    }

    fn book(&self) -> &LazyHash<FontBook> {
        FONTS.book()
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() {
            Ok(self.main.clone())
        } else {
            Err(FileError::NotSource)
        }
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let name = id.vpath().get_without_slash();
        self.files
            .get(name)
            .cloned()
            .ok_or_else(|| FileError::NotFound(name.into()))
    }

    fn font(&self, index: usize) -> Option<Font> {
        FONTS.font(index)
    }

    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}

fn failure(errors: &[SourceDiagnostic]) -> Error {
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    Error::Pdf {
        detail: messages.join("; "),
    }
}
