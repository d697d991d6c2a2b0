//! A pod for unit tests: Running and Ready, of a ReplicaSet, with one container.

use countersign_domain::{
    ActionKind, ClusterRef, Count, Inverse, Predicate, Risk, Statement, Success, digest_text,
};
use countersign_integrations::kubernetes::{
    ConditionRecord, ConditionStatus, ContainerKind, ContainerRecord, ContainerState, OwnerRef,
    PodPhase, PodRecord, Requests, RestartPolicy, Terminated, Volumes,
};
use jiff::Timestamp;

use crate::facts;

pub fn at(text: &str) -> Timestamp {
    format!("2026-11-22T02:{text}Z").parse().unwrap()
}

pub fn pod(uid: &str) -> PodRecord {
    PodRecord {
        namespace: "shop".into(),
        name: format!("checkout-{uid}"),
        uid: uid.into(),
        resource_version: "7".into(),
        created_at: at("00:00"),
        labels: [("app".to_owned(), "checkout".to_owned())].into(),
        mirror: false,
        owner: Some(OwnerRef {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "checkout".into(),
            uid: "rs".into(),
        }),
        job: None,
        node: Some("worker-1".into()),
        phase: PodPhase::Running,
        reason: None,
        message: None,
        conditions: vec![ConditionRecord {
            kind: "Ready".into(),
            status: ConditionStatus::True,
            reason: None,
            message: None,
            last_transition_at: Some(at("01:00")),
        }],
        start_time: None,
        deletion_timestamp: None,
        deletion_grace_seconds: None,
        finalizers: vec![],
        restart_policy: RestartPolicy::Always,
        termination_grace_seconds: 30,
        readiness_gates: vec![],
        scheduling_gates: vec![],
        containers: vec![ContainerRecord {
            name: "app".into(),
            image: "app:1".into(),
            kind: ContainerKind::App,
            ready: true,
            restart_count: 0,
            state: Some(ContainerState::Running { since: None }),
            last_terminated: None,
            memory_limit: None,
        }],
        volumes: Volumes::default(),
        requests: Requests::default(),
    }
}

/// Not Ready; its container waits for this reason.
pub fn waiting(uid: &str, reason: &str) -> PodRecord {
    let mut pod = pod(uid);
    pod.conditions[0].status = ConditionStatus::False;
    pod.containers[0].ready = false;
    pod.containers[0].state = Some(ContainerState::Waiting {
        reason: Some(reason.into()),
        message: None,
    });
    pod
}

/// Ready again after a crash at that time.
pub fn crashed_at(uid: &str, when: Timestamp) -> PodRecord {
    let mut pod = pod(uid);
    pod.containers[0].last_terminated = Some(Terminated {
        reason: Some("OOMKilled".into()),
        message: None,
        exit_code: 137,
        signal: None,
        started_at: None,
        finished_at: Some(when),
    });
    pod
}

/// About the pod with uid `old`: admitted at 02:00, one minute for the outcome.
pub fn statement() -> Statement {
    let old = pod("old");
    let owner = facts::owner_ref(old.owner.as_ref().unwrap());
    Statement {
        v: "1".into(),
        kid: "k".into(),
        action_id: "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10".parse().unwrap(),
        cluster: ClusterRef {
            id: "try".into(),
            kube_system_uid: "u".into(),
        },
        kind: ActionKind::RestartPod,
        namespace: old.namespace,
        name: old.name,
        uid: old.uid,
        params: [].into(),
        facts: [].into(),
        predicates: vec![Predicate::Owner { owner }],
        success: Success::ReplacementReady {
            deadline_seconds: Count(60),
        },
        inverse: Inverse::None {
            because: "it is gone".into(),
        },
        agent: "claude".into(),
        on_behalf_of: vec!["bob".into()],
        rule: "shop".into(),
        risk: Risk::Low,
        require: vec![],
        self_approval: "forbidden".into(),
        policy_hash: digest_text("p"),
        admitted_at: at("00:00"),
        decide_by: at("10:00"),
        execute_by: at("20:00"),
    }
}
