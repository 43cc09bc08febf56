//! Comma-separated values after RFC 4180.

/// A table that grows line by line.
pub(crate) struct Csv {
    text: String,
}

impl Csv {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut csv = Self {
            text: String::new(),
        };
        csv.line(headings.iter().map(|heading| (*heading).to_string()));
        csv
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        for (position, cell) in cells.into_iter().enumerate() {
            if position > 0 {
                self.text.push(',');
            }
            self.cell(&cell);
        }
        self.text.push_str("\r\n");
    }

    fn cell(&mut self, cell: &str) {
        if cell.contains([',', '"', '\n', '\r']) {
            self.text.push('"');
            self.text.push_str(&cell.replace('"', "\"\""));
            self.text.push('"');
        } else {
            self.text.push_str(cell);
        }
    }

    /// The table.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }
}

/// A word of a stranger as a cell: a spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a
/// formula, so such a cell begins with an apostrophe.
pub(crate) fn foreign(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_string()
    }
}

/// A number that may be missing; a missing one is an empty cell.
pub(crate) fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_when_they_must_be_and_are_no_formulas() {
        let mut csv = Csv::new(&["a", "b"]);
        csv.line([
            "b, c".to_string(),
            "say \"d\"".into(),
            foreign("=1+1"),
            optional(Some(-2)),
        ]);
        assert_eq!(
            csv.into_bytes(),
            b"a,b\r\n\"b, c\",\"say \"\"d\"\"\",'=1+1,-2\r\n"
        );
    }
}
