//! The test kit itself, on the real servers.

use std::{process::Command, time::Duration};

use highwater::testing::{Child, Kafka, Message, Oracle, Postgres, Result, unique, wait_until};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use crate::support::PATIENCE;

/// What a perfect sink would do.
async fn copy_into_table(kafka: &Kafka, topic: &str, client: &tokio_postgres::Client) -> Result<()> {
    client.batch_execute("CREATE TABLE sink (source_partition int4, source_offset int8)").await?;
    for record in kafka.read(topic).await? {
        client.execute("INSERT INTO sink VALUES ($1, $2)", &[&record.partition, &record.offset]).await?;
    }
    Ok(())
}

const ROWS: &str = "SELECT source_partition, source_offset FROM sink";

#[tokio::test]
async fn core_what_is_produced_is_read_back_and_compared() -> Result<()> {
    let kafka = Kafka::shared().await?;
    let database = Postgres::shared().await?.fresh_database("harness").await?;
    let topic = unique("orders");
    kafka.create_topic(&topic, 3).await?;
    let producer = kafka.producer()?;
    producer.fill(&topic, 3, 50, |partition, number| (format!("k{partition}"), format!("{number}"))).await?;
    producer.send(Message::to(&topic).partition(1).header("trace", "abc").timestamp_ms(1_700_000_000_000))?;
    producer.flush().await?;

    let records = kafka.read(&topic).await?;
    assert_eq!(records.len(), 151);
    let tombstone =
        records.iter().find(|record| (record.partition, record.offset) == (1, 50)).expect("sent last");
    assert_eq!(
        (&tombstone.key, &tombstone.value, tombstone.timestamp_ms),
        (&None, &None, Some(1_700_000_000_000))
    );
    assert_eq!(tombstone.headers, [("trace".to_owned(), Some(b"abc".to_vec()))]);
    assert_eq!(kafka.watermarks(&topic, 1).await?, (0, 51));

    let client = database.client().await?;
    copy_into_table(kafka, &topic, &client).await?;
    let oracle = Oracle::new(producer.ledger(), &topic);
    let report = oracle.compare(&client, ROWS).await?;
    report.assert_exact();
    assert_eq!((report.produced, report.rows), (151, 151));

    client.batch_execute("DELETE FROM sink WHERE source_partition = 0 AND source_offset = 7").await?;
    client.batch_execute("INSERT INTO sink VALUES (2, 9)").await?;
    let report = oracle.compare(&client, ROWS).await?;
    assert_eq!((report.missing.as_slice(), report.duplicates.as_slice()), (&[(0, 7)][..], &[(2, 9)][..]));
    assert!(report.to_string().ends_with("\nmissing 1, duplicates 1"), "{report}");
    Ok(())
}

#[tokio::test]
async fn core_an_aborted_transaction_is_in_the_log_but_not_in_the_ledger() -> Result<()> {
    let kafka = Kafka::shared().await?;
    let topic = unique("payments");
    kafka.create_topic(&topic, 1).await?;
    let producer = kafka.transactional_producer(&unique("tx")).await?;
    for (value, commit) in [("a", true), ("b", false), ("c", true)] {
        producer.begin()?;
        producer.send(Message::to(&topic).partition(0).value(value))?;
        if commit { producer.commit().await? } else { producer.abort().await? }
    }
    let values: Vec<_> = kafka.read(&topic).await?.into_iter().map(|record| record.value).collect();
    assert_eq!(values, [Some(b"a".to_vec()), Some(b"c".to_vec())]);
    // Three records, each followed by the marker of its transaction.
    assert_eq!(kafka.watermarks(&topic, 0).await?, (0, 6));
    assert_eq!(producer.ledger().positions(&topic).into_keys().collect::<Vec<_>>(), [(0, 0), (0, 4)]);
    Ok(())
}

#[tokio::test]
async fn core_a_group_is_described_by_kafkas_own_tool() -> Result<()> {
    let kafka = Kafka::shared().await?;
    let (topic, group) = (unique("orders"), unique("group"));
    kafka.create_topic(&topic, 2).await?;
    let producer = kafka.producer()?;
    producer.fill(&topic, 2, 5, |_, _| ("k".into(), "v".into())).await?;

    let (config, name, to_commit) =
        (highwater::testing::quiet_client_config(kafka.bootstrap()), group.clone(), topic.clone());
    let commit = move || {
        let consumer: BaseConsumer = config.clone().set("group.id", &name).create()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&to_commit, 0, Offset::Offset(3))?;
        offsets.elements()[0].set_metadata("a mark");
        consumer.commit(&offsets, CommitMode::Sync)
    };
    tokio::task::spawn_blocking(commit).await.expect("no panic")?;

    let description = kafka.describe_group(&group).await?;
    let row = &description.rows[0];
    assert_eq!((row.topic.as_str(), row.partition), (topic.as_str(), 0), "{}", description.raw);
    assert_eq!((row.current_offset, row.log_end_offset, row.lag), (Some(3), Some(5), Some(2)));
    assert_eq!(row.consumer_id, None);
    assert_eq!(kafka.committed(&group, &topic, 0).await?.map(|(offset, _)| offset), Some(3));
    assert_eq!(kafka.committed(&group, &topic, 1).await?, None);
    Ok(())
}

