//! What people decide meanwhile, or afterwards: discard, cancel, reset, undo.

use highwater::testing::wait_until;

use crate::operator::reset;
use crate::operator::shapes::{check, documented};
use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// What is discarded in the middle of its redrive is not applied.
#[tokio::test]
async fn core_what_is_discarded_meanwhile_is_not_applied() -> TestResult {
    let world = World::with_letters("redrive-discarded", 1, 100, false).await?;
    let settings =
        [("HIGHWATER_TEST_FAILPOINT", "rows_written=freeze"), ("HIGHWATER_ON_REJECTED", "dead_letter")];
    let worker = Process::start_with(&world, "late", "plain", &settings)?;
    world.redrive(&[]).await?.ended(0);
    worker.reached("rows_written").await?;
    let discard = ["--reason", "INC-812: resent", "--execute"];
    let said = world.dead_letters("discard", &discard).await?.ended(0).stdout;
    assert!(said.contains("10 records discarded"), "{said}");
    world.thawed(&worker).await?;
    let ended = world.redrive_ended().await?;
    assert_eq!((&ended["redriven"], &ended["gone"]), (&0.into(), &10.into()));
    assert_eq!((world.letters_in("discarded").await?, world.letters_in("redriven").await?), (10, 0));
    assert_eq!(world.database.count("sink").await?, 90);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_one_that_is_cancelled_loses_nothing() -> TestResult {
    let world = World::with_letters("redrive-cancelled", 2, 200, false).await?;
    let worker = world.mended();
    let begun = world.redrive_begun(&["--rate", "5"]).await?;
    wait_until("some are redriven", PATIENCE, async || {
        Ok((world.letters_in("redriven").await.unwrap_or(0) > 0).then_some(()))
    })
    .await?;
    let id = begun["id"].to_string();
    world.highwater(&["dead-letters", "redrive", "--cancel", &id]).await?.ended(2);
    let cancel = ["dead-letters", "redrive", "--cancel", &id, "--reason", "too much", "--json"];
    // A number of another group's is a slip.
    let other = world.highwater(&[&cancel[..], &["--group", "another"]].concat()).await?.ended(2);
    assert!(other.stderr.contains(&format!("of group {}, not of another", world.group)), "{}", other.stderr);
    assert_eq!(world.redrives().await?[0]["state"], "running");
    let said = world.highwater(&cancel).await?.ended(0).json();
    check(&said, &documented("dead-letters redrive"), "redrive --cancel");
    let cancelled = &said["redrives"][0];
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["why"].as_str().is_some_and(|why| why.ends_with("too much")), "{cancelled}");
    let again = world.highwater(&cancel[..cancel.len() - 1]).await?.ended(0).stdout;
    assert!(again.contains("has ended before; nothing was done"), "{again}");
    let open = world.verify_with_letters().await?.len();
    assert!((1..40).contains(&open), "{open} are open");
    let rest = world.redriven(&[]).await?;
    assert_eq!(rest["redriven"], open);
    world.verify_redriven().await?;
    let ids = world.redrives().await?;
    assert_eq!(ids.as_array().map(Vec::len), Some(2));
    worker.stop().await?;
    Ok(())
}

/// Canaries of a partition that nobody holds hold up all others, and that is said.
#[tokio::test]
async fn canaries_that_nobody_can_try_are_told_of() -> TestResult {
    let world = World::with_letters("redrive-unheld", 2, 50, false).await?;
    let begun = world.redrive_begun(&["--canary", "1"]).await?;
    assert_eq!(
        (&begun["why"], &begun["unheld"]),
        (&"those that go first are of partitions that no live worker holds".into(), &10.into())
    );
    let worker = world.mended();
    let ended = world.redrive_ended().await?;
    assert_eq!(
        (&ended["state"], &ended["redriven"], &ended["why"]),
        (&"done".into(), &10.into(), &serde_json::Value::Null)
    );
    world.verify_redriven().await?;
    worker.stop().await?;
    Ok(())
}

/// One whose content is not kept when its turn comes was not decided about: it waits, and the redrive does not say that all is
/// well.
#[tokio::test]
async fn core_what_cannot_be_redriven_any_more_is_said() -> TestResult {
    let world = World::with_letters("redrive-ineligible", 1, 50, false).await?;
    world.redrive(&[]).await?.ended(0);
    let expired = "DELETE FROM highwater.dead_letter_payload p USING highwater.dead_letter d \
                   WHERE d.dead_letter_id = p.dead_letter_id AND d.record_offset IN (4, 24)";
    world.database.execute(expired).await?;
    let worker = world.mended();
    let ended = world.redrive_ended().await?;
    assert_eq!(
        (&ended["state"], &ended["redriven"], &ended["ineligible"], &ended["gone"]),
        (&"done".into(), &3.into(), &2.into(), &0.into())
    );
    assert_eq!(world.letters_in("open").await?, 2);
    let shown = world.dead_letters("redrives", &[]).await?.ended(0).stdout;
    assert!(shown.contains("INELIGIBLE"), "{shown}");
    // They are nothing that a second one could do anything about, and it says so.
    let said = world.redrive(&["--wait"]).await?.ended(1).stdout;
    assert!(said.contains("2 records: their content is not kept"), "{said}");
    // Each of them can be found, and decided about by itself.
    let shown = world.dead_letters("list", &["--records"]).await?.ended(0).stdout;
    assert_eq!(shown.matches("(its content is not kept any more)").count(), 2, "{shown}");
    let id = "SELECT dead_letter_id FROM highwater.dead_letter WHERE record_offset = 24";
    let id = world.number(id).await?.to_string();
    let discard = ["--id", &id, "--reason", "resent", "--execute"];
    let said = world.dead_letters("discard", &discard).await?.ended(0).stdout;
    assert!(said.contains("1 record discarded"), "{said}");
    assert_eq!((world.letters_in("open").await?, world.letters_in("discarded").await?), (1, 1));
    let back = "UPDATE highwater.dead_letter SET state = 'open' WHERE state = 'discarded'";
    world.database.execute(back).await?;
    world.verify_with_letters().await?;
    worker.stop().await?;
    Ok(())
}

