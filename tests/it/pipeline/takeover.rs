//! A connector taken over, step by step as docs/from-connect.md says: Debezium's JDBC sink in a real Kafka Connect writes
//! under load, is stopped or killed in the middle, and a pipeline goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::testing::{Connect, Error, Oracle, Producer, Result, Role, unique, wait_until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::PARTITIONS;
use crate::support::{PATIENCE, TestResult, World};

/// Who has written which payment into which table, and how often.
const TABLES: &str = "\
    CREATE TABLE payments (id text PRIMARY KEY, account text, amount numeric(12,2), part int NOT NULL, n int NOT NULL);
    CREATE TABLE facts (id text, account text, amount numeric(12,2), part int NOT NULL, n int NOT NULL);
    CREATE TABLE writes (part int NOT NULL, n bigint NOT NULL, writer text NOT NULL DEFAULT current_user);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO writes VALUES (NEW.part, NEW.n); RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON facts FOR EACH ROW EXECUTE FUNCTION note();";

const TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// In Connect's envelope, as its JSON converter wants it: key and value. `n` is the record's offset, too.
fn payment(partition: i32, n: usize) -> (String, String) {
    let field = |name: &str, kind: &str| json!({"field": name, "type": kind, "optional": name != "id"});
    let envelope = |fields: Value, payload: Value| {
        json!({"schema": {"type": "struct", "optional": false, "fields": fields}, "payload": payload})
            .to_string()
    };
    let id = format!("t{partition}-{n}");
    let key = envelope(json!([field("id", "string")]), json!({"id": id}));
    let fields =
        [("id", "string"), ("account", "string"), ("amount", "double"), ("part", "int32"), ("n", "int32")];
    let fields: Vec<Value> = fields.iter().map(|(name, kind)| field(name, kind)).collect();
    let account = (!n.is_multiple_of(5)).then(|| format!("a{}", n % 7));
    let payload = json!({"id": id, "account": account, "amount": 0.25, "part": partition, "n": n});
    (key, envelope(Value::from(fields), payload))
}

/// Records to all partitions, as long as they are wanted.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<(Producer, usize)>>,
}

