//! `list_failing_pods`: what fails in a cluster or namespace, grouped.

use countersign_integrations::kubernetes::{
    FailingFilter, FailingGroup, FailingPage, LabelSelector, OwnerFilter, ago,
};
use countersign_integrations::masking::mask;
use jiff::Timestamp;

use super::{ClusterView, View, bad_cursor, bounded, object_name, severity_word, unreadable};
use crate::mcp::answers::bounds::estimated_tokens;
use crate::mcp::answers::{Answer, Complaint, FailingGroupLine, FailingPods};
use crate::mcp::arguments::ListFailingPods;
use crate::mcp::tools::ToolName;

/// Tokens of a whole answer, its text and its structured part together.
const BUDGET: usize = 3000;
/// Groups on a page where the caller does not say.
const GROUPS: u32 = 20;
/// Names of pods in each of several groups.
const FEW_NAMES: usize = 3;
/// Of the cluster's words about a group, in characters.
const MESSAGE: usize = 100;

impl View<'_> {
    pub async fn list_failing_pods(&self, args: ListFailingPods) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let filter = filter(&args)?;
        let namespace = args.namespace.as_deref();
        if let Some(namespace) = namespace.filter(|namespace| !cluster.sees(namespace)) {
            return Err(cluster.no_namespace(namespace).await);
        }
        let scope = cluster.scope(namespace);
        let (collector, tops) = cluster
            .reading
            .collect_failing(&scope, self.now, &self.thresholds, &filter)
            .await
            .map_err(|error| unreadable(&error))?;
        if let Some(namespace) = namespace.filter(|_| collector.seen() == 0) {
            cluster.namespace_exists(namespace).await?;
        }
        let limit = args.limit.unwrap_or(GROUPS) as usize;
        let question = format!("{} {}", cluster.id, namespace.unwrap_or_default());
        let page = collector
            .page(&tops, &question, limit, args.cursor.as_deref())
            .map_err(bad_cursor)?;
        Ok(within_budget(page, |page| {
            answer(&cluster, &args, self.now, page)
        }))
    }
}

/// Leaves groups to the next page until the answer is short enough.
fn within_budget(mut page: FailingPage, answer: impl Fn(&FailingPage) -> Answer) -> Answer {
    loop {
        let whole = answer(&page);
        let cost = estimated_tokens(&whole.text) + estimated_tokens(&whole.structured.to_string());
        if cost <= BUDGET || page.groups.len() <= 1 {
            return whole;
        }
        let fits = page.groups.len() * BUDGET / cost;
        page.keep(fits.min(page.groups.len() - 1));
    }
}

fn filter(args: &ListFailingPods) -> Result<FailingFilter, Complaint> {
    let labels = args
        .label_selector
        .as_deref()
        .map(str::parse::<LabelSelector>);
    let owner = args
        .owner
        .as_deref()
        .map(|owner| match owner.split_once('/') {
            Some((kind, name)) => OwnerFilter {
                kind: Some(kind.to_owned()),
                name: name.to_owned(),
            },
            None => OwnerFilter {
                kind: None,
                name: owner.to_owned(),
            },
        });
    Ok(FailingFilter {
        labels: labels
            .transpose()
            .map_err(|error| Complaint::new("invalid_arguments", error.to_string()))?,
        reason: args.reason.clone(),
        owner,
    })
}

