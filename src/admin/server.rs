//! The server of a worker's own: one port.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::server::{self, Limits};

const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(5),
    life: Duration::from_secs(60),
    write: Duration::from_secs(30),
    grace: Duration::from_millis(250),
};

/// A port that is open, and not yet answered.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Opens the port.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let opened = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>(Self { listener, address })
        };
        opened.await.map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::AddrInUse => "another process listens there",
                std::io::ErrorKind::AddrNotAvailable => "the address is none of this machine's",
                std::io::ErrorKind::PermissionDenied => "this process may not listen there",
                _ => "the system refuses it",
            };
            let text =
                format!("could not open the admin server at {address} (setting `admin_address`): {why}; choose another");
            Error::new(ErrorKind::Configuration, text).with_source(error)
        })
    }

    /// Where it is, with the port that the system has chosen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    pub(crate) fn serve(self, monitor: Monitor) -> Serving {
        self.serve_router(super::router(monitor))
    }

    /// Answers with these paths.
    pub(crate) fn serve_router(self, router: Router) -> Serving {
        let stop = CancellationToken::new();
        tracing::info!(address = %self.address, "the admin server listens");
        let task =
            AbortOnDropHandle::new(tokio::spawn(server::run(self.listener, router, stop.clone(), LIMITS)));
        Serving { stop, task }
    }
}

/// A server at work. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Serving {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Serving {
    /// Ends within [`Limits::grace`], whatever clients do.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn anywhere() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn it_ends_in_time_whatever_clients_do() {
        let listening = Listening::open(anywhere()).await.unwrap();
        let address = listening.address();
        let router = Router::new().route("/never", get(std::future::pending::<()>));
        let serving = listening.serve_router(router);
        let mut clients = Vec::new();
        for sent in ["", "GET /nev", "GET /never HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            clients.push(client);
        }
        // Behind the others: all of them have their place.
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404"));
        let began = Instant::now();
        serving.end().await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn the_paths_fit_into_another_server() {
        let router = Router::new()
            .route("/", get(|| async { "mine" }))
            .nest("/worker", crate::admin::router(monitor()));
        let listening = Listening::open(anywhere()).await.unwrap();
        let address = listening.address();
        let serving = listening.serve_router(router);
        assert!(ask(address, "/").await.ends_with("mine"));
        assert!(ask(address, "/worker/livez").await.ends_with("live\n"));
        let ready = ask(address, "/worker/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("not ready: starting\n"), "{ready}");
        assert!(ask(address, "/worker/metrics").await.contains("highwater_build_info{version="));
        assert!(ask(address, "/worker/status").await.contains("\"phase\":\"starting\""));
        serving.end().await;
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_said() {
        let first = Listening::open(anywhere()).await.unwrap();
        let error = Listening::open(first.address()).await.unwrap_err();
        assert!(error.to_string().contains("another process listens there"), "{error}");
    }

    /// A worker that has not begun.
    fn monitor() -> Monitor {
        let settings = crate::PartialConfig::default()
            .brokers(vec!["a:9092".to_owned()])
            .postgres_url("postgres://db/app")
            .group("g")
            .topics(vec!["t".to_owned()]);
        let builder = crate::Worker::builder().ignore_environment().settings(settings);
        builder.build(crate::handler_fn(|_, _| Box::pin(async { Ok(()) }))).unwrap().monitor()
    }

    crate::fuzz::fuzz!(
        /// Whatever a client sends, what it gets is HTTP, and the connection ends when it leaves.
        any_request_is_answered_or_cut_off,
        &[
            "GET ", "POST ", "HEAD ", "/", "/livez", "/readyz", "/status", "/metrics", "?", "%00", "%2e%2e/", "..", " HTTP/1.1",
            " HTTP/1.0", "\r\n", "\r\n\r\n", "Host: x\r\n", "Content-Length: ", "5", "Transfer-Encoding: chunked\r\n",
            "Accept: application/openmetrics-text;q=0.5", "Connection: close\r\n", ",", ";version=1.0.0", "Expect: 100-continue\r\n",
        ],
        |bytes| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = runtime.block_on(async {
                let router = crate::admin::router(monitor());
                let (mut client, server) = tokio::io::duplex(1 << 20);
                let served = server::http(LIMITS.head)
                    .serve_connection(TokioIo::new(server), TowerToHyperService::new(router));
                let asked = async {
                    client.write_all(bytes).await.unwrap();
                    client.shutdown().await.unwrap();
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).await.unwrap();
                    answer
                };
                let both = async { tokio::join!(served, asked).1 };
                tokio::time::timeout(LIMITS.head / 2, both).await.expect("nobody waits for a client who has left")
            });
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
        }
    );
}
