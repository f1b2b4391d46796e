//! Kafka's ACLs: what `docs/security.md` lists is enough, and what each right is for shows when it is missing.

use std::time::Duration;

use highwater::ErrorKind;
use highwater::testing::{Postgres, Result};

use super::broker::{Broker, LOOKER, PASSWORD, USER, sasl};
use crate::support::watch::status_until;
use crate::support::{PATIENCE, Process, Setup, Sink, TestResult, World};

/// Who is not listed may do nothing; the broker itself, and the tests' own clients, may do everything.
pub(super) const OWN: [(&str, &str); 2] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:ANONYMOUS"),
];

/// Adds or removes an operation of somebody, on topics and groups.
pub(super) async fn acl(
    broker: &Broker,
    verb: &str,
    who: &str,
    operation: &str,
    on: &[(&str, &str)],
) -> Result<()> {
    let who = format!("User:{who}");
    let mut arguments = vec![verb, "--force", "--allow-principal", &who, "--operation", operation];
    for (resource, name) in on {
        arguments.extend([*resource, *name]);
    }
    let output = broker.kafka.tool("org.apache.kafka.tools.AclCommand", &arguments).await?;
    assert_eq!(output.status, Some(0), "{output:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_each_right_is_needed_for_what_the_page_says() -> TestResult {
    let (broker, postgres) = tokio::try_join!(Broker::start_with(None, &OWN), Postgres::shared())?;
    let kafka = &broker.kafka;
    let world = async |hint: &str| -> TestResult<World<'_>> {
        let world = World::with(hint, Setup { kafka, postgres, partitions: 2, topic_config: &[] }).await?;
        world.produce(20).await?;
        Ok(world)
    };
    let (whole, newer, no_group, no_read, no_topic) = (
        world("whole").await?,
        world("newer").await?,
        world("no-group").await?,
        world("no-read").await?,
        world("no-topic").await?,
    );
    let topic = |world: &World<'_>| ("--topic", world.topic.clone());
    let group = |world: &World<'_>| ("--group", world.group.clone());
    let read = [
        topic(&whole),
        topic(&newer),
        topic(&no_group),
        group(&whole),
        group(&newer),
        group(&no_read),
        group(&no_topic),
    ];
    let read: Vec<(&str, &str)> = read.iter().map(|(resource, name)| (*resource, name.as_str())).collect();
    acl(&broker, "--add", USER, "Read", &read).await?;
    acl(&broker, "--add", USER, "Describe", &[("--topic", &no_read.topic)]).await?;
    acl(&broker, "--add", LOOKER, "Describe", &read).await?;

    let password = broker.write("password", PASSWORD);
    let settings = |world: &World<'_>| {
        let settings = sasl(broker.through(world.settings(), "PLAIN"), "PLAIN", &password);
        settings
            .unknown_topic_timeout(Duration::from_secs(1))
            .retry_backoff_max(Duration::from_secs(1))
            .access_denied_after(Some(Duration::from_secs(5)))
    };
    let start = |world: &World<'_>| world.worker_with(settings(world), Sink::<()>::default());

    // READ on its topics and on its group: everything.
    let worker = start(&whole);
    let consumer = settings(&newer).group_protocol(highwater::config::GroupProtocol::Consumer);
    let newer_worker = newer.worker_with(consumer.session_timeout(None), Sink::<()>::default());
    for world in [&whole, &newer] {
        world.verify().await?;
    }
    status_until(&newer_worker, "it is ready", |status| status.ready).await?;
    newer_worker.stop().await?;

    // Without READ on the group: it ends at once.
    let refused = tokio::time::timeout(PATIENCE, start(&no_group).wait()).await;
    let error = refused.expect("it ends").expect_err("no right to join");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Privilege, 5), "{}", error.report());
    assert!(
        error.report().contains("READ") && error.report().contains(&no_group.group),
        "{}",
        error.report()
    );

    // Without READ on the topic, and without DESCRIBE: it waits, and says for what. (After a minute it ends: see
    // `field/kafka.rs`.)
    let blind = start(&no_read);
    status_until(&blind, "it says what is missing", |status| {
        !status.ready
            && status.detail.as_deref().is_some_and(|detail| detail.contains("grant it READ on the topic"))
    })
    .await?;
    blind.stop().await?;
    let environment = [
        ("HIGHWATER_BROKERS", format!("localhost:{}", kafka.listener("PLAIN"))),
        ("HIGHWATER_KAFKA_BROKER_ADDRESS_FAMILY", "v4".to_owned()),
        ("HIGHWATER_KAFKA_SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
        ("HIGHWATER_KAFKA_SSL_CA_LOCATION", broker.authority.root_file().display().to_string()),
        ("HIGHWATER_KAFKA_SASL_MECHANISM", "PLAIN".to_owned()),
        ("HIGHWATER_KAFKA_SASL_PASSWORD", PASSWORD.to_owned()),
    ];
    let as_user = |user: &'static str| -> Vec<(&str, &str)> {
        let given = environment.iter().map(|(name, value)| (*name, value.as_str()));
        given.chain([("HIGHWATER_KAFKA_SASL_USERNAME", user)]).collect()
    };
    let blind = Process::start_with(&no_topic, "blind", "plain", &as_user(USER))?;
    blind.child.wait_for_line(|line| line.contains("grant it READ and DESCRIBE"), PATIENCE).await?;
    blind.child.kill()?;

    // DESCRIBE alone: enough to look, not to read. DESCRIBE_CONFIGS is for retention alone.
    let command = async |world: &World<'_>, user: &'static str, arguments: &[&str]| -> TestResult<_> {
        Ok(world.highwater_in(world.database.url(), &as_user(user), arguments).await?)
    };
    let (name, topic) = (whole.group.as_str(), whole.topic.as_str());
    let described = command(&whole, LOOKER, &["offsets", "describe", "--group", name, "--json"]).await?;
    assert_eq!(described.ended(0).json()[0]["asked_kafka"], true);
    command(&whole, LOOKER, &["status", "--group", name]).await?.ended(0);
    let tail = ["tail", "--group", name, "--topic", topic, "--from", "beginning", "--count", "1"];
    let said = command(&whole, LOOKER, &tail).await?;
    assert!(said.code == 5 && said.stderr.contains("READ"), "{said:?}");
    command(&whole, USER, &tail).await?.ended(0);
    let doctor = command(&whole, USER, &["doctor", "--group", name, "--json"]).await?;
    let findings = doctor.json();
    let of = |check: &str| -> Vec<&serde_json::Value> {
        findings.as_array().into_iter().flatten().filter(|finding| finding["check"] == check).collect()
    };
    assert!(
        of("acl").iter().all(|finding| finding["severity"] == "ok") && of("acl").len() == 4,
        "{findings}"
    );
    assert!(of("retention").iter().any(|finding| finding["severity"] == "unknown"), "{findings}");

    // Taken away from the group while it works: it ends as it would at the start.
    acl(&broker, "--remove", USER, "Read", &[("--group", name)]).await?;
    let worker_ended = tokio::time::timeout(PATIENCE, worker.wait()).await;
    let error =
        worker_ended.expect("it ends when it has lost a right").expect_err("it may not be a member any more");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Privilege, 5), "{}", error.report());
    whole.verify().await?;
    Ok(())
}
