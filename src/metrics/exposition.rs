//! Families of samples, encoded in either of Prometheus' text formats. Whoever has figures makes families of them, a
//! worker or a process that looks at many groups.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::definition::{Definition, Kind};
use super::histogram::Histogram;

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' own, 0.0.4.
    Text,
}

impl Format {
    /// The one to answer with, from a request's `Accept` header: OpenMetrics to who names it and does not like the
    /// other better, else Prometheus' own, which everybody reads.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut open, mut plain) = (0, 0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1_000, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = thousandths(value.trim()),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match (media.as_str(), version) {
                // 0.0.1 is a draft, and no other version can be told from here.
                ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(quality),
                ("text/plain", None | Some("0.0.4")) => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`. Prometheus 3 fails a scrape without one that it knows.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// A weight between 0 and 1 in thousandths; what is none counts as 0.
fn thousandths(text: &str) -> u32 {
    let weight = text.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1,000")]
    let thousandths = (weight * 1_000.0) as u32;
    thousandths
}

/// The labels of a sample: shared, for the families of a partition have the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels(Arc<[(&'static str, Arc<str>)]>);

impl Labels {
    pub(crate) fn new(labels: impl IntoIterator<Item = (&'static str, Arc<str>)>) -> Self {
        Self(labels.into_iter().collect())
    }

    /// These and one more.
    pub(crate) fn and(&self, name: &'static str, value: impl Into<Arc<str>>) -> Self {
        Self::new(self.0.iter().cloned().chain([(name, value.into())]))
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, value)| (*name, &**value).encode(encoder.encode_label()))
    }
}

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A whole number that cannot be below 0.
    Count(u64),
    /// A whole number.
    Integer(i64),
    /// Seconds, for the most part.
    Number(f64),
    Histogram(Histogram),
    /// What an info says is in its labels.
    Info,
}

/// A value and what it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: Value,
}

/// All samples of one name.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    pub(crate) samples: Vec<Sample>,
}

impl Family {
    /// An empty family. One without samples is not written.
    pub(crate) fn of(definition: &'static Definition) -> Self {
        let Definition { name, kind, unit, help, .. } = *definition;
        let name = name.strip_suffix(kind.suffix()).unwrap_or(name);
        let name = unit.map_or(name, |unit| {
            name.strip_suffix(unit).and_then(|name| name.strip_suffix('_')).unwrap_or(name)
        });
        let help = help.trim();
        Self { name, help, kind, unit: unit.map(|unit| Unit::Other(unit.to_owned())), samples: Vec::new() }
    }

    /// The name as dashboards write it.
    #[cfg(test)]
    pub(crate) fn name(&self) -> String {
        let unit = self.unit.as_ref().map_or_else(String::new, |unit| format!("_{}", unit.as_str()));
        format!("{}{unit}{}", self.name, self.kind.suffix())
    }

    pub(crate) fn push(&mut self, labels: Labels, value: Value) {
        self.samples.push(Sample { labels, value });
    }

    /// The family with one more sample.
    pub(crate) fn with(mut self, labels: Labels, value: Value) -> Self {
        self.push(labels, value);
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        if self.samples.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let mut family = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        self.samples.iter().try_for_each(|sample| sample.encode(&mut family, self.kind))
    }
}

impl Sample {
    fn encode(&self, family: &mut MetricEncoder<'_>, kind: Kind) -> std::fmt::Result {
        if let Value::Info = self.value {
            return family.encode_info(&self.labels);
        }
        let mut metric = family.encode_family(&self.labels)?;
        match (&self.value, kind) {
            (Value::Count(count), Kind::Counter) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
            (Value::Number(number), Kind::Counter) => {
                metric.encode_counter::<NoLabelSet, _, f64>(number, None)
            }
            (Value::Count(count), _) => metric.encode_gauge(count),
            (Value::Integer(number), _) => metric.encode_gauge(number),
            (Value::Number(number), _) => metric.encode_gauge(number),
            (Value::Histogram(Histogram { sum, count, buckets, .. }), _) => {
                metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
            (Value::Info, _) => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// Writes the families in the order in which they are given; each name must be there once.
pub(crate) fn encode(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut page = String::new();
    // Writing to a string can't fail.
    let _ = match format {
        Format::OpenMetrics => text::encode(&mut page, &registry),
        Format::Text => prometheus_text::encode(&mut page, &registry),
    };
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    static LAG: Definition = Definition {
        name: "highwater_lag_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &["topic"],
        help: "How old the next record is.",
    };
    static COMMITS: Definition = Definition {
        name: "highwater_commits_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Transactions.",
    };
    static TOOK: Definition = Definition {
        name: "highwater_commit_seconds",
        kind: Kind::Histogram,
        unit: Some("seconds"),
        labels: &["stage"],
        help: "How long it took.",
    };
    static BUILD: Definition = Definition {
        name: "highwater_build_info",
        kind: Kind::Info,
        unit: None,
        labels: &["version"],
        help: "What runs.",
    };
    /// Burrow's: a gauge, though its name says otherwise.
    static BURROW: Definition = Definition {
        name: "burrow_kafka_consumer_lag_total",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Lag.",
    };

    fn page(format: Format) -> String {
        let topic = Labels::new([("topic", Arc::from("a\"b\\c\nd"))]);
        let stage = Labels::new([("stage", Arc::from("commit"))]);
        let buckets = vec![(0.5, 2), (f64::INFINITY, 1)];
        let took = Histogram { sum: 2.25, count: 3, buckets };
        let families = vec![
            Family::of(&LAG)
                .with(topic, Value::Number(1.5))
                .with(Labels::default().and("topic", "e"), Value::Number(f64::INFINITY)),
            Family::of(&COMMITS).with(Labels::default(), Value::Count(7)),
            Family::of(&TOOK).with(stage, Value::Histogram(took)),
            Family::of(&BUILD).with(Labels::default().and("version", "1"), Value::Info),
            Family::of(&BURROW).with(Labels::default(), Value::Integer(-1)),
        ];
        encode(families, format)
    }

    #[test]
    fn the_plain_format() {
        let expected = "\
# HELP highwater_lag_seconds How old the next record is.
# TYPE highwater_lag_seconds gauge
highwater_lag_seconds{topic=\"a\\\"b\\\\c\\nd\"} 1.5
highwater_lag_seconds{topic=\"e\"} +Inf
# HELP highwater_commits_total Transactions.
# TYPE highwater_commits_total counter
highwater_commits_total 7
# HELP highwater_commit_seconds How long it took.
# TYPE highwater_commit_seconds histogram
highwater_commit_seconds_bucket{stage=\"commit\",le=\"0.5\"} 2
highwater_commit_seconds_bucket{stage=\"commit\",le=\"+Inf\"} 3
highwater_commit_seconds_sum{stage=\"commit\"} 2.25
highwater_commit_seconds_count{stage=\"commit\"} 3
# HELP highwater_build_info What runs.
# TYPE highwater_build_info gauge
highwater_build_info{version=\"1\"} 1
# HELP burrow_kafka_consumer_lag_total Lag.
# TYPE burrow_kafka_consumer_lag_total gauge
burrow_kafka_consumer_lag_total -1
";
        assert_eq!(page(Format::Text), expected);
    }

    #[test]
    fn the_open_format_has_units_and_an_end() {
        let page = page(Format::OpenMetrics);
        assert!(page.ends_with("\n# EOF\n"), "{page}");
        for line in [
            "# TYPE highwater_lag_seconds gauge",
            "# UNIT highwater_lag_seconds seconds",
            "# TYPE highwater_commits counter",
            "highwater_commits_total 7",
            "# TYPE highwater_build info",
            "highwater_build_info{version=\"1\"} 1",
            "highwater_commit_seconds_bucket{le=\"0.5\",stage=\"commit\"} 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn a_family_without_samples_is_not_written() {
        assert_eq!(encode(vec![Family::of(&LAG)], Format::Text), "");
    }

    #[test]
    fn the_format_is_what_the_scraper_likes_best() {
        let cases = [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;version=1.0.0;q=0"), Format::Text),
            (Some("text/plain;q=0.9, application/openmetrics-text;version=\"1.0.0\";q=0.5"), Format::Text),
            // Prometheus 3 sends this.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                     text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ),
                Format::OpenMetrics,
            ),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
