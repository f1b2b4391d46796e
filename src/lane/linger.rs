//! How long a batch waits for more records after its first.

use std::time::Duration;

/// The longest that a batch waits by itself.
const LONGEST: Duration = Duration::from_millis(20);

/// As configured, or else twice as long as the last batches took to be applied: a stream that is calm keeps its lane in
/// a transaction for less than half of the time. A database that is slow gets fewer and larger transactions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Linger {
    Fixed(Duration),
    /// A moving mean.
    Auto(Duration),
}

impl Linger {
    pub(crate) fn new(configured: Option<Duration>) -> Self {
        configured.map_or(Self::Auto(LONGEST), Self::Fixed)
    }

    pub(super) fn get(&self) -> Duration {
        match *self {
            Self::Fixed(linger) => linger,
            Self::Auto(took) => (2 * took).min(LONGEST),
        }
    }

    /// A batch was applied; from when it was handed over to the answer to COMMIT it took so long.
    pub(super) fn applied(&mut self, took: Duration) {
        if let Self::Auto(mean) = self {
            *mean = ((*mean * 7 + took) / 8).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_commits_unless_it_is_configured() {
        let mut linger = Linger::new(None);
        for _ in 0..50 {
            linger.applied(Duration::from_millis(3));
        }
        assert_eq!(linger.get().as_millis(), 6);
        linger.applied(Duration::from_secs(5));
        assert_eq!(linger.get(), LONGEST, "a large batch makes it as long as it may be, and no longer");

        let mut linger = Linger::new(Some(Duration::from_secs(5)));
        linger.applied(Duration::from_millis(3));
        assert_eq!(linger.get(), Duration::from_secs(5));
    }
}
