//! Defects, planted.

use highwater::config::StartPolicy;
use highwater::testing::wait_until;

use super::{DEEP, STRICT, TABLE};
use crate::support::{PATIENCE, Sink, TestResult, World};

/// One at a time, and mended before the next.
#[tokio::test]
async fn what_is_planted_is_found_by_its_name_and_nothing_else_is() -> TestResult {
    let world = World::new("planted", 2).await?;
    world.produce(50).await?;
    let settings = world.settings().start(StartPolicy::Latest);
    let worker = world.worker_with(settings.clone(), Sink::<()>::default());
    wait_until("it has begun behind what was there", PATIENCE, async || {
        Ok((world.next_offset(1).await? == Some(50)).then_some(()))
    })
    .await?;
    world.produce(50).await?;
    world.caught_up().await?;
    worker.stop().await?;
    for _ in 0..3 {
        world.transact(3).await?;
        let worker = world.worker_with(settings.clone(), Sink::<()>::default());
        world.caught_up().await?;
        worker.stop().await?;
    }
    let skipped = world.next_offset(1).await?.expect("it has one");
    world.produce(10).await?;
    let to = (skipped + 4).to_string();
    world.partitions_command("skip", 1, &["--to", &to, "--reason", "why"]).await?.ended(0);
    let worker = world.worker_with(settings.clone(), Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    world.is_well().await?;
    let next = world.next_offset(0).await?.expect("it has one");
    let committed: Vec<i64> = world
        .kafka
        .read(&world.topic)
        .await?
        .into_iter()
        .filter(|record| record.partition == 0)
        .map(|record| record.offset)
        .collect();
    let marker = (100..next).find(|offset| !committed.contains(offset)).expect("there are transactions");
    let insert = |partition: i32, offset: i64| {
        format!("INSERT INTO sink VALUES ('{}', {partition}, {offset})", world.topic)
    };
    let delete = |partition: i32, offset: i64| {
        format!(
            "DELETE FROM sink WHERE ctid = (SELECT min(ctid) FROM sink WHERE source_partition = {partition} \
             AND source_offset = {offset})"
        )
    };
    let history = |column: &str, change: i64| {
        format!(
            "UPDATE highwater.claim_history SET {column} = {column} + {change} WHERE partition = 0 AND epoch = \
             (SELECT max(epoch) FROM highwater.claim_history WHERE partition = 0)"
        )
    };
    let last: Vec<i64> = world
        .database
        .query(
            "SELECT claimed_offset, end_offset, applied_records FROM highwater.claim_history WHERE partition = 0 \
             ORDER BY epoch DESC LIMIT 1",
            &[],
        )
        .await?
        .iter()
        .flat_map(|row| [row.get(0), row.get(1), row.get(2)])
        .collect();
    let (from, to) = (last[0], last[1]);
    assert!(to > from, "the last but one claim has applied something");
    for (what, plant, mend, arguments, expected) in [
        ("a missing row", delete(0, 60), insert(0, 60), STRICT, "missing_row 0@60"),
        ("the same, by default", delete(0, 60), insert(0, 60), DEEP, "missing_row 0@60"),
        ("the same, by the counts", delete(0, 60), insert(0, 60), TABLE, "missing_rows 0@50"),
        ("a doubled row", insert(1, 70), delete(1, 70), TABLE, "doubled_row 1@70"),
        ("the same, read again", insert(1, 70), delete(1, 70), STRICT, "doubled_row 1@70"),
        (
            "a row of no record",
            insert(0, marker),
            delete(0, marker),
            STRICT,
            &format!("row_without_record 0@{marker}"),
        ),
        (
            "a row ahead",
            insert(0, next + 3),
            delete(0, next + 3),
            TABLE,
            &format!("row_ahead 0@{}", next + 3),
        ),
        ("a row at next_offset", insert(0, next), delete(0, next), STRICT, &format!("row_ahead 0@{next}")),
        ("a row of before the start", insert(1, 49), delete(1, 49), TABLE, "row_before_start 1@49"),
        (
            "a row of what was skipped",
            insert(1, skipped + 1),
            delete(1, skipped + 1),
            STRICT,
            &format!("row_stepped_over 1@{}", skipped + 1),
        ),
        ("a row of no partition", insert(7, 5), delete(7, 5), DEEP, "unknown_partition 7@5"),
        (
            "a hole",
            history("end_offset", -2),
            history("end_offset", 2),
            STRICT,
            &format!("hole 0@{}", to - 2),
        ),
        (
            "an overlap",
            history("claimed_offset", -4),
            history("claimed_offset", 4),
            STRICT,
            &format!("overlap 0@{}", from - 4),
        ),
        (
            "the same, from behind",
            history("end_offset", 2),
            history("end_offset", -2),
            TABLE,
            &format!("overlap 0@{to}"),
        ),
        (
            "a record that was not counted",
            history("applied_records", -1),
            history("applied_records", 1),
            STRICT,
            &format!("not_applied 0@{from}"),
        ),
        (
            "the same, by the rows",
            history("applied_records", -1),
            history("applied_records", 1),
            TABLE,
            &format!("surplus_rows 0@{from}"),
        ),
    ] {
        world.database.execute(&plant).await?;
        assert_eq!(world.found(arguments).await?, [expected], "{what}");
        world.database.execute(&mend).await?;
    }
    world.is_well().await?;

    // A hole between claims: one of them is not there.
    let rows =
        "SELECT min(epoch), max(epoch), min(end_offset) FROM highwater.claim_history WHERE partition = 1";
    let row = &world.database.query(rows, &[]).await?[0];
    let (first, second, end): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(first < second);
    world.database.execute("CREATE TABLE kept AS TABLE highwater.claim_history").await?;
    world
        .database
        .execute(&format!(
            "DELETE FROM highwater.claim_history WHERE partition = 1 AND epoch = {}",
            first + 1
        ))
        .await?;
    assert_eq!(world.found(STRICT).await?, [format!("hole 1@{end}")]);
    world
        .database
        .execute("DELETE FROM highwater.claim_history; INSERT INTO highwater.claim_history TABLE kept")
        .await?;

    // All of a batch, twice: the first ten by name, and how many there are.
    world
        .database
        .execute("INSERT INTO sink SELECT * FROM sink WHERE source_partition = 1 AND source_offset BETWEEN 60 AND 79")
        .await?;
    let said = world.reconcile(TABLE).await?.ended(1);
    let named = said.stdout.lines().filter(|line| line.starts_with("doubled_row ")).count();
    assert_eq!(named, 10, "{}", said.stdout);
    assert!(said.stdout.contains("doubled_row: and 10 more"), "{}", said.stdout);
    assert!(said.stderr.contains("20 differences"), "{}", said.stderr);
    let several = [TABLE, &["--several-rows"]].concat();
    world.reconcile(&several).await?.ended(0);
    Ok(())
}
