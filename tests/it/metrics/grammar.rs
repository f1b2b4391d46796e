//! Reading a page of metrics as strictly as the formats are written down: whatever does not fit is a failure of the test.

use std::collections::{BTreeMap, BTreeSet};

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Kinds by the family's name, as dashboards write it.
    kinds: BTreeMap<String, String>,
    /// Values by name and labels.
    samples: BTreeMap<(String, BTreeSet<String>), f64>,
}

impl Page {
    /// Prometheus' text 0.0.4.
    pub(crate) fn plain(text: &str) -> Self {
        Self::read(text, false)
    }

    /// OpenMetrics 1.0.0.
    pub(crate) fn open(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("it ends with the mark of its end");
        Self::read(text, true)
    }

    /// The names of the families.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.kinds.keys().cloned().collect()
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// The one sample with these labels, written as `name="value"`, and no other.
    pub(crate) fn value(&self, name: &str, labels: &[&str]) -> f64 {
        let labels: BTreeSet<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut found = self.samples.iter().filter(|((of, has), _)| of == name && labels.is_subset(has));
        let (_, value) = found.next().unwrap_or_else(|| panic!("there is no {name}{labels:?}"));
        assert_eq!(found.next(), None, "more than one {name}{labels:?}");
        *value
    }

    fn read(text: &str, is_open: bool) -> Self {
        assert!(text.ends_with('\n'), "a last line without an end");
        let mut page = Self::default();
        let (mut helped, mut family): (Option<String>, Option<(String, String)>) = (None, None);
        for line in text.lines() {
            let Some(comment) = line.strip_prefix("# ") else {
                let (name, kind) =
                    family.as_ref().unwrap_or_else(|| panic!("a sample before its type: {line}"));
                page.sample(line, name, kind, is_open);
                continue;
            };
            let (what, rest) = comment.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert_name(name);
            match what {
                "HELP" => {
                    assert!(!text.is_empty(), "{line}");
                    helped = Some(name.to_owned());
                }
                "TYPE" => {
                    assert_eq!(helped.as_deref(), Some(name), "help comes before the type");
                    let kinds: &[&str] = if is_open {
                        &["counter", "gauge", "histogram", "info"]
                    } else {
                        &["counter", "gauge", "histogram"]
                    };
                    assert!(kinds.contains(&text), "{line}");
                    let shown = match text {
                        "counter" if is_open => format!("{name}_total"),
                        "info" => format!("{name}_info"),
                        _ => name.to_owned(),
                    };
                    assert!(page.kinds.insert(shown, text.to_owned()).is_none(), "twice: {line}");
                    family = Some((name.to_owned(), text.to_owned()));
                }
                "UNIT" => {
                    assert!(is_open && name.ends_with(&format!("_{text}")), "{line}");
                    assert_eq!(family.as_ref().map(|(name, _)| &**name), Some(name), "{line}");
                }
                _ => panic!("no such comment: {line}"),
            }
        }
        page.check_histograms();
        page
    }

    fn sample(&mut self, line: &str, family: &str, kind: &str, is_open: bool) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
        };
        assert_name(name);
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            "counter" if is_open => &["_total"],
            "info" => &["_info"],
            _ => &[""],
        };
        assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "not of {family}: {line}");
        let value: f64 = match value {
            "+Inf" | "inf" => f64::INFINITY,
            value => value.parse().unwrap_or_else(|_| panic!("no number: {line}")),
        };
        assert!(kind == "gauge" || value >= 0.0, "below zero: {line}");
        let labels = read_labels(labels);
        assert!(self.samples.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
    }

    /// Buckets grow, and the last one is the count.
    fn check_histograms(&self) {
        for name in self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let counts = self.samples.iter().filter(|((of, _), _)| *of == format!("{name}_count"));
            for ((_, labels), count) in counts {
                let of_these =
                    |has: &BTreeSet<String>| labels.is_subset(has) && has.len() == labels.len() + 1;
                let mut buckets: Vec<(f64, f64)> = self
                    .samples
                    .iter()
                    .filter(|((of, has), _)| *of == format!("{name}_bucket") && of_these(has))
                    .map(|((_, has), value)| (bound(has), *value))
                    .collect();
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name}");
            }
        }
    }
}

fn bound(labels: &BTreeSet<String>) -> f64 {
    let bound = labels.iter().find_map(|label| label.strip_prefix("le=\"")).expect("a bucket has a bound");
    match bound.trim_end_matches('"') {
        "+Inf" => f64::INFINITY,
        bound => bound.parse().expect("a bound is a number"),
    }
}

fn assert_name(name: &str) {
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    assert!(begins && chars.all(|c| c.is_ascii_alphanumeric() || c == '_'), "no name: {name:?}");
}

/// `a="x",b="y"`, each name once, each value escaped.
fn read_labels(text: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        assert_name(name);
        assert!(names.insert(name), "{name} twice in {text}");
        let mut end = None;
        let mut escaped = false;
        for (at, c) in value.char_indices() {
            match c {
                _ if escaped => {
                    assert!(matches!(c, '\\' | '"' | 'n'), "no escape: {text}");
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => assert!(c != '\n'),
            }
        }
        let end = end.unwrap_or_else(|| panic!("without an end: {text}"));
        labels.insert(format!("{name}=\"{}\"", &value[..end]));
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}
