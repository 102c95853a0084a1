//! A store in Redis, for many processes on many machines.
//!
//! An entry is a string under `<prefix>store:<namespace>:<key>`, and Redis' own expiry is its TTL. A claim is one script,
//! so that of several at once one wins; its owner may repeat it, so a reply that was lost does no harm. A Redis that lost
//! its memory forgot who claimed what: work may be done that a duplicate would have been spared, and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind, cmd};

use super::{Claimed, Result, Store, StoreError};
use crate::config;

/// Longest TTL, ms: 100 years. Redis adds it to the time of day and refuses what does not fit then.
const LONGEST: u128 = 100 * 365 * 86_400_000;
/// Largest value: what Redis takes as one string unless told otherwise (`proto-max-bulk-len`), bytes.
const LARGEST: usize = 512 << 20;
/// Keys looked at in one step of a scan.
const SCAN: usize = 1_000;

/// The value that is held, or nothing when it is ours now. KEYS: the entry. ARGV: value, TTL in ms.
const CLAIM: &str = "
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false";

/// The store. Connects when first used, and again whenever the connection is lost.
pub struct RedisStore {
    connection: ConnectionManager,
    claim: Script,
    prefix: String,
    /// `host:port`, for messages.
    at: String,
}

impl RedisStore {
    /// A store whose keys begin with `prefix`. Within a runtime. A Redis that is away is no error: calls are, until it is
    /// there.
    pub async fn open(config: &config::Store, prefix: &str) -> Result<RedisStore> {
        // Another part of the process may have installed a provider; any will do.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let cannot = |e: RedisError| StoreError::Fatal(format!("store.redis cannot be used ({e})"));
        let client = Client::open(config.redis.reveal()).map_err(cannot)?;
        let at = client.get_connection_info().addr().to_string();
        // One attempt a call: the caller's breaker and the record's own waiting see to the rest.
        let how = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(config.timeout))
            .set_response_timeout(Some(config.timeout));
        let connection = ConnectionManager::new_lazy_with_config(client, how).map_err(cannot)?;
        let store = RedisStore { connection, claim: Script::new(CLAIM), prefix: format!("{prefix}store:"), at };
        match store.run::<String>(&cmd("PING")).await {
            Err(StoreError::Unavailable(why)) => tracing::warn!("{why}; what needs the store waits until then"),
            other => drop(other?),
        }
        Ok(store)
    }

    fn key(&self, namespace: &str, key: &str) -> String {
        format!("{}{namespace}:{key}", self.prefix)
    }

    /// The first call after a connection was lost fails and makes a new one: only the second tells whether Redis is
    /// there. So a call is made twice then; each of ours may be.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let mut connection = self.connection.clone();
        let done = match command.query_async(&mut connection).await {
            Err(e) if lost(&e) => command.query_async(&mut connection).await,
            first => first,
        };
        done.map_err(|e| self.failed(&e))
    }

    /// A step of a look at every key of the database, which holds up nobody: the next cursor, and keys that begin so.
    async fn scan(&self, namespace: &str, prefix: &str, cursor: u64) -> Result<(u64, Vec<Bytes>)> {
        let pattern = format!("{}*", literal(&self.key(namespace, prefix)));
        self.run(cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN)).await
    }

    fn failed(&self, e: &RedisError) -> StoreError {
        use ServerErrorKind as S;
        let at = &self.at;
        match (e.kind(), e.code()) {
            (ErrorKind::AuthenticationFailed | ErrorKind::Server(S::NoPerm), _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                StoreError::Fatal(format!("the Redis at {at} refuses us ({e}); check user and password in store.redis"))
            }
            (_, Some("OOM")) => StoreError::Unavailable(format!(
                "the Redis at {at} has no memory left; raise its maxmemory, or set maxmemory-policy volatile-ttl"
            )),
            // It cannot write its own files, runs somebody's long script, loads, fails over.
            (_, Some("MISCONF" | "BUSY" | "NOREPLICAS"))
            | (ErrorKind::Server(S::BusyLoading | S::TryAgain | S::ClusterDown | S::MasterDown | S::ReadOnly), _) => {
                StoreError::Unavailable(format!("the Redis at {at} cannot now ({e})"))
            }
            _ if e.is_io_error() || e.is_timeout() || e.is_connection_dropped() || e.is_connection_refusal() => {
                StoreError::Unavailable(format!("the Redis at {at} is away ({e}); check that it runs and store.redis"))
            }
            _ => StoreError::Fatal(format!("the Redis at {at} fails ({e})")),
        }
    }
}

#[async_trait]
impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>> {
        self.run(cmd("GET").arg(self.key(namespace, key))).await
    }

    async fn put(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        fits(&value)?;
        match milliseconds(ttl) {
            0 => self.delete(namespace, key).await,
            ttl => self.run(cmd("SET").arg(self.key(namespace, key)).arg(&value[..]).arg("PX").arg(ttl)).await,
        }
    }

    async fn claim(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<Claimed> {
        fits(&value)?;
        // An entry of no time is gone as soon as it is there, which the least time says as well.
        let ttl = milliseconds(ttl).max(1);
        let mut claim = self.claim.key(self.key(namespace, key));
        claim.arg(&value[..]).arg(ttl);
        let mut connection = self.connection.clone();
        let held: RedisResult<Option<Bytes>> = match claim.invoke_async(&mut connection).await {
            Err(e) if lost(&e) => claim.invoke_async(&mut connection).await,
            first => first,
        };
        let held = held.map_err(|e| self.failed(&e))?;
        Ok(held.map_or(Claimed::Mine, Claimed::Theirs))
    }

    async fn delete(&self, namespace: &str, key: &str) -> Result<()> {
        self.run::<u64>(cmd("UNLINK").arg(self.key(namespace, key))).await.map(drop)
    }

    async fn delete_prefix(&self, namespace: &str, prefix: &str) -> Result<u64> {
        let (mut cursor, mut removed) = (0, 0);
        loop {
            let (next, keys) = self.scan(namespace, prefix, cursor).await?;
            if !keys.is_empty() {
                let mut unlink = cmd("UNLINK");
                for key in &keys {
                    unlink.arg(&key[..]);
                }
                removed += self.run::<u64>(&unlink).await?;
            }
            if next == 0 {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    async fn keys(&self, namespace: &str) -> Result<Vec<String>> {
        let own = self.key(namespace, "").len();
        // A scan may show a key twice.
        let (mut cursor, mut all) = (0, std::collections::BTreeSet::new());
        loop {
            let (next, keys) = self.scan(namespace, "", cursor).await?;
            all.extend(keys.iter().filter_map(|k| Some(String::from_utf8_lossy(k.get(own..)?).into_owned())));
            if next == 0 {
                return Ok(all.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// Redis does so by itself.
    async fn sweep(&self, _now: i64) -> Result<u64> {
        Ok(0)
    }
}

fn lost(e: &RedisError) -> bool {
    e.is_connection_dropped() || e.is_connection_refusal()
}

fn fits(value: &Bytes) -> Result<()> {
    match value.len() {
        n if n > LARGEST => Err(StoreError::TooLarge(format!("{n} bytes are more than the {LARGEST} Redis takes"))),
        _ => Ok(()),
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis().min(LONGEST)).unwrap_or(u64::MAX)
}

/// A pattern that only this text matches.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
