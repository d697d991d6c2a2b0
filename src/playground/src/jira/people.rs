//! Accounts of the simulated site: two robots, three people of the team, an administrator.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use constant_time_eq::constant_time_eq;
use serde_json::{Value, json};

use crate::random;

/// Which account; also its place in [`People`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Bot,
    ExecutorBot,
    Maria,
    Li,
    Omar,
    Admin,
}

impl Who {
    pub const ALL: [Self; 6] = [
        Self::Bot,
        Self::ExecutorBot,
        Self::Maria,
        Self::Li,
        Self::Omar,
        Self::Admin,
    ];

    pub fn is_robot(self) -> bool {
        matches!(self, Self::Bot | Self::ExecutorBot)
    }

    /// The executor's account can look and nothing else.
    pub fn may_write(self) -> bool {
        self != Self::ExecutorBot
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    Known(Who),
    /// No credentials, or wrong ones: Jira treats both as anonymous.
    Anonymous,
}

pub struct Person {
    pub who: Who,
    /// Its name in jira.json.
    pub slug: &'static str,
    pub display_name: &'static str,
    pub email: &'static str,
    pub account_id: String,
    pub token: String,
}

pub struct People([Person; 6]);

impl People {
    pub fn random() -> Self {
        Self(Who::ALL.map(|who| {
            let (slug, display_name, email) = match who {
                Who::Bot => (
                    "bot",
                    "countersign-bot",
                    "countersign-bot@playground.example",
                ),
                Who::ExecutorBot => (
                    "executor_bot",
                    "countersign-executor-bot",
                    "countersign-executor-bot@playground.example",
                ),
                Who::Maria => ("maria", "Maria Keller", "maria.keller@playground.example"),
                Who::Li => ("li", "Li Wei", "li.wei@playground.example"),
                Who::Omar => ("omar", "Omar Haddad", "omar.haddad@playground.example"),
                Who::Admin => ("admin", "Playground Admin", "admin@playground.example"),
            };
            let account_id = format!("712020:{}", random::uuid());
            Person {
                who,
                slug,
                display_name,
                email,
                account_id,
                token: random::token(),
            }
        }))
    }

    pub fn get(&self, who: Who) -> &Person {
        &self.0[who as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Person> {
        self.0.iter()
    }

    /// Basic authentication with e-mail address and API token.
    pub fn visitor(&self, authorization: Option<&http::HeaderValue>) -> Visitor {
        let known = authorization.and_then(|header| {
            let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
            let (email, token) = decoded.split_once(':')?;
            let person = self.by_token(token)?;
            person
                .email
                .eq_ignore_ascii_case(email)
                .then_some(person.who)
        });
        known.map_or(Visitor::Anonymous, Visitor::Known)
    }

    pub fn by_token(&self, token: &str) -> Option<&Person> {
        self.iter()
            .find(|person| constant_time_eq(person.token.as_bytes(), token.as_bytes()))
    }

    /// The user object of API answers. Cloud sites hide e-mail addresses from others.
    pub fn user(&self, who: Who, url: &str) -> Value {
        let person = self.get(who);
        json!({
            "self": format!("{url}/rest/api/3/user?accountId={}", person.account_id),
            "accountId": person.account_id, "displayName": person.display_name, "active": true,
            "timeZone": "Etc/UTC", "accountType": "atlassian", "avatarUrls": {},
        })
    }
}
