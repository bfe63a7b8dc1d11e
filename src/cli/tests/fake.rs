//! A server that says what a test wants, and remembers what it was asked.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// `GET /api/v1/node?user=alice`.
    pub(super) line: String,
    pub(super) body: String,
    pub(super) idempotency_key: Option<String>,
    pub(super) authorization: Option<String>,
}

type Answers = Arc<dyn Fn(&Asked) -> (u16, String) + Send + Sync>;

pub(super) struct Fake {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// `http://127.0.0.1:PORT`.
    pub(super) url: String,
    // Ends with the test: its listeners and connections go with it.
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    /// Answers by this function, at a socket and a TCP port.
    pub(super) fn new(answers: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Answers = Arc::new(answers);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = {
            let _guard = runtime.enter();
            let unix = UnixListener::bind(dir.path().join("s")).unwrap();
            let std_tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std_tcp.set_nonblocking(true).unwrap();
            let tcp = TcpListener::from_std(std_tcp).unwrap();
            let url = format!("http://{}", tcp.local_addr().unwrap());
            let (a, b) = (answers.clone(), asked.clone());
            runtime.spawn(async move {
                while let Ok((stream, _)) = unix.accept().await {
                    tokio::spawn(serve(stream, a.clone(), b.clone()));
                }
            });
            let (a, b) = (answers, asked.clone());
            runtime.spawn(async move {
                while let Ok((stream, _)) = tcp.accept().await {
                    tokio::spawn(serve(stream, a.clone(), b.clone()));
                }
            });
            url
        };
        Self { dir, asked, url, _runtime: runtime }
    }

    /// Always says this.
    pub(super) fn saying(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self::new(move |_| (status, body.clone()))
    }

    /// Refuses everything with this detail.
    pub(super) fn refusing(status: u16, detail: &str) -> Self {
        let body = serde_json::json!({ "title": "no", "status": status, "detail": detail });
        Self::saying(status, body.to_string())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path().join("s")
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only thing that was asked.
    pub(super) fn asked_once(&self) -> Asked {
        let [asked] = self.asked().try_into().expect("one request");
        asked
    }
}

async fn serve<S>(stream: S, answers: Answers, asked: Arc<Mutex<Vec<Asked>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (answers, asked) = (answers.clone(), asked.clone());
        async move {
            let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let mut ask = Asked {
                line: format!("{} {}", request.method(), request.uri()),
                body: String::new(),
                idempotency_key: header("idempotency-key"),
                authorization: header("authorization"),
            };
            let body = request.into_body().collect().await?.to_bytes();
            ask.body = String::from_utf8_lossy(&body).into_owned();
            asked.lock().unwrap().push(ask.clone());
            let (status, body) = answers(&ask);
            let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
            Ok::<_, hyper::Error>(response.expect("a response"))
        }
    });
    // A client that goes away is its own affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
