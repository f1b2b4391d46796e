//! Ways to write other rows than the records say, which a review found.

use super::*;
use crate::HandlerErrorKind;

/// Pushes each record's key and value.
fn pairs(table: Table) -> TableSink {
    TableSink::new(table, |record, rows| {
        let text = |bytes: Option<&'_ [u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        rows.push((text(record.key()), text(record.value())))
    })
}

/// The newest value per key; an empty one deletes.
fn newest() -> TableSink {
    TableSink::new(Table::upsert("events", ["id", "v"]), |record, rows| {
        match std::str::from_utf8(record.value().unwrap_or_default()).unwrap() {
            "" => rows.delete((record.key(),)),
            value => rows.push((record.key(), value)),
        }
    })
}

/// Two sinks of one worker, one table, one transaction: neither finds the other's rows.
#[tokio::test]
async fn two_sinks_may_write_to_the_same_table() {
    let place = Place::new("CREATE TABLE events (id text UNIQUE, v text)").await;
    let sinks = [(); 2].map(|()| pairs(Table::insert_ignore("events", ["id", "v"])));
    let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
    sinks[0].handle(&batch(&[(None, Some("a"))]), &mut tx).await.unwrap();
    sinks[1].handle(&batch(&[(None, Some("b"))]), &mut tx).await.unwrap();
    tx.raw().batch_execute("COMMIT").await.unwrap();
    drop(tx.into_connection());
    let found = place.texts("SELECT v FROM events ORDER BY v").await;
    assert_eq!(found, [Some("a".to_owned()), Some("b".to_owned())], "NULL collides with nothing");
}

/// A sink that was dropped between two tables: nothing that follows may make its half durable.
#[tokio::test]
async fn what_was_interrupted_is_not_forgiven_by_the_next_call() {
    let place =
        Place::new("CREATE TABLE first (id text, v text); CREATE TABLE second (id text, v text)").await;
    let both = ["first", "second"].map(|name| Table::append(name, ["id", "v"]));
    let sink = TableSink::new(both, |record, rows| {
        let text = |bytes: Option<&'_ [u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        rows.of("first").push((text(record.key()), text(record.value())))?;
        rows.of("second").push((text(record.key()), text(record.value())))
    });
    let records = batch(&[(Some("k"), Some("v"))]);
    place.apply(&sink, &records).await.unwrap();
    let mut held = place.database.client().await.unwrap();
    let lock = held.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE second").await.unwrap();
    let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
    let first = tokio::time::timeout(std::time::Duration::from_millis(500), sink.handle(&records, &mut tx));
    assert!(first.await.is_err(), "it waits for the lock");
    lock.rollback().await.unwrap();
    assert!(sink.handle(&records, &mut tx).await.is_err(), "the transaction has half of a batch");
    assert!(tx.usable().is_err(), "and must not be committed");
}

/// `numeric(10, 2)` in the stage would round what the table does not.
#[tokio::test]
async fn a_changed_modifier_is_a_changed_column() {
    let place = Place::new("CREATE TABLE prices (id text PRIMARY KEY, v numeric(10, 2))").await;
    let sink = pairs(Table::upsert("prices", ["id", "v"]));
    place.apply(&sink, &batch(&[(Some("a"), Some("1.2345"))])).await.unwrap();
    place.database.execute("ALTER TABLE prices ALTER v TYPE numeric(12, 4)").await.unwrap();
    let records = batch(&[(Some("b"), Some("1.2345"))]);
    while let Err(error) = place.apply(&sink, &records).await {
        assert_eq!(error.kind(), HandlerErrorKind::Retry, "{error}");
    }
    let found = place.texts("SELECT v::text FROM prices ORDER BY id").await;
    assert_eq!(found, [Some("1.2300".to_owned()), Some("1.2345".to_owned())]);
}

/// By whatever index rows collide: the first record's stays.
#[tokio::test]
async fn the_first_stays_by_any_index() {
    let place = Place::new("CREATE TABLE events (id text PRIMARY KEY, v text UNIQUE)").await;
    let sink = pairs(Table::insert_ignore("events", ["id", "v"]));
    place.apply(&sink, &batch(&[(Some("z"), Some("same")), (Some("a"), Some("same"))])).await.unwrap();
    assert_eq!(place.texts("SELECT id FROM events").await, [Some("z".to_owned())]);
}

