//! `restart_pod`: from a wish to a stored proposal. The cluster is only read. What would never be
//! allowed is denied here, with its reason, before anybody is bothered; what is stored is still a
//! question that the executor asks in its own words.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_domain::{
    Action, ActionId, ActionKind, AuditEvent, Author, Code, EventName, Proposal, RestartMode,
    StateName, Subject, Target,
};
use countersign_integrations::kubernetes::restartable;
use countersign_integrations::masking::mask;
use countersign_store::{ActionFilter, Cap, Caps, Proposed as Stored};
use jiff::SignedDuration;
use rmcp::model::JsonObject;
use tokio::time::{Instant, sleep_until};

use super::actions::{Desk, expires_at, pace, ticket_link};
use super::answers::{Answer, Complaint, Proposed, Why};
use super::arguments::RestartPod;
use super::reads::{View, unreadable, why_denied};
use super::redact;
use crate::crash;

/// An executor reports every few seconds.
const EXECUTOR_SILENT: SignedDuration = SignedDuration::from_secs(30);
/// The answer waits this long for the executor's look; after it, it says `checking`.
const ADMISSION: Duration = Duration::from_millis(900);

impl Desk<'_> {
    /// `inputs` is what the audit row says of the arguments.
    pub async fn restart_pod(
        &self,
        args: RestartPod,
        inputs: &JsonObject,
    ) -> Result<Answer, Complaint> {
        let now = self.app.clock.now();
        let view = View {
            clusters: &self.app.clusters,
            caller: self.caller,
            now,
            thresholds: self.app.loaded.config.failing.thresholds(),
        };
        let cluster = view.cluster(args.cluster.as_deref())?;
        let rules = self.app.rules();
        if rules.registry.agent(&self.caller.agent).is_none() {
            return Err(denied(&Why::new(
                Code::UnknownAgent,
                format!(
                    "the agent `{}` of this key is not in the registry, so nobody would know whose \
                     proposal it is: an operator has to add it",
                    self.caller.agent
                ),
            )));
        }
        let params = BTreeMap::from([("mode".to_owned(), RestartMode::Evict.as_str().to_owned())]);

        // A repeat is answered before the cluster is asked: by then the pod may be gone.
        if let Some(key) = &args.idempotency_key
            && let Some(earlier) = self.by_key(key).await?
        {
            return self.repeat(earlier, &args, cluster.id).await;
        }
        let pod = match cluster.pod_now(&args.namespace, &args.pod).await {
            Ok(pod) => pod,
            Err(complaint) => {
                return match self.open_for(cluster.id, &args).await? {
                    Some(action) => self.answer(action, true, Vec::new()).await,
                    None => Err(complaint),
                };
            }
        };
        if let Some(uid) = args.uid.as_ref().filter(|uid| **uid != pod.uid) {
            return Err(denied(&Why::new(
                Code::TargetReplaced,
                format!(
                    "pod {}/{} now has uid {}, not {uid}: it was replaced meanwhile. Look at it \
                     again with get_pod_status",
                    pod.namespace, pod.name, pod.uid
                ),
            )));
        }
        let owner = cluster
            .reader
            .owner_of(&pod)
            .await
            .map_err(|error| unreadable(&error))?;
        let mut warnings: Vec<String> = match restartable(&pod, &owner) {
            Ok(warnings) => warnings.iter().map(ToString::to_string).collect(),
            Err(reason) => {
                // The eviction of an earlier proposal makes a pod terminate, too.
                return match self.open_for(cluster.id, &args).await? {
                    Some(action) => self.answer(action, true, Vec::new()).await,
                    None => Err(denied(&why_denied(&reason))),
                };
            }
        };
        let subject = Subject {
            kind: ActionKind::RestartPod,
            cluster: cluster.id,
            namespace: &pod.namespace,
            labels: &pod.labels,
        };
        if rules.policy.rule_for(subject).is_none() {
            return Err(denied(&Why::new(
                Code::NoRule,
                format!(
                    "no rule of the policy allows restart_pod in namespace {} of cluster {}. \
                     Asking again changes nothing: tell your user that an operator would have to \
                     add a rule",
                    pod.namespace, cluster.id
                ),
            )));
        }
        if let Some(freeze) = &rules.policy.freeze {
            let why = freeze.reason.trim_end_matches('.');
            warnings.push(format!(
                "changes are frozen ({why}): nothing runs before that ends"
            ));
        }
        let target = Target {
            cluster: cluster.id.to_owned(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        };
        self.cooled_down(&target, &params).await?;

        let id = ActionId::new(now, &*self.app.entropy);
        let proposal = Proposal {
            kind: ActionKind::RestartPod,
            target,
            params,
            agent: self.caller.agent.clone(),
            session: self.caller.session.clone(),
            reason: mask(&args.reason).into_owned(),
            idempotency_key: args.idempotency_key.clone(),
        };
        let event = AuditEvent::new(
            now,
            &*self.app.entropy,
            Author::Server,
            EventName::Proposed,
            self.caller.agent.as_str(),
        )
        .about(id)
        .with("tool", proposal.kind.as_str())
        .with("inputs", redact::inputs(inputs))
        .with("key", self.caller.key_name.as_str())
        .with("session", self.caller.session.as_str());
        let limits = &self.app.loaded.config.limits;
        let caps = Caps {
            pending: limits.pending_per_caller,
            per_hour: limits.proposals_per_hour,
        };

        crash::point("proposal.before");
        let stored = self
            .app
            .store
            .propose(&proposal, id, caps, now, event)
            .await;
        crash::point("proposal.after");
        match stored.map_err(|error| Complaint::store(&error))? {
            Stored::Created(action) => {
                let action = self.admitted(action).await?;
                if action.state.name() == StateName::Checking {
                    warnings.extend(self.silent_executor(cluster.id).await);
                }
                self.answer(action, false, warnings).await
            }
            Stored::Existing(action) => self.answer(action, true, warnings).await,
            Stored::KeyReused(earlier) => {
                let found = self.app.store.get(earlier).await;
                match found.map_err(|error| Complaint::store(&error))? {
                    Some(earlier) if self.owns(&earlier) => {
                        self.repeat(earlier, &args, cluster.id).await
                    }
                    _ => Err(key_reused("a proposal that this key may not see", None)),
                }
            }
            Stored::OverCap { what, limit } => Err(over_cap(what, limit)),
        }
    }

    /// A person's no stands for a while.
    async fn cooled_down(
        &self,
        target: &Target,
        params: &BTreeMap<String, String>,
    ) -> Result<(), Complaint> {
        let seconds = i64::from(self.app.loaded.config.limits.cool_down_seconds);
        let cool_down = SignedDuration::from_secs(seconds);
        let since = self.app.clock.now() - cool_down;
        let rejection = self
            .app
            .store
            .last_rejection(&self.caller.agent, target, params, since)
            .await;
        let Some((id, reason, at)) = rejection.map_err(|error| Complaint::store(&error))? else {
            return Ok(());
        };
        let why = Why::new(
            Code::CoolDown,
            format!(
                "a person rejected this very proposal at {at}: {}. It can be proposed again after \
                 {}, and only with something new to say",
                reason.message.trim_end_matches('.'),
                at + cool_down
            ),
        );
        Err(denied(&why).about(id))
    }

    /// The caller's action with this idempotency key.
    async fn by_key(&self, key: &str) -> Result<Option<Action>, Complaint> {
        let found = self
            .app
            .store
            .by_idempotency_key(&self.caller.agent, key)
            .await
            .map_err(|error| Complaint::store(&error))?;
        Ok(found.filter(|action| self.owns(action)))
    }

    /// The caller's own open action about a pod of this name.
    async fn open_for(
        &self,
        cluster: &str,
        args: &RestartPod,
    ) -> Result<Option<Action>, Complaint> {
        if !self.caller.sees(&args.namespace) {
            return Ok(None);
        }
        let filter = ActionFilter {
            states: StateName::ALL
                .iter()
                .copied()
                .filter(|state| !state.is_terminal())
                .collect(),
            agent: Some(self.caller.agent.clone()),
            cluster: Some(cluster.to_owned()),
            namespaces: Some(vec![args.namespace.clone()]),
            before: None,
            limit: 200,
        };
        let open = self
            .app
            .store
            .list(&filter)
            .await
            .map_err(|error| Complaint::store(&error))?;
        Ok(open
            .into_iter()
            .find(|action| action.proposal.target.name == args.pod))
    }

    /// Same key: the same action for good, or an error when the arguments differ.
    async fn repeat(
        &self,
        earlier: Action,
        args: &RestartPod,
        cluster: &str,
    ) -> Result<Answer, Complaint> {
        let target = &earlier.proposal.target;
        let same = target.cluster == cluster
            && target.namespace == args.namespace
            && target.name == args.pod
            && args.uid.as_ref().is_none_or(|uid| *uid == target.uid);
        if same {
            return self.answer(earlier, true, Vec::new()).await;
        }
        let what = format!(
            "your action {} on pod {}/{}",
            earlier.id, target.namespace, target.name
        );
        Err(key_reused(&what, Some(earlier.id)))
    }

    /// Gives the executor a moment, so that most answers already hold the digest.
    async fn admitted(&self, mut action: Action) -> Result<Action, Complaint> {
        let until = Instant::now() + ADMISSION;
        let mut changes = self.app.store.changes();
        while action.state.name() == StateName::Checking {
            changes.borrow_and_update();
            action = self.action(action.id).await?;
            if action.state.name() != StateName::Checking {
                break;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = sleep_until(until) => break,
            }
        }
        Ok(action)
    }

    /// Says so when nobody is there who could admit the proposal.
    async fn silent_executor(&self, cluster: &str) -> Option<String> {
        let now = self.app.clock.now();
        let beats = self.app.store.heartbeats().await.ok()?;
        let newest = beats
            .iter()
            .filter(|beat| beat.cluster == cluster)
            .map(|beat| beat.at)
            .max();
        let heard = match newest {
            Some(at) if now.duration_since(at) <= EXECUTOR_SILENT => return None,
            Some(at) => format!("was last heard of at {at}"),
            None => "was never heard of".to_owned(),
        };
        Some(format!(
            "the executor of cluster {cluster} {heard}: unless it comes back within two minutes, \
             this proposal expires unchecked. Tell your user"
        ))
    }

    async fn answer(
        &self,
        action: Action,
        existing: bool,
        warnings: Vec<String>,
    ) -> Result<Answer, Complaint> {
        let ticket = self
            .app
            .store
            .ticket_get(action.id)
            .await
            .unwrap_or_default();
        let told = self.told(&action).await?;
        let state = told.state;
        let opened = self.statement(&action).and_then(Result::ok);
        let (poll_after_seconds, next_tool) = match action.state.name().is_terminal() {
            true => (0, None),
            false => pace(state),
        };
        let url = self.app.action_url(action.id);
        let reason = told
            .why
            .or_else(|| action.state.held().map(|held| Why::from(&held.reason)));
        let body = Proposed {
            action_id: Some(action.id.to_string()),
            state: state.to_string(),
            existing,
            digest: opened
                .as_ref()
                .map(|statement| statement.digest().to_string()),
            approval_url: Some(url.clone()),
            ticket: ticket.as_ref().map(ticket_link),
            expires_at: opened
                .as_ref()
                .and_then(|s| expires_at(&action.state, s.body())),
            poll_after_seconds,
            next_tool: next_tool.map(str::to_owned),
            reason,
            warnings,
            simulated: self.simulated(&action.proposal.target.cluster),
        };
        let target = &action.proposal.target;
        let mut text = match state {
            StateName::Checking | StateName::Pending => format!(
                "Proposed, not done: restart pod {}/{}. A person has to approve it: {url}\nShow \
                 this address to your user, then call wait_for_action with action_id {}.",
                target.namespace, target.name, action.id
            ),
            _ => format!("Action {} is {state}: {url}", action.id),
        };
        if state == StateName::Checking {
            text.push_str("\nThe executor is still checking it; digest and expiry follow.");
        }
        if existing {
            text.push_str("\nThis is the action that you proposed before; no second one was made.");
        }
        if let Some(why) = &body.reason {
            text.push_str(&format!(
                "\n{} ({}).",
                why.message.trim_end_matches('.'),
                why.code
            ));
        }
        for warning in &body.warnings {
            text.push_str(&format!("\nNote: {warning}."));
        }
        if body.simulated {
            text.push_str("\n(The cluster is simulated.)");
        }
        let mut answer = Answer::of(text, body.structured()).about(action.id);
        if existing {
            answer.outcome = "existing";
        } else if state == StateName::Denied {
            answer.outcome = "denied";
        }
        Ok(answer)
    }
}

