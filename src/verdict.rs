//! The judge: where something failed, what came back and what is remembered of it say who is to blame, what is done, and
//! what a person reads. Pure: no I/O, no clock.
//!
//! Three questions, one after the other. What came ([`Class`]: from the server's code by the table of SQLSTATEs, from
//! the driver, or the handler's own word)? Where ([`Place`])? And what is remembered of this position ([`Seen`])?
//! [`judge`] answers from its one table. What holds of every answer is tested over all of them:
//!
//! - connecting and `BEGIN` have sent no record, so nothing there is a record's or a handler's fault;
//! - what recurs at one position is never tried for ever with more than one record;
//! - a record that the server named by the order of the rows halts only once it has failed alone: then the batches may be
//!   cut anywhere, the same record halts, for the same reason;
//! - nothing halts a range that can be narrowed to a record, unless the handler itself has said that no record is at
//!   fault.

mod memory;
pub(crate) mod postgres;
mod sqlstate;

pub(crate) use memory::{Memory, Seen};
pub(crate) use postgres::{Cause, Class, Connection};

pub(crate) mod kafka;

use crate::ErrorKind;

/// Where a failure arose.
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
    /// The handler, or the tables that it writes.
    Handler,
    /// A setting, or a right that this worker lacks.
    Configuration,
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
    /// Apply what is before the record that is suspected, then try that record by itself.
    Isolate,
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

/// What is said of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Verdict {
    pub(crate) who: Who,
    pub(crate) act: Act,
}

const fn verdict(who: Who, act: Act) -> Verdict {
    Verdict { who, act }
}

/// Failures at one position before it is tried with fewer records, though nobody there seems to be to blame.
pub(crate) const PATIENT: u32 = 3;
/// Failures at one position before what usually passes is taken for good.
pub(crate) const RETRIES: u32 = 5;
/// How often a batch must lose its session together with others before it is taken apart all the same; how often a single
/// record must lose its session, and its alone, before it is taken for the cause.
pub(crate) const LOSSES: u32 = 5;

/// Judges a failure of a batch, or of the session it was to have.
pub(crate) fn judge(place: Place, class: Class, seen: &Seen) -> Verdict {
    match place {
        Place::Statement | Place::CopyRow | Place::CompareAndSet | Place::Commit => judge_data(class, seen),
        // Nothing of a record was sent.
        Place::Connect | Place::Begin | Place::Fetch | Place::Join | Place::Metadata | Place::Question => {
            verdict(Who::Surroundings, Act::Wait)
        }
    }
}

fn judge_data(class: Class, seen: &Seen) -> Verdict {
    use Class as C;
    // The record that is found, or the first of a single one.
    let found = |who| verdict(who, Act::Name);
    match class {
        C::Halt if seen.partitions > 1 => verdict(Who::Handler, Act::Apart),
        C::Halt => verdict(Who::Handler, Act::Halt),
        C::Reject | C::Bug | C::Privilege if seen.named && seen.is_in_company() => {
            verdict(blamed(class), Act::Isolate)
        }
        C::Reject | C::Bug | C::Privilege if seen.named => found(blamed(class)),
        // Others lost theirs, too: then it was hardly this batch that ended it, unless that recurs wherever it is tried.
        C::Lost if !seen.alone && seen.times < LOSSES => verdict(Who::Surroundings, Act::Wait),
        _ if seen.partitions > 1 => verdict(blamed(class), Act::Apart),
        C::Environment | C::Authentication => match seen {
            Seen { times: ..PATIENT, .. } | Seen { records: ..=1, .. } => {
                verdict(Who::Surroundings, Act::Wait)
            }
            _ => verdict(Who::Size, Act::Halve),
        },
        C::Lost => match seen {
            Seen { records: 2.., times: ..PATIENT, narrowed: false, .. } => {
                verdict(Who::Surroundings, Act::Wait)
            }
            Seen { records: 2.., .. } => verdict(Who::Size, Act::Halve),
            // Never by name for what others have lost: smaller batches harm nobody, a halt would.
            Seen { singles: ..LOSSES, .. } | Seen { alone: false, .. } => {
                verdict(Who::Surroundings, Act::Wait)
            }
            _ => found(Who::Record),
        },
        C::OwnTimeout => match seen {
            Seen { records: 2.., .. } => verdict(Who::Size, Act::Halve),
            Seen { singles, limit, .. } if singles < limit => verdict(Who::Size, Act::Wait),
            _ => found(Who::Handler),
        },
        C::RetryThenHalt => match seen {
            Seen { named: true, times: RETRIES.., .. } if seen.is_in_company() => {
                verdict(Who::Record, Act::Isolate)
            }
            Seen { named: true, times: RETRIES.., .. } => found(Who::Record),
            Seen { times: ..RETRIES, narrowed: false, .. } => verdict(Who::Surroundings, Act::Wait),
            Seen { records: 2.., .. } => verdict(Who::Record, Act::Halve),
            Seen { singles: ..RETRIES, .. } => verdict(Who::Surroundings, Act::Wait),
            _ => found(Who::Record),
        },
        // A right, too: what is written where a record says may be what the role may not.
        C::Reject | C::Bug | C::Privilege if seen.records > 1 => verdict(blamed(class), Act::Halve),
        C::Reject | C::Bug | C::Privilege => found(blamed(class)),
    }
}

/// Whether a record that is to be named may be set aside instead of halting its partition: only where its own data is at
/// fault, by the handler's word or the server's. Not for a session that was lost each time, nor for what usually passes:
/// outages and set-ups can look like that, and must never cost a record. `sqlstate`: the server's, if it was the server.
pub(crate) fn may_be_set_aside(place: Place, class: Class, verdict: Verdict, sqlstate: Option<&str>) -> bool {
    let is_of_the_data = match class {
        Class::Reject => true,
        // The table has no partition for the row.
        Class::RetryThenHalt => sqlstate == Some("23514"),
        _ => false,
    };
    // Not what happens at our own statement.
    let is_of_the_batch = matches!(place, Place::Statement | Place::CopyRow | Place::Commit);
    is_of_the_data && is_of_the_batch && verdict == Verdict { who: Who::Record, act: Act::Name }
}

const fn blamed(class: Class) -> Who {
    match class {
        Class::Environment | Class::Authentication | Class::Lost | Class::RetryThenHalt => Who::Surroundings,
        Class::OwnTimeout => Who::Size,
        Class::Reject => Who::Record,
        Class::Bug | Class::Halt => Who::Handler,
        Class::Privilege => Who::Configuration,
    }
}

#[cfg(test)]
mod tests;
