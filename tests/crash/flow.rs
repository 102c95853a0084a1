//! What goes in, and what a `read_committed` consumer sees come out, as it happens. The verdict is not taken from here but
//! from Kafka's own client (`judge.rs`); this tells when it is time for it, and how long a kill was felt.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use tidemill::record::now_ms;

/// Records put on a topic at an even pace: `k0`, `k1`, …, each acknowledged.
pub struct Feed {
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Refused(Arc<AtomicUsize>);

impl rdkafka::ClientContext for Refused {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Feed {
    pub fn start(bootstrap: &str, topic: &str, n: u64, over: Duration) -> Feed {
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let refused = Arc::<AtomicUsize>::default();
            let producer: ThreadedProducer<Refused> = ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("enable.idempotence", "true")
                // As Tidemill and Java place keys: a key's copies then have its partition number.
                .set("partitioner", "murmur2_random")
                .set("linger.ms", "20")
                .set("reconnect.backoff.max.ms", "1000")
                .set("topic.metadata.refresh.interval.ms", "1000")
                .create_with_context(Refused(Arc::clone(&refused)))
                .unwrap();
            let started = Instant::now();
            for i in 0..n {
                let due = started + over.mul_f64(i as f64 / n as f64);
                if let Some(wait) = due.checked_duration_since(Instant::now()) {
                    std::thread::sleep(wait);
                }
                let (key, value) =
                    (format!("k{i}"), format!("the value of record {i}, and some more words to fill it"));
                let mut record = BaseRecord::to(&topic).key(&key).payload(&value);
                while let Err((e, back)) = producer.send(record) {
                    assert_eq!(e.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{e}");
                    record = back;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            producer.flush(Duration::from_secs(120)).expect("all of the input is taken");
            assert_eq!(refused.load(Ordering::Relaxed), 0, "input was refused");
        });
        Feed { thread: Some(thread) }
    }

    pub fn done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the input is produced");
        }
    }
}

/// What came out of a topic.
#[derive(Default)]
struct Seen {
    keys: HashSet<Vec<u8>>,
    records: usize,
}

/// A kill, until records of every partition of the killed member move again.
struct Felt {
    topic: String,
    partitions: BTreeSet<i32>,
    at: Instant,
    at_ms: i64,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    felt: Vec<Felt>,
    recovered: Vec<Duration>,
    moved: Option<Instant>,
    /// Partitions to read from now on.
    partitions: i32,
}

/// Reads topics as they grow.
pub struct Watch {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start(bootstrap: &str, topics: &[String], partitions: i32) -> Watch {
        let state = Arc::new(Mutex::new(State { partitions, ..State::default() }));
        state.lock().unwrap().seen.resize_with(topics.len(), Seen::default);
        let stop = Arc::<AtomicBool>::default();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            // Never joined.
            .set("group.id", "watch")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create()
            .unwrap();
        let (shared, stopped, topics) = (Arc::clone(&state), Arc::clone(&stop), topics.to_vec());
        let thread = std::thread::spawn(move || {
            let mut assigned = 0;
            while !stopped.load(Ordering::Relaxed) {
                let wanted = shared.lock().unwrap().partitions;
                if assigned < wanted {
                    let mut list = TopicPartitionList::new();
                    for topic in &topics {
                        for p in assigned..wanted {
                            list.add_partition_offset(topic, p, Offset::Beginning).unwrap();
                        }
                    }
                    consumer.incremental_assign(&list).unwrap();
                    assigned = wanted;
                }
                // Errors come and go with the broker.
                let Some(Ok(m)) = consumer.poll(Duration::from_millis(50)) else { continue };
                let now = Instant::now();
                let mut state = shared.lock().unwrap();
                state.moved = Some(now);
                let i = topics.iter().position(|t| t == m.topic()).unwrap();
                state.seen[i].records += 1;
                state.seen[i].keys.insert(m.key().unwrap_or_default().to_vec());
                let State { felt, recovered, .. } = &mut *state;
                felt.retain_mut(|f| {
                    // Written after the kill, not only seen after it.
                    if f.topic == m.topic() && m.timestamp().to_millis().unwrap_or(0) > f.at_ms {
                        f.partitions.remove(&m.partition());
                    }
                    if f.partitions.is_empty() {
                        recovered.push(now - f.at);
                    }
                    !f.partitions.is_empty()
                });
            }
        });
        Watch { state, stop, thread: Some(thread) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Different keys, and records, of a topic by now.
    pub fn seen(&self, topic: usize) -> (usize, usize) {
        let state = self.state();
        (state.seen[topic].keys.len(), state.seen[topic].records)
    }

    /// How long nothing has come.
    pub fn idle(&self) -> Duration {
        self.state().moved.map_or(Duration::ZERO, |m| m.elapsed())
    }

    /// There are more partitions now.
    pub fn grow(&self, partitions: i32) {
        self.state().partitions = partitions;
    }

    /// These partitions' owner was killed just now.
    pub fn killed(&self, topic: &str, partitions: BTreeSet<i32>) {
        if !partitions.is_empty() {
            self.state().felt.push(Felt { topic: topic.to_owned(), partitions, at: Instant::now(), at_ms: now_ms() });
        }
    }

    /// From each kill until records of all partitions of the killed member moved again, sorted.
    pub fn recovered(&self) -> Vec<Duration> {
        let mut all = self.state().recovered.clone();
        all.sort();
        all
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}
