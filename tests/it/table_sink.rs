//! The ready-made sink under a real worker: its rows, its offsets, and what kills, bad records and `ALTER TABLE` do.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::testing::{Message, Oracle, Result};
use highwater::{PartialConfig, Table, TableSink};

use crate::support::watch::{halted, halted_now};
use crate::support::{Copied, PATIENCE, Process, TestResult, World};

/// Batches of at most 20, so that many are prepared ahead.
fn small(world: &World<'_>) -> PartialConfig {
    world.settings().batch_target_records(10_usize).batch_max_records(20_usize)
}

impl World<'_> {
    /// A table of the test's own, which the workers may use.
    async fn table(&self, name: &str, definition: &str) -> Result<()> {
        self.database.execute(&format!("CREATE TABLE {name} ({definition})")).await?;
        let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {}", self.role.name);
        self.database.execute(&grant).await.map(drop)
    }

    /// The oracle over `table`: it has a row of each record, once.
    async fn assert_rows_of(&self, table: &str) -> Result<()> {
        self.caught_up().await?;
        self.assert_ledger_gapless().await?;
        let rows = format!("SELECT source_partition, source_offset FROM {table}");
        let client = self.database.client().await?;
        Oracle::new(self.producer.ledger(), &self.topic).compare(&client, &rows).await?.assert_exact();
        Ok(())
    }
}

/// `facts`, with where each row comes from.
fn facts(columns: &[&str]) -> Table {
    Table::append("facts", columns.to_vec())
        .source_partition("source_partition")
        .source_offset("source_offset")
}

const FACTS: &str = "account text, amount bigint, source_partition int, source_offset bigint";

/// Account and amount as the other tests write them.
fn fact(record: &highwater::Record<'_>) -> (String, i64) {
    crate::support::read(record.key(), record.value())
}

#[tokio::test]
async fn core_rows_copied_by_a_fleet_that_is_killed() -> TestResult {
    let world = World::new("copied", 6).await?;
    let batches = [("HIGHWATER_BATCH_TARGET_RECORDS", "10"), ("HIGHWATER_BATCH_MAX_RECORDS", "20")];
    let start = |number: usize| Process::start_with(&world, &format!("worker-{number}"), "copied", &batches);
    let fleet = world.under_load(async {
        let mut fleet = (0..2).map(start).collect::<Result<Vec<_>>>()?;
        world.held_by(2).await?;
        for number in 2..6 {
            // The moment itself is the point: there is nothing to wait for.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=800))).await;
            let victim = std::mem::replace(&mut fleet[number % 2], start(number)?);
            victim.child.kill()?;
            victim.child.wait(PATIENCE).await?;
        }
        world.reached(0, 100).await?;
        Ok(fleet)
    });
    let fleet = fleet.await?;
    world.verify().await?;
    for worker in &fleet {
        worker.stop().await?;
    }
    Ok(())
}

