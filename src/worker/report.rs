//! The reports: what `partition_status` says of each partition, written when it changes. In a task, on a connection and
//! under a limit of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::registrar::Writes;
use super::status::{PartitionStatus, StatusBoard};
use crate::batch::PartitionKey;
use crate::config::Isolation;
use crate::db::{Db, DbError, Lease};
use crate::dead_letter::Policies;

/// How often it is looked at what has changed.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one report may take, connecting included.
const LIMIT: Duration = Duration::from_secs(30);
/// After so long without a report somebody is told: what is known of the partitions grows old.
const PATIENCE: Duration = Duration::from_secs(10);
/// Every so many looks everything is written again where it differs: the database may have gone back.
const AFRESH: u32 = 30;
/// How many characters of a text are reported.
const TEXT_LIMIT: usize = 2_000;
/// In milliseconds since 1970: a record may bear any timestamp, a database's year has four digits here.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = 0..=253_402_300_799_999;

/// Columns that version 1 lacks, with the type in which they come, and their value.
const NEW: &[(&str, &str, &str)] = &[
    ("log_start_offset", "int8", "coalesce(r.log_start_offset, p.log_start_offset)"),
    ("class", "text", "r.class"),
    ("reason", "text", "r.reason"),
    ("applied_per_second", "float8", "r.applied_per_second"),
    ("produced_per_second", "float8", "r.produced_per_second"),
    (
        "uncommitted_since",
        "int8",
        "CASE WHEN coalesce(r.last_stable, p.last_stable_offset) = p.last_stable_offset \
           AND coalesce(r.log_end, p.log_end_offset) > p.last_stable_offset THEN least(p.uncommitted_since, u.at) ELSE u.at END",
    ),
    ("loss_at", "text", "coalesce(r.loss_at::timestamptz, CASE WHEN u.stands THEN p.loss_at END)"),
    ("stood_at", "int8", "coalesce(r.stood_at, o.next_offset)"),
    ("on_rejected", "text", "r.on_rejected"),
    ("writes", "text", "r.writes"),
    ("reads_uncommitted", "bool", "r.reads_uncommitted"),
];

/// Until this claim's own ends are known (it waits, or has halted), the row keeps those that it has. Not those that it knew
/// itself and that nobody tells it any more while it runs: where that log ends is not known.
const KEPT: &str = "r.last_stable IS NULL AND p.last_stable_offset IS NOT NULL \
    AND (r.state <> 'running' OR p.epoch IS DISTINCT FROM r.epoch OR p.ends_as_of IS NOT NULL)";
/// When those were known to be true: when they were written, or as long as their worker was there; not beyond a look by
/// somebody else, for then nobody held the partition any more.
const KEPT_AS_OF: &str = "coalesce(p.ends_as_of, greatest(p.updated_at, CASE WHEN v.surveyed_at > p.updated_at \
    OR f.heartbeat_at > clock_timestamp() THEN NULL ELSE least(f.heartbeat_at, f.reported_at) END))";

/// While somebody has rows of the reports locked: how often the others are written though they say nothing new, for else they
/// would grow old.
const TOUCH: Duration = Duration::from_secs(10);

/// The tables are of version 1, or the rights are.
const OLDER: [SqlState; 3] =
    [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE, SqlState::INSUFFICIENT_PRIVILEGE];

/// Reports the partitions.
pub(super) struct Reporter {
    db: Arc<Db>,
    board: Arc<StatusBoard>,
    policies: Arc<Policies>,
    writes: Writes,
    isolation: Isolation,
    /// What the database has, as far as this worker knows.
    reported: HashMap<PartitionKey, Line>,
    report: String,
    /// The same for tables of version 1, which lack some columns.
    report_to_older: String,
    /// They do.
    is_older: bool,
    /// The rows of ours that somebody has locked.
    locked: String,
    touch: String,
    /// While there are such: when all rows of ours were last written, the locked ones left out.
    around: Option<Instant>,
    failing: Failing,
}

/// Reports that could not be written.
#[derive(Debug, Default)]
struct Failing {
    since: Option<Instant>,
    is_told: bool,
}

impl Failing {
    /// Whether it is to be told: once, until a report is written.
    fn again(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_due = !self.is_told && now.duration_since(since) >= PATIENCE;
        self.is_told |= is_due;
        is_due
    }

    /// Whether it was told that there were none.
    fn ended(&mut self) -> bool {
        std::mem::take(self).is_told
    }
}

