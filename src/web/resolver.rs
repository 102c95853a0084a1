//! From a name to addresses that may be reached: overrides first, then the system's resolver, then
//! the [`Guard`], whose word is the last in either case.

use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use crate::web::guard::{Blocked, Guard};

/// How long an answer is used again. Short, since the system's resolver hides the real TTL.
const FOUND_TTL: Duration = Duration::from_secs(60);

/// How long a failure is: long enough for a burst of URLs of a host that does not exist, shorter
/// than the first retry.
const FAILED_TTL: Duration = Duration::from_secs(5);

/// Longest lookup. The system may try for minutes when name servers are silent, and the record that
/// asked has a deadline of its own.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// Names kept in each of the cache's two generations.
const CACHED_NAMES: usize = 8_192;

/// A name without an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no address found for host \"{host}\": {cause}")]
pub struct DnsError {
    /// In lower case, without a trailing dot.
    pub host: String,
    /// The system's own words.
    pub cause: String,
}

/// The nearest error of type `E` in the chain that begins with `error`: finds [`Blocked`] or
/// [`DnsError`] inside a `reqwest::Error`.
pub fn find_cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source` of an I/O error leaves out the very error it carries.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(carried) = carried {
            let carried: &(dyn Error + 'static) = carried;
            if let Some(found) = find_cause(carried) {
                return Some(found);
            }
        }
        next = error.source();
    }
    None
}

type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// A resolver for `reqwest::ClientBuilder::dns_resolver`. Cheap to clone; clones share the cache.
///
/// A request fails with [`Blocked`] when every address of its host is refused, with [`DnsError`]
/// when it has none; [`find_cause`] tells which.
#[derive(Clone)]
pub struct GuardedResolver {
    guard: Guard,
    overrides: Arc<HashMap<String, Vec<IpAddr>>>,
    cache: Arc<Mutex<Cache>>,
    lookup: Lookup,
    lookup_timeout: Duration,
}

impl GuardedResolver {
    /// `overrides` are pairs of a host and its address, as for `curl --resolve`: an exact name, or
    /// `*.suffix` for every name below `suffix` (the longest suffix wins, an exact name over all).
    /// One host may have several. An override says where a host is, not that the place may be
    /// reached: an address that the guard refuses needs to be allowed there.
    pub fn new(guard: Guard, overrides: impl IntoIterator<Item = (String, IpAddr)>) -> Self {
        let system: Lookup = Arc::new(|host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok(found.map(|addr| addr.ip()).collect())
            })
        });
        Self::with_lookup(guard, overrides, system)
    }

    fn with_lookup(guard: Guard, overrides: impl IntoIterator<Item = (String, IpAddr)>, lookup: Lookup) -> Self {
        let mut by_host: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (host, addr) in overrides {
            by_host.entry(canonical(&host)).or_default().push(addr);
        }
        Self { guard, overrides: Arc::new(by_host), cache: Arc::default(), lookup, lookup_timeout: LOOKUP_TIMEOUT }
    }

    /// Addresses of `host` that may be reached, at least one.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>> {
        let host = canonical(host);
        let mut found = match self.overridden(&host) {
            Some(found) => found.to_vec(),
            None => self.looked_up(&host).await?,
        };
        let mut refused = None;
        found.retain(|addr| match self.guard.check(*addr) {
            Ok(()) => true,
            Err(blocked) => {
                refused.get_or_insert(blocked);
                false
            }
        });
        match refused {
            Some(blocked) if found.is_empty() => Err(Box::<Blocked>::new(blocked)),
            _ => Ok(found),
        }
    }

    fn overridden(&self, host: &str) -> Option<&[IpAddr]> {
        let mut suffix = host;
        let exact = self.overrides.get(host);
        let found = exact.or_else(|| {
            while let Some((_, parent)) = suffix.split_once('.') {
                suffix = parent;
                if let Some(found) = self.overrides.get(&format!("*.{parent}")) {
                    return Some(found);
                }
            }
            None
        });
        found.map(Vec::as_slice)
    }

    async fn looked_up(&self, host: &str) -> Answer {
        if let Some(answer) = self.cache().get(host, Instant::now()) {
            return answer;
        }
        let failed = |cause: String| DnsError { host: host.to_owned(), cause };
        let lookup = (self.lookup)(host.to_owned());
        let answer = match tokio::time::timeout(self.lookup_timeout, lookup).await {
            Ok(Ok(found)) if found.is_empty() => Err(failed("the answer is empty".to_owned())),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {:?}", self.lookup_timeout))),
        };
        self.cache().put(host, answer.clone(), Instant::now());
        answer
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // No code that can panic runs under this lock, and any state of a cache is a valid one.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            // Port 0: the client puts in the URL's.
            let addrs = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addrs) as Addrs)
        })
    }
}

/// Names are compared in lower case and without the root's dot.
fn canonical(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

type Answer = Result<Vec<IpAddr>, DnsError>;

/// Answers in two generations: a full young one replaces the old, so that the cache is bounded and
/// no eviction ever walks it.
#[derive(Default)]
struct Cache {
    young: HashMap<String, (Instant, Answer)>,
    old: HashMap<String, (Instant, Answer)>,
}

impl Cache {
    fn get(&self, host: &str, now: Instant) -> Option<Answer> {
        let (until, answer) = self.young.get(host).or_else(|| self.old.get(host))?;
        (*until > now).then(|| answer.clone())
    }

    fn put(&mut self, host: &str, answer: Answer, now: Instant) {
        if self.young.len() >= CACHED_NAMES {
            self.old = std::mem::take(&mut self.young);
        }
        let ttl = if answer.is_ok() { FOUND_TTL } else { FAILED_TTL };
        self.young.insert(host.to_owned(), (now + ttl, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Knows two names and counts its calls.
    fn resolver(allow: &[&str], overrides: &[(&str, &str)]) -> (GuardedResolver, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let lookup: Lookup = Arc::new(move |host| {
            counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match host.as_str() {
                    "mixed.example" => Ok(vec![ip("10.0.0.1"), ip("8.8.8.8"), ip("::1")]),
                    "inside.example" => Ok(vec![ip("10.0.0.1"), ip("127.0.0.1")]),
                    "empty.example" => Ok(vec![]),
                    "slow.example" => std::future::pending().await,
                    _ => Err(std::io::Error::other("unknown name")),
                }
            })
        });
        let guard = Guard::new(allow.iter().map(|net| net.parse().unwrap()).collect());
        let overrides = overrides.iter().map(|(host, addr)| (host.to_string(), ip(addr)));
        (GuardedResolver::with_lookup(guard, overrides, lookup), calls)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn refused_addresses_are_dropped() {
        let (resolver, _) = resolver(&[], &[]);
        assert_eq!(resolver.addresses("Mixed.Example.").await.unwrap(), [ip("8.8.8.8")]);
        let error = resolver.addresses("inside.example").await.unwrap_err();
        assert_eq!(find_cause::<Blocked>(&*error).unwrap().addr, ip("10.0.0.1"));
        assert!(find_cause::<DnsError>(&*error).is_none());
    }

    #[tokio::test]
    async fn no_address_is_another_error() {
        let (mut resolver, _) = resolver(&[], &[]);
        resolver.lookup_timeout = Duration::from_millis(20);
        for host in ["nowhere.example", "empty.example", "slow.example"] {
            let error = resolver.addresses(host).await.unwrap_err();
            assert_eq!(find_cause::<DnsError>(&*error).unwrap().host, host);
            assert!(find_cause::<Blocked>(&*error).is_none());
        }
    }

    #[tokio::test]
    async fn overrides_come_first_and_obey_the_guard() {
        let overrides = [
            ("mixed.example", "9.9.9.9"),
            ("*.a.example", "9.9.9.1"),
            ("*.b.a.example", "9.9.9.2"),
            ("x.b.a.example", "9.9.9.3"),
            ("*.local.example", "127.0.0.1"),
        ];
        let (resolver, calls) = resolver(&[], &overrides);
        for (host, addr) in [
            ("mixed.example", "9.9.9.9"),
            ("c.a.example", "9.9.9.1"),
            ("C.D.A.example", "9.9.9.1"),
            ("c.b.a.example", "9.9.9.2"),
            ("x.b.a.example", "9.9.9.3"),
        ] {
            assert_eq!(resolver.addresses(host).await.unwrap(), [ip(addr)], "{host}");
        }
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert!(resolver.addresses("a.example").await.is_err(), "not below itself");
        let error = resolver.addresses("x.local.example").await.unwrap_err();
        assert!(find_cause::<Blocked>(&*error).is_some());
    }

    #[tokio::test]
    async fn answers_are_used_again() {
        let (resolver, calls) = resolver(&[], &[]);
        for (host, expected) in
            [("mixed.example", 1), ("MIXED.example", 1), ("nowhere.example", 2), ("nowhere.example", 2)]
        {
            let _ = resolver.addresses(host).await;
            assert_eq!(calls.load(Ordering::Relaxed), expected, "{host}");
        }
    }

    #[test]
    fn answers_expire_failures_sooner() {
        let mut cache = Cache::default();
        let now = Instant::now();
        let failure = DnsError { host: "b".to_owned(), cause: "unknown".to_owned() };
        cache.put("a", Ok(vec![ip("8.8.8.8")]), now);
        cache.put("b", Err(failure.clone()), now);
        let at = |host, seconds| cache.get(host, now + Duration::from_secs(seconds));
        assert_eq!(at("a", 59), Some(Ok(vec![ip("8.8.8.8")])));
        assert_eq!(at("a", 60), None);
        assert_eq!(at("b", 4), Some(Err(failure)));
        assert_eq!(at("b", 5), None);
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Cache::default();
        let now = Instant::now();
        for i in 0..5 * CACHED_NAMES {
            cache.put(&i.to_string(), Ok(vec![]), now);
        }
        assert!(cache.young.len() + cache.old.len() <= 2 * CACHED_NAMES);
        assert!(cache.get(&(5 * CACHED_NAMES - 1).to_string(), now).is_some());
    }

    /// A name server on a socket: the question back, with one A record that lives for no second.
    async fn name_server(answers: Arc<Mutex<[u8; 4]>>) -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let mut answer = packet[..length].to_vec();
                // A response without error, of one question and one answer.
                answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(*answers.lock().unwrap());
                let _gone = socket.send_to(&answer, from).await;
            }
        });
        address
    }

    /// Asks a name server for the A record of a name.
    async fn ask(server: SocketAddr, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
        let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in host.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.as_bytes());
        }
        question.extend([0, 0, 1, 0, 1]);
        socket.send_to(&question, server).await?;
        let mut packet = [0; 512];
        let (length, _) = socket.recv_from(&mut packet).await?;
        let [.., a, b, c, d] = packet[..length] else { return Ok(vec![]) };
        Ok(vec![IpAddr::from([a, b, c, d])])
    }

    /// A name that is public when it is looked at and private when it is fetched: each connection's own lookup decides.
    #[tokio::test]
    async fn a_name_that_moves_to_a_refused_address_is_not_followed() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let [good, inside] = [[127, 0, 0, 1], [127, 0, 0, 2]];
        let answers = Arc::new(Mutex::new(good));
        let names = name_server(Arc::clone(&answers)).await;
        let lookup: Lookup = Arc::new(move |host| Box::pin(async move { ask(names, &host).await }));
        // 127.0.0.1 stands for what is public; its neighbour is as private as ever.
        let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let resolver = GuardedResolver::with_lookup(guard, [], lookup);
        let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = builder.dns_resolver(Arc::new(resolver.clone())).build().unwrap();
        // Both addresses are the server's.
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let url = format!("http://rebind.example:{}/", listener.local_addr().unwrap().port());
        let reached = Arc::new(Mutex::new(vec![]));
        let noted = Arc::clone(&reached);
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut socket, _)) = listener.accept().await {
                noted.lock().unwrap().push(socket.local_addr().unwrap().ip());
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            }
        });
        assert_eq!(client.get(&url).send().await.unwrap().status(), 204);
        *answers.lock().unwrap() = inside;
        // Within the minute an answer is used again: the address that was judged is the one that is called.
        assert_eq!(client.get(&url).send().await.unwrap().status(), 204);
        *resolver.cache() = Cache::default();
        let error = client.get(&url).send().await.unwrap_err();
        assert_eq!(find_cause::<Blocked>(&error).unwrap().addr, IpAddr::from(inside));
        assert_eq!(*reached.lock().unwrap(), [IpAddr::from(good); 2], "nobody came to the other");
    }

    /// The types survive the way through hyper and reqwest.
    #[tokio::test]
    async fn causes_are_found_inside_reqwest_errors() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (resolver, _) = resolver(&["127.0.0.1/32"], &[("here.example", "127.0.0.1")]);
        let client = reqwest::Client::builder().no_proxy().dns_resolver(Arc::new(resolver)).build().unwrap();
        let get = async |url: &str| client.get(url).send().await;
        let error = get("http://nowhere.example/").await.unwrap_err();
        assert_eq!(find_cause::<DnsError>(&error).unwrap().host, "nowhere.example");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        });
        let answer = get(&format!("http://here.example:{port}/")).await.unwrap();
        assert_eq!(answer.status(), 204);

        let (resolver, _) = self::resolver(&[], &[]);
        let client = reqwest::Client::builder().no_proxy().dns_resolver(Arc::new(resolver)).build().unwrap();
        let error = client.get("http://inside.example/").send().await.unwrap_err();
        assert_eq!(find_cause::<Blocked>(&error).unwrap().why, "private network (RFC 1918)");
    }
}
