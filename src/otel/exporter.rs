//! How spans leave the process.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;

use super::no_thread;
use crate::error::{Error, ErrorKind, Result};

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the environment asks for traces.
pub(super) fn is_wanted(env: &dyn Fn(&str) -> Option<String>) -> Result<bool> {
    // The specification: what is set and empty counts as not set.
    let get = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, get(name)?)));
    if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    let endpoint = first(ENDPOINTS);
    let wanted = match get("OTEL_TRACES_EXPORTER").as_deref() {
        Some("none") => false,
        Some("otlp") => true,
        None => endpoint.is_some(),
        Some(other) => {
            let text = format!("OTEL_TRACES_EXPORTER is {other}; there are `otlp` and `none`");
            return Err(Error::configuration(text));
        }
    };
    if !wanted {
        return Ok(false);
    }
    if let Some((name, protocol)) = first(PROTOCOLS)
        && protocol != "http/protobuf"
    {
        return Err(Error::configuration(format!("{name} is {protocol}; there is `http/protobuf` alone")));
    }
    if let Some((name, _)) = endpoint.filter(|(_, address)| !address.starts_with("http://")) {
        return Err(Error::configuration(format!(
            "{name} does not begin with http://; traces go to a collector nearby, without TLS, such as \
             http://localhost:4318: let that one forward them"
        )));
    }
    Ok(true)
}

/// The exporter, by the environment. Made and ended on threads without a runtime, on which a blocking client may not be
/// dropped.
pub(super) fn start() -> Result<Reporting> {
    let build = || {
        let timeout = TIMEOUTS.into_iter().find_map(|name| std::env::var(name).ok()?.trim().parse().ok());
        let client = reqwest::blocking::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout.map_or(TIMEOUT, Duration::from_millis))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| {
                Error::new(ErrorKind::Internal, "no HTTP client for traces").with_source(source)
            })?;
        // Which client the exporter would choose depends on the features that others in the program turn on.
        SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|source| {
                Error::configuration("the export of traces is not set up right").with_source(source)
            })
    };
    let thread =
        std::thread::Builder::new().name("highwater-otel".to_owned()).spawn(build).map_err(no_thread)?;
    let exporter =
        thread.join().map_err(|_| Error::new(ErrorKind::Internal, "setting up traces has panicked"))??;
    Ok(Reporting { exporter, failing: AtomicBool::new(false) })
}

/// Says once that spans are lost, and once that they are not any more.
pub(super) struct Reporting {
    exporter: SpanExporter,
    failing: AtomicBool,
}

impl fmt::Debug for Reporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporting").field("failing", &self.failing).finish_non_exhaustive()
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        let before = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !before => {
                tracing::warn!(spans, %error, "spans were not sent and are lost; nothing else is");
            }
            Ok(()) if before => tracing::info!("spans are sent again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(env: &[(&str, &str)]) -> Result<bool> {
        is_wanted(&|name| Some(env.iter().find(|(known, _)| *known == name)?.1.to_owned()))
    }

    #[test]
    fn traces_are_sent_where_the_environment_says_so() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        assert!(!wanted(&[]).unwrap());
        assert!(!wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap());
        assert!(wanted(&[endpoint]).unwrap());
        assert!(wanted(&[("OTEL_TRACES_EXPORTER", "otlp")]).unwrap());
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).unwrap());
        assert!(!wanted(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap());
        for refused in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://otel.example.com"),
        ] {
            let error = wanted(&[endpoint, refused]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{refused:?}");
            assert!(error.to_string().contains(refused.0), "{error}");
        }
    }
}
