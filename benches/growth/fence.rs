//! How many commits a second one Postgres holds, when each is nothing but a compare-and-set of one offset.

use std::time::{Duration, Instant};

use highwater::testing::unique;

use crate::support::member::{Group, stop};
use crate::support::servers::Servers;
use crate::support::stats::{float, thousands};
use crate::support::{Result, payments, process, table};

const PARTITIONS: i32 = 64;
const RECORDS: u64 = 300_000;
const WATCHED: Duration = Duration::from_secs(8);

pub(crate) async fn measure(servers: &Servers) -> Result {
    let topic = unique("payments");
    payments::produce(&servers.kafka, &topic, PARTITIONS, RECORDS, "none").await?;
    println!(
        "\n| lanes (connections) | commits/s | Postgres CPU, µs/commit | worker CPU, µs/commit | HOT, % |"
    );
    println!("|---|---|---|---|---|");
    for lanes in ["1", "4", "16", "64"] {
        let settings = [("BATCH_MAX_RECORDS", "1"), ("BATCH_TARGET_RECORDS", "1"), ("LANES", lanes)];
        let group = Group::new(servers, &topic, &settings);
        let member = [group.start("worker", "nothing", &[])?];
        group.wait(&member, 1_000, Duration::from_secs(60)).await?;
        let pid = member[0].pid();
        let cpu = || {
            let postgres = servers.postgres.pid().map(process::tree_cpu).unwrap_or_default();
            (postgres, process::cpu_of(pid).unwrap_or_default())
        };
        let (before, used, hot) = (group.applied().await?, cpu(), table::hot(&servers.client).await?);
        let began = Instant::now();
        tokio::time::sleep(WATCHED).await;
        let (commits, elapsed) = (group.applied().await? - before, began.elapsed());
        let after = cpu();
        if before + commits == RECORDS {
            return Err("the topic was drained before the time was over".into());
        }
        stop(&member).await?;
        // Postgres publishes what a session has counted a second later, or when it ends.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (updates, hot_updates) = {
            let now = table::hot(&servers.client).await?;
            (now.0 - hot.0, now.1 - hot.1)
        };
        let per_commit = |used: Duration| used.as_secs_f64() * 1e6 / float(commits);
        println!(
            "| {lanes} | {} | {:.0} | {:.0} | {:.1} |",
            thousands(float(commits) / elapsed.as_secs_f64()),
            per_commit(after.0.saturating_sub(used.0)),
            per_commit(after.1.saturating_sub(used.1)),
            100.0 * float(hot_updates) / float(updates.max(1))
        );
    }
    Ok(())
}

/// Whether `consumer_offset` stays as small and as quick as it was, over a million commits.
pub(crate) async fn million(servers: &Servers) -> Result {
    const COMMITS: u64 = 1_000_000;
    let topic = unique("payments");
    payments::produce(&servers.kafka, &topic, PARTITIONS, COMMITS, "none").await?;
    let settings = [("BATCH_MAX_RECORDS", "1"), ("BATCH_TARGET_RECORDS", "1"), ("LANES", "64")];
    let group = Group::new(servers, &topic, &settings);
    println!("\n| commits so far | commits/s | HOT, % | consumer_offset, KiB |\n|---|---|---|---|");
    let hot = table::hot(&servers.client).await?;
    let member = [group.start("worker", "nothing", &[])?];
    for tenth in 1..=10 {
        let began = Instant::now();
        let before = group.applied().await?;
        group.wait(&member, COMMITS * tenth / 10, Duration::from_secs(600)).await?;
        let rate = float(group.applied().await? - before) / began.elapsed().as_secs_f64();
        // Postgres publishes what a session has counted a second later.
        let (updates, hot_updates) = table::hot(&servers.client).await?;
        let share = 100.0 * float(hot_updates - hot.1) / float((updates - hot.0).max(1));
        let size = "SELECT pg_total_relation_size('highwater.consumer_offset') / 1024";
        let size: i64 = servers.client.query_one(size, &[]).await?.get(0);
        println!(
            "| {} | {} | {share:.2} | {size} |",
            thousands(float(COMMITS * tenth / 10)),
            thousands(rate)
        );
    }
    stop(&member).await
}
