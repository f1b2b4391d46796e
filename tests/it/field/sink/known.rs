//! S1, case by case: each of these once came out otherwise in one batch than record by record.

use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{Table, TableSink};

use crate::support::TestResult;

struct Case {
    name: &'static str,
    sql: &'static str,
    table: fn() -> Table,
    records: &'static [(Option<&'static str>, Option<&'static str>)],
    /// How many records are applied.
    applied: usize,
}

fn upsert() -> Table {
    Table::upsert("t", ["id", "v"]).key(["id"])
}

fn append() -> Table {
    Table::append("t", ["id", "v"])
}

/// With another column, which may be part of the key.
fn upsert_three() -> Table {
    Table::upsert("t", ["id", "b", "v"])
}

const fn put(value: &'static str) -> (Option<&'static str>, Option<&'static str>) {
    (None, Some(value))
}

const fn gone(key: &'static str) -> (Option<&'static str>, Option<&'static str>) {
    (Some(key), None)
}

const CASES: [Case; 23] = [
    Case {
        name: "a check on a value that is overwritten",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v <> 13))",
        table: upsert,
        records: &[put(r#"{"id":1,"v":1}"#), put(r#"{"id":1,"v":13}"#), put(r#"{"id":1,"v":2}"#)],
        applied: 1,
    },
    Case {
        name: "a foreign key of a value that is overwritten",
        sql: "CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r VALUES (1); \
              CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES r)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":7}"#), put(r#"{"id":1,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a generated column of a value that is overwritten",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (1 / v) STORED)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":0}"#), put(r#"{"id":1,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a value that the server reads and that is overwritten",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int4range)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":"[5,1]"}"#), put(r#"{"id":1,"v":"[1,5]"}"#)],
        applied: 0,
    },
    Case {
        name: "two rows that change places in a second unique key",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE); INSERT INTO t VALUES (1, 1), (2, 2)",
        table: upsert,
        records: &[put(r#"{"id":2,"v":1}"#), put(r#"{"id":1,"v":3}"#)],
        applied: 0,
    },
    Case {
        name: "a deletion that takes others with it, before the row is there again",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); \
              CREATE TABLE kid (t int REFERENCES t ON DELETE CASCADE); INSERT INTO kid VALUES (1)",
        table: upsert,
        records: &[gone("1"), put(r#"{"id":1,"v":2}"#)],
        applied: 2,
    },
    Case {
        name: "a deletion that is refused, before the row is there again",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); \
              CREATE TABLE kid (t int REFERENCES t); INSERT INTO kid VALUES (1)",
        table: upsert,
        records: &[put(r#"{"id":2,"v":2}"#), gone("1"), put(r#"{"id":1,"v":2}"#)],
        applied: 1,
    },
    Case {
        name: "a row that was deleted and is there again begins anew",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, other text DEFAULT 'new'); INSERT INTO t VALUES (1, 1, 'old')",
        table: upsert,
        records: &[gone("1"), put(r#"{"id":1,"v":2}"#), put(r#"{"id":2,"v":2}"#), put(r#"{"id":1,"v":3}"#)],
        applied: 4,
    },
    Case {
        name: "a key whose spelling changes",
        sql: "CREATE TABLE t (id numeric PRIMARY KEY, v int)",
        table: upsert,
        records: &[put(r#"{"id":1.0,"v":1}"#), put(r#"{"id":1.00,"v":2}"#), put(r#"{"id":10,"v":2}"#)],
        applied: 3,
    },
    Case {
        name: "a key whose spelling changes and changes back, and to which another table refers",
        sql: "CREATE TABLE t (id numeric PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); \
              CREATE TABLE kid (t numeric REFERENCES t ON UPDATE RESTRICT); INSERT INTO kid VALUES (1)",
        table: upsert,
        records: &[put(r#"{"id":1.0,"v":1}"#), put(r#"{"id":1,"v":2}"#)],
        applied: 0,
    },
    Case {
        name: "the same, where what refers to it lets go",
        sql: "CREATE TABLE t (id numeric PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); \
              CREATE TABLE kid (t numeric REFERENCES t ON UPDATE SET NULL); INSERT INTO kid VALUES (1)",
        table: upsert,
        records: &[put(r#"{"id":1.0,"v":1}"#), put(r#"{"id":1,"v":2}"#)],
        applied: 2,
    },
    Case {
        name: "a trigger that numbers what it sees",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, seen bigint); \
              CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
              'BEGIN NEW.seen := (SELECT count(*) FROM t); RETURN NEW; END'; \
              CREATE TRIGGER see BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION see()",
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":2}"#), put(r#"{"id":5,"v":3}"#)],
        applied: 3,
    },
    Case {
        name: "a child before its parent in one table",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES t)",
        table: append,
        records: &[put(r#"{"id":2,"v":1}"#), put(r#"{"id":1,"v":null}"#)],
        applied: 0,
    },
    Case {
        name: "a value that another table refers to, taken away and given again",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE); INSERT INTO t VALUES (1, 1), (2, 3); \
              CREATE TABLE kid (v int REFERENCES t (v)); INSERT INTO kid VALUES (1)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":2}"#), put(r#"{"id":2,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a check on the spelling of a key",
        sql: "CREATE TABLE t (id numeric PRIMARY KEY CHECK (scale(id) < 3), v int)",
        table: upsert,
        records: &[put(r#"{"id":1.000,"v":1}"#), put(r#"{"id":1.0,"v":2}"#)],
        applied: 0,
    },
    Case {
        name: "a domain that refuses NULL, and a deletion",
        sql: "CREATE DOMAIN filled AS int NOT NULL; CREATE TABLE t (id int PRIMARY KEY, v filled)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":1}"#), put(r#"{"id":2,"v":1}"#), gone("1")],
        applied: 3,
    },
    Case {
        name: "a time that no timestamp holds, and that is overwritten",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v timestamptz)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":-1000000000000000}"#), put(r#"{"id":1,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a long value of an index that is overwritten, and a table that is a partition itself",
        sql: "CREATE TABLE above (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
              CREATE TABLE t PARTITION OF above FOR VALUES FROM (0) TO (100); CREATE INDEX ON above (v)",
        table: upsert,
        records: &[
            put(r#"{"id":1,"v":"created"}"#),
            put(r#"{"id":1,"v":"paid"}"#),
            put(r#"{"id":100,"v":"x"}"#),
        ],
        applied: 2,
    },
    Case {
        name: "a trigger of the table above",
        sql: "CREATE TABLE above (id int PRIMARY KEY, v int, seen bigint) PARTITION BY RANGE (id); \
              CREATE TABLE t PARTITION OF above FOR VALUES FROM (0) TO (100); \
              CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
              'BEGIN NEW.seen := (SELECT count(*) FROM t); RETURN NEW; END'; \
              CREATE TRIGGER see BEFORE INSERT ON above FOR EACH ROW EXECUTE FUNCTION see()",
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":2}"#), put(r#"{"id":5,"v":3}"#)],
        applied: 3,
    },
    Case {
        name: "a second unique key",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE)",
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":1}"#)],
        applied: 1,
    },
    Case {
        name: "a tombstone whose key is one value, where the table's key is two",
        sql: "CREATE TABLE t (id int, b text, v int, PRIMARY KEY (id, b))",
        table: upsert_three,
        records: &[
            put(r#"{"id":1,"b":"x","v":1}"#),
            put(r#"{"id":2,"b":"x","v":1}"#),
            gone("k1"),
            put(r#"{"id":3,"b":"x","v":1}"#),
        ],
        applied: 2,
    },
    Case {
        name: "the same, where it is a JSON string",
        sql: "CREATE TABLE t (id int, b text, v int, PRIMARY KEY (id, b))",
        table: upsert_three,
        records: &[put(r#"{"id":1,"b":"x","v":1}"#), gone(r#""k1""#)],
        applied: 1,
    },
    Case {
        name: "a tombstone whose key is text, where the table's is an array",
        sql: "CREATE TABLE t (id int[] PRIMARY KEY, v int)",
        table: upsert,
        records: &[put(r#"{"id":[1],"v":1}"#), gone("k1"), put(r#"{"id":[2],"v":1}"#)],
        applied: 1,
    },
];

async fn run(database: &Database, case: &Case, cuts: &[usize]) -> TestResult<(Outcome, Vec<String>)> {
    database.execute(&format!("DROP SCHEMA public CASCADE; CREATE SCHEMA public; {}", case.sql)).await?;
    let sink = TableSink::json((case.table)());
    let outcome = Rehearsal::new(database).await?.apply(&sink, case.records, cuts).await?;
    let kids = database.query("SELECT to_regclass('kid') IS NOT NULL", &[]).await?;
    let kids = if kids[0].get(0) { "UNION ALL SELECT 'kid ' || to_jsonb(kid)::text FROM kid" } else { "" };
    let rows = database.query(&format!("SELECT to_jsonb(t)::text FROM t {kids} ORDER BY 1"), &[]).await?;
    let rows = rows.iter().map(|row| row.get(0)).collect();
    Ok((outcome, rows))
}

#[tokio::test]
async fn s1_what_once_came_out_otherwise_in_one_batch() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("known").await?;
    for case in &CASES {
        let one_by_one = run(&database, case, &vec![1; case.records.len()]).await?;
        assert_eq!(one_by_one.0.applied, case.applied, "{}: {one_by_one:?}", case.name);
        assert_eq!(run(&database, case, &[]).await?, one_by_one, "{}", case.name);
    }
    database.remove().await?;
    Ok(())
}
