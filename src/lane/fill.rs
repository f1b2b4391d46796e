//! What goes into the next batch.

use std::sync::Arc;
use std::time::Instant;

use super::pace::Turn;
use super::{Lane, LaneShared, Limits};
use crate::Batch;
use crate::consumer::PartitionBuffer;
use crate::consumer::buffer::Peek;

/// What a lane does next.
pub(super) enum Fill {
    Batch(Taken),
    /// Wait for a signal, at most until then.
    Wait(Option<Instant>),
}

/// A batch, and the buffers it was taken from, in the order of its parts.
pub(super) struct Taken {
    pub(super) batch: Arc<Batch>,
    pub(super) buffers: Vec<Arc<PartitionBuffer>>,
}

type Ready = (Arc<PartitionBuffer>, Peek, Instant);

impl Limits {
    /// The turn to take a batch, where there is a limit of records a second; an error: until when nobody has it.
    fn turn(&self, now: Instant) -> Result<Option<Turn<'_>>, Instant> {
        self.pace.as_ref().map(|pace| pace.turn(now)).transpose()
    }
}

impl Lane {
    pub(super) fn fill(&self) -> Fill {
        fill(&self.shared, &self.parts.limits, Instant::now())
    }
}

/// Closes a batch by records, bytes or linger, or because a partition cannot grow: paused by the budget.
fn fill(shared: &LaneShared, limits: &Limits, now: Instant) -> Fill {
    let turn = match limits.turn(now) {
        Ok(turn) => turn,
        Err(until) => return Fill::Wait(Some(until)),
    };
    let (ready, mut wake) = ready(shared, now);
    let mut earlier = |instant: Instant| wake = Some(wake.map_or(instant, |wake| wake.min(instant)));
    let Some(oldest) = ready.iter().map(|(.., since)| *since).min() else { return Fill::Wait(wake) };
    let records: usize = ready.iter().map(|(_, peek, _)| peek.records).sum();
    let is_full =
        |(buffer, peek, _): &Ready| peek.paused || alone(buffer).is_some_and(|limit| peek.records >= limit);
    let complete = records >= limits.target_records.min(limits.max_records)
        || ready.iter().any(is_full)
        || now >= oldest + limits.linger.get();
    if !complete {
        earlier(oldest + limits.linger.get());
        return Fill::Wait(wake);
    }
    match take(ready, limits, turn) {
        Some(taken) => Fill::Batch(taken),
        None => Fill::Wait(wake),
    }
}

/// The batch behind the present one: only where waiting would not make it larger, and where nothing calls for caution.
pub(super) fn fill_ahead(shared: &LaneShared, limits: &Limits, now: Instant) -> Option<Taken> {
    let turn = limits.turn(now).ok()?;
    let (ready, _) = ready(shared, now);
    let records: usize = ready.iter().map(|(_, peek, _)| peek.records).sum();
    let cannot_grow = records >= limits.max_records || ready.iter().any(|(_, peek, _)| peek.paused);
    let lags = records >= limits.target_records.min(limits.max_records);
    let calm = || shared.buffers().iter().all(|buffer| alone(buffer).is_none());
    if cannot_grow && lags && calm() { take(ready, limits, turn) } else { None }
}

/// How many records of a partition its next batch may have, if it is looked at apart.
fn alone(buffer: &PartitionBuffer) -> Option<usize> {
    buffer.memory().alone()
}

/// What may be taken, and when more may be.
fn ready(shared: &LaneShared, now: Instant) -> (Vec<Ready>, Option<Instant>) {
    let mut wake: Option<Instant> = None;
    let mut ready: Vec<Ready> = Vec::new();
    for buffer in shared.buffers() {
        let peek = buffer.peek();
        // They are read before the next look.
        let lacks_keys = buffer.lacks_keys();
        let mut look_again = |at: Instant| wake = Some(wake.map_or(at, |wake| wake.min(at)));
        match (peek.waiting_since, peek.held_until) {
            (None, _) => {}
            (Some(_), Some(until)) if until > now => look_again(until),
            (Some(_), _) if lacks_keys => look_again(now),
            (Some(since), _) => ready.push((buffer, peek, since)),
        }
    }
    (ready, wake)
}

/// Who was served longest ago comes first: by age alone, a partition with a backlog would always be the oldest.
/// What one partition does not use of its share goes to the next.
fn take(mut ready: Vec<Ready>, limits: &Limits, turn: Option<Turn<'_>>) -> Option<Taken> {
    ready.sort_by_key(|(_, peek, since)| (peek.taken_at, *since));
    let limit = alone(&ready.first()?.0);
    if limit.is_some() {
        ready.truncate(1);
    } else {
        ready.retain(|(buffer, ..)| alone(buffer).is_none());
    }
    let max_records = limit.unwrap_or(usize::MAX).min(limits.max_records);
    ready.truncate(max_records);
    // Smallest first, so that the share of those that have less is handed on before it is needed.
    ready.sort_by_key(|(_, peek, _)| peek.records);
    let (mut records_left, mut bytes_left) = (max_records, limits.max_bytes);
    let mut taken = Vec::with_capacity(ready.len());
    let mut partitions_left = ready.len();
    for (buffer, ..) in ready {
        let share = |left: usize| (left / partitions_left).max(1);
        if let Some(part) = buffer.take(share(records_left), share(bytes_left)) {
            records_left = records_left.saturating_sub(part.all());
            bytes_left = bytes_left.saturating_sub(part.weight());
            taken.push((buffer, part));
        }
        partitions_left -= 1;
    }
    if taken.is_empty() {
        return None;
    }
    taken.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    let (buffers, parts) = taken.into_iter().unzip();
    let batch = Arc::new(Batch::new(parts));
    if let Some(turn) = turn {
        turn.spend(batch.len());
    }
    Some(Taken { batch, buffers })
}

#[cfg(test)]
mod tests;
