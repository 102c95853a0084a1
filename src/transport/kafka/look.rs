//! Looking at the log without a group: bounds, records, what a group has committed. Clients are kept, because making one
//! costs connections.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{self, ASK, Quiet};
use super::consumer::incoming;
use super::offsets::metadata;
use crate::config::Kafka as Config;
use crate::transport::{Bounds, Incoming, Result, TopicPartition, TransportError};

/// Group name of clients that join none.
const ANYONE: &str = "tidemill-look";
/// Clients kept for reading.
const KEPT: usize = 4;
/// Longest wait for records that are said to be there.
const READ: Duration = Duration::from_secs(10);
/// Longest wait for a partition's leader: a broker that has many topics to make takes its time.
const LEADER: Duration = Duration::from_secs(60);
/// Wait before a leader is looked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// Blocking calls: run them where blocking is allowed.
pub struct Look {
    config: Config,
    /// For questions.
    client: BaseConsumer<Quiet>,
    /// Not in use now, each where its last read ended.
    readers: Mutex<Vec<Reader>>,
    /// One a group.
    groups: Mutex<HashMap<String, BaseConsumer<Quiet>>>,
}

struct Reader {
    client: BaseConsumer<Quiet>,
    at: TopicPartition,
    /// None: it has said that there is no more, and says so once.
    next: Option<i64>,
}

impl Look {
    /// Connects; the brokers are asked when they are needed.
    pub fn new(config: &Config) -> Result<Look> {
        let client =
            client::looking(config, ANYONE).create_with_context(Quiet).map_err(|e| client::explain(&e, config))?;
        Ok(Look { config: config.clone(), client, readers: Mutex::default(), groups: Mutex::default() })
    }

    fn explain(&self, e: &KafkaError) -> TransportError {
        client::explain(e, &self.config)
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<u32> {
        let metadata: Metadata = self.client.fetch_metadata(Some(topic), ASK).map_err(|e| self.explain(&e))?;
        match metadata.topics().iter().find(|t| t.name() == topic) {
            Some(t) if t.error().is_none() && !t.partitions().is_empty() => {
                Ok(u32::try_from(t.partitions().len()).unwrap_or(u32::MAX))
            }
            _ => Err(TransportError::NoTopic(topic.to_owned())),
        }
    }

    fn list(&self, topic: &str) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for p in 0..self.partitions(topic)? {
            list.add_partition(topic, i32::try_from(p).unwrap_or(i32::MAX));
        }
        Ok(list)
    }

    /// First offset there is, and the last stable one: what a reader of committed records can see.
    pub fn bounds(&self, topic: &str) -> Result<Vec<Bounds>> {
        let list = self.list(topic)?;
        // ListOffsets at isolation level read_committed answers the last stable offset as the end (KIP-98).
        let starts = self.offsets(&list, Offset::Beginning)?;
        let ends = self.offsets(&list, Offset::End)?;
        let mut all: Vec<Bounds> = starts
            .iter()
            .zip(&ends)
            .map(|((partition, start), (_, end))| Bounds {
                partition: *partition,
                start: start.unwrap_or(0),
                end: end.unwrap_or(0),
            })
            .collect();
        all.sort_by_key(|b| b.partition);
        Ok(all)
    }

    /// The first offset of each partition whose record has this time or a later one; the end where there is none.
    pub fn offsets_at(&self, topic: &str, time: i64) -> Result<Vec<(i32, i64)>> {
        let list = self.list(topic)?;
        // First the ends: what is written in between is behind both.
        let ends = self.offsets(&list, Offset::End)?;
        let found = self.offsets(&list, Offset::Offset(time.max(0)))?;
        Ok(found
            .into_iter()
            .zip(ends)
            .map(|((partition, offset), (_, end))| (partition, offset.or(end).unwrap_or(0)))
            .collect())
    }

