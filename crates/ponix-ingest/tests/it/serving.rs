//! TLS, and the end of the service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ponix_ingest::{IngestConfig, ServerConfig, TlsFiles};
use ponix_stack::eventually;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{parse, raw, send};
use crate::support::{Api, SOON, json};

async fn answer(mut stream: impl AsyncRead + Unpin) -> crate::client::Answer {
    let mut text = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    parse(&text)
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/envelopes HTTP/1.1\r\nhost: p\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn connector(certificate: CertificateDer<'static>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn with_a_certificate_only_tls_is_spoken() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = IngestConfig {
        server: ServerConfig {
            tls: Some(TlsFiles {
                cert: write(folder.path(), "cert.pem", &made.cert.pem()),
                key: write(folder.path(), "key.pem", &made.signing_key.serialize_pem()),
            }),
            ..ServerConfig::default()
        },
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    let body = json("a", "{}", "");
    let stream = TcpStream::connect(api.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = connector(made.cert.der().clone());
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = [head(body.len()).as_bytes(), &body].concat();
    stream.write_all(&request).await.unwrap();
    assert_eq!(answer(stream).await.status, 202);
    // Without TLS there is no answer in HTTP.
    let plain = raw(api.addr, &request).await;
    assert!(!plain.contains("HTTP/"), "{plain:?}");
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn a_request_in_work_is_answered_before_the_end() {
    let api = Api::start().await;
    let body = json("a", "{}", "");
    let (first, rest) = body.split_at(10);
    let mut stream = TcpStream::connect(api.addr).await.unwrap();
    let begun = [head(body.len()).as_bytes(), first].concat();
    stream.write_all(&begun).await.unwrap();
    eventually("the request is in work", SOON, async || {
        let metrics = send(api.addr, "GET /metrics", &[], b"").await.body;
        // The other one asks for the metrics.
        anyhow::ensure!(metrics.contains("ponix_ingest_requests_in_flight 2\n"));
        Ok(())
    })
    .await
    .unwrap();
    api.begin_stop();
    eventually("nobody is let in", SOON, async || {
        anyhow::ensure!(TcpStream::connect(api.addr).await.is_err());
        Ok(())
    })
    .await
    .unwrap();
    stream.write_all(rest).await.unwrap();
    assert_eq!(answer(stream).await.status, 202);
    assert_eq!(api.stored().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn a_balancer_has_time_to_see_that_the_end_is_near() {
    let config = IngestConfig {
        server: ServerConfig {
            close_delay: Duration::from_hours(1),
            ..ServerConfig::default()
        },
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    api.begin_stop();
    for _ in 0..20 {
        let answer = send(api.addr, "GET /health", &[], b"").await;
        assert_eq!(answer.status, 200);
    }
}
