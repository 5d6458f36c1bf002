//! A chdb-server as a child process, and a small HTTP client that shows what is on the wire.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ponix_stack::{Process, eventually};
use tempfile::TempDir;
use tokio::net::TcpStream;

const START_TIMEOUT: Duration = Duration::from_mins(1);
const PROGRAM: &str = env!("CARGO_BIN_EXE_chdb-server");

/// A running server; killed when dropped, its data with it.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) data: TempDir,
    address: String,
}

/// What came back for a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The body ended without HTTP's own end.
    pub(crate) cut: bool,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: u32) {
        assert_eq!(
            self.header("x-clickhouse-exception-code"),
            code.to_string(),
            "{}",
            self.text()
        );
        assert!(
            self.text()
                .starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{}",
            self.text()
        );
    }
}

/// Starts a server, or says why the test is skipped: without libchdb there is nothing to test.
macro_rules! server_or_skip {
    ($($argument:expr),*) => {
        match crate::server::Server::start(&[$($argument),*]).await {
            Some(server) => server,
            None => return,
        }
    };
}
pub(crate) use server_or_skip;

impl Server {
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        let data = TempDir::new().unwrap();
        let mut builder = Process::builder("chdb-server", PROGRAM)
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data.path().join("data"))
            .args(arguments);
        if let Some(library) = std::env::var_os("PONIX_LIBCHDB") {
            builder = builder.env("PONIX_LIBCHDB", library);
        }
        let process = builder.start().unwrap();
        let mut server = Self {
            process,
            data,
            address: String::new(),
        };
        server.wait_until_ready().await.then_some(server)
    }

    /// Waits for the address in the log of the newest start; `false` if libchdb is not there.
    pub(crate) async fn wait_until_ready(&mut self) -> bool {
        let starts = usize::try_from(self.process.starts()).unwrap();
        let address = eventually("the server listens", START_TIMEOUT, async || {
            let log = self.process.log().unwrap();
            if log.contains("libchdb was not found") {
                return Ok(None);
            }
            let addresses: Vec<_> = log.match_indices("address=").collect();
            match addresses.get(starts - 1) {
                Some((at, name)) => {
                    let rest = &log[at + name.len()..];
                    rest.find(char::is_whitespace)
                        .map(|end| Some(rest[..end].to_owned()))
                        .ok_or_else(|| log.clone())
                }
                None => Err(log),
            }
        })
        .await
        .unwrap();
        if let Some(address) = address {
            self.address = address;
            return true;
        }
        eprintln!("skipped: libchdb was not found; set PONIX_LIBCHDB or run scripts/setup");
        false
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn data_folder(&self) -> PathBuf {
        self.data.path().join("data")
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        parameters: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/?{query}"))
            .header("host", &self.address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body.into())).unwrap())
            .await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let (parts, mut incoming) = sender.send_request(request).await.unwrap().into_parts();
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else {
                cut = true;
                break;
            };
            body.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
            cut,
        }
    }

    pub(crate) async fn post(&self, parameters: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        self.request(Method::POST, parameters, &[], body).await
    }

    /// Runs a statement that must succeed; returns its result without the last line end.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.post(&[], statement.to_owned()).await;
            assert_eq!(
                reply.status,
                StatusCode::OK,
                "{statement}: {} at {caller}",
                reply.text()
            );
            assert!(!reply.cut, "{statement}: {} at {caller}", reply.text());
            reply.text().trim_end_matches('\n').to_owned()
        }
    }
}