#[tokio::test]
async fn what_cannot_be_written_rightly_is_refused() {
    let tables = "CREATE TABLE guarded (id text PRIMARY KEY, v text); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; \
                  ALTER TABLE guarded FORCE ROW LEVEL SECURITY; \
                  CREATE VIEW seen AS SELECT * FROM guarded";
    let place = Place::new(tables).await;
    let role = place.database.role("guarded").await.unwrap();
    place.database.execute(&format!("GRANT ALL ON guarded TO {}", role.name)).await.unwrap();
    let manager = Manager::new(role.url.parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let sink = pairs(Table::upsert("guarded", ["id", "v"]));
    let mut tx = Tx::begin(pool.get().await.unwrap(), "").await.unwrap();
    let error = sink.handle(&batch(&[(Some("a"), Some("b"))]), &mut tx).await.unwrap_err();
    assert!(error.to_string().contains("row-level security"), "{error}");
    let error = place.apply(&pairs(Table::append("seen", ["id", "v"])), &one_record()).await.unwrap_err();
    assert!(error.to_string().contains("it is no table"), "{error}");
}

/// A scan of the stage gives small rows out of their turn, once pages before them have room again.
#[tokio::test]
async fn the_first_stays_whatever_the_rows_sizes() {
    let place = Place::new("CREATE TABLE events (id text PRIMARY KEY, v text)").await;
    let sink = pairs(Table::insert_ignore("events", ["id", "v"]));
    // A stage that was made in the same transaction only grows at its end.
    place.apply(&sink, &batch(&[(Some("before"), Some("1"))])).await.unwrap();
    // Each key comes twice; rows are of all sizes.
    let row = |n: usize| (format!("k{}", n % 2_500), format!("{n} {}", "x".repeat(n * 7_919 % 1_800 + 50)));
    let records: Vec<(String, String)> = (0..5_000).map(row).collect();
    let records: Vec<KeyValue<'_>> =
        records.iter().map(|(key, value)| (Some(key.as_str()), Some(value.as_str()))).collect();
    place.apply(&sink, &batch(&records)).await.unwrap();
    let later =
        "SELECT count(*)::text FROM events WHERE id <> 'before' AND split_part(v, ' ', 1)::int >= 2500";
    assert_eq!(place.texts(later).await, [Some("0".to_owned())], "a later row was there first");
    assert_eq!(place.texts("SELECT count(*)::text FROM events").await, [Some("2501".to_owned())]);
}

/// The stage still holds the rows of the first call when the second one comes.
#[tokio::test]
async fn a_sink_may_be_called_twice_in_one_transaction() {
    let place = Place::new("CREATE TABLE events (id text PRIMARY KEY, v text)").await;
    let sink = newest();
    let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
    for records in [
        [(Some("a"), Some("1")), (Some("b"), Some("1"))],
        [(Some("a"), Some("")), (Some("b"), Some("2"))],
        [(Some("c"), Some("3")), (Some("b"), Some("3"))],
    ] {
        sink.handle(&batch(&records), &mut tx).await.unwrap();
    }
    tx.raw().batch_execute("COMMIT").await.unwrap();
    drop(tx.into_connection());
    let found = place.texts("SELECT id || v FROM events ORDER BY id").await;
    assert_eq!(found, [Some("b3".to_owned()), Some("c3".to_owned())]);
}

/// The stage that was made since the savepoint is gone with what was staged; the next call makes it anew.
#[tokio::test]
async fn a_stage_that_was_undone_is_made_again() {
    for table in [Table::upsert("events", ["id", "v"]), Table::insert_ignore("events", ["id", "v"])] {
        let definition = "CREATE TABLE events (id text PRIMARY KEY, v text CHECK (v <> 'bad'))";
        let place = Place::new(definition).await;
        let sink = pairs(table);
        let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
        let before = tx.savepoint().await.unwrap();
        for value in ["bad", "worse"] {
            let done = sink.handle(&batch(&[(Some("a"), Some(value))]), &mut tx).await;
            assert_eq!(done.is_err(), value == "bad", "{done:?}");
            tx.rollback_to(&before).await.unwrap();
        }
        sink.handle(&batch(&[(Some("a"), Some("1"))]), &mut tx).await.unwrap();
        tx.release(before).await.unwrap();
        tx.raw().batch_execute("COMMIT").await.unwrap();
        drop(tx.into_connection());
        // In the same session or the pool's other one.
        for value in ["2", "3", "4"] {
            place.apply(&sink, &batch(&[(Some(value), Some(value))])).await.unwrap();
        }
        let found = place.texts("SELECT string_agg(v, '' ORDER BY v) FROM events").await;
        assert_eq!(found, [Some("1234".to_owned())]);
    }
}

/// A policy that hides rows, and came later: a row that cannot be seen would be neither deleted nor replaced, silently.
#[tokio::test]
async fn row_security_that_comes_later_is_noticed() {
    let place = Place::new("CREATE TABLE events (id text PRIMARY KEY, v text)").await;
    let role = place.database.role("writer").await.unwrap();
    place.database.execute(&format!("GRANT ALL ON events TO {}", role.name)).await.unwrap();
    let manager = Manager::new(role.url.parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let writer = Place { database: place.database, pool };
    let sink = newest();
    writer.apply(&sink, &batch(&[(Some("a"), Some("1"))])).await.unwrap();
    writer.database.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY").await.unwrap();
    let delete = batch(&[(Some("a"), Some(""))]);
    let error = writer.apply(&sink, &delete).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Retry, "the catalogue is read again first: {error:?}");
    let error = writer.apply(&sink, &delete).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Fatal, "{error:?}");
    assert!(error.to_string().contains("row-level security"), "{error}");
}
