//! What people decide about records that wait, and about those that wait behind them.

use highwater::config::OnRejected;

use super::{Chain, expected};
use serde_json::Value;

use crate::operator::shapes::{check, documented};
use crate::support::{TestResult, World};

/// What was parked behind it stays, and is redriven; before that nothing of the key is applied.
#[tokio::test]
async fn core_what_is_parked_behind_a_discarded_one_is_redriven() -> TestResult {
    let world = World::chained("parked-discarded", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    let (open, parked) = expected(1);
    // Those that were rejected, and not what waits behind them.
    let discard = ["--reason", "INC-812: worthless", "--execute"];
    world.dead_letters("discard", &discard).await?.ended(0);
    assert_eq!(world.waiting().await?, (0, parked));
    world.send_chained(0, 20, &[])?;
    world.producer.flush().await?;
    world.verify_parked().await?;
    assert_eq!(world.waiting().await?, (0, parked + 2 * open));
    world.mend().await?;
    world.said_to_park().await?;
    let done = world.unparked(&[]).await?;
    assert_eq!(done["redriven"], parked + 2 * open);
    world.verify_chains().await?;
    // Of one that is discarded with all that waits behind it, the next record is applied.
    world.database.execute("UPDATE mended SET is_mended = false").await?;
    world.send_chained(0, 40, &[(5, "tx")])?;
    world.producer.flush().await?;
    world.verify_parked().await?;
    assert_eq!(world.waiting().await?, (1, 3));
    world.dead_letters("discard", &["--parked", "--reason", "all of it", "--execute"]).await?.ended(0);
    world.send_chained(0, 40, &[])?;
    world.producer.flush().await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// In the middle of a redrive: what was parked behind those that were discarded is applied by it.
#[tokio::test]
async fn what_is_discarded_in_a_redrive_holds_up_nothing_behind_it() -> TestResult {
    let world = World::chained("parked-decided", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    world.said_to_park().await?;
    world.mend().await?;
    let kinds =
        "SELECT fingerprint FROM highwater.dead_letter WHERE state = 'open' ORDER BY record_offset LIMIT 1";
    let kind: String = world.database.query(kinds, &[]).await?[0].get(0);
    let ask = ["--kind", &kind, "--rate", "1000", "--reason", "mended", "--execute"];
    world.dead_letters("redrive", &ask).await?.ended(0);
    world
        .database
        .execute("UPDATE highwater.redrive_request SET free_at = free_at + interval '1 hour'")
        .await?;
    world.send_chained(0, 30, &[])?;
    world.producer.flush().await?;
    world.verify_parked().await?;
    // All that is on its list, and what came since is not.
    let listed = "UPDATE highwater.dead_letter d SET state = 'discarded' FROM highwater.redrive_letter i \
                  WHERE i.dead_letter_id = d.dead_letter_id AND d.state IN ('open', 'parked')";
    world.database.execute(listed).await?;
    world.database.execute("UPDATE highwater.redrive_request SET free_at = clock_timestamp()").await?;
    let ended = world.redrive_ended().await?;
    assert_eq!(
        (&ended["state"], &ended["behind"], &ended["waiting"]),
        (&"done".into(), &0.into(), &0.into())
    );
    let left = format!(
        "SELECT count(*) FROM highwater.dead_letter WHERE fingerprint = '{kind}' AND state IN ('open', 'parked')"
    );
    assert_eq!(world.number(&left).await?, 0, "{ended}");
    world.verify_parked().await?;
    world.unparked(&[]).await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// A filter that leaves out the first of a key leaves out what waits behind it, and says so.
#[tokio::test]
async fn core_none_is_redriven_before_an_earlier_one_of_its_key() -> TestResult {
    let world = World::chained("parked-filtered", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    world.said_to_park().await?;
    world.mend().await?;
    let sql = "SELECT DISTINCT fingerprint FROM highwater.dead_letter WHERE reason = 'of no use to anybody'";
    let kind: String = world.database.query(sql, &[]).await?[0].get(0);
    // One of the third account was rejected for its name, and is first.
    let first =
        "SELECT record_offset FROM highwater.dead_letter WHERE reason = 'has a bad name' ORDER BY 1 LIMIT 1";
    let first = world.number(first).await?;
    world
        .database
        .execute(&format!(
            "UPDATE highwater.dead_letter SET fingerprint = '{kind}' WHERE record_offset > {first} AND key_hash = \
             (SELECT key_hash FROM highwater.dead_letter WHERE record_offset = {first})"
        ))
        .await?;
    let dry = world.dead_letters("redrive", &["--kind", &kind, "--dry-run"]).await?.ended(0).stdout;
    assert!(dry.contains("an earlier dead letter of their key waits that is not among them"), "{dry}");
    let done = world.unparked(&["--kind", &kind]).await?;
    assert!(done["redriven"].as_i64().is_some_and(|redriven| redriven > 0), "{done}");
    world.verify_parked().await?;
    // So many and not one more: what is parked behind them does not come along.
    let some = world.unparked(&["--max", "2"]).await?;
    assert_eq!((&some["records"], &some["redriven"]), (&2.into(), &2.into()));
    world.verify_parked().await?;
    let said = world.dead_letters("redrives", &["--json"]).await?.ended(0).json();
    check(&said, &documented("dead-letters redrives"), "redrives");
    world.unparked(&[]).await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// A canary that was applied is one, whatever happens to those behind it, and however many are passed over for that.
#[tokio::test]
async fn core_a_failure_behind_the_canaries_is_none_of_theirs() -> TestResult {
    let world = World::chained("parked-canary", 1).await?;
    for value in ["tx", "good", "good", "good", "never", "good", "good", "good", "good", "good"] {
        world.producer.send(world.message(0).key("c").value(value))?;
    }
    world.producer.flush().await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    world.said_to_park().await?;
    world.mend().await?;
    let done = world.unparked(&["--key", "c", "--canary", "2"]).await?;
    assert_eq!(
        (&done["state"], &done["why"], &done["redriven"], &done["failed"], &done["behind"]),
        (&"done".into(), &Value::Null, &4.into(), &1.into(), &5.into())
    );
    world.verify_parked().await?;
    // Where it is theirs, nothing follows.
    let done = world.unparked(&["--key", "c", "--canary", "1"]).await?;
    assert_eq!(
        (&done["state"], &done["redriven"], &done["failed"]),
        (&"stopped".into(), &0.into(), &1.into())
    );
    world.verify_parked().await?;
    let discard = ["--key", "c", "--reason", "no good", "--execute"];
    world.dead_letters("discard", &discard).await?.ended(0);
    world.unparked(&[]).await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// Back to the middle of what waits, with the rows: what lies behind is read again, and waits again behind what lies before.
#[tokio::test]
async fn core_a_move_back_leaves_no_gap_in_the_order() -> TestResult {
    let world = World::chained("parked-back", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    let before = world.waiting().await?;
    worker.stop().await?;
    let whole = "UPDATE chain SET offsets = ARRAY(SELECT o FROM unnest(offsets) AS o WHERE o < 60)";
    world.database.execute(&format!("DELETE FROM sink WHERE source_offset >= 60; {whole}")).await?;
    world.offsets("reset", &["--all-topics", "--to-offset", "60", "--execute"]).await?.ended(0);
    let worker = world.chaining();
    world.verify_parked().await?;
    assert_eq!(world.waiting().await?, before);
    world.mended_and_redriven().await?;
    worker.stop().await?;
    Ok(())
}

/// Under `dead_letter` nothing waits for anything, and what was parked before is a dead letter like others.
#[tokio::test]
async fn the_policy_may_change_back() -> TestResult {
    let world = World::chained("parked-changed", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    let (open, parked) = expected(1);
    worker.stop().await?;
    let worker = world.worker_with(world.parking().on_rejected(OnRejected::DeadLetter), Chain);
    world.send_chained(0, 40, &[])?;
    world.producer.flush().await?;
    world.caught_up().await?;
    assert_eq!(world.waiting().await?, (open, parked));
    world.said_policy("dead_letter").await?;
    world.mend().await?;
    let dry = world.dead_letters("redrive", &["--dry-run"]).await?.ended(0).stdout;
    assert!(dry.contains("does more than append"), "{dry}");
    assert_eq!(world.unparked(&["--ignore-order"]).await?["redriven"], open + parked);
    assert_eq!(world.waiting().await?, (0, 0));
    worker.stop().await?;
    Ok(())
}
