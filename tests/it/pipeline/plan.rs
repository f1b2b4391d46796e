//! `highwater run --plan`: what is told before is what comes of it then, and nothing is written for it.

use std::collections::BTreeSet;

use super::{PARTITIONS, SINKS, TABLES, payment};
use crate::operator::shapes::{check, documented};
use crate::support::{PATIENCE, TestResult, World};

/// Everything that a worker would leave behind.
const TRACES: &str = "\
    SELECT (SELECT count(*) FROM accounts) + (SELECT count(*) FROM payments) + (SELECT count(*) FROM latest) \
    + (SELECT count(*) FROM running) + (SELECT count(*) FROM highwater.consumer_offset) \
    + (SELECT count(*) FROM highwater.group_topic) + (SELECT count(*) FROM highwater.worker_status) \
    + (SELECT count(*) FROM highwater.worker_session) + (SELECT count(*) FROM highwater.dead_letter)";

/// By the mapping, by a CHECK, by a unique index that an earlier record of the sample has filled, by a trigger.
fn record(partition: i32, n: usize) -> (String, String) {
    let (account, value) = payment(partition, n);
    let value = match n {
        4 => value.replace("\"amount\"", "\"Amount\""),
        7 => value.replace("\"amount\":0.70", "\"amount\":5000"),
        9 => value.replace(&format!("t{partition}-9"), &format!("t{partition}-8")),
        11 => value.replace("\"note\":\"n11\"", "\"note\":\"no\""),
        _ => value,
    };
    (account, value)
}

#[tokio::test]
async fn core_a_plan_tells_what_a_worker_then_does() -> TestResult {
    const EACH: usize = 20;
    let tables = format!(
        "{TABLES} ALTER TABLE payments ADD CHECK (amount < 1000), ADD UNIQUE (id); \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF NEW.body ->> ''note'' = ''no'' THEN RAISE EXCEPTION ''no''; END IF; RETURN NEW; END'; \
         CREATE TRIGGER refuse BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION refuse();"
    );
    let world = World::with_tables("plan", PARTITIONS, &tables).await?;
    world.producer.fill(&world.topic, PARTITIONS, EACH, record).await?;
    let sinks = SINKS.replace("rest = 'body'", "rest = 'body'\non_bad_record = 'dead_letter'");
    let file = world.pipeline_file(&sinks)?;
    let plan = world.command(&["run", "--plan", "--json"], &file).await?.ended(1).json();
    check(&plan, &documented("run --plan"), "run --plan");
    assert_eq!(world.number(TRACES).await?, 0, "nothing is written");
    assert_eq!((&plan["records"], &plan["problems"]), (&60.into(), &serde_json::json!([])), "{plan:#}");
    for (at, table, rows) in [(0, "accounts", 48), (1, "payments", 48), (2, "latest", 48)] {
        let sink = &plan["sinks"][at];
        assert_eq!(
            (&sink["table"], &sink["rows"], &sink["rejected"]),
            (&table.into(), &rows.into(), &12.into())
        );
        assert_eq!((&sink["is_there"], &sink["is_tried"]), (&true.into(), &true.into()), "{sink:#}");
    }
    // As Postgres writes them.
    let shown = &plan["sinks"][1]["shown"][1]["columns"];
    assert_eq!(
        (&shown["amount"], &shown["paid_at"]),
        (&"0.10".into(), &"2026-09-21 14:13:20.001+00".into()),
        "{shown:#}"
    );
    assert_eq!(
        (&shown["source_offset"], &shown["body"]),
        (&"1".into(), &r#"{"note": "n1", "tags": [1]}"#.into())
    );
    let reasons: Vec<&str> =
        plan["rejected"].as_array().unwrap().iter().filter_map(|one| one["reason"].as_str()).collect();
    for (at, words) in [
        (0, "table payments, column amount"),
        (1, "constraint payments_amount_check"),
        (2, "constraint payments_id_key"),
        (3, "P0001"),
    ] {
        assert!(reasons[at].contains(words) && !reasons[at].contains("5000"), "{reasons:#?}");
    }

    let process = world.run("as planned", &file).await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    let letters = client.query("SELECT partition, record_offset FROM highwater.dead_letter", &[]).await?;
    let letters: BTreeSet<(i64, i64)> =
        letters.iter().map(|row| (row.get::<_, i32>(0).into(), row.get(1))).collect();
    let planned = plan["rejected"].as_array().unwrap().iter();
    let planned: BTreeSet<(i64, i64)> =
        planned.filter_map(|one| Some((one["partition"].as_i64()?, one["offset"].as_i64()?))).collect();
    assert_eq!(letters, planned);
    let rows = "SELECT source_partition, source_offset FROM payments \
                UNION ALL SELECT partition, record_offset FROM highwater.dead_letter";
    let oracle = highwater::testing::Oracle::new(world.producer.ledger(), &world.topic);
    oracle.compare(&client, rows).await?.assert_exact();

    // While the worker runs, too, and from where the group stands.
    let said = world.command(&["run", "--plan"], &file).await?.ended(0).stdout;
    assert!(said.starts_with("0 records"), "{said}");
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    world.producer.fill(&world.topic, PARTITIONS, 2, |p, n| payment(p, n + EACH)).await?;
    let said = world.command(&["run", "--plan", "--records", "4"], &file).await?.ended(0).stdout;
    assert!(said.starts_with("4 records"), "{said}");
    assert!(said.contains(&format!("{}[0] from 20: 2\n", world.topic)), "{said}");
    assert!(
        said.contains(
            "  4 rows, 0 deletions, 0 stepped over, 0 rejected (tried in the table, and rolled back)"
        ),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_plan_tells_what_the_database_lacks() -> TestResult {
    let world = World::with_tables("plan-lacks", 1, "\
        CREATE TABLE narrow (id text); CREATE TABLE firsts (id text PRIMARY KEY, name text NOT NULL DEFAULT 'x')").await?;
    world.database.execute(&format!("REVOKE INSERT ON firsts FROM {}", world.role.name)).await?;
    world.producer.fill(&world.topic, 1, 3, payment).await?;
    let sinks = "\
        [[sink]]\ntopic = 'TOPIC'\ntable = 'absent'\ncolumns = ['id', 'ts']\n\
        [[sink]]\ntopic = 'TOPIC'\ntable = 'narrow'\ncolumns = ['id', 'ts', 'note']\n\
        [[sink]]\ntopic = 'TOPIC'\ntable = 'firsts'\nmode = 'insert_ignore'\ncolumns = ['id']\nwhere = \"value.id != 't0-0'\"\n";
    let file = world.pipeline_file(sinks)?;
    let text = std::fs::read_to_string(&file)?.replace("start = 'earliest'\n", "");
    std::fs::write(&file, text)?;
    let said = world.command(&["run", "--plan"], &file).await?.ended(1);
    for words in [
        "and the start policy is `fail`",
        "table absent: there is no such table",
        "table narrow: there are no columns ts, note",
        "GRANT INSERT ON firsts",
        "  the table is not there",
        "  2 rows, 0 deletions, 1 stepped over, 0 rejected (not tried in the table)",
        "ts      (missing)  value.ts",
        "@0: id = \"t0-0\", ts = 1790000000000",
    ] {
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }
    assert!(said.stderr.contains("0 of 3 records would be rejected; problems: 4"), "{}", said.stderr);
    let file = world.pipeline_file(&sinks.replace("TOPIC", "TOPICS"))?;
    let said = world.command(&["run", "--plan"], &file).await?.ended(2);
    assert!(said.stderr.contains(&format!("did you mean {}", world.topic)), "{}", said.stderr);
    Ok(())
}
