//! Where groups stand.

use std::collections::HashMap;

use serde::Serialize;

use super::near::unknown_topic;
use super::waiting_letters::WaitingLetters;
use super::{Activity, Offsets, Position, Selection, utc};
use crate::batch::PartitionKey;
use crate::consumer::catalog::Survey;
use crate::db::REPORT_COUNTS;
use crate::error::{Error, Result};
use crate::health::Class;

/// A group in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupSummary {
    /// The group.
    pub group: String,
    /// How many topics it reads.
    pub topics: i64,
    /// How many partitions.
    pub partitions: i64,
    /// Of those, how many a live process holds.
    pub held: i64,
    /// How many are paused or halted.
    pub standing_still: i64,
    /// How many processes are live.
    pub workers: i64,
    /// Its last commit, in UTC.
    pub committed_at: Option<String>,
}

/// Which partitions a description has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lines {
    /// All of them.
    #[default]
    All,
    /// Those that have something to apply.
    OnlyWithLag,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Description {
    /// The group.
    pub group: String,
    /// Whether Kafka was asked, and has answered; if not, ends are those that workers have reported, and members are
    /// missing.
    pub asked_kafka: bool,
    /// One per partition, by topic and number.
    pub partitions: Vec<Line>,
    /// Who is at work.
    pub activity: Activity,
}

/// A partition in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Line {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next record to apply, by Postgres: the truth.
    pub next_offset: i64,
    /// The end of the log, uncommitted records included.
    pub log_end_offset: Option<i64>,
    /// How many offsets lie between, markers included.
    pub lag: Option<i64>,
    /// How old the next record is; 0 where there is none.
    pub lag_seconds: Option<f64>,
    /// The process that holds it.
    pub owner: Option<String>,
    /// Where that runs.
    pub host: Option<String>,
    /// Counts the claims.
    pub epoch: i64,
    /// How long ago the last commit was.
    pub seconds_since_commit: Option<f64>,
    /// What the owner has reported, or `paused`, `halted`, `released`, `dead`.
    pub state: String,
    /// Why.
    pub detail: Option<String>,
    /// How it is doing, as the view `health` says; none where this role may not read that.
    pub class: Option<Class>,
    /// Why, in words.
    pub reason: Option<String>,
    /// The copy in Kafka: it may be behind, and is ahead only where the group was moved back and nobody has mirrored it.
    pub mirrored_offset: Option<i64>,
    /// When the present claim began, in UTC.
    pub claimed_at: Option<String>,
    /// When it last committed, in UTC.
    pub committed_at: Option<String>,
    /// What becomes of a record that is rejected, as its worker has said last: `halt` or `dead_letter`.
    pub on_rejected: Option<String>,
    /// Its dead letters that wait for somebody; none where this role may not read them.
    pub dead_letters: Option<WaitingLetters>,
}

