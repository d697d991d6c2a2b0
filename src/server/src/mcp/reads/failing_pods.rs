//! `list_failing_pods`: what fails in a cluster or namespace, grouped.

use super::*;

impl View<'_> {
    pub async fn list_failing_pods(&self, args: ListFailingPods) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let namespace = args.namespace.as_deref();
        if let Some(namespace) = namespace.filter(|namespace| !cluster.sees(namespace)) {
            return Err(cluster.no_namespace(namespace).await);
        }
        let (thresholds, filter) = (Thresholds::default(), FailingFilter::default());
        let scope = cluster.scope(namespace);
        let (collector, tops) = cluster
            .reading
            .collect_failing(&scope, self.now, &thresholds, &filter)
            .await
            .map_err(|error| unreadable(&error))?;
        if let Some(namespace) = namespace.filter(|_| collector.seen() == 0) {
            cluster.namespace_exists(namespace).await?;
        }
        let limit = args.limit.unwrap_or(10) as usize;
        let cursor = args.cursor.as_deref();
        let question = format!("{} {}", cluster.id, namespace.unwrap_or_default());
        let page = collector
            .page(&tops, &question, limit, cursor)
            .map_err(|error| Complaint::new("invalid_arguments", error.to_string()))?;
        let groups: Vec<FailingGroupLine> = page
            .groups
            .iter()
            .map(|group| FailingGroupLine {
                namespace: group.namespace.clone(),
                workload: group.owner.as_ref().map(object_name),
                reason: group.reason.clone(),
                severity: format!("{:?}", group.severity).to_lowercase(),
                pods: bounded(group.count),
                since: group.since.to_string(),
                restarts: group.restarts,
                names: group.names.clone(),
                message: group.worst.failing.message.as_deref().map(short),
            })
            .collect();
        let place = namespace.map_or_else(String::new, |name| format!(", namespace {name}"));
        let mut text = if page.pods_failing == 0 {
            format!(
                "No pod is failing in {}{place}; {} seen.",
                cluster.title(),
                page.pods_seen
            )
        } else {
            format!(
                "{} of {} pods are failing in {}{place}, in {} groups:",
                page.pods_failing,
                page.pods_seen,
                cluster.title(),
                page.groups_total
            )
        };
        for group in &groups {
            let owner = group.workload.as_ref().map_or_else(
                || "no controller".to_owned(),
                |w| format!("{} {}", w.kind, w.name),
            );
            text.push_str(&format!(
                "\n- [{}] {}: {}/{owner}, {} pod(s), {} restarts, since {}: {}",
                group.severity,
                group.reason,
                group.namespace,
                group.pods,
                group.restarts,
                group.since,
                group.names.join(", ")
            ));
        }
        if page.next_cursor.is_some() {
            text.push_str("\nThere are more groups: pass next_cursor as `cursor`.");
        }
        let text = cluster.warning() + &text + &cluster.imprint();
        let body = FailingPods {
            cluster: cluster.id.to_owned(),
            namespace: args.namespace,
            pods_seen: bounded(page.pods_seen),
            pods_failing: bounded(page.pods_failing),
            groups_total: bounded(page.groups_total),
            groups,
            scheduling_gated: page.scheduling_gated.into_iter().take(20).collect(),
            complete: cluster.reading.freshness().unreadable == 0,
            next_cursor: page.next_cursor,
            as_of: cluster.as_of(),
            source: cluster.source(),
            simulated: cluster.simulated,
            note: UNTRUSTED.to_owned(),
        };
        Ok(Answer::new(text, &body))
    }
}
