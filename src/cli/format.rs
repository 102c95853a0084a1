//! How things look in a terminal: tables, times, counts.

use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// An empty table with these headings, as wide as the terminal (any width when piped).
pub fn table(headings: &[&str]) -> Table {
    let mut t = Table::new();
    t.load_style(presets::NOTHING).set_header(headings.to_vec());
    if std::io::stdout().is_terminal() {
        t.set_content_arrangement(ContentArrangement::Dynamic);
    }
    t
}

/// Prints a table without trailing blanks.
pub fn print_table(t: &Table) {
    for line in t.to_string().lines() {
        println!("{}", line.trim_end());
    }
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A bar on stderr, if that is a terminal.
pub fn bar(total: u64) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed} ETA {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Milliseconds as a person says them.
pub fn millis(ms: f64) -> String {
    if ms < 1.0 {
        format!("{ms:.2} ms")
    } else if ms < 1_000.0 {
        format!("{ms:.0} ms")
    } else {
        duration(Duration::from_secs_f64(ms / 1e3))
    }
}

/// A length of time as a person says it.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s < 120.0 {
        format!("{s:.1} s")
    } else if s < 7_200.0 {
        format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0)
    } else {
        format!("{:.0} h {:.0} min", (s / 3600.0).floor(), (s % 3600.0) / 60.0)
    }
}

/// A number in at most five characters, from 100,000 on rounded, with a k, M, ….
pub fn count(n: impl TryInto<i64>) -> String {
    let n = n.try_into().unwrap_or(i64::MAX);
    let units = [(1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')];
    if n.unsigned_abs() < 100_000 {
        return n.to_string();
    }
    let exact = n as f64;
    let (size, letter) = units.into_iter().find(|(size, _)| exact.abs() >= *size).unwrap_or((1.0, ' '));
    let short = exact / size;
    if short.abs() < 9.95 { format!("{short:.1}{letter}") } else { format!("{short:.0}{letter}") }
}

/// At most `max` characters.
pub fn cut(text: &str, max: usize) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= max {
        one_line
    } else {
        one_line.chars().take(max.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_short() {
        for (n, said) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (999_999, "1000k"),
            (1_000_000, "1.0M"),
            (9_960_000, "10M"),
            (12_345_678, "12M"),
            (i64::MAX, "9.2E"),
            (-5, "-5"),
        ] {
            assert_eq!(count(n), said);
        }
        assert_eq!(count(u64::MAX), "9.2E");
    }
}
