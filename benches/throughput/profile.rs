//! Where the time goes: what the lanes' backends are doing, seen from Postgres, and which threads use the CPU.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::Handler;
use highwater::tokio_postgres::Client;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::contender::{Contender, Stage};
use crate::support::handler::Scores;
use crate::support::servers::connect;
use crate::support::stats::float;
use crate::support::{Result, process, sink, table, worker};

const EVERY: Duration = Duration::from_millis(10);

/// The lanes' backends; the query of an idle one is its last.
const ACTIVITY: &str = "
    SELECT state, wait_event_type, wait_event, substr(ltrim(query), 1, 5) FROM pg_stat_activity
    WHERE application_name LIKE 'highwater/%' AND (xact_start IS NOT NULL OR query LIKE 'COMMIT%')";

/// Runs Highwater's contenders once more, and prints what was seen.
pub(crate) async fn print(stage: &Stage, contenders: &[Contender]) -> Result {
    for contender in contenders {
        let name = contender.name();
        match contender {
            Contender::Append => print_one(stage, name, sink::append()).await?,
            Contender::Upsert => print_one(stage, name, sink::upsert()).await?,
            Contender::Handler => {
                let handler = Scores::into("scores").sorted();
                let spent = handler.spent();
                print_one(stage, name, handler).await?;
                let seconds = spent.total().as_secs_f64();
                println!("\nin the handler, wall time over all lanes: {seconds:.2} s");
            }
            _ => {}
        }
    }
    Ok(())
}

async fn print_one(stage: &Stage, name: &str, handler: impl Handler) -> Result {
    let client = &stage.servers.client;
    table::fresh(client, stage.partitions).await?;
    let hot_before = table::hot(client).await?;
    let sampler = Sampler::start(connect(stage.servers.database.url()).await?).await?;
    let threads_before = process::thread_cpu();
    let settings = worker::settings(&stage.servers, &stage.topic).or(stage.settings.clone());
    let (run, (threads, commits)) = worker::drain_and(settings, handler, stage.records, |worker| {
        (process::thread_cpu(), worker.status().counters.commits)
    })
    .await?;
    let samples = sampler.finish().await?;
    // Postgres publishes what a session has counted a second later, or when it ends.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let hot_after = table::hot(client).await?;
    table::verify(client, stage.records, &stage.ends).await?;

    let seconds = run.elapsed.as_secs_f64();
    println!(
        "\nprofile of `{name}`: {seconds:.2} s, {commits} commits of {} records on average",
        stage.records / commits.max(1)
    );
    let total: u64 = samples.values().sum();
    println!("\n| a lane's backend, seen every 10 ms | share |\n|---|---|");
    for (what, count) in &samples {
        println!("| {what} | {:.1} % |", 100.0 * float(*count) / float(total.max(1)));
    }
    println!("\n| client threads | CPU, µs/record |\n|---|---|");
    for (name, used) in &threads {
        let used = used.saturating_sub(threads_before.get(name).copied().unwrap_or_default());
        if used > Duration::from_millis(20) {
            println!("| {name} | {:.2} |", used.as_secs_f64() * 1e6 / float(stage.records));
        }
    }
    let (updates, hot_updates) = (hot_after.0 - hot_before.0, hot_after.1 - hot_before.1);
    println!("\nupdates of consumer_offset: {updates}, of which HOT: {hot_updates}");
    Ok(())
}

/// Looks at the backends until it is told to stop.
struct Sampler {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<BTreeMap<String, u64>>>,
}

impl Sampler {
    async fn start(client: Client) -> Result<Self> {
        let statement = client.prepare(ACTIVITY).await?;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut samples = BTreeMap::new();
            while stopped.try_recv().is_err() {
                for row in client.query(&statement, &[]).await? {
                    let text = |column: usize| row.get::<_, Option<&str>>(column).unwrap_or_default();
                    let what = doing(text(0), text(1), text(2), text(3));
                    *samples.entry(what).or_default() += 1;
                }
                tokio::time::sleep(EVERY).await;
            }
            Ok(samples)
        });
        Ok(Self { stop, task })
    }

    async fn finish(self) -> Result<BTreeMap<String, u64>> {
        let _ = self.stop.send(());
        self.task.await?
    }
}

fn doing(state: &str, wait_type: &str, wait: &str, query: &str) -> String {
    let statement = match query {
        "COPY " => "COPY",
        "WITH " => "compare-and-set",
        "COMMI" => "COMMIT",
        "BEGIN" => "BEGIN",
        _ => "other",
    };
    match (state, wait_type, wait) {
        ("active", "", _) => format!("{statement}: working"),
        ("active", _, "ClientRead") => format!("{statement}: waits for the client"),
        ("active", ..) => format!("{statement}: waits for {wait_type}/{wait}"),
        ("idle", ..) => "between two batches".to_owned(),
        _ => format!("after {statement}: waits for the client"),
    }
}