/// A row of `partition_status`, as far as it is ours to say.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    epoch: Option<i64>,
    state: &'static str,
    detail: Option<String>,
    log_end_offset: Option<i64>,
    last_stable_offset: Option<i64>,
    next_record_timestamp_ms: Option<i64>,
    log_start_offset: Option<i64>,
    class: &'static str,
    reason: Option<String>,
    applied_per_second: Option<f64>,
    produced_per_second: Option<f64>,
    uncommitted_since_ms: Option<i64>,
    loss_at: Option<String>,
    stood_at: Option<i64>,
    on_rejected: &'static str,
    writes: &'static str,
    reads_uncommitted: bool,
}

impl Line {
    fn of(status: &PartitionStatus, policies: &Policies, writes: &Writes, isolation: Isolation) -> Self {
        Self {
            reads_uncommitted: isolation == Isolation::ReadUncommitted,
            on_rejected: policies.on_rejected(&status.topic),
            writes: writes.of(&status.topic),
            epoch: status.epoch,
            state: status.state.as_str(),
            detail: status.detail.as_deref().map(printable),
            log_end_offset: status.log_end_offset,
            // As far as it reads: what is behind that is to be applied, and no tail.
            last_stable_offset: status.readable_end(isolation),
            next_record_timestamp_ms: status.next_record_timestamp_ms.filter(|ms| TIMESTAMPS.contains(ms)),
            log_start_offset: status.log_start_offset,
            class: status.class.as_str(),
            reason: status.reason.as_deref().map(printable),
            applied_per_second: status.applied_per_second,
            produced_per_second: status.produced_per_second,
            uncommitted_since_ms: status.uncommitted_since_ms.filter(|ms| TIMESTAMPS.contains(ms)),
            loss_at: status.loss_at_ms.map(crate::lag::instant),
            stood_at: status.next_offset,
        }
    }
}

