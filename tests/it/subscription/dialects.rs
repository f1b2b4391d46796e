//! Whoever evaluates a pattern: the client under the classic protocol, the broker under KIP-848, and the worker itself
//! (its unit tests read the same table).

use std::collections::BTreeSet;
use std::time::Instant;

use highwater::testing::{Kafka, quiet_client_config, unique};
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::support::{PATIENCE, TestResult};

const TABLE: &str = include_str!("dialects.txt");

/// The topics that a plain consumer is assigned for `pattern`.
fn assigned(bootstrap: &str, protocol: &str, pattern: &str, expected: &BTreeSet<String>) -> BTreeSet<String> {
    let mut config = quiet_client_config(bootstrap);
    config
        .set("group.id", unique("dialects"))
        .set("group.protocol", protocol)
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[pattern]).expect("librdkafka takes the pattern");
    let until = Instant::now() + PATIENCE;
    loop {
        let _ = consumer.poll(std::time::Duration::from_millis(50));
        let assignment = consumer.assignment().expect("an assignment");
        let found: BTreeSet<String> =
            assignment.elements().iter().map(|element| element.topic().to_owned()).collect();
        // An assignment comes whole, so one that is expected is not the beginning of a larger one.
        if found == *expected || Instant::now() > until {
            return found;
        }
    }
}

#[tokio::test]
async fn core_client_and_broker_read_patterns_as_the_worker_does() -> TestResult {
    let kafka = Kafka::shared().await?;
    let prefix = unique("dialect");
    let topics = TABLE.lines().find_map(|line| line.strip_prefix("# topics: ")).expect("the topics");
    for topic in topics.split(' ') {
        kafka.create_topic(&format!("{prefix}.{topic}"), 1).await?;
    }
    for protocol in ["classic", "consumer"] {
        let mut looks = Vec::new();
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let (pattern, matches) = line.split_once(" = ").expect("pattern = topics");
            let pattern = format!(r"^{prefix}\.{}", pattern.trim_start_matches('^'));
            let expected: BTreeSet<String> =
                matches.split(' ').map(|topic| format!("{prefix}.{topic}")).collect();
            let bootstrap = kafka.bootstrap().to_owned();
            looks.push(tokio::task::spawn_blocking(move || {
                let found = assigned(&bootstrap, protocol, &pattern, &expected);
                assert_eq!(found, expected, "{pattern} under group.protocol={protocol}");
            }));
        }
        for look in looks {
            look.await?;
        }
    }
    Ok(())
}
