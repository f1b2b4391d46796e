//! Partitions that move between workers, under load (EO-3, EO-4, EO-5).

use highwater::testing::{Oracle, unique, wait_until};

use crate::support::fleet::Owners;
use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// Many small batches: most moves then hit one that is under way.
const SETTINGS: [(&str, &str); 2] =
    [("HIGHWATER_BATCH_TARGET_RECORDS", "20"), ("HIGHWATER_BATCH_MAX_RECORDS", "50")];

#[tokio::test]
async fn core_scale_out_moves_only_what_must_move() -> TestResult {
    let world = World::new("out", 6).await?;
    let fleet = world.under_load(async {
        let mut fleet = Vec::new();
        let mut before: Option<Owners> = None;
        for count in 1..=3 {
            fleet.push(Process::start_with(&world, &format!("worker-{count}"), "plain", &SETTINGS)?);
            let after = world.held_by(count).await?;
            if let Some(before) = before {
                for (partition, (owner, epoch)) in &before {
                    let (new_owner, new_epoch) = &after[partition];
                    let moved = owner != new_owner;
                    assert_eq!(
                        moved,
                        epoch != new_epoch,
                        "partition {partition}: {before:?} became {after:?}"
                    );
                }
            }
            world.progress(100).await?;
            before = Some(after);
        }
        Ok(fleet)
    });
    let fleet = fleet.await?;
    world.verify().await?;
    for worker in &fleet {
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}

#[tokio::test]
async fn scale_in_by_sigterm() -> TestResult {
    let world = World::new("in", 6).await?;
    let last = world.under_load(async {
        let mut fleet = Vec::new();
        for count in 1..=3 {
            fleet.push(Process::start_with(&world, &format!("worker-{count}"), "plain", &SETTINGS)?);
        }
        world.held_by(3).await?;
        while fleet.len() > 1 {
            world.progress(100).await?;
            fleet.remove(0).stop().await?;
            world.held_by(fleet.len()).await?;
        }
        world.progress(100).await?;
        Ok(fleet.remove(0))
    });
    let last = last.await?;
    world.verify().await?;
    last.stop().await?;
    assert_eq!(
        world.number("SELECT count(*) FROM highwater.consumer_offset WHERE owner IS NOT NULL").await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn core_rolling_restart() -> TestResult {
    let world = World::new("rolling", 6).await?;
    let start = |name: &str| Process::start_with(&world, name, "plain", &SETTINGS);
    let fleet = world.under_load(async {
        let mut fleet = Vec::new();
        for number in 1..=3 {
            fleet.push(start(&format!("old-{number}"))?);
        }
        world.held_by(3).await?;
        for (number, worker) in fleet.iter_mut().enumerate() {
            world.progress(100).await?;
            worker.stop().await?;
            *worker = start(&format!("new-{}", number + 1))?;
            world.holds_something(&worker.owner().await?).await?;
        }
        world.held_by(3).await?;
        Ok(fleet)
    });
    let fleet = fleet.await?;
    world.verify().await?;
    for worker in &fleet {
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}

#[tokio::test]
async fn more_workers_than_partitions() -> TestResult {
    let world = World::new("idle", 2).await?;
    world.produce(100).await?;
    let mut fleet = Vec::new();
    for number in 1..=4 {
        fleet.push(Process::start(&world, &format!("worker-{number}"), "plain")?);
    }
    let running =
        "SELECT count(*) FROM highwater.worker_status WHERE state = 'running' AND stopped_at IS NULL";
    wait_until("four workers run", PATIENCE, async || Ok((world.number(running).await? == 4).then_some(())))
        .await?;
    let owners = world.held_by(2).await?;
    world.verify().await?;

    // Both owners leave: two of the idle ones take over.
    let mut idle = Vec::new();
    for worker in fleet {
        let owner = Some(worker.owner().await?);
        if owners.values().any(|(holder, _)| *holder == owner) {
            worker.stop().await?;
        } else {
            idle.push(worker);
        }
    }
    world.produce(100).await?;
    world.held_by(2).await?;
    world.verify().await?;
    for worker in &idle {
        worker.stop().await?;
    }
    Ok(())
}

/// Two groups, one table: each applies every record once, so that every record is there twice.
#[tokio::test]
async fn core_two_groups_on_one_topic() -> TestResult {
    let mut world = World::new("groups", 3).await?;
    let second = unique("groups-second");
    let workers = [
        world.worker(Sink::<()>::default()),
        world.worker_with(world.settings().group(second.clone()), Sink::<()>::default()),
    ];
    world.produce(300).await?;
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    world.group = second;
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;

    let ledger = world.producer.ledger();
    let rows = "SELECT source_partition, source_offset FROM sink";
    let oracle = Oracle::new(ledger, &world.topic).and(ledger, &world.topic);
    oracle.compare(&world.database.client().await?, rows).await?.assert_exact();
    assert_eq!(world.number("SELECT sum(payments)::int8 FROM balances").await?, 2 * 900);
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}