impl Load {
    fn start(world: &World<'static>) -> Result<Self> {
        let (kafka, topic) = (world.kafka, world.topic.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (told, producer) = (Arc::clone(&stop), kafka.producer()?);
        let task = tokio::spawn(async move {
            let mut each = 0;
            while !told.load(Ordering::Relaxed) {
                producer.fill(&topic, PARTITIONS, 10, |p, n| payment(p, each + n)).await?;
                each += 10;
                // Some hundred a second.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok((producer, each))
        });
        Ok(Self { stop, task })
    }

    async fn end(self) -> Result<(Producer, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.map_err(|error| Error::caused("the load", error))?
    }
}

struct Takeover {
    world: World<'static>,
    connect: Connect,
    connector: String,
    /// The connector's, so that it is known who has written.
    role: Role,
    table: &'static str,
}

impl Takeover {
    async fn new(table: &'static str, options: Value) -> Result<Self> {
        let mut world = World::with_tables("takeover", PARTITIONS, TABLES).await?;
        let role = world.database.role("connect").await?;
        let grant = format!("GRANT SELECT, INSERT, UPDATE ON payments, facts, writes TO {}", role.name);
        world.database.execute(&grant).await?;
        let connect = Connect::start(world.kafka).await?;
        let connector = unique(table);
        world.group = format!("connect-{connector}");
        let database = world.database.url().rsplit_once('@').map(|(_, at)| at).unwrap_or_default();
        let mut config = json!({
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "topics": world.topic,
            "tasks.max": "2",
            "connection.url": format!("jdbc:postgresql://{database}"),
            "connection.username": role.name,
            "connection.password": role.password,
            "collection.name.format": table,
            "field.include.list": format!("{0}:id,{0}:account,{0}:amount,{0}:part,{0}:n", world.topic),
            "consumer.override.auto.offset.reset": "earliest",
            "consumer.override.session.timeout.ms": "6000",
        });
        for (name, value) in options.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        connect.configure(&connector, &config).await?;
        Ok(Self { world, connect, connector, role, table })
    }

    /// Steps 1 and 2: the file, from what Connect says of the connector.
    async fn import(&self) -> TestResult<PathBuf> {
        let mut found = self.connect.request("GET", &format!("/connectors/{}", self.connector), None).await?;
        let directory = std::env::temp_dir().join(&self.world.group);
        std::fs::create_dir_all(&directory)?;
        let (json, file) = (directory.join("sink.json"), directory.join("pipeline.toml"));
        std::fs::write(&json, found.to_string())?;
        let import = ["import-connect", json.to_str().unwrap_or_default()];
        // The converters are the worker's, and what they are is nowhere in the connector's configuration.
        let said = self.world.highwater(&import).await?.ended(2);
        assert!(said.stderr.contains("`value.converter`: is missing") && said.stdout.is_empty(), "{said:?}");
        for of in ["key", "value"] {
            found["config"][format!("{of}.converter")] = json!("org.apache.kafka.connect.json.JsonConverter");
            found["config"][format!("{of}.converter.schemas.enable")] = json!("true");
        }
        std::fs::write(&json, found.to_string())?;
        let said = self.world.highwater(&import).await?.ended(0);
        assert!(!said.stdout.contains(&self.role.password) && said.stderr.contains("brokers"), "{said:?}");
        std::fs::write(&file, &said.stdout)?;
        let check = ["run", "--check", file.to_str().unwrap_or_default()];
        let said = self.world.highwater(&check).await?.ended(0);
        let expected = format!("{} into public.{} (5 columns)\n", self.world.topic, self.table);
        assert_eq!(said.stdout, expected);
        Ok(file)
    }

    /// Step 6.
    async fn group_is_empty(&self) -> Result<()> {
        wait_until("the group is empty", PATIENCE, async || {
            let members = ["--describe", "--members", "--group", &self.world.group];
            let output = self.world.kafka.tool(TOOL, &members).await?;
            let text = output.stdout + &output.stderr;
            Ok(text.contains("has no active members").then_some(()))
        })
        .await
    }

    /// Waits until a role has written so many rows.
    async fn written(&self, by: &Role, least: i64) -> Result<()> {
        wait_until("rows are written", PATIENCE, async || {
            Ok((self.writes(&format!("writer = '{}'", by.name)).await? >= least).then_some(()))
        })
        .await
    }

    async fn writes(&self, condition: &str) -> Result<i64> {
        self.world.number(&format!("SELECT count(*) FROM writes WHERE {condition}")).await
    }

    /// Ends the load, and looks at who has written what: below the offsets that were adopted the connector alone, and beyond
    /// them the pipeline, each record once. Gives how often the connector wrote what it had written already, and how many
    /// records both have written.
    async fn verify(&self, load: Load) -> TestResult<(i64, i64)> {
        let (producer, each) = load.end().await?;
        let world = &self.world;
        world.caught_up().await?;
        let ours = format!("SELECT part, n FROM writes WHERE writer = '{}'", world.role.name);
        let theirs = format!("SELECT part, n FROM writes WHERE writer = '{}'", self.role.name);
        let adopted = "highwater.offset_event a WHERE a.kind = 'adopt' AND a.partition = part";
        let below = format!("n < (SELECT to_offset FROM {adopted})");
        let rows = format!("{ours} UNION ALL SELECT DISTINCT part, n FROM ({theirs} AND {below}) t");
        let client = world.database.client().await?;
        Oracle::new(producer.ledger(), &world.topic).compare(&client, &rows).await?.assert_exact();
        let ours_below = world.number(&format!("SELECT count(*) FROM ({ours} AND {below}) o")).await?;
        assert_eq!(ours_below, 0, "the pipeline has written what the connector had committed");
        // The rows are what was produced.
        let wrong = format!(
            "SELECT count(*) FROM {} WHERE (id, account, amount) IS DISTINCT FROM \
             ('t' || part || '-' || n, CASE WHEN n % 5 > 0 THEN 'a' || n % 7 END, 0.25)",
            self.table
        );
        assert_eq!(world.number(&wrong).await?, 0);
        let records = i64::try_from(each)? * i64::from(PARTITIONS);
        let distinct = format!("SELECT count(DISTINCT (part, n)) FROM {}", self.table);
        assert_eq!(world.number(&distinct).await?, records);
        let again =
            world.number(&format!("SELECT count(*) - count(DISTINCT (part, n)) FROM ({theirs}) t")).await?;
        let both = world.number(&format!("SELECT count(*) FROM ({ours} INTERSECT {theirs}) b")).await?;
        println!("{records} records; {again} written again by the connector itself, {both} by both");
        Ok((again, both))
    }
}

fn upsert() -> Value {
    json!({"insert.mode": "upsert", "primary.key.mode": "record_key", "primary.key.fields": "id"})
}

fn insert() -> Value {
    json!({"insert.mode": "insert", "primary.key.mode": "none"})
}

/// Stopped as the page says, under load: what the connector has committed is all that it has written, and the pipeline has
/// written all the rest, each record once, though one of its processes is killed.
async fn stopped_and_taken_over(table: &'static str, options: Value) -> TestResult {
    let takeover = Takeover::new(table, options).await?;
    let world = &takeover.world;
    let load = Load::start(world)?;
    takeover.written(&takeover.role, 500).await?;
    let file = takeover.import().await?;
    let stop = format!("/connectors/{}/stop", takeover.connector);
    takeover.connect.request("PUT", &stop, None).await?;
    takeover.connect.wait_stopped(&takeover.connector).await?;
    takeover.group_is_empty().await?;
    let first = world.run("first", &file).await?;
    takeover.written(&world.role, 500).await?;
    let second = world.begin("second", &file)?;
    first.kill()?;
    second.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
    takeover.written(&world.role, 1_000).await?;
    let (_, both) = takeover.verify(load).await?;
    assert_eq!(both, 0, "the connector had written more than it has committed");
    second.term()?;
    assert_eq!(second.wait(PATIENCE).await?, 0, "{second}");

    // Back again: the connector goes on where the pipeline has stopped.
    let before = takeover.writes(&format!("writer = '{}'", takeover.role.name)).await?;
    takeover.connect.request("PUT", &format!("/connectors/{}/resume", takeover.connector), None).await?;
    takeover.connect.wait_running(&takeover.connector).await?;
    let more = world.kafka.producer()?;
    more.fill(&world.topic, PARTITIONS, 10, |p, n| payment(p, 1_000_000 + n)).await?;
    takeover.written(&takeover.role, before + 30).await?;
    let stop = format!("/connectors/{}/stop", takeover.connector);
    takeover.connect.request("PUT", &stop, None).await?;
    takeover.connect.wait_stopped(&takeover.connector).await?;
    let written = takeover.writes(&format!("writer = '{}'", takeover.role.name)).await?;
    assert_eq!(written, before + 30, "what the pipeline had applied was written again");
    Ok(())
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_connector_that_upserts_is_stopped_and_taken_over() -> TestResult {
    stopped_and_taken_over("payments", upsert()).await
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_connector_that_inserts_is_stopped_and_taken_over() -> TestResult {
    stopped_and_taken_over("facts", insert()).await
}

/// Killed, it has written more than it has committed, and an append without a key would write that again: so the right
/// offsets are committed first, by what it has written, as docs/adoption.md says.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_connector_that_was_killed_is_taken_over_by_what_it_has_written() -> TestResult {
    let takeover = Takeover::new("facts", insert()).await?;
    let world = &takeover.world;
    let load = Load::start(world)?;
    takeover.written(&takeover.role, 500).await?;
    let file = takeover.import().await?;
    takeover.connect.kill().await?;
    // Its members are in the group until their session ends, and so it is refused.
    let refused = world.begin("too early", &file)?;
    let status = refused.wait(PATIENCE).await?;
    let told = refused.lines().iter().any(|line| line.text.contains("client.id connector-consumer-"));
    assert!(status == 4 && told, "{refused}");
    takeover.group_is_empty().await?;
    let at = "SELECT part, max(n) + 1 FROM facts GROUP BY 1 ORDER BY 1";
    let mut beyond = 0;
    for row in world.database.query(at, &[]).await? {
        let (partition, next): (i32, i32) = (row.get(0), row.get(1));
        let committed = world.kafka.committed(&world.group, &world.topic, partition).await?;
        beyond += i64::from(next) - committed.map_or(0, |(offset, _)| offset);
        let (topic, next) = (format!("{}:{partition}", world.topic), next.to_string());
        let group = ["--group", &world.group, "--topic", &topic];
        let reset = ["--reset-offsets", "--to-offset", &next, "--execute"];
        let output = world.kafka.tool(TOOL, &[&group[..], &reset].concat()).await?;
        assert_eq!(output.status, Some(0), "{output:?}");
    }
    println!("{beyond} records written beyond what was committed");
    let process = world.run("process", &file).await?;
    takeover.written(&world.role, 500).await?;
    let (_, both) = takeover.verify(load).await?;
    assert_eq!(both, 0, "written by both");
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// … and by an upsert its last rows are written once more, with the same content.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_connector_that_upserts_may_be_killed() -> TestResult {
    let takeover = Takeover::new("payments", upsert()).await?;
    let world = &takeover.world;
    let load = Load::start(world)?;
    takeover.written(&takeover.role, 500).await?;
    let file = takeover.import().await?;
    takeover.connect.kill().await?;
    takeover.group_is_empty().await?;
    let process = world.run("process", &file).await?;
    takeover.written(&world.role, 500).await?;
    takeover.verify(load).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
