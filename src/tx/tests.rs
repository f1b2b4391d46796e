//! What the transaction object relies on, against a real server.

mod fuzz;

use std::pin::pin;

use bytes::Bytes;
use deadpool_postgres::{Manager, Object, Pool};
use futures_util::SinkExt;
use tokio_postgres::NoTls;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::*;
use crate::HandlerErrorKind;
use crate::testing::Postgres;
use crate::verdict::Connection;
use crate::verdict::postgres::{classify, copy_line};

async fn pool() -> Pool {
    let url = Postgres::shared().await.expect("a server").admin_url();
    let manager = Manager::new(url.parse().expect("the URL is one"), NoTls);
    Pool::builder(manager).max_size(4).build().expect("the pool is built")
}

async fn connection() -> Object {
    pool().await.get().await.expect("the server answers")
}

async fn tx() -> Tx {
    Tx::begin(connection().await, "").await.expect("BEGIN works")
}

/// A transaction with a table of its own, which goes with it.
async fn tx_with_table() -> Tx {
    let tx = tx().await;
    tx.batch_execute("CREATE TEMPORARY TABLE t (id int PRIMARY KEY, name text CHECK (name <> 'bad'))")
        .await
        .unwrap();
    tx
}

async fn count(tx: &Tx) -> i64 {
    tx.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn begin_tells_who_we_are() {
    let tx = tx().await;
    let row = tx
        .query_one(
            "SELECT pg_current_xact_id() = $1::text::xid8, pg_backend_pid(), \
             current_setting('transaction_isolation'), current_setting('transaction_read_only')",
            &[&tx.xact_id()],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, i32>(1), tx.backend_pid());
    assert_eq!((row.get::<_, &str>(2), row.get::<_, &str>(3)), ("read committed", "off"));
    let connection = tx.rollback().await.expect("a clean rollback gives the connection back");
    let again = Tx::begin(connection, "").await.unwrap();
    again.raw().batch_execute("COMMIT").await.unwrap();
    drop(again.into_connection());
}

#[tokio::test]
async fn a_connection_inside_a_transaction_is_not_taken() {
    let connection = connection().await;
    connection.batch_execute("BEGIN").await.unwrap();
    let error = Tx::begin(connection, "").await.unwrap_err();
    assert!(error.to_string().contains("already inside"), "{error}");
    assert_eq!(error.cause().connection, Connection::Discard);
}

#[tokio::test]
async fn a_dropped_transaction_does_not_reach_the_pool() {
    let pool = pool().await;
    let tx = Tx::begin(pool.get().await.unwrap(), "").await.unwrap();
    drop(tx);
    assert_eq!(pool.status().size, 0);
}

#[tokio::test]
async fn a_swallowed_error_fails_what_follows() {
    let tx = tx_with_table().await;
    let error = tx.execute("INSERT INTO t VALUES ($1, 'bad')", &[&1]).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (HandlerErrorKind::Reject, Some("23514")));
    assert_eq!(error.constraint(), Some("t_name_check"));
    assert!(!error.to_string().contains("bad"), "{error}");
    let error = tx.raw().query_one("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02");
    assert_eq!(classify(&error).class, Class::Bug);
    // PITFALLS 19: COMMIT itself says nothing.
    tx.raw().batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn the_server_refuses_commits_that_the_text_does_not_show() {
    let setup = connection().await;
    setup
        .batch_execute("CREATE OR REPLACE PROCEDURE hw_commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'")
        .await
        .unwrap();
    for text in ["DO $$ BEGIN COMMIT; END $$", "CALL hw_commits()", "DO $$ BEGIN ROLLBACK; END $$"] {
        let tx = tx().await;
        let error = tx.batch_execute(text).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("2D000"), "{text}");
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    }
    setup.batch_execute("DROP PROCEDURE hw_commits()").await.unwrap();
}

#[tokio::test]
async fn refused_text_is_not_sent_and_does_no_harm() {
    let tx = tx_with_table().await;
    tx.execute("INSERT INTO t VALUES (1, 'a')", &[]).await.unwrap();
    for text in ["COMMIT", "select 1; end", "PREPARE TRANSACTION 'x'", "COPY t FROM STDIN"] {
        for error in [
            tx.batch_execute(text).await.unwrap_err(),
            tx.execute(text, &[]).await.unwrap_err(),
            tx.query(text, &[]).await.unwrap_err(),
            tx.query_opt(&text.to_owned(), &[]).await.unwrap_err(),
            tx.prepare(text).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), HandlerErrorKind::Fatal);
            assert!(error.to_string().starts_with("statement refused"), "{error}");
        }
    }
    assert_eq!(count(&tx).await, 1);
}

