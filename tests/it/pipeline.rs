//! The no-code sink as its user has it: a file, and `highwater run`.

mod debezium;
mod formats;
mod grows;
mod infer;
mod mapping;
mod modes;
mod named;
mod operated;
mod plan;
mod registry;
mod schemas;
mod takeover;

use std::path::{Path, PathBuf};

use highwater::testing::{Child, Oracle, Result, wait_until};

use crate::support::{PATIENCE, TestResult, World};

/// Rows with where they came from, an account that they refer to, and a balance that a repeat would show in.
const TABLES: &str = "\
    CREATE TABLE accounts (account text PRIMARY KEY);
    CREATE TABLE payments (id text NOT NULL, account text NOT NULL REFERENCES accounts, amount numeric(12,2) NOT NULL,
        paid_at timestamptz NOT NULL, body jsonb NOT NULL, source_partition int NOT NULL, source_offset bigint NOT NULL);
    CREATE TABLE latest (account text PRIMARY KEY, id text NOT NULL, trace text);
    CREATE TABLE running (account text PRIMARY KEY, amount numeric NOT NULL, payments int NOT NULL);
    CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
        INSERT INTO running VALUES (NEW.account, NEW.amount, 1) ON CONFLICT (account)
        DO UPDATE SET amount = running.amount + excluded.amount, payments = running.payments + 1; RETURN NULL; END';
    CREATE TRIGGER add AFTER INSERT ON payments FOR EACH ROW EXECUTE FUNCTION add();";

/// The parent first: one transaction over all three.
const SINKS: &str = "\
    [[sink]]
    topic = 'TOPIC'
    table = 'accounts'
    mode = 'insert_ignore'
    columns.account = 'value.payment.account'

    [[sink]]
    topic = 'TOPIC'
    table = 'payments'
    columns.id = 'value.id'
    columns.account = 'value.payment.account'
    columns.amount = 'value.payment.amount'
    columns.paid_at = { from = 'value.ts', unit = 'ms' }
    rest = 'body'
    provenance = { partition = 'source_partition', offset = 'source_offset' }

    [[sink]]
    topic = 'TOPIC'
    table = 'latest'
    mode = 'upsert'
    key_format = 'string'
    columns.account = 'key'
    columns.id = 'value.id'
    columns.trace = 'header.trace'
";

const PARTITIONS: i32 = 3;

/// A payment of an account that is in one partition only; 10 cents more than the one before.
fn payment(partition: i32, n: usize) -> (String, String) {
    let account = format!("a{partition}-{}", n % 7);
    let value = format!(
        r#"{{"id":"t{partition}-{n}","ts":{},"payment":{{"account":"{account}","amount":{}.{}0}},"note":"n{n}","tags":[{n}]}}"#,
        1_790_000_000_000_i64 + i64::try_from(n).unwrap_or(0),
        n / 10,
        n % 10,
    );
    (account, value)
}

impl World<'_> {
    /// Tables of the test's own, which the workers may write.
    async fn with_tables(hint: &str, partitions: i32, tables: &str) -> Result<World<'static>> {
        let world = World::new(hint, partitions).await?;
        world.database.execute(tables).await?;
        let role = &world.role.name;
        let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}");
        world.database.execute(&grant).await?;
        Ok(world)
    }

    /// Writes a pipeline's file: its settings, and sinks in which TOPIC stands for this world's topic.
    fn pipeline_file(&self, sinks: &str) -> Result<PathBuf> {
        let directory = std::env::temp_dir().join(&self.group);
        let caused = |error| highwater::testing::Error::caused("write the pipeline file", error);
        std::fs::create_dir_all(&directory).map_err(caused)?;
        let path = directory.join("shop.toml");
        let settings = format!("group = '{}'\nstart = 'earliest'\nsession_timeout = '6s'\n\n", self.group);
        std::fs::write(&path, settings + &sinks.replace("TOPIC", &self.topic)).map_err(caused)?;
        Ok(path)
    }

    /// `highwater run` of a file, once it has claimed something.
    async fn run(&self, name: &str, file: &Path) -> Result<Child> {
        let process = self.begin(name, file)?;
        process.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
        Ok(process)
    }

    fn begin(&self, name: &str, file: &Path) -> Result<Child> {
        let file = file.to_str().unwrap_or_default();
        let mut command = self.highwater_command(&self.role.url, &["run", file]);
        Child::spawn(name, command.as_std_mut())
    }

    /// Each record has its payment, once; balances and latest payments are those of applying each once, in order.
    async fn verify_payments(&self, records: usize) -> TestResult {
        self.caught_up().await?;
        self.assert_ledger_gapless().await?;
        let client = self.database.client().await?;
        let rows = "SELECT source_partition, source_offset FROM payments";
        Oracle::new(self.producer.ledger(), &self.topic).compare(&client, rows).await?.assert_exact();
        let wrong = "SELECT count(*) FROM (SELECT account, sum(amount) AS amount, count(*)::int AS payments FROM payments \
                     GROUP BY 1) p FULL JOIN running r USING (account) \
                     WHERE (p.amount, p.payments) IS DISTINCT FROM (r.amount, r.payments)";
        assert_eq!(self.number(wrong).await?, 0, "balances");
        let wrong = "SELECT count(*) FROM latest l FULL JOIN (SELECT DISTINCT ON (account) account, id FROM payments \
                     ORDER BY account, source_offset DESC) p USING (account) WHERE l.id IS DISTINCT FROM p.id";
        assert_eq!(self.number(wrong).await?, 0, "the latest of each account");
        for partition in 0..PARTITIONS {
            for n in 0..records {
                let (account, value) = payment(partition, n);
                let value: serde_json::Value = serde_json::from_str(&value)?;
                // By Postgres itself, from the record's text.
                let sql = "SELECT count(*) FROM payments WHERE id = $1 AND account = $2 \
                           AND amount = ($3::text::jsonb #>> '{payment,amount}')::numeric \
                           AND paid_at = to_timestamp(($3::text::jsonb ->> 'ts')::numeric / 1000) \
                           AND body = $3::text::jsonb - 'id' - 'ts' - 'payment'";
                let id = format!("t{partition}-{n}");
                let found: i64 = client.query_one(sql, &[&id, &account, &value.to_string()]).await?.get(0);
                assert_eq!(found, 1, "{value}");
            }
        }
        Ok(())
    }
}

/// Five times the one of two processes that has been there longest is killed while it works.
#[tokio::test]
async fn core_three_tables_exactly_once_under_kills() -> TestResult {
    const EACH: usize = 200;
    const KILLS: usize = 5;
    let world = World::with_tables("pipeline", PARTITIONS, TABLES).await?;
    let small = "batch_target_records = 10\nbatch_max_records = 10\nlinger = '1ms'\n";
    let file = world.pipeline_file(&format!("{small}{SINKS}"))?;
    let mut older = world.run("process-0", &file).await?;
    for round in 0..KILLS {
        let younger = world.begin(&format!("process-{}", round + 1), &file)?;
        let before = world.number("SELECT count(*) FROM payments").await?;
        world.producer.fill(&world.topic, PARTITIONS, EACH, |p, n| payment(p, n + EACH * round)).await?;
        wait_until("some of them are applied", PATIENCE, async || {
            Ok((world.number("SELECT count(*) FROM payments").await? > before).then_some(()))
        })
        .await?;
        older.kill()?;
        younger.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
        older = younger;
    }
    world.verify_payments(EACH * KILLS).await?;
    older.term()?;
    assert_eq!(older.wait(PATIENCE).await?, 0, "{older}");
    Ok(())
}
