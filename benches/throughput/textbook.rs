//! The loop of every tutorial: a record, a row, a commit to Kafka; repeats are hidden by ON CONFLICT.

use std::time::{Duration, Instant};

use highwater::testing::unique;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::{ClientConfig, Message};

use crate::contender::Stage;
use crate::support::payments::Payment;
use crate::support::servers::connect;
use crate::support::{Result, Run};

/// Long enough for a rate, and no longer.
const LONGEST: Duration = Duration::from_secs(8);

const INSERT: &str = "
    INSERT INTO scores (merchant_id, tx_id, score, source_partition, source_offset) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (merchant_id, tx_id) DO UPDATE SET score = EXCLUDED.score,
        source_partition = EXCLUDED.source_partition, source_offset = EXCLUDED.source_offset";

/// Writes the records that come within a few seconds. The statement is prepared, and Kafka's commit is
/// left to the client, which commits once a second what was stored: one request per record would be slower still.
pub(crate) async fn run(stage: &Stage) -> Result<Run> {
    let began = Instant::now();
    let client = connect(stage.servers.database.url()).await?;
    let insert = client.prepare(INSERT).await?;
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", stage.servers.kafka.bootstrap())
        .set("group.id", unique("textbook"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .set("auto.commit.interval.ms", "1000")
        .create()?;
    consumer.subscribe(&[&stage.topic])?;
    let mut first = None;
    let mut records = 0;
    while records < stage.records && first.is_none_or(|first: Instant| first.elapsed() < LONGEST) {
        let message = consumer.recv().await?;
        first.get_or_insert_with(Instant::now);
        let payment: Payment<'_> = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let score = payment.score();
        let (partition, offset) = (message.partition(), message.offset());
        client.execute(&insert, &[&payment.merchant_id, &payment.tx_id, &score, &partition, &offset]).await?;
        consumer.store_offset_from_message(&message)?;
        records += 1;
    }
    let first = first.unwrap_or(began);
    let run = Run { startup: first - began, elapsed: first.elapsed(), records, commits: None };
    // Leaving the group may block.
    tokio::task::spawn_blocking(move || drop(consumer)).await?;
    Ok(run)
}
