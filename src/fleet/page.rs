//! One partition, in full: where it stands, who applied what, what went wrong. Never anything of a record.

use serde::Serialize;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::group::Partition;
use super::rights::Rights;
use super::{Advice, LetterKind, advice, json, letters as kinds, ms, standing};
use crate::error::{Error, Result};
use crate::schema::SchemaName;

/// How many rows of each table.
const ROWS: i64 = 50;
/// How many characters of a reason are shown: a handler's words may be long.
const REASON_CHARS: i32 = 300;

/// A partition's page.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PartitionPage {
    /// When it was read, by the database's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// The group.
    pub group: String,
    /// Where it stands.
    pub partition: Partition,
    /// What one would do next.
    pub advice: Vec<Advice>,
    /// The coverage ledger: finished claims, the newest first. None where it may not be read.
    pub ledger: Option<Vec<Claim>>,
    /// What people did to it and what was lost, the newest first. None where it may not be read.
    pub deeds: Option<Vec<Deed>>,
    /// Its dead letters by kind, those with the most that wait first. None where they may not be read.
    pub letter_kinds: Option<Vec<LetterKind>>,
    /// Its dead letters, the newest first. None where they may not be read.
    pub dead_letters: Option<Vec<Letter>>,
}

/// A finished claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// Its number.
    #[serde(serialize_with = "json::text")]
    pub epoch: i64,
    /// Whose it was.
    pub owner: Option<String>,
    /// Its static membership.
    pub instance_id: Option<String>,
    /// Where it began.
    #[serde(serialize_with = "json::text")]
    pub claimed_offset: i64,
    /// Where it ended: the first offset that it has not covered.
    #[serde(serialize_with = "json::text")]
    pub end_offset: i64,
    /// How many records it has applied.
    #[serde(serialize_with = "json::text")]
    pub applied_records: i64,
    /// In how many batches.
    #[serde(serialize_with = "json::text")]
    pub applied_batches: i64,
    /// When it began, in milliseconds since 1970.
    pub claimed_at_ms: i64,
    /// When it was replaced.
    pub replaced_at_ms: i64,
}

/// A move of the offset, or an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Deed {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// `reset`, `skip`, `lost`, `pause`, …
    pub what: String,
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// From where, if it moved something.
    #[serde(serialize_with = "json::maybe_text")]
    pub from_offset: Option<i64>,
    /// To where.
    #[serde(serialize_with = "json::maybe_text")]
    pub to_offset: Option<i64>,
}

/// A rejected record: where and why, without anything of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Letter {
    /// Its offset.
    #[serde(serialize_with = "json::text")]
    pub record_offset: i64,
    /// `open`, `parked`, `queued`, `redriven`, `discarded`, `superseded`.
    pub state: String,
    /// Postgres' code, if it was Postgres that refused it.
    pub sqlstate: Option<String>,
    /// Why, in the words of the handler or of Postgres.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When last, in milliseconds since 1970.
    pub last_at_ms: i64,
}

pub(super) async fn read(
    client: &mut Client,
    rights: &Rights,
    schema: &SchemaName,
    key: (&str, &str, i32),
) -> Result<Option<PartitionPage>> {
    let failed = |source| Error::postgres(format!("read partition {} of topic `{}`", key.2, key.1), source);
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let snapshot = snapshot.await.map_err(failed)?;
    let page = read_in(&snapshot, rights, schema, key).await.map_err(failed)?;
    snapshot.commit().await.map_err(failed)?;
    Ok(page)
}