#[tokio::test]
async fn savepoints_nest_and_end() {
    let mut tx = tx_with_table().await;
    let outer = tx.savepoint().await.unwrap();
    tx.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    let inner = tx.savepoint().await.unwrap();
    let error = tx.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("23505"));
    tx.rollback_to(&inner).await.unwrap();
    assert_eq!(count(&tx).await, 1);
    tx.rollback_to(&outer).await.unwrap();
    assert_eq!(count(&tx).await, 0);
    let error = tx.rollback_to(&inner).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    tx.execute("INSERT INTO t VALUES (2)", &[]).await.unwrap();
    tx.release(outer).await.unwrap();
    assert_eq!(count(&tx).await, 1);

    let mut other = self::tx().await;
    let foreign = tx.savepoint().await.unwrap();
    let _own = other.savepoint().await.unwrap();
    assert!(other.release(foreign).await.is_err());
}

#[tokio::test]
async fn copy_writes_and_its_data_errors_can_be_undone() {
    let mut tx = tx_with_table().await;
    let sink = tx.copy_in("COPY t FROM STDIN (FORMAT binary)").await.unwrap();
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    rows.as_mut().write(&[&1, &"a"]).await.unwrap();
    assert_eq!(rows.finish().await.unwrap(), 1);

    for (format, data) in [("text", "2\tb\nx\tc\n"), ("text", "2\tb\n3\tbad\n"), ("csv", "2,b\n2,b\n")] {
        let before = tx.savepoint().await.unwrap();
        let sink = tx.copy_in(&format!("COPY t FROM STDIN (FORMAT {format})")).await.unwrap();
        let mut sink = pin!(sink);
        sink.send(Bytes::from_static(data.as_bytes())).await.unwrap();
        let error = sink.as_mut().finish().await.unwrap_err();
        assert_eq!(copy_line(error.as_db_error().unwrap()), Some(2), "{error:?}");
        let error = HandlerError::from(error);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
        tx.rollback_to(&before).await.unwrap();
        tx.release(before).await.unwrap();
    }
    assert_eq!(count(&tx).await, 1);
    assert!(tx.rollback().await.is_some());
}

/// Rows of every size, in messages of the writer's own: all of them arrive, NULL is NULL, and what cannot be written is
/// said without its value and leaves no trace.
#[tokio::test]
async fn a_binary_copy_writes_every_row_that_it_was_given() {
    let mut tx = tx_with_table().await;
    tx.batch_execute("CREATE TEMPORARY TABLE wide (id int8, body text)").await.unwrap();
    let copy = "COPY wide FROM STDIN (FORMAT binary)";
    let mut rows = tx.copy_in_binary(copy, &[Type::INT8, Type::TEXT]).await.unwrap();
    let sizes = [0, 1, 300_000, 7, 131_072, 131_073];
    let body = |id: i64| (id % 5 != 0).then(|| "x".repeat(sizes[usize::try_from(id).unwrap() % sizes.len()]));
    for id in 0..60_i64 {
        rows.write(&[&id, &body(id)]).await.unwrap();
        for (bad, kind) in [
            (rows.write(&[&id, &7_i32]).await, HandlerErrorKind::Fatal),
            (rows.write(&[&id]).await, HandlerErrorKind::Fatal),
            (rows.write(&[&id, &Unspeakable]).await, HandlerErrorKind::Reject),
        ] {
            let error = bad.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(error.cause().connection, Connection::Keep);
            assert!(error.to_string().contains("COPY"), "{error}");
        }
    }
    assert_eq!(rows.finish().await.unwrap(), 60);
    let found = tx.query("SELECT id, body FROM wide ORDER BY id", &[]).await.unwrap();
    for (row, id) in found.iter().zip(0_i64..) {
        assert_eq!((row.get::<_, i64>(0), row.get::<_, Option<String>>(1)), (id, body(id)));
    }
    assert_eq!(found.len(), 60);

    let before = tx.savepoint().await.unwrap();
    let mut rows = tx.copy_in_binary("COPY t FROM STDIN BINARY", &[Type::INT4, Type::TEXT]).await.unwrap();
    rows.write(&[&1, &"a"]).await.unwrap();
    rows.write(&[&1, &"b"]).await.unwrap();
    let error = rows.finish().await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (HandlerErrorKind::Reject, Some("23505")), "{error:?}");
    tx.rollback_to(&before).await.unwrap();
    let mut rows = tx.copy_in_binary("COPY t FROM STDIN BINARY", &[Type::INT4]).await.unwrap();
    rows.write(&[&1]).await.unwrap();
    let error = rows.finish().await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (HandlerErrorKind::Fatal, Some("22P04")), "{error:?}");
    tx.rollback_to(&before).await.unwrap();
    let rows = tx.copy_in_binary("COPY t FROM STDIN BINARY", &[Type::INT4, Type::TEXT]).await.unwrap();
    drop(rows);
    assert_eq!(tx.execute("SELECT 1", &[]).await.unwrap_err().sqlstate(), Some("25P02"));
    tx.rollback_to(&before).await.unwrap();
    assert_eq!(count(&tx).await, 0);
    assert!(tx.rollback().await.is_some());
}

