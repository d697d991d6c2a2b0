//! The simulated Jira: the part of Jira Cloud's REST API v3 that Countersign uses, its webhooks,
//! and a small page for the people of the demo.

mod activity;
mod adf;
mod control;
mod issues;
mod page;
mod people;
mod search;
mod state;
mod webhook;
mod workflow;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get, post, put};
use axum::{extract::DefaultBodyLimit, middleware};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Running, StartError, private_file, serve};
use people::People;
use state::{ISSUE_TYPE_ID, ISSUE_TYPE_NAME, Jira, PROJECT_ID, PROJECT_KEY, Refusal, Shared};
use workflow::Status;

const BODY_LIMIT: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Receives jira.json.
    pub dir: PathBuf,
    pub webhook_url: Option<url::Url>,
    /// Whether the per-issue limit on writes is in force.
    pub rate_limit: bool,
}

#[derive(Debug)]
pub struct Started {
    pub server: Running,
    /// Accounts with tokens, ids and the webhook secret.
    pub credentials: PathBuf,
}

impl Started {
    /// The line on standard output that says "ready"; it holds no credential.
    pub fn ready(&self) -> Value {
        json!({
            "ready": true, "simulated": true, "kind": "jira", "url": self.server.url(),
            "credentials": self.credentials,
        })
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        Self::into_response(self)
    }
}

/// Binds, writes jira.json and starts to answer.
pub async fn start(options: Options) -> Result<Started, StartError> {
    let listener = serve::bind(options.listen).await?;
    let url = format!(
        "http://{}",
        listener.local_addr().map_err(StartError::Address)?
    );
    private_file::make_dir(&options.dir)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(StartError::Client)?;
    let mut jira = Jira::default();
    jira.webhook.url = options.webhook_url;
    let stop = CancellationToken::new();
    let shared = Shared::new(
        jira,
        People::random(),
        url,
        options.rate_limit,
        client,
        stop.clone(),
    );
    let credentials = format!("{:#}\n", describe(&shared));
    let credentials = private_file::write(&options.dir, "jira.json", &credentials)?;
    let server = serve::spawn(listener, routes(shared), stop)?;
    Ok(Started {
        server,
        credentials,
    })
}

/// What jira.json says.
fn describe(shared: &Shared) -> Value {
    let users: Map<String, Value> = shared
        .people
        .iter()
        .map(|person| {
            let user = json!({
                "account_id": person.account_id, "display_name": person.display_name,
                "email": person.email, "token": person.token,
                "login_url": format!("{}/?as={}", shared.url, person.token),
            });
            (person.slug.to_owned(), user)
        })
        .collect();
    let statuses: Map<String, Value> = Status::ALL
        .iter()
        .map(|status| (status.slug().to_owned(), status.id().into()))
        .collect();
    json!({
        "simulated": true, "url": shared.url,
        "project": {"id": PROJECT_ID, "key": PROJECT_KEY},
        "issue_type": {"id": ISSUE_TYPE_ID, "name": ISSUE_TYPE_NAME},
        "statuses": statuses, "webhook_secret": shared.webhook_secret, "users": users,
    })
}

fn routes(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route("/myself", get(issues::myself))
        .route("/serverInfo", get(issues::server_info))
        .route("/issue", post(issues::create))
        .route(
            "/issue/createmeta/{project}/issuetypes",
            get(issues::create_meta_types),
        )
        .route(
            "/issue/createmeta/{project}/issuetypes/{type}",
            get(issues::create_meta),
        )
        .route("/issue/{key}", get(issues::get).put(issues::edit))
        .route("/issue/{key}/changelog", get(issues::changelog))
        .route(
            "/issue/{key}/transitions",
            get(activity::transitions).post(activity::transition),
        )
        .route(
            "/issue/{key}/comment",
            get(activity::comments).post(activity::add_comment),
        )
        .route(
            "/issue/{key}/comment/{id}",
            put(activity::edit_comment).get(activity::get_comment),
        )
        .route(
            "/issue/{key}/remotelink",
            get(activity::links).post(activity::put_link),
        )
        .route("/search/jql", get(search::get).post(search::post))
        .fallback(|| async {
            Refusal::not_found("null for uri: the playground has no such resource")
        })
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            control::gate,
        ));
    Router::new()
        .nest("/rest/api/3", api)
        .route("/playground/{*action}", any(control::control))
        .route("/playground.css", get(page::style))
        .route("/", get(page::index))
        .route("/browse/{key}", get(page::browse))
        .route("/browse/{key}/move", post(page::move_ticket))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}
