//! What of people's rows is history, and for how long: `prune_history`, as a worker of group `g` calls it.

use highwater::testing::Postgres;
use highwater::{SchemaName, migrate};
use tokio_postgres::Client;

use crate::support::TestResult;

/// A week is kept.
const RETENTION: i64 = 7 * 86_400;

const OLD: &str = "now() - interval '8 days'";
const YOUNG: &str = "now() - interval '6 days'";

/// Where groups stand: `g`, and `idle`, whose fleet has been down for long. `gone` was deleted.
const GROUPS: &str = "
INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset) VALUES ('g', 't', 0, 5), ('idle', 't', 0, 5)";

fn order(group: &str, requested: &str, obeyed: &str) -> String {
    format!(
        "INSERT INTO highwater.partition_control (group_id, topic, partition, verb, epoch, actor, reason, requested_at, obeyed_at) \
         VALUES ('{group}', 't', 0, 'pause', 1, 'a', 'r', {requested}, {obeyed})"
    )
}

fn plan(group: &str, state: &str, created: &str, applied: &str) -> String {
    format!(
        "INSERT INTO highwater.offset_plan (group_id, target, actor, reason, state, created_at, applied_at) \
         VALUES ('{group}', 't', 'a', 'r', '{state}', {created}, {applied}); \
         INSERT INTO highwater.offset_plan_step (plan_id, topic, partition, from_offset, to_offset, wanted_offset, epoch, last_event_id) \
         SELECT max(plan_id), 't', 0, 5, 1, 1, 1, 0 FROM highwater.offset_plan"
    )
}

fn event(group: &str, kind: &str, from: &str, to: &str, at: &str) -> String {
    format!(
        "INSERT INTO highwater.offset_event (group_id, topic, partition, kind, from_offset, to_offset, actor, reason, occurred_at) \
         VALUES ('{group}', 't', 0, '{kind}', {from}, {to}, 'a', 'r', {at})"
    )
}

fn letter(group: &str, offset: i64, state: &str, changed: &str, expires: &str) -> String {
    format!(
        "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason, state, \
           state_changed_at) VALUES ('{group}', 't', 'i', 0, {offset}, 'f', 'r', '{state}', {changed}); \
         INSERT INTO highwater.dead_letter_payload (dead_letter_id, record_value, expires_at) \
         SELECT max(dead_letter_id), 'v', {expires} FROM highwater.dead_letter; \
         INSERT INTO highwater.dead_letter_attempt (dead_letter_id, kind) SELECT max(dead_letter_id), 'k' FROM highwater.dead_letter"
    )
}

/// Of the last dead letter.
fn redrive(group: &str, state: &str, ended: &str) -> String {
    format!(
        "INSERT INTO highwater.redrive_request (group_id, filter, actor, reason, records, canary, stop_after, ignore_order, \
           state, ended_at) VALUES ('{group}', 'all', 'a', 'r', 1, 0, 1, false, '{state}', {ended}); \
         INSERT INTO highwater.redrive_letter (request_id, place, dead_letter_id, topic, partition, record_offset) \
           SELECT (SELECT max(request_id) FROM highwater.redrive_request), 1, max(dead_letter_id), 't', 0, 1 \
           FROM highwater.dead_letter"
    )
}

fn claim(group: &str, from: i64, replaced: &str) -> String {
    format!(
        "INSERT INTO highwater.claim_history (group_id, topic, partition, epoch, claim_token, claimed_offset, end_offset, \
           applied_records, applied_batches, claimed_at, replaced_at) \
         VALUES ('{group}', 't', 0, 1, gen_random_uuid(), {from}, 5, 5, 1, {replaced}, {replaced})"
    )
}

fn heartbeat(group: &str, at: &str) -> String {
    format!(
        "INSERT INTO highwater.worker_status VALUES (gen_random_uuid(), '{group}', NULL, 'p', 'v', 'h', 1, {at}, {at}, NULL, 's', \
           true, NULL, 0, 0, 0, 0, 0, 0)"
    )
}

/// What it is about, rows that a group may have, and in which tables how many of them are left.
type Case = (&'static str, Vec<String>, Vec<(&'static str, i64)>);

