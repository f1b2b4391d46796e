//! Having dead letters applied once more by the group's own workers.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::{Offsets, utc};
use super::{DeadLetterFilter, filter};
use crate::db::live;
use crate::dead_letter::{WAITS, canaries_go, obstacle, of_partition_sql, up_to};
use crate::error::{Error, ErrorKind, Result};

/// How often it is looked how far one is.
const LOOK: Duration = Duration::from_millis(300);
/// Failures after which a redrive ends, unless told otherwise.
const STOP_AFTER: i64 = 10;

/// How dead letters are to be applied once more, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Redrive {
    actor: String,
    reason: String,
    canary: i64,
    per_second: Option<i64>,
    max: Option<i64>,
    stop_after: i64,
    ignore_order: bool,
}

impl Redrive {
    /// By somebody, for a reason.
    pub fn by(actor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            reason: reason.into(),
            canary: 0,
            per_second: None,
            max: None,
            stop_after: STOP_AFTER,
            ignore_order: false,
        }
    }

    /// So many go first; if one of them is rejected again, nothing follows. Default: 0.
    pub fn canary(mut self, records: i64) -> Self {
        self.canary = records.max(0);
        self
    }

    /// No more than so many a second, by all workers together. `None`, the default: as fast as it goes.
    pub fn per_second(mut self, records: Option<i64>) -> Self {
        self.per_second = records.map(|records| records.max(1));
        self
    }

    /// No more than so many of those that fit, in the order of topic, partition and offset. `None`, the default: all.
    pub fn max(mut self, records: Option<i64>) -> Self {
        self.max = records.map(|records| records.max(0));
        self
    }

    /// Once so many were rejected again, no more are begun. Default: 10.
    pub fn stop_after(mut self, failures: i64) -> Self {
        self.stop_after = failures.max(1);
        self
    }

    /// Also where what was applied since may be overwritten by what is older.
    pub fn ignore_order(mut self, ignore: bool) -> Self {
        self.ignore_order = ignore;
        self
    }
}

/// What a redrive would do, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Redrivable {
    /// The group.
    pub group: String,
    /// Open and parked dead letters that fit and would be applied once more; what is parked behind them follows.
    pub records: i64,
    /// Of these, those that may have rows already, from before a move back that has left them (no `--undo-rows`): once
    /// redriven, such a record may be there twice.
    pub maybe_twice: i64,
    /// Those that fit and would not, by why not.
    pub not_eligible: Vec<NotEligible>,
}

/// Why dead letters are not applied once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NotEligible {
    /// Why.
    pub why: String,
    /// How many.
    pub records: i64,
}

/// A redrive as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RedriveStatus {
    /// Its number.
    pub id: i64,
    /// The group.
    pub group: String,
    /// `running`, `done`, `stopped`: enough has failed; `cancelled`.
    pub state: String,
    /// Why it has ended early, or what holds it up now.
    pub why: Option<String>,
    /// How many dead letters are on its list: those it began with, and what followed them.
    pub records: i64,
    /// How many of them were applied.
    pub redriven: i64,
    /// How many were rejected again, and are open.
    pub failed: i64,
    /// How many were not open any more when their turn came.
    pub gone: i64,
    /// How many were left where they are, for they cannot be redriven as they are: their content is not kept, for instance.
    pub ineligible: i64,
    /// How many were left where they are, for an earlier one of their key waits.
    pub behind: i64,
    /// How many wait; those of a redrive that has ended are as they were.
    pub waiting: i64,
    /// Of these, those of partitions that no live worker holds: halted, paused, or nobody is there.
    pub unheld: i64,
    /// Which ones were asked for.
    pub filter: String,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// How many go first.
    pub canary: i64,
    /// How many a second at most.
    pub per_second: Option<i64>,
    /// After how many failures it ends.
    pub stop_after: i64,
    /// Whether what was applied since may be overwritten.
    pub ignore_order: bool,
    /// When it was asked for, in UTC.
    pub created_at: String,
    /// When it ended, in UTC.
    pub ended_at: Option<String>,
}

