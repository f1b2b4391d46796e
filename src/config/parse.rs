//! How a setting's text becomes a value: one [`Kind`] per shape, used by the environment, the file and the flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::group::{Assignor, GroupProtocol};
use super::start::StartPolicy;
use super::topic_partition::{TopicPartition, check_partitions};
use super::values::{Isolation, OnOffsetLost, OnRejected, PasswordCommand, PostgresUrl, SecretText};
use crate::http::Address;
use crate::schema::SchemaName;

/// A value as its source wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// A string, or a number or boolean in the file.
    Text(String),
    /// An array of strings in the file. Elsewhere lists are text with commas.
    List(Vec<String>),
}

/// A shape of values: how it is called in the docs, how it is read, shown and checked.
pub(super) struct Kind<T: 'static> {
    /// What to write, for the docs.
    pub(super) unit: &'static str,
    pub(super) parse: fn(&Raw) -> Result<T, String>,
    /// Both ends are allowed.
    pub(super) range: Option<(T, T)>,
    pub(super) within: fn(&T, &(T, T)) -> bool,
    pub(super) show: fn(&T) -> String,
    /// What a value must satisfy besides its range; runs for typed values of the builder too.
    pub(super) check: fn(&T) -> Result<(), String>,
}

impl<T> Kind<T> {
    const fn plain(unit: &'static str, parse: fn(&Raw) -> Result<T, String>) -> Self {
        Self::checked(unit, parse, |_| Ok(()))
    }

    const fn checked(
        unit: &'static str,
        parse: fn(&Raw) -> Result<T, String>,
        check: fn(&T) -> Result<(), String>,
    ) -> Self {
        Self { unit, parse, range: None, within: |_, _| true, show: |_| String::new(), check }
    }

    /// Checks a value wherever it came from. The error completes "setting x: …".
    pub(super) fn validate(&self, value: &T) -> Result<(), String> {
        if let Some(range) = &self.range
            && !(self.within)(value, range)
        {
            let (low, high) = range;
            let show = self.show;
            return Err(format!(
                "{} is out of range: choose between {} and {}",
                show(value),
                show(low),
                show(high)
            ));
        }
        (self.check)(value)
    }

    /// The range for the docs.
    pub(super) fn range_text(&self) -> String {
        self.range
            .as_ref()
            .map(|(low, high)| format!("{} to {}", (self.show)(low), (self.show)(high)))
            .unwrap_or_default()
    }
}

/// A name without surrounding blanks or control characters.
pub(super) const TEXT: Kind<String> = Kind::checked("text", text, check_name);

/// As [`TEXT`], but may be left out.
pub(super) const OPTIONAL_TEXT: Kind<Option<String>> =
    Kind::checked("text", |raw| text(raw).map(Some), |value| value.as_ref().map_or(Ok(()), check_name));

/// Where to listen: an address with its port, a port alone for this machine, or nowhere.
pub(super) const ADDRESS: Kind<Option<SocketAddr>> =
    Kind::plain("address such as `0.0.0.0:9464`, a port, or `off`", |raw| match &*text(raw)? {
        "off" => Ok(None),
        text => parse_address(text).map(Some),
    });

/// Names separated by commas; in the file an array.
pub(super) const fn list(check: fn(&Vec<String>) -> Result<(), String>) -> Kind<Vec<String>> {
    Kind::checked("list, separated by commas", parse_list, check)
}

/// Partitions separated by commas; in the file an array.
pub(super) const PARTITIONS: Kind<Vec<TopicPartition>> = Kind::checked(
    "list of `topic:partition`, separated by commas",
    |raw| parse_list(raw)?.iter().map(|item| item.parse()).collect(),
    |partitions| check_partitions(partitions),
);

pub(super) const POSTGRES_URL: Kind<PostgresUrl> =
    Kind::checked("URL, or `key=value` pairs", |raw| text(raw).map(PostgresUrl::from), PostgresUrl::check);

pub(super) const OPTIONAL_POSTGRES_URL: Kind<Option<PostgresUrl>> = Kind::checked(
    "URL, or `key=value` pairs",
    |raw| text(raw).map(|text| Some(PostgresUrl::from(text))),
    |url| url.as_ref().map_or(Ok(()), PostgresUrl::check),
);

/// Its checks must not repeat it.
pub(super) const PASSWORD_COMMAND: Kind<Option<PasswordCommand>> =
    Kind::plain("command of the shell", |raw| text(raw).map(|text| Some(PasswordCommand::from(text))));

/// Its checks must not repeat it.
pub(super) const SECRET: Kind<Option<SecretText>> =
    Kind::plain("text", |raw| text(raw).map(|text| Some(SecretText::from(text))));

