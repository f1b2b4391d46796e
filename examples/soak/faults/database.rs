//! Faults within a database that answers: it refuses connections, somebody locks a table, a COMMIT takes its time, a
//! record kills its backend.

use std::time::{Duration, Instant};

use highwater::testing::{Message, wait_until};
use highwater::tokio_postgres::{self, NoTls, error::SqlState};

use super::Faults;
use super::past::APPLIED;
use crate::fleet::{MAX_PROCESSING_TIME, PATIENCE};
use crate::moving::halted;
use crate::produce::payment;
use crate::{Result, TOPIC};

/// How long the workers may take to find and name a record that kills its backend. More than [`crate::moving::BOUND`],
/// so that partitions which stand still beside it are seen to.
const NAMED_WITHIN: Duration = Duration::from_secs(75);
const POLL: Duration = Duration::from_millis(200);
/// How many backends ended at the marked record; a sequence is not rolled back with them.
const KILLED: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM soak_killed";
const SLOWED: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM soak_slowed";

impl Faults<'_> {
    pub(super) async fn connections_refused(&self, length: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let primary = self.servers.primary();
        // Of another database, for nobody gets into this one any more.
        let outside = primary.postgres.client().await?;
        let name = primary.database.name();
        let allow = async |allow: bool| {
            outside.batch_execute(&format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS {allow}")).await
        };
        let end = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = $1 AND application_name LIKE 'highwater/%'";
        // Or else the last word would be that of a host which is away.
        self.servers.second_host.refuse(false);
        allow(false).await?;
        let ended = outside.query_one(end, &[&name]).await.map(|row| row.get::<_, i64>(0));
        let refused = tokio_postgres::connect(primary.database.url(), NoTls).await.err();
        tokio::time::sleep(length).await;
        self.servers.second_host.refuse(true);
        allow(true).await?;
        let (ended, code) = (ended?, refused.and_then(|error| error.code().cloned()));
        if ended == 0 || code != Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) {
            return Err(format!("{ended} sessions ended, a new one was answered with {code:?}").into());
        }
        Ok(format!("{ended} sessions ended, new ones refused with 55000 for {length:.1?}"))
    }

    pub(super) async fn locked_table(&self, length: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let other = self.servers.database().client().await?;
        other.batch_execute("BEGIN; LOCK TABLE fraud_scores IN SHARE MODE").await?;
        let waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                       WHERE relation = 'fraud_scores'::regclass AND NOT granted AND application_name LIKE 'highwater/%'";
        let (until, mut most) = (Instant::now() + length, 0);
        while Instant::now() < until {
            most = most.max(other.query_one(waiting, &[]).await?.get::<_, i64>(0));
            tokio::time::sleep(POLL).await;
        }
        other.batch_execute("COMMIT").await?;
        if most == 0 {
            return Err("no worker waited for it".into());
        }
        Ok(format!("up to {most} sessions of workers waited for it at once, for {length:.1?} in all"))
    }

    /// Rows take their time at COMMIT, and a batch of more than fifteen takes longer than a batch may.
    pub(super) async fn slow_commit(&self, length: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let (before, position) = (self.servers.number(SLOWED).await?, self.servers.number(APPLIED).await?);
        self.arm("slow-commit", true).await?;
        let longest = self.longest_commit(length).await;
        self.arm("slow-commit", false).await?;
        let (longest, rows) = (longest?, self.servers.number(SLOWED).await? - before);
        let applied = self.servers.number(APPLIED).await? - position;
        // Seen now and then only, and ended at the limit.
        if longest < MAX_PROCESSING_TIME.mul_f64(0.75) {
            return Err(format!("the longest of the slow COMMITs took {longest:.1?} only").into());
        }
        Ok(format!(
            "the longest COMMIT seen took {longest:.1?} of {MAX_PROCESSING_TIME:?}, {rows} rows waited at theirs; \
             {applied} offsets were applied meanwhile"
        ))
    }

    async fn longest_commit(&self, length: Duration) -> Result<Duration> {
        let committing = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start) * 1000), 0)::int8 \
                          FROM pg_stat_activity WHERE application_name LIKE 'highwater/%' \
                          AND query = 'COMMIT' AND state = 'active' AND wait_event = 'PgSleep'";
        let client = self.servers.database().client().await?;
        let (until, mut longest) = (Instant::now() + length, 0);
        while Instant::now() < until {
            longest = longest.max(client.query_one(committing, &[]).await?.get::<_, i64>(0));
            tokio::time::sleep(POLL).await;
        }
        Ok(Duration::from_millis(u64::try_from(longest)?))
    }

    /// A record that nobody can insert without losing the session, until its partition has halted at it by name or
    /// the time is over; then the trap is disarmed, and whoever has halted is restarted.
    pub(super) async fn killer_record(&self, partition: i32) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let before = self.servers.number(KILLED).await?;
        self.arm("killer-record", true).await?;
        self.moving.blame(partition, true);
        let (offset, named) = match self.send_killer(partition).await {
            Ok(offset) => (Ok(offset), self.until_named(partition, offset, before).await),
            Err(error) => (Err(error), Ok(None)),
        };
        self.arm("killer-record", false).await?;
        let killed = self.servers.number(KILLED).await? - before;
        let restarts = self.until_applied(partition, offset?).await?;
        self.moving.blame(partition, false);
        match named? {
            Some(after) => Ok(format!(
                "{killed} backends ended, partition {partition} halted at the record by name after {after:.1?}; \
                 mended with {restarts} restarts"
            )),
            None => Ok(format!(
                "{killed} backends ended, and partition {partition} still tried after {NAMED_WITHIN:?}; \
                 {restarts} restarts"
            )),
        }
    }

    async fn send_killer(&self, partition: i32) -> Result<i64> {
        let (account, body) = payment(self.next_number());
        let body = body.replace("\"tx-", "\"killer-");
        let producer = self.servers.kafka.producer()?;
        producer.send(Message::to(TOPIC).partition(partition).key(account).value(body.as_str()))?;
        producer.flush().await?;
        self.own.produced(producer.ledger(), [body.as_str()])?;
        let positions = producer.ledger().positions(TOPIC);
        Ok(positions.into_keys().next().ok_or("the record was not acknowledged")?.1)
    }

    /// How long it took after the first death; none if the workers still try.
    async fn until_named(&self, partition: i32, offset: i64, before: i64) -> Result<Option<Duration>> {
        wait_until("the marked record has killed a backend", PATIENCE, async || {
            Ok(self.servers.number(KILLED).await.ok().filter(|killed| *killed > before))
        })
        .await?;
        // Nobody need wait for its end: only whether the others move is looked at.
        drop(self.moving.beside(format!("beside a killer record in partition {partition}"), partition));
        let began = Instant::now();
        while began.elapsed() < NAMED_WITHIN {
            if let Some(detail) = halted(self.servers, partition).await? {
                return if detail.contains(&offset.to_string()) {
                    Ok(Some(began.elapsed()))
                } else {
                    Err(format!("partition {partition} halted, but not at {offset} by name: {detail}").into())
                };
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    /// Restarts whoever has halted at it, until the record is applied; returns how many restarts that took.
    async fn until_applied(&self, partition: i32, offset: i64) -> Result<usize> {
        let applied = format!(
            "SELECT count(*) FROM fraud_scores WHERE source_partition = {partition} AND source_offset = {offset}"
        );
        let (began, mut restarts) = (Instant::now(), 0);
        while self.servers.number(&applied).await? == 0 {
            if began.elapsed() > PATIENCE {
                let text =
                    format!("partition {partition} is not past offset {offset}, {restarts} restarts later");
                return Err(text.into());
            }
            if halted(self.servers, partition).await?.is_some() {
                restarts += usize::from(self.restart_reporter(partition).await?);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(restarts)
    }

    async fn arm(&self, trap: &str, is_armed: bool) -> Result {
        let sql = format!("UPDATE soak_trap SET is_armed = {is_armed} WHERE name = '{trap}'");
        Ok(self.servers.database().execute(&sql).await?)
    }
}
