//! A web server of one closure, on a port of 127.0.0.1, for as long as it is held.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What is answered: status, further header lines, body.
pub struct Reply(pub u16, pub Vec<(&'static str, String)>, pub String);

impl Reply {
    /// A page with enough words to be one.
    pub fn page(title: &str) -> Reply {
        let text = format!("The {title} has a story of its own, told in words that no other page has. ").repeat(6);
        let body = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><title>{title}</title></head><body><main><article><h1>{title}</h1>\
             <p>{text}</p><p>And a second paragraph about the {title}, which is longer than a line.</p></article></main></body></html>"
        );
        Reply(200, vec![("Content-Type", "text/html; charset=utf-8".into())], body)
    }

    pub fn status(status: u16) -> Reply {
        Reply(status, vec![], String::new())
    }
}

type Answers = dyn Fn(&str, usize) -> Reply + Send + Sync;
type Arrivals = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

pub struct Server {
    pub address: SocketAddr,
    arrivals: Arrivals,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// `answer` is given the path and which request for it this is, from 1.
    pub fn start(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrivals, stop) = (Arrivals::default(), Arc::new(AtomicBool::new(false)));
        let answer: Arc<Answers> = Arc::new(answer);
        let (noted, stopped) = (Arc::clone(&arrivals), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                // A client that hangs up is no matter.
                std::thread::spawn(move || drop(one(stream, &noted, &*answer)));
            }
        });
        Server { address, arrivals, stop }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All paths that were asked for, and when.
    pub fn all(&self) -> Vec<(String, Instant)> {
        let arrivals = self.arrivals.lock().unwrap();
        arrivals
            .iter()
            .filter(|(path, _)| *path != "/robots.txt")
            .flat_map(|(p, at)| at.iter().map(|at| (p.clone(), *at)))
            .collect()
    }

    /// When requests for a path came.
    pub fn arrivals(&self, path: &str) -> Vec<Instant> {
        self.arrivals.lock().unwrap().get(path).cloned().unwrap_or_default()
    }
}

fn one(stream: TcpStream, noted: &Arrivals, answer: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line.trim() != "" {
        line.clear();
    }
    let hit = {
        let mut noted = noted.lock().unwrap();
        let arrivals = noted.entry(path.clone()).or_default();
        arrivals.push(Instant::now());
        arrivals.len()
    };
    let Reply(status, headers, body) = if path == "/robots.txt" { Reply::status(404) } else { answer(&path, hit) };
    let mut out = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    stream.write_all(format!("{out}\r\n{body}").as_bytes())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees.
        let _gone = TcpStream::connect(self.address);
    }
}
