//! `max_records_per_second`: so that a backlog does not melt the database.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much of what was not used may be made up for: a lane that wakes late loses nothing, and a quiet hour is not
/// followed by a burst.
const CREDIT: Duration = Duration::from_millis(100);

/// Shared by a worker's lanes: whoever takes a batch pushes the moment back at which the next one may be taken, by
/// what its records cost.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: usize,
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(per_second: usize) -> Self {
        Self { per_second: per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// How many records a batch may have: what goes at this pace within 100 ms, so that work comes evenly.
    pub(crate) fn max_records(&self) -> usize {
        (self.per_second / 10).max(1)
    }

    /// Until when nothing may be taken.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        Some(*self.free_at()).filter(|free_at| *free_at > now)
    }

    pub(super) fn spend(&self, records: usize, now: Instant) {
        let cost =
            Duration::from_secs_f64(f64::from(u32::try_from(records).unwrap_or(u32::MAX)) / self.rate());
        let mut free_at = self.free_at();
        *free_at = now.checked_sub(CREDIT).map_or(*free_at, |least| least.max(*free_at)) + cost;
    }

    fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.per_second).unwrap_or(u32::MAX))
    }

    fn free_at(&self) -> MutexGuard<'_, Instant> {
        self.free_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes batches of `records` for `seconds`, each `late` after it may; gives how many records were taken.
    fn taken(pace: &Pace, records: usize, late: Duration, seconds: u64) -> usize {
        let began = Instant::now();
        let (mut now, mut taken) = (began, 0);
        while now < began + Duration::from_secs(seconds) {
            now = pace.wait(now).unwrap_or(now) + late;
            pace.spend(records, now);
            taken += records;
        }
        taken
    }

    #[test]
    fn what_is_taken_late_is_made_up_for() {
        for late in [0, 5, 30] {
            let taken = taken(&Pace::new(1_000), 100, Duration::from_millis(late), 10);
            assert!((9_900..=10_300).contains(&taken), "{taken} in ten seconds, {late} ms late each");
        }
    }

    #[test]
    fn a_quiet_while_is_followed_by_no_burst() {
        let pace = Pace::new(1_000);
        let later = Instant::now() + Duration::from_secs(3_600);
        pace.spend(100, later);
        assert_eq!(pace.wait(later), None, "a batch that was not taken");
        pace.spend(100, later);
        assert_eq!(pace.wait(later), Some(later + Duration::from_millis(100)));
    }
}
