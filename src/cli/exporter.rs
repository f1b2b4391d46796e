//! `highwater exporter`.

use std::net::SocketAddr;

use clap::Args;
use highwater::Result;
use highwater::dashboard::exporter_router;

use super::watch::{WatchArguments, Watching, run as serve};

const AFTER_HELP: &str = "\
One process for a database. It reads only, and needs few rights (docs/exporter.md). What is not known
has no sample; when the database does not answer, highwater_exporter_up is 0 and the groups' samples
are left out: alert on that, too.

Examples:
  highwater exporter --postgres-url postgres://monitor@db/payments
  highwater exporter --listen 0.0.0.0:9481 --interval 10
  highwater exporter --compat kafka_exporter,burrow --cluster-name prod
  curl -s localhost:9481/metrics | grep highwater_group_health";

/// Tell Prometheus of all groups of a database
///
/// Lag in records and seconds, class, time to drain and to loss, workers, dead letters; on request also in the names of
/// other exporters, so that their boards and alerts go on working.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    watch: WatchArguments,

    /// Where it listens; port 0 takes any
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9481")]
    listen: SocketAddr,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let Watching { listener, watch, config, exporter, stop } =
        arguments.watch.start(arguments.listen).await?;
    let router = exporter_router(watch, &config, exporter, stop.clone());
    serve("metrics", listener, router, stop).await
}
