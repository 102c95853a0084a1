//! The contract of every store (`src/store/mod.rs`).

#[path = "services/mod.rs"]
mod services;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use services::Redis;
use tidemill::config;
use tidemill::record::now_ms;
use tidemill::store::redis::RedisStore;
use tidemill::store::sqlite::SqliteStore;
use tidemill::store::{Claimed, Store, StoreError};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);

/// Opens a store that belongs to a folder, or opens it again.
type Open = fn(&Path) -> BoxFuture<'_, Arc<dyn Store>>;

/// Every implementation.
const ALL: [Open; 2] = [sqlite, redis];

fn sqlite(dir: &Path) -> BoxFuture<'_, Arc<dyn Store>> {
    Box::pin(async { Arc::new(SqliteStore::open(&dir.join("store.db")).unwrap()) as Arc<dyn Store> })
}

fn redis(dir: &Path) -> BoxFuture<'_, Arc<dyn Store>> {
    let config = redis_at(Redis::shared());
    let prefix = format!("{}.", dir.display());
    Box::pin(async move { Arc::new(RedisStore::open(&config, &prefix).await.unwrap()) as Arc<dyn Store> })
}

fn redis_at(url: &str) -> config::Store {
    toml::from_str(&format!("redis = \"{url}\"\ntimeout = \"10s\"")).unwrap()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn expire() {
    tokio::time::sleep(SHORT + Duration::from_millis(10)).await;
}

#[tokio::test]
async fn keeps_values_apart_by_namespace_and_over_a_restart() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let any = Bytes::from((0..=255).collect::<Vec<u8>>());
        store.put("a", "k\0\"é", any.clone(), LONG).await.unwrap();
        store.put("b", "k\0\"é", bytes("other"), LONG).await.unwrap();
        store.put("b", "empty", Bytes::new(), Duration::MAX).await.unwrap();
        drop(store);
        let store = open(dir.path()).await;
        assert_eq!(store.get("a", "k\0\"é").await, Ok(Some(any)));
        assert_eq!(store.get("b", "k\0\"é").await, Ok(Some(bytes("other"))));
        assert_eq!(store.get("b", "empty").await, Ok(Some(Bytes::new())));
        assert_eq!(store.get("c", "k\0\"é").await, Ok(None));
        assert_eq!(store.get("a", "k").await, Ok(None));
        store.put("a", "k\0\"é", bytes("new"), LONG).await.unwrap();
        assert_eq!(store.get("a", "k\0\"é").await, Ok(Some(bytes("new"))));
        store.delete("a", "k\0\"é").await.unwrap();
        store.delete("a", "k\0\"é").await.unwrap();
        assert_eq!(store.get("a", "k\0\"é").await, Ok(None));
        assert_eq!(store.get("b", "k\0\"é").await, Ok(Some(bytes("other"))));
        let mut keys = store.keys("b").await.unwrap();
        keys.sort();
        assert_eq!((keys, store.keys("a").await), (vec!["empty".to_owned(), "k\0\"é".to_owned()], Ok(vec![])));
    }
}

#[tokio::test]
async fn what_has_expired_is_absent_swept_or_not() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        store.put("n", "short", bytes("x"), SHORT).await.unwrap();
        store.put("n", "renewed", bytes("x"), SHORT).await.unwrap();
        store.put("n", "renewed", bytes("y"), LONG).await.unwrap();
        store.put("n", "never", bytes("x"), Duration::ZERO).await.unwrap();
        assert_eq!(store.get("n", "never").await, Ok(None));
        expire().await;
        assert_eq!(store.get("n", "short").await, Ok(None));
        assert_eq!(store.get("n", "renewed").await, Ok(Some(bytes("y"))));
        // Redis removes what has expired by itself.
        let swept = |n| Ok(if store.name() == "redis" { 0 } else { n });
        assert_eq!(store.sweep(now_ms()).await, swept(2));
        assert_eq!(store.sweep(now_ms()).await, Ok(0));
        assert_eq!(store.get("n", "renewed").await, Ok(Some(bytes("y"))));
        assert_eq!(store.sweep(now_ms() + 2 * 3_600_000).await, swept(1));
    }
}

