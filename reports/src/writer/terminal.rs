//! Tables for the terminal: columns of plain text.

/// Lays out rows under headings, two spaces between columns, with a rule below the headings.
///
/// A heading that starts with `#` marks a column of numbers, set flush right. Rows shorter than the
/// headings end early.
pub fn text_table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = headings
        .iter()
        .map(|title| title.trim_start_matches('#').to_string())
        .collect();
    let width = |k: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(k))
            .chain(titles.get(k));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .zip(headings)
            .map(|((cell, &width), heading)| {
                if heading.starts_with('#') {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
    let lines = [line(&titles), line(&rule)]
        .into_iter()
        .chain(rows.iter().map(|row| line(row)));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["pldm".into(), "82".into()],
            vec!["floor:random".into(), "3".into()],
        ];
        let table = text_table(&["model", "#hits"], &rows);
        assert_eq!(
            table,
            "model         hits\n────────────  ────\npldm            82\nfloor:random     3"
        );
    }
}
