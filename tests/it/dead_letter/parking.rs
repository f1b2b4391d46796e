//! `park_key`: later records of a key wait behind a dead letter of theirs, so that each key's records are applied in their
//! order, or not yet. The sink here does not commute: it appends to a chain per key.

mod attacked;
mod broken;
mod decided;

use highwater::config::OnRejected;
use highwater::testing::{Result, wait_until};
use highwater::{Batch, Handler, HandlerError, PartialConfig, Table, Tx, WorkerHandle};
use serde_json::Value;

use crate::support::watch::halted;
use crate::support::{PATIENCE, TestResult, World};

const TABLES: &str = "
    CREATE TABLE chain (partition int NOT NULL, account text NOT NULL, offsets bigint[] NOT NULL, PRIMARY KEY (partition, account));
    CREATE TABLE mended (is_mended bool NOT NULL);
    INSERT INTO mended VALUES (false);
    CREATE TABLE refused (record_offset bigint, CONSTRAINT refused_always CHECK (false));";

/// Appends each record to the chain of its key, and to `sink`. Until the table `mended` says so, it rejects records by their
/// value: `tx` by [`Tx::reject`], `name` by an error that names it, `sql` by what the database says. `never` it rejects then, too.
#[derive(Debug, Default)]
pub(crate) struct Chain;

impl Handler for Chain {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let is_mended: bool = tx.query_one("SELECT is_mended FROM mended", &[]).await?.get(0);
        for record in batch {
            match record.value().filter(|value| !is_mended || *value == b"never") {
                Some(b"tx" | b"never") => {
                    tx.reject(&record, "of no use to anybody")?;
                    continue;
                }
                Some(b"name") => return Err(HandlerError::reject(&record, "has a bad name")),
                Some(b"sql") => {
                    tx.execute("INSERT INTO refused VALUES ($1)", &[&record.offset()]).await?;
                }
                _ => {}
            }
            let account = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            tx.execute(
                "INSERT INTO chain AS c VALUES ($1, $2, ARRAY[$3::int8]) \
                 ON CONFLICT (partition, account) DO UPDATE SET offsets = c.offsets || excluded.offsets",
                &[&record.partition(), &account, &record.offset()],
            )
            .await?;
            tx.execute(
                "INSERT INTO sink VALUES ($1, $2, $3)",
                &[&record.topic(), &record.partition(), &record.offset()],
            )
            .await?;
        }
        Ok(())
    }

    fn writes(&self) -> Vec<Table> {
        let sink = Table::append("sink", ["source_topic"])
            .source_topic("source_topic")
            .source_partition("source_partition")
            .source_offset("source_offset");
        vec![sink, Table::upsert("chain", ["partition", "account", "offsets"])]
    }
}

/// Of the records of a partition, those that are bad, and how: their places and their accounts' numbers.
const BAD: [(usize, &str); 6] = [(0, "tx"), (23, "name"), (31, "tx"), (33, "tx"), (46, "sql"), (107, "name")];
const ACCOUNTS: usize = 10;

