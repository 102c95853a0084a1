//! Reads the file, the environment and the flags into one [`Config`].
//!
//! ```text
//! file ─► [pipelines.NAME] of the file, if one is picked ─► TIDEMILL_* ─► flags       the later goes over the earlier
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, Deserializer, ValueDeserializer};
use toml::{Table, Value};

use super::{Config, kafka, opensearch};

/// Looked for in the current folder when no file is named.
const DEFAULT_FILE: &str = "tidemill.toml";
/// Prefix of environment variables.
const ENV: &str = "TIDEMILL_";
/// Those that say which configuration it is, and are no setting in it.
const CHOICES: [&str; 2] = ["TIDEMILL_CONFIG", "TIDEMILL_PIPELINE"];
/// Table of the named pipelines.
const PIPELINES: &str = "pipelines";
/// Folders that the data folder has already.
const TAKEN: [&str; 2] = ["blobs", "schemas"];

/// What is wrong with the configuration, in one sentence with the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {0}: {1}; name another with --config")]
    Unreadable(PathBuf, std::io::Error),
    #[error("{0}: {1}")]
    Invalid(String, String),
    /// Name, and what there is.
    #[error("no pipeline is called {0:?}; {1}")]
    NoPipeline(String, String),
    /// Two with one prefix on one log.
    #[error(
        "{0} and {1} have the prefix {2:?} on one log, so each would do the other's work; give each its own prefix"
    )]
    Same(String, String, String),
}

/// What the command line says of the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags<'a> {
    /// The file.
    pub file: Option<&'a Path>,
    /// Which of its pipelines.
    pub pipeline: Option<&'a str>,
    pub data: Option<&'a Path>,
    pub brokers: Option<&'a str>,
    pub opensearch: Option<&'a str>,
}

/// The configuration in force, and the names of the pipelines there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub pipelines: Vec<String>,
}

/// Loads the file named, or `tidemill.toml` if it is there, then `TIDEMILL_*` of `env`, then the flags. All pipelines are
/// checked, whichever is picked.
pub fn load(flags: Flags<'_>, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let path = flags.file.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if flags.file.is_none() && e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(ConfigError::Unreadable(path, e)),
    };
    let source = path.display().to_string();
    // The file alone first: its errors name a line.
    check(&text).map_err(|e| invalid(&source, &e))?;
    let mut base: Table = toml::from_str(&text).map_err(|e| invalid(&source, &e))?;
    let pipelines = match base.remove(PIPELINES) {
        Some(Value::Table(all)) => all,
        _ => Table::new(),
    };
    let env: Vec<_> = env.into_iter().filter(|(k, _)| k.starts_with(ENV) && !CHOICES.contains(&k.as_str())).collect();
    let mut all: BTreeMap<Option<&str>, Config> = [(None, lay(&source, &base, None, &env, flags)?)].into();
    for (name, own) in &pipelines {
        if let Value::Table(own) = own {
            all.insert(Some(name), lay(&source, &base, Some((name, own)), &env, flags)?);
        }
    }
    apart(&all)?;
    let names: Vec<String> = pipelines.keys().cloned().collect();
    match all.remove(&flags.pipeline) {
        Some(config) => Ok(Loaded { config, pipelines: names }),
        None => Err(ConfigError::NoPipeline(
            flags.pipeline.unwrap_or_default().to_owned(),
            match names.is_empty() {
                true => format!("{source} has none: a table [pipelines.NAME] makes one"),
                false => format!("{source} has {}", names.join(", ")),
            },
        )),
    }
}

/// Whether the text is a configuration, and each of its pipelines too; these have none of their own.
fn check(text: &str) -> Result<(), toml::de::Error> {
    let checked = || {
        let mut table = DeTable::parse(text)?;
        let pipelines = table.get_mut().remove(PIPELINES);
        let _base = Config::deserialize(Deserializer::from(table))?;
        pipelines.map(|all| BTreeMap::<Name, Config>::deserialize(ValueDeserializer::from(all))).transpose()
    };
    checked().map(drop).map_err(|mut e: toml::de::Error| {
        e.set_input(Some(text));
        e
    })
}

/// Name of a pipeline: part of topic names, and of a folder's.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(name: String) -> Result<Name, String> {
        let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !legal {
            return Err(format!("{name:?} is no name of a pipeline: letters, digits, - and _ make one"));
        }
        if TAKEN.contains(&name.as_str()) {
            return Err(format!("a pipeline cannot be called {name:?}: the data folder has a folder of that name"));
        }
        Ok(Name(name))
    }
}

