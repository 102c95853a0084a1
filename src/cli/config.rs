//! `config check` and `config show`.

use anyhow::Result;

use super::Exit;
use super::args::ConfigCommand;
use crate::config::Config;

/// Reading the configuration has checked it.
pub fn run(command: ConfigCommand, config: &Config) -> Result<Exit> {
    match command {
        ConfigCommand::Check => println!("the configuration is valid"),
        ConfigCommand::Show { json: true } => println!("{}", serde_json::to_string_pretty(config)?),
        ConfigCommand::Show { json: false } => print!("{}", toml::to_string(config)?),
    }
    Ok(Exit::Done)
}
