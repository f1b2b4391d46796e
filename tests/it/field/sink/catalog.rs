//! S3: a name is remembered where an identity was meant; the catalogue is asked too little.

use highwater::{Batch, Handler, HandlerError, Table, TableSink, Tx};

use super::{numbered, world};
use crate::support::TestResult;
use crate::support::watch::halted;

/// Writes each batch to the schema that its first record names.
struct ByTenant(TableSink);

impl Handler for ByTenant {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let is_even = batch.records().next().is_some_and(|record| record.offset() % 2 == 0);
        let schema = if is_even { "a" } else { "b" };
        tx.execute(&format!("SET LOCAL search_path TO {schema}"), &[]).await?;
        self.0.handle(batch, tx).await
    }
}

#[tokio::test]
async fn s3_1_a_name_means_what_it_means_in_this_transaction() -> TestResult {
    let sql =
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.pay (id bigint); CREATE TABLE b.pay (id bigint)";
    let world = world("tenants", sql, numbered(20, |n| format!(r#"{{"id":{n}}}"#))).await?;
    let name = &world.role.name;
    let grant = format!("GRANT USAGE ON SCHEMA a, b TO {name}; GRANT ALL ON a.pay, b.pay TO {name}");
    world.database.execute(&grant).await?;
    let one = world.settings().batch_max_records(1_usize).batch_target_records(1_usize);
    let worker = world.worker_with(one, ByTenant(TableSink::json(Table::append("pay", ["id"]))));
    world.caught_up().await?;
    for (schema, rest) in [("a", 0), ("b", 1)] {
        assert_eq!(world.database.count(&format!("{schema}.pay")).await?, 10);
        let wrong = format!("SELECT count(*) FROM {schema}.pay WHERE id % 2 <> {rest}");
        assert_eq!(world.number(&wrong).await?, 0, "{schema}");
    }
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn s3_3_what_cannot_work_is_refused_at_the_first_look() -> TestResult {
    for (hint, sql, words) in [
        (
            "rule",
            "CREATE TABLE audit (id bigint); CREATE TABLE ev (id bigint PRIMARY KEY); \
             CREATE RULE note AS ON INSERT TO ev DO ALSO INSERT INTO audit VALUES (NEW.id)",
            ["table ev", "rule note", "trigger"],
        ),
        (
            "class",
            "CREATE TABLE ev (id bigint); CREATE OPERATOR CLASS odd FOR TYPE bigint USING btree AS \
               OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint8cmp(int8, int8); \
             CREATE UNIQUE INDEX by_odd ON ev (id odd)",
            ["table ev", "by_odd", "operator class odd"],
        ),
        (
            "published",
            "CREATE TABLE ev (id bigint NOT NULL); CREATE UNIQUE INDEX ON ev (id); CREATE PUBLICATION p FOR TABLE ev",
            ["table ev", "replica identity", "primary"],
        ),
        (
            "filtered",
            "CREATE TABLE ev (id bigint PRIMARY KEY, v int); CREATE PUBLICATION p FOR TABLE ev WHERE (v > 0)",
            ["table ev", "publication p", "replica identity"],
        ),
        (
            "listed",
            "CREATE TABLE ev (id bigint PRIMARY KEY, v int); CREATE PUBLICATION p FOR TABLE ev (v)",
            ["table ev", "publication p", "replica identity"],
        ),
    ] {
        let world = world(hint, sql, numbered(3, |n| format!(r#"{{"id":{n}}}"#))).await?;
        let worker = world.worker(TableSink::json(Table::upsert("ev", ["id"])));
        let why = halted(&worker, 0).await?;
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        assert_eq!(world.database.count("ev").await?, 0);
        assert_eq!(world.next_offset(0).await?, Some(0));
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn s3_3_a_right_that_is_missing_is_named_with_its_column() -> TestResult {
    let sql = "CREATE TABLE ev (id bigint PRIMARY KEY, v int)";
    let world = world("rights", sql, numbered(3, |n| format!(r#"{{"id":{n},"v":1}}"#))).await?;
    let name = &world.role.name;
    world
        .database
        .execute(&format!("REVOKE ALL ON ev FROM {name}; GRANT INSERT, SELECT ON ev TO {name}"))
        .await?;
    let worker = world.worker(TableSink::json(Table::upsert("ev", ["id", "v"])));
    let why = halted(&worker, 0).await?;
    assert!(why.contains("UPDATE") && why.contains("column v") && why.contains("GRANT"), "{why}");
    worker.stop().await?;
    world.database.execute(&format!("GRANT UPDATE ON ev TO {name}")).await?;
    let worker = world.worker(TableSink::json(Table::upsert("ev", ["id", "v"])));
    world.caught_up().await?;
    assert_eq!(world.database.count("ev").await?, 3);
    worker.stop().await?;
    Ok(())
}

/// Rights that every batch needs, though no column that is given says so.
#[tokio::test]
async fn s3_3_a_right_to_what_is_not_seen_is_named() -> TestResult {
    for (hint, sql, rights, words, cure) in [
        (
            "spelling",
            "CREATE TABLE ev (id numeric PRIMARY KEY, v int)",
            "INSERT, SELECT, UPDATE (v) ON ev",
            ["UPDATE", "column id", "GRANT UPDATE ON ev"],
            "UPDATE ON ev",
        ),
        (
            "serial",
            "CREATE TABLE ev (id bigint PRIMARY KEY, v int, n bigserial)",
            "ALL ON ev",
            ["ev_n_seq", "column n", "GRANT USAGE ON SEQUENCE"],
            "USAGE ON SEQUENCE ev_n_seq",
        ),
    ] {
        let world = world(hint, sql, numbered(3, |n| format!(r#"{{"id":{n},"v":1}}"#))).await?;
        let name = &world.role.name;
        let sql = format!("REVOKE ALL ON ev FROM {name}; GRANT {rights} TO {name}");
        world.database.execute(&sql).await?;
        let worker = world.worker(TableSink::json(Table::upsert("ev", ["id", "v"])));
        let why = halted(&worker, 0).await?;
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        worker.stop().await?;
        world.database.execute(&format!("GRANT {cure} TO {name}")).await?;
        let worker = world.worker(TableSink::json(Table::upsert("ev", ["id", "v"])));
        world.caught_up().await?;
        assert_eq!(world.database.count("ev").await?, 3);
        world.assert_ledger_gapless().await?;
        worker.stop().await?;
    }
    Ok(())
}

/// Sessions keep their stages, whose columns have the type that the name meant before.
#[tokio::test]
async fn s3_4_a_type_that_is_swapped_under_its_name() -> TestResult {
    let sql = "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE m (id bigint PRIMARY KEY, mood mood)";
    let world = world("swapped", sql, numbered(20, |n| format!(r#"{{"id":{n},"mood":"sad"}}"#))).await?;
    let lanes = world.settings().lanes(2_usize);
    let worker = world.worker_with(lanes, TableSink::json(Table::upsert("m", ["id", "mood"])));
    world.caught_up().await?;
    for (round, swap) in [
        "ALTER TYPE mood RENAME TO old_mood; CREATE TYPE mood AS ENUM ('sad', 'glad', 'new0'); \
         ALTER TABLE m ALTER mood TYPE mood USING mood::text::mood; DROP TYPE old_mood CASCADE",
        "ALTER TYPE mood RENAME TO older_mood; CREATE TYPE mood AS ENUM ('new1', 'sad', 'new0'); \
         ALTER TABLE m ALTER mood TYPE mood USING mood::text::mood",
    ]
    .iter()
    .enumerate()
    {
        world.database.execute(swap).await?;
        for n in 0..40 {
            let value = format!(r#"{{"id":{},"mood":"new{round}"}}"#, n + 10);
            world.producer.send(world.message(0).key("k").value(value))?;
        }
        world.producer.flush().await?;
        world.caught_up().await?;
        let written = format!("SELECT count(*) FROM m WHERE mood::text = 'new{round}'");
        assert_eq!(world.number(&written).await?, 40);
    }
    worker.stop().await?;
    Ok(())
}
