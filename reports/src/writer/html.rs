//! `report.html`: one page that needs nothing else.
//!
//! Figures are inline SVG, pictures and fonts are data URIs, styles and the few lines of script (which
//! only sort tables) are in the page. It follows the reader's light or dark setting and prints.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::document::{
    Block, Cell, Document, Fact, Figure, Gallery, Picture, Section, Span, SpanStyle, Table,
    TableRow, Tone,
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("sort.js");
const REGULAR: &[u8] = include_bytes!("../../fonts/Inter-Regular.otf");
const SEMI_BOLD: &[u8] = include_bytes!("../../fonts/Inter-SemiBold.otf");

/// The whole page.
pub(super) fn render(document: &Document) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="jepa-bench";
                title { (document.title) }
                style { (PreEscaped(fonts())) (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (document.title) }
                    p.subtitle { (document.subtitle) }
                }
                (contents(document))
                main { @for section in &document.sections { (html_section(section)) } }
                footer { "Made by jepa-bench. Every number was recomputed from episodes." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn fonts() -> String {
    let face = |weight: u32, font: &[u8]| {
        let data = base64(font);
        format!(
            "@font-face{{font-family:Inter;font-weight:{weight};src:url(data:font/otf;base64,{data})}}\n"
        )
    };
    face(400, REGULAR) + &face(600, SEMI_BOLD)
}

fn contents(document: &Document) -> Markup {
    html! {
        nav aria-label="Contents" {
            @for section in &document.sections { a href={ "#" (section.id) } { (section.title) } }
        }
    }
}

fn html_section(section: &Section) -> Markup {
    html! {
        section id=(section.id) {
            h2 { (section.title) }
            @for each in &section.blocks { (block(each)) }
        }
    }
}

fn block(block: &Block) -> Markup {
    match block {
        Block::Claim { spans } => html! { p.claim { (words(spans)) } },
        Block::Paragraph { spans } => html! { p { (words(spans)) } },
        Block::List { items } => html! { ul { @for item in items { li { (words(item)) } } } },
        Block::Code { text } => html! { pre { code { (text) } } },
        Block::Facts { items } => html! { dl.facts { @for item in items { (fact(item)) } } },
        Block::Table(table) => html_table(table),
        Block::Figure(figure) => html_figure(figure),
        Block::Gallery(gallery) => html_gallery(gallery),
    }
}

fn words(spans: &[Span]) -> Markup {
    html! {
        @for span in spans {
            @match span.style {
                SpanStyle::Plain => (span.text),
                SpanStyle::Strong => strong { (span.text) },
                SpanStyle::Code => code { (span.text) },
            }
        }
    }
}

fn fact(fact: &Fact) -> Markup {
    html! {
        div {
            dt { (fact.label) }
            dd.value { (fact.value) }
            dd.note { (fact.note) }
        }
    }
}

fn html_table(table: &Table) -> Markup {
    html! {
        figure.table {
            figcaption { (table.caption) }
            div.scroll {
                table {
                    thead {
                        tr {
                            @for column in &table.columns {
                                th.number[column.is_number] scope="col" { (column.title) }
                            }
                        }
                    }
                    tbody { @for each in &table.rows { (row(table, each)) } }
                }
            }
            @if !table.note.is_empty() { p.note { (table.note) } }
        }
    }
}

fn row(table: &Table, row: &TableRow) -> Markup {
    let tone = match row.tone {
        Tone::Plain => "plain",
        Tone::Strong => "strong",
        Tone::Muted => "muted",
    };
    html! {
        tr class=(tone) {
            @for (each, column) in row.cells.iter().zip(&table.columns) { (cell(each, column.is_number)) }
        }
    }
}

fn cell(cell: &Cell, is_number: bool) -> Markup {
    html! {
        td.number[is_number] data-order=[cell.order] {
            @if cell.is_code { code { (cell.text) } } @else {
                @for (k, line) in cell.text.split('\n').enumerate() { @if k > 0 { br; } (line) }
            }
        }
    }
}

fn html_figure(figure: &Figure) -> Markup {
    html! {
        figure id={ "figure-" (figure.name) } {
            div.drawing role="img" aria-label=(figure.alt) { (PreEscaped(&figure.svg)) }
            figcaption { (figure.caption) }
        }
    }
}

fn html_gallery(gallery: &Gallery) -> Markup {
    html! {
        p { (gallery.caption) }
        div.gallery { @for each in &gallery.pictures { (picture(each)) } }
    }
}

fn picture(picture: &Picture) -> Markup {
    let (width, height) = picture.size;
    let source = format!("data:image/png;base64,{}", base64(&picture.png));
    html! {
        figure.film {
            img src=(source) alt=(picture.caption) width=(width) height=(height) loading="lazy";
            figcaption {
                span class={ "mark " (if picture.is_success { "good" } else { "bad" }) } {
                    (if picture.is_success { "✓ " } else { "✗ " }) (picture.mark)
                }
                " " (picture.caption)
            }
        }
    }
}

/// Base64 with padding, RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, &byte| word << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{code, plain};

    #[test]
    fn base64_matches_the_test_vectors_of_its_standard() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn text_from_records_is_escaped() {
        let markup = words(&[plain("<script>"), code("a & b")]).into_string();
        assert_eq!(markup, "&lt;script&gt;<code>a &amp; b</code>");
    }
}
