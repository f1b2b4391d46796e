//! Groups that begin where others stand, or stood: copied, adopted, forgotten. And what an application sees of them.

use crate::support::{PATIENCE, Sink, TestResult, World};
use highwater::PartialConfig;
use highwater::config::StartPolicy;
use highwater::testing::wait_until;

/// The new group's worker reads nothing that the old one had applied, and everything after it.
#[tokio::test]
async fn a_copy_goes_on_where_the_other_stands() -> TestResult {
    let world = World::new("copy", 2).await?;
    world.produce(30).await?;
    let blue = world.worker(Sink::<()>::default());
    world.verify().await?;
    let green = format!("{}-green", world.group);
    let to = ["--to-group", &green, "--reason", "DEPLOY-9"];
    let look = world.offsets("copy", &[&to[..], &["--dry-run"]].concat()).await?.ended(0);
    assert!(look.stdout.contains("nothing was copied"), "{}", look.stdout);
    assert_eq!(world.number("SELECT count(DISTINCT group_id) FROM highwater.consumer_offset").await?, 1);
    let done = world.offsets("copy", &[&to[..], &["--execute", "--json"]].concat()).await?.ended(0).json();
    assert_eq!((&done["executed"], &done["positions"][1]["offset"]), (&true.into(), &30.into()));
    // Pressed twice: it stands somewhere by now.
    let again = world.offsets("copy", &[&to[..], &["--execute"]].concat()).await?.ended(1);
    assert!(again.stderr.contains("nothing was copied"), "{}", again.stderr);
    let sql = format!(
        "SELECT count(*) FROM highwater.offset_event WHERE group_id = '{green}' AND kind = 'start' \
                       AND actor = 'ana' AND reason LIKE 'DEPLOY-9 (copied from %'"
    );
    assert_eq!(world.number(&sql).await?, 2);
    blue.stop().await?;
    world.produce(5).await?;
    // The tables go over to green: it adds what blue did not have, under a start policy that asks for nothing.
    let settings = world.settings().group(green.clone()).start(StartPolicy::Fail);
    let worker = world.worker_with(settings, Sink::<()>::default());
    wait_until("green has caught up", PATIENCE, async || {
        let sql = format!(
            "SELECT count(*) FROM highwater.consumer_offset WHERE group_id = '{green}' AND next_offset = 35"
        );
        Ok((world.number(&sql).await? == 2).then_some(()))
    })
    .await?;
    world.assert_exact(true).await?;
    let held = world.offsets("copy", &["--to-group", &green, "--execute"]).await?.ended(4);
    assert!(held.stderr.contains("is at work"), "{}", held.stderr);
    worker.stop().await?;
    let mistyped =
        world.highwater(&["offsets", "copy", "--group", "nobody", "--to-group", "x", "--execute"]).await?;
    assert!(mistyped.ended(2).stderr.contains(&world.group));
    Ok(())
}

