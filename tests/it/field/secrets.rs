//! S5: data where it must not be. Worker processes at TRACE are given secrets in keys, values, headers and the texts of
//! errors; whatever they write, to their outputs and to their tables, is searched for them.

use std::collections::BTreeSet;

use futures_util::SinkExt;
use highwater::testing::{Result, wait_until};
use highwater::{Batch, HandlerError, Record, Table, TableSink, Tx};
use serde::Deserialize;
use tokio_postgres::types::Type;

use crate::support::{Fault, PATIENCE, Process, TestResult, World};

/// In every secret, and in nothing else.
const SECRETS: [&str; 3] = ["s3cret", "4111-1111", "41111111"];

/// What is wrong with the records of a partition, and what the handler does with them.
struct Kind {
    name: &'static str,
    value: &'static str,
    /// Whether the partition halts over it.
    halts: bool,
    handle: Handle,
}

#[derive(Clone, Copy)]
enum Handle {
    /// A statement with the value as its only parameter.
    Sql(&'static str),
    /// The value as JSON of a struct.
    Json,
    /// A COPY in text format with the value as its line.
    Copy(&'static str),
    /// Something that takes code.
    Code(Code),
}

#[derive(Clone, Copy)]
enum Code {
    /// A text where the statement has a `bigint`.
    WrongType,
    /// The same in a binary COPY.
    WrongTypeInCopy,
    /// Swallows an SQL error.
    Swallow,
    /// Undoes an SQL error by a savepoint, and logs it.
    Savepoint,
    /// Rejects with a source that quotes.
    Reject,
    /// Wraps an SQL error.
    Fatal,
    /// A panic whose message was put together.
    Panic,
    Unwrap,
}

const fn kind(name: &'static str, value: &'static str, handle: Handle) -> Kind {
    Kind { name, value, halts: true, handle }
}

const KINDS: [Kind; 36] = [
    kind("a cast", "s3cret", Handle::Sql("SELECT $1::text::int")),
    kind("a cast to a date", "s3cret", Handle::Sql("SELECT $1::text::date")),
    kind("too long", "s3cret-too-long", Handle::Sql("INSERT INTO vault (short) VALUES ($1)")),
    kind("a check", "s3cret", Handle::Sql("INSERT INTO vault (checked) VALUES ($1)")),
    kind(
        "not null, with the row in the detail",
        "s3cret",
        Handle::Sql("INSERT INTO vault (tag, needed) VALUES ($1, NULL)"),
    ),
    kind("a duplicate", "s3cret", Handle::Sql("INSERT INTO vault (uniq) VALUES ($1), ($1)")),
    kind("a foreign key", "s3cret", Handle::Sql("INSERT INTO vault (parent) VALUES ($1)")),
    kind("a deferred key, at COMMIT", "s3cret", Handle::Sql("INSERT INTO vault (late) VALUES ($1)")),
    kind("an enum", "s3cret", Handle::Sql("SELECT $1::text::mood")),
    kind("a trigger that raises", "s3cret", Handle::Sql("INSERT INTO loud (v) VALUES ($1)")),
    kind("a trigger that raises 42501", "s3cret", Handle::Sql("INSERT INTO forbidding (v) VALUES ($1)")),
    kind("a trigger that raises 42P01", "s3cret", Handle::Sql("INSERT INTO routed (v) VALUES ($1)")),
    kind("a table by its name", "s3cret", Handle::Sql("SELECT $1::text::regclass")),
    kind("a role by its name", "s3cret", Handle::Sql("SELECT $1::text::regrole")),
    kind("a sequence by its name", "s3cret", Handle::Sql("SELECT nextval($1::text)")),
    kind("a query for a text search", "s3cret s3cret", Handle::Sql("SELECT to_tsquery('simple', $1::text)")),
    kind("a path", "$.s3cret[", Handle::Sql("SELECT $1::text::jsonpath")),
    kind("a setting", "s3cret", Handle::Sql("SELECT current_setting($1)")),
    kind("JSON for the server", "{\"s3cret\" 1}", Handle::Sql("SELECT $1::text::jsonb")),
    kind("a zero byte", "s3cret\0", Handle::Sql("SELECT $1::text")),
    kind("a regular expression", "s3cret(", Handle::Sql("SELECT 'x' ~ $1")),
    kind("a line of a COPY", "s3cret\n", Handle::Copy("COPY counted FROM STDIN")),
    kind("a column of a COPY", "1\ts3cret\n", Handle::Copy("COPY counted FROM STDIN")),
    kind("a wrong number for a struct", "{\"amount\":\"4111-1111-1111-1111\"}", Handle::Json),
    kind("an unknown variant", "{\"amount\":1,\"kind\":\"s3cret\"}", Handle::Json),
    kind("an unknown field", "{\"amount\":1,\"s3cret\":1}", Handle::Json),
    kind("no JSON", "s3cret", Handle::Json),
    kind("a wrong Rust type", "s3cret", Handle::Code(Code::WrongType)),
    kind("a wrong Rust type in a COPY", "s3cret", Handle::Code(Code::WrongTypeInCopy)),
    kind("an error that is swallowed", "s3cret", Handle::Code(Code::Swallow)),
    kind("a rejection with a source", "s3cret", Handle::Code(Code::Reject)),
    kind("an error that is wrapped", "s3cret", Handle::Code(Code::Fatal)),
    kind("a panic", "s3cret", Handle::Code(Code::Panic)),
    kind("a panic over an error", "s3cret", Handle::Code(Code::Unwrap)),
    Kind {
        name: "notices and warnings",
        value: "s3cret",
        halts: false,
        handle: Handle::Sql("SELECT say($1)"),
    },
    Kind {
        name: "an error that is undone",
        value: "s3cret",
        halts: false,
        handle: Handle::Code(Code::Savepoint),
    },
];

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('glad');
    CREATE TABLE parent (tag text PRIMARY KEY);
    CREATE TABLE vault (
      tag text, short varchar(8), checked text CHECK (checked = 'x'), needed text NOT NULL DEFAULT '', uniq text UNIQUE,
      parent text REFERENCES parent, late text REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE counted (n int, m int);
    CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION 'cannot take %', NEW.v USING DETAIL = NEW.v, HINT = NEW.v; END $$;
    CREATE FUNCTION forbid_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION 'permission denied for %', NEW.v USING ERRCODE = '42501'; END $$;
    CREATE FUNCTION route_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      EXECUTE format('INSERT INTO %I VALUES (1)', NEW.v); RETURN NEW; END $$;
    CREATE FUNCTION say(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
      RAISE NOTICE 'got %', $1 USING DETAIL = $1; RAISE WARNING 'got %', $1; RAISE INFO 'got %', $1; END $$;
    CREATE TABLE loud (v text); CREATE TABLE forbidding (v text); CREATE TABLE routed (v text);
    CREATE TRIGGER t BEFORE INSERT ON loud FOR EACH ROW EXECUTE FUNCTION raise_it();
    CREATE TRIGGER t BEFORE INSERT ON forbidding FOR EACH ROW EXECUTE FUNCTION forbid_it();
    CREATE TRIGGER t BEFORE INSERT ON routed FOR EACH ROW EXECUTE FUNCTION route_it();";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    #[expect(dead_code, reason = "only read from JSON")]
    amount: i64,
    #[expect(dead_code, reason = "only read from JSON")]
    kind: Option<Direction>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Debit,
    Credit,
}

/// Does to each record what its partition is for.
pub(crate) struct Leaky;

impl Fault for Leaky {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        for record in batch {
            let partition = usize::try_from(record.partition()).expect("not negative");
            let kind = &KINDS[partition];
            let handled = handle(kind.handle, &record, tx).await;
            if let Err(error) = &handled {
                // What a handler's author does with an error at hand.
                tracing::info!(%error, ?error, "{}", kind.name);
            }
            handled?;
        }
        Ok(())
    }
}

async fn handle(what: Handle, record: &Record<'_>, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
    let value = std::str::from_utf8(record.value().unwrap_or_default()).expect("UTF-8");
    match what {
        Handle::Sql(sql) => drop(tx.query(sql, &[&value]).await?),
        Handle::Json => {
            record.json::<Payment>()?;
        }
        Handle::Copy(sql) => {
            let mut sink = std::pin::pin!(tx.copy_in(sql).await?);
            sink.send(bytes::Bytes::copy_from_slice(value.as_bytes())).await?;
            sink.finish().await?;
        }
        Handle::Code(code) => run(code, value, record, tx).await?,
    }
    Ok(())
}

async fn run(
    code: Code,
    value: &str,
    record: &Record<'_>,
    tx: &mut Tx,
) -> std::result::Result<(), HandlerError> {
    const BAD: &str = "SELECT $1::text::int";
    match code {
        Code::WrongType => drop(tx.query("SELECT $1::int8", &[&value]).await?),
        Code::WrongTypeInCopy => {
            let mut copy =
                tx.copy_in_binary("COPY counted (n) FROM STDIN (FORMAT binary)", &[Type::INT4]).await?;
            copy.write(&[&value]).await?;
        }
        Code::Swallow => drop(tx.query(BAD, &[&value]).await.expect_err("it is no number")),
        Code::Savepoint => {
            let before = tx.savepoint().await?;
            let error = tx.query(BAD, &[&value]).await.expect_err("it is no number");
            tracing::warn!(%error, ?error, "undone");
            tx.rollback_to(&before).await?;
        }
        Code::Reject => {
            let source = format!("no account {value}");
            return Err(HandlerError::reject(record, "the account is not known").with_source(source));
        }
        Code::Fatal => {
            let error = tx.query(BAD, &[&value]).await.expect_err("it is no number");
            return Err(HandlerError::fatal("cannot go on").with_source(error));
        }
        Code::Panic => panic!("account {value} has no branch"),
        Code::Unwrap => {
            tx.query(BAD, &[&value]).await.map_err(|_| value).expect("it is a number");
        }
    }
    Ok(())
}

/// Columns of the sinks' table, each with a value that it does not take.
const COLUMNS: [(&str, &str, &str); 12] = [
    ("short", "varchar(8)", "s3cret-too-long"),
    ("number", "numeric", "s3cret"),
    ("id", "uuid", "s3cret"),
    ("net", "cidr", "s3cret"),
    ("feeling", "mood", "s3cret"),
    ("at", "timestamptz", "s3cret"),
    ("day", "date", "s3cret"),
    ("doc", "jsonb", "{\"s3cret\":}"),
    ("checked", "text CHECK (checked = 'x')", "s3cret"),
    ("uniq", "text UNIQUE", "s3cret"),
    ("raised", "text", "s3cret"),
    ("parent", "text REFERENCES parent", "s3cret"),
];

/// JSON values of which none is a row of the sinks' table.
const ROWS: [&str; 12] = [
    r#"{"short":"s3cret-too-long"}"#,
    r#"{"number":"s3cret"}"#,
    r#"{"number":{"s3cret":1}}"#,
    r#"{"count":"4111-1111-1111-1111"}"#,
    r#"{"count":4111111111111111111111}"#,
    r#"{"id":["s3cret"]}"#,
    r#"{"feeling":"s3cret"}"#,
    r#"{"at":"s3cret"}"#,
    r#""s3cret""#,
    r#"{"short":s3cret}"#,
    r#"{"checked":"s3cret"}"#,
    r#"{"raised":"s3cret"}"#,
];

fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(name, _, _)| *name)
}

