//! A pipeline is a worker like any other: what is checked before it runs, dead letters, moves of offsets.

use std::path::Path;

use super::{PARTITIONS, SINKS, TABLES, payment};
use crate::operator::command::Said;
use crate::support::{PATIENCE, TestResult, World};

impl World<'_> {
    pub(super) async fn command(&self, arguments: &[&str], file: &Path) -> highwater::testing::Result<Said> {
        self.highwater_at(&self.role.url, &[arguments, &[file.to_str().unwrap_or_default()]].concat()).await
    }
}

#[tokio::test]
async fn a_file_is_checked_and_its_tests_are_run() -> TestResult {
    let world = World::new("pipeline-check", 1).await?;
    let test = "[[test]]\nname = 'a payment'\nkey = 'a'\n\
                value = '{\"id\": \"t\", \"ts\": 0, \"payment\": {\"account\": \"a\", \"amount\": 1.10}}'\n\
                rows.accounts = [{ account = 'a' }]\n\
                rows.payments = [{ id = 't', account = 'a', amount = '1.10', paid_at = 1970-01-01T00:00:00Z, body = '{}' }]\n\
                rows.latest = [{ account = 'a', id = 't' }]\n";
    let file = world.pipeline_file(&format!("{SINKS}{test}"))?;
    let said = world.command(&["run", "--check"], &file).await?.ended(0);
    let expected = format!(
        "{0} into accounts (1 columns)\n{0} into payments (7 columns)\n{0} into latest (3 columns)\nok     a payment\n",
        world.topic
    );
    assert_eq!(said.stdout, expected);
    assert_eq!(world.command(&["test"], &file).await?.ended(0).stdout, "ok     a payment\n");
    let file = world.pipeline_file(&format!("{SINKS}{}", test.replace("1.10'", "1.1'")))?;
    let said = world.command(&["test"], &file).await?.ended(1);
    assert!(
        said.stdout
            .contains("FAILED a payment\n       table payments, column amount: 1.10 instead of \"1.1\""),
        "{said:?}"
    );
    assert!(said.stderr.contains("1 of 1 tests failed"), "{said:?}");
    let file = world.pipeline_file(&SINKS.replace("mode =", "modus ="))?;
    let said = world.command(&["run"], &file).await?.ended(2);
    assert!(said.stderr.contains("shop.toml, line 8: unknown key `modus`: did you mean `mode`?"), "{said:?}");
    let schema = world.highwater(&["schema"]).await?.ended(0).json();
    assert_eq!(schema["title"], "Highwater pipeline");
    Ok(())
}

