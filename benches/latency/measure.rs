//! One run: a consumer is running, then payments are produced, then the latencies are put together.

use std::time::{Duration, Instant};

use highwater::testing::unique;
use highwater::{Phase, Worker};

use crate::seen::{Looker, latencies};
use crate::support::bare::{Bare, Mode};
use crate::support::handler::Scores;
use crate::support::payments::{Sender, payment};
use crate::support::servers::{Servers, connect};
use crate::support::{Result, table, worker};

const PARTITIONS: i32 = 6;
/// Connections are made, statements prepared, pages read: not counted.
const WARM_UP: Duration = Duration::from_secs(2);

/// Who is measured. The ratio is of the first to the better of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Highwater,
    Bare,
    LingeringBare,
}

/// Where.
pub(crate) struct Stage {
    pub(crate) servers: Servers,
    pub(crate) seconds: Duration,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Highwater, Self::Bare, Self::LingeringBare];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Highwater => "Highwater",
            Self::Bare => "bare",
            Self::LingeringBare => "bare, 20 ms",
        }
    }
}

/// The latencies of all records after the warm-up, in milliseconds.
pub(crate) async fn measure(stage: &Stage, contender: Contender, rate: u64) -> Result<Vec<f64>> {
    let servers = &stage.servers;
    let topic = unique("payments");
    servers.kafka.create_topic(&topic, PARTITIONS).await?;
    table::fresh(&servers.client, PARTITIONS).await?;
    let each = rate * (stage.seconds + WARM_UP).as_secs() / u64::try_from(PARTITIONS)?;
    let looker = connect(servers.database.url()).await?;

    let sent = if contender == Contender::Highwater {
        let settings = worker::settings(servers, &topic);
        let worker =
            Worker::builder().ignore_environment().settings(settings).build(Scores::into("scores"))?.spawn();
        let mut changes = worker.subscribe();
        changes.wait_for(|status| status.ready && status.phase == Phase::Running).await?;
        let sql =
            format!("SELECT partition, next_offset FROM highwater.consumer_offset WHERE topic = '{topic}'");
        let looker = Looker::start(looker, &sql, usize::try_from(PARTITIONS)?).await?;
        let sent = produce(servers, &topic, rate, each).await?;
        while worker.status().counters.applied_records < each * u64::try_from(PARTITIONS)? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seen = finish(looker).await?;
        worker.stop().await?;
        (sent, seen)
    } else {
        let bare = Bare {
            bootstrap: servers.kafka.bootstrap().to_owned(),
            url: servers.database.url().to_owned(),
            topic: topic.clone(),
            partitions: PARTITIONS,
            records: vec![i64::try_from(each)?; usize::try_from(PARTITIONS)?],
            batch: 20_000,
            mode: Mode::Append,
            linger: Some(Duration::from_millis(if contender == Contender::Bare { 0 } else { 20 })),
        };
        let bare = tokio::spawn(bare.drain());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sql = "SELECT partition, next_offset FROM bare_offset";
        let looker = Looker::start(looker, sql, usize::try_from(PARTITIONS)?).await?;
        let sent = produce(servers, &topic, rate, each).await?;
        bare.await??;
        (sent, finish(looker).await?)
    };
    let all = each * u64::try_from(PARTITIONS)?;
    table::verify(&servers.client, all, &vec![i64::try_from(each)?; usize::try_from(PARTITIONS)?]).await?;
    let (sent, seen) = sent;
    let mut counted = Vec::new();
    for (sent, seen) in sent.iter().zip(&seen) {
        let warm = usize::try_from(rate * WARM_UP.as_secs() / u64::try_from(PARTITIONS)?)?;
        counted.extend_from_slice(latencies(sent, seen)?.get(warm..).unwrap_or_default());
    }
    Ok(counted)
}

/// One more look after the last commit.
async fn finish(looker: Looker) -> Result<Vec<Vec<(Instant, i64)>>> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    looker.finish().await
}

/// Sends `each` payments to every partition; gives the moment of each sending, by partition and offset.
async fn produce(servers: &Servers, topic: &str, rate: u64, each: u64) -> Result<Vec<Vec<Instant>>> {
    let sender = Sender::new(servers.kafka.bootstrap(), &[("linger.ms", "1")])?;
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let partitions = usize::try_from(PARTITIONS)?;
        let total = each * u64::try_from(PARTITIONS)?;
        let mut sent = vec![Vec::with_capacity(usize::try_from(each)?); partitions];
        let began = Instant::now();
        let mut number = 0;
        while number < total {
            let due = total.min(u64::try_from(u128::from(rate) * began.elapsed().as_micros() / 1_000_000)?);
            while number < due {
                let partition = usize::try_from(number)? % partitions;
                sent[partition].push(Instant::now());
                sender.send(&topic, i32::try_from(partition)?, payment(number).as_bytes())?;
                number += 1;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        sender.finish(total)?;
        Ok(sent)
    })
    .await?
}
