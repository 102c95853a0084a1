//! Reads the file and the environment into one [`Config`].

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;

/// Looked for in the current folder when no file is named.
const DEFAULT_FILE: &str = "tidemill.toml";
/// Prefix of environment variables.
const ENV: &str = "TIDEMILL_";

/// What is wrong with the configuration, in one sentence with the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {0}: {1}; name another with --config")]
    Unreadable(PathBuf, std::io::Error),
    #[error("{0}: {1}")]
    Invalid(String, String),
}

/// Loads `file`, or `tidemill.toml` if it is there, then `TIDEMILL_*` of `env`.
pub fn load(file: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let path = file.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if file.is_none() && e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(ConfigError::Unreadable(path, e)),
    };
    let name = path.display().to_string();
    // The file alone first: its errors name a line.
    let _checked: Config = toml::from_str(&text).map_err(|e| invalid(&name, &e))?;
    let mut table: Table = toml::from_str(&text).map_err(|e| invalid(&name, &e))?;
    let mut from_env = vec![];
    for (key, value) in env {
        let Some(path) = key.strip_prefix(ENV) else { continue };
        set(&mut table, &path.to_lowercase(), &value);
        from_env.push(key);
    }
    Config::deserialize(table).map_err(|e| {
        let source = if from_env.is_empty() { name } else { format!("environment ({})", from_env.join(", ")) };
        invalid(&source, &e)
    })
}

fn invalid(source: &str, e: &toml::de::Error) -> ConfigError {
    let text = e.to_string();
    ConfigError::Invalid(source.to_owned(), text.trim().to_owned())
}

/// Sets `a__b` to a value: TOML if it reads as such, else text.
fn set(table: &mut Table, path: &str, text: &str) {
    let value = format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut parts: Vec<&str> = path.split("__").collect();
    let Some(last) = parts.pop() else { return };
    let mut at = table;
    for part in parts {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(next) = entry else { return };
        at = next;
    }
    at.insert(last.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        std::fs::write(&file, text).unwrap();
        load(Some(&file), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).map_err(|e| e.to_string())
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let c = with(
            "[fetch]\ndelay = \"3s\"\nmax_redirects = 4",
            &[
                ("TIDEMILL_FETCH__DELAY", "250ms"),
                ("TIDEMILL_FETCH__ALLOW_ADDRESSES", "[\"10.0.0.0/8\"]"),
                ("OTHER", "x"),
            ],
        )
        .unwrap();
        assert_eq!(c.fetch.delay, Duration::from_millis(250));
        assert_eq!(c.fetch.max_redirects, 4);
        assert_eq!(c.fetch.allow_addresses.len(), 1);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_errors_that_name_the_place() {
        let e = with("[fetch]\ndealy = \"3s\"", &[]).unwrap_err();
        assert!(e.contains("dealy") && e.contains("line 2") && e.contains("delay"), "{e}");
        let e = with("", &[("TIDEMILL_FETCH__DEALY", "3s")]).unwrap_err();
        assert!(e.contains("TIDEMILL_FETCH__DEALY"), "{e}");
        let e = with("[fetch]\ndelay = \"soon\"", &[]).unwrap_err();
        assert!(e.contains("line 2"), "{e}");
    }

    #[test]
    fn what_is_shown_reads_back() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(with(&text, &[]).unwrap(), Config::default());
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let e = load(Some(Path::new("/nowhere/t.toml")), []).unwrap_err().to_string();
        assert!(e.contains("/nowhere/t.toml") && e.contains("--config"), "{e}");
    }
}
