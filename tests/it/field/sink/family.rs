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
}

/// `P id v` writes a parent, `p id` deletes it; `C id parent` writes a child, `c id` deletes it.
type Line = Vec<(char, u8, u8)>;

impl Shape {
    fn sql(self) -> String {
        let deferred = if self.deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
        format!(
            "CREATE TABLE s.parent (id int PRIMARY KEY, v int, d int DEFAULT 7); \
             CREATE TABLE s.child (id int PRIMARY KEY, \
                 parent int DEFAULT 0 REFERENCES s.parent ON DELETE {} {deferred}); \
             INSERT INTO s.parent VALUES (0, 0, 0), (1, 1, 1); INSERT INTO s.child VALUES (1, 1);",
            self.action
        )
    }

    fn sink(self, schema: &str) -> TableSink {
        let [parent, child] = ["s.parent", "s.child"].map(|name| in_schema(name, schema));
        let table = |mode: u8, name: &String, columns: [&str; 2]| match mode {
            0 => Table::append(name, columns),
            1 => Table::insert_ignore(name, columns),
            _ => Table::upsert(name, columns),
        };
        let mut tables =
            [table(self.parents, &parent, ["id", "v"]), table(self.children, &child, ["id", "parent"])];
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
    (0..3_u8, 0..3_u8, action, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(parents, children, action, deferred, turned)| Shape { parents, children, action, deferred, turned },
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
    let row = (prop::sample::select(kinds), 0..6_u8, 0..6_u8);
    prop::collection::vec(prop::collection::vec(row, 1..5), 1..12)
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
    let sql = "SELECT 'parent ' || to_jsonb(p)::text FROM s.parent AS p \
               UNION ALL SELECT 'child ' || to_jsonb(c)::text FROM s.child AS c ORDER BY 1";
    let rows = database.query(&in_schema(sql, schema), &[]).await?;
    Ok((outcome, rows.iter().map(|row| row.get(0)).collect()))
}

async fn any_cut_gives_the_same(
    database: &Database,
    shape: Shape,
    lines: &[Line],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
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
    Ok(())
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
    let found = runner.run(&(cases, cuts), |((shape, lines), cuts)| {
        runtime.block_on(any_cut_gives_the_same(&database, shape, &lines, &cuts))
    });
    runtime.block_on(database.remove()).expect("the database goes");
    if let Err(error) = found {
        panic!("{error}");
    }
}
