//! How long a partition stands still in a hand-over: the table of `docs/protocols.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::testing::{Result, wait_until};

use super::{CONSUMER, COOPERATIVE, EAGER, Fleet, Membership, Protocol};
use crate::support::fleet::Owners;
use crate::support::{PATIENCE, TestResult, World};

const PARTITIONS: i32 = 6;

/// A row of the table.
struct Row {
    title: &'static str,
    protocol: Protocol,
    /// Session and heartbeat of a group whose broker decides.
    consumer_ms: Option<(u32, u32)>,
}

const ROWS: [Row; 4] = [
    Row { title: "classic, cooperative-sticky (10 s)", protocol: COOPERATIVE, consumer_ms: None },
    Row { title: "classic, range (10 s)", protocol: EAGER, consumer_ms: None },
    Row {
        title: "consumer, as brokers come (45 s, 5 s)",
        protocol: CONSUMER,
        consumer_ms: Some((45_000, 5_000)),
    },
    Row { title: "consumer, quick (10 s, 0.5 s)", protocol: CONSUMER, consumer_ms: Some((10_000, 500)) },
];

/// The longest time without a commit, of a partition that moved and of one that did not.
type Stalls = (Option<f64>, Option<f64>);

/// A moment, by the clock of the database: seconds since 1970.
pub(super) async fn now(world: &World<'_>) -> Result<f64> {
    let sql = "SELECT EXTRACT(epoch FROM clock_timestamp())::float8";
    Ok(world.database.query(sql, &[]).await?[0].get(0))
}

/// Waits until every partition has committed since.
async fn all_have_committed(world: &World<'_>) -> Result<()> {
    let since = now(world).await?;
    wait_until("every partition has committed", PATIENCE, async || {
        let sql = "SELECT count(DISTINCT partition) FROM commits WHERE at > to_timestamp($1)";
        let count: i64 = world.database.query(sql, &[&since]).await?[0].get(0);
        Ok((count == i64::from(PARTITIONS)).then_some(()))
    })
    .await
}

/// The longest gap between two commits of each partition that ended after `since`.
async fn gaps(world: &World<'_>, since: f64) -> Result<BTreeMap<i32, f64>> {
    let sql = "SELECT partition, EXTRACT(epoch FROM max(gap))::float8 FROM ( \
                   SELECT partition, at, at - lag(at) OVER (PARTITION BY partition ORDER BY at) AS gap FROM commits \
               ) AS gaps WHERE at > to_timestamp($1) GROUP BY partition";
    let rows = world.database.query(sql, &[&since]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Has something happen to a settled fleet, and looks at the gaps in commits when it has settled again.
async fn stalls(fleet: &mut Fleet<'_, '_>, happening: &Happening) -> Result<Stalls> {
    let world = fleet.world;
    let before = fleet.settled(None).await?;
    all_have_committed(world).await?;
    let since = now(world).await?;
    match happening {
        Happening::Nothing => tokio::time::sleep(Duration::from_secs(5)).await,
        Happening::Join(name) => fleet.add(name)?,
        Happening::Stop(name) => fleet.stop(name).await?,
        Happening::Kill(name) => {
            let victim = fleet.take(name);
            victim.child.kill()?;
            victim.child.wait(PATIENCE).await?;
        }
        Happening::Restart(name) => {
            fleet.stop(name).await?;
            fleet.add(name)?;
        }
    }
    // Longer than the longest session of the table.
    let after = match fleet.settled(None).await {
        Err(_) => fleet.settled(None).await?,
        Ok(after) => after,
    };
    all_have_committed(world).await?;
    let gaps = gaps(world, since).await?;
    let longest = |moved: bool| {
        let owner = |owners: &Owners, partition: &i32| owners[partition].0.clone();
        let these = gaps
            .iter()
            .filter(|(partition, _)| (owner(&before, partition) != owner(&after, partition)) == moved);
        these.map(|(_, gap)| *gap).reduce(f64::max)
    };
    Ok((longest(true), longest(false)))
}

enum Happening {
    /// The control: what the machine does to a fleet that is left alone.
    Nothing,
    Join(&'static str),
    Stop(&'static str),
    Kill(&'static str),
    Restart(&'static str),
}

async fn world(row: &Row) -> Result<World<'static>> {
    let world = World::new("stalls", PARTITIONS).await?;
    world.database.execute("CREATE TABLE commits (partition int, at timestamptz)").await?;
    world.database.execute(&format!("GRANT INSERT ON commits TO {}", world.role.name)).await?;
    if let Some((session, heartbeat)) = row.consumer_ms {
        let config =
            format!("consumer.session.timeout.ms={session},consumer.heartbeat.interval.ms={heartbeat}");
        super::configure_group(&world, &config).await?;
    }
    Ok(world)
}

async fn measure(row: &Row) -> Result<Vec<Stalls>> {
    let mut found = Vec::new();
    for fixed in [false, true] {
        let world = world(row).await?;
        let session_timeout = if fixed { "60s" } else { "10s" };
        let mut fleet = Fleet::new(&world, row.protocol, Membership { fixed, session_timeout });
        fleet.role = "timed";
        world
            .under_load(async {
                fleet.add("a")?;
                fleet.add("b")?;
                let happenings: &[_] = if fixed {
                    &[Happening::Restart("b")]
                } else {
                    &[Happening::Nothing, Happening::Join("c"), Happening::Stop("c"), Happening::Kill("b")]
                };
                for happening in happenings {
                    found.push(stalls(&mut fleet, happening).await?);
                }
                Ok(())
            })
            .await?;
        world.verify().await?;
        fleet.stop_all().await?;
    }
    Ok(found)
}

#[tokio::test]
#[ignore = "soak: measures for five minutes, and prints the table of docs/protocols.md"]
async fn measure_stalls() -> TestResult {
    let show = |stall: Option<f64>| stall.map_or_else(|| "–".to_owned(), |stall| format!("{stall:.2} s"));
    println!(
        "| protocol (session, heartbeat) | nothing | a member joins | SIGTERM | SIGKILL | restart of a named member |"
    );
    println!("|---|---|---|---|---|---|");
    for row in &ROWS {
        let cells: Vec<String> = measure(row)
            .await?
            .into_iter()
            .map(|(moved, other)| format!("{} / {}", show(moved), show(other)))
            .collect();
        println!("| {} | {} |", row.title, cells.join(" | "));
    }
    Ok(())
}
