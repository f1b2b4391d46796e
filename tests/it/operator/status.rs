//! Is it well, and if not, what and where.

use highwater::HandlerError;
use highwater::testing::wait_until;
use serde_json::Value;

use super::command::Said;
use crate::support::watch::halted;
use crate::support::{Fault, PATIENCE, Process, Sink, TestResult, World};

impl World<'_> {
    pub(crate) async fn status(&self, arguments: &[&str]) -> highwater::testing::Result<Said> {
        let said = self.highwater(&[&["status", "--group", &self.group], arguments].concat()).await?;
        assert!(said.stdout.lines().count() <= 10 || arguments.contains(&"--json"), "{}", said.stdout);
        Ok(said)
    }

    async fn troubles(
        &self,
        arguments: &[&str],
    ) -> highwater::testing::Result<(i32, Vec<(String, i64)>, Value)> {
        let said = self.status(&[arguments, &["--json"]].concat()).await?;
        let status = said.json()[0].clone();
        assert_eq!(status["well"], said.code == 0, "{status:#}");
        let found = status["troubles"].as_array().expect("an array").iter();
        let found = found.map(|trouble| {
            let kind = trouble["kind"].as_str().unwrap_or_default().to_owned();
            (kind, trouble["partition"].as_i64().unwrap_or(-1))
        });
        Ok((said.code, found.collect(), status.clone()))
    }
}

#[tokio::test]
async fn status_says_whether_it_is_well_and_what_people_have_done() -> TestResult {
    let world = World::new("status", 4).await?;
    world.produce(50).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let well = world.status(&[]).await?.ended(0);
    for text in [": well\n", "lag        none in 4 partitions", "1 live (version ", "4 of 4 partitions held"]
    {
        assert!(well.stdout.contains(text), "{}", well.stdout);
    }
    assert!(!well.stdout.contains("\n  last "), "nobody has done anything yet: {}", well.stdout);

    world.partitions_command("pause", 1, &["--reason", "INC-812: wait for the index"]).await?.ended(0);
    let paused = world.status(&[]).await?.ended(1);
    let place = format!("{}:1 at 50: INC-812: wait for the index", world.topic);
    assert!(paused.stdout.contains("NOT WELL") && paused.stdout.contains(&place), "{}", paused.stdout);
    assert!(paused.stdout.contains("last       pause by ana "), "{}", paused.stdout);
    assert!(paused.stderr.contains("1 of 1 groups not well"), "{}", paused.stderr);
    let (code, found, _) = world.troubles(&["--allow-paused"]).await?;
    assert_eq!((code, found), (0, vec![("paused".to_owned(), 1)]), "said, and no failure");

    world.partitions_command("halt", 2, &["--reason", "ask Ana"]).await?.ended(0);
    let (code, found, _) = world.troubles(&["--allow-paused"]).await?;
    assert_eq!(code, 1);
    assert_eq!(found, [("halted_by_operator".to_owned(), 2), ("paused".to_owned(), 1)], "the gravest first");
    world.partitions_command("resume", 1, &[]).await?.ended(0);
    world.partitions_command("retry", 2, &["--reason", "asked"]).await?.ended(0);
    world.verify_with_moves().await?;
    let well = world.status(&[]).await?.ended(0);
    assert!(well.stdout.contains(&format!(", {}:2: asked", world.topic)), "{}", well.stdout);
    worker.stop().await?;

    // Nobody is there, and five records wait in each partition: how old they are, Kafka itself says.
    world.produce(5).await?;
    let down = world.status(&[]).await?.ended(1);
    for text in [
        "down       no worker is live: the last heartbeat came from process ",
        "and said that it stops",
        "lag        20 in 4 of 4 partitions; the oldest next record is ",
    ] {
        assert!(down.stdout.contains(text), "{}", down.stdout);
    }
    let (_, found, status) = world.troubles(&["--max-lag", "4"]).await?;
    assert_eq!(found.iter().filter(|(kind, _)| kind == "lag").count(), 4, "{found:?}");
    assert!(status["lag"]["seconds"].as_f64().is_some_and(|seconds| seconds < 120.0), "{status:#}");
    let (_, found, _) = world.troubles(&["--max-lag", "5", "--max-lag-seconds", "3600"]).await?;
    assert_eq!(found, [("nobody_at_work".to_owned(), -1)]);

    // Moved by hand to where Kafka has nothing yet.
    world
        .database
        .execute("UPDATE highwater.consumer_offset SET next_offset = 1000 WHERE partition = 3")
        .await?;
    let (_, found, status) = world.troubles(&[]).await?;
    assert_eq!(found[0], ("outside_log".to_owned(), 3), "{status:#}");
    assert_eq!(status["troubles"][0]["detail"], "Kafka's log goes from 0 to 55");
    Ok(())
}

