//! `run`: the pipeline over a file until it is done, or for ever.

use std::fs::{File, TryLockError};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::args::Run as Args;
use super::report::{Report, outcome_name};
use super::{Exit, UsageError, format, urls};
use crate::config::Config;
use crate::file_lock::FileLock;
use crate::jobs::{self, Lane, NewJob, Progress, Tracker, submit};
use crate::pipeline::Pipeline;
use crate::record::{OutcomeKind, StatusEvent, codec};
use crate::server;
use crate::sink::Search;
use crate::topology::{Ladder, Names, STATUS, StageName};
use crate::transport::tail::{From, Tail};
use crate::transport::{Transport, TransportError};

/// Where /metrics answers while the pipeline stays up.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 9464);
/// How often a run without a terminal says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How often the run looks whether it is still running.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the stages asked for.
pub async fn run(args: Args, mut config: Config) -> Result<Exit> {
    args.fetch.apply(&mut config);
    if args.urls.is_none() && args.fresh {
        return Err(UsageError("--fresh goes with a file of URLs".into()).into());
    }
    if args.urls.is_none() && args.force {
        return Err(UsageError("--force goes with a file of URLs; or submit them with `submit --force`".into()).into());
    }
    let stages = if args.stages.is_empty() { StageName::ALL.to_vec() } else { args.stages.clone() };
    let listen = args.listen.or(config.listen);
    match &args.urls {
        None => stay(args, config, &stages, listen.or(Some(LISTEN.into()))).await,
        Some(file) => {
            let urls = urls::read(file)?;
            let ladder = args.ladder.unwrap_or(Ladder::Quick);
            let source = file.display().to_string();
            let options = Options {
                stages,
                ladder,
                output: args.output,
                fresh: args.fresh,
                force: args.force,
                quiet: args.quiet || args.json,
                listen,
            };
            let ran = finish(config, source, urls, options).await?;
            if args.json {
                format::print_json(&ran.report)?;
            } else {
                println!();
                ran.report.print();
            }
            Ok(ran.exit())
        }
    }
}

/// Stays up until a signal.
async fn stay(args: Args, config: Config, stages: &[StageName], listen: Option<std::net::SocketAddr>) -> Result<Exit> {
    let ladder = args.ladder.unwrap_or(config.engine.ladder);
    let mut pipeline = Pipeline::open(config).await?;
    if let Some(file) = &args.output {
        pipeline.also_write(file, file.exists())?;
    }
    let stop = stop_on_signal();
    serve(&pipeline.transport, &pipeline.names, Some(pipeline.index.clone()), listen, &stop).await?;
    pipeline.run(stages, ladder, stop).await?;
    Ok(Exit::Done)
}

/// Answers over HTTP until `stop`, if an address is given.
pub async fn serve(
    transport: &Arc<dyn Transport>,
    names: &Names,
    index: Option<Arc<dyn Search>>,
    listen: Option<std::net::SocketAddr>,
    stop: &CancellationToken,
) -> Result<()> {
    if let Some(address) = listen {
        let (listener, bound) = server::bind(address).await.map_err(anyhow::Error::msg)?;
        tracing::info!(%bound, "answering /metrics, /health, /ready and /search");
        tokio::spawn(server::serve(listener, Arc::clone(transport), names.clone(), index, stop.child_token()));
    }
    Ok(())
}

/// A token that SIGINT or SIGTERM cancels; a second signal ends the process at once (nothing is lost: what is not
/// committed runs again).
pub fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        signal().await;
        eprintln!("stopping: finishing what is running (again to end at once)");
        token.cancel();
        signal().await;
        std::process::exit(1);
    });
    stop
}

/// Waits for SIGINT or SIGTERM.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// How a file is run.
pub struct Options {
    pub stages: Vec<StageName>,
    pub ladder: Ladder,
    pub output: Option<std::path::PathBuf>,
    pub fresh: bool,
    pub force: bool,
    pub quiet: bool,
    pub listen: Option<std::net::SocketAddr>,
}

/// What came of it.
pub struct Ran {
    pub report: Report,
    pub interrupted: bool,
}

impl Ran {
    /// Interrupted: 1; dead letters: 3; else 0.
    pub fn exit(&self) -> Exit {
        if self.interrupted {
            Exit::Failed
        } else if self.report.progress.dead_letters() > 0 {
            Exit::DeadLetters
        } else {
            Exit::Done
        }
    }
}

