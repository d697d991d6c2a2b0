//! `list_workloads`: what runs here, and what of it is not well.

use std::collections::{HashMap, HashSet};

use countersign_integrations::kubernetes::{
    Health, HpaRecord, KubeError, WorkloadRecord, fold_runs, health, page,
};

use super::{ClusterView, View, bad_cursor, bounded, more_pages, severity_word, unreadable};
use crate::mcp::answers::{Answer, Complaint, WorkloadLine, Workloads};
use crate::mcp::arguments::{ListWorkloads, WorkloadKind};

impl View<'_> {
    pub async fn list_workloads(&self, args: ListWorkloads) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let namespace = args.namespace.as_deref();
        let scopes = cluster.scopes(namespace).await?;
        let _place = cluster.place().await?;
        let mut found = Found::default();
        for scope in &scopes {
            cluster.read(*scope, &args, &mut found).await?;
        }
        if let Some(namespace) = namespace.filter(|_| found.workloads.is_empty()) {
            cluster.namespace_exists(namespace).await?;
        }
        let Found {
            workloads,
            autoscalers,
            not_read,
            complete,
            unreadable: missing,
        } = found;
        cluster.reading.missing(missing);
        let seen = workloads.len();
        let mut judged: Vec<(Health, WorkloadRecord)> = workloads
            .into_iter()
            .map(|workload| (health(&workload), workload))
            .collect();
        let unhealthy = judged
            .iter()
            .filter(|(health, _)| health.severity.is_some())
            .count();
        if args.only_unhealthy.unwrap_or(false) {
            judged.retain(|(health, _)| health.severity.is_some());
        }
        judged.sort_by_cached_key(|(health, workload)| {
            (std::cmp::Reverse(health.severity), name_of(workload))
        });
        let question = format!(
            "{:?} {:?} {:?} {:?}",
            args.namespace, args.kind, args.label_selector, args.only_unhealthy
        );
        let limit = args.limit.unwrap_or(20) as usize;
        let page = page(
            judged,
            |(_, workload)| name_of(workload),
            &question,
            limit,
            args.cursor.as_deref(),
        )
        .map_err(bad_cursor)?;
        let lines: Vec<WorkloadLine> = page
            .items
            .into_iter()
            .map(|(health, workload)| {
                let key = (
                    workload.namespace.clone(),
                    workload.kind.clone(),
                    workload.name.clone(),
                );
                line(&health, workload, autoscalers.get(&key))
            })
            .collect();
        let place = namespace.map_or_else(String::new, |name| format!(", namespace {name}"));
        let mut text = format!(
            "{unhealthy} of {seen} workloads are not well in {}{place}; {} shown:",
            cluster.title(),
            lines.len()
        );
        for line in &lines {
            text.push_str(&told(line));
        }
        if page.next_cursor.is_some() {
            text.push_str(&more_pages(page.total, "only_unhealthy"));
        }
        if !not_read.is_empty() {
            text.push_str(&format!(
                "\nOur account may not read: {}.",
                not_read.join(", ")
            ));
        }
        if !complete {
            text.push_str("\nThere are more workloads than were read: ask for one namespace.");
        }
        if lines.iter().any(|line| !line.healthy) {
            text.push_str(
                "\nNext: get_rollout_status for a Deployment, StatefulSet or DaemonSet; \
                 get_recent_events with kind and name for a Job.",
            );
        }
        let text = cluster.framed(&text);
        let body = Workloads {
            cluster: cluster.id.to_owned(),
            namespace: args.namespace,
            workloads_seen: bounded(seen),
            unhealthy: bounded(unhealthy),
            workloads: lines,
            not_read,
            complete: complete && cluster.understood(),
            next_cursor: page.next_cursor,
            origin: cluster.origin(),
        };
        Ok(Answer::new(text, &body))
    }
}

struct Found {
    workloads: Vec<WorkloadRecord>,
    /// By namespace, kind and name of what they scale.
    autoscalers: HashMap<(String, String, String), HpaRecord>,
    not_read: Vec<String>,
    complete: bool,
    unreadable: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            workloads: Vec::new(),
            autoscalers: HashMap::new(),
            not_read: Vec::new(),
            complete: true,
            unreadable: 0,
        }
    }
}

