//! How close to a hand-written loop: Highwater and what it is measured against, side by side in one run.
//!
//! ```text
//! cargo bench --bench throughput
//! ```

mod contender;
mod profile;
mod report;
mod simple;
mod textbook;
mod watched;

#[path = "../support/support.rs"]
mod support;

use std::process::ExitCode;

use highwater::testing::unique;

use contender::{Contender, Measured, Stage};
use support::payments::Form;
use support::servers::Servers;
use support::{Result, options::Options, payments, stats, table};

const PARTITIONS: i32 = 6;

const HELP: &str = "\
Measures how fast payments go from Kafka to Postgres: through Highwater, and through loops written by hand.

Usage: cargo bench --bench throughput -- [options]

Starts a real Kafka and a real Postgres on this machine, produces payments (220 bytes of JSON, 6 partitions), and has
each contender write all of them into an empty table with a two-column text key. Contenders alternate within a round,
the order changes from round to round, and ratios are medians over the rounds of ratios within a round. After each run
the table is compared with what was produced; a difference ends the benchmark with an error.

A rate counts from the first record that was fetched to the last commit; the start-up before it is listed apart.

  --records N  how many payments (2,000,000)
  --rounds N   how many rounds (3)
  --quick      500,000 payments and 2 rounds: less than 3 minutes, and less exact
  --profile    one more run each of `append`, `handler` and `upsert`: where lanes and threads spend their time
  --plot       draw docs/plots/throughput.svg
  --set LIST   a trial, not of the defaults: settings of Highwater's, as in LANES=2,LINGER=5ms (no plot)
  --only LIST  contenders, separated by commas:
               consume    fetch, and do nothing
               copy       COPY from memory, one connection
               bare       the hand-written ceiling: COPY of 20,000 rows as they come, two connections
               sorted     the same loop with 50,000 rows sorted by the table's key
               append     Highwater's table sink, appending
               pipeline   the same rows by a pipeline's file, without a program; only by its name: append,pipeline
               avro, protobuf   the same from payments in these forms; only by their names
               debezium   the same from change events, upserted; only by its name: upsert,debezium
               poison     the same with one record in 1,000 that becomes a dead letter; only by its name: append,poison
               handler    Highwater with a handler that uses serde_json and Tx::copy_in_binary, sorted by the key
               unsorted   the same handler, with its rows as they come
               merge      the ceiling of upserts: COPY of 50,000 rows into a staging table and a merge, by hand
               upsert     Highwater's table sink, upserting; all keys are new, as they are for the others
               insert_ignore   Highwater's table sink, keeping the first row per key
               textbook   one INSERT … ON CONFLICT per record, then Kafka's commit (for 8 s)
               overhead   what it costs to be watched; stands for these four, and must be named. Each is `append` in a
                          process of its own:
               plain      … without an admin server, without traces
               scraped    … with its metrics scraped every second
               traced     … scraped, and with traces of one batch in a hundred sent to a collector
               all_traced … scraped, and with traces of every batch: the most that they can cost

HIGHWATER_LOG=info shows what the workers log.";

fn main() -> ExitCode {
    if let Some(ended) = watched::played() {
        return ended;
    }
    support::run(HELP, benchmark)
}

async fn benchmark(options: Options) -> Result {
    let quick = options.flag("quick");
    let records = options.number("records", if quick { 500_000 } else { 2_000_000 })?;
    let rounds = options.number("rounds", if quick { 2 } else { 3 })?;
    let settings = support::worker::trial(options.value("set"))?;
    if options.flag("plot") && options.flag("set") {
        return Err("--plot draws what the defaults do: leave --set out".into());
    }
    let contenders = Contender::chosen(options.value("only"))?;
    if options.flag("set") && contenders.iter().any(|contender| contender.is_apart()) {
        return Err("--set is not for contenders in processes of their own: leave `overhead` out".into());
    }

    let servers = Servers::start(&[]).await?;
    let topic = unique("payments");
    println!("producing {records} payments …");
    payments::produce(&servers.kafka, &topic, PARTITIONS, records, "none").await?;
    let stage = Stage::new(servers, topic, PARTITIONS, records, settings).await?;
    for form in contenders.iter().filter_map(|contender| contender.form()).filter(|form| *form != Form::Json)
    {
        println!("producing them as {form:?} …");
        let topic = stage.topic_of(form);
        payments::produce_as(form, &stage.servers.kafka, &topic, PARTITIONS, records, "none").await?;
    }

    // The first run of a server meets cold caches and writes new WAL files: it is nobody's.
    println!("warming up …");
    table::fresh(&stage.servers.client, PARTITIONS).await?;
    Contender::Bare.run(&stage).await?;

    let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); contenders.len()];
    for round in 0..usize::try_from(rounds)? {
        println!("\nround {}", round + 1);
        for step in 0..contenders.len() {
            // Nobody always follows the same neighbour.
            let place = (step + round) % contenders.len();
            let index = if round % 2 == 0 { place } else { contenders.len() - 1 - place };
            let result = contenders[index].measure(&stage).await?;
            println!("  {:<13} {:>9} records/s", contenders[index].name(), stats::thousands(result.rate));
            measured[index].push(result);
        }
    }
    if options.flag("profile") {
        profile::print(&stage, &contenders).await?;
    }
    if let Some(list) = options.value("set") {
        println!("\na trial, not the defaults: {list}");
    }
    report::print(&contenders, &measured);
    if options.flag("plot") {
        report::plot(&contenders, &measured)?;
    }
    Ok(())
}