fn cases() -> Vec<Case> {
    let is = |table, count| vec![(table, count)];
    let (control, plans, events, letters) =
        ("partition_control", "offset_plan", "offset_event", "dead_letter");
    let steps = "offset_plan_step";
    let (payloads, attempts) = ("dead_letter_payload", "dead_letter_attempt");
    let (redrives, redriven) = ("redrive_request", "redrive_letter");
    let deleted = |at| event("gone", "delete", "5", "NULL", at);
    vec![
        ("an old order that nobody has obeyed", vec![order("g", OLD, "NULL")], is(control, 0)),
        ("a young one", vec![order("g", YOUNG, "NULL")], is(control, 1)),
        ("one of a fleet that is down", vec![order("idle", OLD, "NULL")], is(control, 1)),
        // By the worker itself: it may.
        ("one that was obeyed", vec![order("g", OLD, OLD)], is(control, 1)),
        (
            "a plan that was never applied",
            vec![plan("g", "planned", OLD, "NULL")],
            vec![(plans, 0), (steps, 0)],
        ),
        ("a young one", vec![plan("g", "planned", YOUNG, "NULL")], vec![(plans, 1), (steps, 1)]),
        ("one that is being applied", vec![plan("g", "applying", OLD, OLD)], vec![(plans, 1), (steps, 1)]),
        ("one that was applied", vec![plan("g", "applied", OLD, OLD)], vec![(plans, 0), (steps, 0)]),
        ("one that was applied late", vec![plan("g", "applied", OLD, YOUNG)], is(plans, 1)),
        ("one that was stopped", vec![plan("g", "stopped", OLD, OLD)], is(plans, 0)),
        ("an event", vec![event("g", "skip", "1", "2", OLD)], is(events, 0)),
        ("a young one", vec![event("g", "skip", "1", "2", YOUNG)], is(events, 1)),
        (
            "one that explains a claim on record",
            vec![event("g", "reset", "5", "2", OLD), claim("g", 2, YOUNG)],
            is(events, 1),
        ),
        (
            "a redriven dead letter",
            vec![letter("g", 1, "redriven", OLD, "NULL")],
            vec![(letters, 0), (payloads, 0), (attempts, 0)],
        ),
        ("a discarded one", vec![letter("g", 1, "discarded", OLD, "NULL")], is(letters, 0)),
        ("a superseded one", vec![letter("g", 1, "superseded", OLD, "NULL")], is(letters, 0)),
        (
            "a young one",
            vec![letter("g", 1, "redriven", YOUNG, "NULL")],
            vec![(letters, 1), (payloads, 1), (attempts, 1)],
        ),
        (
            "one about which nobody has decided",
            vec![letter("g", 1, "open", OLD, "NULL")],
            vec![(letters, 1), (payloads, 1)],
        ),
        ("one that is parked", vec![letter("g", 1, "parked", OLD, "NULL")], is(letters, 1)),
        ("one that is queued", vec![letter("g", 1, "queued", OLD, "NULL")], is(letters, 1)),
        (
            "a redrive that has ended",
            vec![letter("g", 1, "open", OLD, "NULL"), redrive("g", "done", OLD)],
            vec![(redrives, 0), (redriven, 0), (letters, 1)],
        ),
        (
            "one that ended lately",
            vec![letter("g", 1, "open", OLD, "NULL"), redrive("g", "stopped", YOUNG)],
            vec![(redrives, 1), (redriven, 1)],
        ),
        (
            "what it has redriven long before it ended, which it still counts",
            vec![letter("g", 1, "redriven", OLD, "NULL"), redrive("g", "done", YOUNG)],
            vec![(redrives, 1), (redriven, 1), (letters, 0)],
        ),
        (
            "what it has yet to come to, by which it finds what is behind it",
            vec![letter("g", 1, "discarded", OLD, "NULL"), redrive("g", "running", "NULL")],
            vec![(redrives, 1), (redriven, 1), (letters, 1)],
        ),
        (
            "and once it is forgotten itself",
            vec![letter("g", 1, "redriven", OLD, "NULL"), redrive("g", "done", OLD)],
            vec![(redrives, 0), (redriven, 0), (letters, 0)],
        ),
        (
            "one that goes on",
            vec![letter("g", 1, "open", OLD, "NULL"), redrive("g", "running", "NULL")],
            vec![(redrives, 1), (redriven, 1)],
        ),
        (
            "a payload that has expired",
            vec![letter("g", 1, "open", "now()", "now() - interval '1 second'")],
            vec![(letters, 1), (payloads, 0), (attempts, 1)],
        ),
        ("one that will", vec![letter("g", 1, "open", OLD, "now() + interval '1 hour'")], is(payloads, 1)),
        (
            "one of another group",
            vec![letter("idle", 1, "open", "now()", "now()")],
            vec![(letters, 1), (payloads, 0)],
        ),
        (
            "a group that was deleted long ago",
            vec![
                event("gone", "start", "NULL", "0", OLD),
                order("gone", OLD, "NULL"),
                order("gone", OLD, OLD),
                plan("gone", "applying", OLD, OLD),
                claim("gone", 0, OLD),
                heartbeat("gone", OLD),
                letter("gone", 1, "discarded", OLD, "NULL"),
                letter("gone", 2, "open", OLD, "NULL"),
                redrive("gone", "running", "NULL"),
                deleted(OLD),
            ],
            vec![
                (events, 0),
                (control, 0),
                (plans, 0),
                ("claim_history", 0),
                ("worker_status", 0),
                (redrives, 0),
                (letters, 1),
            ],
        ),
        (
            "one that was deleted lately",
            vec![order("gone", OLD, "NULL"), claim("gone", 0, OLD), deleted(OLD), deleted(YOUNG)],
            vec![(events, 2), (control, 1), ("claim_history", 1)],
        ),
        (
            "one that has lost a topic only",
            vec![claim("idle", 0, OLD), event("idle", "delete", "5", "NULL", OLD)],
            vec![(events, 1), ("claim_history", 1)],
        ),
    ]
}

