//! A registry that answers what a test tells it to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) at: Instant,
}

/// What is said to it, and after how long.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) after: Duration,
}

type Answers = dyn Fn(&Asked) -> Answer + Send + Sync;

/// Answers until the process ends.
pub(super) struct Stub {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Arc<Answers>>>,
}

impl Answer {
    pub(super) fn schema(kind: &str, schema: &str) -> Self {
        Self {
            status: 200,
            body: json!({ "schemaType": kind, "schema": schema }).to_string(),
            after: Duration::ZERO,
        }
    }

    /// As registries say it.
    pub(super) fn unknown() -> Self {
        let body = json!({ "error_code": 40403, "message": "Schema not found" }).to_string();
        Self { status: 404, body, after: Duration::ZERO }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, body: "no".to_owned(), after: Duration::ZERO }
    }

    pub(super) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// An address where nobody listens.
pub(super) fn nowhere() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port")
}

impl Stub {
    pub(super) fn start(answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answers)
    }

    pub(super) fn start_at(
        address: SocketAddr,
        answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stub = Self { url, asked: Arc::default(), answers: Arc::new(Mutex::new(Arc::new(answers))) };
        let (asked, answers) = (Arc::clone(&stub.asked), Arc::clone(&stub.answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
                // Who asks may have gone.
                std::thread::spawn(move || serve(stream, &asked, &answers));
            }
        });
        stub
    }

    /// From now on it answers so.
    pub(super) fn now(&self, answers: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answers);
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    answers: &Mutex<Arc<Answers>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let path = lines.next().transpose()?.unwrap_or_default();
    let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut authorization = String::new();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if let Some(("Authorization", shown)) = line.split_once(": ") {
            shown.clone_into(&mut authorization);
        }
    }
    let question = Asked { path, authorization, at: Instant::now() };
    let answers = Arc::clone(&answers.lock().unwrap_or_else(PoisonError::into_inner));
    let Answer { status, body, after } = answers(&question);
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(question);
    std::thread::sleep(after);
    let head = format!(
        "HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}
