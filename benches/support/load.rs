//! Payments at a steady rate, until told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Result;
use super::payments::{Sender, payment};

/// A producer at work in the background.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<u64>>,
}

impl Load {
    /// Sends `rate` payments a second, to the partitions in turn.
    pub(crate) fn start(bootstrap: &str, topic: &str, partitions: i32, rate: u64) -> Result<Self> {
        let sender = Sender::new(bootstrap, &[("linger.ms", "2")])?;
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, stopped) = (topic.to_owned(), Arc::clone(&stop));
        let task = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = u128::from(rate) * began.elapsed().as_micros() / 1_000_000;
                while u128::from(sent) < due {
                    let partition = i32::try_from(sent % u64::try_from(partitions)?)?;
                    sender.send(&topic, partition, payment(sent).as_bytes())?;
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            sender.finish(sent)?;
            Ok(sent)
        });
        Ok(Self { stop, task })
    }

    /// Stops; gives how many records the broker has acknowledged.
    pub(crate) async fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
