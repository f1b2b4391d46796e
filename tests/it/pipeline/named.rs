//! Tables that are named by their records' topics: those that are there at the start, one that comes later, and one that
//! makes no name.

use highwater::testing::Oracle;

use crate::support::{PATIENCE, TestResult, World};

const SINK: &str = "\
    [[sink]]
    topic = '^TOPIC(\\.[a-z]+)?$'
    table = 'public.{topic[1]}'
    evolve = 'create'
    columns.id = { from = 'value.id', type = 'text' }
    provenance = { topic = 'source_topic', partition = 'source_partition', offset = 'source_offset' }
";

#[tokio::test]
async fn core_tables_are_named_by_their_topics() -> TestResult {
    const EACH: usize = 50;
    let mut world = World::new("named", 1).await?;
    let owner = world.owner().await?;
    let [orders, customers, refunds] =
        ["orders", "customers", "refunds"].map(|name| (format!("{}.{name}", world.topic), name));
    let record = |partition: i32, n: usize| (format!("k{n}"), format!(r#"{{"id":"{partition}-{n}"}}"#));
    for (topic, _) in [&orders, &customers] {
        world.another_topic((topic, 2)).await?;
        world.producer.fill(topic, 2, EACH, record).await?;
    }
    let file = world.pipeline_file(SINK)?;
    let process = world.begin_as("process", &file, &owner)?;
    for (topic, _) in [&orders, &customers] {
        world.at((topic, 2), async |world| world.caught_up().await).await?;
    }
    // While it runs; and records of the others, which are not lost while it begins anew.
    world.another_topic((&refunds.0, 2)).await?;
    for (topic, _) in [&refunds, &orders] {
        world.producer.fill(topic, 2, EACH, record).await?;
    }
    process.wait_for_line(|text| text.contains("a topic is new: the worker begins anew"), PATIENCE).await?;
    for (topic, table) in [&orders, &customers, &refunds] {
        world
            .at((topic, 2), async |world| {
                world.caught_up().await?;
                world.assert_ledger_gapless().await
            })
            .await?;
        let client = world.database.client().await?;
        let rows = format!("SELECT source_partition, source_offset FROM {table}");
        Oracle::new(world.producer.ledger(), topic).compare(&client, &rows).await?.assert_exact();
        let others = format!("SELECT count(*) FROM {table} WHERE source_topic <> '{topic}'");
        assert_eq!(world.number(&others).await?, 0, "{table}");
    }
    // A topic without the part that names the table halts, alone.
    let lone = world.topic.clone();
    world.producer.fill(&lone, 1, 1, record).await?;
    let halt = world.reported_halt(0).await?;
    assert!(halt.contains("has no part 1 between its dots"), "{halt}");
    world.producer.fill(&orders.0, 2, 1, record).await?;
    world.at((&orders.0, 2), async |world| world.caught_up().await).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
