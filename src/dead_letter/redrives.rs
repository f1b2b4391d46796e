//! Redrives as workers read them, and what they say of them beside their batches.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::rejection::storable;
use super::{WAITS, same_key};
use crate::batch::{Part, PartitionKey, Redriven, Segment};
use crate::consumer::PartitionBuffer;
use crate::consumer::ffi::TimestampType;
use crate::control::is_older;
use crate::db::{Db, DbError};
use crate::record::chunk::{Chunk, RawRecord};
use crate::schema::SchemaName;
use crate::{Batch, NextOffset};

/// How many that are parked follow at a time, over all keys of a batch: while they are listed, the partition's offset is locked.
const FOLLOW: i64 = 5_000;
/// And of a key at least.
const FOLLOW_OF_KEY: i64 = 50;

/// A redrive that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: i64,
    /// None behind this place may be taken now.
    up_to: i64,
    /// Of the whole group.
    pub(crate) per_second: Option<i64>,
    /// What is said of why it does not get on.
    detail: Option<String>,
    /// Whether what was applied since may be overwritten.
    pub(crate) ignores_order: bool,
}

impl Request {
    /// The statement for the first ones, or for all.
    fn of<'a>(&self, [first, all]: &'a [String; 2]) -> &'a str {
        if self.up_to < i64::MAX { first } else { all }
    }

    /// Whether it is said that it does not get on in this partition.
    pub(crate) fn is_held_up(&self, key: &PartitionKey) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.starts_with(&of_partition(key)))
    }
}

/// A dead letter that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) letter: i64,
    pub(crate) offset: i64,
    /// Why it is not tried; none: it is.
    pub(crate) passed: Option<Passed>,
    pub(crate) bytes: usize,
}

/// Why a letter on the list is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It is not open any more: somebody has decided otherwise, or it was redriven otherwise.
    Gone,
    /// It waits, and cannot be redriven as it is: its content is not kept, for instance.
    Ineligible,
    /// An earlier one of its key waits, which is not of this redrive (any more), and order is of matter.
    Behind,
}

impl Passed {
    pub(crate) const ALL: [Self; 3] = [Self::Gone, Self::Ineligible, Self::Behind];

    /// As the tables have it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Ineligible => "ineligible",
            Self::Behind => "behind",
        }
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|passed| passed.as_str() == text)
    }
}

/// Why a dead letter `d` (with its payload `p` and what is known of its topic, `t`) can never be redriven as it is; NULL if
/// nothing of that kind is in the way. Asked when a redrive is begun, and again when its letters' turn comes.
///
/// Moves by Highwater's own verbs supersede what will be read again; the last reason is for those that are told by their
/// event alone, as by an operator's own SQL, or a start from the beginning after the offsets were deleted.
pub(crate) fn obstacle(schema: &SchemaName) -> String {
    format!(
        "CASE WHEN p.dead_letter_id IS NULL THEN 'their content is not kept: it was too large, or has expired' \
           WHEN d.topic_id NOT IN ('', coalesce(t.topic_id, '')) THEN 'they are of another topic of this name, which was deleted' \
           WHEN EXISTS (SELECT FROM {} e WHERE e.group_id = d.group_id AND e.topic = d.topic AND e.partition = d.partition \
             AND e.occurred_at > d.last_at AND e.to_offset <= d.record_offset \
             AND (e.from_offset IS NULL OR e.from_offset > d.record_offset)) \
             THEN 'the group was moved back before them since, and has read them again, or will' END",
        schema.qualified("offset_event")
    )
}

/// That a row of the list, which is looked up by its letter, waits, and is of this redrive.
///
/// Written so that no index by redrive fits, nor one of those that wait: a list may have grown by 100,000 since a plan was
/// made for it, or its statistics, and Postgres would go through all of it for each letter. A letter is on few lists.
pub(crate) fn on_list(item: &str, request: &str) -> String {
    format!("{item}.request_id + 0 = {request} AND coalesce({item}.outcome, '') = ''")
}

