//! S1, case by case: each of these once came out otherwise in one batch than record by record.

use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{Table, TableSink};

use crate::support::TestResult;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    pub(super) table: fn() -> Table,
    pub(super) records: &'static [(Option<&'static str>, Option<&'static str>)],
    /// How many records are applied.
    pub(super) applied: usize,
}

pub(super) fn upsert() -> Table {
    Table::upsert("t", ["id", "v"]).key(["id"])
}

pub(super) fn append() -> Table {
    Table::append("t", ["id", "v"])
}

pub(super) fn update() -> Table {
    Table::update("t", ["id", "v"])
}

/// With another column, which may be part of the key.
pub(super) fn upsert_three() -> Table {
    Table::upsert("t", ["id", "b", "v"])
}

/// Letters that do not repeat, between other text: no index takes as many.
pub(super) const fn noise<const N: usize>(before: &str, after: &str) -> [u8; N] {
    let mut text = [0; N];
    let mut number = 1_u32;
    let mut at = 0;
    while at < N {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text[at] = if at < before.len() {
            before.as_bytes()[at]
        } else if at + after.len() >= N {
            after.as_bytes()[at + after.len() - N]
        } else {
            b'a' + ((number >> 16) % 26) as u8
        };
        at += 1;
    }
    text
}

const LONG: &[u8] = &noise::<4_000>(r#"{"id":""#, r#"","v":1}"#);

pub(super) const fn text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

pub(super) const fn put(value: &'static str) -> (Option<&'static str>, Option<&'static str>) {
    (None, Some(value))
}

pub(super) const fn gone(key: &'static str) -> (Option<&'static str>, Option<&'static str>) {
    (Some(key), None)
}

const CASES: [Case; 43] = [
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
    Case {
        name: "a key that refers to nothing, and its deletion",
        sql: "CREATE TABLE r (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY REFERENCES r, v int)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":1}"#), gone("1")],
        applied: 0,
    },
    Case {
        name: "a key that a check refuses, and its deletion",
        sql: "CREATE TABLE t (id int PRIMARY KEY CHECK (id < 5), v int)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":1}"#), put(r#"{"id":9,"v":1}"#), gone("9")],
        applied: 1,
    },
    Case {
        name: "the same, of two columns of which one is compared by the server",
        sql: "CREATE TABLE t (id int CHECK (id < 5), b timestamp(0), v int, PRIMARY KEY (id, b))",
        table: upsert_three,
        records: &[
            put(r#"{"id":9,"b":"2026-01-01T00:00:00","v":1}"#),
            gone(r#"{"id":9,"b":"2026-01-01T00:00:00"}"#),
        ],
        applied: 0,
    },
    Case {
        name: "a key for which there is no partition, and its deletion",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
              CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":1}"#), put(r#"{"id":100,"v":1}"#), gone("100")],
        applied: 1,
    },
    Case {
        name: "a key that is too long for its index, and its deletion",
        sql: "CREATE TABLE t (id text PRIMARY KEY, v int)",
        table: upsert,
        records: &[put(r#"{"id":"short","v":1}"#), put(text(LONG)), gone(text(LONG))],
        applied: 1,
    },
    Case {
        name: "two rows that change places in a key that may wait",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE DEFERRABLE); INSERT INTO t VALUES (1, 1), (2, 2)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":2}"#), put(r#"{"id":2,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "the same, where it is an exclusion",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int, EXCLUDE USING btree (v WITH =) DEFERRABLE); \
              INSERT INTO t VALUES (1, 1), (2, 2)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":2}"#), put(r#"{"id":2,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a number from a domain's default",
        sql: "CREATE SEQUENCE s; CREATE DOMAIN num AS bigint DEFAULT nextval('s'); \
              CREATE TABLE t (id int PRIMARY KEY, v int, n num)",
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":2}"#), put(r#"{"id":5,"v":3}"#)],
        applied: 3,
    },
    Case {
        name: "the same, of a domain of a domain, and NOT NULL",
        sql: "CREATE SEQUENCE s; CREATE DOMAIN num AS bigint DEFAULT nextval('s'); CREATE DOMAIN many AS num; \
              CREATE TABLE t (id int PRIMARY KEY, v int, n many NOT NULL)",
        table: append,
        records: &[put(r#"{"id":9,"v":1}"#), put(r#"{"id":1,"v":2}"#), put(r#"{"id":5,"v":3}"#)],
        applied: 3,
    },
    Case {
        name: "a value that is too long for a domain whose type the server reads",
        sql: "CREATE DOMAIN d AS varbit(3); CREATE DOMAIN e AS d; CREATE TABLE t (id int PRIMARY KEY, v e)",
        table: append,
        records: &[put(r#"{"id":1,"v":"101"}"#), put(r#"{"id":2,"v":"10101"}"#)],
        applied: 1,
    },
    Case {
        name: "the same in an array, row by row",
        sql: "CREATE DOMAIN d AS varbit(3)[]; CREATE TABLE t (id int PRIMARY KEY, v d, own int REFERENCES t)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":["101"]}"#), put(r#"{"id":2,"v":["101","10101"]}"#)],
        applied: 1,
    },
    Case {
        name: "a key in an array, which is cut to that of another row",
        sql: "CREATE TABLE t (id varchar(3)[] PRIMARY KEY, v int); INSERT INTO t VALUES ('{abc}', 1); \
              CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
              CREATE TRIGGER see AFTER DELETE ON t EXECUTE FUNCTION see()",
        table: upsert,
        records: &[
            put(r#"{"id":["abc"],"v":2}"#),
            put(r#"{"id":["ab "],"v":2}"#),
            gone(r#"{"id":["ab      "]}"#),
            put(r#"{"id":["x",null],"v":2}"#),
            gone(r#"{"id":["x",null]}"#),
            gone(r#"{"id":["abcd"]}"#),
        ],
        applied: 5,
    },
    Case {
        name: "a row that another partition should have, and that is overwritten",
        sql: "CREATE TABLE above (id int NOT NULL, v text) PARTITION BY LIST (v); \
              CREATE TABLE t PARTITION OF above FOR VALUES IN ('eu'); ALTER TABLE t ADD PRIMARY KEY (id)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":"us"}"#), put(r#"{"id":1,"v":"eu"}"#)],
        applied: 0,
    },
    Case {
        name: "the same, two levels up and by an expression",
        sql: "CREATE TABLE top (id int NOT NULL, v text) PARTITION BY LIST (lower(v)); \
              CREATE TABLE above PARTITION OF top FOR VALUES IN ('eu') PARTITION BY RANGE (id); \
              CREATE TABLE t PARTITION OF above FOR VALUES FROM (0) TO (100); ALTER TABLE t ADD PRIMARY KEY (id)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":"EU"}"#), put(r#"{"id":2,"v":"us"}"#), put(r#"{"id":2,"v":"eu"}"#)],
        applied: 1,
    },
    Case {
        name: "a NULL that one partition refuses, and that is overwritten",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
              CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (100); ALTER TABLE t0 ALTER v SET NOT NULL",
        table: upsert,
        records: &[put(r#"{"id":1,"v":null}"#), put(r#"{"id":1,"v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a check of a table that inherits",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); \
              CREATE TABLE heir (CHECK (v <> 13)) INHERITS (t); INSERT INTO heir VALUES (1, 1)",
        table: update,
        records: &[put(r#"{"id":1,"v":13}"#), put(r#"{"id":1,"v":2}"#)],
        applied: 0,
    },
    Case {
        name: "a constraint that waits for COMMIT, of a table that inherits",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v int); \
              CREATE TABLE heir (UNIQUE (v) DEFERRABLE INITIALLY DEFERRED) INHERITS (t); \
              INSERT INTO heir VALUES (1, 1), (2, 2)",
        table: update,
        records: &[put(r#"{"id":1,"v":2}"#), put(r#"{"id":1,"v":3}"#)],
        applied: 0,
    },
    Case {
        name: "a check of a column and of the whole row",
        sql: "CREATE TABLE t (id int PRIMARY KEY, b text, v int); \
              CREATE FUNCTION ok(t) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT $1.b <> 'x'$$; \
              ALTER TABLE t ADD CHECK (v > 0 AND ok(t))",
        table: upsert_three,
        records: &[put(r#"{"id":1,"b":"x","v":1}"#), put(r#"{"id":1,"b":"y","v":1}"#)],
        applied: 0,
    },
    Case {
        name: "a check that looks at other rows",
        sql: "CREATE FUNCTION n_of(int) RETURNS bigint LANGUAGE plpgsql AS \
              'BEGIN RETURN (SELECT count(*) FROM t WHERE v = $1); END'; \
              CREATE TABLE t (id int PRIMARY KEY, v int CHECK (n_of(v) < 2))",
        table: append,
        records: &[put(r#"{"id":1,"v":1}"#), put(r#"{"id":2,"v":1}"#), put(r#"{"id":3,"v":1}"#)],
        applied: 2,
    },
    Case {
        name: "the same of a domain",
        sql: "CREATE FUNCTION n_of(int) RETURNS bigint LANGUAGE plpgsql STABLE AS \
              'BEGIN RETURN (SELECT count(*) FROM t WHERE v = $1); END'; \
              CREATE DOMAIN few AS int CHECK (n_of(value) < 2); CREATE DOMAIN fewer AS few; \
              CREATE TABLE t (id int PRIMARY KEY, v fewer)",
        table: append,
        records: &[put(r#"{"id":1,"v":1}"#), put(r#"{"id":2,"v":1}"#), put(r#"{"id":3,"v":1}"#)],
        applied: 2,
    },
];

pub(super) async fn run(
    database: &Database,
    case: &Case,
    cuts: &[usize],
) -> TestResult<(Outcome, Vec<String>)> {
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

/// Which all rows get by the same way, however many they are.
#[tokio::test]
async fn s1_a_column_that_no_update_may_set_is_refused_at_the_first_look() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("identity").await?;
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS IDENTITY)").await?;
    for (table, refused) in
        [(upsert(), true), (update(), true), (upsert().straight_from(1), true), (append(), false)]
    {
        let sink = TableSink::json(table);
        let outcome = Rehearsal::new(&database).await?.apply(&sink, &[put(r#"{"id":1,"v":1}"#)], &[]).await?;
        let why = outcome.halt.unwrap_or_default();
        assert_eq!(why.contains("column v is GENERATED ALWAYS AS IDENTITY"), refused, "{why}");
    }
    database.remove().await?;
    Ok(())
}

/// A table refers to it from where the role may not go: what waits for COMMIT is looked at all the same.
#[tokio::test]
async fn s1_a_constraint_in_a_schema_that_the_role_may_not_use() -> TestResult {
    let postgres = Postgres::shared().await?;
    for (cuts, fits) in [(&[1, 1, 1][..], true), (&[], true), (&[1, 1, 1], false), (&[], false)] {
        let database = postgres.fresh_database("hidden").await?;
        let role = format!("{}_lowly", database.name());
        let sql = format!(
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2); CREATE SCHEMA private; \
             CREATE TABLE private.kid (t int REFERENCES t DEFERRABLE INITIALLY DEFERRED); \
             INSERT INTO private.kid VALUES ({}); CREATE ROLE \"{role}\"; GRANT ALL ON t TO \"{role}\"; \
             ALTER DATABASE \"{}\" SET role = \"{role}\"",
            if fits { 2 } else { 1 },
            database.name()
        );
        database.execute(&sql).await?;
        let records = [put(r#"{"id":3,"v":1}"#), gone("1"), put(r#"{"id":1,"v":2}"#)];
        let outcome =
            Rehearsal::new(&database).await?.apply(&TableSink::json(upsert()), &records, cuts).await?;
        assert_eq!(outcome.applied, if fits { 3 } else { 1 }, "{cuts:?} {outcome:?}");
        let gone = format!(
            "SET ROLE NONE; DROP OWNED BY \"{role}\"; ALTER DATABASE \"{}\" RESET role",
            database.name()
        );
        database.execute(&gone).await?;
        database.execute(&format!("SET ROLE NONE; DROP ROLE \"{role}\"")).await?;
        database.remove().await?;
    }
    Ok(())
}

/// Not every text fits into a database of another encoding.
#[tokio::test]
async fn s1_a_character_that_the_database_has_not_and_that_is_overwritten() -> TestResult {
    let postgres = Postgres::shared().await?;
    let name = format!("latin1_{}", std::process::id());
    let client = postgres.client().await?;
    let sql = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    client.batch_execute(&sql).await?;
    let database = postgres.database(&name);
    const CASE: Case = Case {
        name: "a snowman",
        sql: "CREATE TABLE t (id int PRIMARY KEY, v text)",
        table: upsert,
        records: &[put(r#"{"id":1,"v":"\u00e9"}"#), put(r#"{"id":2,"v":"☃"}"#), put(r#"{"id":2,"v":"x"}"#)],
        applied: 1,
    };
    let one_by_one = run(&database, &CASE, &[1; 3]).await?;
    assert_eq!(one_by_one.0.applied, CASE.applied, "{one_by_one:?}");
    assert_eq!(run(&database, &CASE, &[]).await?, one_by_one);
    database.remove().await?;
    Ok(())
}
