//! What `exporter` and `dashboard` share: where the database is, where they listen, how they stop.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use highwater::config::OperatorConfig;
use highwater::dashboard::serve;
use highwater::exporter::{Compat, Exporter};
use highwater::fleet::{Fleet, Watch, WatchOptions};
use highwater::{Error, ErrorKind, PartialConfig, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::DatabaseArguments;
use super::operator::usage;

/// How often, and in whose names.
#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    #[command(flatten)]
    database: DatabaseArguments,

    /// Kafka's brokers, host:port,host:port [env: HIGHWATER_BROKERS]
    ///
    /// With them, it asks Kafka for what no live worker reports: lag goes on being known when the fleet is down.
    #[arg(long, value_name = "BROKERS", visible_alias = "brokers")]
    bootstrap_server: Option<String>,

    /// How often the database is read, at most; a large one is read more seldom
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,

    /// How long the database may be silent until nothing more is told of its groups
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    stale_after: Duration,

    /// Also tell metrics in the names of kafka_exporter, kafka_lag_exporter, burrow, kminion (separated by
    /// commas) [env: HIGHWATER_EXPORTER_COMPAT]
    ///
    /// From one process only, and not beside the exporter itself: sums would be twice as much.
    #[arg(long, value_name = "NAMES")]
    compat: Option<String>,

    /// What those call the Kafka cluster
    #[arg(long, value_name = "NAME", default_value = "default")]
    cluster_name: String,
}

/// A server that is about to serve.
pub(super) struct Watching {
    pub(super) listener: TcpListener,
    pub(super) watch: Watch,
    pub(super) config: OperatorConfig,
    pub(super) exporter: Exporter,
    pub(super) stop: CancellationToken,
}

impl WatchArguments {
    pub(super) async fn start(&self, listen: SocketAddr) -> Result<Watching> {
        let flags = [("brokers", &self.bootstrap_server), ("exporter_compat", &self.compat)];
        let flags = flags.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let layer = PartialConfig::from_flags(flags)?.or(self.database.layer()?);
        let config = layer.clone().finish_operator()?;
        let compat = layer.given_exporter_compat().iter().map(|name| name.parse::<Compat>());
        let compat: Vec<Compat> = compat.collect::<std::result::Result<_, _>>().map_err(usage)?;
        let deadline = layer.given_max_processing_time();
        let stop = stopped_by_signals()?;
        let listener = TcpListener::bind(listen).await.map_err(|source| {
            usage(format!("could not listen on {listen}: choose another --listen")).with_source(source)
        })?;
        let mut fleet = Fleet::new(&config);
        if let Some(deadline) = deadline {
            fleet = fleet.deadline(deadline);
        }
        let options = WatchOptions::default().interval(self.interval).stale_after(self.stale_after);
        let watch = Watch::start(fleet, options).await?;
        let exporter = Exporter::default().compat(compat).cluster(self.cluster_name.clone());
        Ok(Watching { listener, watch, config, exporter, stop })
    }
}

/// Says where, and serves until it is told to stop.
pub(super) async fn run(
    what: &str,
    listener: TcpListener,
    router: axum::Router,
    stop: CancellationToken,
) -> Result<String> {
    let address = listener.local_addr().map_err(|source| {
        Error::new(ErrorKind::Internal, "could not tell where it listens").with_source(source)
    })?;
    // At once, for whoever has asked for any port.
    super::operator::show(&format!("{what} at http://{address}/\n"))?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "whoever reaches this address sees the groups: put a proxy that asks who they are before it");
    }
    serve(listener, router, stop).await;
    Ok(String::new())
}

/// SIGTERM and SIGINT; the second one ends the process at once.
fn stopped_by_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(|source| {
            Error::new(ErrorKind::Internal, "could not listen for signals").with_source(source)
        })?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if stop.is_cancelled() {
                    std::process::exit(i32::from(ErrorKind::Internal.exit_code()));
                }
                stop.cancel();
            }
        });
    }
    Ok(stop)
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.2..=300.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("choose between 0.2 and 300 seconds".to_owned()),
    }
}
