//! Log-in by local accounts, and log-out. An unknown account costs the same time as a wrong
//! password; tries are limited for each account and for all together.

use std::num::NonZeroU32;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign_domain::{AuditEvent, Author, Digest, EventName};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::error::WebError;
use super::present::Chrome;
use super::session::{self, Submitted};
use super::{Shared, Web};

/// Checks at once: each takes about 20 MB and a core.
const AT_ONCE: usize = 2;

pub(super) struct Throttle {
    all: DefaultDirectRateLimiter,
    /// Keyed by 16 bits of the name's digest: bounded, and the same for names that do not exist.
    each: DefaultKeyedRateLimiter<String>,
    workers: Semaphore,
}

impl Throttle {
    pub(super) fn new() -> Self {
        let quota = |every: Duration, burst: u32| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            Quota::with_period(every)
                .unwrap_or(Quota::per_second(NonZeroU32::MIN))
                .allow_burst(burst)
        };
        Self {
            all: RateLimiter::direct(quota(Duration::from_millis(200), 60)),
            each: RateLimiter::keyed(quota(Duration::from_secs(6), 10)),
            workers: Semaphore::new(AT_ONCE),
        }
    }

    fn check(&self, account: &str) -> Result<(), WebError> {
        let bucket = Digest::of("countersign-account/v1", account.as_bytes()).to_string();
        let now = DefaultClock::default().now();
        self.each
            .check_key(&bucket[..4].to_owned())
            .map_err(|until| too_many(&until, now))?;
        self.all.check().map_err(|until| too_many(&until, now))
    }
}

fn too_many<P>(until: &NotUntil<P>, now: P) -> WebError
where
    P: governor::clock::Reference,
{
    let wait_seconds = until.wait_time_from(now).as_secs() + 1;
    WebError::TooMany {
        sentence: format!("Too many tries to log in. Try again in {wait_seconds} s."),
        wait_seconds,
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    chrome: Chrome,
    next: String,
    failed: bool,
    simulated: bool,
}

#[derive(Deserialize)]
pub(super) struct Onward {
    #[serde(default)]
    next: String,
}

pub(super) async fn form(
    State(web): State<Shared>,
    Query(onward): Query<Onward>,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let next = local_path(&onward.next);
    if session::current(&web, &headers).await?.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    Ok(page(&web, next, false)?.into_response())
}

fn page(web: &Web, next: String, failed: bool) -> Result<Html<String>, WebError> {
    let page = LoginPage {
        chrome: Chrome::bare(),
        next,
        failed,
        simulated: web.app.simulated(),
    };
    Ok(Html(page.render()?))
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    person: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

pub(super) async fn submit(
    State(web): State<Shared>,
    headers: HeaderMap,
    form: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, WebError> {
    let Form(given) = form.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => WebError::TooLarge,
        _ => WebError::BadRequest("Enter your name and your password.".to_owned()),
    })?;
    let person = given.person.trim().to_owned();
    web.throttle.check(&person)?;
    let next = local_path(&given.next);
    let now = web.app.clock.now();
    let event = |name, actor: &str| {
        AuditEvent::new(now, &*web.app.entropy, Author::Server, name, actor)
            .with("method", "password")
    };
    let known = web
        .app
        .loaded
        .config
        .accounts
        .iter()
        .any(|account| account.person == person);
    let valid = web
        .app
        .rules()
        .registry
        .valid_person(&person, now)
        .is_some();
    if !(password_fits(&web, &person, given.password).await? && valid) {
        // People type passwords into the wrong field: an unknown name is not written down.
        let actor = if known { person.as_str() } else { "unknown" };
        web.app
            .store
            .audit(event(EventName::LogInFailed, actor))
            .await?;
        tracing::warn!(person = actor, "log-in failed");
        return Ok((StatusCode::UNAUTHORIZED, page(&web, next, true)?).into_response());
    }
    // A secret that was known before the log-in must not be worth anything after it.
    if let Some(before) = session::current(&web, &headers).await? {
        session::end(&web, &before.token_hash).await?;
    }
    let cookie = session::begin(&web, &person).await?;
    web.app
        .store
        .audit(event(EventName::LoggedIn, &person))
        .await?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response())
}

/// Whether this is the account's password. For a name without an account some other account's hash
/// is checked, for its cost alone.
async fn password_fits(web: &Web, person: &str, given: SecretString) -> Result<bool, WebError> {
    let accounts = &web.app.loaded.config.accounts;
    let own = accounts.iter().find(|account| account.person == person);
    let Some(checked) = own.or_else(|| accounts.first()) else {
        return Ok(false);
    };
    let known = own.is_some();
    let hash = checked.password_hash.clone();
    let _turn = web
        .throttle
        .workers
        .acquire()
        .await
        .map_err(|_| WebError::Internal("closed"))?;
    let fits = tokio::task::spawn_blocking(move || {
        let Ok(hash) = PasswordHash::new(hash.expose_secret()) else {
            tracing::error!("a configured password_hash is not an Argon2 PHC string");
            return false;
        };
        Argon2::default()
            .verify_password(given.expose_secret().as_bytes(), &hash)
            .is_ok()
    })
    .await
    .map_err(|_| WebError::Internal("the password check did not finish"))?;
    Ok(fits && known)
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn leave(
    State(web): State<Shared>,
    Submitted {
        who,
        form: Nothing {},
    }: Submitted<Nothing>,
) -> Result<Response, WebError> {
    let cookie = session::end(&web, &who.token_hash).await?;
    let now = web.app.clock.now();
    let event = AuditEvent::new(
        now,
        &*web.app.entropy,
        Author::Server,
        EventName::LoggedOut,
        who.person,
    );
    web.app.store.audit(event).await?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

/// A path of this site, or `/`: the log-in never leads elsewhere.
fn local_path(next: &str) -> String {
    let local = next.len() <= 512
        && next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && !next.starts_with("/login")
        && !next.starts_with("/logout");
    if local {
        next.to_owned()
    } else {
        "/".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn the_log_in_leads_nowhere_else() {
        assert_eq!(local_path("/actions/1?x=y"), "/actions/1?x=y");
        for evil in [
            "",
            "//evil.io",
            "/\\evil.io",
            "https://evil.io",
            "/a\r\nb",
            "/login?next=/",
            "javascript:1",
        ] {
            assert_eq!(local_path(evil), "/", "{evil}");
        }
    }
}
