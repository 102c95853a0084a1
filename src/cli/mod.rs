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
mod config;
pub mod demo;
mod dlq;
mod explain;
mod extract;
mod format;
mod report;
mod run;
mod search;
mod status;
mod submit;
mod try_url;
mod urls;

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::config::{Config, ConfigError, load};
use crate::telemetry::logs;
use args::{Cli, Command, FetchFlags, Global};

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
    let config = configure(&global)?;
    // A person who watches a run sees each outcome anyway; a service logs it.
    let watched = !matches!(&command, Command::Run(r) if r.urls.is_none());
    let filter = match &global.log {
        Some(filter) => filter.clone(),
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
            Command::Try(a) => try_url::run(a, config).await,
            Command::Search(a) => search::run(a, config).await,
            Command::Explain(a) => explain::run(a, config).await,
            Command::Status(a) => status::run(a, config).await,
            Command::Dlq(a) => dlq::run(a, config).await,
            Command::Config(a) => config::run(a, &config),
            Command::Extract(a) => extract::run(a, config).await,
            Command::Completions(_) => Ok(Exit::Done),
        }
    });
    // Abandoned parser threads and idle connections are nothing to wait for.
    runtime.shutdown_background();
    exit
}

fn configure(global: &Global) -> Result<Config> {
    // TIDEMILL_CONFIG names the file; it is no setting in it.
    let env = std::env::vars().filter(|(k, _)| k != "TIDEMILL_CONFIG");
    let mut config = load(global.config.as_deref(), env)?;
    if let Some(data) = &global.data {
        config.data.clone_from(data);
    }
    Ok(config)
}

impl FetchFlags {
    /// Flags go over the configuration.
    fn apply(&self, config: &mut Config) {
        let fetch = &mut config.fetch;
        if let Some(delay) = self.delay {
            fetch.delay = delay;
        }
        fetch.allow_addresses.extend(&self.allow_addresses);
        fetch.resolve.extend(self.resolve.iter().cloned());
        if let Some(agent) = &self.user_agent {
            fetch.user_agent.clone_from(agent);
        }
        fetch.robots &= !self.no_robots;
    }
}
