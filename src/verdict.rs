#![allow(dead_code, reason = "base commit: filled in by the next ones")]
//! The judge: where something failed, what came back and what is remembered of it say who is to blame, what is done, and
//! what a person reads. Pure: no I/O, no clock.

pub(crate) mod kafka;

use crate::ErrorKind;

/// Where a failure arose. What a code means depends on it: connecting and `BEGIN` have sent no record yet, so nothing
/// there is ever a record's or a handler's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Getting a session of Postgres.
    Connect,
    /// `BEGIN` of a batch.
    Begin,
    /// A statement of the handler's, or its own words.
    Statement,
    /// A row of a `COPY` whose line the server names.
    CopyRow,
    /// The compare-and-set of the offsets.
    CompareAndSet,
    /// `COMMIT`.
    Commit,
    /// A statement of the worker's own: claims, releases, heartbeats, reads.
    Control,
    /// Fetching a partition from Kafka.
    Fetch,
    /// Joining the group, and staying in it.
    Join,
    /// What Kafka says of a topic while it is subscribed to.
    Metadata,
    /// A question asked of Kafka: offsets, ids, members.
    Question,
}

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Kafka, Postgres, the network, another program.
    Surroundings,
    /// The batch is too large for the limits that hold.
    Size,
    /// The data of a record.
    Record,
    /// The handler, the set-up of the database, or a setting.
    Handler,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    /// Try again as it is, after a pause.
    Wait,
    /// Try the partitions of the batch one by one.
    Apart,
    /// Try the first half.
    Halve,
    /// The record is known: apply what is before it, and follow the policy there.
    Name,
    /// Halt the partition.
    Halt,
    /// Fetch anew from where the buffer ends.
    FetchAnew,
    /// Close the Kafka client and build a new one.
    NewClient,
    /// End the process, with this kind's exit code.
    Exit(ErrorKind),
}
