//! The page in a real browser, on a real fleet.

mod letters;
mod load;
mod pictures;
mod reopened;

use std::time::Duration;

use highwater::HandlerError;
use highwater::testing::{Result, wait_until};
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::served::Served;
use crate::support::web::get;
use crate::support::{Fault, PATIENCE, Sink, TestResult, World};

const RIGHT: char = '\u{E014}';
const DOWN: char = '\u{E015}';
const END: char = '\u{E010}';
const HOME: char = '\u{E011}';
const ENTER: char = '\u{E007}';

/// What the workers are given; whoever guesses says 30 s.
const DEADLINE: Duration = Duration::from_secs(12);

/// Rejects the record at offset 7 of partition 2.
struct Picky;

impl Fault for Picky {
    fn record(&self, record: &highwater::Record<'_>) -> Result<(), HandlerError> {
        if record.offset() == 7 && record.partition() == 2 {
            return Err(HandlerError::reject(record, "no such account"));
        }
        Ok(())
    }
}

impl World<'_> {
    /// What SQL says of a partition's lag, once it is that.
    async fn lag_is(&self, partition: i32, lag: i64) -> Result<()> {
        let sql = "SELECT lag_records::int8 FROM highwater.lag WHERE group_id = $1 AND topic = $2 AND partition = $3";
        wait_until(&format!("the lag of partition {partition} is {lag}"), PATIENCE, async || {
            let rows = self.database.query(sql, &[&self.group, &self.topic, &partition]).await?;
            let found: Option<i64> = rows.first().and_then(|row| row.get(0));
            Ok((found == Some(lag)).then_some(()))
        })
        .await
    }
}

fn cell(world: &World<'_>, partition: i32) -> String {
    format!("document.querySelector('[data-place=\"{}:{partition}\"] .cell-value')?.innerText", world.topic)
}

/// The lag of each partition, as `/api` has it.
async fn lags(served: &Served, world: &World<'_>) -> Result<Vec<Value>> {
    let group = served.get(&format!("/api/groups/{}", world.group)).await?.json();
    let partitions = group["group"]["partitions"].as_array().cloned().unwrap_or_default();
    Ok(partitions.into_iter().map(|partition| partition["lag_records"].clone()).collect())
}

