//! What an operator sees of them, and decides.

use highwater::testing::wait_until;

use super::Named;
use crate::operator::shapes::{check, documented};
use crate::support::{PATIENCE, Sink, TestResult, World};

impl World<'_> {
    pub(crate) async fn dead_letters(
        &self,
        verb: &str,
        arguments: &[&str],
    ) -> TestResult<crate::operator::command::Said> {
        let which = ["dead-letters", verb, "--group", &self.group];
        Ok(self.highwater(&[&which, arguments].concat()).await?)
    }
}

#[tokio::test]
async fn core_they_are_seen_exported_and_discarded() -> TestResult {
    let world = World::new("letters", 2).await?;
    for partition in 0..2 {
        world.send_with_bad(partition, 100, |n| n % 25 == 3)?;
    }
    world.producer.flush().await?;
    // Rows alone: balances could not be undone.
    let sink = || Sink { fault: Named::default(), rows_only: true };
    let worker = world.worker_with(world.setting_aside(), sink());
    world.caught_up().await?;
    wait_until("the sink's table is registered", PATIENCE, async || {
        Ok((world.database.count("highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    worker.stop().await?;

    let said = world.dead_letters("list", &[]).await?.ended(0).stdout;
    assert!(said.starts_with("1 kind, 8 records, first 20"), "{said}");
    assert!(said.contains("is no good") && said.contains(&world.topic), "{said}");
    let kinds = world.dead_letters("list", &["--json"]).await?.ended(0).json();
    let kind = kinds[0]["kind"].as_str().expect("a kind").to_owned();
    assert_eq!((&kinds[0]["records"], &kinds[0]["open"]), (&8.into(), &8.into()));
    check(&kinds, &documented("dead-letters list"), "list");
    let one = format!("{}:1", world.topic);
    let filter = ["--topic", &one, "--kind", &kind[..4], "--records", "--limit", "3", "--json"];
    let letters = world.dead_letters("list", &filter).await?.ended(0).json();
    let places: Vec<_> =
        letters.as_array().expect("letters").iter().map(|one| one["offset"].as_i64()).collect();
    assert_eq!(places, [Some(3), Some(28), Some(53)]);
    check(&letters, &documented("dead-letters list --records"), "list --records");
    for nothing in
        [["--kind", "zz"], ["--since", "2040-01-01T00:00:00"], ["--key", "good"], ["--state", "discarded"]]
    {
        assert_eq!(world.dead_letters("list", &nothing).await?.ended(0).stdout, "no dead letters\n");
    }
    assert!(
        world.dead_letters("list", &["--key", "bad"]).await?.ended(0).stdout.starts_with("1 kind, 8 records")
    );
    let mistyped = world.highwater(&["dead-letters", "list", "--group", "mistyped"]).await?;
    assert_ne!(mistyped.code, 0, "{}", mistyped.stdout);

    // The content is shown to those who ask for it.
    let id = letters[0]["id"].to_string();
    let shown = world.highwater(&["dead-letters", "show", &id]).await?.ended(0).stdout;
    assert!(
        shown.contains("@3, group") && shown.contains("reject ") && shown.contains("key 3 bytes"),
        "{shown}"
    );
    assert!(!shown.contains("key        bad"), "{shown}");
    let shown = world.highwater(&["dead-letters", "show", &id, "--payload"]).await?.ended(0).stdout;
    assert!(shown.contains("key        bad\nvalue      4\n"), "{shown}");
    for more in [&["--payload"][..], &[]] {
        let arguments = [&["dead-letters", "show", &id, "--json"][..], more].concat();
        let shown = world.highwater(&arguments).await?.ended(0).json();
        check(&shown, &documented("dead-letters show"), "show");
    }
    let whole = world.dead_letters("export", &["--payload"]).await?.ended(0).stdout;
    let whole: Vec<serde_json::Value> =
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(whole.len(), 8);
    assert!(whole.iter().all(|line| line["payload"]["key_base64"] == "YmFk"), "{:?}", whole[0]);
    let facts = world.dead_letters("export", &[]).await?.ended(0).stdout;
    assert!(facts.lines().count() == 8 && !facts.contains("base64"), "{facts}");

    // Others see them as well, and nothing is missing.
    let status = world.highwater(&["status", "--group", &world.group]).await?.stdout;
    assert!(status.contains("8 open"), "{status}");
    let tail =
        ["tail", "--group", &world.group, "--topic", &one, "--from", "beginning", "-e", "-f", "%o %a\n"];
    let tail = world.highwater(&tail).await?.ended(0).stdout;
    assert_eq!(tail.lines().filter(|line| line.ends_with("dead")).count(), 4, "{tail}");
    let prove = ["reconcile", "--group", &world.group, "--table", "sink", "--deep"];
    world.highwater(&prove).await?.ended(0);

    // Counted first; done by those who say why.
    let kind = ["--kind", &kind];
    let said = world.dead_letters("discard", &[&kind[..], &["--dry-run"]].concat()).await?.ended(0).stdout;
    assert!(said.contains("8 records would be discarded; nothing was done"), "{said}");
    world.dead_letters("discard", &[&kind[..], &["--execute"]].concat()).await?.ended(2);
    let done = ["--topic", &one, "--reason", "INC-812", "--execute", "--json"];
    let done = world.dead_letters("discard", &[&kind[..], &done].concat()).await?.ended(0).json();
    assert_eq!((&done["executed"], &done["records"]), (&true.into(), &4.into()));
    check(&done, &documented("dead-letters discard"), "discard");
    let stats = world.dead_letters("stats", &["--json"]).await?.ended(0).json();
    assert_eq!((&stats[0]["open"], &stats[0]["discarded"]), (&4.into(), &4.into()));
    check(&stats, &documented("dead-letters stats"), "stats");
    let shown = world.highwater(&["dead-letters", "show", &id]).await?.ended(0).stdout;
    assert!(shown.contains("discarded by ana: INC-812"), "{shown}");
    world.highwater(&prove).await?.ended(0);

    // Read again, they are rejected again, and open again.
    let back = ["--all-topics", "--to-earliest", "--execute", "--undo-rows"];
    world.offsets("reset", &back).await?.ended(0);
    let stats = world.dead_letters("stats", &["--json"]).await?.ended(0).json();
    assert_eq!((&stats[0]["open"], &stats[0]["superseded"]), (&0.into(), &8.into()));
    let worker = world.worker_with(world.setting_aside(), sink());
    world.caught_up().await?;
    worker.stop().await?;
    world.assert_rows_and_letters("sink").await?;
    assert_eq!(world.number("SELECT min(attempts)::int8 FROM highwater.dead_letter").await?, 2);
    world.highwater(&prove).await?.ended(0);
    Ok(())
}
