//! Other people's consumers and tools, under the world's group id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use highwater::testing::{Result, quiet_client_config, unique};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::World;

impl World<'_> {
    /// Commits offsets to Kafka for the world's group, as somebody else's tooling might: (partition, offset).
    pub(crate) async fn commit_in_kafka(&self, offsets: &[(i32, i64)]) -> Result<()> {
        let mut config = quiet_client_config(self.kafka.bootstrap());
        config.set("group.id", &self.group);
        let mut list = TopicPartitionList::new();
        for &(partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        let commit = move || {
            let consumer: BaseConsumer = config.create()?;
            consumer.commit(&list, CommitMode::Sync)
        };
        Ok(tokio::task::spawn_blocking(commit).await.expect("it does not panic")?)
    }
}

/// A transaction of somebody else's that is about to commit offsets of the group.
pub(crate) struct OpenOffsets(BaseProducer);

impl OpenOffsets {
    /// Sends the offset of partition 0 of `topic`, and leaves the transaction open for longer than any test.
    pub(crate) async fn begin(world: &World<'_>, topic: &str, offset: i64) -> Result<Self> {
        let mut config = quiet_client_config(world.kafka.bootstrap());
        config.set("group.id", &world.group);
        let mut producer = quiet_client_config(world.kafka.bootstrap());
        producer.set("transactional.id", unique("offsets")).set("transaction.timeout.ms", "600000");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset))?;
        let begin = move || {
            let limit = Duration::from_secs(30);
            let consumer: BaseConsumer = config.create()?;
            let group = consumer.group_metadata().expect("it has a group id");
            let producer: BaseProducer = producer.create()?;
            producer.init_transactions(limit)?;
            producer.begin_transaction()?;
            producer.send_offsets_to_transaction(&list, &group, limit)?;
            Ok::<_, rdkafka::error::KafkaError>(producer)
        };
        Ok(Self(tokio::task::spawn_blocking(begin).await.expect("it does not panic")?))
    }

    pub(crate) async fn commit(self) -> Result<()> {
        let commit = move || self.0.commit_transaction(Duration::from_secs(30));
        Ok(tokio::task::spawn_blocking(commit).await.expect("it does not panic")?)
    }
}

/// A member of the group that is not Highwater's; leaves when dropped.
pub(crate) struct Foreign {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Foreign {
    /// Joins as client `legacy`, with these properties more, and reads without committing anything.
    pub(crate) fn join(world: &World<'_>, properties: &[(&str, &str)]) -> Result<Self> {
        let mut config = quiet_client_config(world.kafka.bootstrap());
        config.set("group.id", &world.group).set("client.id", "legacy").set("enable.auto.commit", "false");
        if !properties.contains(&("group.protocol", "consumer")) {
            config.set("session.timeout.ms", "6000");
        }
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[&world.topic])?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let _ = consumer.poll(Duration::from_millis(50));
            }
            // Out of the group at once; closing alone may leave that to the session's end.
            consumer.unsubscribe();
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                let _ = consumer.poll(Duration::from_millis(50));
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
