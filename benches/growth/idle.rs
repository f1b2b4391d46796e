//! What a worker costs that has nothing to do.

use std::time::Duration;

use highwater::testing::unique;

use crate::support::member::{Group, Setting, stop};
use crate::support::servers::Servers;
use crate::support::{Result, process};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(15);

pub(crate) async fn measure(servers: &Servers, settings: &[Setting]) -> Result {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    println!("\n| quiet partitions | worker, % of a core | Postgres | broker | resident, MiB |");
    println!("|---|---|---|---|---|");
    // What the servers do without any worker.
    let (postgres, broker) = watch(servers).await;
    println!("| no worker | – | {postgres:.2} | {broker:.2} | – |");
    for partitions in [6, 64, 512] {
        let topic = unique("quiet");
        servers.kafka.create_topic(&topic, partitions).await?;
        let group = Group::new(servers, &topic, &settings);
        let member = group.start("idle", "nothing", &[])?;
        claimed(servers, &group, partitions).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = process::cpu_of(member.pid()).unwrap_or_default();
        let (postgres, broker) = watch(servers).await;
        let used = process::cpu_of(member.pid()).unwrap_or_default().saturating_sub(before);
        let memory = process::peak_memory(member.pid()).unwrap_or(0) / 1_048_576;
        println!("| {partitions} | {:.2} | {postgres:.2} | {broker:.2} | {memory} |", share(used));
        stop(&[member]).await?;
    }
    Ok(())
}

/// The servers' shares of a core over a while.
async fn watch(servers: &Servers) -> (f64, f64) {
    let tree = |pid: Option<u32>| pid.map(process::tree_cpu).unwrap_or_default();
    let now = || (tree(servers.postgres.pid()), tree(servers.kafka.pid()));
    let before = now();
    tokio::time::sleep(WATCHED).await;
    let after = now();
    (share(after.0.saturating_sub(before.0)), share(after.1.saturating_sub(before.1)))
}

fn share(used: Duration) -> f64 {
    100.0 * used.as_secs_f64() / WATCHED.as_secs_f64()
}

/// Waits until all partitions are claimed.
pub(crate) async fn claimed(servers: &Servers, group: &Group<'_>, partitions: i32) -> Result {
    let sql =
        "SELECT count(*)::int4 FROM highwater.consumer_offset WHERE group_id = $1 AND owner IS NOT NULL";
    for _ in 0..6_000 {
        let claimed: i32 = servers.client.query_one(sql, &[&group.id]).await?.get(0);
        if claimed == partitions {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("{partitions} partitions were not claimed in a minute").into())
}
