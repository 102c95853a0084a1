//! The fetch stage alone beside a bare reqwest client that reads the same bodies with the same concurrency: pages a second
//! and CPU of each, over plain HTTP, TLS and HTTP/2. The server is a process of its own on the same machine.
//!
//! `cargo bench --bench fetch -- [PAGES] [KIB] [ROUNDS] [ONLY]`: so many pages of so many KiB (20,000 of 20) by each client
//! in each of so many rounds (3), ratios within a round and of them the median; `ONLY` one kind of server: http, https or h2.
//!
//! The stage is measured as it is with the HTTP cache, without it, and with WARC files. Everything else is in force: address
//! guard, robots.txt, breakers, politeness (with a delay of nothing), the host's lease in the store, limits of bodies.

mod pages;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use pages::cpu;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tidemill::config::Config;
use tidemill::engine::{Ctx, Outcome, Stage};
use tidemill::fetch::stage::Fetch;
use tidemill::pipeline;
use tidemill::record::{Headers, Meta, Record, UrlTask, now_ms};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio_rustls::TlsAcceptor;

/// Hosts that the pages are spread over.
const HOSTS: usize = 16;
/// Requests at once.
const AT_ONCE: usize = 64;
/// The kinds of server, and what each speaks as ALPN has it.
const KINDS: [(&str, Option<&str>); 3] = [("http", None), ("https", Some("http/1.1")), ("h2", Some("h2"))];

#[derive(Debug, Clone, Copy, Default)]
struct Course {
    rate: f64,
    /// Microseconds a page.
    cpu: f64,
}

async fn answers<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, body: Bytes) {
    let service = service_fn(|request: Request<Incoming>| {
        let robots = request.uri().path() == "/robots.txt";
        let body = if robots { Bytes::from_static(b"User-agent: *\nDisallow: /no") } else { body.clone() };
        let answer = Response::builder().header("content-type", "text/html; charset=utf-8").header("etag", "\"1\"");
        std::future::ready(answer.body(Full::new(body)))
    });
    let _ended = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A server of each kind; their ports are printed. It ends with its standard input.
async fn serve(kib: usize, ca: &Path) {
    let words: String =
        (0u64..).map(|i| format!("{:x} water and grain ", i.wrapping_mul(0x9e37_79b9))).take(kib * 50).collect();
    let body = Bytes::from(format!("<!doctype html><title>x</title><p>{words}").into_bytes()).slice(..kib << 10);
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(ca, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["*.demo.test".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    for (_, protocol) in KINDS {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let acceptor = protocol.map(|protocol| {
            let builder = rustls::ServerConfig::builder().with_no_client_auth();
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            let mut tls = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
            tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            TlsAcceptor::from(Arc::new(tls))
        });
        let body = body.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _as_any_server_does = stream.set_nodelay(true);
                let (acceptor, body) = (acceptor.clone(), body.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => answers(stream, body).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answers(stream, body).await;
                            }
                        }
                    }
                });
            }
        });
    }
    let _end = tokio::io::stdin().read(&mut [0]).await;
}

/// Makes so many requests at once, each in a task of its own, as the engine does; each tells how many bytes it has read.
async fn course<F>(request: impl Fn(usize) -> F, pages: usize, kib: usize) -> Course
where
    F: Future<Output = usize> + Send + 'static,
{
    let (started, before) = (Instant::now(), cpu());
    let requests = futures::stream::iter((0..pages).map(|i| tokio::spawn(request(i))));
    let read: Vec<usize> = requests.buffer_unordered(AT_ONCE).map(Result::unwrap).collect().await;
    let (wall, used) = (started.elapsed().as_secs_f64(), cpu() - before);
    assert!(read.len() == pages && read.iter().all(|n| *n == kib << 10), "not every body came whole");
    Course { rate: pages as f64 / wall, cpu: used / pages as f64 * 1e6 }
}

