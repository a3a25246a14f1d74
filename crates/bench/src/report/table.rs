//! Markdown tables that a reader of the plain text can follow too.

/// A table with a head and rows of as many cells.
#[derive(Debug, Clone)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no row.
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|cell| (*cell).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing stay empty.
    pub fn push(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// Says whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The Markdown: the columns that are empty in all rows are left out, the others aligned.
    pub fn markdown(&self) -> String {
        let used: Vec<usize> =
            (0..self.head.len()).filter(|at| self.rows.iter().any(|row| !row[*at].is_empty())).collect();
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| &row[at]).chain([&self.head[at]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = used.iter().map(|at| width(*at)).collect();
        let line = |row: &[String]| {
            let cells = used.iter().zip(&widths).map(|(at, width)| format!(" {:<width$} ", row[*at]));
            format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
        };
        let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|");
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}|{rule}|\n{rows}", line(&self.head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_shows_no_empty_column() {
        let mut table = Table::new(&["row", "wait", "p50"]);
        assert!(table.is_empty());
        table.push(vec!["rtt 64 B".to_owned(), String::new(), "180 ns".to_owned()]);
        table.push(vec!["connect".to_owned()]);
        let expected =
            "| row      | p50    |\n|----------|--------|\n| rtt 64 B | 180 ns |\n| connect  |        |\n";
        assert_eq!(table.markdown(), expected);
    }
}
