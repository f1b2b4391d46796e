//! What it costs to look at 200 groups of 64 partitions. Measured, and asked for by name:
//!
//! `cargo test --release --test it -- --ignored --nocapture dashboard::load`

use std::time::{Duration, Instant};

use highwater::testing::{Database, Result, wait_until};
use highwater::tokio_postgres::Client;

use crate::support::browser::Browser;
use crate::support::seeded::seeded;
use crate::support::served::Served;
use crate::support::{PATIENCE, TestResult};

const GROUPS: usize = 200;
const PARTITIONS: usize = 64;
const MEASURED: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "a measurement: a minute and more"]
async fn of_200_groups_of_64_partitions() -> TestResult {
    let names: Vec<String> = (0..GROUPS).map(|number| format!("team-{number:03}")).collect();
    let database = seeded("load", &names, PARTITIONS).await?;
    let beating = tokio::spawn(beat(database.client().await?));
    let begun = Instant::now();
    let served = Served::start("dashboard", database.url(), None, &["--interval", "2"]).await?;
    println!("started, and everything read once: {:?}", begun.elapsed());
    let fleet = served.get("/api/fleet").await?.json();
    assert_eq!(fleet["groups"].as_array().map(Vec::len), Some(GROUPS));
    println!("a reading takes {} ms", fleet["freshness"]["took_ms"]);
    let asked = Instant::now();
    let bytes = served.get("/metrics").await?.body.len();
    println!("/metrics: {bytes} bytes in {:?}", asked.elapsed());

    let browser = Browser::start().await?;
    if let Some(browser) = &browser {
        browser.look("light", 1440, 900).await?;
        browser.open(&format!("http://{}/", served.address)).await?;
        let rows = "document.querySelectorAll('tbody tr').length";
        let rows = format!("{rows} === {GROUPS} && Math.round(performance.now())");
        let ms = browser.until("the rows are there", &rows).await?;
        println!("all groups in the browser, after the navigation began: {ms} ms at most");
    }
    let (server, backend) = (served.child.pid(), backend(&database).await?);
    let (before, since) = ((used(server)?, used(backend)?), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let (after, took) = ((used(server)?, used(backend)?), since.elapsed());
    for (what, used) in [("the server", after.0 - before.0), ("its Postgres backend", after.1 - before.1)] {
        let part = 100.0 * used.as_secs_f64() / took.as_secs_f64();
        println!("{what}: {part:.2} % of a core over {took:?}, with {} browser", u8::from(browser.is_some()));
    }
    println!("stopped within {:?}", served.stop().await?);
    if let Some(browser) = browser {
        browser.quit().await?;
    }
    beating.abort();
    Ok(())
}

/// The workers' hearts.
async fn beat(client: Client) {
    let sql = "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()";
    while client.batch_execute(sql).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn backend(database: &Database) -> Result<u32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'highwater dashboard' \
               AND datname = current_database() ORDER BY query_start DESC LIMIT 1";
    let pid: i32 = wait_until("its session is there", PATIENCE, async || {
        Ok(database.query(sql, &[]).await?.first().map(|row| row.get(0)))
    })
    .await?;
    Ok(pid.unsigned_abs())
}

/// Processor time so far.
fn used(pid: u32) -> std::io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10)) // a hundred a second
}
