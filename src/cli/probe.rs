//! `highwater probe`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater::admin::{Probe, configured_address, probe, probe_if_listening};
use highwater::config::duration;
use highwater::{Error, ErrorKind, Result};

const AFTER_HELP: &str = "\
It asks once, prints one line, and ends with 0 (yes) or 1 (no, with the reason on standard error);
with 2 where there is nobody to ask. It needs no shell and no other program, so that it does for the
health check of a container.

Examples:
  # Is the worker of this environment live? Asks HIGHWATER_ADMIN_ADDRESS
  highwater probe

  # Does it do its work, and if not, why?
  highwater probe ready --timeout 500ms

  # The dashboard's or the exporter's server
  highwater probe live --address 127.0.0.1:9480

  # In a Dockerfile
  HEALTHCHECK CMD [\"/usr/local/bin/highwater\", \"probe\", \"live\"]";

/// Ask a worker's admin server whether it is live, or ready
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// What is asked
    #[arg(value_enum, default_value = "live")]
    what: What,

    /// Whom to ask; may be repeated: the first one that answers counts [env: HIGHWATER_ADMIN_ADDRESS]
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Vec<SocketAddr>,

    /// How long an answer may take
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    timeout: Duration,

    /// All is well where nobody listens at all: for an image whose command may not be a server
    #[arg(long)]
    if_listening: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Is it alive? If not, only a restart helps
    Live,
    /// Does it do its work? Kafka and Postgres answer, and it reads what is assigned to it
    Ready,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let what = match arguments.what {
        What::Live => Probe::Live,
        What::Ready => Probe::Ready,
    };
    let configured = if arguments.address.is_empty() { Some(configured_address()?) } else { None };
    let addresses: Vec<SocketAddr> =
        configured.into_iter().chain(arguments.address.iter().copied()).collect();
    for address in &addresses {
        if let Some(line) = probe_if_listening(*address, what, arguments.timeout).await? {
            return Ok(line + "\n");
        }
    }
    match addresses.as_slice() {
        _ if arguments.if_listening => Ok("nobody listens\n".to_owned()),
        // Says what one alone has to say.
        [address] => probe(*address, what, arguments.timeout).await.map(|line| line + "\n"),
        _ => Err(Error::new(ErrorKind::Difference, "nobody listens at any of these addresses")),
    }
}
