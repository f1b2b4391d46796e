//! What the admin server answers. Nothing here waits: an answer is made of what the worker has noted.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use crate::metrics::{Format, PartitionMetrics, render};
use crate::{Counters, Monitor, PartitionStatus, Phase, WorkerStatus};

/// The figures.
pub(super) async fn metrics(State(monitor): State<Monitor>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept);
    let names = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    (names, render(&monitor.metrics(), format))
}

/// Whether a restart is not the only thing that helps.
pub(super) async fn live(State(monitor): State<Monitor>) -> impl IntoResponse {
    if monitor.status().live {
        (StatusCode::OK, "live\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not live: the control loop or the poll thread does not move\n")
    }
}

/// Whether the worker does its work, or why not.
pub(super) async fn ready(State(monitor): State<Monitor>) -> impl IntoResponse {
    let WorkerStatus { phase, ready, detail, .. } = monitor.status();
    match phase {
        // What stands still for a reason of its own holds up no rollout, and is said.
        Phase::Running if ready => match detail {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(detail) => (StatusCode::OK, format!("ready, but {detail}\n")),
        },
        Phase::Running => {
            let why = detail.as_deref().unwrap_or("it has not joined the group yet");
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"))
        }
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting\n".to_owned()),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopping\n".to_owned()),
        Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopped\n".to_owned()),
    }
}

/// The status as JSON.
#[derive(Serialize)]
struct StatusPage {
    version: &'static str,
    group: String,
    worker: String,
    owner: Option<String>,
    phase: Phase,
    ready: bool,
    live: bool,
    detail: Option<String>,
    /// For how long it has had something to apply without a commit, and how long a batch may take.
    since_commit_seconds: f64,
    processing_deadline_seconds: f64,
    counters: Counters,
    partitions: Vec<PartitionPage>,
}

#[derive(Serialize)]
struct PartitionPage {
    #[serde(flatten)]
    status: PartitionStatus,
    lag_records: Option<u64>,
    lag_seconds: Option<f64>,
    uncommitted_records: Option<u64>,
}

/// The whole status.
pub(super) async fn status(State(monitor): State<Monitor>) -> impl IntoResponse {
    let status = monitor.status();
    let metrics = monitor.partition_metrics(&status);
    let (group, worker) = monitor.names(&status);
    let (pending, deadline) = monitor.pending();
    let WorkerStatus { phase, owner, ready, live, detail, partitions, counters, .. } = status;
    let page = StatusPage {
        version: env!("CARGO_PKG_VERSION"),
        group,
        worker,
        owner: owner.map(|owner| owner.to_string()),
        phase,
        ready,
        live,
        detail,
        since_commit_seconds: pending.as_secs_f64(),
        processing_deadline_seconds: deadline.as_secs_f64(),
        counters,
        partitions: partitions.into_iter().zip(metrics).map(PartitionPage::from).collect(),
    };
    // Plain structs of texts and numbers are always written.
    let text = serde_json::to_string(&page).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}

impl From<(PartitionStatus, PartitionMetrics)> for PartitionPage {
    fn from((status, metrics): (PartitionStatus, PartitionMetrics)) -> Self {
        let PartitionMetrics { lag_records, lag_seconds, uncommitted_records, .. } = metrics;
        Self { status, lag_records, lag_seconds, uncommitted_records }
    }
}
