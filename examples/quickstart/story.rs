//! What happens, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater::testing::{Kafka, wait_until};
use highwater::tokio_postgres::Client;

use crate::check::{Expected, Findings, Place, check};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::produce::Production;
use crate::servers::Servers;
use crate::{GROUP, PARTITIONS, Result, TOPIC};

const PLACE: Place<'_> = Place { topic: TOPIC, group: GROUP };
/// Payments a second; the mock broker must keep all of them in the little that it keeps.
const RATE: u64 = 3_000;
const MOCK_RATE: u64 = 1_000;
/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_secs(5);

/// Tells it all; `false` if the check found a difference.
pub(crate) async fn tell(options: &Options) -> Result<bool> {
    let began = Instant::now();
    let servers = Servers::start(options).await?;
    let mut fleet = Fleet::new(&servers, options.verbose)?;
    let told = act(options, &servers, &mut fleet).await;
    if told.is_err() || options.verbose {
        fleet.last_words();
    }
    let (fenced, findings) = told?;
    println!("\nelapsed: {:.1?}", began.elapsed());
    if !fenced {
        println!("WRONG: the zombie was not fenced");
    }
    println!("{findings}");
    Ok(fenced && findings.is_exact())
}

async fn act(options: &Options, servers: &Servers, fleet: &mut Fleet<'_>) -> Result<(bool, Findings)> {
    let began = Instant::now();
    let seconds = options.seconds;
    let rate = options.rate.unwrap_or(if servers.mock { MOCK_RATE } else { RATE });
    println!("\nproducing {rate} payments a second for at least {seconds:?}");
    let production = Production::start(servers.kafka.bootstrap(), rate)?;
    let fenced = tokio::select! {
        fenced = trouble(options, fleet) => fenced?,
        never = progress(servers, &production, began) => match never? {},
    };
    tokio::select! {
        () = tokio::time::sleep(seconds.saturating_sub(began.elapsed())) => {}
        never = progress(servers, &production, began) => match never? {},
    }
    let expected = production.finish().await?;
    println!("\nno more payments: Kafka has acknowledged {}", expected.ledger.count(TOPIC));
    let behind = Instant::now();
    lag_zero(&servers.kafka, &servers.owner).await?;
    println!("lag is 0 on every partition, {:.1?} later", behind.elapsed());
    fleet.stop().await?;
    let mut findings = verify(servers, &expected).await?;
    if options.sabotage {
        println!("\n{findings}\n\nsabotage: one row is removed, another doubled; the same check again");
        sabotage(&servers.owner).await?;
        findings = verify(servers, &expected).await?;
    }
    Ok((fenced, findings))
}

/// A worker killed and restarted, another frozen and woken. `false` if the latter was not fenced.
async fn trouble(options: &Options, fleet: &mut Fleet<'_>) -> Result<bool> {
    for number in 1..=3 {
        fleet.start(number)?;
    }
    fleet.shared_out().await?;
    tokio::time::sleep(options.seconds / 10).await;
    fleet.kill(2).await?;
    fleet.start(2)?;
    fleet.shared_out().await?;
    tokio::time::sleep(options.seconds / 20).await;
    let fenced = fleet.zombie(3).await?;
    fleet.shared_out().await?;
    Ok(fenced)
}

/// Shows how far production and the database are, until it is dropped.
async fn progress(
    servers: &Servers,
    production: &Production,
    began: Instant,
) -> Result<std::convert::Infallible> {
    let sql = "SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset WHERE group_id = $1";
    loop {
        tokio::time::sleep(PROGRESS).await;
        let applied: i64 = servers.owner.query_one(sql, &[&GROUP]).await?.get(0);
        let acknowledged = production.acknowledged();
        println!("  {:>3.0?}: {acknowledged} payments acknowledged, {applied} applied", began.elapsed());
    }
}

/// Waits until `next_offset` has reached the end of every partition.
async fn lag_zero(kafka: &Kafka, owner: &Client) -> Result {
    let sql = "SELECT next_offset FROM highwater.consumer_offset WHERE group_id = $1 AND topic = $2 AND partition = $3";
    for partition in 0..PARTITIONS {
        let (_, end) = kafka.watermarks(TOPIC, partition).await?;
        let what = format!("partition {partition} is applied to its end at {end}");
        wait_until(&what, Duration::from_secs(60), async || {
            let row = owner.query_one(sql, &[&GROUP, &TOPIC, &partition]).await?;
            Ok((row.get::<_, i64>(0) >= end).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn verify(servers: &Servers, expected: &Expected) -> Result<Findings> {
    let mut offsets = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let (_, end) = servers.kafka.watermarks(TOPIC, partition).await?;
        let mirrored = servers.kafka.committed(GROUP, TOPIC, partition).await?;
        offsets.insert(partition, (end, mirrored.map(|(offset, _)| offset)));
    }
    check(expected, &servers.owner, PLACE, &offsets).await
}

/// Proves that the check can fail.
async fn sabotage(owner: &Client) -> Result {
    let ruin = "
        DELETE FROM fraud_scores WHERE source_partition = 1 AND source_offset = 7;
        INSERT INTO fraud_scores SELECT * FROM fraud_scores WHERE source_partition = 2 AND source_offset = 9;";
    Ok(owner.batch_execute(ruin).await?)
}