impl Reporter {
    pub(super) fn new(
        db: Arc<Db>,
        board: Arc<StatusBoard>,
        policies: Arc<Policies>,
        writes: Writes,
        isolation: Isolation,
    ) -> Self {
        let partitions = db.schema.qualified("partition_status");
        let offsets = db.schema.qualified("consumer_offset");
        let (workers, survey) =
            (db.schema.qualified("worker_status"), db.schema.qualified("partition_survey"));
        // Only under the present claim; a zombie's report is dropped. A partition whose row has vanished is reported,
        // too: that is when somebody must look. Nothing is written twice, nor flushed: it is no record of anything.
        let statement = |new: &[(&str, &str, &str)]| {
            let columns: String = new.iter().map(|(column, ..)| format!(", {column}")).collect();
            let is_new = !new.is_empty();
            // Version 1 has no place to say how old they are.
            let (kept, next, as_of) =
                if is_new { (KEPT, "u.next", ", ends_as_of") } else { ("false", "n.at", "") };
            let kept_as_of =
                if is_new { format!(", CASE WHEN {KEPT} THEN {KEPT_AS_OF} END") } else { String::new() };
            let former = if is_new {
                format!(
                    "LEFT JOIN {survey} v ON v.group_id = $1 AND v.topic = r.topic AND v.partition = r.partition \
                     LEFT JOIN {workers} f ON f.owner = p.owner \
                     CROSS JOIN LATERAL (SELECT coalesce(p.stood_at = coalesce(r.stood_at, o.next_offset), false) AS stands, \
                       timestamptz 'epoch' + r.uncommitted_since * interval '1 millisecond' AS at) m \
                     CROSS JOIN LATERAL (SELECT m.stands, m.at, \
                       coalesce(n.at, CASE WHEN m.stands THEN p.next_record_timestamp END) AS next) u"
                )
            } else {
                String::new()
            };
            let parameters: String =
                new.iter().zip(11..).map(|((_, kind, _), number)| format!(", ${number}::{kind}[]")).collect();
            let values: String = new.iter().map(|(.., value)| format!(", {value}")).collect();
            let written: Vec<&str> =
                new.iter().map(|(column, ..)| *column).chain(is_new.then_some("ends_as_of")).collect();
            let set: String =
                written.iter().map(|column| format!(", {column} = excluded.{column}")).collect();
            let old: String = written.iter().map(|column| format!(", s.{column}")).collect();
            let excluded: String = written.iter().map(|column| format!(", excluded.{column}")).collect();
            format!(
                "INSERT INTO {partitions} AS s (group_id, topic, partition, epoch, owner, state, detail, log_end_offset, \
                   last_stable_offset, next_record_timestamp, updated_at{columns}{as_of}) \
                 SELECT $1, r.topic, r.partition, coalesce(r.epoch, o.epoch, p.epoch, 0), $2, r.state, r.detail, \
                   CASE WHEN {kept} THEN p.log_end_offset ELSE r.log_end END, \
                   CASE WHEN {kept} THEN p.last_stable_offset ELSE r.last_stable END, {next}, \
                   clock_timestamp(){values}{kept_as_of} \
                 FROM unnest($3::text[], $4::int4[], $5::int8[], $6::text[], $7::text[], $8::int8[], $9::int8[], \
                     $10::int8[]{parameters}) \
                   AS r(topic, partition, epoch, state, detail, log_end, last_stable, next_record_ms{columns}) \
                 LEFT JOIN {offsets} o ON o.group_id = $1 AND o.topic = r.topic AND o.partition = r.partition \
                 LEFT JOIN {partitions} p ON p.group_id = $1 AND p.topic = r.topic AND p.partition = r.partition \
                 CROSS JOIN LATERAL (SELECT timestamptz 'epoch' + r.next_record_ms * interval '1 millisecond' AS at) n \
                 {former} \
                 WHERE (o.owner = $2 OR o.owner IS NULL) AND coalesce(o.epoch = r.epoch, true) \
                   AND set_config('synchronous_commit', 'off', true) IS NOT NULL \
                 ORDER BY r.topic, r.partition \
                 ON CONFLICT (group_id, topic, partition) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner, \
                   state = excluded.state, detail = excluded.detail, log_end_offset = excluded.log_end_offset, \
                   last_stable_offset = excluded.last_stable_offset, \
                   next_record_timestamp = excluded.next_record_timestamp, updated_at = excluded.updated_at{set} \
                 WHERE s.epoch <= excluded.epoch AND (s.epoch, s.owner, s.state, s.detail, s.log_end_offset, \
                   s.last_stable_offset, s.next_record_timestamp{old}) IS DISTINCT FROM (excluded.epoch, excluded.owner, \
                   excluded.state, excluded.detail, excluded.log_end_offset, excluded.last_stable_offset, \
                   excluded.next_record_timestamp{excluded})"
            )
        };
        let given = "unnest($2::text[], $3::int4[]) AS r(topic, partition)";
        // As an UPDATE locks it. What is not there is not locked.
        let locked = format!(
            "WITH free AS (SELECT p.topic, p.partition FROM {partitions} p JOIN {given} USING (topic, partition) \
               WHERE p.group_id = $1 FOR NO KEY UPDATE OF p SKIP LOCKED) \
             SELECT p.topic, p.partition FROM {partitions} p JOIN {given} USING (topic, partition) \
             WHERE p.group_id = $1 \
               AND NOT EXISTS (SELECT FROM free f WHERE f.topic = p.topic AND f.partition = p.partition)"
        );
        // What stands there under the present claim is true still.
        let touch = format!(
            "UPDATE {partitions} s SET updated_at = clock_timestamp() FROM {given}, {offsets} o \
             WHERE s.group_id = $1 AND s.topic = r.topic AND s.partition = r.partition AND s.owner = $4 \
               AND o.group_id = $1 AND o.topic = r.topic AND o.partition = r.partition AND o.owner = $4 AND o.epoch = s.epoch"
        );
        let report = statement(NEW);
        let report_to_older = statement(&[]);
        Self {
            db,
            board,
            policies,
            writes,
            isolation,
            reported: HashMap::new(),
            report,
            report_to_older,
            is_older: false,
            locked,
            touch,
            around: None,
            failing: Failing::default(),
        }
    }

