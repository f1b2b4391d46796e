//! S2: a SQLSTATE is taken for a culprit. The good records before a bad one are applied, and the halt names it.

mod catalog;
mod changed;
mod family;
mod known;
mod order;
mod relatives;
mod sequence;
mod unseen;
mod version;

use std::error::Error;

use bytes::BytesMut;
use highwater::sink::Sql;
use highwater::tokio_postgres::types::{IsNull, Json, ToSql, Type, to_sql_checked};
use highwater::{Batch, Handler, HandlerError, Table, TableSink, Tx};
use serde_json::value::RawValue;

use crate::support::watch::halted;
use crate::support::{TestResult, World};

/// A world of one partition whose records are `values`, and a table for them.
pub(super) async fn world(
    hint: &str,
    sql: &str,
    values: impl IntoIterator<Item = String>,
) -> TestResult<World<'static>> {
    let world = World::new(hint, 1).await?;
    world.database.execute(sql).await?;
    world
        .database
        .execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}", world.role.name))
        .await?;
    for value in values {
        world.producer.send(world.message(0).key("k").value(value))?;
    }
    world.producer.flush().await?;
    Ok(world)
}

/// Waits for the halt, which must name record `bad`; what is before it is applied, and nothing else. Returns the text.
pub(super) async fn halts_at(
    world: &World<'_>,
    sink: impl Handler,
    table: &str,
    bad: i64,
) -> TestResult<String> {
    let worker = world.worker(sink);
    let why = halted(&worker, 0).await?;
    assert!(why.contains(&format!("record {}[0]@{bad} ", world.topic)), "{why}");
    assert_eq!(world.next_offset(0).await?, Some(bad), "{why}");
    assert_eq!(world.database.count(table).await?, bad, "{why}");
    world.reported(0, &why).await?;
    worker.stop().await?;
    Ok(why)
}

pub(super) fn numbered(count: usize, value: impl Fn(usize) -> String) -> impl Iterator<Item = String> {
    (0..count).map(value)
}

/// A bit string, or what its type refuses in binary.
#[derive(Debug)]
struct Bits(bool);

impl ToSql for Bits {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&(if self.0 { 8_i32 } else { -1 }).to_be_bytes());
        out.extend_from_slice(&[0xA5]);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::VARBIT
    }

    to_sql_checked!();
}

#[tokio::test]
async fn s2_1_a_value_that_its_type_refuses_in_binary() -> TestResult {
    let world =
        world("bits", "CREATE TABLE b (bits varbit)", numbered(100, |n| (n != 50).to_string())).await?;
    let sink = TableSink::new(Table::append("b", ["bits"]).binary("bits"), |record, rows| {
        rows.push((Sql(Bits(record.value() == Some(b"true"))),))
    });
    let why = halts_at(&world, sink, "b", 50).await?;
    assert!(why.contains("22P03") && why.contains("bits"), "{why}");
    Ok(())
}