impl RedriveStatus {
    /// Whether workers are still at it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Whether it went to its end, and nothing of it was rejected again, or waits still. (What has gone may have been
    /// redriven by another.)
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.state == "done" && self.failed == 0 && self.behind == 0 && self.ineligible == 0
    }

    /// What a script is told by its exit code.
    ///
    /// # Errors
    ///
    /// [`Difference`](ErrorKind::Difference) if something was rejected again, or waits still, or it has not gone to its end.
    pub fn check(&self) -> Result<()> {
        if self.is_well() {
            return Ok(());
        }
        let mut text = format!(
            "redrive {} {}: {} of {} redriven, {} rejected again, {} were decided about or redriven otherwise, {} wait and cannot \
             be redriven as they are (`dead-letters redrive --dry-run` says why), {} wait behind an earlier one of their key",
            self.id,
            match self.state.as_str() {
                "running" => "goes on",
                "done" => "is done",
                "stopped" => "was stopped",
                _ => "was cancelled",
            },
            self.redriven,
            self.records,
            self.failed,
            self.gone,
            self.ineligible,
            self.behind
        );
        if let Some(why) = &self.why {
            let _ = write!(text, "; {why}");
        }
        if self.is_running() && self.unheld > 0 {
            let _ = write!(
                text,
                "; {} are of partitions that no live worker holds: halted, paused, or nobody is there (`highwater status`)",
                self.unheld
            );
        }
        Err(Error::new(ErrorKind::Difference, text))
    }

    fn of(row: &Row) -> Self {
        Self {
            id: row.get(0),
            group: row.get(1),
            state: row.get(2),
            why: row.get(3),
            records: row.get(4),
            redriven: row.get(5),
            failed: row.get(6),
            gone: row.get(7),
            waiting: row.get(8),
            unheld: row.get(9),
            filter: row.get(10),
            actor: row.get(11),
            reason: row.get(12),
            canary: row.get(13),
            per_second: row.get(14),
            stop_after: row.get(15),
            ignore_order: row.get(16),
            created_at: row.get(17),
            ended_at: row.get(18),
            behind: row.get(19),
            ineligible: row.get(20),
        }
    }
}

impl Offsets {
    /// What a redrive of those that fit would do.
    ///
    /// # Errors
    ///
    /// If they cannot be counted, or nobody has heard of the group.
    pub async fn redrivable(&mut self, filter: &DeadLetterFilter, ignore_order: bool) -> Result<Redrivable> {
        self.reconnect().await?;
        let filter = filter.clone().redrivable();
        let sql = format!(
            "SELECT e.why, count(*), count(*) FILTER (WHERE e.maybe_twice) FROM ({}) e \
             GROUP BY e.why ORDER BY count(*) DESC, e.why",
            self.eligible()
        );
        let values = filter.values();
        let mut parameters = values.parameters();
        parameters.push(&ignore_order);
        let rows = self.client.query(&sql, &parameters).await;
        let rows = rows.map_err(|source| {
            Error::postgres(format!("count the dead letters of group `{}`", filter.group), source)
        })?;
        if rows.is_empty() {
            self.check_names(&filter).await?;
        }
        let mut found =
            Redrivable { group: filter.group.clone(), records: 0, maybe_twice: 0, not_eligible: Vec::new() };
        for row in &rows {
            match row.get::<_, Option<String>>(0) {
                None => (found.records, found.maybe_twice) = (row.get(1), row.get(2)),
                Some(why) => found.not_eligible.push(NotEligible { why, records: row.get(1) }),
            }
        }
        Ok(found)
    }

