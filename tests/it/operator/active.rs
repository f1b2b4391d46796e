//! A group at work is left alone, unless it is asked for: by the database's claims, and by Kafka's members.

use std::time::Duration;

use highwater::config::StartPolicy;
use highwater::testing::{quiet_client_config, wait_until};
use highwater::{PartialConfig, Worker};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::support::{PATIENCE, Process, Sink, TestResult, World};

const BACK: &[&str] = &["--all-topics", "--shift-by", "-10", "--execute"];

#[tokio::test]
async fn a_group_at_work_is_not_moved_and_the_refusal_names_the_way() -> TestResult {
    let world = World::new("active", 2).await?;
    world.produce(50).await?;
    let worker = Process::start(&world, "worker", "plain")?;
    world.verify().await?;
    let owner = worker.owner().await?;
    let said = world.offsets("reset", BACK).await?.ended(4);
    assert!(said.stderr.contains(&format!("worker {owner} (it, host ")), "{}", said.stderr);
    assert!(said.stderr.contains("holds 2 partitions"), "{}", said.stderr);
    assert!(said.stderr.contains("client.id highwater/"), "the members by Kafka: {}", said.stderr);
    let way =
        said.stderr.lines().find(|line| line.ends_with(" --live")).expect("the command that would work");
    assert_eq!(
        world.number("SELECT count(*) FROM highwater.offset_plan").await?,
        0,
        "nothing is left behind"
    );
    world.offsets("delete", &["--all-topics", "--execute"]).await?.ended(4);
    let members = world.offsets("describe", &["--members"]).await?.ended(0);
    assert!(
        members.stdout.contains(&owner) && members.stdout.contains("client.id highwater/"),
        "{}",
        members.stdout
    );

    // The very command that it names.
    let words: Vec<&str> = way.split_whitespace().skip(1).collect();
    world.highwater(&words).await?.ended(0);
    world.verify_with_moves().await?;

    // Killed: Kafka lists the member for its session time-out, and the database knows within three seconds.
    worker.child.kill()?;
    let said = world.offsets("reset", BACK).await?.ended(4);
    assert!(said.stderr.contains("member "), "{}", said.stderr);
    wait_until("the dead member is forgotten", PATIENCE, async || {
        Ok((world.offsets("reset", BACK).await?.code == 0).then_some(()))
    })
    .await?;
    let next = Process::start(&world, "next", "plain")?;
    world.verify_with_moves().await?;
    next.stop().await?;
    Ok(())
}

/// A worker by hand is in no group, so that only the database knows of it; a foreign consumer only Kafka.
#[tokio::test]
async fn whoever_is_seen_by_one_side_alone_counts() -> TestResult {
    let world = World::new("one-side", 1).await?;
    world.produce(30).await?;
    let settings = PartialConfig::default()
        .brokers(vec![world.kafka.bootstrap().to_owned()])
        .postgres_url(world.role.url.as_str())
        .program("it")
        .group(world.group.clone())
        .start(StartPolicy::Earliest);
    let by_hand = Worker::builder().ignore_environment().settings(settings).assign([(&*world.topic, 0)]);
    let worker = by_hand.build(Sink::<()>::default())?.spawn();
    world.caught_up().await?;
    let said = world.offsets("reset", BACK).await?.ended(4);
    assert!(
        said.stderr.contains("holds 1 partitions") && !said.stderr.contains("client.id"),
        "{}",
        said.stderr
    );
    worker.stop().await?;

    let mut config = quiet_client_config(world.kafka.bootstrap());
    config.set("group.id", &world.group).set("client.id", "old-consumer");
    let foreign: BaseConsumer = config.create()?;
    foreign.subscribe(&[&world.topic])?;
    let polling = std::sync::Arc::new(foreign);
    let thread = {
        let polling = std::sync::Arc::downgrade(&polling);
        std::thread::spawn(move || {
            while let Some(consumer) = polling.upgrade() {
                drop(consumer.poll(Duration::from_millis(100)));
            }
        })
    };
    wait_until("the stranger is refused for", PATIENCE, async || {
        let said = world.offsets("reset", &["--all-topics", "--to-current", "--execute"]).await?;
        let named = said.stderr.contains("client.id old-consumer") && said.stderr.contains("not Highwater's");
        Ok((said.code == 4 && named).then_some(()))
    })
    .await?;
    drop(polling);
    thread.join().expect("it does not panic");
    wait_until("the stranger has left", PATIENCE, async || {
        Ok((world.offsets("reset", BACK).await?.code == 0).then_some(()))
    })
    .await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

/// What is deleted can't be begun anew by mistake: Kafka's copy is asked for first.
#[tokio::test]
async fn deleted_offsets_are_on_record_and_not_begun_anew_by_mistake() -> TestResult {
    let world = World::new("deleted", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let dry = world.offsets("delete", &["--all-topics", "--dry-run"]).await?.ended(0);
    assert!(dry.stdout.contains("nothing was deleted"), "{}", dry.stdout);
    world.offsets("delete", &["--topic", &format!("{}:1", world.topic), "--execute"]).await?.ended(2);
    world.offsets("delete", &["--topic", &world.topic, "--reason", "retired", "--execute"]).await?.ended(0);
    let events = world.offsets("events", &["--json"]).await?.ended(0).json();
    assert_eq!((&events[0]["kind"], &events[0]["from"]), (&"delete".into(), &20.into()));
    assert_eq!(events[0]["reason"], "retired");
    let worker = world.worker(Sink::<()>::default());
    let error = tokio::time::timeout(PATIENCE, worker.wait()).await?.expect_err("it is refused");
    assert_eq!(error.exit_code(), 4, "{error}");
    world.assert_exact(true).await?;
    Ok(())
}
