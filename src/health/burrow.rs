//! Burrow's rules as they are, for those who compare: `core/internal/evaluator/caching.go` of
//! <https://github.com/linkedin/Burrow> (Apache-2.0), in our words. What is judged here is by [`Trajectory`], which takes
//! from them what it can.
//!
//! [`Trajectory`]: super::Trajectory

use super::Class;

/// A commit as Burrow keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// The committed offset.
    pub offset: i64,
    /// The lag at that moment, where it was known.
    pub lag: Option<i64>,
}

/// What Burrow says of these commits, oldest first, and of these ends of the log. `current_lag` is the newest.
#[must_use]
pub fn evaluate(commits: &[Commit], ends: &[i64], current_lag: i64, now_ms: i64, allowed_lag: i64) -> Class {
    let offsets = || commits.iter().map(|commit| commit.offset);
    match (commits.first(), commits.last()) {
        _ if current_lag <= allowed_lag => Class::Ok,
        (Some(first), Some(last))
            if has_stopped(first, last, now_ms) && !was_caught_up(last.offset, ends) =>
        {
            Class::Stop
        }
        (None, _) | (_, None) => Class::Ok,
        _ if rewind(offsets()).is_some_and(|rewind| !rewind.recovered) => Class::Rewind,
        _ if commits.iter().any(|commit| commit.lag.is_some_and(|lag| lag <= allowed_lag)) => Class::Ok,
        _ if stalls(offsets()) => Class::Stall,
        _ if never_falls(commits.iter().filter_map(|commit| commit.lag)) => Class::Warn,
        _ => Class::Ok,
    }
}

/// Nothing for longer than the commits span.
fn has_stopped(first: &Commit, last: &Commit, now_ms: i64) -> bool {
    now_ms.saturating_sub(last.at_ms) > last.at_ms.saturating_sub(first.at_ms)
}

fn was_caught_up(offset: i64, ends: &[i64]) -> bool {
    ends.iter().any(|&end| end <= offset)
}

/// The first place at which offsets went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rewind {
    /// Of the first that was lower than the one before.
    index: usize,
    /// Later, or just then, it has come to where it was.
    recovered: bool,
}

fn rewind(offsets: impl Iterator<Item = i64> + Clone) -> Option<Rewind> {
    let steps = offsets.clone().zip(offsets.clone().skip(1));
    let (index, (from, _)) = steps.enumerate().find(|(_, (before, after))| after < before)?;
    let recovered = offsets.skip(index + 1).any(|offset| offset >= from);
    Some(Rewind { index: index + 1, recovered })
}

fn stalls(mut offsets: impl Iterator<Item = i64>) -> bool {
    let first = offsets.next();
    offsets.all(|offset| Some(offset) == first)
}

fn never_falls(mut lags: impl Iterator<Item = i64>) -> bool {
    let Some(mut before) = lags.next() else { return true };
    lags.all(|lag| lag >= std::mem::replace(&mut before, lag))
}

#[cfg(test)]
mod tests;
