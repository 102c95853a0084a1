//! `tail`: the records of a topic, decoded: the newest, those since a time, and what comes.

mod read;
pub mod show;

use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Stdout, Write, stdout};
use std::time::Duration;

use anyhow::Result;

use super::args::{Since, Tail as Args};
use super::decoded::Decoded;
use super::filter::Filter;
use super::run::signal;
use super::{Exit, UsageError, lines, topic_name};
use crate::config::Config;
use crate::pipeline::{look_at_log, open_log};
use crate::topology::Names;
use crate::transport::tail::{From, Tail};
use crate::transport::{Bounds, Incoming, Transport, TransportError};
use read::Merge;

/// Records shown when nothing else is said, as `tail` does.
const LAST: usize = 10;
/// Wait after a look that failed for now.
const AGAIN: Duration = Duration::from_millis(500);

/// Prints records until there are no more, or until a signal.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    if args.from == Some(Since::End) && !args.follow {
        return Err(UsageError("--from end shows what comes from now on: add --follow".into()).into());
    }
    if args.follow && args.from.is_some() && args.limit.is_some() {
        return Err(UsageError("with --from, -n ends the output and --follow does not: leave one out".into()).into());
    }
    let filter = Filter::of(&args.which).map_err(|e| UsageError(format!("--grep: {e}")))?;
    let (transport, topic) = match topic_name::find(&Names::new(&config.prefix), &args.topic) {
        Ok(ours) => {
            let (transport, names) = open_log(&config).await?;
            (transport, names.full(&ours.name))
        }
        // Another's topic, if there is one of that name; and no topic is made for it.
        Err(none_of_ours) => {
            let (transport, _) = look_at_log(&config).await?;
            match transport.bounds(&args.topic).await {
                Err(TransportError::NoTopic(_)) => return Err(none_of_ours.into()),
                there => there?,
            };
            (transport, args.topic.clone())
        }
    };
    let mut out = Out::new(args.json);
    tokio::select! {
        shown = show(&*transport, &topic, &args, &filter, &mut out) => shown?,
        () = signal() => {}
    }
    Ok(Exit::Done)
}

async fn show(transport: &dyn Transport, topic: &str, args: &Args, filter: &Filter, out: &mut Out) -> Result<()> {
    let mut bounds = transport.bounds(topic).await?;
    let ends: BTreeMap<i32, i64> = bounds.iter().map(|b| (b.partition, b.end)).collect();
    if let Some(p) = args.partition {
        check_partition(topic, &bounds, p)?;
        bounds.retain(|b| b.partition == p);
    }
    match args.from {
        None => {
            let n = args.limit.unwrap_or(LAST);
            for r in read::newest(transport, topic, &bounds, n, |r| filter.lets_through(r)).await? {
                if !out.print(&r)? {
                    return Ok(());
                }
            }
        }
        Some(since) => {
            let times: BTreeMap<i32, i64> = match since {
                Since::Time(time) => transport.offsets_at(topic, time).await?.into_iter().collect(),
                Since::Start | Since::End => BTreeMap::new(),
            };
            let from = |b: &Bounds| match since {
                Since::Start => b.start,
                Since::End => b.end,
                Since::Time(_) => times.get(&b.partition).copied().unwrap_or(b.end),
            };
            let parts: Vec<_> = bounds.iter().map(|b| (b.partition, from(b), b.end)).collect();
            let mut merge = Merge::new(topic, parts);
            let mut left = args.limit.unwrap_or(usize::MAX);
            while left > 0
                && let Some(r) = merge.next(transport).await?
            {
                if filter.lets_through(&r) {
                    left -= 1;
                    if !out.print(&r)? {
                        return Ok(());
                    }
                }
            }
        }
    }
    if !out.flush() || !args.follow {
        return Ok(());
    }
    follow(transport, topic, ends, args.partition, filter, out).await
}

/// What comes after these offsets, for ever.
async fn follow(
    transport: &dyn Transport,
    topic: &str,
    ends: BTreeMap<i32, i64>,
    partition: Option<i32>,
    filter: &Filter,
    out: &mut Out,
) -> Result<()> {
    let mut tail = Tail::new(transport, topic, From::Offsets(ends)).await?;
    loop {
        let batch = match tail.next(transport).await {
            Err(TransportError::Unavailable(e)) => {
                eprintln!("the log cannot be read for now, trying again: {e}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            batch => batch?,
        };
        for r in batch.iter().filter(|r| partition.is_none_or(|p| r.at.partition == p) && filter.lets_through(r)) {
            if !out.print(r)? {
                return Ok(());
            }
        }
        if !out.flush() {
            return Ok(());
        }
    }
}

/// One sentence for a partition that is not there.
pub fn check_partition(topic: &str, bounds: &[Bounds], partition: i32) -> Result<(), UsageError> {
    if bounds.iter().any(|b| b.partition == partition) {
        return Ok(());
    }
    let last = bounds.iter().map(|b| b.partition).max().unwrap_or(0);
    Err(UsageError(format!("{topic} has no partition {partition}: choose one from 0 to {last}")))
}

/// Where lines go. A reader that went away is told by false.
struct Out {
    to: BufWriter<Stdout>,
    json: bool,
    /// Columns of the terminal, if it is one.
    width: Option<usize>,
}

impl Out {
    fn new(json: bool) -> Out {
        let size = || ratatui::crossterm::terminal::size().ok().map(|(w, _)| usize::from(w)).filter(|w| *w > 0);
        let width = if stdout().is_terminal() && !json { size() } else { None };
        Out { to: BufWriter::new(stdout()), json, width }
    }

    fn print(&mut self, r: &Incoming) -> serde_json::Result<bool> {
        let value = Decoded::of(&r.value);
        let line = match (self.json, self.width) {
            (true, _) => lines::write(r, &value)?,
            (false, None) => show::line(r, &value),
            (false, Some(width)) => show::fit(&show::line(r, &value), width),
        };
        Ok(writeln!(self.to, "{line}").is_ok())
    }

    fn flush(&mut self) -> bool {
        self.to.flush().is_ok()
    }
}