/// Where something is asked for by HTTP. Its checks must not repeat it.
pub(super) const HTTP_URL: Kind<Option<String>> = Kind::checked(
    "URL, `https://host/path`",
    |raw| text(raw).map(Some),
    |url| url.as_ref().map_or(Ok(()), |url| Address::parse(url).map(drop)),
);

pub(super) const SCHEMA: Kind<SchemaName> =
    Kind::plain("text", |raw| SchemaName::new(text(raw)?).map_err(|error| error.to_string()));

pub(super) const START: Kind<StartPolicy> =
    Kind::plain("`fail`, `earliest`, `latest`, `timestamp:…` or `adopt-kafka`", |raw| text(raw)?.parse());

pub(super) const ON_OFFSET_LOST: Kind<OnOffsetLost> =
    Kind::plain("`halt`, `earliest` or `latest`", |raw| text(raw)?.parse());

pub(super) const ON_REJECTED: Kind<OnRejected> =
    Kind::plain("`halt`, `dead_letter` or `park_key`", |raw| text(raw)?.parse());

pub(super) const GROUP_PROTOCOL: Kind<GroupProtocol> =
    Kind::plain("`classic` or `consumer`", |raw| text(raw)?.parse());

pub(super) const ASSIGNOR: Kind<Option<Assignor>> =
    Kind::plain("`cooperative-sticky`, `range`, `roundrobin` or `uniform`", |raw| {
        text(raw)?.parse().map(Some)
    });

pub(super) const ISOLATION: Kind<Isolation> =
    Kind::plain("`read_committed` or `read_uncommitted`", |raw| text(raw)?.parse());

/// A count of things.
pub(super) const fn count(low: usize, high: usize) -> Kind<usize> {
    Kind {
        range: Some((low, high)),
        within: |value, (low, high)| (low..=high).contains(&value),
        show: usize::to_string,
        ..Kind::plain("count", |raw| number(&text(raw)?))
    }
}

/// A number that `off` leaves out.
pub(super) const fn count_or_off(low: usize, high: usize) -> Kind<Option<usize>> {
    Kind {
        range: Some((Some(low), Some(high))),
        within: |value, (low, high)| value.is_none() || (low..=high).contains(&value),
        show: |value| value.map_or_else(|| "off".to_owned(), |value| value.to_string()),
        ..Kind::plain("count, or `off`", |raw| match &*text(raw)? {
            "off" => Ok(None),
            text => number(text).map(Some),
        })
    }
}

/// A size in memory.
pub(super) const fn bytes(low: usize, high: usize) -> Kind<usize> {
    Kind {
        range: Some((low, high)),
        within: |value, (low, high)| (low..=high).contains(&value),
        show: |value| show_bytes(*value),
        ..Kind::plain("size, such as `64MiB`", |raw| parse_bytes(&text(raw)?))
    }
}

/// A time span; both bounds in milliseconds.
pub(super) const fn duration(low_ms: u64, high_ms: u64) -> Kind<Duration> {
    Kind {
        range: Some((Duration::from_millis(low_ms), Duration::from_millis(high_ms))),
        within: |value, (low, high)| (low..=high).contains(&value),
        show: |value| show_duration(*value),
        ..Kind::plain("duration, such as `20ms`, `5s`, `2m`", |raw| parse_duration(&text(raw)?))
    }
}

/// A time span that may be left out.
pub(super) const fn optional_duration(low_ms: u64, high_ms: u64) -> Kind<Option<Duration>> {
    Kind {
        range: Some((Some(Duration::from_millis(low_ms)), Some(Duration::from_millis(high_ms)))),
        within: |value, (low, high)| value.is_none() || (low..=high).contains(&value),
        show: |value| value.map_or_else(|| "off".to_owned(), show_duration),
        ..Kind::plain("duration, such as `300ms`, `10s`", |raw| parse_duration(&text(raw)?).map(Some))
    }
}

/// A time span that `0` or `off` disables.
pub(super) const fn duration_or_off(low_ms: u64, high_ms: u64) -> Kind<Option<Duration>> {
    Kind {
        unit: "duration, or `off`",
        parse: |raw| match &*text(raw)? {
            "off" | "0" => Ok(None),
            text => parse_duration(text).map(|value| Some(value).filter(|value| !value.is_zero())),
        },
        ..optional_duration(low_ms, high_ms)
    }
}

/// A time span that the worker chooses by itself for `auto`.
pub(super) const fn duration_or_auto(low_ms: u64, high_ms: u64) -> Kind<Option<Duration>> {
    Kind {
        unit: "duration such as `20ms`, or `auto`",
        parse: |raw| match &*text(raw)? {
            "auto" => Ok(None),
            text => parse_duration(text).map(Some),
        },
        show: |value| value.map_or_else(|| "auto".to_owned(), show_duration),
        ..optional_duration(low_ms, high_ms)
    }
}

