//! What the rules make of pages that were really scraped: each page counts as one scrape, 15 s after the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{promtool, root};
use crate::support::TestResult;

/// How far one page is from the next, for the rules: a test need not last for as long as they wait.
const APART_S: usize = 15;

/// Pages in Prometheus' text format, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    pages: usize,
    /// By series: a value for each page, where it was there.
    series: BTreeMap<String, BTreeMap<usize, String>>,
}

impl Scraped {
    /// Adds what was scraped at one time, of however many processes. `job` tells their series apart.
    pub(crate) fn add(&mut self, pages: &[(&str, &str)]) {
        for (job, page) in pages {
            for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                let series = match series.strip_suffix('}') {
                    Some(labelled) => format!("{labelled},job=\"{job}\"}}"),
                    None => format!("{series}{{job=\"{job}\"}}"),
                };
                // The notation of its tests has no word for what is not finite.
                if value.parse::<f64>().is_ok_and(f64::is_finite) {
                    self.series.entry(series).or_default().insert(self.pages, value.to_owned());
                }
            }
        }
        self.pages += 1;
    }

    /// The last page again, `times`: nothing has changed since.
    pub(crate) fn hold(&mut self, times: usize) {
        for _ in 0..times {
            for values in self.series.values_mut() {
                if let Some(value) = values.get(&(self.pages - 1)).cloned() {
                    values.insert(self.pages, value);
                }
            }
            self.pages += 1;
        }
    }

    /// Whether just these alerts fire when the last page was scraped.
    pub(crate) fn fires(&self, alerts: &[&str]) -> TestResult {
        let mut test = format!(
            "rule_files: ['{}']\nevaluation_interval: {APART_S}s\ntests:\n- interval: {APART_S}s\n  input_series:\n",
            root("deploy/prometheus/highwater.rules.yml").display()
        );
        for (series, values) in &self.series {
            let values: Vec<&str> =
                (0..self.pages).map(|at| values.get(&at).map_or("_", String::as_str)).collect();
            writeln!(
                test,
                "  - {{ series: '{}', values: '{}' }}",
                series.replace('\'', "''"),
                values.join(" ")
            )?;
        }
        let expected: Vec<String> = alerts
            .iter()
            .collect::<BTreeSet<_>>()
            .iter()
            .map(|alert| format!("{{ labels: '{{alertname=\"{alert}\"}}', value: 1 }}"))
            .collect();
        writeln!(
            test,
            "  promql_expr_test:\n  - expr: 'group by (alertname) (ALERTS{{alertstate=\"firing\"}})'\n    eval_time: {}s\n    \
             exp_samples: [{}]",
            (self.pages - 1) * APART_S,
            expected.join(", ")
        )?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("scraped.yml");
        std::fs::write(&file, test)?;
        promtool(&["test", "rules", file.to_str().expect("a path in UTF-8")])
    }
}
