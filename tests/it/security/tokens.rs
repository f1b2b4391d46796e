//! Tokens from a server, and from the program itself, while records flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use highwater::testing::{Postgres, wait_until};
use highwater::{ErrorKind, KafkaToken, TokenError, TokenSource, Worker};

use super::broker::{Broker, PASSWORD, token};
use super::issuer::{Issuer, Mood};
use crate::support::watch::status_until;
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

/// For how long the broker keeps a session, and a token lasts.
const SESSION_MS: u32 = 3_000;
const LASTS: Duration = Duration::from_secs(4);

async fn world<'a>(broker: &'a Broker, postgres: &'a Postgres) -> highwater::testing::Result<World<'a>> {
    World::with("tokens", Setup { kafka: &broker.kafka, postgres, partitions: 3, topic_config: &[] }).await
}

/// The server is away when the worker begins, and again until every token has expired, for longer than a refusal may last:
/// both times it is waited for. At last it refuses the client: that ends the process, with what it has said.
#[tokio::test]
async fn a_token_server_that_is_away_is_waited_for_and_one_that_refuses_is_not() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start(Some(SESSION_MS)), Postgres::shared())?;
    let world = world(&broker, postgres).await?;
    let issuer = Issuer::start(&broker.authority, PASSWORD, LASTS);
    issuer.set(Mood::Busy);
    let denied_after = Duration::from_secs(2);
    let settings = issuer
        .asked(broker.through(world.settings(), "OAUTH"), PASSWORD, &broker.authority)
        .access_denied_after(Some(denied_after))
        .retry_backoff_max(Duration::from_millis(500));
    world.produce(10).await?;
    let worker = world.worker_with(settings, Sink::<()>::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((issuer.given(), world.database.count("sink").await?), (0, 0));
    issuer.set(Mood::Gives);
    world
        .under_load(async {
            wait_until("several tokens were given out", PATIENCE, async || {
                Ok((issuer.given() >= 3).then_some(()))
            })
            .await?;
            world.progress(100).await
        })
        .await?;
    assert_eq!(worker.metrics().kafka_clients, 1, "no new client is needed for a token");

    issuer.set(Mood::Busy);
    let why = |detail: &Option<String>| detail.as_deref().is_some_and(|why| why.contains("answers 503"));
    status_until(&worker, "it says what it waits for", |status| !status.ready && why(&status.detail)).await?;
    tokio::time::sleep(denied_after).await;
    world.produce(10).await?;
    assert!(!worker.status().ready, "{:?}", worker.status());
    issuer.set(Mood::Gives);
    world.verify().await?;

    issuer.set_secret("another");
    let error = tokio::time::timeout(PATIENCE, worker.wait()).await?.expect_err("it is refused for good");
    let report = error.report();
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Authentication, 5), "{report}");
    assert!(report.contains("invalid_client: who is that?"), "{report}");
    assert!(!report.contains(PASSWORD), "{report}");
    world.verify().await?;
    Ok(())
}

/// Gives a token that lasts a few seconds.
struct Own(Arc<AtomicUsize>);

impl TokenSource for Own {
    async fn token(&self) -> Result<KafkaToken, TokenError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(KafkaToken::new(token(LASTS)).expires_at(SystemTime::now() + LASTS))
    }
}

#[tokio::test]
async fn a_program_gives_out_tokens_itself() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start(Some(SESSION_MS)), Postgres::shared())?;
    let world = world(&broker, postgres).await?;
    let asked = Arc::new(AtomicUsize::new(0));
    let settings = broker.through(world.settings(), "OAUTH").kafka("sasl.mechanism", "OAUTHBEARER");
    let builder =
        Worker::builder().ignore_environment().settings(settings).kafka_tokens(Own(Arc::clone(&asked)));
    let worker = builder.build(Sink::<()>::default())?.spawn();
    world
        .under_load(async {
            wait_until("it was asked several times", PATIENCE, async || {
                Ok((asked.load(Ordering::Relaxed) >= 3).then_some(()))
            })
            .await?;
            world.progress(100).await
        })
        .await?;
    world.verify().await?;
    assert_eq!(worker.metrics().kafka_clients, 1, "no new client is needed for a token");
    worker.stop().await?;
    Ok(())
}
