//! Highwater from outside, as anybody would measure any tool: a process of its own, and rows as another connection sees
//! them.
//!
//! ```text
//! cargo bench --bench peers
//! ```

mod meter;

#[path = "../support/support.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use highwater::testing::unique;

use meter::{Seen, watch};
use support::member::{self, Group};
use support::servers::Servers;
use support::{Result, options::Options, payments, process, stats, table};

const HELP: &str = "\
Measures from outside how fast a tool brings payments from Kafka into Postgres: rows as another connection counts them,
from the first that is seen to the last. Nothing of the tool is asked, so figures of any two tools can be put side by side.

Usage: cargo bench --bench peers -- [options]

Starts a real Kafka and a real Postgres, produces payments (220 bytes of JSON), and runs each worker as a process of its
own with its defaults. The time before the first row (start, joining the group) is listed apart. Afterwards the table is
compared with what was produced; a difference ends the benchmark with an error.

  --records N     how many payments (2,000,000)
  --partitions N  of the topic (6)
  --codec NAME    none, lz4, zstd, snappy, gzip: how the producer compresses (none)
  --rounds N      how many rounds; the order of the workers is kept (3)
  --quick         500,000 payments, one round
  --only LIST     append, handler, upsert, separated by commas
  --hold          start no worker: print the addresses, wait for another tool's rows (30 minutes), and measure those";

fn main() -> ExitCode {
    support::run(HELP, benchmark)
}

async fn benchmark(options: Options) -> Result {
    let quick = options.flag("quick");
    let records = options.number("records", if quick { 500_000 } else { 2_000_000 })?;
    let rounds = options.number("rounds", if quick { 1 } else { 3 })?;
    let partitions = i32::try_from(options.number("partitions", 6)?)?;
    let only: Vec<&str> = options.value("only").unwrap_or("append,handler,upsert").split(',').collect();
    let servers = Servers::start(&[]).await?;
    let topic = unique("payments");
    println!("producing {records} payments …");
    payments::produce(&servers.kafka, &topic, partitions, records, options.value("codec").unwrap_or("none"))
        .await?;
    let ends = servers.ends(&topic, partitions).await?;
    if options.flag("hold") {
        return hold(&servers, &topic, records, &ends).await;
    }
    let mut rates: Vec<(&str, Vec<f64>, u64)> = only.iter().map(|name| (*name, Vec::new(), 0)).collect();
    for round in 1..=rounds {
        println!("round {round}");
        for (name, rates, memory) in &mut rates {
            table::fresh(&servers.client, partitions).await?;
            let group = Group::new(&servers, &topic, &[]);
            let role = match *name {
                "handler" => "scores",
                "append" | "upsert" => *name,
                other => return Err(format!("--only: there is no worker {other:?}; see --help").into()),
            };
            let child = group.start(name, role, &[])?;
            let seen = watch(servers.database.url(), records, Duration::from_secs(120)).await?;
            let peak = process::peak_memory(child.pid()).unwrap_or(0);
            member::stop(&[child]).await?;
            table::verify(&servers.client, records, &ends).await?;
            *memory = peak.max(*memory);
            rates.push(seen.rate());
            println!("  {}", line(name, &seen, peak));
        }
    }
    println!("\n| worker | records/s, median | least | most | peak memory MiB |\n|---|---|---|---|---|");
    for (name, rates, memory) in &mut rates {
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        let (least, most) = (rates[0], rates[rates.len() - 1]);
        println!("| {name} | {median:.0} | {least:.0} | {most:.0} | {} |", *memory / (1 << 20));
    }
    Ok(())
}

fn line(name: &str, seen: &Seen, peak: u64) -> String {
    format!(
        "{name:<10} {:>9.0} records/s, first row after {:.2} s, {} MiB at most",
        seen.rate(),
        seen.startup.as_secs_f64(),
        peak / (1 << 20)
    )
}

/// Measures whoever writes to the table.
async fn hold(servers: &Servers, topic: &str, records: u64, ends: &[i64]) -> Result {
    table::fresh(&servers.client, i32::try_from(ends.len())?).await?;
    println!(
        "brokers   {}\ntopic     {topic}\npostgres  {}\ntable     scores:\n{}\nwaiting for its rows …",
        servers.kafka.bootstrap(),
        servers.database.url(),
        table::SCHEMA
    );
    let seen = watch(servers.database.url(), records, Duration::from_secs(1_800)).await?;
    println!("{:.0} records/s over {} records", seen.rate(), stats::float(seen.rows));
    table::verify(&servers.client, records, ends).await
}
