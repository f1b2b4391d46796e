//! How the group is run: its protocol, and who shares the partitions out.

use std::fmt;
use std::str::FromStr;

/// The protocol of the consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// The members elect a leader, which shares the partitions out.
    #[default]
    Classic,
    /// The broker shares the partitions out (KIP-848).
    Consumer,
}

impl GroupProtocol {
    /// The value of Kafka's `group.protocol`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

impl FromStr for GroupProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            other => Err(format!("`{other}` is not a group protocol: choose classic or consumer")),
        }
    }
}

/// How partitions are shared out among the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Assignor {
    /// As even as possible while moving as little as possible, and only what moves stands still. Classic.
    CooperativeSticky,
    /// Neighbouring partitions together, topic by topic. Eager under the classic protocol: in every rebalance all
    /// partitions of all members stand still.
    Range,
    /// One after the other over all topics. Classic, and eager.
    RoundRobin,
    /// As even as possible while moving as little as possible, by the broker. Under `consumer`.
    Uniform,
}

impl Assignor {
    /// The assignor as Kafka names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Uniform => "uniform",
        }
    }

    /// Whether members under `protocol` can use it.
    pub(super) fn fits(self, protocol: GroupProtocol) -> bool {
        match protocol {
            GroupProtocol::Classic => self != Self::Uniform,
            GroupProtocol::Consumer => matches!(self, Self::Uniform | Self::Range),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Assignor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::CooperativeSticky, Self::Range, Self::RoundRobin, Self::Uniform]
            .into_iter()
            .find(|assignor| assignor.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "`{text}` is not an assignor: choose cooperative-sticky, range, roundrobin or uniform"
                )
            })
    }
}
