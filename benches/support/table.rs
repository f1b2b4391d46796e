//! The sink's table, made clean before each run and checked after it.

use std::ops::RangeInclusive;

use highwater::tokio_postgres::Client;

use super::Result;
use super::payments::Contents;

/// A table with a two-column text key, as in the example `fraud_scores`, and the offsets of the hand-written loops.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE scores (
        merchant_id      text             NOT NULL,
        tx_id            text             NOT NULL,
        score            double precision NOT NULL,
        source_partition integer          NOT NULL,
        source_offset    bigint           NOT NULL,
        PRIMARY KEY (merchant_id, tx_id)
    ) WITH (autovacuum_enabled = off);
    CREATE TABLE bare_offset (partition integer PRIMARY KEY, next_offset bigint NOT NULL) WITH (fillfactor = 50);
";

/// The columns in the order in which they are copied.
pub(crate) const COLUMNS: &str = "merchant_id, tx_id, score, source_partition, source_offset";

/// An empty table and no dirt of the one before: nobody pays for another's checkpoint or dead rows.
///
/// # Errors
/// When a statement fails.
pub(crate) async fn fresh(client: &Client, partitions: i32) -> Result {
    client.batch_execute("TRUNCATE scores, bare_offset").await?;
    client.batch_execute("TRUNCATE highwater.dead_letter CASCADE").await?;
    let sql = "INSERT INTO bare_offset SELECT p, 0 FROM generate_series(0, $1::int4 - 1) AS p";
    client.execute(sql, &[&partitions]).await?;
    client.batch_execute("VACUUM bare_offset").await?;
    client.batch_execute("VACUUM highwater.consumer_offset").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// The oracle: as many rows as records, each from a record of its own, none from beyond its partition's end; and in them
/// what the records say.
///
/// # Errors
/// When the table is not what was produced.
pub(crate) async fn verify(client: &Client, produced: u64, ends: &[i64]) -> Result {
    verify_in(client, "scores", produced, ends, Contents::add).await
}

/// As [`verify`], where a payment's amount is its score.
///
/// # Errors
/// As there.
pub(crate) async fn verify_amounts(client: &Client, produced: u64, ends: &[i64]) -> Result {
    verify_in(client, "scores", produced, ends, Contents::add_amount).await
}

/// As [`verify`], where the records at these offsets are dead letters, and no others are.
///
/// # Errors
/// When the table, or what is stored beside it, is not what was produced.
pub(crate) async fn verify_but(
    client: &Client,
    produced: u64,
    ends: &[i64],
    dead: fn(u64) -> bool,
) -> Result {
    let partitions = u64::try_from(ends.len())?;
    let mut expected = Contents::default();
    let mut letters = 0;
    for (&end, partition) in ends.iter().zip(0..) {
        for offset in 0..u64::try_from(end)? {
            if dead(offset) {
                letters += 1;
            } else {
                expected.add(offset * partitions + partition);
            }
        }
    }
    verify_offsets(client, "scores", produced - letters, ends).await?;
    let stored: i64 = client.query_one("SELECT count(*) FROM highwater.dead_letter", &[]).await?.get(0);
    if u64::try_from(stored)? != letters {
        return Err(format!("{stored} dead letters are stored, and {letters} records are").into());
    }
    verify_contents(client, "scores", expected).await
}

/// As [`verify`], of another table, or of other contents.
///
/// # Errors
/// As there.
pub(crate) async fn verify_in(
    client: &Client,
    table: &str,
    produced: u64,
    ends: &[i64],
    add: fn(&mut Contents, u64),
) -> Result {
    let mut expected = Contents::default();
    for (partition, offsets) in verify_offsets(client, table, produced, ends).await? {
        // Payments were sent to the partitions in turn.
        let partitions = u64::try_from(ends.len())?;
        offsets.for_each(|offset| add(&mut expected, offset * partitions + partition));
    }
    verify_contents(client, table, expected).await
}

/// As [`verify`], of the offsets alone; gives each partition's.
///
/// # Errors
/// As there.
pub(crate) async fn verify_offsets(
    client: &Client,
    table: &str,
    produced: u64,
    ends: &[i64],
) -> Result<Vec<(u64, RangeInclusive<u64>)>> {
    let sql = format!(
        "SELECT source_partition, count(*), count(DISTINCT source_offset), min(source_offset), max(source_offset) \
         FROM {table} GROUP BY source_partition ORDER BY source_partition"
    );
    let (mut total, mut offsets) = (0, Vec::new());
    for row in client.query(&sql, &[]).await? {
        let partition: i32 = row.get(0);
        let (rows, records, least, last): (i64, i64, i64, i64) =
            (row.get(1), row.get(2), row.get(3), row.get(4));
        let end = usize::try_from(partition).ok().and_then(|index| ends.get(index)).copied().unwrap_or(0);
        if rows != records || least < 0 || last >= end {
            return Err(format!(
                "partition {partition} has {rows} rows of {records} records at [{least}, {last}], and {end} were produced"
            )
            .into());
        }
        total += u64::try_from(rows)?;
        offsets.push((u64::try_from(partition)?, u64::try_from(least)?..=u64::try_from(last)?));
    }
    if total == produced {
        Ok(offsets)
    } else {
        Err(format!("{produced} records were produced, {total} rows are in the table").into())
    }
}

/// What the rows say is what the records said.
///
/// # Errors
/// When it is not.
pub(crate) async fn verify_contents(client: &Client, table: &str, expected: Contents) -> Result {
    let sql = format!(
        "SELECT bit_xor(('x' || substr(tx_id, 4))::bit(64)::int8), sum(substr(merchant_id, 3)::int8)::int8, sum(score) \
         FROM {table}"
    );
    let row = client.query_one(&sql, &[]).await?;
    let found = Contents {
        transactions: row.get::<_, i64>(0).cast_unsigned(),
        merchants: u64::try_from(row.get::<_, i64>(1))?,
        scores: row.get(2),
    };
    let same = found.transactions == expected.transactions
        && found.merchants == expected.merchants
        && (found.scores - expected.scores).abs() <= 1e-9 * expected.scores;
    if same { Ok(()) } else { Err(format!("{table} holds {found:?}, and {expected:?} was produced").into()) }
}

/// Updates of `consumer_offset` so far, and how many of them were HOT.
///
/// # Errors
/// When the query fails.
pub(crate) async fn hot(client: &Client) -> Result<(u64, u64)> {
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'consumer_offset'";
    let row = client.query_one(sql, &[]).await?;
    Ok((u64::try_from(row.get::<_, i64>(0))?, u64::try_from(row.get::<_, i64>(1))?))
}
