//! The hand-written ceiling: a loop with neither group nor fence nor retry, as an expert would write it for speed.
//!
//! Two threads, each with a consumer of its own that was assigned half of the partitions, and a connection of its own.
//! A batch is read, and its rows and offsets are committed in one transaction: BEGIN and COPY in one round trip, the
//! chunks while the next records are decoded, the offsets and COMMIT in the last. Whatever goes wrong ends the program.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use highwater::tokio_postgres::{Client, CopyInSink, Statement};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::copy::{self, Encoder};
use super::payments::Payment;
use super::servers::connect;
use super::{Result, Run};

/// How many threads, consumers and connections.
const CONNECTIONS: i32 = 2;

/// How the loop writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// COPY as the records come, encoded while they are read.
    Append,
    /// COPY with the rows of a batch sorted by the table's key: index pages are visited one after the other.
    Sorted,
    /// COPY into a staging table, and a merge from there.
    Merge,
}

/// What the loop is to do.
#[derive(Debug, Clone)]
pub(crate) struct Bare {
    pub(crate) bootstrap: String,
    pub(crate) url: String,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// How many records each partition holds.
    pub(crate) records: Vec<i64>,
    pub(crate) batch: usize,
    pub(crate) mode: Mode,
    /// How long a batch waits for more after its first record; none waits until it is full or all is read.
    pub(crate) linger: Option<Duration>,
}

impl Bare {
    /// Reads and writes everything.
    ///
    /// # Errors
    /// When anything fails.
    pub(crate) async fn drain(self) -> Result<Run> {
        let began = Instant::now();
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let bare = self.clone();
                tokio::task::spawn_blocking(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    runtime.block_on(bare.thread(number))
                })
            })
            .collect();
        let (mut first, mut last) = (None::<Instant>, began);
        for thread in threads {
            let (started, ended) = thread.await??;
            first = Some(first.map_or(started, |first| first.min(started)));
            last = last.max(ended);
        }
        let first = first.unwrap_or(last);
        let records = u64::try_from(self.records.iter().sum::<i64>())?;
        Ok(Run { startup: first - began, elapsed: last - first, records, commits: None })
    }

    /// One thread's share; gives the moments of the first record and of the last commit.
    async fn thread(self, number: i32) -> Result<(Instant, Instant)> {
        let mine: Vec<i32> =
            (0..self.partitions).filter(|partition| partition % CONNECTIONS == number).collect();
        let client = connect(&self.url).await?;
        let writer = Writer::new(client, self.mode).await?;
        let mut positions = Positions::new(&mine, &self.records);
        let consumer = self.consumer(&mine)?;
        let mut first = None;
        while !positions.at_end() {
            if self.mode == Mode::Sorted || self.linger.is_some() {
                let batch = Collected::read(&consumer, &self, &mut positions, &mut first)?;
                let mut sink = writer.begin().await?;
                let mut encoder = Encoder::new();
                for (payment, partition, offset) in batch.rows(self.mode == Mode::Sorted)? {
                    if let Some(chunk) = encoder.row(&payment, partition, offset) {
                        sink.as_mut().send(chunk).await?;
                    }
                }
                sink.as_mut().send(encoder.finish()).await?;
                sink.as_mut().finish().await?;
            } else {
                let mut sink = writer.begin().await?;
                let mut encoder = Encoder::new();
                let mut rows = 0;
                while rows < self.batch && !positions.at_end() {
                    let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
                    first.get_or_insert_with(Instant::now);
                    let message = message?;
                    let (partition, offset) = (message.partition(), message.offset());
                    let payment: Payment<'_> = serde_json::from_slice(message.payload().unwrap_or_default())?;
                    if let Some(chunk) = encoder.row(&payment, partition, offset) {
                        sink.as_mut().send(chunk).await?;
                    }
                    positions.advance(partition, offset);
                    rows += 1;
                }
                sink.as_mut().send(encoder.finish()).await?;
                sink.as_mut().finish().await?;
            }
            writer.commit(&positions).await?;
        }
        let ended = Instant::now();
        Ok((first.unwrap_or(ended), ended))
    }

    fn consumer(&self, partitions: &[i32]) -> Result<BaseConsumer> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "bare")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.max.bytes", "16777216")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&self.topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(consumer)
    }
}

/// Where each partition of a thread stands, and where it ends.
struct Positions {
    /// By partition: the next offset, and the end; unused where the partition is another thread's.
    partitions: Vec<(i64, i64)>,
    mine: Vec<i32>,
    left: i64,
}

impl Positions {
    fn new(mine: &[i32], records: &[i64]) -> Self {
        let partitions: Vec<(i64, i64)> = records.iter().map(|end| (0, *end)).collect();
        let left = mine.iter().filter_map(|partition| records.get(usize::try_from(*partition).ok()?)).sum();
        Self { partitions, mine: mine.to_vec(), left }
    }

