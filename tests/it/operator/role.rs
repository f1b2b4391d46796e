//! What an operator does is possible with what `--print-grants --operator` prints, and not with less.

use highwater::testing::wait_until;

use super::command::Said;
use crate::support::{PATIENCE, Sink, TestResult, World};

#[tokio::test]
async fn an_operator_needs_what_is_printed_for_one() -> TestResult {
    let world = World::new("operator-role", 2).await?;
    world.produce(40).await?;
    let rows = || Sink { fault: (), rows_only: true };
    let worker = world.worker(rows());
    world.caught_up().await?;
    wait_until("the table is registered", PATIENCE, async || {
        Ok((world.number("SELECT count(*) FROM highwater.sink_table").await? > 0).then_some(()))
    })
    .await?;
    let operator = world.database.role("operator").await?;
    let (group, topic) = (world.group.as_str(), world.topic.as_str());
    let zero = format!("{topic}:0");
    let shift = ["--group", group, "--all-topics", "--live", "--shift-by"];
    let reset = |by: &'static str, more: &[&'static str]| {
        [&["offsets", "reset"][..], &shift[..], &[by, "--reason", "why", "--execute"], more].concat()
    };
    let hold = |verb: &'static str, more: &[&'static str]| {
        [&["partitions", verb, "--group", group, "--topic", &zero, "--reason", "why"][..], more].concat()
    };
    let deeds: Vec<Vec<&str>> = vec![
        reset("-5", &[]),
        reset("-5", &["--undo-rows"]),
        ["offsets", "plan", "--group", group, "--topic", &zero, "--to-offset", "35"].to_vec(),
        hold("pause", &[]),
        hold("resume", &[]),
        hold("halt", &[]),
        hold("retry", &[]),
        hold("skip", &["--to", "39"]),
    ];
    let type_it = async |arguments: &[&str]| -> TestResult<Said> {
        Ok(world.highwater_at(&operator.url, arguments).await?)
    };

    // With nothing, with what a worker has, and with what an operator has but for one right.
    let refused = async |arguments: &[&str]| -> TestResult {
        let said = type_it(arguments).await?.ended(5);
        assert!(said.stderr.contains("permission denied"), "{arguments:?}: {}", said.stderr);
        Ok(())
    };
    refused(&deeds[0]).await?;
    let print = |more: &[&'static str]| {
        [&["migrate", "--print-grants", "--role", operator.name.as_str()][..], more].concat()
    };
    let workers = type_it(&print(&[])).await?.ended(0).stdout;
    world.database.execute(&workers).await?;
    refused(&deeds[0]).await?;
    refused(&deeds[3]).await?;
    world
        .database
        .execute(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA highwater FROM \"{}\"", operator.name))
        .await?;
    let operators = type_it(&print(&["--operator"])).await?.ended(0).stdout;
    world.database.execute(&operators).await?;
    let said = type_it(&deeds[1]).await?.ended(5);
    assert!(said.stderr.contains("GRANT SELECT, DELETE ON public.sink"), "{}", said.stderr);
    world.database.execute(&format!("GRANT SELECT, DELETE ON sink TO \"{}\"", operator.name)).await?;

    for deed in &deeds {
        if deed.contains(&"skip") {
            // There must be something to skip, and nobody who is quicker.
            type_it(&hold("pause", &[])).await?.ended(0);
            world.produce(5).await?;
            let to = (world.next_offset(0).await?.expect("it has one") + 2).to_string();
            let mut skip: Vec<&str> = deed.clone();
            *skip.last_mut().expect("the offset") = &to;
            type_it(&skip).await?.ended(0);
            type_it(&hold("resume", &[])).await?.ended(0);
            continue;
        }
        let said = type_it(deed).await?.ended(0);
        if deed.contains(&"plan") {
            let id = said.stdout.split([' ', ':']).nth(1).expect("plan N:");
            type_it(&["offsets", "apply", id, "--live"]).await?.ended(0);
        }
    }
    world.caught_up().await?;
    for look in [
        &["status", "--group", group][..],
        &["offsets", "list"],
        &["offsets", "describe", "--group", group],
        &["offsets", "events", "--group", group],
        &["offsets", "plans", "--group", group],
        &["reconcile", "--group", group, "--deep"],
        &["tail", "--group", group, "--topic", topic, "-e"],
    ] {
        let said = type_it(look).await?;
        assert_eq!(said.code, 0, "{look:?}: {}{}", said.stdout, said.stderr);
    }

    // Beginning and ending groups is the owner's.
    let other = format!("{group}-copy");
    refused(&["offsets", "copy", "--group", group, "--to-group", &other, "--all-topics", "--execute"])
        .await?;
    worker.stop().await?;
    refused(&["offsets", "delete", "--group", group, "--all-topics", "--execute"]).await?;
    refused(&["offsets", "forget-topic", "--group", group, "--topic", topic, "--execute"]).await?;
    Ok(())
}
