//! Every mechanism, right and wrong.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use highwater::testing::Postgres;
use highwater::{ErrorKind, PartialConfig};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use super::broker::{Broker, PASSWORD, locked, sasl, token_command, trusting};
use super::issuer::Issuer;
use crate::support::certificates::Authority;
use crate::support::needs::{runs, skipped_without};
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

/// How many rows are checked at the same time; most of them only wait.
const AT_ONCE: usize = 7;

/// What becomes of a worker.
enum Outcome {
    Runs,
    /// It ends at the start, and says this.
    Refused(ErrorKind, &'static str),
}

use Outcome::{Refused, Runs};

type Change<'a> = Box<dyn Fn(PartialConfig) -> PartialConfig + 'a>;

async fn check(
    broker: &Broker,
    what: &str,
    listener: &str,
    change: Change<'_>,
    outcome: Outcome,
) -> TestResult {
    let postgres = Postgres::shared().await?;
    let setup = Setup { kafka: &broker.kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("security", setup).await?;
    world.produce(10).await?;
    let settings = change(broker.through(world.settings(), listener));
    let settings = settings.retry_backoff_max(Duration::from_secs(1));
    match outcome {
        Runs => {
            let worker = world.worker_with(settings, Sink::<()>::default());
            let verified = tokio::time::timeout(PATIENCE, world.verify()).await;
            let stopped = worker.stop().await.map_err(|error| error.report());
            assert!(matches!(verified, Ok(Ok(()))), "{what}: {stopped:?}");
            stopped?;
        }
        Refused(kind, words) => {
            let worker = world.worker_with(settings, Sink::<()>::default());
            let error = worker.wait().await.expect_err(what);
            let report = error.report();
            assert!(error.kind() == kind && report.contains(words), "{what}: {:?}: {report}", error.kind());
            assert!(!report.contains(PASSWORD), "{what}: {report}");
            assert_eq!(world.database.count("sink").await?, 0, "{what}");
        }
    }
    Ok(())
}

/// Each row: what it is about, the listener, the settings beside those of the listener, and what becomes of the worker.
#[tokio::test]
async fn each_way_in_takes_what_is_right_and_says_what_is_wrong() -> TestResult {
    if skipped_without("openssl", runs("openssl", &["version"])) {
        return Ok(());
    }
    let broker = Broker::start(None).await?;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        broker.set_password(mechanism, PASSWORD).await?;
    }
    let stranger = Authority::new("stranger");
    let (right, wrong) = (broker.write("right", PASSWORD), broker.write("wrong", "another"));
    // A client's certificate by an intermediate authority, with that one's after it.
    let intermediate = broker.of_clients.subordinate("intermediate of clients");
    let (certificate, key) = intermediate.issue(&["worker"], ClientAuth);
    let chain = broker.write("client.crt", &format!("{certificate}{}", intermediate.pem));
    let alone = broker.write("alone.crt", &certificate);
    let (plain_key, locked_key) = (broker.write("client.key", &key), locked(&broker, &key));
    let (foreign, foreign_key) = stranger.issue(&["worker"], ClientAuth);
    let (foreign, foreign_key) =
        (broker.write("foreign.crt", &foreign), broker.write("foreign.key", &foreign_key));
    let folder = broker.write("unused", "").with_file_name("authorities");
    std::fs::create_dir(&folder)?;
    std::fs::copy(broker.authority.root_file(), folder.join("root.pem"))?;
    let rehashed = runs("openssl", &["rehash", &folder.display().to_string()]);
    assert!(rehashed, "openssl names the authorities as it looks for them");

    let same: fn() -> Change<'static> = || Box::new(|settings| settings);
    let shows = |certificate: &PathBuf, key: &PathBuf| -> Change<'static> {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        Box::new(move |settings| {
            settings
                .kafka("ssl.certificate.location", certificate.clone())
                .kafka("ssl.key.location", key.clone())
        })
    };
    let with = |mechanism: &'static str, password: &PathBuf| -> Change<'static> {
        let password = password.clone();
        Box::new(move |settings| sasl(settings, mechanism, &password))
    };
    let token = |command: String| -> Change<'static> {
        Box::new(move |settings| {
            let settings = settings.kafka("sasl.mechanism", "OAUTHBEARER");
            settings.kafka_token_command(Some(command.as_str().into()))
        })
    };
    let trust = |path: PathBuf| -> Change<'static> { Box::new(move |settings| trusting(settings, &path)) };
    let with_locked = shows(&chain, &locked_key);
    let key_password = right.display().to_string();
    let unlocked: Change<'static> =
        Box::new(move |settings| with_locked(settings).kafka_key_password_file(Some(key_password.clone())));
    let by_address = format!("127.0.0.1:{}", broker.kafka.listener("TLS"));
    let by_address: Change<'static> = Box::new(move |settings| settings.brokers(vec![by_address.clone()]));
    let printed = format!("cat {}", right.display());
    let by_command: Change<'static> = Box::new(move |settings| {
        let settings = settings.kafka("sasl.mechanism", "PLAIN").kafka("sasl.username", super::broker::USER);
        settings.kafka_password_command(Some(printed.as_str().into()))
    });
    let issuer = Issuer::start(&broker.authority, PASSWORD, Duration::from_secs(600));
    let late = Issuer::start(&broker.authority, PASSWORD, Duration::ZERO);
    fn from_server<'a>(issuer: &'a Issuer, secret: &'static str, authority: &'a Authority) -> Change<'a> {
        Box::new(move |settings| issuer.asked(settings, secret, authority))
    }
    let denied = |words| Refused(ErrorKind::Authentication, words);
    let rows: Vec<(&str, &str, Change<'_>, Outcome)> = vec![
        ("TLS", "TLS", same(), Runs),
        ("authorities in a folder", "TLS", trust(folder.clone()), Runs),
        ("an unknown authority", "TLS", trust(stranger.root_file()), denied("certificate verify failed")),
        ("another host's name", "TLS", by_address, denied("certificate verify failed")),
        ("expired", "EXPIRED", same(), denied("certificate verify failed")),
        ("mutual TLS, with an intermediate", "MUTUAL", shows(&chain, &plain_key), Runs),
        ("an encrypted key", "MUTUAL", unlocked, Runs),
        ("no certificate", "MUTUAL", same(), denied("certificate")),
        ("without the intermediate", "MUTUAL", shows(&alone, &plain_key), denied("certificate")),
        ("a foreign certificate", "MUTUAL", shows(&foreign, &foreign_key), denied("certificate")),
        (
            "a key of another certificate",
            "MUTUAL",
            shows(&chain, &foreign_key),
            Refused(ErrorKind::Configuration, "key"),
        ),
        ("PLAIN", "PLAIN", with("PLAIN", &right), Runs),
        ("PLAIN, by a command", "PLAIN", by_command, Runs),
        ("PLAIN, wrong", "PLAIN", with("PLAIN", &wrong), denied("Authentication failed")),
        ("SCRAM-SHA-256", "SCRAM", with("SCRAM-SHA-256", &right), Runs),
        ("SCRAM-SHA-512", "SCRAM", with("SCRAM-SHA-512", &right), Runs),
        ("SCRAM, wrong", "SCRAM", with("SCRAM-SHA-512", &wrong), denied("Authentication failed")),
        ("a token", "OAUTH", token(token_command(600)), Runs),
        ("no token", "OAUTH", token("echo nonsense".to_owned()), denied("invalid_token")),
        (
            "an expired token",
            "OAUTH",
            token(token_command(0).replace("n + 0", "n - 60")),
            Refused(ErrorKind::Configuration, "the token has expired"),
        ),
        ("a token from a server", "OAUTH", from_server(&issuer, PASSWORD, &broker.authority), Runs),
        (
            "a client's wrong secret",
            "OAUTH",
            from_server(&issuer, "wrong", &broker.authority),
            denied("invalid_client"),
        ),
        (
            "a token server of an unknown authority",
            "OAUTH",
            from_server(&issuer, PASSWORD, &stranger),
            denied("UnknownIssuer"),
        ),
        (
            "a token server's expired token",
            "OAUTH",
            from_server(&late, PASSWORD, &broker.authority),
            Refused(ErrorKind::Configuration, "the token has expired"),
        ),
        (
            "no password",
            "PLAIN",
            with("PLAIN", &folder.join("missing")),
            Refused(ErrorKind::Configuration, "kafka_password_file"),
        ),
    ];
    let checks = rows.into_iter().map(|(what, listener, change, outcome)| {
        let broker = &broker;
        async move {
            tokio::time::timeout(PATIENCE * 2, check(broker, what, listener, change, outcome))
                .await
                .map_err(|_| format!("{what}: neither runs nor ends"))?
        }
    });
    // Not all at once: each has a world of its own.
    stream::iter(checks).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(())
}
