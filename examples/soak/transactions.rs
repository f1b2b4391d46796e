//! Payments in Kafka transactions, some of which are rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use highwater::testing::{Kafka, Ledger, Message, TransactionalProducer, unique};

use crate::check::{Balances, Expected};
use crate::produce::{Payment, payment};
use crate::{Result, TOPIC};

/// Payments per transaction.
const SIZE: u64 = 20;
/// One transaction in so many is rolled back.
const ROLLED_BACK: u64 = 3;
/// Numbers above those of the payments without transactions.
const FIRST: u64 = 1_000_000_000;

/// What was produced in transactions.
pub(crate) struct Produced {
    pub(crate) expected: Expected,
    /// Key (the body's `tx_id`) and payment of those whose transaction has an unknown outcome: Kafka must be asked.
    pub(crate) uncertain: BTreeMap<String, Payment>,
    pub(crate) rolled_back: usize,
}

/// Produces until `stop`, `rate` payments a second; counts in `committed`.
pub(crate) async fn produce(
    kafka: &Kafka,
    rate: u64,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
) -> Result<Produced> {
    let mut produced = Produced {
        expected: Expected { ledger: Ledger::new(), balances: Balances::new() },
        uncertain: BTreeMap::new(),
        rolled_back: 0,
    };
    let pace = Duration::from_millis(1_000 * SIZE / rate.max(1));
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut producer = new_producer(kafka).await?;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let payments: Vec<(String, String)> = (0..SIZE).map(|n| payment(FIRST + number * SIZE + n)).collect();
        let roll_back = number.is_multiple_of(ROLLED_BACK);
        number += 1;
        match transaction(&producer, &payments, roll_back).await {
            Ok(()) if roll_back => produced.rolled_back += payments.len(),
            Ok(()) => {
                committed.fetch_add(payments.len(), Ordering::Relaxed);
                for (_, body) in &payments {
                    add(&mut produced.expected.balances, &serde_json::from_str(body)?);
                }
            }
            Err(error) => {
                println!("        a Kafka transaction has an unknown outcome, Kafka will be asked: {error}");
                for (_, body) in &payments {
                    produced.uncertain.insert(body.clone(), serde_json::from_str(body)?);
                }
                keep(&produced.expected.ledger, &producer);
                producer = new_producer(kafka).await?;
            }
        }
    }
    keep(&produced.expected.ledger, &producer);
    Ok(produced)
}

/// A new transactional id each time: that of a producer which failed may still have a transaction under way.
async fn new_producer(kafka: &Kafka) -> Result<TransactionalProducer> {
    let mut attempts = 0;
    loop {
        match kafka.transactional_producer(&unique("soak")).await {
            Ok(producer) => return Ok(producer),
            Err(error) if attempts == 5 => return Err(error.into()),
            Err(_) => attempts += 1,
        }
    }
}

async fn transaction(
    producer: &TransactionalProducer,
    payments: &[(String, String)],
    roll_back: bool,
) -> Result {
    producer.begin()?;
    for (account, body) in payments {
        producer.send(Message::to(TOPIC).key(account.as_str()).value(body.as_str()))?;
    }
    if roll_back {
        producer.abort().await?
    } else {
        producer.commit().await?
    }
    Ok(())
}

/// Enters what `producer` has committed.
fn keep(ledger: &Ledger, producer: &TransactionalProducer) {
    for ((partition, offset), _) in producer.ledger().positions(TOPIC) {
        ledger.record(TOPIC, partition, offset);
    }
}

/// Adds a payment.
pub(crate) fn add(balances: &mut Balances, payment: &Payment) {
    let balance = balances.entry(payment.account.clone()).or_default();
    *balance = (balance.0 + payment.amount_cents, balance.1 + 1);
}