async fn number(client: &Client, sql: &str) -> TestResult<i64> {
    Ok(client.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn history_goes_in_time_and_what_is_open_stays() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("pruning").await?;
    migrate::migrate(&mut database.client().await?, &SchemaName::default()).await?;
    database.execute(GROUPS).await?;
    let mut client = database.client().await?;
    let prune = format!("SELECT highwater.prune_history('g', {RETENTION}, 1) + highwater.expire_payloads(1)");
    let mut wrong = Vec::new();
    for (what, rows, left) in cases() {
        let transaction = client.transaction().await?;
        transaction.batch_execute(&rows.join("; ")).await?;
        // A row at a time, so that what goes last is seen to go last.
        let mut rounds = 0;
        while number(transaction.client(), &prune).await? > 0 {
            rounds += 1;
            assert!(rounds < 50, "{what}: there is no end of it");
        }
        for (table, count) in left {
            let count_it = format!("SELECT count(*) FROM highwater.{table}");
            let found = number(transaction.client(), &count_it).await?;
            if found != count {
                wrong.push(format!("{what}: {found} of {table} are left, and not {count}"));
            }
        }
        transaction.rollback().await?;
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

/// A day at least, whatever a worker says; its own role may call it, and delete nothing by itself.
#[tokio::test]
async fn a_day_of_history_is_left_whoever_prunes() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("pruning-role").await?;
    migrate::migrate(&mut database.client().await?, &SchemaName::default()).await?;
    database.execute(GROUPS).await?;
    let role = database.role("pruner").await?;
    database.execute(&migrate::grants(&SchemaName::default(), &role.name)?).await?;
    for (offset, at) in [(1, "now() - interval '23 hours'"), (2, "now() - interval '25 hours'")] {
        let rows = [
            order("g", at, "NULL"),
            plan("g", "planned", at, "NULL"),
            event("g", "skip", "1", "2", at),
            letter("g", offset, "open", "now()", "now()"),
        ];
        database.execute(&rows.join("; ")).await?;
    }
    let act = format!(
        "SET ROLE \"{}\"; SELECT highwater.prune_history('g', 0, 100), highwater.expire_payloads(100); RESET ROLE",
        role.name
    );
    database.execute(&act).await?;
    for (table, left) in [
        ("partition_control", 1),
        ("offset_plan", 1),
        ("offset_event", 1),
        ("dead_letter", 2),
        ("dead_letter_payload", 0),
    ] {
        assert_eq!(database.count(&format!("highwater.{table}")).await?, left, "{table}");
    }
    Ok(())
}
