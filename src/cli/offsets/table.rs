//! `highwater offsets` without a verb: what Postgres knows, as a table.

use highwater::{Error, ErrorKind, Result, SchemaName};
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use super::DatabaseArguments;
use crate::cli::APPLICATION_NAME;
use crate::cli::table::Table;

/// It only reads, takes no lock that a worker waits for, and asks neither Kafka nor the workers.
pub(super) async fn run(database: &DatabaseArguments, group: Option<&str>) -> Result<String> {
    let layer = database.layer()?;
    let group = group.or(layer.given_group()).map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Configuration, "no group: give --group NAME, or set HIGHWATER_GROUP")
    })?;
    let database = layer.finish_database()?;
    let mut client = database.connect(APPLICATION_NAME).await?;
    highwater::migrate::check_version(&client, &database.schema).await?;
    describe(&mut client, &database.schema, &group)
        .await
        .map_err(|source| Error::postgres(format!("read the offsets of group `{group}`"), source))?
}

/// One snapshot of the group, as a table; the inner error is for a group that has no offsets.
async fn describe(
    client: &mut Client,
    schema: &SchemaName,
    group: &str,
) -> Result<Result<String>, tokio_postgres::Error> {
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
    for row in &rows {
        table.row(cells(row)?);
    }
    Ok(Ok(table.to_string()))
}

fn cells(row: &Row) -> Result<Vec<String>, tokio_postgres::Error> {
    let text = |index: usize| -> Result<Option<String>, tokio_postgres::Error> { row.try_get(index) };
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let state = match (text(8)?, text(9)?, text(10)?) {
        (_, _, Some(reason)) => Some(format!("paused: {reason}")),
        (Some(state), Some(detail), None) => Some(format!("{state}: {detail}")),
        (state, _, None) => state,
    };
    Ok(vec![
        row.try_get(0)?,
        row.try_get::<_, i32>(1)?.to_string(),
        row.try_get::<_, i64>(2)?.to_string(),
        or_dash(row.try_get::<_, Option<Uuid>>(3)?.map(|owner| owner.to_string())),
        or_dash(text(4)?),
        row.try_get::<_, i64>(5)?.to_string(),
        or_dash(text(6)?),
        or_dash(text(7)?),
        or_dash(state),
    ])
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
