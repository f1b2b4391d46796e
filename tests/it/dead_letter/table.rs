//! The table sink names its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater::{HandlerError, Table, TableSink};

use crate::support::{TestResult, World, read};

#[tokio::test]
async fn core_rows_that_do_not_fit_and_rows_that_the_server_refuses() -> TestResult {
    let world = World::new("sink-letters", 2).await?;
    let definition = "account text NOT NULL, amount smallint, source_partition int, source_offset bigint, \
                      CONSTRAINT lucky CHECK (amount <> 13)";
    world.database.execute(&format!("CREATE TABLE facts ({definition})")).await?;
    world.database.execute(&format!("GRANT SELECT, INSERT ON facts TO {}", world.role.name)).await?;
    // Amounts are 1 to 97: 13 is refused, at six places of each partition.
    for partition in 0..2 {
        world.send_with_bad(partition, 500, |n| n % 100 == 40)?;
    }
    world.producer.flush().await?;
    let mapped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&mapped);
    let facts = Table::append("facts", ["account", "amount"])
        .source_partition("source_partition")
        .source_offset("source_offset");
    let sink = TableSink::new(facts, move |record, rows| {
        count.fetch_add(1, Ordering::Relaxed);
        let (account, amount) = read(record.key(), record.value());
        if account == super::BAD {
            // Nothing of it stays: neither the row before the rejection, nor the one that does not fit.
            rows.push((&*account, amount))?;
            return Err(HandlerError::reject(record, "the account is closed"));
        }
        // 32,776 and more do not fit.
        rows.push((&*account, if amount == 50 { 40_000 } else { amount }))
    });
    let worker = world.worker_with(world.setting_aside(), sink);
    world.caught_up().await?;
    world.assert_rows_and_letters("facts").await?;
    let kinds = "SELECT fingerprint, count(*), min(sqlstate), min(reason) FROM highwater.dead_letter GROUP BY 1 ORDER BY 3, 4";
    let kinds = world.database.query(kinds, &[]).await?;
    let found: Vec<(i64, Option<&str>, &str)> =
        kinds.iter().map(|row| (row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!((found[0].0, found[0].1), (12, Some("23514")), "{found:?}");
    assert!(found[0].2.contains("constraint lucky"), "{found:?}");
    let [fits, closed] = [found[1], found[2]];
    assert!(fits.2.contains("column amount") && closed.2 == "the account is closed", "{found:?}");
    assert_eq!((fits.0 + closed.0, fits.1, closed.1), (18, None, None), "{found:?}");
    worker.stop().await?;
    let calls = mapped.load(Ordering::Relaxed);
    assert!(calls <= 12 * 3 * 500 + 4_000, "{calls} calls of the mapping for 1,000 records");
    Ok(())
}

/// What is known by preparation alone costs no second call.
#[tokio::test]
async fn what_the_mapping_knows_costs_no_further_call() -> TestResult {
    let world = World::new("sink-known", 1).await?;
    world.send_with_bad(0, 1_000, |n| n % 25 == 3)?;
    world.producer.flush().await?;
    let mapped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&mapped);
    let table = Table::append("sink", ["source_topic"])
        .source_partition("source_partition")
        .source_offset("source_offset");
    let sink = TableSink::new(table, move |record, rows| {
        count.fetch_add(1, Ordering::Relaxed);
        if record.key() == Some(super::BAD.as_bytes()) {
            return Err(HandlerError::reject(record, "the account is closed"));
        }
        rows.push((record.topic(),))
    });
    let settings = world.setting_aside().batch_max_records(100_usize).batch_target_records(100_usize);
    let worker = world.worker_with(settings, sink);
    world.caught_up().await?;
    world.assert_rows_and_letters("sink").await?;
    assert_eq!(world.letters().await?.len(), 40);
    let retries = worker.status().counters.retries;
    worker.stop().await?;
    let calls = mapped.load(Ordering::Relaxed);
    assert!((calls, retries) == (1_000, 0), "{calls} calls of the mapping, {retries} retries");
    Ok(())
}
