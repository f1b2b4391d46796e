//! Past the stage: where every key is new, and what becomes of it where one is not.

use super::*;

const ACCOUNTS: &str = "CREATE TABLE accounts (id int PRIMARY KEY, cents int CHECK (cents <> 13), name text)";

/// Records are JSON.
fn accounts(upsert: bool) -> TableSink {
    let columns = ["id", "cents", "name"];
    let table =
        if upsert { Table::upsert("accounts", columns) } else { Table::insert_ignore("accounts", columns) };
    TableSink::json(table.straight_from(2))
}

fn rows(rows: &[(i32, i32)]) -> Batch {
    let texts: Vec<String> =
        rows.iter().map(|(id, cents)| format!(r#"{{"id":{id},"cents":{cents},"name":"n{id}"}}"#)).collect();
    batch(&texts.iter().map(|text| (None, Some(&**text))).collect::<Vec<_>>())
}

impl Place {
    async fn accounts(&self) -> Vec<String> {
        let sql = "SELECT id || ' ' || cents || ' ' || name FROM accounts ORDER BY id";
        self.texts(sql).await.into_iter().flatten().collect()
    }

    /// How many stages there are.
    async fn stages(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_class WHERE relname LIKE 'highwater_stage_%'";
        self.database.query(sql, &[]).await.unwrap()[0].get(0)
    }
}

#[tokio::test]
async fn new_keys_need_no_stage_and_one_that_is_there_brings_it() {
    for (upsert, third) in [(true, "3 33 n3"), (false, "3 30 n3")] {
        let place = Place::new(ACCOUNTS).await;
        let sink = accounts(upsert);
        place.apply(&sink, &rows(&[(3, 30), (1, 10), (2, 20)])).await.unwrap();
        assert_eq!(place.accounts().await, ["1 10 n1", "2 20 n2", "3 30 n3"]);
        assert_eq!(place.stages().await, 0, "upsert {upsert}");
        // A single row is not worth a savepoint.
        place.apply(&sink, &rows(&[(0, 1)])).await.unwrap();
        assert_eq!(place.stages().await, 1);
        place.apply(&sink, &rows(&[(4, 40), (3, 33), (5, 50)])).await.unwrap();
        assert_eq!(place.accounts().await, ["0 1 n0", "1 10 n1", "2 20 n2", third, "4 40 n4", "5 50 n5"]);
    }
}

/// The same key twice: the last one for an upsert, the first one else, past the stage or not.
#[tokio::test]
async fn a_key_that_comes_twice_is_written_once() {
    for (upsert, first) in [(true, "1 11 n1"), (false, "1 10 n1")] {
        let place = Place::new(ACCOUNTS).await;
        place.apply(&accounts(upsert), &rows(&[(1, 10), (2, 20), (1, 11)])).await.unwrap();
        assert_eq!(place.accounts().await, [first, "2 20 n2"]);
        assert_eq!(place.stages().await, i64::from(!upsert), "an upsert's rows are reduced before");
    }
}

/// Somebody else adds a key and commits while the COPY waits for him.
#[tokio::test]
async fn a_key_that_another_adds_meanwhile_is_overwritten() {
    let place = Place::new(ACCOUNTS).await;
    let (sink, other) = (accounts(true), place.connection().await);
    other.batch_execute("BEGIN; INSERT INTO accounts VALUES (2, 1, 'other')").await.unwrap();
    let waits = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event_type = 'Lock'";
    let commit = async {
        while place.database.query(waits, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        other.batch_execute("COMMIT").await.unwrap();
    };
    let batch = rows(&[(1, 10), (2, 20)]);
    let (applied, ()) = tokio::join!(place.apply(&sink, &batch), commit);
    applied.unwrap();
    assert_eq!(place.accounts().await, ["1 10 n1", "2 20 n2"]);
}

/// What is wrong with a row is told as the stage tells it, and the next batches go that way at once.
#[tokio::test]
async fn a_bad_row_is_told_as_ever() {
    let place = Place::new(ACCOUNTS).await;
    let (sink, staged) =
        (accounts(true), TableSink::json(Table::upsert("accounts", ["id", "cents", "name"])));
    let bad = rows(&[(1, 10), (2, 13)]);
    let straight = place.apply(&sink, &bad).await.unwrap_err();
    let expected = place.apply(&staged, &bad).await.unwrap_err();
    assert_eq!(
        (straight.to_string(), straight.sqlstate(), straight.record()),
        (expected.to_string(), expected.sqlstate(), expected.record())
    );
    assert_eq!(place.accounts().await, [""; 0]);
}
