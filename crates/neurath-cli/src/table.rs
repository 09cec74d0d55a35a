//! Tables for people.

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table, whose columns are as wide as they must be.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; a name that ends in `>` is of a column of numbers.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        let column = |name: &&str| match name.strip_suffix('>') {
            Some(name) => (name.to_owned(), Align::Right),
            None => ((*name).to_owned(), Align::Left),
        };
        Self {
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Whether it has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line ended.
    #[must_use]
    pub fn render(&self) -> String {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let cells = cells.chain(self.columns.get(index).map(|(name, _)| name));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        let mut put = |cells: &[String]| {
            let mut line = String::from(" ");
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                match align {
                    Align::Left => line.push_str(&format!(" {cell:<width$} ")),
                    Align::Right => line.push_str(&format!(" {cell:>width$} ")),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        };
        let heads: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        if heads.iter().any(|head| !head.is_empty()) {
            put(&heads);
            put(&widths
                .iter()
                .map(|width| "─".repeat(*width))
                .collect::<Vec<_>>());
        }
        for row in &self.rows {
            put(row);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["step", "time>"]);
        table.row(["load", "1 µs"]).row(["suspend", "1000 µs"]);
        let expected =
            "  step        time\n  ───────  ───────\n  load        1 µs\n  suspend  1000 µs\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_table_without_heads_has_no_line() {
        let mut table = Table::new(&["", ">"]);
        table.row(["keys", "1"]);
        assert_eq!(table.render(), "  keys  1\n");
    }
}
