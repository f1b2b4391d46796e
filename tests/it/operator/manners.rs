//! What holds for all verbs: shapes of JSON, exit codes, near misses, manual pages, completions, tables on a terminal.

use std::process::Stdio;
use std::time::{Duration, Instant};

use highwater::testing::wait_until;
use serde_json::Value;
use tokio::process::Command;

use super::shapes::{check, documented, shown};
use crate::support::needs::{runs, skipped_without};
use crate::support::{PATIENCE, Sink, TestResult, World};

#[tokio::test]
async fn every_json_has_the_shape_that_the_page_says() -> TestResult {
    let world = World::new("shapes", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    wait_until("the sink's table is registered", PATIENCE, async || {
        Ok((world.database.count("highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    let (group, topic) = (world.group.as_str(), world.topic.as_str());
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (csv, archive) = (path("stands.csv"), path("report.tar.gz"));
    std::fs::write(&csv, world.offsets("export", &[]).await?.ended(0).stdout)?;
    let other = format!("{group}-copy");
    let place = format!("{topic}:0");
    let mapping = "INSERT INTO highwater.mapping_change (group_id, follows, mapping, changes, positions, program, version, host, worker) \
                   VALUES ($1, 0, '{\"t\": {\"mode\": \"append\"}}', '{a}', '{\"t\": {\"0\": 5}}', 'p', 'v', 'h', gen_random_uuid())";
    world.database.query(mapping, &[&group]).await?;

    let all: Vec<(&str, i32, Vec<&str>)> = vec![
        ("version", 0, vec!["version"]),
        ("migrate", 0, vec!["migrate", "--dry-run", "--schema", "another"]),
        ("offsets", 0, vec!["offsets", "--group", group]),
        ("offsets list", 0, vec!["offsets", "list"]),
        ("offsets describe", 0, vec!["offsets", "describe", "--group", group]),
        (
            "offsets plan",
            0,
            vec!["offsets", "plan", "--group", group, "--all-topics", "--shift-by", "-5", "--undo-rows"],
        ),
        ("offsets plans", 0, vec!["offsets", "plans", "--group", group]),
        (
            "offsets reset",
            0,
            vec!["offsets", "reset", "--group", group, "--topic", &place, "--shift-by", "-5", "--dry-run"],
        ),
        ("offsets import", 0, vec!["offsets", "import", &csv, "--group", group, "--dry-run"]),
        ("offsets export", 0, vec!["offsets", "export", "--group", group]),
        (
            "offsets copy",
            0,
            vec!["offsets", "copy", "--group", group, "--to-group", &other, "--all-topics", "--execute"],
        ),
        ("offsets delete", 0, vec!["offsets", "delete", "--group", &other, "--all-topics", "--dry-run"]),
        (
            "offsets forget-topic",
            0,
            vec!["offsets", "forget-topic", "--group", &other, "--topic", topic, "--dry-run"],
        ),
        (
            "partitions pause",
            0,
            vec!["partitions", "pause", "--group", group, "--topic", &place, "--reason", "why"],
        ),
        ("status", 1, vec!["status", "--group", group]),
        ("partitions resume", 0, vec!["partitions", "resume", "--group", group, "--topic", &place]),
        (
            "partitions halt",
            0,
            vec!["partitions", "halt", "--group", group, "--topic", &place, "--reason", "why"],
        ),
        ("partitions retry", 0, vec!["partitions", "retry", "--group", group, "--topic", &place]),
        ("offsets events", 0, vec!["offsets", "events", "--group", &other]),
        ("offsets mappings", 0, vec!["offsets", "mappings", "--group", group]),
        ("doctor", 0, vec!["doctor", "--group", group, "--role", &world.role.name]),
        ("report", 0, vec!["report", "--group", group, "--output", &archive]),
        (
            "tail",
            0,
            vec![
                "tail",
                "--group",
                group,
                "--topic",
                &place,
                "--from",
                "beginning",
                "--count",
                "2",
                "--payload",
            ],
        ),
    ];
    let mut failed = Vec::new();
    for (verb, code, arguments) in &all {
        let said = world.highwater(&[arguments.as_slice(), &["--json"]].concat()).await?.ended(*code);
        let value: Value = match *verb {
            // A line per record.
            "tail" => {
                said.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?.into()
            }
            _ => said.json(),
        };
        println!("{verb}: {}", shown(&value));
        let checked = std::panic::catch_unwind(|| check(&value, &documented(verb), verb));
        failed.extend(checked.err().map(|_| *verb));
    }
    let plans = world.offsets("plans", &["--json"]).await?.ended(0).json();
    let plan = plans[0]["id"].to_string();
    let applied = world.highwater(&["offsets", "apply", &plan, "--live", "--json"]).await?.ended(0).json();
    println!("offsets apply: {}", shown(&applied));
    check(&applied, &documented("offsets apply"), "offsets apply");
    world.caught_up().await?;
    world.assert_exact(false).await?;
    let compared =
        world.highwater(&["reconcile", "--group", group, "--deep", "--ledger", "--json"]).await?.json();
    println!("reconcile: {}", shown(&compared));
    check(&compared, &documented("reconcile"), "reconcile");
    let skip = [
        "partitions",
        "skip",
        "--group",
        group,
        "--topic",
        &place,
        "--to",
        "20",
        "--reason",
        "why",
        "--json",
    ];
    assert_eq!(
        world.highwater(&skip).await?.ended(0).json(),
        Value::Array(Vec::new()),
        "it stands there already"
    );
    documented("partitions skip");
    documented("offsets adopt");
    worker.stop().await?;
    assert_eq!(failed, Vec::<&str>::new());
    Ok(())
}

#[tokio::test]
async fn the_page_lists_every_verb_and_each_has_a_manual_page() -> TestResult {
    let world = World::new("manual", 1).await?;
    let folder = tempfile::tempdir()?;
    let dir = folder.path().display().to_string();
    let said = world.highwater(&["man", "--dir", &dir]).await?.ended(0);
    let page = include_str!("../../../docs/command.md");
    let mut verbs = 0;
    for entry in std::fs::read_dir(folder.path())? {
        let path = entry?.path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"), "{name}: {text}");
        verbs += 1;
        let Some(verb) = name.strip_prefix("highwater-") else { continue };
        // `offsets-forget-topic`: the first hyphen parts verb and verb.
        let verb = match (verb.strip_prefix("dead-letters"), verb.split_once('-')) {
            (Some(rest), _) => format!("dead-letters{}", rest.replace('-', " ")),
            (None, Some(("import", _))) => verb.to_owned(),
            (None, Some((first, rest))) => format!("{first} {rest}"),
            (None, None) => verb.to_owned(),
        };
        assert!(page.contains(&format!("`{verb}`")), "docs/command.md does not list `{verb}`");
    }
    assert!(verbs > 20 && said.stdout.contains(&format!("wrote {verbs} pages")), "{}", said.stdout);
    let said = world.highwater(&["man", "offsets", "reset"]).await?.ended(0);
    assert!(
        said.stdout.contains("highwater\\-offsets\\-reset") && said.stdout.contains("shift\\-by"),
        "{}",
        said.stdout
    );
    assert!(world.highwater(&["man", "ofsets"]).await?.ended(2).stderr.contains("there is no verb `ofsets`"));
    Ok(())
}

#[tokio::test]
async fn a_mistyped_group_or_topic_names_its_neighbours_everywhere() -> TestResult {
    let world = World::new("misses", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let (group, topic) = (world.group.to_uppercase(), world.topic.to_uppercase());
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("r.tar.gz").display().to_string();
    let there = world.group.as_str();
    let of_group: Vec<Vec<&str>> = vec![
        vec!["status"],
        vec!["offsets", "describe"],
        vec!["offsets", "events"],
        vec!["offsets", "plans"],
        vec!["offsets", "export"],
        vec!["offsets", "reset", "--all-topics", "--to-current", "--dry-run"],
        vec!["offsets", "plan", "--all-topics", "--to-current"],
        vec!["offsets", "delete", "--all-topics", "--dry-run"],
        vec!["offsets", "copy", "--to-group", "new", "--all-topics", "--dry-run"],
        vec!["partitions", "pause", "--all-topics", "--reason", "why"],
        vec!["partitions", "retry", "--all-topics"],
        vec!["dead-letters", "list"],
        vec!["dead-letters", "stats"],
        vec!["dead-letters", "export"],
        vec!["dead-letters", "discard", "--dry-run"],
        vec!["reconcile"],
        vec!["report", "--output", &archive],
        vec!["tail", "--topic", &world.topic, "--exit"],
    ];
    let mut silent = Vec::new();
    for arguments in &of_group {
        let said = world.highwater(&[arguments.as_slice(), &["--group", &group]].concat()).await?;
        if said.code != 2 || !said.stderr.contains(&format!("did you mean {there}?")) {
            silent.push((arguments.clone(), said.code, said.stderr));
        }
    }
    let of_topic: Vec<Vec<&str>> = vec![
        vec!["offsets", "describe"],
        vec!["dead-letters", "list"],
        vec!["offsets", "export"],
        vec!["offsets", "reset", "--to-current", "--dry-run"],
        vec!["offsets", "delete", "--dry-run"],
        vec!["offsets", "copy", "--to-group", "new", "--dry-run"],
        vec!["partitions", "pause", "--reason", "why"],
        vec!["reconcile"],
        vec!["tail", "--exit"],
    ];
    for arguments in &of_topic {
        let said =
            world.highwater(&[arguments.as_slice(), &["--group", there, "--topic", &topic]].concat()).await?;
        if said.code != 2 || !said.stderr.contains(&format!("did you mean {}?", world.topic)) {
            silent.push((arguments.clone(), said.code, said.stderr));
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
    // The verb that asks Postgres alone, too.
    let said = world.highwater(&["offsets", "--group", &group]).await?.ended(2);
    assert!(said.stderr.contains(there), "{}", said.stderr);
    Ok(())
}

impl World<'_> {
    /// What Tab would propose after these words, the last of which is being typed; and how long that took.
    async fn proposed(
        &self,
        url: &str,
        words: &[&str],
    ) -> highwater::testing::Result<(Vec<String>, Duration)> {
        let began = Instant::now();
        let index = words.len().to_string();
        let mut command = self.highwater_command(url, &[&["--", "highwater"], words].concat());
        command.env("_HIGHWATER_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
        let output = command.output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((text.lines().map(str::to_owned).collect(), began.elapsed()))
    }
}

#[tokio::test]
async fn tab_completes_groups_and_topics_and_waits_for_nobody() -> TestResult {
    let world = World::new("tab", 1).await?;
    world.produce(1).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let url = world.database.url();
    let begun = &world.group[..world.group.len() - 3];
    for words in [
        &["offsets", "describe", "--group", begun][..],
        &["status", "--group", begun],
        &["partitions", "pause", "--topic", "x", "--group", begun],
        &["reconcile", "--group", begun],
        &["tail", "--group", begun],
    ] {
        // On a busy machine 300 ms may pass.
        wait_until(&format!("{words:?} is completed"), PATIENCE, async || {
            Ok((world.proposed(url, words).await?.0 == [world.group.clone()]).then_some(()))
        })
        .await?;
    }
    let topics = ["partitions", "pause", "--group", &world.group, "--topic", ""];
    wait_until("the topic is completed", PATIENCE, async || {
        Ok((world.proposed(url, &topics).await?.0 == [world.topic.clone()]).then_some(()))
    })
    .await?;
    let of_another = ["partitions", "pause", "--group", "another", "--topic", ""];
    assert_eq!(world.proposed(url, &of_another).await?.0, Vec::<String>::new());
    assert!(world.proposed(url, &["offs"]).await?.0.contains(&"offsets".to_owned()));

    // A database that never answers: a listener that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let nowhere = format!("postgres://nobody@{}/none", silent.local_addr()?);
    let (proposed, took) = world.proposed(&nowhere, &["status", "--group", ""]).await?;
    assert!(proposed.is_empty() && took < Duration::from_secs(3), "{proposed:?} after {took:?}");
    // A password that a command would ask for: it is not run.
    let asked = std::env::temp_dir().join(&world.group);
    let mut command = world.highwater_command(url, &["--", "highwater", "status", "--group", ""]);
    let password = format!("touch {}", asked.display());
    command.env("_HIGHWATER_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n");
    command.env("HIGHWATER_POSTGRES_URL", "postgres://nobody@127.0.0.1:1/none");
    let output = command.env("HIGHWATER_POSTGRES_PASSWORD_COMMAND", password).output().await?;
    assert!(output.stdout.is_empty() && !asked.exists(), "{output:?}");

    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = world.highwater(&["completions", shell]).await?.ended(0);
        assert!(said.stdout.contains("_HIGHWATER_COMPLETE"), "{shell}: {}", said.stdout);
        let fixed = world.highwater(&["completions", "--static", shell]).await?.ended(0);
        assert!(
            fixed.stdout.contains("describe") && !fixed.stdout.contains("_HIGHWATER_COMPLETE"),
            "{shell}"
        );
    }
    if runs("bash", &["--version"]) {
        let said = world.highwater(&["completions", "bash"]).await?.ended(0);
        let checked = Command::new("bash").args(["-n", "-c", &said.stdout]).output().await?;
        assert!(checked.status.success(), "{checked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_table_fits_the_terminal_and_is_plain_in_a_pipe() -> TestResult {
    if skipped_without("script", runs("script", &["--version"])) {
        return Ok(());
    }
    let world = World::new("narrow", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let reason =
        "somebody has to look at the index of the sink first, and that is Ana, who is asleep until six"
            .to_owned();
    world.partitions_command("pause", 0, &["--reason", &reason]).await?.ended(0);
    let piped = world.offsets("events", &[]).await?.ended(0);
    assert!(piped.stdout.contains("EVENT"), "{}", piped.stdout);
    let piped = world.highwater(&["doctor", "--group", &world.group]).await?;
    let longest = piped.stdout.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    assert!(longest > 100, "a row is a line: {}", piped.stdout);
    let typed = format!(
        "stty cols 90 rows 30; {} doctor --group {} --role {}",
        env!("CARGO_BIN_EXE_highwater"),
        world.group,
        world.role.name
    );
    let output = Command::new("script")
        .args(["-qec", &typed, "/dev/null"])
        .env("HIGHWATER_POSTGRES_URL", world.database.url())
        .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
        .stdin(Stdio::null())
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let longest = shown.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    assert!(longest <= 90 && shown.contains("FINDING"), "{longest}: {shown}");
    worker.stop().await?;
    Ok(())
}
