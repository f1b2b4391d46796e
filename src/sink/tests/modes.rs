//! Modes, several tables, bad rows, changed tables, preparation.

use super::*;
use crate::HandlerErrorKind;

const PAYMENTS: &str = "CREATE TABLE payments (merchant text NOT NULL, id bigint NOT NULL CHECK (id <> 13), amount int, \
     topic text, part int, off bigint, at timestamptz, PRIMARY KEY (merchant, id))";

/// Records are `merchant id amount`; without an amount it is a deletion.
fn payments(table: Table) -> TableSink {
    TableSink::new(table, |record, rows| {
        let text = std::str::from_utf8(record.value().unwrap_or_default()).unwrap();
        let fields: Vec<&str> = text.split(' ').collect();
        let id: i64 = fields[1].parse().unwrap();
        match fields.get(2) {
            Some(amount) => rows.push((fields[0], id, amount.parse::<i32>().unwrap())),
            None => rows.delete((fields[0], id)),
        }
    })
}

fn values(texts: &[&str]) -> Batch {
    batch(&texts.iter().map(|text| (None, Some(*text))).collect::<Vec<_>>())
}

const COLUMNS: [&str; 3] = ["merchant", "id", "amount"];

impl Place {
    async fn payments(&self) -> Vec<String> {
        let sql = "SELECT merchant || ' ' || id || ' ' || amount FROM payments ORDER BY merchant, id";
        self.texts(sql).await.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn appended_rows_are_sorted_by_key_and_say_where_they_come_from() {
    let place = Place::new(PAYMENTS).await;
    let table = Table::append("payments", COLUMNS)
        .source_topic("topic")
        .source_partition("part")
        .source_offset("off")
        .source_timestamp("at");
    let sink = payments(table.clone());
    let records = ["m2 5 1", "m1 7 2", "m2 -4 3", "m10 1 4", "m1 3 5"];
    place.apply(&sink, &values(&records)).await.unwrap();
    let rows = "SELECT merchant || ' ' || id || ' ' || topic || part || ' ' || off || ' ' || \
                extract(epoch FROM at) FROM payments ORDER BY ctid";
    let found: Vec<String> = place.texts(rows).await.into_iter().flatten().collect();
    let expected = [
        "m1 3 t3 104 1700000000.004000",
        "m1 7 t3 101 1700000000.001000",
        "m10 1 t3 103 1700000000.003000",
        "m2 -4 t3 102 1700000000.002000",
        "m2 5 t3 100 1700000000.000000",
    ];
    assert_eq!(found, expected);

    place.database.execute("TRUNCATE payments").await.unwrap();
    place.apply(&payments(table.unsorted()), &values(&records)).await.unwrap();
    let found = place.texts("SELECT off::text FROM payments ORDER BY ctid").await;
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), ["100", "101", "102", "103", "104"]);
}

/// More than fits into one message, each row exactly once, in order.
#[tokio::test]
async fn a_large_batch_is_complete() {
    let place = Place::new("CREATE TABLE big (id int PRIMARY KEY, body text)").await;
    let sink = TableSink::new(Table::append("big", ["id", "body"]), |record, rows| {
        let body = "x".repeat(500);
        (0..3).try_for_each(|n| {
            rows.push((i32::try_from(record.offset()).unwrap() * 7_919 % 10_007 * 3 + n, &body))
        })
    });
    let records: Vec<KeyValue<'_>> = vec![(None, Some("")); 3_000];
    for _ in 0..2 {
        place.database.execute("TRUNCATE big").await.unwrap();
        let batch = batch(&records);
        sink.prepare(&batch);
        place.apply(&sink, &batch).await.unwrap();
        let found =
            place.texts("SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || sum(length(body)) FROM big");
        assert_eq!(found.await, [Some("9000 9000 4500000".to_owned())]);
    }
}