    /// Asks the group's workers to apply once more what fits, is open or parked, and eligible now; and, unless there is a
    /// [`max`](Redrive::max), what is parked behind that, also later. Each dead letter stays open until
    /// the worker that holds its partition has applied it, in one transaction with its rows. `None`: nothing is to be done.
    ///
    /// Workers begin within two seconds; where a partition is halted or paused, or nobody holds it, its dead letters wait.
    ///
    /// # Errors
    ///
    /// If it cannot be stored, or nobody has heard of the group.
    pub async fn redrive(
        &mut self,
        filter: &DeadLetterFilter,
        how: &Redrive,
    ) -> Result<Option<RedriveStatus>> {
        self.reconnect().await?;
        let filter = filter.clone().redrivable();
        let next = filter::VALUES + 2;
        let sql = format!(
            "WITH these AS ( \
               SELECT e.dead_letter_id, e.topic, e.partition, e.record_offset, \
                 row_number() OVER (ORDER BY e.topic, e.partition, e.record_offset, e.dead_letter_id) AS place \
               FROM ({eligible}) e WHERE e.why IS NULL \
               ORDER BY e.topic, e.partition, e.record_offset, e.dead_letter_id LIMIT ${max}::int8), \
             request AS ( \
               INSERT INTO {requests} (group_id, filter, actor, reason, records, canary, per_second, stop_after, ignore_order, \
                 follow) \
               SELECT $1::text, concat_ws(', ', ${words}::text, 'since ' || {since}, 'before ' || {until}), ${actor}::text, ${reason}::text, count(*), ${canary}::int8, ${per_second}::int8, \
                 ${stop_after}::int8, ${ignore}::bool, ${max}::int8 IS NULL \
               FROM these HAVING count(*) > 0 RETURNING request_id), \
             letters AS ( \
               INSERT INTO {items} (request_id, place, dead_letter_id, topic, partition, record_offset) \
               SELECT request_id, place, dead_letter_id, topic, partition, record_offset FROM these, request) \
             SELECT request_id FROM request",
            eligible = self.eligible(),
            requests = self.schema().qualified("redrive_request"),
            items = self.schema().qualified("redrive_letter"),
            since = utc("$6::timestamptz"),
            until = utc("$7::timestamptz"),
            ignore = next - 1,
            max = next,
            words = next + 1,
            actor = next + 2,
            reason = next + 3,
            canary = next + 4,
            per_second = next + 5,
            stop_after = next + 6,
        );
        let (values, words) = (filter.values(), filter.words());
        let mut parameters = values.parameters();
        let more: [&(dyn ToSql + Sync); 8] = [
            &how.ignore_order,
            &how.max,
            &words,
            &how.actor,
            &how.reason,
            &how.canary,
            &how.per_second,
            &how.stop_after,
        ];
        parameters.extend(more);
        let row = self.client.query_opt(&sql, &parameters).await;
        let row = row.map_err(|source| {
            let text = format!(
                "ask for a redrive in group `{}` (whether it was asked for, `dead-letters redrives` says)",
                filter.group
            );
            Error::postgres(text, source)
        })?;
        match row {
            Some(row) => self.redrive_status(row.get(0)).await.map(Some),
            None => {
                self.check_names(&filter).await?;
                Ok(None)
            }
        }
    }

    /// How far a redrive is.
    ///
    /// # Errors
    ///
    /// If there is none of this number.
    pub async fn redrive_status(&mut self, id: i64) -> Result<RedriveStatus> {
        self.reconnect().await?;
        let sql = self.redrive_sql("r.request_id = $1");
        let row = self.client.query_opt(&sql, &[&id]).await;
        let row = row.map_err(|source| Error::postgres(format!("look how far redrive {id} is"), source))?;
        row.as_ref().map(RedriveStatus::of).ok_or_else(|| {
            Error::configuration(format!(
                "there is no redrive {id}: see `highwater dead-letters redrives --group GROUP`"
            ))
        })
    }

