//! Rows that go with a move back: the replay ends with each record in the table once, whatever happens on the way.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highwater::offsets::{Applied, ApplyOptions, PlanState, Request, Selection, Target};
use highwater::testing::{Postgres, wait_until};
use highwater::{Table, TableSink};

use crate::support::needs::{runs, skipped_without};
use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// Rows, and no balance that an upsert has overwritten.
fn rows() -> Sink {
    Sink { fault: (), rows_only: true }
}

/// A group at rest that has applied `count` records of each of two partitions, into a table with an index for undoing.
async fn at_rest(hint: &str, count: usize) -> TestResult<World<'static>> {
    let world = World::new(hint, 2).await?;
    world.database.execute("CREATE INDEX sink_source ON sink (source_partition, source_offset)").await?;
    world.produce(count).await?;
    world.applied().await?;
    Ok(world)
}

impl World<'_> {
    /// A worker applies what there is, registers its table, and stops; every record is there once.
    async fn applied(&self) -> TestResult {
        let worker = self.worker(rows());
        self.registered("sink").await?;
        self.caught_up().await?;
        worker.stop().await?;
        self.assert_exact(false).await?;
        Ok(())
    }

    async fn registered(&self, table: &str) -> highwater::testing::Result<()> {
        let sql = format!("SELECT count(*) FROM highwater.sink_table WHERE table_name = '{table}'");
        wait_until("the table is registered", PATIENCE, async || {
            Ok((self.number(&sql).await? > 0).then_some(()))
        })
        .await?;
        Ok(())
    }

    /// In this moment, whatever it is in the middle of: what lies below an offset has its row, and nothing else has one.
    async fn is_whole(&self) -> TestResult {
        let sql = "WITH o AS (SELECT partition, next_offset FROM highwater.consumer_offset) \
                   SELECT partition, next_offset, \
                     (SELECT count(*) FROM sink WHERE source_partition = partition), \
                     (SELECT count(DISTINCT source_offset) FROM sink \
                        WHERE source_partition = partition AND source_offset < next_offset) FROM o ORDER BY 1";
        for row in self.database.query(sql, &[]).await? {
            let (partition, next, rows, below): (i32, i64, i64, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            assert_eq!((rows, below), (next, next), "partition {partition} stands at {next}");
        }
        Ok(())
    }

    /// What the rows are, in one number.
    async fn checksum(&self) -> TestResult<String> {
        let sql = "SELECT md5(string_agg(s::text, ',' ORDER BY s)) FROM sink s";
        Ok(self.database.query(sql, &[]).await?[0].get(0))
    }

    /// Begins a plan and kills whoever does it in the middle of its walk over partition 0.
    async fn interrupted(&self, id: i64) -> TestResult {
        let mut command = self.highwater_command(
            self.database.url(),
            &["offsets", "apply", &id.to_string(), "--portion", "30", "--live"],
        );
        let holder = self.database.client().await?;
        let hold = "BEGIN; SELECT FROM sink WHERE source_partition = 0 AND source_offset = 200 FOR UPDATE";
        holder.batch_execute(hold).await?;
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        wait_until("it waits for a row", PATIENCE, async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'highwater command' AND wait_event_type = 'Lock'";
            Ok((self.number(sql).await? > 0).then_some(()))
        })
        .await?;
        child.kill().await?;
        holder.batch_execute("COMMIT").await?;
        Ok(())
    }

    async fn plan_state(&self, id: i64) -> TestResult<String> {
        let sql = "SELECT state FROM highwater.offset_plan WHERE plan_id = $1";
        Ok(self.database.query(sql, &[&id]).await?[0].get(0))
    }

    fn undo_to(&self, to: i64) -> Request {
        Request::new(&self.group, Selection::AllTopics, Target::Offset(to))
            .actor("ana")
            .reason("a test")
            .undo_rows(true)
    }
}

