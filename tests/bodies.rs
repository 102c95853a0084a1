//! Large bodies at once: they go through to blobs without being in memory as a whole.
//!
//! `BODIES` and `BODY_MB` scale it: 200 of 50 MB is what is promised to stay below 400 MB.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use services::{S3, warcio};
use whole::{Running, Tidemill, eventually, setting};

/// A server that has so many requests on hand before it sends the second half of any; so all are on their way at once.
fn serve(bodies: usize, length: usize) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (together, sent) = (Arc::new(Barrier::new(bodies)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sent);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (together, counted) = (Arc::clone(&together), Arc::clone(&counted));
            std::thread::spawn(move || {
                answer(stream, length, &together).map(|()| counted.fetch_add(1, Ordering::SeqCst))
            });
        }
    });
    (address, sent)
}

fn answer(mut stream: TcpStream, length: usize, together: &Barrier) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    request.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
    while line.trim() != "" {
        line.clear();
        request.read_line(&mut line)?;
    }
    let kind = "Content-Type: application/pdf\r\nConnection: close";
    write!(stream, "HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {length}\r\n\r\n%PDF-1.7 {path}\n")?;
    let mut left = length - format!("%PDF-1.7 {path}\n").len();
    let half = left / 2;
    // Shrinks to a quarter or so, as pages do.
    let block: Vec<u8> =
        (0..65_536u32).map(|i| b"0123456789abcdef"[(i.wrapping_mul(2_654_435_761) >> 28) as usize]).collect();
    let mut waited = false;
    while left > 0 {
        if left <= half && !waited {
            together.wait();
            waited = true;
        }
        let some = left.min(block.len());
        stream.write_all(&block[..some])?;
        left -= some;
    }
    Ok(())
}

/// The most memory a process has held, bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.map_or(0, |l| l.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

fn downloads(more: &[(&str, &str)]) -> (tempfile::TempDir, usize, u64) {
    let (bodies, megabytes) = (setting("BODIES", 40) as usize, setting("BODY_MB", 20) as usize);
    let (address, sent) = serve(bodies, megabytes << 20);
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let urls: Vec<String> = (0..bodies).map(|i| format!("http://h{i}.demo.test:{}/{i}", address.port())).collect();
    std::fs::write(dir.path().join("urls.txt"), urls.join("\n")).unwrap();
    let mut c = t.command(&["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1", "--json"]);
    c.args(["--resolve", "*.demo.test=127.0.0.1"]);
    c.envs([
        ("TIDEMILL_FETCH__ROBOTS", "false"),
        ("TIDEMILL_FETCH__MAX_BODY_BYTES", "60 MiB"),
        ("TIDEMILL_FETCH__MAX_DECODED_BYTES", "60 MiB"),
        ("TIDEMILL_FETCH__READ_TIMEOUT", "10m"),
        ("TIDEMILL_FETCH__TIMEOUT", "10m"),
        ("TIDEMILL_ENGINE__DEADLINE", "10m"),
    ]);
    c.envs(more.iter().copied());
    let mut running = Running::start(&mut c);
    let (pid, mut most) = (running.child.id(), 0);
    let ended = eventually(Duration::from_secs(600), || {
        most = most.max(peak(pid));
        running.poll().is_some()
    });
    assert!(ended, "{} of {bodies} bodies were sent", sent.load(Ordering::SeqCst));
    let report = running.ended(Duration::from_secs(5)).expect(0).json();
    assert_eq!(report["finished"], bodies, "{report}");
    // Each was fetched whole, and is not read: a PDF.
    assert_eq!(sent.load(Ordering::SeqCst), bodies);
    println!("{bodies} bodies of {megabytes} MiB at once: at most {} MiB in memory", most >> 20);
    (dir, bodies, most)
}

fn files(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir).unwrap().flatten().map(|e| if e.path().is_dir() { files(&e.path()) } else { 1 }).sum()
}

/// 800 MiB in the short form.
const BOUND: u64 = 400 << 20;

#[test]
fn many_large_bodies_at_once_are_never_in_memory() {
    let (dir, bodies, most) = downloads(&[]);
    assert!(most < BOUND, "{} MiB", most >> 20);
    assert_eq!(files(&dir.path().join("data/blobs/sha256")), bodies);
}

#[test]
fn many_large_bodies_go_to_s3_in_parts() {
    let s3 = S3::start();
    let (dir, bodies, most) = downloads(&[
        ("TIDEMILL_BLOB__S3", "s3://tidemill/blobs"),
        ("TIDEMILL_S3__ENDPOINT", s3.url()),
        ("AWS_ACCESS_KEY_ID", S3::KEY),
        ("AWS_SECRET_ACCESS_KEY", S3::KEY),
    ]);
    assert!(most < BOUND, "{} MiB", most >> 20);
    assert_eq!(files(&s3.folder().join("blobs/sha256")), bodies);
    assert_eq!(files(&dir.path().join("data/blobs/tmp")), 0);
}

#[test]
fn many_large_bodies_go_into_warc_files_too() {
    let (dir, bodies, most) = downloads(&[("TIDEMILL_WARC__FOLDER", "warc"), ("TIDEMILL_WARC__MAX_BYTES", "1 MB")]);
    assert!(most < BOUND, "{} MiB", most >> 20);
    let files: Vec<_> = std::fs::read_dir(dir.path().join("warc")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() > 1 && files.iter().all(|f| f.extension().is_some_and(|e| e == "gz")), "{files:?}");
    let names: Vec<_> = files.iter().map(|f| f.to_str().unwrap()).collect();
    let index = whole::output(&mut warcio(&[&["index", "-f", "warc-type"], &names[..]].concat()), "");
    assert_eq!(index.matches("\"response\"").count(), bodies);
}
