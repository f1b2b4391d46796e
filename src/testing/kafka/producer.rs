//! Producers that keep a ledger of what the broker acknowledged.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Message as _, Statistics,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer},
};

use super::client::{Quiet, quiet_client_config};
use crate::testing::{
    error::{Attempted, Error, Result, blocking},
    ledger::Ledger,
};

/// How long outstanding records may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// A record to be sent: `Message::to("orders").partition(0).key("k").value("v")`.
#[derive(Debug, Clone)]
#[must_use]
pub struct Message {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp_ms: Option<i64>,
}

impl Message {
    /// A record without key and value (a tombstone) for `topic`.
    pub fn to(topic: &str) -> Self {
        let topic = topic.to_owned();
        Self { topic, partition: None, key: None, value: None, headers: Vec::new(), timestamp_ms: None }
    }

    /// Its partition; without it, the key decides.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Its key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Its value.
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Its timestamp in milliseconds since 1970; without it, the time of sending.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// Keeps what the delivery reports say.
#[derive(Debug, Default)]
struct Reports {
    acknowledged: Mutex<Vec<(String, i32, i64)>>,
    failed: Mutex<Vec<String>>,
    /// Where acknowledged records go at once; none for a transactional producer, whose records may be aborted yet.
    ledger: Option<Ledger>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }

    fn stats(&self, _statistics: Statistics) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => match &self.ledger {
                Some(ledger) => ledger.record(message.topic(), message.partition(), message.offset()),
                None => lock(&self.acknowledged).push((
                    message.topic().to_owned(),
                    message.partition(),
                    message.offset(),
                )),
            },
            Err((error, message)) => {
                lock(&self.failed).push(format!("{}/{}: {error}", message.topic(), message.partition()));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Client = ThreadedProducer<Reports, NoCustomPartitioner>;

fn client(bootstrap: &str, settings: &[(&str, &str)], reports: Reports) -> Result<Arc<Client>> {
    let mut config = quiet_client_config(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", "1000000");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    Ok(Arc::new(Client::from_config_and_context(&config, reports)?))
}

fn send(client: &Client, message: &Message) -> Result<()> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &message.headers {
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(&message.topic).headers(headers);
    record.partition = message.partition;
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    record.timestamp = message.timestamp_ms;
    loop {
        match client.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                client.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error).attempted(|| format!("send to topic {}", message.topic)),
        }
    }
}

/// Waits until every record sent was reported on; an error if one of them failed.
async fn flush(client: &Arc<Client>) -> Result<()> {
    let client = Arc::clone(client);
    blocking(move || {
        client.flush(FLUSH_TIMEOUT).attempted(|| "flush a producer".to_owned())?;
        let failed = std::mem::take(&mut *lock(&client.context().failed));
        match failed.first() {
            None => Ok(()),
            Some(first) => {
                Err(Error::new(format!("{} records were not delivered, the first {first}", failed.len())))
            }
        }
    })
    .await
}

/// An idempotent producer. What the broker acknowledged is in its [`Ledger`].
pub struct Producer {
    client: Arc<Client>,
    ledger: Ledger,
}

impl Producer {
    pub(super) fn new(bootstrap: &str) -> Result<Self> {
        let ledger = Ledger::new();
        let reports = Reports { ledger: Some(ledger.clone()), ..Reports::default() };
        Ok(Self { client: client(bootstrap, &[], reports)?, ledger })
    }

    /// Hands a record to the client; waits only while its queue of a million records is full.
    ///
    /// # Errors
    /// When the client refuses the record. A failure to deliver shows at [`Producer::flush`].
    #[expect(clippy::needless_pass_by_value, reason = "callers build the message in place")]
    pub fn send(&self, message: Message) -> Result<()> {
        send(&self.client, &message)
    }

    /// Sends `count` records to each of the partitions `0..partitions`, with key and value from `record`, which is
    /// given the partition and the number within it; then flushes.
    ///
    /// # Errors
    /// As [`Producer::send`] and [`Producer::flush`].
    pub async fn fill(
        &self,
        topic: &str,
        partitions: i32,
        count: usize,
        record: impl Fn(i32, usize) -> (String, String),
    ) -> Result<()> {
        for number in 0..count {
            for partition in 0..partitions {
                let (key, value) = record(partition, number);
                self.send(Message::to(topic).partition(partition).key(key).value(value))?;
            }
        }
        self.flush().await
    }

    /// Waits until the broker has acknowledged everything.
    ///
    /// # Errors
    /// When a record could not be delivered.
    pub async fn flush(&self) -> Result<()> {
        flush(&self.client).await
    }

    /// What the broker has acknowledged so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// A transactional producer. Its records enter the [`Ledger`] when their transaction is committed.
pub struct TransactionalProducer {
    client: Arc<Client>,
    ledger: Ledger,
}

impl TransactionalProducer {
    pub(super) async fn new(bootstrap: &str, transactional_id: &str) -> Result<Self> {
        let settings = [("transactional.id", transactional_id), ("transaction.timeout.ms", "60000")];
        let client = client(bootstrap, &settings, Reports::default())?;
        let producer = Self { client, ledger: Ledger::new() };
        producer.call("initialise transactions", |client| client.init_transactions(FLUSH_TIMEOUT)).await?;
        Ok(producer)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When one is open.
    pub fn begin(&self) -> Result<()> {
        self.client.begin_transaction().attempted(|| "begin a Kafka transaction".to_owned())
    }

    /// As [`Producer::send`], within the open transaction.
    ///
    /// # Errors
    /// When the client refuses the record.
    #[expect(clippy::needless_pass_by_value, reason = "callers build the message in place")]
    pub fn send(&self, message: Message) -> Result<()> {
        send(&self.client, &message)
    }

    /// Waits until the broker has the records of the open transaction, which is then still to be committed.
    ///
    /// # Errors
    /// When a record could not be delivered.
    pub async fn flush(&self) -> Result<()> {
        flush(&self.client).await
    }

    /// Commits: its records enter the ledger.
    ///
    /// # Errors
    /// When a record could not be delivered or the broker refuses.
    pub async fn commit(&self) -> Result<()> {
        self.flush().await?;
        self.call("commit a Kafka transaction", |client| client.commit_transaction(FLUSH_TIMEOUT)).await?;
        for (topic, partition, offset) in lock(&self.client.context().acknowledged).drain(..) {
            self.ledger.record(&topic, partition, offset);
        }
        Ok(())
    }

    /// Aborts. Flushes first, so that the aborted records really are in the log.
    ///
    /// # Errors
    /// When a record could not be delivered or the broker refuses.
    pub async fn abort(&self) -> Result<()> {
        self.flush().await?;
        self.call("abort a Kafka transaction", |client| client.abort_transaction(FLUSH_TIMEOUT)).await?;
        lock(&self.client.context().acknowledged).clear();
        Ok(())
    }

    /// What was committed so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    async fn call(
        &self,
        what: &'static str,
        call: impl FnOnce(&Client) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<()> {
        let client = Arc::clone(&self.client);
        blocking(move || call(&client).attempted(|| what.to_owned())).await
    }
}

impl std::fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalProducer").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}
