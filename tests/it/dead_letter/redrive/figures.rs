//! How fast dead letters are redriven.

use std::time::Instant;

use crate::support::{TestResult, World};
use highwater::RejectPolicy;

/// One worker, one partition a lane: dead letters a second, from the request to the last commit.
#[tokio::test]
#[ignore = "a measurement: cargo test --release --test it redrive::figures -- --ignored --nocapture"]
async fn redriven_a_second() -> TestResult {
    const COUNT: usize = 100_000;
    let world = World::new("redrive-figures", 1).await?;
    world.send_with_bad(0, COUNT, |_| true)?;
    world.producer.flush().await?;
    let policy = RejectPolicy::dead_letter().max_in_a_row(None).max_per_minute(None).max_per_million(None);
    let rejecting = highwater::Worker::builder()
        .ignore_environment()
        .settings(world.setting_aside())
        .on_rejected(world.topic.as_str(), policy)
        .build(super::whole::never())?
        .spawn();
    world.caught_up().await?;
    rejecting.stop().await?;
    let worker = world.mended();
    world.produce(1).await?;
    world.caught_up().await?;
    let began = Instant::now();
    let ended = world.redriven(&["--timeout", "PT30M"]).await?;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(ended["redriven"], COUNT);
    let written = world.number(
        "SELECT (extract(epoch FROM ended_at - created_at) * 1000)::int8 FROM highwater.redrive_request",
    );
    let ms = written.await?;
    println!(
        "{COUNT} dead letters in {seconds:.1} s, {ms} ms of them in the database's own time: {} a second",
        COUNT * 1000 / usize::try_from(ms)?
    );
    world.verify_redriven().await?;
    worker.stop().await?;
    Ok(())
}
