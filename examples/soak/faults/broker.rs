//! Faults of a broker that runs: it stands still, knows of no broker, or keeps a transaction open.

use std::time::Duration;

use highwater::testing::{Message, quiet_client_config, unique};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::Faults;
use crate::produce::payment;
use crate::{PARTITIONS, Result, TOPIC};

/// Less than a frozen broker is frozen for.
const ANSWER: Duration = Duration::from_secs(2);

impl Faults<'_> {
    pub(super) async fn kafka_frozen(&self, length: Duration) -> Result<String> {
        let kafka = &self.servers.kafka;
        kafka.freeze().await?;
        let (answered, ()) = tokio::join!(self.ends("read_uncommitted"), tokio::time::sleep(length));
        kafka.thaw().await?;
        match answered {
            Ok(_) => Err("it answered".into()),
            Err(_) => Ok(format!("nobody answered for {length:.1?}")),
        }
    }

    /// As a lone broker that its controller has fenced: topics, but neither brokers nor leaders. Connections are closed
    /// once, because a client asks for metadata every few minutes only.
    pub(super) async fn kafka_brokerless(&self, length: Duration) -> Result<String> {
        let proxy = &self.servers.to_kafka;
        let before = proxy.brokerless_answers();
        proxy.hide_brokers(true);
        proxy.close();
        tokio::time::sleep(length).await;
        proxy.hide_brokers(false);
        match proxy.brokerless_answers() - before {
            0 => Err("nobody asked for metadata".into()),
            answers => Ok(format!("{answers} metadata answers without a broker in {length:.1?}")),
        }
    }

    /// One record per partition, in a transaction that stays open: nothing behind them is for read_committed.
    pub(super) async fn open_transaction(&self, length: Duration, roll_back: bool) -> Result<String> {
        let producer = self.servers.kafka.transactional_producer(&unique("soak-open")).await?;
        producer.begin()?;
        let mut bodies = Vec::new();
        for partition in 0..PARTITIONS {
            let (account, body) = payment(self.next_number());
            producer.send(Message::to(TOPIC).partition(partition).key(account).value(body.as_str()))?;
            bodies.push(body);
        }
        producer.flush().await?;
        tokio::time::sleep(length).await;
        let (stable, ends) = tokio::join!(self.ends("read_committed"), self.ends("read_uncommitted"));
        let ended = if roll_back { producer.abort().await } else { producer.commit().await };
        match ended {
            Ok(()) if roll_back => {}
            Ok(()) => self.own.produced(producer.ledger(), bodies.iter().map(String::as_str))?,
            Err(error) => {
                self.own.uncertain(bodies.iter().map(String::as_str))?;
                return Err(error.into());
            }
        }
        let held: Vec<i64> = ends?.iter().zip(stable?).map(|(end, stable)| end - stable).collect();
        if held.contains(&0) {
            return Err(format!("behind the last stable offsets were {held:?} offsets").into());
        }
        let how = if roll_back { "rolled back" } else { "committed" };
        let held: i64 = held.iter().sum();
        Ok(format!("{held} offsets were held back when it was {how} after {length:.1?}"))
    }

    /// Where each partition ends for a reader of this isolation level.
    async fn ends(&self, isolation: &'static str) -> Result<Vec<i64>> {
        let mut config = quiet_client_config(self.servers.kafka.bootstrap());
        config.set("isolation.level", isolation);
        let ends = move || -> Result<Vec<i64>> {
            let client: BaseConsumer = config.create()?;
            (0..PARTITIONS)
                .map(|partition| Ok(client.fetch_watermarks(TOPIC, partition, ANSWER)?.1))
                .collect()
        };
        tokio::task::spawn_blocking(ends).await?
    }
}
