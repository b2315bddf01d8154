//! Plain text of at most 80 columns: tables, paragraphs, lists of names, times.

/// Columns of a terminal.
pub const WIDTH: usize = 80;

/// A table whose first column is text, cut where it has to be, and whose others are aligned as their title
/// says.
#[derive(Debug, Clone)]
pub struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A title that begins with `<` aligns its column left; all others align right.
    pub fn new(titles: &[impl AsRef<str>]) -> Table {
        Table { titles: titles.iter().map(|title| title.as_ref().into()).collect(), rows: vec![] }
    }

    /// Adds a row of as many cells as there are titles.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.titles.len());
        self.rows.push(cells);
    }

    /// The table, one line for each row, no line longer than [`WIDTH`].
    pub fn text(&self) -> String {
        let titles: Vec<String> = self.titles.iter().map(|t| t.trim_start_matches('<').to_string()).collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let mut widths: Vec<usize> = (0..titles.len())
            .map(|column| lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0))
            .collect();
        let others: usize = widths[1..].iter().map(|w| w + 2).sum();
        widths[0] = widths[0].min(WIDTH.saturating_sub(others).max(8));
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let cell = cut(cell, *width);
                if column == 0 || self.titles[column].starts_with('<') {
                    line += &format!("{gap}{cell:<width$}");
                } else {
                    line += &format!("{gap}{cell:>width$}");
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// At most `width` characters; a cut text ends in `~`.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['~']).collect()
}

/// Breaks `text` at spaces into lines of at most [`WIDTH`], the second and following indented by `indent`.
pub fn wrap(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(indent) + word;
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
    }
    lines + line.trim_end() + "\n"
}

/// Names that are written out of a long list.
const FEW: usize = 7;

/// Names with commas between; unless `all` are wanted, a few of many and how many more there are.
pub fn names(names: &[impl AsRef<str>], all: bool) -> String {
    let shown = if all || names.len() <= FEW + 1 { names.len() } else { FEW };
    let mut text = names[..shown].iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if shown < names.len() {
        text += &format!(" and {} more", names.len() - shown);
    }
    text
}

/// Milliseconds in four digits or less.
pub fn ms(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// Dimensions, as in `1x10`.
pub fn by(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_and_align() {
        let mut table = Table::new(&["name", "ms", "<why"]);
        table.row(vec!["a".repeat(200), "1.25".into(), "b".repeat(20)]);
        table.row(vec!["short".into(), "12.5".into(), "c".into()]);
        let text = table.text();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("a~  1.25  bbb") && text.contains("  12.5  c\n"), "{text}");
    }

    #[test]
    fn long_lists_are_folded() {
        let many: Vec<String> = (0..77).map(|i| format!("n{i}")).collect();
        assert_eq!(names(&many, false), "n0, n1, n2, n3, n4, n5, n6 and 70 more");
        assert!(names(&many, true).ends_with(", n75, n76"));
        assert_eq!(names(&many[..8], false), names(&many[..8], true));
        assert_eq!(names(&[""; 0], false), "");
    }

    #[test]
    fn wrapped_lines_keep_every_word() {
        let words = (0..60).map(|i| format!("word{i}")).collect::<Vec<_>>().join(" ");
        let text = wrap(&words, 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), words);
    }
}
