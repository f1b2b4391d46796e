//! The examples, as a user would run them: configured by the environment alone, on the tables of their own SQL.

use std::collections::BTreeMap;
use std::process::Command;

use highwater::testing::{Child, Oracle, Result};

use crate::support::{PATIENCE, TestResult, World, example};

const PARTITIONS: i32 = 3;
const RECORDS: usize = 200;

/// A payment as all examples read it. A merchant, and an account, is in one partition only.
fn payment(partition: i32, n: usize) -> (String, String) {
    let merchant = format!("m{partition}-{}", n % 7);
    let cents = n * 37 % 5_000 + 1;
    let value = format!(
        r#"{{"tx_id":"t{partition}-{n}","merchant_id":"{merchant}","account":"a{merchant}","amount_cents":{cents}}}"#
    );
    (merchant, value)
}

/// Runs the example of this name over all records; `None`: it has a row per record in no table.
async fn run(name: &str, schema: &str, table: Option<&str>) -> Result<World<'static>> {
    let world = World::new(name, PARTITIONS).await?;
    world.database.execute(schema).await?;
    let role = &world.role.name;
    world
        .database
        .execute(&format!("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"))
        .await?;
    world.producer.fill(&world.topic, PARTITIONS, RECORDS / 2, payment).await?;
    let mut command = Command::new(example(name));
    command
        .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
        .env("HIGHWATER_POSTGRES_URL", &world.role.url)
        .env("HIGHWATER_GROUP", &world.group)
        .env("HIGHWATER_TOPICS", &world.topic)
        .env("HIGHWATER_START", "earliest")
        .env("NO_COLOR", "1");
    let process = Child::spawn(name, &command)?;
    process.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
    let later = |partition, n| payment(partition, n + RECORDS / 2);
    world.producer.fill(&world.topic, PARTITIONS, RECORDS / 2, later).await?;
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    if let Some(table) = table {
        let rows = format!("SELECT source_partition, source_offset FROM {table}");
        let client = world.database.client().await?;
        Oracle::new(world.producer.ledger(), &world.topic).compare(&client, &rows).await?.assert_exact();
    }
    Ok(world)
}

/// Of each group of records the sum, the number and the last one, by `group`.
fn expected(group: impl Fn(&str) -> String) -> BTreeMap<String, (i64, i64, String)> {
    let mut expected: BTreeMap<String, (i64, i64, String)> = BTreeMap::new();
    for (partition, n) in (0..PARTITIONS).flat_map(|partition| (0..RECORDS).map(move |n| (partition, n))) {
        let (merchant, _) = payment(partition, n);
        let of = expected.entry(group(&merchant)).or_default();
        *of = (of.0 + i64::try_from(n * 37 % 5_000 + 1).unwrap_or(0), of.1 + 1, format!("t{partition}-{n}"));
    }
    expected
}

#[tokio::test]
async fn fraud_scores_writes_one_row_per_payment() -> TestResult {
    run("fraud_scores", include_str!("../../examples/fraud_scores/schema.sql"), Some("fraud_scores")).await?;
    Ok(())
}

#[tokio::test]
async fn account_balances_adds_each_payment_once() -> TestResult {
    let schema = include_str!("../../examples/account_balances/schema.sql");
    let world = run("account_balances", schema, None).await?;
    let sql = "SELECT account, balance_cents, payments FROM account_balances";
    let rows = world.database.query(sql, &[]).await?;
    let found: BTreeMap<String, (i64, i64)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let expected = expected(|merchant| format!("a{merchant}"));
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(account, (cents, payments, _))| (account, (cents, payments))).collect();
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test]
async fn payments_table_has_every_payment_and_the_latest_of_each_merchant() -> TestResult {
    let schema = include_str!("../../examples/payments_table/schema.sql");
    let world = run("payments_table", schema, Some("payments")).await?;
    let rows = world.database.query("SELECT merchant_id, tx_id FROM latest_payments", &[]).await?;
    let found: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = expected(str::to_owned);
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(merchant, (.., last))| (merchant, last)).collect();
    assert_eq!(found, expected);
    let unpaid = "SELECT count(*) FROM payments WHERE paid_at IS NULL OR amount_cents < 1";
    assert_eq!(world.number(unpaid).await?, 0);
    Ok(())
}

/// Of each partition every hundredth payment is a refund, of which the program knows nothing at first.
#[tokio::test]
async fn dead_letters_are_stored_and_then_applied_after_all() -> TestResult {
    let world = World::new("dead_letters", PARTITIONS).await?;
    world.database.execute(include_str!("../../examples/payments_table/schema.sql")).await?;
    world.database.execute(&format!("GRANT INSERT ON payments TO {}", world.role.name)).await?;
    let sent = |partition, n| {
        let (merchant, value) = payment(partition, n);
        let refund = value.replace("cents\":", "cents\":-");
        (merchant, if n % 100 == 0 { refund } else { value })
    };
    world.producer.fill(&world.topic, PARTITIONS, RECORDS, sent).await?;
    let start = |mended: bool| {
        let mut command = Command::new(example("dead_letters"));
        command
            .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
            .env("HIGHWATER_POSTGRES_URL", &world.role.url)
            .env("HIGHWATER_GROUP", &world.group)
            .env("HIGHWATER_TOPICS", &world.topic)
            .env("HIGHWATER_START", "earliest")
            .env("NO_COLOR", "1");
        if mended {
            command.env("REFUNDS", "1");
        }
        Child::spawn(if mended { "mended" } else { "dead_letters" }, &command)
    };
    let process = start(false)?;
    world.caught_up().await?;
    assert_eq!(world.number("SELECT count(*) FROM highwater.dead_letter WHERE state = 'open'").await?, 6);
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    let process = start(true)?;
    let arguments = ["--reason", "refunds", "--canary", "1", "--execute", "--wait"];
    let redrive = ["dead-letters", "redrive", "--group", &world.group];
    world.highwater(&[&redrive[..], &arguments].concat()).await?.ended(0);
    let rows = "SELECT source_partition, source_offset FROM payments";
    let client = world.database.client().await?;
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
