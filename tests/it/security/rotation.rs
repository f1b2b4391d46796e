//! Passwords, tokens and certificates that change while records flow: nothing is lost, nothing comes twice, nobody restarts.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use highwater::testing::{Postgres, wait_until};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use super::broker::{Broker, PASSWORD, USER, token_command};
use crate::support::{PATIENCE, Process, Setup, Sink, TestResult, World};

/// Long enough for a test, and short enough that a session does not outlive what is rotated in it.
const SESSION_MS: u32 = 3_000;

async fn world<'a>(broker: &'a Broker, postgres: &'a Postgres) -> highwater::testing::Result<World<'a>> {
    World::with("rotation", Setup { kafka: &broker.kafka, postgres, partitions: 3, topic_config: &[] }).await
}

/// First at the broker, so that the worker is refused for a while; a named process, so that nothing moves. Everything that
/// it writes is searched for the passwords.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_password_is_rotated_under_load() -> TestResult {
    const NEXT: &str = "n3xt-pl4nted-pa55word";
    let (broker, postgres) = tokio::try_join!(Broker::start(Some(SESSION_MS)), Postgres::shared())?;
    broker.set_password("SCRAM-SHA-512", PASSWORD).await?;
    let world = world(&broker, postgres).await?;
    let file = broker.write("password", PASSWORD);
    let (brokers, root) = (
        format!("localhost:{}", broker.kafka.listener("SCRAM")),
        broker.authority.root_file().display().to_string(),
    );
    let environment = [
        ("HIGHWATER_BROKERS", brokers.as_str()),
        ("HIGHWATER_KAFKA_BROKER_ADDRESS_FAMILY", "v4"),
        ("HIGHWATER_KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("HIGHWATER_KAFKA_SSL_CA_LOCATION", root.as_str()),
        ("HIGHWATER_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("HIGHWATER_KAFKA_SASL_USERNAME", USER),
        ("HIGHWATER_KAFKA_PASSWORD_FILE", file.to_str().expect("a path")),
        ("HIGHWATER_INSTANCE_ID", "pod-0"),
        ("HIGHWATER_SESSION_TIMEOUT", "45s"),
        ("HIGHWATER_LOG", "trace,tokio_postgres=info"),
        ("HIGHWATER_KAFKA_DEBUG", "security"),
    ];
    let worker = Process::start_with(&world, "rotated", "plain", &environment)?;
    world
        .under_load(async {
            world.progress(100).await?;
            let claims = world.owners().await?;
            broker.set_password("SCRAM-SHA-512", NEXT).await?;
            worker.child.wait_for_line(|line| line.contains("does not let this worker in"), PATIENCE).await?;
            broker.write("password", NEXT);
            let told = |line: &str| line.contains("the Kafka clients' password or token has changed");
            worker.child.wait_for_line(told, PATIENCE).await?;
            // Until one is opened, or opened again, when no session can be left that the old password has opened.
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(SESSION_MS.into()) {
                let mark = worker.child.mark();
                let opened = |line: &str| line.contains("Received session lifetime");
                worker.child.wait_for_line_from(mark, opened, PATIENCE).await?;
            }
            world.progress(300).await?;
            assert_eq!(world.owners().await?, claims, "nothing was claimed anew");
            Ok(())
        })
        .await
        .inspect_err(|_| eprintln!("{}", worker.child))?;
    world.verify().await?;
    worker.stop().await?;
    for line in worker.child.lines() {
        assert!(!line.text.contains(PASSWORD) && !line.text.contains(NEXT), "{}", line.text);
    }
    Ok(())
}

/// A token lasts a few seconds, and the broker ends every session that does not show a new one in time.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_tokens_are_renewed_before_they_expire() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start(Some(SESSION_MS)), Postgres::shared())?;
    let world = world(&broker, postgres).await?;
    let printed = broker.write("printed", "");
    let command = format!("echo x >> {}; {}", printed.display(), token_command(15));
    let settings = broker.through(world.settings(), "OAUTH").kafka("sasl.mechanism", "OAUTHBEARER");
    let worker =
        world.worker_with(settings.kafka_token_command(Some(command.as_str().into())), Sink::<()>::default());
    world
        .under_load(async {
            wait_until("several tokens were asked for", PATIENCE / 2, async || {
                Ok((std::fs::read_to_string(&printed)?.lines().count() >= 3).then_some(()))
            })
            .await?;
            world.progress(300).await
        })
        .await
        .inspect_err(|_| eprintln!("{:?}, {:?}", worker.status(), std::fs::read_to_string(&printed)))?;
    world.verify().await?;
    assert_eq!(worker.metrics().kafka_clients, 1, "no new client is needed for a token");
    worker.stop().await?;
    Ok(())
}

