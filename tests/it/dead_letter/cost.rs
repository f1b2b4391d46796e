//! What a bad record costs, for docs/dead-letters.md.

use std::sync::Arc;

use super::{Named, Unnamed, calls};
use crate::support::{Sink, TestResult, World};

/// Handler calls for each bad record of a thousand, in batches of 10, 500 and 10,000:
/// `cargo test --test it dead_letter::cost -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints the figures of docs/dead-letters.md"]
async fn handler_calls_for_each_bad_record() -> TestResult {
    println!(
        "| records a batch at most | calls without a bad one | bad | named: more calls, for each | unnamed: more calls, for each |"
    );
    for batch in [10_usize, 500, 10_000] {
        for every in [1_000, 100] {
            // Enough batches of each size, and no more: each record is applied for itself.
            let records = (20 * batch).clamp(2_000, 20_000);
            let (mut cells, mut clean) = (Vec::new(), 0);
            for named in [true, false] {
                let mut made = [0; 2];
                for (with_bad, made) in [false, true].into_iter().zip(&mut made) {
                    let world = World::new("cost", 1).await?;
                    let check = "ALTER TABLE balances ADD CONSTRAINT good CHECK (account <> 'bad')";
                    world.database.execute(check).await?;
                    world.send_with_bad(0, records, |n| with_bad && n % every == every / 2)?;
                    world.producer.flush().await?;
                    // Behind from the start, so that batches are full.
                    let settings = world
                        .setting_aside()
                        .lanes(1_usize)
                        .batch_target_records(batch)
                        .batch_max_records(batch)
                        .dead_letter_max_per_million(None::<usize>)
                        .dead_letter_max_per_minute(None::<usize>);
                    if named {
                        let fault = Arc::new(Named::default());
                        let worker =
                            world.worker_with(settings, Sink { fault: Arc::clone(&fault), rows_only: false });
                        world.caught_up().await?;
                        worker.stop().await?;
                        *made = calls(&fault, |fault| &fault.calls);
                    } else {
                        let fault = Arc::new(Unnamed::default());
                        let worker =
                            world.worker_with(settings, Sink { fault: Arc::clone(&fault), rows_only: false });
                        world.caught_up().await?;
                        worker.stop().await?;
                        *made = calls(&fault, |fault| &fault.calls);
                    }
                    let letters = if with_bad { records / every } else { 0 };
                    assert_eq!(world.letters().await?.len(), letters);
                }
                clean = made[0];
                let bad = records / every;
                let more = made[1].saturating_sub(made[0]);
                #[allow(clippy::cast_precision_loss)]
                cells.push(format!("{more}, {:.1}", more as f64 / bad as f64));
            }
            println!("| {batch} | {clean} | 1 of {every} | {} | {} |", cells[0], cells[1]);
        }
    }
    Ok(())
}
