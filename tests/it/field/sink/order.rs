//! S1: the batch is not the sequence; what a worker makes of it.

use highwater::{Table, TableSink};

use super::{halts_at, numbered, world};
use crate::support::TestResult;
use crate::support::watch::{halted, halted_now};

#[tokio::test]
async fn s1_1_a_second_unique_key_blames_the_later_record() -> TestResult {
    let sql = "CREATE TABLE acct (id bigint PRIMARY KEY, email text UNIQUE)";
    let values = [r#"{"id":9,"email":"x"}"#, r#"{"id":1,"email":"x"}"#, r#"{"id":5,"email":"y"}"#];
    let world = world("second", sql, values.map(str::to_owned)).await?;
    let why = halts_at(&world, TableSink::json(Table::append("acct", ["id", "email"])), "acct", 1).await?;
    assert!(why.contains("acct_email_key"), "{why}");
    world.database.execute("ALTER TABLE acct DROP CONSTRAINT acct_email_key").await?;
    let worker = world.worker(TableSink::json(Table::append("acct", ["id", "email"])));
    world.caught_up().await?;
    assert_eq!(world.database.count("acct").await?, 3);
    world.assert_ledger_gapless().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn s1_2_a_key_is_compared_as_its_index_compares() -> TestResult {
    let sql = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
               CREATE TABLE w (label text NOT NULL, v int); CREATE UNIQUE INDEX ON w (label COLLATE nocase)";
    let values = ["merlot,1", "MERLOT,2", "riesling,3"];
    let world = world("collated", sql, values.map(str::to_owned)).await?;
    let sink = || {
        TableSink::new(Table::upsert("w", ["label", "v"]).key(["label"]), |record, rows| {
            let Some(value) = record.value() else { return rows.delete((record.key(),)) };
            let text = String::from_utf8_lossy(value).into_owned();
            let (label, v) = text.split_once(',').unwrap_or_default();
            rows.push((label, v.parse::<i32>().unwrap_or_default()))
        })
    };
    let worker = world.worker(sink());
    world.caught_up().await?;
    let rows = world.database.query("SELECT label || v FROM w ORDER BY v", &[]).await?;
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["MERLOT2", "riesling3"]);
    world.producer.send(world.message(0).key("Merlot"))?;
    world.producer.flush().await?;
    world.caught_up().await?;
    assert_eq!(world.database.count("w").await?, 1, "the tombstone found it");
    worker.stop().await?;
    Ok(())
}

/// Not by the clock: what is quadratic in a batch of this size is not done before the test's patience ends.
#[tokio::test]
async fn s1_3_a_hot_key_of_any_type_is_written_in_one_batch() -> TestResult {
    for (hint, key) in
        [("hot_varchar", "varchar(36)"), ("hot_numeric", "numeric"), ("hot_timestamp", "timestamp(3)")]
    {
        let sql = format!("CREATE TABLE s (id {key} PRIMARY KEY, n bigint)");
        let id = match key {
            "numeric" => "17".to_owned(),
            "timestamp(3)" => "\"2026-01-01T00:00:00\"".to_owned(),
            _ => "\"hot\"".to_owned(),
        };
        let world = world(hint, &sql, numbered(50_000, |n| format!(r#"{{"id":{id},"n":{n}}}"#))).await?;
        let worker = world.worker(TableSink::json(Table::upsert("s", ["id", "n"])));
        world.caught_up().await?;
        assert_eq!(world.number("SELECT n FROM s").await?, 49_999);
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn s1_4_whoever_sees_the_order_sees_that_of_the_records() -> TestResult {
    let sql = "CREATE TABLE seen (id bigint PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, off bigint); \
               CREATE TABLE audit (n bigint GENERATED ALWAYS AS IDENTITY, off bigint, total bigint); \
               CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO audit (off, total) SELECT NEW.off, count(*) FROM seen; RETURN NULL; END $$; \
               CREATE TRIGGER note AFTER INSERT ON seen FOR EACH ROW EXECUTE FUNCTION note()";
    let value = |n: usize| format!(r#"{{"id":{}}}"#, (n * 7_919) % 1_009);
    let world = world("seen", sql, numbered(500, value)).await?;
    let worker = world.worker(TableSink::json(Table::append("seen", ["id"]).source_offset("off")));
    world.caught_up().await?;
    for wrong in [
        "SELECT count(*) FROM (SELECT off, rank() OVER (ORDER BY n) AS place FROM seen) AS s WHERE off <> place - 1",
        "SELECT count(*) FROM (SELECT off, rank() OVER (ORDER BY n) AS place FROM audit) AS s WHERE off <> place - 1",
        "SELECT count(*) FROM audit WHERE total <> off + 1",
    ] {
        assert_eq!(world.number(wrong).await?, 0, "{wrong}");
    }
    assert_eq!(world.database.count("audit").await?, 500);
    worker.stop().await?;
    Ok(())
}

/// An upsert is one statement, whose error names no row: the next attempt goes row by row.
#[tokio::test]
async fn s1_a_row_that_nobody_names_is_found_in_a_few_attempts() -> TestResult {
    let sql = "CREATE TABLE refs (id bigint PRIMARY KEY); INSERT INTO refs SELECT generate_series(0, 9); \
               CREATE TABLE u (id bigint PRIMARY KEY, ref bigint REFERENCES refs, v int CHECK (v < 7))";
    for (hint, bad) in [("nameless_check", r#""ref":1,"v":7"#), ("nameless_key", r#""ref":77,"v":1"#)] {
        let value = |n| format!(r#"{{"id":{n},{}}}"#, if n == 700 { bad } else { r#""ref":1,"v":1"# });
        let world = world(hint, sql, numbered(2_000, value)).await?;
        let worker = world.worker(TableSink::json(Table::upsert("u", ["id", "ref", "v"])));
        let why = halted(&worker, 0).await?;
        assert!(why.contains(&format!("record {}[0]@700 ", world.topic)), "{why}");
        assert_eq!(world.database.count("u").await?, 700);
        let tries = worker.status().counters.retries;
        assert!(tries <= 6, "{tries} attempts failed");
        worker.stop().await?;
    }
    Ok(())
}

/// Somebody who looks on while it runs is seen from then on, and no good record is halted for it.
#[tokio::test]
async fn s1_what_is_made_while_it_runs_is_respected() -> TestResult {
    let sql = "CREATE TABLE seen (id bigint PRIMARY KEY, off bigint); \
               CREATE TABLE audit (n bigint GENERATED ALWAYS AS IDENTITY, off bigint)";
    let world = world("later", sql, numbered(50, |n| format!(r#"{{"id":{}}}"#, 1_000 - n))).await?;
    let worker = world.worker(TableSink::json(Table::append("seen", ["id"]).source_offset("off")));
    world.caught_up().await?;
    world
        .database
        .execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
               INSERT INTO audit (off) VALUES (NEW.off); RETURN NULL; END $$; \
             CREATE TRIGGER note AFTER INSERT ON seen FOR EACH ROW EXECUTE FUNCTION note(); \
             CREATE INDEX ON seen (off)",
        )
        .await?;
    for n in 50..100 {
        world.producer.send(world.message(0).key("k").value(format!(r#"{{"id":{}}}"#, 1_000 - n)))?;
    }
    world.producer.flush().await?;
    world.caught_up().await?;
    let rows = world.database.query("SELECT off FROM audit ORDER BY n", &[]).await?;
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), (50..100).collect::<Vec<i64>>());
    assert!(halted_now(&worker).is_empty());
    worker.stop().await?;
    Ok(())
}
