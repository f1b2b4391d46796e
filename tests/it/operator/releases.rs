//! This release on the tables of version 1, which lack what an operator writes.

use highwater::testing::Error;

use crate::support::{Process, TestResult, World};

/// The tables of version 1, as they were made.
const VERSION_1: &str = include_str!("../../../migrations/0001_initial.sql");

#[tokio::test]
async fn a_worker_runs_on_the_tables_before_and_under_their_migration() -> TestResult {
    let world = World::new("version-1", 3).await?;
    let role = &world.role.name;
    let older = format!(
        "DROP SCHEMA highwater CASCADE; CREATE SCHEMA highwater; SET search_path = highwater; {VERSION_1}; \
         INSERT INTO meta (version, min_compatible) VALUES (1, 1); GRANT USAGE ON SCHEMA highwater TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA highwater TO {role}; RESET search_path"
    );
    world.database.execute(&older).await?;
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
        // Only a worker that began after it has a place for its deadline; the other beats on without.
        let said = "SELECT count(*) FROM highwater.worker_status WHERE processing_deadline_seconds = 30";
        assert_eq!(world.number(said).await?, 1);
        Ok::<_, Error>(after)
    };
    let after = world.under_load(work).await?;
    world.verify_with_moves().await?;
    after.stop().await?;
    before.stop().await?;
    Ok(())
}
