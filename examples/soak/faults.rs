//! Carrying out a schedule, and seeing that each fault really happened.

mod broker;
mod database;
mod operator;
mod past;
mod processes;
mod servers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::Result;
use crate::fleet::Fleet;
use crate::moving::Moving;
use crate::own::Own;
use crate::schedule::{Fault, Step};
use crate::servers::Servers;

/// Numbers above those of all other payments.
const FIRST: u64 = 2_000_000_000;

/// What the faults are done to, and what was seen of them.
pub(crate) struct Faults<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) fleet: &'a Fleet<'a>,
    began: Instant,
    /// Held by whoever takes PostgreSQL away or back in time, and by a zombie, which is seen through it.
    postgres: tokio::sync::Mutex<()>,
    /// Held by whoever ends workers and starts others; taken after `postgres` by those who take both.
    processes: tokio::sync::Mutex<()>,
    pub(crate) moving: Moving,
    pub(crate) own: Own,
    numbers: AtomicU64,
    seen: Mutex<Seen>,
}

/// The tally of faults.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) by_kind: BTreeMap<&'static str, usize>,
    /// Those that were not seen to happen, in words.
    pub(crate) in_vain: Vec<String>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(servers: &'a Servers, fleet: &'a Fleet<'a>, began: Instant) -> Self {
        Self {
            servers,
            fleet,
            began,
            postgres: tokio::sync::Mutex::new(()),
            processes: tokio::sync::Mutex::new(()),
            moving: Moving::default(),
            own: Own::new(),
            numbers: AtomicU64::new(FIRST),
            seen: Mutex::default(),
        }
    }

    /// Carries out one fault after the other; the last one may end after `until`.
    ///
    /// # Errors
    /// When a worker ended by itself, or a server did not come back: then there is no sense in going on.
    pub(crate) async fn carry_out(&self, schedule: impl Iterator<Item = Step>, until: Instant) -> Result {
        for Step { pause, fault } in schedule {
            let next = Instant::now() + pause;
            if next >= until {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            self.fleet.all_well()?;
            let kind = fault.kind();
            if matches!(fault, Fault::Kill { .. } | Fault::Zombie { .. } | Fault::Rolling) {
                let seen = self.on_process(fault).await;
                let at = self.note(kind, seen);
                // Not waited for: the next one may come before everything moves again.
                drop(self.moving.after(format!("after {kind} at {at} s")));
            } else {
                let faulty = self.moving.faulty();
                let seen = self.on_server(fault).await;
                drop(faulty);
                let at = self.note(kind, seen);
                self.moving.after(format!("after {kind} at {at} s")).await;
            }
        }
        Ok(())
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of a payment of its own.
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns when it was over.
    fn note(&self, kind: &'static str, outcome: Result<String>) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.began.elapsed().as_secs();
        match outcome {
            Ok(text) => {
                *seen.by_kind.entry(kind).or_default() += 1;
                println!("  {at:>4} s  {kind}: {text}");
            }
            Err(error) => {
                let text = format!("{kind} at {at} s: {error:?}");
                println!("  {at:>4} s  NOT SEEN TO HAPPEN: {text}");
                seen.in_vain.push(text);
            }
        }
        at
    }
}
