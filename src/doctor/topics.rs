//! Whether the topics are there, are those that the groups have read so far, and have leaders.

use super::subjects::Known;
use super::{Finding, Patient, counted, listed};
use crate::batch::PartitionKey;
use crate::consumer::catalog::TopicIdentity;
use crate::consumer::inspect::PartitionView;

const CHECK: &str = "topics";

pub(super) async fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(catalog) = &patient.catalog else { return Vec::new() };
    let subjects = &patient.subjects;
    let keys: Vec<PartitionKey> = subjects
        .topics
        .iter()
        .map(|topic| PartitionKey { topic: topic.as_str().into(), partition: 0 })
        .collect();
    // What does not answer leaves the identities unknown; the views have said why.
    let survey = catalog.survey(&keys).await.unwrap_or_default();
    let mut findings = Vec::new();
    for topic in &subjects.topics {
        let partitions = match subjects.views.get(topic) {
            None => continue,
            Some(Err(code)) => {
                findings.push(
                    Finding::fail(CHECK, format!("Kafka does not show it: {code}")).of(topic).cure(
                        "create it, correct the name, or grant this client DESCRIBE on it; a topic that is gone for good: \
                         `highwater offsets delete`",
                    ),
                );
                continue;
            }
            Some(Ok(partitions)) => partitions,
        };
        findings.extend(of_leaders(topic, partitions));
        let identity = survey.identities.get(topic.as_str());
        let known = subjects.known.iter().filter(|((_, name), _)| name == topic);
        for ((group, _), known) in known {
            findings.extend(of_group(group, topic, partitions.len(), known, identity));
        }
    }
    let bad = findings.len();
    let seen = subjects.views.values().filter(|view| view.is_ok()).count();
    if bad == 0 && seen > 0 {
        let partitions: usize = subjects.views.values().flatten().map(Vec::len).sum();
        findings.push(Finding::ok(
            CHECK,
            format!(
                "{} with {}, all led and in sync",
                counted(seen, "topic"),
                counted(partitions, "partition")
            ),
        ));
    }
    findings
}

fn of_leaders(topic: &str, partitions: &[PartitionView]) -> Vec<Finding> {
    let named = |fits: &dyn Fn(&PartitionView) -> bool| -> Vec<String> {
        partitions.iter().filter(|view| fits(view)).map(|view| view.partition.to_string()).collect()
    };
    let mut findings = Vec::new();
    let leaderless = named(&|view| !view.has_leader);
    if !leaderless.is_empty() {
        findings.push(
            Finding::fail(CHECK, format!("nobody leads partition {}", listed(&leaderless)))
                .of(topic)
                .cure("bring back a broker that has a replica in sync; until then they are waited for"),
        );
    }
    let behind = named(&|view| view.has_leader && view.in_sync < view.replicas);
    if !behind.is_empty() {
        findings.push(
            Finding::warn(CHECK, format!("replicas of partition {} are not in sync", listed(&behind)))
                .of(topic)
                .cure(
                    "look after the broker that is away: one more that fails leaves these without a leader",
                ),
        );
    }
    findings
}

fn of_group(
    group: &str,
    topic: &str,
    partitions: usize,
    known: &Known,
    identity: Option<&TopicIdentity>,
) -> Vec<Finding> {
    let subject = format!("{topic}, group {group}");
    let mut findings = Vec::new();
    let recorded = usize::try_from(known.partitions).unwrap_or_default();
    if partitions < recorded {
        findings.push(
            Finding::fail(
                CHECK,
                format!("it has {}, and the group has read {recorded}", counted(partitions, "partition")),
            )
            .of(&subject)
            .cure("it was created anew: see \"Accept another topic\" in docs/operations.md"),
        );
    }
    let differ = |known: &Option<String>, found: Option<&String>| {
        known.as_ref().zip(found).is_some_and(|(known, found)| known != found)
    };
    let found =
        |of: fn(&TopicIdentity) -> &Option<String>| identity.and_then(|identity| of(identity).as_ref());
    for (what, recorded, now) in [
        ("topic", &known.topic_id, found(|identity| &identity.topic_id)),
        ("cluster", &known.cluster_id, found(|identity| &identity.cluster_id)),
    ] {
        if differ(recorded, now) {
            let (recorded, now) = (recorded.as_deref().unwrap_or_default(), now.map_or("", String::as_str));
            findings.push(
                Finding::fail(
                    CHECK,
                    format!("another {what}: the group has read {recorded}, and this is {now}"),
                )
                .of(&subject)
                .cure("correct `brokers`, or see \"Accept another topic\" in docs/operations.md"),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn a_topic_that_is_another_one_fails() {
        let some = |text: &str| Some(text.to_owned());
        let known = Known { partitions: 3, topic_id: some("a"), cluster_id: some("c") };
        let is =
            |topic: &str, cluster: &str| TopicIdentity { topic_id: some(topic), cluster_id: some(cluster) };
        assert_eq!(of_group("g", "t", 4, &known, Some(&is("a", "c"))), []);
        assert_eq!(of_group("g", "t", 3, &known, None), [], "nothing was told");
        for (partitions, identity) in [(2, is("a", "c")), (3, is("b", "c")), (3, is("a", "d"))] {
            let found = of_group("g", "t", partitions, &known, Some(&identity));
            assert_eq!(found.len(), 1);
            assert!(found[0].severity == Severity::Fail && found[0].cure.is_some(), "{found:?}");
        }
    }

    #[test]
    fn leaders_and_replicas_are_told_apart() {
        let view =
            |partition, has_leader, in_sync| PartitionView { partition, has_leader, replicas: 3, in_sync };
        let found = of_leaders("t", &[view(0, true, 3), view(1, false, 0), view(2, true, 2)]);
        let told: Vec<_> = found.iter().map(|finding| (finding.severity, finding.finding.as_str())).collect();
        let expected = [
            (Severity::Fail, "nobody leads partition 1"),
            (Severity::Warn, "replicas of partition 2 are not in sync"),
        ];
        assert_eq!(told, expected);
    }
}
