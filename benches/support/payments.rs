//! The records: payments of 220 bytes, whose keys come in no order, as those of real payments do.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater::testing::{Kafka, quiet_client_config};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use serde::Deserialize;

use super::Result;

const MERCHANTS: u64 = 5_000;

/// A payment as it stands in the topic, borrowed from the record: what the sink needs of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Payment<'a> {
    pub(crate) tx_id: &'a str,
    pub(crate) merchant_id: &'a str,
    amount_cents: i64,
}

impl Payment<'_> {
    /// A stand-in for a model, cheap on purpose: the sink is measured, not the model.
    pub(crate) fn score(&self) -> f64 {
        let thousands = f64::from(i32::try_from(self.amount_cents / 1_000).unwrap_or(i32::MAX));
        1.0 - 1.0 / (1.0 + thousands / 100.0)
    }
}

/// Payment `number` as JSON: always the same one, 220 bytes, with a key that no other has.
pub(crate) fn payment(number: u64) -> String {
    let random = scrambled(number);
    let (merchant, amount) = (random % MERCHANTS, 100 + scrambled(random) % 250_000);
    let terminal = random >> 40;
    let mut json = format!(
        r#"{{"tx_id":"tx-{random:016x}","merchant_id":"m-{merchant:06}","account":"acc-{:08}","amount_cents":{amount},"currency":"EUR","card":"4000 00** **** 0002","country":"PT","channel":"point-of-sale","terminal":"t-{terminal:08}"#,
        number % 60_000_000,
    );
    // Amounts and terminals differ in length; the last field makes up for it.
    while json.len() < 218 {
        json.push('0');
    }
    json.push_str("\"}");
    json
}

/// How a payment stands in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Avro,
    Protobuf,
    /// As a change event in JSON, without Connect's schema.
    Debezium,
}

/// The fields of [`payment`], in its order; the one that is a number is `amount_cents`.
const FIELDS: [&str; 9] =
    ["tx_id", "merchant_id", "account", "amount_cents", "currency", "card", "country", "channel", "terminal"];

