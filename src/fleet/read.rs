//! The queries. A few, in one snapshot, each with a limit.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};
use uuid::Uuid;

use super::events::{self, Event};
use super::group::{Group, Worker};
use super::rights::Rights;
use super::standing;
use super::waiting::{Letters, Waiting};
use super::{Reading, WINDOW, ms, work};
use crate::db::{live_in_snapshot, oldest_sql};
use crate::error::{Error, Result};
use crate::schema::SchemaName;

const WORKERS: usize = 10_000;
/// Of each kind.
const EVENTS: usize = 2_000;
/// What happened within so many seconds, by the same hand, is one event.
const DEED_SECONDS: i32 = 5;

pub(super) async fn read(
    client: &mut Client,
    rights: &Rights,
    schema: &SchemaName,
    deadline: Duration,
    waiting: &mut Waiting,
    behind: &mut work::Behind,
) -> Result<Reading> {
    let started = Instant::now();
    let failed = |source| Error::postgres("read the groups of this database", source);
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let snapshot = snapshot.await.map_err(failed)?;
    let mut reading = read_in(&snapshot, rights, schema, deadline, behind).await.map_err(failed)?;
    snapshot.commit().await.map_err(failed)?;
    if rights.letters {
        waiting.count(client, schema).await;
    }
    complete(&mut reading.groups, rights.letters.then_some(&*waiting));
    reading.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(reading)
}

async fn read_in(
    snapshot: &Transaction<'_>,
    rights: &Rights,
    schema: &SchemaName,
    deadline: Duration,
    behind: &mut work::Behind,
) -> Result<Reading, tokio_postgres::Error> {
    // All is said of the moment at which the snapshot was taken, and judged by it, however long it takes to read.
    let now = format!("SELECT {}, current_database()::text", ms("now()"));
    let now = snapshot.query_one(&now, &[]).await?;
    let (now_ms, database): (i64, String) = (now.get(0), now.get(1));
    let since_ms = now_ms - i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);

    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut truncated = standing::partitions(snapshot, schema, now_ms, &mut groups).await?;
    let workers = snapshot.query(&workers_sql(schema), &[&since_ms]).await?;
    truncated |= workers.len() > WORKERS;
    for row in workers.iter().take(WORKERS) {
        let name: String = row.get(0);
        let group =
            groups.entry(name).or_insert_with_key(|name| Group { group: name.clone(), ..Group::default() });
        group.workers.push(worker(row, deadline));
    }
    let mut happened = deeds(snapshot, rights, schema, since_ms).await?;
    behind.heed(&mut groups, now_ms);
    let groups = groups.into_values().map(|mut group| {
        group.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        work::add_partitions(&mut group.workers, &group.partitions);
        let deeds = happened.remove(&group.group).unwrap_or_default();
        group.events = events::of_group(&group, deeds, since_ms);
        group
    });
    let groups: Vec<Group> = groups.collect();
    Ok(Reading {
        at_ms: now_ms,
        took_ms: 0,
        database,
        groups,
        oldest_snapshot_seconds: if rights.sessions { oldest_snapshot(snapshot).await? } else { None },
        unreadable: rights.missing(),
        truncated,
    })
}

/// Judges the groups, with what is known of dead letters. The worst comes first.
fn complete(groups: &mut [Group], waiting: Option<&Waiting>) {
    for group in &mut *groups {
        if let Some(Letters { of_topics, of_kinds }) = waiting.and_then(|waiting| waiting.of(&group.group)) {
            (group.dead_letters, group.dead_letter_kinds) = (Some(of_topics), Some(of_kinds));
        }
        group.complete();
        group.diagnosis.notes.extend(waiting.and_then(Waiting::note));
    }
    groups.sort_by(|a, b| {
        let rank = |group: &Group| (group.diagnosis.is_well(), -group.severity);
        rank(a)
            .cmp(&rank(b))
            .then(b.lag_seconds.unwrap_or(0.0).total_cmp(&a.lag_seconds.unwrap_or(0.0)))
            .then(a.group.cmp(&b.group))
    });
}

