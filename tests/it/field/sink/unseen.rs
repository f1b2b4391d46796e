//! S1, case by case: what stands elsewhere in the catalogue than the table itself, and what a way sees that another does
//! not.

use highwater::sink::Sql;
use highwater::testing::{Database, KeyValue, Outcome, Postgres, Rehearsal};
use highwater::{Keep, Table, TableSink};
use serde_json::value::RawValue;

use super::known::{Case, append, gone, noise, put, run, text, update, upsert};
use crate::support::TestResult;

fn update_three() -> Table {
    Table::update("t", ["id", "b", "v"])
}

const COVERED: &[u8] = &noise::<4_000>(r#"{"id":1,"v":""#, r#""}"#);

const NEXT_N: &str = "CREATE TABLE t (id int PRIMARY KEY, v int, n int); \
                      CREATE FUNCTION next_n() RETURNS int STABLE LANGUAGE sql AS 'SELECT coalesce(max(n), 0) + 1 FROM t'; \
                      ALTER TABLE t ALTER n SET DEFAULT next_n()";

const CASES: [Case; 11] = [
    Case {
        name: "a key whose type is not in the search path, and a deletion in another spelling",
        sql: "DROP SCHEMA IF EXISTS ext CASCADE; CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; \
              CREATE TABLE t (id ext.citext PRIMARY KEY, v int)",
        table: upsert,
        records: &[put(r#"{"id":"ABC","v":1}"#), gone("abc")],
        applied: 2,
    },
    Case {
        name: "a default that looks at the rows before it",
        sql: NEXT_N,
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":2}"#), put(r#"{"id":5,"v":3}"#)],
        applied: 3,
    },
    Case {
        name: "the same of a domain",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); \
              CREATE FUNCTION count_t() RETURNS bigint STABLE LANGUAGE plpgsql AS \
              'BEGIN RETURN (SELECT count(*) FROM t); END'; \
              CREATE DOMAIN place AS bigint DEFAULT count_t(); ALTER TABLE t ADD n place",
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":2}"#), put(r#"{"id":5,"v":3}"#)],
        applied: 3,
    },
    Case {
        name: "a default that looks at a row which is deleted after it",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, n bigint); INSERT INTO t VALUES (9, 1, 1); \
              CREATE FUNCTION count_t() RETURNS bigint LANGUAGE plpgsql AS \
              'BEGIN RETURN (SELECT count(*) FROM t); END'; ALTER TABLE t ALTER n SET DEFAULT count_t()",
        table: upsert,
        records: &[put(r#"{"id":5,"v":1}"#), gone("9")],
        applied: 2,
    },
    Case {
        name: "a number that is too large for its column, and a row that is not there",
        sql: "CREATE TABLE t (id int PRIMARY KEY, b numeric(3,1), v int CHECK (v > 0)); INSERT INTO t VALUES (1, 1, 1)",
        table: update_three,
        records: &[
            put(r#"{"id":1,"b":1,"v":1}"#),
            put(r#"{"id":1,"b":1,"v":2}"#),
            put(r#"{"id":1,"b":1,"v":3}"#),
            put(r#"{"id":1,"b":1,"v":4}"#),
            put(r#"{"id":1,"b":1,"v":5}"#),
            put(r#"{"id":1,"b":1,"v":6}"#),
            put(r#"{"id":1,"b":1,"v":7}"#),
            put(r#"{"id":9,"b":12345,"v":1}"#),
        ],
        applied: 7,
    },
    Case {
        name: "a text that its type does not read, and a row that is not there",
        sql: "CREATE TABLE t (id int PRIMARY KEY, b macaddr, v int); INSERT INTO t VALUES (1, NULL, 1)",
        table: update_three,
        records: &[
            put(r#"{"id":1,"b":"08:00:2b:01:02:03","v":1}"#),
            put(r#"{"id":1,"b":"08:00:2b:01:02:04","v":2}"#),
            put(r#"{"id":9,"b":"zz","v":1}"#),
        ],
        applied: 3,
    },
    Case {
        name: "a long value that is overwritten, and that an index only covers",
        sql: "CREATE TABLE t (id int, v text, PRIMARY KEY (id) INCLUDE (v))",
        table: upsert,
        records: &[put(text(COVERED)), put(r#"{"id":1,"v":"x"}"#)],
        applied: 0,
    },
    Case {
        name: "the same, deleted",
        sql: "CREATE TABLE t (id int, v text, PRIMARY KEY (id) INCLUDE (v))",
        table: upsert,
        records: &[put(text(COVERED)), gone("1")],
        applied: 0,
    },
    Case {
        name: "an array whose elements are not divided by commas",
        sql: "CREATE DOMAIN d AS box; CREATE TABLE t (id int PRIMARY KEY, v d[])",
        table: upsert,
        records: &[put(r#"{"id":1,"v":["(1,1),(0,0)","(2,2),(0,0)"]}"#), put(r#"{"id":2,"v":null}"#)],
        applied: 2,
    },
    Case {
        name: "a vector, which is no array to its input function",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int2vector)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":"1 2"}"#), put(r#"{"id":2,"v":[1,2]}"#)],
        applied: 1,
    },
    Case {
        name: "a name that is as long as names are not",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v name)",
        table: upsert,
        records: &[
            put(r#"{"id":1,"v":"x"}"#),
            put(r#"{"id":2,"v":"0123456789012345678901234567890123456789012345678901234567890123456789"}"#),
        ],
        applied: 1,
    },
];

#[tokio::test]
async fn s1_what_one_way_saw_and_the_other_did_not() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("unseen").await?;
    let mut wrong = Vec::new();
    for case in &CASES {
        let one_by_one = run(&database, case, &vec![1; case.records.len()]).await?;
        let whole = run(&database, case, &[]).await?;
        if one_by_one.0.applied != case.applied || whole != one_by_one {
            wrong.push(format!("{}: one by one {one_by_one:?}, in one batch {whole:?}", case.name));
        }
    }
    database.remove().await?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// As [`run`], of rows that no text says.
async fn by(
    database: &Database,
    sql: &str,
    sink: &TableSink,
    (records, cuts): (&[KeyValue<'_>], &[usize]),
) -> TestResult<(Outcome, Vec<String>)> {
    database.execute(&format!("DROP SCHEMA public CASCADE; CREATE SCHEMA public; {sql}")).await?;
    let outcome = Rehearsal::new(database).await?.apply(sink, records, cuts).await?;
    let rows = database.query("SELECT to_jsonb(t)::text FROM t ORDER BY 1", &[]).await?;
    Ok((outcome, rows.iter().map(|row| row.get(0)).collect()))
}

/// By each way that looks for a row.
#[tokio::test]
async fn s1_a_row_is_found_by_the_equality_of_its_index() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("equality").await?;
    database.execute("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext").await?;
    let sql = "CREATE TABLE t (id ext.citext PRIMARY KEY, v int); INSERT INTO t VALUES ('ABC', 1)";
    let keeping = || {
        TableSink::new(upsert(), |record, rows| match record.value() {
            Some(_) => rows.push(("abc", Keep)),
            None => rows.delete(("abc",)),
        })
    };
    for cuts in [&[][..], &[1]] {
        let records = [put(r#"{"id":"abc","v":2}"#)];
        let (outcome, rows) = by(&database, sql, &TableSink::json(update()), (&records, cuts)).await?;
        assert_eq!(outcome.halt, None);
        assert_eq!(rows, [r#"{"v": 2, "id": "abc"}"#], "an update");
        let (outcome, rows) = by(&database, sql, &keeping(), (&records, cuts)).await?;
        assert_eq!(outcome.halt, None);
        assert_eq!(rows, [r#"{"v": 1, "id": "abc"}"#], "what is kept");
        let (outcome, rows) = by(&database, sql, &TableSink::json(upsert()), (&[gone("abc")], cuts)).await?;
        assert_eq!(outcome.halt, None);
        assert_eq!(rows, [""; 0], "a deletion");
        let (outcome, rows) = by(&database, sql, &keeping(), (&[records[0], gone("abc")], cuts)).await?;
        assert_eq!(outcome.halt, None);
        assert_eq!(rows, [""; 0], "a deletion, row by row");
    }
    database.remove().await?;
    Ok(())
}

/// What a record has written itself is deleted after that, in whatever spelling.
#[tokio::test]
async fn s1_a_record_that_deletes_what_it_has_written_in_another_spelling() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("spelled").await?;
    let sql = "CREATE TABLE t (id numeric PRIMARY KEY, v int); INSERT INTO t VALUES (2, 5)";
    let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
    let sink = || {
        TableSink::new(upsert(), move |record, rows| match record.value() {
            Some(b"both") => {
                rows.push((raw("1"), 1_i32))?;
                rows.delete((raw("1.0"),))
            }
            _ => rows.push((raw("2"), Keep)),
        })
    };
    for cuts in [&[][..], &[1, 1]] {
        let (outcome, rows) = by(&database, sql, &sink(), (&[put("both"), put("kept")], cuts)).await?;
        assert_eq!(outcome.halt, None, "{cuts:?}");
        assert_eq!(rows, [r#"{"v": 5, "id": 2}"#], "{cuts:?}");
    }
    database.remove().await?;
    Ok(())
}

/// Equal versions give way to what comes later.
#[tokio::test]
async fn s1_a_version_is_compared_by_the_order_of_its_type() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("versions").await?;
    database.execute("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext").await?;
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v ext.citext COLLATE \"C\")";
    let records = [put(r#"{"id":1,"v":"b"}"#), put(r#"{"id":1,"v":"B"}"#), put(r#"{"id":1,"v":"A"}"#)];
    for cuts in [&[1, 1, 1][..], &[]] {
        let (outcome, rows) =
            by(&database, sql, &TableSink::json(upsert().version("v")), (&records, cuts)).await?;
        assert_eq!(outcome.halt, None);
        assert_eq!(rows, [r#"{"v": "B", "id": 1}"#], "{cuts:?}");
    }
    database.remove().await?;
    Ok(())
}

/// Two tables, of which one has a default that looks at the other.
#[tokio::test]
async fn s1_a_default_that_looks_at_another_table_of_the_sink() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("defaults").await?;
    let sql = "CREATE TABLE b (id int); CREATE TABLE t (id int, n bigint); \
               CREATE FUNCTION count_b() RETURNS bigint LANGUAGE plpgsql AS \
               'BEGIN RETURN (SELECT count(*) FROM b); END'; ALTER TABLE t ALTER n SET DEFAULT count_b()";
    let sink = || {
        TableSink::new([Table::append("t", ["id"]), Table::append("b", ["id"])], |record, rows| {
            let table = if record.value() == Some(b"b") { "b" } else { "t" };
            rows.of(table).push((1_i32,))
        })
    };
    for cuts in [&[1, 1][..], &[]] {
        let (outcome, rows) = by(&database, sql, &sink(), (&[put("b"), put("t")], cuts)).await?;
        assert_eq!(outcome.applied, 2, "{outcome:?}");
        assert_eq!(rows, [r#"{"n": 1, "id": 1}"#], "{cuts:?}");
    }
    database.remove().await?;
    Ok(())
}

/// What is looked at per statement stays so, though not all that waits can be named.
#[tokio::test]
async fn s1_a_constraint_that_may_wait_and_does_not() -> TestResult {
    let postgres = Postgres::shared().await?;
    for cuts in [&[1, 1][..], &[]] {
        let database = postgres.fresh_database("immediate").await?;
        let role = format!("{}_lowly", database.name());
        let sql = format!(
            "CREATE TABLE t (id int PRIMARY KEY, v int, UNIQUE (v) DEFERRABLE INITIALLY IMMEDIATE); \
             INSERT INTO t VALUES (1, 1), (2, 2); CREATE SCHEMA private; \
             CREATE TABLE private.kid (t int REFERENCES t DEFERRABLE INITIALLY DEFERRED); \
             CREATE ROLE \"{role}\"; GRANT ALL ON t TO \"{role}\"; ALTER DATABASE \"{}\" SET role = \"{role}\"",
            database.name()
        );
        database.execute(&sql).await?;
        let sink = TableSink::new(upsert(), |record, rows| {
            if record.value() == Some(b"three") {
                return rows.push((3_i32, 3_i32));
            }
            rows.push((1_i32, 2_i32))?;
            rows.push((2_i32, 1_i32))
        });
        let outcome =
            Rehearsal::new(&database).await?.apply(&sink, &[put("three"), put("swap")], cuts).await?;
        let gone = format!(
            "SET ROLE NONE; DROP OWNED BY \"{role}\"; ALTER DATABASE \"{}\" RESET role",
            database.name()
        );
        database.execute(&gone).await?;
        database.execute(&format!("SET ROLE NONE; DROP ROLE \"{role}\"")).await?;
        database.remove().await?;
        assert_eq!(outcome.applied, 1, "{cuts:?} {outcome:?}");
    }
    Ok(())
}

/// Many values, none of them long, and a number of thousands of digits.
#[tokio::test]
async fn s1_what_an_index_has_no_room_for_is_refused_though_it_is_overwritten() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("narrow").await?;
    let names: Vec<String> = (0..12).map(|at| format!("c{at}")).collect();
    let sql = format!(
        "CREATE TABLE t (id int PRIMARY KEY, {0} text); CREATE INDEX ON t ({1})",
        names.join(" text, "),
        names.join(", ")
    );
    let letters = noise::<3_000>("", "");
    let wide: Vec<String> = names
        .iter()
        .zip(letters.chunks(250))
        .map(|(name, value)| format!("\"{name}\":\"{}\"", String::from_utf8_lossy(value)))
        .collect();
    let wide = format!("{{\"id\":1,{}}}", wide.join(","));
    let short: Vec<String> = names.iter().map(|name| format!("\"{name}\":\"x\"")).collect();
    let short = format!("{{\"id\":1,{}}}", short.join(","));
    let columns: Vec<String> = std::iter::once("id".to_owned()).chain(names).collect();
    let digits: String =
        noise::<12_000>("", "").iter().map(|byte| char::from(b'1' + (byte - b'a') % 9)).collect();
    let number = format!("{{\"id\":{digits},\"v\":1}}");
    for cuts in [&[1, 1][..], &[]] {
        let sink = TableSink::json(Table::upsert("t", columns.clone()));
        let records = [(None, Some(wide.as_str())), (None, Some(short.as_str()))];
        let (outcome, _) = by(&database, &sql, &sink, (&records, cuts)).await?;
        assert_eq!(outcome.applied, 0, "{cuts:?} {outcome:?}");
        let sql = "CREATE TABLE t (id numeric PRIMARY KEY, v int)";
        let records = [(None, Some(number.as_str())), (Some(digits.as_str()), None)];
        let (outcome, _) = by(&database, sql, &TableSink::json(upsert()), (&records, cuts)).await?;
        assert_eq!(outcome.applied, 0, "{cuts:?} {outcome:?}");
    }
    database.remove().await?;
    Ok(())
}

/// What the driver encodes is not looked at by it.
#[tokio::test]
async fn s1_what_the_driver_takes_and_the_server_refuses() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("driver").await?;
    let sink = || {
        TableSink::new(upsert(), |record, rows| match record.value() {
            Some(b"bad") => rows.push((1_i32, Sql("a\0b"))),
            _ => rows.push((1_i32, Sql("ok"))),
        })
    };
    for cuts in [&[1, 1][..], &[]] {
        let sql = "CREATE TABLE t (id int PRIMARY KEY, v text)";
        let (outcome, _) = by(&database, sql, &sink(), (&[put("bad"), put("good")], cuts)).await?;
        assert_eq!(outcome.applied, 0, "{cuts:?} {outcome:?}");
    }
    database.remove().await?;
    Ok(())
}
