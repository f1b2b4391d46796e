//! What a metric is: the one place from which the exposition and `docs/metrics.md` are made.

/// What a metric counts like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, until the process starts anew. Its name ends with `_total`.
    Counter,
    Gauge,
    Histogram,
    /// Always 1; what it says is in its labels. Its name ends with `_info`.
    Info,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    /// What the formats add to the name of a family by themselves.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

/// A metric, as it is documented and exposed.
#[derive(Debug)]
pub(crate) struct Definition {
    /// As dashboards write it, with its unit and what its kind adds.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The unit that its name ends with, before what the kind adds; `None` where it is a noun's number.
    pub(crate) unit: Option<&'static str>,
    pub(crate) labels: &'static [&'static str],
    /// One line, for HELP and for the page.
    pub(crate) help: &'static str,
}

/// Definitions that belong together, with a heading and a text for the page.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    pub(crate) definitions: &'static [&'static Definition],
}
