//! The command line: one file a command.

// As in std, but a reader that went away (`| head`, a closed terminal) is no panic: what is left to say is said to nobody.
macro_rules! print {
    ($($text:tt)*) => { drop(std::io::Write::write_fmt(&mut std::io::stdout(), format_args!($($text)*))) };
}
macro_rules! println {
    () => { print!("\n") };
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($text)*)))) };
}

pub mod args;
mod blobs;
mod cache;
mod config;
mod decoded;
pub mod demo;
mod dlq;
mod explain;
mod extract;
mod filter;
mod format;
mod index;
mod lines;
mod produce;
mod relay;
mod report;
mod reprocess;
mod robots;
mod run;
mod search;
mod status;
mod submit;
mod tail;
mod top;
mod topic_name;
mod topics;
mod try_url;
mod urls;

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::config::{Config, ConfigError, Flags, Loaded, load};
use crate::telemetry::{self, logs};
use args::{Cli, Command, FetchFlags, Global, ReachFlags};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: finished, and some records rest in the dead letters.
    DeadLetters,
}

impl From<Exit> for ExitCode {
    fn from(e: Exit) -> ExitCode {
        ExitCode::from(match e {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::DeadLetters => 3,
        })
    }
}

/// The exit code of an error.
pub fn exit_of(e: &anyhow::Error) -> Exit {
    if e.downcast_ref::<ConfigError>().is_some() || e.downcast_ref::<UsageError>().is_some() {
        Exit::Usage
    } else {
        Exit::Failed
    }
}

/// A command that cannot be meant as it was typed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs a command to its end.
pub fn run(cli: Cli) -> Result<Exit> {
    let Cli { global, command } = cli;
    if let Command::Completions(c) = &command {
        let mut script = vec![];
        clap_complete::generate(c.shell, &mut Cli::command(), "tidemill", &mut script);
        print!("{}", String::from_utf8_lossy(&script));
        return Ok(Exit::Done);
    }
    let Loaded { config, pipelines } = configure(&global)?;
    // A person who watches a run sees each outcome anyway; a service logs it.
    let watched = !matches!(&command, Command::Run(r) if r.urls.is_none());
    let filter = match &global.log {
        Some(filter) => filter.clone(),
        // It says itself what is wrong; a log line would land in the middle of its screen.
        None if matches!(&command, Command::Top(a) if top::is_live(a)) => "off".into(),
        None if watched && config.log == crate::config::Log::default() => "error".into(),
        None => config.log.filter.clone(),
    };
    let format = global.log_format.map_or(config.log.format, Into::into);
    logs::start(format, &filter).map_err(UsageError)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async move {
        match command {
            Command::Run(a) => run::run(a, config).await,
            Command::Demo(a) => demo::run(a, config).await,
            Command::Submit(a) => submit::run(a, config).await,
            Command::Reprocess(a) => reprocess::run(a, config).await,
            Command::Try(a) => try_url::run(a, config).await,
            Command::Search(a) => search::run(a, config).await,
            Command::Explain(a) => explain::run(a, config).await,
            Command::Status(a) => status::run(a, config).await,
            Command::Top(a) => top::run(a, config).await,
            Command::Tail(a) => tail::run(a, config).await,
            Command::Produce(a) => produce::run(a, config).await,
            Command::Relay(a) => relay::run(a, config).await,
            Command::Blobs(a) => blobs::run(a, config).await,
            Command::Cache(a) => cache::run(a, config).await,
            Command::Dlq(a) => dlq::run(a, config).await,
            Command::Topics(a) => topics::run(a, config).await,
            Command::Index(a) => index::run(a, config).await,
            Command::Config(a) => config::run(a, &config, &pipelines),
            Command::Extract(a) => extract::run(a, config).await,
            Command::Robots(a) => robots::run(a, config).await,
            Command::Completions(_) => Ok(Exit::Done),
        }
    });
    // Abandoned parser threads and idle connections are nothing to wait for.
    runtime.shutdown_background();
    exit
}

/// The configuration in force. An empty name, as an unset variable of a container leaves it, picks no pipeline.
fn configure(global: &Global) -> Result<Loaded> {
    let pipeline = global.pipeline.as_deref().filter(|name| !name.is_empty());
    let flags = Flags {
        file: global.config.as_deref(),
        pipeline,
        data: global.data.as_deref(),
        brokers: global.brokers.as_deref(),
        opensearch: global.opensearch.as_deref(),
    };
    let loaded = load(flags, std::env::vars())?;
    if let Some(name) = pipeline {
        telemetry::label_pipeline(name);
    }
    Ok(loaded)
}

impl ReachFlags {
    /// Flags go over the configuration.
    fn apply(&self, config: &mut Config) {
        config.fetch.allow_addresses.extend(&self.allow_addresses);
        config.fetch.resolve.extend(self.resolve.iter().cloned());
    }
}

impl FetchFlags {
    /// Flags go over the configuration.
    fn apply(&self, config: &mut Config) {
        self.reach.apply(config);
        let fetch = &mut config.fetch;
        if let Some(delay) = self.delay {
            fetch.delay = delay;
        }
        if let Some(agent) = &self.user_agent {
            fetch.user_agent.clone_from(agent);
        }
        fetch.robots &= !self.no_robots;
    }
}
