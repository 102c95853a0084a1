//! `top`: how things stand, live.
//!
//! ```text
//! looker (a task): Collector::look ──► snapshots ──┐
//! keys (a thread): crossterm's events ─────────────┼──► View ──► draw
//! SIGINT, SIGTERM ─────────────────────────────────┘
//! ```
//!
//! The terminal is put back as it was however this ends: [`Screen`] does it when dropped, ratatui's panic hook before a
//! panic is reported.

mod draw;
mod plain;
mod view;

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

use super::args::Top as Args;
use super::run::signal;
use super::{Exit, UsageError, format};
use crate::config::Config;
use crate::monitor::{Collector, Snapshot};
use crate::pipeline::open_log;
use crate::transport::TransportError;
use view::{View, Wish};

/// Shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);
/// How often the keyboard's thread looks whether it is still needed.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Shows how things stand: once, or until `q`.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    if args.every < SHORTEST {
        return Err(UsageError("--every is at least 100ms".into()).into());
    }
    let (transport, names) = open_log(&config).await?;
    let place = match transport.name() {
        "sqlite" => format!("{} in {}", transport.name(), config.data.display()),
        name => format!("{name}, prefix {}", config.prefix),
    };
    let collector = Collector::new(transport, names).await?;
    if is_live(&args) {
        live(collector, args.every, View::new(place)).await?;
    } else {
        let snapshot = tokio::select! {
            snapshot = once(collector, args.every) => snapshot?,
            () = signal() => return Ok(Exit::Failed),
        };
        if args.json { format::print_json(&snapshot)? } else { plain::print(&snapshot) }
    }
    Ok(Exit::Done)
}

/// Whether the terminal is taken over: then nothing else may write to it.
pub fn is_live(args: &Args) -> bool {
    !args.once && !args.json && stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Two looks, for the rates between them.
async fn once(mut collector: Collector, every: Duration) -> Result<Snapshot> {
    collector.look(None).await?;
    tokio::time::sleep(every).await;
    Ok(collector.look(None).await?)
}

/// The terminal, taken over.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Screen> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(e) => {
                // It may have been taken over half.
                let _gone = ratatui::try_restore();
                Err(e).context("this terminal cannot be taken over; use --once")
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After a panic it has been done, and once more would put the cursor on the panic's own text.
        if !std::thread::panicking() {
            // A terminal that was closed needs nothing.
            let _gone = ratatui::try_restore();
        }
    }
}

/// What a look brought: a snapshot, or why there is none for now.
type Look = std::result::Result<Snapshot, String>;

async fn live(collector: Collector, every: Duration, mut view: View) -> Result<()> {
    let (to, mut looks) = mpsc::channel(1);
    let looker = tokio::spawn(look(collector, every, to));
    let mut screen = Screen::take()?;
    let mut keys = keyboard()?;
    let ended = signal();
    tokio::pin!(ended);
    // False: there is nothing more to see.
    let wished = loop {
        screen.0.draw(|frame| draw::draw(frame, &view)).context("the terminal cannot be written to")?;
        tokio::select! {
            event = keys.recv() => match event.transpose().context("the keyboard cannot be read")? {
                // Whatever else it is, such as another size: draw anew.
                Some(Event::Key(key)) if view.key(key) == Wish::Quit => break true,
                Some(_) => {}
                None => break true,
            },
            look = looks.recv() => match look {
                Some(Ok(snapshot)) => view.take(snapshot),
                Some(Err(why)) => view.trouble = Some(why),
                None => break false,
            },
            () = &mut ended => break true,
        }
    };
    drop(screen);
    if wished {
        looker.abort();
        return Ok(());
    }
    looker.await.context("looking was cut short")?
}

/// Looks again and again, until nobody wants to know, or until only a person can mend what is wrong.
async fn look(mut collector: Collector, every: Duration, to: mpsc::Sender<Look>) -> Result<()> {
    loop {
        // Half of the time is for what was: a log of millions of events must not hold up the first picture.
        let look = match collector.look(Some(every / 2)).await {
            Ok(snapshot) => Ok(snapshot),
            Err(TransportError::Unavailable(why)) => Err(why),
            Err(fatal) => return Err(fatal.into()),
        };
        if to.send(look).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(every).await;
    }
}

/// Events of the terminal, read in a thread of their own; it ends with its receiver.
fn keyboard() -> std::io::Result<mpsc::Receiver<std::io::Result<Event>>> {
    let (to, keys) = mpsc::channel(16);
    let read = move || {
        while !to.is_closed() {
            let event = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(e) => Err(e),
            };
            let last = event.is_err();
            if to.blocking_send(event).is_err() || last {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".into()).spawn(read)?;
    Ok(keys)
}

#[cfg(test)]
mod sample {
    //! A snapshot for tests.

    use crate::jobs::{Job, Lane};
    use crate::monitor::{JobProgress, PartitionLag, Rate, Snapshot, Stage, TopicLag};
    use crate::record::{OutcomeKind, StatusEvent};
    use crate::topology::{STAGES, StageName};

    fn stage(name: StageName) -> Stage {
        let quiet = |partition| PartitionLag { partition, start: 0, end: 5, base: 5, lag: 0, gap: 0, incomplete: 0 };
        let topic = |topic: &str| TopicLag {
            topic: topic.to_owned(),
            tier: None,
            lag: 0,
            partitions: (0..3).map(quiet).collect(),
        };
        Stage {
            stage: name,
            rate: Some(Rate::default()),
            lag: 0,
            gap: 0,
            incomplete: 0,
            retries: [0; 4],
            dead_letters: 0,
            new_dead_letters: 0,
            topics: STAGES[name as usize].inputs.iter().map(|i| topic(i.topic)).collect(),
        }
    }

    pub fn snapshot() -> Snapshot {
        let mut stages: Vec<Stage> = StageName::ALL.into_iter().map(stage).collect();
        let fetch = &mut stages[0];
        fetch.rate = Some(Rate { inward: 12.5, outward: 1_234.0 });
        (fetch.lag, fetch.gap, fetch.incomplete, fetch.retries) = (120_000, 40, 3, [1, 2, 3, 4]);
        (fetch.dead_letters, fetch.new_dead_letters) = (7, 2);
        fetch.topics[1].partitions[1] =
            PartitionLag { partition: 1, start: 0, end: 120_005, base: 5, lag: 120_000, gap: 40, incomplete: 3 };
        let failure = StatusEvent {
            task: "t".into(),
            job: None,
            url: "http://a.test/".into(),
            stage: "fetch".into(),
            outcome: OutcomeKind::DeadLettered,
            class: Some("timeout".into()),
            message: Some("no answer".into()),
            attempt: 4,
            at: 4_000,
            took_ms: 1.0,
            waited_ms: 1.0,
            emitted: 0,
            until: None,
            trace: String::new(),
        };
        let job = Job {
            id: "j1".into(),
            created: 1_000,
            source: "urls.txt".into(),
            lane: Lane::Normal,
            appended: 2,
            submitted: Some(2),
            ended: false,
            reached: None,
        };
        Snapshot {
            at: 5_000,
            stages,
            failures: vec![failure],
            jobs: vec![JobProgress { job, finished: 1, indexed: 1, dropped: 0, dead_letters: 0 }],
            caught_up: true,
        }
    }
}
