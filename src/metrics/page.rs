//! `docs/metrics.md`, made from the definitions.

use std::fmt::Write as _;

use super::definition::{Definition, Section};
use super::definitions::WORKER_SECTIONS;

const HEAD: &str = "\
<!-- Made from src/metrics/definitions.rs; don't edit. HIGHWATER_TEST_BLESS=1 cargo test --lib --features cli,testing metrics::page -->

# Metrics

A worker exposes its figures at `/metrics` of its admin server: see [operations.md](operations.md#admin-server). A
program reads the same as plain numbers from `WorkerHandle::metrics()`, without any server, and
`highwater::metrics::render` makes a page of them for a server of its own.

The format follows from the scraper's `Accept`: OpenMetrics 1.0.0
(`application/openmetrics-text; version=1.0.0; charset=utf-8`) for one that names it, as Prometheus does, else
Prometheus' text (`text/plain; version=0.0.4; charset=utf-8`). The names below are those that queries use, in both; in
OpenMetrics the metadata of a counter is under its name without `_total`, that of an info without `_info`.

Counters begin at 0 when the process starts. Whatever is known of nothing has no sample: a missing series means *not
known*, 0 means none.

## How many series

Labels take their values from configuration and from Kafka's metadata, never from records. A worker with `p` assigned
partitions exposes at most `9 × p + 250` series: nine per partition, 178 of nine histograms (seven of them the phases of
a batch), and at most 72 single ones; and one for each route that has had dead letters. A group of 64 partitions on four workers comes to 1,576; 200 such groups, 12,800 partitions,
to 315,200. The label `worker` is the instance id, or the random id of the process start where there
is none: without instance ids five series per worker begin anew with each start.
";

/// The reference of all metrics in Markdown: the page `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Of a worker\n");
    section_tables(&mut page, WORKER_SECTIONS);
    page
}

fn section_tables(page: &mut String, sections: &[Section]) {
    for Section { title, text, definitions } in sections {
        // Writing to a string can't fail, here and below.
        let _ = write!(page, "\n### {title}\n\n");
        if !text.is_empty() {
            let _ = write!(page, "{text}\n\n");
        }
        page.push_str("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
        definitions.iter().for_each(|definition| row(page, definition));
    }
}

fn row(page: &mut String, Definition { name, kind, labels, help, .. }: &Definition) {
    let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
    let _ = writeln!(page, "| `{name}` | {} | {} | {} |", kind.as_str(), labels.join(", "), help.trim());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::metrics::definition::Kind;

    #[test]
    fn the_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let page = reference();
        if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/metrics.md is stale: run HIGHWATER_TEST_BLESS=1 cargo test --lib --features cli,testing metrics::page"
        );
    }

    #[test]
    fn names_follow_one_pattern_and_are_there_once() {
        let mut seen = BTreeSet::new();
        for definition in WORKER_SECTIONS.iter().flat_map(|section| section.definitions) {
            let Definition { name, kind, unit, help, .. } = definition;
            assert!(seen.insert(*name), "{name} is there twice");
            let base = name.strip_suffix(kind.suffix()).unwrap_or_else(|| panic!("{name} is no {kind:?}"));
            assert!(base.starts_with("highwater_"), "{name}");
            assert!(*kind == Kind::Counter || !name.ends_with("_total"), "{name}");
            assert!(
                unit.is_none_or(|unit| base.ends_with(&format!("_{unit}"))),
                "{name} does not end with its unit"
            );
            let help = help.trim();
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }
}