fn answer(
    cluster: &ClusterView<'_>,
    args: &ListFailingPods,
    now: Timestamp,
    page: &FailingPage,
) -> Answer {
    // Who asks for one group wants to know all of it.
    let names = match page.groups_total {
        1 => usize::MAX,
        _ => FEW_NAMES,
    };
    let groups: Vec<FailingGroupLine> =
        page.groups.iter().map(|group| line(group, names)).collect();
    let mut text = headline(cluster, args, page);
    for (group, line) in page.groups.iter().zip(&groups) {
        text.push_str(&text_line(group, line, now));
    }
    let left = page.groups_total - page.groups.len().min(page.groups_total);
    if page.next_cursor.is_some() {
        text.push_str(&format!(
            "\n{left} groups are not on this page: pass next_cursor as `cursor`, with the same \
             filters."
        ));
    }
    if groups
        .iter()
        .any(|group| (group.names.len() as u64) < u64::from(group.pods))
    {
        text.push_str("\nMore names of a group: filter by its owner and reason.");
    }
    if page.scheduling_gated_total > 0 {
        text.push_str(&format!(
            "\nNot failing: {} held back on purpose by scheduling gates.",
            page.scheduling_gated_total
        ));
    }
    if page.pods_ungrouped > 0 {
        text.push_str(&format!(
            "\n{} more failing pods are in groups beyond the 10000 that are held: ask for one \
             namespace.",
            page.pods_ungrouped
        ));
    }
    let text = cluster.framed(&text);
    let body = FailingPods {
        cluster: cluster.id.to_owned(),
        namespace: args.namespace.clone(),
        pods_seen: bounded(page.pods_seen),
        pods_failing: bounded(page.pods_failing),
        groups_total: bounded(page.groups_total),
        groups,
        scheduling_gated: page.scheduling_gated.clone(),
        complete: cluster.understood() && page.pods_ungrouped == 0,
        next_cursor: page.next_cursor.clone(),
        origin: cluster.origin(),
    };
    Answer::new(text, &body)
}

fn headline(cluster: &ClusterView<'_>, args: &ListFailingPods, page: &FailingPage) -> String {
    let mut of: Vec<String> = Vec::new();
    let mut note = |name: &str, value: &Option<String>| {
        of.extend(value.as_ref().map(|value| format!("{name} {value}")));
    };
    note("namespace", &args.namespace);
    note("labels", &args.label_selector);
    note("owner", &args.owner);
    note("reason", &args.reason);
    let place = std::iter::once(cluster.title())
        .chain(of)
        .collect::<Vec<_>>()
        .join(", ");
    match page.pods_failing {
        0 => format!("No pod is failing in {place}; {} seen.", page.pods_seen),
        failing => format!(
            "{failing} of {} pods are failing in {place}, in {} groups{}:",
            page.pods_seen,
            page.groups_total,
            match args.cursor {
                None => ", the worst first",
                Some(_) => "",
            }
        ),
    }
}

fn line(group: &FailingGroup, names: usize) -> FailingGroupLine {
    FailingGroupLine {
        namespace: group.namespace.clone(),
        workload: group.owner.as_ref().map(object_name),
        reason: countersign_domain::one_line(&group.reason, 128),
        severity: severity_word(group.severity),
        pods: bounded(group.count),
        since: group.since.to_string(),
        restarts: (group.restarts > 0).then_some(group.restarts),
        names: group.names.iter().take(names).cloned().collect(),
        message: group
            .worst
            .failing
            .message
            .as_deref()
            .map(|text| countersign_domain::one_line(&mask(text), MESSAGE)),
        next_tool: next_tool(&group.reason).to_owned(),
    }
}

/// `- [high] CrashLoopBackOff shop/Deployment web: 3 pods, 21 restarts, 22 min, worst web-1: next
/// get_pod_logs`.
fn text_line(group: &FailingGroup, line: &FailingGroupLine, now: Timestamp) -> String {
    let owner = line.workload.as_ref().map_or_else(
        || "no controller".to_owned(),
        |workload| format!("{} {}", workload.kind, workload.name),
    );
    let restarts = match group.restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        many => format!(", {many} restarts"),
    };
    let pods = match line.pods {
        1 => "1 pod".to_owned(),
        many => format!("{many} pods"),
    };
    format!(
        "\n- [{}] {} {}/{owner}: {pods}{restarts}, {}, worst {}; next {}",
        line.severity,
        line.reason,
        group.namespace,
        ago(group.since, now),
        group.worst.name,
        line.next_tool
    )
}

/// Where the cause of this reason shows: the logs of what ran and ended, else the pod's status
/// with its events.
fn next_tool(reason: &str) -> &'static str {
    let ran = ["CrashLoopBackOff", "Crashed", "RestartingOften", "Failed"].contains(&reason);
    match ToolName::named("get_pod_logs") {
        Some(logs) if ran => logs.as_str(),
        _ => ToolName::GetPodStatus.as_str(),
    }
}
