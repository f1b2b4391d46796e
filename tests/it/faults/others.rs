//! Other programs in the same tables: deadlocks and serialization failures (EO-1).

use highwater::testing::{Result, wait_until};

use super::{assert_unharmed, small_batches, tries_again};
use crate::support::{PATIENCE, Sink, TestResult, World};

/// Waits until a worker waits for somebody's row of `balances`.
async fn worker_waits(world: &World<'_>) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() \
               AND application_name LIKE 'highwater/%' AND query LIKE '%balances%'";
    wait_until("the worker waits for a row", PATIENCE, async || {
        Ok((world.number(sql).await? > 0).then_some(()))
    })
    .await
}

/// Another program locks the same rows in another order; the server makes the worker give way.
#[tokio::test]
async fn core_a_deadlock_with_another_program() -> TestResult {
    let world = World::new("deadlock", 1).await?;
    // Time enough for the other one to close the circle before the worker looks for it, and none to look itself.
    world.database.execute(&format!("ALTER ROLE {} SET deadlock_timeout = '3s'", world.role.name)).await?;
    let settings = world.settings().lock_timeout(std::time::Duration::from_secs(14));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.produce(20).await?;
    world.verify().await?;

    let other = world.database.client().await?;
    let lock = |account: &str| format!("UPDATE balances SET balance = balance WHERE account = '{account}'");
    let last = lock("p0-a9");
    other.batch_execute(&format!("BEGIN; SET LOCAL deadlock_timeout = '1min'; {last}")).await?;
    world.produce(20).await?;
    worker_waits(&world).await?;
    // Held by the worker. It is given back when the worker's transaction was rolled back.
    other.batch_execute(&lock("p0-a0")).await?;
    other.batch_execute("COMMIT").await?;
    wait_until("the server counts the deadlock", PATIENCE, async || {
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        Ok((world.number(sql).await? > 0).then_some(()))
    })
    .await?;
    world.verify().await?;
    assert!(worker.status().counters.retries > 0, "the worker was the one: {:?}", worker.status());
    assert_unharmed(&worker);
    worker.stop().await?;
    Ok(())
}

/// 40001, in a statement of the handler's and in answer to COMMIT. The latter is definite: nothing is in doubt.
#[tokio::test]
async fn core_serialization_failures_also_at_commit() -> TestResult {
    let world = World::new("serialization", 2).await?;
    world
        .database
        .execute(
            "CREATE TABLE conflicts (stage text);
             CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN
                 IF EXISTS (SELECT FROM conflicts WHERE stage = TG_ARGV[0]) THEN
                     RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON sink DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION clash('commit');
             CREATE TRIGGER at_once AFTER INSERT ON sink FOR EACH STATEMENT EXECUTE FUNCTION clash('statement');",
        )
        .await?;
    let worker = world.worker_with(small_batches(world.settings()), Sink::<()>::default());
    world
        .under_load(async {
            for stage in ["statement", "commit"] {
                world.progress(50).await?;
                world.database.execute(&format!("INSERT INTO conflicts VALUES ('{stage}')")).await?;
                tries_again(&worker, 3).await?;
                world.database.execute("DELETE FROM conflicts").await?;
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    assert_eq!(worker.status().counters.unknown_outcomes, 0, "{:?}", worker.status());
    assert_unharmed(&worker);
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}