fn text(raw: &Raw) -> Result<String, String> {
    match raw {
        Raw::List(_) => Err("is a list: write a single value".to_owned()),
        Raw::Text(text) if text.trim().is_empty() => {
            Err("is set but empty: give a value, or leave it out".to_owned())
        }
        Raw::Text(text) => Ok(text.trim().to_owned()),
    }
}

fn parse_list(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(items) => Ok(items.clone()),
        Raw::Text(_) => Ok(text(raw)?.split(',').map(|item| item.trim().to_owned()).collect()),
    }
}

fn check_name(value: &String) -> Result<(), String> {
    if value.trim() != value {
        return Err(format!("{value:?} begins or ends with a blank: remove it"));
    }
    if value.is_empty() {
        return Err("is empty: give a value, or leave it out".to_owned());
    }
    if value.chars().any(char::is_control) {
        return Err(format!("{value:?} contains a control character: remove it"));
    }
    if value.len() > 255 {
        return Err(format!("has {} bytes: keep it under 256", value.len()));
    }
    Ok(())
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not an address with a port, such as 0.0.0.0:9464 or [::]:9464, nor a port, such as 9464: a host's \
             name can't be listened at"
        )
    })
}

fn number(text: &str) -> Result<usize, String> {
    text.replace('_', "").parse().map_err(|_| format!("`{text}` is not a whole number, such as 500"))
}

/// Splits `20ms` into 20 and `ms`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.replace('_', "").parse().ok()?, unit.trim()))
}

/// A time span as settings are written: `20ms`, `5s`, `2m`, `1h`, `30d`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration: write a whole number and ms, s, m, h or d, such as 20ms");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let wrong =
        || format!("`{text}` is not a size: write a whole number and B, KiB, MiB or GiB, such as 64MiB");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let unit_bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_bytes).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(wrong)
}

/// The shortest text that reads back as the same duration, to the millisecond.
pub(super) fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    for (unit_ms, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms > 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

fn show_bytes(value: usize) -> String {
    for (unit_bytes, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if value > 0 && value.is_multiple_of(unit_bytes) {
            return format!("{}{unit}", value / unit_bytes);
        }
    }
    format!("{value}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in
            [("20ms", 20), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("30d", 2_592_000_000)]
        {
            let value = parse_duration(text).unwrap();
            assert_eq!(value, Duration::from_millis(ms));
            assert_eq!(show_duration(value), text);
        }
        for text in
            ["20", "s", "", "-1s", "1.5s", "5 minutes", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse_duration(text).unwrap_err().contains("20ms"), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1KiB", 1024), ("2GiB", 2 << 30), ("5B", 5)] {
            let value = parse_bytes(text).unwrap();
            assert_eq!(value, bytes);
            assert_eq!(show_bytes(value), text);
        }
        assert_eq!(parse_bytes("16777216").unwrap(), 16 << 20);
        for text in ["64MB", "64M", "x", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(parse_bytes(text).unwrap_err().contains("64MiB"), "{text}");
        }
    }

    #[test]
    fn a_port_alone_is_for_this_machine() {
        let read = |text: &str| (ADDRESS.parse)(&Raw::Text(text.to_owned()));
        assert_eq!(read("off"), Ok(None));
        assert_eq!(read("9464"), Ok(Some("127.0.0.1:9464".parse().unwrap())));
        assert_eq!(read("[::]:80"), Ok(Some("[::]:80".parse().unwrap())));
        for wrong in ["70000", "localhost:9464", "0.0.0.0", ":9464"] {
            assert!(read(wrong).unwrap_err().contains("is not an address"), "{wrong}");
        }
    }

    #[test]
    fn off_is_off() {
        let kind = duration_or_off(10, 1_000);
        let parse = |text: &str| (kind.parse)(&Raw::Text(text.to_owned()));
        assert_eq!(parse("off"), Ok(None));
        assert_eq!(parse("0"), Ok(None));
        assert_eq!(parse("0s"), Ok(None));
        assert_eq!(parse("20ms"), Ok(Some(Duration::from_millis(20))));
        assert!(kind.validate(&None).is_ok());
        assert!(kind.validate(&Some(Duration::from_millis(9))).unwrap_err().contains("10ms and 1s"));
    }

    #[test]
    fn an_empty_value_is_not_an_absent_one() {
        assert!(text(&Raw::Text("  ".to_owned())).unwrap_err().contains("empty"));
        assert_eq!(text(&Raw::Text(" x ".to_owned())), Ok("x".to_owned()));
    }
}
