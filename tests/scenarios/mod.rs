//! The scenarios of the main story. Each checks what it claims and tells its evidence, so that the
//! tests and `cargo demo --walkthrough` play the same ones.

mod attacks;
mod outcomes;
mod restore;

pub use attacks::{forged_decision, forged_state, set_back_while_it_runs};
pub use outcomes::{
    budget_without_room, page_approval, pod_replaced, rejection, replacement_never_ready,
    three_at_once, ticket_approval, two_answers_at_once,
};
pub use restore::{database_from_before_admission, database_from_before_execution};

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::stack::Stack;
use crate::stack::ai::{Ai, Answer};
use crate::stack::cluster::Pod;
use crate::stack::person::strip;

/// How long anything may take that should be quick.
pub const SOON: Duration = Duration::from_secs(25);

/// A scenario under way: its stack, its AI, and where its evidence is told.
pub struct Scene<'a> {
    pub stack: &'a Stack,
    pub ai: Ai,
    tell: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Scene<'a> {
    pub async fn new(stack: &'a Stack, tell: &'a (dyn Fn(&str) + Sync)) -> Result<Self> {
        Ok(Self {
            stack,
            ai: stack.ai().await?,
            tell,
        })
    }

    pub fn tell(&self, evidence: &str) {
        (self.tell)(evidence);
    }

    /// A workload with one failing pod, and a proposal to restart it.
    async fn proposed(
        &self,
        namespace: &str,
        app: &str,
        replicas: usize,
        replacement: &str,
    ) -> Result<(Pod, String)> {
        let pod = self
            .stack
            .cluster
            .deploy(namespace, app, replicas, 1, replacement)
            .await?;
        let id = self.proposed_for(namespace, &pod).await?;
        Ok((pod, id))
    }

    /// A proposal to restart this pod.
    async fn proposed_for(&self, namespace: &str, pod: &Pod) -> Result<String> {
        let answer = self
            .ai
            .restart(namespace, &pod.name, "crash loop since the deploy")
            .await?;
        ensure!(
            answer.str("state") == "pending",
            "not admitted: {}",
            answer.text
        );
        let id = answer.str("action_id").to_owned();
        self.tell(&format!(
            "AI proposed restart_pod {namespace}/{}: action {id}",
            pod.name
        ));
        self.nothing_sent(pod).await?;
        Ok(id)
    }

    async fn nothing_sent(&self, pod: &Pod) -> Result<()> {
        let sent = self.stack.cluster.evictions_sent(&pod.name).await?;
        ensure!(
            sent == 0,
            "{sent} evictions of {} were sent; none was allowed",
            pod.name
        );
        Ok(())
    }

    async fn exactly_one_eviction(&self, pod: &Pod) -> Result<()> {
        let count = self.stack.cluster.evictions(&pod.name).await?;
        ensure!(count == 1, "{count} evictions of {} took effect", pod.name);
        self.tell(&format!(
            "API server's own log: exactly 1 eviction of {}",
            pod.name
        ));
        Ok(())
    }

    async fn ends(&self, action: &str, state: &str, within: Duration) -> Result<Answer> {
        let answer = self
            .ai
            .until_state(action, state, within)
            .await
            .with_context(|| self.stack.logs())?;
        // The first line says what, the second why.
        let why = answer.text.lines().nth(1).unwrap_or_default();
        self.tell(&format!("{state}. The AI reads: {why}"));
        Ok(answer)
    }

    /// Code and sentence of an end, as every reader gets them: the AI (`answer`), the page, the ticket,
    /// both notifications and the audit log. Returns the sentence.
    async fn all_read(&self, action: &str, answer: &Answer, code: &str) -> Result<String> {
        let state = answer.str("state");
        let outcome = &answer.value["outcome"];
        let sentence = outcome["message"].as_str().unwrap_or_default();
        let sentence = sentence.trim_end_matches('.').to_owned();
        ensure!(
            outcome["code"] == code && !sentence.is_empty() && answer.text.contains(&sentence),
            "the AI reads {} and {outcome}",
            answer.text
        );
        let person = self.stack.li().await?;
        let page = strip(&person.get(&format!("/actions/{action}")).await?);
        ensure!(
            page.contains(&sentence) && page.contains(code),
            "the page does not say it: {page}"
        );

        let jira = &self.stack.jira;
        let key = self.ticket(action).await?;
        jira.until_comment(&key, &format!("{sentence} ({code})"), SOON)
            .await?;
        jira.until_status(&key, &jira.status.done, SOON).await?;

        let receiver = &self.stack.receiver;
        receiver
            .until(SOON, |got| {
                let data = &got.body["data"];
                let reason = data["reason"].as_str().unwrap_or_default();
                got.body["type"] == "action.outcome"
                    && data["action_id"] == action
                    && data["state"] == state
                    && data["code"] == code
                    && reason.contains(&sentence)
            })
            .await
            .context("webhook")?;
        // In a chat nothing of it is markup.
        let plain = format!("{sentence} ({code})").replace('_', "\u{ff3f}");
        receiver
            .until(SOON, |got| {
                let text = got.body["text"].as_str().unwrap_or_default();
                text.contains(action) && text.contains(&plain)
            })
            .await
            .context("chat")?;

        let audit = format!("/audit?action={action}&event=action.{state}");
        let rows = strip(&person.get(&audit).await?);
        ensure!(
            rows.contains(code) && rows.contains(&sentence),
            "the audit log does not say it: {rows}"
        );
        self.tell(&format!(
            "AI, page, ticket {key}, webhook, chat and audit all say {code}: {sentence}"
        ));
        Ok(sentence)
    }

    /// The action's one ticket.
    async fn ticket(&self, action: &str) -> Result<String> {
        let label = format!("countersign-{action}");
        let start = std::time::Instant::now();
        loop {
            let keys = self.stack.jira.by_label(&label).await?;
            ensure!(keys.len() < 2, "two tickets for one action: {keys:?}");
            if let Some(key) = keys.into_iter().next() {
                return Ok(key);
            }
            ensure!(
                start.elapsed() < SOON,
                "no ticket for {action}\n{}",
                self.stack.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks until the AI's answer says this.
    async fn until_told(&self, action: &str, word: &str) -> Result<Answer> {
        let told = self.ai.until_told(action, word, SOON).await;
        told.with_context(|| self.stack.logs())
    }
}
