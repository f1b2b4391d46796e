//! The tables in `docs/from-connect.md`, made from those in the code.

use std::fmt::Write as _;

use super::connector::Connector;
use super::consumer::{OVERRIDES, Override};
use super::converters::{CONVERTERS, Family};
use super::options::{CONNECT, EVERY, Entry, Fate, JDBC};
use super::transforms::TRANSFORMS;

/// What becomes of each option, in Markdown: the tables of `docs/from-connect.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from("\n### Of the JDBC sinks\n\n");
    options(&mut page, JDBC);
    page.push_str("\n### Of Kafka Connect\n\n");
    options(&mut page, CONNECT);
    converters(&mut page);
    page.push_str("\n### `consumer.override.*`\n\n| property | what becomes of it |\n|---|---|\n");
    for (name, fate) in OVERRIDES {
        let text = match fate {
            Override::Same => format!("taken: `\"{name}\"` under `[kafka]`"),
            Override::Renamed(other) => format!("taken: `\"{other}\"` under `[kafka]`"),
            Override::Setting(setting) | Override::List(setting) | Override::Duration(setting) => {
                format!("taken: `{setting}`")
            }
            Override::Group => "taken: `group`, in place of connect-NAME".to_owned(),
            Override::NotNeeded(why) => format!("not needed: {why}"),
            Override::ByHand(what) => format!("by hand: {what}"),
            Override::Refused(why) => format!("refused: {why}"),
        };
        let _ = writeln!(page, "| `{name}` | {} |", cell(&text));
    }
    page.push_str("\n### `transforms`\n\n`io.debezium.transforms.ExtractNewRecordState` is taken: `envelope = \"debezium\"`; and so is\n`org.apache.kafka.connect.transforms.Flatten$Value`, alone or behind it, where the columns are left to the values' schema:\n`flatten = \"_\"`, with its `delimiter` (`.` without one). All others, and other orders, are refused for now. Instead:\n\n| transform | what to write |\n|---|---|\n");
    for (name, instead) in TRANSFORMS {
        let _ = writeln!(page, "| {name} | {} |", cell(instead));
    }
    page
}

fn options(page: &mut String, entries: &[Entry]) {
    page.push_str("| option | of | what becomes of it |\n|---|---|---|\n");
    for entry in entries {
        let of: Vec<&str> = entry.of.iter().map(|one: &Connector| one.name()).collect();
        let of = if entry.of == EVERY { "all".to_owned() } else { of.join(", ") };
        let _ = writeln!(page, "| `{}` | {of} | {} |", entry.name, cell(&told(entry.fate)));
    }
}

fn converters(page: &mut String) {
    page.push_str(
        "\n### Of converters with a schema registry\n\nBehind `value.converter.`, and behind `key.converter.` where the key is \
         read. Both must have the same registry. Apicurio's\nAvroConverter is taken where the values name their schemas as \
         Confluent does, by four bytes and the content's id; its other\nconverters are refused.\n\n| option | of | what becomes \
         of it |\n|---|---|---|\n",
    );
    for (name, of, fate) in CONVERTERS {
        let names: Vec<&str> = of.iter().map(|one| one.name()).collect();
        let of = match *of {
            [Family::Avro, Family::Protobuf, Family::JsonSchema, Family::Apicurio] => "all".to_owned(),
            [Family::Avro, Family::Protobuf, Family::JsonSchema] => "Confluent's".to_owned(),
            _ => names.join(", "),
        };
        let _ = writeln!(page, "| `{name}` | {of} | {} |", cell(&told(*fate)));
    }
}

fn told(fate: Fate) -> String {
    match fate {
        Fate::Taken(key) => format!("taken: {key}"),
        Fate::NotNeeded(why) => format!("not needed: {why}"),
        Fate::Only(values, why) => {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("{} needs nothing; else refused: {why}", values.join(" or "))
        }
        Fate::ByHand(what) => format!("by hand: {what}"),
        Fate::Refused(why) => format!("refused: {why}"),
        Fate::With(other) => format!("see `{other}`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::options;
    use super::*;

    const BEGIN: &str = "<!-- Made from src/pipeline/import/; don't edit below. HIGHWATER_TEST_BLESS=1 cargo test --lib \
                     --features cli pipeline::import::page -->\n";

    #[test]
    fn the_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-connect.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (by_hand, _) = page.split_once(BEGIN).expect("the page has the mark behind which it is made");
        let made = format!("{by_hand}{BEGIN}{}", reference());
        if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
            return;
        }
        assert!(
            page == made,
            "docs/from-connect.md is stale: run HIGHWATER_TEST_BLESS=1 cargo test --lib --features cli pipeline::import::page"
        );
    }

    #[test]
    fn an_option_has_one_entry_and_every_entry_says_something() {
        for connector in Connector::ALL {
            let mut names: Vec<&str> = options::all()
                .filter(|entry| entry.of.contains(&connector))
                .map(|entry| entry.name)
                .collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{connector:?}");
        }
        for entry in options::all() {
            if let Fate::With(other) = entry.fate {
                assert!(options::all().any(|one| one.name == other), "{}", entry.name);
            }
        }
    }
}
