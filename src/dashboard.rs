//! The page for whoever is on call: which partition, is capacity short, is somebody wedged.
//!
//! A [`Router`] over a [`Watch`]: the page itself, whose files are in this binary; what it shows as JSON; a stream of that
//! as server-sent events; and the exporter's `/metrics`. It only reads. What `highwater dashboard` serves, and what a
//! service may mount in a server of its own.
//!
//! | path | what |
//! |---|---|
//! | `/`, `/g/…` | the page; every view has its URL |
//! | `/api/fleet` | all groups |
//! | `/api/groups/{group}` | a group: partitions, workers, events, trajectory |
//! | `/api/groups/{group}/dead-letters` | its dead letters by kind |
//! | `/api/groups/{group}/partitions/{topic}/{partition}` | a partition: position, ledger, errors, dead letters |
//! | `/api/live`, `/api/live?group={group}` | either of the first two, whenever it changes |
//! | `/metrics` | see [`exporter`](crate::exporter) |
//! | `/livez`, `/readyz` | this process runs; it knows how the groups stand |
//!
//! In JSON, offsets and counts are text, for JavaScript rounds beyond 2^53; times are milliseconds since 1970; durations
//! are seconds, `"never"` where they have no end; `null` is what nobody knows.

mod api;
mod assets;
mod guard;
mod live;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::exporter::Exporter;
use crate::fleet::{Fleet, Watch};
use crate::server::{self, Limits};

/// How many live streams there may be at a time.
const STREAMS: usize = 100;
const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(10),
    life: Duration::from_secs(60),
    write: Duration::from_secs(30),
    grace: Duration::from_millis(700),
};
/// How long a page of a partition may wait for the one before.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers share.
struct Shared {
    watch: Watch,
    /// A connection of its own: a page does not wait for a reading.
    pages: Mutex<Fleet>,
    exporter: Exporter,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
    overview: api::Overviews,
    metrics: api::Pages,
    assets: assets::Assets,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Serves until `stop`, and returns within a second of that: what is not answered by then is cut off. Bounded in connections
/// and in their time: one that asks and does not read is ended.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    server::run(listener, router, stop, LIMITS).await;
}

/// The page, its data, and `/metrics`. `stop` ends the streams, which would otherwise keep a server from stopping.
pub fn router(watch: Watch, config: &OperatorConfig, exporter: Exporter, stop: CancellationToken) -> Router {
    let shared = shared(watch, config, exporter, stop);
    let page = Router::new()
        .route("/", get(assets::page))
        .route("/g/{*view}", get(assets::page))
        .route("/assets/{name}", get(assets::file))
        .route("/api/fleet", get(api::fleet))
        .route("/api/groups/{group}", get(api::group))
        .route("/api/groups/{group}/dead-letters", get(api::letters))
        .route("/api/groups/{group}/partitions/{topic}/{partition}", get(api::partition))
        .route("/api/live", get(live::live));
    finish(page.merge(plain()), shared)
}

/// `/metrics` alone, without the page.
pub fn exporter_router(
    watch: Watch,
    config: &OperatorConfig,
    exporter: Exporter,
    stop: CancellationToken,
) -> Router {
    finish(plain().route("/", get(api::exporter_index)), shared(watch, config, exporter, stop))
}

fn plain() -> Router<Arc<Shared>> {
    Router::new()
        .route("/metrics", get(api::metrics))
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
}

fn finish(router: Router<Arc<Shared>>, shared: Arc<Shared>) -> Router {
    router.fallback(api::not_found).layer(axum::middleware::from_fn(guard::guard)).with_state(shared)
}

fn shared(watch: Watch, config: &OperatorConfig, exporter: Exporter, stop: CancellationToken) -> Arc<Shared> {
    Arc::new(Shared {
        watch,
        pages: Mutex::new(Fleet::new(config)),
        exporter,
        streams: Arc::new(Semaphore::new(STREAMS)),
        stop,
        overview: api::Overviews::default(),
        metrics: api::Pages::default(),
        assets: assets::Assets::new(),
    })
}
