//! What our own names mean. `docs/exporter.md` is held to this by a test.

use crate::metrics::definition::{Definition, Kind};

/// A gauge, as most here are.
pub(super) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Definition {
    Definition { name, kind: Kind::Gauge, unit: None, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Definition {
    Definition { name, kind: Kind::Counter, unit: None, labels, help }
}

const PARTITION: &[&str] = &["group", "topic", "partition"];
const TOPIC: &[&str] = &["group", "topic"];
const GROUP: &[&str] = &["group"];
const WORKER: &[&str] = &["group", "worker"];

pub(super) static UP: Definition = gauge(
    "highwater_exporter_up",
    &[],
    "Whether the groups were read lately: 1, or 0 and everything else is left out.",
);
pub(super) static LAST_SURVEY: Definition = gauge(
    "highwater_exporter_last_survey_timestamp_seconds",
    &[],
    "When the groups were last read, in seconds since 1970.",
);
pub(super) static ERRORS: Definition =
    counter("highwater_exporter_errors_total", &[], "Readings that have failed.");
pub(super) static READ: Definition =
    gauge("highwater_exporter_read_seconds", &[], "How long the last reading took.");
pub(super) static KAFKA: Definition = gauge(
    "highwater_exporter_kafka_timestamp_seconds",
    &[],
    "When the survey of what no worker holds last ended without an error, or first began, in seconds since 1970. Needs brokers.",
);
pub(super) static KAFKA_ERRORS: Definition = counter(
    "highwater_exporter_kafka_errors_total",
    &[],
    "Surveys that have failed: Kafka did not answer all of it, or it could not be written.",
);
pub(super) static BUILD: Definition = Definition {
    name: "highwater_build_info",
    kind: Kind::Info,
    unit: None,
    labels: &["version"],
    help: "What runs here.",
};

pub(super) static LAG_RECORDS: Definition =
    gauge("highwater_lag_records", PARTITION, "Offsets between the next record and the last stable offset.");
pub(super) static LAG_SECONDS: Definition = gauge(
    "highwater_lag_seconds",
    PARTITION,
    "How old the next record is, by its own timestamp; 0 when caught up.",
);
pub(super) static NEXT_OFFSET: Definition =
    gauge("highwater_next_offset", PARTITION, "The next record to apply.");
pub(super) static LAST_STABLE: Definition =
    gauge("highwater_last_stable_offset", PARTITION, "Up to where read_committed reads.");
pub(super) static HEALTH: Definition = gauge(
    "highwater_health",
    &["group", "topic", "partition", "class"],
    "How bad the present class is; 0 is well. One series a partition.",
);

pub(super) static UNCOMMITTED_RECORDS: Definition = gauge(
    "highwater_topic_uncommitted_records",
    TOPIC,
    "Offsets that open transactions hide, of all partitions.",
);
pub(super) static UNCOMMITTED_SECONDS: Definition =
    gauge("highwater_topic_uncommitted_seconds", TOPIC, "For how long the oldest of them has been open.");
pub(super) static GROWING: Definition = gauge(
    "highwater_growing_partitions",
    &["group", "topic", "side"],
    "Partitions that fall behind, by the side that the diagnosis of the dashboard names: `partition` or `throughput`.",
);
pub(super) static DRAIN: Definition = gauge(
    "highwater_drain_seconds",
    TOPIC,
    "When the slowest partition will have caught up, at this pace; +Inf: never.",
);
pub(super) static LOSS: Definition =
    gauge("highwater_loss_seconds", TOPIC, "How long until Kafka deletes a record that was not applied.");
pub(super) static LOSS_AHEAD: Definition = gauge(
    "highwater_loss_ahead_seconds",
    TOPIC,
    "The same of partitions that lag for longer than that, or for nobody knows how long, and will not have drained by then; absent: none.",
);
pub(super) static LETTERS: Definition = gauge(
    "highwater_dead_letters",
    &["group", "topic", "state"],
    "Dead letters that wait for somebody; `open` is there with 0, too.",
);
pub(super) static LETTER_KINDS: Definition = gauge(
    "highwater_dead_letters_of_kind",
    &["group", "kind"],
    "Dead letters that wait (open, parked or queued), of the 20 kinds with the most; `other`: of all others.",
);
pub(super) static LETTERS_OLDEST: Definition = gauge(
    "highwater_dead_letters_oldest_seconds",
    TOPIC,
    "How long the dead letter has waited (open or parked) that has waited for longest.",
);
pub(super) static LETTER_HALTS: Definition = gauge(
    "highwater_dead_letter_halts",
    TOPIC,
    "Partitions that have halted because there would have been more dead letters than a limit allows.",
);

pub(super) static GROUP_HEALTH: Definition = gauge(
    "highwater_group_health",
    &["group", "class"],
    "How bad the worst partition's class is; 0 is well.",
);
pub(super) static GROUP_LAG_RECORDS: Definition = gauge(
    "highwater_group_lag_records",
    GROUP,
    "The lag of all partitions: at least so much, if some are unknown.",
);
pub(super) static GROUP_LAG_SECONDS: Definition =
    gauge("highwater_group_lag_seconds", GROUP, "How old the oldest next record is.");
pub(super) static GROUP_PARTITIONS: Definition =
    gauge("highwater_group_partitions", GROUP, "How many partitions the group has.");
pub(super) static GROUP_UNKNOWN: Definition =
    gauge("highwater_group_unknown_partitions", GROUP, "Of how many of them the lag is not known.");
pub(super) static GROUP_UNASSIGNED: Definition = gauge(
    "highwater_group_unassigned_topics",
    GROUP,
    "Topics that it subscribes to and of which nobody in it was ever given some partitions, as the worker says that looks.",
);
pub(super) static GROUP_WORKERS: Definition =
    gauge("highwater_group_workers", GROUP, "Workers whose heartbeat is fresh.");
pub(super) static WORKERS_DIED: Definition = gauge(
    "highwater_workers_died",
    GROUP,
    "Workers whose heartbeat has ceased within half an hour, and which did not say that they stop.",
);
pub(super) static WORKERS_READY: Definition =
    gauge("highwater_workers_ready", GROUP, "Of those, how many say that they are ready.");
pub(super) static SURVEY_AGE: Definition = gauge(
    "highwater_survey_age_seconds",
    GROUP,
    "How long ago the partition was last seen that was not seen for longest, of those that were ever seen.",
);

pub(super) static SINCE_COMMIT: Definition = gauge(
    "highwater_since_commit_seconds",
    WORKER,
    "For how long it has had something to apply and has committed nothing; 0: it has nothing to apply.",
);
pub(super) static DEADLINE: Definition =
    gauge("highwater_processing_deadline_seconds", WORKER, "How long a batch may take.");
pub(super) static WAITING: Definition = gauge(
    "highwater_waiting_partitions",
    WORKER,
    "Partitions of it of which it says what they wait for, a transaction upstream or a batch's next try included; not those that are paused or halted.",
);
pub(super) static STALLED: Definition =
    gauge("highwater_stalled_partitions", WORKER, "Partitions of it whose class is STALL.");

pub(super) static RECORDS: Definition =
    counter("highwater_group_records_applied_total", GROUP, "Records applied, since this exporter began.");
pub(super) static COMMITS: Definition =
    counter("highwater_group_commits_total", GROUP, "Batches committed, since this exporter began.");
pub(super) static FENCINGS: Definition = counter(
    "highwater_group_fencings_total",
    GROUP,
    "Claims that another process has taken, since this exporter began.",
);
pub(super) static SNAPSHOT: Definition = gauge(
    "highwater_oldest_snapshot_seconds",
    &[],
    "How old the oldest transaction is that holds back vacuum, prepared ones too. Needs pg_read_all_stats.",
);

/// All of them, for the page of the docs.
#[cfg(test)]
pub(super) static ALL: &[&Definition] = &[
    &UP,
    &LAST_SURVEY,
    &ERRORS,
    &READ,
    &KAFKA,
    &KAFKA_ERRORS,
    &BUILD,
    &LAG_RECORDS,
    &LAG_SECONDS,
    &NEXT_OFFSET,
    &LAST_STABLE,
    &HEALTH,
    &UNCOMMITTED_RECORDS,
    &UNCOMMITTED_SECONDS,
    &GROWING,
    &DRAIN,
    &LOSS,
    &LOSS_AHEAD,
    &LETTERS,
    &LETTER_KINDS,
    &LETTERS_OLDEST,
    &LETTER_HALTS,
    &GROUP_HEALTH,
    &GROUP_LAG_RECORDS,
    &GROUP_LAG_SECONDS,
    &GROUP_PARTITIONS,
    &GROUP_UNKNOWN,
    &GROUP_UNASSIGNED,
    &GROUP_WORKERS,
    &WORKERS_DIED,
    &WORKERS_READY,
    &SURVEY_AGE,
    &SINCE_COMMIT,
    &DEADLINE,
    &WAITING,
    &STALLED,
    &RECORDS,
    &COMMITS,
    &FENCINGS,
    &SNAPSHOT,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Both may be scraped. What is in both lists is of the same thing, so that it may be taken by whichever tells it; what is
    /// not has another name.
    #[test]
    fn a_name_that_workers_tell_too_means_the_same() {
        let ours: BTreeSet<&str> = ALL.iter().map(|definition| definition.name).collect();
        let sections = crate::metrics::definitions::WORKER_SECTIONS.iter();
        let theirs =
            sections.flat_map(|section| section.definitions).map(|definition| definition.name).collect();
        let shared: Vec<&str> = ours.intersection(&theirs).copied().collect();
        let same = [
            "highwater_build_info",
            "highwater_drain_seconds", // of a topic's slowest partition
            "highwater_health",
            "highwater_lag_records",
            "highwater_lag_seconds",
            "highwater_last_stable_offset",
            "highwater_loss_seconds", // of its nearest
            "highwater_next_offset",
            "highwater_processing_deadline_seconds",
        ];
        assert_eq!(shared, same);
    }

    #[test]
    fn the_page_has_them_all() {
        let page = include_str!("../../docs/exporter.md");
        for definition in ALL {
            let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            let line = format!(
                "| `{}` | {} | {labels} | {} |",
                definition.name,
                definition.kind.as_str(),
                definition.help
            );
            assert!(page.lines().any(|found| found == line), "docs/exporter.md lacks the line\n{line}");
        }
    }
}
