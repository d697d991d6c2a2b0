//! HTTP to one Jira site: credentials, timeouts, bounded bodies, and the meaning of answers.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::JiraError;
use crate::untrusted;

const CONNECT: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);
const LARGEST_BODY: usize = 1 << 20;
/// All pages of a bounded list together.
const LARGEST_LIST: usize = 4 << 20;
/// Asked for by Jira or assumed when it does not say.
const USUAL_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How far a list was read, page by page.
pub(super) struct Paging {
    /// Entries that are asked for at once.
    size: usize,
    /// Bytes that may still be read.
    left: usize,
}

impl Paging {
    /// To the end of the list, however long it is.
    pub(super) fn of(size: usize) -> Self {
        Self {
            size,
            left: usize::MAX,
        }
    }

    /// Not further than [`LARGEST_LIST`], or one page beyond it.
    pub(super) fn bounded(size: usize) -> Self {
        Self {
            size,
            left: LARGEST_LIST,
        }
    }
}

pub(super) struct Connection {
    base: Url,
    email: String,
    token: SecretString,
    client: OnceLock<reqwest::Client>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jira")
            .field("site", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(base_url: &str, email: &str, token: SecretString) -> Result<Self, JiraError> {
        let shown = untrusted::line(base_url.split('@').next_back().unwrap_or(base_url), 200);
        let invalid = |why: &str| JiraError::Invalid {
            problem: format!("`{shown}` is not the address of a Jira site: {why}"),
        };
        let mut base = Url::parse(base_url).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(invalid("use https://YOUR-SITE.atlassian.net"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(invalid("leave e-mail address and token out of it"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(invalid("it may not contain `?` or `#`"));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        Ok(Self {
            base,
            email: email.to_owned(),
            token,
            client: OnceLock::new(),
        })
    }

    pub(super) fn site(&self) -> &str {
        self.base.as_str()
    }

    /// `GET base/rest/api/3/{segments}?{query}`.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        what: &str,
    ) -> Result<T, JiraError> {
        let (whole, _) = self.get_if_small(segments, query, what).await?;
        whole.ok_or_else(|| too_large(what, LARGEST_BODY))
    }

    /// One page of a list, from `start`. Its entries may be large (a history holds every old text):
    /// a page that is too large is asked for again with fewer, and the size stays there.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        start: usize,
        paging: &mut Paging,
        what: &str,
    ) -> Result<T, JiraError> {
        let from = start.to_string();
        while paging.left > 0 {
            let most = paging.size.to_string();
            let mut query = query.to_vec();
            query.extend([("startAt", from.as_str()), ("maxResults", most.as_str())]);
            let (page, bytes) = self.get_if_small(segments, &query, what).await?;
            paging.left = paging.left.saturating_sub(bytes);
            if let Some(page) = page {
                return Ok(page);
            }
            if paging.size <= 1 {
                return Err(too_large(what, LARGEST_BODY));
            }
            paging.size = (paging.size / 10).max(1);
        }
        Err(too_large(what, LARGEST_LIST))
    }

    /// The answer, `None` if it is larger than [`LARGEST_BODY`], and how many bytes were read.
    async fn get_if_small<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        what: &str,
    ) -> Result<(Option<T>, usize), JiraError> {
        let request = self.request(Method::GET, segments)?.query(query);
        let response = request
            .send()
            .await
            .map_err(|error| JiraError::Unavailable {
                problem: explain(&error),
            })?;
        let (status, wait, body) = receive(response)
            .await
            .map_err(|problem| JiraError::Unavailable { problem })?;
        if !status.is_success() {
            let body = body.unwrap_or_default();
            return Err(refusal(status, wait, &body, what, false));
        }
        let Some(body) = body else {
            return Ok((None, LARGEST_BODY));
        };
        serde_json::from_slice(&body)
            .map(|whole| (Some(whole), body.len()))
            .map_err(|error| JiraError::Unexpected {
                what: what.to_owned(),
                problem: untrusted::line(&error.to_string(), 200),
            })
    }

    /// `POST base/rest/api/3/{segments}`. Whatever may have reached Jira without a clear answer
    /// is [`JiraError::Ambiguous`].
    pub(super) async fn post(
        &self,
        segments: &[&str],
        content: &Value,
        what: &str,
    ) -> Result<Value, JiraError> {
        let request = self.request(Method::POST, segments)?.json(content);
        let response = request.send().await.map_err(|error| {
            let problem = explain(&error);
            if error.is_connect() || error.is_builder() {
                JiraError::Unavailable { problem }
            } else {
                JiraError::Ambiguous { problem }
            }
        })?;
        let (status, wait, body) = receive(response)
            .await
            .map_err(|problem| JiraError::Ambiguous { problem })?;
        if !status.is_success() {
            let body = body.unwrap_or_default();
            return Err(refusal(status, wait, &body, what, true));
        }
        let body = body.ok_or_else(|| JiraError::Ambiguous {
            problem: format!("the answer for {what} is larger than expected"),
        })?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| JiraError::Ambiguous {
            problem: format!("the answer for {what} is not JSON"),
        })
    }

    fn request(&self, method: Method, segments: &[&str]) -> Result<RequestBuilder, JiraError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend(["rest", "api", "3"])
                .extend(segments);
        }
        Ok(self
            .client()?
            .request(method, url)
            .basic_auth(&self.email, Some(self.token.expose_secret()))
            .header(reqwest::header::ACCEPT, "application/json"))
    }

    /// Built on first use: reading the system's certificates takes a while.
    fn client(&self) -> Result<&reqwest::Client, JiraError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            // A redirect would carry our credentials to another address, or turn POST into GET.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| JiraError::Unavailable {
                problem: explain(&error),
            })?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// The kind of failure and its innermost cause, without the address (its query may say much).
