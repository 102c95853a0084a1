//! The contract of every blob store (`src/blob/mod.rs`).

#[path = "services/mod.rs"]
mod services;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use services::S3;
use tidemill::blob::folder::Folder;
use tidemill::blob::{self, BlobError, Blobs, key};
use tidemill::config::Compression;
use tidemill::config::{self, Config};

/// Opens a blob store that belongs to a folder, or opens it again.
type Open = fn(&Path) -> BoxFuture<'_, Arc<dyn Blobs>>;

/// Every implementation.
const ALL: [Open; 5] = [
    |dir| folder(dir, Compression::Zstd),
    |dir| folder(dir, Compression::Gzip),
    |dir| s3(dir, Compression::Zstd),
    |dir| s3(dir, Compression::Gzip),
    tiered,
];

fn folder(dir: &Path, coding: Compression) -> BoxFuture<'_, Arc<dyn Blobs>> {
    Box::pin(async move { Arc::new(Folder::open(&dir.join("blobs"), coding).unwrap()) as Arc<dyn Blobs> })
}

fn s3(dir: &Path, coding: Compression) -> BoxFuture<'_, Arc<dyn Blobs>> {
    let mut c = s3_at(S3::shared(), &format!("{}{}", S3::BUCKET, dir.display()));
    c.blob.compression = coding;
    Box::pin(async move { Arc::new(blob::s3::S3::open(&c.blob, &c.s3, &dir.join("tmp")).await.unwrap()) as _ })
}

/// A folder, and an archive in S3.
fn tiered(dir: &Path) -> BoxFuture<'_, Arc<dyn Blobs>> {
    Box::pin(async move {
        let (first, archive) = (folder(dir, Compression::Zstd).await, s3(dir, Compression::Zstd).await);
        Arc::new(blob::tiered::Tiered::new(first, archive)) as _
    })
}

fn s3_at(endpoint: &str, place: &str) -> Config {
    let mut c = Config { blob: toml::from_str(&format!("s3 = \"s3://{place}\"")).unwrap(), ..Config::default() };
    let key = S3::KEY;
    let how = format!("endpoint = \"{endpoint}\"\naccess_key_id = \"{key}\"\nsecret_access_key = \"{key}\"");
    c.s3 = toml::from_str::<config::S3>(&how).unwrap();
    c
}

/// So old is what was put that the store can tell it from what is put now: S3 lists whole seconds.
fn a_while(blobs: &dyn Blobs) -> Duration {
    Duration::from_millis(if blobs.name() == "s3" { 2_200 } else { 400 })
}

/// Bytes that no compression shrinks.
fn noise(length: usize) -> Bytes {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn reads_back_what_was_put_under_its_hash() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let bodies = [Bytes::new(), Bytes::from_static(b"x"), Bytes::from(vec![0; 5 << 20]), noise(3 << 20)];
        let blobs = open(dir.path()).await;
        for body in &bodies {
            assert_eq!(blobs.put(body.clone()).await, Ok(key(body)));
        }
        drop(blobs);
        let blobs = open(dir.path()).await;
        for body in &bodies {
            assert_eq!(blobs.get(&key(body)).await.as_ref(), Ok(body));
        }
    }
}

#[tokio::test]
async fn a_draft_that_comes_in_pieces_is_the_same_blob_and_its_start_is_read_alone() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path()).await;
        let body = noise(9 << 20);
        let mut draft = blobs.drafts().begin().unwrap();
        for piece in body.chunks(100_000) {
            draft.write(piece).unwrap();
        }
        assert_eq!(draft.length(), body.len() as u64);
        let dropped = blobs.drafts().begin().unwrap();
        assert_eq!(blobs.keep(draft).await, Ok(key(&body)));
        drop(dropped);
        assert_eq!(blobs.put(body.clone()).await, Ok(key(&body)));
        for limit in [0, 1, 100_000, body.len() - 1, body.len(), usize::MAX] {
            let start = blobs.get_start(&key(&body), limit).await;
            assert_eq!(start, Ok(body.slice(..body.len().min(limit))));
        }
        let tmp = if blobs.name() == "s3" { "tmp" } else { "blobs/tmp" };
        assert_eq!(std::fs::read_dir(dir.path().join(tmp)).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path()).await;
        let missing = key(b"never put");
        assert_eq!(blobs.get(&missing).await, Err(BlobError::NotFound(missing.clone())));
        assert_eq!(blobs.delete(&missing).await, Ok(()));
        for bad in ["", "sha256/../../lock", "md5/00"] {
            assert_eq!(blobs.get(bad).await, Err(BlobError::BadKey(bad.into())));
            assert_eq!(blobs.delete(bad).await, Err(BlobError::BadKey(bad.into())));
        }
        let there = blobs.put(Bytes::from_static(b"there")).await.unwrap();
        blobs.delete(&there).await.unwrap();
        assert_eq!(blobs.get(&there).await, Err(BlobError::NotFound(there.clone())));
        assert_eq!(blobs.put(Bytes::from_static(b"there")).await, Ok(there.clone()));
        assert!(blobs.get(&there).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_may_be_put_by_many_at_once() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let body = noise(200_000);
        let puts = (0..16).map(|i| {
            let (dir, body) = (dir.path().to_owned(), body.slice(..100_000 + i % 2));
            tokio::spawn(async move {
                let blobs = open(&dir).await;
                let key = blobs.put(body.clone()).await.unwrap();
                assert_eq!(blobs.get(&key).await, Ok(body));
            })
        });
        for put in join_all(puts).await {
            put.unwrap();
        }
        let blobs = open(dir.path()).await;
        tokio::time::sleep(a_while(&*blobs)).await;
        assert_eq!(blobs.sweep(Duration::ZERO).await, Ok(2));
    }
}