#[tokio::test]
async fn a_claim_is_its_owners_until_it_expires() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        assert_eq!(store.claim("n", "k", bytes("task 1"), LONG).await, Ok(Claimed::Mine));
        assert_eq!(store.claim("n", "k", bytes("task 2"), LONG).await, Ok(Claimed::Theirs(bytes("task 1"))));
        assert_eq!(store.claim("m", "k", bytes("task 2"), LONG).await, Ok(Claimed::Mine));
        // The same task after a crash; its time starts anew.
        assert_eq!(store.claim("n", "k", bytes("task 1"), SHORT).await, Ok(Claimed::Mine));
        expire().await;
        assert_eq!(store.claim("n", "k", bytes("task 2"), LONG).await, Ok(Claimed::Mine));
        assert_eq!(store.get("n", "k").await, Ok(Some(bytes("task 2"))));
        store.delete("n", "k").await.unwrap();
        assert_eq!(store.claim("n", "k", bytes("task 3"), LONG).await, Ok(Claimed::Mine));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_at_once_one_wins_and_the_others_know_whose_it_is() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        // Two handles, as two processes would have.
        let stores = [open(dir.path()).await, open(dir.path()).await];
        for round in 0..20 {
            let claims = (0..16).map(|i| {
                let store = Arc::clone(&stores[i % 2]);
                tokio::spawn(async move {
                    let me = Bytes::from(i.to_string());
                    match store.claim("n", &format!("round {round}"), me.clone(), LONG).await.unwrap() {
                        Claimed::Mine => (true, me),
                        Claimed::Theirs(other) => (false, other),
                    }
                })
            });
            let outcomes: Vec<_> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(outcomes.iter().filter(|(mine, _)| *mine).count(), 1);
            let named: HashSet<_> = outcomes.into_iter().map(|(_, owner)| owner).collect();
            assert_eq!(named.len(), 1);
        }
    }
}

#[tokio::test]
async fn deletes_by_prefix_and_nothing_else() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let keys = ["ab", "ab/1", "ab/2", "ab\u{10FFFF}", "ac", "a", "AB", "a_", "%"];
        for key in keys {
            store.put("n", key, bytes("x"), LONG).await.unwrap();
            store.put("m", key, bytes("x"), LONG).await.unwrap();
        }
        assert_eq!(store.delete_prefix("n", "ab").await, Ok(4));
        assert_eq!(store.delete_prefix("n", "%").await, Ok(1));
        for key in keys {
            let gone = key.starts_with("ab") || key == "%";
            assert_eq!(store.get("n", key).await.unwrap().is_none(), gone, "{key}");
            assert!(store.get("m", key).await.unwrap().is_some());
        }
        assert_eq!(store.delete_prefix("m", "").await, Ok(keys.len() as u64));
        let many = (0..2_500).map(|i| {
            let store = &store;
            async move { store.put("n", &format!("many/{i}"), bytes("x"), LONG).await.unwrap() }
        });
        join_all(many).await;
        assert_eq!(store.delete_prefix("n", "many/").await, Ok(2_500));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_written_reads_it() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let tasks = (0..32).map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..10 {
                    let (key, value) = (format!("key {i}"), Bytes::from(vec![round; 1_000]));
                    store.put("n", &key, value.clone(), LONG).await.unwrap();
                    assert_eq!(store.get("n", &key).await, Ok(Some(value)));
                }
            })
        });
        for task in join_all(tasks).await {
            task.unwrap();
        }
    }
}

#[tokio::test]
async fn a_redis_that_refuses_has_no_memory_or_is_away_is_told_apart() {
    let redis = Redis::start("--requirepass hush --maxmemory 3mb");
    let with = |userinfo: &str| redis_at(&redis.url().replace("//", &format!("//{userinfo}")));
    for wrong in ["", ":guess@", "ann:hush@"] {
        let e = RedisStore::open(&with(wrong), "p.").await.err().unwrap();
        assert!(matches!(&e, StoreError::Fatal(why) if why.contains("password")), "{wrong}: {e}");
    }
    let store = RedisStore::open(&with(":hush@"), "p.").await.unwrap();
    let full = loop {
        let key = now_ms().to_string();
        if let Err(e) = store.put("n", &key, Bytes::from(vec![b'x'; 100_000]), LONG).await {
            break e;
        }
    };
    assert!(matches!(&full, StoreError::Unavailable(why) if why.contains("maxmemory")), "{full}");
    redis.kill();
    let away = store.get("n", "k").await.unwrap_err();
    assert!(matches!(&away, StoreError::Unavailable(why) if why.contains("store.redis")), "{away}");
    // What is away when it is opened is waited for too.
    let other = RedisStore::open(&with(":hush@"), "p.").await.unwrap();
    assert!(other.get("n", "k").await.is_err());
    redis.restart();
    assert_eq!(other.get("n", "k").await, Ok(None));
    for store in [&store, &other] {
        assert_eq!(store.claim("n", "k", bytes("me"), LONG).await, Ok(Claimed::Mine));
    } // It takes connections and answers nobody: a call ends all the same.
    redis.pause();
    let hurried = config::Store { timeout: Duration::from_millis(200), ..with(":hush@") };
    let hurried = RedisStore::open(&hurried, "p.").await.unwrap();
    let away = hurried.claim("n", "k", bytes("me"), LONG).await.unwrap_err();
    assert!(matches!(away, StoreError::Unavailable(_)), "{away}");
    redis.resume();
    assert_eq!(store.claim("n", "k", bytes("me"), LONG).await, Ok(Claimed::Mine));
}
