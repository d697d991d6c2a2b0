//! The list of tools: what a model reads before it chooses one. A change here is a change of the
//! public interface; tests/mcp_tools.json shows it in review.

use std::sync::{Arc, LazyLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;

use super::{answers, arguments, schema};

/// One tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolName {
    GetPodStatus,
    ListFailingPods,
    GetRecentEvents,
    ListWorkloads,
    GetRolloutStatus,
    GetRolloutHistory,
    ListNodes,
    GetPodLogs,
    RestartPod,
    GetAction,
    ListActions,
    WaitForAction,
    CancelAction,
}

impl ToolName {
    pub const ALL: [Self; 13] = [
        Self::ListFailingPods,
        Self::GetPodStatus,
        Self::GetRecentEvents,
        Self::ListWorkloads,
        Self::GetRolloutStatus,
        Self::GetRolloutHistory,
        Self::ListNodes,
        Self::GetPodLogs,
        Self::RestartPod,
        Self::GetAction,
        Self::ListActions,
        Self::WaitForAction,
        Self::CancelAction,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetPodStatus => "get_pod_status",
            Self::ListFailingPods => "list_failing_pods",
            Self::GetRecentEvents => "get_recent_events",
            Self::ListWorkloads => "list_workloads",
            Self::GetRolloutStatus => "get_rollout_status",
            Self::GetRolloutHistory => "get_rollout_history",
            Self::ListNodes => "list_nodes",
            Self::GetPodLogs => "get_pod_logs",
            Self::RestartPod => "restart_pod",
            Self::GetAction => "get_action",
            Self::ListActions => "list_actions",
            Self::WaitForAction => "wait_for_action",
            Self::CancelAction => "cancel_action",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.as_str() == name)
    }

    /// Changes something of ours (never a cluster): its audit row is durable before the answer.
    pub const fn writes(self) -> bool {
        matches!(self, Self::RestartPod | Self::CancelAction)
    }

    /// Needs only a cluster, not the store.
    pub const fn reads_cluster(self) -> bool {
        match self {
            Self::GetPodStatus
            | Self::ListFailingPods
            | Self::GetRecentEvents
            | Self::ListWorkloads
            | Self::GetRolloutStatus
            | Self::GetRolloutHistory
            | Self::ListNodes
            | Self::GetPodLogs => true,
            Self::RestartPod
            | Self::GetAction
            | Self::ListActions
            | Self::WaitForAction
            | Self::CancelAction => false,
        }
    }

    /// What to change in a call whose answer was too large.
    pub const fn narrower(self) -> &'static str {
        match self {
            Self::ListFailingPods
            | Self::ListWorkloads
            | Self::ListNodes
            | Self::GetRecentEvents => {
                "Ask again with a smaller `limit`, or for one namespace or object."
            }
            Self::GetPodLogs => "Ask again with `grep`, a smaller `tail_lines`, or for one pod.",
            Self::GetPodStatus | Self::GetRolloutStatus => {
                "The most important came first; get_recent_events has the events."
            }
            Self::GetRolloutHistory | Self::ListActions => "Ask again with a smaller `limit`.",
            Self::RestartPod | Self::GetAction | Self::WaitForAction | Self::CancelAction => {
                "The web page of the action shows all of it."
            }
        }
    }

    fn entry(self) -> &'static Entry {
        let place = Self::ALL
            .iter()
            .position(|tool| *tool == self)
            .unwrap_or_default();
        &TOOLS[place]
    }

    /// As clients are shown it.
    pub fn tool(self) -> &'static Tool {
        &self.entry().tool
    }

    /// What a call's arguments are checked against: with the patterns that the list leaves out.
    pub fn input_schema(self) -> &'static JsonObject {
        &self.entry().input
    }
}

struct Entry {
    tool: Tool,
    input: JsonObject,
}

/// Built once: making schemas costs more than answering.
static TOOLS: LazyLock<Vec<Entry>> =
    LazyLock::new(|| ToolName::ALL.into_iter().map(describe).collect());

