//! What every answer says to the browser, and what no request may be.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Nothing but what this server gives, and nothing that is written into a page: no inline script, no inline style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn guard(request: Request, next: Next) -> Response {
    if !is_meant_for_us(&request) {
        let refusal =
            "this page answers to an address or to localhost only: another site's name leads here, too\n";
        return (StatusCode::MISDIRECTED_REQUEST, refusal).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(header::CACHE_CONTROL, "no-store");
    response
}

/// On loopback, a page of any site could read what is here under a name of its own that it lets point to 127.0.0.1. Such
/// a request bears that name. Elsewhere a proxy's or a service's name is as it should be.
fn is_meant_for_us(request: &Request) -> bool {
    let local =
        request.extensions().get::<crate::server::Local>().is_some_and(|local| local.0.ip().is_loopback());
    if !local {
        return true;
    }
    let given = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    given.is_some_and(names_this_machine)
}

fn names_this_machine(host: &str) -> bool {
    // An IPv6 address is in brackets, and has colons of its own.
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_let_point_here() {
        for host in
            ["localhost:9480", "127.0.0.1:9480", "[::1]:9480", "10.0.0.7", "LOCALHOST", "app.localhost:1"]
        {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["evil.example:9480", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
