//! What is wrong around a group, and what to do about it: planted, and found.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater::testing::{Kafka, Postgres, wait_until};
use highwater::{Batch, Handler, HandlerError, Tx};
use serde_json::Value;

use crate::faults::pooler::{PgBouncer, lacks_pgbouncer};
use crate::support::world::Setup;
use crate::support::{PATIENCE, Sink, TestResult, World};

/// What a doctor's answer holds.
struct Examined(Vec<Value>);

impl Examined {
    fn of(&self, check: &str, severity: &str) -> Vec<(String, String)> {
        let fits = |finding: &&Value| finding["check"] == check && finding["severity"] == severity;
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let found = self.0.iter().filter(fits);
        found
            .map(|finding| {
                let subject = text(finding, "subject");
                (format!("{subject}: {}", text(finding, "finding")), text(finding, "cure"))
            })
            .collect()
    }

    /// There is such a finding, and its cure.
    #[track_caller]
    fn has(&self, check: &str, severity: &str, part: &str, cure: &str) {
        let found = self.of(check, severity);
        let is_there = found.iter().any(|(text, way)| text.contains(part) && way.contains(cure));
        assert!(is_there, "{check} {severity} {part:?} {cure:?}: {:#?}", self.0);
    }

    fn failed(&self) -> Vec<&Value> {
        self.0.iter().filter(|finding| finding["severity"] == "fail").collect()
    }
}

impl World<'_> {
    async fn doctor(&self, arguments: &[&str]) -> highwater::testing::Result<Examined> {
        self.doctor_at(self.database.url(), arguments).await
    }

    async fn doctor_at(&self, url: &str, arguments: &[&str]) -> highwater::testing::Result<Examined> {
        let all =
            [&["doctor", "--json", "--group", &self.group, "--role", &self.role.name], arguments].concat();
        let said = self.highwater_at(url, &all).await?;
        let examined = Examined(said.json().as_array().expect("an array").clone());
        assert_eq!(said.code, i32::from(!examined.failed().is_empty()), "{}{}", said.stdout, said.stderr);
        let sick = examined.0.iter().filter(|finding| finding["severity"] != "ok");
        assert!(
            sick.clone().all(|finding| finding["cure"].is_string()),
            "each with its cure: {:#?}",
            examined.0
        );
        Ok(examined)
    }
}

const CHECKS: &[&str] = &[
    "settings",
    "time-outs",
    "pooler",
    "postgres",
    "schema",
    "groups",
    "brokers",
    "topics",
    "acl",
    "retention",
    "role",
    "server",
    "connections",
    "batches",
    "replicas",
    "snapshots",
    "autovacuum",
    "tables",
    "undo-index",
    "halted",
    "locks",
    "clocks",
];