fn sinks_table() -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
    format!(
        "CREATE TABLE facts ({}, count bigint);
         CREATE FUNCTION raise_raised() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           RAISE EXCEPTION 'cannot take %', NEW.raised; END $$;
         CREATE TRIGGER t BEFORE INSERT ON facts FOR EACH ROW WHEN (NEW.raised IS NOT NULL)
           EXECUTE FUNCTION raise_raised();",
        columns.join(", ")
    )
}

/// Writes the record's value into the column that its partition is for.
pub(crate) fn table_sink() -> TableSink {
    TableSink::new(Table::append("facts", columns()), |record, rows| {
        let value = std::str::from_utf8(record.value().unwrap_or_default()).expect("UTF-8");
        let column = usize::try_from(record.partition()).expect("not negative");
        let row: [Option<&str>; COLUMNS.len()] = std::array::from_fn(|at| (at == column).then_some(value));
        let [a, b, c, d, e, f, g, h, i, j, k, l] = row;
        rows.push((a, b, c, d, e, f, g, h, i, j, k, l))
    })
}

/// Writes JSON objects as they come.
pub(crate) fn json_sink() -> TableSink {
    TableSink::json(Table::append("facts", columns().chain(["count"])))
}

/// A world whose partition n has two records with `values[n]`, and secrets in keys and headers.
async fn world(hint: &str, values: &[&str]) -> Result<World<'static>> {
    let world = World::new(hint, i32::try_from(values.len()).expect("a few")).await?;
    world.database.execute(SCHEMA).await?;
    world.database.execute(&sinks_table()).await?;
    let grant = format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}", world.role.name);
    world.database.execute(&grant).await?;
    for (partition, value) in (0..).zip(values) {
        for _ in 0..2 {
            let message = world.message(partition).key("s3cret-key").value(*value);
            world.producer.send(message.header("s3cret-header", "s3cret-header"))?;
        }
    }
    world.producer.flush().await?;
    Ok(world)
}

