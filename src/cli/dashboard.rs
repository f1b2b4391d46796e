//! `highwater dashboard`.

use std::net::SocketAddr;

use clap::Args;
use highwater::Result;
use highwater::dashboard::router;

use super::watch::{WatchArguments, Watching, run as serve};

const AFTER_HELP: &str = "\
How to read it:
  Which partition?           one cell of the heat map is dark, the others are not: it is hot, or halted
  Is capacity short?         the lines for produced and applied part: all partitions fall behind
  Is somebody wedged?        a worker's bar passes the 10 s mark: a call to the sink does not return
Exactly one of the three lights up, the sentence above says which, and below it stands the command for
what one would do next. Every view has its own URL, which can be sent to somebody.

It reads only. It listens on this machine only, unless --listen says otherwise: it asks nobody who they
are. From elsewhere: ssh -L 9480:127.0.0.1:9480 host. The history begins when it starts: let it run.
/metrics is there, too.

Examples:
  highwater dashboard --postgres-url postgres://monitor@db/payments
  highwater dashboard --listen 127.0.0.1:8080 --brokers kafka:9092";

/// Show which partition, whether capacity is short, and who is wedged: in a browser
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    watch: WatchArguments,

    /// Where it listens; port 0 takes any
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9480")]
    listen: SocketAddr,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let Watching { listener, watch, config, exporter, stop } =
        arguments.watch.start(arguments.listen).await?;
    let router = router(watch, &config, exporter, stop.clone());
    serve("dashboard", listener, router, stop).await
}