    fn at_end(&self) -> bool {
        self.left <= 0
    }

    fn advance(&mut self, partition: i32, offset: i64) {
        if let Some(position) =
            usize::try_from(partition).ok().and_then(|index| self.partitions.get_mut(index))
        {
            position.0 = offset + 1;
            self.left -= 1;
        }
    }

    fn values(&self) -> String {
        let value = |partition: &i32| {
            let next = usize::try_from(*partition).map_or(0, |index| self.partitions[index].0);
            format!("({partition}, {next})")
        };
        self.mine.iter().map(value).collect::<Vec<_>>().join(", ")
    }
}

/// A batch that was read as a whole: payloads one after the other, decoded when all are there.
struct Collected {
    arena: Vec<u8>,
    /// Where each payload ends, with its partition and offset.
    records: Vec<(usize, i32, i64)>,
}

impl Collected {
    fn read(
        consumer: &BaseConsumer,
        bare: &Bare,
        positions: &mut Positions,
        first: &mut Option<Instant>,
    ) -> Result<Self> {
        // Of a lingering loop the batches are small, and their size is not known.
        let expected = if bare.linger.is_some() { 0 } else { bare.batch };
        let mut collected =
            Self { arena: Vec::with_capacity(expected * 256), records: Vec::with_capacity(expected) };
        let mut until: Option<Instant> = None;
        while collected.records.len() < bare.batch && !positions.at_end() {
            let wait =
                until.map_or(Duration::from_secs(1), |until| until.saturating_duration_since(Instant::now()));
            let Some(message) = consumer.poll(wait) else {
                if until.is_some_and(|until| until <= Instant::now()) {
                    break;
                }
                continue;
            };
            let now = Instant::now();
            first.get_or_insert(now);
            if let (None, Some(linger)) = (until, bare.linger) {
                until = Some(now + linger);
            }
            let message = message?;
            collected.arena.extend_from_slice(message.payload().unwrap_or_default());
            collected.records.push((collected.arena.len(), message.partition(), message.offset()));
            positions.advance(message.partition(), message.offset());
        }
        Ok(collected)
    }

    fn rows(&self, sorted: bool) -> Result<Vec<(Payment<'_>, i32, i64)>> {
        let mut rows = Vec::with_capacity(self.records.len());
        let mut start = 0;
        for &(end, partition, offset) in &self.records {
            rows.push((serde_json::from_slice(&self.arena[start..end])?, partition, offset));
            start = end;
        }
        if sorted {
            rows.sort_unstable_by(|(a, ..): &(Payment<'_>, _, _), (b, ..)| {
                (a.merchant_id, a.tx_id).cmp(&(b.merchant_id, b.tx_id))
            });
        }
        Ok(rows)
    }
}

/// A connection with what it prepared.
struct Writer {
    client: Client,
    copy: Statement,
    merge: Option<Statement>,
}

/// Keys that come twice in a batch: the last one wins, so that the statement touches no row twice.
const MERGE: &str = "
    INSERT INTO scores SELECT DISTINCT ON (merchant_id, tx_id) * FROM staging
    ORDER BY merchant_id, tx_id, source_partition, source_offset DESC
    ON CONFLICT (merchant_id, tx_id) DO UPDATE SET score = EXCLUDED.score,
        source_partition = EXCLUDED.source_partition, source_offset = EXCLUDED.source_offset";

impl Writer {
    async fn new(client: Client, mode: Mode) -> Result<Self> {
        if mode == Mode::Merge {
            client
                .batch_execute("CREATE TEMPORARY TABLE staging (LIKE scores) ON COMMIT DELETE ROWS")
                .await?;
            let copy = client.prepare(&copy::statement("staging")).await?;
            let merge = Some(client.prepare(MERGE).await?);
            return Ok(Self { client, copy, merge });
        }
        let copy = client.prepare(&copy::statement("scores")).await?;
        Ok(Self { client, copy, merge: None })
    }

    async fn begin(&self) -> Result<std::pin::Pin<Box<CopyInSink<Bytes>>>> {
        let (_, sink) =
            tokio::try_join!(self.client.batch_execute("BEGIN"), self.client.copy_in(&self.copy))?;
        Ok(Box::pin(sink))
    }

    async fn commit(&self, positions: &Positions) -> Result {
        let offsets = format!(
            "UPDATE bare_offset SET next_offset = v.next_offset FROM (VALUES {}) AS v(partition, next_offset) \
             WHERE bare_offset.partition = v.partition; COMMIT",
            positions.values()
        );
        match &self.merge {
            None => self.client.batch_execute(&offsets).await?,
            Some(merge) => {
                let merge = async { self.client.execute(merge, &[]).await };
                tokio::try_join!(merge, self.client.batch_execute(&offsets))?;
            }
        }
        Ok(())
    }
}
