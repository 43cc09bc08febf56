//! The report as data: what it says, free of how any format shows it.
//!
//! [`crate::content`] builds one [`Document`]; every writer renders the same one, so that the PDF, the
//! page, the Markdown and the LaTeX tables cannot drift apart. The PDF template reads it as JSON.

use serde::Serialize;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Document {
    /// Title.
    pub(crate) title: String,
    /// One line below the title.
    pub(crate) subtitle: String,
    /// Sections, in order. The first is the one-page summary.
    pub(crate) sections: Vec<Section>,
}

/// A headed part of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Section {
    /// Anchor, unique in the document: lower-case letters, digits and dashes.
    pub(crate) id: String,
    /// Heading.
    pub(crate) title: String,
    /// Contents, in order.
    pub(crate) blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Block {
    /// The sentence that the report is about.
    Claim {
        /// Its words.
        spans: Vec<Span>,
    },
    /// Running text.
    Paragraph {
        /// Its words.
        spans: Vec<Span>,
    },
    /// A few numbers to take away.
    Facts {
        /// The numbers, at most four look good.
        items: Vec<Fact>,
    },
    /// An unordered list.
    List {
        /// One entry per item.
        items: Vec<Vec<Span>>,
    },
    /// Text to copy: a command or a citation.
    Code {
        /// The text.
        text: String,
    },
    /// A table.
    Table(Table),
    /// A drawing.
    Figure(Figure),
    /// Pictures of episodes.
    Gallery(Gallery),
}

/// A few words in one style.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Span {
    /// How the words look.
    pub(crate) style: SpanStyle,
    /// The words.
    pub(crate) text: String,
}

/// How words look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SpanStyle {
    /// Like the rest.
    Plain,
    /// Stressed.
    Strong,
    /// A name or hash to be read letter by letter.
    Code,
}

/// A number with its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Fact {
    /// What it is.
    pub(crate) label: String,
    /// The number.
    pub(crate) value: String,
    /// What to know about it.
    pub(crate) note: String,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Table {
    /// What the table shows.
    pub(crate) caption: String,
    /// Columns, left to right.
    pub(crate) columns: Vec<TableColumn>,
    /// Rows, top to bottom.
    pub(crate) rows: Vec<TableRow>,
    /// Explanation below the table; empty for none.
    pub(crate) note: String,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TableColumn {
    /// Heading.
    pub(crate) title: String,
    /// Numbers are set flush right.
    pub(crate) is_number: bool,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TableRow {
    /// One cell per column.
    pub(crate) cells: Vec<Cell>,
    /// How the row looks.
    pub(crate) tone: Tone,
}

/// How a row looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    /// Like most.
    Plain,
    /// The row to look at.
    Strong,
    /// A row for reference: floors, ceiling, published numbers.
    Muted,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cell {
    /// What it says.
    pub(crate) text: String,
    /// Set in the typewriter face: names and hashes.
    pub(crate) is_code: bool,
    /// What to sort by, if not the text.
    pub(crate) order: Option<f64>,
}

/// A drawing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Name, unique in the document; the file is `figures/<name>.svg`.
    pub(crate) name: String,
    /// What it shows and how to read it.
    pub(crate) caption: String,
    /// What it shows, for those who cannot see it.
    pub(crate) alt: String,
    /// The drawing. Only its name is part of the JSON form.
    #[serde(skip)]
    pub(crate) svg: String,
}

/// Pictures of episodes, one below the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Gallery {
    /// What the pictures show.
    pub(crate) caption: String,
    /// The pictures.
    pub(crate) pictures: Vec<Picture>,
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Picture {
    /// Name, unique in the document; the file is `films/<name>.png`.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) caption: String,
    /// What became of the episode, in a word.
    pub(crate) mark: String,
    /// Whether that is what one hopes for.
    pub(crate) is_success: bool,
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// The PNG file.
    #[serde(skip)]
    pub(crate) png: Vec<u8>,
}

impl Document {
    /// All blocks, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.sections.iter().flat_map(|section| &section.blocks)
    }

    /// All figures, in order.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.blocks().filter_map(|block| {
            if let Block::Figure(figure) = block {
                Some(figure)
            } else {
                None
            }
        })
    }

    /// All tables, in order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.blocks().filter_map(|block| {
            if let Block::Table(table) = block {
                Some(table)
            } else {
                None
            }
        })
    }

    /// All pictures, in order.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = &Picture> {
        let galleries = self.blocks().filter_map(|block| {
            if let Block::Gallery(gallery) = block {
                Some(gallery)
            } else {
                None
            }
        });
        galleries.flat_map(|gallery| &gallery.pictures)
    }
}

impl Section {
    /// An empty section; the anchor follows from the title.
    pub(crate) fn new(title: &str) -> Self {
        Self {
            id: slug(title),
            title: title.into(),
            blocks: Vec::new(),
        }
    }
}

impl Table {
    /// A table without rows. A heading that starts with `#` marks a column of numbers.
    pub(crate) fn new(caption: &str, headings: &[&str]) -> Self {
        let column = |heading: &&str| TableColumn {
            title: heading.trim_start_matches('#').into(),
            is_number: heading.starts_with('#'),
        };
        let columns = headings.iter().map(column).collect();
        Self {
            caption: caption.into(),
            columns,
            rows: Vec::new(),
            note: String::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, tone: Tone, cells: Vec<Cell>) {
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row of `{}` has a cell per column",
            self.caption
        );
        self.rows.push(TableRow { cells, tone });
    }

    /// The same table with an explanation below.
    pub(crate) fn with_note(self, note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            ..self
        }
    }
}

/// A paragraph.
pub(crate) fn paragraph(spans: Vec<Span>) -> Block {
    Block::Paragraph { spans }
}

/// Plain words.
pub(crate) fn plain(text: impl Into<String>) -> Span {
    Span {
        style: SpanStyle::Plain,
        text: text.into(),
    }
}

/// Stressed words.
pub(crate) fn strong(text: impl Into<String>) -> Span {
    Span {
        style: SpanStyle::Strong,
        text: text.into(),
    }
}

/// A name or hash.
pub(crate) fn code(text: impl Into<String>) -> Span {
    Span {
        style: SpanStyle::Code,
        text: text.into(),
    }
}

/// A cell of text.
pub(crate) fn cell(text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        is_code: false,
        order: None,
    }
}

/// A cell that sorts by `order`.
pub(crate) fn number(text: impl Into<String>, order: f64) -> Cell {
    Cell {
        text: text.into(),
        is_code: false,
        order: Some(order),
    }
}

/// A cell in the typewriter face.
pub(crate) fn code_cell(text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        is_code: true,
        order: None,
    }
}

/// Lower-case letters and digits, with one dash for everything else between them.
pub(crate) fn slug(text: &str) -> String {
    let words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_anchors() {
        assert_eq!(
            slug("Distance to the goal: wall@1"),
            "distance-to-the-goal-wall-1"
        );
        assert_eq!(slug("  "), "");
    }

    #[test]
    fn number_columns_are_marked_by_their_heading() {
        let table = Table::new("t", &["name", "#n"]);
        assert_eq!(
            (table.columns[0].is_number, table.columns[1].is_number),
            (false, true)
        );
        assert_eq!(table.columns[1].title, "n");
    }

    #[test]
    #[should_panic(expected = "a cell per column")]
    fn a_short_row_is_our_own_mistake() {
        Table::new("t", &["a", "b"]).push(Tone::Plain, vec![cell("x")]);
    }
}
