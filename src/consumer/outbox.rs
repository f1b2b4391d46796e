//! Writing records to a topic, for an export: whole, in order, and only over when brokers have all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext};

use super::Catalog;
use super::context::Context;

/// How long brokers may take for one record; then it is not known whether they have it.
const DELIVERY: Duration = Duration::from_secs(60);
/// Between two looks at the answers while the client's queue is full.
const POLL: Duration = Duration::from_millis(10);
/// What a record may have; the topic decides.
const MAX_RECORD_BYTES: &str = "1000000000";
/// Properties that are no consumer's alone.
const OF_ANY_CLIENT: &[&str] =
    &["bootstrap.", "client.", "security.", "sasl.", "ssl.", "socket.", "broker.", "reconnect.", "metadata."];

/// A record on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// What has not arrived, and how it is told.
#[derive(Default)]
pub(crate) struct Answers(Mutex<Vec<String>>);

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Context.log(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
        }
    }
}

/// The client that writes.
pub(crate) type Sender = BaseProducer<Answers, NoCustomPartitioner>;

/// Writes to one topic.
#[derive(Clone)]
pub(crate) struct Outbox {
    sender: Arc<Sender>,
    topic: Arc<str>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Makes the client of what consumers are made of; connects in the background.
    ///
    /// # Errors
    /// If the properties don't make a client.
    pub(crate) fn outbox(&self, topic: &str) -> Result<Outbox, KafkaError> {
        let of_any = |name: &str| OF_ANY_CLIENT.iter().any(|prefix| name.starts_with(prefix));
        let mut config = self.access().properties_if(of_any);
        config
            .set("enable.idempotence", "true")
            .set("message.max.bytes", MAX_RECORD_BYTES)
            .set("message.timeout.ms", DELIVERY.as_millis().to_string());
        let sender = self.access().sender(&config, Answers::default())?;
        Ok(Outbox { sender: Arc::new(sender), topic: topic.into() })
    }
}

impl Outbox {
    /// Writes them in their order, and waits until brokers have all of them.
    ///
    /// # Errors
    /// In words, if some did not arrive: those before it have, and others may.
    pub(crate) async fn write(&self, records: Vec<Outgoing>) -> Result<(), String> {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write_now(&records)).await;
        written.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn write_now(&self, records: &[Outgoing]) -> Result<(), String> {
        for record in records {
            self.send(record).map_err(|error| error.to_string())?;
        }
        let flushed = self.sender.flush(DELIVERY + POLL);
        let failed =
            std::mem::take(&mut *self.sender.context().0.lock().unwrap_or_else(PoisonError::into_inner));
        match failed.into_iter().next() {
            Some(first) => Err(first),
            None => flushed.map_err(|error| error.to_string()),
        }
    }

    fn send(&self, record: &Outgoing) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let mut outgoing =
            BaseRecord::<[u8], [u8]>::to(&self.topic).partition(record.partition).headers(headers);
        outgoing.key = record.key.as_deref();
        outgoing.payload = record.value.as_deref();
        outgoing.timestamp = record.timestamp_ms;
        loop {
            match self.sender.send(outgoing) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    outgoing = back;
                    self.sender.poll(POLL);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}
