//! Log-in by local accounts, and log-out. An unknown account costs the same time as a wrong
//! password; how often somebody may try is said by [`super::throttle`].

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign_domain::{AuditEvent, Author, EventName};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::error::WebError;
use super::present::Chrome;
use super::session::{self, Submitted};
use super::{Shared, Web};
use crate::peer;

/// Checks at once: each takes about 20 MB and a core.
pub(super) const CHECKS: usize = 2;

/// A failure is answered so long after the request, whatever it cost: what is written down differs
/// between names that are known and names that are not.
const FAILED_AFTER: Duration = Duration::from_millis(300);

fn too_many(wait: Duration) -> WebError {
    let wait_seconds = wait.as_secs() + 1;
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
    extensions: Extensions,
    form: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, WebError> {
    let began = Instant::now();
    let Form(given) =
        form.map_err(|_| WebError::BadRequest("Enter your name and your password.".to_owned()))?;
    let person = given.person.trim().to_owned();
    let trusted = &web.app.loaded.config.http.trusted_proxies;
    let peer = peer::of(&extensions, &headers, trusted);
    web.throttle.count(&person, peer, began).map_err(too_many)?;
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
        tracing::warn!(person = actor, "log-in failed");
        let failed = event(EventName::LogInFailed, actor);
        // The log is kept for good: of names that anybody can make up it takes the number.
        let failed = match known {
            true => Some(failed),
            false => web
                .throttle
                .unknown(Instant::now())
                .map(|tries| failed.with("tries", tries.to_string())),
        };
        if let Some(failed) = failed {
            web.app.store.audit(failed).await?;
        }
        sleep_until(began + FAILED_AFTER).await;
        return Ok((StatusCode::UNAUTHORIZED, page(&web, next, true)?).into_response());
    }
    web.throttle.forgive(&person, peer, Instant::now());
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
    let turn = Arc::clone(&web.checks)
        .acquire_owned()
        .await
        .map_err(|_| WebError::Internal("closed"))?;
    let fits = tokio::task::spawn_blocking(move || {
        // The turn is over when the check is, also when nobody waits for it any more.
        let _turn = turn;
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
    use super::*;

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
