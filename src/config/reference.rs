//! `docs/configuration.md`, made from the tables.

use std::fmt::Write as _;

use super::properties::REFUSED;
use super::settings::{PartialConfig, SETTINGS};
use super::table::{DefaultValue, Setting};

const HEAD: &str = "\
<!-- Made from src/config/settings.rs; don't edit. HIGHWATER_TEST_BLESS=1 cargo test --lib config::reference -->

# Configuration

A setting has one name everywhere: `linger` in the file and in the builder, `HIGHWATER_LINGER` in the environment.
If it is given more than once, the strongest source wins:

1. the builder: what the program itself sets;
2. flags of the program's command line;
3. environment variables;
4. the file named by `HIGHWATER_CONFIG`, in TOML;
5. the default.

```toml
brokers = [\"kafka-1:9092\", \"kafka-2:9092\"]
group = \"fraud-rules-v2\"
topics = [\"payments.tx_events\"]
linger = \"50ms\"

[kafka]
\"client.rack\" = \"eu-west-1a\"
```

Durations are written with `ms`, `s`, `m`, `h` or `d` (`20ms`, `5s`), sizes with `KiB`, `MiB` or `GiB` (`64MiB`).
A default gives way to a neighbour that was set: with `max_processing_time = \"2s\"`, `lock_timeout` becomes 1s, and
with a small `buffer_budget`, batches shrink with it. Two given values that contradict each other are an error.

An unknown key or variable is an error, and so is one that is set but empty. Ignored are `HIGHWATER_LOG` and
`HIGHWATER_LOG_FORMAT` (the log's filter, and `text` or `json`; see [observability.md](observability.md)),
`HIGHWATER_CACHE` and `HIGHWATER_TEST_*` (the test kit's), and what Kubernetes injects for a Service called
`highwater` (`HIGHWATER_SERVICE_HOST`, `HIGHWATER_PORT_9090_TCP_ADDR` and the like).
";

const KAFKA_HEAD: &str = "
## Properties of librdkafka

Every other property of [librdkafka's consumer](https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md)
is passed through: `\"fetch.min.bytes\" = 1024` under `[kafka]` in the file, or `HIGHWATER_KAFKA_FETCH_MIN_BYTES=1024`
in the environment (dots become underscores). Layers are merged property by property. A property that librdkafka does
not know, or a value that it does not take, is an error at the start.

These are refused, because they would break a guarantee or belong to a setting above:

| property | why |
|---|---|
";

/// The reference of all settings in Markdown: the page `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| setting | environment variable | default |\n|---|---|---|\n");
    for setting in SETTINGS {
        // Writing to a string can't fail, here and below.
        let _ =
            writeln!(page, "| [`{0}`](#{0}) | `{1}` | {2} |", setting.name, setting.env, default(setting));
    }
    page.push_str("\n## Settings\n");
    for setting in SETTINGS {
        let range = (setting.range)();
        let range = if range.is_empty() { range } else { format!(" · Range: {range}") };
        let _ = write!(
            page,
            "\n### `{}`\n\n{}\n\n`{}` · {} · Default: {}{range}\n\n*When to change it.* {}\n",
            setting.name,
            unindent(setting.doc),
            setting.env,
            capitalised((setting.unit)()),
            default(setting),
            setting.when,
        );
    }
    page.push_str(KAFKA_HEAD);
    for (property, reason) in REFUSED {
        let _ = writeln!(page, "| `{property}` | {reason} |");
    }
    page
}

fn default(setting: &Setting<PartialConfig>) -> String {
    match setting.default {
        DefaultValue::Required => "required".to_owned(),
        DefaultValue::Text(text) => format!("`{text}`"),
        DefaultValue::Described(text) => text.to_owned(),
    }
}

/// Removes the blank that `///` leaves before every line.
fn unindent(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().map(str::trim).collect();
    lines.join("\n").trim().to_owned()
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let page = reference();
        if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/configuration.md is stale: run HIGHWATER_TEST_BLESS=1 cargo test --lib config::reference"
        );
    }

    #[test]
    fn every_setting_says_what_it_is_and_when_to_change_it() {
        for setting in SETTINGS {
            let name = setting.name;
            assert!(!unindent(setting.doc).is_empty() && !setting.when.is_empty(), "{name}");
            assert_eq!(setting.env, format!("HIGHWATER_{}", name.to_uppercase()));
        }
    }
}
