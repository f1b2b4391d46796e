//! The three incidents of an on-call night, on real servers and with real records: each lights one panel, has its own
//! class, and fires its alert and no other.
//!
//! One fleet, three causes: a record takes a moment to apply, so that a partition applies about 45 a second. Samples come
//! every 1.5 s (Kafka is asked for the ends every 3 s), and count for 20 s instead of ten minutes.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater::testing::Result;
use highwater::{Batch, HandlerError, Tx};
use serde_json::Value;

use crate::deploy::scraped::Scraped;
use crate::support::browser::Browser;
use crate::support::needs::{runs, skipped_without};
use crate::support::served::Served;
use crate::support::{Fault, Gate, PATIENCE, Sink, TestResult, World};

const PARTITIONS: usize = 4;
/// The one that is hit, where it is one.
const HIT: usize = 2;
/// What a record takes to apply.
const WORK_MS: u64 = 20;
/// Records in a tenth of a second: what is easily applied, and three times what can be.
const CALM: usize = 1;
const MUCH: usize = 15;
/// So many scrapes go before, of a group that is well.
const CALM_SCRAPES: usize = 10;
/// And after so many the rules are asked again.
const EVALUATED: usize = 9;
/// Between two scrapes, which the rules take to be 15 s apart.
const SCRAPED: Duration = Duration::from_millis(300);

/// Every record takes its time, and a call for partition [`HIT`] may hang.
struct Slow {
    work_ms: AtomicU64,
    gate: Gate,
}

impl Fault for Slow {
    async fn before(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if batch.records().any(|record| usize::try_from(record.partition()) == Ok(HIT)) {
            self.gate.before(batch, tx).await?;
        }
        let work = Duration::from_millis(self.work_ms.load(Ordering::Relaxed));
        tokio::time::sleep(work * u32::try_from(batch.len()).unwrap_or(u32::MAX)).await;
        Ok(())
    }
}

/// What goes wrong, and how it must look.
struct Incident {
    hint: &'static str,
    /// Records in a tenth of a second, by partition.
    produced: [usize; PARTITIONS],
    hangs: bool,
    class: &'static str,
    /// Partitions of that class. The others are well.
    hit: &'static [usize],
    headline: &'static str,
    panel: &'static str,
    alert: &'static str,
    /// For so many scrapes it must last until that fires.
    lasts: usize,
}

/// Produces until it is dropped.
async fn produce(world: &World<'_>, rates: &Cell<[usize; PARTITIONS]>) -> Result<Infallible> {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        for (partition, count) in (0..).zip(rates.get()) {
            for number in 0..count {
                let key = format!("p{partition}-a{number}");
                world.producer.send(world.message(partition).key(key).value("1"))?;
            }
        }
    }
}

async fn group(served: &Served, world: &World<'_>) -> Result<Value> {
    let mut whole = served.get(&format!("/api/groups/{}", world.group)).await?.json();
    Ok(whole["group"].take())
}

/// Whether the partitions of `hit` have that class, and the others are well.
fn is_classed(group: &Value, class: &str, hit: &[usize]) -> bool {
    let partitions = group["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fits = |(number, partition): (usize, &Value)| match hit.contains(&number) {
        true => partition["class"] == class,
        false => partition["class"] == "OK" || partition["class"] == "DRAINING",
    };
    partitions.len() == PARTITIONS && partitions.iter().enumerate().all(fits)
}

async fn staged(incident: &Incident) -> TestResult {
    if skipped_without("promtool", runs("promtool", &["--version"])) {
        return Ok(());
    }
    let world = World::new(incident.hint, 4).await?;
    let slow = Arc::new(Slow { work_ms: AtomicU64::new(WORK_MS), gate: Gate::default() });
    let settings = world.settings().max_processing_time(PATIENCE).lanes(PARTITIONS).allowed_lag(10_usize);
    let settings = settings.batch_target_records(10_usize).batch_max_records(10_usize);
    let settings =
        settings.health_interval(Duration::from_millis(1_500)).health_window(Duration::from_secs(20));
    let worker = world.worker_with(settings, Sink { fault: Arc::clone(&slow), rows_only: true });
    let served = Served::of("dashboard", &world, &world.monitor().await?, &[]).await?;
    let rates = Cell::new([CALM; PARTITIONS]);
    tokio::select! {
        broken = produce(&world, &rates) => { broken?; }
        seen = watched(incident, &world, &served, &rates, &slow) => seen?,
    }
    // Nothing of it costs a record, or applies one twice.
    slow.work_ms.store(0, Ordering::Relaxed);
    slow.gate.open();
    world.producer.flush().await?;
    world.caught_up().await?;
    world.assert_exact(false).await?;
    served.stop().await?;
    worker.stop().await?;
    Ok(())
}

