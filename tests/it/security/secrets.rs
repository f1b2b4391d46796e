//! Secrets of every kind, planted; then everything that comes out is searched for them.
//!
//! A way into Kafka each, for they exclude one another: a password, a client's certificate with a locked key, a token of a
//! server. Texts of handlers' errors have tests of their own (`field/secrets.rs`), tables in a report, too
//! (`operator/report.rs`).

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use highwater::testing::{Child, Postgres};
use highwater::{Config, PartialConfig};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use super::broker::{Broker, PASSWORD, USER, locked};
use super::issuer::Issuer;
use crate::support::needs::{runs, skipped_without};
use crate::support::{PATIENCE, Process, Setup, TestResult, World, http, web};

const CLIENT_SECRET: &str = "pl4nted/cl1ent+s3cret";
const WRONG: &str = "wr0ng-s3cret";
const KEY: &str = "pl4nted-record-key";
/// The sink takes numbers.
const VALUE: &str = "731905527319";
const HEADER: &str = "pl4nted-header";

/// All that was said, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// None of these is anywhere, as it is or as others write it.
    fn assert_without(&self, secrets: &[&str]) {
        let mut written = Vec::new();
        for secret in secrets {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let percent = secret.replace('/', "%2F").replace('+', "%2B");
            let shown = STANDARD.encode(format!("a%20client:{percent}"));
            written.extend([(*secret).to_owned(), STANDARD.encode(secret), hex, percent, shown]);
        }
        let mut found = Vec::new();
        for (place, text) in &self.0 {
            for line in text.lines().filter(|line| written.iter().any(|secret| line.contains(secret))) {
                found.push(format!("{place}: {line}"));
            }
        }
        assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    }
}

/// What a worker of this way is told, beside where everything is.
fn environment<'a>(broker: &Broker, listener: &str, more: &[(&'a str, String)]) -> Vec<(&'a str, String)> {
    let protocol = match listener {
        "OAUTH" => "SASL_PLAINTEXT",
        "MUTUAL" => "SSL",
        _ => "SASL_SSL",
    };
    let mut all = vec![
        ("HIGHWATER_BROKERS", format!("localhost:{}", broker.kafka.listener(listener))),
        ("HIGHWATER_KAFKA_BROKER_ADDRESS_FAMILY", "v4".to_owned()),
        ("HIGHWATER_KAFKA_SECURITY_PROTOCOL", protocol.to_owned()),
        ("HIGHWATER_KAFKA_SSL_CA_LOCATION", broker.authority.root_file().display().to_string()),
        ("HIGHWATER_LOG", "trace".to_owned()),
    ];
    all.extend(more.iter().cloned());
    all
}

/// Runs a worker, asks its server, types the commands, and looks into the tables.
async fn listen(world: &World<'_>, environment: &[(&str, String)]) -> TestResult<Said> {
    let mut said = Said::default();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // What the client itself may say, it says.
    let of_worker = [("HIGHWATER_ADMIN_ADDRESS", "127.0.0.1:0"), ("HIGHWATER_KAFKA_DEBUG", "all")];
    let process = Process::start_with(world, "planted", "plain", &[&environment[..], &of_worker].concat())?;
    for n in 0..20 {
        let message = world.message(n % world.partitions).key(KEY).value(VALUE).header(HEADER, HEADER);
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    let listens =
        process.child.wait_for_line(|line| line.contains("the admin server listens"), PATIENCE).await?;
    let address = listens.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.expect("the line has it").parse()?;
    world.caught_up().await.inspect_err(|_| eprintln!("{}", process.child))?;
    // Also of the client that fetches, not only of those that ask.
    let of_group = |line: &str| line.contains("highwater::kafka") && line.contains("facility=\"HEARTBEAT\"");
    process.child.wait_for_line(of_group, PATIENCE).await?;
    for path in ["/livez", "/readyz", "/status", "/metrics"] {
        said.add(path, http::get(address, path).await?.body);
    }
    for id in [process.child.pid(), std::process::id()] {
        said.add("the process list", std::fs::read_to_string(format!("/proc/{id}/cmdline"))?);
    }

    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("report.tar.gz").display().to_string();
    let (group, topic) = (world.group.as_str(), world.topic.as_str());
    for (code, arguments) in [
        (0, vec!["report", "--group", group, "--output", &archive]),
        (0, vec!["offsets", "describe", "--group", group, "--json"]),
        (0, vec!["reconcile", "--group", group, "--deep"]),
        (0, vec!["tail", "--group", group, "--topic", topic, "--from", "beginning", "--count", "20"]),
        (0, vec!["migrate", "--print-grants"]),
    ] {
        let answer = world.highwater_in(world.database.url(), &environment, &arguments).await?.ended(code);
        said.add(format!("{arguments:?}"), answer.stdout + &answer.stderr);
    }
    for arguments in [["status", "--group", group], ["doctor", "--group", group]] {
        // Well or not: the role's own findings are no matter here.
        let answer = world.highwater_in(world.database.url(), &environment, &arguments).await?;
        assert!(answer.code <= 1, "{arguments:?}: {answer:?}");
        said.add(format!("{arguments:?}"), answer.stdout + &answer.stderr);
    }
    let unpacked = Command::new("tar").arg("-xzOf").arg(&archive).output()?;
    assert!(unpacked.status.success() && unpacked.stdout.len() > 10_000);
    said.add("the report", String::from_utf8_lossy(&unpacked.stdout));
    let dashboard = dashboard(world, &environment, &mut said).await?;

    process.stop().await?;
    for (place, child) in [("the worker", &process.child), ("the dashboard", &dashboard)] {
        let lines: Vec<String> = child.lines().into_iter().map(|line| line.text).collect();
        assert!(lines.len() > 10, "{place} says something at TRACE");
        said.add(place, lines.join("\n"));
    }
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'highwater'";
    for table in world.database.query(tables, &[]).await? {
        let table: String = table.get(0);
        for row in world.database.query(&format!("SELECT t::text FROM highwater.{table} t"), &[]).await? {
            said.add(format!("table {table}"), row.get::<_, String>(0));
        }
    }
    let config = PartialConfig::from_sources(
        None,
        environment
            .iter()
            .chain(&[
                ("HIGHWATER_POSTGRES_URL", world.role.url.as_str()),
                ("HIGHWATER_GROUP", group),
                ("HIGHWATER_TOPICS", topic),
            ])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )?;
    said.add("Debug", format!("{config:?} {:?}", config.clone().finish_operator()?));
    let config: Config = config.finish()?;
    said.add("Debug", format!("{config:#?}"));
    Ok(said)
}

/// What the dashboard serves; the exporter is a part of it.
async fn dashboard(world: &World<'_>, environment: &[(&str, &str)], said: &mut Said) -> TestResult<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.env("HIGHWATER_POSTGRES_URL", world.database.url()).envs(environment.iter().copied()).args([
        "dashboard",
        "--listen",
        "127.0.0.1:0",
    ]);
    let child = Child::spawn("dashboard", &command)?;
    let line = child.wait_for_line(|line| line.contains(" at http://"), PATIENCE).await?;
    let address = line.split("http://").nth(1).unwrap_or_default().trim_end_matches('/');
    for path in ["/api/fleet".to_owned(), "/metrics".to_owned(), format!("/api/groups/{}", world.group)] {
        said.add(&path, web::get(address, &path, &[]).await?.body);
    }
    child.term()?;
    child.wait(PATIENCE).await?;
    Ok(child)
}

