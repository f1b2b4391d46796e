//! How a partition is doing, judged by its trajectory and not by a threshold: samples in, class and reason out.
//!
//! Pure: no I/O, and no clock of its own. A worker, the surveyor, the exporter and the dashboard all push a [`Sample`] of
//! each partition every [`interval`](Options::interval) into a [`Trajectory`], and all say what it says.
//!
//! # The rules, in their order
//!
//! What is *known* comes first: a partition that is halted, paused, fenced, without an owner, or whose owner is dead
//! ([`Known`]). Otherwise, over the samples of the last [`window`](Options::window):
//!
//! | class | when |
//! |---|---|
//! | `OK` | the lag is at most [`allowed_lag`](Options::allowed_lag) now, whatever was before; or it is not known yet |
//! | `STOP` | there was lag, and no sample has come for `min_samples` intervals |
//! | `REWIND` | the position went back, and has not come to where it was |
//! | `OK` | fewer than [`min_samples`](Options::min_samples) samples |
//! | `STALL` | the last `min_samples` samples have the same position, and lag in every one of them |
//! | `WARN` | lag in every sample for half the window at least, and it grows: of five equal parts of that time no part's lowest lag is below that of the part before, by more than 1 % of what was produced; the last one's is above the first one's, by 2 % of it; the highest lag is in the last one; and it does not fall just now |
//! | `DRAINING` | the same, falling; `min_samples` samples do |
//! | `OK` | anything else: behind, and neither growing nor standing still |
//!
//! **Hysteresis**: what a sample finds is shown when the sample before did not find what is shown either, so that one odd
//! sample changes nothing; the newer of the two is shown. Two things show at once: the first finding, and `OK` by being
//! caught up. With the defaults (a sample every 10 s) a consumer that is wedged shows as `STALL` 30 to 40 s after its
//! last commit, whatever its lag is; a lag that grows from nothing as `WARN` after 5 min, one that grows from a steady lag
//! within a few minutes.
//!
//! # What is other than in Burrow
//!
//! The classes, their order and the rules are Burrow's; [`burrow`] is a plain evaluation of those, held to its published
//! test sets. Ours differ, and why:
//!
//! - **Samples by the clock, not commits.** Burrow's window is ten commits: a second each for a worker that mirrors every
//!   second, an hour for one that is idle. Ours is of time.
//! - **`STOP` is silence of whoever samples.** Burrow takes it for the consumer's own: it sees nothing but commits. By the
//!   clock a consumer that does not move is `STALL`, which is also what Burrow's readers take the word for. A dead owner
//!   is `DEAD`.
//! - **`STALL` is not excused by having been caught up.** By Burrow's rule any sample without lag in the window makes the
//!   whole of it `OK`: a consumer that is wedged would show after ten minutes. Here the time counts since it was last
//!   caught up.
//! - **Three samples at least.** Burrow calls a single commit a `STALL`, and a `STOP` in the next moment.
//! - **Equal is not growing.** Burrow's `WARN` is "no step goes down": a steady lag of two minutes at peak is `WARN` there,
//!   when it is even enough. By the clock, with sixty samples, some step always goes down by chance, too; so lows of parts
//!   are compared, and a rise must be worth something.
//! - **A lag that was zero in the window may be `WARN`** after half a window, for the same reason as with `STALL`.
//! - **`DRAINING`** is said instead of `OK` while a lag falls, and the known reasons come before all.

pub mod burrow;
mod class;
mod forecast;
mod trajectory;
mod words;

use std::time::Duration;

pub use class::{Class, group_class};
pub use forecast::{Loss, drain_seconds, loss_seconds};
pub use trajectory::Trajectory;
pub(crate) use words::round;

/// Where a partition stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// When, in ms since 1970, by the clock of whoever samples.
    pub at_ms: i64,
    /// The next record to apply, as it is durable.
    pub next_offset: i64,
    /// How far could be applied: the last stable offset. `None` where Kafka has not said.
    pub end_offset: Option<i64>,
}

impl Sample {
    /// A sample of its three parts.
    #[must_use]
    pub fn new(at_ms: i64, next_offset: i64, end_offset: Option<i64>) -> Self {
        Self { at_ms, next_offset, end_offset }
    }

    /// How many offsets lie between, never less than 0; `None` where the end is not known.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        self.end_offset.map(|end| end.saturating_sub(self.next_offset).max(0))
    }
}

/// What is known of a partition without its trajectory. The texts are for people: who, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Known {
    /// Nothing: the trajectory decides.
    #[default]
    Nothing,
    /// It stopped with an error, or a person has halted it.
    Halted(String),
    /// A person holds it.
    Paused(String),
    /// Another process holds its claim.
    Fenced(String),
    /// Nobody holds it.
    Unowned(String),
    /// Whoever holds it has stopped beating.
    Dead(String),
}

/// How samples are taken and judged.
#[derive(Debug, Clone, PartialEq, Eq, Copy)]
#[non_exhaustive]
pub struct Options {
    /// A lag of so many offsets is none: 0 unless set.
    pub allowed_lag: i64,
    /// For how long samples count: 10 min unless set.
    pub window: Duration,
    /// How often there is a sample: every 10 s unless set. One that comes within half of it replaces the one before.
    pub interval: Duration,
    /// So many samples are needed to judge: 3 unless set, and never fewer than 2.
    pub min_samples: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed_lag: 0,
            window: Duration::from_secs(600),
            interval: Duration::from_secs(10),
            min_samples: 3,
        }
    }
}

/// How a partition is doing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// In a word.
    pub class: Class,
    /// In a sentence with figures. It holds still while nothing happens, so that it can be compared.
    pub reason: String,
}

impl Verdict {
    pub(crate) fn new(class: Class, reason: impl Into<String>) -> Self {
        Self { class, reason: reason.into() }
    }
}
