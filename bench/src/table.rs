// SPDX-License-Identifier: Apache-2.0

//! Tables in Markdown, aligned so that a terminal shows them too.

/// Rows of cells under a head; the first column is text, the others are numbers.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its head.
    pub fn new<Cell: ToString>(head: impl IntoIterator<Item = Cell>) -> Self {
        let mut table = Self { rows: Vec::new() };
        table.row(head);
        table
    }

    /// Adds a row.
    pub fn row<Cell: ToString>(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows
            .push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// Prints it under a title.
    pub fn print(&self, title: &str) {
        println!("### {title}\n\n{}", self.render());
    }

    fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = widths.iter().enumerate().map(|(column, width)| {
                let cell = row.get(column).map_or("", String::as_str);
                if column == 0 {
                    format!("| {cell:width$} |")
                } else {
                    format!(" {cell:>width$} |")
                }
            });
            lines.push(cells.collect::<String>());
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(column, width)| {
                    let rule = "-".repeat(*width);
                    if column == 0 {
                        format!("|-{rule}-|")
                    } else {
                        format!("-{rule}:|")
                    }
                });
                lines.push(rules.collect());
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// A number for a cell, or a dash where nothing was measured, or nothing that means something.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    let value = value.filter(|value| value.is_finite());
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "ms"]);
        table.row(["sieve".to_owned(), number(Some(12.345), 1)]);
        table.row(["×".to_owned(), number(None, 1)]);
        assert_eq!(
            table.render(),
            "| name  |   ms |\n\
             |-------|-----:|\n\
             | sieve | 12.3 |\n\
             | ×     |    – |\n"
        );
    }
}