impl World<'_> {
    /// 200 records of ten accounts to each partition, some of which are bad.
    async fn chained(hint: &str, partitions: i32) -> TestResult<World<'static>> {
        let world = World::new(hint, partitions).await?;
        world.database.execute(TABLES).await?;
        let grant = format!("GRANT SELECT, INSERT, UPDATE ON chain, mended, refused TO {}", world.role.name);
        world.database.execute(&grant).await?;
        for partition in 0..partitions {
            world.send_chained(partition, 200, &BAD)?;
        }
        world.producer.flush().await?;
        Ok(world)
    }

    fn send_chained(&self, partition: i32, count: usize, bad: &[(usize, &str)]) -> Result<()> {
        for n in 0..count {
            let how = bad.iter().find(|(at, _)| *at == n).map_or("good", |(_, how)| how);
            let account = format!("p{partition}-a{}", n % ACCOUNTS);
            self.producer.send(self.message(partition).key(account).value(how))?;
        }
        Ok(())
    }

    fn parking(&self) -> PartialConfig {
        self.settings()
            .on_rejected(OnRejected::ParkKey)
            .batch_target_records(20_usize)
            .batch_max_records(20_usize)
            .dead_letter_max_in_a_row(None)
    }

    fn chaining(&self) -> WorkerHandle {
        self.worker_with(self.parking(), Chain)
    }

    async fn mend(&self) -> TestResult {
        Ok(self.database.execute("UPDATE mended SET is_mended = true").await?)
    }

    /// What waits: open ones, and parked ones.
    async fn waiting(&self) -> TestResult<(i64, i64)> {
        Ok((self.letters_in("open").await?, self.letters_in("parked").await?))
    }

    /// In this moment: every chain is in order, and ends before the first of its key that waits.
    async fn assert_ordered(&self) -> TestResult {
        let sql = "SELECT c.partition, c.account, c.offsets, d.first FROM chain c \
                   LEFT JOIN LATERAL (SELECT min(d.record_offset) AS first FROM highwater.dead_letter d \
                     WHERE d.partition = c.partition AND d.key_hash = sha256(c.account::bytea) \
                       AND d.state IN ('open', 'parked', 'queued')) d ON true \
                   WHERE c.offsets <> ARRAY(SELECT o FROM unnest(c.offsets) AS o ORDER BY o) \
                     OR c.offsets[array_upper(c.offsets, 1)] > d.first";
        let wrong = self.database.query(sql, &[]).await?;
        assert!(wrong.is_empty(), "{wrong:?}");
        Ok(())
    }

    /// Rows and letters that wait are what was produced, each once, and in order.
    async fn verify_parked(&self) -> TestResult {
        self.caught_up().await?;
        self.assert_ordered().await?;
        let client = self.database.client().await?;
        let both = format!(
            "SELECT source_partition, source_offset FROM sink UNION ALL \
             SELECT partition, record_offset FROM highwater.dead_letter WHERE topic = '{}' AND state IN ('open', 'parked') \
             UNION ALL SELECT partition, record_offset FROM highwater.dead_letter WHERE topic = '{}' AND state = 'discarded'",
            self.topic, self.topic
        );
        let oracle = highwater::testing::Oracle::new(self.producer.ledger(), &self.topic);
        oracle.compare(&client, &both).await?.assert_exact();
        Ok(())
    }

    /// Nothing waits any more, and the chains hold everything, in order.
    async fn verify_chains(&self) -> TestResult {
        assert_eq!(self.waiting().await?, (0, 0));
        self.verify_parked().await?;
        let links = "SELECT coalesce(sum(cardinality(offsets)), 0)::int8 FROM chain";
        assert_eq!(self.number(links).await?, self.number("SELECT count(*) FROM sink").await?);
        Ok(())
    }

    /// Redrives what fits, without a word of order, and waits until that has ended.
    async fn unparked(&self, more: &[&str]) -> TestResult<Value> {
        let how = ["--reason", "INC-812: mended", "--execute", "--wait", "--stop-after", "1000", "--json"];
        let said = self.dead_letters("redrive", &[&how, more].concat()).await?;
        assert!(said.code < 2, "{}{}", said.stdout, said.stderr);
        Ok(said.json()["redrives"][0].clone())
    }

    /// What was wrong is mended, and everything redriven: nothing waits any more.
    async fn mended_and_redriven(&self) -> TestResult {
        self.mend().await?;
        self.said_to_park().await?;
        self.unparked(&[]).await?;
        self.verify_chains().await
    }

    /// Waits until live workers have said that they park, as the command wants to know.
    async fn said_to_park(&self) -> TestResult {
        self.said_policy("park_key").await
    }

    async fn said_policy(&self, policy: &str) -> TestResult {
        let said = format!("SELECT count(*) FROM highwater.partition_status WHERE on_rejected = '{policy}'");
        wait_until("the policy of every partition is told", PATIENCE, async || {
            Ok((self.number(&said).await? == i64::from(self.partitions)).then_some(()))
        })
        .await?;
        Ok(())
    }
}

