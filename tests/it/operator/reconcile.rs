//! What is planted is found by its name, and nothing else is; a healthy group differs in nothing, whatever it has been
//! through.

mod log;
mod page;
mod planted;

use highwater::config::StartPolicy;
use highwater::testing::{Kafka, Postgres, unique, wait_until};
use highwater::{Batch, Handler, HandlerError, Table, TableSink, Tx};
use serde_json::Value;

use super::command::Said;
use crate::support::{Copied, PATIENCE, Setup, Sink, TestResult, World};

const TABLE: &[&str] = &["--table", "sink"];
const DEEP: &[&str] = &["--table", "sink", "--deep"];
const STRICT: &[&str] = &["--table", "sink", "--deep", "--every-record"];
const SHALLOW_STRICT: &[&str] = &["--table", "sink", "--every-record"];

impl World<'_> {
    async fn reconcile(&self, arguments: &[&str]) -> TestResult<Said> {
        Ok(self.highwater(&[&["reconcile", "--group", &self.group], arguments].concat()).await?)
    }

    /// No way of looking finds anything.
    #[track_caller]
    #[allow(clippy::manual_async_fn)] // an async function's caller is not tracked
    fn is_well(&self) -> impl Future<Output = TestResult> {
        async move {
            for arguments in [TABLE, SHALLOW_STRICT, DEEP, STRICT] {
                let said = self.reconcile(arguments).await?;
                assert_eq!(said.code, 0, "{arguments:?}\n{}{}", said.stdout, said.stderr);
                assert!(said.stdout.ends_with("\nno difference\n"), "{}", said.stdout);
            }
            Ok(())
        }
    }

    /// What is found, as `kind partition@offset`, in order; and that the exit code says so.
    async fn found(&self, arguments: &[&str]) -> TestResult<Vec<String>> {
        let said = self.reconcile(&[arguments, &["--json"]].concat()).await?;
        let json = said.json();
        let found = &json[0];
        let names: Vec<String> = found["differences"]
            .as_array()
            .expect("an array")
            .iter()
            .map(|one| {
                let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                format!("{} {}@{}", text("kind"), one["partition"], one["offset"])
            })
            .collect();
        assert_eq!(said.code, i32::from(!names.is_empty()), "{}{}", said.stdout, said.stderr);
        let counts = found["difference_counts"].as_object().expect("an object");
        let count: u64 = counts.values().filter_map(Value::as_u64).sum();
        assert_eq!(usize::try_from(count)?, names.len(), "{}", said.stdout);
        Ok(names)
    }

    /// Applies all that there is, and stops.
    async fn apply_all(&self) -> TestResult {
        let worker = self.worker(Sink::<()>::default());
        self.caught_up().await?;
        worker.stop().await?;
        Ok(())
    }

    /// Transactions of five records per partition: every third one is aborted.
    async fn transact(&self, count: usize) -> TestResult {
        let producer = self.kafka.transactional_producer(&unique("tx")).await?;
        for number in 0..count {
            producer.begin()?;
            for partition in 0..self.partitions {
                for record in 0..5 {
                    let message = self.message(partition).key(format!("p{partition}-a{record}"));
                    producer.send(message.value(format!("{number}")))?;
                }
            }
            if number % 3 == 2 { producer.abort().await? } else { producer.commit().await? }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_healthy_group_differs_in_nothing_whatever_it_has_been_through() -> TestResult {
    let world = World::new("well", 2).await?;
    world.produce(200).await?;
    world.apply_all().await?;
    world.is_well().await?;
    // Markers, aborted records, and an aborted transaction at the end.
    world.transact(9).await?;
    world.apply_all().await?;
    world.is_well().await?;
    // An open one, whose records nobody has been given.
    let open = world.kafka.transactional_producer(&unique("open")).await?;
    open.begin()?;
    open.send(world.message(0).key("p0-a1").value("1"))?;
    open.flush().await?;
    world.is_well().await?;
    open.abort().await?;
    world.apply_all().await?;

    // Moved back, with the rows left where they are: there twice, and on record.
    let back = ["--topic", &format!("{}:0", world.topic), "--shift-by", "-50", "--execute"];
    world.offsets("reset", &back).await?.ended(0);
    let said = world.reconcile(TABLE).await?.ended(0);
    assert!(said.stdout.contains("a move back has left to be applied again"), "{}", said.stdout);
    world.is_well().await?;
    world.apply_all().await?;
    let said = world.reconcile(STRICT).await?.ended(0);
    assert!(said.stdout.contains("moves back that are on record explain them"), "{}", said.stdout);
    world.is_well().await?;

    // Stepped over by an operator; and forwards by a reset.
    world.produce(20).await?;
    let next = world.next_offset(1).await?.expect("it has one");
    world
        .partitions_command("skip", 1, &["--to", &(next + 7).to_string(), "--reason", "why"])
        .await?
        .ended(0);
    world.is_well().await?;
    world.apply_all().await?;
    world.is_well().await?;
    world.produce(20).await?;
    let one = format!("{}:0", world.topic);
    world.offsets("reset", &["--topic", &one, "--shift-by", "5", "--execute"]).await?.ended(0);
    world.apply_all().await?;
    world.is_well().await?;
    let ledger = world.reconcile(&["--table", "sink", "--ledger"]).await?.ended(0).stdout;
    for kind in ["start", "applied", "reset", "skip"] {
        assert!(ledger.contains(&format!("  {kind} ")), "{kind}: {ledger}");
    }

    // Offsets deleted, and begun anew where they stood.
    let stood = world.offsets("export", &[]).await?.ended(0).stdout;
    assert!(stood.lines().count() == 2, "{stood}");

    // Retention takes what was applied, then what is on record of it, then all of it.
    world.kafka.delete_records(&world.topic, 0, 100).await?;
    world.is_well().await?;
    let prune = "DELETE FROM highwater.claim_history WHERE replaced_at < (SELECT max(replaced_at) FROM highwater.claim_history)";
    world.database.execute(prune).await?;
    world.is_well().await?;
    world.database.execute("DELETE FROM highwater.claim_history").await?;
    world.is_well().await?;
    world.database.execute("DELETE FROM highwater.offset_event").await?;
    world.is_well().await?;
    let ledger = world.reconcile(&["--table", "sink", "--ledger"]).await?.ended(0).stdout;
    assert!(ledger.contains("  not_known "), "{ledger}");
    Ok(())
}

/// What is applied meanwhile is in the picture, or it is not.
#[tokio::test]
async fn a_fleet_at_work_differs_in_nothing() -> TestResult {
    let world = World::new("at-work", 4).await?;
    let settings = || world.settings().history_retention(std::time::Duration::from_secs(86_400));
    let workers = [
        world.worker_with(settings(), Sink::<()>::default()),
        world.worker_with(settings(), Sink::<()>::default()),
    ];
    let looked = world.under_load(async {
        world.progress(1).await?;
        for round in 0..4 {
            for arguments in [TABLE, STRICT] {
                let said = world
                    .reconcile(arguments)
                    .await
                    .map_err(|error| highwater::testing::Error::new(error.to_string()))?;
                assert_eq!(said.code, 0, "{round}: {}{}", said.stdout, said.stderr);
            }
            // Claims change hands meanwhile.
            let back =
                ["--topic", &format!("{}:{round}", world.topic), "--shift-by", "-20", "--live", "--execute"];
            world.offsets("reset", &back).await?.ended(0);
        }
        Ok(())
    });
    looked.await?;
    for worker in workers {
        worker.stop().await?;
    }
    world.reconcile(STRICT).await?.ended(0);
    Ok(())
}

/// Rows that went with a move back are not missing; one that has stayed is there too early. A copy of the group goes on in
/// the same table.
#[tokio::test]
async fn undone_rows_and_copies_of_a_group_differ_in_nothing() -> TestResult {
    let world = World::new("undone", 2).await?;
    world
        .database
        .execute("CREATE INDEX sink_source ON sink (source_topic, source_partition, source_offset)")
        .await?;
    world.produce(100).await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    wait_until("the table is registered", PATIENCE, async || {
        Ok((world.number("SELECT count(*) FROM highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    worker.stop().await?;
    let back = ["--all-topics", "--shift-by", "-40", "--undo-rows", "--execute"];
    world.offsets("reset", &back).await?.ended(0);
    assert_eq!(world.database.count("sink").await?, 120);
    world.is_well().await?;
    let json = world.reconcile(&["--json"]).await?.ended(0).json();
    assert_eq!(json[0]["tables"][0]["index"], "sink_source");
    let insert = format!("INSERT INTO sink VALUES ('{}', 1, 77)", world.topic);
    world.database.execute(&insert).await?;
    assert_eq!(world.found(TABLE).await?, ["row_ahead 1@77"], "it was undone");
    world.database.execute("DELETE FROM sink WHERE source_offset = 77").await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    worker.stop().await?;
    world.assert_exact(false).await?;
    world.is_well().await?;

    let mut green = world;
    let blue = green.group.clone();
    let name = format!("{blue}-green");
    green.offsets("copy", &["--to-group", &name, "--execute"]).await?.ended(0);
    green.group = name;
    green.produce(10).await?;
    let settings = green.settings().start(StartPolicy::Fail);
    let worker = green.worker_with(settings, Sink { fault: (), rows_only: true });
    green.caught_up().await?;
    worker.stop().await?;
    green.is_well().await?;
    Ok(())
}

/// Compaction takes records, and their rows stay. By the table that the program has registered itself.
#[tokio::test]
async fn a_compacted_topic_differs_in_nothing() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "200"),
    ];
    let world =
        World::with("compacted", Setup { kafka, postgres, partitions: 1, topic_config: &config }).await?;
    world.produce(300).await?;
    let worker = world.worker(Copied::default());
    world.verify().await?;
    wait_until("the table is registered", PATIENCE, async || {
        Ok((world.number("SELECT count(*) FROM highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    wait_until("records are gone from the middle", PATIENCE, async || {
        // A segment is rolled by the next record.
        world.produce(1).await?;
        Ok((world.kafka.read(&world.topic).await?.len() < 100).then_some(()))
    })
    .await?;
    world.caught_up().await?;
    worker.stop().await?;
    for arguments in [&[][..], &["--every-record"], &["--deep"], &["--deep", "--every-record"]] {
        let said = world.reconcile(arguments).await?;
        assert_eq!(said.code, 0, "{arguments:?}\n{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(" sink "), "{}", said.stdout);
    }
    let said = world.reconcile(&["--deep"]).await?.ended(0).stdout;
    assert!(said.contains("records with rows are not in Kafka any more"), "{said}");
    // A doubled row is one here, too; and one that is missing, of a record that is left.
    world.database.execute("INSERT INTO sink SELECT * FROM sink WHERE source_offset = 17").await?;
    assert_eq!(world.found(&["--deep"]).await?, ["doubled_row 0@17"]);
    Ok(())
}

/// A row for every other record, none for a tombstone.
struct Filter(TableSink);

impl Filter {
    fn new() -> Self {
        let table = Table::append("sink", ["source_topic"])
            .source_partition("source_partition")
            .source_offset("source_offset");
        Self(TableSink::new(table, |record, rows| {
            if record.value().is_some() && record.offset() % 2 == 0 {
                rows.push((record.topic(),))
            } else {
                Ok(())
            }
        }))
    }
}

impl Handler for Filter {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.0.handle(batch, tx).await
    }

    fn writes(&self) -> Vec<Table> {
        self.0.writes()
    }
}

#[tokio::test]
async fn a_filter_makes_no_alarm_and_says_what_it_cannot_know() -> TestResult {
    let world = World::new("filter", 1).await?;
    world.produce(100).await?;
    let worker = world.worker(Filter::new());
    world.caught_up().await?;
    worker.stop().await?;
    for arguments in [TABLE, DEEP] {
        let said = world.reconcile(arguments).await?.ended(0);
        assert!(said.stdout.contains("50 of 100 records"), "{}", said.stdout);
        assert!(said.stdout.contains("--every-record"), "{}", said.stdout);
    }
    world.reconcile(SHALLOW_STRICT).await?.ended(1);
    let said = world.reconcile(STRICT).await?.ended(1);
    assert!(said.stdout.contains(&format!("missing_row {}[0]@1 in sink", world.topic)), "{}", said.stdout);
    assert!(said.stdout.contains("missing_row: and 40 more"), "{}", said.stdout);
    // What it did make is proved all the same.
    world.database.execute(&format!("INSERT INTO sink VALUES ('{}', 0, 20)", world.topic)).await?;
    assert_eq!(world.found(DEEP).await?, ["doubled_row 0@20"]);
    Ok(())
}

/// A handler that does not say which tables it writes.
struct Silent(Sink);

impl Handler for Silent {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.0.handle(batch, tx).await
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_with_the_way_out() -> TestResult {
    let world = World::new("refused", 1).await?;
    world.produce(10).await?;
    let worker = world.worker(Silent(Sink::default()));
    world.caught_up().await?;
    worker.stop().await?;
    let said = world.reconcile(&[]).await?.ended(0);
    assert!(said.stdout.contains("note: no table was compared"), "{}", said.stdout);
    let said = world.reconcile(&["--table", "balances"]).await?.ended(2);
    assert!(said.stderr.contains("--partition-column"), "{}", said.stderr);
    world.reconcile(&["--table", "nowhere"]).await?.ended(2);
    let said = world.reconcile(&["--table", "sink", "--offset-column", "source_topic"]).await?.ended(2);
    assert!(said.stderr.contains("is of type text"), "{}", said.stderr);
    let said = world.highwater(&["reconcile", "--group", &format!("{}x", world.group)]).await?.ended(2);
    assert!(said.stderr.contains(&world.group), "the near miss: {}", said.stderr);
    // Columns of other names; an index that gives the rows in order.
    world
        .database
        .execute(
            "CREATE TABLE \"Other\" AS SELECT source_partition AS p, source_offset AS o FROM sink; \
             CREATE UNIQUE INDEX by_record ON \"Other\" (p, o)",
        )
        .await?;
    let other =
        ["--table", "\"Other\"", "--partition-column", "p", "--offset-column", "o", "--deep", "--json"];
    let json = world.reconcile(&other).await?.ended(0).json();
    let table = &json[0]["tables"][0];
    assert_eq!((&table["index"], &table["name"]), (&"by_record".into(), &"\"Other\"".into()));
    assert_eq!(json[0]["partitions"][0]["rows"][0]["end"], 10);
    assert_eq!(json[0]["partitions"][0]["records"], 10);
    let said = world.reconcile(TABLE).await?.ended(0);
    assert!(said.stdout.contains("CREATE INDEX CONCURRENTLY ON"), "{}", said.stdout);
    // Whoever works for the group may look, and needs no right to write.
    world.database.execute(&format!("GRANT SELECT ON \"Other\" TO {}", world.role.name)).await?;
    let group = ["reconcile", "--group", &world.group];
    world.highwater_at(&world.role.url, &[&group[..], DEEP].concat()).await?.ended(0);
    Ok(())
}
