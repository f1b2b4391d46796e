//! Spans as a collector gets them, from real workers (feature `otel`).

mod collector;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater::otel::{FLUSH_LIMIT, MAX_LINKS};
use highwater::testing::wait_until;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::support::{PATIENCE, Process, TestResult, World};
use collector::{Collector, Mood, Received, attributes, hex};

/// Those of OTLP.
const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;
const CONSUMER: i32 = 5;

/// As a producer would write it: of a trace of its own per record.
fn traceparent(partition: i32, offset: i64, sampled: bool) -> String {
    format!("00-{:032x}-{:016x}-0{}", (partition + 1) * 1_000_000, offset + 1, u8::from(sampled))
}

/// Records with headers, `count` of each partition: one in three without a sampled trace, one without any.
async fn produce(world: &World<'_>, count: i64) -> TestResult<()> {
    for partition in 0..world.partitions {
        for offset in 0..count {
            let record =
                world.message(partition).key(format!("a{partition}")).value("1").header("other", "x");
            let record = if offset == 0 {
                record.header("traceparent", "00-not-of-this-form-01")
            } else {
                record.header("traceparent", traceparent(partition, offset, offset % 3 != 0))
            };
            world.producer.send(record)?;
        }
    }
    Ok(world.producer.flush().await?)
}

fn traced(world: &World<'_>, collector: &Collector, more: &[(&str, &str)]) -> TestResult<Process> {
    let mut env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_SERVICE_NAME", "fraud-scores"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("HIGHWATER_LOG", "info"),
    ];
    env.extend(more);
    Ok(Process::start_with(world, "traced", "traced", &env)?)
}

/// What `span` says of its group, its topic and itself; the rest must be as given.
fn has(span: &Span, world: &World<'_>, expected: &[(&str, &str)]) {
    let mut found = attributes(&span.attributes);
    let client = found.remove("messaging.client.id").expect("it names the client");
    assert!(client.starts_with("highwater/"), "{client}");
    let common = [
        ("messaging.system", "kafka"),
        ("messaging.consumer.group.name", world.group.as_str()),
        ("messaging.destination.name", world.topic.as_str()),
    ];
    for (name, value) in common.iter().chain(expected) {
        assert_eq!(found.remove(*name).as_deref(), Some(*value), "{name} of {}", span.name);
    }
    let allowed = ["messaging.destination.partition.id", "messaging.kafka.offset", "target"];
    found.retain(|name, _| !allowed.contains(&name.as_str()));
    assert!(found.is_empty(), "{}: {found:?}", span.name);
}

fn count(span: &Span) -> usize {
    let given = span.attributes.iter().find(|given| given.key == "messaging.batch.message_count");
    match given.and_then(|given| given.value.as_ref()?.value.as_ref()) {
        Some(Value::IntValue(count)) => usize::try_from(*count).expect("a count"),
        other => panic!("the count is {other:?}"),
    }
}

/// Each record that is linked, and the trace and span that it is linked to.
fn links(spans: &[Span]) -> BTreeMap<(i32, i64), (String, String)> {
    let mut linked = BTreeMap::new();
    for link in spans.iter().flat_map(|span| &span.links) {
        let of = attributes(&link.attributes);
        let partition = of["messaging.destination.partition.id"].parse().expect("a number");
        let offset = of["messaging.kafka.offset"].parse().expect("a number");
        let before = linked.insert((partition, offset), (hex(&link.trace_id), hex(&link.span_id)));
        assert!(before.is_none(), "{partition}:{offset} is linked twice");
    }
    linked
}