/// Rows lie in the table in the order of the columns that were named, every one once, whatever their sizes.
#[tokio::test]
async fn a_sorted_binary_copy_sends_its_rows_in_order() {
    let mut tx = tx_with_table().await;
    tx.batch_execute("CREATE TEMPORARY TABLE wide (name text, id int8, body text)").await.unwrap();
    let types = [Type::TEXT, Type::INT8, Type::TEXT];
    let copy = "COPY wide FROM STDIN (FORMAT binary)";
    let mut rows = tx.copy_in_binary(copy, &types).await.unwrap().sorted_by(&[0, 1]).unwrap();
    let sizes = [0, 300_000, 7, 131_073];
    for n in 0..400_i64 {
        let (name, id) = (format!("n{}", n % 7), (n * 37) % 400 - 200);
        let body =
            "x".repeat(sizes[usize::try_from(n).unwrap() % sizes.len()] / if n < 40 { 1 } else { 100 });
        rows.write(&[&name, &id, &body]).await.unwrap();
        assert!(rows.write(&[&name]).await.is_err(), "too few values, and nothing of them is sent");
    }
    assert_eq!(rows.finish().await.unwrap(), 400);
    let sql = "SELECT count(*) FILTER (WHERE place <> wanted), count(DISTINCT id) FROM (SELECT id, \
               row_number() OVER (ORDER BY ctid) AS place, row_number() OVER (ORDER BY name COLLATE \"C\", id) AS wanted \
               FROM wide) AS w";
    let found = tx.query(sql, &[]).await.unwrap();
    assert_eq!((found[0].get::<_, i64>(0), found[0].get::<_, i64>(1)), (0, 400));

    let mut rows = tx.copy_in_binary(copy, &types).await.unwrap().sorted_by(&[0]).unwrap();
    assert_eq!(rows.write(&[&1]).await.unwrap_err().kind(), HandlerErrorKind::Fatal);
    assert_eq!(rows.finish().await.unwrap(), 0, "an empty one is one, too");
    let mut rows = tx.copy_in_binary(copy, &types).await.unwrap();
    rows.write(&[&"a", &1_i64, &"b"]).await.unwrap();
    assert_eq!(rows.sorted_by(&[0]).unwrap_err().kind(), HandlerErrorKind::Fatal, "too late");
    let mut tx = tx_with_table().await;
    tx.batch_execute("CREATE TEMPORARY TABLE wide (name text, id int8, body text)").await.unwrap();
    let unknown = tx.copy_in_binary(copy, &types).await.unwrap().sorted_by(&[3]).unwrap_err();
    assert!(unknown.to_string().contains("[3]"), "{unknown}");
}

