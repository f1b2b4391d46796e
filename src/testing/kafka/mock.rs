//! The Kafka client's in-process mock broker.

use std::sync::mpsc;

use rdkafka::{error::KafkaError, mocking::MockCluster};

use crate::testing::error::{Attempted, Error, Result};

/// A mock broker on a thread of its own, for the handle of the client library cannot change threads. It ends when this
/// is dropped.
#[derive(Debug)]
pub(super) struct Mock {
    topics: mpsc::SyncSender<NewTopic>,
}

struct NewTopic {
    name: String,
    partitions: i32,
    done: mpsc::SyncSender<Result<(), KafkaError>>,
}

impl Mock {
    /// Starts it; gives its address, too. Blocks for a moment.
    pub(super) fn start() -> Result<(Self, String)> {
        let (topics, requests) = mpsc::sync_channel::<NewTopic>(1);
        let (address_sender, address) = mpsc::sync_channel(1);
        std::thread::spawn(move || match MockCluster::new(1) {
            Ok(cluster) => {
                let _ = address_sender.send(Ok(cluster.bootstrap_servers()));
                for NewTopic { name, partitions, done } in requests {
                    let _ = done.send(cluster.create_topic(&name, partitions, 1));
                }
            }
            Err(error) => drop(address_sender.send(Err(error))),
        });
        let address = address.recv().map_err(|_| thread_ended())?;
        Ok((Self { topics }, address.attempted(|| "start a mock broker".to_owned())?))
    }

    pub(super) fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let (done, outcome) = mpsc::sync_channel(1);
        self.topics.send(NewTopic { name: name.to_owned(), partitions, done }).map_err(|_| thread_ended())?;
        outcome
            .recv()
            .map_err(|_| thread_ended())?
            .attempted(|| format!("create topic {name} in the mock broker"))
    }
}

fn thread_ended() -> Error {
    Error::new("the mock broker's thread ended")
}
