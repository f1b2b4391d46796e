//! `highwater infer`: what it prints is a pipeline that runs, into the table that it names.

use std::path::PathBuf;

use apache_avro::types::Value as Avro;
use highwater::testing::{Message, Oracle, wait_until};

use super::schemas::{FIRST, Registry, datum, framed};
use super::{PARTITIONS, payment};
use crate::support::{PATIENCE, TestResult, World};

impl World<'_> {
    /// A file that was made of a topic, with its table, which the workers may write.
    async fn inferred(&self, table: &str, more: &[&str]) -> TestResult<PathBuf> {
        let (topic, group) = (&self.topic, &self.group);
        let arguments = [&["infer", "--topic", topic, "--table", table], more].concat();
        let text = self.highwater_at(&self.role.url, &arguments).await?.ended(0).stdout;
        let create = text.lines().skip_while(|line| !line.starts_with("# CREATE TABLE"));
        let create: Vec<&str> = create.take_while(|line| !line.is_empty()).map(|line| &line[1..]).collect();
        self.database.execute(&create.join("\n")).await?;
        let grant = format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
            self.role.name
        );
        self.database.execute(&grant).await?;
        let path = std::env::temp_dir().join(format!("{group}.toml"));
        let named = text.lines().find(|line| line.starts_with("group = ")).expect("a group").to_owned();
        std::fs::write(&path, text.replace(&named, &format!("group = '{group}'")))?;
        for flag in ["--check", "--plan"] {
            self.command(&["run", flag], &path).await?.ended(0);
        }
        Ok(path)
    }
}

#[tokio::test]
async fn core_what_is_inferred_runs_into_the_table_that_it_names() -> TestResult {
    const EACH: usize = 50;
    let world = World::with_tables("infer", PARTITIONS, "").await?;
    world.producer.fill(&world.topic, PARTITIONS, EACH, payment).await?;
    world.producer.send(Message::to(&world.topic).partition(0).key("gone"))?;
    world.producer.flush().await?;
    let file = world.inferred("payments", &[]).await?;
    // What comes later, too.
    world.producer.fill(&world.topic, PARTITIONS, EACH, |p, n| payment(p, n + EACH)).await?;
    let process = world.run("inferred", &file).await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM payments \
                UNION ALL SELECT 0, 50"; // the tombstone
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    for partition in 0..PARTITIONS {
        for n in 0..2 * EACH {
            let (_, value) = payment(partition, n);
            let sql = "SELECT count(*) FROM payments WHERE id = $1::text::jsonb ->> 'id' AND ts = ($1::text::jsonb ->> 'ts')::bigint \
                       AND payment = $1::text::jsonb -> 'payment' AND note = $1::text::jsonb ->> 'note' \
                       AND tags = $1::text::jsonb -> 'tags'";
            let found: i64 = client.query_one(sql, &[&value]).await?.get(0);
            assert_eq!(found, 1, "{value}");
        }
    }
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

#[tokio::test]
async fn a_table_of_change_events_is_inferred_with_its_key() -> TestResult {
    let world = World::with_tables("infer-events", 1, "").await?;
    let send = |id: i32, value: Option<String>| {
        let message = Message::to(&world.topic).partition(0).key(format!(r#"{{"id":{id}}}"#));
        world.producer.send(if let Some(value) = value { message.value(value) } else { message })
    };
    for id in 0..10 {
        let row =
            format!(r#"{{"id":{id},"fullName":"n{id}","since":"2026-09-21T14:13:20Z","score":{id}.5}}"#);
        send(id, Some(format!(r#"{{"op":"c","before":null,"after":{row},"ts_ms":1790000000000}}"#)))?;
    }
    for id in 0..3 {
        send(id, Some(format!(r#"{{"op":"d","before":{{"id":{id}}},"after":null,"ts_ms":1790000000000}}"#)))?;
        send(id, None)?;
    }
    world.producer.flush().await?;
    let file = world.inferred("customers", &[]).await?;
    let process = world.run("inferred", &file).await?;
    world.caught_up().await?;
    wait_until("the rows are there", PATIENCE, async || {
        Ok((world.number("SELECT count(*) FROM customers").await? == 7).then_some(()))
    })
    .await?;
    let right = "SELECT count(*) FROM customers WHERE id > 2 AND full_name = 'n' || id AND score = id + 0.5 \
                 AND since = '2026-09-21T14:13:20Z'::timestamptz AND source_offset = id";
    assert_eq!(world.number(right).await?, 7);
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

#[tokio::test]
async fn a_topic_without_records_or_without_being_there_is_told() -> TestResult {
    let world = World::new("infer-none", 1).await?;
    let said = world.highwater(&["infer", "--topic", &world.topic]).await?.ended(2);
    assert!(said.stderr.contains("has no records to look at"), "{}", said.stderr);
    let said = world.highwater(&["infer", "--topic", &world.topic.to_uppercase()]).await?.ended(2);
    assert!(said.stderr.contains(&format!("did you mean {}", world.topic)), "{}", said.stderr);
    Ok(())
}

#[tokio::test]
async fn a_table_of_avro_is_inferred_by_its_schemas() -> TestResult {
    let world = World::with_tables("infer-avro", 1, "").await?;
    let registry = Registry::start()?;
    registry.has("/schemas/ids/1", "AVRO", r#""long""#, &serde_json::json!([]));
    registry.has("/schemas/ids/2", "AVRO", FIRST, &serde_json::json!([]));
    let send = |id: i32| {
        let fields = [
            ("id", Avro::Int(id)),
            ("amount", Avro::Decimal(123_i16.to_be_bytes().to_vec().into())),
            ("placed_at", Avro::TimestampMicros(1_790_000_000_123_456)),
            ("raw", Avro::Bytes(vec![0, 255])),
        ];
        let order = Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).into());
        let key = framed(1, &datum(r#""long""#, Avro::Long(id.into())));
        let message = Message::to(&world.topic).partition(0).key(key);
        world.producer.send(message.value(framed(2, &datum(FIRST, order))))
    };
    (0..10).try_for_each(send)?;
    world.producer.flush().await?;
    let file = world.inferred("orders", &["--registry", &registry.url]).await?;
    let columns = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull, ', ' ORDER BY attnum) \
                   FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0";
    let columns: String = world.database.query(columns, &[]).await?[0].get(0);
    assert_eq!(
        columns,
        "id integer true, amount numeric(20,2) true, placed_at timestamp with time zone true, raw bytea true, \
         source_partition integer true, source_offset bigint true"
    );
    let process = world.run("inferred", &file).await?;
    (10..20).try_for_each(send)?;
    world.producer.flush().await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM orders";
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    let right = "SELECT count(*) FROM orders WHERE id = source_offset AND amount = 1.23 AND raw = '\\x00ff' \
                 AND placed_at = '2026-09-21T14:13:20.123456Z'";
    assert_eq!(world.number(right).await?, 20);
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
