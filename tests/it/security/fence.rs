//! Two teams in one schema: a fence by row-level security, as `highwater migrate --print-grants --only-group` prints it.

use highwater::testing::{Database, Role, wait_until};
use highwater::{Handler, SchemaName, handler_fn, migrate};
use tokio_postgres::error::SqlState;

use crate::support::{PATIENCE, Sink, TestResult, World};

/// Rows of a group wherever there may be some, older than every retention.
fn rows(group: &str) -> String {
    let old = "now() - interval '40 days'";
    format!(
        "INSERT INTO highwater.group_topic (group_id, topic, start_policy, partition_count, program, resolved_by)
           VALUES ('{group}', 'old', 'earliest', 1, 'p', gen_random_uuid());
         INSERT INTO highwater.group_pattern (group_id, pattern, start_policy, program, resolved_by)
           VALUES ('{group}', '^old.*', 'earliest', 'p', gen_random_uuid());
         INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset) VALUES ('{group}', 'old', 0, 5);
         INSERT INTO highwater.claim_history (group_id, topic, partition, epoch, claim_token, claimed_offset, end_offset,
           applied_records, applied_batches, claimed_at, replaced_at)
           VALUES ('{group}', 'old', 0, 1, gen_random_uuid(), 6, 7, 1, 1, {old}, {old});
         INSERT INTO highwater.offset_event (group_id, topic, partition, kind, from_offset, to_offset, actor, reason, occurred_at)
           VALUES ('{group}', 'old', 0, 'skip', 4, 5, 'a', 'r', {old});
         INSERT INTO highwater.partition_control (group_id, topic, partition, verb, epoch, actor, reason, requested_at, obeyed_at)
           VALUES ('{group}', 'old', 0, 'pause', 1, 'a', 'r', {old}, {old});
         INSERT INTO highwater.worker_status VALUES (gen_random_uuid(), '{group}', NULL, 'p', 'v', 'h', 1, {old}, {old}, NULL,
           's', true, NULL, 0, 0, 0, 0, 0, 0);
         INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at)
           VALUES ('{group}', 'old', 0, 0, gen_random_uuid(), 'running', {old});
         INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, class, surveyed_at, surveyed_by)
           VALUES ('{group}', 'old', 0, 5, 'OK', {old}, gen_random_uuid());
         INSERT INTO highwater.sink_table (group_id, table_schema, table_name, mode, program, registered_by)
           VALUES ('{group}', 'public', 'old', 'append', 'p', gen_random_uuid());
         INSERT INTO highwater.mapping_change (group_id, follows, mapping, changes, positions, program, version, host, worker, occurred_at)
           VALUES ('{group}', length('old'), '{{}}', '{{}}', '{{}}', 'p', 'v', 'h', gen_random_uuid(), {old});
         INSERT INTO highwater.offset_plan (group_id, target, actor, reason, state, created_at)
           VALUES ('{group}', 't', 'a', 'r', 'planned', {old});
         INSERT INTO highwater.offset_plan_step (plan_id, topic, partition, from_offset, to_offset, wanted_offset, epoch, last_event_id)
           SELECT max(plan_id), 'old', 0, 5, 1, 1, 1, 0 FROM highwater.offset_plan;
         INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason, state,
           state_changed_at) VALUES ('{group}', 'old', 'i', 0, 1, 'f', 'r', 'discarded', {old});
         INSERT INTO highwater.dead_letter_payload (dead_letter_id, record_value, expires_at)
           SELECT max(dead_letter_id), 'v', {old} FROM highwater.dead_letter;
         INSERT INTO highwater.dead_letter_attempt (dead_letter_id, kind)
           SELECT max(dead_letter_id), 'k' FROM highwater.dead_letter;"
    )
}

