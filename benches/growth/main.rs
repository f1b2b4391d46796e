//! What grows with what: partitions, workers, batches, compression, a partitioned table, idleness, commits a second.
//!
//! ```text
//! cargo bench --bench growth
//! ```

mod adaptive;
mod assignment;
mod drain;
mod fence;
mod idle;

#[path = "../support/support.rs"]
mod support;

use std::process::ExitCode;

use drain::{Drain, Drained};
use support::member::{self, Setting};
use support::servers::Servers;
use support::stats::{float, median, thousands};
use support::{Result, options::Options, plot};

const HELP: &str = "\
Measures how Highwater behaves as things get more or larger, each with the defaults in everything else.

Usage: cargo bench --bench growth -- [options]

Where a topic is drained, workers are processes of their own; rates and CPU (of the workers, of Postgres and of the
broker) are from the workers' start to the last commit, and after each run the table is compared with what was produced.

  --records N   how many payments a topic holds (1,000,000)
  --only LIST   sections, separated by commas:
                partitions   1, 6, 64 and 512; medians of three rounds
                workers      1, 2 and 4 processes on 12 partitions
                batches      at most 1, 10, 100, 1,000, 10,000 and 50,000 records a transaction
                compression  none, lz4, zstd, gzip and snappy
                table        a target that is partitioned by hash, 8 and 64 ways
                memory       the most resident memory while 2,000,000 payments are drained, from 1, 6, 64 and 512
                             partitions, plain and compressed by zstd
                idle         what a worker with 6, 64 and 512 quiet partitions costs
                assignment   from the start of a process to the first commit
                adaptive     batch sizes while calm, during a backlog and after it
                fence        commits a second of one record each that write nothing but an offset
                million      a million such commits: HOT updates, size (only when named: a quarter of an hour)
  --set LIST    settings of the workers of `partitions`, `compression`, `memory` and `idle`, by the names of their
                variables without HIGHWATER_: KAFKA_FETCH_MAX_BYTES=1048576
  --plot        draw docs/plots/growth-*.svg";

fn main() -> ExitCode {
    support::run(HELP, benchmark)
}

async fn benchmark(options: Options) -> Result {
    let records = options.number("records", 1_000_000)?;
    let only = options.value("only");
    let wanted = |section: &str| only.is_none_or(|list| list.split(',').any(|name| name == section));
    let plots = options.flag("plot");
    let settings = member::settings(options.value("set"))?;
    let servers = Servers::start(&[]).await?;
    servers.client.batch_execute(drain::PARTITIONED).await?;
    if wanted("partitions") {
        partitions(&servers, records, &settings, plots).await?;
    }
    if wanted("workers") {
        head("workers");
        let mut drain = Drain::new(&servers, 12, records, "none").await?;
        for workers in [1, 2, 4] {
            drain.workers = workers;
            row(&format!("{workers}"), &drain.run().await?);
        }
    }
    if wanted("batches") {
        batches(&servers, records, plots).await?;
    }
    if wanted("compression") {
        head("compression");
        for codec in ["none", "lz4", "zstd", "gzip", "snappy"] {
            let drain = Drain::new(&servers, 6, records, codec).await?.with(&settings);
            row(codec, &drain.run().await?);
        }
    }
    if wanted("table") {
        head("target table");
        let mut drain = Drain::new(&servers, 6, records, "none").await?;
        for table in ["scores", "scores_8", "scores_64"] {
            drain.table = table;
            row(table, &drain.run().await?);
        }
    }
    if wanted("memory") {
        memory(&servers, &settings).await?;
    }
    if wanted("idle") {
        idle::measure(&servers, &settings).await?;
    }
    if wanted("assignment") {
        assignment::measure(&servers).await?;
    }
    if wanted("adaptive") {
        adaptive::measure(&servers, plots).await?;
    }
    if only.is_some() && wanted("million") {
        fence::million(&servers).await?;
    }
    if wanted("fence") {
        fence::measure(&servers).await?;
    }
    Ok(())
}

/// How often a ratio is taken: one run alone says little on a shared machine.
const ROUNDS: usize = 3;

async fn partitions(servers: &Servers, records: u64, settings: &[Setting], plots: bool) -> Result {
    let mut drains = Vec::new();
    for partitions in [1, 6, 64, 512] {
        let drain = Drain::new(servers, partitions, records, "none").await?.with(settings);
        drains.push((partitions.to_string(), drain, Vec::new()));
    }
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        for (_, drain, drained) in &mut drains {
            drained.push(drain.run().await?);
        }
        let last = |index: usize| drains[index].2.last().map_or(f64::NAN, Drained::cpu);
        ratios.push(last(3) / last(1));
    }
    head("partitions");
    let (mut labels, mut cpu) = (Vec::new(), Vec::new());
    for (label, _, drained) in drains {
        let drained = Drained::median(&drained);
        row(&label, &drained);
        labels.push(label);
        cpu.push(drained.cpu());
    }
    println!("\ncost per record, 512 partitions ÷ 6: {:.2} (rounds: {ratios:.2?})", median(&ratios));
    if plots {
        let series = [("worker, Postgres and broker".to_owned(), cpu)];
        let svg = plot::lines("CPU per record", "µs", "partitions", &labels, &series);
        plot::save("growth-partitions", &svg)?;
    }
    Ok(())
}

async fn memory(servers: &Servers, settings: &[Setting]) -> Result {
    println!("\npeak resident memory while draining 2,000,000 records, MiB");
    println!("\n| partitions | none | zstd |");
    println!("|---|---|---|");
    for partitions in [1, 6, 64, 512] {
        let mut peaks = Vec::new();
        for codec in ["none", "zstd"] {
            let drain = Drain::new(servers, partitions, 2_000_000, codec).await?.with(settings);
            peaks.push(drain.run().await?.memory / 1_048_576.0);
        }
        println!("| {partitions} | {:.0} | {:.0} |", peaks[0], peaks[1]);
    }
    Ok(())
}

async fn batches(servers: &Servers, records: u64, plots: bool) -> Result {
    head("records a batch");
    let (mut labels, mut rates) = (Vec::new(), Vec::new());
    for batch in [1, 10, 100, 1_000, 10_000, 50_000_u64] {
        // Small batches are slow, and need fewer records to show it.
        let mut drain = Drain::new(servers, 6, records.min(batch * 20_000), "none").await?;
        drain.batch = Some(batch);
        let drained = drain.run().await?;
        row(&thousands(float(batch)), &drained);
        labels.push(thousands(float(batch)));
        rates.push(drained.rate);
    }
    if plots {
        let series = [("handler".to_owned(), rates)];
        let svg = plot::lines("Records a second", "records/s", "records a batch, at most", &labels, &series);
        plot::save("growth-batches", &svg)?;
    }
    Ok(())
}

fn head(what: &str) {
    println!(
        "\n| {what} | records/s | worker CPU, µs/record | Postgres CPU | broker CPU | peak memory, MiB |"
    );
    println!("|---|---|---|---|---|---|");
}

fn row(label: &str, drained: &Drained) {
    println!(
        "| {label} | {} | {:.2} | {:.2} | {:.2} | {:.0} |",
        thousands(drained.rate),
        drained.worker_cpu,
        drained.postgres_cpu,
        drained.broker_cpu,
        drained.memory / 1048576.0
    );
}
