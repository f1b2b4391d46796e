//! S1, case by case, for several tables of one sink, and for tables that are partitions or children: each of these once
//! came out otherwise in one batch than record by record.

use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{Table, TableSink};

use crate::support::TestResult;

struct Case {
    name: &'static str,
    sql: &'static str,
    tables: fn() -> Vec<Table>,
    /// Rows of each record: a table's name, as it was given, and numbers.
    records: &'static [&'static str],
    /// How many records are applied.
    applied: usize,
    /// What is left behind, as one text.
    left: &'static str,
}

const NUMBERED: &str = "SELECT jsonb_agg(x ORDER BY x)::text FROM \
    (SELECT 'a' || id || ' ' || n AS x FROM a UNION ALL SELECT 'b' || id || ' ' || n FROM b) AS x";
const WHOLE: &str = "SELECT jsonb_agg(t ORDER BY t.id)::text FROM t";

fn two() -> Vec<Table> {
    vec![Table::append("a", ["id"]), Table::append("b", ["id"])]
}

fn family(parent: Table, child: &str) -> Vec<Table> {
    vec![parent, Table::append(child, ["id", "v"])]
}

const CASES: [Case; 15] = [
    Case {
        name: "one sequence for two tables",
        sql: "CREATE SEQUENCE s; CREATE TABLE a (id int PRIMARY KEY, n bigint DEFAULT nextval('s')); \
              CREATE TABLE b (id int PRIMARY KEY, n bigint DEFAULT nextval('s'))",
        tables: two,
        records: &["b 1", "a 1", "b 2"],
        applied: 3,
        left: NUMBERED,
    },
    Case {
        name: "one sequence for two tables, by its name alone",
        sql: "CREATE SEQUENCE s; CREATE TABLE a (id int PRIMARY KEY, n bigint DEFAULT nextval('s'::text)); \
              CREATE TABLE b (id int PRIMARY KEY, n bigint DEFAULT nextval('s'))",
        tables: two,
        records: &["b 1", "a 1", "b 2"],
        applied: 3,
        left: NUMBERED,
    },
    Case {
        name: "one sequence behind a function",
        sql: "CREATE SEQUENCE s; CREATE FUNCTION num() RETURNS bigint LANGUAGE sql AS 'SELECT nextval(''s'')'; \
              CREATE TABLE a (id int PRIMARY KEY, n bigint DEFAULT num()); \
              CREATE TABLE b (id int PRIMARY KEY, n bigint DEFAULT nextval('s'))",
        tables: two,
        records: &["b 1", "a 1", "b 2"],
        applied: 3,
        left: NUMBERED,
    },
    Case {
        name: "one sequence, of a domain",
        sql: "CREATE SEQUENCE s; CREATE DOMAIN num AS bigint DEFAULT nextval('s'); \
              CREATE TABLE a (id int PRIMARY KEY, n num); CREATE TABLE b (id int PRIMARY KEY, n num)",
        tables: two,
        records: &["b 1", "a 1", "b 2"],
        applied: 3,
        left: NUMBERED,
    },
    Case {
        name: "one identity, of the table above",
        sql: "CREATE TABLE above (id int PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY) PARTITION BY RANGE (id); \
              CREATE TABLE a PARTITION OF above FOR VALUES FROM (0) TO (10); \
              CREATE TABLE b PARTITION OF above FOR VALUES FROM (10) TO (20); \
              DO $$ BEGIN IF current_setting('server_version_num')::int < 170000 THEN \
                  ALTER TABLE a ALTER n ADD GENERATED ALWAYS AS IDENTITY; \
                  ALTER TABLE b ALTER n ADD GENERATED ALWAYS AS IDENTITY; END IF; END $$",
        tables: two,
        records: &["b 11", "a 1", "b 12"],
        applied: 3,
        left: NUMBERED,
    },
    Case {
        name: "one table under two names",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, w int)",
        tables: || vec![Table::upsert("t", ["id", "v"]), Table::update("public.t", ["id", "w"])],
        records: &["public.t 1 7", "t 1 3", "public.t 2 8"],
        applied: 3,
        left: WHOLE,
    },
    Case {
        name: "a table and its partition",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, w int) PARTITION BY RANGE (id); \
              CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (10)",
        tables: || vec![Table::upsert("t", ["id", "v"]), Table::update("p", ["id", "w"])],
        records: &["p 1 7", "t 1 3", "p 2 8"],
        applied: 3,
        left: WHOLE,
    },
    Case {
        name: "a table and one that inherits from it",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, w int); CREATE TABLE c (PRIMARY KEY (id)) INHERITS (t)",
        tables: || vec![Table::upsert("c", ["id", "v"]), Table::update("t", ["id", "w"])],
        records: &["t 1 7", "c 1 3", "t 2 8"],
        applied: 3,
        left: WHOLE,
    },
    Case {
        name: "a child before its parent, which is a partition of what it refers to",
        sql: "CREATE TABLE above (id int PRIMARY KEY) PARTITION BY RANGE (id); \
              CREATE TABLE p PARTITION OF above FOR VALUES FROM (0) TO (10); \
              CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES above)",
        tables: || family(Table::append("p", ["id"]), "t"),
        records: &["t 1 7", "p 7"],
        applied: 0,
        left: WHOLE,
    },
    Case {
        name: "a child before its parent, which comes by way of the table above",
        sql: "CREATE TABLE above (id int PRIMARY KEY) PARTITION BY RANGE (id); \
              CREATE TABLE p PARTITION OF above FOR VALUES FROM (0) TO (10); \
              CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES p)",
        tables: || family(Table::append("above", ["id"]), "t"),
        records: &["above 3;t 2 3", "t 1 7", "above 7"],
        applied: 1,
        left: WHOLE,
    },
    Case {
        name: "a child that is a partition, before its parent",
        sql: "CREATE TABLE r (id int PRIMARY KEY); \
              CREATE TABLE above (id int PRIMARY KEY, v int REFERENCES r) PARTITION BY RANGE (id); \
              CREATE TABLE t PARTITION OF above FOR VALUES FROM (0) TO (10)",
        tables: || family(Table::append("r", ["id"]), "t"),
        records: &["t 1 7", "r 7"],
        applied: 0,
        left: WHOLE,
    },
    Case {
        name: "a partition that refers to the table above it",
        sql: "CREATE TABLE above (id int PRIMARY KEY, v int REFERENCES above) PARTITION BY RANGE (id); \
              CREATE TABLE t PARTITION OF above FOR VALUES FROM (0) TO (10)",
        tables: || vec![Table::append("t", ["id", "v"])],
        records: &["t 2 1", "t 1"],
        applied: 0,
        left: WHOLE,
    },
    Case {
        name: "a parent that is left out for another unique key",
        sql: "CREATE TABLE r (id int PRIMARY KEY, email int UNIQUE); INSERT INTO r VALUES (9, 1); \
              CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES r)",
        tables: || family(Table::insert_ignore("r", ["id", "email"]), "t"),
        records: &["r 5 1;t 1 5", "r 5 2"],
        applied: 0,
        left: WHOLE,
    },
    Case {
        name: "the same, where it was there before",
        sql: "CREATE TABLE r (id int PRIMARY KEY, email int UNIQUE); \
              CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES r)",
        tables: || family(Table::insert_ignore("r", ["id", "email"]), "t"),
        records: &["r 5 1;t 1 5", "t 2 5", "r 5 2", "r 6 2;t 3 6"],
        applied: 4,
        left: WHOLE,
    },
    Case {
        name: "each table has numbers of its own",
        sql: "CREATE TABLE a (id int PRIMARY KEY, n bigserial); CREATE TABLE b (id int PRIMARY KEY, n bigserial)",
        tables: two,
        records: &["b 3", "a 2", "b 1", "a 1"],
        applied: 4,
        left: NUMBERED,
    },
];