/// In these a worker has rows of its own group, and each is fenced. The last three have no group of their own.
const TABLES: [&str; 16] = [
    "group_topic",
    "group_pattern",
    "consumer_offset",
    "claim_history",
    "offset_event",
    "partition_control",
    "worker_status",
    "partition_status",
    "partition_survey",
    "sink_table",
    "mapping_change",
    "offset_plan",
    "dead_letter",
    "offset_plan_step",
    "dead_letter_payload",
    "dead_letter_attempt",
];
/// Of these, `other` and its fixtures keep every row, whatever the fenced role does.
const PRUNED: [&str; 5] =
    ["claim_history", "offset_event", "partition_control", "worker_status", "dead_letter"];

/// Anew, with an owner who is no superuser: nobody fences that one.
async fn owned(world: &World<'_>) -> TestResult<Role> {
    let owner = world.database.role("owner").await?;
    let make = format!(
        "DROP SCHEMA highwater CASCADE; GRANT CREATE ON DATABASE \"{}\" TO \"{}\"",
        world.database.name(),
        owner.name
    );
    world.database.execute(&make).await?;
    let url = owner.url.as_str();
    world.highwater_at(url, &["migrate"]).await?.ended(0);
    let print = ["migrate", "--print-grants", "--role", &world.role.name];
    let grants =
        world.highwater_at(url, &[&print[..], &["--only-group", &world.group]].concat()).await?.ended(0);
    let client = connect(url).await?;
    // Twice: it is safe to run again.
    client.batch_execute(&grants.stdout).await?;
    client.batch_execute(&grants.stdout).await?;
    Ok(owner)
}

async fn connect(url: &str) -> TestResult<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn of_group(database: &Database, table: &str, group: &str) -> TestResult<i64> {
    let sql = format!("SELECT count(*) FROM highwater.{table} WHERE group_id = $1");
    Ok(database.query(&sql, &[&group]).await?[0].get(0))
}

fn nothing() -> impl Handler {
    handler_fn(|_, _| Box::pin(async { Ok(()) }))
}

