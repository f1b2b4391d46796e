//! What time it is, for a thread that asks before every record.

use std::time::Instant;

/// Reading the processor's clock costs as much as a sixth of all that the poll thread does for a record. The system keeps
/// a coarse one, which moves by a tick of some milliseconds and costs nothing to read: the real one is read when that has
/// moved. A process that was stopped finds it moved.
#[derive(Debug)]
pub(super) struct Clock {
    now: Instant,
    #[cfg(target_os = "linux")]
    tick: rustix::time::Timespec,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            now: Instant::now(),
            #[cfg(target_os = "linux")]
            tick: coarse(),
        }
    }

    /// The time, exactly.
    pub(super) fn exact(&mut self) -> Instant {
        self.now = Instant::now();
        self.now
    }

    /// The time, at most a tick ago.
    #[cfg(target_os = "linux")]
    pub(super) fn about(&mut self) -> Instant {
        let tick = coarse();
        if tick == self.tick {
            return self.now;
        }
        self.tick = tick;
        self.exact()
    }

    /// The time.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn about(&mut self) -> Instant {
        self.exact()
    }
}

#[cfg(target_os = "linux")]
fn coarse() -> rustix::time::Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Far less than what the poll loop takes for a stop.
    const TICK: Duration = Duration::from_millis(25);

    #[test]
    fn it_is_never_late_by_more_than_a_tick_and_never_goes_back() {
        let (mut clock, began) = (Clock::new(), Instant::now());
        let mut before = clock.about();
        while began.elapsed() < Duration::from_millis(100) {
            let (earliest, told) = (Instant::now().checked_sub(TICK).unwrap(), clock.about());
            assert!(told >= before && told >= earliest, "{:?} late", earliest - told);
            before = told;
        }
        std::thread::sleep(TICK);
        assert!(clock.about() >= before + TICK, "it has seen the pause");
    }
}