/// One lane's backlog in many batches, encoded ahead, beside the handler's own statements.
#[tokio::test]
async fn a_backlog_that_is_encoded_ahead() -> TestResult {
    let world = World::new("copied-ahead", 3).await?;
    world.produce(500).await?;
    let worker = world.worker_with(small(&world).lanes(1_usize), Copied::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// What a compacted topic says: the newest value per key, and nothing where the newest is a tombstone.
fn newest(world: &World<'_>, step: usize) -> Vec<Message> {
    let message = |n: usize| {
        let (key, partition) = (n * 7 % 30, i32::try_from(n * 7 % 30 % 3).expect("small"));
        let message = world.message(partition).key(format!("k{key:02}"));
        // A third of the keys ends with a tombstone, at different places.
        if (n + key).is_multiple_of(3) {
            message
        } else {
            message.value(format!(r#"{{"id":"k{key:02}","n":{n}}}"#))
        }
    };
    (step * 200..(step + 1) * 200).map(message).collect()
}

impl World<'_> {
    /// The table is what applying each record once, in the order of its partition, leaves.
    async fn assert_newest(&self) -> TestResult {
        self.caught_up().await?;
        self.assert_ledger_gapless().await?;
        let mut expected = BTreeMap::new();
        for record in self.kafka.read(&self.topic).await? {
            let key = String::from_utf8(record.key.expect("a key"))?;
            match record.value {
                None => expected.remove(&key),
                Some(value) => {
                    let value: serde_json::Value = serde_json::from_slice(&value)?;
                    expected.insert(key, (value["n"].as_i64().expect("a number"), record.offset))
                }
            };
        }
        let rows = self.database.query("SELECT id, n, source_offset FROM newest", &[]).await?;
        let found: BTreeMap<String, (i64, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        assert_eq!(found, expected, "the table is not what the records say");
        assert!(!found.is_empty() && found.len() < 30, "some keys are gone: {}", found.len());
        Ok(())
    }
}

#[tokio::test]
async fn core_the_last_write_per_key_wins_and_tombstones_delete() -> TestResult {
    let world = World::new("upsert", 3).await?;
    world.table("newest", "id text PRIMARY KEY, n bigint NOT NULL, source_offset bigint").await?;
    let sink = || TableSink::json(Table::upsert("newest", ["id", "n"]).source_offset("source_offset"));
    for message in newest(&world, 0) {
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    // One large batch first, then many small ones, by another worker.
    let worker = world.worker(sink());
    world.assert_newest().await?;
    worker.stop().await?;
    for message in newest(&world, 1) {
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(small(&world), sink());
    world.assert_newest().await?;
    for message in newest(&world, 2) {
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    world.assert_newest().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_first_of_a_fact_told_twice_stays() -> TestResult {
    let world = World::new("ignore", 1).await?;
    world.table("firsts", "account text PRIMARY KEY, source_offset bigint NOT NULL").await?;
    // 20 accounts, each of them many times.
    world.produce(300).await?;
    let table = Table::insert_ignore("firsts", ["account"]).source_offset("source_offset");
    let sink = TableSink::new(table, |record, rows| rows.push((fact(record).0,)));
    let worker = world.worker_with(small(&world), sink);
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    let found = world.database.query("SELECT account, source_offset FROM firsts ORDER BY 2", &[]).await?;
    let found: Vec<(String, i64)> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected: Vec<(String, i64)> = (0..20).map(|n| (format!("p0-a{n}"), n)).collect();
    assert_eq!(found, expected);
    worker.stop().await?;
    Ok(())
}

/// The server names the row, the sink its record: what is before it is applied, the other partitions go on.
#[tokio::test]
async fn core_a_row_that_the_server_refuses_halts_at_its_record() -> TestResult {
    let world = World::new("refused", 3).await?;
    world.table("facts", &format!("{FACTS}, CONSTRAINT lucky CHECK (amount <> 731905)")).await?;
    let sink = || TableSink::new(facts(&["account", "amount"]), |record, rows| rows.push(fact(record)));
    // The thirteenth record of each partition is refused; partition 1 has none.
    let record = |partition: i32, n: usize| {
        let amount = if partition != 1 && n == 12 { 731_905 } else { n % 97 + 1 };
        (format!("p{partition}"), amount.to_string())
    };
    world.producer.fill(&world.topic, 3, 40, record).await?;
    let worker = world.worker_with(world.settings().lanes(1_usize), sink());
    for partition in [0, 2] {
        let why = halted(&worker, partition).await?;
        assert!(why.contains("@12 was rejected") && why.contains("constraint lucky"), "{why}");
        assert!(!why.contains("731905"), "the value is nobody's business: {why}");
    }
    world.reached(1, 40).await?;
    assert_eq!(halted_now(&worker), [0, 2]);
    let applied = "SELECT count(*), coalesce(max(source_offset), -1) FROM facts WHERE source_partition <> 1";
    let applied = &world.database.query(applied, &[]).await?[0];
    assert_eq!(
        (applied.get::<_, i64>(0), applied.get::<_, i64>(1)),
        (24, 11),
        "all before it, nothing behind it"
    );
    worker.stop().await?;

    world.database.execute("ALTER TABLE facts DROP CONSTRAINT lucky").await?;
    let worker = world.worker(sink());
    world.assert_rows_of("facts").await?;
    worker.stop().await?;
    Ok(())
}

/// Columns that change under a running worker, between what was encoded ahead and its COPY.
#[tokio::test]
async fn core_a_table_that_is_altered_under_the_worker() -> TestResult {
    let world = World::new("altered", 3).await?;
    world.table("facts", FACTS).await?;
    let sink = TableSink::new(facts(&["account", "amount"]), |record, rows| rows.push(fact(record)));
    let worker = world.worker_with(small(&world), sink);
    let changes = [
        "ALTER TABLE facts ADD COLUMN note text DEFAULT 'none'",
        "ALTER TABLE facts ALTER amount TYPE int",
        "ALTER TABLE facts ALTER amount TYPE numeric(12, 2)",
        "ALTER TABLE facts DROP COLUMN note",
        "ALTER TABLE facts ALTER amount TYPE bigint",
    ];
    world
        .under_load(async {
            for (change, step) in changes.iter().zip(1..) {
                world.reached(0, step * 50).await?;
                world.database.execute(change).await?;
            }
            world.reached(0, 400).await
        })
        .await?;
    world.assert_rows_of("facts").await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    let sums: BTreeMap<String, i64> = world
        .database
        .query("SELECT account, sum(amount)::bigint FROM facts GROUP BY 1", &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for record in world.kafka.read(&world.topic).await? {
        let (account, amount) = crate::support::read(record.key.as_deref(), record.value.as_deref());
        *expected.entry(account).or_default() += amount;
    }
    assert_eq!(sums, expected, "a value was read as something else");
    worker.stop().await?;
    Ok(())
}

/// A record's rows in two tables, one of which refers to the other.
#[tokio::test]
async fn several_tables_in_one_transaction() -> TestResult {
    let world = World::new("tables", 3).await?;
    world.table("orders", "id text PRIMARY KEY, source_partition int, source_offset bigint").await?;
    world.table("order_lines", "order_id text REFERENCES orders, line int").await?;
    let orders =
        Table::append("orders", ["id"]).source_partition("source_partition").source_offset("source_offset");
    let tables = [orders, Table::append("order_lines", ["order_id", "line"])];
    let sink = TableSink::new(tables, |record, rows| {
        let id = format!("{}-{}", record.partition(), record.offset());
        rows.of("orders").push((&*id,))?;
        (0..record.offset() % 3).try_for_each(|line| rows.of("order_lines").push((&*id, line)))
    });
    world.produce(200).await?;
    let worker = world.worker_with(small(&world), sink);
    world.assert_rows_of("orders").await?;
    let wrong = "SELECT count(*) FROM orders o WHERE o.source_offset % 3 <> \
                 (SELECT count(*) FROM order_lines l WHERE l.order_id = o.id)";
    assert_eq!(world.number(wrong).await?, 0);
    worker.stop().await?;
    Ok(())
}
