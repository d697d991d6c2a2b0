//! Wakes people: a signed webhook and a Slack-compatible one. A message carries a link and never a way
//! to decide. At least once: a receiver drops repeats by `webhook-id`, which stays the same for one
//! moment of one action however often it is sent.

use std::time::Duration;

use countersign_domain::{EventName, Signed, StateName, Statement, one_line};
use countersign_store::{ActionDetail, OutboxItem};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::outbox::{Handled, Trouble, unknown};
use super::settings::{NotifySettings, SecretUrl, SettingsError, WebhookSettings};
use super::story::{self, Moment};
use super::{Context, evidence, slack, standard_webhook};

/// A receiver that takes longer than this is retried.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Notifier {
    client: reqwest::Client,
    webhook: Option<WebhookSettings>,
    slack: Option<SecretUrl>,
}

/// Who is told. Each has outbox rows of its own, so that none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiver {
    Webhook,
    Slack,
}

impl Receiver {
    const fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
        }
    }
}

/// The four kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Asked,
    Reminded,
    Decided,
    Outcome,
}

impl Kind {
    /// `None`: nobody is woken for this moment.
    fn of(moment: Moment) -> Option<Self> {
        use StateName as S;
        Some(match moment {
            Moment::Asked => Self::Asked,
            Moment::Reminder => Self::Reminded,
            Moment::State(S::Approved | S::Rejected | S::Pending) => Self::Decided,
            Moment::State(S::Checking | S::Executing) | Moment::Held => return None,
            Moment::State(_) => Self::Outcome,
        })
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Asked => "action.asked",
            Self::Reminded => "action.reminded",
            Self::Decided => "action.decided",
            Self::Outcome => "action.outcome",
        }
    }
}

/// What is told, before it takes a receiver's form.
struct Message {
    id: String,
    kind: Kind,
    sentence: String,
    data: Value,
    change: String,
    url: String,
}

impl Notifier {
    pub fn new(settings: NotifySettings) -> Result<Self, SettingsError> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Self {
            client,
            webhook: settings.webhook,
            slack: settings.slack,
        })
    }

    fn has(&self, receiver: Receiver) -> bool {
        match receiver {
            Receiver::Webhook => self.webhook.is_some(),
            Receiver::Slack => self.slack.is_some(),
        }
    }

    /// Sends one row to its receiver, if there is one.
    pub async fn deliver(
        &self,
        context: &Context,
        item: &OutboxItem,
        receiver: Receiver,
    ) -> Handled {
        let word = item.moment.as_str();
        let moment = Moment::from_word(word).ok_or_else(|| unknown(word))?;
        let Some(kind) = Kind::of(moment) else {
            return Ok(None);
        };
        if !self.has(receiver) {
            return Ok(None);
        }
        let Some(detail) = context.app.store.detail(item.action).await? else {
            return Ok(None);
        };
        // A reminder of what is decided already would wake somebody for nothing.
        if moment == Moment::Reminder && detail.action.state.name() != StateName::Pending {
            return Ok(None);
        }
        let message = compose(context, &detail, moment, kind, item);
        self.send(context, receiver, &message).await?;
        Ok(Some(
            context
                .event(EventName::Notified, "countersign")
                .about(item.action)
                .with("moment", word)
                .with("receiver", receiver.word()),
        ))
    }

    async fn send(
        &self,
        context: &Context,
        receiver: Receiver,
        message: &Message,
    ) -> Result<(), Trouble> {
        let name = receiver.word();
        let request = match receiver {
            Receiver::Webhook => {
                let Some(target) = &self.webhook else {
                    return Ok(());
                };
                let now = context.app.clock.now();
                let body = json!({
                    "type": message.kind.word(),
                    "timestamp": now.to_string(),
                    "data": message.data,
                })
                .to_string();
                let seconds = now.as_second();
                let signature = standard_webhook::signature(
                    target.key.expose_secret(),
                    &message.id,
                    seconds,
                    body.as_bytes(),
                );
                self.client
                    .post(target.url.expose())
                    .header("content-type", "application/json")
                    .header("webhook-id", &message.id)
                    .header("webhook-timestamp", seconds.to_string())
                    .header("webhook-signature", signature)
                    .body(body)
            }
            Receiver::Slack => {
                let Some(target) = &self.slack else {
                    return Ok(());
                };
                let body = json!({
                    "text": slack_text(message),
                    "mrkdwn": false,
                    "link_names": false,
                    "unfurl_links": false,
                    "unfurl_media": false,
                });
                self.client
                    .post(target.expose())
                    .header("content-type", "application/json")
                    .body(body.to_string())
            }
        };
        // The address of an incoming webhook is a secret: it may not stand in an error.
        let answer = request.send().await.map_err(|error| {
            Trouble::new(format!("{name}: {}", source_chain(&error.without_url())))
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        Err(Trouble::new(format!("{name}: the receiver answered {status}")).not_before(after))
    }
}

fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    one_line(&text, 300)
}

fn compose(
    context: &Context,
    detail: &ActionDetail,
    moment: Moment,
    kind: Kind,
    item: &OutboxItem,
) -> Message {
    let app = &context.app;
    let action = &detail.action;
    let statement = evidence::statement(action, &app.executor_keys, app.clock.now());
    let signed: Option<&Signed<Statement>> = statement.as_ref().and_then(|s| s.as_ref().ok());
    let target = &action.proposal.target;
    let change = match (&signed, &statement) {
        (Some(signed), _) => signed.body().change(),
        (None, Some(_)) => {
            "The stored statement was not signed by the executor: decide nothing".to_owned()
        }
        (None, None) => format!(
            "{} {}/{}",
            action.proposal.kind, target.namespace, target.name
        ),
    };
    let change = one_line(&change, 600);
    let url = app.action_url(action.id);
    let registry = app.rules().registry;
    let why = story::why(detail, moment, &app.executor_keys);
    let data = json!({
        "action_id": action.id.to_string(),
        "state": action.state.name().as_str(),
        "change": change,
        "cluster": target.cluster,
        "namespace": target.namespace,
        "agent": one_line(&action.proposal.agent, 100),
        "url": url,
        "decide_by": signed.map(|signed| signed.body().decide_by.to_string()),
        "code": why.as_ref().and_then(|why| why.code.as_deref()),
        "reason": why.as_ref().map(|why| why.message.as_str()),
        "simulated": app.clusters.get(&target.cluster).is_some_and(|cluster| cluster.simulated),
    });
    let mut sentence = match (kind, signed) {
        (Kind::Asked | Kind::Reminded, Some(signed)) => {
            let head = if kind == Kind::Asked {
                "Approval needed"
            } else {
                "Still waiting"
            };
            let body = signed.body();
            format!(
                "{head} by {} ({} risk), asked by {}.",
                body.decide_by,
                body.risk,
                one_line(&body.agent, 100)
            )
        }
        _ => story::sentence(detail, moment, &registry, &app.executor_keys),
    };
    if kind == Kind::Asked && action.state.name() != StateName::Pending {
        sentence = format!(
            "Told late: it is {} by now. {sentence}",
            action.state.name()
        );
    }
    Message {
        id: format!("msg_{}_{}_{}", action.id, item.moment, item.id),
        kind,
        sentence,
        data,
        change,
        url,
    }
}

fn slack_text(message: &Message) -> String {
    let simulated = match message.data["simulated"].as_bool() {
        Some(true) => "(simulated cluster) ",
        _ => "",
    };
    format!(
        "{simulated}{}\n{}\n{}",
        slack::plain(&message.sentence),
        slack::plain(&message.change),
        message.url
    )
}