#[tokio::test]
async fn the_page_shows_which_partition_it_is_and_follows_it() -> TestResult {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let world = World::new("board", 4).await?;
    world.produce(20).await?;
    let settings = world.settings().max_processing_time(DEADLINE);
    let worker = world.worker_with(settings, Sink { fault: Picky, rows_only: false });
    world.reported_halt(2).await?;
    for partition in [0, 1, 3] {
        world.reached(partition, 20).await?;
    }
    world.lag_is(2, 13).await?;
    let served = Served::of("dashboard", &world, &world.monitor().await?, &[]).await?;
    let page = |path: &str| format!("http://{}{path}", served.address);

    // From all groups to the one that is not well.
    browser.look("light", 1440, 900).await?;
    browser.open(&page("/")).await?;
    let row = format!("tr.ill[data-group=\"{}\"] a", world.group);
    browser.until("the group is there", &format!("document.querySelector('{row}')")).await?;
    assert_eq!(browser.text("h1").await?, "The group is not well.");
    assert_eq!(browser.axe().await?, [""; 0]);
    browser.click(&row).await?;
    browser.until("its cells are there", &format!("{} === '13'", cell(&world, 2))).await?;
    for panel in ["#heatmap", "#trajectory .chart canvas", "#workers .bar", "#events", ".next code"] {
        assert!(
            browser.run("return !!document.querySelector(arguments[0])", &[json!(panel)]).await? == true,
            "{panel}"
        );
    }
    // The deadline is the worker's own, and no guess of the page's.
    assert_eq!(browser.text("#workers .at-deadline").await?, "deadline 12 s");
    // It is the partition, and neither of the others.
    assert_eq!(browser.text(".headline").await?, "It is the partition.");
    let lit = "return [...document.querySelectorAll('.panel.lit')].map((panel) => panel.id)";
    assert_eq!(browser.run(lit, &[]).await?, json!(["heatmap"]));
    assert!(
        browser
            .text(".lamp.lit .lamp-sentence")
            .await?
            .contains(&format!("{}:2 has halted at 7", world.topic))
    );

    // The right cell changes, and only that; numbers are those of the API and of SQL.
    for _ in 0..5 {
        world.producer.send(world.message(2).key("p2-a1").value("5"))?;
    }
    world.producer.flush().await?;
    world.lag_is(2, 18).await?;
    browser.until("the cell has changed", &format!("{} === '18'", cell(&world, 2))).await?;
    let shown = "return [...document.querySelectorAll('.cell-value')].map((cell) => cell.innerText)";
    assert_eq!(browser.run(shown, &[]).await?, json!(["0", "0", "18", "0"]));
    assert_eq!(lags(&served, &world).await?, ["0", "0", "18", "0"], "offsets and counts are text");
    let whole = served.get("/api/fleet").await?.json();
    assert_eq!(
        (&whole["groups"][0]["lag_records"], &whole["groups"][0]["class"]),
        (&json!("18"), &json!("HALTED"))
    );

    // A view has its own URL, also with seconds.
    browser.click(".switch button:last-child").await?;
    browser.until("the switch is in the URL", "location.search === '?unit=seconds'").await?;
    browser.open(&page(&format!("/g/{}/workers", world.group))).await?;
    browser.until("one panel alone", "document.querySelectorAll('.panel').length === 1").await?;
    assert_eq!(browser.axe().await?, [""; 0]);

    keyboard(&browser, &world, &page(&format!("/g/{}", world.group))).await?;
    pause(&browser, &world, &page(&format!("/g/{}", world.group))).await?;

    // Dark and narrow, a finger's width.
    for (scheme, width) in [("dark", 1440), ("light", 390), ("dark", 390)] {
        browser.look(scheme, width, 844).await?;
        assert_eq!(browser.axe().await?, [""; 0], "{scheme} {width}");
        let too_wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.run(too_wide, &[]).await?, json!(false), "{scheme} {width}");
    }
    assert_eq!(browser.complaints().await?, [""; 0]);

    // A page that is open keeps nothing from stopping; and the page says so.
    let took = served.stop().await?;
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    browser
        .until(
            "it says that nobody answers",
            "document.querySelector('.banner')?.innerText.includes('does not answer')",
        )
        .await?;
    browser.quit().await?;
    worker.stop().await?;
    Ok(())
}

/// Into the grid, along it, into a partition.
async fn keyboard(browser: &Browser, world: &World<'_>, url: &str) -> Result<()> {
    browser.open(url).await?;
    browser.until("the grid is there", "document.querySelectorAll('[role=gridcell]').length === 4").await?;
    let one = "return document.querySelectorAll('[role=gridcell][tabindex=\"0\"]').length";
    assert_eq!(browser.run(one, &[]).await?, json!(1), "one stop for Tab");
    browser.run("document.querySelector('[role=gridcell][tabindex=\"0\"]').focus()", &[]).await?;
    let focused =
        |partition: i32| format!("document.activeElement.dataset.place === '{}:{partition}'", world.topic);
    for (key, partition) in [(END, 3), (RIGHT, 3), (HOME, 0), (DOWN, 0), (RIGHT, 1), (RIGHT, 2)] {
        browser.press(&[key]).await?;
        browser.until("the focus has moved", &focused(partition)).await?;
    }
    let said =
        browser.run("return document.activeElement.querySelector('.for-ears').textContent", &[]).await?;
    let said = said.as_str().unwrap_or_default();
    assert!(said.contains("partition 2: 18 records") && said.contains("HALTED (halted)"), "{said}");
    browser.press(&[ENTER]).await?;
    let to = format!("/g/{}/p/{}/2", world.group, world.topic);
    browser
        .until(
            "its page is there",
            &format!("location.pathname === '{to}' && document.querySelector('#next-offset')"),
        )
        .await?;
    assert_eq!(browser.text("#next-offset").await?, "7");
    assert_eq!(browser.text("#lag").await?, "18 records");
    assert!(browser.text(".detail").await?.contains("no such account"));
    let commands = browser
        .run("return [...document.querySelectorAll('.command code')].map((code) => code.innerText)", &[])
        .await?;
    let first = format!("highwater tail --group {} --topic {}:2 --from 7 -n 1", world.group, world.topic);
    assert_eq!(commands[0], json!(first));
    assert_eq!(browser.axe().await?, [""; 0]);
    Ok(())
}

