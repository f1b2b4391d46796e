//! What it costs to be watched: `append` in a process of its own, alone, with its metrics scraped, and with traces.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater::PartialConfig;
use highwater::testing::Child;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::contender::Stage;
use crate::support::member::Group;
use crate::support::{Result, Run, process, sink, worker};

/// Makes this program the process that is watched, and says how many records it applies.
const RECORDS: &str = "HIGHWATER_TEST_BENCH_WATCHED";
/// How often the metrics are asked for.
const SCRAPED: Duration = Duration::from_secs(1);
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a process is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Not at all: no admin server, no traces.
    No,
    /// Its metrics are scraped every second.
    Scraped,
    /// … and one batch in a hundred is traced, to a collector.
    Traced,
    /// … and every batch is.
    AllTraced,
}

impl Watched {
    fn sampled(self) -> Option<&'static str> {
        match self {
            Self::No | Self::Scraped => None,
            Self::Traced => Some("0.01"),
            Self::AllTraced => Some("1"),
        }
    }
}

/// Runs as that process, if the environment says so.
pub(crate) fn played() -> Option<ExitCode> {
    let records = std::env::var(RECORDS).ok()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    Some(match runtime.block_on(drain(&records)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:?}");
            ExitCode::FAILURE
        }
    })
}

async fn drain(records: &str) -> Result {
    let logs = highwater::log::Options::default().service("bench").init()?;
    let run = worker::drain(PartialConfig::from_env()?, sink::append(), records.parse()?).await?;
    logs.shutdown().await;
    let (startup, elapsed) = (run.startup.as_nanos(), run.elapsed.as_nanos());
    let (commits, cpu) = (run.commits.unwrap_or_default(), process::own_cpu().as_nanos());
    println!("drained {startup} {elapsed} {commits} {cpu}");
    Ok(())
}

/// One run, and the CPU time of its process.
pub(crate) async fn run(stage: &Stage, watched: Watched) -> Result<(Run, Duration)> {
    let group = Group::new(&stage.servers, &stage.topic, &[("LOG", "warn")]);
    let mut command = group.command()?;
    command.env(RECORDS, stage.records.to_string());
    let mut collector = None;
    if let Some(sampled) = watched.sampled() {
        let started = Collector::start().await?;
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &started.endpoint);
        command.env("OTEL_TRACES_SAMPLER", "traceidratio").env("OTEL_TRACES_SAMPLER_ARG", sampled);
        collector = Some(started);
    }
    let mut scraper = None;
    if watched != Watched::No {
        // Nobody else takes it within a moment.
        let address = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
        command.env("HIGHWATER_ADMIN_ADDRESS", address.to_string());
        scraper = Some(Scraper::start(address));
    }
    let child = Child::spawn("watched", &command)?;
    if child.wait(PATIENCE).await? != 0 {
        return Err(format!("the process has ended badly; it wrote:\n{child}").into());
    }
    if scraper.is_some_and(|scraper| scraper.pages() == 0) {
        return Err("the metrics were never scraped: take more --records".into());
    }
    if watched == Watched::AllTraced && collector.is_some_and(|collector| collector.bytes() == 0) {
        return Err("no span has come".into());
    }
    let line = child.stdout();
    let line = line.lines().find_map(|line| line.strip_prefix("drained "));
    let figures = line.ok_or("the process has not said how long it took")?.split(' ').map(str::parse::<u64>);
    let [startup, elapsed, commits, cpu] = figures.collect::<Result<Vec<_>, _>>()?[..] else {
        return Err("the process has not said all".into());
    };
    let (startup, elapsed) = (Duration::from_nanos(startup), Duration::from_nanos(elapsed));
    let run = Run { startup, elapsed, records: stage.records, commits: Some(commits) };
    Ok((run, Duration::from_nanos(cpu)))
}

/// Asks for the metrics every second, as Prometheus does, until it is dropped.
struct Scraper {
    pages: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Scraper {
    fn start(address: SocketAddr) -> Self {
        let pages = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&pages);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SCRAPED);
            loop {
                ticks.tick().await;
                // Before its beginning and after its end there is nobody.
                if scrape(address).await.is_ok_and(|page| page.contains("highwater_records_applied_total")) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { pages, _task: AbortOnDropHandle::new(task) }
    }

    fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }
}

async fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// As much of an OpenTelemetry collector as takes spans, and throws them away.
struct Collector {
    endpoint: String,
    bytes: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let bytes = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move { take(stream, &count).await });
            }
        });
        Ok(Self { endpoint, bytes, _task: AbortOnDropHandle::new(task) })
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Request after request, until the other side leaves.
async fn take(mut stream: TcpStream, count: &AtomicUsize) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length = text.split("\r\ncontent-length: ").nth(1)?.split("\r\n").next()?;
        let length: usize = length.parse().ok()?;
        while bytes.len() < head + length {
            (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        }
        count.fetch_add(length, Ordering::Relaxed);
        bytes.drain(..head + length);
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