#[tokio::test]
async fn rows_go_with_the_move_and_come_back_the_same() -> TestResult {
    let world = at_rest("undo", 200).await?;
    let before = world.checksum().await?;
    let arguments = ["--all-topics", "--to-offset", "60", "--undo-rows"];
    let look = world.offsets("reset", &[&arguments[..], &["--dry-run"]].concat()).await?.ended(0);
    let line = look.stdout.lines().nth(1).expect("a line for the table");
    assert!(line.contains("public.sink  append  280") && line.contains("sink_source"), "{}", look.stdout);
    assert!(look.stdout.contains("nothing was moved"), "{}", look.stdout);
    assert_eq!(world.checksum().await?, before, "nothing was deleted either");

    let done = [&arguments[..], &["--execute", "--json"]].concat();
    let done = world.offsets("reset", &done).await?.ended(0).json();
    assert_eq!(done["undo"][0]["tables"][0]["rows"], 280);
    assert_eq!(done["plans"][0]["state"], "applied");
    assert_eq!(done["plans"][0]["steps"][1]["undone_rows"], 140);
    world.is_whole().await?;
    assert_eq!((world.next_offset(0).await?, world.next_offset(1).await?), (Some(60), Some(60)));
    let sql = "SELECT count(*) FROM highwater.offset_event WHERE kind = 'undo' AND from_offset = 200 AND to_offset = 60";
    assert_eq!(world.number(sql).await?, 2);
    world.applied().await?;
    assert_eq!(world.checksum().await?, before);

    // By time: all of it, for everything is younger than an hour. And once more, which has nothing left to do.
    for rows in [400, 0] {
        let hour = ["--all-topics", "--by-duration", "PT1H", "--undo-rows", "--execute", "--json"];
        let done = world.offsets("reset", &hour).await?.ended(0).json();
        assert_eq!(done["undo"][0]["tables"][0]["rows"], rows);
        world.is_whole().await?;
    }
    world.applied().await?;
    assert_eq!(world.checksum().await?, before);
    Ok(())
}

/// Rows that an earlier move has left behind belong to nobody.
#[tokio::test]
async fn rows_that_lie_past_the_offset_already_go_too() -> TestResult {
    let world = at_rest("undo-left", 50).await?;
    world.offsets("reset", &["--all-topics", "--to-offset", "30", "--execute"]).await?.ended(0);
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 100);
    world.offsets("reset", &["--all-topics", "--to-current", "--undo-rows", "--execute"]).await?.ended(0);
    world.is_whole().await?;
    world.applied().await
}

/// Many times, under load, in small portions, with workers that are killed and one that wakes up too late.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_fleet_runs_on_while_rows_are_undone() -> TestResult {
    let world = World::new("undo-live", 4).await?;
    world.database.execute("CREATE INDEX sink_source ON sink (source_partition, source_offset)").await?;
    let mut fleet = Vec::new();
    for name in ["a", "b"] {
        fleet.push(Process::start(&world, name, "rows")?);
    }
    let zombie = Process::start_with(
        &world,
        "zombie",
        "rows",
        &[("HIGHWATER_TEST_FAILPOINT", "before_commit=6*freeze")],
    )?;
    let work = async {
        world.registered("sink").await?;
        world.progress(300).await?;
        let mut offsets = world.operator(world.database.url()).await.expect("the database answers");
        for round in 0..6 {
            let back = if round % 2 == 0 { Target::ShiftBy(-150) } else { Target::Offset(40) };
            let request = Request::new(&world.group, Selection::AllTopics, back)
                .actor("ana")
                .reason("a test")
                .undo_rows(true);
            let id = offsets.plan(&request).await.expect("a plan").id.expect("it is stored");
            let killed = fleet.remove(0);
            let options = ApplyOptions::by("ana").live(true).portion(40);
            let kill = async {
                killed.child.kill()?;
                Ok::<_, highwater::testing::Error>(())
            };
            let (applied, killed) = tokio::join!(offsets.apply(id, &options), kill);
            killed?;
            applied.expect("the plan is applied");
            fleet.push(Process::start(&world, &format!("after-{round}"), "rows")?);
            world.progress(50).await?;
        }
        zombie.child.thaw()?;
        world.progress(50).await?;
        Ok(())
    };
    world.under_load(work).await?;
    world.caught_up().await?;
    world.assert_exact(false).await?;
    zombie.child.kill()?;
    for process in fleet {
        process.stop().await?;
    }
    Ok(())
}

