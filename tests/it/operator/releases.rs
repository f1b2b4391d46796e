//! This release on the tables of version 1, which lack what an operator writes.

use highwater::testing::Error;

use crate::support::{Process, TestResult, World};

/// What takes the second migration back.
const VERSION_1: &str = "
    DROP TABLE highwater.partition_control, highwater.offset_plan_step, highwater.offset_plan;
    ALTER TABLE highwater.consumer_offset DROP COLUMN halted;
    ALTER TABLE highwater.offset_event DROP CONSTRAINT offset_event_kind_check;
    ALTER TABLE highwater.offset_event DROP COLUMN plan_id;
    ALTER TABLE highwater.offset_event ALTER COLUMN to_offset SET NOT NULL;
    ALTER TABLE highwater.offset_event ADD CONSTRAINT offset_event_kind_check
        CHECK (kind IN ('start', 'reset', 'adopt', 'skip', 'lost'));
    UPDATE highwater.meta SET version = 1;";

#[tokio::test]
async fn a_worker_runs_on_the_tables_before_and_under_their_migration() -> TestResult {
    let world = World::new("version-1", 3).await?;
    world.database.execute(VERSION_1).await?;
    let before = Process::start(&world, "before", "plain")?;
    let work = async {
        before.claimed().await?;
        world.progress(100).await?;
        let said = world.highwater(&["offsets", "list"]).await?.ended(3);
        assert!(said.stderr.contains("highwater migrate"), "{}", said.stderr);
        world.highwater(&["offsets", "--group", &world.group]).await?.ended(0);
        world.highwater(&["migrate"]).await?.ended(0);
        let grants =
            world.highwater(&["migrate", "--print-grants", "--role", &world.role.name]).await?.ended(0);
        world.database.execute(&grants.stdout).await?;
        world.progress(100).await?;
        let all = ["--all-topics", "--shift-by", "-50", "--live", "--execute"];
        world.offsets("reset", &all).await?.ended(0);
        // A worker of after the migration, beside it.
        let after = Process::start(&world, "after", "plain")?;
        world.held_by(2).await?;
        world.progress(100).await?;
        Ok::<_, Error>(after)
    };
    let after = world.under_load(work).await?;
    world.verify_with_moves().await?;
    after.stop().await?;
    before.stop().await?;
    Ok(())
}
