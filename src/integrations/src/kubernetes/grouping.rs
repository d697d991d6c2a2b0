//! Failing pods of a namespace or cluster as a short answer: grouped by owner and reason, the
//! worst first, with counts that cover everything and a cursor for the rest.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failing::{Failing, Severity, Thresholds, failing, scheduling_gated};
use super::records::{OwnerRef, PodRecord};

/// Names listed in one group; its count says how many there are.
const NAMES: usize = 5;

#[derive(Clone, Debug, Serialize)]
pub struct FailingPod {
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
    #[serde(flatten)]
    pub failing: Failing,
}

/// Pods of one owner that fail for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct FailingGroup {
    pub namespace: String,
    /// The workload; nothing for a pod without a controller.
    pub owner: Option<OwnerRef>,
    pub reason: String,
    pub severity: Severity,
    pub count: usize,
    /// The earliest in the group.
    pub since: Timestamp,
    /// Restarts of all its pods.
    pub restarts: u32,
    pub worst: FailingPod,
    /// Up to five names, the worst first.
    pub names: Vec<String>,
}

/// One page of groups. The totals cover all pages.
#[derive(Clone, Debug, Serialize)]
pub struct FailingPage {
    pub pods_seen: usize,
    pub pods_failing: usize,
    pub groups_total: usize,
    /// Held back by a scheduling gate: not failing.
    pub scheduling_gated: Vec<String>,
    pub groups: Vec<FailingGroup>,
    pub next_cursor: Option<String>,
}

/// The cursor was not made by us, or was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor from an earlier answer: pass `next_cursor` unchanged, or none")]
pub struct BadCursor;

/// Where a group stands in the order: worst, largest, oldest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Position {
    mildness: u8,
    smallness: usize,
    since: i64,
    key: String,
}

/// Groups the failing ones of `pods`. `tops` leads from a controller's UID to the workload
/// above it ([`super::KubeReader::top_owners`]); it may be empty.
///
/// # Errors
/// A cursor that is none.
pub fn group_failing(
    pods: &[PodRecord],
    tops: &HashMap<String, OwnerRef>,
    now: Timestamp,
    thresholds: &Thresholds,
    limit: usize,
    cursor: Option<&str>,
) -> Result<FailingPage, BadCursor> {
    let after = cursor.map(decode).transpose()?;
    let mut members: BTreeMap<String, Vec<(&PodRecord, Failing)>> = BTreeMap::new();
    for pod in pods {
        if let Some(verdict) = failing(pod, now, thresholds) {
            let of = match owner(pod, tops) {
                Some(owner) => format!("{}/{}", owner.kind, owner.name),
                None => format!("Pod/{}", pod.name),
            };
            let key = format!("{}/{of}/{}", pod.namespace, verdict.reason);
            members.entry(key).or_default().push((pod, verdict));
        }
    }
    let pods_failing = members.values().map(Vec::len).sum();
    let mut groups: Vec<(Position, FailingGroup)> = members
        .into_iter()
        .filter_map(|(key, members)| {
            let group = group(members, tops)?;
            let position = Position {
                mildness: u8::MAX - group.severity as u8,
                smallness: usize::MAX - group.count,
                since: group.since.as_second(),
                key,
            };
            Some((position, group))
        })
        .collect();
    groups.sort_by(|(a, _), (b, _)| a.cmp(b));
    let groups_total = groups.len();
    let mut rest = groups
        .into_iter()
        .skip_while(|(position, _)| after.as_ref().is_some_and(|after| position <= after));
    let page: Vec<_> = rest.by_ref().take(limit.max(1)).collect();
    let more = rest.next().is_some();
    let next_cursor = page
        .last()
        .filter(|_| more)
        .map(|(position, _)| encode(position));
    Ok(FailingPage {
        pods_seen: pods.len(),
        pods_failing,
        groups_total,
        scheduling_gated: pods
            .iter()
            .filter(|pod| scheduling_gated(pod))
            .take(NAMES)
            .map(|pod| format!("{}/{}", pod.namespace, pod.name))
            .collect(),
        groups: page.into_iter().map(|(_, group)| group).collect(),
        next_cursor,
    })
}

fn owner<'a>(pod: &'a PodRecord, tops: &'a HashMap<String, OwnerRef>) -> Option<&'a OwnerRef> {
    let direct = pod.owner.as_ref()?;
    Some(tops.get(&direct.uid).unwrap_or(direct))
}

/// Nothing for no members, which does not happen.
fn group(
    mut members: Vec<(&PodRecord, Failing)>,
    tops: &HashMap<String, OwnerRef>,
) -> Option<FailingGroup> {
    members.sort_by(|(a, left), (b, right)| {
        right
            .severity
            .cmp(&left.severity)
            .then(right.restarts.cmp(&left.restarts))
            .then(left.since.cmp(&right.since))
            .then_with(|| a.name.cmp(&b.name))
    });
    let (pod, verdict) = members.first()?;
    Some(FailingGroup {
        namespace: pod.namespace.clone(),
        owner: owner(pod, tops).cloned(),
        reason: verdict.reason.to_string(),
        severity: verdict.severity,
        count: members.len(),
        since: members.iter().map(|(_, failing)| failing.since).min()?,
        restarts: members.iter().map(|(_, failing)| failing.restarts).sum(),
        worst: FailingPod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            failing: verdict.clone(),
        },
        names: members
            .iter()
            .take(NAMES)
            .map(|(pod, _)| pod.name.clone())
            .collect(),
    })
}

fn encode(position: &Position) -> String {
    hex::encode(serde_json::to_vec(position).unwrap_or_default())
}

fn decode(cursor: &str) -> Result<Position, BadCursor> {
    let bytes = hex::decode(cursor).map_err(|_| BadCursor)?;
    serde_json::from_slice(&bytes).map_err(|_| BadCursor)
}
