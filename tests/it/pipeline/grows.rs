//! Tables that grow: made and changed by processes that start beside others, under load and beside whoever reads for long.

use std::path::Path;
use std::time::{Duration, Instant};

use highwater::testing::{Child, Oracle, Role, wait_until};

use super::{PARTITIONS, payment};
use crate::support::{PATIENCE, TestResult, World};

const SINK: &str = "\
    [[sink]]
    topic = 'TOPIC'
    table = '\"Payments\"'
    columns.id = { from = 'value.id', type = 'text' }
    columns.amount = { from = 'value.payment.amount', type = 'numeric(12,2)' }
    rest = 'body'
    provenance = { partition = 'source_partition', offset = 'source_offset' }
";
const MORE: &str = "columns.\"Account\" = { from = 'value.payment.account', type = 'text' }\n";

impl World<'_> {
    /// A role that may make tables, which the workers' may not.
    pub(super) async fn owner(&self) -> highwater::testing::Result<Role> {
        let owner = self.database.role("owner").await?;
        self.database.execute(&format!("GRANT CREATE, USAGE ON SCHEMA public TO {}", owner.name)).await?;
        Ok(owner)
    }

    pub(super) fn begin_as(
        &self,
        name: &str,
        file: &Path,
        owner: &Role,
    ) -> highwater::testing::Result<Child> {
        let mut command = self.highwater_command(&self.role.url, &["run", file.to_str().unwrap_or_default()]);
        Child::spawn(name, command.env("HIGHWATER_EVOLVE_URL", &owner.url).as_std_mut())
    }

    async fn has_column(&self, column: &str) -> highwater::testing::Result<bool> {
        let sql = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'Payments' AND column_name = $1";
        Ok(self.database.query(sql, &[&column]).await?[0].get::<_, i64>(0) == 1)
    }
}

/// A table is made; then a column is added by two processes that start at once, while a third one writes, and somebody
/// reads for long, as pg_dump does.
#[tokio::test]
async fn core_a_table_grows_under_load_and_beside_a_dump() -> TestResult {
    const EACH: usize = 100;
    let world = World::new("pipeline-grows", PARTITIONS).await?;
    let owner = world.owner().await?;
    let fill = async |round: usize| {
        let record = |p, n| payment(p, n + EACH * round);
        world.producer.fill(&world.topic, PARTITIONS, EACH, record).await
    };
    fill(0).await?;
    let file = world.pipeline_file(&format!("{SINK}evolve = 'create'\n"))?;
    let first = world.begin_as("first", &file, &owner)?;
    first.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
    world.caught_up().await?;
    let table = world
        .database
        .query("SELECT tableowner::text FROM pg_tables WHERE tablename = 'Payments'", &[])
        .await?;
    assert_eq!(table[0].get::<_, &str>(0), owner.name);

    let dump = world.database.client().await?;
    dump.batch_execute(
        "SET application_name = 'pg_dump'; BEGIN; LOCK TABLE \"Payments\" IN ACCESS SHARE MODE",
    )
    .await?;
    let file = world.pipeline_file(&format!("{SINK}evolve = 'add_columns'\n{MORE}"))?;
    let (second, third) = (world.begin_as("second", &file, &owner)?, world.begin_as("third", &file, &owner)?);
    for process in [&second, &third] {
        process.wait_for_line(|text| text.contains("could not change the table yet"), PATIENCE).await?;
    }
    let named = |process: &Child| process.lines().iter().any(|line| line.text.contains("(pg_dump, "));
    assert!(named(&second) || named(&third), "{second} {third}");
    // Whoever reads and whoever writes goes on.
    let reader = world.database.client().await?;
    let (mut longest, mut reads, begun) = (Duration::ZERO, 0, Instant::now());
    let reading = async {
        while begun.elapsed() < Duration::from_secs(4) {
            let one = Instant::now();
            reader.query_one("SELECT count(*) FROM \"Payments\"", &[]).await?;
            (longest, reads) = (longest.max(one.elapsed()), reads + 1);
        }
        TestResult::Ok(())
    };
    let writing = async {
        fill(1).await?;
        Ok(world.caught_up().await?)
    };
    tokio::try_join!(reading, writing)?;
    println!("{reads} reads, the longest in {longest:?}");
    assert!(
        longest < Duration::from_millis(1_500) && reads > 20,
        "{reads} reads, the longest in {longest:?}"
    );
    assert!(!world.has_column("Account").await?);
    for process in [&second, &third] {
        assert!(process.exit_status().is_none(), "{process}");
        assert!(!process.lines().iter().any(|line| line.text.contains("claimed partition=")), "{process}");
    }
    dump.batch_execute("COMMIT").await?;
    for process in [&second, &third] {
        process.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
    }
    assert!(world.has_column("Account").await?);
    fill(2).await?;
    world.caught_up().await?;
    first.term()?;
    assert_eq!(first.wait(PATIENCE).await?, 0, "{first}");
    fill(3).await?;
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM \"Payments\"";
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    let after = "SELECT count(*) FROM \"Payments\" WHERE source_offset >= 300 AND \"Account\" IS NOT NULL";
    assert_eq!(world.number(after).await?, i64::from(PARTITIONS) * 100);
    for process in [&second, &third] {
        process.term()?;
        assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    }
    Ok(())
}

