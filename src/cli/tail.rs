//! `highwater tail`.

mod format;

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use clap::Args;
use highwater::offsets::{Content, TailFrom, TailOptions, TopicSelection};
use highwater::{Error, ErrorKind, Result};

use self::format::Format;
use super::instant::instant;
use super::operator::{GroupArguments, OperatorArguments, usage};

const AFTER_HELP: &str = "\
It joins no group and moves nothing. Of each record it says what became of it in the group:
applied, dead (a dead letter), skipped (by an operator), lost (retention was faster), before (the
group's start), ahead (still to be applied). It goes on until Ctrl-C, or --exit, --until or -n.

Keys, values and headers are somebody's data: they are shown only where --payload or a token of
the format asks for them.

FROM and UNTIL: an offset (4204); the last so many offsets (-100); an instant (2026-04-25T03:00:00,
UTC unless it says otherwise, or s@ and milliseconds); group (where the group stands); beginning;
end.

FORMAT has kcat's tokens: %t topic, %p partition, %o offset, %T timestamp in milliseconds, %k key,
%s value, %h headers, %K and %S their lengths (-1: null), %R the value's length as four bytes,
%% a per cent sign; \\n, \\t, \\r, \\x41; and of its own %a, what became of the record. No line
end is added.

Examples:
  highwater tail --group fraud-rules-v2 --topic payments:3
  highwater tail --group fraud-rules-v2 --topic payments --from group -n 20
  highwater tail --group fraud-rules-v2 --topic payments --from 2026-04-25T03:00:00 --exit
  highwater tail --group fraud-rules-v2 --topic payments:3 --from 4204 -n 1 --payload
  highwater tail --group fraud-rules-v2 --topic payments --from -1000 -e -f '%p %o %a\\n' | grep dead";

/// Look at a topic's records, and at what became of each in a group
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    /// The topic, or some of its partitions as in payments:0,1
    #[arg(long, value_name = "TOPIC[:N,N]")]
    topic: TopicSelection,

    /// Where to begin, in each partition
    #[arg(long, short = 'o', value_name = "FROM", default_value = "-10", allow_hyphen_values = true, value_parser = place)]
    from: TailFrom,

    /// Where to stop, in each partition: this one is not shown
    #[arg(long, value_name = "UNTIL", allow_hyphen_values = true, value_parser = place, conflicts_with = "exit")]
    until: Option<TailFrom>,

    /// Stop at the end of the topic, as it is now
    #[arg(long, short = 'e')]
    exit: bool,

    /// Stop after so many records
    #[arg(long, short = 'n', short_alias = 'c', value_name = "COUNT")]
    count: Option<u64>,

    /// How a record is shown, by kcat's tokens
    #[arg(long, short = 'f', value_name = "FORMAT", value_parser = Format::parse, conflicts_with = "json")]
    format: Option<Format>,

    /// Show keys, values and headers
    #[arg(long)]
    payload: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let groups = arguments.groups.groups(&arguments.operator, &mut offsets).await?;
    let [group] = &*groups else {
        return Err(usage("a tail is of one group: give --group NAME once"));
    };
    let shows_content = arguments.payload || arguments.format.as_ref().is_some_and(Format::has_content);
    let options = TailOptions::new(arguments.topic.clone())
        .from(arguments.from)
        .until(if arguments.exit { Some(TailFrom::End) } else { arguments.until })
        .count(arguments.count)
        .content(if shows_content { Content::Whole } else { Content::Without });
    let format = match &arguments.format {
        Some(format) => format.clone(),
        None if arguments.operator.json => Format::json(arguments.payload),
        None => Format::lines(arguments.payload),
    };
    // What a record holds could speak to the terminal.
    let is_terminal = io::stdout().is_terminal();
    let mut failed = None;
    let mut line = Vec::new();
    let mut each = |record| {
        line.clear();
        format.write(&record, is_terminal, &mut line);
        let mut out = io::stdout().lock();
        match out.write_all(&line).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
                ControlFlow::Break(())
            }
        }
    };
    offsets.tail(group, &options, &mut each).await?;
    match failed {
        Some(source) => Err(Error::new(ErrorKind::Internal, "could not write a record").with_source(source)),
        None => Ok(String::new()),
    }
}

/// An offset, the last so many, an instant, or a name.
fn place(text: &str) -> std::result::Result<TailFrom, String> {
    let wrong = || {
        format!(
            "`{text}` is neither an offset (4204), nor the last so many (-100), nor an instant (2026-04-25T03:00:00), nor \
             group, beginning or end"
        )
    };
    match text {
        "group" | "stored" => return Ok(TailFrom::Group),
        "beginning" | "earliest" => return Ok(TailFrom::Beginning),
        "end" | "latest" => return Ok(TailFrom::End),
        _ => {}
    }
    if let Some(at) = text.strip_prefix("s@") {
        return instant(at).map(TailFrom::Timestamp);
    }
    if let Some(last) = text.strip_prefix('-') {
        return last.parse::<u32>().map(|last| TailFrom::Last(last.into())).map_err(|_| wrong());
    }
    match text.parse() {
        Ok(offset) => Ok(TailFrom::Offset(offset)),
        Err(_) if text.contains('-') => instant(text).map(TailFrom::Timestamp),
        Err(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn places_are_told_apart() {
        let at = |ms: u64| TailFrom::Timestamp(UNIX_EPOCH + Duration::from_millis(ms));
        for (text, expected) in [
            ("4204", TailFrom::Offset(4204)),
            ("-100", TailFrom::Last(100)),
            ("s@1777086000000", at(1_777_086_000_000)),
            ("2026-04-25T03:00:00", at(1_777_086_000_000)),
            ("2026-04-25T05:00:00+02:00", at(1_777_086_000_000)),
            ("group", TailFrom::Group),
            ("beginning", TailFrom::Beginning),
            ("end", TailFrom::End),
        ] {
            assert_eq!(place(text), Ok(expected), "{text}");
        }
        for text in ["", "-", "--5", "soon", "4204x", "2026-13-01T00:00:00"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