async fn read_in(
    snapshot: &Transaction<'_>,
    rights: &Rights,
    schema: &SchemaName,
    (group, topic, partition): (&str, &str, i32),
) -> Result<Option<PartitionPage>, tokio_postgres::Error> {
    let at_ms: i64 = snapshot.query_one(&format!("SELECT {}", ms("now()")), &[]).await?.get(0);
    let which = "WHERE o.group_id = $1 AND o.topic = $2 AND o.partition = $3";
    let row =
        snapshot.query_opt(&standing::standing_sql(schema, which), &[&group, &topic, &partition]).await?;
    let Some(row) = row else { return Ok(None) };
    let health =
        snapshot.query_opt(&standing::health_sql(schema, which), &[&group, &topic, &partition]).await?;
    let found = standing::partition(&row, health.as_ref(), at_ms);
    let key = (group, topic, partition);
    Ok(Some(PartitionPage {
        at_ms,
        group: group.to_owned(),
        advice: advice::of_partition(&advice::quoted(group), &found),
        partition: found,
        ledger: if rights.claims { Some(ledger(snapshot, schema, key).await?) } else { None },
        deeds: if rights.events { Some(deeds(snapshot, rights, schema, key).await?) } else { None },
        letter_kinds: if rights.letters {
            let which = kinds::Which { group, partition: Some((topic, partition)) };
            Some(kinds::kinds(snapshot, schema, which).await?)
        } else {
            None
        },
        dead_letters: if rights.letters { Some(letters(snapshot, schema, key).await?) } else { None },
    }))
}

async fn ledger(
    snapshot: &Transaction<'_>,
    schema: &SchemaName,
    (group, topic, partition): (&str, &str, i32),
) -> Result<Vec<Claim>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT epoch, owner::text, instance_id, claimed_offset, end_offset, applied_records, applied_batches, {}, {} \
         FROM {} WHERE group_id = $1 AND topic = $2 AND partition = $3 ORDER BY epoch DESC LIMIT $4",
        ms("claimed_at"),
        ms("replaced_at"),
        schema.qualified("claim_history")
    );
    let rows = snapshot.query(&sql, &[&group, &topic, &partition, &ROWS]).await?;
    Ok(rows
        .iter()
        .map(|row| Claim {
            epoch: row.get(0),
            owner: row.get(1),
            instance_id: row.get(2),
            claimed_offset: row.get(3),
            end_offset: row.get(4),
            applied_records: row.get(5),
            applied_batches: row.get(6),
            claimed_at_ms: row.get(7),
            replaced_at_ms: row.get(8),
        })
        .collect())
}

async fn deeds(
    snapshot: &Transaction<'_>,
    rights: &Rights,
    schema: &SchemaName,
    (group, topic, partition): (&str, &str, i32),
) -> Result<Vec<Deed>, tokio_postgres::Error> {
    let orders = format!(
        " UNION ALL SELECT {}, verb, actor, reason, NULL, NULL FROM {} \
           WHERE group_id = $1 AND topic = $2 AND partition = $3 AND verb NOT IN ('reset', 'skip')",
        ms("requested_at"),
        schema.qualified("partition_control")
    );
    let sql = format!(
        "SELECT {}, kind, actor, reason, from_offset, to_offset FROM {} \
         WHERE group_id = $1 AND topic = $2 AND partition = $3{} ORDER BY 1 DESC LIMIT $4",
        ms("occurred_at"),
        schema.qualified("offset_event"),
        if rights.control { &*orders } else { "" },
    );
    let rows = snapshot.query(&sql, &[&group, &topic, &partition, &ROWS]).await?;
    Ok(rows
        .iter()
        .map(|row| Deed {
            at_ms: row.get(0),
            what: row.get(1),
            actor: row.get(2),
            reason: row.get(3),
            from_offset: row.get(4),
            to_offset: row.get(5),
        })
        .collect())
}

async fn letters(
    snapshot: &Transaction<'_>,
    schema: &SchemaName,
    (group, topic, partition): (&str, &str, i32),
) -> Result<Vec<Letter>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT record_offset, state, sqlstate, left(reason, $5), attempts, {} FROM {} \
         WHERE group_id = $1 AND topic = $2 AND partition = $3 ORDER BY record_offset DESC LIMIT $4",
        ms("last_at"),
        schema.qualified("dead_letter")
    );
    let rows = snapshot.query(&sql, &[&group, &topic, &partition, &ROWS, &REASON_CHARS]).await?;
    Ok(rows
        .iter()
        .map(|row| Letter {
            record_offset: row.get(0),
            state: row.get(1),
            sqlstate: row.get(2),
            reason: row.get(3),
            attempts: row.get(4),
            last_at_ms: row.get(5),
        })
        .collect())
}
