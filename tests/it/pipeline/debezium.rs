//! A real Debezium beside a pipeline: a PostgreSQL server is read by a connector in a real Kafka Connect, and its tables
//! are at the target what they are at the source. What Connect repeats after a kill (it is at-least-once), upserts by
//! key take.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::testing::{Connect, Database, Error, Postgres, Result, wait_until};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, TestResult, World};

/// Large values (`notes.body`) come with every event only by REPLICA IDENTITY FULL; so far others are rejected.
const SOURCE: &str = "\
    CREATE SEQUENCE ids;
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, balance numeric(12,2), born date,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), seen timestamp, doc jsonb, tags text[], hash bytea,
        uid uuid, score float8, active bool);
    CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers ON UPDATE CASCADE,
        amount numeric(20,4) NOT NULL, placed_at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL, n int NOT NULL);
    ALTER TABLE notes REPLICA IDENTITY FULL;
    CREATE FUNCTION some_customer() RETURNS int LANGUAGE sql AS
        'SELECT id FROM customers OFFSET floor(random() * (SELECT count(*) FROM customers)) LIMIT 1';
    CREATE FUNCTION some_note() RETURNS int LANGUAGE sql AS
        'SELECT id FROM notes OFFSET floor(random() * (SELECT count(*) FROM notes)) LIMIT 1';
    CREATE FUNCTION large() RETURNS text LANGUAGE sql AS
        'SELECT string_agg(md5(random()::text || i), '''') FROM generate_series(1, 150) i';
    -- One transaction; `keys`: changes of keys are among them.
    CREATE PROCEDURE churn(keys bool) LANGUAGE plpgsql AS $$
    DECLARE one int := some_customer(); other int := nextval('ids'); kind int := floor(random() * 12);
    BEGIN
        IF kind < 3 OR one IS NULL THEN
            INSERT INTO customers VALUES (other, 'Zoë \"' || other || '\\', round((random() * 1e9)::numeric, 2),
                current_date - other, DEFAULT, clock_timestamp()::timestamp, jsonb_build_object('n', other, 'é', 1.10),
                ARRAY['a,b', NULL, other::text], decode(md5(other::text), 'hex'), gen_random_uuid(), random(), random() < 0.5);
            INSERT INTO orders SELECT nextval('ids'), other, random() * 1e12 FROM generate_series(1, 3);
        ELSIF kind < 5 THEN
            UPDATE customers SET balance = balance + 0.01, seen = NULL, doc = NULL, tags = '{}', active = NOT active,
                changed_at = clock_timestamp() WHERE id = one;
            UPDATE orders SET amount = amount + 1 WHERE customer = one;
        ELSIF kind = 5 THEN
            DELETE FROM orders WHERE customer = one;
            DELETE FROM customers WHERE id = one;
        ELSIF kind = 6 AND keys THEN
            UPDATE customers SET id = other WHERE id = one;
        ELSIF kind = 7 THEN
            INSERT INTO notes VALUES (other, large(), 0);
        ELSIF kind < 10 THEN
            UPDATE notes SET n = n + 1 WHERE id = some_note();
        ELSIF kind = 10 THEN
            -- Both in one transaction: the same key goes and comes back.
            DELETE FROM notes WHERE id = (SELECT min(id) FROM notes) RETURNING id INTO one;
            IF FOUND THEN INSERT INTO notes VALUES (one, large(), -1); END IF;
        ELSE
            INSERT INTO customers (id, name) VALUES (other, 'of a transaction that is rolled back');
            ROLLBACK;
        END IF;
    END $$;
    -- What text would have to be spelled right for, and what is not there.
    INSERT INTO customers VALUES
        (nextval('ids'), 'NaN', 'NaN', '0001-01-01', '2026-09-21 14:13:20.123456+02', '1969-12-31 23:59:59.999999', '[]', '{}', '',
            '00000000-0000-0000-0000-000000000000', 'NaN', NULL),
        (nextval('ids'), 'infinity', 0, '1969-12-31', 'infinity', 'infinity', '1', '{}', NULL, NULL, 'Infinity', false),
        (nextval('ids'), '', 0, '1969-12-31', '1900-01-01Z', '-infinity', 'null', ARRAY['null'], '\\x00ff', NULL, '-Infinity', true),
        (nextval('ids'), 'null', NULL, NULL, '2099-12-31 23:59:59.999999Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL);";

/// No foreign key: between topics there is no order.
const TARGET: &str = "\
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, balance numeric(12,2), born date,
        changed_at timestamptz NOT NULL, seen timestamp, doc jsonb, tags text[], hash bytea, uid uuid, score float8, active bool);
    CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount numeric(20,4) NOT NULL, placed_at timestamptz NOT NULL);
    CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL, n int NOT NULL);";

const CUSTOMERS: &str = "\
    table = 'customers'
    envelope = 'debezium'
    mode = 'upsert'
    bytea = 'base64'
    columns.id = 'value.id'
    columns.name = 'value.name'
    columns.balance = 'value.balance'
    columns.born = { from = 'value.born', unit = 'd' }
    columns.changed_at = 'value.changed_at'
    columns.seen = { from = 'value.seen', unit = 'us' }
    columns.doc = 'value.doc'
    columns.tags = 'value.tags'
    columns.hash = 'value.hash'
    columns.uid = 'value.uid'
    columns.score = 'value.score'
    columns.active = 'value.active'
";

const ORDERS: &str = "\
    table = 'orders'
    envelope = 'debezium'
    mode = 'upsert'
    columns = ['id', 'customer', 'amount', 'placed_at']
";

const NOTES: &str = "\
    table = 'notes'
    envelope = 'debezium'
    mode = 'upsert'
    columns = ['id', 'body', 'n']
";

/// A server that is read, a connector that reads it, and the world of the pipeline.
struct Mirror {
    source: Database,
    connect: Connect,
    connector: String,
    world: World<'static>,
    /// Held, so that it runs.
    _server: Postgres,
}

impl Mirror {
    async fn new(hint: &str, target: &str, properties: &[(&str, &str)]) -> Result<Self> {
        let settings = [("wal_level", "logical"), ("fsync", "off")];
        let world = World::with_tables(hint, 1, target).await?;
        let (server, connect) =
            tokio::try_join!(Postgres::start_local(&settings), Connect::start_with(world.kafka, properties))?;
        let source = server.fresh_database("shop").await?;
        source.execute(SOURCE).await?;
        Ok(Self { source, connect, connector: world.topic.replace('-', "_"), world, _server: server })
    }

    /// Starts the connector on these tables, with these options besides.
    async fn follow(&self, tables: &[&str], options: serde_json::Value) -> Result<()> {
        let url: tokio_postgres::Config = self.source.url().parse()?;
        let password = url.get_password().map(String::from_utf8_lossy);
        let tables: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
        let mut config = json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1",
            "database.port": url.get_ports()[0].to_string(),
            "database.user": url.get_user(),
            "database.password": password,
            "database.dbname": self.source.name(),
            "plugin.name": "pgoutput",
            "publication.autocreate.mode": "filtered",
            "table.include.list": tables.join(","),
            "topic.prefix": self.world.topic,
            "decimal.handling.mode": "string",
            "poll.interval.ms": "50",
        });
        for (name, value) in options.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        self.connect.configure(&self.connector, &config).await
    }

    /// Waits until the connector has committed that its snapshot is done. Killed before, it takes another one, and of rows
    /// that were deleted in between nobody ever tells.
    async fn snapshot_committed(&self) -> Result<()> {
        let path = format!("/connectors/{}/offsets", self.connector);
        wait_until("the snapshot is committed", PATIENCE, async || {
            let found = self.connect.request("GET", &path, None).await?;
            let offset = &found["offsets"][0]["offset"];
            Ok((offset["lsn"].is_number() && offset["snapshot"].is_null()).then_some(()))
        })
        .await
    }

    /// So many transactions at the source.
    async fn churn(&self, count: usize, keys: bool) -> TestResult {
        let client = self.source.client().await?;
        for _ in 0..count {
            client.batch_execute(&format!("CALL churn({keys})")).await?;
        }
        Ok(())
    }

    /// Transactions at the source, one after the other, until they are to stop.
    fn load(&self, keys: bool) -> Load {
        let (source, stop) = (self.source.clone(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let client = source.client().await?;
            let mut count = 0;
            while !told.load(Ordering::Relaxed) {
                client.batch_execute(&format!("CALL churn({keys})")).await?;
                count += 1;
                // Some hundred events a second, which a busy machine can follow.
                tokio::time::sleep(Duration::from_millis(8)).await;
            }
            Ok(count)
        });
        Load { stop, task }
    }

    async fn positions(&self) -> Result<i64> {
        self.world.number("SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset").await
    }

    /// Waits until so many records more are applied.
    async fn applied(&self, more: i64) -> Result<()> {
        let enough = self.positions().await? + more;
        wait_until("more events are applied", PATIENCE, async || {
            Ok((self.positions().await? >= enough).then_some(()))
        })
        .await
    }

    /// Count and checksum of each table, here or there.
    async fn checksums(database: &Database, tables: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut checksums = Vec::new();
        for (table, columns) in tables {
            let sql = format!(
                "SELECT '{table} ' || count(*) || ' ' || coalesce(md5(string_agg(md5(row::text), '' ORDER BY id)), '') \
                 FROM (SELECT {columns} FROM {table}) row"
            );
            checksums.push(database.query(&sql, &[]).await?[0].get(0));
        }
        Ok(checksums)
    }

    /// With the source at rest: waits until its tables are the target's, and then until nothing is left that could change
    /// that.
    async fn assert_equal(&self, topics: &[String], tables: &[(&str, &str)]) -> TestResult {
        let expected = Self::checksums(&self.source, tables).await?;
        let equal = wait_until("source and target are equal", PATIENCE, async || {
            // Not so often: it reads all.
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok((Self::checksums(&self.world.database, tables).await? == expected).then_some(()))
        })
        .await;
        if equal.is_err() {
            let found = Self::checksums(&self.world.database, tables).await?;
            let standing = "SELECT concat_ws(' ', topic, partition, state, next_offset, log_end_offset, reason) \
                            FROM highwater.partition_status JOIN highwater.consumer_offset USING (group_id, topic, partition)";
            for row in self.world.database.query(standing, &[]).await? {
                println!("{}", row.get::<_, &str>(0));
            }
            // Not by an error: so that the processes tell what they wrote.
            panic!("the source has {expected:?}, the target {found:?}");
        }
        let mut ends = 0;
        for topic in topics {
            for partition in 0..self.world.kafka.partition_count(topic).await?.unwrap_or_default() {
                ends += self.world.kafka.watermarks(topic, partition).await?.1;
            }
        }
        wait_until("all events are applied", PATIENCE, async || {
            Ok((self.positions().await? >= ends).then_some(()))
        })
        .await?;
        assert_eq!(Self::checksums(&self.world.database, tables).await?, expected);
        Ok(())
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.world.topic)
    }

    fn file(&self, sinks: &str) -> Result<PathBuf> {
        self.world.pipeline_file(&format!("batch_max_records = 200\n{sinks}"))
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<usize>>,
}

impl Load {
    /// How many transactions there were.
    async fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.map_err(|error| Error::caused("the load at the source", error))?
    }
}

/// A snapshot under load, five processes of which the older is killed, Connect killed and restarted, a column that is
/// added; JSON without schemas. At the end, a TRUNCATE.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_database_is_followed_through_debezium_under_kills() -> TestResult {
    let mirror = Mirror::new("mirror", TARGET, &[]).await?;
    let world = &mirror.world;
    let topics = ["customers", "orders", "notes"].map(|table| mirror.topic(table));
    for (topic, partitions) in topics.iter().zip([3, 3, 1]) {
        world.kafka.create_topic(topic, partitions).await?;
    }
    let sinks: String = topics
        .iter()
        .zip([CUSTOMERS, ORDERS, NOTES])
        .map(|(topic, sink)| format!("[[sink]]\ntopic = '{topic}'\n{sink}\n"))
        .collect();
    mirror.churn(200, true).await?;

    let load = mirror.load(true);
    let options = json!({
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        // By default, truncations are left out.
        "skipped.operations": "none",
    });
    let options = with_json_converters(options);
    mirror.follow(&["customers", "orders", "notes"], options).await?;
    let file = mirror.file(&sinks)?;
    let mut older = world.run("process-0", &file).await?;
    mirror.snapshot_committed().await?;
    for round in 1..=4 {
        let younger = world.begin(&format!("process-{round}"), &file)?;
        mirror.applied(300).await?;
        match round {
            1 => {
                mirror.connect.kill().await?;
                mirror.connect.restart().await?;
            }
            3 => mirror.connect.restart().await?,
            _ => {}
        }
        older.kill()?;
        younger.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
        mirror.connect.wait_running(&mirror.connector).await?;
        mirror.applied(300).await?;
        older = younger;
    }

    // A column: the target first, then the file, then the source.
    world.database.execute("ALTER TABLE customers ADD COLUMN level int").await?;
    older.term()?;
    assert_eq!(older.wait(PATIENCE).await?, 0, "{older}");
    let columns = "columns.level = 'value.level'\n    columns.active";
    let file = mirror.file(&sinks.replacen("columns.active", columns, 1))?;
    let process = world.run("with the column", &file).await?;
    mirror.source.execute("ALTER TABLE customers ADD COLUMN level int").await?;
    mirror.source.execute("UPDATE customers SET level = id % 7 WHERE id % 2 = 0").await?;
    mirror.applied(300).await?;

    let transactions = load.end().await?;
    let tables = [("customers", "*"), ("orders", "*"), ("notes", "*")];
    mirror.assert_equal(&topics, &tables).await?;
    let mut events = 0;
    for topic in &topics {
        events += world.kafka.read(topic).await?.len();
    }
    let levels = world.number("SELECT count(*) FROM customers WHERE level IS NOT NULL").await?;
    let (changed, large) = (
        world.number("SELECT count(*) FROM notes WHERE n > 0").await?,
        world.number("SELECT min(length(body))::int8 FROM notes").await?,
    );
    println!("{transactions} transactions, {events} events, {levels} levels, {changed} large values kept");
    assert!(transactions > 300 && levels > 0 && changed > 0 && large > 4_000, "hardly any load");

    // It is an operator's task: he empties the table, and steps over the event.
    mirror.source.execute("TRUNCATE notes").await?;
    let line = process.wait_for_line(|text| text.contains("was truncated"), PATIENCE).await?;
    assert!(line.contains("operator's task"), "{line}");
    mirror.source.execute("INSERT INTO notes VALUES (nextval('ids'), 'after', 1)").await?;
    world.database.execute("TRUNCATE notes").await?;
    let at = "SELECT next_offset FROM highwater.consumer_offset WHERE topic = $1";
    let at: i64 = world.database.query(at, &[&topics[2]]).await?[0].get(0);
    let (partition, to) = (format!("{}:0", topics[2]), (at + 1).to_string());
    let skip = ["--group", &world.group, "--topic", &partition, "--to", &to, "--reason", "truncated"];
    world.highwater(&[&["partitions", "skip"], &skip[..]].concat()).await?.ended(0);
    mirror.assert_equal(&topics, &tables).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// With Connect's exactly-once source, nothing is repeated at all, so that what is appended is exact, too. And foreign keys
/// hold at the target where the tables have one topic of one partition, and so the source's order. JSON with schemas;
/// Debezium's default, by which a TRUNCATE is not told.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_an_exactly_once_source_in_one_topic_keeps_foreign_keys_and_history() -> TestResult {
    const HISTORY: &str = "\
        table = 'history'
        envelope = 'debezium'
        deletes = 'ignore'
        columns = { source = 'event.source.table', id = 'value.id', lsn = 'event.source.lsn' }
        provenance = { partition = 'source_partition', offset = 'source_offset' }
    ";
    let target = TARGET.replace(
        "customer int NOT NULL,",
        "customer int NOT NULL REFERENCES customers DEFERRABLE INITIALLY DEFERRED,",
    ) + "CREATE TABLE history (source text NOT NULL, id int NOT NULL, lsn bigint NOT NULL, source_partition int, source_offset bigint);";
    let mirror = Mirror::new("one-topic", &target, &[("exactly.once.source.support", "enabled")]).await?;
    let world = &mirror.world;
    let topic = format!("{}.shop", world.topic);
    world.kafka.create_topic(&topic, 1).await?;
    let sinks: String = [("customers", CUSTOMERS), ("orders", ORDERS), ("", HISTORY)]
        .iter()
        .map(|(table, sink)| {
            let all = table.is_empty();
            let of_table = format!("where = \"event.source.table == '{table}'\"");
            let of_table = if all { "" } else { &of_table };
            format!("[[sink]]\ntopic = '{topic}'\n{of_table}\n{sink}\n")
        })
        .collect();
    // What was changed, by the source itself.
    mirror
        .source
        .execute(
            "\
        CREATE TABLE changes (source text, id int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO changes VALUES (TG_TABLE_NAME, NEW.id); RETURN NULL; END';
        CREATE TRIGGER note AFTER INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER note AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note();",
        )
        .await?;
    let options = json!({
        "exactly.once.support": "required",
        "snapshot.mode": "no_data",
        "transforms": "route",
        "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.route.regex": "(.*)\\.public\\.(customers|orders)",
        "transforms.route.replacement": "$1.shop",
    });
    // All changes are to be in the topic: none before the slot is there.
    mirror.source.execute("TRUNCATE customers, orders").await?;
    mirror.follow(&["customers", "orders"], options).await?;
    let slot = "SELECT FROM pg_replication_slots WHERE active";
    wait_until("the slot is in use", PATIENCE, async || {
        Ok((!mirror.source.query(slot, &[]).await?.is_empty()).then_some(()))
    })
    .await?;
    let load = mirror.load(false);
    let file = mirror.file(&sinks)?;
    let older = world.run("older", &file).await?;
    mirror.snapshot_committed().await?;
    mirror.applied(300).await?;
    let younger = world.begin("younger", &file)?;
    older.kill()?;
    younger.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
    mirror.connect.kill().await?;
    mirror.connect.restart().await?;
    mirror.applied(300).await?;
    let transactions = load.end().await?;
    let tables = [("customers", "*"), ("orders", "*")];
    mirror.assert_equal(std::slice::from_ref(&topic), &tables).await?;
    let counts = "SELECT string_agg(source || ' ' || id || ' ' || count, ',' ORDER BY source, id) FROM \
                  (SELECT source, id, count(*) FROM of GROUP BY 1, 2) c";
    let changed: String = mirror.source.query(&counts.replace(" of ", " changes "), &[]).await?[0].get(0);
    let history: String = world.database.query(&counts.replace(" of ", " history "), &[]).await?[0].get(0);
    assert!(changed == history, "not each change once:\n{changed}\n{history}");
    println!("{transactions} transactions, {} changes", world.database.count("history").await?);

    let orders = world.database.count("orders").await?;
    let last = "INSERT INTO orders SELECT nextval('ids'), min(id), 1 FROM customers RETURNING id";
    mirror.source.execute("TRUNCATE orders").await?;
    let last: i32 = mirror.source.query(last, &[]).await?[0].get(0);
    wait_until("what comes after the truncation is there", PATIENCE, async || {
        let sql = format!("SELECT count(*) FROM orders WHERE id = {last}");
        Ok((world.number(&sql).await? == 1).then_some(()))
    })
    .await?;
    assert_eq!(world.database.count("orders").await?, orders + 1, "nobody was told");
    younger.term()?;
    assert_eq!(younger.wait(PATIENCE).await?, 0, "{younger}");
    Ok(())
}

fn with_json_converters(mut options: serde_json::Value) -> serde_json::Value {
    for of in ["key.converter", "value.converter"] {
        options[of] = json!("org.apache.kafka.connect.json.JsonConverter");
    }
    options
}
