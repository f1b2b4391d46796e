//! What the page shows, as JSON; and what scrapers and probes ask for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::{PAGE_PATIENCE, Shared};
use crate::config::epoch_ms;
use crate::error::ErrorKind;
use crate::exporter::Exporter;
use crate::fleet::{Diagnosis, Group, Point, View};

/// Points of the little line beside a group.
const TREND_POINTS: usize = 30;

/// How fresh the rest is.
#[derive(Debug, Serialize)]
struct Freshness<'a> {
    /// This machine's clock now.
    now_ms: i64,
    /// When the rest was read, by this machine's clock.
    read_at_ms: Option<i64>,
    /// The same by the database's clock: every other time here is by that.
    at_ms: Option<i64>,
    took_ms: Option<u64>,
    interval_ms: u64,
    is_stale: bool,
    error: Option<&'a str>,
    database: Option<&'a str>,
    unreadable: &'a [&'static str],
    truncated: bool,
    version: &'static str,
}

impl<'a> Freshness<'a> {
    fn of(view: &'a View) -> Self {
        let reading = view.reading.as_deref();
        Self {
            now_ms: epoch_ms(SystemTime::now()),
            read_at_ms: view.read_at_ms,
            at_ms: reading.map(|reading| reading.at_ms),
            took_ms: reading.map(|reading| reading.took_ms),
            interval_ms: u64::try_from(view.interval.as_millis()).unwrap_or(u64::MAX),
            is_stale: view.is_stale(),
            error: view.error.as_deref(),
            database: reading.map(|reading| reading.database.as_str()),
            unreadable: reading.map(|reading| reading.unreadable.as_slice()).unwrap_or_default(),
            truncated: reading.is_some_and(|reading| reading.truncated),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// All groups, in a line each.
#[derive(Debug, Serialize)]
struct Overview<'a> {
    freshness: Freshness<'a>,
    groups: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    group: &'a str,
    class: &'a str,
    severity: i32,
    diagnosis: &'a Diagnosis,
    well: bool,
    partitions: usize,
    unknown_partitions: usize,
    lag_records: Option<String>,
    lag_seconds: Option<f64>,
    furthest: Option<&'a str>,
    drain_seconds: Option<Duration>,
    loss_seconds: Option<Duration>,
    live_workers: usize,
    ready_workers: usize,
    since_commit_seconds: Option<f64>,
    produced_per_second: Option<f64>,
    applied_per_second: Option<f64>,
    dead_letters: Option<String>,
    as_of_ms: Option<i64>,
    /// Seconds of lag over the window, or records where no seconds are known.
    trend: Vec<Option<f64>>,
}

/// Seconds, or `"never"`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Duration {
    Seconds(f64),
    Word(&'static str),
}

impl Duration {
    fn of(seconds: f64) -> Self {
        if seconds.is_finite() { Self::Seconds(rounded(seconds)) } else { Self::Word("never") }
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

/// A group, in full.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    freshness: Freshness<'a>,
    group: &'a Group,
    history: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

/// What is the same for everybody until the next reading is made once: `K` says which of its kinds it is.
#[derive(Debug)]
pub(super) struct Cache<K>(Mutex<Kept<K>>);

#[derive(Debug)]
struct Kept<K> {
    of: Option<Arc<View>>,
    was_stale: bool,
    texts: Vec<(K, Bytes)>,
}

pub(super) type Overviews = Cache<()>;
pub(super) type Pages = Cache<&'static str>;

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(Mutex::new(Kept { of: None, was_stale: false, texts: Vec::new() }))
    }
}

impl<K: PartialEq> Cache<K> {
    /// A view grows old without a change.
    fn get(&self, view: &Arc<View>, kind: K, make: impl FnOnce() -> String) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = view.is_stale();
        if !kept.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, view)) || kept.was_stale != is_stale {
            *kept = Kept { of: Some(Arc::clone(view)), was_stale: is_stale, texts: Vec::new() };
        }
        if let Some((_, text)) = kept.texts.iter().find(|(of, _)| *of == kind) {
            return text.clone();
        }
        let text: Bytes = make().into();
        kept.texts.push((kind, text.clone()));
        text
    }
}

pub(super) fn overview(shared: &Shared, view: &Arc<View>) -> Bytes {
    shared.overview.get(view, (), || {
        let groups = view.reading.iter().flat_map(|reading| &reading.groups);
        let groups = groups.map(|group| row(view, group)).collect();
        encoded(&Overview { freshness: Freshness::of(view), groups })
    })
}