fn key_reused(whose: &str, action: Option<ActionId>) -> Complaint {
    let message =
        format!("this idempotency_key belongs to {whose}: use a new key for a new proposal");
    let mut complaint = Complaint::new("idempotency_key_reused", message);
    complaint.action = action;
    complaint
}

/// Denied before anything was stored.
fn denied(why: &Why) -> Complaint {
    metrics::counter!(countersign_telemetry::metric::REFUSALS_TOTAL, "code" => why.code.clone())
        .increment(1);
    let body = Proposed {
        action_id: None,
        state: StateName::Denied.to_string(),
        existing: false,
        digest: None,
        approval_url: None,
        ticket: None,
        expires_at: None,
        poll_after_seconds: 0,
        next_tool: None,
        reason: Some(why.clone()),
        warnings: Vec::new(),
        simulated: false,
    };
    let message = format!(
        "Denied: {} ({}).",
        why.message.trim_end_matches('.'),
        why.code
    );
    // The word stays what it is in metrics and answers; audit rows can be searched by it.
    let code = why.code.parse::<Code>().map_or("denied", Code::as_str);
    Complaint {
        code,
        message,
        action: None,
        structured: Some(Box::new(body.structured())),
    }
}

fn over_cap(what: Cap, limit: u32) -> Complaint {
    let message = match what {
        Cap::Pending => format!(
            "{limit} of your proposals already wait for people, and that is the limit. Wait for \
             some to end, or take back what is no longer needed: list_actions with state `open`, \
             then cancel_action"
        ),
        Cap::PerHour => format!(
            "you made {limit} proposals in the last hour, and that is the limit. Tell your user, \
             and try again later"
        ),
    };
    denied(&Why::new(Code::RateLimited, message))
}
