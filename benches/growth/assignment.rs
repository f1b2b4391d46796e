//! From the start of a worker, and from its first assignment, to its first commit.

use std::time::{Duration, Instant};

use highwater::Worker;
use highwater::testing::unique;

use crate::support::handler::Scores;
use crate::support::servers::Servers;
use crate::support::{Result, payments, stats, table, worker};

/// Medians of so many.
const ROUNDS: u32 = 5;
const LOOK: Duration = Duration::from_millis(1);

pub(crate) async fn measure(servers: &Servers) -> Result {
    println!("\n| partitions | start to assignment, s | assignment to first commit, s |");
    println!("|---|---|---|");
    for partitions in [1, 6, 64, 512] {
        let topic = unique("payments");
        payments::produce(&servers.kafka, &topic, partitions, 100_000, "none").await?;
        let (mut assigned, mut committed) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            table::fresh(&servers.client, partitions).await?;
            let began = Instant::now();
            let settings = worker::settings(servers, &topic);
            let worker = Worker::builder()
                .ignore_environment()
                .settings(settings)
                .build(Scores::into("scores"))?
                .spawn();
            let mut changes = worker.subscribe();
            changes.wait_for(|status| !status.partitions.is_empty()).await?;
            let seen = Instant::now();
            while worker.status().counters.applied_records == 0 {
                if seen.elapsed() > Duration::from_secs(60) {
                    return Err("no commit within a minute".into());
                }
                tokio::time::sleep(LOOK).await;
            }
            assigned.push((seen - began).as_secs_f64());
            committed.push(seen.elapsed().as_secs_f64());
            worker.stop().await?;
        }
        println!("| {partitions} | {:.3} | {:.3} |", stats::median(&assigned), stats::median(&committed));
    }
    Ok(())
}
