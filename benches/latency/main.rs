//! From the moment a record is produced to the moment its row can be seen, at a steady rate.
//!
//! ```text
//! cargo bench --bench latency
//! ```

mod measure;
mod seen;

#[path = "../support/support.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Contender, Stage, measure};
use support::servers::Servers;
use support::{Result, options::Options, plot, stats};

const HELP: &str = "\
Measures how long it takes from producing a payment until another connection can see its row.

Usage: cargo bench --bench latency -- [options]

A producer (linger 1 ms) sends payments at a steady rate and notes when it sent each one. Another connection reads the
positions every millisecond: a position is committed in the transaction of its rows, so the first look that sees it past
a record is the first that would have seen the record's row. A latency is therefore late by at most one look, for every
contender alike. Highwater runs with its defaults; the bare loop commits what it has without waiting for more, and in a
second variant waits 20 ms after a batch's first record, the longest that Highwater waits by itself. They alternate; the
first two seconds of each run are not counted. The ratio is to the better of the two bare loops.

  --rates LIST   records a second, separated by commas (3000,50000)
  --seconds N    how long each run produces (20)
  --rounds N     how many rounds (2); percentiles are over all records of all rounds
  --quick        5 seconds and 1 round
  --plot         draw docs/plots/latency-<rate>.svg";

fn main() -> ExitCode {
    support::run(HELP, benchmark)
}

async fn benchmark(options: Options) -> Result {
    let quick = options.flag("quick");
    let seconds = Duration::from_secs(options.number("seconds", if quick { 5 } else { 20 })?);
    let rounds = options.number("rounds", if quick { 1 } else { 2 })?;
    let rates: Vec<u64> = options
        .value("rates")
        .unwrap_or("3000,50000")
        .split(',')
        .map(|rate| rate.parse().map_err(|_| format!("--rates: {rate:?} is not a number")))
        .collect::<Result<_, _>>()?;
    let stage = Stage { servers: Servers::start(&[]).await?, seconds };
    println!("milliseconds from producing to a visible row\n");
    println!("| records/s | contender | p50 | p99 | p99.9 | longest |");
    println!("|---|---|---|---|---|---|");
    for rate in rates {
        let mut latencies: Vec<Vec<f64>> = vec![Vec::new(); Contender::ALL.len()];
        for round in 0..usize::try_from(rounds)? {
            for step in 0..Contender::ALL.len() {
                let index = (step + round) % Contender::ALL.len();
                let run = measure(&stage, Contender::ALL[index], rate).await;
                latencies[index]
                    .extend(run.map_err(|error| format!("{:?}: {error:?}", Contender::ALL[index]))?);
            }
        }
        let mut bars = Vec::new();
        let mut p99 = Vec::new();
        for (contender, latencies) in Contender::ALL.iter().zip(&mut latencies) {
            latencies.sort_by(f64::total_cmp);
            let [p50, p99_, p999, longest] =
                [0.5, 0.99, 0.999, 1.0].map(|share| stats::percentile(latencies, share));
            println!("| {rate} | {} | {p50:.1} | {p99_:.1} | {p999:.1} | {longest:.1} |", contender.name());
            p99.push(p99_);
            for (label, value) in [("p50", p50), ("p99", p99_), ("p99.9", p999)] {
                bars.push((format!("{} {label}", contender.name()), value));
            }
        }
        println!("latency_ratio p99 {rate} {:.2}", p99[0] / p99[1].min(p99[2]));
        if options.flag("plot") {
            let title = format!("Latency at {rate} records a second");
            plot::save(
                &format!("latency-{rate}"),
                &plot::bars(&title, "milliseconds to a visible row", &bars),
            )?;
        }
    }
    Ok(())
}
