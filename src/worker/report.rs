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
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::db::Identity;
    use crate::health::Class;
    use crate::testing::{Database, Postgres};
    use crate::worker::PartitionState;
    use crate::worker::heartbeat::Heartbeat;
    use crate::{PartialConfig, SchemaName, migrate};

    async fn reporter() -> (Database, Reporter) {
        let database = Postgres::shared().await.unwrap().fresh_database("report").await.unwrap();
        migrate::migrate(&mut database.client().await.unwrap(), &SchemaName::default()).await.unwrap();
        let config = PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url(database.url())
            .group("g")
            .topics(vec!["t".to_owned()])
            .finish()
            .unwrap();
        let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
        let db = Arc::new(Db::new(&config, identity).unwrap());
        (
            database,
            Reporter::new(
                db,
                Arc::new(StatusBoard::new()),
                Arc::new(Policies::halting()),
                Writes::default(),
                Isolation::ReadCommitted,
            ),
        )
    }

    fn status(state: PartitionState, epoch: Option<i64>) -> PartitionStatus {
        PartitionStatus {
            topic: "t".to_owned(),
            partition: 0,
            state,
            next_offset: None,
            mirrored_offset: None,
            held_bytes: 0,
            detail: Some("why".to_owned()),
            epoch,
            log_end_offset: None,
            last_stable_offset: None,
            next_record_timestamp_ms: None,
            log_start_offset: None,
            class: Class::Ok,
            reason: None,
            applied_per_second: None,
            produced_per_second: None,
            drain_seconds: None,
            uncommitted_since_ms: None,
            loss_at_ms: None,
        }
    }

    async fn report(reporter: &mut Reporter, status: PartitionStatus) {
        reporter.board.publish(true, None, vec![status]);
        reporter.turn(None).await.unwrap();
    }

    /// State, epoch, both ends and the next record's second; and the transaction that wrote it.
    async fn row(database: &Database) -> (String, i64, [Option<i64>; 3], String) {
        let sql = "SELECT state, epoch, log_end_offset, last_stable_offset, \
                     extract(epoch FROM next_record_timestamp)::int8, xmin::text FROM highwater.partition_status";
        let row = database.query(sql, &[]).await.unwrap().remove(0);
        (row.get(0), row.get(1), [row.get(2), row.get(3), row.get(4)], row.get(5))
    }

    /// Whatever was said before in the same words: it is of the present claim, and of nobody else's.
    #[tokio::test]
    async fn a_row_is_of_the_present_claim_and_written_only_when_it_changes() {
        let (database, mut reporter) = reporter().await;
        let claimed = async |epoch: i64, owner: Option<Uuid>| {
            let sql = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
                       VALUES ('g', 't', 0, 0, $1, $2) ON CONFLICT (group_id, topic, partition) \
                       DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner";
            database.query(sql, &[&epoch, &owner]).await.unwrap();
        };
        let halted = || status(PartitionState::Halted, None);
        claimed(5, None).await;
        report(&mut reporter, halted()).await;
        let first = row(&database).await;
        assert_eq!((&*first.0, first.1), ("halted", 5));
        report(&mut reporter, halted()).await;
        assert_eq!(row(&database).await, first, "nothing has changed, so nothing is written");
        claimed(6, None).await;
        report(&mut reporter, halted()).await;
        assert_eq!(row(&database).await.1, 6, "halted again, in the same words");

        let me = reporter.db.identity.owner;
        let running = |epoch| PartitionStatus {
            log_end_offset: Some(9),
            last_stable_offset: Some(7),
            next_record_timestamp_ms: Some(1_500),
            ..status(PartitionState::Running, Some(epoch))
        };
        claimed(7, Some(me)).await;
        report(&mut reporter, running(7)).await;
        let seventh = row(&database).await;
        assert_eq!((&*seventh.0, seventh.1, seventh.2), ("running", 7, [Some(9), Some(7), Some(2)]));
        // Somebody else has claimed it, and then this worker once more: the first of the two reports is late.
        claimed(8, Some(Uuid::new_v4())).await;
        report(&mut reporter, halted()).await;
        assert_eq!(row(&database).await, seventh, "it is another's to report");
        claimed(9, Some(me)).await;
        report(&mut reporter, running(8)).await;
        assert_eq!(row(&database).await, seventh, "not of the present claim");
        let sampled = PartitionStatus {
            class: Class::Stall,
            reason: Some("stands".to_owned()),
            applied_per_second: Some(0.5),
            uncommitted_since_ms: Some(2_000),
            loss_at_ms: Some(f64::INFINITY),
            ..running(9)
        };
        report(&mut reporter, sampled).await;
        let more = "SELECT class, reason, applied_per_second, produced_per_second IS NULL, \
                      extract(epoch FROM uncommitted_since)::int8, loss_at::text FROM highwater.partition_status";
        let more = database.query(more, &[]).await.unwrap().remove(0);
        assert_eq!((more.get(0), more.get(1)), (Some("STALL"), Some("stands")));
        assert_eq!((more.get(2), more.get(3), more.get(4)), (Some(0.5), true, Some(2_i64)));
        assert_eq!(more.get::<_, &str>(5), "infinity");
        let wild =
            PartitionStatus { next_record_timestamp_ms: Some(i64::MAX), next_offset: Some(1), ..running(9) };
        report(&mut reporter, wild).await;
        assert_eq!((row(&database).await.1, row(&database).await.2[2]), (9, None), "no such year");
    }

    /// A heart that beats says nothing of the partitions: what is known of them is as old as the last report, and once that is
    /// old, the worker counts as stopped.
    #[tokio::test]
    async fn what_cannot_be_reported_grows_old() {
        let (database, mut reporter) = reporter().await;
        let (db, board) = (Arc::clone(&reporter.db), Arc::clone(&reporter.board));
        let heart = {
            let config = PartialConfig::default()
                .brokers(vec!["127.0.0.1:1".to_owned()])
                .postgres_url(database.url())
                .group("g")
                .topics(vec!["t".to_owned()])
                .finish()
                .unwrap();
            let taken = tokio::sync::mpsc::unbounded_channel().0;
            Heartbeat::new(Arc::clone(&db), board, Arc::default(), taken, &config)
        };
        let beat = async || heart.write(&db.status().await.unwrap()).await.unwrap();
        let seen = async || {
            let sql = "SELECT extract(epoch FROM clock_timestamp() - l.as_of)::float8, l.lag_records, h.class, h.reason \
                       FROM highwater.lag l JOIN highwater.health h USING (group_id, topic, partition)";
            let row = database.query(sql, &[]).await.unwrap().remove(0);
            (
                row.get::<_, f64>(0),
                row.get::<_, Option<i64>>(1),
                row.get::<_, String>(2),
                row.get::<_, Option<String>>(3),
            )
        };
        let claim = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
                     VALUES ('g', 't', 0, 3, 7, $1)";
        database.query(claim, &[&db.identity.owner]).await.unwrap();
        let at = |end| PartitionStatus {
            last_stable_offset: Some(end),
            log_end_offset: Some(end),
            ..status(PartitionState::Running, Some(7))
        };
        report(&mut reporter, at(9)).await;
        // Nothing is news, and so nothing is written: that, too, is a report.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        report(&mut reporter, at(9)).await;
        beat().await;
        let (age, lag, class, _) = seen().await;
        assert!(age < 1.0, "{age}");
        assert_eq!((lag, &*class), (Some(6), "OK"));

        let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
                      CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON highwater.partition_status EXECUTE FUNCTION refuse()";
        database.execute(refuse).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        reporter.board.publish(true, None, vec![at(2_000)]);
        assert!(reporter.turn(None).await.is_err());
        beat().await;
        let (age, ..) = seen().await;
        assert!(age >= 1.5, "as old as the last report, not as the heartbeat: {age}");
        // Half a minute later.
        database
            .execute(
                "UPDATE highwater.worker_status SET reported_at = reported_at - interval '30 s'; \
                 ALTER TABLE highwater.partition_status DISABLE TRIGGER refuse; \
                 UPDATE highwater.partition_status SET updated_at = updated_at - interval '30 s'; \
                 ALTER TABLE highwater.partition_status ENABLE TRIGGER refuse",
            )
            .await
            .unwrap();
        let (.., class, reason) = seen().await;
        let reason = reason.unwrap();
        assert!(
            class == "STOP" && reason.starts_with("its worker beats, and has reported nothing for 00:00:3"),
            "{class} {reason}"
        );
        database.execute("UPDATE highwater.worker_status SET state = 'stopping'").await.unwrap();
        assert_eq!(seen().await.2, "OK", "it finishes its batches");

        database.execute("DROP TRIGGER refuse ON highwater.partition_status").await.unwrap();
        report(&mut reporter, at(2_000)).await;
        beat().await;
        let (age, lag, class, _) = seen().await;
        assert!(age < 1.0, "{age}");
        assert_eq!((lag, &*class), (Some(1_997), "OK"));
        // A control loop that hangs publishes nothing: its old words, said once more, are no report.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        reporter.turn(None).await.unwrap();
        beat().await;
        assert!(seen().await.0 >= 1.5);
    }

    /// That there was nothing to apply is as old as the look at the log's end; that there was something is "at least".
    #[tokio::test]
    async fn an_old_0_is_not_known() {
        const KNOWN: &str = "SELECT lag_records, num_nulls(lag_records, lag_seconds, drain_seconds, loss_seconds) \
                               FROM highwater.lag";
        let (database, reporter) = reporter().await;
        let run = async |sql: &str| database.query(sql, &[]).await.unwrap();
        let lag = async || {
            let row = run(KNOWN).await.remove(0);
            (row.get::<_, Option<i64>>(0), row.get::<_, i32>(1))
        };
        let unknown = (None, 4);
        let me = reporter.db.identity.owner;
        let claim = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner, claimed_at) \
                     VALUES ('g', 't', 0, 7, 5, $1, now() - interval '1 h')";
        database.query(claim, &[&me]).await.unwrap();
        run("INSERT INTO highwater.worker_status SELECT owner, 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, 'running', true, \
               NULL, 0, 0, 0, 0, 0, 0 FROM highwater.consumer_offset")
            .await;
        run("UPDATE highwater.worker_status SET reported_at = now()").await;
        run("INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at, \
               last_stable_offset, log_end_offset, applied_per_second, loss_at) \
             SELECT 'g', 't', 0, 5, owner, 'running', now() - interval '1 h', 7, 7, 0, 'infinity' FROM highwater.consumer_offset")
            .await;
        assert_eq!(
            lag().await,
            (Some(0), 0),
            "its worker lives and reports, and nothing has changed for an hour"
        );
        run("UPDATE highwater.worker_status SET reported_at = now() - interval '61 s'").await;
        assert_eq!(lag().await, unknown, "it cannot report");
        run("UPDATE highwater.partition_status SET last_stable_offset = 9, log_end_offset = 9").await;
        assert_eq!(lag().await.0, Some(2), "at least");
        run("UPDATE highwater.partition_status SET last_stable_offset = 7, log_end_offset = 7").await;

        run("UPDATE highwater.worker_status SET heartbeat_at = now() - interval '50 s', reported_at = now() - interval '50 s'")
            .await;
        assert_eq!(lag().await, (Some(0), 0), "dead since a moment ago");
        run("UPDATE highwater.worker_status SET heartbeat_at = now() - interval '61 s'").await;
        run("UPDATE highwater.worker_status SET reported_at = heartbeat_at").await;
        assert_eq!(lag().await, unknown, "dead");

        // A hand-over.
        run("UPDATE highwater.worker_status SET heartbeat_at = now(), reported_at = now(), stopped_at = now()").await;
        run("UPDATE highwater.consumer_offset SET owner = NULL").await;
        assert_eq!(lag().await, (Some(0), 0), "released just now");
        run("UPDATE highwater.consumer_offset SET epoch = 6, owner = gen_random_uuid(), claimed_at = now()")
            .await;
        assert_eq!(lag().await, (Some(0), 0), "claimed just now");
        run("UPDATE highwater.consumer_offset SET claimed_at = now() - interval '61 s'").await;
        assert_eq!(lag().await, unknown, "claimed, and nothing was ever reported of it");
        run("UPDATE highwater.partition_status SET epoch = 6, ends_as_of = now() - interval '61 s'").await;
        assert_eq!(lag().await, unknown, "what the former claim has left");

        // Somebody looks.
        run("UPDATE highwater.consumer_offset SET owner = NULL").await;
        run("INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
               log_end_offset, loss_at, class, surveyed_at, surveyed_by) \
             VALUES ('g', 't', 0, 7, 7, 7, 'infinity', 'UNOWNED', now() - interval '5 s', gen_random_uuid())")
            .await;
        assert_eq!(lag().await, (Some(0), 0), "seen just now");
        run("UPDATE highwater.consumer_offset SET next_offset = 8").await;
        assert_eq!(lag().await, unknown, "it has passed what was seen");
        run("UPDATE highwater.partition_survey SET next_offset = 8").await;
        assert_eq!(lag().await, (Some(0), 0), "it stood behind the end when it was looked at");
        run("UPDATE highwater.partition_survey SET surveyed_at = now() - interval '61 s'").await;
        assert_eq!(lag().await, unknown, "nobody looks any more");
        run("UPDATE highwater.partition_survey SET last_stable_offset = 9, log_end_offset = 9").await;
        assert_eq!(lag().await.0, Some(1), "at least");
    }

    #[tokio::test]
    async fn clocks_differ_by_a_little() {
        let (database, _reporter) = reporter().await;
        database
            .execute(
                "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset) VALUES ('g', 't', 0, 7); \
                 INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
                   log_end_offset, class, surveyed_at, surveyed_by) \
                 VALUES ('g', 't', 0, 7, 9, 9, 'UNOWNED', now(), gen_random_uuid())",
            )
            .await
            .unwrap();
        for (ahead, age) in [(4, Some(0.0)), (9, None)] {
            let dated = format!(
                "UPDATE highwater.partition_survey SET next_record_timestamp = clock_timestamp() + interval '{ahead} s'"
            );
            database.execute(&dated).await.unwrap();
            let said = database.query("SELECT lag_seconds FROM highwater.lag", &[]).await.unwrap();
            assert_eq!(said[0].get::<_, Option<f64>>(0), age, "{ahead} s ahead");
        }
    }

    /// Somebody has the row of one partition, and goes for lunch: of the others everything is told.
    #[tokio::test]
    async fn it_is_written_around_what_somebody_has_locked() {
        const CLASSES: &str = "SELECT partition, class, lag_records FROM highwater.health \
                                 JOIN highwater.lag USING (group_id, topic, partition) ORDER BY 1";
        let (database, mut reporter) = reporter().await;
        let me = reporter.db.identity.owner;
        let claims = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
                      SELECT 'g', 't', p, 3, 7, $1 FROM generate_series(0, 2) p";
        database.query(claims, &[&me]).await.unwrap();
        let at = |partition, end| PartitionStatus {
            partition,
            last_stable_offset: Some(end),
            log_end_offset: Some(end),
            ..status(PartitionState::Running, Some(7))
        };
        let publish = |board: &StatusBoard, ends: [i64; 3]| {
            let partitions = (0..).zip(ends).map(|(partition, end)| at(partition, end));
            board.publish(true, None, partitions.collect());
        };
        publish(&reporter.board, [3, 3, 3]);
        reporter.turn(None).await.unwrap();
        let silent = "INSERT INTO highwater.worker_status SELECT $1::uuid, 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, \
                        'running', true, NULL, 3, 0, 0, 0, 0, 0";
        database.query(silent, &[&me]).await.unwrap();
        let long_ago = "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp(), \
                          reported_at = clock_timestamp() - interval '70 s'; \
                        UPDATE highwater.partition_status SET updated_at = clock_timestamp() - interval '70 s'";
        let classes = async || {
            database
                .execute("UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()")
                .await
                .unwrap();
            let rows = database.query(CLASSES, &[]).await.unwrap();
            let said = |row: &tokio_postgres::Row| (row.get::<_, String>(1), row.get::<_, Option<i64>>(2));
            rows.iter().map(said).collect::<Vec<_>>()
        };
        database.execute(long_ago).await.unwrap();
        let lunch = database.client().await.unwrap();
        lunch
            .batch_execute("BEGIN; UPDATE highwater.partition_status SET detail = detail WHERE partition = 1")
            .await
            .unwrap();
        // Of the first there is news, of the second as well, of the third is none.
        publish(&reporter.board, [5, 6, 3]);
        let left = reporter.turn(None).await.unwrap_err().to_string();
        assert!(left.contains("locked 1 of its rows") && left.contains("t[1]"), "{left}");
        let stop = || ("STOP".to_owned(), None);
        let ok = |lag| ("OK".to_owned(), Some(lag));
        assert_eq!(classes().await, [ok(2), stop(), ok(0)]);
        // Without waiting for it now.
        publish(&reporter.board, [8, 6, 3]);
        let began = Instant::now();
        assert!(reporter.turn(None).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(classes().await, [ok(5), stop(), ok(0)]);
        lunch.batch_execute("ROLLBACK").await.unwrap();
        reporter.turn(None).await.unwrap();
        assert_eq!(classes().await, [ok(5), ok(3), ok(0)]);
        assert!(reporter.around.is_none());
    }

    /// A worker that began before `highwater migrate`, once that is done.
    #[tokio::test]
    async fn beats_say_all_that_the_tables_have_once_they_are_migrated() {
        let (database, reporter) = reporter().await;
        let config = PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url(database.url())
            .group("g")
            .topics(vec!["t".to_owned()])
            .finish()
            .unwrap();
        let (taken, _) = tokio::sync::mpsc::unbounded_channel();
        let heart = Heartbeat::new(
            Arc::clone(&reporter.db),
            Arc::clone(&reporter.board),
            Arc::default(),
            taken,
            &config,
        );
        let beat = async || {
            heart.write(&reporter.db.status().await.unwrap()).await.unwrap();
            let said =
                "SELECT num_nulls(reported_at, processing_deadline_seconds) FROM highwater.worker_status";
            database.query(said, &[]).await.unwrap()[0].get::<_, i32>(0)
        };
        let rename = async |from: &str, to: &str| {
            let sql = format!("ALTER TABLE highwater.worker_status RENAME {from} TO {to}");
            database.execute(&sql).await.unwrap();
        };
        rename("reported_at", "later").await;
        heart.write(&reporter.db.status().await.unwrap()).await.unwrap();
        rename("later", "reported_at").await;
        assert_eq!(beat().await, 2);
        heart.look_anew();
        assert_eq!(beat().await, 0);
    }

    #[test]
    fn silence_is_told_once() {
        let mut failing = Failing::default();
        let began = Instant::now();
        let told = [0, 9, 10, 11, 60].map(|seconds| failing.again(began + Duration::from_secs(seconds)));
        assert_eq!(told, [false, false, true, false, false]);
        assert!(failing.ended() && !failing.ended());
        assert!(!failing.again(began) && !failing.ended(), "nobody was told");
    }

    /// What is not committed is to be applied, too, where it is read.
    #[test]
    fn one_that_reads_uncommitted_records_reports_how_far_it_reads() {
        let seen = PartitionStatus {
            last_stable_offset: Some(7),
            log_end_offset: Some(9),
            ..status(PartitionState::Running, Some(1))
        };
        for (isolation, end) in [(Isolation::ReadCommitted, 7), (Isolation::ReadUncommitted, 9)] {
            let line = Line::of(&seen, &Policies::halting(), &Writes::default(), isolation);
            assert_eq!((line.last_stable_offset, line.log_end_offset), (Some(end), Some(9)));
        }
    }

    /// In a hand-over the lag stays known, as old as it is: the former claim's ends, until this one has its own.
    #[tokio::test]
    async fn what_a_former_claim_knew_stands_until_this_one_knows_more() {
        const SEEN: &str = "SELECT lag_records, uncommitted_records, lag_seconds IS NOT NULL, \
                              extract(epoch FROM clock_timestamp() - as_of)::float8 FROM highwater.lag";
        let (database, mut reporter) = reporter().await;
        let run = async |sql: &str| database.query(sql, &[]).await.unwrap();
        let lag = async || {
            let row = database.query(SEEN, &[]).await.unwrap().remove(0);
            let age: f64 = row.get(3);
            ((row.get(0), row.get(1), row.get(2)), age)
        };
        run("INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch) VALUES ('g', 't', 0, 3, 5)")
            .await;
        run("INSERT INTO highwater.worker_status VALUES (gen_random_uuid(), 'g', NULL, 'p', 'v', 'h', 1, now(), \
               now() - interval '10 s', NULL, 's', true, NULL, 0, 0, 0, 0, 0, 0)")
            .await;
        run("INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at, \
               last_stable_offset, log_end_offset, next_record_timestamp, stood_at) \
             SELECT 'g', 't', 0, 5, owner, 'running', now() - interval '1 h', 7, 9, 'epoch', 3 FROM highwater.worker_status")
            .await;
        // Released, and not claimed yet.
        for _ in 0..2 {
            report(&mut reporter, status(PartitionState::Claiming, None)).await;
            let (seen, age) = lag().await;
            assert_eq!(seen, (Some(4_i64), Some(2_i64), true));
            assert!((9.9..60.0).contains(&age), "as old as the former's last sign of life: {age}");
        }
        // It had come further than its owner had looked.
        run("UPDATE highwater.consumer_offset SET next_offset = 8").await;
        assert_eq!(lag().await.0, (None, None, false), "not 0");

        let me = reporter.db.identity.owner;
        let claim = "UPDATE highwater.consumer_offset SET epoch = 6, owner = $1";
        database.query(claim, &[&me]).await.unwrap();
        let own = PartitionStatus {
            log_end_offset: Some(20),
            last_stable_offset: Some(20),
            next_offset: Some(8),
            ..status(PartitionState::Running, Some(6))
        };
        report(&mut reporter, own.clone()).await;
        let (seen, age) = lag().await;
        assert_eq!(seen, (Some(12), Some(0), false), "of another record nothing is known");
        assert!(age < 9.0, "{age}");
        report(&mut reporter, PartitionStatus { next_record_timestamp_ms: Some(5), ..own.clone() }).await;
        report(&mut reporter, own.clone()).await;
        assert_eq!(lag().await.0, (Some(12), Some(0), true), "the record stands there still");
        // Its leader does not answer any more, and somebody has looked long before this claim.
        run("INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
               log_end_offset, class, surveyed_at, surveyed_by) \
             VALUES ('g', 't', 0, 2, 3, 3, 'UNOWNED', now() - interval '30 min', gen_random_uuid())")
            .await;
        run("INSERT INTO highwater.worker_status SELECT owner, 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, 's', true, \
               NULL, 0, 0, 0, 0, 0, 0 FROM highwater.consumer_offset")
            .await;
        let silent = || PartitionStatus { next_offset: Some(8), ..status(PartitionState::Running, Some(6)) };
        report(&mut reporter, silent()).await;
        let (seen, age) = lag().await;
        assert_eq!((seen.0, seen.1), (None, None), "not what was told last, nor what was seen before");
        assert!(age < 9.0, "{age}");
        run("DELETE FROM highwater.partition_survey").await;
        report(&mut reporter, own).await;
        assert_eq!(lag().await.0.0, Some(12), "it answers again");

        // Somebody has looked while nobody held it, and what he has seen is newer.
        run("UPDATE highwater.consumer_offset SET epoch = 7, owner = NULL").await;
        run("UPDATE highwater.partition_status SET updated_at = now() - interval '1 h'").await;
        run("INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
               log_end_offset, class, surveyed_at, surveyed_by) \
             VALUES ('g', 't', 0, 8, 30, 30, 'UNOWNED', now() - interval '30 min', gen_random_uuid())")
            .await;
        report(&mut reporter, status(PartitionState::Claiming, None)).await;
        let (seen, age) = lag().await;
        assert_eq!((seen.0, age > 1_790.0 && age < 1_900.0), (Some(22), true), "{age}");
        database.query("UPDATE highwater.consumer_offset SET owner = $1", &[&me]).await.unwrap();
        assert_eq!(lag().await.0.0, Some(22), "also under the new claim, which knows nothing itself");
    }

    #[test]
    fn a_text_is_printable_and_not_endless() {
        assert_eq!(printable("a\0b\u{7}\n\u{1b}[31m\tü"), "a\u{FFFD}b\u{FFFD}\n\u{FFFD}[31m\tü");
        assert_eq!(printable(&"ü".repeat(TEXT_LIMIT)), "ü".repeat(TEXT_LIMIT));
        assert_eq!(printable(&"ü".repeat(TEXT_LIMIT + 1)), "ü".repeat(TEXT_LIMIT) + "…");
        assert_eq!(ascii("a…ü"), "a??");
    }
}
