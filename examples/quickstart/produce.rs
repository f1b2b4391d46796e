//! Payments, and a ledger of those that Kafka acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater::testing::{Ledger, quiet_client_config};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message as _};
use serde_json::json;

use crate::check::{Balances, Expected};
use crate::{Result, TOPIC};

/// How often a handful of payments is sent.
const TICK: Duration = Duration::from_millis(10);
const ACCOUNTS: u64 = 600;
const MERCHANTS: u64 = 97;

/// Sends payments in the background until it is told to stop.
pub(crate) struct Production {
    client: Arc<ThreadedProducer<Acknowledged>>,
    ledger: Ledger,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<u64>>,
}

impl Production {
    /// Starts with `rate` payments a second.
    pub(crate) fn start(bootstrap: &str, rate: u64) -> Result<Self> {
        let mut config = quiet_client_config(bootstrap);
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        let ledger = Ledger::new();
        let context = Acknowledged { ledger: ledger.clone(), ..Acknowledged::default() };
        let client =
            Arc::new(ThreadedProducer::<_, NoCustomPartitioner>::from_config_and_context(&config, context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, stopped) = (Arc::clone(&client), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let (began, mut ticks, mut number) = (Instant::now(), tokio::time::interval(TICK), 0);
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let due = u128::from(rate) * began.elapsed().as_millis() / 1_000;
                while u128::from(number) < due {
                    send(&sender, number)?;
                    number += 1;
                }
            }
            Ok(number)
        });
        Ok(Self { client, ledger, stop, task })
    }

    /// How many payments Kafka has acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.ledger.count(TOPIC)
    }

    /// Stops, waits for the last delivery report, and gives what must be in the tables.
    pub(crate) async fn finish(self) -> Result<Expected> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.task.await??;
        let client = Arc::clone(&self.client);
        tokio::task::spawn_blocking(move || client.flush(Duration::from_secs(60))).await??;
        let context = self.client.context();
        if let Some(failure) = lock(&context.failure).take() {
            return Err(format!("a payment was not delivered, so this run proves nothing: {failure}").into());
        }
        let acknowledged = self.ledger.count(TOPIC);
        if u64::try_from(acknowledged)? != sent {
            return Err(format!("{sent} payments were sent, but {acknowledged} acknowledged").into());
        }
        Ok(Expected { ledger: self.ledger, balances: lock(&context.balances).clone() })
    }
}

/// Account and body of a payment, about 220 bytes.
pub(crate) fn payment(number: u64) -> (String, String) {
    let account = format!("acc-{:05}", number.wrapping_mul(7_919) % ACCOUNTS);
    let payment = json!({
        "tx_id": format!("tx-{number:012}"),
        "merchant_id": format!("m-{:04}", number % MERCHANTS),
        "account": account,
        "amount_cents": 100 + number.wrapping_mul(104_729) % 250_000,
        "currency": "EUR",
        "card": "4000 00** **** 0002",
        "country": "PT",
        "channel": "point-of-sale",
        "terminal": format!("term-{:06}", number % 4_201),
    });
    (account, payment.to_string())
}

/// Keyed by account, so that the payments of one account stay in order.
fn send(client: &ThreadedProducer<Acknowledged>, number: u64) -> Result {
    let (account, payload) = payment(number);
    let mut record = BaseRecord::to(TOPIC).key(&account).payload(&payload);
    loop {
        match client.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                std::thread::sleep(TICK);
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Delivery reports: only what the broker acknowledged counts as produced.
#[derive(Default)]
struct Acknowledged {
    ledger: Ledger,
    balances: Mutex<Balances>,
    failure: Mutex<Option<String>>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let message = match result {
            Ok(message) => message,
            Err((error, _)) => {
                lock(&self.failure).get_or_insert_with(|| error.to_string());
                return;
            }
        };
        self.ledger.record(message.topic(), message.partition(), message.offset());
        let payment: Option<Payment> = message.payload().and_then(|bytes| serde_json::from_slice(bytes).ok());
        match payment {
            Some(payment) => {
                let mut balances = lock(&self.balances);
                let balance = balances.entry(payment.account).or_default();
                *balance = (balance.0 + payment.amount_cents, balance.1 + 1);
            }
            None => drop(lock(&self.failure).insert("a delivery report without its payment".to_owned())),
        }
    }
}

/// What of a payment the balances need.
#[derive(serde::Deserialize)]
pub(crate) struct Payment {
    pub(crate) account: String,
    pub(crate) amount_cents: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
