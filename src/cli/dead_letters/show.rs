//! `highwater dead-letters show`.

use std::fmt::Write as _;

use clap::Args;
use highwater::Result;
use highwater::fleet::quoted;
use highwater::offsets::{DeadLetterPayload, PayloadState, ShownDeadLetter};

use crate::cli::operator::{OperatorArguments, json};

/// Show one dead letter, and what was done with it
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Its number, as `list --records` shows it
    #[arg(value_name = "ID")]
    id: i64,

    /// Show the record's key, value and headers, too: they are somebody's data
    #[arg(long)]
    payload: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let shown = offsets.dead_letter(arguments.id, arguments.payload).await?;
    if arguments.operator.json {
        return json(&shown);
    }
    Ok(text(&shown, arguments.payload))
}

fn text(shown: &ShownDeadLetter, payload: bool) -> String {
    let letter = &shown.letter;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line(
        "record",
        &format!("{}[{}]@{}, group {}", letter.topic, letter.partition, letter.offset, letter.group),
    );
    line("state", &format!("{} since {}", letter.state, letter.state_changed_at));
    line("kind", &letter.kind);
    line("why", &letter.reason);
    for (name, value) in
        [("sqlstate", &letter.sqlstate), ("handler", &letter.handler), ("worker", &letter.worker)]
    {
        if let Some(value) = value {
            line(name, value);
        }
    }
    let times = match letter.attempts {
        0 => "parked".to_owned(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    line("stored", &format!("{times}, first {}, last {}", letter.first_at, letter.last_at));
    let bytes =
        |bytes: Option<i32>| bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{bytes} bytes"));
    let (key, value) = (bytes(shown.key_bytes), bytes(shown.value_bytes));
    let place = format!("--topic {}:{} --from {}", quoted(&letter.topic), letter.partition, letter.offset);
    line(
        "content",
        &match (shown.content, letter.omitted_bytes) {
            (PayloadState::Omitted, Some(bytes)) => format!(
                "{bytes} bytes, too large to be stored; as long as Kafka holds it: highwater tail --group {} {place} -n 1 --payload",
                quoted(&letter.group)
            ),
            (PayloadState::Gone, _) => "it has expired".to_owned(),
            (PayloadState::Hidden, _) => "not open to this role".to_owned(),
            _ => format!("key {key}, value {value}, {} headers", shown.headers.unwrap_or_default()),
        },
    );
    if let Some(at) = &shown.expires_at {
        line("kept until", at);
    }
    for made in &shown.attempts_made {
        line(&made.kind, &format!("{} {}", made.at, made.error.as_deref().unwrap_or_default()));
    }
    match &shown.payload {
        Some(payload) => content(payload, &mut line),
        None if payload => line("payload", "it is not here"),
        None => {}
    }
    text
}

fn content(payload: &DeadLetterPayload, line: &mut impl FnMut(&str, &str)) {
    if let (Some(at), Some(kind)) = (payload.timestamp_ms, payload.timestamp_type) {
        line("timestamp", &format!("{at} ms since 1970 ({kind})"));
    }
    for header in &payload.headers {
        let value = header.value.as_deref().map_or_else(|| "null".to_owned(), readable);
        line("header", &format!("{}: {value}", readable(&header.name)));
    }
    line("key", &payload.key.as_deref().map_or_else(|| "null".to_owned(), readable));
    line("value", &payload.value.as_deref().map_or_else(|| "null".to_owned(), readable));
}

/// Nothing in it speaks to the terminal.
fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}