#[tokio::test]
async fn the_record_of_a_row_that_the_server_refuses_is_named() {
    let place = Place::new(PAYMENTS).await;
    let sink = payments(Table::append("payments", COLUMNS));
    // Sorted, so that the line is not the record's place.
    for (records, offset, constraint) in [
        (["m3 1 1", "m2 13 1", "m1 1 1"], 101, "payments_id_check"),
        (["m3 1 1", "m2 2 1", "m2 2 1"], 102, "payments_pkey"),
    ] {
        let error = place.apply(&sink, &values(&records)).await.unwrap_err();
        assert_eq!(error.kind(), HandlerErrorKind::Reject);
        assert_eq!(error.record().map(|record| record.offset), Some(offset), "{error:?}");
        assert_eq!(error.constraint(), Some(constraint));
        assert!(error.to_string().contains("23"), "{error}");
    }
    let unsorted = payments(Table::append("payments", COLUMNS).unsorted());
    let error =
        place.apply(&unsorted, &values(&["m3 1 1", "m2 2 1", "m1 13 1", "m0 1 1"])).await.unwrap_err();
    assert_eq!(error.record().map(|record| record.offset), Some(102), "{error:?}");
    assert!(place.payments().await.is_empty());
    // The connection was in step again.
    place.apply(&sink, &values(&["m1 1 1"])).await.unwrap();
    assert_eq!(place.payments().await, ["m1 1 1"]);
}

#[tokio::test]
async fn insert_ignore_keeps_the_first() {
    let place = Place::new(PAYMENTS).await;
    let sink = payments(Table::insert_ignore("payments", COLUMNS));
    place.apply(&sink, &values(&["b 1 1", "a 1 2", "b 1 3"])).await.unwrap();
    place.apply(&sink, &values(&["a 1 4", "c 1 5"])).await.unwrap();
    assert_eq!(place.payments().await, ["a 1 2", "b 1 1", "c 1 5"]);
}

#[tokio::test]
async fn the_last_write_per_key_wins_within_a_batch_and_across() {
    let place = Place::new(PAYMENTS).await;
    let sink = payments(Table::upsert("payments", COLUMNS));
    place.apply(&sink, &values(&["b 1 1", "a 1 2", "b 1 3", "c 1 4", "c 1", "d 1", "d 1 5"])).await.unwrap();
    assert_eq!(place.payments().await, ["a 1 2", "b 1 3", "d 1 5"]);
    place.apply(&sink, &values(&["b 1 9", "a 1", "d 1 6", "d 1", "e 1 7", "e 1 8"])).await.unwrap();
    assert_eq!(place.payments().await, ["b 1 9", "e 1 8"]);
    // Every commit empties the stage.
    place.apply(&sink, &values(&["f 1 1"])).await.unwrap();
    assert_eq!(place.payments().await, ["b 1 9", "e 1 8", "f 1 1"]);
}

/// Keys that differ in their bytes and are equal to the server all the same: numerics, `char(n)`, a collation.
#[tokio::test]
async fn only_the_server_knows_which_keys_are_equal() {
    let place = Place::new(
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (n numeric, c char(4), i text COLLATE ci, v int, PRIMARY KEY (n, c, i))",
    )
    .await;
    let sink = TableSink::new(Table::upsert("t", ["v", "n", "i", "c"]), |record, rows| {
        let text = std::str::from_utf8(record.value().unwrap()).unwrap();
        let fields: Vec<&str> = text.split(',').collect();
        match fields[3] {
            "-" => rows.delete((fields[0], fields[1], fields[2])),
            value => rows.push((value.parse::<i32>().unwrap(), fields[0], fields[2], fields[1])),
        }
    });
    place.apply(&sink, &values(&["1.0,a,x,1", "1,a ,X,2", "2,b,y,3", "1.00,a  ,x,4"])).await.unwrap();
    let all = "SELECT (n::int || c || i || v)::text FROM t ORDER BY n";
    assert_eq!(place.texts("SELECT v::text FROM t ORDER BY n").await, [Some("4".into()), Some("3".into())]);
    place.apply(&sink, &values(&["1,a,X,7", "1.000,a,x,-", "2.0,b,Y,8"])).await.unwrap();
    assert_eq!(place.texts("SELECT v::text FROM t ORDER BY n").await, [Some("8".into())], "{all}");
}

#[tokio::test]
async fn keys_must_be_there() {
    let place = Place::new("CREATE TABLE t (a int UNIQUE, b int, c int, UNIQUE (b, c))").await;
    for (table, why) in [
        (Table::upsert("t", ["a", "b"]), "several unique indexes"),
        (Table::upsert("t", ["a", "b"]).key(["b"]), "no unique index on exactly the key (b)"),
        (Table::upsert("t", ["a", "b"]).key(["b", "c"]), "not among those written"),
    ] {
        let error = place.apply(&constant(table, vec![(1_i32, 2_i32)]), &one_record()).await.unwrap_err();
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert!(error.to_string().contains(why), "{error}");
    }
    let table = Table::upsert("t", ["a", "b"]).key(["a"]);
    let error = place.apply(&constant(table, vec![(None::<i32>, 2_i32)]), &one_record()).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Reject);
    assert!(error.to_string().contains("the key is NULL"), "{error}");
    let sink = TableSink::new(Table::append("t", ["a"]), |_, rows| rows.delete((1_i32,)));
    let error = place.apply(&sink, &one_record()).await.unwrap_err();
    assert!(error.to_string().contains("Table::upsert"), "{error}");
}