#[tokio::test]
async fn a_fenced_worker_does_all_of_its_work_and_sees_no_other_group() -> TestResult {
    let world = World::new("fence", 2).await?;
    owned(&world).await?;
    // The other team, with a role that nobody has fenced, reads the same topic.
    let theirs = world.database.role("theirs").await?;
    let other = format!("{}-other", world.group);
    world.database.execute(&migrate::grants(&SchemaName::default(), &theirs.name)?).await?;
    world.database.execute(&(rows(&world.group) + &rows(&other))).await?;
    world.produce(50).await?;
    let settings = world.settings().postgres_url(theirs.url.as_str()).group(other.clone());
    let their_worker = world.worker_with(settings, nothing());
    let worker = world.worker(Sink::<()>::default());

    // Claims, commits, reports.
    world.verify().await?;
    for group in [&world.group, &other] {
        wait_until("a worker reports its partitions", PATIENCE, async || {
            let told =
                "SELECT count(*) FROM highwater.partition_status WHERE group_id = $1 AND state = 'running'";
            Ok((world.database.query(told, &[group]).await?[0].get::<_, i64>(0) >= 2).then_some(()))
        })
        .await?;
    }
    // Prunes: what is old of both groups goes, each by its own worker.
    for table in PRUNED {
        for group in [&world.group, &other] {
            wait_until(&format!("the old row of {table} is pruned"), PATIENCE, async || {
                let old = match table {
                    "worker_status" => "heartbeat_at < now() - interval '1 day'",
                    _ => "topic = 'old'",
                };
                let sql = format!("SELECT count(*) FROM highwater.{table} WHERE group_id = $1 AND {old}");
                Ok((world.database.query(&sql, &[group]).await?[0].get::<_, i64>(0) == 0).then_some(()))
            })
            .await?;
        }
    }
    their_worker.stop().await?;

    // What is theirs is not there for it, to read, to write or to delete.
    world.database.execute(&rows(&other)).await.expect_err("the keys are still taken");
    let old = rows(&other).replace("'old'", "'older'").replace("^old", "^older");
    world.database.execute(&old).await?;
    let mut before = Vec::new();
    for table in TABLES {
        before.push(world.database.count(&format!("highwater.{table}")).await?);
    }
    let all = format!("GRANT ALL ON ALL TABLES IN SCHEMA highwater TO \"{}\"", world.role.name);
    world.database.execute(&all).await?;
    let client = connect(&world.role.url).await?;
    for table in TABLES {
        let is_theirs = match table {
            "offset_plan_step" => "topic = 'older'".to_owned(),
            "dead_letter_payload" => "expires_at IS NOT NULL".to_owned(),
            "dead_letter_attempt" => "kind = 'k'".to_owned(),
            _ => format!("group_id = '{other}'"),
        };
        let column = match table {
            "offset_plan_step" => "topic = topic",
            "dead_letter_payload" => "record_value = NULL",
            "dead_letter_attempt" => "error = NULL",
            _ => "group_id = group_id",
        };
        let seen = format!("SELECT count(*) FROM highwater.{table} WHERE {is_theirs}");
        assert_eq!(client.query_one(&seen, &[]).await?.get::<_, i64>(0), 0, "{table}");
        assert!(world.database.query(&seen, &[]).await?[0].get::<_, i64>(0) > 0, "{table} has such rows");
        assert_eq!(
            client.execute(&format!("UPDATE highwater.{table} SET {column} WHERE {is_theirs}"), &[]).await?,
            0
        );
        assert_eq!(
            client.execute(&format!("DELETE FROM highwater.{table} WHERE {is_theirs}"), &[]).await?,
            0
        );
    }
    for view in ["progress", "lag", "health", "scaling"] {
        let seen = format!("SELECT count(*) FILTER (WHERE group_id = $1), count(*) FROM highwater.{view}");
        let row = client.query_one(&seen, &[&other]).await?;
        assert!(row.get::<_, i64>(0) == 0 && row.get::<_, i64>(1) > 0, "{view}");
    }
    // Row by row, each into a table of theirs.
    for statement in rows(&other).replace("'old'", "'newer'").replace("^old", "^newer").split(";\n") {
        let Err(error) = client.batch_execute(statement).await else {
            assert!(statement.contains("SELECT max("), "it was written: {statement}");
            continue;
        };
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error}");
    }
    let their_letter = "SELECT dead_letter_id FROM highwater.dead_letter WHERE topic = 'older'";
    let their_letter: i64 = world.database.query(their_letter, &[]).await?[0].get(0);
    let attempt = "INSERT INTO highwater.dead_letter_attempt (dead_letter_id, kind) VALUES ($1, 'x')";
    let error = client.execute(attempt, &[&their_letter]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error}");
    // Nor by the function that prunes with the owner's rights.
    let prune = "SELECT highwater.prune_history($1, 86400, 1000) + highwater.expire_payloads(1000)";
    let pruned: i64 = client.query_one(prune, &[&other]).await?.get(0);
    assert_eq!(pruned, 0);
    for (table, before) in TABLES.iter().zip(before) {
        assert!(world.database.count(&format!("highwater.{table}")).await? >= before, "{table}");
    }
    assert_eq!(of_group(&world.database, "dead_letter", &other).await?, 1);

    // A letter of its own, with what belongs to it, in one statement as `partitions skip` writes it.
    let letter = "WITH letter AS (INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason)
                    VALUES ($1, 't', 'i', 0, 1, 'f', 'r') RETURNING dead_letter_id)
                  INSERT INTO highwater.dead_letter_payload (dead_letter_id, record_value) SELECT dead_letter_id, 'v' FROM letter
                  ON CONFLICT (dead_letter_id) DO UPDATE SET record_value = excluded.record_value";
    assert_eq!(client.execute(letter, &[&world.group]).await?, 1);
    world.produce(10).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
