//! An approver, by real HTTP: logs in, opens the page, submits the form that the page offers.

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Response, StatusCode, redirect};

pub struct Person {
    pub id: String,
    base: String,
    client: Client,
}

/// A page's form for deciding: what the browser would post.
#[derive(Debug, Clone)]
pub struct Form {
    pub csrf: String,
    pub digest: String,
    pub version: String,
}

impl Person {
    pub async fn log_in(base: &str, id: &str, password: &str) -> Result<Self> {
        let client = Client::builder()
            .cookie_store(true)
            .redirect(redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(20))
            .build()?;
        let person = Self {
            id: id.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
            client,
        };
        let page = person.get("/login").await?;
        let fields = fields(&page);
        let mut form = vec![("person", id.to_owned()), ("password", password.to_owned())];
        if let Some(csrf) = fields.get("csrf") {
            form.push(("csrf", csrf.clone()));
        }
        let answer = person.post("/login", &form).await?;
        if answer.status() != StatusCode::SEE_OTHER {
            bail!("log-in of {id}: {}", answer.status());
        }
        Ok(person)
    }

    pub async fn response(&self, path: &str) -> Result<Response> {
        Ok(self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .await?)
    }

    pub async fn get(&self, path: &str) -> Result<String> {
        let answer = self.response(path).await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("GET {path}: {status}");
        }
        Ok(text)
    }

    pub async fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Response> {
        Ok(self
            .client
            .post(format!("{}{path}", self.base))
            .header("origin", &self.base)
            .form(form)
            .send()
            .await?)
    }

    /// Opens the action's page; fails when it offers no form.
    pub async fn form(&self, action: &str) -> Result<Form> {
        let page = self.get(&format!("/actions/{action}/approve")).await?;
        let fields = fields(&page);
        let field = |name: &str| {
            fields
                .get(name)
                .cloned()
                .with_context(|| format!("the page offers no `{name}` field"))
        };
        Ok(Form {
            csrf: field("csrf")?,
            digest: field("digest")?,
            version: field("version")?,
        })
    }

    pub async fn decide(&self, action: &str, verb: &str, reason: &str) -> Result<Response> {
        let form = self.form(action).await?;
        self.submit(action, verb, reason, &form).await
    }

    pub async fn submit(
        &self,
        action: &str,
        verb: &str,
        reason: &str,
        form: &Form,
    ) -> Result<Response> {
        self.post(
            &format!("/actions/{action}/decision"),
            &[
                ("csrf", form.csrf.clone()),
                ("digest", form.digest.clone()),
                ("version", form.version.clone()),
                ("verb", verb.to_owned()),
                ("reason", reason.to_owned()),
            ],
        )
        .await
    }

    pub async fn approve(&self, action: &str, reason: &str) -> Result<()> {
        expect_redirect(self.decide(action, "approve", reason).await?).await
    }

    pub async fn reject(&self, action: &str, reason: &str) -> Result<()> {
        expect_redirect(self.decide(action, "reject", reason).await?).await
    }
}

async fn expect_redirect(answer: Response) -> Result<()> {
    let status = answer.status();
    if status == StatusCode::SEE_OTHER {
        return Ok(());
    }
    bail!(
        "the decision was answered with {status}: {}",
        strip(&answer.text().await?)
    )
}

/// The text of a page, tags removed: for errors and for assertions on what a person reads.
pub fn strip(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Hidden fields of a page by name. Enough of a parser for our own markup.
pub fn fields(html: &str) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    for tag in html.split("<input").skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let attribute = |name: &str| {
            tag.split(&format!("{name}=\""))
                .nth(1)
                .and_then(|rest| rest.split('"').next())
        };
        if let (Some(name), Some(value)) = (attribute("name"), attribute("value")) {
            found.insert(name.to_owned(), value.to_owned());
        }
    }
    found
}
