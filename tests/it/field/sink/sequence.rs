//! S1: the batch is not the sequence. Random tables, random records: however they are cut into batches, the rows are the
//! same, and so are the record that halts and the reason.
//!
//! `HIGHWATER_TEST_TABLES=20000 cargo test --test it sequence` tries as many tables; 40 otherwise, 200 in CI.

use std::cell::RefCell;
use std::collections::BTreeMap;

use highwater::sink::ToColumn;
use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{HandlerError, Keep, Record, Table, TableSink};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::value::RawValue;

use crate::support::TestResult;

/// How a key column compares, and values of it that are near each other, as JSON.
#[derive(Debug, Clone, Copy)]
struct Key {
    sql: &'static str,
    values: [&'static str; 4],
}

const KEYS: [Key; 13] = [
    Key { sql: "int", values: ["0", "1", "2", "9"] },
    Key { sql: "text", values: [r#""a""#, r#""A""#, r#""b""#, r#""a ""#] },
    Key { sql: "varchar(3)", values: [r#""a""#, r#""ab ""#, r#""ab     ""#, r#""abcd""#] },
    Key { sql: "char(3)", values: [r#""a""#, r#""a ""#, r#""A""#, r#""a   ""#] },
    // It is in no search path.
    Key { sql: "ext.citext", values: [r#""a""#, r#""A""#, r#""b""#, r#""B""#] },
    Key { sql: "text COLLATE nocase", values: [r#""a""#, r#""A""#, r#""b""#, r#""B""#] },
    Key { sql: "numeric", values: ["1", "1.0", "2", r#""NaN""#] },
    Key { sql: "numeric(4,1)", values: ["1.04", "1.0", "2", "123456"] },
    Key {
        sql: "uuid",
        values: [
            r#""00000000-0000-0000-0000-000000000001""#,
            r#""00000000000000000000000000000001""#,
            r#""00000000-0000-0000-0000-0000000000AB""#,
            r#""00000000-0000-0000-0000-0000000000ab""#,
        ],
    },
    Key {
        sql: "timestamptz",
        values: [
            r#""2026-01-01T00:00:00Z""#,
            r#""2026-01-01T01:00:00+01:00""#,
            r#""2026-01-02T00:00:00Z""#,
            r#""infinity""#,
        ],
    },
    Key {
        sql: "timestamp(0)",
        values: [
            r#""2026-01-01T00:00:00""#,
            r#""2026-01-01T00:00:00.4""#,
            r#""2026-01-01T00:00:01""#,
            r#""2026-01-01T00:00:01.4""#,
        ],
    },
    Key { sql: "float8", values: ["0", "-0.0", "1", "2.5"] },
    Key { sql: "mood", values: [r#""sad""#, r#""glad""#, r#""sad""#, r#""none of them""#] },
];

/// Columns that tell which row of a key is newer.
const VERSIONS: [Key; 5] = [
    Key { sql: "bigint", values: ["1", "-2", "3", "null"] },
    Key {
        sql: "timestamptz",
        values: [r#""2026-01-02T00:00:00Z""#, r#""2026-01-01T01:00:00+01:00""#, r#""infinity""#, "null"],
    },
    Key { sql: "numeric(4,1)", values: ["1.04", "1.0", "2", "null"] },
    Key { sql: "text", values: [r#""b""#, r#""a""#, r#""B""#, "null"] },
    Key { sql: "pg_lsn", values: [r#""0/2""#, r#""0/1""#, r#""1/0""#, "null"] },
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Append,
    Ignore,
    Upsert,
    Update,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unique {
    None,
    Plain,
    NullsNotDistinct,
    Deferrable,
    Deferred,
    Partial,
    Expression,
    Exclusion,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trigger {
    None,
    BeforeRow,
    AfterRow,
    Statement,
}

const ACTIONS: [&str; 5] = ["NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"];

#[derive(Debug, Clone)]
struct Shape {
    mode: Mode,
    key: Vec<Key>,
    /// The key's index has another collation than its first column.
    index_collates: bool,
    unique: Unique,
    check: bool,
    not_null: bool,
    /// A foreign key to a table of three rows; whether it waits for COMMIT.
    parent: Option<bool>,
    /// A foreign key from another table to the key.
    kids: Option<&'static str>,
    /// A foreign key to the table itself.
    own: bool,
    trigger: Trigger,
    identity: bool,
    /// A number from a domain's default.
    numbered: bool,
    default: bool,
    /// A default that counts the table's rows; whether its function is declared STABLE.
    counts: Option<bool>,
    /// The key's index has a column beside.
    covers: bool,
    generated: bool,
    partitioned: bool,
    /// It is a partition itself, by a column that is not of its key.
    attached: bool,
    /// A check on the key; a foreign key of the key.
    key_check: bool,
    key_parent: bool,
    /// New keys go past the stage, however few they are.
    straight: bool,
    /// Some records do not say all of their row.
    keeps: bool,
    /// The newer row stays; whether the one that is there says its version.
    version: Option<(Key, bool)>,
    /// Records find no row of their key: else an `append` ends at the first one.
    fresh: bool,
}

#[derive(Debug, Clone)]
struct Line {
    key: [usize; 3],
    value: usize,
    email: usize,
    parent: usize,
    note: usize,
    deletes: bool,
    /// Which of v, note and email stay as they are.
    kept: u8,
    /// Only if the row is there.
    touches: bool,
    version: usize,
    /// Of the same key as the line before.
    again: bool,
}

const VALUES: [&str; 6] = ["1", "2", "13", "50", "3", "\"4\""];
const EMAILS: [&str; 4] = ["\"x\"", "\"X\"", "\"y\"", "null"];
const PARENTS: [&str; 4] = ["1", "2", "3", "7"];
const NOTES: [&str; 4] = ["\"n\"", "\"m\"", "null", "\"long\""];

fn shapes() -> impl Strategy<Value = Shape> {
    let key = prop::sample::select(KEYS.to_vec());
    let unique = prop_oneof![
        6 => Just(Unique::None),
        1 => Just(Unique::Plain),
        1 => Just(Unique::NullsNotDistinct),
        3 => Just(Unique::Deferrable),
        1 => Just(Unique::Deferred),
        1 => Just(Unique::Partial),
        1 => Just(Unique::Expression),
        1 => Just(Unique::Exclusion),
    ];
    let trigger = prop_oneof![
        6 => Just(Trigger::None),
        1 => Just(Trigger::BeforeRow),
        1 => Just(Trigger::AfterRow),
        1 => Just(Trigger::Statement),
    ];
    let rarely = || prop::bool::weighted(0.2);
    let mode =
        prop::sample::select(vec![Mode::Append, Mode::Ignore, Mode::Upsert, Mode::Upsert, Mode::Update]);
    let kids = prop::option::weighted(0.2, prop::sample::select(ACTIONS.to_vec()));
    let keys =
        prop_oneof![3 => prop::collection::vec(key.clone(), 1), 1 => prop::collection::vec(key, 2..=3)];
    let version = prop_oneof![2 => Just(VERSIONS[0]), 3 => prop::sample::select(VERSIONS.to_vec())];
    let version = prop::option::weighted(0.4, (version, any::<bool>()));
    let first = (mode, keys, rarely(), unique, trigger, kids, version);
    let second = (any::<bool>(), rarely(), prop::option::weighted(0.3, any::<bool>()), rarely());
    let third = (rarely(), any::<bool>(), rarely(), rarely(), any::<bool>(), any::<bool>());
    let sometimes = || prop::bool::weighted(0.3);
    let fourth = (sometimes(), sometimes(), sometimes(), sometimes(), any::<bool>());
    let fifth = (prop::option::weighted(0.1, any::<bool>()), sometimes(), prop::bool::weighted(0.7));
    (first, second, third, fourth, fifth).prop_map(|(first, second, third, fourth, fifth)| {
        let (mode, key, index_collates, unique, trigger, kids, version) = first;
        let (check, not_null, parent, own) = second;
        let (identity, default, generated, partitioned, straight, keeps) = third;
        let (numbered, attached, key_check, key_parent, bare) = fourth;
        let (counts, covers, fresh) = fifth;
        let mut shape = Shape {
            mode,
            key,
            index_collates,
            unique,
            check,
            not_null,
            parent,
            kids,
            own,
            trigger,
            identity,
            numbered,
            default,
            counts,
            covers,
            generated,
            partitioned,
            attached,
            key_check,
            key_parent,
            straight,
            keeps,
            version,
            fresh,
        };
        if bare {
            shape.bare();
        }
        shape.settle();
        shape
    })
}

impl Shape {
    /// Takes out what mostly has rows written one by one, and so hides what the rest would do.
    fn bare(&mut self) {
        (self.check, self.not_null, self.own, self.keeps) = (false, false, false, false);
        (self.identity, self.generated, self.partitioned) = (false, false, false);
        self.version = None;
        (self.parent, self.kids, self.trigger) = (None, None, Trigger::None);
        if self.unique != Unique::None {
            (self.attached, self.key_check, self.key_parent) = (false, false, false);
        }
    }

    /// Takes out what Postgres does not allow together.
    fn settle(&mut self) {
        self.fresh &= self.mode == Mode::Append;
        if self.fresh {
            self.key[0] = KEYS[0];
            (self.partitioned, self.key_parent) = (false, false);
        }
        self.index_collates &= self.key[0].sql == "text";
        self.partitioned &=
            self.key[0].sql == "int" && self.unique == Unique::None && self.trigger != Trigger::Statement;
        self.numbered &= !self.identity;
        // What is attached must have the same generated columns, and no identity.
        self.attached &= !self.partitioned && !self.identity && !self.generated;
        // The row that is there must fit; and there is one of each parent.
        self.key_check &= self.key[0].values[2] != self.key[0].values[0];
        self.key_parent &= !self.index_collates;
        self.own &= self.key.len() == 1 && !self.index_collates && !self.partitioned;
        if self.key.len() > 1 || self.index_collates {
            self.kids = None;
        }
        let is_keyed = matches!(self.mode, Mode::Upsert | Mode::Update);
        self.keeps &= is_keyed;
        self.version = self.version.filter(|_| is_keyed);
        if self.mode == Mode::Ignore && matches!(self.unique, Unique::Deferrable | Unique::Deferred) {
            self.unique = Unique::Plain;
        }
    }

    fn names(&self) -> Vec<String> {
        (0..self.key.len()).map(|at| format!("k{at}")).collect()
    }

    /// The schema, empty but for what records may find.
    fn sql(&self) -> String {
        let mut columns: Vec<String> =
            self.key.iter().enumerate().map(|(at, key)| format!("k{at} {} NOT NULL", key.sql)).collect();
        if self.key_check {
            columns.push(format!("CHECK (k0 <> {})", literal(self.key[0].values[2])));
        }
        if self.key_parent {
            columns.push("FOREIGN KEY (k0) REFERENCES s.roots".to_owned());
        }
        columns.push(format!("v int{}", if self.check { " CHECK (v <> 13)" } else { "" }));
        columns.push(format!("note varchar(3){}", if self.not_null { " NOT NULL" } else { "" }));
        columns.push(match self.unique {
            Unique::Plain => "email text UNIQUE".to_owned(),
            Unique::NullsNotDistinct => "email text UNIQUE NULLS NOT DISTINCT".to_owned(),
            Unique::Deferrable => "email text UNIQUE DEFERRABLE".to_owned(),
            Unique::Deferred => "email text UNIQUE DEFERRABLE INITIALLY DEFERRED".to_owned(),
            _ => "email text".to_owned(),
        });
        if let Some(deferred) = self.parent {
            let deferred = if deferred { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
            columns.push(format!("parent int REFERENCES s.parents{deferred}"));
        }
        if let Some((version, _)) = self.version {
            columns.push(format!("ver {}", version.sql));
        }
        if self.identity {
            columns.push("n bigint GENERATED ALWAYS AS IDENTITY".to_owned());
        }
        if self.numbered {
            columns.push("n s.num".to_owned());
        }
        if self.default {
            columns.push("d int DEFAULT 7".to_owned());
        }
        if self.counts.is_some() {
            columns.push("c bigint DEFAULT s.count_t()".to_owned());
        }
        if self.generated {
            columns.push("g int GENERATED ALWAYS AS (100 / (v - 50)) STORED".to_owned());
        }
        let names = self.names().join(", ");
        if !self.index_collates {
            let covers = if self.covers { " INCLUDE (note)" } else { "" };
            columns.push(format!("PRIMARY KEY ({names}){covers}"));
        }
        if self.own {
            columns.push("own ".to_owned() + self.key[0].sql + " REFERENCES s.t");
        }
        let by = if self.partitioned { " PARTITION BY LIST (k0)" } else { "" };
        let mut sql = String::new();
        if self.numbered {
            sql += "CREATE SEQUENCE s.seq; CREATE DOMAIN s.num AS bigint DEFAULT nextval('s.seq');";
        }
        if let Some(is_stable) = self.counts {
            let stable = if is_stable { "STABLE" } else { "VOLATILE" };
            sql += &format!(
                "CREATE FUNCTION s.count_t() RETURNS bigint {stable} LANGUAGE plpgsql AS \
                 'BEGIN RETURN (SELECT count(*) FROM s.t); END';"
            );
        }
        if self.key_parent {
            let [first, second, ..] = self.key[0].values.map(literal);
            let sql_type = self.key[0].sql;
            sql += &format!(
                "CREATE TABLE s.roots (id {sql_type} PRIMARY KEY); INSERT INTO s.roots VALUES ({first}), ({second}) ON CONFLICT DO NOTHING;"
            );
        }
        sql += &format!(
            "CREATE TABLE s.parents (id int PRIMARY KEY); INSERT INTO s.parents VALUES (1), (2), (3); \
             CREATE TABLE s.audit (n bigint GENERATED ALWAYS AS IDENTITY, what text); \
             CREATE TABLE s.t ({}){by};",
            columns.join(", ")
        );
        if self.attached {
            sql += "CREATE TABLE s.above (LIKE s.t) PARTITION BY LIST (v); \
                    ALTER TABLE s.above ATTACH PARTITION s.t FOR VALUES IN (1, 2, 4, 13);";
        }
        if self.partitioned {
            sql += "CREATE TABLE s.t0 PARTITION OF s.t FOR VALUES IN (0, 1); \
                    CREATE TABLE s.t2 PARTITION OF s.t FOR VALUES IN (2);";
        }
        if self.index_collates {
            let rest: String = self.names()[1..].iter().map(|name| format!(", {name}")).collect();
            sql += &format!("CREATE UNIQUE INDEX t_key ON s.t (k0 COLLATE nocase{rest});");
        }
        sql += match self.unique {
            Unique::Partial => "CREATE UNIQUE INDEX t_email ON s.t (email) WHERE v < 3;",
            Unique::Expression => "CREATE UNIQUE INDEX t_email ON s.t (lower(email));",
            Unique::Exclusion => "ALTER TABLE s.t ADD CONSTRAINT t_email EXCLUDE USING btree (email WITH =);",
            _ => "",
        };
        // Rows that records find.
        let mut seen = self.names().join(", ");
        let mut found: Vec<String> = self.key.iter().map(|key| literal(key.values[0])).collect();
        seen += ", v, note, email";
        found.extend(["1".to_owned(), "'n'".to_owned(), "'y'".to_owned()]);
        if self.default {
            seen += ", d";
            found.push("1".to_owned());
        }
        if let Some((version, true)) = self.version {
            seen += ", ver";
            found.push(literal(version.values[0]));
        }
        sql += &format!("INSERT INTO s.t ({seen}) VALUES ({});", found.join(", "));
        if let Some(action) = self.kids {
            sql += &format!(
                "CREATE TABLE s.kids (id int, k {} DEFAULT NULL REFERENCES s.t ON DELETE {action} ON UPDATE {action}); \
                 INSERT INTO s.kids SELECT 1, k0 FROM s.t;",
                self.key[0].sql
            );
        }
        sql += &self.trigger_sql();
        sql
    }

    fn trigger_sql(&self) -> String {
        let (body, when) = match self.trigger {
            Trigger::None => return String::new(),
            Trigger::BeforeRow => (
                "IF NEW.v = 2 THEN NEW.note := (SELECT count(*) FROM s.t)::text; END IF; RETURN NEW;",
                "BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW",
            ),
            Trigger::AfterRow => (
                "INSERT INTO s.audit (what) SELECT count(*) || ' ' || coalesce(NEW.v, 0) FROM s.t; RETURN NULL;",
                "AFTER INSERT OR UPDATE ON s.t FOR EACH ROW",
            ),
            Trigger::Statement => (
                "INSERT INTO s.audit (what) SELECT count(*) FROM s.t; RETURN NULL;",
                "AFTER INSERT OR UPDATE OR DELETE ON s.t FOR EACH STATEMENT",
            ),
        };
        format!(
            "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {body} END $f$; \
             CREATE TRIGGER f {when} EXECUTE FUNCTION s.f();"
        )
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = self.names();
        columns.extend(["v", "note", "email"].map(str::to_owned));
        if self.parent.is_some() {
            columns.push("parent".to_owned());
        }
        if self.own {
            columns.push("own".to_owned());
        }
        columns.extend(self.version.map(|_| "ver".to_owned()));
        columns
    }

    fn sink(&self, schema: &str) -> TableSink {
        if !self.keeps {
            return TableSink::json(self.table(schema));
        }
        let (mut keys, columns) = (self.names(), self.columns());
        keys.extend(self.version.map(|_| "ver".to_owned()));
        TableSink::new(self.table(schema), move |record, rows| match record.value() {
            Some(value) if value.ends_with(TOUCHES) => rows.update(values(record, value, &columns)?),
            Some(value) => rows.push(values(record, value, &columns)?),
            None => rows.delete(values(record, record.key().unwrap_or_default(), &keys)?),
        })
    }

    fn table(&self, schema: &str) -> Table {
        let columns = self.columns();
        let name = in_schema("s.t", schema);
        let table = match self.mode {
            Mode::Append => Table::append(name, columns),
            Mode::Ignore => Table::insert_ignore(name, columns),
            Mode::Upsert => Table::upsert(name, columns).key(self.names()),
            Mode::Update => Table::update(name, columns).key(self.names()),
        };
        let table = if self.version.is_some() { table.version("ver") } else { table };
        if self.straight { table.straight_from(1) } else { table }
    }

    /// Key and value of a record.
    fn record(&self, at: usize, line: &Line) -> (String, Option<String>) {
        let key: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(column, key)| match column {
                // Not in their order, and no key twice.
                0 if self.fresh => format!("\"k0\":{}", 10 + at * 7 % 17),
                _ => format!("\"k{column}\":{}", key.values[line.key[column]]),
            })
            .collect();
        let mut key = key.join(",");
        if let Some((version, _)) = self.version {
            // Of a deletion, too.
            key += &format!(",\"ver\":{}", version.values[line.version]);
        }
        let kept = |bit: u8, value| if self.keeps && line.kept & bit != 0 { KEPT } else { value };
        // An append knows no deletions: they are its end, so there are few.
        let deletes = line.deletes && (!self.fresh || line.value > 1);
        let value = (!deletes).then(|| {
            format!(
                "{{{key},\"v\":{},\"note\":{},\"email\":{},\"parent\":{},\"own\":{}}}{}",
                kept(1, VALUES[line.value]),
                kept(2, NOTES[line.note]),
                kept(4, EMAILS[line.email]),
                PARENTS[line.parent],
                if line.parent == 0 { "null" } else { self.key[0].values[line.parent] },
                if self.keeps && line.touches { " " } else { "" },
            )
        });
        (format!("{{{key}}}"), value)
    }
}

/// Behind a record's value: only if the row is there.
const TOUCHES: &[u8] = b" ";

/// For [`Keep`].
const KEPT: &str = "\"keep\"";

/// The values of these fields.
fn values(
    record: &Record<'_>,
    object: &[u8],
    names: &[String],
) -> Result<Vec<Box<dyn ToColumn>>, HandlerError> {
    let mut fields: std::collections::HashMap<String, Box<RawValue>> =
        serde_json::from_slice(object).map_err(|_| HandlerError::reject(record, "no object"))?;
    let of = |name: &String| match fields.remove(name) {
        Some(raw) if raw.get() == KEPT => Box::new(Keep) as Box<dyn ToColumn>,
        raw => Box::new(raw),
    };
    Ok(names.iter().map(of).collect())
}

/// JSON's scalar as SQL's.
fn literal(json: &str) -> String {
    format!("'{}'", json.trim_matches('"'))
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    // Mostly good, so that batches get far.
    let value = prop_oneof![9 => 0..2_usize, 1 => 2..6_usize];
    let email = prop_oneof![3 => Just(3_usize), 2 => 0..4_usize];
    let parent = prop_oneof![12 => 0..2_usize, 1 => 2..4_usize];
    let note = prop_oneof![12 => 0..2_usize, 1 => 2..4_usize];
    let key = prop_oneof![
        8 => (0..2_usize, 0..2_usize, 0..2_usize),
        4 => (0..3_usize, 0..3_usize, 0..3_usize),
        1 => (0..4_usize, 0..4_usize, 0..4_usize),
    ];
    let kept = prop_oneof![3 => Just(0_u8), 2 => 0..8_u8];
    let version = prop_oneof![16 => 0..3_usize, 1 => Just(3_usize)];
    let rarely = || prop::bool::weighted(0.15);
    let again = any::<bool>();
    let line = (key, value, email, parent, note, rarely(), kept, rarely(), version, again).prop_map(
        |(key, value, email, parent, note, deletes, kept, touches, version, again)| Line {
            key: key.into(),
            value,
            email,
            parent,
            note,
            deletes,
            kept,
            touches,
            version,
            // A key is often written, and deleted again.
            again: again && deletes,
        },
    );
    // Of few records it is more often one thing alone that counts.
    let lines = prop_oneof![prop::collection::vec(line.clone(), 1..5), prop::collection::vec(line, 1..14)];
    lines.prop_map(|mut lines| {
        for at in 1..lines.len() {
            if lines[at].again {
                lines[at].key = lines[at - 1].key;
            }
        }
        lines
    })
}

/// What is left behind: the tables, by their rows; numbers that the order gave, by their order.
async fn dump(database: &Database, shape: &Shape, schema: &str) -> TestResult<Vec<String>> {
    let rank =
        |table: &str| format!("(to_jsonb({table}) - 'n')::text || ' ' || rank() OVER (ORDER BY {table}.n)");
    let of_t = if shape.identity || shape.numbered { rank("t") } else { "to_jsonb(t)::text".to_owned() };
    let mut sql = format!(
        "SELECT 't ' || {of_t} FROM s.t AS t UNION ALL SELECT 'audit ' || {} FROM s.audit AS audit",
        rank("audit")
    );
    if shape.kids.is_some() {
        sql += " UNION ALL SELECT 'kids ' || to_jsonb(kid)::text FROM s.kids AS kid";
    }
    let rows = database.query(&in_schema(&format!("{sql} ORDER BY 1"), schema), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The texts speak of schema `s`; each run has one of its own.
pub(super) fn in_schema(sql: &str, schema: &str) -> String {
    sql.replace("s.", &format!("{schema}."))
}

/// All schemas in one transaction: what is slow is to make and remove files.
pub(super) async fn make(database: &Database, schemas: &[&str], sql: &str) -> highwater::testing::Result<()> {
    let make = |schema: &&str| {
        format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}; {}", in_schema(sql, schema))
    };
    database.execute(&schemas.iter().map(make).collect::<String>()).await
}

/// Applies the lines with these cuts to a schema that was made for them.
async fn run(
    database: &Database,
    shape: &Shape,
    lines: &[Line],
    (schema, cuts): (&str, &[usize]),
) -> TestResult<(Outcome, Vec<String>)> {
    let sink = shape.sink(schema);
    let records: Vec<(String, Option<String>)> =
        lines.iter().enumerate().map(|(at, line)| shape.record(at, line)).collect();
    let records: Vec<_> = records.iter().map(|(key, value)| (Some(key.as_str()), value.as_deref())).collect();
    let mut outcome = Rehearsal::new(database).await?.apply(&sink, &records, cuts).await?;
    outcome.halt = outcome.halt.map(|why| why.replace(&format!("{schema}."), "s."));
    Ok((outcome, dump(database, shape, schema).await?))
}

/// Thousands of small commits, whose order and not whose durability is looked at.
pub(super) async fn not_durable(database: &Database) -> highwater::testing::Result<()> {
    database.execute(&format!("ALTER DATABASE \"{}\" SET synchronous_commit = off", database.name())).await
}

async fn any_cut_gives_the_same(
    database: &Database,
    shape: &Shape,
    lines: &[Line],
    cuts: &[usize],
) -> Result<usize, TestCaseError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        TestCaseError::fail(format!("{error:?}\n{}", shape.sql()))
    };
    let singles = vec![1; lines.len()];
    let runs = [("one", &singles[..]), ("whole", &[]), ("cut", cuts)];
    let made = make(database, &runs.map(|(schema, _)| schema), &shape.sql()).await;
    made.map_err(|error| failed(error.into()))?;
    let one_by_one = run(database, shape, lines, runs[0]).await.map_err(failed)?;
    for cut in &runs[1..] {
        let found = run(database, shape, lines, *cut).await.map_err(failed)?;
        prop_assert_eq!(&found, &one_by_one, "cut {:?}; {}", cut, shape.sql());
    }
    Ok(one_by_one.0.applied)
}

#[test]
fn s1_any_cut_gives_the_same() {
    let tables = std::env::var("HIGHWATER_TEST_TABLES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let database = runtime.block_on(async {
        let database = Postgres::shared().await?.fresh_database("sequence").await?;
        let sql = "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TYPE mood AS ENUM ('sad', 'glad'); \
                   CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
        database.execute(sql).await?;
        not_durable(&database).await?;
        Ok::<_, highwater::testing::Error>(database)
    });
    let database = database.expect("a database");
    let mut runner = TestRunner::new(Config {
        cases: tables,
        failure_persistence: None,
        max_shrink_time: 30_000,
        ..Config::default()
    });
    let cuts = prop::collection::vec(1..6_usize, 0..6);
    let applied = RefCell::new(BTreeMap::<String, usize>::new());
    let found = runner.run(&(shapes(), lines(), cuts), |(shape, lines, cuts)| {
        let same = runtime.block_on(any_cut_gives_the_same(&database, &shape, &lines, &cuts))?;
        *applied.borrow_mut().entry(format!("{:?}", shape.mode)).or_default() += same;
        Ok(())
    });
    runtime.block_on(database.remove()).expect("the database goes");
    if let Err(error) = found {
        panic!("{error}");
    }
    // A sink that refuses everything would do so in any cut.
    let applied = applied.into_inner();
    println!("records applied, by mode: {applied:?}");
    let (modes, tables) = (applied.values(), tables as usize);
    assert!(modes.clone().sum::<usize>() >= tables, "{applied:?}");
    // Of few tables one mode may have next to none.
    assert!(tables < 200 || applied.len() == 4 && modes.min() >= Some(&(tables / 10)), "{applied:?}");
}
