//! What was good is taken away while records flow: a password, a certificate's authority, a right. What follows is what
//! `docs/security.md` says, and once it is given back nothing is missing and nothing is there twice.

use std::time::Duration;

use highwater::testing::Postgres;
use highwater::{ErrorKind, PartialConfig, WorkerHandle};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use super::broker::{Broker, PASSWORD, USER, sasl};
use super::rights::{OWN, acl};
use crate::support::certificates::Authority;
use crate::support::watch::status_until;
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

/// For how long the broker keeps a session that SCRAM has opened.
const SESSION_MS: u32 = 3_000;

async fn world<'a>(broker: &'a Broker, postgres: &'a Postgres) -> highwater::testing::Result<World<'a>> {
    World::with("revoked", Setup { kafka: &broker.kafka, postgres, partitions: 2, topic_config: &[] }).await
}

/// Gives up soon, and asks often.
fn soon(settings: PartialConfig) -> PartialConfig {
    settings
        .access_denied_after(Some(Duration::from_secs(3)))
        .retry_backoff_max(Duration::from_millis(500))
        .session_timeout(Some(Duration::from_secs(10)))
}

/// It is not ready, and then ends, as somebody who is not let in.
async fn locked_out(worker: WorkerHandle, words: &str) -> highwater::testing::Result<()> {
    status_until(&worker, "it is not ready", |status| !status.ready).await?;
    let ended = tokio::time::timeout(PATIENCE, worker.wait()).await;
    let error = ended.expect("it ends").expect_err("it gives up");
    let report = error.report();
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Authentication, 5), "{report}");
    assert!(report.contains(words) && !report.contains(PASSWORD), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_password_that_is_deleted_under_load_ends_the_worker() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start(Some(SESSION_MS)), Postgres::shared())?;
    broker.set_password("SCRAM-SHA-512", PASSWORD).await?;
    let world = world(&broker, postgres).await?;
    let file = broker.write("password", PASSWORD);
    let settings = || soon(sasl(broker.through(world.settings(), "SCRAM"), "SCRAM-SHA-512", &file));
    let worker = world.worker_with(settings(), Sink::<()>::default());
    world
        .under_load(async {
            world.progress(100).await?;
            broker.delete_password("SCRAM-SHA-512").await?;
            locked_out(worker, "Authentication failed").await
        })
        .await?;

    broker.set_password("SCRAM-SHA-512", PASSWORD).await?;
    let worker = world.worker_with(settings(), Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// A session of TLS alone is never opened anew: who is in stays in until the connection ends, here with the broker. By
/// TLS 1.2, which says within the handshake what it does not like; TLS 1.3 says it afterwards, and on a busy machine it is lost
/// with the connection.
#[tokio::test]
async fn a_certificate_that_is_no_longer_trusted_ends_the_worker_with_its_connection() -> TestResult {
    let own = [("listener.name.mutual.ssl.enabled.protocols", "TLSv1.2")];
    let (broker, postgres) = tokio::try_join!(Broker::start_with(None, &own), Postgres::shared())?;
    let world = world(&broker, postgres).await?;
    let (certificate, key) = broker.of_clients.issue(&["worker"], ClientAuth);
    let (certificate, key) = (broker.write("tls.crt", &certificate), broker.write("tls.key", &key));
    let settings = || {
        soon(broker.through(world.settings(), "MUTUAL"))
            .kafka("ssl.certificate.location", certificate.display().to_string())
            .kafka("ssl.key.location", key.display().to_string())
    };
    let worker = world.worker_with(settings(), Sink::<()>::default());
    world.produce(20).await?;
    world.verify().await?;
    broker.trust_clients_of(&Authority::new("another"));
    world.produce(20).await?;
    world.verify().await?;
    broker.kafka.restart().await?;
    locked_out(worker, "certificate").await?;

    broker.trust_clients_of(&broker.of_clients);
    broker.kafka.restart().await?;
    world.produce(20).await?;
    let worker = world.worker_with(settings(), Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// It waits for a topic's right for a minute; here it has it again before. (That of the group: `rights.rs`.)
#[tokio::test]
async fn a_topics_right_that_is_taken_away_under_load_is_waited_for() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start_with(None, &OWN), Postgres::shared())?;
    let world = world(&broker, postgres).await?;
    let (topic, group) = ([("--topic", world.topic.as_str())], [("--group", world.group.as_str())]);
    acl(&broker, "--add", USER, "Read", &topic).await?;
    acl(&broker, "--add", USER, "Read", &group).await?;
    let file = broker.write("password", PASSWORD);
    let settings = soon(sasl(broker.through(world.settings(), "PLAIN"), "PLAIN", &file));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world
        .under_load(async {
            world.progress(100).await?;
            acl(&broker, "--remove", USER, "Read", &topic).await?;
            status_until(&worker, "it says what is missing", |status| {
                !status.ready
                    && status.detail.as_deref().is_some_and(|detail| detail.contains("grant it READ"))
            })
            .await?;
            acl(&broker, "--add", USER, "Read", &topic).await?;
            status_until(&worker, "it is ready again", |status| status.ready).await?;
            world.progress(300).await
        })
        .await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
