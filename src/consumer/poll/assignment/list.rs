//! The whole list that an eager client takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::batch::PartitionKey;
use crate::consumer::PartitionBuffer;
use crate::consumer::ffi::Client;

/// Where the client's list stands.
#[derive(Debug, Default)]
pub(super) struct WholeList {
    /// What is to be fetched has changed since the client was told.
    stale: bool,
    /// The client may still be stopping what an earlier list fetched.
    stopping: bool,
}

impl WholeList {
    pub(super) fn has_changed(&mut self) {
        self.stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Gives the client the list of `fetched`, each partition at the end of its own buffer: what was in the client's
    /// queue is gone, and what was not pushed is fetched again (EO-4). A buffer that takes no more is left out.
    pub(super) fn assign(
        &mut self,
        client: &Client,
        fetched: &mut BTreeMap<PartitionKey, Arc<PartitionBuffer>>,
    ) -> KafkaResult<()> {
        self.stale = false;
        fetched.retain(|_, buffer| buffer.is_open());
        let list = of(fetched.values())?;
        self.await_stopped(client)?;
        client.assign(&list)?;
        self.stopping = true;
        // A pause by the application survives a re-assign (PITFALLS 10): that of an older claim must not, that of a
        // running one must. Nothing happens to those that are not paused.
        client.resume(&of(fetched.values().filter(|buffer| !buffer.is_paused()))?)
    }

    /// Takes everything from the client.
    pub(super) fn unassign(&mut self, client: &Client) -> KafkaResult<()> {
        self.stale = false;
        // Whatever it says: a revoke must be answered.
        let stopped = self.await_stopped(client);
        self.stopping = true;
        client.unassign().and(stopped)
    }

    /// 2.12.1 aborts the process (`rktp->rktp_started`) if a partition is taken away a second time before it has
    /// stopped for the first. The stops are under way in the queue of the client's main thread when `assign` returns; any
    /// question that goes through that queue is answered after them.
    fn await_stopped(&mut self, client: &Client) -> KafkaResult<()> {
        if std::mem::take(&mut self.stopping) {
            client.assignment()?;
        }
        Ok(())
    }
}

/// Each at the end of its buffer.
pub(super) fn of<'a>(
    buffers: impl Iterator<Item = &'a Arc<PartitionBuffer>>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for buffer in buffers {
        let from = Offset::Offset(buffer.covered_to().get());
        list.add_partition_offset(&buffer.key.topic, buffer.key.partition, from)?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rdkafka::ClientConfig;
    use rdkafka::config::FromClientConfigAndContext;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use uuid::Uuid;

    use super::*;
    use crate::NextOffset;
    use crate::batch::ClaimId;
    use crate::consumer::Budget;
    use crate::consumer::buffer::Pushed;
    use crate::consumer::ffi::{EventKind, EventQueue};

    const PARTITIONS: i32 = 40;
    const RECORDS: i64 = 50;

    fn buffer(partition: i32) -> (PartitionKey, Arc<PartitionBuffer>) {
        let key = PartitionKey { topic: "t".into(), partition };
        let claim = ClaimId { epoch: 1, token: Uuid::nil() };
        let from = NextOffset::new(0).unwrap();
        let buffer = PartitionBuffer::new(key.clone(), claim, from, Arc::new(Budget::new(usize::MAX)));
        (key, Arc::new(buffer))
    }

    /// Lists follow each other at once, in the middle of fetching, and no record is missed: the end of every buffer
    /// moves by one record at a time.
    #[test]
    fn whole_lists_in_a_row_lose_nothing_and_do_not_abort_the_client() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", PARTITIONS, 1).unwrap();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        for partition in 0..PARTITIONS {
            for n in 0..RECORDS {
                let value = n.to_string();
                producer.send(BaseRecord::<(), _>::to("t").partition(partition).payload(&value)).unwrap();
            }
        }
        producer.flush(Duration::from_secs(20)).unwrap();

        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g");
        config.set("auto.offset.reset", "error").set("enable.auto.commit", "false");
        let client =
            Arc::new(Client::from_config_and_context(&config, crate::consumer::context::Context).unwrap());
        let queue = EventQueue::of(Arc::clone(&client)).unwrap();
        let (mut whole, mut fetched) = (WholeList::default(), BTreeMap::new());
        let began = Instant::now();
        let mut lists = 0;
        while fetched.values().any(|buffer: &Arc<PartitionBuffer>| buffer.covered_to().get() < RECORDS)
            || lists < 500
        {
            if lists < PARTITIONS {
                fetched.extend([buffer(lists)]);
            }
            if lists < 500 || lists % 50 == 0 {
                whole.assign(&client, &mut fetched).unwrap();
                whole.assign(&client, &mut fetched).unwrap();
            }
            lists += 1;
            for _ in 0..20 {
                let Some(event) = queue.poll(Duration::from_millis(1)) else { break };
                let EventKind::Record(message) = event.kind() else { continue };
                let key = PartitionKey { topic: "t".into(), partition: message.partition() };
                let before = fetched[&key].covered_to().get();
                if fetched[&key].push(&message.raw(), message.headers(), Instant::now()) == Pushed::Kept {
                    assert_eq!(message.raw().offset, before, "a record of {key} was skipped");
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it stands still: {fetched:?}");
        }
        whole.unassign(&client).unwrap();
    }
}
