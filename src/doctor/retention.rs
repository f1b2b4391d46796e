//! Whether records are about to be deleted in Kafka before they are applied.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::subjects::Place;
use super::{Finding, Patient, Severity};
use crate::batch::PartitionKey;
use crate::config::epoch_ms;
use crate::consumer::catalog::Available;
use crate::consumer::inspect::Properties;

const CHECK: &str = "retention";
/// From which part of the retention on a next record's age is told, and fails.
const WARN_AT: f64 = 0.5;
const FAIL_AT: f64 = 0.8;
/// A partition that is this near to the log's start, as a part of the log, and whose next record's age nobody knows.
const NEAR: f64 = 0.1;
/// How long Kafka may take to show the next records.
const PEEK: Duration = Duration::from_secs(3);
/// Of how many partitions.
const PEEKED: usize = 64;
const CURE: &str = "raise retention.ms (kafka-configs.sh --alter) before anything else, then see why it lags: `highwater status`";

pub(super) async fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(catalog) = &patient.catalog else { return Vec::new() };
    let subjects = &patient.subjects;
    let keys: Vec<PartitionKey> = subjects.places.iter().map(|place| place.key.clone()).collect();
    if keys.is_empty() {
        return Vec::new();
    }
    let Ok(survey) = catalog.survey(&keys).await else {
        return vec![
            Finding::unknown(CHECK, "Kafka does not say where its logs begin").cure("see `brokers`"),
        ];
    };
    let topics: Vec<String> = subjects.topics.iter().cloned().collect();
    let properties = catalog.configs(&topics, None).await.map(|(topics, _)| topics).unwrap_or_default();
    let lags = |place: &&Place| {
        survey.available.get(&place.key).is_some_and(|available| available.end.get() > place.next_offset)
    };
    let unknown = subjects.places.iter().filter(|place| place.age_seconds.is_none()).filter(lags);
    let unknown: Vec<_> = unknown.take(PEEKED).map(|place| (place.key.clone(), place.next_offset)).collect();
    let ages: HashMap<PartitionKey, i64> = if unknown.is_empty() {
        HashMap::new()
    } else {
        catalog.peek(unknown, PEEK).await.unwrap_or_default()
    };
    let now_ms = epoch_ms(SystemTime::now());
    let mut findings = Vec::new();
    let mut refused = BTreeSet::new();
    for place in &subjects.places {
        let Some(available) = survey.available.get(&place.key) else { continue };
        let of_topic = match properties.get(&*place.key.topic) {
            Some(Some(properties)) => Some(properties),
            Some(None) => {
                refused.insert(place.key.topic.to_string());
                None
            }
            None => None,
        };
        let peeked =
            ages.get(&place.key).map(|at| Duration::from_millis((now_ms - at).max(0).unsigned_abs()));
        let age = place.age_seconds.map(|age| Duration::from_secs_f64(age.max(0.0))).or(peeked);
        findings.extend(judge(place, *available, of_topic, age));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no group is near the beginning of a log"));
    }
    findings.extend(refused.into_iter().map(|topic| {
        Finding::unknown(CHECK, "Kafka does not tell its properties to this client")
            .of(topic)
            .cure("grant it DESCRIBE_CONFIGS on the topic; a worker needs it not")
    }));
    findings
}

/// What is wrong with one partition, if anything is.
fn judge(
    place: &Place,
    Available { low, end }: Available,
    properties: Option<&Properties>,
    age: Option<Duration>,
) -> Option<Finding> {
    let subject = format!("{}:{}, group {}", place.key.topic, place.key.partition, place.group);
    let (low, end, next) = (low.get(), end.get(), place.next_offset);
    if next < low {
        let text = format!("{} offsets before {low} are gone, and {next} comes next", low - next);
        let cure = "see \"Records that are gone\" in docs/operations.md";
        return Some(Finding::fail(CHECK, text).of(subject).cure(cure));
    }
    if next > end {
        let text = format!("the log ends at {end}, and {next} comes next: it was cut, or is another");
        return Some(
            Finding::fail(CHECK, text).of(subject).cure("see `docs/guarantees.md`, and move the offset"),
        );
    }
    if next == end {
        return None;
    }
    let number = |name: &str| properties.and_then(|properties| properties.get(name)?.parse::<i64>().ok());
    let deletes = properties.is_none_or(|properties| {
        properties.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"))
    });
    let retention =
        number("retention.ms").filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.unsigned_abs()));
    if let (Some(age), Some(retention), true) = (age, retention, deletes) {
        let part = age.as_secs_f64() / retention.as_secs_f64();
        let severity = match part {
            part if part >= FAIL_AT => Severity::Fail,
            part if part >= WARN_AT => Severity::Warn,
            _ => return None,
        };
        let left = retention.saturating_sub(age);
        let text = format!(
            "the next record is {} old, and Kafka keeps {}: it may be gone in {}",
            span(age),
            span(retention),
            span(left)
        );
        return Some(Finding::new(CHECK, severity, text).of(subject).cure(CURE));
    }
    let limited = retention.is_some()
        || number("retention.bytes").is_some_and(|bytes| bytes > 0)
        || properties.is_none();
    #[allow(clippy::cast_precision_loss)] // a part of a log is told to two digits
    let part = (next - low) as f64 / (end - low) as f64;
    if low > 0 && deletes && limited && part < NEAR {
        let text =
            format!("the next record ({next}) is {} offsets from the log's beginning ({low})", next - low);
        return Some(Finding::warn(CHECK, text).of(subject).cure(CURE));
    }
    None
}

/// As people say it.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NextOffset;

    fn place(next_offset: i64) -> Place {
        let key = PartitionKey { topic: "t".into(), partition: 0 };
        Place { group: "g".to_owned(), key, next_offset, age_seconds: None }
    }

    #[test]
    fn records_that_are_gone_or_soon_will_be_are_told() {
        let at =
            |low, end| Available { low: NextOffset::new(low).unwrap(), end: NextOffset::new(end).unwrap() };
        let hour = Properties::from([("retention.ms".to_owned(), "3600000".to_owned())]);
        let never = Properties::from([("retention.ms".to_owned(), "-1".to_owned())]);
        let compact = [("cleanup.policy", "compact"), ("retention.ms", "3600000")];
        let compact: Properties = compact.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let severity = |found: Option<Finding>| found.map(|finding| finding.severity);
        for (next, available, properties, age, expected) in [
            (9, at(10, 20), Some(&hour), None, Some(Severity::Fail)),
            (21, at(10, 20), Some(&hour), None, Some(Severity::Fail)),
            (20, at(10, 20), Some(&hour), minutes(90), None),
            (15, at(10, 20), Some(&hour), minutes(29), None),
            (15, at(10, 20), Some(&hour), minutes(30), Some(Severity::Warn)),
            (15, at(10, 20), Some(&hour), minutes(48), Some(Severity::Fail)),
            (15, at(10, 20), Some(&never), minutes(90), None),
            (15, at(10, 20), Some(&compact), minutes(90), None),
            // Nobody knows how old it is.
            (10, at(10, 20), Some(&hour), None, Some(Severity::Warn)),
            (11, at(10, 20), Some(&hour), None, None),
            (0, at(0, 20), Some(&hour), None, None),
            (10, at(10, 20), None, None, Some(Severity::Warn)),
            (10, at(10, 20), Some(&never), None, None),
        ] {
            let found = judge(&place(next), available, properties, age);
            assert_eq!(severity(found.clone()), expected, "{next} {available:?} {age:?}: {found:?}");
        }
    }
}