/// Runs a worker process at TRACE until each partition has halted or is done, then searches for the secrets.
async fn nothing_leaks(world: &World<'_>, role: &str, halts: &[bool]) -> TestResult {
    let process = Process::start_with(world, role, role, &[("HIGHWATER_LOG", "trace")])?;
    let halting: BTreeSet<i32> = (0..).zip(halts).filter(|(_, halts)| **halts).map(|(at, _)| at).collect();
    let reported = "SELECT partition FROM highwater.partition_status \
                    WHERE group_id = $1 AND topic = $2 AND state = 'halted'";
    wait_until("the bad partitions have halted", PATIENCE, async || {
        let rows = world.database.query(reported, &[&world.group, &world.topic]).await?;
        let halted: BTreeSet<i32> = rows.iter().map(|row| row.get(0)).collect();
        Ok((halted == halting).then_some(()))
    })
    .await?;
    for partition in (0..world.partitions).filter(|partition| !halting.contains(partition)) {
        world.reached(partition, 2).await?;
    }
    process.stop().await?;

    let lines = process.child.lines();
    assert!(lines.iter().any(|line| line.text.contains("executing statement")), "the driver logs at DEBUG");
    let leaks = |text: &str| SECRETS.iter().any(|secret| text.contains(secret));
    let mut found: Vec<String> = lines.into_iter().map(|line| line.text).filter(|line| leaks(line)).collect();
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'highwater'";
    for table in world.database.query(tables, &[]).await? {
        let table: String = table.get(0);
        let rows = world.database.query(&format!("SELECT t::text FROM highwater.{table} t"), &[]).await?;
        found.extend(
            rows.iter().map(|row| format!("{table}: {}", row.get::<_, String>(0))).filter(|row| leaks(row)),
        );
    }
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    Ok(())
}

