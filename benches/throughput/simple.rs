//! Half of the work: only fetching, and only writing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::contender::Stage;
use crate::support::copy::{self, Encoder};
use crate::support::payments::{Payment, payment};
use crate::support::servers::connect;
use crate::support::{Result, Run};

const BATCH: u64 = 20_000;

/// Fetches every record with one consumer, and does nothing with it.
pub(crate) async fn consume(stage: &Stage) -> Result<Run> {
    let (bootstrap, topic) = (stage.servers.kafka.bootstrap().to_owned(), stage.topic.clone());
    let (partitions, records) = (stage.partitions, stage.records);
    tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("group.id", "consume")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(&topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let (mut count, mut bytes, mut first) = (0, 0, None);
        while count < records {
            let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
            bytes += message?.payload_len();
            first.get_or_insert_with(Instant::now);
            count += 1;
        }
        std::hint::black_box(bytes);
        let first = first.unwrap_or(began);
        Ok(Run { startup: first - began, elapsed: first.elapsed(), records, commits: None })
    })
    .await?
}

/// Writes rows that were encoded before, over one connection.
pub(crate) async fn copy(stage: &Stage) -> Result<Run> {
    let batches = encoded(stage.records, u64::try_from(stage.partitions)?)?;
    let began = Instant::now();
    let client = connect(stage.servers.database.url()).await?;
    let statement = client.prepare(&copy::statement("scores")).await?;
    let first = Instant::now();
    for batch in batches {
        let (_, sink) = tokio::try_join!(client.batch_execute("BEGIN"), client.copy_in(&statement))?;
        let mut sink = Box::pin(sink);
        for chunk in batch {
            sink.as_mut().send(chunk).await?;
        }
        sink.as_mut().finish().await?;
        client.batch_execute("COMMIT").await?;
    }
    Ok(Run { startup: first - began, elapsed: first.elapsed(), records: stage.records, commits: None })
}

/// The rows of all payments, as chunks of one COPY per batch.
fn encoded(records: u64, partitions: u64) -> Result<Vec<Vec<Bytes>>> {
    let mut batches = Vec::new();
    for start in (0..records).step_by(usize::try_from(BATCH)?) {
        let (mut encoder, mut chunks) = (Encoder::new(), Vec::new());
        for number in start..records.min(start + BATCH) {
            let json = payment(number);
            let decoded: Payment<'_> = serde_json::from_str(&json)?;
            let (partition, offset) =
                (i32::try_from(number % partitions)?, i64::try_from(number / partitions)?);
            chunks.extend(encoder.row(&decoded, partition, offset));
        }
        chunks.push(encoder.finish());
        batches.push(chunks);
    }
    Ok(batches)
}
