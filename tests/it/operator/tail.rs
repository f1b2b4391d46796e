//! What became of each record, record by record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater::testing::{unique, wait_until};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::command::Said;
use crate::support::{PATIENCE, Sink, TestResult, World};

impl World<'_> {
    async fn tail(&self, arguments: &[&str]) -> TestResult<Said> {
        let which = ["tail", "--group", &self.group, "--topic", &self.topic];
        Ok(self.highwater(&[&which, arguments].concat()).await?)
    }
}

#[tokio::test]
async fn of_each_record_it_says_what_became_of_it() -> TestResult {
    let world = World::new("tail", 1).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    // One that is dead, one that was redriven; then a skip, and what is still to come.
    let insert = "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason, state) \
                  SELECT $1, $2, coalesce(topic_id, ''), 0, n, 'f', 'why', s FROM highwater.group_topic, \
                    unnest('{3,4}'::int8[], '{open,redriven}'::text[]) AS u(n, s) WHERE group_id = $1 AND topic = $2";
    world.database.query(insert, &[&world.group, &world.topic]).await?;
    world.produce(10).await?;
    world.partitions_command("skip", 0, &["--to", "25", "--reason", "why"]).await?.ended(0);
    let said = world.tail(&["--from", "beginning", "-e", "-f", "%o=%a "]).await?.ended(0);
    let expected: String = (0..30)
        .map(|offset| {
            let state = match offset {
                3 => "dead",
                20..25 => "skipped",
                25.. => "ahead",
                _ => "applied",
            };
            format!("{offset}={state} ")
        })
        .collect();
    // A skip stores what it skips as dead letters: then that is what they are.
    let dead = "SELECT count(*) FROM highwater.dead_letter WHERE record_offset >= 20";
    let expected = match world.number(dead).await? {
        0 => expected,
        _ => expected.replace("=skipped", "=dead"),
    };
    assert_eq!(said.stdout, expected);
    let states = |text: &str| {
        text.lines().map(|line| line.split_whitespace().nth(2).unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let said = world.tail(&["--from", "group", "-n", "2"]).await?.ended(0);
    assert_eq!(states(&said.stdout), ["ahead", "ahead"], "{}", said.stdout);
    assert!(said.stdout.starts_with(&format!("{}[0]@25  ", world.topic)), "{}", said.stdout);
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let said = world.tail(&["--from", "-3", "--exit"]).await?.ended(0);
    assert_eq!(states(&said.stdout), ["applied"; 3], "{}", said.stdout);
    // And from before the start of a group.
    let mut other = world;
    other.group = unique("late-group");
    let settings = other.settings().start(highwater::config::StartPolicy::Latest);
    let worker = other.worker_with(settings, Sink::<()> { rows_only: true, ..Sink::default() });
    wait_until("it has begun", PATIENCE, async || Ok(other.next_offset(0).await?.map(drop))).await?;
    worker.stop().await?;
    let said = other.tail(&["--from", "28", "-e", "-f", "%o=%a\\n"]).await?.ended(0);
    assert_eq!(said.stdout, "28=before\n29=before\n");
    Ok(())
}

#[tokio::test]
async fn kcats_format_and_no_payload_unless_asked() -> TestResult {
    let world = World::new("tail-format", 2).await?;
    // In whole seconds, and young enough for retention.
    let ago = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 3_600;
    let at = i64::try_from(ago * 1_000)?;
    let instant = |seconds: u64| {
        jiff::Timestamp::from_second(i64::try_from(ago + seconds).expect("a time")).expect("a time")
    };
    for number in 0..3 {
        let message = world.message(1).key("the key").value("the value").header("trace", "abc");
        world.producer.send(message.timestamp_ms(at + number * 1_000))?;
        world.producer.send(world.message(0).timestamp_ms(at))?;
    }
    world.producer.flush().await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let one = format!("{}:1", world.topic);
    let tail = async |arguments: &[&str]| -> TestResult<String> {
        let which = ["tail", "--group", &world.group, "--topic", &one];
        Ok(world.highwater(&[&which, arguments].concat()).await?.ended(0).stdout)
    };
    let said = tail(&["-o", "0", "-c", "1", "-f", "%t[%p] %o %T %k %K %s %S %h %a%%\\x21\\n"]).await?;
    assert_eq!(said, format!("{}[1] 0 {at} the key 7 the value 9 trace=abc applied%!\n", world.topic));
    assert_eq!(tail(&["-o", "0", "-n", "1", "-f", "%R"]).await?.as_bytes(), 9_i32.to_be_bytes());
    for silent in [&["-e"][..], &["-e", "--json"], &["-e", "-f", "%K %S"]] {
        let said = tail(silent).await?;
        assert!(
            !said.is_empty() && !["the key", "the value", "abc"].iter().any(|data| said.contains(data)),
            "{said}"
        );
    }
    let said = tail(&["-e", "-n", "1", "--payload"]).await?;
    for line in ["  key: \"the key\"\n", "  header \"trace\": \"abc\"\n", "  value: \"the value\"\n"] {
        assert!(said.contains(line), "{said}");
    }
    let line: serde_json::Value =
        serde_json::from_str(&tail(&["-o", "1", "-n", "1", "--json", "--payload"]).await?)?;
    assert_eq!(
        (&line["key"], &line["value_bytes"], &line["state"]),
        (&"the key".into(), &9.into(), &"applied".into())
    );
    assert_eq!((&line["timestamp_kind"], &line["headers"][0][1]), (&"create_time".into(), &"abc".into()));
    // Of a tombstone.
    let zero = [
        "tail",
        "--group",
        &world.group,
        "--topic",
        &world.topic,
        "-o",
        "2",
        "--until",
        "3",
        "-f",
        "%p:%S:%s;",
    ];
    let said = world.highwater(&zero).await?.ended(0).stdout;
    let mut parts: Vec<&str> = said.split_terminator(';').collect();
    parts.sort_unstable();
    assert_eq!(parts, ["0:-1:", "1:9:the value"]);

    // By time, and up to a time.
    let offsets =
        async |from: &str, until: &str| tail(&["--from", from, "--until", until, "-f", "%o,"]).await;
    let utc = |seconds: u64| instant(seconds).to_string().trim_end_matches('Z').to_owned();
    assert_eq!(offsets(&utc(1), "end").await?, "1,2,");
    assert_eq!(offsets(&format!("s@{at}"), &utc(2)).await?, "0,1,");
    let elsewhere = instant(1).display_with_offset(jiff::tz::Offset::constant(2)).to_string();
    assert_eq!(offsets(&elsewhere, "2").await?, "1,");
    let later = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(60);
    assert_eq!(offsets(&format!("s@{}", later.as_millis()), "end").await?, "");
    let said = world.tail(&["-f", "%z"]).await?.ended(2);
    assert!(said.stderr.contains("there is no %z"), "{}", said.stderr);
    world.tail(&["--from", "soon"]).await?.ended(2);
    Ok(())
}

/// Over aborted records at the end, an open transaction, and whatever comes.
#[tokio::test]
async fn it_ends_where_readers_of_committed_records_end_and_follows_what_comes() -> TestResult {
    let world = World::new("tail-follow", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    let aborted = world.kafka.transactional_producer(&unique("aborted")).await?;
    aborted.begin()?;
    for _ in 0..20 {
        aborted.send(world.message(0).value("1"))?;
    }
    aborted.abort().await?;
    let said = world.tail(&["-o", "beginning", "-e", "-f", "%o,"]).await?.ended(0);
    assert_eq!(said.stdout, "0,1,2,3,4,");
    let open = world.kafka.transactional_producer(&unique("open")).await?;
    open.begin()?;
    open.send(world.message(0).key("p0-a1").value("1"))?;
    open.flush().await?;
    let said = world.tail(&["-o", "3", "-e", "-f", "%o,"]).await?.ended(0);
    assert_eq!(said.stdout, "3,4,");

    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command
        .args(["tail", "--group", &world.group, "--topic", &world.topic, "-o", "5", "-f", "%o %S\\n"])
        .env("HIGHWATER_POSTGRES_URL", world.database.url())
        .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    open.commit().await?;
    let next = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    assert_eq!(next.as_deref(), Some("26 1"), "what was aborted, and its marker, lie between");
    world.producer.send(world.message(0).key("p0-a1").value("77"))?;
    world.producer.flush().await?;
    let next = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    assert_eq!(next.as_deref(), Some("28 2"));
    child.kill().await?;
    worker.stop().await?;
    Ok(())
}

/// Whoever follows is told that nothing more can come, instead of waiting for it.
#[tokio::test]
async fn a_topic_that_is_deleted_ends_it_in_words() -> TestResult {
    let world = World::new("tail-deleted", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let follow = ["tail", "--group", &world.group, "--topic", &world.topic, "-o", "4", "-f", "%o\\n"];
    let mut child = world
        .highwater_command(world.database.url(), &follow)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    assert_eq!(first.as_deref(), Some("4"));
    world.kafka.delete_topic(&world.topic).await?;
    let said = tokio::time::timeout(PATIENCE, child.wait_with_output()).await??;
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains(&format!("topic {} was deleted while it was followed", world.topic)), "{stderr}");
    Ok(())
}
