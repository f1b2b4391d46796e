//! The commands of the documentation, typed; see `pages.rs` for how.

use super::pages::type_page;
use crate::support::{Sink, TestResult, World};

#[tokio::test]
async fn the_commands_of_the_page_do_what_it_says() -> TestResult {
    let world = World::new("documented", 4).await?;
    world.produce(4_300).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    // So that there is something to skip.
    world
        .offsets("reset", &["--topic", &format!("{}:3", world.topic), "--to-offset", "4000", "--execute"])
        .await?
        .ended(0);
    type_page(&world, "operations.md").await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_night_on_call_goes_as_its_page_says() -> TestResult {
    let world = World::new("night", 4).await?;
    world.produce(4_300).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    type_page(&world, "status.md").await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_commands_page_is_typed() -> TestResult {
    let world = World::new("command-page", 4).await?;
    world.produce(4_300).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    type_page(&world, "command.md").await?;
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}