/// Nothing moves while it is paused; then everything is there.
async fn pause(browser: &Browser, world: &World<'_>, url: &str) -> Result<()> {
    browser.open(url).await?;
    browser.until("the cell is there", &format!("{} === '18'", cell(world, 2))).await?;
    browser.click("#pause").await?;
    browser.until("it says so", "document.querySelector('.banner')?.innerText.startsWith('Paused')").await?;
    world.producer.send(world.message(2).key("p2-a1").value("5"))?;
    world.producer.flush().await?;
    world.lag_is(2, 19).await?;
    tokio::time::sleep(Duration::from_secs(1)).await; // three readings
    assert_eq!(browser.run(&format!("return {}", cell(world, 2)), &[]).await?, json!("18"));
    browser.click("#pause").await?;
    browser.until("it goes on", &format!("{} === '19'", cell(world, 2))).await?;
    Ok(())
}

#[tokio::test]
async fn the_server_gives_nothing_away_and_sends_nothing_twice() -> TestResult {
    let world = World::new("board-http", 1).await?;
    world.produce(3).await?;
    let worker = world.worker_with(world.settings().max_processing_time(DEADLINE), Sink::<()>::default());
    world.verify().await?;
    world.lag_is(0, 0).await?;
    let served = Served::of("dashboard", &world, &world.monitor().await?, &[]).await?;
    let page = served.get("/").await?;
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(
        served.get(&format!("/g/{}/heatmap", world.group)).await?.body,
        page.body,
        "every view is that page"
    );

    let tag = served.get("/assets/app.js").await?.header("etag").unwrap_or_default().to_owned();
    let again = get(&served.address, "/assets/app.js", &[("If-None-Match", &tag)]).await?;
    assert_eq!((again.status, again.body.len()), (304, 0));

    // A name that anybody can let point to this machine.
    let foreign = get(&served.address, "/api/fleet", &[("Host", "evil.example:9480")]).await?;
    assert_eq!(foreign.status, 421, "{}", foreign.body);
    assert_eq!(get(&served.address, "/api/fleet", &[("Host", "localhost:9480")]).await?.status, 200);
    for path in ["/api/groups/unknown", "/api/groups/a/partitions/b/0", "/assets/nothing.js", "/etc/passwd"] {
        assert_eq!(served.get(path).await?.status, 404, "{path}");
    }
    let posted =
        crate::support::web::request(&served.address, "POST", "/api/fleet", &[], Some(&json!({}))).await?;
    assert_eq!(posted.status, 405);
    assert_eq!(served.get("/readyz").await?.status, 200);
    let metrics = served.get("/metrics").await?.body;
    assert!(metrics.contains("highwater_exporter_up 1"));

    // How long a batch may take is what the worker says, in each place.
    let said = "SELECT processing_deadline_seconds::int8 FROM highwater.worker_status";
    assert_eq!(world.number(said).await?, 12);
    let of_group = served.get(&format!("/api/groups/{}", world.group)).await?.json();
    assert_eq!(of_group["group"]["workers"][0]["deadline_seconds"], 12.0, "{of_group}");
    let line = format!("highwater_processing_deadline_seconds{{group=\"{}\",", world.group);
    let line = metrics.lines().find(|text| text.starts_with(&line)).unwrap_or_default();
    assert!(line.ends_with(" 12") || line.ends_with(" 12.0"), "{line}");

    let partition =
        served.get(&format!("/api/groups/{}/partitions/{}/0", world.group, world.topic)).await?.json();
    assert_eq!(
        (&partition["partition"]["next_offset"], &partition["partition"]["lag_records"]),
        (&json!("3"), &json!("0"))
    );
    served.stop().await?;
    worker.stop().await?;
    Ok(())
}