fn workers_sql(schema: &SchemaName) -> String {
    format!(
        "SELECT p.group_id, p.owner, p.instance_id, p.program, p.version, p.host, p.process_id, {started}, {beat}, {stopped}, \
           {live}, p.state, p.ready, p.detail, p.records_total, p.commits_total, p.fenced_total, p.retries_total, \
           p.processing_deadline_seconds \
         FROM {workers} p WHERE p.heartbeat_at >= timestamptz 'epoch' + $1::int8 * interval '1 millisecond' \
         ORDER BY p.group_id, p.host, p.process_id LIMIT {limit}",
        started = ms("p.started_at"),
        beat = ms("p.heartbeat_at"),
        stopped = ms("p.stopped_at"),
        live = live_in_snapshot(schema, "p.owner"),
        workers = schema.qualified("worker_status"),
        limit = WORKERS + 1,
    )
}

fn worker(row: &Row, deadline: Duration) -> Worker {
    Worker {
        owner: row.get::<_, Uuid>(1).to_string(),
        instance_id: row.get(2),
        program: row.get(3),
        version: row.get(4),
        host: row.get(5),
        process_id: row.get(6),
        started_at_ms: row.get(7),
        heartbeat_at_ms: row.get(8),
        stopped_at_ms: row.get(9),
        live: row.get(10),
        state: row.get(11),
        ready: row.get(12),
        detail: row.get(13),
        records_total: row.get(14),
        commits_total: row.get(15),
        fenced_total: row.get(16),
        retries_total: row.get(17),
        deadline_seconds: row.get::<_, Option<f64>>(18).unwrap_or(deadline.as_secs_f64()),
        ..Worker::default()
    }
}

/// What people have done, what was lost, and who claimed what, by group. By each group's own index: what is older than
/// the window is not read.
async fn deeds(
    snapshot: &Transaction<'_>,
    rights: &Rights,
    schema: &SchemaName,
    since_ms: i64,
) -> Result<HashMap<String, Vec<Event>>, tokio_postgres::Error> {
    // (table, time, kind, actor, reason, whether, may)
    let skip = "x.verb NOT IN ('reset', 'skip')"; // the offset_event beside it says more
    let sources = [
        (
            "offset_event",
            "x.occurred_at",
            "x.occurred_at",
            "x.kind",
            "x.actor",
            "x.reason",
            "x.kind <> 'start'",
            rights.events,
        ),
        (
            "partition_control",
            "x.requested_at",
            "x.requested_at",
            "x.verb",
            "x.actor",
            "x.reason",
            skip,
            rights.control,
        ),
        (
            "claim_history",
            "x.claimed_at",
            "x.replaced_at",
            "'claim'",
            "coalesce(x.owner::text, '')",
            "''",
            "x.owner IS NOT NULL",
            rights.claims,
        ),
    ];
    let mut found: HashMap<String, Vec<Event>> = HashMap::new();
    for (table, at, indexed, kind, actor, reason, whether, may) in sources {
        if !may {
            continue;
        }
        let sql = format!(
            "SELECT g.group_id, {kind}, {actor}, {reason}, {at_ms}, min(x.topic), min(x.partition), count(*) \
             FROM (SELECT DISTINCT group_id FROM {topics}) g \
             JOIN LATERAL (SELECT * FROM {table} d WHERE d.group_id = g.group_id \
               AND {indexed_d} >= timestamptz 'epoch' + $1::int8 * interval '1 millisecond') x ON {whether} \
             GROUP BY 1, 2, 3, 4, floor(extract(epoch FROM {at}) / {DEED_SECONDS}) ORDER BY 5 DESC LIMIT {EVENTS}",
            at_ms = ms(&format!("max({at})")),
            topics = schema.qualified("group_topic"),
            table = schema.qualified(table),
            indexed_d = indexed.replace("x.", "d."),
        );
        for row in snapshot.query(&sql, &[&since_ms]).await? {
            let event = Event::of_row(
                row.get(1),
                row.get(2),
                row.get(3),
                row.get(4),
                (row.get(5), row.get(6), row.get(7)),
            );
            found.entry(row.get(0)).or_default().push(event);
        }
    }
    Ok(found)
}

async fn oldest_snapshot(snapshot: &Transaction<'_>) -> Result<Option<f64>, tokio_postgres::Error> {
    Ok(Some(snapshot.query_one(&oldest_sql(), &[]).await?.get(0)))
}