fn sink(tables: Vec<Table>) -> TableSink {
    TableSink::new(tables, |record, rows| {
        let text = std::str::from_utf8(record.value().unwrap_or_default()).unwrap_or_default();
        for row in text.split(';') {
            let mut fields = row.split(' ');
            let table = fields.next().unwrap_or_default();
            let numbers: Vec<Option<i32>> = fields.map(|field| field.parse().ok()).collect();
            // A number that is not said is NULL.
            match (table, numbers.as_slice()) {
                ("a" | "b" | "p" | "above" | "r", [id]) => rows.of(table).push((*id,))?,
                (_, [id]) => rows.of(table).push((*id, None::<i32>))?,
                _ => rows.of(table).push(numbers)?,
            }
        }
        Ok(())
    })
}

async fn run(database: &Database, case: &Case, cuts: &[usize]) -> TestResult<(Outcome, Option<String>)> {
    database.execute(&format!("DROP SCHEMA public CASCADE; CREATE SCHEMA public; {}", case.sql)).await?;
    let records: Vec<_> = case.records.iter().map(|record| (None, Some(*record))).collect();
    let outcome = Rehearsal::new(database).await?.apply(&sink((case.tables)()), &records, cuts).await?;
    Ok((outcome, database.query(case.left, &[]).await?[0].get(0)))
}

#[tokio::test]
async fn s1_what_once_came_out_otherwise_among_relatives() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("relatives").await?;
    let mut wrong = Vec::new();
    for case in &CASES {
        let one_by_one = run(&database, case, &vec![1; case.records.len()]).await?;
        assert_eq!(one_by_one.0.applied, case.applied, "{}: {one_by_one:?}", case.name);
        let whole = run(&database, case, &[]).await?;
        if whole != one_by_one {
            wrong.push(format!("{}: {whole:?} instead of {one_by_one:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    database.remove().await?;
    Ok(())
}
