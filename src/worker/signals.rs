//! SIGTERM and SIGINT.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Worker;
use crate::error::{Error, ErrorKind, Result};

/// Signals that come together are one wish: `timeout` and some shells send theirs to the process and to its group.
const TOGETHER: Duration = Duration::from_millis(500);

/// The signals that stop a worker.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::new(ErrorKind::Internal, "could not listen for signals").with_source(error)
            })
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits so long, and drops what comes meanwhile.
    async fn none_for(&mut self, time: Duration) {
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = self.next() => {}
            }
        }
    }

    /// Until a signal comes, or `over` ends; whether it was that, and no signal has come since.
    pub(crate) async fn run(&mut self, worker: Worker, over: impl Future<Output = ()>) -> Result<bool> {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = worker.run_until(async {
            let _ = stopped.await;
        });
        tokio::pin!(running);
        let is_over = tokio::select! {
            biased;
            () = self.next() => false,
            ended = &mut running => return ended.map(|()| false),
            () = over => true,
        };
        drop(stop);
        if is_over {
            tokio::select! {
                ended = &mut running => return ended.map(|()| true),
                () = self.next() => {}
            }
        }
        tracing::info!(
            "stopping: finishing the batches in flight; a second signal, half a second later or more, stops at once"
        );
        tokio::select! {
            ended = &mut running => return ended.map(|()| false),
            () = self.none_for(TOGETHER) => {}
        }
        tokio::select! {
            ended = &mut running => ended.map(|()| false),
            // Nothing is lost: what was not committed was not applied. Successors wait for the heartbeat's age.
            () = self.next() => Err(Error::new(ErrorKind::Internal, "stopped hard by a second signal")),
        }
    }
}
