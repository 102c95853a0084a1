//! `produce`: lines onto a topic.

pub(super) mod input;
mod parse;

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Produce as Args;
use super::run::stop_on_signal;
use super::tail::check_partition;
use super::{Exit, topic_name};
use crate::config::Config;
use crate::pipeline::open_log;
use crate::transport::{Outgoing, Transport, TransportError};
use input::Input;
use parse::Parser;

/// Records and bytes in one append.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 1 << 20;
/// Wait after an append that failed for now, and how long such waits may add up to.
const AGAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);
/// Bad lines that are named when they are left out.
const NAMED: u64 = 10;

/// Produces what it reads; ends at the end of it.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = open_log(&config).await?;
    let topic = topic_name::find(&names, &args.topic)?;
    let full = names.full(&topic.name);
    if let Some(p) = args.partition {
        check_partition(&full, &transport.bounds(&full).await?, p)?;
    }
    let mut input = Input::open(args.file.as_deref())?;
    let parser = Parser::new(&args, &topic, full.clone());
    let stdin = args.file.as_deref().is_none_or(|f| f == Path::new("-"));
    if stdin && std::io::stdin().is_terminal() {
        eprintln!("one record a line; Ctrl-D ends");
    }
    let mut work = Work::new(&*transport, input.size, args.skip_bad);
    let done = work.all(&mut input, &parser).await;
    work.bar.finish_and_clear();
    let said = format!("{} records produced to {full}", work.produced);
    let left_out = match work.bad {
        0 => String::new(),
        n => format!("; {n} bad lines left out"),
    };
    match done {
        Ok(true) => eprintln!("{said}{left_out}"),
        Ok(false) => {
            eprintln!("stopped: {said}, up to line {}{left_out}", work.line);
            return Ok(Exit::Failed);
        }
        Err(e) => return Err(e.context(format!("{said}, up to line {}{left_out}", work.line))),
    }
    Ok(Exit::Done)
}

struct Work<'a> {
    transport: &'a dyn Transport,
    skip_bad: bool,
    chunk: Vec<Outgoing>,
    bytes: usize,
    /// Records on the topic.
    produced: u64,
    /// Last line that was read into them.
    line: u64,
    bad: u64,
    bar: ProgressBar,
}

impl<'a> Work<'a> {
    fn new(transport: &'a dyn Transport, size: Option<u64>, skip_bad: bool) -> Work<'a> {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(size, target);
        let template = match size {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {msg} ETA {eta}",
            None => "{spinner} {bytes} {msg} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Work { transport, skip_bad, chunk: vec![], bytes: 0, produced: 0, line: 0, bad: 0, bar }
    }

    /// True at the end of the input, false when a signal came before. What is not appended by then is not produced.
    async fn all(&mut self, input: &mut Input, parser: &Parser) -> Result<bool> {
        let mut read = 0;
        let stop = stop_on_signal();
        loop {
            let lines = tokio::select! {
                lines = input.next() => lines.context("cannot read on")?,
                () = stop.cancelled() => return Ok(false),
            };
            let Some(lines) = lines else { return Ok(true) };
            let mut last = self.line;
            for l in lines {
                let record = match &l.text {
                    Some(text) => parser.record(text),
                    None => Err("it is too long to be a record".into()),
                };
                match record {
                    Ok(record) => {
                        self.bytes += record.as_ref().map_or(0, Outgoing::size);
                        self.chunk.extend(record);
                    }
                    Err(why) if self.skip_bad => self.leave_out(l.number, &why),
                    Err(why) => {
                        self.append(last).await?;
                        let fix = "mend it, or leave such lines out with --skip-bad";
                        anyhow::bail!("line {}: {why}; nothing after it was produced: {fix}", l.number);
                    }
                }
                read += l.took;
                last = l.number;
                if self.chunk.len() >= CHUNK || self.bytes >= CHUNK_BYTES {
                    self.append(last).await?;
                }
            }
            // What came is produced before more is waited for.
            self.append(last).await?;
            self.bar.set_position(read);
            self.bar.set_message(format!("{} records", self.produced));
        }
    }

    fn leave_out(&mut self, number: u64, why: &str) {
        self.bad += 1;
        if self.bad <= NAMED {
            self.bar.suspend(|| eprintln!("line {number} left out: {why}"));
        }
    }

    /// Appends the chunk, which reaches up to this line, in one transaction; waits out what may pass.
    async fn append(&mut self, line: u64) -> Result<(), TransportError> {
        let chunk = std::mem::take(&mut self.chunk);
        self.bytes = 0;
        let since = Instant::now();
        while !chunk.is_empty() {
            match self.transport.append(chunk.clone()).await {
                Err(TransportError::Unavailable(e)) if since.elapsed() < PATIENCE => {
                    tracing::warn!(error = %e, "producing failed; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        self.produced += chunk.len() as u64;
        self.line = line;
        Ok(())
    }
}
