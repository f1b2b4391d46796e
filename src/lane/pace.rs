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
    per_second: u32,
    free_at: Mutex<Instant>,
}

/// The right to take a batch now, if it is time; nobody else has it meanwhile.
pub(super) struct Turn<'a> {
    pace: &'a Pace,
    free_at: MutexGuard<'a, Instant>,
    now: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: usize) -> Self {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        Self { per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// How many records a batch may have: what goes at this pace within 100 ms, so that work comes evenly.
    pub(crate) fn max_records(&self) -> usize {
        (self.per_second as usize / 10).max(1)
    }

    /// An error: until when nothing may be taken.
    pub(super) fn turn(&self, now: Instant) -> Result<Turn<'_>, Instant> {
        let free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        if *free_at > now { Err(*free_at) } else { Ok(Turn { pace: self, free_at, now }) }
    }
}

impl Turn<'_> {
    pub(super) fn spend(mut self, records: usize) {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let cost = Duration::from_secs_f64(f64::from(records) / f64::from(self.pace.per_second));
        let since = self.now.checked_sub(CREDIT).map_or(*self.free_at, |least| least.max(*self.free_at));
        *self.free_at = since + cost;
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
            now = pace.turn(now).err().unwrap_or(now) + late;
            pace.turn(now).expect("it is time").spend(records);
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
        pace.turn(later).expect("a batch that was not taken is made up for").spend(100);
        pace.turn(later).expect("it is time").spend(100);
        assert_eq!(pace.turn(later).err(), Some(later + Duration::from_millis(100)));
    }
}