/// Rejects the record at offset 7 of partition 0, in words that are too long for a line.
struct Picky;

impl Fault for Picky {
    fn record(&self, record: &highwater::Record<'_>) -> Result<(), HandlerError> {
        if record.offset() == 7 && record.partition() == 0 {
            return Err(HandlerError::reject(record, "no such account\n".repeat(30)));
        }
        Ok(())
    }
}

#[tokio::test]
async fn status_names_the_record_at_which_a_partition_has_halted() -> TestResult {
    let world = World::new("status-halted", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink { fault: Picky, rows_only: false });
    halted(&worker, 0).await?;
    world.reported_halt(0).await?;
    world.reached(1, 20).await?;
    let said = world.status(&[]).await?.ended(1);
    let (place, why) =
        (format!("halted     {}:0 at 7, for ", world.topic), "no such account no such account");
    assert!(said.stdout.contains(&place) && said.stdout.contains(why), "{}", said.stdout);
    assert!(said.stdout.lines().all(|line| line.chars().count() < 400), "{}", said.stdout);
    let (_, found, status) = world.troubles(&[]).await?;
    assert_eq!(found, [("halted".to_owned(), 0)]);
    assert_eq!((&status["lag"]["offsets"], &status["lag"]["partitions"]), (&13.into(), &1.into()));
    worker.stop().await?;
    // The halt stays true when its worker has gone.
    let (_, found, _) = world.troubles(&[]).await?;
    assert_eq!(found, [("halted".to_owned(), 0), ("nobody_at_work".to_owned(), -1)]);
    Ok(())
}

#[tokio::test]
async fn status_tells_a_dead_owner_from_a_fleet_that_is_down() -> TestResult {
    let world = World::new("status-dead", 2).await?;
    world.produce(20).await?;
    let long = [("HIGHWATER_SESSION_TIMEOUT", "40s")];
    let first = Process::start_with(&world, "first", "plain", &long)?;
    first.claimed().await?;
    let second = Process::start_with(&world, "second", "plain", &long)?;
    world.held_by(2).await?;
    world.verify().await?;
    world.status(&[]).await?.ended(0);
    let owner = first.owner().await?;
    first.child.kill()?;
    wait_until("its heartbeat is old", PATIENCE, async || {
        let (_, found, status) = world.troubles(&[]).await?;
        let dead = found.len() == 1 && found[0].0 == "dead_owner";
        assert!(!dead || status["troubles"][0]["owner"] == owner, "{status:#}");
        assert!(!dead || status["workers"]["live"] == 1, "{status:#}");
        Ok(dead.then_some(()))
    })
    .await?;
    let said = world.status(&[]).await?.ended(1);
    assert!(said.stdout.contains(&format!("worker {owner} on ")), "{}", said.stdout);
    second.child.kill()?;
    wait_until("it is the whole fleet", PATIENCE, async || {
        let (_, found, _) = world.troubles(&[]).await?;
        Ok((found == [("nobody_at_work".to_owned(), -1)]).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn status_works_with_few_rights_and_names_near_misses() -> TestResult {
    let world = World::new("status-rights", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let monitor = world.database.role("monitor").await?;
    let grants = format!(
        "GRANT USAGE ON SCHEMA highwater TO {0}; GRANT SELECT ON highwater.meta, highwater.consumer_offset, \
         highwater.partition_status, highwater.worker_status TO {0}",
        monitor.name
    );
    world.database.execute(&grants).await?;
    let arguments = ["status", "--group", &world.group, "--json"];
    let status = world.highwater_at(&monitor.url, &arguments).await?.ended(0).json();
    assert_eq!((&status[0]["dead_letters"], &status[0]["last_event"]), (&Value::Null, &Value::Null));

    // All groups, by default; and a group that is mistyped names the one that was meant.
    let all = world.highwater_at(&monitor.url, &["status"]).await?.ended(0);
    assert!(all.stdout.starts_with(&format!("{}: well\n", world.group)), "{}", all.stdout);
    let typo = world.group.to_uppercase();
    let said = world.highwater(&["status", "--group", &typo]).await?.ended(2);
    assert!(said.stderr.contains(&format!("did you mean {}?", world.group)), "{}", said.stderr);

    // Without brokers: what workers have reported.
    let nowhere = ["--bootstrap-server", "127.0.0.1:1"];
    let said = world.status(&nowhere).await?.ended(0);
    assert!(said.stdout.contains("Kafka      Kafka does not answer here"), "{}", said.stdout);
    worker.stop().await?;
    Ok(())
}