#[tokio::test]
async fn core_topics_grow_lose_records_and_go() -> Result<()> {
    let kafka = Kafka::shared().await?;
    let topic = unique("orders");
    kafka.create_topic_with(&topic, 1, &[("cleanup.policy", "compact")]).await?;
    kafka.producer()?.fill(&topic, 1, 10, |_, _| ("k".into(), "v".into())).await?;
    kafka.add_partitions(&topic, 4).await?;
    assert_eq!(kafka.partition_count(&topic).await?, Some(4));
    kafka.delete_topic(&topic).await?;
    assert_eq!(kafka.partition_count(&topic).await?, None);

    kafka.create_topic(&topic, 1).await?;
    kafka.producer()?.fill(&topic, 1, 10, |_, _| ("k".into(), "v".into())).await?;
    kafka.delete_records(&topic, 0, 4).await?;
    assert_eq!(kafka.watermarks(&topic, 0).await?, (4, 10));
    assert_eq!(kafka.read(&topic).await?.len(), 6);
    Ok(())
}

#[tokio::test]
async fn core_a_killed_broker_comes_back_with_its_port_and_data() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    let producer = kafka.producer()?;
    producer.fill("orders", 1, 10, |_, _| ("k".into(), "v".into())).await?;

    kafka.kill().await?;
    producer.send(Message::to("orders").partition(0).value("sent while the broker is dead"))?;
    kafka.restart().await?;
    producer.flush().await?;
    kafka.freeze().await?;
    kafka.thaw().await?;
    kafka.restart().await?;

    assert_eq!(kafka.read("orders").await?.len(), 11);
    assert_eq!(producer.ledger().count("orders"), 11);
    Ok(())
}

#[tokio::test]
async fn core_a_killed_postgres_comes_back_with_its_port_and_data() -> Result<()> {
    let postgres = Postgres::start_with(&[("max_connections", "20")]).await?;
    let database = postgres.fresh_database("harness").await?;
    let client = database.client().await?;
    client.batch_execute("CREATE TABLE t AS SELECT 1 AS a").await?;
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await?;

    postgres.kill().await?;
    wait_until("the client notices", PATIENCE, async || Ok(client.is_closed().then_some(()))).await?;
    assert!(database.client().await.is_err());
    postgres.restart().await?;
    assert_eq!(database.count("t").await?, 1, "what was not committed is gone");

    postgres.freeze().await?;
    let frozen = tokio::time::timeout(Duration::from_millis(300), database.client()).await;
    assert!(frozen.is_err(), "a frozen server answers nobody");
    postgres.thaw().await?;
    postgres.restart().await?;
    let limit: String = database.query("SHOW max_connections", &[]).await?[0].get(0);
    assert_eq!((database.count("t").await?, limit.as_str()), (1, "20"));
    Ok(())
}

#[tokio::test]
async fn the_mock_broker_takes_and_gives_records() -> Result<()> {
    let kafka = Kafka::mock().await?;
    kafka.create_topic("orders", 6).await?;
    let producer = kafka.producer()?;
    producer.fill("orders", 6, 3, |_, _| ("k".into(), "v".into())).await?;
    assert_eq!((kafka.read("orders").await?.len(), producer.ledger().count("orders")), (18, 18));
    Ok(())
}

#[tokio::test]
async fn core_roles_start_with_no_rights_and_passwords_count() -> Result<()> {
    let database = Postgres::shared().await?.fresh_database("harness").await?;
    database.execute("CREATE TABLE t (a int)").await?;
    let role = database.role("worker").await?;
    let (client, connection) = tokio_postgres::connect(&role.url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let refused = client.query("SELECT * FROM t", &[]).await.expect_err("no rights yet");
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));

    let wrong = role.url.replace(&role.password, "wrong");
    let refused =
        tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.err().expect("a wrong password");
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
    database.remove().await
}

#[tokio::test]
async fn core_lines_and_the_end_of_a_child_are_seen() -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'printf bye; exit 7' TERM; echo \"ready $MARK\"; echo careful >&2; while :; do sleep 0.05; done"]);
    command.env("MARK", "x1");
    let child = Child::spawn("talker", &command)?;
    assert_eq!(child.wait_for_line(|line| line.starts_with("ready"), PATIENCE).await?, "ready x1");
    child.wait_for_line(|line| line == "careful", PATIENCE).await?;
    let mark = child.mark();
    child.freeze()?;
    child.term()?;
    assert_eq!(child.exit_status(), None, "a frozen process handles nothing");
    child.thaw()?;
    assert_eq!(child.wait_for_line_from(mark, |line| line == "bye", PATIENCE).await?, "bye");
    assert_eq!(child.wait(PATIENCE).await?, 7);
    assert_eq!(child.stdout(), "ready x1\nbye\n");
    assert!(child.kill().is_err(), "it has ended");

    let silent = Child::spawn("silent", Command::new("sh").args(["-c", "echo oops >&2"]))?;
    let error = silent.wait_for_line(|line| line == "ready", PATIENCE).await.expect_err("no such line");
    assert!(error.to_string().contains("[silent] oops"), "{error}");
    Ok(())
}

