//! Dead letters on the page: kinds, their states, whether they still come, and what to type.

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::served::Served;
use crate::support::{Sink, TestResult, World};

#[tokio::test]
async fn dead_letters_are_told_by_kind_with_what_to_type() -> TestResult {
    let world = World::new("board-letters", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    for partition in [0, 1] {
        world.lag_is(partition, 0).await?;
    }
    let letters = "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason, \
                     handler, state, sqlstate, last_at) \
                   SELECT $1, $2, '', n % 2, n, 'a91f00000000000' || n % 2, \
                     CASE n % 2 WHEN 0 THEN 'the payment has no amount' ELSE 'numeric field overflow' END, 'fraud', \
                     CASE WHEN n < 6 THEN 'open' ELSE 'discarded' END, CASE n % 2 WHEN 1 THEN '22003' END, \
                     clock_timestamp() - CASE n % 2 WHEN 0 THEN interval '2 minutes' ELSE interval '2 days' END \
                   FROM generate_series(0, 7) n";
    world.database.query(letters, &[&world.group, &world.topic]).await?;
    let served = Served::of("dashboard", &world, &world.monitor().await?, &[]).await?;

    // As JSON, with the rights of a monitor; counts are text.
    let page = served.get(&format!("/api/groups/{}/dead-letters", world.group)).await?.json();
    let kinds = page["kinds"].as_array().expect("kinds");
    assert_eq!(kinds.len(), 2, "{page}");
    assert_eq!((&kinds[0]["kind"], &kinds[0]["waiting"]), (&json!("a91f000000000000"), &json!("3")));
    assert_eq!(kinds[0]["states"], json!({ "discarded": "1", "open": "3" }));
    let trend = kinds[0]["trend"].as_array().expect("a trend");
    assert_eq!((trend.len(), trend.iter().filter_map(serde_json::Value::as_i64).sum::<i64>()), (30, 4));
    assert_eq!(kinds[1]["sqlstate"], "22003");
    let none = served.get("/api/groups/nobody/dead-letters").await?.json();
    assert_eq!(none["kinds"], json!([]));
    let whole = served.get(&format!("/api/groups/{}", world.group)).await?.json();
    assert!(whole["group"]["advice"].to_string().contains("highwater dead-letters list"), "{whole}");

    if let Some(browser) = Browser::start().await? {
        let at = |path: &str| format!("http://{}{path}", served.address);
        for (scheme, width) in [("light", 1440), ("dark", 390)] {
            browser.look(scheme, width, 900).await?;
            browser.open(&at(&format!("/g/{}", world.group))).await?;
            browser
                .until(
                    "the kinds are there",
                    "document.querySelectorAll('#letters .kind.waits').length === 2",
                )
                .await?;
            let first = browser.text("#letters .kind").await?;
            assert!(
                first.contains("the payment has no amount") && first.contains("1 discarded, 3 open"),
                "{first}"
            );
            assert!(first.contains("4 in the last 30 minutes"), "{first}");
            browser.click("#letters .kind summary").await?;
            let commands = "return [...document.querySelectorAll('#letters .kind:first-child code')].map((code) => code.innerText)";
            let commands = browser.run(commands, &[]).await?;
            let discard = format!(
                "highwater dead-letters discard --group {} --kind a91f000000000000 --reason '…' --dry-run",
                world.group
            );
            assert!(commands.as_array().is_some_and(|all| all.contains(&json!(discard))), "{commands}");
            assert_eq!(browser.axe().await?, [""; 0], "{scheme} {width}");
            let too_wide =
                "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
            assert_eq!(browser.run(too_wide, &[]).await?, json!(false), "{scheme} {width}");
        }
        // One partition has one of the kinds; alone, the panel has its own URL.
        browser.open(&at(&format!("/g/{}/p/{}/1", world.group, world.topic))).await?;
        browser.until("its kind is there", "document.querySelectorAll('#kinds .kind').length === 1").await?;
        assert!(browser.text("#kinds .kind").await?.contains("numeric field overflow"));
        assert_eq!(browser.axe().await?, [""; 0]);
        browser.open(&at(&format!("/g/{}/letters", world.group))).await?;
        browser.until("one panel alone", "document.querySelectorAll('.panel').length === 1").await?;
        assert_eq!(browser.complaints().await?, [""; 0]);
        browser.quit().await?;
    }
    served.stop().await?;
    worker.stop().await?;
    Ok(())
}