/// One configuration: file, pipeline, environment, flags.
fn lay(
    source: &str,
    base: &Table,
    pipeline: Option<(&str, &Table)>,
    env: &[(String, String)],
    flags: Flags<'_>,
) -> Result<Config, ConfigError> {
    let mut table = base.clone();
    kafka::spell(&mut table);
    if let Some((_, own)) = pipeline {
        let mut own = own.clone();
        kafka::spell(&mut own);
        over(&mut table, own);
    }
    for (key, value) in env {
        set(&mut table, &key[ENV.len()..].to_lowercase(), value);
    }
    let mut config = Config::deserialize(table).map_err(|e| {
        let names: Vec<&str> = env.iter().map(|(key, _)| key.as_str()).collect();
        let source = if names.is_empty() { source.to_owned() } else { format!("environment ({})", names.join(", ")) };
        invalid(&source, &e)
    })?;
    if let Some(data) = flags.data {
        data.clone_into(&mut config.data);
    }
    if let Some(brokers) = flags.brokers {
        brokers.clone_into(&mut config.kafka.brokers);
    }
    if let Some(url) = flags.opensearch {
        opensearch::nodes(url).map_err(|e| ConfigError::Invalid("--opensearch".into(), e))?;
        url.clone_into(&mut config.opensearch.url);
    }
    // What keeps pipelines apart has a default of its own in each, below what holds otherwise.
    if let Some((name, own)) = pipeline {
        if !own.contains_key("data") {
            config.data.push(name);
        }
        if !own.contains_key("prefix") {
            config.prefix = format!("{}{name}.", config.prefix);
        }
    }
    Ok(config)
}