impl ClusterView<'_> {
    async fn read(
        &self,
        scope: Option<&str>,
        args: &ListWorkloads,
        found: &mut Found,
    ) -> Result<(), Complaint> {
        let selector = args.label_selector.as_deref();
        let wanted = |kind: WorkloadKind| args.kind.is_none_or(|only| only == kind);
        let mut listed = Vec::new();
        for kind in WorkloadKind::ALL.into_iter().filter(|kind| wanted(*kind)) {
            // A CronJob is judged by its Jobs, which need not carry its labels.
            match self
                .reader
                .list_workloads(kind.as_str(), scope, selector)
                .await
            {
                Ok(list) => {
                    found.complete &= list.complete;
                    found.unreadable += list.unreadable;
                    listed.extend(list.workloads);
                }
                Err(KubeError::Forbidden { what, .. }) => refuse(found, what),
                Err(error) => return Err(unreadable(&error)),
            }
        }
        if wanted(WorkloadKind::CronJob) && listed.iter().any(|one| one.kind == "CronJob") {
            let have: HashSet<String> = listed.iter().map(|one| one.uid.clone()).collect();
            let crons = listed.iter().filter(|one| one.kind == "CronJob");
            let crons: HashSet<String> = crons.map(|one| one.uid.clone()).collect();
            if (selector.is_some() || !wanted(WorkloadKind::Job))
                && let Ok(list) = self.reader.list_workloads("Job", scope, None).await
            {
                listed.extend(list.workloads.into_iter().filter(|job| {
                    !have.contains(&job.uid)
                        && job.owner.as_ref().is_some_and(|o| crons.contains(&o.uid))
                }));
            }
            fold_runs(&mut listed);
        }
        found.workloads.extend(listed);
        match self.reader.list_autoscalers(scope).await {
            Ok(all) => found.autoscalers.extend(all.into_iter().map(|one| {
                let of = (
                    one.namespace.clone(),
                    one.target_kind.clone(),
                    one.target_name.clone(),
                );
                (of, one)
            })),
            Err(KubeError::Forbidden { what, .. }) => refuse(found, what),
            Err(error) => return Err(unreadable(&error)),
        }
        Ok(())
    }
}

fn refuse(found: &mut Found, what: String) {
    if !found.not_read.contains(&what) {
        found.not_read.push(what);
    }
}

fn name_of(workload: &WorkloadRecord) -> String {
    format!("{}/{}/{}", workload.namespace, workload.kind, workload.name)
}

fn line(health: &Health, workload: WorkloadRecord, hpa: Option<&HpaRecord>) -> WorkloadLine {
    let (desired, ready, updated, available) = match &workload.batch {
        Some(batch) => (batch.completions, None, None, None),
        None => (
            Some(workload.replicas.unwrap_or(1)),
            Some(workload.ready),
            Some(workload.updated),
            Some(workload.available),
        ),
    };
    WorkloadLine {
        namespace: workload.namespace,
        kind: workload.kind,
        name: workload.name,
        healthy: health.severity.is_none(),
        severity: health.severity.map(severity_word),
        why: health.why.clone(),
        desired,
        ready,
        updated,
        available,
        managed_by: workload.managed_by,
        autoscaler: hpa.map(autoscaler),
    }
}

fn autoscaler(hpa: &HpaRecord) -> String {
    let mut text = format!(
        "{}, {} to {} replicas",
        hpa.name, hpa.min_replicas, hpa.max_replicas
    );
    if let Some(why) = &hpa.inactive {
        text.push_str(&format!(", cannot scale: {why}"));
    }
    text
}

fn told(line: &WorkloadLine) -> String {
    let mark = line.severity.as_deref().unwrap_or("ok");
    let mut text = format!(
        "\n- [{mark}] {} {}/{}",
        line.kind, line.namespace, line.name
    );
    if let (Some(ready), Some(desired)) = (line.ready, line.desired) {
        text.push_str(&format!(", {ready}/{desired} ready"));
    }
    if let Some(why) = &line.why {
        text.push_str(&format!(": {why}"));
    }
    let by = line
        .managed_by
        .as_ref()
        .map(|by| format!("managed by {by}"));
    let scaled = line
        .autoscaler
        .as_ref()
        .map(|by| format!("autoscaler {by}"));
    let more: Vec<String> = by.into_iter().chain(scaled).collect();
    if !more.is_empty() {
        text.push_str(&format!(" ({})", more.join("; ")));
    }
    text
}
