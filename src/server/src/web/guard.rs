//! What every request must pass before a page sees it: the `Host` it names, and for a POST the
//! origin it comes from. And the headers that every answer carries.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use countersign_listener::Incomplete;
use url::Url;

use super::error::WebError;
use super::{LARGEST_FORM, Shared};
use crate::app::App;

/// A sender that drips a form is let go.
const FORM_WITHIN: Duration = Duration::from_secs(10);

/// `form-action 'self'` also keeps injected markup from sending a form elsewhere; Trusted Types
/// keep our own script from ever turning text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Sets what every answer carries. `Referrer-Policy: same-origin`, not `no-referrer`: the latter
/// makes browsers send `Origin: null` with our own forms.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), microphone=(), geolocation=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses a host name that is not ours (DNS rebinding), and a POST that does not come from our
/// own pages.
pub(super) async fn check(
    State(web): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, WebError> {
    let http = &web.app.loaded.config.http;
    let host = host_of(&request).ok_or_else(|| {
        WebError::BadRequest("The request names no host, or more than one.".to_owned())
    })?;
    if !is_ours(
        &host,
        &web.app.external_url,
        &http.allowed_hosts,
        http.listen.ip().is_loopback(),
    ) {
        return Err(WebError::Misdirected);
    }
    if request.method() == Method::POST {
        same_origin(request.headers(), &host, &web.app.external_url)?;
        request = whole(request).await?;
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(WebError::MethodNotAllowed);
    }
    Ok(next.run(request).await)
}

/// The request with its form, whoever sends it: the one place where the pages wait for a body.
async fn whole(request: Request) -> Result<Request, WebError> {
    let (head, body) = request.into_parts();
    match countersign_listener::whole(body, LARGEST_FORM, FORM_WITHIN).await {
        Ok(body) => Ok(Request::from_parts(head, body.into())),
        Err(Incomplete::TooLarge) => Err(WebError::TooLarge),
        Err(Incomplete::TooSlow) => Err(WebError::TooSlow),
    }
}

/// Whether a request names this server: by a name of ours, or by a bare address, which no page of
/// somebody else's can be served from.
pub(crate) fn names_us(app: &App, request: &Request) -> bool {
    let Some(host) = host_of(request) else {
        return false;
    };
    let http = &app.loaded.config.http;
    let name = without_port(&host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || is_ours(
            &host,
            &app.external_url,
            &http.allowed_hosts,
            http.listen.ip().is_loopback(),
        )
}

/// The host that the request names, lowercase, with its port as written.
fn host_of(request: &Request) -> Option<String> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts
        .next()
        .and_then(|value| value.to_str().ok())
        .map(str::to_ascii_lowercase);
    let uri = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_ascii_lowercase());
    match (host, uri, hosts.next()) {
        (Some(host), None, None) => Some(host),
        (None, Some(uri), None) => Some(uri),
        (Some(host), Some(uri), None) if host == uri => Some(host),
        _ => None,
    }
}

fn is_ours(host: &str, external: &Url, allowed: &[String], loopback: bool) -> bool {
    let name = without_port(host);
    if host == authority(external, false) || host == authority(external, true) {
        return true;
    }
    if allowed.iter().any(|entry| {
        let entry = entry.to_ascii_lowercase();
        entry == host || entry == name
    }) {
        return true;
    }
    // Rebinding needs a name of the attacker's; these are none, whatever the port.
    loopback && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn authority(url: &Url, with_default_port: bool) -> String {
    let host = url.host_str().unwrap_or_default();
    match if with_default_port {
        url.port_or_known_default()
    } else {
        url.port()
    } {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Every browser sends `Origin` with a POST. A request without it, from another origin or from an
/// opaque one is not a form of ours.
fn same_origin(headers: &HeaderMap, host: &str, external: &Url) -> Result<(), WebError> {
    let refuse = || {
        Err(WebError::Forbidden {
            sentence: "This form was not sent from our own page. Open the page itself and try \
                       again; a program must send its `Origin` header."
                .to_owned(),
            action: None,
        })
    };
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin")
    {
        return refuse();
    }
    let Some(origin) = headers
        .get(header::ORIGIN)
        .and_then(|value| value.to_str().ok())
    else {
        return refuse();
    };
    let Ok(origin) = Url::parse(origin) else {
        return refuse();
    };
    // The external name is reached by the external scheme; other names of ours by either.
    let scheme_fits = origin.host() != external.host() || origin.scheme() == external.scheme();
    let same_host = scheme_fits
        && matches!(origin.scheme(), "http" | "https")
        && (host == authority(&origin, false) || host == authority(&origin, true));
    if origin.origin() == external.origin() || same_host {
        Ok(())
    } else {
        refuse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let external = url("https://sign.example.com/");
        let allowed = ["10.0.0.7".to_owned()];
        for host in [
            "sign.example.com",
            "sign.example.com:443",
            "10.0.0.7",
            "10.0.0.7:8750",
        ] {
            assert!(is_ours(host, &external, &allowed, false), "{host}");
        }
        for host in [
            "evil.example",
            "sign.example.com:8443",
            "localhost:8750",
            "10.0.0.7.evil.io",
        ] {
            assert!(!is_ours(host, &external, &allowed, false), "{host}");
        }
        for host in ["localhost:8750", "127.0.0.1:1", "[::1]:8750"] {
            assert!(is_ours(host, &external, &[], true), "{host}");
        }
        assert!(!is_ours("localhost.evil.io", &external, &[], true));
    }

    #[test]
    fn a_post_must_say_that_it_comes_from_here() {
        let external = url("https://sign.example.com/");
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            same_origin(&headers, "sign.example.com", &external).is_ok()
        };
        assert!(with(&[("origin", "https://sign.example.com")]));
        assert!(with(&[
            ("origin", "https://sign.example.com"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!with(&[]));
        assert!(!with(&[("origin", "null")]));
        assert!(!with(&[("origin", "https://evil.example")]));
        assert!(!with(&[(
            "origin",
            "https://sign.example.com.evil.example"
        )]));
        assert!(!with(&[
            ("origin", "https://sign.example.com"),
            ("sec-fetch-site", "same-site")
        ]));
    }
}
