//! A database that goes back in time: rows and offsets go back together, and what is lost is applied again from Kafka
//! (EO-1, EO-3).

use highwater::WorkerHandle;
use highwater::testing::{Kafka, Postgres, Proxy, wait_until};

use super::small_batches;
use crate::support::watch::halted_now;
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

/// The server's data can be copied only where it is a process on this machine.
fn can_copy(postgres: &Postgres) -> bool {
    let local = postgres.pid().is_some();
    if !local {
        eprintln!("skipped: the data of a server in a container cannot be copied");
    }
    local
}

const APPLIED: &str = "SELECT sum(next_offset)::int8 FROM highwater.consumer_offset";

/// Applied again, and by how much, as the workers count it.
fn applied_by(workers: &[WorkerHandle]) -> u64 {
    workers.iter().map(|worker| worker.status().counters.applied_records).sum()
}

#[tokio::test]
async fn an_older_backup_is_put_back_under_running_workers() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    if !can_copy(&postgres) {
        return Ok(());
    }
    let setup = Setup { kafka, postgres: &postgres, partitions: 4, topic_config: &[] };
    let world = World::with("backup", setup).await?;
    let settings = small_batches(world.settings());
    let workers = [0, 1].map(|_| world.worker_with(settings.clone(), Sink::<()>::default()));
    world
        .under_load(async {
            world.held_by(2).await?;
            world.progress(100).await?;
            let backup = postgres.backup().await?;
            world.database.execute("CREATE TABLE newer ()").await?;
            world.progress(200).await?;
            postgres.restore(&backup).await?;
            let newer = "SELECT count(*) FROM pg_class WHERE relname = 'newer'";
            assert_eq!(world.number(newer).await?, 0, "it is an older one");
            world.progress(200).await
        })
        .await?;
    world.verify().await?;
    let produced = u64::try_from(world.producer.ledger().count(&world.topic))?;
    assert!(applied_by(&workers) >= produced + 200, "what was lost was applied again");
    for worker in workers {
        assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// The primary is lost with commits that its replica never received; the service's address moves to the replica.
#[tokio::test]
async fn a_fail_over_to_a_replica_that_is_behind() -> TestResult {
    let (kafka, primary) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    if !can_copy(&primary) {
        return Ok(());
    }
    let setup = Setup { kafka, postgres: &primary, partitions: 4, topic_config: &[] };
    let mut world = World::with("failover", setup).await?;
    let replica = primary.replica().await?;
    let proxy = Proxy::before_postgres(&world.role.url).await?;
    let settings = small_batches(world.settings()).postgres_url(proxy.url(&world.role.url)?.as_str());
    let workers = [0, 1].map(|_| world.worker_with(settings.clone(), Sink::<()>::default()));
    let on_replica = replica.database(world.database.name());
    let (kept, lost) = world
        .under_load(async {
            world.held_by(2).await?;
            world.progress(100).await?;
            wait_until("the replica follows", PATIENCE, async || {
                Ok((on_replica.count("sink").await? >= 100).then_some(()))
            })
            .await?;
            replica.detach().await?;
            world.progress(200).await?;
            let primary_has = world.number(APPLIED).await?;
            primary.kill().await?;
            on_replica.execute("SELECT pg_promote()").await?;
            let replica_has: i64 = on_replica.query(APPLIED, &[]).await?[0].get(0);
            proxy.lead_to(on_replica.url())?;
            wait_until("the replica is written to", PATIENCE, async || {
                Ok((on_replica.count("sink").await? > replica_has + 100).then_some(()))
            })
            .await?;
            Ok((replica_has, primary_has - replica_has))
        })
        .await?;
    assert!(lost >= 200, "the replica had {kept}, and lacked {lost}");
    world.database = on_replica;
    world.verify().await?;
    for worker in workers {
        assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}
