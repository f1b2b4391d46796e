//! The live stream: one event with everything for each reading. It ends with the server, not after it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{Extensions, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use super::{Shared, api};
use crate::fleet::View;
use crate::server::Stream;

/// Said where nothing changes, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn live(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    extensions: Extensions,
) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return api::refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many live streams: close one, or reload the page",
        );
    };
    if let Some(stream) = extensions.get::<Stream>() {
        stream.begin();
    }
    let group = query.as_deref().and_then(group_of);
    let mut changes = shared.watch.subscribe();
    changes.mark_changed();
    let events =
        stream::unfold((shared, changes, group, permit), |(shared, mut changes, group, permit)| async move {
            let stop = shared.stop.clone();
            let changed = tokio::select! {
                () = stop.cancelled() => return None,
                changed = tokio::time::timeout(KEEP_ALIVE, changes.changed()) => changed,
            };
            let event = match changed {
                Ok(Ok(())) => {
                    let view = Arc::clone(&changes.borrow_and_update());
                    event(&shared, &view, group.as_deref())
                }
                Ok(Err(_)) => return None,
                Err(_) => Event::default().comment("still here"),
            };
            Some((Ok::<_, Infallible>(event), (shared, changes, group, permit)))
        });
    Sse::new(events).into_response()
}

fn event(shared: &Shared, view: &Arc<View>, group: Option<&str>) -> Event {
    let Some(name) = group else {
        let text = api::overview(shared, view);
        return Event::default().event("fleet").data(String::from_utf8_lossy(&text));
    };
    match api::whole(view, name) {
        Some(text) => Event::default().event("group").data(text),
        // The page goes on saying so, and the group may come.
        None => Event::default().event("fleet").data(String::from_utf8_lossy(&api::overview(shared, view))),
    }
}

fn group_of(query: &str) -> Option<String> {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("group="))?;
    let given = given.replace('+', " ");
    percent_encoding::percent_decode_str(&given).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_have_any_name() {
        assert_eq!(group_of("group=a%2Fb+%C3%BC&x=1").as_deref(), Some("a/b ü"));
        assert_eq!(group_of("x=group").as_deref(), None);
    }
}