/// What a start says of tables that do not fit, and how it ends.
#[tokio::test]
async fn a_start_is_refused_for_tables_that_do_not_fit() -> TestResult {
    let world = World::new("pipeline-unfit", 1).await?;
    let owner = world.owner().await?;
    world.producer.fill(&world.topic, 1, 20, payment).await?;
    let run = async |evolve: &str| {
        let file = world.pipeline_file(&format!("{SINK}evolve = '{evolve}'\n"))?;
        world.highwater_at(&world.role.url, &["run", file.to_str().unwrap_or_default()]).await
    };
    let said = run("validate").await?.ended(2);
    assert!(said.stderr.contains("table \"Payments\": there is no such table"), "{said:?}");
    // Without `evolve_url` the worker's role may make nothing.
    let said = run("create").await?.ended(5);
    let create = "CREATE TABLE \"public\".\"Payments\" (\"amount\" numeric(12,2), \"id\" text, \"body\" jsonb, \
                  \"source_partition\" integer, \"source_offset\" bigint);";
    assert!(
        said.stderr.contains(create) && said.stderr.contains("GRANT CREATE, USAGE ON SCHEMA"),
        "{said:?}"
    );
    let said = run("print").await?.ended(2);
    assert!(
        said.stdout.starts_with(create) && said.stderr.contains("have the tables' owner run this"),
        "{said:?}"
    );
    assert_eq!(world.number("SELECT count(*) FROM pg_tables WHERE tablename = 'Payments'").await?, 0);
    // No partition was claimed, so nothing has moved.
    assert_eq!(
        world.number("SELECT count(*) FROM highwater.consumer_offset WHERE next_offset > 0").await?,
        0
    );

    let (client, connection) = tokio_postgres::connect(&owner.url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&said.stdout).await?;
    let file = world.pipeline_file(&format!("{SINK}evolve = 'print'\n"))?;
    let process = world.run("after", &file).await?;
    world.caught_up().await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");

    // One that waits for a lock stops like any other.
    client.batch_execute("BEGIN; LOCK TABLE \"Payments\" IN ACCESS SHARE MODE").await?;
    let file = world.pipeline_file(&format!("{SINK}evolve = 'add_columns'\n{MORE}"))?;
    let process = world.begin_as("waiting", &file, &owner)?;
    process.wait_for_line(|text| text.contains("could not change the table yet"), PATIENCE).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    client.batch_execute("COMMIT").await?;
    wait_until("nothing of it is left", PATIENCE, async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'highwater-evolve' \
                        AND datname = current_database()";
        Ok((world.number(sessions).await? == 0).then_some(()))
    })
    .await?;
    assert!(!world.has_column("Account").await?);
    Ok(())
}
