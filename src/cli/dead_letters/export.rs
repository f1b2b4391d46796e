//! `highwater dead-letters export`.

use std::io::{self, Write as _};
use std::ops::ControlFlow;

use clap::Args;
use highwater::offsets::{ExportedDeadLetter, ExportedToTopic, Offsets};
use highwater::{Error, ErrorKind, Result};

use super::{FilterArguments, StateArguments, records};
use crate::cli::operator::json;

/// Print dead letters for other programs: a JSON object a line; or write their records to a topic
///
/// With --to-topic each record is written whole, with its key, value, headers and timestamp, to the partition of its own
/// number (modulo the topic's); behind its headers come those of KIP-1191 (__dlq.errors.*), of Kafka Connect
/// (__connect.errors.*) and __highwater.dead_letter.*. The dead letters stay as they are. Exactly once ends here: if it is
/// broken off and begun again, the topic has some of them twice, and __highwater.dead_letter.id tells which.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,

    #[command(flatten)]
    states: StateArguments,

    /// With keys, values and headers, in base64: they are somebody's data
    #[arg(long)]
    payload: bool,

    /// Write the records to this topic of Kafka instead, whole, at least once
    #[arg(long, value_name = "TOPIC", conflicts_with = "payload")]
    to_topic: Option<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.filter.operator.connect().await?;
    if let Some(topic) = &arguments.to_topic {
        return to_topic(arguments, &mut offsets, topic).await;
    }
    let mut failed = None;
    let mut each = |letter: ExportedDeadLetter| {
        let written = serde_json::to_vec(&letter).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            io::stdout().lock().write_all(&line)
        });
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    for filter in arguments.filter.filters(&mut offsets).await? {
        offsets.export_dead_letters(&arguments.states.of(filter), arguments.payload, &mut each).await?;
    }
    match failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        Some(source) => {
            Err(Error::new(ErrorKind::Internal, "could not write a dead letter").with_source(source))
        }
        None => Ok(String::new()),
    }
}

async fn to_topic(arguments: &Arguments, offsets: &mut Offsets, topic: &str) -> Result<String> {
    let mut all = ExportedToTopic::default();
    for filter in arguments.filter.filters(offsets).await? {
        let done = offsets.export_dead_letters_to_topic(&arguments.states.of(filter), topic).await?;
        all.exported += done.exported;
        all.left_out.omitted += done.left_out.omitted;
        all.left_out.gone += done.left_out.gone;
    }
    if arguments.filter.operator.json {
        return json(&all);
    }
    let count = |count: u64| records(i64::try_from(count).unwrap_or(i64::MAX));
    let mut said = format!(
        "{} written to {topic}, at least once: what is there twice has the same __highwater.dead_letter.id\n",
        count(all.exported)
    );
    let ExportedToTopic { left_out, .. } = all;
    if left_out.omitted > 0 {
        said += &format!(
            "{} left out: too large to be stored, still in their own topics\n",
            count(left_out.omitted)
        );
    }
    if left_out.gone > 0 {
        said += &format!("{} left out: their content has expired\n", count(left_out.gone));
    }
    Ok(said)
}
