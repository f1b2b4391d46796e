//! Tables that are named by their records' topics: those that are there at the start, one that comes later, one that makes no
//! name, one whose table is another sink's, and one that another sink names.

use highwater::testing::Oracle;

use crate::support::{PATIENCE, TestResult, World};

const SINK: &str = "\
    [[sink]]
    topic = '^TOPIC(\\.[a-z]+)?$'
    table = 'public.{topic[1]}'
    evolve = 'create'
    columns.id = { from = 'value.id', type = 'text' }
    provenance = { topic = 'source_topic', partition = 'source_partition', offset = 'source_offset' }
    [[sink]]
    topic = 'TOPIC.own'
    table = 'public.taken'
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
    let (own, taken) = (format!("{}.own", world.topic), format!("{}.taken", world.topic));
    for topic in [&own, &taken] {
        world.another_topic((topic, 1)).await?;
        world.producer.fill(topic, 1, EACH, record).await?;
    }
    let file = world.pipeline_file(SINK)?;
    let process = world.begin_as("process", &file, &owner)?;
    for (topic, _) in [&orders, &customers] {
        world.at((topic, 2), async |world| world.caught_up().await).await?;
    }
    // A topic whose table another sink writes halts, alone, from the start.
    let halt = world.at((&taken, 1), async |world| world.reported_halt(0).await).await?;
    assert!(halt.contains("another sink writes it, too"), "{halt}");
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
    // Whatever the pattern is, that topic goes where it is named, and there is no other table of it.
    world.at((&own, 1), async |world| world.caught_up().await).await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM public.taken";
    Oracle::new(world.producer.ledger(), &own).compare(&client, rows).await?.assert_exact();
    assert_eq!(world.number("SELECT count(*) FROM pg_class WHERE relname = 'own'").await?, 0);
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
