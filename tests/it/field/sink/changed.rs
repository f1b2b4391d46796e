//! S3: what changes under a sink that has read the catalogue is noticed, and the batch written as a new sink would.

use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{Table, TableSink};

use crate::support::TestResult;

struct Case {
    name: &'static str,
    sql: &'static str,
    table: fn() -> Table,
    before: &'static str,
    change: &'static str,
    records: &'static [&'static str],
}

fn append() -> Table {
    Table::append("t", ["id", "v"])
}

fn upsert() -> Table {
    Table::upsert("t", ["id", "v"]).key(["id"])
}

const COUNT: &str = "CREATE TABLE audit (n bigint); \
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN INSERT INTO audit SELECT count(*) FROM t; RETURN NEW; END';";
const PARTED: &str = "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
    CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (100);";
const ONE: &str = r#"{"id":50,"v":1}"#;
const THREE: [&str; 3] = [r#"{"id":9,"v":1}"#, r#"{"id":1,"v":2}"#, r#"{"id":5,"v":3}"#];

const CASES: [Case; 10] = [
    Case {
        name: "a trigger that is replaced by one of another time",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); \
              CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
        table: append,
        before: ONE,
        change: "CREATE OR REPLACE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
        records: &THREE,
    },
    Case {
        name: "a default that becomes a sequence's",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, n bigint DEFAULT 7); CREATE SEQUENCE s",
        table: append,
        before: ONE,
        change: "ALTER TABLE t ALTER n SET DEFAULT nextval('s')",
        records: &THREE,
    },
    Case {
        name: "a trigger of a partition alone",
        sql: "PARTED",
        table: append,
        before: ONE,
        change: "CREATE TRIGGER note AFTER INSERT ON t0 FOR EACH ROW EXECUTE FUNCTION note()",
        records: &THREE,
    },
    Case {
        name: "a check of a partition alone",
        sql: "PARTED",
        table: upsert,
        before: ONE,
        change: "ALTER TABLE t0 ADD CHECK (v <> 13)",
        records: &[r#"{"id":2,"v":1}"#, r#"{"id":1,"v":13}"#, r#"{"id":1,"v":1}"#],
    },
    Case {
        name: "a unique index of a partition alone",
        sql: "PARTED",
        table: upsert,
        before: r#"{"id":1,"v":1}"#,
        change: "CREATE UNIQUE INDEX ON t0 (v)",
        records: &[r#"{"id":2,"v":1}"#, r#"{"id":1,"v":3}"#],
    },
    Case {
        name: "a partition that is attached, and has a trigger",
        sql: "PARTED",
        table: append,
        before: ONE,
        change: "CREATE TABLE t1 (id int NOT NULL, v int); \
                 CREATE TRIGGER note AFTER INSERT ON t1 FOR EACH ROW EXECUTE FUNCTION note(); \
                 ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (100) TO (200)",
        records: &[r#"{"id":109,"v":1}"#, r#"{"id":101,"v":2}"#, r#"{"id":105,"v":3}"#],
    },
    Case {
        name: "a foreign partition that is attached",
        sql: "CREATE TABLE t (id int, v int) PARTITION BY RANGE (id); \
              CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        table: append,
        before: ONE,
        change: "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; \
                 CREATE FOREIGN TABLE t1 PARTITION OF t FOR VALUES FROM (100) TO (200) SERVER far",
        records: &THREE,
    },
    Case {
        name: "a replica identity that goes",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE PUBLICATION p FOR TABLE t",
        table: upsert,
        before: ONE,
        change: "ALTER TABLE t REPLICA IDENTITY NOTHING",
        records: &[r#"{"id":2,"v":1}"#, ONE],
    },
    Case {
        name: "a schema that is published, with a partition without an identity",
        sql: "PARTED ALTER TABLE t0 REPLICA IDENTITY NOTHING; CREATE PUBLICATION p",
        table: upsert,
        before: r#"{"id":2,"v":1}"#,
        change: "ALTER PUBLICATION p ADD TABLES IN SCHEMA public",
        records: &[r#"{"id":3,"v":1}"#, r#"{"id":2,"v":2}"#],
    },
    Case {
        name: "a table above that is published, and a partition without an identity",
        sql: "CREATE TABLE above (id int, v int) PARTITION BY RANGE (id); \
              CREATE TABLE t PARTITION OF above FOR VALUES FROM (0) TO (100); CREATE UNIQUE INDEX ON t (id); \
              CREATE PUBLICATION p",
        table: upsert,
        before: r#"{"id":2,"v":1}"#,
        change: "ALTER PUBLICATION p ADD TABLE above",
        records: &[r#"{"id":3,"v":1}"#, r#"{"id":2,"v":2}"#],
    },
];

/// A sink that has written before the change, or (`new`) one that is made after it.
async fn run(database: &Database, case: &Case, new: bool) -> TestResult<(Outcome, Vec<String>)> {
    let sql = case.sql.replace("PARTED", PARTED);
    let clean = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION IF EXISTS p; \
                 DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE;";
    database.execute(&format!("{clean} {COUNT} {sql}")).await?;
    let rehearsal = Rehearsal::new(database).await?;
    let sink = || TableSink::json((case.table)());
    let warm = sink();
    let written = rehearsal.apply(&warm, &[(None, Some(case.before))], &[]).await?;
    assert_eq!(written.halt, None, "{}", case.name);
    database.execute(case.change).await?;
    let records: Vec<_> = case.records.iter().map(|record| (None, Some(*record))).collect();
    let outcome = if new {
        rehearsal.apply(&sink(), &records, &vec![1; records.len()]).await?
    } else {
        rehearsal.apply(&warm, &records, &[]).await?
    };
    let rows = "SELECT to_jsonb(t)::text FROM t UNION ALL SELECT to_jsonb(audit)::text FROM audit ORDER BY 1";
    // A foreign table of no server cannot be read.
    let rows =
        if case.name.starts_with("a foreign") { "SELECT to_jsonb(t)::text FROM t0 AS t" } else { rows };
    Ok((outcome, database.query(rows, &[]).await?.iter().map(|row| row.get(0)).collect()))
}

#[tokio::test]
async fn s3_what_changes_under_a_sink_is_noticed() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("changed").await?;
    let version = database.query("SELECT current_setting('server_version_num')::int4", &[]).await?;
    let publishes_schemas = version[0].get::<_, i32>(0) >= 150_000;
    let mut wrong = Vec::new();
    for case in CASES.iter().filter(|case| publishes_schemas || !case.change.contains("IN SCHEMA")) {
        let (new, warm) = (run(&database, case, true).await?, run(&database, case, false).await?);
        let identity = case.name.contains("identity");
        let refused = new.0.halt.as_ref().is_some_and(|why| why.contains("which has no replica identity"));
        assert_eq!(identity, refused, "{}: {new:?}", case.name);
        if new != warm {
            wrong.push(format!("{}: {warm:?} instead of {new:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    database.remove().await?;
    Ok(())
}