#[tokio::test]
async fn tables_that_do_not_fit_are_named_before_anything_is_written() {
    let place = Place::new(
        "CREATE TABLE t (a int, b int NOT NULL, c int GENERATED ALWAYS AS (a + 1) STORED, \"D\" int DEFAULT 4)",
    )
    .await;
    for (table, why) in [
        (Table::append("nowhere", ["a", "b"]), "table nowhere: there is no such table"),
        (Table::append("t", ["a", "bb"]), "there is no column bb; is b meant?"),
        (Table::append("t", ["a", "c"]), "column c is generated"),
        (Table::append("t", ["a", "D"]), "column b (integer) is NOT NULL without a default"),
        (Table::append("t", ["b", "b"]), "given twice"),
        (Table::append("t", ["b"]), "a row needs one value for each of its 1 columns"),
    ] {
        let error = place.apply(&constant(table, vec![(1_i32, 2_i32)]), &one_record()).await.unwrap_err();
        assert_eq!(error.kind(), HandlerErrorKind::Fatal, "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let sink = constant(Table::append("t", ["b", "D"]), vec![(true, 1_i32)]);
    let error = place.apply(&sink, &one_record()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("table t, column b: the SQL type is integer, into which a Rust value of type bool"),
        "{error}"
    );
}

#[tokio::test]
async fn several_tables_in_the_order_of_their_foreign_keys() {
    let place = Place::new(
        "CREATE TABLE orders (id bigint PRIMARY KEY);
         CREATE TABLE lines (id bigint REFERENCES orders, n int, PRIMARY KEY (id, n))",
    )
    .await;
    let tables = [Table::upsert("orders", ["id"]), Table::upsert("lines", ["id", "n"])];
    let sink = TableSink::new(tables, |record, rows| {
        let id = record.offset();
        let text = std::str::from_utf8(record.value().unwrap()).unwrap();
        match text.parse::<i32>() {
            Ok(lines) => {
                (0..lines).try_for_each(|n| rows.of("lines").push((id, n)))?;
                rows.of("orders").push((id,))
            }
            Err(_) => {
                rows.of("orders").delete((100_i64,))?;
                (0..2).try_for_each(|n| rows.of("lines").delete((100_i64, n)))
            }
        }
    });
    place.apply(&sink, &values(&["2", "1"])).await.unwrap();
    let both = "SELECT (SELECT count(*) FROM orders) || ' ' || (SELECT count(*) FROM lines)";
    assert_eq!(place.texts(both).await, [Some("2 3".to_owned())]);
    place.apply(&sink, &values(&["gone"])).await.unwrap();
    assert_eq!(place.texts(both).await, [Some("1 1".to_owned())]);
    let unknown = TableSink::new(Table::append("orders", ["id"]), |_, rows| rows.of("order").push((1_i64,)));
    let error = place.apply(&unknown, &one_record()).await.unwrap_err();
    assert!(error.to_string().contains("no table of the name order"), "{error}");
}

/// A wider type, eight bytes of another meaning, a new column, a column that is gone.
#[tokio::test]
async fn a_changed_table_is_read_again() {
    let columns = ["k", "v"];
    for table in
        [Table::append("t", columns), Table::upsert("t", columns), Table::insert_ignore("t", columns)]
    {
        let place = Place::new("CREATE TABLE t (k bigint PRIMARY KEY, v bigint)").await;
        let sink = TableSink::new(table, |record, rows| {
            rows.push((
                record.offset() + record.value().map_or(0, |value| i64::from(value[0]) * 1_000),
                1_i64,
            ))
        });
        place.apply(&sink, &values(&["a"])).await.unwrap();
        for change in [
            "ALTER TABLE t ALTER v TYPE timestamptz USING to_timestamp(v / 1000.0)",
            "ALTER TABLE t ALTER v TYPE numeric USING 1",
            "ALTER TABLE t ADD COLUMN w int DEFAULT 5",
            "DROP TABLE t; CREATE TABLE t (v smallint, k int PRIMARY KEY)",
        ] {
            place.database.execute(change).await.unwrap();
            let next = values(&[change.split_at(15).1.get(..1).unwrap_or("z")]);
            sink.prepare(&next);
            if let Err(error) = place.apply(&sink, &next).await {
                assert_eq!(error.kind(), HandlerErrorKind::Retry, "{change}: {error:?}");
                place.apply(&sink, &next).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
            }
            assert_eq!(
                place.texts("SELECT count(*)::text FROM t WHERE v::text NOT IN ('1', '1970-01-01 00:00:00.001+00')").await,
                [Some("0".to_owned())],
                "{change}"
            );
            place.database.execute("TRUNCATE t").await.unwrap();
        }
        place.database.execute("ALTER TABLE t DROP COLUMN v").await.unwrap();
        let errors = [place.apply(&sink, &one_record()).await, place.apply(&sink, &one_record()).await];
        let last = errors.into_iter().last().unwrap().unwrap_err();
        assert_eq!(last.kind(), HandlerErrorKind::Fatal);
        assert!(last.to_string().contains("there is no column v"), "{last}");
    }
}

/// A value that does not fit the old type is no reason to reject when the column has become wider.
#[tokio::test]
async fn a_record_is_not_rejected_for_a_column_that_was() {
    let place = Place::new("CREATE TABLE t (v smallint)").await;
    let sink = TableSink::new(Table::append("t", ["v"]), |record, rows| {
        rows.push((std::str::from_utf8(record.value().unwrap()).unwrap().parse::<i64>().unwrap(),))
    });
    place.apply(&sink, &values(&["1"])).await.unwrap();
    place.database.execute("ALTER TABLE t ALTER v TYPE int").await.unwrap();
    place.apply(&sink, &values(&["70000"])).await.unwrap();
    let error = place.apply(&sink, &values(&["1", "5000000000"])).await.unwrap_err();
    assert_eq!(error.record().map(|record| record.offset), Some(101), "{error:?}");
}

#[tokio::test]
async fn what_was_prepared_is_used_and_nothing_is_prepared_before_the_types_are_known() {
    let place = Place::new(PAYMENTS).await;
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&calls);
    let count = move || counted.load(std::sync::atomic::Ordering::SeqCst);
    let sink = TableSink::new(Table::append("payments", COLUMNS), move |record, rows| {
        calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        rows.push(("m", record.offset(), 1_i32))
    });
    let first = one_record();
    sink.prepare(&first);
    assert_eq!(count(), 0);
    place.apply(&sink, &first).await.unwrap();
    assert_eq!(count(), 1);
    let second = values(&["", ""]);
    place.database.execute("TRUNCATE payments").await.unwrap();
    sink.prepare(&second);
    assert_eq!(count(), 3);
    place.apply(&sink, &second).await.unwrap();
    assert_eq!(count(), 3);
    assert_eq!(place.payments().await, ["m 100 1", "m 101 1"]);
}

/// A stage that went with a rollback, and one that somebody dropped.
#[tokio::test]
async fn a_stage_that_is_gone_is_made_again() {
    let place = Place::new(PAYMENTS).await;
    let sink = payments(Table::upsert("payments", COLUMNS));
    let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
    sink.handle(&values(&["a 1 1"]), &mut tx).await.unwrap();
    drop(tx.rollback().await.expect("the connection goes back"));
    place.apply(&sink, &values(&["a 1 2"])).await.unwrap();
    assert_eq!(place.payments().await, ["a 1 2"]);

    let held = place.connection().await;
    place.apply(&sink, &values(&["a 1 3"])).await.unwrap();
    drop(held);
    for _ in 0..2 {
        let connection = place.connection().await;
        connection.batch_execute("DISCARD TEMP").await.unwrap();
        drop(connection);
        match place.apply(&sink, &values(&["a 1 4"])).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), HandlerErrorKind::Retry, "{error:?}");
                place.apply(&sink, &values(&["a 1 4"])).await.unwrap();
            }
        }
    }
    assert_eq!(place.payments().await, ["a 1 4"]);
}

