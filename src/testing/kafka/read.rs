//! Reading a topic back.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};

use super::{Kafka, client::consumer};
use crate::testing::error::{Attempted, Error, Result, blocking};

/// How long a whole topic may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// A record as it is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Kafka {
    /// Every record of a topic that `read_committed` returns, by partition and offset.
    ///
    /// # Errors
    /// When there is no such topic, or the broker does not answer.
    pub async fn read(&self, topic: &str) -> Result<Vec<ReadRecord>> {
        let partitions = self.partition_count(topic).await?;
        let partitions =
            partitions.ok_or_else(|| Error::new(format!("read topic {topic}: there is none")))?;
        let (bootstrap, topic) = (self.bootstrap.clone(), topic.to_owned());
        blocking(move || read(&bootstrap, &topic, partitions)).await
    }
}

fn read(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<ReadRecord>> {
    let settings = [
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("fetch.wait.max.ms", "20"),
    ];
    let consumer = consumer(bootstrap, &settings)?;
    let mut open: BTreeSet<i32> = (0..partitions).collect();
    let mut assignment = TopicPartitionList::new();
    for &partition in &open {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut records = Vec::new();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push(copied(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) if !is_passing(&error) => {
                return Err(error).attempted(|| format!("read topic {topic}"));
            }
            _ if Instant::now() > deadline => {
                return Err(Error::new(format!(
                    "read topic {topic}: no end of {open:?} within {READ_TIMEOUT:?}"
                )));
            }
            _ => {}
        }
    }
    records.sort_by_key(|record: &ReadRecord| (record.partition, record.offset));
    Ok(records)
}

/// A broker is away, perhaps one of several that is not needed; the client tries again.
fn is_passing(error: &KafkaError) -> bool {
    let away = [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::AllBrokersDown];
    error.rdkafka_error_code().is_some_and(|code| away.contains(&code))
}

fn copied(message: &BorrowedMessage<'_>) -> ReadRecord {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    ReadRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp_ms: message.timestamp().to_millis(),
    }
}
