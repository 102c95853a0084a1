//! How letters are to be put back, what was done, and what became of it.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::ReplayFlags;
use crate::cli::decoded::{Decoded, visible};
use crate::cli::format;
use crate::dlq::{self, Filter, Order, Report, RunReport, Sample, Tally};
use crate::record::time;
use crate::topology::Names;
use crate::transport::{Outgoing, Transport};

/// What the flags mean.
pub fn order(how: &ReplayFlags) -> Order {
    let threshold = f64::from(how.threshold) / 100.0;
    Order {
        run: uuid::Uuid::now_v7().simple().to_string(),
        dry_run: how.dry_run,
        rate: how.rate,
        park_after: how.park_after,
        force: how.force,
        to: how.to.clone().unwrap_or_default(),
        edit: how.edit.clone(),
        sample: how.sample.map(|letters| Sample { letters, threshold, wait: how.sample_wait }),
    }
}

/// Letters whose edit is shown.
const SHOWN: usize = 3;

/// What an edit makes of the first letters, as a diff of the record that is put back without it and with it.
pub async fn show_edit(transport: &dyn Transport, names: &Names, filter: &Filter, order: &Order) -> Result<()> {
    let plain = Order { edit: None, ..order.clone() };
    let after = dlq::preview(transport, names, filter, order, SHOWN).await?;
    let ids = after.iter().map(|(l, _)| l.id.clone()).collect();
    let before = dlq::preview(transport, names, &Filter { ids, ..filter.clone() }, &plain, SHOWN).await?;
    for (letter, after) in &after {
        let Some((_, before)) = before.iter().find(|(l, _)| l.id == letter.id) else { continue };
        let (a, b) = (as_text(&before.record), as_text(&after.record));
        let diff = similar::TextDiff::from_lines(&a, &b);
        let (from, to) = (letter.id.to_string(), format!("{} as it is put back", letter.id));
        eprintln!("{}", diff.unified_diff().context_radius(3).header(&from, &to));
    }
    Ok(())
}

/// A record as lines of text.
fn as_text(r: &Outgoing) -> String {
    let key = r.key.as_deref().map_or("none".into(), String::from_utf8_lossy);
    let mut out = format!("topic: {}\nkey: {}\n", r.topic, visible(&key));
    for (name, value) in &r.headers.0 {
        out.push_str(&format!("header {name}: {}\n", visible(&String::from_utf8_lossy(value))));
    }
    match Decoded::of(&r.value) {
        Decoded::Avro(_, fields) | Decoded::Json(_, fields) => out.push_str(&format!("{fields:#}\n")),
        other => out.push_str(&format!("{}\n", other.line())),
    }
    out
}

/// For people.
pub fn print(r: &Report, order: &Order) {
    for (topic, count) in &r.to {
        println!("{count:>8}  {topic}");
    }
    let done = if order.dry_run { "would be replayed".to_owned() } else { format!("replayed, run {}", order.run) };
    println!("{} dead letters {done}; {} had been replayed before", r.replayed, r.already);
    if r.parked > 0 {
        println!(
            "{} are parked, because they died {} times or more after a replay; --force takes them along",
            r.parked, order.park_after
        );
    }
    for (why, count) in &r.stuck {
        println!("{count} were left alone: {why}");
    }
    if let Some(t) = &r.sample {
        println!(
            "of the sample {} succeeded, {} died again of the same cause, {} of another, {} are under way",
            t.succeeded, t.same_cause, t.other_cause, t.waiting
        );
    }
    if r.stopped {
        println!("stopped after the sample: too few succeeded in time; `tidemill dlq runs` says how they fare");
    }
}

/// For programs.
pub fn as_json(r: &Report, order: &Order) -> Value {
    json!({
        "run": order.run, "dry_run": order.dry_run, "matched": r.matched, "already": r.already, "parked": r.parked,
        "replayed": r.replayed, "to": r.to, "stuck": r.stuck, "sample": r.sample.as_ref().map(tally), "stopped": r.stopped,
    })
}

fn tally(t: &Tally) -> Value {
    json!({
        "letters": t.letters, "succeeded": t.succeeded, "same_cause": t.same_cause, "other_cause": t.other_cause,
        "waiting": t.waiting,
    })
}

/// Runs for people.
pub fn print_runs(runs: &[RunReport]) {
    let mut t = format::table(&["run", "from", "to", "letters", "succeeded", "same cause", "other cause", "under way"]);
    for r in runs {
        let n = &r.tally;
        let mut row = vec![r.run.clone(), time(r.first), time(r.last)];
        row.extend([n.letters, n.succeeded, n.same_cause, n.other_cause, n.waiting].map(|n| n.to_string()));
        t.add_row(row);
    }
    format::print_table(&t);
}

/// Runs for programs.
pub fn runs_json(runs: &[RunReport]) -> Value {
    let one = |r: &RunReport| {
        let mut v = tally(&r.tally);
        v["run"] = json!(r.run);
        v["first"] = json!(r.first);
        v["last"] = json!(r.last);
        v
    };
    runs.iter().map(one).collect()
}
