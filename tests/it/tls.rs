//! TLS to Postgres: libpq's modes against good and bad servers, and a worker that lives on it.

use highwater::testing::{Database, Kafka, Postgres};
use highwater::{ErrorKind, PartialConfig};

use crate::support::certificates::Authority;
use crate::support::{PATIENCE, Process, Setup, Sink, TestResult, World};

/// What a mode makes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Plain,
    Tls,
    /// Refused, by the client or the server, in these words.
    Refused(&'static str),
}

use Outcome::{Plain, Refused, Tls};

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What it is about, the role, the host's name, the server, more parameters, and the outcome per mode.
type Row<'a> = (&'a str, &'a str, &'a str, &'a Postgres, String, [Outcome; 6]);

/// A role of the server's rules: the superuser makes it.
async fn role(database: &Database, name: &str) -> TestResult {
    Ok(database.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 's3cret'")).await?)
}

async fn outcome(url: &str) -> Result<bool, highwater::Error> {
    let database = PartialConfig::default().postgres_url(url).finish_database()?;
    let client = database.connect("test").await?;
    let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(client.query_one(ssl, &[]).await.expect("the server answers").get(0))
}

async fn check(what: &str, url: &str, expected: Outcome) {
    let found = outcome(url).await;
    match (&found, expected) {
        (Ok(false), Plain) | (Ok(true), Tls) => {}
        (Err(error), Refused(words)) => {
            let text = error.report();
            assert!(text.contains(words), "{what}: {text}");
            assert!(!text.contains("s3cret"), "{what}: {text}");
            let fatal = [ErrorKind::Authentication, ErrorKind::Configuration];
            assert!(fatal.contains(&error.kind()), "{what}: it would be retried for ever: {error:?}");
        }
        _ => panic!("{what}: expected {expected:?}, found {found:?}"),
    }
}

/// Every mode against every server: one column per mode.
#[tokio::test]
async fn modes_mean_what_they_mean_to_libpq() -> TestResult {
    let (good, unknown) = (Authority::new("good"), Authority::new("unknown"));
    let rules = "hostnossl all certified all reject\n\
                 hostssl all certified all scram-sha-256 clientcert=verify-ca\n\
                 hostnossl all encrypted all reject\n\
                 hostssl all plain all reject";
    let server = good.server(rules).await?;
    let without = Postgres::start_local(&[]).await?;
    for postgres in [&server, &without] {
        let database = postgres.fresh_database("tls").await?;
        for name in ["anybody", "certified", "encrypted", "plain"] {
            role(&database, name).await?;
        }
    }
    let (ca, other, own, foreign) = (good.root(), unknown.root(), good.client(), unknown.client());
    let refuses = Refused("pg_hba.conf rejects connection");
    let untrusted = Refused("UnknownIssuer");
    let no_tls = Refused("server does not support TLS");
    let wrong_name = Refused("not valid for name");
    let nobody = Refused("names no authority");
    let no_certificate = Refused("connection requires a valid client certificate");
    let foreign_certificate = Refused("UnknownCA");
    let cells: &[Row<'_>] = &[
        ("good", "anybody", "localhost", &server, ca.clone(), [Plain, Plain, Tls, Tls, Tls, Tls]),
        ("by address", "anybody", "127.0.0.1", &server, ca.clone(), [Plain, Plain, Tls, Tls, Tls, Tls]),
        (
            "another name",
            "anybody",
            "db.example",
            &server,
            ca.clone(),
            [Plain, Plain, Tls, Tls, Tls, wrong_name],
        ),
        (
            "unknown authority",
            "anybody",
            "localhost",
            &server,
            other.clone(),
            [Plain, Plain, Plain, untrusted, untrusted, untrusted],
        ),
        (
            "no authority named",
            "anybody",
            "localhost",
            &server,
            String::new(),
            [Plain, Plain, Tls, Tls, nobody, nobody],
        ),
        (
            "server without TLS",
            "anybody",
            "localhost",
            &without,
            ca.clone(),
            [Plain, Plain, Plain, no_tls, no_tls, no_tls],
        ),
        ("TLS demanded", "encrypted", "localhost", &server, ca.clone(), [refuses, Tls, Tls, Tls, Tls, Tls]),
        (
            "TLS rejected",
            "plain",
            "localhost",
            &server,
            ca.clone(),
            [Plain, Plain, Plain, refuses, refuses, refuses],
        ),
        (
            "certificate demanded, none given",
            "certified",
            "localhost",
            &server,
            ca.clone(),
            [refuses, no_certificate, refuses, no_certificate, no_certificate, no_certificate],
        ),
        (
            "certificate demanded and given",
            "certified",
            "localhost",
            &server,
            format!("{ca}&{own}"),
            [refuses, Tls, Tls, Tls, Tls, Tls],
        ),
        (
            "certificate demanded, withheld",
            "certified",
            "localhost",
            &server,
            format!("{ca}&{own}&sslcertmode=disable"),
            [refuses, no_certificate, refuses, no_certificate, no_certificate, no_certificate],
        ),
        (
            "certificate of an unknown authority",
            "certified",
            "localhost",
            &server,
            format!("{ca}&{foreign}"),
            [
                refuses,
                foreign_certificate,
                refuses,
                foreign_certificate,
                foreign_certificate,
                foreign_certificate,
            ],
        ),
    ];
    for (what, user, host, postgres, parameters, expected) in cells {
        for (mode, expected) in MODES.iter().zip(expected) {
            let port = postgres.port();
            let url = format!(
                "postgres://{user}:s3cret@{host}:{port}/postgres?hostaddr=127.0.0.1&sslmode={mode}&{parameters}"
            );
            check(&format!("{what}, {mode}"), url.trim_end_matches('&'), *expected).await;
        }
    }
    // The other form, the other ways to say it.
    let port = server.port();
    let pairs = |more: &str| {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=anybody password=s3cret dbname=postgres {more}"
        )
    };
    check("pairs", &pairs(&format!("sslmode=verify-full {ca}")), Tls).await;
    check("pairs", &pairs(&format!("sslmode=verify-full {other}")), untrusted).await;
    check("channel binding", &pairs(&format!("sslmode=require channel_binding=require {ca}")), Tls).await;
    check("without a server name", &pairs(&format!("sslmode=verify-full sslsni=0 {ca}")), Tls).await;
    check("only TLS 1.2", &pairs(&format!("sslmode=require {ca} ssl_max_protocol_version=TLSv1.2")), Tls)
        .await;
    Ok(())
}