fn row<'a>(view: &View, group: &'a Group) -> Row<'a> {
    let last = view.history.last(&group.group);
    let letters =
        group.dead_letters.as_ref().map(|letters| letters.iter().map(|letters| letters.count).sum::<i64>());
    Row {
        group: &group.group,
        class: &group.class,
        severity: group.severity,
        diagnosis: &group.diagnosis,
        well: group.diagnosis.is_well(),
        partitions: group.partitions.len(),
        unknown_partitions: group.unknown_partitions,
        lag_records: group.lag_records.map(|lag| lag.to_string()),
        lag_seconds: group.lag_seconds.map(rounded),
        furthest: group.furthest.as_deref(),
        drain_seconds: group.drain_seconds.map(Duration::of),
        loss_seconds: group.loss_seconds.map(Duration::of),
        live_workers: group.live_workers,
        ready_workers: group.ready_workers,
        since_commit_seconds: group.since_commit_seconds.map(rounded),
        produced_per_second: last.and_then(|point| point.produced_per_second).map(rounded),
        applied_per_second: last.and_then(|point| point.applied_per_second).map(rounded),
        dead_letters: letters.map(|count| count.to_string()),
        as_of_ms: group.as_of_ms,
        trend: trend(&view.history.points(&group.group)),
    }
}

fn trend(points: &[Point]) -> Vec<Option<f64>> {
    let step = points.len().div_ceil(TREND_POINTS).max(1);
    let knows_seconds = points.iter().any(|point| point.lag_seconds.is_some());
    #[allow(clippy::cast_precision_loss)] // a picture
    let value = |point: &Point| match knows_seconds {
        true => point.lag_seconds.map(rounded),
        false => point.lag_records.map(|lag| lag as f64),
    };
    // The newest is always there.
    let mut picked: Vec<Option<f64>> = points.iter().rev().step_by(step).map(value).collect();
    picked.reverse();
    picked
}

pub(super) fn whole(view: &View, name: &str) -> Option<String> {
    let group = view.reading.as_deref()?.group(name)?;
    Some(encoded(&Whole { freshness: Freshness::of(view), group, history: view.history.points(name) }))
}

fn encoded(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| format!("{{\"error\":\"could not write JSON: {error}\"}}"))
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let body: Bytes = text.into();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(super) fn refused(status: StatusCode, error: &str) -> Response {
    json(status, encoded(&Refusal { error }))
}

pub(super) async fn fleet(State(shared): State<Arc<Shared>>) -> Response {
    json(StatusCode::OK, overview(&shared, &shared.watch.now()))
}

pub(super) async fn group(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    match whole(&shared.watch.now(), &name) {
        Some(text) => json(StatusCode::OK, text),
        None => refused(StatusCode::NOT_FOUND, "no such group in this database, or nothing was read yet"),
    }
}

pub(super) async fn partition(
    State(shared): State<Arc<Shared>>,
    Path((group, topic, partition)): Path<(String, String, i32)>,
) -> Response {
    let page = async { shared.pages.lock().await.partition(&group, &topic, partition).await };
    in_time(page, |page| match page {
        Some(page) => json(StatusCode::OK, encoded(&page)),
        None => refused(StatusCode::NOT_FOUND, "the group does not know this partition"),
    })
    .await
}

pub(super) async fn letters(State(shared): State<Arc<Shared>>, Path(group): Path<String>) -> Response {
    let page = async { shared.pages.lock().await.letters(&group).await };
    in_time(page, |page| json(StatusCode::OK, encoded(&page))).await
}

/// What is made of what was asked of the database, or what is to be said instead.
async fn in_time<T>(
    page: impl Future<Output = crate::Result<T>>,
    answer: impl FnOnce(T) -> Response,
) -> Response {
    match tokio::time::timeout(PAGE_PATIENCE, page).await {
        Ok(Ok(page)) => answer(page),
        Ok(Err(error)) if error.kind() == ErrorKind::Privilege => {
            refused(StatusCode::FORBIDDEN, &error.report())
        }
        Ok(Err(error)) => refused(StatusCode::BAD_GATEWAY, &error.report()),
        Err(_) => refused(StatusCode::GATEWAY_TIMEOUT, "the database did not answer in time"),
    }
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let view = shared.watch.now();
    let kind = Exporter::content_type(accept);
    let text = shared.metrics.get(&view, kind, || shared.exporter.page(&view, accept).1);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let view = shared.watch.now();
    if view.is_stale() {
        let why = view.error.as_deref().unwrap_or("nothing was read yet");
        return (StatusCode::SERVICE_UNAVAILABLE, format!("the database was not read: {why}\n"))
            .into_response();
    }
    "ok\n".into_response()
}

pub(super) async fn exporter_index() -> &'static str {
    "highwater exporter: see /metrics, /livez, /readyz\n"
}

pub(super) async fn not_found() -> Response {
    refused(StatusCode::NOT_FOUND, "there is nothing here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{History, Reading};

    #[test]
    fn a_page_is_made_once_for_each_view_and_kind() {
        let view = || Arc::new(View::of(Reading::of(1, Vec::new()), History::default()));
        let (first, second) = (view(), view());
        let cache = Pages::default();
        let mut made = Vec::new();
        for (view, kind) in
            [(&first, "text"), (&first, "text"), (&first, "open"), (&first, "text"), (&second, "text")]
        {
            let number = made.len();
            cache.get(view, kind, || {
                made.push((Arc::ptr_eq(view, &first), kind));
                number.to_string()
            });
        }
        assert_eq!(made, [(true, "text"), (true, "open"), (false, "text")]);
    }
}
