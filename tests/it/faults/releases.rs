//! Two releases of the worker side by side, while the tables are migrated under them.

use crate::support::{PATIENCE, Process, TestResult, World};

/// What a next release's migration may do: add. `min_compatible` stays, so that this release runs on.
const EXPANDING: &str = "
    ALTER TABLE highwater.consumer_offset ADD COLUMN applied_bytes bigint NOT NULL DEFAULT 0;
    ALTER TABLE highwater.claim_history ADD COLUMN applied_bytes bigint;
    ALTER TABLE highwater.worker_status ADD COLUMN memory_bytes bigint;
    ALTER TABLE highwater.partition_status ADD COLUMN lag bigint;
    UPDATE highwater.meta SET version = version + 1;";

/// The step after it, when nobody runs the old release any more: it is shut out.
const CONTRACTING: &str = "UPDATE highwater.meta SET min_compatible = version";

#[tokio::test]
async fn core_this_release_beside_the_next_ones_tables() -> TestResult {
    let world = World::new("releases", 4).await?;
    let before = Process::start(&world, "before", "plain")?;
    let after = world.under_load(async {
        before.claimed().await?;
        world.progress(100).await?;
        world.database.execute(EXPANDING).await?;
        world.progress(100).await?;
        let after = Process::start(&world, "after", "plain")?;
        world.held_by(2).await?;
        world.progress(100).await?;
        Ok(after)
    });
    let after = after.await?;
    world.verify().await?;
    assert!(!before.wrote("a batch was not applied"), "it noticed nothing");

    world.database.execute(CONTRACTING).await?;
    let late = Process::start(&world, "late", "plain")?;
    assert_eq!(late.child.wait(PATIENCE).await?, 3, "it is shut out");
    assert!(late.wrote("upgrade it"), "and told what to do");
    world.produce(50).await?;
    world.verify().await?;
    after.stop().await?;
    before.stop().await?;
    Ok(())
}