/// A whole life over TLS, with a certificate on either side; what the machine trusts is asked for by a process.
#[tokio::test]
async fn a_worker_lives_over_verified_tls() -> TestResult {
    let authority = Authority::new("good");
    let rules = "hostnossl all postgres all scram-sha-256\n\
                 hostnossl all all all reject\n\
                 hostssl all all all scram-sha-256 clientcert=verify-ca";
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), authority.server(rules))?;
    let mut world =
        World::with("tls", Setup { kafka, postgres: &postgres, partitions: 3, topic_config: &[] }).await?;
    let plain = world.role.url.clone();
    let with = |root: &str| format!("{plain}?sslmode=verify-full&{root}&{}", authority.client());
    world.role.url = with(&authority.root());
    world.produce(100).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let sessions = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl \
                    JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'highwater/%'";
    let row = &world.database.query(sessions, &[]).await?[0];
    let (encrypted, open): (i64, i64) = (row.get(0), row.get(1));
    assert!(encrypted > 1 && open == 0, "{encrypted} over TLS, {open} without");
    worker.stop().await?;

    // A server that the worker does not believe: it says so and ends, instead of trying for ever.
    let unknown = Authority::new("unknown");
    world.role.url = with(&unknown.root());
    let error = world.worker(Sink::<()>::default()).wait().await.expect_err("the server is not believed");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Authentication, 5), "{error:?}");
    assert!(error.report().contains("sslrootcert"), "{}", error.report());

    world.produce(100).await?;
    world.role.url = with("sslrootcert=system");
    let root = authority.root();
    let trusted = root.trim_start_matches("sslrootcert=");
    let process = Process::start_with(&world, "worker", "plain", &[("SSL_CERT_FILE", trusted)])?;
    world.verify().await?;
    process.stop().await?;
    let process = Process::start_with(&world, "stranger", "plain", &[])?;
    assert_eq!(process.child.wait(PATIENCE).await?, 5, "this machine does not trust the authority");
    Ok(())
}
