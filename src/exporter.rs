//! One process that tells Prometheus of all groups of a database.
//!
//! Workers tell of themselves; this tells of every group, also of those that nobody works on any more, and in the names of
//! other exporters where boards and alerts are written in those ([`Compat`]). What is not known has no sample. What is too
//! old has none either, and [`highwater_exporter_up`](crate::fleet::View::is_stale) is 0: a scrape never tells of the past
//! as if it were now, and never of 0 where nothing is known.

mod burrow;
mod counters;
mod definitions;
mod kafka_exporter;
mod kafka_lag_exporter;
mod kminion;
mod own;

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use self::counters::Counters;
use crate::fleet::View;
use crate::metrics::exposition::{Family, Format, encode};

/// Another exporter, in whose names ours can be told too: its boards and alerts go on working.
///
/// From one process only: `sum()` over two would be twice as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Compat {
    /// danielqsj's `kafka_exporter`, as Strimzi ships it.
    KafkaExporter,
    /// kafka-lag-exporter, and klag-exporter which has taken over its names.
    KafkaLagExporter,
    /// Burrow, through its own `/metrics`.
    Burrow,
    /// KMinion.
    Kminion,
}

impl Compat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::KafkaExporter, Self::KafkaLagExporter, Self::Burrow, Self::Kminion];

    /// As the setting has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KafkaExporter => "kafka_exporter",
            Self::KafkaLagExporter => "kafka_lag_exporter",
            Self::Burrow => "burrow",
            Self::Kminion => "kminion",
        }
    }
}

impl FromStr for Compat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|compat| compat.as_str() == text).ok_or_else(|| {
            format!("`{text}` is no exporter that this knows: choose kafka_exporter, kafka_lag_exporter, burrow or kminion")
        })
    }
}

/// Makes pages for Prometheus.
#[derive(Debug)]
pub struct Exporter {
    compat: Vec<Compat>,
    cluster: String,
    counters: Mutex<Counters>,
}

impl Default for Exporter {
    fn default() -> Self {
        Self { compat: Vec::new(), cluster: "default".to_owned(), counters: Mutex::default() }
    }
}

impl Exporter {
    /// In whose names beside our own. None by default.
    #[must_use]
    pub fn compat(mut self, compat: impl IntoIterator<Item = Compat>) -> Self {
        self.compat = compat.into_iter().collect();
        self.compat.sort_unstable();
        self.compat.dedup();
        self
    }

    /// What those call the Kafka cluster, in their label `cluster_name` or `cluster`. `default` unless set.
    #[must_use]
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// The `Content-Type` of [`page`](Self::page).
    pub(crate) fn content_type(accept: Option<&str>) -> &'static str {
        Format::negotiate(accept).content_type()
    }

    /// The page in the format that `accept` (the request's header) likes best, with its `Content-Type`.
    #[must_use]
    pub fn page(&self, view: &View, accept: Option<&str>) -> (&'static str, String) {
        let format = Format::negotiate(accept);
        (format.content_type(), encode(self.families(view), format))
    }

    fn families(&self, view: &View) -> Vec<Family> {
        let mut families = own::of_itself(view);
        let Some(reading) = view.reading.as_deref().filter(|_| !view.is_stale()) else { return families };
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.add(reading);
        families.extend(own::of_groups(reading, &counters));
        for compat in &self.compat {
            families.extend(match compat {
                Compat::KafkaExporter => kafka_exporter::families(reading),
                Compat::KafkaLagExporter => kafka_lag_exporter::families(reading, &self.cluster),
                Compat::Burrow => burrow::families(reading, &self.cluster),
                Compat::Kminion => kminion::families(reading, &counters),
            });
        }
        families
    }
}
