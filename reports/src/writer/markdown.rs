//! `report.md`: the report for repositories and pull requests; figures are files beside it.

use std::fmt::Write;

use crate::document::{Block, Document, Fact, Section, Span, SpanStyle, Table, TableRow, Tone};

/// The whole report.
pub(super) fn render(document: &Document) -> String {
    let mut text = format!(
        "# {}\n\n{}\n",
        escaped(&document.title),
        escaped(&document.subtitle)
    );
    for section in &document.sections {
        text += &markdown_section(section);
    }
    text
}

fn markdown_section(section: &Section) -> String {
    let blocks = section
        .blocks
        .iter()
        .map(block)
        .collect::<Vec<_>>()
        .join("\n");
    format!("\n## {}\n\n{blocks}", escaped(&section.title))
}

fn block(block: &Block) -> String {
    match block {
        Block::Claim { spans } => format!("> {}\n", words(spans)),
        Block::Paragraph { spans } => format!("{}\n", words(spans)),
        Block::List { items } => list(items.iter().map(|item| words(item))),
        Block::Code { text } => format!("```\n{text}\n```\n"),
        Block::Facts { items } => list(items.iter().map(fact)),
        Block::Table(table) => markdown_table(table),
        Block::Figure(figure) => {
            let (alt, name) = (escaped(&figure.alt), &figure.name);
            format!(
                "![{alt}](figures/{name}.svg)\n\n*{}*\n",
                escaped(&figure.caption)
            )
        }
        Block::Gallery(gallery) => {
            let mut text = format!("{}\n", escaped(&gallery.caption));
            for picture in &gallery.pictures {
                // Writing to a string cannot fail.
                let _ = write!(
                    text,
                    "\n**{}**: {}\n\n![{}](films/{}.png)\n",
                    picture.mark,
                    escaped(&picture.caption),
                    escaped(&picture.caption),
                    picture.name
                );
            }
            text
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.fold(String::new(), |text, item| text + "- " + &item + "\n")
}

fn fact(fact: &Fact) -> String {
    let (label, value, note) = (
        escaped(&fact.label),
        escaped(&fact.value),
        escaped(&fact.note),
    );
    format!("{label}: **{value}** ({note})")
}

fn markdown_table(table: &Table) -> String {
    let headings: Vec<String> = table
        .columns
        .iter()
        .map(|column| escaped(&column.title))
        .collect();
    let rules: Vec<&str> = table
        .columns
        .iter()
        .map(|column| if column.is_number { "---:" } else { "---" })
        .collect();
    let rows: String = table.rows.iter().map(row).collect();
    let note = if table.note.is_empty() {
        String::new()
    } else {
        format!("\n*{}*\n", escaped(&table.note))
    };
    let caption = escaped(&table.caption);
    format!(
        "**{caption}**\n\n| {} |\n| {} |\n{rows}{note}",
        headings.join(" | "),
        rules.join(" | ")
    )
}

fn row(row: &TableRow) -> String {
    let cells = row.cells.iter().map(|cell| match (row.tone, cell.is_code) {
        (_, true) => format!("`{}`", cell.text),
        (Tone::Strong, false) => format!("**{}**", lines(&cell.text)),
        _ => lines(&cell.text),
    });
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// Lines of a cell: a table of Markdown has no other way.
fn lines(text: &str) -> String {
    escaped(text).replace('\n', "<br>")
}

fn words(spans: &[Span]) -> String {
    let span = |span: &Span| match span.style {
        SpanStyle::Plain => escaped(&span.text),
        SpanStyle::Strong => format!("**{}**", escaped(&span.text)),
        SpanStyle::Code => format!("`{}`", span.text),
    };
    spans.iter().map(span).collect()
}

/// Text with the characters that Markdown would read as marks made plain.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{cell, code_cell};

    #[test]
    fn tables_have_rules_and_escaped_cells() {
        let mut table = Table::new("Runs", &["name", "#n"]).with_note("a note");
        table.push(Tone::Strong, vec![cell("a|b"), cell("3")]);
        table.push(Tone::Plain, vec![code_cell("x_y"), cell("4")]);
        let expected = "**Runs**\n\n| name | n |\n| --- | ---: |\n| **a\\|b** | **3** |\n| `x_y` | 4 |\n\n*a note*\n";
        assert_eq!(markdown_table(&table), expected);
    }
}
