//! `submit`: URLs onto the log, for a pipeline that runs or will run.

use anyhow::Result;

use super::args::{Lane, Submit as Args};
use super::{Exit, UsageError, format, urls};
use crate::config::Config;
use crate::jobs::{Submission, submit};
use crate::pipeline::open_log;
use crate::topology::{URLS, URLS_BULK, URLS_HIGH};

/// Submits one job.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (list, source) = match (&args.file, args.urls.is_empty()) {
        (Some(file), true) => (urls::read(file)?, file.display().to_string()),
        (None, false) => (args.urls.clone(), "command line".to_owned()),
        (Some(_), false) => return Err(UsageError("give URLs or --file, not both".into()).into()),
        (None, true) => return Err(UsageError("give URLs, or a file of them with --file".into()).into()),
    };
    let lane = match args.lane {
        Lane::High => URLS_HIGH,
        Lane::Normal => URLS,
        Lane::Bulk => URLS_BULK,
    };
    let (transport, names) = open_log(&config).await?;
    let digest = urls::digest(&list);
    let job = submit(&*transport, &names, Submission::new(source, digest, lane), list).await?;
    if args.json {
        format::print_json(&job)?;
    } else {
        println!("job {}: {} URLs on {}", job.id, job.submitted, names.full(lane));
    }
    Ok(Exit::Done)
}
