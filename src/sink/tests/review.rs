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

/// Two sinks of one worker, one table, one transaction: neither finds the other's rows.
#[tokio::test]
async fn two_sinks_may_write_to_the_same_table() {
    let place = Place::new("CREATE TABLE events (id text UNIQUE, v text)").await;
    let sinks = [(); 2].map(|()| pairs(Table::insert_ignore("events", ["id", "v"])));
    let mut tx = Tx::begin(place.connection().await).await.unwrap();
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
    let mut tx = Tx::begin(place.connection().await).await.unwrap();
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
    let mut tx = Tx::begin(pool.get().await.unwrap()).await.unwrap();
    let error = sink.handle(&batch(&[(Some("a"), Some("b"))]), &mut tx).await.unwrap_err();
    assert!(error.to_string().contains("row-level security"), "{error}");
    let error = place.apply(&pairs(Table::append("seen", ["id", "v"])), &one_record()).await.unwrap_err();
    assert!(error.to_string().contains("it is no table"), "{error}");
}
