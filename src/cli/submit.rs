//! `submit`: URLs onto the log, for a pipeline that runs or will run.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::{self, Submit as Args};
use super::{Exit, UsageError, format, urls};
use crate::config::Config;
use crate::jobs::{self, Job, Lane, NewJob, submit};
use crate::pipeline::open_log;
use crate::topology::Names;
use crate::transport::Transport;

/// Longest wait until the job shows, and between two looks.
const SHOWN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Submits one job.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (list, source) = match (&args.file, args.urls.is_empty()) {
        (Some(file), true) => (urls::read(file)?, file.display().to_string()),
        (None, false) => (args.urls.clone(), "command line".to_owned()),
        (Some(_), false) => return Err(UsageError("give URLs or --file, not both".into()).into()),
        (None, true) => return Err(UsageError("give URLs, or a file of them with --file".into()).into()),
    };
    let lane = match args.lane {
        args::Lane::High => Lane::High,
        args::Lane::Normal => Lane::Normal,
        args::Lane::Bulk => Lane::Bulk,
    };
    let (transport, names) = open_log(&config).await?;
    let id = jobs::new_id();
    let new = NewJob { id: id.clone(), source, lane };
    let submitted = submit(&*transport, &names, &new, list.iter().map(|u| urls::task(u, args.force))).await?;
    if args.json {
        format::print_json(&shown(&*transport, &names, &id).await?)?;
    } else {
        println!("job {id}: {} URLs on {}", submitted.total, names.full(lane.topic()));
    }
    Ok(Exit::Done)
}

/// The job as the log has it: on Kafka, what is committed shows a moment later.
async fn shown(transport: &dyn Transport, names: &Names, id: &str) -> Result<Option<Job>> {
    let until = Instant::now() + SHOWN;
    loop {
        let job = jobs::get(transport, names, id).await?;
        if job.as_ref().is_some_and(|j| j.submitted.is_some()) || Instant::now() >= until {
            return Ok(job);
        }
        transport.changed(LOOK).await;
    }
}
