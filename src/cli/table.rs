//! Text in columns, for people and for `awk`.

use std::fmt;
use std::io::{self, IsTerminal as _};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, presets};

/// Below this width the last column is cut no further: the lines are left to the terminal.
const NARROWEST: u16 = 20;

/// Rows under a header; each column as wide as its widest cell. On a terminal the last column, which is where texts are,
/// is wrapped; in a pipe a row is a line.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    width: Option<u16>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let size = is_terminal.then(terminal_size::terminal_size).flatten();
        let rows = vec![header.iter().map(|&name| name.to_owned()).collect()];
        Self { rows, width: size.map(|(width, _)| width.0) }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for row in &self.rows {
            table.add_row(row.iter().map(Cell::new));
        }
        let columns = table.column_count();
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if let (Some(width), true) = (self.width, columns > 1) {
            let before: u16 =
                table.column_max_content_widths()[..columns - 1].iter().map(|width| width + 2).sum();
            // Its own padding counts as well, and is trimmed.
            let left = width.saturating_sub(before);
            if left >= NARROWEST
                && let Some(last) = table.column_mut(columns - 1)
            {
                last.set_padding((0, 0));
                last.set_constraint(ColumnConstraint::UpperBoundary(comfy_table::Width::Fixed(left)));
                table.set_content_arrangement(ContentArrangement::Dynamic);
                // Wider than the terminal, if what comes before the last column is.
                table.set_width(width.max(before + NARROWEST));
            }
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<u16>, rows: &[[&str; 2]]) -> String {
        let mut table = Table::new(&["TOPIC", "STATE"]);
        table.width = width;
        for row in rows {
            table.row(row.map(str::to_owned).to_vec());
        }
        table.to_string()
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(table(None, &[["a-long-topic", "5"]]), "TOPIC         STATE\na-long-topic  5\n");
        // By width, not by characters.
        assert_eq!(table(None, &[["日本", "5"], ["abcdef", "7"]]), "TOPIC   STATE\n日本    5\nabcdef  7\n");
    }

    #[test]
    fn in_a_pipe_a_row_is_a_line_and_on_a_terminal_the_last_column_is_wrapped() {
        let why = "the quick brown fox jumps over the lazy dog";
        assert_eq!(table(None, &[["t", why]]), format!("TOPIC  STATE\nt      {why}\n"));
        let wrapped = "TOPIC  STATE\nt      the quick brown fox\n       jumps over the lazy\n       dog\n";
        assert_eq!(table(Some(28), &[["t", why]]), wrapped);
        // Too narrow for that: left to the terminal.
        assert_eq!(table(Some(10), &[["t", why]]), format!("TOPIC  STATE\nt      {why}\n"));
    }
}
