//! What the survey reads and writes.

use std::sync::Arc;

use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::Whose;
use crate::batch::PartitionKey;
use crate::config::ONE_OFF_GROUP;
use crate::db::{REPORT_COUNTS, live};
use crate::health::Class;
use crate::schema::SchemaName;

/// A partition that no live process holds.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(super) group: Arc<str>,
    pub(super) partition: PartitionKey,
    pub(super) next_offset: i64,
    class: Class,
    reason: Option<String>,
    /// Its group reads what is not committed.
    pub(super) reads_uncommitted: bool,
    /// What was written of it last.
    pub(super) before: Option<Before>,
}

/// A row of `partition_survey`.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(super) next_offset: i64,
    pub(super) last_stable_offset: Option<i64>,
    pub(super) next_record_ms: Option<i64>,
    pub(super) uncommitted_since_ms: Option<i64>,
    log_start_offset: Option<i64>,
    log_end_offset: Option<i64>,
    class: String,
    reason: Option<String>,
    age_seconds: f64,
}

/// What is to be written of it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(super) place: Place,
    pub(super) log_start_offset: Option<i64>,
    pub(super) last_stable_offset: i64,
    pub(super) log_end_offset: i64,
    pub(super) next_record_ms: Option<i64>,
    pub(super) uncommitted_since_ms: Option<i64>,
    pub(super) loss_at: Option<String>,
}

impl Place {
    pub(super) fn of(row: &Row) -> Self {
        let (paused_reason, halted): (Option<String>, bool) = (row.get(4), row.get(5));
        let (has_halted, detail): (bool, Option<String>) = (row.get(6), row.get(7));
        let has_owner: bool = row.get(8);
        let (class, reason) = match paused_reason {
            Some(reason) if halted => (Class::Halted, Some(reason)),
            Some(reason) => (Class::Paused, Some(reason)),
            None if has_halted => (Class::Halted, detail),
            None if has_owner => (Class::Dead, None),
            None => (Class::Unowned, None),
        };
        let before = |next_offset| Before {
            next_offset,
            log_start_offset: row.get(10),
            last_stable_offset: row.get(11),
            log_end_offset: row.get(12),
            next_record_ms: row.get(13),
            uncommitted_since_ms: row.get(14),
            class: row.get(15),
            reason: row.get(16),
            age_seconds: row.get(17),
        };
        Self {
            group: row.get::<_, &str>(0).into(),
            partition: PartitionKey { topic: row.get::<_, &str>(1).into(), partition: row.get(2) },
            next_offset: row.get(3),
            class,
            reason,
            reads_uncommitted: row.get(18),
            before: row.get::<_, Option<i64>>(9).map(before),
        }
    }
}

impl Line {
    /// Whether it says something new, or what is written is `refreshed_seconds` old.
    pub(super) fn is_news(&self, refreshed_seconds: f64) -> bool {
        let Some(before) = &self.place.before else { return true };
        let same = before.next_offset == self.place.next_offset
            && before.log_start_offset == self.log_start_offset
            && before.last_stable_offset == Some(self.last_stable_offset)
            && before.log_end_offset == Some(self.log_end_offset)
            && before.next_record_ms == self.next_record_ms
            && before.uncommitted_since_ms == self.uncommitted_since_ms
            && before.class == self.place.class.as_str()
            && before.reason == self.place.reason;
        !same || !(0.0..refreshed_seconds).contains(&before.age_seconds)
    }
}

/// The one of group `$1`'s workers that looks for all: by their heartbeats they agree on it; the newest knows most.
pub(crate) fn whose_turn(schema: &SchemaName) -> String {
    format!(
        "(SELECT p.owner FROM {workers} p WHERE p.group_id = $1 AND {live} ORDER BY p.started_at DESC, p.owner LIMIT 1)",
        workers = schema.qualified("worker_status"),
        live = live(schema, "p.owner"),
    )
}

/// Parameters: the group, or groups (`NULL`: all); who asks; how many; and which have been asked about in vain, as groups,
/// topics, partitions: those come last.
pub(super) fn look(schema: &SchemaName, whose: &Whose) -> String {
    let workers = schema.qualified("worker_status");
    let ms = |column: &str| format!("(extract(epoch FROM {column}) * 1000)::int8");
    let which = match whose {
        Whose::WorkersOf(_) => format!("o.group_id = $1 AND $2 = {}", whose_turn(schema)),
        Whose::Watched(_) => format!(
            "($1::text[] IS NULL OR o.group_id = ANY($1)) AND o.group_id NOT LIKE '{one_off}%' \
               AND (v.surveyed_by IS NULL OR v.surveyed_by = $2 OR v.surveyed_at < clock_timestamp() - interval '4 seconds' \
                 OR v.surveyed_at > clock_timestamp()) \
               AND NOT EXISTS (SELECT FROM {workers} p WHERE p.group_id = o.group_id AND {live})",
            one_off = ONE_OFF_GROUP.replace('_', "\\_"),
            live = live(schema, "p.owner"),
        ),
    };
    format!(
        "SELECT o.group_id, o.topic, o.partition, o.next_offset, o.paused_reason, o.halted, \
           coalesce(s.state = 'halted' AND {REPORT_COUNTS}, false), s.detail, o.owner IS NOT NULL, \
           v.next_offset, v.log_start_offset, v.last_stable_offset, v.log_end_offset, {next_record}, {uncommitted}, \
           v.class, v.reason, extract(epoch FROM clock_timestamp() - v.surveyed_at)::float8, \
           coalesce(s.reads_uncommitted, false) \
         FROM {offsets} o LEFT JOIN {status} s USING (group_id, topic, partition) \
         LEFT JOIN {survey} v USING (group_id, topic, partition) \
         LEFT JOIN unnest($4::text[], $5::text[], $6::int4[]) AS u(group_id, topic, partition) USING (group_id, topic, partition) \
         WHERE {which} AND (o.owner IS NULL OR NOT {owner_live}) \
         ORDER BY u.topic IS NOT NULL, v.surveyed_at NULLS FIRST, o.group_id, o.topic, o.partition LIMIT $3",
        next_record = ms("v.next_record_timestamp"),
        uncommitted = ms("v.uncommitted_since"),
        offsets = schema.qualified("consumer_offset"),
        status = schema.qualified("partition_status"),
        survey = schema.qualified("partition_survey"),
        owner_live = live(schema, "o.owner"),
    )
}