fn bare(ca: &Path, port: u16) -> reqwest::Client {
    let authorities = reqwest::Certificate::from_pem_bundle(&std::fs::read(ca).unwrap()).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let mut builder = reqwest::Client::builder().tls_certs_merge(authorities).no_gzip().no_proxy();
    for host in 0..HOSTS {
        builder = builder.resolve(&format!("h{host}.demo.test"), at);
    }
    builder.build().unwrap()
}

async fn stage(ca: &Path, dir: &Path, cached: bool, warc: bool) -> Fetch {
    let mut config = Config { data: dir.to_owned(), ..Config::default() };
    pages::reach(&mut config);
    config.fetch.ca_file = Some(ca.to_owned());
    config.fetch.cache.enabled = cached;
    config.warc.folder = warc.then(|| dir.join("warc"));
    let (store, blobs) = (pipeline::open_store(&config).await.unwrap(), pipeline::open_blobs(&config).await.unwrap());
    Fetch::new(&config, store, blobs).unwrap()
}

async fn round(kind: &str, port: u16, pages: usize, kib: usize, ca: &Path) -> [Course; 4] {
    let scheme = if kind == "http" { "http" } else { "https" };
    let url = |i: usize| format!("{scheme}://h{}.demo.test:{port}/{i}", i % HOSTS);
    let client = bare(ca, port);
    let get = |i| {
        let request = client.get(url(i));
        async {
            let (mut response, mut read) = (request.send().await.unwrap(), 0);
            while let Some(some) = response.chunk().await.unwrap() {
                read += some.len();
            }
            read
        }
    };
    let mut courses = [Course::default(); 4];
    courses[0] = course(get, pages, kib).await;
    let ctx = Arc::new(Ctx::unplaced(Meta::read(&Headers::default(), "bench", 0, 0, now_ms())));
    for (n, (cached, warc)) in [(false, false), (true, false), (false, true)].into_iter().enumerate() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let stage = Arc::new(stage(ca, dir.path(), cached, warc).await);
        let handle = |i| {
            let (task, stage, ctx) = (UrlTask::new(url(i)), Arc::clone(&stage), Arc::clone(&ctx));
            async move {
                let outcome = stage.handle(task, &ctx).await;
                let Outcome::Emit(records) = &outcome else { panic!("{outcome:?}") };
                let [Record::Page(page)] = &records[..] else { panic!("no page") };
                page.body.length as usize
            }
        };
        courses[n + 1] = course(handle, pages, kib).await;
    }
    courses
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, usual: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(usual);
    if args.first().is_some_and(|a| a == "serve") {
        return serve(number(1, 20), Path::new(&args[2])).await;
    }
    let _already = rustls::crypto::ring::default_provider().install_default();
    let (pages, kib, rounds) = (number(0, 20_000), number(1, 20), number(2, 3));
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let mut server = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["serve", &kib.to_string(), ca.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut ports = BTreeMap::new();
    for (kind, _) in KINDS {
        ports.insert(kind, lines.next_line().await.unwrap().unwrap().parse::<u16>().unwrap());
    }
    let names = ["bare reqwest", "the stage", "with its cache", "with WARC files"];
    println!("{pages} pages of {kib} KiB, {AT_ONCE} at once, {HOSTS} hosts; medians of {rounds} rounds");
    for (kind, _) in KINDS.into_iter().filter(|(kind, _)| args.get(3).is_none_or(|only| only == kind)) {
        let mut all = vec![];
        for _ in 0..rounds {
            all.push(round(kind, ports[kind], pages, kib, &ca).await);
        }
        for (n, name) in names.iter().enumerate() {
            let median = |of: fn(&Course) -> f64| {
                let mut ratios: Vec<(f64, f64)> =
                    all.iter().map(|c: &[Course; 4]| (of(&c[n]) / of(&c[0]), of(&c[n]))).collect();
                ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
                ratios[ratios.len() / 2]
            };
            let ((rates, rate), (cpus, cpu)) = (median(|c| c.rate), median(|c| c.cpu));
            println!("{kind:5}  {name:15}  {rate:6.0} pages/s  {rates:4.2}   {cpu:4.0} µs CPU a page  {cpus:4.2}");
        }
    }
}
