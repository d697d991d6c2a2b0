//! A real browser: headless Chromium through its WebDriver, spoken to over plain HTTP.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    port: u16,
    session: String,
    base: String,
    client: reqwest::Client,
    _driver: Child,
    _profile: tempfile::TempDir,
}

/// Ends the session, and with it Chromium: killing the driver alone would leave the browser behind.
/// Without async, so that it also happens when a test panics.
impl Drop for Browser {
    fn drop(&mut self) {
        use std::io::{Read as _, Write as _};
        let Ok(mut driver) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else {
            return;
        };
        let _ = driver.set_read_timeout(Some(Duration::from_secs(10)));
        let request = format!(
            "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            self.session
        );
        if driver.write_all(request.as_bytes()).is_ok() {
            let _ = driver.read(&mut [0; 256]);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Light,
    Dark,
}

impl Browser {
    pub async fn start() -> Result<Self> {
        let port = super::free_port()?;
        let profile = tempfile::tempdir()?;
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("chromedriver: install the Debian package chromium-driver")?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()?;
        let root = format!("http://127.0.0.1:{port}");
        let start = Instant::now();
        while client.get(format!("{root}/status")).send().await.is_err() {
            if start.elapsed() > Duration::from_secs(30) {
                bail!("chromedriver does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
        }}});
        let session: Value = client
            .post(format!("{root}/session"))
            .json(&wanted)
            .send()
            .await?
            .json()
            .await?;
        let id = session["value"]["sessionId"]
            .as_str()
            .with_context(|| format!("no browser session: {session}"))?;
        Ok(Self {
            port,
            session: id.to_owned(),
            base: format!("{root}/session/{id}"),
            client,
            _driver: driver,
            _profile: profile,
        })
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let answer: Value = self
            .client
            .post(format!("{}{path}", self.base))
            .json(&body)
            .send()
            .await?
            .json()
            .await?;
        if let Some(error) = answer["value"]["error"].as_str() {
            bail!(
                "browser: {error}: {}",
                answer["value"]["message"].as_str().unwrap_or_default()
            );
        }
        Ok(answer["value"].clone())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer: Value = self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .await?
            .json()
            .await?;
        Ok(answer["value"].clone())
    }

    pub async fn open(&self, url: &str) -> Result<()> {
        self.post("/url", json!({"url": url})).await.map(|_| ())
    }

    pub async fn url(&self) -> Result<String> {
        Ok(self
            .get("/url")
            .await?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// The size of the page area and the colour scheme that the page is told.
    pub async fn look_like(&self, width: u32, height: u32, scheme: Scheme) -> Result<()> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        let value = if scheme == Scheme::Dark {
            "dark"
        } else {
            "light"
        };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.cdp("Emulation.setEmulatedMedia", features).await
    }

    async fn cdp(&self, command: &str, parameters: Value) -> Result<()> {
        self.post(
            "/goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        )
        .await
        .map(|_| ())
    }

    /// Runs a script in the page and returns its value.
    pub async fn script(&self, script: &str) -> Result<Value> {
        self.post("/execute/sync", json!({"script": script, "args": []}))
            .await
    }

    async fn find(&self, css: &str) -> Result<String> {
        let element = self
            .post("/element", json!({"using": "css selector", "value": css}))
            .await?;
        Ok(element[ELEMENT]
            .as_str()
            .context("no such element")?
            .to_owned())
    }

    pub async fn type_into(&self, css: &str, text: &str) -> Result<()> {
        let element = self.find(css).await?;
        self.post(&format!("/element/{element}/value"), json!({"text": text}))
            .await
            .map(|_| ())
    }

    pub async fn click(&self, css: &str) -> Result<()> {
        let element = self.find(css).await?;
        self.post(&format!("/element/{element}/click"), json!({}))
            .await
            .map(|_| ())
    }

    /// What a person reads on the page.
    pub async fn text(&self) -> Result<String> {
        let text = self.script("return document.body.innerText").await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page says this, without touching it.
    pub async fn until_text(&self, word: &str, within: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            // A page that is just being replaced answers with an error for a moment.
            let text = self.text().await.unwrap_or_default();
            if text.to_lowercase().contains(&word.to_lowercase()) {
                return Ok(());
            }
            if start.elapsed() > within {
                bail!("the page never said `{word}`: {text}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Pixels by which the page is wider than its window: 0 unless something overflows.
    pub async fn overflow(&self) -> Result<i64> {
        let script =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        Ok(self.script(script).await?.as_i64().unwrap_or(-1))
    }

    /// What the accessibility checker `axe` (its source is given) finds against WCAG 2.2, levels A
    /// and AA: each violation with where it is.
    pub async fn violations(&self, axe: &str) -> Result<Vec<String>> {
        const CHECK: &str = r"
            const done = arguments[arguments.length - 1];
            const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
            axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})
                .then(found => done([found.passes.length].concat(found.violations.map(rule =>
                    rule.id + ': ' + rule.help + ': ' + rule.nodes.map(node =>
                        node.html + ' ' + (node.failureSummary || '')).join(' | ')))),
                    error => done([1, String(error)]));";
        let script = format!("{axe}\n{CHECK}");
        let body = json!({"script": script, "args": []});
        let found = self.post("/execute/async", body).await?;
        let found = found.as_array().context("axe gave no list")?;
        if found.first().and_then(Value::as_u64).unwrap_or_default() == 0 {
            bail!("axe checked nothing");
        }
        let texts = found.iter().skip(1).filter_map(Value::as_str);
        Ok(texts.map(str::to_owned).collect())
    }

    /// The whole page as PNG.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        let shot = self
            .post(
                "/goog/cdp/execute",
                json!({"cmd": "Page.captureScreenshot", "params": {"captureBeyondViewport": true}}),
            )
            .await?;
        let data = shot["data"].as_str().context("no picture")?;
        std::fs::write(
            file,
            base64::engine::general_purpose::STANDARD.decode(data)?,
        )?;
        Ok(())
    }
}
