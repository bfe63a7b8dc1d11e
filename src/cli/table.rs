//! Tables as Headscale's commands print them: columns padded to their widest
//! cell, ` | ` between them, a cell of several lines over several lines.

/// Rows under a header.
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One value; its lines are below each other.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// What a terminal that knows colours shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: None }
    }
}

impl Cell {
    pub(super) fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self { text: text.into(), colour: Some(colour) }
    }

    /// Green for good news, red for bad.
    pub(super) fn good(text: impl Into<String>, good: bool) -> Self {
        Self::coloured(text, if good { Colour::Green } else { Colour::Red })
    }
}

impl Table {
    pub(super) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// The lines, each with its end.
    pub(super) fn render(&self, colour: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().flat_map(|row| row[column].text.split('\n')).map(|line| line.chars().count());
            cells.chain([self.header[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let header = self.header.iter().zip(&widths).map(|(name, width)| {
            let name = format!("{name:width$}");
            if colour { format!("\x1b[96m{name}\x1b[0m") } else { name }
        });
        let mut text = header.collect::<Vec<_>>().join(" | ") + "\n";
        for row in &self.rows {
            let height = row.iter().map(|cell| cell.text.split('\n').count()).max().unwrap_or(1);
            for line in 0..height {
                let cells = row.iter().zip(&widths).map(|(cell, width)| {
                    let part = cell.text.split('\n').nth(line).unwrap_or_default();
                    paint(&format!("{part:width$}"), cell.colour.filter(|_| colour))
                });
                text.push_str(&cells.collect::<Vec<_>>().join(" | "));
                text.push('\n');
            }
        }
        text
    }
}

/// Text in a colour, if there is one.
pub(super) fn paint(text: &str, colour: Option<Colour>) -> String {
    let code = match colour {
        None => return text.into(),
        Some(Colour::Red) => 91,
        Some(Colour::Green) => 92,
        Some(Colour::Yellow) => 93,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_line() {
        let mut table = Table::new(&["ID", "Key", "Owner"]);
        table.row(vec!["1".into(), "abcdef".into(), "alice".into()]);
        table.row(vec!["2".into(), "ü".into(), "tag:db\ntag:web".into()]);
        let lines =
            ["ID | Key    | Owner  ", "1  | abcdef | alice  ", "2  | ü      | tag:db ", "   |        | tag:web"];
        assert_eq!(table.render(false), lines.join("\n") + "\n");
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(Table::new(&["ID", "Name"]).render(false), "ID | Name\n");
    }

    #[test]
    fn colours_do_not_change_widths() {
        let mut table = Table::new(&["Connected", "x"]);
        table.row(vec![Cell::good("online", true), "1".into()]);
        let text = table.render(true);
        assert!(text.contains("\x1b[92monline   \x1b[0m | 1"), "{text:?}");
    }
}