/// Kubernetes swaps a link. For a moment the certificate is new and the key is not: nothing happens until they fit.
#[tokio::test]
async fn a_certificate_is_rotated_under_load() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start(None), Postgres::shared())?;
    let world = world(&broker, postgres).await?;
    let (first, second) = (pair(&broker, "first"), pair(&broker, "second"));
    // A new certificate beside the old key: it cannot be used.
    let torn = pair(&broker, "torn");
    std::fs::copy(first.join("tls.key"), torn.join("tls.key"))?;
    let mounted = broker.write("unused", "").with_file_name("mounted");
    symlink(&first, &mounted)?;
    let path = |folder: &Path, name: &str| folder.join(name).display().to_string();
    let (brokers, root) = (
        format!("localhost:{}", broker.kafka.listener("MUTUAL")),
        broker.authority.root_file().display().to_string(),
    );
    let (certificate, key) = (path(&mounted, "tls.crt"), path(&mounted, "tls.key"));
    let environment = [
        ("HIGHWATER_BROKERS", brokers.as_str()),
        ("HIGHWATER_KAFKA_BROKER_ADDRESS_FAMILY", "v4"),
        ("HIGHWATER_KAFKA_SECURITY_PROTOCOL", "SSL"),
        ("HIGHWATER_KAFKA_SSL_CA_LOCATION", root.as_str()),
        ("HIGHWATER_KAFKA_SSL_CERTIFICATE_LOCATION", certificate.as_str()),
        ("HIGHWATER_KAFKA_SSL_KEY_LOCATION", key.as_str()),
        ("HIGHWATER_INSTANCE_ID", "pod-0"),
        ("HIGHWATER_SESSION_TIMEOUT", "45s"),
    ];
    let worker = Process::start_with(&world, "rotated", "plain", &environment)?;
    // The other one's certificate stays, and so must its partitions.
    let settings = broker
        .through(world.settings(), "MUTUAL")
        .kafka("ssl.certificate.location", path(&first, "tls.crt"))
        .kafka("ssl.key.location", path(&first, "tls.key"))
        .session_timeout(Some(Duration::from_secs(45)))
        .instance_id("pod-1".to_owned());
    let other = world.worker_with(settings, Sink::<()>::default());
    world
        .under_load(async {
            world.held_by(2).await?;
            let before = other.metrics().rebalances;
            swap(&torn, &mounted)?;
            let cannot = |line: &str| line.contains("no client can be made of the new credentials");
            worker.child.wait_for_line(cannot, PATIENCE).await?;
            world.progress(100).await?;
            assert!(!worker.wrote(NEW_CLIENT), "no client was built of what does not fit");
            swap(&second, &mounted)?;
            let mark = worker.child.mark();
            worker.child.wait_for_line(|line| line.contains(NEW_CLIENT), PATIENCE).await?;
            worker
                .child
                .wait_for_line_from(mark, |line| line.contains("claimed partition="), PATIENCE)
                .await?;
            world.progress(300).await?;
            world.held_by(2).await?;
            assert_eq!(other.metrics().rebalances, before, "a named member that comes back moves nothing");
            Ok(())
        })
        .await
        .inspect_err(|_| eprintln!("{}", worker.child))?;
    world.verify().await?;
    worker.stop().await?;
    other.stop().await?;
    Ok(())
}

const NEW_CLIENT: &str = "certificates or keys of the Kafka clients have changed: building a new client";

/// A certificate with its key, in a folder of its own.
fn pair(broker: &Broker, name: &str) -> std::path::PathBuf {
    let folder = broker.write("unused", "").with_file_name(name);
    std::fs::create_dir(&folder).expect("a folder of the test's own");
    let (certificate, key) = broker.of_clients.issue(&[name], ClientAuth);
    std::fs::write(folder.join("tls.crt"), certificate).expect("a file");
    std::fs::write(folder.join("tls.key"), key).expect("a file");
    folder
}

/// As the kubelet does it: a new link takes the old one's place.
fn swap(target: &Path, link: &Path) -> std::io::Result<()> {
    let next = link.with_extension("next");
    symlink(target, &next)?;
    std::fs::rename(next, link)
}
