//! The classes and their order.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// How a partition or a group is doing. The order is Burrow's, with ours put in; what counts is [`severity`](Self::severity).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Class {
    /// There is no such group, or it has no partition.
    NotFound,
    /// Nothing is wrong.
    Ok,
    /// Behind, and the lag falls.
    Draining,
    /// A person holds it.
    Paused,
    /// Behind, and the lag grows: it applies less than is produced.
    Warn,
    /// Only of groups, where [Burrow's readers](Self::burrow_group) expect it.
    Err,
    /// Behind, and nobody samples it any more.
    Stop,
    /// Behind, and it does not move.
    Stall,
    /// It went back, and has not come to where it was.
    Rewind,
    /// Another process holds its claim.
    Fenced,
    /// Stopped with an error, or by a person: it stands still until somebody acts.
    Halted,
    /// Nobody holds it.
    Unowned,
    /// Whoever holds it has stopped beating.
    Dead,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::NotFound,
        Self::Ok,
        Self::Draining,
        Self::Paused,
        Self::Warn,
        Self::Err,
        Self::Stop,
        Self::Stall,
        Self::Rewind,
        Self::Fenced,
        Self::Halted,
        Self::Unowned,
        Self::Dead,
    ];

    /// Its name, as tables, views and metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NOTFOUND",
            Self::Ok => "OK",
            Self::Draining => "DRAINING",
            Self::Paused => "PAUSED",
            Self::Warn => "WARN",
            Self::Err => "ERR",
            Self::Stop => "STOP",
            Self::Stall => "STALL",
            Self::Rewind => "REWIND",
            Self::Fenced => "FENCED",
            Self::Halted => "HALTED",
            Self::Unowned => "UNOWNED",
            Self::Dead => "DEAD",
        }
    }

    /// 0: nothing to do; 1: somebody wants it so; 2: look at it today; 3: look at it now; 4: it stands still until a
    /// person acts.
    #[must_use]
    pub fn severity(self) -> u8 {
        match self {
            Self::NotFound | Self::Ok | Self::Draining => 0,
            Self::Paused => 1,
            Self::Warn | Self::Fenced => 2,
            Self::Err | Self::Stop | Self::Stall | Self::Rewind | Self::Unowned | Self::Dead => 3,
            Self::Halted => 4,
        }
    }

    /// Burrow's number for it: what Burrow has no word for is what it would be taken for there.
    #[must_use]
    pub fn burrow(self) -> u8 {
        match self {
            Self::NotFound => 0,
            Self::Ok | Self::Draining => 1,
            Self::Warn => 2,
            Self::Err => 3,
            Self::Stop | Self::Paused | Self::Fenced | Self::Halted | Self::Unowned | Self::Dead => 4,
            Self::Stall => 5,
            Self::Rewind => 6,
        }
    }

    /// Burrow's number for a group whose worst partition is this: nothing is worse than `ERR` there.
    #[must_use]
    pub fn burrow_group(self) -> u8 {
        self.burrow().min(Self::Err.burrow())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Class {
    type Err = crate::error::Error;

    fn from_str(name: &str) -> Result<Self, crate::error::Error> {
        let found = Self::ALL.into_iter().find(|class| class.as_str() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|class| class.as_str()).collect();
            crate::error::Error::configuration(format!(
                "there is no class {name:?}, but {}",
                names.join(", ")
            ))
        })
    }
}

/// A group's class: its worst partition's; [`NotFound`](Class::NotFound) where there is none.
pub fn group_class(partitions: impl IntoIterator<Item = Class>) -> Class {
    let worst = partitions.into_iter().max_by_key(|class| (class.severity(), *class));
    worst.unwrap_or(Class::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_as_its_worst_partition() {
        use Class::*;
        for (partitions, worst) in [
            (vec![], NotFound),
            (vec![Ok, Ok], Ok),
            (vec![Draining, Ok], Draining),
            (vec![Paused, Warn, Ok], Warn),
            (vec![Stall, Stop], Stall),
            (vec![Rewind, Stall], Rewind),
            (vec![Dead, Halted], Halted),
            (vec![Warn, Fenced, Paused], Fenced),
        ] {
            assert_eq!(group_class(partitions.clone()), worst, "{partitions:?}");
        }
    }

    #[test]
    fn names_are_read_back_and_burrows_numbers_are_its_own() {
        for class in Class::ALL {
            assert_eq!(class.as_str().parse::<Class>().unwrap(), class);
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
        assert!("ok".parse::<Class>().unwrap_err().is_configuration());
        // core/protocol/evaluator.go
        let numbers = [
            (Class::NotFound, 0),
            (Class::Ok, 1),
            (Class::Warn, 2),
            (Class::Err, 3),
            (Class::Stop, 4),
            (Class::Stall, 5),
            (Class::Rewind, 6),
        ];
        for (class, number) in numbers {
            assert_eq!(class.burrow(), number);
        }
        assert_eq!((Class::Stall.burrow_group(), Class::Warn.burrow_group()), (3, 2));
    }
}
