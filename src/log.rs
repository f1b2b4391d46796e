//! Logs of a program, and its traces with the feature `otel`, by the environment.
//!
//! | variable | meaning |
//! |---|---|
//! | `HIGHWATER_LOG`, else `RUST_LOG` | the filter: `info`, `highwater=debug,warn` |
//! | `HIGHWATER_LOG_FORMAT` | `text` (the default) or `json`: one object a line |
//! | `OTEL_*` | traces, see [`otel::layer`](https://docs.rs/highwater/latest/highwater/otel/fn.layer.html) |
//!
//! A line that is written inside a span which is traced bears its ids, `trace_id` and `span_id`, in both formats. What each
//! level means is in `docs/observability.md`.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::{Error, ErrorKind, Result};

const FORMAT: &str = "HIGHWATER_LOG_FORMAT";

/// How a program logs, where the environment says nothing.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    filter: String,
    stderr: bool,
    #[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "for traces alone"))]
    service: String,
}

impl Default for Options {
    /// From INFO on, to standard output, as service `highwater`.
    fn default() -> Self {
        Self { filter: "info".to_owned(), stderr: false, service: "highwater".to_owned() }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Json,
}

impl Options {
    /// The filter for which neither `HIGHWATER_LOG` nor `RUST_LOG` is set.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = filter.into();
        self
    }

    /// To standard error, so that standard output is fit for pipes.
    pub fn stderr(mut self) -> Self {
        self.stderr = true;
        self
    }

    /// What the program is called in traces, unless `OTEL_SERVICE_NAME` says so.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// Starts logging, and tracing where the environment asks for it. Keep what it returns until the end of `main`.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for a variable that cannot be followed, `Internal` if the process has a
    /// subscriber already.
    pub fn init(self) -> Result<Logs> {
        let filter = ["HIGHWATER_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
        let filter = EnvFilter::new(filter.unwrap_or(self.filter));
        let shape = shape(std::env::var(FORMAT).ok().as_deref())?;
        #[cfg(feature = "otel")]
        let (layer, traces) = crate::otel::layer(&self.service)?.unzip();
        #[cfg(not(feature = "otel"))]
        let layer: Option<tracing_subscriber::layer::Identity> = None;
        let (shown, ansi) = match self.stderr {
            true => (BoxMakeWriter::new(io::stderr), is_coloured(io::stderr().is_terminal())),
            false => (BoxMakeWriter::new(io::stdout), is_coloured(io::stdout().is_terminal())),
        };
        let started = match layer {
            Some(layer) => {
                let registry = tracing_subscriber::registry().with(layer);
                registry.with(lines(shape, ansi, shown).with_filter(filter)).try_init()
            }
            // Without traces one filter for all: a filter of a layer's own has lost lines.
            None => tracing_subscriber::registry().with(filter).with(lines(shape, ansi, shown)).try_init(),
        };
        started.map_err(twice)?;
        Ok(Logs {
            #[cfg(feature = "otel")]
            traces,
        })
    }
}

/// Logs that are being written, and traces that are being sent. Drop it last; see [`shutdown`](Self::shutdown).
#[derive(Debug)]
#[must_use = "dropped at once, it ends the traces"]
#[non_exhaustive]
pub struct Logs {
    #[cfg(feature = "otel")]
    traces: Option<crate::otel::Traces>,
}

impl Logs {
    /// Sends the spans that are not sent yet, within a limit of two seconds. Dropping does the same, and blocks its thread
    /// meanwhile.
    pub async fn shutdown(self) {
        #[cfg(feature = "otel")]
        if let Some(traces) = self.traces {
            traces.shutdown().await;
        }
    }
}

fn shape(given: Option<&str>) -> Result<Shape> {
    match given {
        None | Some("text") => Ok(Shape::Text),
        Some("json") => Ok(Shape::Json),
        Some(other) => Err(Error::configuration(format!("{FORMAT} is {other:?}; there are text and json"))),
    }
}

fn is_coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn twice(source: TryInitError) -> Error {
    Error::new(ErrorKind::Internal, "the process logs by another subscriber already").with_source(source)
}

fn lines<S, W>(shape: Shape, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    match shape {
        Shape::Text => Box::new(layer.event_format(Traced(Format::default()))),
        Shape::Json => {
            let format = Format::default().json().flatten_event(true).with_current_span(false);
            Box::new(layer.fmt_fields(JsonFields::new()).event_format(Traced(format)))
        }
    }
}

/// The usual format, with the ids of the span that is traced.
struct Traced<F>(F);

impl<S, N> FormatEvent<S, N> for Traced<Format>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write(&self.0, context, writer, event, "", |trace, span| format!(" trace_id={trace} span_id={span}"))
    }
}

impl<S, N> FormatEvent<S, N> for Traced<Format<Json>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write(&self.0, context, writer, event, "}", |trace, span| {
            format!(r#","trace_id":"{trace}","span_id":"{span}"}}"#)
        })
    }
}

/// As `format` writes it, with `ids` in place of what it ends with.
fn write<S, N, F>(
    format: &F,
    context: &FmtContext<'_, S, N>,
    mut writer: Writer<'_>,
    event: &Event<'_>,
    end: &str,
    ids: impl Fn(&str, &str) -> String,
) -> fmt::Result
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    let Some((trace, span)) = current_ids() else { return format.format_event(context, writer, event) };
    let mut line = String::new();
    format.format_event(context, Writer::new(&mut line), event)?;
    let line = line.trim_end_matches('\n');
    writeln!(writer, "{}{}", line.strip_suffix(end).unwrap_or(line), ids(&trace, &span))
}

#[cfg(feature = "otel")]
use crate::otel::current_ids;

#[cfg(not(feature = "otel"))]
fn current_ids() -> Option<(String, String)> {
    None
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_format_that_is_not_known_is_refused() {
        assert_eq!(shape(None).unwrap(), Shape::Text);
        assert_eq!(shape(Some("json")).unwrap(), Shape::Json);
        assert_eq!(shape(Some("xml")).unwrap_err().kind(), ErrorKind::Configuration);
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(shape: Shape) -> String {
        let to = Lines::default();
        let writer = to.clone();
        let subscriber = tracing_subscriber::registry().with(lines(shape, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "highwater::lane", partition = 3, "fenced: \"quoted\"");
        });
        String::from_utf8(to.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_one_object_in_json() {
        let json: serde_json::Value = serde_json::from_str(&written(Shape::Json)).unwrap();
        assert_eq!(json["level"], "WARN");
        assert_eq!(json["target"], "highwater::lane");
        assert_eq!(json["message"], "fenced: \"quoted\"");
        assert_eq!(json["partition"], 3);
        assert!(json["timestamp"].is_string());
        assert!(written(Shape::Text).ends_with("WARN highwater::lane: fenced: \"quoted\" partition=3\n"));
    }
}
