//! How much of a record is kept, for how long, and who may read it.

use std::time::Duration;

use highwater::testing::wait_until;

use super::{BAD, Named};
use crate::support::{PATIENCE, Sink, TestResult, World};

fn sink() -> Sink<Named> {
    Sink { fault: Named::default(), rows_only: true }
}

/// The numbers of the dead letters, by offset.
async fn ids(world: &World<'_>) -> TestResult<Vec<String>> {
    let ids = "SELECT dead_letter_id::text FROM highwater.dead_letter ORDER BY partition, record_offset";
    Ok(world.database.query(ids, &[]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn core_a_large_record_stays_in_its_topic_and_whoever_may_not_read_contents_sees_facts() -> TestResult {
    let world = World::new("omitted", 1).await?;
    let dead = format!("{}.dead", world.topic);
    world.another_topic((&dead, 1)).await?;
    for size in [1_000, 1_001] {
        // With its key of three bytes.
        world.producer.send(world.message(0).key(BAD).value(vec![b'x'; size - 3]))?;
    }
    world.producer.flush().await?;
    let settings = world.setting_aside().dead_letter_max_payload_bytes(1_000_usize);
    let worker = world.worker_with(settings.clone(), sink());
    world.caught_up().await?;
    worker.stop().await?;
    assert_eq!(world.letters().await?.len(), 2);
    assert_eq!(world.database.count("highwater.dead_letter_payload").await?, 1);
    let ids = ids(&world).await?;
    let (small, large) = (ids[0].as_str(), ids[1].as_str());
    let shown = world.highwater(&["dead-letters", "show", large]).await?.ended(0).stdout;
    let place =
        format!("highwater tail --group {} --topic {}:0 --from 1 -n 1 --payload", world.group, world.topic);
    assert!(shown.contains("1001 bytes, too large to be stored") && shown.contains(&place), "{shown}");
    let list = ["dead-letters", "list", "--group", &world.group, "--records"];
    let listed = world.highwater(&list).await?.ended(0).stdout;
    assert!(listed.contains("offset 1 is no good (1001 bytes, in its topic only)"), "{listed}");
    let export = ["dead-letters", "export", "--group", &world.group, "--to-topic", &dead];
    let said = world.highwater(&export).await?.ended(0).stdout;
    assert!(
        said.starts_with("1 record written") && said.contains("1 record left out: too large to be stored"),
        "{said}"
    );

    // An operator's role sees and decides; what is in the records takes a right of its own.
    let operator = world.database.role("operator").await?;
    let print = ["migrate", "--print-grants", "--operator", "--role", &operator.name];
    let type_it = async |arguments: &[&str]| -> TestResult<crate::operator::command::Said> {
        Ok(world.highwater_at(&operator.url, arguments).await?)
    };
    world.database.execute(&type_it(&print).await?.ended(0).stdout).await?;
    type_it(&list).await?.ended(0);
    type_it(&["dead-letters", "stats", "--group", &world.group]).await?.ended(0);
    assert_eq!(
        type_it(&["dead-letters", "export", "--group", &world.group]).await?.ended(0).stdout.lines().count(),
        2
    );
    let shown = type_it(&["dead-letters", "show", small]).await?.ended(0).stdout;
    assert!(shown.contains("content    not open to this role") && !shown.contains("bytes"), "{shown}");
    for refused in [
        &["dead-letters", "show", small, "--payload"][..],
        &["dead-letters", "export", "--group", &world.group, "--payload"],
        &export,
    ] {
        let said = type_it(refused).await?.ended(5);
        assert!(said.stderr.contains("may not read what is in rejected records"), "{}", said.stderr);
    }
    world.database.execute(&type_it(&[&print[..], &["--payload"]].concat()).await?.ended(0).stdout).await?;
    let shown = type_it(&["dead-letters", "show", small, "--payload"]).await?.ended(0).stdout;
    assert!(shown.contains("key        bad\n"), "{shown}");

    // Read again under another setting, what was kept is not; and the other way round.
    for (most, kept) in [(10_usize, 0), (10_000, 2)] {
        let back = ["--all-topics", "--to-earliest", "--execute"];
        world.offsets("reset", &back).await?.ended(0);
        let worker = world.worker_with(settings.clone().dead_letter_max_payload_bytes(most), sink());
        world.caught_up().await?;
        worker.stop().await?;
        assert_eq!(world.database.count("highwater.dead_letter_payload").await?, kept);
        let omitted = "SELECT count(omitted_bytes) FROM highwater.dead_letter WHERE state = 'open'";
        assert_eq!(world.number(omitted).await?, 2 - kept);
    }
    Ok(())
}

#[tokio::test]
async fn core_contents_expire_and_facts_stay() -> TestResult {
    let world = World::new("expired", 1).await?;
    world.send_with_bad(0, 30, |n| n % 10 == 4)?;
    world.producer.flush().await?;
    let worker = world.worker_with(world.setting_aside(), sink());
    world.caught_up().await?;
    worker.stop().await?;
    // Somebody has decided about these; from now on no content may be kept for longer than a second.
    let ids = ids(&world).await?;
    let discard = ["dead-letters", "discard", "--group", &world.group, "--reason", "INC-812", "--execute"];
    world.highwater(&discard).await?.ended(0);
    world.send_with_bad(0, 10, |n| n == 5)?;
    world.producer.flush().await?;
    let short = Some(Duration::from_secs(1));
    let settings = world
        .setting_aside()
        .dead_letter_payload_retention(short)
        .dead_letter_closed_payload_retention(short);
    // The new one is stored with a date.
    wait_until("they have been closed for a second", PATIENCE, async || {
        let old = "SELECT count(*) FROM highwater.dead_letter WHERE state_changed_at > clock_timestamp() - interval '1 second'";
        Ok((world.number(old).await? == 0).then_some(()))
    })
    .await?;
    let worker = world.worker_with(settings.clone(), sink());
    world.caught_up().await?;
    worker.stop().await?;
    wait_until("the new one has expired", PATIENCE, async || {
        let left = "SELECT count(*) FROM highwater.dead_letter_payload WHERE expires_at >= clock_timestamp()";
        Ok((world.number(left).await? == 0).then_some(()))
    })
    .await?;
    // A worker prunes when it starts: contents, whatever it may not prune else.
    let revoke = format!("REVOKE EXECUTE ON FUNCTION highwater.prune_history FROM {}", world.role.name);
    world.database.execute(&revoke).await?;
    let worker = world.worker_with(settings, sink());
    wait_until("contents are pruned", PATIENCE, async || {
        let kept = world.number("SELECT count(*) FROM highwater.dead_letter_payload").await?;
        Ok((kept == 0).then_some(()))
    })
    .await?;
    worker.stop().await?;
    assert_eq!(world.database.count("highwater.dead_letter").await?, 4, "the facts stay");
    let shown = world.highwater(&["dead-letters", "show", &ids[0]]).await?.ended(0).stdout;
    assert!(
        shown.contains("content    it has expired") && shown.contains("discarded by ana: INC-812"),
        "{shown}"
    );
    let shown = world.highwater(&["dead-letters", "show", &ids[0], "--payload"]).await?.ended(0).stdout;
    assert!(shown.contains("payload    it is not here"), "{shown}");
    Ok(())
}
