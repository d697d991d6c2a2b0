//! `list_nodes`: conditions of nodes, and what their pods ask of them.

use countersign_integrations::kubernetes::{
    NodeLoad, NodeRecord, Scope, Severity, node_problems, page,
};
use countersign_integrations::near_matches::near_matches;

use super::{View, bad_cursor, bounded, more_pages, unreadable};
use crate::mcp::answers::{Answer, Complaint, NodeLine, Nodes};
use crate::mcp::arguments::ListNodes;

const MIB: i64 = 1 << 20;
/// Of one node.
const MOST_TAINTS: usize = 10;
const MOST_PROBLEMS: usize = 5;

struct Judged {
    node: NodeRecord,
    load: NodeLoad,
    problems: Vec<(Severity, String)>,
}

impl View<'_> {
    pub async fn list_nodes(&self, args: ListNodes) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let nodes = cluster.reading.list_nodes().await;
        let mut nodes = nodes.map_err(|error| unreadable(&error))?;
        if let Some(wanted) = &args.node {
            if !nodes.iter().any(|node| node.name == *wanted) {
                return Err(no_node(wanted, &nodes, &cluster.title()));
            }
            nodes.retain(|node| node.name == *wanted);
        }
        let scope = cluster.scope(None);
        let loads = cluster
            .reading
            .node_loads(&scope, self.now, &self.thresholds);
        let mut by_node = loads.await.map_err(|error| unreadable(&error))?;
        let counted_in = match scope {
            Scope::All => None,
            Scope::Namespaces(names) => Some(names.to_vec()),
        };
        let seen = nodes.len();
        let mut judged: Vec<Judged> = nodes
            .into_iter()
            .map(|node| Judged {
                load: by_node.remove(&node.name).unwrap_or_default(),
                problems: node_problems(&node),
                node,
            })
            .collect();
        let with_problems = judged.iter().filter(|one| !one.problems.is_empty()).count();
        if args.only_problems.unwrap_or(false) {
            judged.retain(|one| !one.problems.is_empty() || one.load.failing > 0);
        }
        judged.sort_by_cached_key(|one| {
            let worst = one.problems.iter().map(|(severity, _)| *severity).max();
            let order = std::cmp::Reverse((worst, one.load.failing));
            (order, one.node.name.clone())
        });
        let question = format!("{:?} {:?}", args.node, args.only_problems);
        let limit = args.limit.unwrap_or(20) as usize;
        let name = |one: &Judged| one.node.name.clone();
        let page =
            page(judged, name, &question, limit, args.cursor.as_deref()).map_err(bad_cursor)?;
        let lines: Vec<NodeLine> = page.items.into_iter().map(line).collect();
        let mut text = format!(
            "{with_problems} of {seen} nodes of {} have problems; {} shown:",
            cluster.title(),
            lines.len()
        );
        for line in &lines {
            text.push_str(&told(line));
        }
        if page.next_cursor.is_some() {
            text.push_str(&more_pages(page.total, "only_problems"));
        }
        if let Some(visible) = &counted_in {
            text.push_str(&format!(
                "\nPods and requests are counted only in the namespaces that this key may see: {}.",
                visible.join(", ")
            ));
        }
        let text = cluster.framed(&text);
        let body = Nodes {
            cluster: cluster.id.to_owned(),
            nodes_seen: bounded(seen),
            nodes_with_problems: bounded(with_problems),
            nodes: lines,
            pods_counted_in: counted_in,
            complete: cluster.understood(),
            next_cursor: page.next_cursor,
            origin: cluster.origin(),
        };
        Ok(Answer::new(text, &body))
    }
}

fn no_node(name: &str, nodes: &[NodeRecord], cluster: &str) -> Complaint {
    let near = near_matches(name, nodes.iter().map(|node| node.name.as_str()));
    let advice = if near.is_empty() {
        "leave `node` out to see all".to_owned()
    } else {
        format!("near it are: {}", near.join(", "))
    };
    Complaint::new(
        "unknown_node",
        format!("there is no node `{name}` in {cluster}; {advice}"),
    )
}

fn line(one: Judged) -> NodeLine {
    let Judged {
        node,
        load,
        problems,
    } = one;
    NodeLine {
        ready: node.ready,
        cordoned: node.unschedulable,
        problems: problems
            .iter()
            .take(MOST_PROBLEMS)
            .map(|(_, text)| text.clone())
            .collect(),
        taints: node.taints.into_iter().take(MOST_TAINTS).collect(),
        cpu_requested_milli: load.requested.cpu_milli,
        cpu_allocatable_milli: node.allocatable.cpu_milli,
        memory_requested_mib: load.requested.memory_bytes / MIB,
        memory_allocatable_mib: node.allocatable.memory_bytes / MIB,
        pods: bounded(load.pods),
        pods_allocatable: node.allocatable_pods,
        pods_failing: bounded(load.failing),
        failing: load.failing_names,
        kubelet_version: node.kubelet_version,
        name: node.name,
    }
}

fn told(line: &NodeLine) -> String {
    let share = |part: i64, whole: i64| {
        if whole > 0 {
            format!(" ({} %)", part.saturating_mul(100) / whole)
        } else {
            String::new()
        }
    };
    let mut text = format!(
        "\n- {}: {}; requested cpu {}m of {}m{}, memory {} of {} Mi{}; {} of {} pods, {} failing",
        line.name,
        match (line.ready, line.problems.is_empty()) {
            (true, true) => "ready".to_owned(),
            _ => line.problems.join(" | "),
        },
        line.cpu_requested_milli,
        line.cpu_allocatable_milli,
        share(line.cpu_requested_milli, line.cpu_allocatable_milli),
        line.memory_requested_mib,
        line.memory_allocatable_mib,
        share(line.memory_requested_mib, line.memory_allocatable_mib),
        line.pods,
        line.pods_allocatable,
        line.pods_failing
    );
    if !line.failing.is_empty() {
        text.push_str(&format!(": {}", line.failing.join(", ")));
    }
    if !line.taints.is_empty() {
        text.push_str(&format!("; taints {}", line.taints.join(", ")));
    }
    text
}
