//! A proxy before Postgres that can lose a COMMIT, or its answer.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_postgres::config::Host;

/// What the proxy does to the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server carries it out; the client sees its connection close instead of an answer.
    Answer,
    /// The server never sees it and goes on waiting, in the transaction and with its locks; the client sees its
    /// connection close.
    Commit,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) url: String,
    shared: Arc<Shared>,
    done: watch::Receiver<usize>,
    listener: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: (String, u16),
    armed: Mutex<VecDeque<Cut>>,
    done: watch::Sender<usize>,
    /// Server sides whose client is gone: kept open, as by a network that lost the client.
    half_open: Mutex<Vec<OwnedWriteHalf>>,
}

impl Proxy {
    /// Before the server that `url` names.
    pub(crate) async fn start(url: &str) -> io::Result<Self> {
        let config: tokio_postgres::Config = url.parse().expect("a Postgres URL");
        let [Host::Tcp(host)] = config.get_hosts() else { panic!("one host: {url}") };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (from, to) = (config.get_ports()[0], listener.local_addr()?.port());
        let (sender, done) = watch::channel(0);
        let shared = Arc::new(Shared {
            upstream: (host.clone(), from),
            armed: Mutex::default(),
            done: sender,
            half_open: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // An error is a connection that one side has closed: nothing to report.
                tokio::spawn(async move { shared.serve(client).await });
            }
        });
        let url = url.replacen(&format!("{host}:{from}/"), &format!("127.0.0.1:{to}/"), 1);
        Ok(Self { url, shared, done, listener })
    }

    /// Cuts the next COMMIT, on whichever connection; returns when it is done.
    pub(crate) async fn cut(&self, cut: Cut) {
        let mut done = self.done.clone();
        let before = *done.borrow_and_update();
        self.shared.armed.lock().expect("no panic under the lock").push_back(cut);
        let waited = tokio::time::timeout(super::PATIENCE, done.wait_for(|now| *now > before)).await;
        waited.expect("no COMMIT came by").expect("the proxy runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Shared {
    async fn serve(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect((self.upstream.0.as_str(), self.upstream.1)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let muted = Arc::new(AtomicBool::new(false));
        let answers = tokio::spawn(answers(from_server, to_client, Arc::clone(&muted)));
        // The first message has no type; after it, each is a type, a length that counts itself, and a body.
        let mut typed = false;
        loop {
            let mut head = [0; 5];
            let head = if typed { &mut head[..] } else { &mut head[..4] };
            from_client.read_exact(head).await?;
            let size: [u8; 4] = head[head.len() - 4..].try_into().expect("four bytes");
            let mut body = vec![0; u32::from_be_bytes(size) as usize - 4];
            from_client.read_exact(&mut body).await?;
            let is_commit = typed && head[0] == b'Q' && body == b"COMMIT\0";
            let cut = if is_commit {
                self.armed.lock().expect("no panic under the lock").pop_front()
            } else {
                None
            };
            if cut == Some(Cut::Commit) {
                answers.abort();
                let _ = answers.await;
                self.half_open.lock().expect("no panic under the lock").push(to_server);
                break;
            }
            muted.store(cut.is_some(), Ordering::SeqCst);
            to_server.write_all(&[&*head, &body].concat()).await?;
            if cut.is_some() {
                // Ends with the answer, which it keeps to itself.
                let _ = answers.await;
                break;
            }
            typed = true;
        }
        drop(from_client);
        self.done.send_modify(|done| *done += 1);
        Ok(())
    }
}

/// What the server says, up to and without its first word after it was muted.
async fn answers(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    muted: Arc<AtomicBool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from_server.read(&mut buffer).await?;
        if read == 0 || muted.load(Ordering::SeqCst) {
            return Ok(());
        }
        to_client.write_all(&buffer[..read]).await?;
    }
}