/// Killed wherever it happens to be, and typed again, until it is through.
#[tokio::test]
async fn the_command_may_be_killed_at_any_step() -> TestResult {
    let world = at_rest("undo-killed", 1_500).await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.undo_to(100)).await?.id.expect("it is stored");
    let plan = id.to_string();
    let arguments = ["offsets", "apply", &plan, "--portion", "20", "--live"];
    let mut kills = 0;
    for round in 0_u64.. {
        let mut command = world.highwater_command(world.database.url(), &arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // A little later each time, from before its first transaction to after its last.
        match tokio::time::timeout(Duration::from_millis(30 + 15 * round), child.wait()).await {
            Ok(status) => {
                assert!(status?.success());
                break;
            }
            Err(_) => child.kill().await?,
        }
        kills += 1;
        world.is_whole().await?;
    }
    println!("killed {kills} times");
    assert!(kills > 3, "{kills}");
    assert_eq!(world.plan_state(id).await?, "applied");
    assert_eq!((world.next_offset(0).await?, world.next_offset(1).await?), (Some(100), Some(100)));
    world.is_whole().await?;
    world.applied().await
}

/// Its sessions are ended while it walks, again and again, and two walk at once.
#[tokio::test]
async fn two_at_once_and_sessions_that_are_ended_undo_each_row_once() -> TestResult {
    let world = at_rest("undo-ended", 600).await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.undo_to(50)).await?.id.expect("it is stored");
    // An answer that was lost where nothing depends on it is an error, and whoever sees it presses again.
    let press = async |who: &str| -> TestResult<PlanState> {
        let mut errors = 0;
        loop {
            let options = ApplyOptions::by(who).portion(10).live(true);
            let pressed = async {
                world.operator(world.database.url()).await?.apply(id, &options).await.map_err(Into::into)
            };
            let pressed: TestResult<Applied> = pressed.await;
            match pressed {
                Ok(applied) => return Ok(applied.plan.state),
                Err(error) if errors > 50 => return Err(error),
                Err(_) => errors += 1,
            }
        }
    };
    let end = async {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'highwater command' AND pid <> pg_backend_pid()";
        let mut ended = 0;
        for _ in 0..200 {
            if world.plan_state(id).await? == "applied" {
                break;
            }
            ended += world.number(sql).await?;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(ended)
    };
    let (first, second, ended) = tokio::join!(press("ana"), press("ben"), end);
    assert_eq!((first?, second?), (PlanState::Applied, PlanState::Applied));
    println!("sessions ended: {}", ended?);
    let sql = "SELECT sum(undone_rows)::int8 FROM highwater.offset_plan_step";
    assert_eq!(world.number(sql).await?, 1_100);
    world.is_whole().await?;
    world.applied().await
}

/// The server stops at once in the middle of it, and comes back.
#[tokio::test]
async fn a_server_that_stops_meanwhile_is_waited_for() -> TestResult {
    let postgres = Postgres::start().await?;
    let kafka = highwater::testing::Kafka::shared().await?;
    let setup = crate::support::Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("undo-crash", setup).await?;
    world.database.execute("CREATE INDEX sink_source ON sink (source_partition, source_offset)").await?;
    world.produce(600).await?;
    world.applied().await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.undo_to(50)).await?.id.expect("it is stored");
    let options = ApplyOptions::by("ana").portion(10).live(true);
    let (reached, heard) = tokio::sync::oneshot::channel();
    let mut reached = Some(reached);
    let mut watch = |_: &highwater::offsets::Undoing| {
        if let Some(reached) = reached.take() {
            let _ = reached.send(());
        }
    };
    let crash = async {
        heard.await?;
        postgres.kill().await?;
        postgres.restart().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let (applied, crashed) = tokio::join!(offsets.apply_watched(id, &options, &mut watch), crash);
    crashed?;
    applied?;
    world.is_whole().await?;
    world.applied().await
}