    /// Reports until aborted.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut kept: Option<Lease> = None;
        for look in 1_u32.. {
            ticks.tick().await;
            if look.is_multiple_of(AFRESH) {
                self.reported.clear();
                // They may have been migrated meanwhile.
                self.is_older = false;
            }
            let kept_now = kept.take().filter(|client| self.db.is_current(client));
            match tokio::time::timeout(LIMIT, self.turn(kept_now)).await {
                Ok(Ok(client)) => {
                    kept = client;
                    if self.failing.ended() {
                        tracing::info!("how its partitions stand is reported again");
                    }
                }
                Ok(Err(error)) => {
                    self.db.heed(&error);
                    self.failed(&error);
                }
                Err(_) => self.failed(&DbError::Other(format!("not written in {LIMIT:?}"))),
            }
        }
    }

    fn failed(&mut self, error: &DbError) {
        if self.failing.again(Instant::now()) {
            tracing::warn!(
                %error,
                "how its partitions stand is not reported: what others see of them (`lag`, `health`) grows old; records are \
                 applied all the same"
            );
        } else {
            tracing::debug!(%error, "the partitions were not reported");
        }
    }

    async fn turn(&mut self, kept: Option<Lease>) -> Result<Option<Lease>, DbError> {
        let published = self.board.published();
        let line = |status| line(status, &self.policies, &self.writes, self.isolation);
        let now: HashMap<PartitionKey, Line> = self.board.get().partitions.iter().map(line).collect();
        // What was assigned to somebody else meanwhile is his to report: then ours is another report than before.
        self.reported.retain(|key, _| now.contains_key(key));
        // Without a claim its epoch is not known here, so that the database is asked whether anything is new.
        let is_news =
            |key: &PartitionKey, line: &Line| line.epoch.is_none() || self.reported.get(key) != Some(line);
        let mut news: Vec<_> = now.into_iter().filter(|(key, line)| is_news(key, line)).collect();
        if news.is_empty() && self.around.is_none() {
            self.board.reported(published);
            return Ok(kept);
        }
        news.sort_by(|a, b| a.0.cmp(&b.0));
        let client = match kept {
            Some(client) => client,
            None => self.db.status().await?,
        };
        if self.around.is_some() {
            self.write_around(&client, news).await?;
        } else if let Err(error) = self.write_all(&client, &news).await {
            if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
                return Err(error.into());
            }
            // Of all of them none is written now.
            self.write_around(&client, news).await?;
        } else {
            self.reported.extend(news);
        }
        self.board.reported(published);
        Ok(Some(client))
    }

    /// Writes what nobody has locked. An error if something is left, for then that is not reported.
    async fn write_around(&mut self, client: &Lease, news: Vec<(PartitionKey, Line)>) -> Result<(), DbError> {
        let now = Instant::now();
        let is_due = self.around.is_none_or(|last| now.duration_since(last) >= TOUCH);
        let known = self.reported.keys().filter(|_| is_due);
        let keys: BTreeSet<PartitionKey> = known.chain(news.iter().map(|(key, _)| key)).cloned().collect();
        let locked = self.locked(client, &keys).await?;
        let free: Vec<_> = news.into_iter().filter(|(key, _)| !locked.contains(key)).collect();
        if !free.is_empty() {
            self.write_all(client, &free).await?;
            self.reported.extend(free);
        }
        let Some(first) = locked.first() else {
            self.around = None;
            return Ok(());
        };
        if is_due {
            self.touch(client, keys.difference(&locked)).await?;
            self.around = Some(now);
        }
        Err(DbError::Other(format!(
            "somebody has locked {} of its rows in `partition_status` (the first is that of {first})",
            locked.len()
        )))
    }

    async fn locked(
        &self,
        client: &Lease,
        keys: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, DbError> {
        let topics: Vec<&str> = keys.iter().map(|key| &*key.topic).collect();
        let partitions: Vec<i32> = keys.iter().map(|key| key.partition).collect();
        let statement = client.prepare_cached(&self.locked).await?;
        let rows = client.query(&statement, &[&&*self.db.identity.group, &topics, &partitions]).await?;
        let key = |row: &tokio_postgres::Row| PartitionKey {
            topic: row.get::<_, &str>(0).into(),
            partition: row.get(1),
        };
        Ok(rows.iter().map(key).collect())
    }

    async fn touch<'a>(
        &self,
        client: &Lease,
        keys: impl Iterator<Item = &'a PartitionKey>,
    ) -> Result<(), DbError> {
        let (topics, partitions): (Vec<&str>, Vec<i32>) =
            keys.map(|key| (&*key.topic, key.partition)).unzip();
        let identity = &self.db.identity;
        let statement = client.prepare_cached(&self.touch).await?;
        client.execute(&statement, &[&&*identity.group, &topics, &partitions, &identity.owner]).await?;
        Ok(())
    }

    async fn write_all(
        &mut self,
        client: &Lease,
        news: &[(PartitionKey, Line)],
    ) -> Result<(), tokio_postgres::Error> {
        let mut written = self.write(client, news).await;
        if let Err(error) = &written
            && !self.is_older
            && error.code().is_some_and(|code| OLDER.contains(code))
        {
            self.is_older = true;
            written = self.write(client, news).await;
        }
        match written {
            // In a database of another encoding, what it cannot hold must not keep it from holding the rest.
            Err(error) if error.as_db_error().is_some_and(|db| db.code().code().starts_with("22")) => {
                let plain = news.iter().map(|(key, line)| {
                    let (detail, reason) =
                        (line.detail.as_deref().map(ascii), line.reason.as_deref().map(ascii));
                    (key.clone(), Line { detail, reason, ..line.clone() })
                });
                self.write(client, &plain.collect::<Vec<_>>()).await
            }
            written => written,
        }
    }

    async fn write(
        &self,
        client: &Lease,
        news: &[(PartitionKey, Line)],
    ) -> Result<(), tokio_postgres::Error> {
        let keys = || news.iter().map(|(key, _)| key);
        let lines = || news.iter().map(|(_, line)| line);
        let topics: Vec<&str> = keys().map(|key| &*key.topic).collect();
        let partitions: Vec<i32> = keys().map(|key| key.partition).collect();
        let epochs: Vec<Option<i64>> = lines().map(|line| line.epoch).collect();
        let states: Vec<&str> = lines().map(|line| line.state).collect();
        let details: Vec<Option<&str>> = lines().map(|line| line.detail.as_deref()).collect();
        let log_ends: Vec<Option<i64>> = lines().map(|line| line.log_end_offset).collect();
        let last_stable: Vec<Option<i64>> = lines().map(|line| line.last_stable_offset).collect();
        let timestamps: Vec<Option<i64>> = lines().map(|line| line.next_record_timestamp_ms).collect();
        let log_starts: Vec<Option<i64>> = lines().map(|line| line.log_start_offset).collect();
        let classes: Vec<&str> = lines().map(|line| line.class).collect();
        let reasons: Vec<Option<&str>> = lines().map(|line| line.reason.as_deref()).collect();
        let applied: Vec<Option<f64>> = lines().map(|line| line.applied_per_second).collect();
        let produced: Vec<Option<f64>> = lines().map(|line| line.produced_per_second).collect();
        let uncommitted: Vec<Option<i64>> = lines().map(|line| line.uncommitted_since_ms).collect();
        let stood: Vec<Option<i64>> = lines().map(|line| line.stood_at).collect();
        let losses: Vec<Option<&str>> = lines().map(|line| line.loss_at.as_deref()).collect();
        let on_rejected: Vec<&str> = lines().map(|line| line.on_rejected).collect();
        let writes: Vec<&str> = lines().map(|line| line.writes).collect();
        let uncommitted_too: Vec<bool> = lines().map(|line| line.reads_uncommitted).collect();
        let identity = &self.db.identity;
        let group = &*identity.group;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
            &group,
            &identity.owner,
            &topics,
            &partitions,
            &epochs,
            &states,
            &details,
            &log_ends,
            &last_stable,
            &timestamps,
        ];
        let report = if self.is_older {
            &self.report_to_older
        } else {
            let new: [&(dyn ToSql + Sync); NEW.len()] = [
                &log_starts,
                &classes,
                &reasons,
                &applied,
                &produced,
                &uncommitted,
                &losses,
                &stood,
                &on_rejected,
                &writes,
                &uncommitted_too,
            ];
            parameters.extend(new);
            &self.report
        };
        let statement = client.prepare_cached(report).await?;
        client.execute(&statement, &parameters).await?;
        Ok(())
    }
}

fn line(
    status: &PartitionStatus,
    policies: &Policies,
    writes: &Writes,
    isolation: Isolation,
) -> (PartitionKey, Line) {
    let key = PartitionKey { topic: status.topic.as_str().into(), partition: status.partition };
    (key, Line::of(status, policies, writes, isolation))
}

/// A text as the tables may hold it, whoever wrote it: Postgres refuses U+0000, a terminal obeys other control characters.
pub(super) fn printable(text: &str) -> String {
    let clean = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let mut printable: String = text.chars().take(TEXT_LIMIT).map(clean).collect();
    if text.chars().nth(TEXT_LIMIT).is_some() {
        printable.push('…');
    }
    printable
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
