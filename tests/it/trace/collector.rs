//! As much of an OpenTelemetry collector as takes spans by http/protobuf.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::support::TestResult;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Takes,
    /// Reads it, and never answers.
    Hangs,
}

#[derive(Debug)]
pub(super) struct Collector {
    pub(super) endpoint: String,
    received: Arc<Mutex<Received>>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    pub(super) requests: usize,
    pub(super) services: Vec<String>,
    pub(super) spans: Vec<Span>,
}

impl Collector {
    pub(super) async fn start(mood: Mood) -> TestResult<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let received = Arc::<Mutex<Received>>::default();
        let into = Arc::clone(&received);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, mood, Arc::clone(&into)));
            }
        });
        Ok(Self { endpoint, received, _serving: AbortOnDropHandle::new(serving) })
    }

    pub(super) fn received(&self) -> Received {
        self.received.lock().expect("no test panics with it").clone()
    }
}

async fn serve(mut stream: TcpStream, mood: Mood, received: Arc<Mutex<Received>>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            read(&mut stream, &mut bytes).await?;
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
        assert!(text.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{text}");
        let length = text.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.expect("it has a length").parse().expect("a number");
        while bytes.len() < head + length {
            read(&mut stream, &mut bytes).await?;
        }
        let request = ExportTraceServiceRequest::decode(&bytes[head..head + length]).expect("it is OTLP");
        received.lock().expect("no test panics with it").take(request);
        if mood == Mood::Hangs {
            std::future::pending::<()>().await;
        }
        bytes.drain(..head + length);
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(into).await.ok()? > 0).then_some(())
}

impl Received {
    fn take(&mut self, request: ExportTraceServiceRequest) {
        self.requests += 1;
        for resource in request.resource_spans {
            let named = attributes(&resource.resource.expect("there is a resource").attributes);
            self.services.push(named["service.name"].clone());
            for scope in resource.scope_spans {
                assert_eq!(scope.scope.expect("there is a scope").name, "highwater");
                self.spans.extend(scope.spans);
            }
        }
    }

    pub(super) fn named(&self, name: &str) -> Vec<Span> {
        self.spans.iter().filter(|span| span.name == name).cloned().collect()
    }

    /// Those of them whose batch was applied.
    pub(super) fn applied(&self, name: &str) -> Vec<Span> {
        let mut found = self.named(name);
        found.retain(|span| attributes(&span.attributes)["highwater.outcome"] == "applied");
        found
    }

    pub(super) fn below(&self, parent: &Span, name: &str) -> Vec<Span> {
        let mut found = self.named(name);
        found.retain(|span| span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id);
        found
    }
}

/// Names and values, as text.
pub(super) fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    };
    given.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