#[tokio::test]
async fn what_cannot_be_undone_is_refused_in_words_and_nothing_is_moved() -> TestResult {
    let world = World::new("undo-refused", 1).await?;
    world.produce(20).await?;
    let undo = ["--all-topics", "--to-offset", "5", "--undo-rows", "--execute"];
    let refused = async |code: i32, text: &str| -> TestResult {
        let said = world.offsets("reset", &undo).await?.ended(code);
        assert!(said.stderr.contains(text), "{text}: {}", said.stderr);
        assert_eq!(world.next_offset(0).await?, Some(20));
        assert_eq!(world.number("SELECT count(*) FROM highwater.offset_plan").await?, 0);
        Ok(())
    };
    // A handler that says nothing of its tables.
    let silent = world.worker(highwater::handler_fn(|_, _| Box::pin(async { Ok(()) })));
    world.caught_up().await?;
    silent.stop().await?;
    refused(2, "has registered a table").await?;

    let register = async |table: Table| -> TestResult {
        world.database.execute("DELETE FROM highwater.sink_table").await?;
        let name = if format!("{table:?}").contains("balances") { "balances" } else { "sink" };
        let worker = world.worker(TableSink::json(table));
        world.registered(name).await?;
        worker.stop().await?;
        Ok(())
    };
    register(Table::upsert("balances", ["account", "balance", "payments"])).await?;
    refused(2, "public.balances is written by upserts").await?;
    register(Table::append("sink", ["source_topic", "source_partition", "source_offset"])).await?;
    refused(2, "columns that would do: source_topic, source_partition, source_offset").await?;
    let whole = || {
        Table::append("sink", ["source_topic"])
            .source_partition("source_partition")
            .source_offset("source_offset")
    };
    register(whole()).await?;
    world
        .database
        .execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
        CREATE TRIGGER keep BEFORE DELETE ON sink FOR EACH ROW EXECUTE FUNCTION keep(); \
        INSERT INTO sink VALUES ('t', 0, 7)",
        )
        .await?;
    let said = world.offsets("reset", &undo).await?.ended(2);
    assert!(said.stderr.contains("keeps rows that were deleted"), "{}", said.stderr);
    assert_eq!(world.next_offset(0).await?, Some(20), "held by the plan, and not moved");
    world.database.execute("DROP TRIGGER keep ON sink").await?;
    let plan = world.number("SELECT max(plan_id) FROM highwater.offset_plan").await?.to_string();
    world.highwater(&["offsets", "apply", &plan]).await?.ended(0);
    assert_eq!((world.next_offset(0).await?, world.number("SELECT count(*) FROM sink").await?), (Some(5), 0));

    // Another group writes it, too; and it is gone.
    let other = "INSERT INTO highwater.sink_table SELECT 'other', table_schema, table_name, mode, $1::text[], topic_column, \
                 partition_column, offset_column, timestamp_column, program, registered_by FROM highwater.sink_table";
    world.database.query(other, &[&vec!["another topic"]]).await?;
    let to = ["--all-topics", "--to-offset", "4", "--undo-rows", "--dry-run"];
    let said = world.offsets("reset", &to).await?.ended(2);
    assert!(
        said.stderr.contains("has rows of group other as well"),
        "a row does not say its topic: {}",
        said.stderr
    );
    world.database.execute("UPDATE highwater.sink_table SET topic_column = 'source_topic'").await?;
    world.offsets("reset", &to).await?.ended(0);
    world.database.execute("UPDATE highwater.sink_table SET topics = NULL WHERE group_id = 'other'").await?;
    let said = world.offsets("reset", &to).await?.ended(2);
    assert!(said.stderr.contains("has rows of group other as well"), "{}", said.stderr);
    world
        .database
        .execute(
            "DELETE FROM highwater.sink_table WHERE group_id = 'other'; \
        ALTER TABLE sink RENAME TO elsewhere",
        )
        .await?;
    let said = world.offsets("reset", &to).await?.ended(2);
    assert!(said.stderr.contains("is not there any more"), "{}", said.stderr);
    world.database.execute("ALTER TABLE elsewhere RENAME TO sink").await?;

    // With the workers' rights it cannot be done, and with fewer than all rows in sight it is not.
    let role = world.database.role("undoer").await?;
    world
        .database
        .execute(&format!(
            "GRANT USAGE ON SCHEMA highwater TO {0}; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA highwater TO {0}; \
             GRANT SELECT ON sink TO {0}",
            role.name
        ))
        .await?;
    let group = ["offsets", "reset", "--group", &world.group];
    let to = ["--all-topics", "--to-offset", "3", "--undo-rows", "--execute"];
    let said = world.highwater_at(&role.url, &[&group[..], &to].concat()).await?.ended(5);
    assert!(said.stderr.contains("GRANT SELECT, DELETE ON public.sink"), "{}", said.stderr);
    let grant = format!("GRANT DELETE ON sink TO {}; ALTER TABLE sink ENABLE ROW LEVEL SECURITY", role.name);
    world.database.execute(&grant).await?;
    let said = world.highwater_at(&role.url, &[&group[..], &to].concat()).await?.ended(2);
    assert!(said.stderr.contains("row-level security hides rows"), "{}", said.stderr);
    Ok(())
}

