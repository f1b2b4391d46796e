//! Spans of what a worker does, with plain `tracing`: one for each batch, its steps below it, and one for each claim.
//!
//! Their targets are fixed, and their level is TRACE, so that whoever wants them asks for them by name, and the log of
//! everybody else stays as it is. A span that nobody wants costs one look at a flag: nothing below is evaluated for it,
//! no record's header is looked at. Names and attributes are those of OpenTelemetry's conventions for messaging, v1.44.
//!
//! Attributes hold no payload: `messaging.kafka.message.key` is left out on purpose.

use tracing::field::Empty;
use tracing::{Span, trace_span};

use crate::Batch;
use crate::batch::{Part, PartitionKey};
use crate::commit::Attempt;
use crate::config::CLIENT_ID_PREFIX;
use crate::db::Identity;
use crate::verdict::Class;

impl Batch {
    /// The topic, if all of it is of one: a batch of several has no single destination.
    fn topic(&self) -> Option<&str> {
        single(self.parts.iter().map(|part| &part.key))
    }

    fn only_part(&self) -> Option<&Part> {
        if let [part] = &*self.parts { Some(part) } else { None }
    }
}

fn single<'a>(mut keys: impl Iterator<Item = &'a PartitionKey>) -> Option<&'a str> {
    let first = &*keys.next()?.topic;
    keys.all(|key| *key.topic == *first).then_some(first)
}

fn name(operation: &str, topic: Option<&str>) -> String {
    topic.map_or_else(|| operation.to_owned(), |topic| format!("{operation} {topic}"))
}

/// Attributes are signed numbers; an unsigned one would become a text.
fn int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn client_id(identity: &Identity) -> String {
    format!("{CLIENT_ID_PREFIX}{}", identity.owner)
}

/// From the moment when a batch is taken until it is known what became of it. A root: the records' own traces are linked,
/// for a batch has many of them. None for a batch without records, which moves an offset over what is no record.
pub(crate) fn process(batch: &Batch, identity: &Identity, cluster: Option<&str>) -> Span {
    if batch.is_empty() {
        return Span::none();
    }
    let only = || if batch.len() == 1 { batch.records().next() } else { None };
    let span = trace_span!(
        target: "highwater::process",
        parent: None,
        "process",
        otel.name = name("process", batch.topic()),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = batch.topic(),
        messaging.destination.partition.id = batch.only_part().map(|part| part.key.partition.to_string()),
        messaging.consumer.group.name = &*identity.group,
        messaging.client.id = client_id(identity),
        messaging.batch.message_count = int(batch.len()),
        messaging.kafka.cluster.id = cluster,
        messaging.kafka.offset = only().map(|record| record.offset()),
        messaging.kafka.message.tombstone = only().and_then(|record| record.value().is_none().then_some(true)),
        error.type = Empty,
        highwater.outcome = Empty,
    );
    #[cfg(feature = "otel")]
    crate::otel::link(&span, batch);
    span
}

/// What [`Handler::prepare`](crate::Handler::prepare) does, ahead of the batch's turn.
pub(crate) fn prepare(process: &Span) -> Span {
    trace_span!(target: "highwater::process::prepare", parent: process, "prepare", otel.kind = "internal")
}

/// What the handler does; spans that it makes itself are below it.
pub(crate) fn handler() -> Span {
    trace_span!(target: "highwater::process::handler", "handler", otel.kind = "internal", otel.status_code = Empty)
}

/// The compare-and-set of the offsets, and COMMIT.
pub(crate) fn commit(batch: &Batch, identity: &Identity) -> Span {
    trace_span!(
        target: "highwater::process::commit",
        "commit",
        otel.name = name("commit", batch.topic()),
        otel.kind = "client",
        otel.status_code = Empty,
        messaging.system = "kafka",
        messaging.operation.name = "commit",
        messaging.operation.type = "settle",
        messaging.destination.name = batch.topic(),
        messaging.consumer.group.name = &*identity.group,
        messaging.client.id = client_id(identity),
        messaging.batch.message_count = int(batch.len()),
        db.system.name = "postgresql",
        error.type = Empty,
    )
}

/// The statement that claims partitions. A claim lasts for many batches, so it is below none of them.
pub(crate) fn claim(keys: &[PartitionKey], identity: &Identity) -> Span {
    trace_span!(
        target: "highwater::claim",
        parent: None,
        "claim",
        otel.name = name("claim", single(keys.iter())),
        otel.kind = "client",
        otel.status_code = Empty,
        messaging.system = "kafka",
        messaging.operation.name = "claim",
        messaging.destination.name = single(keys.iter()),
        messaging.consumer.group.name = &*identity.group,
        messaging.client.id = client_id(identity),
        db.system.name = "postgresql",
        error.type = Empty,
        highwater.partitions = int(keys.len()),
        highwater.partitions.claimed = Empty,
    )
}

/// Says on a claim's span how many partitions were free.
pub(crate) fn claimed(span: &Span, partitions: Result<usize, &tokio_postgres::Error>) {
    match partitions {
        Ok(partitions) => {
            span.record("highwater.partitions.claimed", int(partitions));
        }
        Err(error) => failed(span, error.code().map_or("connection_lost", |state| state.code())),
    }
}

/// Says on a span that it went wrong; `what` is one of few words.
pub(crate) fn failed(span: &Span, what: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", what);
}

/// Says on a batch's span what became of it.
pub(crate) fn outcome(span: &Span, attempt: &Attempt) {
    if span.is_disabled() {
        return;
    }
    let (outcome, error) = of(attempt);
    span.record("highwater.outcome", outcome);
    if let Some(error) = error {
        failed(span, error);
    }
}

/// The same on the span of its commit.
pub(crate) fn committed(span: &Span, attempt: &Attempt) {
    if let (_, Some(error)) = of(attempt) {
        failed(span, error);
    }
}

/// A batch that was taken ahead and goes back untouched, because the one before it was not applied.
pub(crate) fn put_back(span: &Span) {
    span.record("highwater.outcome", "put_back");
}

/// `highwater.outcome`, and `error.type`: the SQLSTATE where there is one.
fn of(attempt: &Attempt) -> (&'static str, Option<&str>) {
    let error = |outcome| (outcome, Some(outcome));
    match attempt {
        Attempt::Applied => ("applied", None),
        Attempt::Missed => error("missed"),
        Attempt::Locked(_) => error("locked"),
        Attempt::Failed { error, .. } => {
            ("failed", Some(error.sqlstate().unwrap_or_else(|| word(error.cause().class))))
        }
        Attempt::Panicked(_) => error("panicked"),
        Attempt::TimedOut(_) => error("timed_out"),
        Attempt::Crowded => error("crowded"),
        Attempt::Cancelled => error("cancelled"),
        Attempt::Unknown { .. } => error("unknown"),
        Attempt::Smuggled => error("smuggled"),
        Attempt::Overtaken(_) => error("overtaken"),
        Attempt::NotParked => error("not_parked"),
    }
}

fn word(class: Class) -> &'static str {
    match class {
        Class::Environment => "environment",
        Class::Lost => "connection_lost",
        Class::OwnTimeout => "timed_out",
        Class::Reject => "rejected",
        Class::RetryThenHalt => "retry_then_halt",
        Class::Bug => "bug",
        Class::Privilege => "privilege",
        Class::Halt => "halt",
        Class::Authentication => "authentication",
    }
}
