//! Worlds of more than one topic.

use highwater::testing::{Error, Result};
use highwater::{PartitionState, WorkerHandle};

use super::watch::status_until;
use super::world::World;

/// A topic and its number of partitions.
pub(crate) type Topic<'t> = (&'t str, i32);

impl World<'_> {
    /// Creates another topic.
    pub(crate) async fn another_topic(&self, topic: Topic<'_>) -> Result<()> {
        self.kafka.create_topic(topic.0, topic.1).await
    }

    /// `count` records per partition of `topic`, whose accounts are the topic's own. A new producer would not be
    /// needed for a topic that is new; its records are in the world's ledger.
    pub(crate) async fn produce_to(&self, (topic, partitions): Topic<'_>, count: usize) -> Result<()> {
        let record = |partition: i32, n: usize| {
            (format!("{topic}-p{partition}-a{}", n % 5), format!("{}", n % 97 + 1))
        };
        self.producer.fill(topic, partitions, count, record).await
    }

    /// Looks at another topic while `look` runs.
    pub(crate) async fn at<T>(
        &mut self,
        (topic, partitions): Topic<'_>,
        look: impl AsyncFnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let before = (std::mem::replace(&mut self.topic, topic.to_owned()), self.partitions);
        self.partitions = partitions;
        let looked = look(self).await;
        (self.topic, self.partitions) = before;
        looked
    }

    /// [`verify`](Self::verify) for each of `topics`, and the balances of all of them together.
    pub(crate) async fn verify_topics(&mut self, topics: &[Topic<'_>]) -> Result<()> {
        for topic in topics {
            self.at(*topic, async |world| {
                world.caught_up().await?;
                world.assert_ledger_gapless().await?;
                world.assert_exact(false).await
            })
            .await?;
        }
        let names: Vec<&str> = topics.iter().map(|(topic, _)| *topic).collect();
        self.assert_balances_of(&names).await
    }
}

/// Waits until a partition of a topic has halted; returns why.
pub(crate) async fn halted_of(worker: &WorkerHandle, topic: &str, partition: i32) -> Result<String> {
    let what = format!("{topic}[{partition}] has halted");
    let is_it = |status: &highwater::PartitionStatus| {
        (&*status.topic, status.partition, status.state) == (topic, partition, PartitionState::Halted)
    };
    let status = status_until(worker, &what, |status| status.partitions.iter().any(is_it)).await?;
    let halted = status.partitions.iter().find(|status| is_it(status));
    halted.and_then(|status| status.detail.clone()).ok_or_else(|| Error::new("a halt without a reason"))
}