/// Somebody lets a partition go on before the plan is through: it goes on from where it is, exactly.
#[tokio::test]
async fn a_partition_that_is_resumed_meanwhile_is_the_fleets_again() -> TestResult {
    let world = at_rest("undo-taken", 300).await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.undo_to(50)).await?.id.expect("it is stored");
    world.interrupted(id).await?;
    let stands = world.next_offset(0).await?.expect("a row");
    assert!((50..300).contains(&stands), "{stands}");
    world.is_whole().await?;
    let paused = "SELECT count(*) FROM highwater.consumer_offset WHERE paused_reason LIKE 'plan % undoes its rows: a test'";
    assert_eq!(world.number(paused).await?, 2);

    world.partitions_command("resume", 0, &[]).await?.ended(0);
    let worker = world.worker(rows());
    wait_until("the fleet has partition 0 again", PATIENCE, async || {
        Ok((world.next_offset(0).await? == Some(300)).then_some(()))
    })
    .await?;
    let said = world.highwater(&["offsets", "apply", &id.to_string()]).await?.ended(1);
    assert!(
        said.stderr.contains(&format!("has resumed, held or moved {}:0", world.topic)),
        "{}",
        said.stderr
    );
    assert_eq!(world.plan_state(id).await?, "stopped");
    world.highwater(&["offsets", "apply", &id.to_string()]).await?.ended(1);
    world.caught_up().await?;
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}

/// A hold ends with the plan that has it, whoever overrules it, and what was before it comes back.
#[tokio::test]
async fn another_plan_takes_over_from_one_that_was_interrupted() -> TestResult {
    let world = at_rest("undo-over", 300).await?;
    world.partitions_command("pause", 1, &["--reason", "INC-1"]).await?.ended(0);
    let mut offsets = world.operator(world.database.url()).await?;
    let first = offsets.plan(&world.undo_to(50)).await?.id.expect("it is stored");
    world.interrupted(first).await?;
    let second = ["--all-topics", "--to-offset", "20", "--undo-rows", "--execute"];
    world.offsets("reset", &second).await?.ended(0);
    world.is_whole().await?;
    let sql = "SELECT paused_reason FROM highwater.consumer_offset ORDER BY partition";
    let reasons: Vec<Option<String>> =
        world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(reasons, [None, Some("INC-1".to_owned())]);
    let said = world.highwater(&["offsets", "apply", &first.to_string()]).await?.ended(1);
    assert!(said.stderr.contains("was stopped"), "{}", said.stderr);
    assert_eq!(world.plan_state(first).await?, "stopped");
    world.partitions_command("resume", 1, &[]).await?.ended(0);
    world.applied().await?;

    // A move without an undo, and a pause, overrule it just so.
    let third = offsets.plan(&world.undo_to(50)).await?.id.expect("it is stored");
    world.interrupted(third).await?;
    world.partitions_command("pause", 1, &["--reason", "INC-2"]).await?.ended(0);
    world
        .offsets("reset", &["--topic", &format!("{}:0", world.topic), "--shift-by", "0", "--execute"])
        .await?
        .ended(0);
    world.partitions_command("resume", 0, &[]).await?.ended(0);
    let reasons: Vec<Option<String>> =
        world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(reasons, [None, Some("INC-2".to_owned())]);
    world.partitions_command("resume", 1, &[]).await?.ended(0);
    world.applied().await
}

#[tokio::test]
async fn what_kafka_may_not_give_again_keeps_its_rows() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(highwater::testing::Kafka::shared(), Postgres::shared())?;
    let topic_config = &[("cleanup.policy", "compact")][..];
    let world =
        World::with("undo-compact", crate::support::Setup { kafka, postgres, partitions: 1, topic_config })
            .await?;
    world.produce(20).await?;
    world.applied().await?;
    let undo = ["--all-topics", "--to-offset", "5", "--undo-rows", "--execute"];
    let said = world.offsets("reset", &undo).await?.ended(2);
    assert!(said.stderr.contains("is compacted"), "{}", said.stderr);
    world.is_whole().await?;

    let world = at_rest("undo-gone", 50).await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.undo_to(10)).await?.id.expect("it is stored");
    world.kafka.delete_records(&world.topic, 1, 30).await?;
    let error = offsets.apply(id, &ApplyOptions::by("ana")).await.expect_err("records are gone");
    assert!(error.to_string().contains("before 30 any more"), "{error}");
    world.is_whole().await
}

