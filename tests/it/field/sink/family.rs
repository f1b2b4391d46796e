//! S1, for several tables of one sink with foreign keys between them.

use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{Table, TableSink};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::sequence::{in_schema, make};
use crate::support::TestResult;

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// append, insert_ignore, upsert.
    parents: u8,
    children: u8,
    action: &'static str,
    deferred: bool,
    /// The child is given first.
    turned: bool,
    /// A second key of the parents'.
    unique: bool,
    /// Both tables take numbers from one sequence.
    numbered: bool,
    parted: Parted,
    /// The parents are given once more, under another name, to be updated.
    twice: bool,
    /// Any batch may pass the stage.
    straight: bool,
}

/// Whether the parents are a partition, and of which one the children's key is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Parted {
    No,
    /// The partition is written, the table above it referred to.
    Written,
    /// The other way round.
    Referred,
}

/// `P id v` writes a parent, `p id` deletes it, `U id d` updates it; `C id parent` writes a child, `c id` deletes it.
type Line = Vec<(char, u8, u8)>;

impl Shape {
    fn sql(self) -> String {
        let deferred = if self.deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
        let (unique, by) = (if self.unique { " UNIQUE" } else { "" }, self.parted != Parted::No);
        let number = if self.numbered { ", n bigint DEFAULT nextval('s.numbers')" } else { "" };
        let (by, partition) = match by {
            true => (
                " PARTITION BY RANGE (id)",
                "CREATE TABLE s.part PARTITION OF s.parent FOR VALUES FROM (0) TO (5);",
            ),
            false => ("", ""),
        };
        let referred = if self.parted == Parted::Referred { "part" } else { "parent" };
        format!(
            "CREATE SEQUENCE s.numbers; \
             CREATE TABLE s.parent (id int PRIMARY KEY, v int{unique}, d int DEFAULT 7{number}){by}; {partition} \
             CREATE TABLE s.child (id int PRIMARY KEY, \
                 parent int DEFAULT 0 REFERENCES s.{referred} ON DELETE {} {deferred}{number}); \
             INSERT INTO s.parent VALUES (0, 0, 0), (1, 1, 1); INSERT INTO s.child VALUES (1, 1);",
            self.action
        )
    }

    /// The parents' names: the one that is written, and the one that is updated.
    fn parents(self) -> [&'static str; 2] {
        match self.parted {
            Parted::No => ["s.parent", "s.\"parent\""],
            Parted::Written => ["s.part", "s.parent"],
            Parted::Referred => ["s.parent", "s.part"],
        }
    }