/// Up to which place letters of a redrive `r` may be taken: while it has canaries, the first that wait, as many as are missing.
pub(crate) fn up_to(items: &str) -> String {
    let (redriven, phase) = (canaries_redriven(items), canaries_go(items));
    format!(
        "CASE WHEN {phase} THEN coalesce((SELECT max(n.place) FROM ( \
           SELECT i.place FROM {items} i WHERE i.request_id = r.request_id AND i.outcome IS NULL \
           ORDER BY i.place LIMIT r.canary - {redriven}) n), 0) ELSE 9223372036854775807 END"
    )
}

/// That the canaries of a redrive `r` are at it: nothing else of it is begun.
pub(crate) fn canaries_go(items: &str) -> String {
    format!("(r.canary > 0 AND {} < r.canary)", canaries_redriven(items))
}

fn canaries_redriven(items: &str) -> String {
    format!(
        "(SELECT count(*) FROM (SELECT FROM {items} i WHERE i.request_id = r.request_id AND i.outcome = 'redriven' \
           ORDER BY i.place LIMIT r.canary) n)"
    )
}

/// That a dead letter is of the topic that has its name now, and not of one that was deleted. A topic may have had no id when
/// the letter was stored.
pub(crate) fn of_topic(schema: &SchemaName, letter: &str) -> String {
    format!(
        "{letter}.topic_id IN ('', coalesce((SELECT t.topic_id FROM {} t WHERE t.group_id = {letter}.group_id \
           AND t.topic = {letter}.topic), ''))",
        schema.qualified("group_topic")
    )
}

/// Puts on the list of redrive `$1` what is parked behind letters `$2`, where they are the last of their keys on it: so many,
/// and the next ones once these are through.
///
/// In the transaction that redrives them none is parked meanwhile: a lane that parks locks the partition's offset, and one
/// that waits.
pub(crate) fn follow(schema: &SchemaName) -> String {
    let [letters, payloads, requests, items] =
        ["dead_letter", "dead_letter_payload", "redrive_request", "redrive_letter"]
            .map(|table| schema.qualified(table));
    format!(
        "WITH keys AS MATERIALIZED ( \
           SELECT DISTINCT d.group_id, d.topic, d.partition, d.key_hash FROM {letters} d \
           WHERE d.dead_letter_id = ANY($2::int8[]) AND d.key_hash IS NOT NULL AND {its_topic}), \
         last AS MATERIALIZED ( \
           SELECT k.* FROM keys k WHERE NOT EXISTS ( \
             SELECT FROM {letters} e JOIN {items} i USING (dead_letter_id) \
             WHERE {mine} AND {of_key} AND e.{WAITS})), \
         next AS MATERIALIZED ( \
           SELECT p.* FROM {requests} r CROSS JOIN last k CROSS JOIN LATERAL ( \
             SELECT p.dead_letter_id, p.topic, p.partition, p.record_offset FROM {letters} p \
             WHERE {behind} AND p.{WAITS} AND p.state = 'parked' AND {of_topic} \
               AND EXISTS (SELECT FROM {payloads} c WHERE c.dead_letter_id = p.dead_letter_id) \
               AND NOT EXISTS (SELECT FROM {items} f WHERE f.dead_letter_id = p.dead_letter_id \
                 AND f.request_id + 0 = $1 AND f.outcome <> 'behind') \
             ORDER BY p.record_offset, p.dead_letter_id \
             LIMIT greatest({FOLLOW} / (SELECT count(*) FROM last), {FOLLOW_OF_KEY})) p \
           WHERE r.request_id = $1 AND r.follow) \
         INSERT INTO {items} AS f (request_id, place, dead_letter_id, topic, partition, record_offset) \
         SELECT $1, (SELECT coalesce(max(m.place), 0) FROM {items} m WHERE m.request_id = $1) \
             + row_number() OVER (ORDER BY n.record_offset, n.dead_letter_id), \
           n.dead_letter_id, n.topic, n.partition, n.record_offset FROM next n \
         ON CONFLICT (request_id, dead_letter_id) DO UPDATE SET outcome = NULL, ended_at = NULL \
         WHERE f.outcome = 'behind'",
        behind = same_key("p", "k"),
        of_key = same_key("e", "k"),
        its_topic = of_topic(schema, "d"),
        of_topic = of_topic(schema, "p"),
        mine = on_list("i", "$1"),
    )
}

