//! Sessions: who is looking. The cookie holds a random secret, the database only its hash. And
//! [`Submitted`], the only way for a handler to get at a form: it has checked the token.

use axum::body::{Bytes, to_bytes};
use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use constant_time_eq::constant_time_eq;
use countersign_domain::{Digest, random_token};
use countersign_store::Session;
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;

use super::error::WebError;
use super::{LARGEST_FORM, Shared, Web};

const LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// The token that our own forms of this session carry.
#[derive(Clone)]
pub(super) struct Csrf(String);

impl Csrf {
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn fits(&self, given: &str) -> bool {
        constant_time_eq(self.0.as_bytes(), given.as_bytes())
    }
}

/// A person with a session that stands: the registry and the accounts still know them, by the password
/// of then.
pub(super) struct SignedIn {
    pub person: String,
    pub name: String,
    pub csrf: Csrf,
    pub token_hash: String,
}

impl FromRequestParts<Shared> for SignedIn {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, web: &Shared) -> Result<Self, WebError> {
        match current(web, &parts.headers).await? {
            Some(who) => Ok(who),
            None => Err(log_in_first(parts)),
        }
    }
}

/// Where to go on after the log-in: the page, never the address of a form, a fragment or a stream.
fn log_in_first(parts: &Parts) -> WebError {
    let path = parts.uri.path();
    if path.ends_with("/fragment") || path.ends_with("/events") {
        return WebError::NotLoggedIn;
    }
    let next = match path.strip_suffix("/decision") {
        Some(page) => page.to_owned(),
        None => parts
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
    };
    WebError::LogInFirst { next }
}

/// The session of these headers, if it stands.
pub(super) async fn current(web: &Web, headers: &HeaderMap) -> Result<Option<SignedIn>, WebError> {
    let Some(secret) = secret_in(web, headers) else {
        return Ok(None);
    };
    by_hash(web, &hash_of(&secret)).await
}

/// The same for a stream that outlives its request.
pub(super) async fn by_hash(web: &Web, token_hash: &str) -> Result<Option<SignedIn>, WebError> {
    let now = web.app.clock.now();
    let Some(session) = web.app.store.session_get(token_hash, now).await? else {
        return Ok(None);
    };
    let rules = web.app.rules();
    let stands = csrf(web, token_hash, &session.person)
        .is_some_and(|csrf| constant_time_eq(csrf.as_bytes(), session.csrf.as_bytes()));
    Ok(rules
        .registry
        .valid_person(&session.person, now)
        .filter(|_| stands)
        .map(|person| SignedIn {
            person: person.id.clone(),
            name: person.name.clone(),
            csrf: Csrf(session.csrf),
            token_hash: session.token_hash,
        }))
}

/// Makes a session and the `Set-Cookie` that carries its secret.
pub(super) async fn begin(web: &Web, person: &str) -> Result<HeaderValue, WebError> {
    let now = web.app.clock.now();
    let secret = random_token(&*web.app.entropy);
    let token_hash = hash_of(&secret);
    let csrf = csrf(web, &token_hash, person).ok_or(WebError::Internal("no such account"))?;
    let session = Session {
        token_hash,
        person: person.to_owned(),
        csrf,
        created_at: now,
        expires_at: now + LIFETIME,
    };
    web.app.store.session_create(&session).await?;
    cookie(web, &secret, LIFETIME.as_secs())
}

/// Ends it, and takes the cookie back.
pub(super) async fn end(web: &Web, token_hash: &str) -> Result<HeaderValue, WebError> {
    web.app.store.session_delete(token_hash).await?;
    cookie(web, "", 0)
}

fn cookie(web: &Web, value: &str, seconds: i64) -> Result<HeaderValue, WebError> {
    // Lax, not Strict: Strict would lose the session on a link from chat.
    let secure = if is_https(web) { "; Secure" } else { "" };
    let text = format!(
        "{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}",
        cookie_name(web)
    );
    let mut header = HeaderValue::from_str(&text)
        .map_err(|_| WebError::Internal("the session cookie is not a header value"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn is_https(web: &Web) -> bool {
    web.app.external_url.scheme() == "https"
}

fn cookie_name(web: &Web) -> &'static str {
    if is_https(web) {
        "__Host-countersign"
    } else {
        "countersign"
    }
}

fn secret_in(web: &Web, headers: &HeaderMap) -> Option<String> {
    let name = cookie_name(web);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, value)| *key == name && value.len() == 64)
        .map(|(_, value)| value.to_owned())
}

/// SHA-256 with a prefix of its own: a stolen database gives no session.
fn hash_of(secret: &str) -> String {
    Digest::of("countersign-session/v1", secret.as_bytes()).to_string()
}

/// The token of a session's forms, while its person has an account. It is made of the account's
/// password hash, too: with a new password the stored one is no longer this one, and the session over.
fn csrf(web: &Web, token_hash: &str, person: &str) -> Option<String> {
    let accounts = &web.app.loaded.config.accounts;
    let account = accounts.iter().find(|account| account.person == person)?;
    let password = account.password_hash.expose_secret();
    let both = format!("{token_hash} {password}");
    Some(Digest::of("countersign-csrf/v1", both.as_bytes()).to_string())
}

/// A form of ours: sent by a person with a session, carrying that session's token.
pub(super) struct Submitted<T> {
    pub who: SignedIn,
    pub form: T,
}

impl<T: DeserializeOwned> FromRequest<Shared> for Submitted<T> {
    type Rejection = WebError;

    async fn from_request(request: Request, web: &Shared) -> Result<Self, WebError> {
        let (mut parts, body) = request.into_parts();
        let who = SignedIn::from_request_parts(&mut parts, web).await?;
        let body: Bytes = to_bytes(body, LARGEST_FORM)
            .await
            .map_err(|_| WebError::TooLarge)?;
        let mut tokens = url::form_urlencoded::parse(&body)
            .filter(|(key, _)| key == "csrf")
            .map(|(_, v)| v);
        let fits = tokens.next().is_some_and(|token| who.csrf.fits(&token));
        if !fits || tokens.next().is_some() {
            return Err(WebError::Forbidden {
                sentence: "This form does not belong to your present log-in. Open the page again \
                           and repeat what you did."
                    .to_owned(),
                action: None,
            });
        }
        let request = Request::from_parts(parts, body.into());
        let Form(form) = Form::<T>::from_request(request, web).await.map_err(|_| {
            WebError::BadRequest("The form is incomplete. Open the page again.".to_owned())
        })?;
        Ok(Self { who, form })
    }
}
