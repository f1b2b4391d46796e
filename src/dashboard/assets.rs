//! The files of the page, in this binary. Written by hand instead of taking a crate for it: they are few.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::{Shared, api};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The page itself, which is also what every view's URL gives.
const PAGE: &str = "index.html";

macro_rules! files {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!("../../assets/dashboard/", $name)) as &[u8])),+]
    };
}

const FILES: &[(&str, &str, &[u8])] = files! {
    "index.html": HTML,
    "style.css": STYLE,
    "uplot.css": STYLE,
    "app.js": SCRIPT,
    "charts.js": SCRIPT,
    "format.js": SCRIPT,
    "grid.js": SCRIPT,
    "letters.js": SCRIPT,
    "live.js": SCRIPT,
    "panels.js": SCRIPT,
    "partition.js": SCRIPT,
    "preact-htm.js": SCRIPT,
    "uplot.js": SCRIPT,
    "icon.svg": "image/svg+xml",
};

/// The files with what tells their versions apart.
pub(super) struct Assets(Vec<Asset>);

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
    tag: String,
}

impl Assets {
    pub(super) fn new() -> Self {
        let with_tag = |(name, kind, content): &(&'static str, &'static str, &'static [u8])| {
            let digest = Sha256::digest(content);
            let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            Asset { name, kind, content, tag: format!("\"{hex}\"") }
        };
        Self(FILES.iter().map(with_tag).collect())
    }

    fn answer(&self, name: &str, request: &HeaderMap) -> Option<Response> {
        let asset = self.0.iter().find(|asset| asset.name == name)?;
        let known =
            request.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
        let is_known =
            known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.tag || tag.trim() == "*");
        // Asked for each time, and sent again only by the next release.
        let headers = [
            (header::ETAG, asset.tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_TYPE, asset.kind),
        ];
        Some(if is_known {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, asset.content).into_response()
        })
    }
}

pub(super) async fn page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match shared.assets.answer(PAGE, &headers) {
        Some(page) => page,
        None => api::not_found().await,
    }
}

pub(super) async fn file(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match shared.assets.answer(&name, &headers) {
        Some(file) => file,
        None => api::not_found().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_once_per_version() {
        let assets = Assets::new();
        let mut asked = HeaderMap::new();
        let first = assets.answer("app.js", &asked).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(assets.answer("app.js", &asked).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(assets.answer("../Cargo.toml", &asked).is_none());
    }

    /// The policy would stop them, and the page be dead.
    #[test]
    fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
        let page = std::str::from_utf8(include_bytes!("../../assets/dashboard/index.html")).unwrap();
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onload="), "{page}");
        for script in page.split("<script").skip(1) {
            let (tag, rest) = script.split_once('>').unwrap();
            assert!(tag.contains("src=\"/assets/") && rest.starts_with("</script>"), "{script}");
        }
        for (name, _, content) in
            FILES.iter().filter(|(name, ..)| !name.starts_with("uplot") && !name.starts_with("preact"))
        {
            let text = std::str::from_utf8(content).unwrap();
            assert!(!text.contains("https://") && !text.contains("innerHTML"), "{name}");
        }
    }
}
