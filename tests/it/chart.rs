//! The image, the chart and the template for users: what `tests/chart/check` says of the chart, step by step, and that
//! what users copy can be built with this crate as it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use highwater::testing::{Postgres, Rehearsal, unique};
use highwater::{SchemaName, migrate};
use serde_json::Value;

use crate::support::TestResult;
use crate::support::needs::{runs, skipped_without};

/// The handler that users begin with, compiled as a part of this binary.
#[allow(unreachable_pub)]
#[path = "../../deploy/template/src/lib.rs"]
mod template;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Helm itself, or its engine as a Python package: see `tests/chart/requirements.txt`.
fn no_helm() -> bool {
    let python = std::env::var("HIGHWATER_TEST_CHART_PYTHON").unwrap_or("python3".to_owned());
    let library = root("tests/chart/helm");
    let engine = library.to_str().is_some_and(|path| runs(&python, &[path, "version"]));
    skipped_without("helm", engine || runs("helm", &["version"]))
}

/// Steps of `tests/chart/check`, which also run by hand.
fn check(steps: &[&str]) -> TestResult {
    let output = Command::new(root("tests/chart/check")).args(steps).output()?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("tests/chart/check {steps:?}:\n{text}").into()) }
}

#[test]
fn it_is_well_made_and_renders_as_the_golden_files_say() -> TestResult {
    if no_helm() {
        return Ok(());
    }
    check(&["copies", "defaults", "lint", "golden", "unit"])
}

/// Secrets in plain text first of all, and no refusal repeats one.
#[test]
fn values_that_cannot_be_meant_are_refused() -> TestResult {
    if no_helm() {
        return Ok(());
    }
    check(&["refusals"])
}

#[test]
fn rules_and_board_come_through_whole_and_kubernetes_takes_what_is_rendered() -> TestResult {
    if no_helm() {
        return Ok(());
    }
    check(&["rules", "schemas"])
}

/// The template's manifest is one that Cargo reads, of a program that uses this crate by features that it has.
#[test]
fn the_template_is_a_project_of_this_crate() -> TestResult {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(root("deploy/template/Cargo.toml"))
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let package = &metadata["packages"][0];
    let own = std::fs::read_to_string(root("Cargo.toml"))?;
    let mut features = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        if dependency["name"] == "highwater" {
            features.extend(dependency["features"].as_array().into_iter().flatten());
        }
    }
    assert!(!features.is_empty(), "{package}");
    for feature in features.into_iter().filter_map(Value::as_str) {
        assert!(own.contains(&format!("\n{feature} = [")), "this crate has no feature {feature}");
    }
    Ok(())
}