/// Of each bad account of [`BAD`], what comes after its first bad record waits: that record's place, and how many wait.
fn expected(partitions: i64) -> (i64, i64) {
    let mut first = std::collections::BTreeMap::new();
    for (at, _) in BAD {
        first.entry(at % ACCOUNTS).or_insert(at);
    }
    let all: usize = first.values().map(|at| (200 - at - 1) / ACCOUNTS + 1).sum();
    let (all, heads) =
        (i64::try_from(all).unwrap_or(i64::MAX), i64::try_from(first.len()).unwrap_or(i64::MAX));
    (heads * partitions, (all - heads) * partitions)
}

#[tokio::test]
async fn core_later_records_of_a_key_wait_behind_it_and_are_redriven_in_order() -> TestResult {
    let world = World::chained("parked", 2).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    assert_eq!(world.waiting().await?, expected(2));
    // By a new claim's own look at the tables, too; and no other key is held up.
    worker.stop().await?;
    let worker = world.chaining();
    world.send_chained(0, 20, &[(8, "sql")])?;
    world.producer.flush().await?;
    world.verify_parked().await?;
    let (open, parked) = expected(2);
    assert_eq!(world.waiting().await?, (open + 1, parked + 2 * (open / 2) + 1));
    // What is parked is of the kind of what it is parked behind.
    let kinds = world.number("SELECT count(DISTINCT fingerprint) FROM highwater.dead_letter").await?;
    assert_eq!(kinds, 3);
    world.said_to_park().await?;
    let described = world.offsets("describe", &[]).await?.ended(0).stdout;
    assert!(described.contains("; the next one is set aside, too, and what comes of its key"), "{described}");
    let status = world.highwater(&["status", "--group", &world.group]).await?.stdout;
    assert!(status.contains("on_rejected = park_key") && status.contains("parked"), "{status}");

    // Not mended yet: the first of each key is rejected again, and nothing overtakes it.
    let before = world.number("SELECT count(*) FROM sink").await?;
    let again = world.unparked(&[]).await?;
    let (open, parked) = world.waiting().await?;
    assert_eq!(
        (&again["failed"], &again["behind"], &again["redriven"]),
        (&open.into(), &parked.into(), &0.into()),
        "{again}"
    );
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, before);
    world.verify_parked().await?;

    world.mend().await?;
    let done = world.unparked(&[]).await?;
    assert_eq!(
        (&done["redriven"], &done["failed"], &done["behind"], &done["state"]),
        (&(open + parked).into(), &0.into(), &0.into(), &"done".into())
    );
    world.verify_chains().await?;
    let counted = |redriven: i64, rejected: i64| {
        let [redriven, rejected] = [redriven, rejected].map(|count| u64::try_from(count).unwrap_or_default());
        vec![("redriven", redriven), ("rejected", rejected)]
    };
    assert_eq!(worker.metrics().redriven, counted(open + parked, open));
    // Nothing waits any more of what later records would be parked behind.
    world.send_chained(0, 40, &[])?;
    world.producer.flush().await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// One account alone, and more of it than a batch holds: no batch has a record for the handler.
#[tokio::test]
async fn a_hot_key_is_parked_whole_and_counts_towards_the_limits() -> TestResult {
    let world = World::chained("parked-hot", 1).await?;
    for n in 0..90 {
        let value = if n == 1 { "sql" } else { "good" };
        world.producer.send(world.message(0).key("hot").value(value))?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.parking().dead_letter_max_in_a_row(Some(50)), Chain);
    let why = halted(&worker, 0).await?;
    assert!(
        why.contains("[0]@251 waits for another: the record at offset 201 was a dead letter of its key"),
        "{why}"
    );
    assert!(why.contains("more than 50 dead letters in a row"), "{why}");
    world.assert_ordered().await?;
    worker.stop().await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    world.mended_and_redriven().await?;
    worker.stop().await?;
    Ok(())
}

/// Records without a key are in no order: none waits for another.
#[tokio::test]
async fn without_a_key_nothing_is_parked() -> TestResult {
    let world = World::chained("parked-keyless", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    let before = world.waiting().await?;
    for value in ["tx", "good", "sql", "good"] {
        world.producer.send(world.message(0).value(value))?;
    }
    world.producer.flush().await?;
    world.verify_parked().await?;
    assert_eq!(world.waiting().await?, (before.0 + 2, before.1));
    worker.stop().await?;
    Ok(())
}
