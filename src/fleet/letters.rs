//! A group's dead letters, kind by kind: how many, in which states, whether they still come, and what one would type.
//! Never anything of a record.

use crate::dead_letter::{PARKED, WAITS};
use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::rights::Rights;
use super::{Advice, advice, json, ms};
use crate::error::{Error, Result};
use crate::schema::SchemaName;

/// How many kinds are shown.
const KINDS: i64 = 20;
/// How many dead letters are looked at. There may be more.
const LETTERS: i64 = 1_000_000;
/// How many characters of a reason are shown: a handler's words may be long.
const REASON_CHARS: i32 = 300;
/// How many minutes the trend goes back.
const MINUTES: usize = 30;

/// A group's dead letters.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LettersPage {
    /// When it was read, by the database's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// The group.
    pub group: String,
    /// Those with the most that wait first. None where they may not be read.
    pub kinds: Option<Vec<LetterKind>>,
}

/// Dead letters that have one trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LetterKind {
    /// Its fingerprint.
    pub kind: String,
    /// How many there are, in any state.
    #[serde(serialize_with = "json::text")]
    pub records: i64,
    /// How many wait for somebody: open, parked and queued ones.
    #[serde(serialize_with = "json::text")]
    pub waiting: i64,
    /// How many are in which state, as text.
    pub states: BTreeMap<String, String>,
    /// When the first of them was stored, in milliseconds since 1970.
    pub first_at_ms: i64,
    /// When one of them was last stored.
    pub last_at_ms: i64,
    /// Their topics.
    pub topics: Vec<String>,
    /// The route of the handler, or the program; none of what a person has skipped.
    pub handler: Option<String>,
    /// Postgres' code, if it was Postgres that refused them.
    pub sqlstate: Option<String>,
    /// Why, in the words of the handler or of Postgres, of the newest.
    pub reason: String,
    /// How many were last stored in each of the last 30 minutes, the oldest first.
    pub trend: Vec<i64>,
    /// What one would type about them.
    pub advice: Vec<Advice>,
}

/// Of which partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which<'a> {
    pub(super) group: &'a str,
    pub(super) partition: Option<(&'a str, i32)>,
}

pub(super) async fn read(
    client: &mut Client,
    rights: &Rights,
    schema: &SchemaName,
    group: &str,
) -> Result<LettersPage> {
    let failed = |source| Error::postgres(format!("read the dead letters of group `{group}`"), source);
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let snapshot = snapshot.await.map_err(failed)?;
    let at_ms = format!("SELECT {}", ms("clock_timestamp()"));
    let at_ms = snapshot.query_one(&at_ms, &[]).await.map_err(failed)?.get(0);
    let kinds = match rights.letters {
        true => Some(kinds(&snapshot, schema, Which { group, partition: None }).await.map_err(failed)?),
        false => None,
    };
    snapshot.commit().await.map_err(failed)?;
    Ok(LettersPage { at_ms, group: group.to_owned(), kinds })
}

/// The kinds, those with the most that wait first.
pub(super) async fn kinds(
    snapshot: &Transaction<'_>,
    schema: &SchemaName,
    which: Which<'_>,
) -> Result<Vec<LetterKind>, tokio_postgres::Error> {
    // What is parked does not say why.
    let newest = |column: &str| {
        format!("(array_agg(d.{column} ORDER BY starts_with(d.reason, '{PARKED}'), d.last_at DESC))[1]")
    };
    // Columns by their names: of this table a monitor may read some only.
    let sql = format!(
        "WITH d AS MATERIALIZED ( \
           SELECT fingerprint, state, topic, handler, sqlstate, left(reason, $4) AS reason, first_at, last_at FROM {letters} \
           WHERE group_id = $1 AND ($2::text IS NULL OR topic = $2) AND ($3::int4 IS NULL OR partition = $3) LIMIT {LETTERS}), \
         states AS (SELECT fingerprint, state, count(*) AS n FROM d GROUP BY 1, 2), \
         minutes AS ( \
           SELECT fingerprint, floor(extract(epoch FROM clock_timestamp() - last_at) / 60)::int4 AS ago, count(*) AS n FROM d \
           WHERE last_at > clock_timestamp() - {MINUTES} * interval '1 minute' GROUP BY 1, 2) \
         SELECT d.fingerprint, count(*), count(*) FILTER (WHERE d.{WAITS}), {first}, {last}, \
           array_agg(DISTINCT d.topic), {handler}, {sqlstate}, {reason}, \
           (SELECT array_agg(s.state ORDER BY s.state) FROM states s WHERE s.fingerprint = d.fingerprint), \
           (SELECT array_agg(s.n ORDER BY s.state) FROM states s WHERE s.fingerprint = d.fingerprint), \
           (SELECT array_agg(m.ago ORDER BY m.ago) FROM minutes m WHERE m.fingerprint = d.fingerprint), \
           (SELECT array_agg(m.n ORDER BY m.ago) FROM minutes m WHERE m.fingerprint = d.fingerprint) \
         FROM d GROUP BY d.fingerprint ORDER BY 3 DESC, 2 DESC, 1 LIMIT $5",
        letters = schema.qualified("dead_letter"),
        first = ms("min(d.first_at)"),
        last = ms("max(d.last_at)"),
        handler = newest("handler"),
        sqlstate = newest("sqlstate"),
        reason = newest("reason"),
    );
    let (topic, partition) = which.partition.unzip();
    let rows = snapshot.query(&sql, &[&which.group, &topic, &partition, &REASON_CHARS, &KINDS]).await?;
    Ok(rows.iter().map(|row| kind(row, which)).collect())
}

fn kind(row: &Row, which: Which<'_>) -> LetterKind {
    let (kind, waiting): (String, i64) = (row.get(0), row.get(2));
    let (states, counts): (Vec<String>, Vec<i64>) = (row.get(9), row.get(10));
    let minutes: Option<Vec<i32>> = row.get(11);
    let stored: Option<Vec<i64>> = row.get(12);
    LetterKind {
        advice: advice::of_letters(&advice::quoted(which.group), which.partition, &kind, waiting),
        kind,
        records: row.get(1),
        waiting,
        states: states.into_iter().zip(counts.iter().map(ToString::to_string)).collect(),
        first_at_ms: row.get(3),
        last_at_ms: row.get(4),
        topics: row.get(5),
        handler: row.get(6),
        sqlstate: row.get(7),
        reason: row.get(8),
        trend: trend(&minutes.unwrap_or_default(), &stored.unwrap_or_default()),
    }
}

/// `minutes`: how long ago.
fn trend(minutes: &[i32], stored: &[i64]) -> Vec<i64> {
    let mut trend = vec![0; MINUTES];
    for (ago, count) in minutes.iter().zip(stored) {
        // What is dated in the future is of now.
        let ago = usize::try_from(*ago).unwrap_or(0);
        if let Some(slot) = MINUTES.checked_sub(1 + ago).and_then(|slot| trend.get_mut(slot)) {
            *slot += count;
        }
    }
    trend
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_ends_with_this_minute() {
        let found = trend(&[-1, 0, 3, 29, 30], &[1, 2, 7, 5, 9]);
        assert_eq!((found.len(), found[0], found[26], found[29]), (30, 5, 7, 3));
        assert_eq!(found.iter().sum::<i64>(), 15);
    }
}
