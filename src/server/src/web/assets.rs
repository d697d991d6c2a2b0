//! The style sheet, the script and the icon: embedded, under a path that changes with their bytes,
//! so that browsers may keep them for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use countersign_domain::Digest;

use super::error::WebError;

struct Asset {
    body: &'static str,
    content_type: &'static str,
    name: String,
}

impl Asset {
    fn new(stem: &str, ending: &str, content_type: &'static str, body: &'static str) -> Self {
        let hash = Digest::of("countersign-asset/v1", body.as_bytes()).short();
        Self {
            body,
            content_type,
            name: format!("{stem}-{hash}.{ending}"),
        }
    }
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new(
            "style",
            "css",
            "text/css; charset=utf-8",
            include_str!("../../assets/style.css"),
        ),
        Asset::new(
            "script",
            "js",
            "text/javascript; charset=utf-8",
            include_str!("../../assets/script.js"),
        ),
        Asset::new(
            "icon",
            "svg",
            "image/svg+xml",
            include_str!("../../assets/icon.svg"),
        ),
    ]
});

pub(super) fn style() -> &'static str {
    &ASSETS[0].name
}

pub(super) fn script() -> &'static str {
    &ASSETS[1].name
}

pub(super) fn icon() -> &'static str {
    &ASSETS[2].name
}

pub(super) async fn serve(Path(name): Path<String>) -> Result<Response, WebError> {
    let asset = ASSETS
        .iter()
        .find(|asset| asset.name == name)
        .ok_or(WebError::NoSuchPage)?;
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, asset.body).into_response())
}
