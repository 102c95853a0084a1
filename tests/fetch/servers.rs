//! A server that is given the request and the socket, and does what it likes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub type Conduct = dyn Fn(&mut TcpStream, &str) -> std::io::Result<()> + Send + Sync;

/// The server of one socket; its thread goes with the process.
pub struct Server {
    pub address: SocketAddr,
    /// Heads of all requests but those for robots.txt.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// robots.txt is answered with 404 unless `robots` leaves that to `conduct` too. Then the connection is closed.
    pub fn start(robots: bool, conduct: Box<Conduct>) -> Server {
        Server::start_at("127.0.0.1:0", robots, conduct)
    }

    /// At another address.
    pub fn start_at(at: &str, robots: bool, conduct: Box<Conduct>) -> Server {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(vec![]));
        let (conduct, noted): (Arc<Conduct>, _) = (conduct.into(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (conduct, noted) = (Arc::clone(&conduct), Arc::clone(&noted));
                std::thread::spawn(move || {
                    let head = head(&mut stream);
                    let asks_robots = head.contains(" /robots.txt ");
                    if !asks_robots {
                        noted.lock().unwrap().push(head.clone());
                    }
                    // A client that hangs up is no matter.
                    let _gone = if asks_robots && !robots {
                        stream.write_all(b"HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    } else {
                        conduct(&mut stream, &head)
                    };
                });
            }
        });
        Server { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/page", self.address)
    }
}

/// A request's head; what a TLS hello has for one.
fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
        if head[0] == 0x16 {
            break;
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Until the client leaves.
pub fn silence(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut ignored = [0; 256];
    while stream.read(&mut ignored)? > 0 {}
    Ok(())
}

/// These bytes, a few at a time.
pub fn drip(stream: &mut TcpStream, bytes: &[u8], piece: usize, every: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    for some in bytes.chunks(piece) {
        stream.write_all(some)?;
        std::thread::sleep(every);
    }
    Ok(())
}

/// A page of its own, with enough words to be one.
pub fn page(title: &str) -> String {
    super::whole::server::Reply::page(title).2
}

/// A whole answer: status line, header lines, body.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: text/html; charset=utf-8\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
