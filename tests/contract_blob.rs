//! The contract of every blob store (`src/blob/mod.rs`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tidemill::blob::folder::Folder;
use tidemill::blob::{BlobError, Blobs, key};

/// Opens a blob store in a folder, or opens it again.
type Open = fn(&Path) -> Arc<dyn Blobs>;

/// Every implementation.
const ALL: [Open; 1] = [|dir| Arc::new(Folder::open(&dir.join("blobs")).unwrap())];

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
        let blobs = open(dir.path());
        for body in &bodies {
            assert_eq!(blobs.put(body.clone()).await, Ok(key(body)));
        }
        drop(blobs);
        let blobs = open(dir.path());
        for body in &bodies {
            assert_eq!(blobs.get(&key(body)).await.as_ref(), Ok(body));
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path());
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
            let (blobs, body) = (open(dir.path()), body.slice(..100_000 + i % 2));
            tokio::spawn(async move {
                let key = blobs.put(body.clone()).await.unwrap();
                assert_eq!(blobs.get(&key).await, Ok(body));
            })
        });
        for put in join_all(puts).await {
            put.unwrap();
        }
        assert_eq!(open(dir.path()).sweep(Duration::ZERO).await, Ok(2));
    }
}

#[tokio::test]
async fn a_sweep_takes_the_old_and_a_put_makes_young_again() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path());
        let old = blobs.put(Bytes::from_static(b"old")).await.unwrap();
        let again = blobs.put(Bytes::from_static(b"again")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(blobs.put(Bytes::from_static(b"again")).await.unwrap(), again);
        assert_eq!(blobs.sweep(Duration::from_secs(3600)).await, Ok(0));
        assert_eq!(blobs.sweep(Duration::MAX).await, Ok(0));
        assert_eq!(blobs.sweep(Duration::from_millis(200)).await, Ok(1));
        assert!(matches!(blobs.get(&old).await, Err(BlobError::NotFound(_))));
        assert!(blobs.get(&again).await.is_ok());
    }
}

/// A blob that was put and not deleted is there, whatever a sweep does meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_nothing_that_was_just_put() {
    for open in ALL {
        let dir = tempfile::tempdir().unwrap();
        let blobs = open(dir.path());
        let other = open(dir.path());
        let sweeping = tokio::spawn(async move {
            for _ in 0..100 {
                other.sweep(Duration::from_millis(500)).await.unwrap();
            }
        });
        for round in 0..40u8 {
            let body = Bytes::from(vec![round % 3; 10_000]);
            let key = blobs.put(body.clone()).await.unwrap();
            assert_eq!(blobs.get(&key).await, Ok(body));
        }
        sweeping.await.unwrap();
    }
}
