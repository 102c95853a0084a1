//! One snapshot as plain tables.

use comfy_table::CellAlignment;

use crate::cli::format;
use crate::cli::tail::show;
use crate::monitor::{Snapshot, Stage};
use crate::record::time;

/// Failures, partitions and jobs shown.
const SHOWN: usize = 10;

/// Prints it.
pub fn print(s: &Snapshot) {
    println!("{}", time(s.at));
    let retries = ["retry 1", "2", "3", "4"];
    let headings = [&["stage", "in/s", "out/s", "lag", "gap", "open"][..], &retries, &["dead letters"]].concat();
    let mut t = format::table(&headings);
    for stage in &s.stages {
        t.add_row(row(stage));
    }
    right(&mut t, 1..headings.len());
    format::print_table(&t);

    let mut t = format::table(&["partition", "base", "end", "lag", "gap", "open"]);
    let topics = s.stages.iter().flat_map(|s| &s.topics);
    let mut behind: Vec<_> =
        topics.flat_map(|t| t.partitions.iter().filter(|p| p.lag > 0).map(move |p| (t.topic.as_str(), p))).collect();
    behind.sort_by_key(|(_, p)| std::cmp::Reverse(p.lag));
    for (topic, p) in behind.iter().take(SHOWN) {
        t.add_row(vec![
            format!("{topic}/{}", p.partition),
            p.base.to_string(),
            p.end.to_string(),
            p.lag.to_string(),
            p.gap.to_string(),
            p.incomplete.to_string(),
        ]);
    }
    if !behind.is_empty() {
        right(&mut t, 1..6);
        println!();
        format::print_table(&t);
        if behind.len() > SHOWN {
            println!("and {} more partitions with records waiting", behind.len() - SHOWN);
        }
    }

    let open = s.jobs.iter().filter(|j| j.finished < j.total());
    let mut t = format::table(&["job", "finished", "URLs", "indexed", "dropped", "dead", "source"]);
    for j in open.take(SHOWN) {
        t.add_row(vec![
            j.job.id.clone(),
            j.finished.to_string(),
            j.total().to_string(),
            j.indexed.to_string(),
            j.dropped.to_string(),
            j.dead_letters.to_string(),
            format::cut(&j.job.source, 40),
        ]);
    }
    if t.row_count() > 0 {
        println!();
        format::print_table(&t);
    }
    if !s.failures.is_empty() {
        println!("\nnewest failures");
        s.failures.iter().take(SHOWN).for_each(|e| println!("{}", show::status(e)));
    }
}

fn row(s: &Stage) -> Vec<String> {
    let rate = |f: fn(crate::monitor::Rate) -> f64| s.rate.map_or("-".into(), |r| format!("{:.1}", f(r)));
    let mut row = vec![s.stage.to_string(), rate(|r| r.inward), rate(|r| r.outward)];
    row.extend([s.lag, s.gap, s.incomplete].map(|n| n.to_string()));
    row.extend(s.retries.map(|n| n.to_string()));
    row.push(s.dead_letters.to_string());
    row
}

fn right(t: &mut comfy_table::Table, columns: std::ops::Range<usize>) {
    for c in columns {
        if let Some(c) = t.column_mut(c) {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
}
