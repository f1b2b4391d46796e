//! Where a group begins.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::instant::{parse_instant, show_instant};

/// Where a group begins in a topic that it has never read, as stored in `group_topic`.
///
/// Resolved once for all partitions of the topic (DESIGN: EO-4); afterwards the position comes from Postgres alone.
///
/// ```
/// use highwater::config::StartPolicy;
///
/// let policy: StartPolicy = "timestamp:2026-04-25T05:00:00+02:00".parse()?;
/// assert_eq!(policy.to_string(), "timestamp:2026-04-25T03:00:00Z");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StartPolicy {
    /// Refuse to start: a mistyped group id must not read a topic from some default position.
    #[default]
    Fail,
    /// At the first record that Kafka still holds.
    Earliest,
    /// At the end: only records produced from now on.
    Latest,
    /// In each partition at the first record whose timestamp is not before this instant (to the millisecond); at the
    /// end where there is none. The records after that one are all read, whatever their timestamps.
    Timestamp(SystemTime),
    /// Where Kafka's consumer group of the same name has committed: the way from another consumer to Highwater. No
    /// other consumer may be in the group.
    AdoptKafka,
}

impl fmt::Display for StartPolicy {
    /// As it is written in configuration and in the database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Timestamp(instant) => write!(f, "timestamp:{}", show_instant(*instant)),
            Self::AdoptKafka => f.write_str("adopt-kafka"),
        }
    }
}

impl FromStr for StartPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fail" | "none" => Ok(Self::Fail),
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            "adopt-kafka" => Ok(Self::AdoptKafka),
            other => match other.strip_prefix("timestamp:") {
                Some(instant) => parse_instant(instant).map(Self::Timestamp),
                None => Err(format!(
                    "`{other}` is not a start policy: choose fail, earliest, latest, adopt-kafka or \
                     timestamp:2026-04-25T03:00:00Z"
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_policy_reads_back_as_it_is_written() {
        let instant = UNIX_EPOCH + Duration::from_millis(1_777_086_000_123);
        for policy in [
            StartPolicy::Fail,
            StartPolicy::Earliest,
            StartPolicy::Latest,
            StartPolicy::Timestamp(instant),
            StartPolicy::AdoptKafka,
        ] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for text in ["earlyest", "timestamp", "adopt"] {
            assert!(text.parse::<StartPolicy>().unwrap_err().contains("choose fail"), "{text}");
        }
        assert!("timestamp:".parse::<StartPolicy>().unwrap_err().contains("milliseconds"));
    }
}
