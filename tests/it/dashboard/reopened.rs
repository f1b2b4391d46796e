//! Somebody else answers for the dashboard for a moment: a proxy, while it is started anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use highwater::PartialConfig;
use highwater::dashboard::{router, serve};
use highwater::exporter::Exporter;
use highwater::fleet::{View, Watch};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::TestResult;
use crate::support::browser::Browser;

/// An answer that is no stream ends a browser's own tries for good.
#[tokio::test]
async fn a_stream_that_was_answered_by_a_proxy_is_opened_again() -> TestResult {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let config = PartialConfig::default().postgres_url("postgres://127.0.0.1:1/nobody").finish_operator()?;
    let stop = CancellationToken::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let page = router(Watch::fixed(View::default()), &config, Exporter::default(), stop.clone());
    let page = page.layer(from_fn(move |request: Request, next: Next| {
        let is_first = request.uri().path() == "/api/live" && counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                return (StatusCode::BAD_GATEWAY, "bad gateway\n").into_response();
            }
            next.run(request).await
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener, page, stop.clone()));
    browser.open(&format!("http://{address}/")).await?;
    browser.until("what the stream brings is there", "!!document.querySelector('.light.live')").await?;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    browser.quit().await?;
    stop.cancel();
    serving.await?;
    Ok(())
}
