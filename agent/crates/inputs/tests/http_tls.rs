//! The HTTP input over TLS: a sender that trusts its certificate is answered, plain HTTP is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod http_support;

use std::path::PathBuf;
use std::sync::Arc;

use http_support::Server;
use inputs::http::HttpConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use seglog::sim::SimDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/http_support/tls").join(name)
}

#[tokio::test]
async fn a_request_over_tls_is_taken_and_a_plain_one_is_not() {
    let config = HttpConfig {
        cert_file: Some(file("cert.pem")),
        key_file: Some(file("key.pem")),
        ..HttpConfig::default()
    };
    let server = Server::with(SimDisk::new(1), config, |_| {}).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream
        .write_all(b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nm v=1")
        .await
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    let mut plain = server.connect().await;
    plain.send("POST", "/write", &[], b"m v=2").await;
    let mut rest = Vec::new();
    let _ = plain.stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "{rest:?}");
    let refused = server.door.rejects.list();
    assert!(refused.len() == 1 && refused[0].reason.contains("the TLS handshake failed"), "{refused:?}");
    assert_eq!(server.samples().len(), 1);
}

#[tokio::test]
async fn a_certificate_file_that_is_none_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = HttpConfig {
        cert_file: Some(file("key.pem")),
        key_file: Some(file("missing")),
        ..HttpConfig::default()
    };
    let server = Server::start().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let error =
        inputs::http::run_on(listener, config, server.door.clone(), stop).await.unwrap_err().to_string();
    assert!(error.contains("cert_file"), "{error}");
}
