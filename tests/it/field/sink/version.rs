//! The newer row of a key stays, however late the older one comes.

use highwater::sink::Rows;
use highwater::testing::{Database, Outcome, Postgres, Rehearsal};
use highwater::{HandlerError, Keep, Record, Table, TableSink};
use serde::Deserialize;

use crate::support::TestResult;

/// Key and value of a record; behind a tombstone's key stands its version.
type Line = (Option<&'static str>, Option<&'static str>);

const fn put(value: &'static str) -> Line {
    (None, Some(value))
}

const fn gone(key: &'static str) -> Line {
    (Some(key), None)
}

/// The rows afterwards, whatever the cut is.
async fn rows(
    database: &Database,
    ver: &str,
    sink: &TableSink,
    lines: &[Line],
) -> TestResult<(Outcome, Vec<String>)> {
    let (mut all, singles) = (Vec::new(), vec![1; lines.len()]);
    for cuts in [&singles[..], &[], &[2], &[3, 1]] {
        let sql = format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v text, ver {ver}); \
             INSERT INTO t VALUES (7, 'there', '5'), (8, 'without', NULL)"
        );
        database.execute(&sql).await?;
        let outcome = Rehearsal::new(database).await?.apply(sink, lines, cuts).await?;
        let rows = database.query("SELECT concat_ws(' ', id, v, ver) FROM t ORDER BY id", &[]).await?;
        all.push((outcome, rows.iter().map(|row| row.get(0)).collect()));
    }
    assert!(all.iter().all(|one| *one == all[0]), "{ver}: {all:?}");
    Ok(all.remove(0))
}

fn table(new: fn(&'static str, [&'static str; 3]) -> Table) -> Table {
    new("t", ["id", "v", "ver"]).version("ver")
}

#[tokio::test]
async fn s1_the_newer_row_stays() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("version").await?;
    let [upsert, update] = [table(Table::upsert), table(Table::update)].map(TableSink::json);
    let writes = [
        put(r#"{"id":1,"v":"b","ver":2}"#),
        put(r#"{"id":1,"v":"a","ver":1}"#),
        put(r#"{"id":2,"v":"c","ver":1}"#),
        put(r#"{"id":2,"v":"d","ver":1}"#),
        put(r#"{"id":7,"v":"older","ver":4}"#),
        put(r#"{"id":8,"v":"first","ver":1}"#),
    ];
    // Copied, staged, one by one: by the version's type, and by what is asked of the batch.
    for ver in ["bigint", "numeric", "text"] {
        for straight in [true, false] {
            let table = table(Table::upsert);
            let sink = TableSink::json(if straight { table.straight_from(1) } else { table });
            let (outcome, found) = rows(&database, ver, &sink, &writes).await?;
            assert_eq!(outcome, Outcome { applied: 6, halt: None });
            assert_eq!(found, ["1 b 2", "2 d 1", "7 there 5", "8 first 1"], "{ver}");
        }
        let (_, found) = rows(&database, ver, &update, &writes).await?;
        assert_eq!(found, ["7 there 5", "8 first 1"], "{ver}");
        let deletions = [
            put(r#"{"id":1,"v":"b","ver":2}"#),
            gone(r#"{"id":1,"ver":1}"#),
            put(r#"{"id":2,"v":"c","ver":2}"#),
            gone(r#"{"id":2,"ver":2}"#),
            // What it was is forgotten with the row.
            put(r#"{"id":2,"v":"again","ver":1}"#),
            gone(r#"{"id":7,"ver":4}"#),
            gone(r#"{"id":8,"ver":1}"#),
        ];
        let (_, found) = rows(&database, ver, &upsert, &deletions).await?;
        assert_eq!(found, ["1 b 2", "2 again 1", "7 there 5"], "{ver}");
        let (_, found) = rows(&database, ver, &update, &deletions).await?;
        assert_eq!(found, ["7 there 5"], "{ver}");
    }
    // Who does not say how new it is, is not applied at all.
    for (line, at) in [
        (put(r#"{"id":1,"v":"b"}"#), "column ver (bigint): the version"),
        (gone(r#"{"id":7}"#), "column ver (bigint): the version"),
        (gone("7"), "does not say which version it is"),
    ] {
        let (outcome, found) = rows(&database, "bigint", &upsert, &[writes[0], line]).await?;
        assert!(
            outcome.applied == 1 && outcome.halt.as_ref().is_some_and(|why| why.contains(at)),
            "{outcome:?}"
        );
        assert_eq!(found, ["1 b 2", "7 there 5", "8 without"]);
    }
    database.remove().await?;
    Ok(())
}

#[derive(Deserialize)]
struct Change<'a> {
    id: i32,
    v: Option<&'a str>,
    ver: i64,
}

/// A change without its `v` keeps it; a tombstone marks the row.
fn change(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<(), HandlerError> {
    if record.value().is_none() {
        let key = std::str::from_utf8(record.key().unwrap_or_default()).unwrap_or_default();
        let (id, ver) = key.split_once(' ').unwrap_or_default();
        return rows.update((id, "marked", ver));
    }
    let Change { id, v, ver } = record.json()?;
    match v {
        Some(v) => rows.push((id, v, ver)),
        None => rows.push((id, Keep, ver)),
    }
}

#[tokio::test]
async fn s1_what_is_kept_or_marked_has_a_version_too() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("version_kept").await?;
    let sink = TableSink::new(table(Table::upsert), change);
    let changes = [
        put(r#"{"id":1,"v":"a","ver":2}"#),
        // There is a row, and it is newer: nothing is lost, and nobody complains.
        put(r#"{"id":1,"ver":1}"#),
        put(r#"{"id":7,"ver":6}"#),
        gone("7 5"),
        gone("1 3"),
        put(r#"{"id":1,"v":"late","ver":2}"#),
        gone("9 1"),
    ];
    let (outcome, found) = rows(&database, "bigint", &sink, &changes).await?;
    assert_eq!(outcome, Outcome { applied: 7, halt: None });
    assert_eq!(found, ["1 marked 3", "7 there 6", "8 without"]);
    let (outcome, _) = rows(&database, "bigint", &sink, &[put(r#"{"id":9,"ver":1}"#)]).await?;
    assert!(outcome.halt.is_some_and(|why| why.contains("no row to keep it of")));
    database.remove().await?;
    Ok(())
}

#[tokio::test]
async fn s1_what_cannot_be_a_version_is_refused() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("version_refused").await?;
    let row = [put(r#"{"id":1,"v":"a","ver":1}"#)];
    for (ver, table, why) in [
        ("bigint", table(Table::append), "for Table::upsert and Table::update"),
        ("bigint", table(Table::upsert).version("seq"), "its version, seq, is not among the columns"),
        ("bigint", table(Table::upsert).version("id"), "is a column of the key"),
        ("jsonb", table(Table::upsert), "its version, ver, is jsonb, of which none is newer"),
        ("interval", table(Table::upsert), "of which none is newer"),
    ] {
        let (outcome, _) = rows(&database, ver, &TableSink::json(table), &row).await?;
        assert!(outcome.halt.as_ref().is_some_and(|halt| halt.contains(why)), "{why}: {outcome:?}");
    }
    database.remove().await?;
    Ok(())
}
