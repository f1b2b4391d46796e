//! From a batch's span to the spans in which its records were sent.

use opentelemetry::KeyValue;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{MAX_LINKS, creation_context};
use crate::{Batch, Record};

/// Links `span` to the spans of its records, up to [`MAX_LINKS`], sampled ones first: a link to what was not kept leads
/// nowhere. Links, not parents: a batch has many.
pub(crate) fn link(span: &Span, batch: &Batch) {
    // The headers of 50,000 records are looked at only for a span that will be sent.
    if span.is_disabled() || !span.context().span().span_context().is_sampled() {
        return;
    }
    let several = batch.parts.iter().any(|part| part.key.topic != batch.parts[0].key.topic);
    let linked = chosen(batch.records().filter_map(|record| Some((creation(&record)?, record))));
    for (context, record) in linked {
        let mut attributes = vec![
            KeyValue::new("messaging.kafka.offset", record.offset()),
            KeyValue::new("messaging.destination.partition.id", record.partition().to_string()),
        ];
        if several {
            attributes.push(KeyValue::new("messaging.destination.name", record.topic().to_owned()));
        }
        span.add_link_with_attributes(context, attributes);
    }
}

/// The first sampled ones; where they leave room, the first of the others.
fn chosen<T>(contexts: impl Iterator<Item = (SpanContext, T)>) -> Vec<(SpanContext, T)> {
    let (mut sampled, mut others) = (Vec::new(), Vec::new());
    for (context, of) in contexts {
        if context.is_sampled() {
            sampled.push((context, of));
            if sampled.len() == MAX_LINKS {
                return sampled;
            }
        } else if others.len() < MAX_LINKS {
            others.push((context, of));
        }
    }
    others.truncate(MAX_LINKS - sampled.len());
    sampled.append(&mut others);
    sampled
}

/// The span in which a record was sent, if its headers say so as W3C has it.
fn creation(record: &Record<'_>) -> Option<SpanContext> {
    let headers = Headers(record);
    headers.get("traceparent")?;
    let context = creation_context(&headers).span().span_context().clone();
    context.is_valid().then_some(context)
}

struct Headers<'a>(&'a Record<'a>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.headers().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        std::str::from_utf8(value?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn contexts(range: std::ops::Range<u64>, flags: TraceFlags) -> Vec<(SpanContext, u64)> {
        let context =
            |n| SpanContext::new(TraceId::from(7), SpanId::from(n), flags, true, TraceState::default());
        range.map(|n| (context(n), n)).collect()
    }

    #[test]
    fn sampled_ones_come_first_and_the_number_is_bounded() {
        let mut all = contexts(1..1001, TraceFlags::default());
        all.extend(contexts(1001..1101, TraceFlags::SAMPLED));
        let chosen: Vec<u64> = chosen(all.into_iter()).into_iter().map(|(_, n)| n).collect();
        assert_eq!(chosen, (1001..1101).chain(1..29).collect::<Vec<u64>>());
        let many = super::chosen(contexts(1..1001, TraceFlags::SAMPLED).into_iter());
        assert_eq!((many.len(), many[127].1), (MAX_LINKS, 128));
    }
}
