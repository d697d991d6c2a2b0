//! What asks for the pages: a browser without JavaScript, and looks behind the scene.

use std::time::Duration;

use countersign_domain::{Action, AuditEvent, EventName, StateName};
use countersign_store::AuditFilter;
use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::stage::{PASSWORD, Stage};

/// A browser without JavaScript: keeps its cookie, sends its origin, follows nothing by itself.
pub struct Browser {
    pub client: reqwest::Client,
    pub base: String,
    pub cookie: Option<String>,
}

pub struct Page {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Page {
    pub fn location(&self) -> &str {
        self.headers[LOCATION].to_str().unwrap()
    }

    /// The value of a hidden field.
    pub fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let at = self
            .body
            .find(&start)
            .unwrap_or_else(|| panic!("no field {name}"))
            + start.len();
        self.body[at..].split('"').next().unwrap().to_owned()
    }

    pub fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}

impl Browser {
    pub fn new(stage: &Stage) -> Self {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self {
            client,
            base: stage.url.clone(),
            cookie: None,
        }
    }

    pub async fn logged_in(stage: &Stage, person: &str) -> Self {
        let mut browser = Self::new(stage);
        let page = browser.log_in(person, PASSWORD, "/").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
        browser
    }

    pub async fn log_in(&mut self, person: &str, password: &str, next: &str) -> Page {
        let fields = [("person", person), ("password", password), ("next", next)];
        let page = self.post("/login", &fields).await;
        if let Some(cookie) = page.headers.get(SET_COOKIE) {
            let pair = cookie
                .to_str()
                .unwrap()
                .split(';')
                .next()
                .unwrap()
                .to_owned();
            self.cookie = Some(pair);
        }
        page
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        }
    }

    pub async fn send(request: RequestBuilder) -> Page {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Page {
            status,
            headers,
            body: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Page {
        Self::send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        Self::send(
            self.request(Method::POST, path)
                .header(ORIGIN, &self.base)
                .form(fields),
        )
        .await
    }

    /// Answers with what the page's form holds.
    pub async fn answer(&self, id: &str, page: &Page, verb: &str, reason: &str) -> Page {
        let (csrf, digest, version) = (
            page.field("csrf"),
            page.field("digest"),
            page.field("version"),
        );
        let fields = [
            ("csrf", csrf.as_str()),
            ("digest", &digest),
            ("version", &version),
            ("verb", verb),
            ("reason", reason),
        ];
        self.post(&format!("/actions/{id}/decision"), &fields).await
    }
}

pub async fn state(stage: &Stage, action: &Action) -> StateName {
    stage
        .store
        .get(action.id)
        .await
        .unwrap()
        .unwrap()
        .state
        .name()
}

pub async fn events(stage: &Stage, action: &Action, name: EventName) -> Vec<AuditEvent> {
    let filter = AuditFilter {
        action: Some(action.id),
        event: Some(name.as_str().into()),
        limit: 100,
        ..AuditFilter::default()
    };
    stage
        .store
        .audit_list(&filter)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.event)
        .collect()
}
