use super::*;
use crate::units::Quantity;

/// A row of a small table.
struct Row {
    name: &'static str,
    count: u64,
    time: Reading,
    joules: Option<f64>,
}

fn rows() -> Vec<Row> {
    vec![
        Row { name: "head", count: 1, time: Reading::measured(60.0), joules: None },
        Row { name: "encoder.ffn", count: 1200, time: Reading::predicted(600.0), joules: None },
        Row { name: "loss", count: 3, time: Reading::absent("no clock"), joules: None },
    ]
}

fn columns() -> Vec<Column<'static, Row>> {
    vec![
        Column::words("phase", |row: &Row| row.name).key("phase"),
        Column::number("calls", Format::Integer, |row: &Row| row.count).key("calls").rank(1),
        Column::number("time of all", Format::In(Quantity::Time), |row: &Row| row.time.clone())
            .key("seconds"),
        Column::number("joules", Format::Significant, |row: &Row| row.joules),
        Column::file("twice", |row: &Row| 2 * row.count),
    ]
}

fn table() -> Table {
    Table::new(&columns(), &rows())
}

#[test]
fn a_narrow_table_breaks_titles_then_drops_columns_then_shortens_names() {
    let wide = table().text(80);
    let lines: Vec<&str> = wide.lines().collect();
    assert_eq!(
        lines,
        [
            "phase        calls  time of all (min)",
            "head             1               1.00",
            "encoder.ffn  1,200              ~10.0",
            "loss             3                n/a",
        ],
        "the column without content is left out"
    );
    let broken = table().text(36);
    let head = "                      time of\nphase        calls  all (min)\n";
    assert!(broken.starts_with(head), "{broken}");
    let dropped = table().text(22);
    assert!(!dropped.contains("calls") && dropped.contains("encoder.ffn"), "{dropped}");
    let short = table().text(3);
    assert!(short.contains("enco…ffn") && short.lines().all(|line| line.chars().count() <= 19), "{short}");
}

#[test]
fn what_marks_mean_is_said_where_they_occur() {
    assert_eq!(table().notes(), ["~ predicted, not measured", "n/a in time of all (min): no clock"]);
    assert_eq!(Table::new(&columns(), &rows()[..1]).notes(), [""; 0]);
    assert_eq!(
        table().record(2),
        "phase              loss\ncalls              3\ntime of all (min)  n/a: no clock"
    );
}

#[test]
fn files_have_keys_and_unrounded_numbers() {
    let lines: Vec<String> = table().csv().split("\r\n").map(String::from).collect();
    assert_eq!(lines[..2], ["phase,calls,seconds,twice", "head,1,60,2"]);
    assert_eq!(lines[3..], ["loss,3,n/a: no clock,6", ""]);
}

const HOSTILE: &str = "|<b>x</b> \\input{/etc/passwd} $x_1$ [a](b) `c` #d & 100% ~e^f\n{}";

fn hostile() -> Table {
    let columns = [
        Column::words(HOSTILE, |_: &()| HOSTILE).key("name"),
        Column::number("predicted", Format::Decimals(1), |_: &()| Reading::predicted(12.0)),
        Column::number("absent", Format::Decimals(1), |_: &()| Reading::absent(HOSTILE)),
    ];
    Table::new(&columns, &[()])
}

/// Columns of a line: separators that are not escaped.
fn separators(line: &str, separator: char) -> usize {
    let mut escaped = false;
    let mut count = 0;
    for c in line.chars() {
        count += usize::from(c == separator && !escaped);
        escaped = c == '\\' && !escaped;
    }
    count
}

#[test]
fn hostile_names_stay_in_their_markdown_cells() {
    let text = hostile().markdown("Below.");
    assert!(!text.contains("<b>"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| separators(row, '|') == 4), "{text}");
    assert!(text.contains("~12.0") && text.contains("n/a (1)") && text.contains("(1) n/a: "), "{text}");
}

#[test]
fn hostile_names_are_no_latex() {
    let text = hostile().latex(HOSTILE);
    let row = text.lines().find(|line| line.contains("passwd") && line.ends_with("\\\\")).unwrap();
    assert!(row.contains("\\textbackslash{}input\\{/etc/passwd\\}") && !row.contains("\\input"), "{row}");
    assert_eq!((separators(row.trim_end_matches('\\'), '&'), separators(row, '$')), (2, 0), "{row}");
    assert!(text.contains("\\textit{12.0}") && text.contains("n/a\\textsuperscript{1}"), "{text}");
}

#[test]
fn hostile_names_stay_text_in_a_page() {
    let text = hostile().html(HOSTILE);
    assert!(!text.contains("<b>") && text.contains("&lt;b&gt;x&lt;/b&gt;"), "{text}");
    assert!(text.contains("<i class=\"predicted\">12.0</i> <small>predicted</small>"), "{text}");
    assert!(
        text.contains("n/a<sup>1</sup>") && text.contains("<ol class=\"footnotes\"><li>|&lt;b"),
        "{text}"
    );
}

#[test]
fn a_spreadsheet_runs_no_formula_and_splits_no_field() {
    let of = |text: &'static str| {
        let table = Table::new(&[Column::words("x", |text: &&'static str| *text).key("x")], &[text]);
        table.csv().strip_prefix("x\r\n").unwrap().strip_suffix("\r\n").unwrap().to_string()
    };
    for formula in ["=1+1", "+cmd", "-2", "@SUM(A1)", " =1", "＝1"] {
        assert_eq!(of(formula), format!("'{formula}"));
    }
    assert_eq!(of("\t=1"), "\"'\t=1\"");
    assert_eq!(of("a;=1"), "\"a;=1\"");
    assert_eq!(of("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
    assert_eq!(of("led-base"), "led-base");
}
