//! `pods/eviction`, in the order of kubernetes `pkg/registry/core/pod/storage/eviction.go`:
//! budgets are looked at before preconditions, and are spent before a precondition can fail.

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::by_plural;
use super::object;
use super::request::Asked;
use super::selector::structured_matches;
use super::state::Cluster;
use super::status::{Refusal, success};
use crate::clock;

/// The options that the eviction will delete with.
struct Options {
    dry_run: bool,
    grace: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
}

impl Options {
    fn read(asked: &Asked, eviction: &Value) -> Result<Self, Refusal> {
        let options = &eviction["deleteOptions"];
        let in_body: Vec<&str> = object::list(options, "/dryRun")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let in_query: Vec<&str> = asked.query("dryRun").into_iter().collect();
        for value in in_body.iter().chain(&in_query) {
            if *value != "All" {
                let message = format!("Invalid value: {value:?}: dryRun supports only \"All\"");
                return Err(Refusal::bad_request(&message));
            }
        }
        let text = |pointer| {
            options
                .pointer(pointer)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        Ok(Self {
            dry_run: !in_body.is_empty() || !in_query.is_empty(),
            grace: options["gracePeriodSeconds"].as_i64(),
            uid: text("/preconditions/uid").map(str::to_owned),
            version: text("/preconditions/resourceVersion").map(str::to_owned),
        })
    }
}

/// True when the request or its body asks for a dry run: for the audit log.
pub fn is_dry_run(asked: &Asked, body: &Value) -> bool {
    asked.query("dryRun").is_some()
        || ["/dryRun", "/deleteOptions/dryRun"]
            .iter()
            .any(|pointer| !object::list(body, pointer).is_empty())
}

impl Cluster {
    /// Answers 201 with `Status: Success`, or a refusal.
    pub fn evict(&mut self, asked: &Asked, eviction: &Value) -> Result<Value, Refusal> {
        let pods = by_plural("pods");
        let (namespace, name) = (&*asked.attributes.namespace, &*asked.attributes.name);
        if eviction["kind"] != "Eviction" {
            let message = format!(
                "Object 'Kind' is missing or is not Eviction in '{}'",
                object::text(eviction, "/kind")
            );
            return Err(Refusal::bad_request(&message));
        }
        if !matches!(
            object::text(eviction, "/apiVersion"),
            "policy/v1" | "policy/v1beta1"
        ) {
            return Err(Refusal::bad_request(&format!(
                "the API version in the data ({}) does not match the expected API version (policy/v1)",
                object::text(eviction, "/apiVersion")
            )));
        }
        if object::name(eviction) != name {
            let message = "name in URL does not match name in Eviction object";
            return Err(Refusal::bad_request(message));
        }
        let in_body = object::namespace(eviction);
        if !in_body.is_empty() && in_body != namespace {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Refusal::bad_request(message));
        }
        let options = Options::read(asked, eviction)?;
        let Some(pod) = self.store.get(pods, namespace, name) else {
            return Err(Refusal::not_found(pods, name));
        };
        if !ignores_budgets(&pod) {
            self.ask_budgets(&pod, options.dry_run)?;
        }
        // From here on a budget may be spent: so it is on a real API server.
        if let Some(uid) = options
            .uid
            .as_deref()
            .filter(|uid| *uid != object::uid(&pod))
        {
            return Err(Refusal::uid_differs(pods, name, uid, object::uid(&pod)));
        }
        let found = object::resource_version(&pod);
        if let Some(version) = options
            .version
            .as_deref()
            .filter(|version| *version != found)
        {
            return Err(Refusal::version_differs(pods, name, version, found));
        }
        if !options.dry_run {
            let at = clock::kubernetes(clock::now());
            self.store.update(pods, namespace, name, |pod| {
                let condition = json!({
                    "type": "DisruptionTarget", "status": "True",
                    "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
                    "lastProbeTime": null,
                });
                object::set_condition(&mut pod["status"], condition, &at);
            });
            self.delete(pods, namespace, name, options.grace);
        }
        Ok(success(StatusCode::CREATED))
    }

    fn ask_budgets(&mut self, pod: &Value, dry_run: bool) -> Result<(), Refusal> {
        let namespace = object::namespace(pod);
        let matching: Vec<_> = self
            .store
            .list(by_plural("poddisruptionbudgets"), namespace)
            .filter(|budget| {
                structured_matches(budget.pointer("/spec/selector"), object::labels(pod))
            })
            .cloned()
            .collect();
        let budget = match matching.as_slice() {
            [] => return Ok(()),
            [budget] => budget,
            _ => return Err(Refusal::several_budgets()),
        };
        let name = object::name(budget);
        let count = |field: &str| object::integer(budget, &format!("/status/{field}"));
        let (healthy, desired) = (count("currentHealthy"), count("desiredHealthy"));
        if !object::is_ready(pod) {
            let always = object::text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
            if always || (healthy >= desired && desired > 0) {
                return Ok(());
            }
        }
        if count("disruptionsAllowed") == 0 {
            let why = if healthy <= desired {
                format!(
                    "The disruption budget {name} needs {desired} healthy pods and has {healthy} \
                     currently"
                )
            } else {
                format!("The disruption budget {name} does not allow evicting pods currently")
            };
            return Err(Refusal::over_budget(&why));
        }
        if !dry_run {
            self.spend_budget(namespace, name, object::name(pod));
        }
        Ok(())
    }
}

/// Pods whose eviction disrupts nothing any more, or nothing yet.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(
        object::text(pod, "/status/phase"),
        "Succeeded" | "Failed" | "Pending"
    ) || object::is_terminating(pod)
}