    /// The redrives of a group, the newest first, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or nobody has heard of the group.
    pub async fn redrives(&mut self, group: &str, limit: i64) -> Result<Vec<RedriveStatus>> {
        self.reconnect().await?;
        let sql = self.redrive_sql("r.group_id = $1 ORDER BY r.request_id DESC LIMIT $2");
        let rows = self.client.query(&sql, &[&group, &limit]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read the redrives of group `{group}`"), source))?;
        if rows.is_empty() {
            self.check_names(&DeadLetterFilter::new(group)).await?;
        }
        Ok(rows.iter().map(RedriveStatus::of).collect())
    }

    /// Waits until a redrive has ended, at most for so long; `watch` hears how far it is. It goes on when this is dropped.
    ///
    /// # Errors
    ///
    /// As [`redrive_status`](Self::redrive_status).
    pub async fn await_redrive(
        &mut self,
        id: i64,
        limit: Duration,
        watch: &mut (dyn FnMut(&RedriveStatus) + Send),
    ) -> Result<RedriveStatus> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let status = self.redrive_status(id).await?;
            watch(&status);
            if !status.is_running() || tokio::time::Instant::now() >= until {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends a redrive: nothing of it is begun any more, and what was not applied by then is open, as before. `false`: it had
    /// ended before, and is left as it was.
    ///
    /// # Errors
    ///
    /// As [`redrive_status`](Self::redrive_status).
    pub async fn cancel_redrive(
        &mut self,
        id: i64,
        actor: &str,
        reason: &str,
    ) -> Result<(RedriveStatus, bool)> {
        self.reconnect().await?;
        let sql = format!(
            "UPDATE {} SET state = 'cancelled', detail = $2, ended_at = clock_timestamp() \
             WHERE request_id = $1 AND state = 'running'",
            self.schema().qualified("redrive_request")
        );
        let why = format!("cancelled by {actor}: {reason}");
        let done = self.client.execute(&sql, &[&id, &why]).await;
        let done = done.map_err(|source| Error::postgres(format!("cancel redrive {id}"), source))?;
        Ok((self.redrive_status(id).await?, done == 1))
    }

    /// Those that fit, each with why it is not eligible, or NULL, and whether it may have rows already: it was applied
    /// before the offset was moved back, and is a dead letter only since. Behind the filter's parameters: whether order is
    /// of no matter.
    fn eligible(&self) -> String {
        let [letters, statuses, payloads, attempts, events, topics, offsets, tables, items, requests] = [
            "dead_letter",
            "partition_status",
            "dead_letter_payload",
            "dead_letter_attempt",
            "offset_event",
            "group_topic",
            "consumer_offset",
            "sink_table",
            "redrive_letter",
            "redrive_request",
        ]
        .map(|table| self.schema().qualified(table));
        // What the handler writes that will be called. Where no live worker says so, what was ever registered counts.
        let said = format!(
            "(CASE WHEN s.owner = o.owner AND s.epoch = o.epoch AND {} THEN s.writes END)",
            live(self.schema(), "o.owner")
        );
        let of_topic = format!(
            "FROM {tables} w WHERE w.group_id = d.group_id AND (w.topics IS NULL OR d.topic = ANY(w.topics))"
        );
        format!(
            "WITH judged AS MATERIALIZED ( \
               SELECT d.dead_letter_id, d.topic, d.partition, d.record_offset, d.key_hash, {parks} AS parks, coalesce({obstacle}, CASE \
                   WHEN o.next_offset IS NULL THEN 'the group does not read their partition any more' \
                   WHEN d.record_offset >= o.next_offset THEN 'the group has them before it, and will read them itself' \
                   WHEN EXISTS (SELECT FROM {items} i JOIN {requests} r USING (request_id) \
                     WHERE i.dead_letter_id = d.dead_letter_id AND i.outcome IS NULL AND r.state = 'running') \
                     THEN 'another redrive is at them' \
                   WHEN {parks} AND d.record_offset >= o.parking_from THEN NULL \
                   WHEN ${ignore}::bool OR {said} = 'append' THEN NULL \
                   WHEN {said} = 'unsaid' OR ({said} IS NULL AND NOT EXISTS (SELECT {of_topic})) \
                     THEN 'the handler of their topic does not say which tables it writes, so that order may matter (--ignore-order)' \
                   WHEN {said} = 'more' OR EXISTS (SELECT {of_topic} AND w.mode <> 'append') \
                     THEN 'the handler of their topic does more than append, and later records were applied since (--ignore-order)' \
                   END) AS why, \
                 EXISTS (SELECT FROM {events} e WHERE {of_event} AND e.kind = 'reset' AND e.occurred_at < d.last_at \
                   AND (d.first_at > e.occurred_at OR EXISTS (SELECT FROM {attempts} a \
                     WHERE a.dead_letter_id = d.dead_letter_id AND a.kind = 'redrive' AND a.error IS NULL \
                       AND a.attempted_at < e.occurred_at)) \
                   AND NOT EXISTS (SELECT FROM {events} u WHERE {of_undo} AND u.kind = 'undo' AND u.event_id > e.event_id)) \
                   AS maybe_twice \
               FROM {letters} d LEFT JOIN {payloads} p USING (dead_letter_id) \
               LEFT JOIN {topics} t ON t.group_id = d.group_id AND t.topic = d.topic \
               LEFT JOIN {offsets} o ON o.group_id = d.group_id AND o.topic = d.topic AND o.partition = d.partition \
               LEFT JOIN {statuses} s ON s.group_id = d.group_id AND s.topic = d.topic AND s.partition = d.partition \
               WHERE {which}), \
             blocked AS MATERIALIZED ( \
               SELECT e.topic, e.partition, e.key_hash, min(e.record_offset) AS first FROM {letters} e \
               LEFT JOIN {topics} t ON t.group_id = e.group_id AND t.topic = e.topic \
               WHERE e.group_id = $1 AND e.key_hash IS NOT NULL AND e.{WAITS} AND e.topic_id IN ('', coalesce(t.topic_id, '')) \
                 AND e.dead_letter_id NOT IN (SELECT j.dead_letter_id FROM judged j WHERE j.why IS NULL) GROUP BY 1, 2, 3) \
             SELECT j.dead_letter_id, j.topic, j.partition, j.record_offset, j.maybe_twice, CASE \
                 WHEN j.why IS NOT NULL THEN j.why \
                 WHEN j.parks AND b.first < j.record_offset \
                   THEN 'an earlier dead letter of their key waits that is not among them (`list --records --key …`)' \
               END AS why \
             FROM judged j LEFT JOIN blocked b USING (topic, partition, key_hash)",
            obstacle = obstacle(self.schema()),
            parks = "s.on_rejected IS NOT DISTINCT FROM 'park_key'",
            of_event = back_over("e"),
            of_undo = back_over("u"),
            ignore = filter::VALUES + 1,
            which = filter::WHICH,
        )
    }

    fn redrive_sql(&self, which: &str) -> String {
        let schema = self.schema();
        let of = |outcome: &str| format!("count(i.dead_letter_id) FILTER (WHERE i.outcome {outcome})");
        let [items, offsets] = ["redrive_letter", "consumer_offset"].map(|table| schema.qualified(table));
        let held = live(schema, "o.owner");
        // What a worker has said of a partition that nobody holds any more is not so any more.
        let detail = format!(
            "CASE WHEN r.state <> 'running' OR EXISTS ( \
               SELECT FROM {offsets} o WHERE o.group_id = r.group_id AND starts_with(r.detail, {of_partition}) AND {held}) \
             THEN r.detail END",
            of_partition = of_partition_sql("o"),
        );
        // The others wait for these, wherever they are.
        let first_unheld = format!(
            "CASE WHEN r.state = 'running' AND {canaries_go} AND EXISTS ( \
               SELECT FROM (SELECT {up_to} AS up_to OFFSET 0) u JOIN {items} i ON i.place <= u.up_to \
               LEFT JOIN {offsets} o ON o.group_id = r.group_id AND o.topic = i.topic AND o.partition = i.partition \
               WHERE i.request_id = r.request_id AND i.outcome IS NULL AND NOT {held}) \
             THEN 'those that go first are of partitions that no live worker holds' END",
            canaries_go = canaries_go(&items),
            up_to = up_to(&items),
        );
        format!(
            "SELECT r.request_id, r.group_id, r.state, coalesce({detail}, {first_unheld}), greatest(r.records, c.records), c.redriven, c.failed, c.gone, c.waiting, c.unheld, \
               r.filter, r.actor, r.reason, r.canary, r.per_second, r.stop_after, r.ignore_order, {created}, {ended}, \
               c.behind, c.ineligible \
             FROM {requests} r CROSS JOIN LATERAL ( \
               SELECT count(i.dead_letter_id) AS records, {redriven} AS redriven, {failed} AS failed, {gone} AS gone, \
                 {ineligible} AS ineligible, {behind} AS behind, {waiting} AS waiting, \
                 count(i.dead_letter_id) FILTER (WHERE i.outcome IS NULL AND o.held IS NOT TRUE) AS unheld \
               FROM {items} i LEFT JOIN ( \
                 SELECT o.topic, o.partition, {held} AS held FROM {offsets} o WHERE o.group_id = r.group_id) o \
                 USING (topic, partition) \
               WHERE i.request_id = r.request_id) c \
             WHERE {which}",
            created = utc("r.created_at"),
            ended = utc("r.ended_at"),
            requests = schema.qualified("redrive_request"),
            redriven = of("= 'redriven'"),
            failed = of("= 'failed'"),
            gone = of("= 'gone'"),
            ineligible = of("= 'ineligible'"),
            behind = of("= 'behind'"),
            waiting = of("IS NULL"),
        )
    }
}

/// That an event has moved the offset back over a dead letter `d`.
fn back_over(event: &str) -> String {
    format!(
        "{event}.group_id = d.group_id AND {event}.topic = d.topic AND {event}.partition = d.partition \
         AND {event}.to_offset <= d.record_offset AND {event}.from_offset > d.record_offset"
    )
}

impl DeadLetterFilter {
    /// As it is kept with what was done by it. A key is not shown: it is a record's.
    fn words(&self) -> String {
        let mut words = String::new();
        let values = self.values();
        if let (Some(topics), Some(partitions)) = (&values.topics, &values.partitions) {
            for (topic, partition) in topics.iter().zip(partitions) {
                let _ = match partition {
                    None => write!(words, "topic {topic}, "),
                    Some(partition) => write!(words, "topic {topic}:{partition}, "),
                };
            }
        }
        for kind in values.kinds.iter().flatten() {
            let _ = write!(words, "kind {kind}, ");
        }
        for id in values.ids.into_iter().flatten() {
            let _ = write!(words, "id {id}, ");
        }
        if values.key_hash.is_some() {
            words += "of one key, ";
        }
        let words = words.trim_end_matches(", ");
        if words.is_empty() { "all".to_owned() } else { words.to_owned() }
    }
}