/// Not a test: what `core_children_die_with_the_parent` kills.
#[tokio::test]
#[ignore = "run as a process of its own by core_children_die_with_the_parent"]
async fn parent_that_dies() -> Result<()> {
    let postgres = Postgres::start().await?;
    let kafka = Kafka::start().await?;
    let worker = Child::spawn("worker", Command::new("sleep").arg("600"))?;
    println!("\nstarted {} 127.0.0.1:{} {}", kafka.bootstrap(), postgres.port(), worker.pid());
    std::future::pending::<()>().await;
    Ok(())
}

#[tokio::test]
async fn core_children_die_with_the_parent() -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["harness::parent_that_dies", "--exact", "--ignored", "--nocapture"]);
    let parent = Child::spawn("parent", &command)?;
    let line = parent.wait_for_line(|line| line.starts_with("started "), 2 * PATIENCE).await?;
    let [_, broker, database, worker] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let answers = |address: &str| std::net::TcpStream::connect(address).is_ok();
    let lives = |pid: &str| std::path::Path::new("/proc").join(pid).join("exe").exists();
    assert!(answers(broker) && answers(database) && lives(worker), "{line}");

    parent.kill()?;
    wait_until("the servers and the worker are gone", PATIENCE, async || {
        Ok((!answers(broker) && !answers(database) && !lives(worker)).then_some(()))
    })
    .await
}

/// The client behind the proxy, and one that goes straight.
#[tokio::test]
async fn a_broker_behind_a_proxy_can_be_hidden_from_its_own_metadata() -> Result<()> {
    let (kafka, ways) = Kafka::start_behind(1).await?;
    kafka.create_topic("orders", 3).await?;
    let behind = highwater::testing::quiet_client_config(&ways[0].address().to_string());
    let look = move || -> Result<(usize, Vec<i32>)> {
        let client: BaseConsumer = behind.create()?;
        let metadata = client.fetch_metadata(Some("orders"), PATIENCE)?;
        let leaders =
            metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::leader);
        Ok((metadata.brokers().len(), leaders.collect()))
    };
    let looks = async || tokio::task::spawn_blocking(look.clone()).await.expect("no panic");
    assert_eq!(looks().await?, (1, vec![1, 1, 1]));
    ways[0].hide_brokers(true);
    assert_eq!(looks().await?, (0, vec![-1, -1, -1]));
    assert!(ways[0].brokerless_answers() > 0);
    assert_eq!(kafka.partition_count("orders").await?, Some(3), "who goes straight sees it");
    ways[0].hide_brokers(false);
    assert_eq!(looks().await?, (1, vec![1, 1, 1]));
    Ok(())
}

#[tokio::test]
async fn fetches_behind_a_proxy_fail_so_many_times() -> Result<()> {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let (kafka, ways) = Kafka::start_behind(1).await?;
    kafka.create_topic("orders", 1).await?;
    kafka.producer()?.fill("orders", 1, 100, |_, _| ("k".into(), "v".into())).await?;
    ways[0].fail_fetches(KAFKA_STORAGE_ERROR, 3);
    let behind = highwater::testing::quiet_client_config(&ways[0].address().to_string());
    let read = move || -> Result<usize> {
        let client: BaseConsumer = behind.clone().set("group.id", "g").create()?;
        let mut start = TopicPartitionList::new();
        start.add_partition_offset("orders", 0, Offset::Beginning)?;
        client.assign(&start)?;
        let until = std::time::Instant::now() + PATIENCE;
        let mut records = 0;
        while records < 100 && std::time::Instant::now() < until {
            records += usize::from(matches!(client.poll(Duration::from_millis(100)), Some(Ok(_))));
        }
        Ok(records)
    };
    let records = tokio::task::spawn_blocking(read).await.expect("no panic")?;
    assert_eq!((records, ways[0].failed_fetches()), (100, 3));
    Ok(())
}

/// So that `cargo test` passes on a machine without PgBouncer, and `.ci/run` does not.
#[test]
fn a_test_that_lacks_a_program_says_so_and_passes_unless_none_may_be_skipped() {
    let run = |required: &str| {
        let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
        command.args(["--exact", "faults::pooler::session_mode_works"]);
        command.env("PATH", "/nowhere").env("HIGHWATER_TEST_REQUIRE_ALL", required);
        command.output().expect("it runs")
    };
    let skipped = run("");
    let said = String::from_utf8_lossy(&skipped.stderr).into_owned();
    assert!(
        said.contains("skipped: pgbouncer is not installed (faults::pooler::session_mode_works)"),
        "{said}"
    );
    assert!(skipped.status.success(), "{skipped:?}");
    let failed = run("1");
    assert!(!failed.status.success(), "{failed:?}");
}
