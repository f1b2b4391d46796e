//! What became of dead letters, and what people decide about them.
//!
//! Kinds first: what has one [fingerprint](DeadLetterKind::kind) is one trouble, and what is done is done to all that a
//! [filter](DeadLetterFilter) fits.

mod discard;
mod export;
mod filter;
mod redrive;
mod show;
mod to_topic;

use serde::Serialize;
use tokio_postgres::Row;

pub use self::discard::Discard;
pub use self::export::ExportedDeadLetter;
pub use self::filter::{DeadLetterFilter, DeadLetterState};
pub use self::redrive::{NotEligible, Redrivable, Redrive, RedriveStatus};
pub use self::show::{DeadLetterAttempt, DeadLetterHeader, DeadLetterPayload, PayloadState, ShownDeadLetter};
pub use self::to_topic::{ExportedToTopic, LeftOut};
use super::near::unknown_topic;
use super::{Offsets, utc};
use crate::dead_letter::PARKED;
use crate::error::{Error, Result};
use crate::schema::SchemaName;

/// Dead letters of one kind: of the same handler, SQLSTATE, table, column and constraint, and the same text but for what
/// differs from record to record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetterKind {
    /// The group.
    pub group: String,
    /// Its fingerprint.
    pub kind: String,
    /// How many there are.
    pub records: i64,
    /// Of these, those that wait for somebody's decision.
    pub open: i64,
    /// Those that wait behind others of their keys, and were not rejected themselves.
    pub parked: i64,
    /// Those that were applied after all.
    pub redriven: i64,
    /// Those that somebody has discarded.
    pub discarded: i64,
    /// Those that a move back of the offset has made void: the records were read again.
    pub superseded: i64,
    /// When the first of them was stored, in UTC.
    pub first_at: String,
    /// When one of them was last stored, in UTC.
    pub last_at: String,
    /// Their topics.
    pub topics: Vec<String>,
    /// The route of the handler, or the program; none of what a person has skipped.
    pub handler: Option<String>,
    /// The SQLSTATE, where the server had refused them.
    pub sqlstate: Option<String>,
    /// Why the newest of them was rejected; of those that are parked only where there is no other.
    pub reason: String,
}

/// A dead letter, without its record's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's own offset.
    pub offset: i64,
    /// The fingerprint of its kind.
    pub kind: String,
    /// Where it stands.
    pub state: String,
    /// How often it was stored.
    pub attempts: i32,
    /// When it was first stored, in UTC.
    pub first_at: String,
    /// When it was last stored, in UTC.
    pub last_at: String,
    /// When its state was last changed, in UTC.
    pub state_changed_at: String,
    /// The SQLSTATE, where the server had refused it.
    pub sqlstate: Option<String>,
    /// Why: no value of the record, but what the handler has put into its own words.
    pub reason: String,
    /// The route of the handler, or the program; none of what a person has skipped.
    pub handler: Option<String>,
    /// The process that stored it; none of what a person has skipped.
    pub worker: Option<String>,
    /// How many bytes its key, value and headers have, where they were too many to be stored (the setting
    /// `dead_letter_max_payload_bytes`): they are in Kafka, at its offset, as long as that holds them. None: they were stored.
    pub omitted_bytes: Option<i64>,
    /// Whether its content is kept; without it, it cannot be redriven.
    pub kept: bool,
}

/// How many columns of `d` a [`DeadLetter`] is made of.
const COLUMNS: usize = 17;

/// The columns of a [`DeadLetter`], of `d`.
fn columns(schema: &SchemaName) -> String {
    format!(
        "d.dead_letter_id, d.group_id, d.topic, d.partition, d.record_offset, d.fingerprint, d.state, d.attempts, {}, {}, {}, \
         d.sqlstate, d.reason, d.handler, d.worker::text, d.omitted_bytes, \
         EXISTS (SELECT FROM {} c WHERE c.dead_letter_id = d.dead_letter_id)",
        utc("d.first_at"),
        utc("d.last_at"),
        utc("d.state_changed_at"),
        schema.qualified("dead_letter_payload")
    )
}

impl DeadLetter {
    fn of(row: &Row) -> Self {
        Self {
            id: row.get(0),
            group: row.get(1),
            topic: row.get(2),
            partition: row.get(3),
            offset: row.get(4),
            kind: row.get(5),
            state: row.get(6),
            attempts: row.get(7),
            first_at: row.get(8),
            last_at: row.get(9),
            state_changed_at: row.get(10),
            sqlstate: row.get(11),
            reason: row.get(12),
            handler: row.get(13),
            worker: row.get(14),
            omitted_bytes: row.get(15),
            kept: row.get(16),
        }
    }
}

