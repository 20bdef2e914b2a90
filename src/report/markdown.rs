//! Tables in Markdown, aligned in the source too, so that they read well as plain text.

use super::table::display_width;

/// Which side of its column a cell stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers, whose decimals then stand below each other.
    Right,
}

/// A table of the given columns (name and alignment) and rows.
///
/// Cells are text, not markup: `|`, line breaks and what else Markdown or HTML would take for its own are escaped, so
/// that a folder's name cannot break the table. A row shorter than the header is filled with empty cells; what a row
/// has beyond it is left out.
pub fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        columns.iter().map(|_| cells.next().map(escape).unwrap_or_default()).collect()
    };
    let mut lines = vec![line(&mut columns.iter().map(|column| column.0))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    // A delimiter has at least three characters.
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| display_width(&line[column])).fold(3, usize::max))
        .collect();
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        for ((cell, &width), (_, align)) in line.iter().zip(&widths).zip(columns) {
            let space = " ".repeat(width - display_width(cell));
            out += &match align {
                Align::Left => format!("| {cell}{space} "),
                Align::Right => format!("| {space}{cell} "),
            };
        }
        out += "|\n";
        if index == 0 {
            for (&width, (_, align)) in widths.iter().zip(columns) {
                out += &match align {
                    Align::Left => format!("| {} ", "-".repeat(width)),
                    Align::Right => format!("| {}: ", "-".repeat(width - 1)),
                };
            }
            out += "|\n";
        }
    }
    out
}

/// `text` without a meaning of its own in Markdown, on one line.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.trim().chars() {
        match character {
            '|' | '\\' | '`' | '*' | '[' | ']' | '<' => out.extend(['\\', character]),
            '\n' | '\r' | '\t' => out.push(' '),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_line_up_and_say_their_alignment() {
        let columns = [("category", Align::Left), ("%", Align::Right)];
        let expected = "\
| category |   % |
| -------- | --: |
| 螺母     | 9.5 |
| b        |     |
";
        assert_eq!(table(&columns, &rows(&[&["螺母", "9.5", "left out"], &["b"]])), expected);
    }

    #[test]
    fn no_cell_breaks_out_of_its_table() {
        let text = table(&[("a|b", Align::Left)], &rows(&[&["x | y\nz"], &["**`<b>`\u{1b}"]]));
        assert!(text.contains("| a\\|b "), "{text}");
        assert!(text.contains("| x \\| y z "), "{text}");
        assert!(text.contains("\\*\\*\\`\\<b>\\`\u{fffd}"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(table(&[("n", Align::Right)], &[]), "|   n |\n| --: |\n");
    }
}
