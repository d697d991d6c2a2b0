//! Faults to play on the Kubernetes API: set by the control endpoint, met by ordinary requests.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::access::Account;
use super::request::Attributes;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing is done; the connection closes when the fault ends.
    Timeout,
    /// Nothing is done; 500 InternalError.
    #[serde(rename = "500")]
    Internal,
    /// Nothing is done; 503 ServiceUnavailable.
    #[serde(rename = "503")]
    Unavailable,
    /// Done, after `delay_ms` (2000).
    Slow,
    /// Done, but the connection closes without an answer.
    LoseAnswer,
    /// Ends all faults.
    None,
}

/// The body of `POST /playground/fail`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// How long it lasts; ten minutes when only `count` limits it.
    #[serde(default = "ten_minutes")]
    for_ms: u64,
    /// How many requests it meets.
    count: Option<u32>,
    #[serde(default = "two_seconds")]
    delay_ms: u64,
    /// Only this verb (`create`, `get`, ...).
    verb: Option<String>,
    /// Only this resource (`pods`, `pods/eviction`).
    resource: Option<String>,
    /// Only this account.
    account: Option<FaultAccount>,
    #[serde(skip)]
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum FaultAccount {
    Server,
    Executor,
    Admin,
}

fn ten_minutes() -> u64 {
    600_000
}

fn two_seconds() -> u64 {
    2000
}

/// What a request has to suffer.
#[derive(Clone, Copy, Debug)]
pub struct Suffering {
    pub kind: FaultKind,
    pub delay: Duration,
    pub until: Instant,
}

#[derive(Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn add(&mut self, mut fault: Fault) {
        if fault.kind == FaultKind::None {
            self.0.clear();
            return;
        }
        fault.until = Some(Instant::now() + Duration::from_millis(fault.for_ms));
        self.0.push(fault);
    }

    /// The first fault that this request meets; counts it.
    pub fn meet(&mut self, account: Account, request: &Attributes) -> Option<Suffering> {
        let now = Instant::now();
        self.0
            .retain(|fault| fault.until.is_some_and(|until| until > now) && fault.count != Some(0));
        let fault = self
            .0
            .iter_mut()
            .find(|fault| fault.meets(account, request))?;
        if let Some(count) = &mut fault.count {
            *count -= 1;
        }
        Some(Suffering {
            kind: fault.kind,
            delay: Duration::from_millis(fault.delay_ms),
            until: fault.until.unwrap_or(now),
        })
    }
}

impl Fault {
    fn meets(&self, account: Account, request: &Attributes) -> bool {
        let resource = if request.subresource.is_empty() {
            request.resource.clone()
        } else {
            format!("{}/{}", request.resource, request.subresource)
        };
        let met = match self.account {
            None => true,
            Some(FaultAccount::Server) => account == Account::Server,
            Some(FaultAccount::Executor) => account == Account::Executor,
            Some(FaultAccount::Admin) => account == Account::Admin,
        };
        met && self.verb.as_deref().is_none_or(|verb| verb == request.verb)
            && self
                .resource
                .as_deref()
                .is_none_or(|wanted| wanted == resource)
    }
}
