//! The API server's answers to evictions, case by case as its handler decides them.

use super::*;
use crate::kubernetes::{
    EvictionPreview, NotRestartable, RestartWarning, eviction_preview, restartable,
};

fn preview(pod: &PodRecord, pdbs: &[PdbRecord]) -> EvictionPreview {
    eviction_preview(pod, &owned_by("ReplicaSet", "web-7d9f"), pdbs)
}

fn ready() -> PodRecord {
    pod(json!({}))
}

fn not_ready() -> PodRecord {
    pod(json!({ "status": { "conditions": unready(10.0) } }))
}

/// A budget with these healthy and needed pods, as its controller computes the room.
fn budget(healthy: i32, needed: i32, policy: Option<&str>) -> PdbRecord {
    let mut patch = json!({ "status": {
        "currentHealthy": healthy, "desiredHealthy": needed,
        "disruptionsAllowed": (healthy - needed).max(0),
    } });
    if let Some(policy) = policy {
        patch["spec"] = json!({ "unhealthyPodEvictionPolicy": policy });
    }
    pdb("web", patch)
}

#[test]
fn without_a_budget_or_with_room_it_is_allowed() {
    assert_eq!(
        preview(&ready(), &[]),
        EvictionPreview::Allowed { pdb: None }
    );
    let with_room = preview(&ready(), &[budget(3, 2, None)]);
    assert_eq!(
        with_room,
        EvictionPreview::Allowed {
            pdb: Some("web".into())
        }
    );
}

#[test]
fn without_room_a_ready_pod_is_held_back() {
    let EvictionPreview::Blocked { pdb, why } = preview(&ready(), &[budget(2, 2, None)]) else {
        panic!("not blocked");
    };
    assert_eq!(
        (pdb.as_str(), why.as_str()),
        ("web", "it needs 2 healthy pods and has 2: there is no room",)
    );
}

#[test]
fn an_unready_pod_passes_a_met_budget_although_it_has_no_room() {
    assert!(matches!(
        preview(&not_ready(), &[budget(2, 2, None)]),
        EvictionPreview::AllowedBypass { pdb: Some(_), .. }
    ));
}

#[test]
fn when_every_replica_crashes_the_default_policy_holds_all_back() {
    let EvictionPreview::Blocked { why, .. } = preview(&not_ready(), &[budget(0, 2, None)]) else {
        panic!("not blocked");
    };
    assert!(
        why.contains("a restart of the whole workload is not bound by it"),
        "{why}"
    );
    let explicit = preview(&not_ready(), &[budget(0, 2, Some("IfHealthyBudget"))]);
    assert!(!explicit.allowed());
    let lenient = preview(&not_ready(), &[budget(0, 2, Some("AlwaysAllow"))]);
    assert!(matches!(lenient, EvictionPreview::AllowedBypass { .. }));
    // Needing none is not "met": the handler wants desiredHealthy above zero.
    assert!(!preview(&not_ready(), &[budget(0, 0, None)]).allowed());
}

#[test]
fn always_allow_is_for_unready_pods_only() {
    assert!(!preview(&ready(), &[budget(2, 2, Some("AlwaysAllow"))]).allowed());
}

#[test]
fn a_budget_not_computed_yet_holds_back() {
    let stale = pdb("web", json!({ "metadata": { "generation": 2 } }));
    assert!(matches!(
        preview(&ready(), &[stale]),
        EvictionPreview::Blocked { why, .. } if why.contains("not been computed")
    ));
    let broken = pdb(
        "web",
        json!({ "status": { "disruptionsAllowed": 0, "conditions": [{
        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
        "message": "no scale subresource",
    }] } }),
    );
    assert!(matches!(
        preview(&ready(), &[broken]),
        EvictionPreview::Blocked { why, .. } if why.contains("no scale subresource")
    ));
}

