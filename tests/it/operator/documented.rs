//! The commands of docs/operations.md, typed; and the shape of their JSON.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::support::{Sink, TestResult, World};

/// The lines of the page's shell blocks that call the command.
fn lines() -> Vec<&'static str> {
    let page = include_str!("../../../docs/operations.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| line.starts_with("highwater ")).collect()
}

/// What the page says of a verb's shape: the names between backticks.
fn documented(verb: &str) -> BTreeSet<&'static str> {
    let page = include_str!("../../../docs/operations.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| {verb} | "))).expect("the verb's row");
    let words = row.split('`').skip(1).step_by(2).skip(verb.matches('`').count() / 2);
    words.flat_map(|words| words.split(',')).map(str::trim).filter(|word| !word.is_empty()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_commands_of_the_page_do_what_it_says() -> TestResult {
    let world = World::new("documented", 4).await?;
    world.produce(4_300).await?;
    // Rows alone: balances could not be undone.
    let rows = || Sink { fault: (), rows_only: true };
    let worker = world.worker(rows());
    world.caught_up().await?;
    worker.stop().await?;
    // So that there is something to skip.
    world
        .offsets("reset", &["--topic", &format!("{}:3", world.topic), "--to-offset", "4000", "--execute"])
        .await?
        .ended(0);

    let folder = std::env::temp_dir().join(&world.group);
    std::fs::create_dir_all(&folder)?;
    let command = std::path::Path::new(env!("CARGO_BIN_EXE_highwater"));
    let path = std::env::join_paths(
        command
            .parent()
            .map(std::path::Path::to_path_buf)
            .into_iter()
            .chain(std::env::split_paths("/usr/bin:/bin")),
    )?;
    let lines = lines();
    assert!(lines.len() > 12, "{lines:?}");
    let mut plan = String::new();
    for line in lines {
        let typed = line
            .replace("fraud-rules-v2", &world.group)
            .replace("payments.tx_events", &world.topic)
            .replace("apply 17", &format!("apply {plan}"));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &typed])
            .current_dir(&folder)
            .env_clear()
            .env("PATH", &path)
            .env("USER", "ana")
            .env("HIGHWATER_POSTGRES_URL", world.database.url())
            .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
            .stdin(Stdio::null());
        let output = shell.output().await?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{typed}\n{stdout}{stderr}");
        println!("$ {typed}\n{stdout}{stderr}");
        if let Some(rest) = stdout.strip_prefix("plan ") {
            plan = rest.split(':').next().unwrap_or_default().to_owned();
        }
    }
    std::fs::remove_dir_all(&folder)?;
    let worker = world.worker(rows());
    world.verify_rows_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn json_has_the_shape_that_the_page_says() -> TestResult {
    let world = World::new("json", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let list = world.highwater(&["offsets", "list", "--json"]).await?.ended(0).json();
    assert_eq!(keys(&list[0]), documented("`list`"));
    assert_eq!((&list[0]["partitions"], &list[0]["workers"]), (&2.into(), &1.into()));
    let described = world.offsets("describe", &["--json"]).await?.ended(0).json();
    let description = &described[0];
    let activity = &description["activity"];
    let mut found = keys(description);
    for part in [&description["partitions"][0], activity, &activity["workers"][0], &activity["members"][0]] {
        found.extend(keys(part));
    }
    assert_eq!(found, documented("`describe`"));
    let line = &description["partitions"][1];
    assert_eq!(
        (&line["next_offset"], &line["log_end_offset"], &line["lag"]),
        (&20.into(), &20.into(), &0.into())
    );
    assert_eq!((&line["state"], &description["asked_kafka"]), (&"running".into(), &true.into()));
    let lagging = world.offsets("describe", &["--only-with-lag", "--json"]).await?.ended(0).json();
    assert_eq!(lagging[0]["partitions"], Value::Array(Vec::new()));
    for (flags, text) in
        [(&["--state"][..], "running"), (&["--verbose"], "COMMITTED"), (&["--members"], "member ")]
    {
        let said = world.offsets("describe", flags).await?.ended(0);
        assert!(said.stdout.contains(text), "{}", said.stdout);
    }

    let back = ["--all-topics", "--shift-by", "-5"];
    let plans = world.offsets("plan", &[&back[..], &["--json"]].concat()).await?.ended(0).json();
    let mut found = keys(&plans[0]);
    found.extend(keys(&plans[0]["steps"][0]));
    let mut expected = documented("`plan`, `plans`");
    for word in ["planned", "applying", "applied", "stopped", "earliest", "latest", "done", "taken"] {
        assert!(expected.remove(word), "{word}");
    }
    assert_eq!(found, expected);
    let id = plans[0]["id"].to_string();
    let applied = world.highwater(&["offsets", "apply", &id, "--live", "--json"]).await?.ended(0).json();
    assert_eq!(keys(&applied), documented("`apply`"));
    let reset =
        world.offsets("reset", &[&back[..], &["--dry-run", "--json"]].concat()).await?.ended(0).json();
    // What is undone has a test of its own.
    let undo = ["undo", "--undo-rows", "tables", "table", "mode", "rows", "index", "create_index"];
    let expected = documented("`reset`, `import`");
    assert_eq!(keys(&reset), expected.into_iter().filter(|word| !undo.contains(word)).collect());
    assert_eq!(reset["executed"], false);
    let events = world.offsets("events", &["--json"]).await?.ended(0).json();
    assert_eq!(keys(&events[0]), documented("`events`"));
    let export = world.offsets("export", &["--json"]).await?.ended(0).json();
    assert_eq!(keys(&export[0]), documented("`export`"));
    let paused = world.partitions_command("pause", 0, &["--reason", "why", "--json"]).await?.ended(0).json();
    assert_eq!(keys(&paused[0]), documented("`partitions …`"));
    assert_eq!(paused[0]["obeyed_by"], worker.status().owner.expect("it has begun").to_string());
    world.partitions_command("resume", 0, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    let deleted = world.offsets("delete", &["--all-topics", "--dry-run", "--json"]).await?.ended(0).json();
    assert_eq!(keys(&deleted), documented("`delete`, `forget-topic`, `copy`"));
    Ok(())
}
