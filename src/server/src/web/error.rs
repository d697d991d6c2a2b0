//! Everything that can go wrong on a page, and the one place that turns it into an answer. People
//! get a sentence that says what to do; internal text goes to the log only.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign_domain::{ActionId, SigningError};
use countersign_store::StoreError;

use super::present::Chrome;

#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    /// The sentence is shown.
    #[error("{0}")]
    BadRequest(String),
    /// A page was asked for without a session: on to the log-in, and back afterwards.
    #[error("log in first")]
    LogInFirst { next: String },
    /// A fragment or a stream was asked for without a session.
    #[error("not logged in")]
    NotLoggedIn,
    /// The sentence is shown.
    #[error("{sentence}")]
    Forbidden {
        sentence: String,
        action: Option<ActionId>,
    },
    #[error("no such page")]
    NoSuchPage,
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The answer came too late, or was given to something else than what is stored.
    #[error("{sentence}")]
    Conflict {
        title: &'static str,
        sentence: String,
        action: ActionId,
    },
    #[error("the form is too large")]
    TooLarge,
    #[error("the form did not arrive in time")]
    TooSlow,
    #[error("this address is not served under that host name")]
    Misdirected,
    #[error("{0}")]
    Busy(&'static str),
    #[error("too many")]
    TooMany { sentence: String, wait_seconds: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Template(#[from] askama::Error),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error("{0}")]
    Internal(&'static str),
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    chrome: Chrome,
    code: u16,
    title: &'a str,
    sentence: &'a str,
    action: Option<ActionId>,
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        match self {
            Self::BadRequest(sentence) => page(
                StatusCode::BAD_REQUEST,
                "That cannot be used",
                &sentence,
                None,
            ),
            Self::LogInFirst { next } => {
                let query = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("next", &next)
                    .finish();
                Redirect::to(&format!("/login?{query}")).into_response()
            }
            Self::NotLoggedIn => page(
                StatusCode::UNAUTHORIZED,
                "You are logged out",
                "Log in again, and this page goes on where it was.",
                None,
            ),
            Self::Forbidden { sentence, action } => {
                page(StatusCode::FORBIDDEN, "Not allowed", &sentence, action)
            }
            Self::NoSuchPage => page(
                StatusCode::NOT_FOUND,
                "Nothing is here",
                "No action and no page has this address. Links to actions never change, so it may \
                 have been cut off when it was copied.",
                None,
            ),
            Self::MethodNotAllowed => page(
                StatusCode::METHOD_NOT_ALLOWED,
                "Opening this address does nothing",
                "Decisions are made with the buttons on the action's page, never by following a link.",
                None,
            ),
            Self::Conflict {
                title,
                sentence,
                action,
            } => page(StatusCode::CONFLICT, title, &sentence, Some(action)),
            Self::TooLarge => page(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Too long",
                "The form holds more than 16 kB. Shorten the reason.",
                None,
            ),
            Self::TooSlow => page(
                StatusCode::REQUEST_TIMEOUT,
                "Too slow",
                "The form did not arrive in time. Nothing was decided. Send it again.",
                None,
            ),
            Self::Misdirected => page(
                StatusCode::MISDIRECTED_REQUEST,
                "Not served under this name",
                "This server does not answer to that host name. Use the address in its \
                 configuration (`external_url`), or add the name to `http.allowed_hosts`.",
                None,
            ),
            Self::TooMany {
                sentence,
                wait_seconds,
            } => {
                let mut response =
                    page(StatusCode::TOO_MANY_REQUESTS, "One moment", &sentence, None);
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from(wait_seconds));
                response
            }
            Self::Busy(sentence) => {
                let busy = StatusCode::SERVICE_UNAVAILABLE;
                let mut response = page(busy, "Busy, try again", sentence, None);
                let retry = (header::RETRY_AFTER, HeaderValue::from_static("5"));
                response.headers_mut().extend([retry]);
                response
            }
            Self::Store(error @ (StoreError::Unreachable { .. } | StoreError::Locked)) => {
                tracing::error!(%error, "a page could not reach the database");
                page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The database cannot be reached",
                    "Try again in a moment. If you have just decided, open the action again: it \
                     says whether your answer was stored.",
                    None,
                )
            }
            Self::Store(error) => internal(&error),
            Self::Template(error) => internal(&error),
            Self::Signing(error) => internal(&error),
            Self::Internal(what) => internal(&what),
        }
    }
}

fn internal(error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "a page failed");
    page(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something is wrong on our side",
        "It was written to the log. If you have just decided, open the action again: it says \
         whether your answer was stored.",
        None,
    )
}

fn page(status: StatusCode, title: &str, sentence: &str, action: Option<ActionId>) -> Response {
    let page = ErrorPage {
        chrome: Chrome::bare(),
        code: status.as_u16(),
        title,
        sentence,
        action,
    };
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => (status, format!("{title}. {sentence}")).into_response(),
    }
}