#[tokio::test]
async fn a_sweep_takes_the_old_and_a_put_makes_young_again() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path()).await;
        let old = blobs.put(Bytes::from_static(b"old")).await.unwrap();
        let again = blobs.put(Bytes::from_static(b"again")).await.unwrap();
        let renewed = blobs.put(Bytes::from_static(b"renewed")).await.unwrap();
        tokio::time::sleep(a_while(&*blobs)).await;
        blobs.renew(&renewed).await.unwrap();
        assert_eq!(blobs.put(Bytes::from_static(b"again")).await.unwrap(), again);
        assert_eq!(blobs.sweep(Duration::from_secs(3600)).await, Ok(0));
        assert_eq!(blobs.sweep(Duration::MAX).await, Ok(0));
        assert_eq!(blobs.sweep(Duration::from_millis(200)).await, Ok(1));
        assert!(matches!(blobs.get(&old).await, Err(BlobError::NotFound(_))));
        assert!(blobs.get(&again).await.is_ok());
        assert_eq!(blobs.get(&renewed).await, Ok(Bytes::from_static(b"renewed")));
        assert_eq!(blobs.renew(&old).await, Err(BlobError::NotFound(old)));
    }
}

/// A blob that was put and not deleted is there, whatever a sweep does meanwhile; also one that was old until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_nothing_that_was_just_put() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path()).await;
        let bodies: Vec<Bytes> = (0..8).map(|i| Bytes::from(vec![i; 10_000])).collect();
        for body in &bodies {
            blobs.put(body.clone()).await.unwrap();
        }
        tokio::time::sleep(a_while(&*blobs) + Duration::from_millis(500)).await;
        let other = open(dir.path()).await;
        let sweeps = if other.name() == "s3" { 3 } else { 100 };
        let sweeping = tokio::spawn(async move {
            for _ in 0..sweeps {
                other.sweep(Duration::from_millis(500)).await.unwrap();
            }
        });
        for body in bodies.iter().cycle().take(40) {
            let key = blobs.put(body.clone()).await.unwrap();
            assert_eq!(blobs.get(&key).await.as_ref(), Ok(body));
            // What is young is never swept, so it is there to be renewed.
            assert_eq!(blobs.renew(&key).await, Ok(()));
            assert_eq!(blobs.get(&key).await.as_ref(), Ok(body));
        }
        sweeping.await.unwrap();
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_refuses_or_is_away_is_told_apart() {
    let server = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let open = async |c: Config| blob::s3::S3::open(&c.blob, &c.s3, dir.path()).await;
    let e = open(s3_at(server.url(), "nowhere/p")).await.err().unwrap();
    assert!(matches!(&e, BlobError::Fatal(why) if why.contains("\"nowhere\"")), "{e}");
    let mut c = s3_at(server.url(), "tidemill/p");
    c.s3.secret_access_key = toml::Value::String("guess".into()).try_into().unwrap();
    let e = open(c).await.err().unwrap();
    assert!(matches!(&e, BlobError::Fatal(why) if why.contains("credentials")), "{e}");

    let blobs = open(s3_at(server.url(), "tidemill/p")).await.unwrap();
    let key = blobs.put(noise(100_000)).await.unwrap();
    server.kill();
    for e in [blobs.get(&key).await.map(drop), blobs.put(noise(10)).await.map(drop)] {
        assert!(matches!(&e, Err(BlobError::Unavailable(why)) if why.contains("s3://tidemill/p")), "{e:?}");
    }
    // What is away when it is opened is waited for too.
    let other = open(s3_at(server.url(), "tidemill/p")).await.unwrap();
    server.restart();
    for blobs in [blobs, other] {
        assert_eq!(blobs.get(&key).await, Ok(noise(100_000)));
    }
}

#[tokio::test]
async fn objects_are_what_everyday_tools_read_and_damage_is_noticed() {
    let server = S3::start();
    let c = s3_at(server.url(), "tidemill/some/where");
    let dir = tempfile::tempdir().unwrap();
    let blobs = blob::s3::S3::open(&c.blob, &c.s3, dir.path()).await.unwrap();
    // Of more than one part.
    let body = noise(20 << 20);
    let key = blobs.put(body.clone()).await.unwrap();
    let digits = &key[7..];
    let file = server.folder().join(format!("some/where/sha256/{}/{digits}.zst", &digits[..2]));
    assert_eq!(zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap(), body);
    for bad in [&b""[..], b"not zstd at all", &zstd::encode_all(&b"else"[..], 3).unwrap()] {
        std::fs::write(&file, bad).unwrap();
        let e = blobs.get(&key).await.unwrap_err();
        assert!(matches!(e, BlobError::Damaged { .. }), "{e}");
    }
    assert_eq!(blobs.put(body.clone()).await, Ok(key.clone()));
    assert_eq!(blobs.get(&key).await, Ok(body));
}
