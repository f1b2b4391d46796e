//! The pictures of `docs/dashboard/`: the three incidents of an on-call night, as the page shows them. Of a database that
//! SQL has made and a past that is made up, for half an hour does not pass in a test.
//!
//! `HIGHWATER_TEST_BLESS=1` writes them anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater::PartialConfig;
use highwater::dashboard::{router, serve};
use highwater::exporter::Exporter;
use highwater::fleet::{Fleet, Group, History, Reading, View, Watch};
use highwater::testing::{Error, Result, wait_until};
use highwater::tokio_postgres::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::browser::Browser;
use crate::support::seeded::seeded;
use crate::support::{PATIENCE, TestResult};

const GROUPS: [&str; 8] = [
    "fraud-rules-v2",
    "ledger-writer",
    "notifications",
    "analytics-warehouse",
    "compliance-audit",
    "merchant-limits",
    "payouts",
    "risk-features",
];

/// Hot partition, too few workers, a wedged call; and what happened before.
const INCIDENTS: &str = include_str!("incidents.sql");

/// All of it is of this moment, but for what is wedged.
const MOMENT: &str = "
UPDATE highwater.consumer_offset SET committed_at = clock_timestamp()
  - CASE WHEN group_id = 'notifications' AND partition % 4 = 2 THEN interval '23 seconds' ELSE interval '0' END;
UPDATE highwater.partition_status SET updated_at = clock_timestamp(),
  next_record_timestamp = next_record_timestamp + (clock_timestamp() - updated_at);
UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()";

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_pictures_of_three_incidents() -> TestResult {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let names: Vec<String> = GROUPS.iter().map(|name| (*name).to_owned()).collect();
    let database = seeded("pictures", &names, 64).await?;
    database.execute(INCIDENTS).await?;
    let config = PartialConfig::default().postgres_url(database.url()).finish_operator()?;
    let mut fleet = Fleet::new(&config);
    let beating = tokio::spawn(beat(database.client().await?));
    let mut of_now = async || {
        wait_until("all workers live", PATIENCE, async || {
            let reading = fleet.read().await.map_err(|error| Error::caused("read the groups", error))?;
            let is_live = |group: &Group| group.live_workers == group.workers.len();
            Ok(reading.groups.iter().all(is_live).then_some(reading))
        })
        .await
    };
    let reading = of_now().await?;
    for (group, panels) in [
        ("fraud-rules-v2", [true, false, false]),
        ("ledger-writer", [false, true, false]),
        ("notifications", [false, false, true]),
    ] {
        let found = &reading.group(group).expect("it was seeded").diagnosis;
        let lit = [found.partition.is_some(), found.throughput.is_some(), found.consumer.is_some()];
        assert_eq!(lit, panels, "{group} lights one panel: {found:?}");
    }
    assert!(reading.groups[3..].iter().all(|group| group.diagnosis.is_well()), "and nothing else is wrong");

    let folder = folder()?;
    for (path, scheme, width, name) in [
        ("/", "light", 1440, "groups"),
        ("/g/fraud-rules-v2", "light", 1440, "partition"),
        ("/g/ledger-writer?unit=seconds", "dark", 1440, "throughput"),
        ("/g/notifications?unit=seconds", "light", 1440, "consumer"),
        ("/", "light", 390, "groups-narrow"),
        ("/g/fraud-rules-v2", "dark", 390, "narrow"),
        ("/g/fraud-rules-v2/p/payments.tx_events/3", "dark", 1100, "one-partition"),
    ] {
        let stop = CancellationToken::new();
        let reading = of_now().await?;
        let view = View::of(reading.clone(), past(&reading));
        let router = router(Watch::fixed(view), &config, Exporter::default(), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, router, stop.clone()));
        browser.look(scheme, width, 900).await?;
        browser.open(&format!("http://{address}{path}")).await?;
        browser.until("it is there", "!!document.querySelector('.lamps, .groups, .facts')").await?;
        browser.picture(scheme, width, &folder.join(format!("{name}.png"))).await?;
        assert_eq!(browser.axe().await?, [""; 0], "{path} {scheme}");
        assert_eq!(browser.complaints().await?, [""; 0], "{path} {scheme}");
        browser.open("about:blank").await?;
        stop.cancel();
        serving.await?;
    }
    browser.quit().await?;
    beating.abort();
    Ok(())
}

async fn beat(client: Client) {
    while client.batch_execute(MOMENT).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Half an hour, in points of 10 s: what is behind now has grown for as long as its oldest record waits.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a picture")]
fn past(now: &Reading) -> History {
    let mut history = History::default();
    for step in (0..=180_i64).rev() {
        let mut then = now.clone();
        then.at_ms -= step * 10_000;
        let wave = (step as f64 / 6.0).sin();
        for group in &mut then.groups {
            let lag = group.lag_records.unwrap_or_default() as f64;
            let seconds = group.lag_seconds.unwrap_or_default();
            let grown = 1.0 - (step as f64 / (seconds / 10.0).max(1.0)).min(1.0);
            let calm = lag.min(2_500.0);
            group.lag_records = Some((calm * (1.0 + 0.2 * wave) + (lag - calm) * grown) as i64);
            group.lag_seconds = Some(if seconds > 5.0 { (seconds * grown).max(0.4) } else { seconds });
            // One partition stands for all: rates are of their sum.
            group.partitions.truncate(1);
            let Some(partition) = group.partitions.first_mut() else { continue };
            let produced = 40_000_000.0 - (step as f64) * 30_080.0 - 5_000.0 * wave;
            let short = if lag > 10_000.0 { lag * grown } else { 0.0 };
            partition.last_stable_offset = Some(produced as i64);
            partition.next_offset = (produced - short) as i64;
        }
        history.add(&then);
    }
    history
}

fn folder() -> Result<PathBuf> {
    let blessed = std::env::var_os("HIGHWATER_TEST_BLESS").is_some();
    let folder = if blessed {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dashboard")
    } else {
        std::env::temp_dir().join(format!("highwater-pictures-{}", std::process::id()))
    };
    std::fs::create_dir_all(&folder).map_err(|error| Error::caused("make a folder for pictures", error))?;
    Ok(folder)
}