/// A message that was dropped on its way takes rows with it: nothing that follows may make the others durable.
#[tokio::test]
async fn a_binary_copy_whose_write_was_dropped_is_refused() {
    let pool = pool().await;
    let table = format!("highwater_dropped_{}", fastrand::u64(..));
    let other = pool.get().await.unwrap();
    other.batch_execute(&format!("CREATE TABLE {table} (id int8 PRIMARY KEY, body text)")).await.unwrap();
    other.batch_execute(&format!("BEGIN; INSERT INTO {table} VALUES (1, '')")).await.unwrap();

    let mut tx = Tx::begin(pool.get().await.unwrap(), "").await.unwrap();
    let copy = format!("COPY {table} FROM STDIN (FORMAT binary)");
    let mut rows = Some(tx.copy_in_binary(&copy, &[Type::INT8, Type::TEXT]).await.unwrap());
    // The server waits for the other's key 1 and reads no more, until no more can be sent.
    let body = "x".repeat(100_000);
    let mut id = 0_i64;
    loop {
        id += 1;
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&id, &body];
        let written = rows.as_mut().unwrap().write(&row);
        if tokio::time::timeout(Duration::from_millis(500), written).await.is_err() {
            break;
        }
        assert!(id < 10_000, "the server does not stop reading");
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    // Short enough to be taken without being sent.
    rows.as_mut().unwrap().write(&[&0_i64, &"x"]).await.unwrap();
    let error = rows.take().unwrap().finish().await.unwrap_err();
    drop(rows);
    assert_eq!(error.kind(), HandlerErrorKind::Fatal, "{error:?}");
    assert!(error.to_string().contains("dropped"), "{error}");
    assert_eq!(tx.execute("SELECT 1", &[]).await.unwrap_err().sqlstate(), Some("25P02"));
    assert!(tx.rollback().await.is_some());
    let left: i64 = other.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    other.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
}

/// A large COPY whose first row is bad: the rest is under way when the server answers.
#[tokio::test]
async fn an_early_error_in_a_large_copy_leaves_the_connection_in_step() {
    let mut tx = tx_with_table().await;
    let before = tx.savepoint().await.unwrap();
    let sink = tx.copy_in("COPY t FROM STDIN (FORMAT binary)").await.unwrap();
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    let mut written = Ok(());
    for _ in 0..200_000 {
        written = rows.as_mut().write(&[&1, &"a"]).await;
        if written.is_err() {
            break;
        }
    }
    let error = match written {
        Ok(()) => rows.finish().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code().map(|code| code.code()), Some("23505"), "{error:?}");
    tx.rollback_to(&before).await.unwrap();
    assert_eq!(count(&tx).await, 0);
}

#[tokio::test]
async fn a_dropped_copy_aborts_the_transaction_but_not_the_connection() {
    let mut tx = tx_with_table().await;
    let before = tx.savepoint().await.unwrap();
    let mut sink = Box::pin(tx.copy_in("COPY t FROM STDIN").await.unwrap());
    sink.send(Bytes::from_static(b"1\ta\n")).await.unwrap();
    drop(sink);
    let error = tx.execute("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("25P02"));
    tx.rollback_to(&before).await.unwrap();
    assert_eq!(count(&tx).await, 0);
}

/// PITFALLS 25: the real error comes first, and nothing is sent after it.
#[tokio::test]
async fn a_copy_refused_before_it_began_breaks_the_transaction() {
    let mut tx = tx_with_table().await;
    let before = tx.savepoint().await.unwrap();
    let error = tx.copy_in("COPY no_such_table FROM STDIN").await.err().unwrap();
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert_eq!(error.cause().class, Class::Bug);
    assert_eq!(error.cause().connection, Connection::Discard);
    for error in [
        tx.rollback_to(&before).await.unwrap_err(),
        tx.execute("SELECT 1", &[]).await.unwrap_err(),
        tx.usable().unwrap_err(),
    ] {
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert!(error.to_string().contains("unusable"), "{error}");
    }
    assert!(tx.rollback().await.is_none());
}

/// The COPY was accepted, and fails before it reads a byte: only the check after a rollback can see it.
#[tokio::test]
async fn a_copy_that_fails_before_its_first_row_is_noticed() {
    let mut tx = tx_with_table().await;
    tx.batch_execute("CREATE TEMPORARY VIEW v AS SELECT id + 1 AS id FROM t").await.unwrap();
    let before = tx.savepoint().await.unwrap();
    let sink = tx.copy_in("COPY v FROM STDIN").await.expect("the server accepts it at first");
    let mut sink = pin!(sink);
    let _ = sink.send(Bytes::from_static(b"1\n")).await;
    let error = sink.as_mut().finish().await.unwrap_err();
    assert_eq!(HandlerError::from(error).kind(), HandlerErrorKind::Fatal);
    let error = tx.rollback_to(&before).await.unwrap_err();
    assert_eq!(error.cause().class, Class::RetryThenHalt, "{error:?}");
    assert_eq!(error.cause().connection, Connection::Discard);
    assert!(tx.usable().is_err());
    assert!(tx.rollback().await.is_none());
}

#[tokio::test]
async fn the_driver_s_own_errors_are_told_apart() {
    let tx = tx_with_table().await;
    for (error, kind) in [
        (tx.execute("INSERT INTO t VALUES ($1)", &[&"x"]).await.unwrap_err(), HandlerErrorKind::Fatal),
        (tx.query_one("SELECT 1 WHERE false", &[]).await.unwrap_err(), HandlerErrorKind::Fatal),
        (tx.execute("SELECT $1::int", &[&Unspeakable]).await.unwrap_err(), HandlerErrorKind::Reject),
        (
            HandlerError::from(
                tx.query_one("SELECT 1", &[]).await.unwrap().try_get::<_, &str>(0).unwrap_err(),
            ),
            HandlerErrorKind::Fatal,
        ),
    ] {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.cause().definite);
        assert_eq!(error.cause().connection, Connection::Keep);
    }
    let error = tx.execute("SELECT $1::text", &[&"a\0b"]).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (HandlerErrorKind::Reject, Some("22021")));
}