#[tokio::test]
async fn a_partition_that_was_paused_stays_paused() -> TestResult {
    let world = at_rest("undo-paused", 40).await?;
    world.partitions_command("pause", 1, &["--reason", "INC-1"]).await?.ended(0);
    world
        .offsets("reset", &["--all-topics", "--to-offset", "10", "--undo-rows", "--execute"])
        .await?
        .ended(0);
    let sql = "SELECT paused_reason FROM highwater.consumer_offset ORDER BY partition";
    let reasons: Vec<Option<String>> =
        world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(reasons, [None, Some("INC-1".to_owned())]);
    world.partitions_command("resume", 1, &[]).await?.ended(0);
    world.applied().await
}

/// The last part of a table, by time: what comes back is what a run without any of it has written.
#[tokio::test]
async fn by_time_the_rows_are_those_of_a_clean_run() -> TestResult {
    let world = World::new("undo-time", 2).await?;
    world.database.execute("CREATE INDEX sink_source ON sink (source_partition, source_offset)").await?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH)? - Duration::from_secs(3_600);
    for number in 0..400_u64 {
        for partition in 0..2 {
            let at = began + Duration::from_secs(number + u64::try_from(partition)?);
            let message = world.message(partition).key(format!("p{partition}-a{}", number % 20)).value("7");
            world.producer.send(message.timestamp_ms(i64::try_from(at.as_millis())?))?;
        }
    }
    world.producer.flush().await?;
    world.applied().await?;
    // Partition 1 is a second ahead, so that it keeps one record less.
    let instant =
        jiff::Timestamp::from_millisecond(i64::try_from((began + Duration::from_secs(300)).as_millis())?)?;
    let instant = instant.to_string();
    let by_time = ["--all-topics", "--to-datetime", &instant, "--undo-rows", "--reason", "why", "--execute"];
    world.offsets("reset", &by_time).await?.ended(0);
    assert_eq!((world.next_offset(0).await?, world.next_offset(1).await?), (Some(300), Some(299)));
    assert_eq!(world.database.count("sink").await?, 599);
    world.is_whole().await?;
    world.applied().await?;

    let mut clean = World::new("undo-time-clean", 2).await?;
    clean.topic.clone_from(&world.topic);
    let worker = clean.worker(rows());
    clean.caught_up().await?;
    worker.stop().await?;
    assert_eq!(world.checksum().await?, clean.checksum().await?);
    assert_eq!(clean.database.count("sink").await?, 800);
    Ok(())
}

/// On a terminal there is a bar, and at its end a line that stays.
#[tokio::test]
async fn its_progress_is_shown_on_a_terminal() -> TestResult {
    if skipped_without("script", runs("script", &["--version"])) {
        return Ok(());
    }
    let world = at_rest("undo-shown", 300).await?;
    let id = world.operator(world.database.url()).await?.plan(&world.undo_to(0)).await?.id.expect("stored");
    let shell = format!("{} offsets apply {id} --portion 20", env!("CARGO_BIN_EXE_highwater"));
    let output = tokio::process::Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .env("HIGHWATER_POSTGRES_URL", world.database.url())
        .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("/300 offsets back"), "the bar: {shown}");
    assert!(shown.contains("stands at 0 on its way from 300 to 0: 300 rows undone"), "{shown}");
    world.applied().await
}

/// How fast it is, for docs/operations.md; and that no transaction grows with the range.
#[tokio::test]
#[ignore = "takes minutes: cargo test --test it operator::undo::a_million -- --ignored --nocapture"]
async fn a_million_rows_in_bounded_transactions() -> TestResult {
    let world = at_rest("undo-million", 500_000).await?;
    let before = world.checksum().await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.undo_to(0)).await?.id.expect("it is stored");
    let (began, mut longest, mut last, mut portions) = (Instant::now(), Duration::ZERO, Instant::now(), 0);
    let mut watch = |_: &highwater::offsets::Undoing| {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        portions += 1;
    };
    offsets.apply_watched(id, &ApplyOptions::by("ana"), &mut watch).await?;
    let took = began.elapsed();
    println!(
        "1,000,000 rows undone in {took:?}, {:.0} rows/s, in {portions} transactions, the longest {longest:?}",
        1e6 / took.as_secs_f64()
    );
    world.is_whole().await?;
    world.applied().await?;
    assert_eq!(world.checksum().await?, before);
    Ok(())
}