/// Records that the file cannot place are stored; with a mended file they are redriven, by the same command.
#[tokio::test]
async fn core_bad_records_are_stored_and_redriven_by_a_mended_file() -> TestResult {
    const RECORDS: usize = 40;
    let world = World::with_tables("pipeline-letters", PARTITIONS, TABLES).await?;
    let is_bad = |n: usize| n % 10 == 4;
    let record = |partition: i32, n: usize| {
        let (account, value) = payment(partition, n);
        (account, if is_bad(n) { value.replace("\"amount\"", "\"Amount\"") } else { value })
    };
    world.producer.fill(&world.topic, PARTITIONS, RECORDS, record).await?;
    let strict = SINKS.replace("rest = 'body'", "rest = 'body'\non_bad_record = 'dead_letter'");
    let process = world.run("strict", &world.pipeline_file(&strict)?).await?;
    world.caught_up().await?;
    let letters = "SELECT count(*) FROM highwater.dead_letter WHERE state = 'open'";
    assert_eq!(world.number(letters).await?, 12);
    let reason = world.database.query("SELECT DISTINCT reason FROM highwater.dead_letter", &[]).await?;
    let reason: String = reason[0].get(0);
    assert!(reason.contains("table payments, column amount (numeric"), "{reason}");
    // Nothing of a rejected record is in any table.
    assert_eq!(world.number("SELECT count(*) FROM payments").await?, 108);
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");

    let lenient = strict.replace("'value.payment.amount'", "'value.payment.Amount'");
    let process = world.run("lenient", &world.pipeline_file(&lenient)?).await?;
    let arguments = ["--ignore-order", "--reason", "mended", "--execute", "--wait", "--json"];
    let said = world.dead_letters("redrive", &arguments).await?.ended(0).json();
    assert_eq!(said["redrives"][0]["redriven"], 12, "{said}");
    let sums = "SELECT count(*) FROM payments p JOIN running r USING (account) \
                WHERE r.payments <> (SELECT count(*) FROM payments q WHERE q.account = p.account)";
    assert_eq!((world.number("SELECT count(*) FROM payments").await?, world.number(sums).await?), (120, 0));
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// What is wrong with the file is no record's fault: nothing is set aside for it.
#[tokio::test]
async fn a_fault_of_the_file_makes_no_dead_letters() -> TestResult {
    let world =
        World::with_tables("pipeline-fault", 1, "CREATE TABLE payments (id text, at text, body int)").await?;
    world.producer.fill(&world.topic, 1, 20, payment).await?;
    for (columns, words) in [
        (
            "columns = { id = 'value.id', at = { from = 'value.ts', unit = 'ms' } }",
            "column at (text): a unit is for",
        ),
        ("columns = ['id']\nrest = 'body'", "column body (integer): `rest` goes into"),
        (
            "columns = { id = 'value.id', body = 'timestamp' }",
            "column body (integer): a record's timestamp goes",
        ),
    ] {
        let sink = format!(
            "[[sink]]\ntopic = 'TOPIC'\ntable = 'payments'\non_bad_record = 'dead_letter'\n{columns}\n"
        );
        let process = world.run("at fault", &world.pipeline_file(&sink)?).await?;
        process.wait_for_line(|text| text.contains(words), PATIENCE).await?;
        process.term()?;
        assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
        assert_eq!(world.number("SELECT count(*) FROM highwater.dead_letter").await?, 0);
        assert_eq!(world.number("SELECT count(*) FROM payments").await?, 0);
        world.partitions_command("retry", 0, &[]).await?.ended(0);
    }
    Ok(())
}

/// The tables are registered, so that a move back can take their rows with it.
#[tokio::test]
async fn offsets_are_moved_back_with_the_rows_of_a_pipeline() -> TestResult {
    const RECORDS: usize = 50;
    let world = World::with_tables("pipeline-undo", PARTITIONS, "\
        CREATE TABLE payments (id text NOT NULL, source_partition int NOT NULL, source_offset bigint NOT NULL)").await?;
    let sink = "[[sink]]\ntopic = 'TOPIC'\ntable = 'payments'\ncolumns = ['id']\n\
                provenance = { partition = 'source_partition', offset = 'source_offset' }\n";
    let file = world.pipeline_file(sink)?;
    world.producer.fill(&world.topic, PARTITIONS, RECORDS, payment).await?;
    let process = world.run("before", &file).await?;
    world.caught_up().await?;
    highwater::testing::wait_until("the table is registered", PATIENCE, async || {
        Ok((world.number("SELECT count(*) FROM highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    let program = world.database.query("SELECT program FROM highwater.worker_status", &[]).await?;
    assert_eq!(program[0].get::<_, &str>(0), "shop");
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    let undo = ["--all-topics", "--to-offset", "20", "--undo-rows", "--execute"];
    world.offsets("reset", &undo).await?.ended(0);
    assert_eq!(world.number("SELECT count(*) FROM payments").await?, 60);
    let process = world.run("after", &file).await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM payments";
    highwater::testing::Oracle::new(world.producer.ledger(), &world.topic)
        .compare(&client, rows)
        .await?
        .assert_exact();
    // What only a reading of the topic can tell after a move back, the quick proof says that it does not tell.
    world.database.execute("DELETE FROM payments WHERE source_offset = 30").await?;
    let reconcile = ["reconcile", "--group", &world.group, "--every-record"];
    let said = world.highwater(&reconcile).await?.ended(0);
    assert!(said.stdout.contains("is compared by --deep alone"), "{}", said.stdout);
    let said = world.highwater(&[&reconcile[..], &["--deep"]].concat()).await?.ended(1);
    assert!(said.stderr.contains("3 differences"), "{}", said.stderr);
    assert!(!said.stdout.contains("is compared by --deep alone"), "{}", said.stdout);
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