/// Dead letter, redriven, moved back with its rows, rejected again, redriven again.
#[tokio::test]
async fn core_undo_takes_redriven_rows_and_the_records_may_be_rejected_again() -> TestResult {
    let world = World::with_letters("redrive-undone", 2, 50, true).await?;
    let mended = || world.worker_with(world.setting_aside(), Sink { fault: (), rows_only: true });
    let worker = mended();
    assert_eq!(world.redriven(&[]).await?["redriven"], 10);
    world.caught_up().await?;
    world.assert_exact(false).await?;
    worker.stop().await?;

    // Some of them lie at or past the target, with their rows.
    let some = format!("{}:0", world.topic);
    let back = ["--topic", &some, "--to-offset", "20", "--execute", "--undo-rows"];
    world.offsets("reset", &back).await?.ended(0);
    assert_eq!((world.letters_in("redriven").await?, world.letters_in("superseded").await?), (7, 3));
    let behind = "SELECT count(*) FROM sink WHERE source_partition = 0 AND source_offset >= 20";
    assert_eq!(world.number(behind).await?, 0);
    let prove = ["reconcile", "--group", &world.group, "--table", "sink", "--deep"];
    world.highwater(&prove).await?.ended(0);

    let worker = world.rejecting(true);
    world.caught_up().await?;
    world.assert_rows_and_letters("sink").await?;
    assert_eq!(world.letters().await?.len(), 3);
    worker.stop().await?;
    world.highwater(&prove).await?.ended(0);
    let worker = mended();
    assert_eq!(world.redriven(&[]).await?["redriven"], 3);
    world.caught_up().await?;
    world.assert_exact(false).await?;
    world.highwater(&prove).await?.ended(0);
    worker.stop().await?;
    Ok(())
}

/// Applied once, moved back without an undo, and rejected the second time: whoever redrives it is told of the first.
#[tokio::test]
async fn rows_from_before_a_move_back_are_warned_of() -> TestResult {
    let world = World::with_letters("redrive-twice", 1, 50, true).await?;
    let rejected_again = async |how: &[&str]| -> TestResult<String> {
        world
            .offsets("reset", &[&["--all-topics", "--to-earliest", "--execute"], how].concat())
            .await?
            .ended(0);
        let worker = world.rejecting(true);
        world.caught_up().await?;
        worker.stop().await?;
        assert_eq!(world.letters_in("open").await?, 5);
        Ok(world.dead_letters("redrive", &["--dry-run"]).await?.ended(0).stdout)
    };
    // A dead letter has no rows yet, however often it is rejected.
    let never_applied = rejected_again(&[]).await?;
    assert!(!never_applied.contains("may have rows"), "{never_applied}");
    assert!(never_applied.ends_with("5 records would be redriven; nothing was done\n"), "{never_applied}");
    let worker = world.worker_with(world.setting_aside(), Sink { fault: (), rows_only: true });
    assert_eq!(world.redriven(&[]).await?["redriven"], 5);
    worker.stop().await?;
    let said = rejected_again(&[]).await?;
    assert!(said.contains("5 records may have rows already, from before a move back"), "{said}");
    // With the rows, nothing is left of the first time.
    let undone = rejected_again(&["--undo-rows"]).await?;
    assert!(!undone.contains("may have rows"), "{undone}");
    let worker = world.worker_with(world.setting_aside(), Sink { fault: (), rows_only: true });
    assert_eq!(world.redriven(&[]).await?["redriven"], 5);
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}

/// The offset was moved back by SQL that says nothing of dead letters, with the rows taken out: the group reads everything
/// again, those records, too.
#[tokio::test]
async fn core_what_was_read_again_since_is_not_redriven() -> TestResult {
    let world = World::with_letters("redrive-again", 1, 50, true).await?;
    let sql = reset(&world, 0, 0, "TRUNCATE sink;");
    let (before, rest) = sql.split_once("UPDATE highwater.dead_letter d").expect("the page supersedes them");
    let after = rest.split_once(";\n").expect("the statement's end").1;
    world.database.execute(&format!("{before}{after}")).await?;
    let worker = world.worker_with(world.setting_aside(), Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    world.assert_exact(false).await?;
    assert_eq!(world.letters_in("open").await?, 5);
    let said = world.redrive(&[]).await?.stdout;
    assert!(said.contains("not eligible, 5 records: the group was moved back before them since"), "{said}");
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}