    fn sink(self, schema: &str) -> TableSink {
        let [parent, again] = self.parents().map(|name| in_schema(name, schema));
        let child = in_schema("s.child", schema);
        let table = |mode: u8, name: &String, columns: [&str; 2]| {
            let table = match mode {
                0 => Table::append(name, columns),
                1 => Table::insert_ignore(name, columns),
                _ => Table::upsert(name, columns),
            };
            if self.straight { table.straight_from(1) } else { table }
        };
        let mut tables =
            vec![table(self.parents, &parent, ["id", "v"]), table(self.children, &child, ["id", "parent"])];
        if self.twice {
            tables.push(Table::update(&again, ["id", "d"]));
        }
        if self.turned {
            tables.reverse();
        }
        TableSink::new(tables, move |record, rows| {
            let text = std::str::from_utf8(record.value().unwrap_or_default()).unwrap_or_default();
            for row in text.split_terminator(';') {
                let fields: Vec<&str> = row.split(' ').collect();
                let number = |at: usize| fields[at].parse::<i32>().unwrap_or_default();
                match fields[0] {
                    "P" => rows.of(&parent).push((number(1), number(2)))?,
                    "U" => rows.of(&again).push((number(1), number(2)))?,
                    "p" => rows.of(&parent).delete((number(1),))?,
                    "C" => rows.of(&child).push((number(1), number(2)))?,
                    _ => rows.of(&child).delete((number(1),))?,
                }
            }
            Ok(())
        })
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let action = prop::sample::select(vec!["NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"]);
    let parted = prop_oneof![3 => Just(Parted::No), 1 => Just(Parted::Written), 1 => Just(Parted::Referred)];
    let rarely = || prop::bool::weighted(0.2);
    (
        (0..3_u8, 0..3_u8, action, any::<bool>(), rarely()),
        (rarely(), rarely(), parted, rarely(), any::<bool>()),
    )
        .prop_map(
            |((parents, children, action, deferred, turned), (unique, numbered, parted, twice, straight))| {
                Shape {
                    parents,
                    children,
                    action,
                    deferred,
                    turned,
                    // A partitioned table's keys have the column that it is parted by.
                    unique: unique && parted == Parted::No,
                    numbered,
                    parted,
                    twice,
                    straight,
                }
            },
        )
}

fn lines(shape: Shape) -> impl Strategy<Value = Vec<Line>> {
    let mut kinds = vec!['P', 'C', 'C'];
    if shape.parents == 2 {
        kinds.push('p');
    }
    if shape.children == 2 {
        kinds.push('c');
    }
    if shape.twice {
        kinds.push('U');
    }
    let other = prop_oneof![4 => 0..2_u8, 1 => 0..6_u8];
    let row = (prop::sample::select(kinds), 0..6_u8, other);
    let lines = prop::collection::vec(prop::collection::vec(row, 1..5), 1..12);
    lines.prop_map(move |mut lines| {
        // An append ends at the first row that is there already, so each has a key of its own; not in their order.
        let first = if shape.parted == Parted::No { 60 } else { 4 };
        let (mut parent, mut child) = (first, 120);
        for (kind, id, _) in lines.iter_mut().flatten() {
            match kind {
                'P' if shape.parents == 0 && parent > 1 => (*id, parent) = (parent, parent - 1),
                'C' if shape.children == 0 => (*id, child) = (child, child - 1),
                _ => {}
            }
        }
        lines
    })
}

async fn run(
    database: &Database,
    shape: Shape,
    lines: &[Line],
    (schema, cuts): (&str, &[usize]),
) -> TestResult<(Outcome, Vec<String>)> {
    let text = |line: &Line| {
        line.iter().map(|(kind, id, other)| format!("{kind} {id} {other};")).collect::<String>()
    };
    let records: Vec<String> = lines.iter().map(text).collect();
    let records: Vec<_> = records.iter().map(|text| (None, Some(text.as_str()))).collect();
    let mut outcome = Rehearsal::new(database).await?.apply(&shape.sink(schema), &records, cuts).await?;
    outcome.halt = outcome.halt.map(|why| why.replace(&format!("{schema}."), "s."));
    // Numbers by their order: what is rolled back takes some.
    let n = if shape.numbered { "n" } else { "0 AS n" };
    let sql = format!(
        "SELECT x.one || ' ' || rank() OVER (ORDER BY x.n) FROM ( \
            SELECT 'parent ' || (to_jsonb(p) - 'n')::text AS one, {n} FROM s.parent AS p \
            UNION ALL SELECT 'child ' || (to_jsonb(c) - 'n')::text, {n} FROM s.child AS c) AS x ORDER BY 1"
    );
    let rows = database.query(&in_schema(&sql, schema), &[]).await?;
    Ok((outcome, rows.iter().map(|row| row.get(0)).collect()))
}

async fn any_cut_gives_the_same(
    database: &Database,
    shape: Shape,
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
        prop_assert_eq!(&found, &one_by_one, "cut {:?}", cut);
    }
    Ok(one_by_one.0.applied)
}

#[test]
fn s1_any_cut_gives_the_same_for_several_tables() {
    let tables = std::env::var("HIGHWATER_TEST_TABLES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let database = runtime.block_on(async {
        let database = Postgres::shared().await?.fresh_database("family").await?;
        super::sequence::not_durable(&database).await?;
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
    let cases = shapes().prop_flat_map(|shape| (Just(shape), lines(shape)));
    let applied = std::cell::Cell::new(0);
    let found = runner.run(&(cases, cuts), |((shape, lines), cuts)| {
        let same = runtime.block_on(any_cut_gives_the_same(&database, shape, &lines, &cuts))?;
        applied.set(applied.get() + same);
        Ok(())
    });
    runtime.block_on(database.remove()).expect("the database goes");
    if let Err(error) = found {
        panic!("{error}");
    }
    // A sink that refuses everything would do so in any cut.
    assert!(applied.get() >= tables as usize, "{} records were applied", applied.get());
}
