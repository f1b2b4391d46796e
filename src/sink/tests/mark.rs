//! Which changes make a table another, and which do not.

use super::super::catalog;
use super::*;

const TABLES: &str = "CREATE DOMAIN num AS int DEFAULT 1; \
    CREATE TABLE t (id int, v int, n int DEFAULT 7, d num) PARTITION BY RANGE (id); \
    CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id); \
    CREATE TABLE t00 PARTITION OF t0 FOR VALUES FROM (0) TO (50); CREATE UNIQUE INDEX ON t (id); \
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE PUBLICATION p; \
    CREATE TABLE above (id int, v int, n int DEFAULT 7, d num) PARTITION BY RANGE (id); CREATE ROLE mark_reader";

/// After each, the next batch finds another table.
const CHANGES: [&str; 23] = [
    "CREATE TRIGGER g BEFORE INSERT ON t00 FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE OR REPLACE TRIGGER g AFTER INSERT ON t00 FOR EACH ROW EXECUTE FUNCTION f()",
    "ALTER TABLE t00 DISABLE TRIGGER g",
    "DROP TRIGGER g ON t00",
    "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE OR REPLACE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "ALTER TABLE t ALTER n SET DEFAULT 8",
    "ALTER TABLE t ALTER n DROP DEFAULT",
    "ALTER DOMAIN num SET DEFAULT 2",
    "ALTER DOMAIN num ADD CHECK (VALUE <> 13)",
    "ALTER TABLE t00 ALTER v SET NOT NULL",
    "ALTER TABLE t00 ADD CHECK (v <> 13)",
    "CREATE UNIQUE INDEX ON t00 (v)",
    "CREATE TABLE t01 PARTITION OF t0 FOR VALUES FROM (50) TO (100)",
    "ALTER TABLE t00 REPLICA IDENTITY FULL",
    "ALTER PUBLICATION p ADD TABLE t00",
    "ALTER PUBLICATION p ADD TABLE t",
    "ALTER PUBLICATION p SET (publish = 'insert')",
    "CREATE TABLE kid (t int REFERENCES t (id))",
    "ALTER TABLE t0 DETACH PARTITION t01",
    "ALTER TABLE above ATTACH PARTITION t FOR VALUES FROM (0) TO (1000)",
    "ALTER PUBLICATION p ADD TABLE above",
    "ALTER TABLE above DETACH PARTITION t; ALTER TABLE above ATTACH PARTITION t FOR VALUES FROM (0) TO (2000)",
];

const NONE: [&str; 9] = [
    "INSERT INTO t VALUES (1, 1)",
    "ANALYZE t",
    "VACUUM FREEZE t00",
    "VACUUM FREEZE pg_catalog.pg_trigger, pg_catalog.pg_index, pg_catalog.pg_constraint",
    "TRUNCATE t CASCADE",
    "GRANT SELECT ON t, t00 TO mark_reader",
    "COMMENT ON TABLE t IS 'a table'",
    "ALTER TABLE t00 SET (fillfactor = 90)",
    "CREATE TABLE other (id int PRIMARY KEY)",
];

async fn agrees(place: &Place, sink: &TableSink) -> bool {
    let plan = sink.known().expect("it has read the catalogue");
    let table = &plan.tables[0];
    let parameters = table.kin.parameters(&table.name);
    let rows = place.connection().await.query(table.kin.question(), &parameters.as_sql()).await;
    table.agrees(&catalog::now(&rows.expect("the question is right")))
}

/// A sink that has read the catalogue.
async fn reader(place: &Place) -> TableSink {
    let sink = constant(Table::append("t", ["id", "v"]), Vec::<(i32, i32)>::new());
    place.apply(&sink, &one_record()).await.expect("nothing is written");
    assert!(agrees(place, &sink).await);
    sink
}

#[tokio::test]
async fn every_change_that_matters_makes_it_another_table() {
    let place = Place::new(TABLES).await;
    for change in CHANGES {
        let sink = reader(&place).await;
        place.database.execute(change).await.expect("the change is made");
        assert!(!agrees(&place, &sink).await, "{change}");
    }
    let sink = reader(&place).await;
    for change in NONE {
        place.database.execute(change).await.expect("it is done");
        assert!(agrees(&place, &sink).await, "{change}");
    }
    let version = place.texts("SELECT current_setting('server_version_num')").await;
    if version[0].as_deref() >= Some("150000") {
        place.database.execute("ALTER PUBLICATION p ADD TABLES IN SCHEMA public").await.expect("the change");
        assert!(!agrees(&place, &sink).await);
    }
    place.database.execute("DROP OWNED BY mark_reader; DROP ROLE mark_reader").await.expect("the role goes");
}
