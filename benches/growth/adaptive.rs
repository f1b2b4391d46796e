//! How large batches are while a stream is calm, while a backlog is worked off, and after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater::testing::unique;
use highwater::{Batch, Handler, HandlerError, Phase, Tx, Worker};

use crate::support::handler::Scores;
use crate::support::load::Load;
use crate::support::payments::{Contents, Sender, payment};
use crate::support::servers::Servers;
use crate::support::stats::{float, thousands};
use crate::support::{Result, plot, table, worker};

const PARTITIONS: i32 = 6;
/// Records a second, all the time.
const CALM: u64 = 3_000;
/// Records on top, as fast as a producer on the same machine can send them.
const BACKLOG: u64 = 600_000;
/// Its first payment: keys that the steady stream does not use.
const FIRST: u64 = 1 << 40;
/// Before they come.
const CALM_FOR: Duration = Duration::from_secs(4);
const BUCKET_MS: u128 = 500;
const BUCKETS: usize = 32;

/// When each batch was begun, and of how many records.
type Sizes = Arc<Mutex<Vec<(Instant, usize)>>>;

struct Watched {
    scores: Scores,
    sizes: Sizes,
}

impl Handler for Watched {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let entry = (Instant::now(), batch.len());
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.scores.handle(batch, tx).await
    }
}

pub(crate) async fn measure(servers: &Servers, plots: bool) -> Result {
    let topic = unique("payments");
    servers.kafka.create_topic(&topic, PARTITIONS).await?;
    table::fresh(&servers.client, PARTITIONS).await?;
    let sizes = Sizes::default();
    let handler = Watched { scores: Scores::into("scores"), sizes: Arc::clone(&sizes) };
    let settings = worker::settings(servers, &topic);
    let worker = Worker::builder().ignore_environment().settings(settings).build(handler)?.spawn();
    worker.subscribe().wait_for(|status| status.ready && status.phase == Phase::Running).await?;

    let load = Load::start(servers.kafka.bootstrap(), &topic, PARTITIONS, CALM)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    tokio::time::sleep(CALM_FOR).await;
    backlog(servers, &topic).await?;
    let watched = Duration::from_millis(u64::try_from(BUCKET_MS)?) * u32::try_from(BUCKETS)?;
    tokio::time::sleep(watched.saturating_sub(began.elapsed())).await;
    let calm = load.finish().await?;
    let produced = calm + BACKLOG;
    let patience = Instant::now();
    while worker.status().counters.applied_records < produced {
        if patience.elapsed() > Duration::from_secs(60) {
            return Err(format!("not everything was applied: {:?}", worker.status()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    worker.stop().await?;
    let ends = servers.ends(&topic, PARTITIONS).await?;
    table::verify_offsets(&servers.client, "scores", produced, &ends).await?;
    let mut expected = Contents::default();
    (0..calm).chain(FIRST..FIRST + BACKLOG).for_each(|number| expected.add(number));
    table::verify_contents(&servers.client, "scores", expected).await?;

    let mut buckets = vec![(0_u64, 0_u64); BUCKETS];
    for (at, records) in sizes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let Some(since) = at.checked_duration_since(began) else { continue };
        if let Some(bucket) = buckets.get_mut(usize::try_from(since.as_millis() / BUCKET_MS)?) {
            *bucket = (bucket.0 + 1, bucket.1 + u64::try_from(*records)?);
        }
    }
    println!("\n{CALM} records a second; after 4 s a backlog of {BACKLOG} comes on top\n");
    println!("| second | batches | records a batch, on average |\n|---|---|---|");
    let mut means = Vec::new();
    for (number, (batches, records)) in (0_u64..).zip(&buckets) {
        // Where none was begun, the last one is still under way.
        let mean = match batches {
            0 => means.last().copied().unwrap_or_default(),
            batches => float(*records) / float(*batches),
        };
        println!("| {:.1} | {batches} | {} |", float(number) / 2.0, thousands(mean));
        means.push(mean);
    }
    if plots {
        let labels: Vec<_> = (0..BUCKETS)
            .map(|bucket| if bucket % 2 == 0 { (bucket / 2).to_string() } else { String::new() })
            .collect();
        let title = "Batches grow with the backlog, and shrink when it is gone";
        let series = [("records a batch, mean of half a second".to_owned(), means)];
        plot::save("growth-adaptive", &plot::lines(title, "records a batch", "second", &labels, &series))?;
    }
    Ok(())
}

async fn backlog(servers: &Servers, topic: &str) -> Result {
    let sender = Sender::new(servers.kafka.bootstrap(), &[("linger.ms", "20")])?;
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        for (number, partition) in (0..BACKLOG).zip((0..PARTITIONS).cycle()) {
            sender.send(&topic, partition, payment(FIRST + number).as_bytes())?;
        }
        sender.finish(BACKLOG)
    })
    .await?
}
