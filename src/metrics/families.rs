//! A worker's figures as families.

use std::sync::Arc;
use std::time::Duration;

use super::definition::Definition;
use super::definitions as of;
use super::exposition::{Family, Format, Labels, Value, encode};
use super::kafka::ClientMetrics;
use super::snapshot::{MetricsSnapshot, PartitionMetrics};
use crate::worker::PartitionState;

/// A worker's figures in a text format of Prometheus': what `/metrics` answers.
///
/// ```no_run
/// # fn show(handle: &highwater::WorkerHandle) {
/// use highwater::metrics::{Format, render};
///
/// let page = render(&handle.metrics(), Format::OpenMetrics);
/// # let _ = page;
/// # }
/// ```
#[must_use]
pub fn render(snapshot: &MetricsSnapshot, format: Format) -> String {
    encode(families(snapshot), format)
}

/// Every family of a worker, in the order of the page; those of which nothing is known are empty.
pub(crate) fn families(snapshot: &MetricsSnapshot) -> Vec<Family> {
    let group: Arc<str> = snapshot.group.as_str().into();
    let of_group = Labels::new([("group", Arc::clone(&group))]);
    let of_worker = of_group.and("worker", snapshot.worker.as_str());
    let mut families = partitions(&of_group, &snapshot.partitions);
    families.extend(batches(snapshot, &of_group, &of_worker));
    families.extend(troubles(snapshot, &of_group, &of_worker));
    families.extend(claims(snapshot, &of_group));
    families.extend(resources(snapshot, &of_group));
    families.extend(client(snapshot, &of_group));
    let yes = |yes: bool| Value::Count(u64::from(yes));
    families.extend([
        Family::of(&of::READY).with(of_worker.clone(), yes(snapshot.ready)),
        Family::of(&of::LIVE).with(of_worker, yes(snapshot.live)),
        Family::of(&of::BUILD_INFO).with(Labels::default().and("version", snapshot.version), Value::Info),
    ]);
    families
}

fn seconds(duration: Duration) -> Value {
    Value::Number(duration.as_secs_f64())
}

fn partitions(of_group: &Labels, partitions: &[PartitionMetrics]) -> Vec<Family> {
    let labelled: Vec<(Labels, &PartitionMetrics)> = partitions
        .iter()
        .map(|metrics| {
            let labels = of_group.and("topic", metrics.topic.as_str());
            (labels.and("partition", metrics.partition.to_string()), metrics)
        })
        .collect();
    let family = |definition: &'static Definition, value: fn(&PartitionMetrics) -> Option<Value>| {
        let mut family = Family::of(definition);
        for (labels, metrics) in &labelled {
            if let Some(value) = value(metrics) {
                family.push(labels.clone(), value);
            }
        }
        family
    };
    let mut health = Family::of(&of::HEALTH);
    for (labels, metrics) in &labelled {
        if let Some(class) = metrics.class {
            health.push(labels.and("class", class.as_str()), Value::Count(class.severity().into()));
        }
    }
    vec![
        family(&of::LAG_RECORDS, |metrics| metrics.lag_records.map(Value::Count)),
        family(&of::LAG_SECONDS, |metrics| metrics.lag_seconds.map(Value::Number)),
        family(&of::UNCOMMITTED_RECORDS, |metrics| metrics.uncommitted_records.map(Value::Count)),
        family(&of::UNCOMMITTED_SECONDS, |metrics| metrics.uncommitted_seconds.map(Value::Number)),
        family(&of::DRAIN_SECONDS, |metrics| metrics.drain_seconds.map(Value::Number)),
        family(&of::LOSS_SECONDS, |metrics| metrics.loss_seconds.map(Value::Number)),
        health,
        family(&of::NEXT_OFFSET, |metrics| metrics.next_offset.map(Value::Integer)),
        family(&of::LAST_STABLE_OFFSET, |metrics| metrics.end_offset.map(Value::Integer)),
    ]
}

fn batches(snapshot: &MetricsSnapshot, of_group: &Labels, of_worker: &Labels) -> Vec<Family> {
    let counted = |definition, count| Family::of(definition).with(of_group.clone(), Value::Count(count));
    let mut phases = Family::of(&of::COMMIT_DURATION);
    for (phase, histogram) in snapshot.phases.named() {
        phases.push(of_group.and("phase", phase), Value::Histogram(histogram.clone()));
    }
    vec![
        counted(&of::COMMITS, snapshot.commits),
        counted(&of::RECORDS_APPLIED, snapshot.applied_records),
        counted(&of::APPLIED_BYTES, snapshot.applied_bytes),
        counted(&of::RECORDS_FETCHED, snapshot.fetched_records),
        counted(&of::RECORDS_DROPPED, snapshot.dropped_records),
        Family::of(&of::BATCH_RECORDS)
            .with(of_group.clone(), Value::Histogram(snapshot.batch_records.clone())),
        phases,
        Family::of(&of::PENDING).with(of_worker.clone(), seconds(snapshot.pending)),
        Family::of(&of::PROCESSING_DEADLINE).with(of_worker.clone(), seconds(snapshot.processing_deadline)),
    ]
}

