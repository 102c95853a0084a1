//! A real Kafka under test: fresh topics and groups on a cluster that tests share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidemill::config::{GroupProtocol, Kafka as Config};
use tidemill::transport::Transport;
use tidemill::transport::kafka::Kafka;

use super::Log;
use super::prefixed::Prefixed;
use super::services;

/// A name space on the shared cluster.
pub struct KafkaLog {
    pub config: Config,
    pub prefix: Arc<str>,
    members: Mutex<Vec<String>>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    format!("{what}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl KafkaLog {
    pub fn new(protocol: GroupProtocol) -> KafkaLog {
        let mut config = Config {
            brokers: services::Kafka::shared().to_owned(),
            group_protocol: protocol,
            // Partitions of one that left move at once.
            static_membership: false,
            session_timeout: Duration::from_secs(3),
            transaction_timeout: Duration::from_secs(5),
            ..Config::default()
        };
        // A member that is held up is given up soon.
        config.consumer.set("max.poll.interval.ms", "4000");
        KafkaLog { config, prefix: format!("{}.", unique("t")).into(), members: Mutex::default() }
    }

    /// The same without transactions.
    pub fn at_least_once() -> KafkaLog {
        let mut log = KafkaLog::new(GroupProtocol::Auto);
        log.config.exactly_once = false;
        log
    }

    /// A handle as another process has it, without the name space.
    pub fn plain(&self) -> Arc<dyn Transport> {
        let member = unique("m");
        self.members.lock().unwrap().push(member.clone());
        let config = Config { member, ..self.config.clone() };
        Arc::new(Kafka::open(&config, "/nowhere".as_ref()).unwrap())
    }
}

/// Members whose reading thread stands still.
struct Stalled(Vec<String>);

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.iter().for_each(fail::remove);
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn open(&self) -> Arc<dyn Transport> {
        Arc::new(Prefixed { inner: self.plain(), prefix: Arc::clone(&self.prefix) })
    }

    async fn stall_members(&self) -> Box<dyn Send> {
        let points: Vec<String> = self.members.lock().unwrap().iter().map(|m| format!("kafka.read.{m}")).collect();
        points.iter().for_each(|p| fail::cfg(p, "pause").unwrap());
        Box::new(Stalled(points))
    }
}
