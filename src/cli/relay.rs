//! `relay`: an exactly-once copy of a topic.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::args::{Rekey, Relay as Args};
use super::decoded::Decoded;
use super::filter::Filter;
use super::run::{serve, stop_on_signal};
use super::{Exit, UsageError, topic_name};
use crate::config::Config;
use crate::engine::{Limits, Runner};
use crate::monitor::{self, Watched};
use crate::pipeline::connect_framed;
use crate::record::UrlTask;
use crate::relay::{self, Relay};
use crate::telemetry::StageMetrics;
use crate::topology::STATUS;
use crate::transport::{Bounds, Incoming, Transport};

/// How often a copy that is to end looks whether it is there.
const LOOK: Duration = Duration::from_millis(250);

/// Copies until a signal, or to the end.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = connect_framed(&config).await?;
    let (from, to) = (topic_name::full(&names, &args.from), topic_name::full(&names, &args.to));
    if from == to {
        return Err(UsageError(format!("{from} would be copied into itself; name another topic with --to")).into());
    }
    let group = args.group.clone().unwrap_or_else(|| names.full(&format!("relay.{}.{}", args.from, args.to)));
    let filter = Filter::of(&args.which).map_err(|e| UsageError(format!("--grep: {e}")))?;
    let rekey = args.rekey.clone();
    // What is missing is said at once.
    transport.bounds(&to).await?;
    let ends = transport.bounds(&from).await?;
    let work = Relay {
        from: from.clone(),
        to: to.as_str().into(),
        group: group.clone(),
        choose: Box::new(move |r| filter.lets_through(r).then(|| key(&rekey, r))),
        status: args.status.then(|| (names.full(STATUS).into(), names.ids().clone())),
        work: args.work,
        slow: args.slow.filter(|(share, _)| *share > 0.0).map(|(share, time)| ((1.0 / share).round() as u64, time)),
        metrics: StageMetrics::new(relay::NAME),
    };
    let limits = Limits {
        in_flight: args.in_flight.max(1),
        in_flight_bytes: usize::try_from(config.engine.in_flight_bytes.as_u64()).unwrap_or(usize::MAX),
        commit_interval: config.commit_interval(),
        grace: config.engine.grace,
    };
    let stop = stop_on_signal();
    serve(&transport, &names, None, args.listen.or(config.listen), &stop).await?;
    let done = stop.child_token();
    let watching = args
        .until_end
        .then(|| tokio::spawn(until_end(Arc::clone(&transport), group, from.clone(), ends, done.clone())));
    let runner = Runner::new(Arc::new(work), limits);
    let watched = vec![Watched::of(&runner, &names)];
    let gauges = tokio::spawn(monitor::watch(Arc::clone(&transport), watched, config.lag_interval()));
    let ran = runner.run(&*transport, done).await;
    gauges.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    ran.with_context(|| format!("the copy of {from} to {to} stopped"))?;
    Ok(Exit::Done)
}

/// The key of a copy.
fn key(rekey: &Rekey, r: &Incoming) -> Option<Bytes> {
    match rekey {
        Rekey::Keep => r.key.clone(),
        Rekey::None => None,
        Rekey::Host => UrlTask::decode(&r.value).ok().map(|t| Bytes::from(t.host_key())),
        Rekey::Header(name) => r.headers.get(name).cloned(),
        Rekey::Field(name) => Decoded::of(&r.value).field(name).map(|v| Bytes::from(v.to_owned())),
    }
}

/// Stops the copy when the group is where the topic ended at the start.
async fn until_end(
    transport: Arc<dyn Transport>,
    group: String,
    from: String,
    ends: Vec<Bounds>,
    done: CancellationToken,
) {
    loop {
        match transport.progress(&group, &from).await {
            Ok(progress) => {
                let base = |b: &Bounds| progress.iter().find(|(p, _, _)| *p == b.partition).map_or(b.start, |p| p.1);
                if ends.iter().all(|b| base(b) >= b.end) {
                    return done.cancel();
                }
            }
            Err(e) => tracing::warn!(error = %e, "how far the copy is cannot be read; trying again"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
