//! Killed and frozen while it parks and while it redrives: no record of a key overtakes another.

use highwater::testing::wait_until;

use crate::support::{PATIENCE, Process, TestResult, World};

const SETTINGS: [(&str, &str); 5] = [
    ("HIGHWATER_ON_REJECTED", "park_key"),
    ("HIGHWATER_DEAD_LETTER_MAX_IN_A_ROW", "off"),
    ("HIGHWATER_BATCH_TARGET_RECORDS", "20"),
    ("HIGHWATER_BATCH_MAX_RECORDS", "20"),
    ("HIGHWATER_SESSION_TIMEOUT", "4s"),
];

fn chain(world: &World<'_>, name: &str, failpoint: Option<&str>) -> TestResult<Process> {
    let armed = failpoint.map(|failpoint| ("HIGHWATER_TEST_FAILPOINT", failpoint));
    let settings: Vec<(&str, &str)> = SETTINGS.into_iter().chain(armed).collect();
    Ok(Process::start_with(world, name, "chain", &settings)?)
}

async fn killed(world: &World<'_>, failpoint: &str, nth: usize) -> TestResult {
    let victim = chain(world, failpoint, Some(&format!("{failpoint}={nth}*kill")))?;
    assert_eq!(victim.child.wait(PATIENCE).await?, 137, "killed with SIGKILL at {failpoint}");
    world.assert_ordered().await
}

/// Killed at each of these, the one after the other: while it parks, and, mended, while it redrives.
async fn killed_at(hint: &str, parking: &[(&str, usize)], redriving: &[&str]) -> TestResult {
    let world = World::chained(hint, 2).await?;
    for (failpoint, nth) in parking {
        killed(&world, failpoint, *nth).await?;
    }
    let worker = chain(&world, "worker", None)?;
    world.verify_parked().await?;
    assert_eq!(world.waiting().await?, super::expected(2));
    world.said_to_park().await?;
    worker.stop().await?;

    world.mend().await?;
    world.dead_letters("redrive", &["--reason", "mended", "--execute"]).await?.ended(0);
    for failpoint in redriving {
        killed(&world, failpoint, 1).await?;
    }
    let heir = chain(&world, "heir", None)?;
    world.redrive_ended().await?;
    world.verify_chains().await?;
    heir.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_killed_while_it_parks_and_while_it_redrives() -> TestResult {
    let parking = [("letters_stored", 2), ("letters_stored", 5), ("commit_sent", 7)];
    killed_at("parked-killed", &parking, &["redrive_taken", "letters_redriven", "commit_sent"]).await
}

#[tokio::test]
async fn killed_anywhere_else_while_it_parks_and_while_it_redrives() -> TestResult {
    let parking = [("batch_begun", 4), ("rows_written", 5), ("before_commit", 4), ("commit_answered", 6)];
    killed_at("parked-killed-else", &parking, &["batch_begun", "rows_written", "commit_answered"]).await
}

/// Its heir parks, is mended, and redrives all of it, before the zombie wakes up with what it would have parked.
#[tokio::test]
async fn core_a_zombie_parks_nothing() -> TestResult {
    let world = World::chained("parked-frozen", 1).await?;
    let zombie = chain(&world, "zombie", Some("letters_stored=3*freeze"))?;
    zombie.reached("letters_stored").await?;
    let heir = chain(&world, "heir", None)?;
    world.verify_parked().await?;
    world.mended_and_redriven().await?;
    zombie.child.thaw()?;
    let owner = zombie.owner().await?;
    wait_until("the zombie has heard that it is one", PATIENCE, async || {
        let beats = format!("SELECT fenced_total FROM highwater.worker_status WHERE owner = '{owner}'");
        Ok((zombie.wrote("fenced") || world.number(&beats).await? > 0).then_some(()))
    })
    .await?;
    world.send_chained(0, 30, &[])?;
    world.producer.flush().await?;
    world.verify_chains().await?;
    zombie.stop().await?;
    heir.stop().await?;
    Ok(())
}

/// While its letters are redriven, records of the same keys come in: what is parked meanwhile follows, and what comes after
/// the last of it is applied.
#[tokio::test]
async fn core_a_redrive_follows_a_key_until_nothing_of_it_waits() -> TestResult {
    let world = World::chained("parked-moving", 2).await?;
    let workers = [chain(&world, "one", None)?, chain(&world, "two", None)?];
    world.verify_parked().await?;
    world.said_to_park().await?;
    world.mend().await?;
    let ask = ["--reason", "mended", "--execute", "--json", "--rate", "1000"];
    let began = world.dead_letters("redrive", &ask).await?.ended(0).json();
    // Its rate holds it back until the records have come.
    world
        .database
        .execute("UPDATE highwater.redrive_request SET free_at = free_at + interval '1 hour'")
        .await?;
    let listed = began["redrives"][0]["records"].as_i64().unwrap_or_default();
    for _ in 0..6 {
        world.send_chained(0, 10, &[])?;
        world.send_chained(1, 10, &[])?;
        world.producer.flush().await?;
        world.caught_up().await?;
        world.assert_ordered().await?;
    }
    world.database.execute("UPDATE highwater.redrive_request SET free_at = clock_timestamp()").await?;
    let ended = world.redrive_ended().await?;
    assert_eq!((&ended["state"], &ended["behind"], &ended["failed"]), (&"done".into(), &0.into(), &0.into()));
    assert!(ended["redriven"].as_i64().unwrap_or_default() > listed, "{ended}");
    assert_eq!(ended["records"], ended["redriven"]);
    world.verify_chains().await?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// Killed at random moments and redriven again and again, several redrives at a time, while what is bad comes and goes.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_kills_and_redrives_leave_every_key_in_order() -> TestResult {
    let world = World::chained("parked-storm", 3).await?;
    let random = || {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos())
    };
    for round in 0..12 {
        let worker = chain(&world, &format!("round {round}"), None)?;
        worker.claimed().await?;
        for partition in 0..3 {
            world.send_chained(
                partition,
                60,
                &[(round % 10, "sql"), (11 + round % 7, "tx"), (40, "name")],
            )?;
        }
        world.producer.flush().await?;
        let is_mended = round % 3 == 2;
        world.database.execute(&format!("UPDATE mended SET is_mended = {is_mended}")).await?;
        world.dead_letters("redrive", &["--reason", "again", "--execute", "--stop-after", "1000"]).await?;
        let bound = i64::from(random() % 700);
        let applied = world.number("SELECT count(*) FROM sink").await?;
        let _ = wait_until("some are applied", std::time::Duration::from_secs(2), async || {
            Ok((world.number("SELECT count(*) FROM sink").await? > applied + bound).then_some(()))
        })
        .await;
        worker.child.kill()?;
        world.assert_ordered().await?;
    }
    let worker = chain(&world, "last", None)?;
    world.verify_parked().await?;
    world.mend().await?;
    world.said_to_park().await?;
    world.unparked(&[]).await?;
    world.redrive_ended().await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}