#[tokio::test]
async fn kafkas_offsets_are_adopted_by_hand() -> TestResult {
    let world = World::new("adopt-hand", 2).await?;
    world.produce(20).await?;
    let topic = ["--topic", &world.topic];
    let unnamed = world.offsets("adopt", &topic).await?.ended(2);
    assert!(unnamed.stderr.contains("--program"), "{}", unnamed.stderr);
    let it = [&topic[..], &["--program", "it", "--reason", "MIG-7", "--json"]].concat();
    let nothing = world.offsets("adopt", &it).await?.ended(4);
    assert!(nothing.stderr.contains("cannot adopt"), "{}", nothing.stderr);
    world.commit_in_kafka(&[(0, 7), (1, 20)]).await?;
    let adopted = world.offsets("adopt", &it).await?.ended(0).json();
    assert_eq!((&adopted[0]["offset"], &adopted[1]["offset"]), (&7.into(), &20.into()));
    let events = world.offsets("events", &["--json"]).await?.ended(0).json();
    assert_eq!((&events[0]["kind"], &events[0]["actor"]), (&"adopt".into(), &"ana".into()));
    assert_eq!(events[0]["reason"], "MIG-7 (start policy adopt-kafka)");
    let worker = world.worker_with(world.settings().start(StartPolicy::Fail), Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let found = world
        .database
        .query("SELECT source_partition, min(source_offset), count(*) FROM sink GROUP BY 1", &[])
        .await?;
    assert_eq!(
        found.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect::<Vec<(i32, i64, i64)>>(),
        [(0, 7, 13)]
    );
    Ok(())
}

/// A topic that is not read any more, while the group works on another.
#[tokio::test]
async fn a_topic_is_forgotten_beside_work() -> TestResult {
    let world = World::new("forget", 1).await?;
    let other = format!("{}-other", world.topic);
    world.kafka.create_topic(&other, 1).await?;
    world.produce(10).await?;
    let both = world.settings().topics(vec![world.topic.clone(), other.clone()]);
    let worker = world.worker_with(both, Sink::<()>::default());
    world.verify().await?;
    let forget = ["--topic", &other, "--reason", "retired", "--execute"];
    let sql = format!(
        "SELECT count(*) FROM highwater.consumer_offset WHERE topic = '{other}' AND owner IS NOT NULL"
    );
    wait_until("both are claimed", PATIENCE, async || Ok((world.number(&sql).await? == 1).then_some(())))
        .await?;
    let held = world.offsets("forget-topic", &forget).await?.ended(4);
    assert!(held.stderr.contains("holds partitions of topic"), "{}", held.stderr);
    worker.stop().await?;
    let worker = world.worker(Sink::<()>::default());
    world.produce(10).await?;
    world.verify().await?;
    world.offsets("forget-topic", &forget).await?.ended(0);
    let left = format!("SELECT count(*) FROM highwater.group_topic WHERE topic = '{other}'");
    assert_eq!(world.number(&left).await?, 0);
    world.produce(10).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// What a pattern finds would come back as a new topic, on top of its own rows: that is refused, unless it is asked for.
#[tokio::test]
async fn a_topic_that_a_pattern_finds_is_not_forgotten_by_mistake() -> TestResult {
    let world = World::new("forget-matched", 1).await?;
    let other = format!("{}-other", world.topic);
    world.kafka.create_topic(&other, 1).await?;
    world.produce(10).await?;
    world.producer.fill(&other, 1, 5, |_, n| (format!("other-a{n}"), "1".to_owned())).await?;
    let both = world.settings().topics(vec![format!("^{}.*", world.topic)]);
    let applied = format!("SELECT count(*) FROM sink WHERE source_topic = '{other}'");
    let worker = world.worker_with(both.clone(), Sink::<()>::default());
    world.caught_up().await?;
    wait_until("both are applied", PATIENCE, async || Ok((world.number(&applied).await? == 5).then_some(())))
        .await?;
    worker.stop().await?;
    let forget = ["--topic", &other, "--reason", "retired", "--execute"];
    let said = world.offsets("forget-topic", &forget).await?.ended(4);
    assert!(
        said.stderr.contains(&format!("is matched by ^{}.*", world.topic))
            && said.stderr.contains("--as-new"),
        "{}",
        said.stderr
    );
    let known = format!("SELECT count(*) FROM highwater.consumer_offset WHERE topic = '{other}'");
    assert_eq!(world.number(&known).await?, 1, "nothing was deleted");

    // Asked for, it is as new: applied once more, from its beginning.
    world.offsets("forget-topic", &[&forget[..], &["--as-new"]].concat()).await?.ended(0);
    assert_eq!(world.number(&known).await?, 0);
    let group = ["--delete-offsets", "--group", &world.group, "--topic", &other];
    let tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let deleted = world.kafka.tool(tool, &group).await?;
    assert_eq!(deleted.status, Some(0), "{deleted:?}");
    let worker = world.worker_with(both, Sink::<()>::default());
    wait_until("it is applied again", PATIENCE, async || {
        Ok((world.number(&applied).await? == 10).then_some(()))
    })
    .await?;
    worker.stop().await?;

    // What Kafka does not have any more cannot come back.
    world.kafka.delete_topic(&other).await?;
    world.offsets("forget-topic", &forget).await?.ended(0);
    assert_eq!(world.number(&known).await?, 0);
    Ok(())
}

/// Whoever has written to Kafka waits until it is in the sink.
#[tokio::test]
async fn an_application_waits_for_what_it_has_written() -> TestResult {
    let world = World::new("wait-for", 1).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let client = world.database.client().await?;
    let wait = "SELECT highwater.wait_for($1, $2, 0, $3, $4::text::interval)";
    let reached = async |offset: i64, limit: &str| {
        client
            .query_one(wait, &[&world.group, &world.topic, &offset, &limit])
            .await
            .map(|row| row.get::<_, bool>(0))
    };
    assert!(reached(9, "0").await?, "it is applied");
    assert!(!reached(10, "100 milliseconds").await?, "it is not");
    let (waited, produced) = tokio::join!(reached(14, "60 seconds"), world.produce(5));
    produced?;
    assert!(waited?);
    assert_eq!(world.number("SELECT count(*) FROM sink WHERE source_offset = 14").await?, 1);
    let unknown =
        client.query_one(wait, &[&"nobody", &world.topic, &0_i64, &"0"]).await.expect_err("no such group");
    assert!(format!("{unknown:?}").contains("has no offset of partition 0"), "{unknown:?}");
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let blind = reached(0, "0").await.expect_err("it would wait for ever");
    assert!(format!("{blind:?}").contains("READ COMMITTED"), "{blind:?}");
    client.batch_execute("ROLLBACK").await?;

    let progress = "SELECT next_offset FROM highwater.progress WHERE group_id = $1";
    assert_eq!(client.query_one(progress, &[&world.group]).await?.get::<_, i64>(0), 15);
    worker.stop().await?;
    Ok(())
}

/// The views say what is: caught up, behind, paused, and nobody there.
#[tokio::test]
async fn the_views_tell_lag_health_and_scale() -> TestResult {
    let world = World::new("views", 2).await?;
    world.produce(10).await?;
    let settings: PartialConfig = world.settings();
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    let shown = async |sql: &str| -> highwater::testing::Result<String> {
        let rows = world.database.query(&format!("SELECT t::text FROM ({sql}) t"), &[]).await?;
        Ok(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(" "))
    };
    let becomes = async |sql: &str, wanted: &str| {
        wait_until(wanted, PATIENCE, async || Ok((shown(sql).await? == wanted).then_some(()))).await
    };
    let lag = "SELECT partition, lag_records, lag_seconds > 0 AS late, as_of IS NOT NULL AS told \
               FROM highwater.lag ORDER BY 1";
    let health =
        "SELECT partition, class, CASE WHEN class <> 'OK' THEN reason END FROM highwater.health ORDER BY 1";
    let scaling = "SELECT partitions, busy_partitions, lag_records, live_workers FROM highwater.scaling";
    becomes(lag, "(0,0,f,t) (1,0,f,t)").await?;
    becomes(health, "(0,OK,) (1,OK,)").await?;
    becomes(scaling, "(2,0,0,1)").await?;
    world.partitions_command("pause", 1, &["--reason", "INC-1"]).await?.ended(0);
    world.produce(7).await?;
    becomes(lag, "(0,0,f,t) (1,7,t,t)").await?;
    becomes(health, "(0,OK,) (1,PAUSED,INC-1)").await?;
    becomes(scaling, "(2,0,0,1)").await?;
    world.partitions_command("resume", 1, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    becomes(health, "(0,UNOWNED,\"nobody holds it\") (1,UNOWNED,\"nobody holds it\")").await?;
    becomes(scaling, "(2,0,0,0)").await?;
    Ok(())
}