/// Lays a table over another: tables are merged, anything else is replaced.
fn over(table: &mut Table, own: Table) {
    for (key, value) in own {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => over(below, above),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// Whether no two have one prefix on one log.
fn apart(all: &BTreeMap<Option<&str>, Config>) -> Result<(), ConfigError> {
    let called = |name: &Option<&str>| name.map_or("what holds without a pipeline".into(), |n| format!("pipeline {n}"));
    let mut seen = BTreeMap::new();
    for (name, c) in all {
        let log = if c.kafka.brokers.is_empty() { c.data.as_os_str() } else { c.kafka.brokers.as_ref() };
        if let Some(other) = seen.insert((&c.prefix, log), name) {
            return Err(ConfigError::Same(called(other), called(name), c.prefix.clone()));
        }
    }
    Ok(())
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
    use crate::topology::StageName;
    use std::time::Duration;

    fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        picked(text, env, Flags::default()).map(|l| l.config)
    }

    fn picked(text: &str, env: &[(&str, &str)], flags: Flags<'_>) -> Result<Loaded, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        std::fs::write(&file, text).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(Flags { file: Some(&file), ..flags }, env).map_err(|e| e.to_string())
    }

    const TWO: &str = "data = \"d\"\nfetch.delay = \"3s\"\nfetch.max_redirects = 4\n\
        [pipelines.linkedin]\nfetch.delay = \"5s\"\nengine.in_flight.fetch = 16\n\
        [pipelines.bulk]\nprefix = \"b.\"\ndata = \"elsewhere\"\n[pipelines.bulk.fetch]\nrobots = false\n";

    fn pipeline<'a>(name: &'a str) -> Flags<'a> {
        Flags { pipeline: Some(name), ..Flags::default() }
    }

    #[test]
    fn a_pipeline_goes_over_the_file_the_environment_over_both_and_flags_over_all() {
        let base = picked(TWO, &[], Flags::default()).unwrap();
        assert_eq!(base.pipelines, ["bulk", "linkedin"]);
        assert_eq!(base.config, with("data = \"d\"\nfetch.delay = \"3s\"\nfetch.max_redirects = 4", &[]).unwrap());

        let c = picked(TWO, &[], pipeline("linkedin")).unwrap().config;
        assert_eq!((c.fetch.delay, c.fetch.max_redirects), (Duration::from_secs(5), 4));
        assert_eq!((c.in_flight(StageName::Fetch), c.in_flight(StageName::Index)), (16, 256), "the others keep theirs");
        assert_eq!((&*c.prefix, c.data), ("tidemill.linkedin.", PathBuf::from("d/linkedin")));
        let c = picked(TWO, &[], pipeline("bulk")).unwrap().config;
        assert_eq!((c.fetch.delay, c.fetch.robots), (Duration::from_secs(3), false));
        assert_eq!((&*c.prefix, c.data), ("b.", PathBuf::from("elsewhere")));

        let env = [
            ("TIDEMILL_FETCH__DELAY", "7s"),
            ("TIDEMILL_DATA", "/var"),
            ("TIDEMILL_PIPELINE", "x"),
            ("TIDEMILL_CONFIG", "x"),
        ];
        let c = picked(TWO, &env, pipeline("linkedin")).unwrap().config;
        assert_eq!((c.fetch.delay, c.data), (Duration::from_secs(7), PathBuf::from("/var/linkedin")));
        let c = picked(TWO, &env, pipeline("bulk")).unwrap().config;
        assert_eq!((c.fetch.delay, c.data), (Duration::from_secs(7), PathBuf::from("/var")));
        let flags = Flags { data: Some(Path::new("/f")), brokers: Some("k:9092"), ..pipeline("linkedin") };
        let c = picked(TWO, &env, flags).unwrap().config;
        assert_eq!((&*c.kafka.brokers, c.data), ("k:9092", PathBuf::from("/f/linkedin")));
    }

    #[test]
    fn a_client_setting_goes_over_another_spelling_of_it() {
        let text = "[kafka.client]\n\"linger.ms\" = 5\nacks = 1\n[pipelines.a]\nkafka.client.linger.ms = 6";
        let c = picked(text, &[], pipeline("a")).unwrap().config;
        assert_eq!((c.kafka.client.get("linger.ms"), c.kafka.client.get("acks")), (Some("6"), Some("1")));
    }

    #[test]
    fn what_is_wrong_in_a_pipeline_is_said_with_its_line_whichever_is_picked() {
        let wrong = [
            ("[pipelines.a]\nfetch.dealy = \"1s\"", &["line 2", "dealy", "delay"][..]),
            ("[pipelines.a.fetch]\ndelay = \"soon\"", &["line 2"]),
            ("[pipelines.a]\n[pipelines.a.pipelines.b]", &["line 2", "pipelines"]),
            ("data = \"d\"\n[pipelines.\"a/b\"]", &["line 2", "a/b", "letters"]),
            ("[pipelines.blobs]", &["line 1", "folder"]),
            ("pipelines = 3", &["line 1"]),
            ("[pipelines]\na = 3", &["line 2"]),
            (
                "kafka.brokers = \"k:1\"\n[pipelines.a]\nprefix = \"p.\"\n[pipelines.b]\nprefix = \"p.\"",
                &["pipeline a and pipeline b", "p."],
            ),
            ("[pipelines.a]\ndata = \"tidemill-data\"\nprefix = \"tidemill.\"", &["without a pipeline", "tidemill."]),
        ];
        for (text, words) in wrong {
            let e = with(text, &[]).unwrap_err();
            assert!(words.iter().all(|w| e.contains(w)), "{text}: {e}");
        }
        let e = with(TWO, &[("TIDEMILL_PIPELINES__LINKEDIN__FETCH__DELAY", "1s")]).unwrap_err();
        assert!(e.contains("TIDEMILL_PIPELINES__LINKEDIN__FETCH__DELAY"), "{e}");
        // One prefix in two data folders is two logs.
        with("[pipelines.a]\nprefix = \"p.\"\n[pipelines.b]\nprefix = \"p.\"", &[]).unwrap();
    }

    #[test]
    fn an_unknown_pipeline_is_told_which_there_are() {
        let e = picked(TWO, &[], pipeline("linkedni")).unwrap_err();
        assert!(e.contains("\"linkedni\"") && e.ends_with("t.toml has bulk, linkedin"), "{e}");
        let e = picked("", &[], pipeline("x")).unwrap_err();
        assert!(e.contains("[pipelines.NAME]"), "{e}");
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
    fn a_secret_is_read_and_never_shown() {
        let env = [("TIDEMILL_REGISTRY__BASIC_AUTH", "ann:hush"), ("TIDEMILL_REGISTRY__URL", "http://r:8081")];
        let c = with("", &env).unwrap();
        assert_eq!((c.registry.basic_auth.reveal(), &*c.registry.url), ("ann:hush", "http://r:8081"));
        let shown = toml::to_string(&c).unwrap();
        for text in [&shown, &format!("{c:?}"), &serde_json::to_string(&c).unwrap()] {
            assert!(text.contains("***") && !text.contains("hush"), "{text}");
        }
        assert!(with(&shown, &[]).unwrap_err().contains("put the secret itself here"));
    }

    #[test]
    fn a_registry_url_is_one_and_holds_no_password() {
        for bad in ["r:8081", "ftp://r/", "http://ann:hush@r/", "http://"] {
            let e = with(&format!("[registry]\nurl = \"{bad}\""), &[]).unwrap_err();
            assert!(e.contains("basic_auth"), "{bad}: {e}");
        }
    }

    #[test]
    fn urls_of_opensearch_are_such_and_a_flag_goes_over_the_file() {
        let c = with("[opensearch]\nurl = \"http://a:9200, https://b/os\"", &[]).unwrap();
        assert_eq!(
            c.opensearch.nodes().iter().map(url::Url::as_str).collect::<Vec<_>>(),
            ["http://a:9200/", "https://b/os"]
        );
        assert!(
            c.deadline(StageName::Index) > c.opensearch.timeout && c.deadline(StageName::Fetch) == c.engine.deadline
        );
        let flags = |url| Flags { opensearch: Some(url), ..Flags::default() };
        let c = picked("[opensearch]\nurl = \"http://a:9200\"", &[], flags("http://b:9200")).unwrap().config;
        assert_eq!(c.opensearch.url, "http://b:9200");
        for bad in ["a:9200", "http://ann:hush@a:9200", "http://a,ftp://b"] {
            let e = picked("", &[], flags(bad)).unwrap_err();
            assert!(e.contains("--opensearch") && e.contains("basic_auth"), "{e}");
            assert!(with(&format!("[opensearch]\nurl = \"{bad}\""), &[]).unwrap_err().contains("line 2"));
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(with(&text, &[]).unwrap(), Config::default());
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let e =
            load(Flags { file: Some(Path::new("/nowhere/t.toml")), ..Flags::default() }, []).unwrap_err().to_string();
        assert!(e.contains("/nowhere/t.toml") && e.contains("--config"), "{e}");
    }
}
