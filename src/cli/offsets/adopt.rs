//! `highwater offsets adopt`.

use clap::Args;
use highwater::{PartialConfig, Result};

use super::delete::table;
use crate::cli::operator::{OperatorArguments, WhyArguments, json, usage};

const AFTER_HELP: &str = "\
The consumer before must have stopped, softly: see docs/adoption.md. A worker of the same group and
program goes on from there, whatever its start policy.

Example:
  highwater offsets adopt --group payments --topic payments.tx_events --program fraud --reason 'MIG-7'";

/// Take over the committed offsets of Kafka's group of the same name, before its first worker starts
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: String,

    /// A topic, or a ^pattern; may be repeated
    #[arg(long = "topic", value_name = "TOPIC", required = true)]
    topics: Vec<String>,

    /// The workers' program, as their `program` setting names it [env: HIGHWATER_PROGRAM]
    #[arg(long, value_name = "NAME")]
    program: Option<String>,

    #[command(flatten)]
    why: WhyArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let actor = arguments.why.actor(&mut offsets).await?;
    let layer = arguments.operator.layer()?;
    let mut settings = PartialConfig::default().group(&arguments.group).topics(arguments.topics.clone());
    match (&arguments.program, layer.given_program()) {
        (Some(program), _) => settings = settings.program(program),
        (None, Some(_)) => {}
        (None, None) => {
            return Err(usage(
                "whose group is it? Give --program, as the workers' `program` setting names it (by default it is the name of \
                 their executable): another program is refused under this group id afterwards",
            ));
        }
    }
    let positions = offsets.adopt(settings.or(layer), &actor, arguments.why.reason()).await?;
    if arguments.operator.json {
        return json(&positions);
    }
    Ok(table(&positions))
}