#[tokio::test]
async fn batches_are_spans_with_links_and_steps() -> TestResult {
    let world = World::new("trace", 2).await?;
    let collector = Collector::start(Mood::Takes).await?;
    produce(&world, 60).await?;
    // Small batches, so that there is one to prepare behind another.
    let small = [("HIGHWATER_BATCH_MAX_RECORDS", "10"), ("HIGHWATER_BATCH_TARGET_RECORDS", "10")];
    let process = traced(&world, &collector, &small)?;
    world.verify().await?;
    let name = format!("process {}", world.topic);
    let applied = |received: &Received| -> usize { received.applied(&name).iter().map(count).sum() };
    wait_until("all batches are told", PATIENCE, async || {
        Ok((applied(&collector.received()) >= 120).then_some(()))
    })
    .await?;
    process.stop().await?;
    let received = collector.received();
    assert!(received.services.iter().all(|service| service == "fraud-scores"), "{:?}", received.services);

    let batches = received.applied(&name);
    assert_eq!(applied(&received), 120, "each record is in one batch that was applied");
    let cluster = attributes(&batches[0].attributes)["messaging.kafka.cluster.id"].clone();
    for batch in &batches {
        assert_eq!((batch.kind, batch.parent_span_id.len()), (CONSUMER, 0));
        assert!(batch.links.len() <= MAX_LINKS && batch.dropped_links_count == 0);
        let messages = count(batch).to_string();
        let expected = [
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.batch.message_count", messages.as_str()),
            ("messaging.kafka.cluster.id", cluster.as_str()),
            ("highwater.outcome", "applied"),
        ];
        has(batch, &world, &expected);

        let handlers = received.below(batch, "handler");
        let [handler] = &*handlers else { panic!("{} handlers", handlers.len()) };
        assert_eq!(handler.kind, INTERNAL);
        assert_eq!(received.below(handler, "score").len(), 1, "the handler's own span is below it");
        let commits = received.below(batch, &format!("commit {}", world.topic));
        let [commit] = &*commits else { panic!("{} commits", commits.len()) };
        assert_eq!(commit.kind, CLIENT);
        let expected = [
            ("messaging.operation.name", "commit"),
            ("messaging.operation.type", "settle"),
            ("messaging.batch.message_count", messages.as_str()),
            ("db.system.name", "postgresql"),
        ];
        has(commit, &world, &expected);
        for step in [handler, commit] {
            let within = step.start_time_unix_nano >= batch.start_time_unix_nano
                && step.end_time_unix_nano <= batch.end_time_unix_nano;
            assert!(within, "{} is within its batch", step.name);
        }
        assert!(commit.start_time_unix_nano >= handler.end_time_unix_nano);
    }
    let prepared: usize = batches.iter().map(|batch| received.below(batch, "prepare").len()).sum();
    assert!(prepared > 0, "none of {} batches was prepared ahead", batches.len());

    let expected = (0..2).flat_map(|partition| (1..60).map(move |offset| (partition, offset)));
    let expected: BTreeMap<_, _> = expected
        .map(|(partition, offset)| {
            let header = traceparent(partition, offset, true);
            let ids: Vec<&str> = header.split('-').collect();
            ((partition, offset), (ids[1].to_owned(), ids[2].to_owned()))
        })
        .collect();
    assert_eq!(links(&batches), expected);

    let claims = received.named(&format!("claim {}", world.topic));
    assert!(claims.iter().all(|claim| claim.kind == CLIENT && claim.parent_span_id.is_empty()));
    let claimed = claims.iter().filter_map(|claim| {
        attributes(&claim.attributes).get("highwater.partitions.claimed")?.parse::<usize>().ok()
    });
    assert!(claimed.sum::<usize>() >= 2);

    // What the handler logs bears the ids of its trace.
    let traces: Vec<String> = batches.iter().map(|batch| hex(&batch.trace_id)).collect();
    let lines = process.child.lines();
    let logged: Vec<&str> =
        lines.iter().map(|line| line.text.as_str()).filter(|line| line.contains("scored")).collect();
    assert_eq!(logged.len(), batches.len());
    for line in logged {
        let trace = line.split("trace_id=").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(trace.is_some_and(|trace| traces.iter().any(|known| known == trace)), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_hangs_delays_no_batch_and_no_stop() -> TestResult {
    let world = World::new("trace-hang", 2).await?;
    let collector = Collector::start(Mood::Hangs).await?;
    produce(&world, 20).await?;
    let more = [("OTEL_EXPORTER_OTLP_TIMEOUT", "120000"), ("HIGHWATER_LOG_FORMAT", "json")];
    let process = traced(&world, &collector, &more)?;
    world.verify().await?;
    wait_until("the export hangs", PATIENCE, async || Ok((collector.received().requests > 0).then_some(())))
        .await?;
    // Goes on behind it.
    world.produce(50).await?;
    world.verify().await?;
    let began = Instant::now();
    process.stop().await?;
    let stopped = began.elapsed();
    assert!(stopped < FLUSH_LIMIT + Duration::from_secs(15), "{stopped:?}");

    // In JSON, every line is an object, and those of the handler have the ids.
    let lines = process.child.lines();
    let json = lines.iter().filter(|line| line.text.starts_with('{'));
    let json: Vec<serde_json::Value> =
        json.map(|line| serde_json::from_str(&line.text)).collect::<Result<_, _>>()?;
    let scored: Vec<_> = json.iter().filter(|line| line["message"] == "scored").collect();
    assert!(!scored.is_empty());
    for line in scored {
        assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "{line}");
        assert_eq!(line["span_id"].as_str().map(str::len), Some(16), "{line}");
    }
    assert!(json.iter().any(|line| line["message"] == "the last spans were not sent"), "it says so");
    Ok(())
}

#[tokio::test]
async fn one_in_a_hundred_is_what_the_environment_may_ask_for() -> TestResult {
    let world = World::new("trace-none", 1).await?;
    let collector = Collector::start(Mood::Takes).await?;
    produce(&world, 20).await?;
    let none = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.0")];
    let process = traced(&world, &collector, &none)?;
    world.verify().await?;
    process.stop().await?;
    assert_eq!(collector.received().spans.len(), 0);
    Ok(())
}
