//! The Kafka side: which cluster, as whom, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::secret::HIDDEN;

/// The log is a Kafka cluster when `brokers` is set, else the embedded one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// `host:port`, several separated by commas; empty for the embedded log.
    pub brokers: String,
    /// Stable name of this process in its groups and transactional ids; empty: the host's name and a free number. Two
    /// processes of one name fence each other off.
    pub member: String,
    /// auto, consumer (KIP-848) or classic.
    pub group_protocol: GroupProtocol,
    /// Whether partitions wait for a member that left until its session times out (KIP-345), so that a restart moves
    /// nothing; false: they move at once.
    pub static_membership: bool,
    /// Whether outputs and offsets commit in one transaction. False is at-least-once, for clusters without transactions.
    pub exactly_once: bool,
    /// A member that is silent for so long is given up by a classic group; with KIP-848 the broker decides
    /// (`group.consumer.session.timeout.ms`).
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub session_timeout: Duration,
    /// The broker aborts a transaction of a member that died after so long, unless it is back before.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub transaction_timeout: Duration,
    /// Replicas of topics that are made; 0 for the brokers' default.
    pub replication: u16,
    /// Any setting of librdkafka, for all clients: `security.protocol = "SASL_SSL"` and so on.
    pub client: Settings,
    /// The same for consumers alone.
    pub consumer: Settings,
    /// The same for producers alone.
    pub producer: Settings,
}

/// How members agree on who owns what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// `consumer` where the broker offers it, else `classic`.
    #[default]
    Auto,
    /// KIP-848 with the broker's range assignor.
    Consumer,
    /// Classic group with the client's range assignor.
    Classic,
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: String::new(),
            member: String::new(),
            group_protocol: GroupProtocol::Auto,
            static_membership: true,
            exactly_once: true,
            session_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(15),
            replication: 0,
            client: Settings::default(),
            consumer: Settings::default(),
            producer: Settings::default(),
        }
    }
}

/// Settings passed through to the client library. Dotted names may be written as TOML has them (`security.protocol =
/// "SSL"`) or quoted. What is secret is hidden when shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(k, v)| (k, if secret(k) { HIDDEN } else { v }))
    }
}

/// Whether a setting's value is nobody's business.
fn secret(name: &str) -> bool {
    ["password", "secret", "token", "jaas", "key.pem", "oauthbearer.config", "assertion"]
        .iter()
        .any(|s| name.contains(s))
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut flat = BTreeMap::new();
        flatten("", Value::Table(toml::Table::deserialize(d)?), &mut flat).map_err(serde::de::Error::custom)?;
        Ok(Settings(flat))
    }
}

/// Gives the settings in a whole configuration one spelling, dotted names, so that one layer's goes over another's.
pub(super) fn spell(config: &mut toml::Table) {
    let Some(Value::Table(kafka)) = config.get_mut("kafka") else { return };
    for name in ["client", "consumer", "producer"] {
        let Some(settings) = kafka.get_mut(name) else { continue };
        let mut flat = BTreeMap::new();
        // What is no setting is found when the whole is read.
        if settings.is_table() && flatten("", settings.clone(), &mut flat).is_ok() {
            *settings = Value::Table(flat.into_iter().map(|(k, v)| (k, Value::String(v))).collect());
        }
    }
}

fn flatten(name: &str, value: Value, flat: &mut BTreeMap<String, String>) -> Result<(), String> {
    let text = match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&if name.is_empty() { key } else { format!("{name}.{key}") }, value, flat)?;
            }
            return Ok(());
        }
        Value::String(s) => s,
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Array(_) | Value::Datetime(_) => {
            return Err(format!("{name} must be text, a number, true or false"));
        }
    };
    flat.insert(name.to_owned(), text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_are_settings_and_secrets_stay_hidden() {
        let text = "brokers = \"k:9092\"\n[client]\nsecurity.protocol = \"SASL_SSL\"\nsasl.password = \"geheim\"\n\
                    \"linger.ms\" = 5\nenable.ssl.certificate.verification = false";
        let kafka: Kafka = toml::from_str(text).unwrap();
        assert_eq!(kafka.client.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(kafka.client.get("sasl.password"), Some("geheim"));
        assert_eq!(kafka.client.get("linger.ms"), Some("5"));
        assert_eq!(kafka.client.get("enable.ssl.certificate.verification"), Some("false"));
        for shown in [toml::to_string(&kafka).unwrap(), format!("{kafka:?}"), serde_json::to_string(&kafka).unwrap()] {
            assert!(!shown.contains("geheim") && shown.contains(HIDDEN) && shown.contains("SASL_SSL"), "{shown}");
        }
        assert!(toml::from_str::<Kafka>("[client]\na = [1]").is_err());
    }
}
