//! The server behind a worker's admin port, the exporter and the dashboard: HTTP/1.1, and a limit on everything that a client
//! may do.
//!
//! Not `axum::serve`: it has no limit on connections, nor on the time that one may take, and its end waits for every
//! client. Without it axum needs none of its features.

mod patient;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::patient::Patient;

/// Bytes of a request's head, and how many headers it may have.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// Between two tries to accept, where the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// What clients may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time; further ones wait for a place with the kernel.
    pub(crate) connections: usize,
    /// How long a client may take to send a request's head, or to think of the next one.
    pub(crate) head: Duration,
    /// How long a connection may last, whatever it does: one that reads slowly, or sends a body that nobody asked for, has
    /// its place for no longer. A [stream](Stream) lasts for as long as its client reads.
    pub(crate) life: Duration,
    /// How long a client may read nothing of what it was sent.
    pub(crate) write: Duration,
    /// How long an answer that is under way may take once its connection is to end.
    pub(crate) grace: Duration,
}

/// Which of our addresses a request came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local(pub(crate) SocketAddr);

/// By which an answer says that it has no end of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream(Arc<AtomicBool>);

impl Stream {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves until `stop`, and ends within [`Limits::grace`] of that: what is not answered by then is cut off.
pub(crate) async fn run(listener: TcpListener, router: Router, stop: CancellationToken, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    answer(stream, router, stop, limits).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    // Who has not ended by then is cut off with the set.
    let _ =
        tokio::time::timeout(limits.grace, async { while connections.join_next().await.is_some() {} }).await;
}

/// HTTP with the limits that hold for every connection.
pub(crate) fn http(head: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_headers(HEADERS).max_buf_size(HEAD_BYTES);
    http
}

/// Answers on one connection, until the client leaves, its life is over or the server is to stop.
async fn answer(socket: TcpStream, router: Router, stop: CancellationToken, limits: Limits) {
    let Ok(local) = socket.local_addr() else { return };
    // It would only be slower without.
    let _ = socket.set_nodelay(true);
    let stream = Stream::default();
    let router = router.layer(Extension(Local(local))).layer(Extension(stream.clone()));
    let io = TokioIo::new(Patient::new(socket, limits.write));
    let mut connection = pin!(http(limits.head).serve_connection(io, TowerToHyperService::new(router)));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(limits.life) => {}
    }
    connection.as_mut().graceful_shutdown();
    if stream.0.load(Ordering::Relaxed) {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
        }
    }
    let _ = tokio::time::timeout(limits.grace, connection).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Instant;

    use axum::body::Body;
    use axum::http::Extensions;
    use axum::routing::get;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    const LIMITS: Limits = Limits {
        connections: 4,
        head: Duration::from_secs(60),
        life: Duration::from_millis(300),
        write: Duration::from_millis(400),
        grace: Duration::from_millis(50),
    };
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn endless(extensions: Extensions) -> Body {
        extensions.get::<Stream>().unwrap().begin();
        let chunks = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 256 * 1024])), ()))
        });
        Body::from_stream(chunks)
    }

    async fn served() -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
            .route("/endless", get(endless));
        let stop = CancellationToken::new();
        (address, stop.clone(), tokio::spawn(run(listener, router, stop, LIMITS)))
    }

    async fn asked(address: SocketAddr, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        client
    }

    async fn is_answered(address: SocketAddr) {
        let answered = async {
            let mut client = asked(address, "/").await;
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("a place became free");
    }

    /// They hold all places, and what was made for them, for no longer than a connection's life.
    #[tokio::test]
    async fn clients_that_ask_and_do_not_read_do_not_keep_their_places() {
        let (address, stop, serving) = served().await;
        for path in ["/large", "/endless", "/"] {
            let mut clients = Vec::new();
            for _ in 0..LIMITS.connections {
                clients.push(asked(address, path).await);
            }
            is_answered(address).await;
        }
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_lasts_while_its_client_reads_and_ends_with_the_server() {
        let (address, stop, serving) = served().await;
        let mut client = asked(address, "/endless").await;
        let began = Instant::now();
        let mut buffer = vec![0; 1 << 20];
        while began.elapsed() < 4 * LIMITS.life {
            assert!(client.read(&mut buffer).await.unwrap() > 0, "it was cut off");
        }
        stop.cancel();
        tokio::time::timeout(PATIENCE, serving).await.expect("it ends with its streams").unwrap();
    }
}