#[tokio::test]
async fn a_sink_that_is_interrupted_leaves_a_transaction_that_cannot_be_committed() {
    let place = Place::new(PAYMENTS).await;
    let sink = payments(Table::append("payments", COLUMNS));
    place.apply(&sink, &values(&["a 1 1"])).await.unwrap();
    let locked = place.connection().await;
    locked.batch_execute("BEGIN; LOCK TABLE payments").await.unwrap();
    let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
    let next = values(&["b 1 1"]);
    let interrupted =
        tokio::time::timeout(std::time::Duration::from_millis(200), sink.handle(&next, &mut tx));
    assert!(interrupted.await.is_err());
    assert!(tx.usable().is_err());
    drop(tx);
    locked.batch_execute("ROLLBACK").await.unwrap();
    drop(locked);
    assert_eq!(place.payments().await, ["a 1 1"]);
}

/// After an SQL error a savepoint brings the transaction back, as with any other statement.
#[tokio::test]
async fn a_refused_row_can_be_undone_with_a_savepoint() {
    let place = Place::new(PAYMENTS).await;
    let sink = payments(Table::append("payments", COLUMNS));
    let mut tx = Tx::begin(place.connection().await, "").await.unwrap();
    let before = tx.savepoint().await.unwrap();
    sink.handle(&values(&["a 13 1"]), &mut tx).await.unwrap_err();
    tx.rollback_to(&before).await.unwrap();
    sink.handle(&values(&["a 1 1"]), &mut tx).await.unwrap();
    tx.usable().unwrap();
}