/// A value that its SQL type cannot hold.
#[derive(Debug)]
struct Unspeakable;

impl tokio_postgres::types::ToSql for Unspeakable {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Err("out of range".into())
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

#[tokio::test]
async fn a_terminated_backend_leaves_the_outcome_unknown() {
    let tx = tx().await;
    let killer = connection().await;
    killer.execute("SELECT pg_terminate_backend($1)", &[&tx.backend_pid()]).await.unwrap();
    let error = tx.execute("SELECT pg_sleep(5)", &[]).await.unwrap_err();
    let verdict = error.cause();
    assert_eq!(verdict.class, Class::Lost, "{error:?}");
    assert_eq!(verdict.connection, Connection::Discard);
    assert!(!verdict.definite);
    assert!(tx.rollback().await.is_none());
}

#[tokio::test]
async fn special_cases_of_the_table_are_as_the_server_says() {
    let tx = tx().await;
    tx.batch_execute(
        "CREATE TEMPORARY TABLE p (id int) PARTITION BY LIST (id); CREATE TEMPORARY TABLE c (id int)",
    )
    .await
    .unwrap();
    let mut tx = tx;
    let before = tx.savepoint().await.unwrap();
    let error = tx.execute("INSERT INTO p VALUES (1)", &[]).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.constraint()), (Some("23514"), None));
    assert_eq!(error.cause().class, Class::RetryThenHalt);
    tx.rollback_to(&before).await.unwrap();
    tx.query("SELECT * FROM c", &[]).await.unwrap();
    tx.batch_execute("ALTER TABLE c ALTER id TYPE text").await.unwrap();
    let error = tx.query("SELECT * FROM c", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("0A000"));
    assert_eq!(error.cause().class, Class::RetryThenHalt, "{error:?}");
    tx.rollback_to(&before).await.unwrap();
    let error = tx.batch_execute("DO $$ BEGIN RAISE EXCEPTION 'no'; END $$").await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (HandlerErrorKind::Reject, Some("P0001")));
}

#[tokio::test]
async fn prepared_statements_stay_on_their_connection_and_within_their_number() {
    let one = tx().await;
    let statement = one.prepare("SELECT $1::int8").await.unwrap();
    assert_eq!(statement.params(), [Type::INT8]);
    assert_eq!(one.query_one(&statement, &[&7_i64]).await.unwrap().get::<_, i64>(0), 7);
    let other = tx().await;
    assert!(other.query_one(&statement, &[&7_i64]).await.is_err());
    for number in 0..300 {
        one.query(&format!("SELECT {number}"), &[]).await.unwrap();
    }
    assert!(one.raw().statement_cache.size() <= 256);
    assert_eq!(one.query_one(&statement, &[&8_i64]).await.unwrap().get::<_, i64>(0), 8);
}