/// As its own test does it, deploy/template/tests/payments.rs.
#[tokio::test]
async fn the_templates_handler_writes_its_rows() -> TestResult {
    let records = [
        (None, Some(r#"{"tx_id":"a","amount_cents":1250}"#)),
        (None, Some(r#"{"tx_id":"b","amount_cents":-300}"#)),
        (None, Some(r#"{"tx_id":"c"}"#)),
    ];
    let database = Postgres::shared().await?.fresh_database("template").await?;
    database.execute(include_str!("../../deploy/template/schema.sql")).await?;
    let outcome = Rehearsal::new(&database).await?.apply(&template::Payments, &records, &[2]).await?;
    assert_eq!(outcome.applied, 2, "the third has no amount: {:?}", outcome.halt);
    let sum = "SELECT sum(amount_cents)::bigint FROM payments";
    let sum: i64 = database.client().await?.query_one(sum, &[]).await?.get(0);
    assert_eq!(sum, 950);
    Ok(())
}

/// The query that the rendered manifest gives KEDA, as it stands there.
fn scaling_query() -> TestResult<String> {
    let manifest = std::fs::read_to_string(root("deploy/kubernetes/elastic.yaml"))?;
    let (_, query) = manifest.split_once("query: >-\n").ok_or("elastic.yaml has no query")?;
    let lines = query.lines().take_while(|line| line.starts_with("          "));
    Ok(lines.map(str::trim).collect::<Vec<_>>().join(" "))
}

/// Never for halted or paused partitions, right when nobody is alive, and no more while Postgres is busy with what there is.
#[tokio::test]
async fn keda_is_told_how_many_pods_help() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("keda").await?;
    migrate::migrate(&mut database.client().await?, &SchemaName::default()).await?;
    // Other tests' workers are at work in the same server.
    let name = unique("keda");
    let query = scaling_query()?.replace("'highwater/%'", &format!("'{name}'"));
    let wanted = async || -> TestResult<f64> { Ok(database.query(&query, &[]).await?.remove(0).get(0)) };
    assert!(wanted().await?.abs() < f64::EPSILON, "a group that nobody has heard of");

    // Twelve partitions of 40,000 records each; one of them is paused, two are halted; nobody is alive.
    database
        .execute(
            "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, paused_reason, halted) \
             SELECT 'fraud-rules-v2', 't', p, 0, CASE WHEN p >= 9 THEN 'INC-812' END, p >= 10 FROM generate_series(0, 11) p; \
             INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
               log_end_offset, class, surveyed_at, surveyed_by) \
             SELECT 'fraud-rules-v2', 't', p, 0, 40000, 40000, 'STOP', now(), gen_random_uuid() \
             FROM generate_series(0, 11) p",
        )
        .await?;
    let is = |wanted: f64, pods: f64| (wanted - pods).abs() < f64::EPSILON;
    assert!(is(wanted().await?, 8.0), "one per 50,000 of 360,000 records");
    database.execute("UPDATE highwater.partition_survey SET last_stable_offset = 4000000").await?;
    assert!(is(wanted().await?, 9.0), "no more than there are partitions that can be worked on");

    // Caught up, as somebody has just seen; then nobody knows, or knew it long ago.
    database.execute("UPDATE highwater.partition_survey SET last_stable_offset = 0").await?;
    assert!(is(wanted().await?, 0.0), "nothing waits");
    let said = "SELECT busy_partitions, lag_records FROM highwater.scaling";
    let said = async || -> TestResult<(i64, i64)> {
        let row = database.query(said, &[]).await?.remove(0);
        Ok((row.get(0), row.get(1)))
    };
    database
        .execute("UPDATE highwater.partition_survey SET last_stable_offset = NULL WHERE partition IN (3, 10)")
        .await?;
    assert_eq!(said().await?, (1, 0), "what is unknown is busy, unless it is held back");
    assert!(is(wanted().await?, 1.0), "somebody looks");
    database
        .execute("UPDATE highwater.partition_survey SET last_stable_offset = 0, surveyed_at = now() - interval '2 minutes'")
        .await?;
    assert_eq!(said().await?, (9, 0), "that nothing waited long ago says nothing");
    assert!(is(wanted().await?, 1.0), "somebody looks");
    database.execute("UPDATE highwater.partition_survey SET last_stable_offset = 4000000").await?;

    // Two are alive, and four sessions of theirs are at work in the server at once.
    database
        .execute(
            "INSERT INTO highwater.worker_status SELECT gen_random_uuid(), 'fraud-rules-v2', NULL, 'p', 'v', 'h', 1, now(), \
               clock_timestamp() + interval '0.9 s', NULL, 'running', true, NULL, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 2)",
        )
        .await?;
    assert!(is(wanted().await?, 9.0), "nobody is at work");
    database
        .execute(
            "UPDATE highwater.partition_survey SET last_stable_offset = 0; \
             UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()",
        )
        .await?;
    assert_eq!(said().await?, (9, 0), "an old 0 is not known, whoever lives");
    database.execute("UPDATE highwater.partition_survey SET surveyed_at = now()").await?;
    assert_eq!(said().await?, (0, 0), "nothing waits, as was just seen");
    database.execute("UPDATE highwater.partition_survey SET last_stable_offset = 4000000").await?;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let client = database.client().await?;
        client.batch_execute(&format!("SET application_name = '{name}'")).await?;
        sessions.push(tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(20)").await }));
    }
    let at_work = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND query LIKE '%pg_sleep%'"
    );
    highwater::testing::wait_until("four sessions are at work", Duration::from_secs(30), async || {
        let count: i64 = database.query(&at_work, &[]).await?.remove(0).get(0);
        Ok((count == 4).then_some(()))
    })
    .await?;
    database.execute("UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()").await?;
    assert!(is(wanted().await?, 2.0), "no more than there are, while Postgres is what limits");
    sessions.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