#[tokio::test]
async fn s5_1_no_value_reaches_what_a_worker_says_of_its_handlers_errors() -> TestResult {
    let values: Vec<&str> = KINDS.iter().map(|kind| kind.value).collect();
    let world = world("secrets", &values).await?;
    let halts: Vec<bool> = KINDS.iter().map(|kind| kind.halts).collect();
    nothing_leaks(&world, "leaky", &halts).await?;
    world.assert_consistent().await?;
    Ok(())
}

#[tokio::test]
async fn s5_1_no_value_reaches_what_a_worker_says_of_a_table_sinks_rows() -> TestResult {
    let values: Vec<&str> = COLUMNS.iter().map(|(_, _, value)| *value).collect();
    let world = world("secret-rows", &values).await?;
    // Of two equal values the first one is good.
    nothing_leaks(&world, "leaky-rows", &[true; COLUMNS.len()]).await?;
    assert_eq!(world.number("SELECT count(*) FROM facts WHERE uniq IS NULL").await?, 0);
    Ok(())
}

#[tokio::test]
async fn s5_1_no_value_reaches_what_a_worker_says_of_json_rows() -> TestResult {
    let world = world("secret-json", &ROWS).await?;
    nothing_leaks(&world, "leaky-json", &[true; ROWS.len()]).await?;
    assert_eq!(world.number("SELECT count(*) FROM facts").await?, 0);
    Ok(())
}