async fn watched(
    incident: &Incident,
    world: &World<'_>,
    served: &Served,
    rates: &Cell<[usize; PARTITIONS]>,
    slow: &Slow,
) -> TestResult {
    let mut scraped = Scraped::default();
    let mut ticks = tokio::time::interval(SCRAPED);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut cause, mut classed) = (None, None);
    let (mut calm, mut lasted) = (0, 0);
    let last = loop {
        ticks.tick().await;
        let last = group(served, world).await?;
        scraped.add(&[("exporter", &served.get("/metrics").await?.body)]);
        let Some(since) = cause else {
            // A calm while first, in which nothing fires.
            let is_well =
                ["partition", "throughput", "consumer"].iter().all(|side| last["diagnosis"][side].is_null());
            if !(is_well && is_classed(&last, incident.class, &[])) {
                (calm, scraped) = (0, Scraped::default());
                continue;
            }
            calm += 1;
            if calm == CALM_SCRAPES {
                scraped.fires(&[])?;
                rates.set(incident.produced);
                if incident.hangs {
                    slow.gate.close();
                }
                cause = Some(Instant::now());
            }
            continue;
        };
        lasted = if is_classed(&last, incident.class, incident.hit) { lasted + 1 } else { 0 };
        if lasted == 1 {
            classed.get_or_insert(since.elapsed());
        }
        // When the lag passes its objective meanwhile, the warning ends, and the same is critical a little later.
        let is_time = lasted >= incident.lasts && (lasted - incident.lasts).is_multiple_of(EVALUATED);
        let fired = if is_time { scraped.fires(&[incident.alert]) } else { Err("it did not last".into()) };
        if fired.is_ok() {
            break last;
        }
        if since.elapsed() > 2 * PATIENCE {
            println!("seen last: {last:#}");
            return fired;
        }
    };
    println!("{}: {} after {classed:?}", incident.hint, incident.class);
    let found = &last["diagnosis"];
    assert_eq!(found["headline"], incident.headline, "{found:#}");
    let sentences = ["partition", "throughput", "consumer"].map(|side| found[side].is_string());
    assert_eq!(sentences.iter().filter(|is_lit| **is_lit).count(), 1, "{found:#}");

    // As whoever is on call sees it.
    if let Some(browser) = Browser::start().await? {
        browser.look("dark", 1440, 900).await?;
        browser.open(&format!("http://{}/g/{}", served.address, world.group)).await?;
        browser.until("its cells are there", "document.querySelectorAll('.cell-value').length === 4").await?;
        let lit = format!(
            "[...document.querySelectorAll('.panel.lit')].map((panel) => panel.id).join() === '{}' \
             && document.querySelector('.headline').innerText === '{}'",
            incident.panel, incident.headline
        );
        browser.until("its panel is lit, and no other", &lit).await?;
        browser.quit().await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_hot_partition() -> TestResult {
    let mut produced = [CALM; PARTITIONS];
    produced[HIT] = MUCH;
    staged(&Incident {
        hint: "incident-hot",
        produced,
        hangs: false,
        class: "WARN",
        hit: &[HIT],
        headline: "It is the partition.",
        panel: "heatmap",
        alert: "HighwaterPartitionFallsBehind",
        lasts: 43,
    })
    .await
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_fleet_that_is_too_small() -> TestResult {
    staged(&Incident {
        hint: "incident-small",
        produced: [MUCH; PARTITIONS],
        hangs: false,
        class: "WARN",
        hit: &[0, 1, 2, 3],
        headline: "It is the throughput.",
        panel: "trajectory",
        alert: "HighwaterGroupFallsBehind",
        lasts: 43,
    })
    .await
}

#[tokio::test]
async fn a_call_of_the_sink_that_hangs() -> TestResult {
    staged(&Incident {
        hint: "incident-wedged",
        produced: [CALM; PARTITIONS],
        hangs: true,
        class: "STALL",
        hit: &[HIT],
        headline: "It is the consumer.",
        panel: "workers",
        alert: "HighwaterStall",
        lasts: 7,
    })
    .await
}