/// We refuse it before the server does.
#[tokio::test]
async fn s2_1_a_network_with_bits_behind_its_mask() -> TestResult {
    let value = |n| format!(r#"{{"id":{n},"net":"10.0.0.{}/8"}}"#, u8::from(n == 50));
    let world = world("cidr", "CREATE TABLE n (id bigint, net cidr)", numbered(100, value)).await?;
    let why = halts_at(&world, TableSink::json(Table::append("n", ["id", "net"])), "n", 50).await?;
    assert!(why.contains("net") && !why.contains("10.0.0.1"), "{why}");
    world.database.execute("ALTER TABLE n ALTER net TYPE inet").await?;
    let worker = world.worker(TableSink::json(Table::append("n", ["id", "net"])));
    world.caught_up().await?;
    assert_eq!(world.database.count("n").await?, 100);
    world.assert_ledger_gapless().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn s2_2_a_row_for_which_there_is_no_table_partition() -> TestResult {
    let value = |n| format!(r#"{{"id":{n},"day":"{}-05-05"}}"#, if n == 500 { 2206 } else { 2026 });
    let sql = "CREATE TABLE p (id bigint, day date) PARTITION BY RANGE (day); \
               CREATE TABLE p26 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')";
    let world = world("parted", sql, numbered(1_000, value)).await?;
    let why = halts_at(&world, TableSink::json(Table::append("p", ["id", "day"])), "p", 500).await?;
    assert!(why.contains("23514") && !why.contains("2206"), "{why}");
    world.database.execute("CREATE TABLE rest PARTITION OF p DEFAULT").await?;
    let worker = world.worker(TableSink::json(Table::append("p", ["id", "day"])));
    world.caught_up().await?;
    assert_eq!(world.database.count("p").await?, 1_000);
    worker.stop().await?;
    Ok(())
}

/// A partition that is made while the worker tries again is in time.
#[tokio::test]
async fn s2_2_a_table_partition_that_comes_late_is_waited_for() -> TestResult {
    let value = |n| format!(r#"{{"id":{n},"day":"{}-05-05"}}"#, if n == 5 { 2027 } else { 2026 });
    let sql = "CREATE TABLE p (id bigint, day date) PARTITION BY RANGE (day); \
               CREATE TABLE p26 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')";
    let world = world("late", sql, numbered(10, value)).await?;
    let worker = world.worker(TableSink::json(Table::append("p", ["id", "day"])));
    crate::support::watch::status_until(&worker, "it has tried", |status| status.counters.retries > 0)
        .await?;
    world
        .database
        .execute("CREATE TABLE p27 PARTITION OF p FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')")
        .await?;
    world.caught_up().await?;
    assert_eq!(world.database.count("p").await?, 10);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn s2_3_a_name_that_is_too_long() -> TestResult {
    let value = |n| format!(r#"{{"n":"{}"}}"#, "x".repeat(if n == 50 { 64 } else { 63 }));
    let world = world("name", "CREATE TABLE names (n name)", numbered(100, value)).await?;
    let why = halts_at(&world, TableSink::json(Table::append("names", ["n"])), "names", 50).await?;
    assert!(!why.contains("xxx"), "{why}");
    Ok(())
}

#[tokio::test]
async fn s2_4_a_deferrable_constraint_is_refused_in_words() -> TestResult {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, pos int UNIQUE DEFERRABLE)";
    let value = |n| format!(r#"{{"id":{n},"pos":{n}}}"#);
    let world = world("deferrable", sql, numbered(10, value)).await?;
    for table in [Table::insert_ignore("t", ["id", "pos"]), Table::upsert("t", ["id", "pos"]).key(["pos"])] {
        let worker = world.worker(TableSink::json(table));
        let why = halted(&worker, 0).await?;
        assert!(why.contains("table t") && why.contains("t_pos_key") && why.contains("deferrable"), "{why}");
        assert!(!why.contains("55000"), "it is refused before it is tried: {why}");
        worker.stop().await?;
    }
    assert_eq!(world.database.count("t").await?, 0);
    let worker = world.worker(TableSink::json(Table::upsert("t", ["id", "pos"]).key(["id"])));
    world.caught_up().await?;
    assert_eq!(world.database.count("t").await?, 10);
    worker.stop().await?;
    Ok(())
}

/// The README's handler.
pub(super) struct Payments;

impl Handler for Payments {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for record in batch.records() {
            let payment: &RawValue = record.json()?;
            let sql = "INSERT INTO payments (body, source_partition, source_offset) VALUES ($1, $2, $3)";
            tx.execute(sql, &[&Json(payment), &record.partition(), &record.offset()]).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn s2_5_a_rust_type_that_does_not_go_into_the_column() -> TestResult {
    let sql = "CREATE TABLE payments (body text, source_partition bigint, source_offset bigint)";
    let world = world("rust", sql, numbered(10, |n| format!(r#"{{"id":{n}}}"#))).await?;
    let worker = world.worker(Payments);
    let why = halted(&worker, 0).await?;
    assert!(why.contains("parameter 0") && why.contains("Value") && why.contains("`text`"), "{why}");
    assert_eq!(world.next_offset(0).await?, Some(0));
    worker.stop().await?;

    world
        .database
        .execute(
            "ALTER TABLE payments ALTER body TYPE jsonb USING body::jsonb, ALTER source_partition TYPE int",
        )
        .await?;
    let worker = world.worker(Payments);
    world.caught_up().await?;
    assert_eq!(world.database.count("payments").await?, 10);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn s2_6_a_trigger_that_writes_where_the_record_says() -> TestResult {
    let sql = "CREATE TABLE ev (tenant text, id bigint); CREATE TABLE tenant_a (id bigint); \
               CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 EXECUTE format('INSERT INTO %I VALUES ($1)', 'tenant_' || NEW.tenant) USING NEW.id; RETURN NEW; END $$; \
               CREATE TRIGGER route BEFORE INSERT ON ev FOR EACH ROW EXECUTE FUNCTION route()";
    let value = |n| format!(r#"{{"id":{n},"tenant":"{}"}}"#, if n == 50 { "secretcorp" } else { "a" });
    for (hint, table) in [
        ("routed", Table::append("ev", ["id", "tenant"])),
        ("unsorted", Table::append("ev", ["id", "tenant"]).unsorted()),
    ] {
        let world = world(hint, sql, numbered(100, value)).await?;
        let why = halts_at(&world, TableSink::json(table), "ev", 50).await?;
        assert!(why.contains("42P01") && why.contains("route") && !why.contains("secretcorp"), "{why}");
        assert_eq!(world.database.count("tenant_a").await?, 50);
    }
    Ok(())
}

/// The kind: whatever the code, the record is found, be it named by the server or not.
#[tokio::test]
async fn s2_every_code_that_one_record_raises_ends_at_that_record() -> TestResult {
    for code in
        ["22000", "23505", "42P01", "42501", "21000", "0A000", "P0001", "XX001", "ZZ999", "55000", "F0000"]
    {
        let sql = format!(
            "CREATE TABLE ev (id bigint); CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF NEW.id = 20 THEN RAISE EXCEPTION 'the card 4111-1111' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER refuse AFTER INSERT ON ev FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        let world = world("codes", &sql, numbered(33, |n| format!(r#"{{"id":{n}}}"#))).await?;
        let why = halts_at(&world, TableSink::json(Table::append("ev", ["id"])), "ev", 20).await?;
        assert!(why.contains(code) && !why.contains("4111"), "{why}");
    }
    Ok(())
}