/// Submits the URLs (or goes on with a submission that was cut short) and runs until each has its outcome.
pub async fn finish(config: Config, source: String, urls: Vec<String>, options: Options) -> Result<Ran> {
    let started = Instant::now();
    let mut pipeline = Pipeline::open(config).await?;
    let digest = urls::digest(&urls);
    let lock = lock(&pipeline.config.data.join(format!("submitting-{digest}")))?;
    let (new, resumed) = job_for(&pipeline, &digest, source, options.fresh).await?;
    let job = new.id.clone();
    if let Some(file) = &options.output {
        pipeline.also_write(file, resumed && file.exists())?;
    }
    let total = urls.len() as u64;
    let stop = stop_on_signal();
    let done = CancellationToken::new();
    serve(&pipeline.transport, &pipeline.names, Some(pipeline.index.clone()), options.listen, &done).await?;

    let pipeline = Arc::new(pipeline);
    let (transport, names) = (Arc::clone(&pipeline.transport), pipeline.names.clone());
    let tasks: Vec<_> = urls.iter().map(|u| urls::task(u, options.force)).collect();
    let submitting = tokio::spawn({
        let (transport, names, stop) = (Arc::clone(&transport), names.clone(), stop.clone());
        async move {
            // The job's record says how far it is, so it can be left at any time.
            let submitted = tokio::select! {
                submitted = submit(&*transport, &names, &new, tasks) => submitted.map(|_| lock.done()),
                () = stop.cancelled() => Ok(()),
            };
            if submitted.is_err() {
                stop.cancel();
            }
            submitted
        }
    });
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.child_token());
        let (stages, ladder) = (options.stages.clone(), options.ladder);
        async move { pipeline.run(&stages, ladder, stop).await }
    });

    let mut watch = Watch::new(total, options.quiet);
    let mut tracker = Tracker::of(&job);
    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await?;
    let mut interrupted = false;
    loop {
        let next = match tokio::time::timeout(LOOK, tail.next(&*transport)).await {
            Ok(Err(TransportError::Unavailable(e))) => {
                tracing::warn!(error = %e, "progress cannot be read; trying again");
                tokio::time::sleep(LOOK).await;
                vec![]
            }
            Ok(next) => next?,
            Err(_) => vec![],
        };
        for event in next.iter().filter_map(|r| codec::decode::<StatusEvent>(&r.value).ok()) {
            if event.job.as_ref() == Some(&job) {
                tracker.fold(&event);
                watch.event(&event);
            }
        }
        let finished = tracker.get(&job).map_or(0, |p| {
            watch.progress(p);
            p.finished
        });
        if finished >= total {
            break;
        }
        if running.is_finished() {
            interrupted = true;
            break;
        }
    }
    watch.end();
    stop.cancel();
    done.cancel();
    submitting.await.context("submitting was cut short")??;
    running.await.context("the pipeline was cut short")??;
    if interrupted {
        eprintln!("stopped before the end; run the same command again to go on");
    }
    let progress = tracker.take(&job).unwrap_or_default();
    if !interrupted {
        jobs::end(&*transport, &names, &job).await?;
    }
    let report = Report { job, submitted: total, seconds: started.elapsed().as_secs_f64(), progress };
    Ok(Ran { report, interrupted })
}

/// Held by the one process that puts a list of URLs on the log. Two that go on with one job would put its rest there
/// twice.
struct Lock {
    path: std::path::PathBuf,
    _file: FileLock,
}

fn lock(path: &Path) -> Result<Lock> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match FileLock::take(file) {
        Ok(file) => Ok(Lock { path: path.to_owned(), _file: file }),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("another process is putting these URLs on the log; run this again when it is done")
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

impl Lock {
    /// All URLs are on the log: whoever goes on now has nothing to put there.
    fn done(self) {
        // It is empty, and being left behind does no harm.
        let _left = std::fs::remove_file(&self.path);
    }
}

/// The job for a list of URLs: its last one if that was cut short (true), else the next. Jobs over the same list are
/// named after its digest and counted.
async fn job_for(pipeline: &Pipeline, digest: &str, source: String, fresh: bool) -> Result<(NewJob, bool)> {
    let (transport, names) = (&*pipeline.transport, &pipeline.names);
    let earlier: Vec<jobs::Job> =
        jobs::list(transport, names).await?.into_iter().filter(|j| j.id.starts_with(digest)).collect();
    if let Some(last) = earlier.last().filter(|_| !fresh) {
        let finished = jobs::progress(transport, names, &last.id).await?.map_or(0, |(_, p)| p.finished);
        if !last.ended || last.submitted.is_none_or(|total| finished < total) {
            eprintln!("going on with job {}: {finished} URLs were finished", last.id);
            let last = last.clone();
            return Ok((NewJob { id: last.id, source: last.source, lane: last.lane }, true));
        }
    }
    let id = format!("{digest}.{}", earlier.len() + 1);
    Ok((NewJob { id, source, lane: Lane::Normal }, false))
}

/// Progress on stderr: a bar on a terminal, else a line now and then; and a line for each outcome.
struct Watch {
    bar: ProgressBar,
    terminal: bool,
    quiet: bool,
    total: u64,
    started: Instant,
    /// Finished when this process started watching: not its own work, so not in its rate.
    before: Option<u64>,
    said: Instant,
}

impl Watch {
    fn new(total: u64, quiet: bool) -> Watch {
        let terminal = std::io::stderr().is_terminal();
        Watch {
            bar: format::bar(total),
            terminal,
            quiet,
            total,
            started: Instant::now(),
            before: None,
            said: Instant::now(),
        }
    }

    fn event(&self, e: &StatusEvent) {
        let ends = e.outcome.is_final() || e.outcome == OutcomeKind::Emitted && e.emitted == 0;
        if self.quiet || !ends {
            return;
        }
        let what = outcome_name(e.outcome, &e.stage);
        let class = e.class.as_deref().unwrap_or("");
        let line = format!("{what:<13} {class:<18} {}", e.url);
        if self.terminal { self.bar.println(line) } else { eprintln!("{line}") }
    }

    fn progress(&mut self, p: &Progress) {
        let before = *self.before.get_or_insert(p.finished);
        let rate = p.finished.saturating_sub(before) as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        self.bar.set_position(p.finished);
        let text = format!(
            "{rate:.0} URLs/s  {} indexed, {} dropped, {} dead",
            p.indexed(),
            p.count(OutcomeKind::Dropped),
            p.dead_letters()
        );
        if !self.terminal && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let left = (self.total as f64 - p.finished as f64) / rate;
            // Nothing finished yet says nothing of how long it takes.
            let eta = match rate {
                0.0 => String::new(),
                _ => format!("  ETA {}", format::duration(Duration::from_secs_f64(left.clamp(0.0, 1e9)))),
            };
            eprintln!("{}/{}  {text}{eta}", p.finished, self.total);
        }
        self.bar.set_message(text);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
