//! Which way a table's rows go, asked of the catalogue: the tables of docs/table-sink.md, "Straight into the table", are
//! made here.

use std::fmt::Write;

use super::super::catalog;
use super::*;

/// Types that go the same way.
const TYPES: [(&str, &[&str]); 9] = [
    (
        "`boolean`, integers, `numeric`, `text`, `varchar`, `varchar(n)`, `char(n)`, `name`, `bytea`, `uuid`, `date`, `time`, \
         `timestamp`, `timestamptz`",
        &[
            "bool",
            "int2",
            "int4",
            "int8",
            "numeric",
            "text",
            "varchar",
            "varchar(9)",
            "char(9)",
            "bytea",
            "name",
            "uuid",
            "date",
            "time",
            "timestamp",
            "timestamptz",
        ],
    ),
    ("`real`, `double precision`, `numeric(p,s)`", &["float4", "float8", "numeric(9,2)"]),
    ("`text`, `varchar`, `char(n)` by a collation that is not deterministic", &["text COLLATE loose"]),
    ("`time(p)`, `timestamp(p)`, `timestamptz(p)`", &["time(3)", "timestamp(3)", "timestamptz(3)"]),
    ("enums, `citext`, `bpchar` without a length", &["mood", "citext", "bpchar"]),
    (
        "`interval`, `inet`, `cidr`, `jsonb`, arrays",
        &["interval", "inet", "cidr", "jsonb", "int[]", "text[]"],
    ),
    ("domains", &["whole", "word"]),
    ("`json`", &["json"]),
    ("ranges, `bit`, `money`, and what else the server reads", &["int4range", "bit(3)", "money", "macaddr"]),
];