#[tokio::test]
async fn fields_of_json_go_into_the_columns_of_their_names() {
    let place = Place::new(PAYMENTS).await;
    let sink = TableSink::json(Table::upsert("payments", COLUMNS).source_offset("off"));
    let put = |id: i32, amount: &str| {
        format!(r#"{{"amount": {amount}, "x": [{{}}], "merchant": "a\"b", "\u0069d": {id}}}"#)
    };
    let (one, two) = (put(1, "7"), put(2, "null"));
    place.apply(&sink, &batch(&[(None, Some(&one)), (None, Some(&two))])).await.unwrap();
    let rows = "SELECT merchant || id || coalesce(amount, 0) || ' ' || off FROM payments ORDER BY id";
    let found: Vec<String> = place.texts(rows).await.into_iter().flatten().collect();
    assert_eq!(found, ["a\"b17 100", "a\"b20 101"]);
    let key = r#"{"id": "1", "merchant": "a\"b"}"#;
    place.apply(&sink, &batch(&[(Some(key), None), (None, Some(&two))])).await.unwrap();
    assert_eq!(place.texts(rows).await.into_iter().flatten().collect::<Vec<_>>(), ["a\"b20 101"]);
    for (key, value, why) in [
        (None, None, "key and value are null"),
        (Some("x"), None, "a tombstone's is one value: it must be a JSON object"),
        (None, Some("[1]"), "a JSON object with a field per column"),
        (None, Some("{\"id\": 1} 2"), "invalid JSON"),
        (None, Some("{\"id\": 1}"), "column merchant (text): the key is NULL"),
        (None, Some("{\"id\": \"one\", \"merchant\": \"a\"}"), "column id (bigint): not an integer"),
    ] {
        let error = place.apply(&sink, &batch(&[(key, value)])).await.expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
    let append = TableSink::json(Table::append("payments", COLUMNS));
    let error = place.apply(&append, &batch(&[(Some("k"), None)])).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Reject);

    #[derive(serde::Serialize)]
    struct Payment {
        merchant: &'static str,
        id: i64,
        amount: Option<i32>,
    }
    let fields = TableSink::new(Table::append("payments", COLUMNS), |record, rows| {
        rows.push_fields(&Payment { merchant: "s", id: record.offset(), amount: Some(3) })
    });
    place.apply(&fields, &one_record()).await.unwrap();
    assert!(place.payments().await.contains(&"s 100 3".to_owned()));
}

#[tokio::test]
async fn a_tombstone_deletes_the_row_of_its_key() {
    let place = Place::new("CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    let sink = TableSink::json(Table::upsert("t", ["id", "name"]));
    let records = [
        (Some("1"), Some(r#"{"id": 1, "name": "a"}"#)),
        (Some("2"), Some(r#"{"id": 2}"#)),
        (Some("1"), None),
    ];
    place.apply(&sink, &batch(&records)).await.unwrap();
    assert_eq!(place.texts("SELECT id::text FROM t").await, [Some("2".to_owned())]);
}
