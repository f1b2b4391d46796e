//! The commands of the documentation, typed (see `pages.rs` for how), and what `describe` shows.

use serde_json::Value;

use super::pages::type_page;
use crate::support::{Sink, TestResult, World};

#[tokio::test]
async fn the_commands_of_the_page_do_what_it_says() -> TestResult {
    let world = World::new("documented", 4).await?;
    world.produce(4_300).await?;
    // Rows alone: balances could not be undone.
    let rows = || Sink { fault: (), rows_only: true };
    let worker = world.worker(rows());
    world.caught_up().await?;
    worker.stop().await?;
    // So that there is something to skip.
    world
        .offsets("reset", &["--topic", &format!("{}:3", world.topic), "--to-offset", "4000", "--execute"])
        .await?
        .ended(0);
    type_page(&world, "operations.md").await?;
    let worker = world.worker(rows());
    world.verify_rows_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_night_on_call_goes_as_its_page_says() -> TestResult {
    let world = World::new("night", 4).await?;
    world.produce(4_300).await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    world.assert_exact(false).await?;
    type_page(&world, "status.md").await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_page_of_the_command_is_typed() -> TestResult {
    let world = World::new("command-page", 4).await?;
    world.produce(4_300).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    type_page(&world, "command.md").await?;
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn describe_shows_where_a_group_stands() -> TestResult {
    let world = World::new("json", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let list = world.highwater(&["offsets", "list", "--json"]).await?.ended(0).json();
    assert_eq!((&list[0]["partitions"], &list[0]["workers"]), (&2.into(), &1.into()));
    let described = world.offsets("describe", &["--json"]).await?.ended(0).json();
    let line = &described[0]["partitions"][1];
    assert_eq!(
        (&line["next_offset"], &line["log_end_offset"], &line["lag"]),
        (&20.into(), &20.into(), &0.into())
    );
    assert_eq!((&line["state"], &described[0]["asked_kafka"]), (&"running".into(), &true.into()));
    let lagging = world.offsets("describe", &["--only-with-lag", "--json"]).await?.ended(0).json();
    assert_eq!(lagging[0]["partitions"], Value::Array(Vec::new()));
    for (flags, text) in
        [(&["--state"][..], "running"), (&["--verbose"], "COMMITTED"), (&["--members"], "member ")]
    {
        let said = world.offsets("describe", flags).await?.ended(0);
        assert!(said.stdout.contains(text), "{}", said.stdout);
    }
    let back = ["--all-topics", "--shift-by", "-5", "--dry-run", "--json"];
    assert_eq!(world.offsets("reset", &back).await?.ended(0).json()["executed"], false);
    let paused = world.partitions_command("pause", 0, &["--reason", "why", "--json"]).await?.ended(0).json();
    assert_eq!(paused[0]["obeyed_by"], worker.status().owner.expect("it has begun").to_string());
    world.partitions_command("resume", 0, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}