/// What a table `t (id, v, n)` with the key `id` has besides; `n` is not written.
const TABLES: [(&str, &str); 17] = [
    ("nothing but its key; checks; foreign keys to other tables; indexes", ""),
    ("a generated column", "ALTER TABLE t ADD g int GENERATED ALWAYS AS (v + 1) STORED"),
    ("an index with an expression or a predicate", "CREATE INDEX ON t ((v + 1))"),
    ("foreign keys from other tables to its key", "CREATE TABLE kid (t int REFERENCES t (id))"),
    ("partitions", "PARTITION"),
    ("a default that is the same for all rows", "ALTER TABLE t ALTER n SET DEFAULT '2026-01-01'"),
    ("another unique index, or an exclusion", "CREATE UNIQUE INDEX ON t (v)"),
    ("another unique index that is `DEFERRABLE`", "ALTER TABLE t ADD UNIQUE (v) DEFERRABLE"),
    (
        "a column that is not written and numbered by the order",
        "ALTER TABLE t ALTER n SET DEFAULT clock_timestamp()",
    ),
    (
        "a trigger `BEFORE INSERT FOR EACH ROW`",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ),
    ("another trigger on `INSERT`", "CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"),
    (
        "a trigger on `UPDATE` or `DELETE`",
        "CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ),
    ("a foreign key to itself", "ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES t (id)"),
    ("a check that calls a function which is not `IMMUTABLE`", "ALTER TABLE t ADD CHECK (looks(v))"),
    (
        "a default, not written, that calls a function which is not `IMMUTABLE`",
        "ALTER TABLE t ALTER n SET DEFAULT made()",
    ),
    ("tables that inherit from it", "CREATE TABLE heir () INHERITS (t)"),
    (
        "foreign keys from other tables to other columns",
        "CREATE UNIQUE INDEX u ON t (v); CREATE TABLE kid (t int REFERENCES t (v))",
    ),
];

const BEFORE: &str = "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN whole AS int; \
     CREATE DOMAIN word AS text; \
     CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
     CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
     CREATE FUNCTION looks(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT true'; \
     CREATE FUNCTION made() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()'";

impl Place {
    /// How the rows of a table go; `None`: it is refused.
    async fn way(&self, table: Table) -> Option<&'static str> {
        let tx = Tx::begin(self.connection().await, "").await.unwrap();
        let plan = catalog::read(&[table], 0, &tx).await.ok()?;
        let table = &plan.tables[0];
        Some(match (&table.care.always, &table.stage, &table.straight) {
            (Some(_), ..) => "row by row",
            (None, None, _) => "straight",
            (None, Some(_), Some(_)) => "tried",
            (None, Some(_), None) => "stage",
        })
    }
}

fn cells(ways: &[Option<&str>]) -> String {
    ways.iter().map(|way| format!(" {} |", way.unwrap_or("–"))).collect()
}

#[tokio::test]
async fn the_page_says_which_types_go_straight() {
    let place = Place::new(BEFORE).await;
    let mut page = String::from(
        "| columns of type | `append` | `insert_ignore` | `upsert`, in the key | `upsert`, others |\n|---|---|---|---|---|\n",
    );
    for (words, types) in TYPES {
        let mut ways: Vec<_> = Vec::new();
        for sql_type in types {
            let sql = format!(
                "DROP TABLE IF EXISTS k, v; CREATE TABLE v (id int PRIMARY KEY, v {sql_type}); \
                 CREATE TABLE k (id {sql_type}, v int)"
            );
            place.database.execute(&sql).await.unwrap();
            // Not of every type.
            let _ = place.database.execute("ALTER TABLE k ADD PRIMARY KEY (id)").await;
            let found = [
                place.way(Table::append("v", ["id", "v"])).await,
                place.way(Table::insert_ignore("v", ["id", "v"])).await,
                place.way(Table::upsert("k", ["id", "v"])).await,
                place.way(Table::upsert("v", ["id", "v"])).await,
            ];
            ways.push(found);
        }
        for (way, sql_type) in ways.iter().zip(types) {
            assert_eq!(*way, ways[0], "{sql_type} beside {}", types[0]);
        }
        writeln!(page, "| {words} |{}", cells(&ways[0])).unwrap();
    }
    crate::verdict::postgres::assert_documented_in("docs/table-sink.md", "straight types", &page);
}

#[tokio::test]
async fn the_page_says_which_tables_go_straight() {
    let place = Place::new(BEFORE).await;
    let mut page = String::from(
        "| the table has | `append` | `insert_ignore` | `upsert` | `update` |\n|---|---|---|---|---|\n",
    );
    let columns = ["id", "v"];
    for (words, has) in TABLES {
        let (partitions, has) = match has {
            "PARTITION" => {
                (" PARTITION BY RANGE (id)", "CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (9)")
            }
            has => ("", has),
        };
        let sql = format!(
            "DROP TABLE IF EXISTS kid, t CASCADE; \
             CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v <> 13), n timestamptz){partitions}; {has}"
        );
        place.database.execute(&sql).await.unwrap();
        let ways = [
            place.way(Table::append("t", columns)).await,
            place.way(Table::insert_ignore("t", columns)).await,
            place.way(Table::upsert("t", columns).key(["id"])).await,
            place.way(Table::update("t", columns).key(["id"])).await,
        ];
        writeln!(page, "| {words} |{}", cells(&ways)).unwrap();
    }
    for (words, ways) in of_versions(&place).await {
        writeln!(page, "| {words} |{}", cells(&ways)).unwrap();
    }
    crate::verdict::postgres::assert_documented_in("docs/table-sink.md", "straight tables", &page);
}

/// Of tables with a version, which `append` and `insert_ignore` have not.
async fn of_versions(place: &Place) -> Vec<(&'static str, [Option<&'static str>; 4])> {
    let mut found = Vec::new();
    for (words, sql_type) in [
        ("a version that is an integer, date or time without a modifier", "bigint"),
        ("another version", "numeric"),
    ] {
        let sql =
            format!("DROP TABLE IF EXISTS kid, t CASCADE; CREATE TABLE t (id int PRIMARY KEY, v {sql_type})");
        place.database.execute(&sql).await.unwrap();
        let columns = ["id", "v"];
        let (upsert, update) = (Table::upsert("t", columns), Table::update("t", columns));
        let ways = [None, None, place.way(upsert.version("v")).await, place.way(update.version("v")).await];
        found.push((words, ways));
    }
    found
}