fn describe(tool: ToolName) -> Entry {
    let reads = |title: &str| {
        ToolAnnotations::with_title(title)
            .read_only(true)
            .idempotent(true)
            .open_world(false)
    };
    match tool {
        ToolName::ListFailingPods => make::<arguments::ListFailingPods, answers::FailingPods>(
            tool,
            "Pods that are failing now, grouped by workload and reason, the worst first. Start here \
             when something is wrong and you do not know what. It looks past the phase: a crash \
             loop counts although its phase is Running. Do not use it to look at one known pod: \
             that is get_pod_status.",
            reads("List failing pods"),
        ),
        ToolName::GetPodStatus => make::<arguments::GetPodStatus, answers::PodStatus>(
            tool,
            "The state of one pod: what is wrong, since when, containers, restarts, how \
             the last run ended, newest warnings, and whether a restart could be proposed. Use it \
             before restart_pod. Do not loop over many pods with it: that is list_failing_pods.",
            reads("Get pod status"),
        ),
        ToolName::GetRecentEvents => make::<arguments::GetRecentEvents, answers::RecentEvents>(
            tool,
            "Recent Kubernetes events of one object, a namespace or the whole cluster, newest first, \
             repeats folded; warnings only unless include_normal is true. Use it for what refused, \
             killed or moved something. Clusters usually keep events for one hour: no event does \
             not mean that nothing happened.",
            reads("Get recent events"),
        ),
        ToolName::ListWorkloads => make::<arguments::ListWorkloads, answers::Workloads>(
            tool,
            "Deployments, StatefulSets, DaemonSets, Jobs and CronJobs, those with problems first: \
             desired, ready, updated and available pods, why not well, who manages them, their \
             autoscaler. Use it to find a workload's name or what is degraded. Not for the pods \
             themselves: that is list_failing_pods.",
            reads("List workloads"),
        ),
        ToolName::GetRolloutStatus => make::<arguments::GetRolloutStatus, answers::RolloutStatus>(
            tool,
            "Whether a rollout is complete, goes on, or is stuck or paused, as `kubectl rollout \
             status` judges it, and which pods hold it up. Use it after a deployment and when a \
             workload is degraded. Not for what changed: that is get_rollout_history.",
            reads("Get rollout status"),
        ),
        ToolName::GetRolloutHistory => {
            make::<arguments::GetRolloutHistory, answers::RolloutHistory>(
                tool,
                "The revisions of a workload, newest first, and what changed in each: images, names \
                 of environment variables (never values), resources, probes, command. Use it when \
                 trouble began with a rollout. It does not know changes of ConfigMaps or Secrets.",
                reads("Get rollout history"),
            )
        }
        ToolName::ListNodes => make::<arguments::ListNodes, answers::Nodes>(
            tool,
            "Nodes, those with problems first: conditions, pressure, cordoned, taints, requested \
             against allocatable cpu and memory, pods and failing pods on each. Use it when pods \
             are unschedulable, evicted, or fail on one node. Requests are not usage. Every key \
             sees every node; pods are counted only in namespaces that it may see.",
            reads("List nodes"),
        ),
        ToolName::GetPodLogs => make::<arguments::GetPodLogs, answers::PodLogs>(
            tool,
            "What the containers of a pod wrote, or of up to five pods of a workload, the failing \
             ones first: newest lines, repeats folded, stack traces whole, secrets masked. For a \
             crash loop set previous. Use grep rather than many lines. Do not use it to find out \
             whether a pod is failing: get_pod_status says that in fewer words.",
            reads("Get pod logs"),
        ),
        ToolName::RestartPod => make::<arguments::RestartPod, answers::Proposed>(
            tool,
            "PROPOSES to restart one pod by evicting it, so that its controller makes a new one. It \
             changes nothing by itself: a person has to approve, and a separate executor then \
             checks everything again and does it at most once. Returns at once with an action_id \
             and an approval_url: show that address to your user, then call wait_for_action. Use \
             it when a pod is failing and a fresh start can plausibly help. Do not use it for bad \
             images, missing configuration or unschedulable pods: a restart does not cure those. \
             Calling it again for the same pod while the action is open returns the same action.",
            ToolAnnotations::with_title("Propose to restart a pod")
                .read_only(false)
                .destructive(true)
                .idempotent(true)
                .open_world(false),
        ),
        ToolName::GetAction => make::<arguments::GetAction, answers::ActionStatus>(
            tool,
            "The state of one of your proposals: who decided and why, why it is held, how it ended. \
             Answers at once. To wait for a change use wait_for_action instead of calling this in \
             a loop.",
            reads("Get action"),
        ),
        ToolName::ListActions => make::<arguments::ListActions, answers::ActionList>(
            tool,
            "Your own proposals, newest first, optionally by state (`open`: all that have not \
             ended). Use it to find an action_id that you have lost.",
            reads("List actions"),
        ),
        ToolName::WaitForAction => make::<arguments::WaitForAction, answers::ActionStatus>(
            tool,
            "Waits until one of your proposals changes its state, at most timeout_seconds (45 at \
             the most), then answers like get_action. People take minutes: when it has not ended, \
             tell your user and call it again. Rejected, expired and refused are ends, not errors: \
             do not propose the same again without a new reason.",
            reads("Wait for action"),
        ),
        ToolName::CancelAction => make::<arguments::CancelAction, answers::ActionStatus>(
            tool,
            "Takes back one of your own proposals that nobody has begun to execute. Use it when the \
             problem went away or you proposed the wrong thing. It cannot undo what was executed.",
            ToolAnnotations::with_title("Cancel action")
                .read_only(false)
                .destructive(false)
                .idempotent(true)
                .open_world(false),
        ),
    }
}

fn make<I: JsonSchema, O: JsonSchema>(
    tool: ToolName,
    description: &'static str,
    annotations: ToolAnnotations,
) -> Entry {
    let input = schema::input::<I>();
    let listed = Arc::new(schema::listed(&input));
    let tool = Tool::new(tool.as_str(), description, listed)
        .with_raw_output_schema(Arc::new(schema::output::<O>()))
        .with_annotations(annotations);
    Entry { tool, input }
}
