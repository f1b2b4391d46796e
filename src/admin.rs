//! A worker's admin server: its metrics, its health, its status, for reading only.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | the figures, in OpenMetrics or Prometheus' text, as the request's `Accept` asks |
//! | `/livez` | 200 while the worker moves; 503 when only a restart helps. Says nothing of Kafka or Postgres |
//! | `/readyz` | 200 while it is a member of the group, reads what is assigned to it, and Kafka and Postgres answer; 503 with the reason. Says nothing of lag or halted partitions |
//! | `/status` | the status as JSON |
//!
//! With the setting `admin_address` the worker runs it itself, before its first connection and until it has ended.
//! [`router`] gives the same paths to a server of the program's own; [`probe()`] asks.

mod answers;
mod probe;
pub(crate) mod server;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;

use crate::Monitor;

pub use self::probe::{Probe, configured_address, probe, probe_if_listening};

/// The admin server's paths, to be mounted in the program's own server: whose limits hold then.
///
/// ```no_run
/// # async fn run(handler: impl highwater::Handler) -> Result<(), Box<dyn std::error::Error>> {
/// use highwater::{Worker, admin};
///
/// let worker = Worker::builder().build(handler)?;
/// let app = axum::Router::new()
///     .route("/", axum::routing::get(|| async { "payments" }))
///     .nest("/worker", admin::router(worker.monitor()));
/// # let serve = |_: axum::Router| async {};
/// tokio::spawn(serve(app)); // with `axum::serve`, or whatever the program's server is
/// worker.run().await?;
/// # Ok(())
/// # }
/// ```
pub fn router(monitor: Monitor) -> Router {
    Router::new()
        .route("/metrics", get(answers::metrics))
        .route("/livez", get(answers::live))
        .route("/readyz", get(answers::ready))
        .route("/status", get(answers::status))
        .layer(map_response(guard))
        .with_state(monitor)
}

/// What is said is of this moment, and nothing but what its type says.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
