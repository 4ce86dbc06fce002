//! A table as wide as its reader's terminal: columns that find no place are left out, the least needed first.

use std::env;

/// Width where nobody says one.
const WIDTH: usize = 120;

const GAP: &str = "  ";

/// One column.
pub struct Column {
    title: &'static str,
    /// Flush left.
    words: bool,
    /// 0 is always shown; of the others the highest goes first.
    rank: u8,
    cells: Vec<String>,
}

impl Column {
    pub fn words(title: &'static str, cells: Vec<String>) -> Self {
        Column { title, words: true, rank: 0, cells }
    }

    pub fn numbers(title: &'static str, rank: u8, cells: Vec<String>) -> Self {
        Column { title, words: false, rank, cells }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.title.chars().count()]).max().unwrap_or(0)
    }

    fn aligned(&self, cell: &str, width: usize) -> String {
        match self.words {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        }
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(String::is_empty)
    }
}

/// Characters of a line: as COLUMNS says, or the terminal, or 120.
pub fn width() -> usize {
    let said = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&width| width > 0);
    let seen = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    said.or_else(seen).unwrap_or(WIDTH)
}

/// The table in at most `width` characters, if what is always shown leaves that choice; columns without
/// content are left out.
pub fn table(columns: Vec<Column>, width: usize) -> String {
    let mut columns: Vec<Column> = columns.into_iter().filter(|column| !column.is_empty()).collect();
    let needed = |columns: &[Column]| {
        columns.iter().map(Column::width).sum::<usize>() + GAP.len() * columns.len().saturating_sub(1)
    };
    while needed(&columns) > width {
        let least = columns.iter().enumerate().max_by_key(|(_, column)| column.rank);
        match least {
            Some((at, column)) if column.rank > 0 => columns.remove(at),
            _ => break,
        };
    }
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, &width)| column.aligned(&cell(column), width));
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_string()
    };
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let mut text = line(&|column| column.title.to_string());
    for row in 0..rows {
        text += "\n";
        text += &line(&|column| column.cells.get(row).cloned().unwrap_or_default());
    }
    text
}

/// Three digits with the prefix of their power of ten, such as `12.3 G`.
pub fn scaled(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1000.0 {
        return format!("{value:.0}");
    }
    let mut scale = value;
    for prefix in ["", " k", " M", " G", " T", " P"] {
        if scale.abs() < 999.5 {
            return three(scale) + prefix;
        }
        scale /= 1000.0;
    }
    "n/a".into()
}

/// Three digits and no prefix, of a number below 999.5.
fn three(value: f64) -> String {
    let decimals = match value.abs() {
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A share of 1 as a percentage.
pub fn percent(share: f64) -> String {
    match share {
        x if !x.is_finite() => "n/a".into(),
        x if x.abs() >= 9.9995 => format!("{:.0} %", 100.0 * x),
        x => format!("{:.1} %", 100.0 * x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let cells = |texts: [&str; 2]| texts.map(String::from).to_vec();
        vec![
            Column::words("phase", cells(["head", "encoder.ffn"])),
            Column::numbers("calls", 2, cells(["1", "22"])),
            Column::numbers("time", 0, cells(["1 ms", "22 ms"])),
            Column::numbers("FLOPs", 3, cells(["1 G", "2 G"])),
            Column::numbers("joules", 1, cells(["", ""])),
        ]
    }

    #[test]
    fn a_narrow_table_has_fewer_columns() {
        let wide = table(columns(), 80);
        assert_eq!(
            wide,
            "phase        calls   time  FLOPs\nhead             1   1 ms    1 G\nencoder.ffn     22  22 ms    2 G"
        );
        let lines: Vec<usize> = [31, 25, 3].map(|width| table(columns(), width).lines().count()).to_vec();
        assert_eq!(lines, [3, 3, 3]);
        assert!(table(columns(), 31).starts_with("phase        calls   time\n"));
        assert!(table(columns(), 24).starts_with("phase         time\n"));
        assert_eq!(table(columns(), 3), table(columns(), 24), "what is always shown stays");
    }

    #[test]
    fn figures_have_three_digits() {
        let texts = [0.0, 7.0, 999.0, 12_345.0, 999_600.0, 3.35e12, 355e12].map(scaled);
        assert_eq!(texts, ["0", "7", "999", "12.3 k", "1.00 M", "3.35 T", "355 T"]);
        assert_eq!(
            [0.0, 0.123, 1.0, 12.3, f64::NAN].map(percent),
            ["0.0 %", "12.3 %", "100.0 %", "1230 %", "n/a"]
        );
    }
}
