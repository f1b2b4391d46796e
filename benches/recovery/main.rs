//! How long partitions stand still when a worker dies, stops or is started again, under load.
//!
//! ```text
//! cargo bench --bench recovery
//! ```

mod scenario;
mod watch;

#[path = "../support/support.rs"]
mod support;

use std::process::ExitCode;

use scenario::{SCENARIOS, Scenario, Stalls};
use support::servers::Servers;
use support::{Result, options::Options, stats};

const HELP: &str = "\
Measures how long partitions stand still when a worker process is killed, stopped, or started again under its name.

Usage: cargo bench --bench recovery -- [options]

Three workers of one group share six partitions under a steady load. From outside, every 5 ms, the positions in
Postgres are read: a partition stands still from one commit to the next. After SIGKILL the time counts from the signal
(for a named member: from the start of its new process, at once after the kill) to the first commit by the successor,
for each partition of the victim; after SIGTERM it is the longest time between two commits. At the end the table is
compared with what was produced.

  --rounds N   how often each scenario is played (3)
  --rate N     records a second (3,000)
  --only LIST  scenarios, separated by commas; without it all, which takes ten minutes:
               cooperative-kill  cooperative-term  static-kill  static-term  eager-kill  eager-term
               consumer-kill     consumer-term     tuned-kill   tuned-term
               (consumer: KIP-848 with a session of 45 s and a heartbeat of 5 s, as brokers come; tuned: 10 s, 0.5 s)
  --plot       draw docs/plots/recovery.svg";

fn main() -> ExitCode {
    support::run(HELP, benchmark)
}

async fn benchmark(options: Options) -> Result {
    let rounds = options.number("rounds", 3)?;
    let rate = options.number("rate", 3_000)?;
    let scenarios = chosen(options.value("only"))?;
    let servers = Servers::start(&[]).await?;
    println!("longest over the rounds / median; seconds\n");
    println!("| scenario | the victim's partitions | the others | nothing happens |");
    println!("|---|---|---|---|");
    let mut bars = Vec::new();
    for scenario in scenarios {
        let mut rows: Vec<Stalls> = Vec::new();
        for _ in 0..rounds {
            let played = scenario.play(&servers, rate).await;
            rows.push(played.map_err(|error| format!("{}: {error:?}", scenario.name))?);
        }
        let cell = |of: fn(&Stalls) -> f64| {
            let values: Vec<f64> = rows.iter().map(of).collect();
            let longest = values.iter().copied().fold(0.0, f64::max);
            format!("{longest:.2} / {:.2}", stats::median(&values))
        };
        let (victims, others, quiet) =
            (cell(|row| row.victims), cell(|row| row.others), cell(|row| row.before));
        println!("| {} | {victims} | {others} | {quiet} |", scenario.title);
        let median = stats::median(&rows.iter().map(|row| row.victims).collect::<Vec<_>>());
        bars.push((scenario.name.to_owned(), median));
    }
    if options.flag("plot") {
        let unit = "seconds until the victim's partitions move again, median";
        support::plot::save("recovery", &support::plot::bars("Recovery", unit, &bars))?;
    }
    Ok(())
}

fn chosen(list: Option<&str>) -> Result<Vec<&'static Scenario>> {
    let Some(list) = list else { return Ok(SCENARIOS.iter().collect()) };
    let named = |name: &str| {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name.trim());
        scenario.ok_or_else(|| format!("--only: there is no scenario {name:?}; see --help").into())
    };
    list.split(',').map(named).collect()
}
