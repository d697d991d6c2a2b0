//! Pods without a node: the scheduler's message, summarised.

use super::words::{between, is_name, quote};
use super::{Cause, Situation};
use crate::kubernetes::failing::Failing;

/// Refusals told apart in one sentence.
const MOST: usize = 5;

pub(super) fn unschedulable(situation: &Situation, failing: &Failing) -> Cause {
    let message = failing.message.as_deref().or_else(|| {
        situation
            .event(&["FailedScheduling"])
            .map(|event| event.message.as_str())
    });
    let waited = situation.ago(failing.since);
    let asks = asked_for(situation, message.unwrap_or_default());
    match message.map(|message| (summary(message), message)) {
        Some((Some(summary), _)) => Cause::explained(format!(
            "No node has taken the pod for {waited}: {summary}{asks}"
        )),
        Some((None, message)) => Cause::explained(format!(
            "No node has taken the pod for {waited}: {}",
            quote(message)
        )),
        None => Cause::unexplained(format!("No node has taken the pod for {waited}")),
    }
}

pub(super) fn not_scheduled(situation: &Situation, failing: &Failing) -> Cause {
    Cause::unexplained(format!(
        "No scheduler has looked at the pod for {}: either the scheduler is down or the pod's \
         schedulerName is nobody's",
        situation.ago(failing.since)
    ))
}

/// `; it asks for cpu 64 and memory 1Gi`, where that is what lacks.
fn asked_for(situation: &Situation, message: &str) -> String {
    let Some(detail) = situation
        .detail
        .filter(|_| message.contains("Insufficient"))
    else {
        return String::new();
    };
    let lacking: Vec<String> = detail
        .containers
        .iter()
        .filter_map(|container| {
            let lacking: Vec<String> = container
                .requests
                .iter()
                .filter(|(resource, _)| message.contains(&format!("Insufficient {resource}")))
                .map(|(resource, amount)| format!("{resource} {amount}"))
                .collect();
            (!lacking.is_empty())
                .then(|| format!("{} asks for {}", container.name, lacking.join(" and ")))
        })
        .collect();
    match lacking.is_empty() {
        true => String::new(),
        false => format!("; container {}", lacking.join(", ")),
    }
}

/// `of 5 nodes, 2 lack cpu, 3 have ...`, from `0/5 nodes are available: 2 Insufficient cpu, ...`.
fn summary(message: &str) -> Option<String> {
    if message.starts_with("no nodes available") {
        return Some("the cluster has no node for pods".to_owned());
    }
    let (counts, rest) = message.split_once(" nodes are available: ")?;
    let nodes: u32 = counts.strip_prefix("0/")?.parse().ok()?;
    // What preemption could do is told in a sentence of its own.
    let rest = rest.split(" preemption:").next().unwrap_or(rest);
    let rest = rest.trim().trim_end_matches('.');
    let mut refusals: Vec<String> = split_outside_braces(rest).map(refusal).collect();
    let hidden = refusals.len().saturating_sub(MOST);
    refusals.truncate(MOST);
    if hidden > 0 {
        refusals.push(format!("{hidden} more reasons"));
    }
    let of = match nodes {
        1 => "the only node".to_owned(),
        many => format!("of {many} nodes"),
    };
    let told = refusals.join(", ");
    // `of 1 node, 1 lacks cpu` is `the only node lacks cpu`.
    Some(match (nodes, told.strip_prefix("1 ")) {
        (1, Some(told)) => format!("{of} {told}"),
        _ if told.starts_with(|c: char| c.is_ascii_digit()) => format!("{of}, {told}"),
        _ => told,
    })
}

/// Taints are written `{key: value, ...}`.
fn split_outside_braces(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// `3 node(s) had untolerated taint {gpu: yes}` as `3 have the taint gpu=yes, which it does not
/// tolerate`. What is not known stays as it is.
fn refusal(part: &str) -> String {
    let (number, what) = match part.split_once(' ') {
        Some((number, what)) if number.chars().all(|c| c.is_ascii_digit()) => (number, what),
        _ => return unnumbered(part),
    };
    let one = number == "1";
    let verb = |single: &str, many: &str| {
        if one {
            single.to_owned()
        } else {
            many.to_owned()
        }
    };
    let what = what.strip_prefix("node(s) ").unwrap_or(what);
    let told = if let Some(resource) = what
        .strip_prefix("Insufficient ")
        .filter(|resource| is_name(resource))
    {
        format!("{} {resource}", verb("lacks", "lack"))
    } else if what == "Too many pods" {
        format!("{} full of pods", verb("is", "are"))
    } else if let Some(taint) =
        between(what, "taint {", "}").or_else(|| between(what, "taint(s) {", "}"))
    {
        let taint = taint.trim_end_matches([':', ' ']).replace(": ", "=");
        format!(
            "{} the taint {taint}, which it does not tolerate",
            verb("has", "have")
        )
    } else if what.contains("untolerated taint(s)") {
        format!("{} taints that it does not tolerate", verb("has", "have"))
    } else if what.contains("node affinity/selector") || what.contains("node selector") {
        format!(
            "{} not match its node selector or affinity",
            verb("does", "do")
        )
    } else if what.contains("volume node affinity conflict")
        || what.contains("PersistentVolume's node affinity")
    {
        format!("{} not where its volume is", verb("is", "are"))
    } else if what.contains("anti-affinity") {
        format!("{} ruled out by pod anti-affinity", verb("is", "are"))
    } else if what.contains("pod affinity") {
        format!("{} ruled out by pod affinity", verb("is", "are"))
    } else if what.contains("topology spread") {
        format!(
            "{} ruled out by topology spread constraints",
            verb("is", "are")
        )
    } else if what.contains("unschedulable") {
        format!("{} cordoned", verb("is", "are"))
    } else if what.contains("free ports") {
        format!("{} its host port in use", verb("has", "have"))
    } else if what.contains("max volume count") {
        format!("{} no room for another volume", verb("has", "have"))
    } else {
        format!("{}: {}", verb("says", "say"), quote(what))
    };
    format!("{number} {told}")
}

fn unnumbered(part: &str) -> String {
    if let Some(claim) = between(part, "persistentvolumeclaim \"", "\"") {
        return format!(
            "PersistentVolumeClaim {claim} {}",
            match part.contains("not found") {
                true => "does not exist",
                false => "is not usable",
            }
        );
    }
    if part.contains("unbound immediate PersistentVolumeClaims") {
        return "a PersistentVolumeClaim of the pod is not bound to a volume".to_owned();
    }
    quote(part)
}
