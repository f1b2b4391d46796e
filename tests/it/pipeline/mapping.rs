//! What a file makes of records is on record, and what it made of them before.

use std::path::Path;

use highwater::testing::Oracle;

use super::{PARTITIONS, payment};
use crate::support::{PATIENCE, TestResult, World};

const SINK: &str = "[[sink]]\ntopic = 'TOPIC'\ntable = 'payments'\ncolumns.id = 'value.id'\n\
                    provenance = { partition = 'source_partition', offset = 'source_offset' }\n";
const ACCOUNT: &str = "columns.account = 'value.payment.account'\n";
const EACH: usize = 20;

impl World<'_> {
    /// Two processes that start at once with a file apply what is there, and stop.
    async fn twice(&self, file: &Path) -> TestResult {
        let both = [self.begin("one", file)?, self.begin("other", file)?];
        for process in &both {
            process.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
        }
        self.producer.fill(&self.topic, PARTITIONS, EACH, payment).await?;
        self.caught_up().await?;
        for process in &both {
            process.term()?;
            assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
        }
        Ok(())
    }

    async fn mappings(&self) -> TestResult<serde_json::Value> {
        let arguments = ["offsets", "mappings", "--group", &self.group, "--json"];
        Ok(self.highwater(&arguments).await?.ended(0).json())
    }

    fn positions(&self, offset: usize) -> serde_json::Value {
        let all = (0..PARTITIONS).map(|partition| (partition.to_string(), serde_json::Value::from(offset)));
        let all: serde_json::Map<_, _> = all.collect();
        serde_json::json!({ self.topic.as_str(): all })
    }
}

#[tokio::test]
async fn changes_of_a_files_mapping_are_on_record_once_each() -> TestResult {
    let world = World::with_tables("pipeline-mapping", PARTITIONS, "\
        CREATE TABLE payments (id text NOT NULL, account text, source_partition int NOT NULL, source_offset bigint NOT NULL)")
        .await?;
    // The first, then another; tuning is none; and back.
    world.twice(&world.pipeline_file(SINK)?).await?;
    let wider = format!("{SINK}{ACCOUNT}");
    world.twice(&world.pipeline_file(&wider)?).await?;
    world.twice(&world.pipeline_file(&format!("lanes = 2\n{wider}"))?).await?;
    world.twice(&world.pipeline_file(SINK)?).await?;
    let mappings = world.mappings().await?;
    let seen: Vec<_> = mappings.as_array().into_iter().flatten().collect();
    let added = "table payments: column account added (value.payment.account)";
    let left_out = "table payments: column account left out (it was value.payment.account)";
    for (change, (words, offset)) in
        seen.iter().rev().zip([(vec![], 0), (vec![added], EACH), (vec![left_out], 3 * EACH)])
    {
        assert_eq!(change["changes"], serde_json::json!(words), "{mappings}");
        assert_eq!(change["positions"], world.positions(offset), "{mappings}");
        assert_eq!(
            (&change["program"], &change["version"]),
            (&"shop".into(), &env!("CARGO_PKG_VERSION").into())
        );
        assert_eq!(change["mapping"]["payments"]["column id"], "value.id", "{mappings}");
        let worker =
            format!("SELECT count(*) FROM highwater.worker_status WHERE owner = {}", change["worker"]);
        assert_eq!(world.number(&worker.replace('"', "'")).await?, 1);
    }
    assert_eq!(seen.len(), 3, "{mappings}");
    let said = world.highwater(&["offsets", "mappings", "--group", &world.group]).await?.ended(0);
    let from = format!("{}:0={EACH} {}:1={EACH}", world.topic, world.topic);
    for words in [added, left_out, "the first on record", &from] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    // The rows say the same.
    let wrong = format!(
        "SELECT count(*) FROM payments WHERE (account IS NOT NULL) <> (source_offset >= {EACH} AND source_offset < {})",
        3 * EACH
    );
    assert_eq!(world.number(&wrong).await?, 0);

    // The last stays, however old.
    world
        .database
        .execute("UPDATE highwater.mapping_change SET occurred_at = now() - interval '40 days'")
        .await?;
    let prune = format!("SELECT highwater.prune_history('{}', 86400, 100)", world.group);
    assert_eq!(world.number(&prune).await?, 2);
    assert_eq!(world.mappings().await?.as_array().map(Vec::len), Some(1));
    // Tables of an earlier release: it goes on, and says so.
    world.database.execute("DROP TABLE highwater.mapping_change").await?;
    let process = world.begin("older tables", &world.pipeline_file(&wider)?)?;
    process.wait_for_line(|text| text.contains("mapping is not kept on record"), PATIENCE).await?;
    world.producer.fill(&world.topic, PARTITIONS, EACH, payment).await?;
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM payments";
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