fn explain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", REQUEST.as_secs());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    if std::ptr::eq(innermost, error) {
        return "the request failed".to_owned();
    }
    untrusted::line(&innermost.to_string(), 200)
}

/// Another try would bring the same, so this is not [`JiraError::Unavailable`].
fn too_large(what: &str, largest: usize) -> JiraError {
    JiraError::Unexpected {
        what: what.to_owned(),
        problem: format!("it is larger than {} MiB", largest >> 20),
    }
}

/// Status, the pause that Jira asks for, and the body unless it is larger than [`LARGEST_BODY`].
async fn receive(
    mut response: Response,
) -> Result<(StatusCode, Duration, Option<Vec<u8>>), String> {
    let status = response.status();
    // Only the form in seconds: the form with a date would need a clock.
    let wait = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map_or(USUAL_WAIT, Duration::from_secs)
        .min(LONGEST_WAIT);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| explain(&error))? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Ok((status, wait, None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, wait, Some(body)))
}

fn refusal(
    status: StatusCode,
    retry_after: Duration,
    body: &[u8],
    what: &str,
    write: bool,
) -> JiraError {
    let (messages, fields) = error_texts(body);
    match status {
        StatusCode::UNAUTHORIZED => JiraError::Unauthorized,
        StatusCode::FORBIDDEN => JiraError::Forbidden {
            message: messages.join("; "),
        },
        StatusCode::NOT_FOUND => JiraError::NotFound {
            what: what.to_owned(),
        },
        StatusCode::CONFLICT => JiraError::Conflict,
        StatusCode::TOO_MANY_REQUESTS => JiraError::RateLimited { retry_after },
        status if status.is_server_error() && write => JiraError::Ambiguous {
            problem: format!("it answered {status} for {what}"),
        },
        status if status.is_server_error() => JiraError::Unavailable {
            problem: format!("it answered {status} for {what}"),
        },
        status if status.is_client_error() => JiraError::Rejected { messages, fields },
        status => JiraError::Unexpected {
            what: what.to_owned(),
            problem: format!("{status}; check the site's address"),
        },
    }
}

/// `errorMessages` and `errors`, which is an object, an array or missing.
fn error_texts(body: &[u8]) -> (Vec<String>, Vec<(String, String)>) {
    let text = |value: &Value| match value {
        Value::String(text) => untrusted::line(text, 300),
        other => untrusted::line(&other.to_string(), 300),
    };
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let list = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .map(|all| all.iter().take(20).map(text).collect())
            .unwrap_or_default()
    };
    let mut messages = list(&body["errorMessages"]);
    messages.extend(list(&body["errors"]));
    messages.extend(
        body["message"]
            .as_str()
            .map(|message| untrusted::line(message, 300)),
    );
    let fields = body["errors"]
        .as_object()
        .map(|errors| {
            errors
                .iter()
                .take(20)
                .map(|(field, problem)| (untrusted::line(field, 80), text(problem)))
                .collect()
        })
        .unwrap_or_default();
    (messages, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_site_is_checked_and_never_shows_credentials() {
        let new = |base: &str| Connection::new(base, "bot@example.org", SecretString::from("t"));
        assert_eq!(
            new("https://x.atlassian.net").unwrap().site(),
            "https://x.atlassian.net/"
        );
        assert_eq!(
            new("https://api.atlassian.com/ex/jira/1").unwrap().site(),
            "https://api.atlassian.com/ex/jira/1/"
        );
        for bad in [
            "x.atlassian.net",
            "ftp://x",
            "https://u:hunter2@x",
            "https://x/?a=b",
            "",
        ] {
            let error = new(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn errors_come_as_object_or_array() {
        let (messages, fields) =
            error_texts(br#"{"errorMessages":["a"],"errors":{"summary":"too long"}}"#);
        assert_eq!(messages, ["a"]);
        assert_eq!(fields, [("summary".to_owned(), "too long".to_owned())]);
        assert_eq!(error_texts(br#"{"errors":["b"]}"#).0, ["b"]);
        assert_eq!(error_texts(b"<html>").0.len(), 0);
    }
}