/// The statements.
#[derive(Debug)]
pub(crate) struct Redrives {
    db: Arc<Db>,
    running: String,
    /// Of those that go first, and of all.
    partitions: [String; 2],
    waiting: [String; 2],
    passed: String,
    follow: String,
    read: String,
    turn: String,
    conclude: String,
    stop: String,
    held_up: String,
    goes_on: String,
}

impl Redrives {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        let [letters, payloads, topics, offsets, requests, items] = [
            "dead_letter",
            "dead_letter_payload",
            "group_topic",
            "consumer_offset",
            "redrive_request",
            "redrive_letter",
        ]
        .map(|table| db.schema.qualified(table));
        let failed = format!(
            "(SELECT count(*) FROM {items} i WHERE i.request_id = r.request_id AND i.outcome = 'failed')"
        );
        // While canaries go, nothing else can have failed.
        let canary_failed = format!("({} AND {failed} > 0)", canaries_go(&items));
        // The first ones by their places, all by the index of those that wait.
        let waits = ["AND i.place <= $2", "AND $2::int8 IS NOT NULL"]
            .map(|places| format!("i.request_id = $1 AND i.outcome IS NULL {places}"));
        Self {
            // Behind the canaries only once so many are redriven.
            running: format!(
                "SELECT r.request_id, CASE WHEN {failed} >= r.stop_after OR {canary_failed} THEN 0 ELSE {up_to} END, \
                   r.per_second, r.detail, r.ignore_order \
                 FROM {requests} r WHERE r.group_id = $1 AND r.state = 'running' ORDER BY r.request_id",
                up_to = up_to(&items),
            ),
            partitions: waits.each_ref().map(|waits| {
                format!(
                    "SELECT h.topic, h.partition \
                     FROM unnest($3::text[], $4::int4[], $5::int8[]) AS h(topic, partition, next_offset) \
                     WHERE EXISTS (SELECT FROM {items} i WHERE {waits} AND i.topic = h.topic AND i.partition = h.partition \
                       AND i.record_offset < h.next_offset)"
                )
            }),
            // A letter is behind one that waits before it, unless that one is on the list and comes before it now, too. The
            // first such one of each key is enough. One that is not there any more was over.
            waiting: waits.each_ref().map(|waits| {
                format!(
                    "WITH portion AS MATERIALIZED ( \
                       SELECT i.dead_letter_id, i.record_offset FROM {items} i \
                       WHERE {waits} AND i.topic = $3 AND i.partition = $4 AND i.record_offset < $5 \
                       ORDER BY i.record_offset, i.dead_letter_id LIMIT $6), \
                     keys AS MATERIALIZED ( \
                       SELECT d.group_id, d.topic, d.partition, d.key_hash, max(d.record_offset) AS last \
                       FROM portion JOIN {letters} d USING (dead_letter_id) \
                       WHERE $7::bool AND d.key_hash IS NOT NULL AND {of_topic} GROUP BY 1, 2, 3, 4), \
                     blocked AS MATERIALIZED ( \
                       SELECT k.key_hash, e.record_offset AS first FROM keys k CROSS JOIN LATERAL ( \
                         SELECT e.record_offset FROM {letters} e \
                         WHERE {of_key} AND e.record_offset < k.last AND e.{WAITS} AND {other_of_topic} \
                           AND NOT EXISTS (SELECT FROM {items} i WHERE {mine} AND i.place <= $2 \
                             AND i.dead_letter_id = e.dead_letter_id) \
                         ORDER BY e.record_offset LIMIT 1) e) \
                     SELECT i.dead_letter_id, i.record_offset, \
                       CASE WHEN d.state IS NULL OR d.state NOT IN ('open', 'parked') THEN '{gone}' \
                         WHEN ({obstacle}) IS NOT NULL THEN '{ineligible}' \
                         WHEN b.first < d.record_offset THEN '{behind}' END, \
                       (coalesce(octet_length(p.record_key), 0) + coalesce(octet_length(p.record_value), 0))::int8 \
                     FROM portion i LEFT JOIN {letters} d USING (dead_letter_id) \
                     LEFT JOIN {payloads} p USING (dead_letter_id) \
                     LEFT JOIN {topics} t ON t.group_id = d.group_id AND t.topic = d.topic \
                     LEFT JOIN blocked b ON b.key_hash = d.key_hash \
                     ORDER BY i.record_offset, i.dead_letter_id",
                    gone = Passed::Gone.as_str(),
                    ineligible = Passed::Ineligible.as_str(),
                    behind = Passed::Behind.as_str(),
                    obstacle = obstacle(&db.schema),
                    of_key = same_key("e", "k"),
                    of_topic = of_topic(&db.schema, "d"),
                    other_of_topic = of_topic(&db.schema, "e"),
                    mine = on_list("i", "$1"),
                )
            }),
            passed: format!(
                "UPDATE {items} i SET outcome = $3, ended_at = clock_timestamp() \
                 WHERE {mine} AND i.dead_letter_id = ANY($2)",
                mine = on_list("i", "$1"),
            ),
            follow: follow(&db.schema),
            read: format!(
                "SELECT dead_letter_id, record_key, record_value, header_names, header_values, timestamp_ms, timestamp_type \
                 FROM {payloads} WHERE dead_letter_id = ANY($1)"
            ),
            // One row for the whole group: the rate holds however many workers there are.
            // A turn that is minutes away was taken by a clock that has gone back since.
            turn: format!(
                "UPDATE {requests} SET free_at = clock_timestamp() + $2::int8 * interval '1 second' / per_second \
                 WHERE request_id = $1 AND state = 'running' \
                   AND (free_at <= clock_timestamp() OR free_at > clock_timestamp() + interval '5 minutes')"
            ),
            conclude: format!(
                "WITH found AS ( \
                   SELECT {failed} AS failed, {canary_failed} AS canary_failed, EXISTS ( \
                     SELECT FROM {items} i WHERE i.request_id = $1 AND i.outcome IS NULL) AS waits \
                   FROM {requests} r WHERE r.request_id = $1) \
                 UPDATE {requests} r SET ended_at = clock_timestamp(), \
                   state = CASE WHEN f.canary_failed OR f.failed >= r.stop_after THEN 'stopped' ELSE 'done' END, \
                   detail = CASE WHEN f.canary_failed THEN 'one of those that went first was rejected again' \
                     WHEN f.failed >= r.stop_after THEN f.failed || ' were rejected again' END \
                   || coalesce(', the last of them: ' || (SELECT left(d.reason, 500) FROM {items} i \
                     JOIN {letters} d USING (dead_letter_id) WHERE i.request_id = $1 AND i.outcome = 'failed' \
                     ORDER BY i.ended_at DESC LIMIT 1), '') \
                 FROM found f WHERE r.request_id = $1 AND r.state = 'running' \
                   AND (f.canary_failed OR f.failed >= r.stop_after OR NOT f.waits)"
            ),
            stop: format!(
                "UPDATE {requests} SET state = 'stopped', detail = $2, ended_at = clock_timestamp() \
                 WHERE request_id = $1 AND state = 'running'"
            ),
            held_up: format!(
                "UPDATE {requests} r SET detail = $2 WHERE r.request_id = $1 AND r.state = 'running' \
                   AND r.detail IS DISTINCT FROM $2 AND EXISTS (SELECT FROM {offsets} o WHERE o.group_id = r.group_id \
                     AND o.topic = $3 AND o.partition = $4 AND o.epoch = $5 AND o.claim_token = $6)"
            ),
            goes_on: format!(
                "UPDATE {requests} SET detail = NULL WHERE request_id = $1 AND state = 'running' AND starts_with(detail, $2)"
            ),
            db,
        }
    }

    /// Those that go on; `None` where there are no such tables yet.
    pub(crate) async fn running(&self) -> Result<Option<Vec<Request>>, DbError> {
        let client = self.db.status().await?;
        let asked = async {
            let statement = client.prepare_cached(&self.running).await?;
            client.query(&statement, &[&&*self.db.identity.group]).await
        };
        match asked.await {
            Ok(rows) => {
                let request = |row: &Row| Request {
                    id: row.get(0),
                    up_to: row.get(1),
                    per_second: row.get(2),
                    detail: row.get(3),
                    ignores_order: row.get(4),
                };
                Ok(Some(rows.iter().map(request).collect()))
            }
            // A right that is missing is to be said: a redrive would stand still.
            Err(error) if is_older(&error) && error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Of which of these partitions letters wait that may be taken now.
    pub(crate) async fn partitions(
        &self,
        request: &Request,
        held: &[Arc<PartitionBuffer>],
    ) -> Result<Vec<PartitionKey>, DbError> {
        let topics: Vec<&str> = held.iter().map(|buffer| &*buffer.key.topic).collect();
        let partitions: Vec<i32> = held.iter().map(|buffer| buffer.key.partition).collect();
        let next: Vec<i64> = held.iter().map(|buffer| buffer.committed()).collect();
        let client = self.db.status().await?;
        let statement = client.prepare_cached(request.of(&self.partitions)).await?;
        let rows =
            client.query(&statement, &[&request.id, &request.up_to, &topics, &partitions, &next]).await?;
        let key = |row: &Row| PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) };
        Ok(rows.iter().map(key).collect())
    }

    /// The first letters of this partition that wait, in offset order. `parks`: its keys' order is of matter.
    pub(crate) async fn waiting(
        &self,
        request: &Request,
        held: &PartitionBuffer,
        limit: usize,
        parks: bool,
    ) -> Result<Vec<Waiting>, DbError> {
        let (key, next) = (&held.key, held.committed());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let client = self.db.status().await?;
        let statement = client.prepare_cached(request.of(&self.waiting)).await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&request.id, &request.up_to, &&*key.topic, &key.partition, &next, &limit, &parks];
        let rows = client.query(&statement, &parameters).await?;
        let waiting = |row: &Row| Waiting {
            letter: row.get(0),
            offset: row.get(1),
            passed: row.get::<_, Option<&str>>(2).and_then(Passed::of),
            bytes: usize::try_from(row.get::<_, i64>(3)).unwrap_or(usize::MAX),
        };
        Ok(rows.iter().map(waiting).collect())
    }

    /// These are not redriven. `parks`: what is parked behind one that has gone follows all the same.
    pub(crate) async fn pass(
        &self,
        request: &Request,
        letters: &[i64],
        why: Passed,
        parks: bool,
    ) -> Result<(), DbError> {
        let client = self.db.status().await?;
        // First: who is killed in between does it again.
        if why == Passed::Gone && parks {
            client.execute(&self.follow, &[&request.id, &letters]).await?;
        }
        client.execute(&self.passed, &[&request.id, &letters, &why.as_str()]).await?;
        Ok(())
    }

    /// Whether so many may be taken now, by the redrive's rate; then they are.
    pub(crate) async fn turn(&self, request: &Request, letters: usize) -> Result<bool, DbError> {
        if request.per_second.is_none() {
            return Ok(true);
        }
        let client = self.db.status().await?;
        let letters = i64::try_from(letters).unwrap_or(i64::MAX);
        Ok(client.execute(&self.turn, &[&request.id, &letters]).await? == 1)
    }

    /// The letters as a batch under the claim that holds their partition. One whose content has gone meanwhile is left out.
    pub(crate) async fn batch(
        &self,
        request: &Request,
        held: &PartitionBuffer,
        waiting: &[Waiting],
    ) -> Result<Option<Batch>, DbError> {
        let numbers: Vec<i64> = waiting.iter().map(|waiting| waiting.letter).collect();
        let client = self.db.status().await?;
        let statement = client.prepare_cached(&self.read).await?;
        let rows = client.query(&statement, &[&numbers]).await?;
        let rows: HashMap<i64, &Row> = rows.iter().map(|row| (row.get(0), row)).collect();
        let mut chunk: Option<Chunk> = None;
        let mut redriven = Redriven { request: request.id, letters: [].into() };
        for Waiting { letter, offset, .. } in waiting {
            let Some(row) = rows.get(letter) else { continue };
            // Of a topic that had no id when the other one was stored: it comes in a batch of its own.
            if redriven.letters.contains_key(offset) {
                continue;
            }
            redriven.letters.insert(*offset, *letter);
            push(&mut chunk, *offset, row);
        }
        let (Some(chunk), Some((first, _)), Some((last, _))) =
            (chunk, redriven.letters.first_key_value(), redriven.letters.last_key_value())
        else {
            return Ok(None);
        };
        let (Some(from), Some(to)) = (NextOffset::new(*first), NextOffset::after(*last)) else {
            return Ok(None);
        };
        let range = 0..chunk.len();
        let part = Part {
            key: held.key.clone(),
            claim: held.claim,
            from,
            to,
            segments: vec![Segment { chunk: Arc::new(chunk), range }],
            letter: None,
            parked: Vec::new(),
        };
        Ok(Some(Batch::of_letters(part, redriven)))
    }

    /// Ends it, if there is nothing left to do, or enough has failed.
    pub(crate) async fn conclude(&self, request: &Request) -> Result<(), DbError> {
        let client = self.db.status().await?;
        client.execute(&self.conclude, &[&request.id]).await?;
        Ok(())
    }

    /// Ends it, for no letter's sake.
    pub(crate) async fn stop(&self, request: &Request, why: &str) -> Result<(), DbError> {
        self.say(&self.stop, request, why).await
    }

    /// Says why it does not get on, for whoever waits for it; under the claim alone.
    pub(crate) async fn held_up(
        &self,
        request: &Request,
        held: &PartitionBuffer,
        why: &str,
    ) -> Result<(), DbError> {
        let why = storable(&format!("{}{why}; trying again", of_partition(&held.key)));
        let (key, claim) = (&held.key, &held.claim);
        let client = self.db.status().await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&request.id, &why, &&*key.topic, &key.partition, &claim.epoch, &claim.token];
        client.execute(&self.held_up, &parameters).await?;
        Ok(())
    }

    /// That it does, in this partition.
    pub(crate) async fn goes_on(&self, request: &Request, key: &PartitionKey) -> Result<(), DbError> {
        self.say(&self.goes_on, request, &of_partition(key)).await
    }

    async fn say(&self, statement: &str, request: &Request, why: &str) -> Result<(), DbError> {
        let client = self.db.status().await?;
        client.execute(statement, &[&request.id, &storable(why)]).await?;
        Ok(())
    }
}

/// What a partition has to say begins with this.
fn of_partition(key: &PartitionKey) -> String {
    format!("{key}: ")
}

/// The same, of a row that has its topic and its number.
pub(crate) fn of_partition_sql(row: &str) -> String {
    format!("{row}.topic || '[' || {row}.partition || ']: '")
}

/// The record as it was, byte for byte.
fn push(chunk: &mut Option<Chunk>, offset: i64, row: &Row) {
    let names: Vec<&[u8]> = row.get(3);
    let values: Vec<Option<&[u8]>> = row.get(4);
    let record = RawRecord {
        offset,
        timestamp_ms: row.get::<_, Option<i64>>(5).unwrap_or(-1),
        timestamp_type: row.get::<_, Option<i16>>(6).map(|kind| match kind {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }),
        // Not kept: it is of the fence against truncation, and no handler sees it.
        leader_epoch: -1,
        key: row.get(1),
        value: row.get(2),
    };
    let chunk = chunk.get_or_insert_with(|| Chunk::starting_with(&record, None));
    chunk.push(&record, names.into_iter().zip(values));
}
