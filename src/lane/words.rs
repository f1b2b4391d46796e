//! What a lane says of a batch that was not applied, and that it goes on: a line per trouble and kind, then at growing
//! intervals, and one when it is over. What is not said at WARN is said at DEBUG.

use std::time::Instant;

use super::Lane;
use super::fill::Taken;
use super::ruling::Failure;
use crate::batch::Part;
use crate::due::span;
use crate::verdict::{Place, Verdict};

/// How many partitions one line names that go on together.
const NAMED: usize = 3;

impl Lane {
    /// Whether a failure for the `kind` of reason is worth a word, for any of these parts.
    pub(super) fn is_news(taken: &Taken, parts: &[usize], kind: &str) -> bool {
        let now = Instant::now();
        // Each is to remember it, though one would do for the line.
        let news = parts.iter().filter(|&&at| {
            let until = taken.batch.parts[at].to.get();
            taken.buffers[at].memory().is_news(now, kind, until)
        });
        news.count() > 0
    }

    /// Says how a failure was judged.
    pub(super) fn tell(taken: &Taken, suspects: &[usize], failure: &Failure<'_>, verdict: Verdict) {
        let sqlstate = failure.error.and_then(|error| error.sqlstate()).unwrap_or_default();
        let kind = format!("{:?} {:?} {:?} {sqlstate}", failure.place, failure.class, verdict.act);
        let is_news = Self::is_news(taken, suspects, &kind);
        // Whoever heard no answer to a commit has said so.
        let is_said = failure.place == Place::Commit && failure.error.is_none();
        let (who, act, why) = (verdict.who, verdict.act, &failure.why);
        if is_news && !is_said {
            tracing::warn!(batch = ?taken.batch, ?who, ?act, why, "a batch was not applied");
        } else {
            tracing::debug!(batch = ?taken.batch, ?who, ?act, why, "a batch was not applied");
        }
    }

    /// Says why a batch goes back that nobody judges.
    pub(super) fn tell_all(taken: &Taken, why: &str) {
        let all: Vec<usize> = (0..taken.buffers.len()).collect();
        let kind = why.split(':').next().unwrap_or(why);
        if Self::is_news(taken, &all, kind) {
            tracing::warn!(batch = ?taken.batch, why, "a batch was not applied");
        } else {
            tracing::debug!(batch = ?taken.batch, why, "a batch was not applied");
        }
    }

    /// Says of which partitions the trouble is over.
    pub(super) fn tell_what_goes_on(taken: &Taken) {
        let now = Instant::now();
        let over: Vec<_> = taken
            .pairs()
            .filter_map(|(part, buffer)| Some((part, buffer.memory().is_over(now, part.to.get())?)))
            .collect();
        let Some(longest) = over.iter().map(|(_, lasted)| *lasted).max() else { return };
        if let [(part, lasted)] = over.as_slice() {
            let (topic, partition, to) = (&part.key.topic, part.key.partition, part.to);
            return tracing::info!(
                "partition {topic}:{partition} goes on at offset {to} after {}",
                span(*lasted)
            );
        }
        let name = |part: &Part| format!("{}:{} at offset {}", part.key.topic, part.key.partition, part.to);
        let named: Vec<String> = over.iter().take(NAMED).map(|(part, _)| name(part)).collect();
        let more = match over.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        tracing::info!("partitions {}{more} go on after {}", named.join(", "), span(longest));
    }
}