#[tokio::test]
async fn a_healthy_group_has_nothing_wrong_and_an_undo_wants_its_index() -> TestResult {
    let world = World::new("doctor", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    world.assert_exact(false).await?;
    wait_until("the sink's table is registered", PATIENCE, async || {
        Ok((world.database.count("highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    let examined = world.doctor(&[]).await?;
    assert_eq!(examined.failed(), Vec::<&Value>::new());
    for check in CHECKS {
        assert!(examined.0.iter().any(|finding| finding["check"] == *check), "{check}: {:#?}", examined.0);
    }
    // The role that its live workers use is found without being named.
    let said = world.highwater(&["doctor", "--group", &world.group]).await?.ended(0);
    assert!(said.stdout.contains(&format!("{}: it has every right", world.role.name)), "{}", said.stdout);
    println!("{}", said.stdout);

    let index = "CREATE INDEX CONCURRENTLY ON public.sink (source_topic, source_partition, source_offset)";
    examined.has("undo-index", "warn", "public.sink: no index", index);
    world.database.execute(index).await?;
    world.doctor(&[]).await?.has("undo-index", "ok", "leads to rows by offset", "");
    worker.stop().await?;
    Ok(())
}

/// What `reset --undo-rows` refuses wants no index, and the one says what the other does.
#[tokio::test]
async fn where_nothing_is_undone_no_index_is_wanted() -> TestResult {
    let world = World::new("doctor-upserts", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    wait_until("the sink's tables are registered", PATIENCE, async || {
        Ok((world.database.count("highwater.sink_table").await? == 2).then_some(()))
    })
    .await?;
    worker.stop().await?;
    let examined = world.doctor(&[]).await?;
    assert_eq!(examined.of("undo-index", "warn"), []);
    examined.has("undo-index", "ok", "public.balances: upserts cannot be undone", "");
    examined.has(
        "undo-index",
        "ok",
        "public.sink: records of its topics are upserted into public.balances",
        "",
    );
    let back = ["offsets", "reset", "--group", &world.group, "--all-topics", "--to-earliest", "--undo-rows"];
    let refused = world.highwater(&[&back[..], &["--dry-run"]].concat()).await?.ended(2);
    assert!(refused.stderr.contains("public.balances is written by upserts"), "{}", refused.stderr);
    Ok(())
}

#[tokio::test]
async fn what_hinders_workers_in_the_database_is_found() -> TestResult {
    let world = World::new("doctor-sick", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    wait_until("the sink's table is registered", PATIENCE, async || {
        Ok((world.database.count("highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    worker.stop().await?;
    let (role, database) = (&world.role.name, world.database.name());
    world
        .database
        .execute(&format!(
            "REVOKE UPDATE ON highwater.consumer_offset FROM {role};
             REVOKE EXECUTE ON FUNCTION highwater.prune_history FROM {role};
             REVOKE INSERT ON sink FROM {role};
             ALTER ROLE {role} SET idle_session_timeout = '10s';
             ALTER ROLE {role} IN DATABASE \"{database}\" SET default_transaction_read_only = on;
             ALTER ROLE {role} SET statement_timeout = '1s';
             CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE TRIGGER theirs BEFORE UPDATE ON highwater.consumer_offset FOR EACH ROW EXECUTE FUNCTION nothing();
             CREATE INDEX theirs ON highwater.consumer_offset (committed_at);
             ALTER TABLE highwater.consumer_offset SET (autovacuum_enabled = false);"
        ))
        .await?;
    let open = world.database.client().await?;
    open.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    let prepared = world.database.client().await?;
    let gid = format!("it's {database}");
    let quoted = gid.replace('\'', "''");
    prepared
        .batch_execute(&format!("BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION '{quoted}'"))
        .await?;

    let examined = world.doctor(&["--max-transaction-age", "0"]).await?;
    let grants = format!("highwater migrate --print-grants --role {role} | psql");
    examined.has("role", "fail", "UPDATE on consumer_offset", &grants);
    examined.has("role", "fail", "EXECUTE on prune_history", &grants);
    examined.has(
        "role",
        "fail",
        "may not INSERT in public.sink",
        &format!("GRANT INSERT ON public.sink TO {role}"),
    );
    examined.has("role", "fail", "default_transaction_read_only = on", "RESET default_transaction_read_only");
    examined.has("role", "warn", "idle_session_timeout = 10s", "RESET idle_session_timeout");
    examined.has("role", "ok", "statement_timeout = 1s of role or database", "");
    examined.has("tables", "warn", "consumer_offset: it has a trigger theirs", "take it away");
    examined.has("tables", "warn", "an index that is not Highwater's: highwater.theirs", "drop it");
    examined.has("autovacuum", "fail", "switched off", "RESET (autovacuum_enabled)");
    examined.has("snapshots", "warn", "a transaction is open for", "pg_terminate_backend(");
    examined.has("snapshots", "warn", &gid, &format!("ROLLBACK PREPARED '{quoted}'"));
    world.database.execute(&format!("ROLLBACK PREPARED '{quoted}'")).await?;

    // As somebody who may see little: what cannot be asked is said, and is no failure of its own.
    let stranger = world.database.role("stranger").await?;
    let examined = world.doctor_at(&stranger.url, &[]).await?;
    examined.has("schema", "fail", "may not read the tables", "highwater migrate");
    // A mistyped role, and a mistyped group.
    let said =
        world.highwater(&["doctor", "--role", "nobody_such", "--group", &world.group.to_uppercase()]).await?;
    let said = said.ended(1);
    for text in ["there is no such role", &format!("did you mean {}?", world.group)] {
        assert!(said.stdout.contains(text), "{text}: {}", said.stdout);
    }
    Ok(())
}

/// Writes nowhere, and so has no table to name.
struct Silent;

impl Handler for Silent {
    async fn handle(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test]
async fn what_stands_still_and_who_holds_it_up_is_found() -> TestResult {
    let world = World::new("doctor-still", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Silent);
    world.reached(0, 5).await?;
    let unregistered = format!("{}: its program has registered no table", world.group);
    world.doctor(&[]).await?.has("undo-index", "warn", &unregistered, "Handler::writes");
    world.doctor(&[]).await?.has("locks", "ok", "no session of a worker waits", "");
    world.doctor(&[]).await?.has("halted", "ok", "no partition is halted", "");

    world.partitions_command("halt", 0, &["--reason", "INC-814"]).await?.ended(0);
    let (place, retry) = (
        format!("{} {}:0: halted at offset 5", world.group, world.topic),
        format!("highwater partitions retry --group {} --topic {}:0", world.group, world.topic),
    );
    let examined = world.doctor(&[]).await?;
    examined.has("halted", "warn", &place, &retry);
    let said = world.highwater(&["doctor", "--group", &world.group]).await?.ended(0);
    assert!(said.stdout.contains("INC-814"), "{}", said.stdout);

    // A session that bears the name of a worker's waits for a lock of somebody's.
    let (holder, waiting) = (world.database.client().await?, world.database.client().await?);
    holder.batch_execute("SET application_name = 'nightly report'").await?;
    holder.batch_execute("BEGIN; LOCK TABLE sink").await?;
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    waiting.batch_execute("SET application_name = 'highwater/0/0'").await?;
    let waits = tokio::spawn(async move { waiting.batch_execute("BEGIN; LOCK TABLE sink").await });
    let lock = format!(
        "sink: a session of a worker waits for a lock on sink held by pid {pid} (nightly report, idle in"
    );
    wait_until("it waits", PATIENCE, async || {
        Ok(world.doctor(&[]).await?.of("locks", "warn").first().map(|(text, _)| text.clone()))
    })
    .await?;
    world.doctor(&[]).await?.has("locks", "warn", &lock, &format!("pg_terminate_backend({pid})"));
    holder.batch_execute("ROLLBACK").await?;
    waits.await??;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_hinders_workers_in_kafka_is_found() -> TestResult {
    let own = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
        ("group.max.session.timeout.ms", "8000"),
    ];
    let (kafka, postgres) = tokio::try_join!(Kafka::start_with(&own), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("doctor-kafka", setup).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let examined = world.doctor(&[]).await?;
    // The default of 10 s, as a worker of this environment would have it.
    examined.has("time-outs", "fail", "the brokers take 1000 to 8000 ms", "set `session_timeout` within");
    assert_eq!(examined.failed().len(), 1, "{:#?}", examined.0);
    for subject in [format!("topic {}", world.topic), format!("group {}", world.group)] {
        for right in ["READ", "DESCRIBE"] {
            examined.has("acl", "ok", &format!("{subject}: {right} is granted"), "");
        }
    }

    let acls = async |arguments: &[&str]| -> TestResult {
        let all = [arguments, &["--force"]].concat();
        let output = kafka.tool("org.apache.kafka.tools.AclCommand", &all).await?;
        assert_eq!(output.status, Some(0), "{output:?}");
        Ok(())
    };
    acls(&["--add", "--allow-principal", "User:*", "--operation", "All", "--topic", &world.topic]).await?;
    acls(&["--add", "--deny-principal", "User:*", "--operation", "Read", "--topic", &world.topic]).await?;
    acls(&["--add", "--deny-principal", "User:*", "--operation", "DescribeConfigs", "--topic", &world.topic])
        .await?;
    acls(&["--add", "--allow-principal", "User:*", "--operation", "All", "--group", &world.group]).await?;
    acls(&["--add", "--deny-principal", "User:*", "--operation", "Read", "--group", &world.group]).await?;
    wait_until("the rights are known to the broker", PATIENCE, async || {
        Ok((world.doctor(&[]).await?.of("acl", "fail").len() == 2).then_some(()))
    })
    .await?;
    let examined = world.doctor(&[]).await?;
    let grant = |resource: &str, name: &str| format!("--operation Read --{resource} {name}");
    examined.has("acl", "fail", "READ is not granted to this client", &grant("topic", &world.topic));
    examined.has("acl", "fail", "READ is not granted to this client", &grant("group", &world.group));
    examined.has("retention", "unknown", "Kafka does not tell its properties", "DESCRIBE_CONFIGS");

    // A broker that is not there beside one that is; and none at all.
    let both = format!("127.0.0.1:1,{}", kafka.bootstrap());
    let examined = world.doctor(&["--bootstrap-server", &both]).await?;
    examined.has("brokers", "warn", "127.0.0.1:1: accepts no connection", "start it");
    let examined = world.doctor(&["--bootstrap-server", "127.0.0.1:1"]).await?;
    examined.has("brokers", "fail", "none of 1 broker answers", "listeners");
    Ok(())
}

#[tokio::test]
async fn records_that_kafka_is_about_to_delete_are_told_by_age_and_by_place() -> TestResult {
    let hour = [("retention.ms", "3600000")];
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    let setup = Setup { kafka, postgres, partitions: 3, topic_config: &hour };
    let world = World::with("doctor-retention", setup).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let minutes = |minutes: i64| now_ms + minutes * 60_000;
    // Partition 0: fifty minutes old, of sixty. Partition 1: a producer whose clock is half an hour ahead.
    world.producer.send(world.message(0).timestamp_ms(minutes(-50)))?;
    world.producer.send(world.message(1).timestamp_ms(minutes(30)))?;
    world.producer.flush().await?;
    let examined = world.doctor(&[]).await?;
    let of = |partition: i32| format!("{}:{partition}, group {}", world.topic, world.group);
    examined.has(
        "retention",
        "fail",
        &format!("{}: the next record is 50 min old, and Kafka keeps 60 min", of(0)),
        "retention.ms",
    );
    assert_eq!(examined.of("retention", "fail").len(), 1, "{:#?}", examined.0);
    examined.has("clocks", "warn", &format!("a record of {}[1] is dated 1", world.topic), "NTP");
    // What was deleted already, in a partition that lags.
    world.producer.send(world.message(2))?;
    world.producer.send(world.message(2))?;
    world.producer.flush().await?;
    kafka.delete_records(&world.topic, 2, 6).await?;
    let examined = world.doctor(&[]).await?;
    examined.has(
        "retention",
        "fail",
        &format!("{}: 1 offsets before 6 are gone", of(2)),
        "Records that are gone",
    );

    // Another topic of the same name.
    kafka.delete_topic(&world.topic).await?;
    kafka.create_topic(&world.topic, 2).await?;
    let examined = world.doctor(&[]).await?;
    examined.has("topics", "fail", "another topic: the group has read", "Accept another topic");
    examined.has("topics", "fail", "it has 2 partitions, and the group has read 3", "Accept another topic");
    kafka.delete_topic(&world.topic).await?;
    let examined = world.doctor(&[]).await?;
    examined.has("topics", "fail", &format!("{}: Kafka does not show it", world.topic), "create it");
    Ok(())
}

#[tokio::test]
async fn standbys_and_the_server_are_looked_at() -> TestResult {
    let (kafka, postgres) =
        tokio::try_join!(Kafka::shared(), Postgres::start_local(&[("full_page_writes", "off")]))?;
    let replica = postgres.replica().await?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 1, topic_config: &[] };
    let world = World::with("doctor-standby", setup).await?;
    let examined = world.doctor(&[]).await?;
    examined.has("server", "fail", "full_page_writes = off", "ALTER SYSTEM SET full_page_writes = on");
    examined.has("replicas", "ok", "1 standby, none far behind; 0 synchronous", "");
    let client = postgres.client().await?;
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    let waits = async || {
        let found = world.doctor(&[]).await?.of("replicas", "fail");
        Ok(found.into_iter().find(|(text, _)| text.contains("commits wait for ever")))
    };
    let (_, cure) = wait_until("it is noticed", PATIENCE, waits).await?;
    assert!(cure.contains("ALTER SYSTEM SET synchronous_standby_names = ''"), "{cure}");
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    drop(replica);
    Ok(())
}

#[tokio::test]
async fn a_pooler_that_deals_out_backends_is_found() -> TestResult {
    if lacks_pgbouncer() {
        return Ok(());
    }
    let world = World::new("doctor-pooler", 1).await?;
    let pooler = PgBouncer::start_with(&world, "transaction", &[]).await?;
    let examined = world.doctor_at(&pooler.url, &[]).await?;
    examined.has("pooler", "fail", "a pooler in transaction or statement mode", "session mode");
    // Nothing was left behind in the sessions that others get.
    let plain = PgBouncer::start_with(&world, "session", &[]).await?;
    world.doctor_at(&plain.url, &[]).await?.has("pooler", "ok", "a backend of its own", "");
    Ok(())
}
