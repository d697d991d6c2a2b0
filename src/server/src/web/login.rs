//! Log-in by local accounts, and log-out. An unknown account costs the same time as a wrong
//! password; tries are limited for all together, failures for each name and peer.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign_domain::{AuditEvent, Author, EventName};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::WebError;
use super::present::Chrome;
use super::session::{self, Submitted};
use super::{Shared, Web};

/// Checks at once: each takes about 20 MB and a core.
const AT_ONCE: usize = 2;

/// Failures of one name from one peer that are allowed at once.
const FAILURES: u32 = 10;
/// One of them is forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(6);

pub(super) struct Throttle {
    /// Also bounds how many entries `failures` can have.
    all: DefaultDirectRateLimiter,
    failures: Failures,
    workers: Semaphore,
}

impl Throttle {
    pub(super) fn new() -> Self {
        let every = Quota::with_period(Duration::from_millis(200));
        let all = every
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::new(60).unwrap_or(NonZeroU32::MIN));
        Self {
            all: RateLimiter::direct(all),
            failures: Failures::default(),
            workers: Semaphore::new(AT_ONCE),
        }
    }

    /// Counts a try; one that proves right is given back with [`Failures::forgive`].
    fn check(&self, name: &str, peer: Option<IpAddr>) -> Result<(), WebError> {
        // Who has to wait anyway does not use up everybody's tries.
        self.failures
            .wait(name, peer, Instant::now())
            .map_err(too_many)?;
        let now = DefaultClock::default().now();
        self.all
            .check()
            .map_err(|until| too_many(until.wait_time_from(now)))?;
        self.failures
            .count(name, peer, Instant::now())
            .map_err(too_many)
    }
}

/// Failures by name and peer, so that nobody locks others out from elsewhere. Behind a proxy all
/// peers are one. Names that do not exist count in the same way.
#[derive(Default)]
struct Failures {
    /// Under a key of this process: nobody can choose a name that falls together with another.
    hasher: RandomState,
    /// When the last failure will be forgotten.
    until: Mutex<HashMap<u64, Instant>>,
}

impl Failures {
    /// `Err`: how long to wait for the next try.
    fn wait(&self, name: &str, peer: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = all.get(&self.key(name, peer)).copied().unwrap_or(now);
        one_more(until, now).map(drop)
    }

    /// Counts one, or says how long to wait.
    fn count(&self, name: &str, peer: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > 1000 {
            all.retain(|_, until| *until > now);
        }
        let until = all.entry(self.key(name, peer)).or_insert(now);
        *until = one_more(*until, now)?;
        Ok(())
    }

    fn forgive(&self, name: &str, peer: Option<IpAddr>) {
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = all.get_mut(&self.key(name, peer)) {
            *until = until.checked_sub(FORGOTTEN).unwrap_or(*until);
        }
    }

    fn key(&self, name: &str, peer: Option<IpAddr>) -> u64 {
        // Whoever has one IPv6 address has 2^64 of them.
        let peer = peer.map(|peer| match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            address => address,
        });
        self.hasher.hash_one((name, peer))
    }
}

/// Until when failures are remembered after one more.
fn one_more(until: Instant, now: Instant) -> Result<Instant, Duration> {
    let counted = until.max(now) + FORGOTTEN;
    let over = counted.saturating_duration_since(now + FORGOTTEN * FAILURES);
    if over.is_zero() {
        Ok(counted)
    } else {
        Err(over)
    }
}

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
    let Form(given) = form.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => WebError::TooLarge,
        _ => WebError::BadRequest("Enter your name and your password.".to_owned()),
    })?;
    let person = given.person.trim().to_owned();
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(peer)| peer.ip());
    web.throttle.check(&person, peer)?;
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
    web.throttle.failures.forgive(&person, peer);
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
    use super::*;

    #[test]
    fn failures_are_counted_by_name_and_peer_and_forgotten() {
        let failures = Failures::default();
        let (here, there) = ("10.0.0.1".parse().ok(), "10.0.0.2".parse().ok());
        let now = Instant::now();
        for _ in 0..FAILURES {
            failures.count("li", here, now).unwrap();
        }
        let wait = failures.count("li", here, now).unwrap_err();
        assert_eq!(wait, FORGOTTEN);
        failures.count("li", there, now).unwrap();
        failures.count("omar", here, now).unwrap();
        failures.count("li", here, now + FORGOTTEN).unwrap();
        failures.count("li", here, now + FORGOTTEN).unwrap_err();
        failures.forgive("li", here);
        failures.count("li", here, now + FORGOTTEN).unwrap();

        let neighbours = ("2001:db8::1".parse().ok(), "2001:db8::2".parse().ok());
        for _ in 0..FAILURES {
            failures.count("li", neighbours.0, now).unwrap();
        }
        failures.count("li", neighbours.1, now).unwrap_err();
    }

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
