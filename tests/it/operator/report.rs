//! One archive for a bug report: all that helps, and nothing that is secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater::HandlerError;
use highwater::testing::unique;

use crate::support::watch::halted;
use crate::support::{Fault, Sink, TestResult, World};

/// What the archive holds, by name.
fn unpacked(archive: &Path) -> TestResult<BTreeMap<String, String>> {
    let folder = tempfile::tempdir()?;
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()).status()?;
    assert!(status.success());
    let mut files = BTreeMap::new();
    let mut open = vec![folder.path().join("report")];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder.path().join("report"))?.display().to_string();
                files.insert(name, std::fs::read_to_string(&path)?);
            }
        }
    }
    Ok(files)
}

/// Rejects the record at offset 7, and quotes its key.
struct Quoting;

impl Fault for Quoting {
    fn record(&self, record: &highwater::Record<'_>) -> Result<(), HandlerError> {
        if record.offset() == 7 {
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            return Err(HandlerError::reject(record, format!("no account {key}-of-the-record")));
        }
        Ok(())
    }
}

fn file(folder: &tempfile::TempDir) -> (PathBuf, String) {
    let path = folder.path().join("report.tar.gz");
    (path.clone(), path.display().to_string())
}

#[tokio::test]
async fn the_report_has_what_helps_and_no_secret() -> TestResult {
    let world = World::new("report", 1).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink { fault: Quoting, rows_only: false });
    halted(&worker, 0).await?;
    world.reported_halt(0).await?;
    // Secrets and payloads wherever they may lie.
    let planted = unique("planted");
    let (group, topic) = (&world.group, &world.topic);
    world
        .database
        .execute(&format!(
            "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, key_hash, fingerprint, \
               reason, handler) VALUES ('{group}', '{topic}', '', 0, 3, sha256('{planted}'), 'f1', 'bad {planted}', 'h');
             INSERT INTO highwater.dead_letter_payload (dead_letter_id, record_key, record_value, header_names, header_values) \
               SELECT dead_letter_id, '{planted}', '{planted}', '{{{planted}}}', '{{{planted}}}' FROM highwater.dead_letter;
             INSERT INTO highwater.dead_letter_attempt (dead_letter_id, kind, error) \
               SELECT dead_letter_id, 'redrive', '{planted}' FROM highwater.dead_letter;
             INSERT INTO highwater.offset_event (group_id, topic, partition, kind, from_offset, to_offset, actor, reason) \
               VALUES ('{group}', '{topic}', 0, 'skip', 3, 4, 'ana', 'skip {planted}');
             INSERT INTO highwater.partition_control (group_id, topic, partition, verb, epoch, actor, reason) \
               VALUES ('{group}', '{topic}', 0, 'pause', 0, 'ana', '{planted}');
             UPDATE highwater.worker_status SET detail = 'not ready because of {planted}';"
        ))
        .await?;
    let session: tokio_postgres::Config = {
        let mut config: tokio_postgres::Config = world.database.url().parse()?;
        config.application_name("highwater/a-session");
        config
    };
    let (client, connection) = session.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("BEGIN; SELECT '{planted}'")).await?;

    let folder = tempfile::tempdir()?;
    let (path, name) = file(&folder);
    let environment = [("HIGHWATER_KAFKA_SASL_PASSWORD", &*planted)];
    let arguments = ["report", "--group", group, "--output", &name];
    let said = world.highwater_in(world.database.url(), &environment, &arguments).await?.ended(0);
    println!("{}", said.stdout);
    let files = unpacked(&path)?;
    println!("{}", files["MANIFEST"]);

    let password: tokio_postgres::Config = world.database.url().parse()?;
    let password = String::from_utf8(password.get_password().expect("it has one").to_vec())?;
    let worker_password = &world.role.password;
    let key = "p0-a7-of-the-record";
    let mut secrets = vec![planted.clone(), password, worker_password.clone(), key.to_owned()];
    let tokens = "SELECT claim_token::text FROM highwater.consumer_offset UNION SELECT claim_token::text FROM highwater.claim_history";
    secrets.extend(world.database.query(tokens, &[]).await?.iter().map(|row| row.get::<_, String>(0)));
    let hash = "SELECT encode(key_hash, 'hex') FROM highwater.dead_letter";
    secrets.extend(world.database.query(hash, &[]).await?.iter().map(|row| row.get::<_, String>(0)));
    assert!(secrets.len() >= 6);
    for (name, content) in &files {
        for secret in &secrets {
            assert!(!content.contains(secret.as_str()), "{name} has {secret}: {content}");
        }
    }
    for (file, part) in [
        ("tables/partition_status.json", "was rejected: ["),
        ("tables/dead_letter.json", "\"fingerprint\": \"f1\""),
        ("tables/offset_event.json", "\"kind\": \"skip\""),
        ("tables/claim_history.json", "["),
        ("tables/meta.json", "database_id"),
        ("status.json", "\"halted\""),
        ("describe.json", "\"mirrored_offset\""),
        ("doctor.json", "\"severity\""),
        ("settings.txt", "\"sasl.password\": \"(hidden)\""),
        ("environment.txt", "HIGHWATER_KAFKA_SASL_PASSWORD\n"),
        ("versions.json", env!("CARGO_PKG_VERSION")),
        ("postgres/settings.json", "\"max_connections\""),
        ("postgres/sessions.json", "highwater/a-session"),
        ("postgres/locks.json", "\"mode\""),
        ("postgres/statistics.json", "n_dead_tup"),
        ("postgres/definitions.json", "consumer_offset_pkey"),
        ("kafka.json", &format!("\"topic\": \"{topic}\"")),
    ] {
        assert!(files[file].contains(part), "{file}: {part}: {}", files[file]);
    }
    for name in files.keys().filter(|name| *name != "MANIFEST") {
        assert!(files["MANIFEST"].contains(name.as_str()), "{name}: {}", files["MANIFEST"]);
    }
    assert!(!files.keys().any(|name| name.ends_with("unread.txt")), "{:?}", files.keys());

    // It never overwrites, and says what a name is like.
    let said = world.highwater(&arguments).await?.ended(2);
    assert!(said.stderr.contains("a name that is not taken"), "{}", said.stderr);
    world.highwater(&["report", "--output", "report.zip"]).await?.ended(2);

    // The words themselves only for whoever asks for them; and the payload not even then.
    let with = folder.path().join("with.tar.gz").display().to_string();
    let arguments = ["report", "--group", group, "--output", &with, "--with-texts", "--rows", "1"];
    world.highwater(&arguments).await?.ended(0);
    let files = unpacked(Path::new(&with))?;
    assert!(files["tables/partition_status.json"].contains(key), "{}", files["tables/partition_status.json"]);
    assert!(files["tables/dead_letter.json"].contains(&format!("bad {planted}")));
    assert!(files["MANIFEST"].contains("read it before you send it"), "{}", files["MANIFEST"]);
    drop(client);

    // A property that the Kafka client refuses is named, and its value is not, here or anywhere.
    let refused = [("HIGHWATER_KAFKA_SASL_OAUTHBEARER_METHOD", &*planted)];
    let other = folder.path().join("refused.tar.gz").display().to_string();
    let arguments = ["report", "--group", group, "--output", &other];
    world.highwater_in(world.database.url(), &refused, &arguments).await?.ended(0);
    let files = unpacked(Path::new(&other))?;
    assert!(files.values().all(|content| !content.contains(&planted)), "{files:#?}");
    assert!(files["kafka.json.unread.txt"].contains("property sasl.oauthbearer.method"), "{files:#?}");
    let said = world.highwater_in(world.database.url(), &refused, &["offsets", "list"]).await?.ended(2);
    assert!(
        said.stderr.contains("property sasl.oauthbearer.method") && !said.stderr.contains(&planted),
        "{}",
        said.stderr
    );
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_report_comes_with_few_rights_and_without_servers() -> TestResult {
    let world = World::new("report-rights", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let few = world.database.role("few").await?;
    let grants = format!(
        "GRANT USAGE ON SCHEMA highwater TO {0}; GRANT SELECT ON highwater.meta, highwater.consumer_offset TO {0}",
        few.name
    );
    world.database.execute(&grants).await?;
    let folder = tempfile::tempdir()?;
    let (path, name) = file(&folder);
    let arguments = ["report", "--group", &world.group, "--output", &name, "--json"];
    let answer = world.highwater_at(&few.url, &arguments).await?.ended(0).json();
    let unread: Vec<&str> = answer["parts"]
        .as_array()
        .expect("an array")
        .iter()
        .filter(|part| part["unread"] == true)
        .filter_map(|part| part["name"].as_str())
        .collect();
    assert!(unread.contains(&"tables/offset_event.json.unread.txt"), "{unread:?}");
    let files = unpacked(&path)?;
    let why = &files["tables/offset_event.json.unread.txt"];
    assert!(why.contains("permission denied for table offset_event"), "{why}");
    assert!(files["tables/consumer_offset.json"].contains("\"next_offset\": 5"));
    assert!(files["kafka.json"].contains("\"brokers\""), "Kafka is asked all the same");

    // Neither server is there.
    let name = folder.path().join("nowhere.tar.gz").display().to_string();
    let nowhere = "postgres://nobody:planted-secret@127.0.0.1:1/none";
    let arguments = ["report", "--output", &name, "--bootstrap-server", "127.0.0.1:1"];
    let said = world.highwater_at(nowhere, &arguments).await?.ended(0);
    assert!(said.stdout.contains("not all could be read"), "{}", said.stdout);
    let files = unpacked(Path::new(&name))?;
    for unread in ["status.json", "describe.json", "postgres", "kafka.json"] {
        assert!(files.contains_key(&format!("{unread}.unread.txt")), "{unread}: {:?}", files.keys());
    }
    assert!(files["doctor.json"].contains("\"fail\"") && files.contains_key("settings.txt"));
    assert!(files.values().all(|content| !content.contains("planted-secret")));
    Ok(())
}