fn troubles(snapshot: &MetricsSnapshot, of_group: &Labels, of_worker: &Labels) -> Vec<Family> {
    let by = |definition, label, counts: &[(&'static str, u64)]| {
        let mut family = Family::of(definition);
        for (name, count) in counts {
            family.push(of_group.and(label, *name), Value::Count(*count));
        }
        family
    };
    let states = [
        PartitionState::Claiming,
        PartitionState::Running,
        PartitionState::Draining,
        PartitionState::Fenced,
        PartitionState::Halted,
    ];
    let in_state = |state: PartitionState| {
        let there = snapshot.partitions.iter().filter(|metrics| metrics.state == state).count();
        (state.as_str(), u64::try_from(there).unwrap_or(u64::MAX))
    };
    let mut dead_letters = Family::of(&of::RECORDS_REJECTED);
    for (route, count) in &snapshot.dead_letters {
        dead_letters.push(of_group.and("route", route.as_str()), Value::Count(*count));
    }
    vec![
        by(&of::BATCH_RETRIES, "class", &snapshot.retries),
        by(&of::VERDICTS, "act", &snapshot.verdicts),
        dead_letters,
        by(&of::RECORDS_REDRIVEN, "outcome", &snapshot.redriven),
        Family::of(&of::UNKNOWN_OUTCOMES).with(of_group.clone(), Value::Count(snapshot.unknown_outcomes)),
        Family::of(&of::STUCK_PARTITIONS).with(of_worker.clone(), Value::Count(snapshot.stuck_partitions)),
        by(&of::PARTITIONS, "state", &states.map(in_state)),
        Family::of(&of::UNASSIGNED_PARTITIONS)
            .with(of_worker.clone(), Value::Count(snapshot.unassigned_partitions)),
    ]
}

fn claims(snapshot: &MetricsSnapshot, of_group: &Labels) -> Vec<Family> {
    let kind = |kind: &'static str| of_group.and("kind", kind);
    let rebalances = snapshot.rebalances;
    vec![
        Family::of(&of::CLAIMS)
            .with(kind("assigned"), Value::Count(snapshot.claims))
            .with(kind("again"), Value::Count(snapshot.claims_again)),
        Family::of(&of::FENCINGS).with(of_group.clone(), Value::Count(snapshot.fencings)),
        Family::of(&of::REBALANCES)
            .with(kind("assigned"), Value::Count(rebalances.assigned))
            .with(kind("revoked"), Value::Count(rebalances.revoked))
            .with(kind("lost"), Value::Count(rebalances.lost)),
        Family::of(&of::REBALANCE_PAUSE)
            .with(of_group.clone(), Value::Histogram(snapshot.rebalance_pause.clone())),
    ]
}

fn resources(snapshot: &MetricsSnapshot, of_group: &Labels) -> Vec<Family> {
    let (mut connections, mut waiting) = (Family::of(&of::POOL_CONNECTIONS), Family::of(&of::POOL_WAITING));
    for pool in &snapshot.pools {
        let of_pool = of_group.and("pool", pool.name);
        connections.push(of_pool.and("state", "used"), Value::Count(pool.used));
        connections.push(of_pool.and("state", "idle"), Value::Count(pool.idle));
        waiting.push(of_pool, Value::Count(pool.waiting));
    }
    let gauge = |definition, count| Family::of(definition).with(of_group.clone(), Value::Count(count));
    let mut mirror = Family::of(&of::MIRROR_LAG);
    if let Some(lag) = snapshot.partitions.iter().filter_map(|metrics| metrics.mirror_lag_records).max() {
        mirror.push(of_group.clone(), Value::Count(lag));
    }
    vec![
        connections,
        waiting,
        gauge(&of::BUFFER_BYTES, snapshot.buffers.held_bytes),
        gauge(&of::BUFFER_BUDGET, snapshot.buffers.budget_bytes),
        gauge(&of::PAUSED_PARTITIONS, snapshot.buffers.paused_partitions),
        mirror,
    ]
}

fn client(snapshot: &MetricsSnapshot, of_group: &Labels) -> Vec<Family> {
    let family = |definition: &'static Definition, value: fn(&ClientMetrics) -> Value| {
        let mut family = Family::of(definition);
        if let Some(client) = &snapshot.kafka {
            family.push(of_group.clone(), value(client));
        }
        family
    };
    vec![
        Family::of(&of::KAFKA_CLIENTS).with(of_group.clone(), Value::Count(snapshot.kafka_clients)),
        family(&of::KAFKA_RECEIVED, |client| Value::Count(client.received_bytes)),
        family(&of::KAFKA_QUEUE_RECORDS, |client| Value::Count(client.queue_records)),
        family(&of::KAFKA_QUEUE_BYTES, |client| Value::Count(client.queue_bytes)),
        family(&of::KAFKA_BROKERS_UP, |client| Value::Count(client.brokers_up)),
        family(&of::KAFKA_ROUND_TRIP, |client| seconds(client.round_trip)),
        family(&of::KAFKA_THROTTLE, |client| seconds(client.throttle)),
        family(&of::KAFKA_REQUEST_ERRORS, |client| Value::Count(client.request_errors)),
        family(&of::KAFKA_DISCONNECTS, |client| Value::Count(client.disconnects)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::definitions::WORKER_SECTIONS;

    #[test]
    fn every_definition_has_its_family_and_every_sample_its_labels() {
        let families = families(&MetricsSnapshot::default());
        let defined = WORKER_SECTIONS.iter().flat_map(|section| section.definitions);
        let names: Vec<String> = defined.clone().map(|definition| definition.name.to_owned()).collect();
        let made: Vec<String> = families.iter().map(Family::name).collect();
        assert_eq!(made, names);
        for (family, definition) in families.iter().zip(defined) {
            for sample in &family.samples {
                assert!(sample.labels.names().eq(definition.labels.iter().copied()), "{}", definition.name);
            }
        }
    }
}