/// The schema of [`Form::Avro`].
pub(crate) fn avro_schema() -> String {
    let kind = |name: &str| if name == "amount_cents" { "long" } else { "string" };
    let fields = FIELDS.map(|name| format!(r#"{{"name":"{name}","type":"{}"}}"#, kind(name)));
    format!(r#"{{"type":"record","name":"Payment","fields":[{}]}}"#, fields.join(","))
}

/// The schema of [`Form::Protobuf`].
pub(crate) fn protobuf_schema() -> String {
    let kind = |name: &str| if name == "amount_cents" { "int64" } else { "string" };
    let fields = FIELDS.iter().zip(1..).map(|(name, number)| format!("{} {name} = {number};", kind(name)));
    format!("syntax = \"proto3\"; message Payment {{ {} }}", fields.collect::<String>())
}

/// The same payment in another form.
fn formed(number: u64, form: Form) -> Result<Vec<u8>> {
    let json = payment(number);
    if form == Form::Json {
        return Ok(json.into_bytes());
    }
    if form == Form::Debezium {
        let source = r#"{"version":"3.3.0.Final","connector":"postgresql","name":"dbz","ts_ms":1790000000000,"db":"shop","schema":"public","table":"payments","lsn":24023128}"#;
        return Ok(format!(
            r#"{{"before":null,"after":{json},"source":{source},"op":"c","ts_ms":1790000000001,"transaction":null}}"#
        )
        .into_bytes());
    }
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json)?;
    let mut bytes = Vec::new();
    for (name, tag) in FIELDS.into_iter().zip(1_u64..) {
        let value = &fields[name];
        match (value.as_str(), form) {
            (Some(text), Form::Avro) => {
                varint(u64::try_from(text.len())? << 1, &mut bytes);
                bytes.extend_from_slice(text.as_bytes());
            }
            (Some(text), _) => {
                varint(tag << 3 | 2, &mut bytes);
                varint(u64::try_from(text.len())?, &mut bytes);
                bytes.extend_from_slice(text.as_bytes());
            }
            (None, Form::Avro) => varint(value.as_u64().unwrap_or(0) << 1, &mut bytes),
            (None, _) => {
                varint(tag << 3, &mut bytes);
                varint(value.as_u64().unwrap_or(0), &mut bytes);
            }
        }
    }
    Ok(bytes)
}

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// What the rows of some payments come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Contents {
    /// All transaction ids' numbers, combined by exclusive or.
    pub(crate) transactions: u64,
    /// The sum of all merchants' numbers.
    pub(crate) merchants: u64,
    /// The sum of all scores.
    pub(crate) scores: f64,
}

impl Contents {
    /// Adds payment `number`.
    pub(crate) fn add(&mut self, number: u64) {
        self.add_scored(number, |payment| payment.score());
    }

    /// Adds payment `number`, whose amount is its score.
    pub(crate) fn add_amount(&mut self, number: u64) {
        self.add_scored(number, |payment| payment.amount_cents as f64);
    }

    fn add_scored(&mut self, number: u64, score: fn(&Payment<'_>) -> f64) {
        let random = scrambled(number);
        let amount_cents = i64::try_from(100 + scrambled(random) % 250_000).unwrap_or(0);
        self.transactions ^= random;
        self.merchants += random % MERCHANTS;
        self.scores += score(&Payment { tx_id: "", merchant_id: "", amount_cents });
    }
}

/// A bijection of 64-bit numbers that looks like chance (SplitMix64), so that keys are unique and unordered.
fn scrambled(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Creates `topic` and sends payments `0..count` to it, evenly over its partitions; returns when the broker has
/// acknowledged all of them.
///
/// # Errors
/// When the broker refuses something.
pub(crate) async fn produce(
    kafka: &Kafka,
    topic: &str,
    partitions: i32,
    count: u64,
    compression: &str,
) -> Result {
    produce_as(Form::Json, kafka, topic, partitions, count, compression).await
}

/// As [`produce`], in a form.
///
/// # Errors
/// As there.
pub(crate) async fn produce_as(
    form: Form,
    kafka: &Kafka,
    topic: &str,
    partitions: i32,
    count: u64,
    compression: &str,
) -> Result {
    kafka.create_topic(topic, partitions).await?;
    let producer = Sender::new(kafka.bootstrap(), &[("compression.type", compression), ("linger.ms", "20")])?;
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        for (number, partition) in (0..count).zip((0..partitions).cycle()) {
            producer.send(&topic, partition, &formed(number, form)?)?;
        }
        producer.finish(count)
    })
    .await?
}

/// A producer that counts what was acknowledged.
pub(crate) struct Sender {
    client: ThreadedProducer<Acknowledged>,
}

impl Sender {
    pub(crate) fn new(bootstrap: &str, properties: &[(&str, &str)]) -> Result<Self> {
        let mut config = quiet_client_config(bootstrap);
        config.set("enable.idempotence", "true").set("queue.buffering.max.messages", "500000");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let context = Acknowledged::default();
        let client = ThreadedProducer::<_, NoCustomPartitioner>::from_config_and_context(&config, context)?;
        Ok(Self { client })
    }

    /// Hands a record to the client; waits while its queue is full.
    pub(crate) fn send(&self, topic: &str, partition: i32, payload: &[u8]) -> Result {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload);
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Waits until all `count` records sent are acknowledged.
    pub(crate) fn finish(self, count: u64) -> Result {
        self.client.flush(Duration::from_secs(120))?;
        let context = self.client.context();
        if let Some(failure) = context.failure.lock().expect("no holder panics").take() {
            return Err(format!("a record was not delivered: {failure}").into());
        }
        let acknowledged = context.acknowledged.load(Ordering::Relaxed);
        if acknowledged == count {
            Ok(())
        } else {
            Err(format!("{count} records were sent, {acknowledged} acknowledged").into())
        }
    }
}

#[derive(Default)]
struct Acknowledged {
    acknowledged: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => _ = self.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => *self.failure.lock().expect("no holder panics") = Some(error.to_string()),
        }
    }
}
