//! What may be repeated of a text: Highwater's own words, and not those of people or handlers within them.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Fields that hold texts.
const TEXTS: &[&str] = &["detail", "reason", "paused_reason", "error"];

/// How texts of Highwater's own begin, as far as nobody else's words can be in them. (Classes of characters are written
/// out: the `regex` crate is built without Unicode's.)
static BEGINNINGS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    const RECORD: &str = r"^record [^ ]+\[[0-9]+\]@[0-9]+";
    [
        format!("{RECORD} was rejected:"),
        format!("{RECORD} cannot be applied:"),
        format!("{RECORD} loses its session with Postgres every time, though others keep theirs"),
        format!("{RECORD}: this single record takes longer than max_processing_time every time"),
        r"^the worker's role may not do what is asked of it at [^ ]+\[[0-9]+\]@[0-9]+:".to_owned(),
        r"^[^ ]+\[[0-9]+\] \[[0-9]+, [0-9]+\):".to_owned(),
        r"^[^ ]+\[[0-9]+\] was halted by an operator:".to_owned(),
        r"^[^ ]+\[[0-9]+\] is (claiming|draining|fenced|halted|running):".to_owned(),
        "^paused by an operator:".to_owned(),
        "^trying again:".to_owned(),
    ]
    .iter()
    .map(|pattern| Regex::new(pattern).expect("a pattern of ours"))
    .collect()
});

/// Texts that have nothing but Highwater's words, names and numbers, and what a broker says.
static WHOLE: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"^cannot read [^ ]+\[[0-9]+\] at offset [0-9]+: ",
        r"^Kafka refuses the records of [^ ]+\[[0-9]+\] from offset [0-9]+ on: ",
        r"^Kafka holds records of [^ ]+\[[0-9]+\] up to offset [0-9]+, and none comes after [0-9]+(, for more than [a-z0-9 ]+)?$",
        r"^records of [^ ]+\[[0-9]+\] are here from offset [0-9]+ on, and none is applied(, for more than [a-z0-9 ]+)?$",
        r"^an open transaction upstream holds the last stable offset of [^ ]+\[[0-9]+\] at [0-9]+",
        r"^[^ ]+\[[0-9]+\] has no leader: ",
        r"^([^ ]+\[[0-9]+\]: )?waits for ",
        "^no broker answers ",
        "^Postgres does not answer: no heartbeat could be written",
        "^Postgres refuses the credentials: ",
        "^not a member of group ",
        r"^nobody in group [^ ]+ was given [0-9]+ of the [0-9]+ partitions of [^ ]+, which it subscribes to(, for more than [a-z0-9 ]+)?$",
        "^a new Kafka client is being built$",
        r"^[0-9]+ offsets behind, and the limit is [0-9]+$",
        r"^the next record is [0-9.]+ s old, and the limit is [0-9.]+ s$",
        r"^[0-9]+ dead letters wait, and the limit is [0-9]+$",
        r"^Kafka's log goes from [0-9]+ to [0-9]+$",
        "^none given$",
    ]
    .iter()
    .map(|pattern| Regex::new(pattern).expect("a pattern of ours"))
    .collect()
});

static SQLSTATE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"SQLSTATE [0-9A-Z]{5}( \([a-z_]+\))?").expect("a pattern of ours"));

/// How texts are repeated.
pub(super) struct Words {
    all: bool,
    /// So that the same text is known again within this report, and guessed by nobody.
    salt: Uuid,
}

impl Words {
    pub(super) fn new(all: bool) -> Self {
        Self { all, salt: Uuid::new_v4() }
    }

    /// Whether everything is repeated.
    pub(super) fn all(&self) -> bool {
        self.all
    }

    /// Reduces every text in `value` to what may be repeated.
    pub(super) fn reduce(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.reduce(item)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(text) if TEXTS.contains(&name.as_str()) => *text = self.told(text),
                        other => self.reduce(other),
                    }
                }
            }
            _ => {}
        }
    }

    fn told(&self, text: &str) -> String {
        if self.all || WHOLE.iter().any(|pattern| pattern.is_match(text)) {
            return text.to_owned();
        }
        let beginning =
            BEGINNINGS.iter().find_map(|pattern| pattern.find(text)).map_or("", |found| found.as_str());
        let rest = &text[beginning.len()..];
        let digest = Sha256::new().chain_update(self.salt.as_bytes()).chain_update(text).finalize();
        let mark: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let state = SQLSTATE.find(rest).map_or_else(String::new, |found| format!(" {}", found.as_str()));
        format!("{beginning}{state} [{} characters are left out: text {mark}]", rest.chars().count())
            .trim_start()
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_our_own_are_repeated() {
        let words = Words::new(false);
        for text in [
            "the account KEY-4711 is unknown",
            "record KEY-4711 was rejected: KEY-4711",
            "KEY-4711 has no leader",
            "record t[0]@7 was rejected: no account KEY-4711; the records before it are applied",
            "t[0] [7, 9): KEY-4711; mend that",
            "trying again: KEY-4711; Kafka holds records of t[0] up to offset 9, and none comes after 7",
            "paused by an operator: skip KEY-4711",
            "Kafka holds records of t[0] up to offset 9, and none comes after 7; KEY-4711",
            "offsets behind KEY-4711",
        ] {
            let told = words.told(text);
            assert!(!told.contains("4711"), "{text}: {told}");
        }
        let told = words.told(
            "record t[0]@7 was rejected: SQLSTATE 22003 (numeric_value_out_of_range), table s; the records",
        );
        assert!(
            told.starts_with("record t[0]@7 was rejected: SQLSTATE 22003 (numeric_value_out_of_range) ["),
            "{told}"
        );
        let whole = "an open transaction upstream holds the last stable offset of t[0] at 7, and the log goes on to 9";
        assert_eq!(words.told(whole), whole);
        assert_eq!(words.told("KEY"), words.told("KEY"), "the same text is known again");
        assert_ne!(words.told("KEY"), Words::new(false).told("KEY"), "and in no other report");
        assert_eq!(Words::new(true).told("KEY"), "KEY");
    }

    #[test]
    fn texts_are_found_wherever_they_are() {
        let mut value = serde_json::json!([{ "a": { "detail": "KEY", "topic": "t" }, "reason": "KEY" }, { "reason": null }]);
        Words::new(false).reduce(&mut value);
        assert!(
            !value.to_string().contains("KEY") && value.to_string().contains(r#""topic":"t""#),
            "{value}"
        );
    }
}