/// Not flushed, for it is no record of anything; in key order, so that two surveyors never wait for each other in a circle.
pub(super) fn write(schema: &SchemaName) -> String {
    format!(
        "INSERT INTO {survey} AS v (group_id, topic, partition, next_offset, log_start_offset, last_stable_offset, \
           log_end_offset, next_record_timestamp, uncommitted_since, loss_at, class, reason, surveyed_at, surveyed_by) \
         SELECT r.group_id, r.topic, r.partition, r.next_offset, r.log_start, r.stable, r.log_end, \
           timestamptz 'epoch' + r.next_record_ms * interval '1 millisecond', \
           timestamptz 'epoch' + r.uncommitted_ms * interval '1 millisecond', r.loss_at::timestamptz, r.class, r.reason, \
           clock_timestamp(), $1 \
         FROM unnest($2::text[], $3::text[], $4::int4[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], \
             $10::int8[], $11::text[], $12::text[], $13::text[]) \
           AS r(group_id, topic, partition, next_offset, log_start, stable, log_end, next_record_ms, uncommitted_ms, loss_at, \
             class, reason) \
         WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL \
         ORDER BY r.group_id, r.topic, r.partition \
         ON CONFLICT (group_id, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, \
           log_start_offset = excluded.log_start_offset, last_stable_offset = excluded.last_stable_offset, \
           log_end_offset = excluded.log_end_offset, next_record_timestamp = excluded.next_record_timestamp, \
           uncommitted_since = excluded.uncommitted_since, loss_at = excluded.loss_at, class = excluded.class, \
           reason = excluded.reason, surveyed_at = excluded.surveyed_at, surveyed_by = excluded.surveyed_by",
        survey = schema.qualified("partition_survey"),
    )
}

pub(super) async fn upsert(
    client: &Client,
    sql: &str,
    me: Uuid,
    lines: &[Line],
) -> Result<(), tokio_postgres::Error> {
    let groups: Vec<&str> = lines.iter().map(|line| &*line.place.group).collect();
    let topics: Vec<&str> = lines.iter().map(|line| &*line.place.partition.topic).collect();
    let partitions: Vec<i32> = lines.iter().map(|line| line.place.partition.partition).collect();
    let next: Vec<i64> = lines.iter().map(|line| line.place.next_offset).collect();
    let starts: Vec<Option<i64>> = lines.iter().map(|line| line.log_start_offset).collect();
    let stable: Vec<i64> = lines.iter().map(|line| line.last_stable_offset).collect();
    let log: Vec<i64> = lines.iter().map(|line| line.log_end_offset).collect();
    let records: Vec<Option<i64>> = lines.iter().map(|line| line.next_record_ms).collect();
    let uncommitted: Vec<Option<i64>> = lines.iter().map(|line| line.uncommitted_since_ms).collect();
    let losses: Vec<Option<&str>> = lines.iter().map(|line| line.loss_at.as_deref()).collect();
    let classes: Vec<&str> = lines.iter().map(|line| line.place.class.as_str()).collect();
    let reasons: Vec<Option<&str>> = lines.iter().map(|line| line.place.reason.as_deref()).collect();
    let statement = client.prepare(sql).await?;
    client
        .execute(
            &statement,
            &[
                &me,
                &groups,
                &topics,
                &partitions,
                &next,
                &starts,
                &stable,
                &log,
                &records,
                &uncommitted,
                &losses,
                &classes,
                &reasons,
            ],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate;
    use crate::testing::Postgres;

    /// Of a topic that was deleted nothing is ever known: it must not keep the others from being looked at.
    #[tokio::test]
    async fn what_is_asked_about_in_vain_comes_last() {
        let database = Postgres::shared().await.unwrap().fresh_database("survey_order").await.unwrap();
        migrate::migrate(&mut database.client().await.unwrap(), &SchemaName::default()).await.unwrap();
        let rows = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch) \
                    VALUES ('g', 'deleted', 0, 5, 1), ('g', 'there', 0, 5, 1); \
                    INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, class, surveyed_at, surveyed_by) \
                    VALUES ('g', 'there', 0, 5, 'UNOWNED', now() - interval '1 h', gen_random_uuid())";
        database.execute(rows).await.unwrap();
        let client = database.client().await.unwrap();
        let sql = look(&SchemaName::default(), &Whose::Watched(None));
        let first = async |unanswered: &[&str]| {
            let (groups, zeros) = (vec!["g"; unanswered.len()], vec![0; unanswered.len()]);
            let (all, me) = (None::<Vec<String>>, Uuid::new_v4());
            let found = client.query(&sql, &[&all, &me, &1_i64, &groups, &unanswered, &zeros]).await.unwrap();
            found.iter().map(Place::of).map(|place| place.partition.topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(first(&[]).await, ["deleted"], "never seen");
        assert_eq!(first(&["deleted"]).await, ["there"]);
        assert_eq!(first(&["deleted", "there"]).await, ["deleted"], "all of them again");
    }
}