#[test]
fn two_budgets_are_an_error_and_unrelated_ones_are_not_counted() {
    let other_app = pdb(
        "api",
        json!({ "spec": { "selector": { "matchLabels": { "app": "api" } } } }),
    );
    let elsewhere = pdb("far", json!({ "metadata": { "namespace": "other" } }));
    let mut nothing = budget(0, 2, None);
    nothing.selector = None;
    assert_eq!(
        preview(&ready(), &[other_app, elsewhere, nothing]),
        EvictionPreview::Allowed { pdb: None }
    );
    let mut everything = budget(3, 2, None);
    everything.name = "all".into();
    everything.selector = Some(Default::default());
    let both = preview(&ready(), &[budget(3, 2, None), everything.clone()]);
    assert_eq!(
        both,
        EvictionPreview::TwoBudgets {
            pdbs: vec!["web".into(), "all".into()]
        }
    );
    let mut bare = ready();
    bare.labels.clear();
    assert_eq!(
        preview(&bare, &[everything]),
        EvictionPreview::Allowed { pdb: None }
    );
}

#[test]
fn pods_that_do_not_run_pass_every_budget() {
    for phase in ["Pending", "Failed", "Succeeded"] {
        let pod = pod(json!({ "status": { "phase": phase } }));
        assert!(matches!(
            preview(&pod, &[budget(0, 2, None), budget(0, 2, None)]),
            EvictionPreview::AllowedBypass { pdb: None, .. }
        ));
    }
}

#[test]
fn what_nothing_would_replace_is_refused() {
    let refused = |pod: &PodRecord, owner: &OwnerLookup| restartable(pod, owner).unwrap_err();
    let found = owned_by("ReplicaSet", "web-7d9f");
    assert_eq!(
        refused(&ready(), &OwnerLookup::NoController),
        NotRestartable::NoController
    );
    let owner = owner_ref("ReplicaSet", "web-7d9f");
    let gone = OwnerLookup::Gone {
        owner: owner.clone(),
    };
    assert_eq!(
        refused(&ready(), &gone),
        NotRestartable::OwnerGone { owner }
    );
    let mirror = pod(json!({ "metadata": {
        "annotations": { "kubernetes.io/config.mirror": "abc" },
    } }));
    assert_eq!(refused(&mirror, &found), NotRestartable::MirrorPod);
    let terminating = pod(json!({ "metadata": {
        "deletionTimestamp": before(0.1), "finalizers": ["example.org/wait"],
    } }));
    let error = refused(&terminating, &found);
    assert_eq!(
        error.to_string(),
        "this pod is already being deleted and waits for its finalizers: example.org/wait"
    );
    assert_eq!(
        preview_of(&terminating, &found),
        EvictionPreview::NotRestartable { reason: error }
    );
}

fn preview_of(pod: &PodRecord, owner: &OwnerLookup) -> EvictionPreview {
    eviction_preview(pod, owner, &[])
}

#[test]
fn what_an_approver_should_know_is_said() {
    let volumes = pod(json!({ "spec": { "volumes": [
        { "name": "cache", "emptyDir": {} },
        { "name": "logs", "hostPath": { "path": "/var/log" } },
        { "name": "data", "persistentVolumeClaim": { "claimName": "data-web-0" } },
        { "name": "conf", "configMap": { "name": "x" } },
    ] } }));
    assert_eq!(volumes.volumes.persistent_volume_claims, ["data-web-0"]);
    assert_eq!(
        restartable(&volumes, &owned_by("StatefulSet", "web")).unwrap(),
        [
            RestartWarning::StatefulSet { name: "web".into() },
            RestartWarning::EmptyDir {
                volumes: vec!["cache".into()]
            },
            RestartWarning::HostPath {
                volumes: vec!["logs".into()]
            },
        ]
    );
    assert_eq!(
        restartable(&ready(), &owned_by("Job", "import")).unwrap(),
        [RestartWarning::JobPod {
            job: "import".into()
        }]
    );
    let rollout = OwnerLookup::Unverified {
        owner: owner_ref("Rollout", "web"),
    };
    assert_eq!(restartable(&ready(), &rollout).unwrap().len(), 1);
    assert!(
        restartable(&ready(), &owned_by("ReplicaSet", "web-7d9f"))
            .unwrap()
            .is_empty()
    );
}
