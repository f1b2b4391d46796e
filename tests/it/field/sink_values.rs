//! S4: a second door with other rules. A value means the same from wherever it comes, and what its literal means, or its
//! record is named. (The kind, for every type: `src/sink/tests/literals.rs` and `doors.rs`.)

use highwater::{Table, TableSink};

use super::sink::{Payments, halts_at, numbered, world};
use crate::support::TestResult;

/// The bad one of twenty records is rejected, by its column's name and without its value.
async fn rejects(
    hint: &str,
    columns: &str,
    good: &str,
    (bad, secret): (&str, &str),
    why: &str,
) -> TestResult {
    let value = |n| if n == 13 { bad.to_owned() } else { good.to_owned() };
    let world = world(hint, &format!("CREATE TABLE v ({columns})"), numbered(20, value)).await?;
    let names: Vec<String> =
        columns.split(", ").map(|column| column.split(' ').next().unwrap_or_default().to_owned()).collect();
    let text = halts_at(&world, TableSink::json(Table::append("v", names)), "v", 13).await?;
    assert!(text.contains(why), "{text}");
    assert!(!text.contains(secret), "{text}");
    Ok(())
}

#[tokio::test]
async fn s4_1_a_float_out_of_range() -> TestResult {
    let columns = "d float8, r float4";
    for bad in [
        (r#"{"d":"1e400"}"#, "1e400"),
        (r#"{"d":1e-400}"#, "e-400"),
        (r#"{"r":1e-50}"#, "e-50"),
        (r#"{"r":"1e400"}"#, "1e400"),
    ] {
        rejects("floats", columns, r#"{"d":1e300,"r":"1e-30"}"#, bad, "out of the range").await?;
    }
    Ok(())
}

#[tokio::test]
async fn s4_2_an_integer_that_a_float_does_not_hold() -> TestResult {
    for bad in [r#"{"d":9007199254740993}"#, r#"{"d":"9007199254740993"}"#] {
        let bad = (bad, "9007199254740993");
        rejects("exact", "d float8", r#"{"d":9007199254740994}"#, bad, "column d").await?;
    }
    Ok(())
}

#[tokio::test]
async fn s4_3_intervals_as_servers_and_java_print_them() -> TestResult {
    let good = ["PT-6H", "P-1Y-2M3DT-4H", "P1.5D"];
    let sql = "CREATE TABLE v (i interval)";
    let world = world("spans", sql, good.iter().map(|span| format!(r#"{{"i":"{span}"}}"#))).await?;
    let worker = world.worker(TableSink::json(Table::append("v", ["i"])));
    world.caught_up().await?;
    let sql = "SELECT count(*) FROM v WHERE i IN ('PT-6H', 'P-1Y-2M3DT-4H', 'P1.5D')";
    assert_eq!(world.database.query(sql, &[]).await?[0].get::<_, i64>(0), 3);
    worker.stop().await?;
    let bad = (r#"{"i":"-P5Y4M3D"}"#, "P5Y4M3D");
    rejects("minus", "i interval", r#"{"i":"P5Y"}"#, bad, "not an interval").await
}

#[tokio::test]
async fn s4_4_a_tombstone_whose_key_is_a_json_string() -> TestResult {
    let world = world("quoted", "CREATE TABLE k (id text PRIMARY KEY, n int)", None).await?;
    let worker = world.worker(TableSink::json(Table::upsert("k", ["id", "n"])));
    for id in ["k1", "k2"] {
        let value = format!(r#"{{"id":"{id}","n":1}}"#);
        world.producer.send(world.message(0).key(format!("\"{id}\"")).value(value))?;
    }
    world.producer.send(world.message(0).key("\"k1\""))?;
    world.producer.flush().await?;
    world.caught_up().await?;
    let rows = world.database.query("SELECT id FROM k", &[]).await?;
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["k2"]);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn s4_5_an_object_with_none_of_the_columns() -> TestResult {
    let (columns, good) = ("order_id int, amount int", r#"{"order_id":1}"#);
    for bad in [r#"{"payload":{"order_id":"secret"}}"#, r#"{"orderId":"secret"}"#] {
        rejects("envelope", columns, good, (bad, "secret"), "none of the columns order_id, amount").await?;
    }
    Ok(())
}

#[tokio::test]
async fn s4_6_money_through_the_readmes_handler() -> TestResult {
    let sql = "CREATE TABLE payments (body jsonb, source_partition int, source_offset bigint)";
    let (wei, rate) = ("123456789012345678901234567890", "0.1000000000000000055511");
    let world = world("wei", sql, numbered(1, |_| format!(r#"{{"wei":{wei},"rate":{rate}}}"#))).await?;
    let worker = world.worker(Payments);
    world.caught_up().await?;
    let rows = world.database.query("SELECT body->>'wei', body->>'rate' FROM payments", &[]).await?;
    assert_eq!((rows[0].get::<_, &str>(0), rows[0].get::<_, &str>(1)), (wei, rate));
    worker.stop().await?;
    Ok(())
}
