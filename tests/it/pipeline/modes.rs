//! Changes that do not say all of a row: values that are kept, rows that are marked as gone, rows that are changed only if
//! they are there.

use std::collections::BTreeMap;

use highwater::testing::{Oracle, wait_until};

use crate::support::{PATIENCE, TestResult, World};

const TABLES: &str = "\
    CREATE TABLE articles (id int PRIMARY KEY, n int NOT NULL, body text NOT NULL);
    CREATE TABLE archive (id int PRIMARY KEY, n int NOT NULL, body text NOT NULL, deleted_at timestamptz);
    CREATE TABLE known (id int PRIMARY KEY, n int NOT NULL, body text NOT NULL, extra text NOT NULL);
    INSERT INTO known VALUES (0, 0, 'seed', 'e'), (1001, 0, 'seed', 'e'), (2002, 0, 'seed', 'e');
    CREATE TABLE log (op text NOT NULL, source_partition int NOT NULL, source_offset bigint NOT NULL);";

const SINKS: &str = "\
    [[sink]]
    topic = 'TOPIC'
    table = 'articles'
    envelope = 'debezium'
    mode = 'upsert'
    columns = ['id', 'n', 'body']

    [[sink]]
    topic = 'TOPIC'
    table = 'archive'
    envelope = 'debezium'
    mode = 'upsert'
    deletes = { soft = 'deleted_at' }
    columns = ['id', 'n', 'body']

    [[sink]]
    topic = 'TOPIC'
    table = 'known'
    envelope = 'debezium'
    mode = 'update'
    deletes = 'ignore'
    columns = ['id', 'n', 'body']

    [[sink]]
    topic = 'TOPIC'
    table = 'log'
    columns.op = 'value.op'
    provenance = { partition = 'source_partition', offset = 'source_offset' }
";

const PARTITIONS: i32 = 3;
const KEYS: usize = 7;
const UNSAID: &str = "__debezium_unavailable_value";

/// What happens to a key in its `round`: it is inserted, changed with and without its body, deleted, inserted again.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Body,
    NoBody,
    Gone,
}

fn change(key: usize, round: usize) -> Change {
    match if round == 0 { 0 } else { (round + key) % 5 } {
        0 | 2 => Change::Body,
        1 | 3 => Change::NoBody,
        _ => Change::Gone,
    }
}

fn id(partition: i32, key: usize) -> i32 {
    partition * 1_000 + i32::try_from(key).unwrap_or_default()
}

fn event(partition: i32, n: usize) -> (String, String) {
    let (key, round) = (n % KEYS, n / KEYS);
    let id = id(partition, key);
    let value = match change(key, round) {
        Change::Body => format!(r#"{{"op":"u","after":{{"id":{id},"n":{n},"body":"b{n}"}}}}"#),
        Change::NoBody => format!(r#"{{"op":"u","after":{{"id":{id},"n":{n},"body":"{UNSAID}"}}}}"#),
        Change::Gone => format!(r#"{{"op":"d","before":{{"id":{id}}},"after":null}}"#),
    };
    (id.to_string(), value)
}

/// What the tables hold after `count` events in each partition: articles, the archive, what was known before.
fn expected(count: usize) -> [Vec<String>; 3] {
    let (mut articles, mut archive) = (BTreeMap::new(), BTreeMap::new());
    let mut known: BTreeMap<i32, (usize, String)> =
        [0, 1_001, 2_002].map(|id| (id, (0, "seed".to_owned()))).into();
    for partition in 0..PARTITIONS {
        for n in 0..count {
            let (id, change) = (id(partition, n % KEYS), change(n % KEYS, n / KEYS));
            if change == Change::Gone {
                articles.remove(&id);
                archive.entry(id).and_modify(|(_, _, gone)| *gone = true);
                continue;
            }
            let body = |kept: Option<&String>| match change {
                Change::Body => format!("b{n}"),
                _ => kept.cloned().unwrap_or_default(),
            };
            let row = (n, body(articles.get(&id).map(|(_, body): &(usize, String)| body)));
            articles.insert(id, row);
            let row = (n, body(archive.get(&id).map(|(_, body, _): &(usize, String, bool)| body)), false);
            archive.insert(id, row);
            if let Some(row) = known.get_mut(&id) {
                *row = (n, body(Some(&row.1)));
            }
        }
    }
    [
        articles.iter().map(|(id, (n, body))| format!("{id}|{n}|{body}")).collect(),
        archive.iter().map(|(id, (n, body, gone))| format!("{id}|{n}|{body}|{gone}")).collect(),
        known.iter().map(|(id, (n, body))| format!("{id}|{n}|{body}|e")).collect(),
    ]
}

#[tokio::test]
async fn core_what_a_change_does_not_say_stays_under_kills() -> TestResult {
    const EACH: usize = 100;
    const KILLS: usize = 3;
    let world = World::with_tables("modes", PARTITIONS, TABLES).await?;
    let small = "batch_target_records = 10\nbatch_max_records = 10\nlinger = '1ms'\n";
    let file = world.pipeline_file(&format!("{small}{SINKS}"))?;
    let mut older = world.run("process-0", &file).await?;
    for round in 0..KILLS {
        let younger = world.begin(&format!("process-{}", round + 1), &file)?;
        let before = world.number("SELECT count(*) FROM log").await?;
        world.producer.fill(&world.topic, PARTITIONS, EACH, |p, n| event(p, n + EACH * round)).await?;
        wait_until("some of them are applied", PATIENCE, async || {
            Ok((world.number("SELECT count(*) FROM log").await? > before).then_some(()))
        })
        .await?;
        older.kill()?;
        younger.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
        older = younger;
    }
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM log";
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    let tables = [
        "SELECT concat_ws('|', id, n, body) FROM articles ORDER BY id",
        "SELECT concat_ws('|', id, n, body, CASE WHEN deleted_at IS NULL THEN 'false' ELSE 'true' END) FROM archive \
         ORDER BY id",
        "SELECT concat_ws('|', id, n, body, extra) FROM known ORDER BY id",
    ];
    for (sql, rows) in tables.into_iter().zip(expected(EACH * KILLS)) {
        let found: Vec<String> = world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, rows, "{sql}");
    }
    // Where there is nothing to keep, the record is bad.
    let lost = format!(r#"{{"op":"u","after":{{"id":999,"n":1,"body":"{UNSAID}"}}}}"#);
    world.producer.send(world.message(0).key("999").value(lost))?;
    world.producer.flush().await?;
    let line = older.wait_for_line(|text| text.contains("no row to keep it of"), PATIENCE).await?;
    assert!(line.contains("table articles"), "{line}");
    assert_eq!(world.number("SELECT count(*) FROM articles WHERE id = 999").await?, 0);
    older.term()?;
    assert_eq!(older.wait(PATIENCE).await?, 0, "{older}");
    Ok(())
}
