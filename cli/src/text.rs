//! Text for people: numbers with separators, sizes, durations, and columns that line up.

use std::io::{ErrorKind, Write};
use std::time::Duration;

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `n` things: `1 row`, `2 rows`.
pub(crate) fn counted(n: u64, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(n))
}

/// A number of bytes with a unit.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut size, mut unit) = (n as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// A duration as people read it: `12 ms`, `3.21 s`, `4 min 10 s`.
pub(crate) fn duration(d: Duration) -> String {
    match d.as_secs() {
        0 if d.as_millis() < 10 => format!("{:.2} ms", d.as_secs_f64() * 1e3),
        0 => format!("{} ms", d.as_millis()),
        1..=119 => format!("{:.2} s", d.as_secs_f64()),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// Rows in columns that line up, below their heads. Columns whose head begins with `>` are aligned to the right.
pub(crate) fn columns(heads: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = heads.iter().map(|h| h.starts_with('>')).collect();
    let heads: Vec<String> = heads.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
    let width =
        |i: usize| rows.iter().chain([&heads]).filter_map(|r| r.get(i)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..heads.len()).map(|i| width(i).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in [&heads].into_iter().chain(rows) {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            line += if i > 0 { "  " } else { "" };
            line += &if right[i] { format!("{pad}{cell}") } else { format!("{cell}{pad}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Prints to stdout. That the reader went away is no error: it has seen enough.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    print_on(bytes).map(drop)
}

/// The same; whether the reader is still there.
pub(crate) fn print_on(bytes: impl AsRef<[u8]>) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(anyhow::anyhow!("stdout: {e}")),
    }
}

/// `text` in one line: what an error says on stderr.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown: Vec<_> = [0, 999, 1_000, 336_776, u64::MAX].map(count).into();
        assert_eq!(shown, ["0", "999", "1,000", "336,776", "18,446,744,073,709,551,615"]);
        assert_eq!((counted(1, "row"), counted(0, "row")), ("1 row".into(), "0 rows".into()));
    }

    #[test]
    fn sizes_and_durations_have_fitting_units() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, u64::MAX].map(bytes).join(", "),
            "0 B, 1023 B, 1.0 KiB, 1.0 MiB, 16777216.0 TiB"
        );
        let shown = [4, 40, 1_500, 250_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(shown.join(", "), "4.00 ms, 40 ms, 1.50 s, 4 min 10 s");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "5".into()], vec!["long".into(), "1,000".into()]];
        assert_eq!(columns(&["name", ">rows"], &rows), "name   rows\na         5\nlong  1,000\n");
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(one_line("a\n  b\r\n"), "a b");
    }
}
