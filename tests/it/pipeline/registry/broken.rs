//! Registries in trouble, and records that their schemas do not fit: what waits, what halts, what is set aside.

mod stub;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use highwater::testing::{Error, Oracle, Result, wait_until};
use serde_json::json;

use self::stub::{Answer, Asked, Stub, nowhere};
use super::encode::{avro, framed};
use crate::support::{PATIENCE, TestResult, World};

const TABLE: &str =
    "CREATE TABLE rows (n bigint NOT NULL, source_partition int NOT NULL, source_offset bigint NOT NULL);";

/// Whatever would become a dead letter, does.
const SINK: &str = "\
    [[sink]]
    topic = 'TOPIC'
    table = 'rows'
    value = 'avro'
    on_bad_record = 'dead_letter'
    columns = ['n']
    provenance = { partition = 'source_partition', offset = 'source_offset' }
";

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"}]}"#;

fn record(id: u32, n: i64) -> Vec<u8> {
    framed(id, &avro(SCHEMA, &[], &json!({ "n": n })))
}

fn knows(_: &Asked) -> Answer {
    Answer::schema("AVRO", SCHEMA)
}

impl World<'_> {
    async fn with_rows(hint: &str) -> Result<World<'static>> {
        World::with_tables(hint, 1, TABLE).await
    }

    /// `registry`: what is in its braces.
    fn file_with(&self, registry: &str) -> Result<std::path::PathBuf> {
        self.pipeline_file(&format!("registry = {{ {registry} }}\n{SINK}"))
    }

    /// Some records of a schema.
    async fn produce_of(&self, id: u32) -> Result<()> {
        for n in 0..20 {
            self.producer.send(self.message(0).value(record(id, n)))?;
        }
        self.producer.flush().await
    }

    /// What is said of the partition.
    async fn said(&self) -> Result<(String, String)> {
        let sql = "SELECT coalesce(state, ''), coalesce(detail, '') FROM highwater.partition_status";
        let rows = self.database.query(sql, &[]).await?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1))).unwrap_or_default())
    }

    /// Waits until the partition is in this state, for these words.
    async fn stands(&self, state: &str, words: &str) -> Result<()> {
        let mut last = (String::new(), String::new());
        let what = format!("the partition is {state}: {words}");
        let stands = wait_until(&what, PATIENCE, async || {
            last = self.said().await?;
            Ok((last.0 == state && last.1.contains(words)).then_some(()))
        });
        stands.await.map_err(|error| Error::caused(format!("it is {last:?}"), error))
    }

    /// After something was mended, of a partition that is reported as halted.
    async fn resume(&self) -> Result<()> {
        wait_until("it goes on", PATIENCE, async || {
            self.partitions_command("retry", 0, &[]).await?;
            Ok((self.said().await?.0 != "halted").then_some(()))
        })
        .await
    }

    /// All records are rows, once each, but for so many dead letters.
    async fn verify_rows(&self, letters: i64) -> TestResult {
        self.caught_up().await?;
        let client = self.database.client().await?;
        let rows = "SELECT source_partition, source_offset FROM rows \
                    UNION ALL SELECT partition, record_offset FROM highwater.dead_letter";
        Oracle::new(self.producer.ledger(), &self.topic).compare(&client, rows).await?.assert_exact();
        assert_eq!(self.number("SELECT count(*) FROM highwater.dead_letter").await?, letters);
        Ok(())
    }
}