impl Offsets {
    /// What kinds of dead letters there are, those with the most records first.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or nobody has heard of the group.
    pub async fn dead_letter_kinds(&mut self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterKind>> {
        self.reconnect().await?;
        // What is parked does not say why.
        let newest = |column: &str| {
            format!("(array_agg(d.{column} ORDER BY starts_with(d.reason, '{PARKED}'), d.last_at DESC))[1]")
        };
        let of_state = |state: &str| format!("count(*) FILTER (WHERE d.state IN ({state}))");
        let sql = format!(
            "SELECT d.fingerprint, count(*), {open}, {redriven}, {discarded}, {superseded}, {first}, {last}, \
               array_agg(DISTINCT d.topic), (array_agg(d.handler ORDER BY d.last_at DESC))[1], \
               {sqlstate}, {reason}, {parked} \
             FROM {letters} d WHERE {which} GROUP BY d.fingerprint ORDER BY count(*) DESC, d.fingerprint",
            open = of_state("'open', 'queued'"),
            parked = of_state("'parked'"),
            sqlstate = newest("sqlstate"),
            reason = newest("reason"),
            redriven = of_state("'redriven'"),
            discarded = of_state("'discarded'"),
            superseded = of_state("'superseded'"),
            first = utc("min(d.first_at)"),
            last = utc("max(d.last_at)"),
            letters = self.schema().qualified("dead_letter"),
            which = filter::WHICH,
        );
        let values = filter.values();
        let rows = self.client.query(&sql, &values.parameters()).await;
        let rows = rows.map_err(|source| {
            Error::postgres(format!("read the dead letters of group `{}`", filter.group), source)
        })?;
        if rows.is_empty() {
            self.check_names(filter).await?;
        }
        let kind = |row: &Row| DeadLetterKind {
            group: filter.group.clone(),
            kind: row.get(0),
            records: row.get(1),
            open: row.get(2),
            redriven: row.get(3),
            discarded: row.get(4),
            superseded: row.get(5),
            first_at: row.get(6),
            last_at: row.get(7),
            topics: row.get(8),
            handler: row.get(9),
            sqlstate: row.get(10),
            reason: row.get(11),
            parked: row.get(12),
        };
        Ok(rows.iter().map(kind).collect())
    }

    /// Single dead letters, in the order in which they were first stored; those with a number above `after`, at most
    /// `limit` of them.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or nobody has heard of the group.
    pub async fn dead_letters(
        &mut self,
        filter: &DeadLetterFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<DeadLetter>> {
        self.reconnect().await?;
        let sql = format!(
            "SELECT {} FROM {} d WHERE {} AND d.dead_letter_id > ${after} ORDER BY d.dead_letter_id LIMIT ${limit}",
            columns(self.schema()),
            self.schema().qualified("dead_letter"),
            filter::WHICH,
            after = filter::VALUES + 1,
            limit = filter::VALUES + 2,
        );
        let values = filter.values();
        let mut parameters = values.parameters();
        parameters.push(&after);
        parameters.push(&limit);
        let rows = self.client.query(&sql, &parameters).await;
        let rows = rows.map_err(|source| {
            Error::postgres(format!("read the dead letters of group `{}`", filter.group), source)
        })?;
        if rows.is_empty() {
            self.check_names(filter).await?;
        }
        Ok(rows.iter().map(DeadLetter::of).collect())
    }

    /// The same filter, but of nothing that is stored from now on: so that what is decided about is what was counted.
    ///
    /// # Errors
    ///
    /// If Postgres does not answer.
    pub async fn as_of_now(&mut self, filter: DeadLetterFilter) -> Result<DeadLetterFilter> {
        self.reconnect().await?;
        let row = self.client.query_one("SELECT clock_timestamp()", &[]).await;
        let now = row.map_err(|source| Error::postgres("ask what time it is", source))?.get(0);
        Ok(filter.not_after(now))
    }

    /// That nothing fits a mistyped group or topic is no answer.
    async fn check_names(&mut self, filter: &DeadLetterFilter) -> Result<()> {
        let group = &filter.group;
        let sql = format!(
            "SELECT topic FROM {} WHERE group_id = $1 UNION SELECT topic FROM {} WHERE group_id = $1 ORDER BY topic",
            self.schema().qualified("consumer_offset"),
            self.schema().qualified("dead_letter"),
        );
        let rows = self.client.query(&sql, &[group]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read the topics of group `{group}`"), source))?;
        let topics: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if topics.is_empty() {
            return Err(self.unknown_group(group).await);
        }
        match filter.topics().find(|topic| !topics.iter().any(|known| known == topic)) {
            Some(topic) => Err(unknown_topic(group, topic, &topics)),
            None => Ok(()),
        }
    }
}
