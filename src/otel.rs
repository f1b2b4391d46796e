//! Traces of what a worker does, to an OpenTelemetry collector.
//!
//! ```no_run
//! # use highwater::{Batch, Handler, HandlerError, Tx, Worker, log};
//! # struct Payments;
//! # impl Handler for Payments {
//! #     async fn handle(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> { Ok(()) }
//! # }
//! #[tokio::main]
//! async fn main() -> highwater::Result<()> {
//!     let logs = log::Options::default().service("payments").init()?; // logs, and traces where OTEL_* ask for them
//!     let ended = Worker::builder().build(Payments)?.run().await;
//!     logs.shutdown().await; // what is not sent yet, for two seconds at most
//!     ended
//! }
//! ```
//!
//! A program that has a subscriber of its own adds [`layer`] to it. Where the traces go is said by the standard
//! environment variables, see [`layer`]; without an address there are none, and nothing is paid for them.
//!
//! The SDK sends from a thread of its own, over plain HTTP (`http/protobuf`), to a collector nearby: on the same machine or
//! in the same pod, whose work TLS, credentials and other protocols are. A collector that is slow or away costs spans,
//! which are dropped beyond 2,048 that wait (`OTEL_BSP_MAX_QUEUE_SIZE`), and never a batch.

mod exporter;
mod links;

use std::fmt;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, ErrorKind, Result};
pub(crate) use links::link;

/// How many records of a batch are linked to its span: what the SDK keeps of a span, too.
pub const MAX_LINKS: usize = 128;

/// How long the last spans may take to be sent, when a program ends.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(2);

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// A layer for a subscriber of the program's own.
pub type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync + 'static>;

/// A layer that sends the spans of workers, and the program's own, and what must be kept until the end of it. `None` unless
/// the environment asks for traces; `service` names the program where the environment does not.
///
/// | variable | meaning |
/// |---|---|
/// | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT` | where to: the whole address, or the one to which `/v1/traces` is added; `http` alone. One of them turns traces on |
/// | `OTEL_TRACES_EXPORTER` | `otlp` turns them on without an address (`http://localhost:4318`), `none` off |
/// | `OTEL_SDK_DISABLED` | `true` turns them off |
/// | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | which batches: `traceidratio` and `0.01` for one in a hundred |
/// | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who says so |
/// | `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT` (ms, 10,000), `OTEL_BSP_*`, `OTEL_SPAN_LINK_COUNT_LIMIT` | as everywhere |
///
/// The layer takes spans of level INFO and above, and of this crate `highwater::process` and `highwater::claim` (their level
/// is TRACE). It leaves out what the export itself does (`hyper`, `h2`, `reqwest`).
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration) for another exporter or protocol, and for `https`; `Internal` if the system
/// gives no thread.
pub fn layer<S>(service: &str) -> Result<Option<(BoxedLayer<S>, Traces)>>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    if !exporter::is_wanted(&|name| std::env::var(name).ok())? {
        return Ok(None);
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter::start()?)
        .with_resource(resource(service))
        .build();
    let scope = InstrumentationScope::builder("highwater")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build();
    // For what a handler's own clients send on.
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(provider.clone());
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(wanted());
    Ok(Some((Box::new(layer), Traces { provider: Some(provider) })))
}

/// The environment's name wins over the program's.
fn resource(service: &str) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|list| list.contains("service.name="));
    let builder = Resource::builder();
    if named { builder.build() } else { builder.with_service_name(service.to_owned()).build() }
}

fn wanted() -> Targets {
    let own_export =
        ["hyper", "hyper_util", "h2", "reqwest", "opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp"];
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("highwater::process", LevelFilter::TRACE)
        .with_target("highwater::claim", LevelFilter::TRACE)
        .with_targets(own_export.map(|target| (target, LevelFilter::OFF)))
}

/// Traces that are being sent. What is not sent yet when it is dropped is sent then, for at most [`FLUSH_LIMIT`], which
/// blocks the thread: better call [`shutdown`](Self::shutdown).
#[must_use = "dropped at once, it ends the traces"]
pub struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Sends what is not sent yet, for at most [`FLUSH_LIMIT`]; what is left then is lost.
    pub async fn shutdown(mut self) {
        if let Some(provider) = self.provider.take() {
            // The call waits for the SDK's thread. It has a limit; the one around it is for a runtime without threads to give.
            let ended = tokio::task::spawn_blocking(move || end(&provider));
            let _ = tokio::time::timeout(FLUSH_LIMIT + Duration::from_millis(500), ended).await;
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            end(&provider);
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

fn end(provider: &SdkTracerProvider) {
    if let Err(error) = provider.shutdown_with_timeout(FLUSH_LIMIT) {
        tracing::warn!(%error, "the last spans were not sent");
    }
}

/// Trace and span in which this thread is, as they are written.
pub(crate) fn current_ids() -> Option<(String, String)> {
    let context = Context::current();
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
}

/// What a record's headers say about where it came from.
fn creation_context(headers: &dyn opentelemetry::propagation::Extractor) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), headers)
}

fn no_thread(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "the system gave no thread for the export of traces").with_source(source)
}