/// Away, busy, slow, or half of it dead: the records wait, and the process keeps its partition.
#[tokio::test]
async fn a_registry_in_trouble_costs_time_alone() -> TestResult {
    let world = World::with_rows("registry-trouble").await?;
    let address = nowhere();
    let file = world.file_with(&format!("url = ['http://{}/dead', 'http://{address}/api/']", nowhere()))?;
    let process = world.run("worker", &file).await?;
    world.produce_of(1).await?;
    world.stands("running", "schema 1 is not here yet: the schema registry: ").await?;
    let stub = Stub::start_at(address, knows);
    world.verify_rows(0).await?;
    assert_eq!(
        stub.asked().iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(),
        ["/api/schemas/ids/1"]
    );

    stub.now(|_| Answer::status(500));
    world.produce_of(2).await?;
    world.stands("running", &format!("http://{address} answers 500")).await?;
    stub.now(knows);
    world.verify_rows(0).await?;

    // Longer, together, than a session of Kafka's.
    stub.now(|asked| knows(asked).after(Duration::from_secs(3)));
    for id in 3..=5 {
        world.produce_of(id).await?;
    }
    world.verify_rows(0).await?;
    let epoch = "SELECT max(epoch)::int8 FROM highwater.consumer_offset";
    assert_eq!(world.number(epoch).await?, 1, "the partition was claimed once");

    // It stops soon, too, while an answer is awaited.
    stub.now(|asked| knows(asked).after(Duration::from_secs(4)));
    let so_far = stub.asked().len();
    world.produce_of(6).await?;
    wait_until("it asks", PATIENCE, async || Ok((stub.asked().len() > so_far).then_some(()))).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    stub.now(knows);
    let process = world.run("another", &file).await?;
    world.verify_rows(0).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

#[tokio::test]
async fn a_schema_that_is_not_known_is_waited_for_and_then_halts() -> TestResult {
    const WAIT: Duration = Duration::from_secs(4);
    let world = World::with_rows("registry-unknown").await?;
    let stub = Stub::start(|_| Answer::unknown());
    let process =
        world.run("worker", &world.file_with(&format!("url = '{}', schema_wait = '4s'", stub.url))?).await?;
    world.produce_of(7).await?;
    world.stands("running", "the schema registry does not know schema 7 yet").await?;
    stub.now(knows);
    world.verify_rows(0).await?;

    stub.now(|_| Answer::unknown());
    let before = stub.asked().len();
    world.produce_of(8).await?;
    process.wait_for_line(|line| line.contains("halted") && line.contains("schema 8"), PATIENCE).await?;
    let waited = stub.asked()[before].at.elapsed();
    assert!(waited >= WAIT, "{waited:?}");
    let why = "the schema registry does not know schema 8, and has not for 4s (`schema_wait`)";
    world.stands("halted", why).await?;
    // An operator's retry is waited for anew.
    let asked = stub.asked().len();
    let resumed = Instant::now();
    world.resume().await?;
    wait_until("it asks again", PATIENCE, async || Ok((stub.asked().len() > asked).then_some(()))).await?;
    process
        .wait_for_line_from(
            process.mark(),
            |line| line.contains("halted") && line.contains("schema 8"),
            PATIENCE,
        )
        .await?;
    assert!(resumed.elapsed() >= WAIT);
    world.stands("halted", why).await?;
    stub.now(knows);
    world.resume().await?;
    world.verify_rows(0).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// New ones need no restart; old ones cost time alone.
#[tokio::test]
async fn what_the_registry_is_shown_is_read_anew() -> TestResult {
    let world = World::with_rows("registry-secret").await?;
    let demands = |wanted: String| {
        move |asked: &Asked| if asked.authorization == wanted { knows(asked) } else { Answer::status(401) }
    };
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("shop:{password}")));
    let stub = Stub::start(demands(basic("first")));
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("secret");
    let mut id = 0;
    for (shows, wanted) in [
        ("user = 'shop', password", [basic("first"), basic("se:cönd")]),
        ("token", ["Bearer first".to_owned(), "Bearer se:cönd".to_owned()]),
    ] {
        let [first, second] = wanted;
        stub.now(demands(first));
        std::fs::write(&secret, "first\n")?;
        let file = world.file_with(&format!(
            "url = '{}', {shows} = {{ file = '{}' }}",
            stub.url,
            secret.display()
        ))?;
        let process = world.run("worker", &file).await?;
        id += 1;
        world.produce_of(id).await?;
        world.verify_rows(0).await?;
        stub.now(demands(second));
        id += 1;
        world.produce_of(id).await?;
        world
            .stands("running", "answers 401: what it is shown (`user` and `password`, or `token`) is refused")
            .await?;
        std::fs::remove_file(&secret)?;
        world.stands("running", "the registry's secret: ").await?;
        std::fs::write(&secret, "se:cönd\n")?;
        world.verify_rows(0).await?;
        process.term()?;
        assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
        let said: Vec<_> = process.lines().into_iter().map(|line| line.text).collect();
        assert!(
            !said.iter().any(|line| line.contains("se:cönd") || line.contains(&basic("first"))),
            "{said:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_header_may_name_the_schema_by_its_guid() -> TestResult {
    const GUID: [u8; 16] = *b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\xde\xf0";
    let world = World::with_rows("registry-guid").await?;
    let stub = Stub::start(|asked| match asked.path.as_str() {
        "/schemas/guids/12345678-9abc-def0-1234-56789abcdef0" | "/schemas/ids/1" => knows(asked),
        _ => Answer::unknown(),
    });
    let process = world.run("worker", &world.file_with(&format!("url = '{}'", stub.url))?).await?;
    for n in 0..30 {
        let bare = avro(SCHEMA, &[], &json!({ "n": n }));
        let message = match n % 4 {
            0 => world.message(0).value(record(1, n)),
            1 => world.message(0).value([&[1][..], &GUID, &bare].concat()),
            2 => world.message(0).header("__value_schema_id", [&[1][..], &GUID].concat()).value(bare),
            // The last of a name counts.
            _ => world
                .message(0)
                .header("__value_schema_id", "other")
                .header("__value_schema_id", [0, 0, 0, 0, 1])
                .value(bare),
        };
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    world.verify_rows(0).await?;
    assert_eq!(world.number("SELECT sum(n)::int8 FROM rows").await?, 435);
    assert_eq!(stub.asked().len(), 2, "{:?}", stub.asked());
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

#[tokio::test]
async fn a_schema_that_is_none_halts_in_words() -> TestResult {
    let world = World::with_rows("registry-no-schema").await?;
    let stub = Stub::start(knows);
    let process = world.run("worker", &world.file_with(&format!("url = '{}'", stub.url))?).await?;
    for (id, (kind, schema, words)) in (1..).zip([
        (
            "AVRO",
            r#"{"type":"record","name":"R","fields":[{"name":"n","type":"shop.Number"}]}"#,
            "names a type shop.Number",
        ),
        ("AVRO", "secret: {", "is no JSON"),
        (
            "PROTOBUF",
            "syntax = \"proto3\"; import \"nowhere.proto\"; message M { int64 n = 1; }",
            "cannot be compiled",
        ),
        ("XML", "<schema/>", "is of a kind that is none of AVRO, PROTOBUF and JSON"),
    ]) {
        stub.now(move |_| Answer::schema(kind, schema));
        world.produce_of(id).await?;
        world.stands("halted", &format!("schema {id} ")).await?;
        let (_, why) = world.said().await?;
        assert!(why.contains(words) && !why.contains("secret"), "{why}");
        stub.now(knows);
        world.resume().await?;
        world.verify_rows(0).await?;
    }
    // Nor is one that answers as something else does.
    stub.now(|_| Answer { status: 200, body: "<html>".to_owned(), after: Duration::ZERO });
    world.produce_of(10).await?;
    world.stands("running", "does not answer as a schema registry does").await?;
    stub.now(|_| Answer::status(404));
    world
        .stands("running", "answers 404, and not as a schema registry does: is the path in `url` right?")
        .await?;
    stub.now(knows);
    world.verify_rows(0).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_of_its_schema_is_a_dead_letter() -> TestResult {
    let world = World::with_rows("registry-letters").await?;
    let stub = Stub::start(|asked| match asked.path.as_str() {
        "/schemas/ids/2" => Answer::schema("PROTOBUF", "syntax = \"proto3\"; message M { int64 n = 1; }"),
        "/schemas/ids/3" => Answer::schema(
            "AVRO",
            r#"{"type":"record","name":"R","fields":[{"name":"other","type":"long"}]}"#,
        ),
        "/schemas/ids/4" => Answer::schema("AVRO", r#""long""#),
        _ => knows(asked),
    });
    let process = world.run("worker", &world.file_with(&format!("url = '{}'", stub.url))?).await?;
    let whole = record(1, 1 << 40);
    let bad: [(Vec<u8>, &str); 9] = [
        (br#"{"n": 1}"#.to_vec(), "names no schema"),
        (Vec::new(), "names no schema"),
        (vec![0, 0, 0, 0], "names no schema"),
        (vec![2, 0, 0, 0, 1, 2], "names no schema"),
        (whole[..whole.len() - 1].to_vec(), "value: "),
        (whole[..5].to_vec(), "value: "),
        ([&whole[..], b"x"].concat(), "value: "),
        (framed(2, &[0, 8, 1]), "of kind PROTOBUF, and the file says AVRO"),
        // Right, but it has none of the columns.
        (record(3, 1), "column"),
    ];
    for (n, (value, _)) in (0..).zip(&bad) {
        world.producer.send(world.message(0).value(record(1, n)))?;
        world.producer.send(world.message(0).value(value.as_slice()))?;
    }
    world.producer.send(world.message(0).value(record(1, 100)))?;
    world.producer.flush().await?;
    world.verify_rows(i64::try_from(bad.len())?).await?;
    let reasons =
        world.database.query("SELECT reason FROM highwater.dead_letter ORDER BY record_offset", &[]).await?;
    for (row, (value, words)) in reasons.iter().zip(&bad) {
        let reason: String = row.get(0);
        assert!(reason.contains("table rows") && reason.contains(words), "{reason}: {value:?}");
    }
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
