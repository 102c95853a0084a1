//! What is reached and how: HTTP/2 over TLS, IPv6, and what the settings leave out.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, Version};

use super::servers::{Server, answer, page};
use super::tls::TlsServer;
use super::whole::Tidemill;

/// By URL, what became of it: `indexed`, or the class of its failure.
fn fates(settings: &str, urls: &[String]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tidemill.toml"), format!("[fetch]\ndelay = '0s'\n{settings}")).unwrap();
    let fate = |url: &String| {
        let report = Tidemill::new(dir.path()).run_with(&["run", "-", "--json", "--force"], url.as_bytes()).json();
        match report["outcomes"].as_array().unwrap().iter().find(|o| o["outcome"] == "dead_lettered") {
            Some(dead) => dead["class"].as_str().unwrap().to_owned(),
            None => format!("indexed {}", report["indexed"]),
        }
    };
    urls.iter().map(fate).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_over_tls_is_spoken_to_whom_the_authority_knows() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let answer = |path: &str| {
        let response = Response::builder().header("content-type", "text/html");
        let response = if path == "/heads" { response.header("x-long", "x".repeat(40_000)) } else { response };
        let status = if path == "/robots.txt" { 404 } else { 200 };
        response.status(status).body(Full::new(Bytes::from(page(path)))).unwrap()
    };
    let both = TlsServer::start("127.0.0.1:0", &ca, &["h2", "http/1.1"], answer).await;
    let port = both.address.port();
    let url = |path: &str| format!("https://tls.test:{port}{path}");
    let reach = "allow_addresses = ['127.0.0.1/32']\nresolve = { 'tls.test' = '127.0.0.1' }\n";
    let trusted = format!("{reach}ca_file = '{}'\n", ca.display());
    let run = async |settings: String, urls: Vec<String>| {
        tokio::task::spawn_blocking(move || fates(&settings, &urls)).await.unwrap()
    };
    let fates = run(trusted.clone(), vec![url("/page"), url("/heads")]).await;
    assert_eq!(fates, ["indexed 1", "indexed 1"]);
    let requests = std::mem::take(&mut *both.requests.lock().unwrap());
    assert!(requests.iter().all(|(_, version)| *version == Version::HTTP_2), "{requests:?}");
    assert!(requests.iter().any(|(path, _)| path == "/page"));

    assert_eq!(run(format!("{trusted}max_header_bytes = '8KiB'\n"), vec![url("/heads")]).await, ["too-large"]);
    assert_eq!(run(format!("{trusted}schemes = ['http']\n"), vec![url("/page")]).await, ["blocked-address"]);
    assert_eq!(run(format!("{trusted}ports = [443, 8443]\n"), vec![url("/page")]).await, ["blocked-address"]);
    assert_eq!(run(format!("{trusted}ports = [{port}]\n"), vec![url("/page")]).await, ["indexed 1"]);
    assert_eq!(run(reach.to_owned(), vec![url("/page")]).await, ["tls"]);
    let none = format!("{reach}ca_file = '/dev/null'\n");
    let ended = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tidemill.toml"), format!("[fetch]\n{none}")).unwrap();
        Tidemill::new(dir.path()).run_with(&["run", "-"], b"https://tls.test/")
    });
    let ended = ended.await.unwrap();
    assert!(ended.code != Some(0) && ended.stderr.contains("/dev/null: there is no certificate"), "{ended:?}");

    let old = TlsServer::start("127.0.0.1:0", &ca, &["http/1.1"], answer).await;
    let settings = format!("{reach}ca_file = '{}'\n", ca.display());
    let url = format!("https://tls.test:{}/page", old.address.port());
    assert_eq!(run(settings, vec![url]).await, ["indexed 1"]);
    assert!(old.requests.lock().unwrap().iter().all(|(_, version)| *version == Version::HTTP_11));
}

#[test]
fn a_host_of_ipv6_is_reached_if_it_is_allowed() {
    // A page a host: the same twice would be a duplicate.
    let conduct = |s: &mut std::net::TcpStream, head: &str| {
        let host = head.lines().find(|l| l.to_ascii_lowercase().starts_with("host:")).unwrap_or_default();
        std::io::Write::write_all(s, &answer(200, "", page(host).as_bytes()))
    };
    let server = Server::start_at("[::1]:0", false, Box::new(conduct));
    let named = format!("http://six.test:{}/page", server.address.port());
    let urls = [server.url(), named];
    let resolve = "resolve = { 'six.test' = '::1' }\n";
    assert_eq!(fates(&format!("{resolve}allow_addresses = ['::1/128']\n"), &urls), ["indexed 1", "indexed 1"]);
    assert_eq!(server.requests.lock().unwrap().len(), 2);
    assert_eq!(fates(resolve, &urls), ["blocked-address", "blocked-address"]);
    assert_eq!(server.requests.lock().unwrap().len(), 2, "nobody came");
}

#[test]
fn the_ratio_of_a_body_is_a_setting() {
    let zipped = zstd::encode_all(format!("{}{}", page("zeros"), " ".repeat(4 << 20)).as_bytes(), 3).unwrap();
    let zipped = answer(200, "Content-Encoding: zstd\r\n", &zipped);
    let server = Server::start(false, Box::new(move |s, _| std::io::Write::write_all(s, &zipped)));
    let reach = "allow_addresses = ['127.0.0.1/32']\n";
    assert_eq!(fates(reach, &[server.url()]), ["bomb"]);
    assert_eq!(fates(&format!("{reach}max_ratio = 100000\n"), &[server.url()]), ["indexed 1"]);
}
