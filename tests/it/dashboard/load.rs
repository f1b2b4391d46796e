//! What it costs to look at 200 groups of 64 partitions. Measured, and asked for by name:
//!
//! `cargo test --release --test it -- --ignored --nocapture dashboard::load`
//!
//! It prints what was measured beside what is demanded, and fails in a release build where that is not met. The machine must
//! be quiet.

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
/// From the start of the navigation until all groups are in the browser.
const FIRST_VIEW: f64 = 1.0;
/// Of a core, in percent.
const STEADY: f64 = 5.0;
/// From SIGTERM to the end.
const STOP: f64 = 1.0;

/// A figure, and the most that it may be.
struct Figure {
    what: &'static str,
    unit: &'static str,
    found: f64,
    most: Option<f64>,
}

impl Figure {
    fn is_met(&self) -> bool {
        self.most.is_none_or(|most| self.found <= most)
    }
}

fn tell(figures: &[Figure]) {
    println!("| {GROUPS} groups of {PARTITIONS} partitions | measured | at most | |\n|---|---|---|---|");
    for figure in figures {
        let Figure { what, unit, found, most } = figure;
        let most = most.map_or("–".to_owned(), |most| format!("{most} {unit}"));
        let met = if figure.is_met() { "" } else { "NOT MET" };
        println!("| {what} | {found:.2} {unit} | {most} | {met} |");
    }
}

#[tokio::test]
#[ignore = "a measurement: a minute and more"]
async fn of_200_groups_of_64_partitions() -> TestResult {
    let names: Vec<String> = (0..GROUPS).map(|number| format!("team-{number:03}")).collect();
    let database = seeded("load", &names, PARTITIONS).await?;
    let beating = tokio::spawn(beat(database.client().await?));
    let mut figures = Vec::new();
    let mut note = |what, unit, found, most| figures.push(Figure { what, unit, found, most });
    let begun = Instant::now();
    let served = Served::start("dashboard", database.url(), None, &["--interval", "2"]).await?;
    note("started, and everything read once", "s", begun.elapsed().as_secs_f64(), None);
    let fleet = served.get("/api/fleet").await?.json();
    assert_eq!(fleet["groups"].as_array().map(Vec::len), Some(GROUPS));
    note("a reading", "ms", fleet["freshness"]["took_ms"].as_f64().unwrap_or(f64::NAN), None);
    let asked = Instant::now();
    let bytes = served.get("/metrics").await?.body.len();
    note("/metrics", "s", asked.elapsed().as_secs_f64(), None);
    note("/metrics", "MB", f64::from(u32::try_from(bytes)?) / 1e6, None);

    let browser = Browser::start().await?;
    if let Some(browser) = &browser {
        browser.look("light", 1440, 900).await?;
        browser.open(&format!("http://{}/", served.address)).await?;
        let rows = "document.querySelectorAll('tbody tr').length";
        let rows = format!("{rows} === {GROUPS} && Math.round(performance.now())");
        let ms = browser.until("the rows are there", &rows).await?.as_f64().unwrap_or(f64::NAN);
        note("all groups in the browser, since the navigation began", "s", ms / 1_000.0, Some(FIRST_VIEW));
    }
    let (server, backend) = (served.child.pid(), backend(&database).await?);
    let (before, since) = ((used(server)?, used(backend)?), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let (after, took) = ((used(server)?, used(backend)?), since.elapsed());
    let part = |used: Duration| 100.0 * used.as_secs_f64() / took.as_secs_f64();
    let followed = if browser.is_some() {
        "the server, steady, with a browser that follows"
    } else {
        "the server, steady, with no browser"
    };
    note(followed, "% of a core", part(after.0 - before.0), Some(STEADY));
    note("its Postgres backend, steady", "% of a core", part(after.1 - before.1), Some(STEADY));
    note("stopped", "s", served.stop().await?.as_secs_f64(), Some(STOP));
    if let Some(browser) = browser {
        browser.quit().await?;
    }
    beating.abort();
    tell(&figures);
    let missed: Vec<_> = figures.iter().filter(|figure| !figure.is_met()).map(|figure| figure.what).collect();
    assert!(cfg!(debug_assertions) || missed.is_empty(), "not met: {missed:?}");
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