/// What a command says when it is not let in.
async fn refused(
    world: &World<'_>,
    said: &mut Said,
    environment: &[(&str, String)],
    wrong: (&str, &str),
) -> TestResult {
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).chain([wrong]).collect();
    let arguments =
        ["tail", "--group", &world.group, "--topic", &world.topic, "--from", "beginning", "--count", "1"];
    let asked = world.highwater_in(world.database.url(), &environment, &arguments);
    let answer = tokio::time::timeout(Duration::from_secs(60), asked).await??;
    assert_ne!(answer.code, 0, "{answer:?}");
    said.add(format!("with a wrong {}", wrong.0), answer.stdout + &answer.stderr);
    Ok(())
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_no_secret_of_any_kind_comes_out() -> TestResult {
    if skipped_without("openssl", runs("openssl", &["version"])) {
        return Ok(());
    }
    let (broker, postgres) = tokio::try_join!(Broker::start(None), Postgres::shared())?;
    let world = async || {
        World::with("planted", Setup { kafka: &broker.kafka, postgres, partitions: 2, topic_config: &[] })
            .await
    };
    let text = |text: &str| text.to_owned();
    let (certificate, key) = broker.of_clients.issue(&["worker"], ClientAuth);
    let chain = broker.write("planted.crt", &certificate).display().to_string();
    let locked = locked(&broker, &key).display().to_string();
    let issuer = Issuer::start(&broker.authority, CLIENT_SECRET, Duration::from_secs(600));
    let ways = [
        (
            "PLAIN",
            vec![
                ("HIGHWATER_KAFKA_SASL_MECHANISM", text("PLAIN")),
                ("HIGHWATER_KAFKA_SASL_USERNAME", text(USER)),
                ("HIGHWATER_KAFKA_SASL_PASSWORD", text(PASSWORD)),
            ],
            ("HIGHWATER_KAFKA_SASL_PASSWORD", WRONG),
        ),
        (
            "MUTUAL",
            vec![
                ("HIGHWATER_KAFKA_SSL_CERTIFICATE_LOCATION", chain),
                ("HIGHWATER_KAFKA_SSL_KEY_LOCATION", locked),
                ("HIGHWATER_KAFKA_SSL_KEY_PASSWORD", text(PASSWORD)),
            ],
            ("HIGHWATER_KAFKA_SSL_KEY_PASSWORD", WRONG),
        ),
        (
            "OAUTH",
            vec![
                ("HIGHWATER_KAFKA_SASL_MECHANISM", text("OAUTHBEARER")),
                ("HIGHWATER_KAFKA_TOKEN_URL", issuer.url.clone()),
                ("HIGHWATER_KAFKA_TOKEN_CLIENT_ID", text("a client")),
                ("HIGHWATER_KAFKA_CLIENT_SECRET", text(CLIENT_SECRET)),
                ("HIGHWATER_KAFKA_TOKEN_SCOPE", text("kafka payments")),
            ],
            ("HIGHWATER_KAFKA_CLIENT_SECRET", WRONG),
        ),
    ];
    for (listener, more, wrong) in ways {
        let world = world().await?;
        let environment = environment(&broker, listener, &more);
        let mut said = listen(&world, &environment).await?;
        refused(&world, &mut said, &environment, wrong).await?;
        let database: tokio_postgres::Config = world.database.url().parse()?;
        let database = String::from_utf8(database.get_password().expect("it has one").to_vec())?;
        let tokens = issuer.tokens();
        let mut secrets =
            vec![PASSWORD, CLIENT_SECRET, WRONG, KEY, VALUE, HEADER, &world.role.password, &database];
        secrets.extend(tokens.iter().map(String::as_str));
        said.assert_without(&secrets);
    }
    assert!(!issuer.tokens().is_empty());
    Ok(())
}
