//! `config check` and `config show`.

use anyhow::Result;

use super::Exit;
use super::args::ConfigCommand;
use crate::config::Config;

/// Reading the configuration has checked it, and each of its pipelines.
pub fn run(command: ConfigCommand, config: &Config, pipelines: &[String]) -> Result<Exit> {
    match command {
        ConfigCommand::Check if pipelines.is_empty() => println!("the configuration is valid"),
        ConfigCommand::Check => println!("the configuration is valid; its pipelines are {}", pipelines.join(", ")),
        ConfigCommand::Show { json: true } => println!("{}", serde_json::to_string_pretty(config)?),
        ConfigCommand::Show { json: false } => print!("{}", toml::to_string(config)?),
    }
    Ok(Exit::Done)
}
