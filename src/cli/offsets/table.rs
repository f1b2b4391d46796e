//! `highwater offsets` without a verb: what Postgres knows, as a table or as JSON.

use highwater::{Error, ErrorKind, Result, SchemaName};
use serde::Serialize;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use super::DatabaseArguments;
use crate::cli::APPLICATION_NAME;
use crate::cli::operator::{json, or_dash};
use crate::cli::table::Table;

/// It only reads, takes no lock that a worker waits for, and asks neither Kafka nor the workers.
pub(super) async fn run(database: &DatabaseArguments, group: Option<&str>, as_json: bool) -> Result<String> {
    let layer = database.layer()?;
    let group = group.or(layer.given_group()).map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Configuration, "no group: give --group NAME, or set HIGHWATER_GROUP")
    })?;
    let database = layer.finish_database()?;
    let mut client = database.connect(APPLICATION_NAME).await?;
    highwater::migrate::check_version(&client, &database.schema).await?;
    let standing = describe(&mut client, &database.schema, &group)
        .await
        .map_err(|source| Error::postgres(format!("read the offsets of group `{group}`"), source))??;
    if as_json { json(&standing) } else { Ok(table(standing)) }
}

/// A partition, as Postgres knows it; times in UTC.
#[derive(Debug, Serialize)]
struct Standing {
    topic: String,
    partition: i32,
    next_offset: i64,
    owner: Option<String>,
    instance_id: Option<String>,
    epoch: i64,
    claimed_at: Option<String>,
    committed_at: Option<String>,
    state: Option<String>,
    detail: Option<String>,
    paused_reason: Option<String>,
}

/// One snapshot of the group; the inner error is for a group that has no offsets.
async fn describe(
    client: &mut Client,
    schema: &SchemaName,
    group: &str,
) -> Result<Result<Vec<Standing>>, tokio_postgres::Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let query = format!(
        "SELECT o.topic, o.partition, o.next_offset, o.owner, o.instance_id, o.epoch,
                {claimed_at}, {committed_at},
                CASE WHEN s.epoch = o.epoch AND (o.owner IS NOT NULL OR s.state = 'halted') THEN s.state END,
                CASE WHEN s.epoch = o.epoch AND (o.owner IS NOT NULL OR s.state = 'halted') THEN s.detail END,
                o.paused_reason
         FROM {consumer_offset} o
         LEFT JOIN {partition_status} s USING (group_id, topic, partition)
         WHERE o.group_id = $1
         ORDER BY o.topic, o.partition",
        claimed_at = utc("o.claimed_at"),
        committed_at = utc("o.committed_at"),
        consumer_offset = schema.qualified("consumer_offset"),
        partition_status = schema.qualified("partition_status"),
    );
    let rows = transaction.query(&query, &[&group]).await?;
    if rows.is_empty() {
        return Ok(Err(unknown_group(&transaction, schema, group).await?));
    }
    Ok(Ok(rows.iter().map(standing).collect::<Result<_, _>>()?))
}

fn standing(row: &Row) -> Result<Standing, tokio_postgres::Error> {
    Ok(Standing {
        topic: row.try_get(0)?,
        partition: row.try_get(1)?,
        next_offset: row.try_get(2)?,
        owner: row.try_get::<_, Option<Uuid>>(3)?.map(|owner| owner.to_string()),
        instance_id: row.try_get(4)?,
        epoch: row.try_get(5)?,
        claimed_at: row.try_get(6)?,
        committed_at: row.try_get(7)?,
        state: row.try_get(8)?,
        detail: row.try_get(9)?,
        paused_reason: row.try_get(10)?,
    })
}

fn table(standing: Vec<Standing>) -> String {
    let mut table = Table::new(&[
        "TOPIC",
        "PARTITION",
        "NEXT-OFFSET",
        "OWNER",
        "INSTANCE",
        "EPOCH",
        "CLAIMED",
        "COMMITTED",
        "STATE",
    ]);
    for row in standing {
        let state = match (row.state, row.detail, row.paused_reason) {
            (_, _, Some(reason)) => Some(format!("paused: {reason}")),
            (Some(state), Some(detail), None) => Some(format!("{state}: {detail}")),
            (state, _, None) => state,
        };
        table.row(vec![
            row.topic,
            row.partition.to_string(),
            row.next_offset.to_string(),
            or_dash(row.owner),
            or_dash(row.instance_id),
            row.epoch.to_string(),
            or_dash(row.claimed_at),
            or_dash(row.committed_at),
            or_dash(state),
        ]);
    }
    table.to_string()
}

/// Formats a time on the server, whose clock it is from.
fn utc(column: &str) -> String {
    format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
}

/// Names the groups there are: the asked one is most likely mistyped.
async fn unknown_group(
    transaction: &Transaction<'_>,
    schema: &SchemaName,
    group: &str,
) -> Result<Error, tokio_postgres::Error> {
    /// More would bury the message.
    const SHOWN: usize = 10;
    let query = format!(
        "SELECT DISTINCT group_id FROM {} ORDER BY group_id LIMIT 1000",
        schema.qualified("consumer_offset")
    );
    let rows = transaction.query(&query, &[]).await?;
    let mut groups: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    groups.sort_by_key(|known| strsim::damerau_levenshtein(known, group));
    groups.truncate(SHOWN);
    let hint = if groups.is_empty() {
        "no group has any yet".to_owned()
    } else {
        format!("the nearest groups are {}", groups.join(", "))
    };
    Ok(Error::new(
        ErrorKind::Configuration,
        format!("group `{group}` has no offsets in schema `{schema}`: {hint}"),
    ))
}