impl Offsets {
    /// The groups of this database.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub async fn list(&mut self) -> Result<Vec<GroupSummary>> {
        self.reconnect().await?;
        let sql = format!(
            "SELECT o.group_id, count(DISTINCT o.topic), count(*), count(*) FILTER (WHERE {owner_live}), \
               count(*) FILTER (WHERE o.paused_reason IS NOT NULL OR s.state = 'halted' AND {REPORT_COUNTS}), \
               (SELECT count(*) FROM {workers} p WHERE p.group_id = o.group_id AND {worker_live}), {committed} \
             FROM {offsets} o LEFT JOIN {status} s USING (group_id, topic, partition) \
             GROUP BY o.group_id ORDER BY o.group_id",
            owner_live = crate::db::live(self.schema(), "o.owner"),
            worker_live = crate::db::live(self.schema(), "p.owner"),
            workers = self.schema().qualified("worker_status"),
            committed = utc("max(o.committed_at)"),
            offsets = self.schema().qualified("consumer_offset"),
            status = self.schema().qualified("partition_status"),
        );
        let rows = self.client.query(&sql, &[]).await;
        let rows = rows.map_err(|source| Error::postgres("read the groups", source))?;
        Ok(rows
            .iter()
            .map(|row| GroupSummary {
                group: row.get(0),
                topics: row.get(1),
                partitions: row.get(2),
                held: row.get(3),
                standing_still: row.get(4),
                workers: row.get(5),
                committed_at: row.get(6),
            })
            .collect())
    }

    /// A group in full, in one snapshot of the database, and with Kafka's ends and mirror where brokers are configured.
    ///
    /// # Errors
    ///
    /// If the group is unknown, or Postgres does not answer.
    pub async fn describe(
        &mut self,
        group: &str,
        selection: &Selection,
        lines: Lines,
    ) -> Result<Description> {
        self.reconnect().await?;
        let mut partitions = self.lines(group).await?;
        if partitions.is_empty() {
            return Err(self.unknown_group(group).await);
        }
        if let Selection::Topics(topics) = selection {
            let known: std::collections::BTreeSet<String> =
                partitions.iter().map(|line| line.topic.clone()).collect();
            if let Some(unknown) = topics.iter().find(|topic| !known.contains(&topic.topic)) {
                return Err(unknown_topic(group, &unknown.topic, &Vec::from_iter(known)));
            }
        }
        partitions.retain(|line| selection.covers(&line.topic, line.partition));
        let mut asked_kafka = self.catalog.is_some();
        if let (Some(catalog), false) = (&self.catalog, partitions.is_empty()) {
            let keys: Vec<PartitionKey> = partitions.iter().map(line_key).collect();
            // Whoever does not answer costs his column, not the picture.
            let survey = catalog.survey(&keys).await;
            let mirrored = catalog.group_offsets(group, |_| true).await;
            asked_kafka = survey.is_ok() && mirrored.is_ok();
            let (survey, mirrored) = (survey.unwrap_or_default(), mirrored.unwrap_or_default());
            let mirrored: HashMap<(&str, i32), i64> = mirrored
                .iter()
                .map(|committed| ((&*committed.topic, committed.partition), committed.offset))
                .collect();
            for (line, key) in partitions.iter_mut().zip(&keys) {
                add_ends(line, key, &survey);
                line.mirrored_offset = mirrored.get(&(&*key.topic, key.partition)).copied();
            }
        }
        if lines == Lines::OnlyWithLag {
            partitions.retain(|line| line.lag != Some(0));
        }
        let mut activity = Activity { workers: self.live_workers(group).await?, ..Activity::default() };
        match self.members(group).await {
            Ok(members) => activity.members = members,
            Err(error) => {
                tracing::warn!(error = error.report(), "members are left out");
                asked_kafka = false;
            }
        }
        Ok(Description { group: group.to_owned(), asked_kafka, partitions, activity })
    }

    /// Where a group stands, to be written to a file and read back.
    ///
    /// # Errors
    ///
    /// If the group, a topic or a partition is unknown.
    pub async fn positions(&mut self, group: &str, selection: &Selection) -> Result<Vec<Position>> {
        self.reconnect().await?;
        let standing = self.standing(group, selection).await?;
        Ok(standing
            .into_iter()
            .map(|row| Position {
                group: group.to_owned(),
                topic: row.key.topic.to_string(),
                partition: row.key.partition,
                offset: row.next_offset,
            })
            .collect())
    }

    async fn lines(&self, group: &str) -> Result<Vec<Line>> {
        let sql = format!(
            "SELECT o.topic, o.partition, o.next_offset, s.log_end_offset, \
               CASE WHEN s.epoch = o.epoch THEN extract(epoch FROM clock_timestamp() - s.next_record_timestamp)::float8 END, \
               o.owner::text, w.host, o.epoch, extract(epoch FROM clock_timestamp() - o.committed_at)::float8, \
               CASE WHEN o.halted AND o.paused_reason IS NOT NULL THEN 'halted' WHEN o.paused_reason IS NOT NULL THEN 'paused' \
                 WHEN s.state = 'halted' AND {REPORT_COUNTS} THEN 'halted' WHEN o.owner IS NULL THEN 'released' WHEN NOT {live} THEN 'dead' \
                 WHEN s.epoch = o.epoch THEN s.state ELSE 'claimed' END, \
               coalesce(o.paused_reason, CASE WHEN {REPORT_COUNTS} THEN s.detail END), \
               {claimed_at}, {committed_at}, s.on_rejected \
             FROM {offsets} o LEFT JOIN {status} s USING (group_id, topic, partition) \
             LEFT JOIN {workers} w ON w.owner = o.owner \
             WHERE o.group_id = $1 ORDER BY o.topic, o.partition",
            live = crate::db::live(self.schema(), "o.owner"),
            claimed_at = utc("o.claimed_at"),
            committed_at = utc("o.committed_at"),
            offsets = self.schema().qualified("consumer_offset"),
            status = self.schema().qualified("partition_status"),
            workers = self.schema().qualified("worker_status"),
        );
        let rows = self.client.query(&sql, &[&group]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read the offsets of group `{group}`"), source))?;
        let healths = self.healths(group).await.map_err(|source| {
            Error::postgres(format!("read how the partitions of group `{group}` are doing"), source)
        })?;
        let mut healths = healths.unwrap_or_default();
        let letters = self
            .waiting_letters(group)
            .await
            .map_err(|source| Error::postgres(format!("read the dead letters of group `{group}`"), source))?;
        Ok(rows
            .iter()
            .map(|row| {
                let health = healths.remove(&(row.get(0), row.get(1)));
                let lag_seconds =
                    health.as_ref().and_then(|health| health.lag_seconds).filter(|age| *age > 0.0);
                let (class, reason) = health.map(|health| (health.class, health.reason)).unzip();
                let (next_offset, log_end_offset): (i64, Option<i64>) = (row.get(2), row.get(3));
                Line {
                    topic: row.get(0),
                    partition: row.get(1),
                    next_offset,
                    log_end_offset,
                    lag: log_end_offset.map(|end| (end - next_offset).max(0)),
                    lag_seconds: lag_seconds.or(row.get(4)),
                    owner: row.get(5),
                    host: row.get(6),
                    epoch: row.get(7),
                    seconds_since_commit: row.get(8),
                    state: row.get(9),
                    detail: row.get(10),
                    class,
                    reason: reason.flatten(),
                    mirrored_offset: None,
                    claimed_at: row.get(11),
                    committed_at: row.get(12),
                    on_rejected: row.get(13),
                    dead_letters: letters
                        .as_ref()
                        .map(|letters| letters.get(&(row.get(0), row.get(1))).cloned().unwrap_or_default()),
                }
            })
            .collect())
    }
}

fn line_key(line: &Line) -> PartitionKey {
    PartitionKey { topic: line.topic.as_str().into(), partition: line.partition }
}

fn add_ends(line: &mut Line, key: &PartitionKey, survey: &Survey) {
    let end = survey.available.get(key).map(|available| available.end.get());
    line.log_end_offset = end.or(line.log_end_offset);
    line.lag = line.log_end_offset.map(|end| (end - line.next_offset).max(0));
    if line.lag == Some(0) {
        line.lag_seconds = Some(0.0);
    }
}