    /// ListOffsets for one time, or one end of the log.
    fn offsets(&self, list: &TopicPartitionList, of: Offset) -> Result<Vec<(i32, Option<i64>)>> {
        let once = || {
            let mut list = list.clone();
            list.set_all_offsets(of)?;
            let answers = self.client.offsets_for_times(list, ASK)?;
            // An answer may be none for a single partition.
            answers.elements().iter().try_for_each(|e| e.error())?;
            Ok::<_, KafkaError>(answers)
        };
        let until = Instant::now() + LEADER;
        let answers = loop {
            match once() {
                Err(e) if e.rdkafka_error_code().is_some_and(client::leaderless) && Instant::now() < until => {
                    #[allow(clippy::disallowed_methods, reason = "a blocking task")]
                    std::thread::sleep(AGAIN);
                }
                answers => break answers.map_err(|e| self.explain(&e))?,
            }
        };
        let number = |o: Offset| match o {
            Offset::Offset(n) => Some(n),
            _ => None,
        };
        Ok(answers.elements().iter().map(|e| (e.partition(), number(e.offset()))).collect())
    }

    /// Committed records from an offset on, each handed over as it comes; the offset behind the last, None if there was
    /// none. What goes wrong behind the first is left for the next call.
    pub fn visit(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
        see: &mut dyn FnMut(Incoming),
    ) -> Result<Option<i64>> {
        let mut reader = self.reader(at, from)?;
        let mut next = from;
        let until = Instant::now() + READ;
        let (mut records, mut bytes) = (0, 0);
        while records < max_records && bytes < max_bytes {
            let wait = if records == 0 { Duration::from_millis(100) } else { Duration::ZERO };
            match reader.client.poll(wait) {
                Some(Ok(m)) if m_is(&m, at, next) => {
                    let record = incoming(at, &m);
                    next = record.offset + 1;
                    reader.next = Some(next);
                    bytes += record.size();
                    records += 1;
                    see(record);
                }
                // Fetched for an earlier question.
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    reader.next = None;
                    break;
                }
                Some(Err(e)) => match self.explain(&e) {
                    TransportError::Unavailable(_) if Instant::now() < until => {}
                    _ if records > 0 => break,
                    other => return Err(other),
                },
                None if records > 0 => break,
                None if Instant::now() >= until => {
                    return Err(TransportError::Unavailable(format!(
                        "{at} gives no records within {} s; is {} up?",
                        READ.as_secs(),
                        self.config.brokers
                    )));
                }
                None => {}
            }
        }
        let mut kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(reader);
        }
        Ok((records > 0).then_some(next))
    }

    /// A client that reads on from there: one that is there already, or one that is sent there.
    fn reader(&self, at: &TopicPartition, from: i64) -> Result<Reader> {
        let kept = {
            let mut kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            match kept.iter().position(|r| r.at == *at && r.next == Some(from)) {
                Some(i) => return Ok(kept.swap_remove(i)),
                None => kept.pop(),
            }
        };
        // A topic that is not there would be waited for.
        self.partitions(&at.topic)?;
        let client = match kept {
            Some(r) => r.client,
            None => {
                let mut c = client::looking(&self.config, ANYONE);
                c.set("enable.partition.eof", "true")
                    .set("queued.max.messages.kbytes", "8192")
                    // Headers are not counted there: of small records with many, 100,000 (the default) are 100 MiB.
                    .set("queued.min.messages", "5000")
                    .set("fetch.wait.max.ms", "10");
                c.create_with_context(Quiet).map_err(|e| self.explain(&e))?
            }
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.topic, at.partition, Offset::Offset(from)).map_err(|e| self.explain(&e))?;
        client.assign(&list).map_err(|e| self.explain(&e))?;
        Ok(Reader { client, at: at.clone(), next: Some(from) })
    }

    /// What a group has committed; what a transaction holds at the moment does not count.
    pub fn progress(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64, String)>> {
        let list = self.list(topic)?;
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if !groups.contains_key(group) {
            let mut c = client::looking(&self.config, group);
            // Whoever only looks does not wait for transactions.
            c.set("isolation.level", "read_uncommitted");
            groups.insert(group.to_owned(), c.create_with_context(Quiet).map_err(|e| self.explain(&e))?);
        }
        let Some(client) = groups.get(group) else { return Ok(vec![]) };
        let committed = client.committed_offsets(list, ASK).map_err(|e| self.explain(&e))?;
        let mut all = vec![];
        for e in committed.elements() {
            if let Offset::Offset(base) = e.offset() {
                all.push((e.partition(), base, metadata(&e)));
            }
        }
        all.sort_by_key(|p| p.0);
        Ok(all)
    }
}

fn m_is(m: &rdkafka::message::BorrowedMessage<'_>, at: &TopicPartition, next: i64) -> bool {
    use rdkafka::Message;
    m.topic() == &*at.topic && m.partition() == at.partition && m.offset() >= next
}
