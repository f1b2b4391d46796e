//! Carrying out a schedule, and seeing that each fault really happened.

mod past;
mod processes;
mod servers;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::Result;
use crate::fleet::Fleet;
use crate::schedule::{Fault, Step};
use crate::servers::Servers;

/// What the faults are done to, and what was seen of them.
pub(crate) struct Faults<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) fleet: &'a Fleet<'a>,
    began: Instant,
    /// Held by whoever takes PostgreSQL away or back in time, and by a zombie, which is seen through it.
    postgres: tokio::sync::Mutex<()>,
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
        Self { servers, fleet, began, postgres: tokio::sync::Mutex::new(()), seen: Mutex::default() }
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
            let seen = match fault {
                Fault::Kill { .. } | Fault::Zombie { .. } | Fault::Rolling => self.on_process(fault).await,
                _ => self.on_server(fault).await,
            };
            self.note(kind, seen);
        }
        Ok(())
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, kind: &'static str, outcome: Result<String>) {
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
    }
}
