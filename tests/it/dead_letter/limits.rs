//! A wrong schema must not empty a topic into a table.

use super::Named;
use crate::support::watch::halted;
use crate::support::{Sink, TestResult, World};

#[tokio::test]
async fn core_so_many_in_a_row_and_then_it_halts_and_says_why() -> TestResult {
    let world = World::new("in-a-row", 2).await?;
    world.send_with_bad(0, 200, |n| n >= 100)?;
    world.send_with_bad(1, 200, |n| n % 2 == 0)?;
    world.producer.flush().await?;
    let settings = world.setting_aside().dead_letter_max_in_a_row(Some(7_usize));
    let worker = world.worker_with(settings, Sink { fault: Named::default(), rows_only: false });
    let why = halted(&worker, 0).await?;
    assert!(why.contains("@107 was rejected: offset 107 is no good; it is not set aside"), "{why}");
    assert!(
        why.contains("more than 7 dead letters in a row (the limit `dead_letter_max_in_a_row`)"),
        "{why}"
    );
    world.reached(1, 200).await?;
    assert_eq!(world.next_offset(0).await?, Some(107));
    assert_eq!(world.letters().await?.len(), 107);
    // A new claim counts anew.
    world.partitions_command("retry", 0, &[]).await?.ended(0);
    world.reached(0, 114).await?;
    halted(&worker, 0).await?;
    worker.stop().await?;

    // Where there is no limit, there is none.
    let settings = world.setting_aside().dead_letter_max_in_a_row(None::<usize>);
    let worker = world.worker_with(settings, Sink { fault: Named::default(), rows_only: false });
    // Not the ledger: the retry was a claim's end of its own.
    world.caught_up().await?;
    world.assert_rows_and_letters("sink").await?;
    assert_eq!(world.letters().await?.len(), 200);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn so_many_a_minute_and_so_many_of_a_million() -> TestResult {
    for (limit, setting) in
        [("minute", "dead_letter_max_per_minute"), ("million", "dead_letter_max_per_million")]
    {
        let world = World::new(limit, 1).await?;
        world.send_with_bad(0, 100, |n| n % 2 == 1)?;
        world.producer.flush().await?;
        let settings = match limit {
            "minute" => world.setting_aside().dead_letter_max_per_minute(Some(5_usize)),
            _ => world.setting_aside().dead_letter_max_per_million(Some(5_usize)),
        };
        let worker = world.worker_with(settings, Sink { fault: Named::default(), rows_only: false });
        let why = halted(&worker, 0).await?;
        assert!(why.contains("@11 was rejected") && why.contains(setting), "{why}");
        assert_eq!(world.letters().await?.len(), 5);
        worker.stop().await?;
    }
    Ok(())
}
