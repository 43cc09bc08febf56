//! `tables.tex`: the tables of the report with booktabs rules, to be `\input` in a paper.

use std::fmt::Write;

use crate::document::{Document, Table, TableRow, Tone};

/// All tables, one after the other.
pub(super) fn render(document: &Document) -> String {
    let mut text = format!("% {}. Needs \\usepackage{{booktabs}}.\n", document.title);
    for table in document.tables() {
        text += &latex_table(table);
    }
    text
}

fn latex_table(table: &Table) -> String {
    let columns: String = table
        .columns
        .iter()
        .map(|column| if column.is_number { 'r' } else { 'l' })
        .collect();
    let headings = table
        .columns
        .iter()
        .map(|column| escaped(&column.title))
        .collect::<Vec<_>>()
        .join(" & ");
    let rows: String = table.rows.iter().map(row).collect();
    let mut text = format!(
        "\n\\begin{{table}}\n\\centering\n\\caption{{{}}}\n",
        escaped(&table.caption)
    );
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\\begin{{tabular}}{{{columns}}}\n\\toprule\n{headings} \\\\\n\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n"
    );
    if !table.note.is_empty() {
        let _ = writeln!(
            text,
            "\\par\\smallskip{{\\footnotesize {}}}",
            escaped(&table.note)
        );
    }
    text + "\\end{table}\n"
}

fn row(row: &TableRow) -> String {
    let cells = row.cells.iter().map(|cell| {
        let text = escaped(&cell.text);
        match (row.tone, cell.is_code) {
            (_, true) => format!("\\texttt{{{text}}}"),
            (Tone::Strong, false) => format!("\\textbf{{{}}}", stacked(&text)),
            _ => stacked(&text),
        }
    });
    cells.collect::<Vec<_>>().join(" & ") + " \\\\\n"
}

/// Lines of a cell, one below the other.
fn stacked(text: &str) -> String {
    if text.contains('\n') {
        format!("\\shortstack[r]{{{}}}", text.replace('\n', "\\\\"))
    } else {
        text.into()
    }
}

/// Text with every special character of TeX made plain.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\textbackslash{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("$<$"),
            '>' => out.push_str("$>$"),
            '−' => out.push_str("$-$"),
            '±' => out.push_str("$\\pm$"),
            '–' => out.push_str("--"),
            '†' => out.push_str("$^\\dagger$"),
            '×' => out.push_str("$\\times$"),
            '…' => out.push_str("\\dots{}"),
            '\u{a0}' => out.push('~'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{cell, code_cell, number};

    #[test]
    fn a_table_compiles_with_booktabs() {
        let mut table = Table::new("50% & more", &["model", "#rate"]);
        table.push(Tone::Strong, vec![cell("a_b"), number("85.4%", 0.854)]);
        table.push(Tone::Plain, vec![code_cell("x#1"), number("−2 ± 1", -2.0)]);
        let expected = "\n\\begin{table}\n\\centering\n\\caption{50\\% \\& more}\n\\begin{tabular}{lr}\n\\toprule\n\
                        model & rate \\\\\n\\midrule\n\\textbf{a\\_b} & \\textbf{85.4\\%} \\\\\n\
                        \\texttt{x\\#1} & $-$2 $\\pm$ 1 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n";
        assert_eq!(latex_table(&table), expected);
    }
}
