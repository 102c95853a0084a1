//! A server of HTTP/2 and 1.1 behind TLS, whose certificate an authority of the test's own signed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The server; it goes with the runtime it was started in.
pub struct TlsServer {
    pub address: SocketAddr,
    /// Path and version of each request.
    pub requests: Arc<Mutex<Vec<(String, Version)>>>,
}

impl TlsServer {
    /// At this address, for the name `tls.test`; the authority's certificate is written to `ca`. `protocols`: as ALPN has
    /// them.
    pub async fn start(
        at: &str,
        ca: &Path,
        protocols: &[&str],
        answer: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> TlsServer {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(ca, issuer.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["tls.test".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let _already = rustls::crypto::ring::default_provider().install_default();
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(vec![]));
        let (noted, answer) = (Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, noted, answer) = (acceptor.clone(), Arc::clone(&noted), Arc::clone(&answer));
                tokio::spawn(async move {
                    // A client that does not trust us is no matter.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request: Request<Incoming>| {
                        let path = request.uri().path().to_owned();
                        let answered = answer(&path);
                        noted.lock().unwrap().push((path, request.version()));
                        std::future::ready(Ok::<_, Infallible>(answered))
                    });
                    let server = Builder::new(TokioExecutor::new());
                    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        TlsServer { address, requests }
    }
}
