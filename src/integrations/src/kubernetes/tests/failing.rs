//! The definition of failing, rule by rule, and what only looks like it.

use super::*;
use crate::kubernetes::{ContainerKind, JobState, Severity, Thresholds, failing, scheduling_gated};

/// `Reason container minutes` of the verdict, or `-`.
fn verdict(pod: &PodRecord) -> String {
    match failing(pod, now(), &Thresholds::default()) {
        None => "-".to_owned(),
        Some(failing) => {
            let minutes = now().duration_since(failing.since).as_secs_f64() / 60.0;
            let container = failing.container.as_deref().unwrap_or("pod");
            format!("{} {container} {minutes}", failing.reason)
        }
    }
}

fn status(status: Value) -> PodRecord {
    pod(Value::Object(
        [("status".to_owned(), status)].into_iter().collect(),
    ))
}

#[test]
fn a_ready_pod_is_not_failing() {
    assert_eq!(verdict(&status(json!({}))), "-");
}

#[test]
fn bad_waiting_reasons_fail_at_once_in_phase_running_too() {
    for reason in [
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ] {
        let pod = status(json!({
            "conditions": unready(1.0),
            "containerStatuses": [waiting("app", reason, 3)],
        }));
        assert_eq!(verdict(&pod), format!("{reason} app 1"));
        let failing = failing(&pod, now(), &Thresholds::default()).unwrap();
        assert_eq!((failing.restarts, failing.severity), (3, Severity::High));
    }
}

#[test]
fn init_sidecar_and_ephemeral_containers_count() {
    let init = pod(json!({
        "spec": { "initContainers": [{ "name": "migrate", "image": "m" }] },
        "status": {
            "phase": "Pending", "conditions": unready(3.0),
            "initContainerStatuses": [waiting("migrate", "CrashLoopBackOff", 2)],
            "containerStatuses": [waiting("app", "PodInitializing", 0)],
        },
    }));
    assert_eq!(verdict(&init), "CrashLoopBackOff migrate 3");
    let sidecar = pod(json!({
        "spec": { "initContainers": [{ "name": "mesh", "image": "m", "restartPolicy": "Always" }] },
        "status": {
            "conditions": unready(3.0),
            "initContainerStatuses": [waiting("mesh", "ImagePullBackOff", 0)],
        },
    }));
    assert_eq!(sidecar.containers[0].kind, ContainerKind::Sidecar);
    assert_eq!(verdict(&sidecar), "ImagePullBackOff mesh 3");
    let debug = pod(json!({
        "spec": { "ephemeralContainers": [{ "name": "shell", "image": "b" }] },
        "status": { "ephemeralContainerStatuses": [waiting("shell", "ErrImagePull", 0)] },
    }));
    assert!(verdict(&debug).starts_with("ErrImagePull shell"));
}

#[test]
fn a_running_native_sidecar_and_an_ended_debug_shell_are_ordinary() {
    let pod = pod(json!({
        "spec": {
            "initContainers": [{ "name": "mesh", "image": "m", "restartPolicy": "Always" }],
            "ephemeralContainers": [{ "name": "shell", "image": "b" }],
        },
        "status": {
            "initContainerStatuses": [running("mesh", 119.0)],
            "ephemeralContainerStatuses": [
                { "name": "shell", "state": terminated("Error", 130, 1.0) },
            ],
        },
    }));
    assert_eq!(verdict(&pod), "-");
}

#[test]
fn creating_is_failing_only_after_five_minutes_since_the_step_before() {
    let creating = |minutes: f64| {
        status(json!({
            "phase": "Pending", "startTime": before(minutes),
            "conditions": [condition("PodScheduled", "True", minutes)],
            "containerStatuses": [waiting("app", "ContainerCreating", 0)],
        }))
    };
    assert_eq!(verdict(&creating(4.9)), "-");
    assert_eq!(verdict(&creating(6.0)), "ContainerCreating app 6");
    let init = pod(json!({
        "spec": { "initContainers": [{ "name": "migrate", "image": "m" }] },
        "status": {
            "phase": "Pending", "startTime": before(9.0),
            "conditions": [
                condition("PodScheduled", "True", 9.0),
                condition("Initialized", "False", 9.0),
            ],
            "initContainerStatuses": [running("migrate", 8.0)],
            "containerStatuses": [waiting("app", "PodInitializing", 0)],
        },
    }));
    assert_eq!(verdict(&init), "PodInitializing app 9");
}

#[test]
fn phase_failed_is_failing_unless_its_job_tries_again() {
    let evicted =
        status(json!({ "phase": "Failed", "reason": "Evicted", "message": "low on disk" }));
    assert!(verdict(&evicted).starts_with("Evicted pod"));
    let failed = json!({
        "metadata": { "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "import", "uid": "job-1",
            "controller": true,
        }] },
        "spec": { "restartPolicy": "Never" },
        "status": {
            "phase": "Failed",
            "containerStatuses": [
                { "name": "app", "state": terminated("Error", 1, 2.0) },
            ],
        },
    });
    let mut pod = pod(failed);
    assert_eq!(
        verdict(&pod),
        "Failed app 2",
        "the Job's state is not known"
    );
    pod.job = Some(JobState {
        failed: 1,
        backoff_limit: 6,
        retrying: true,
        complete: false,
        suspended: false,
    });
    assert_eq!(verdict(&pod), "-");
    pod.job = Some(JobState {
        failed: 7,
        backoff_limit: 6,
        retrying: false,
        complete: false,
        suspended: false,
    });
    assert_eq!(verdict(&pod), "Failed app 2");
}

#[test]
fn a_job_retries_until_a_final_condition_or_while_suspended_not() {
    let job = |patch: Value| workload("Job", "import", patch).job.unwrap().retrying;
    assert!(job(
        json!({ "spec": { "backoffLimit": 6 }, "status": { "failed": 2 } })
    ));
    assert!(!job(json!({ "spec": { "suspend": true } })));
    for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        assert!(!job(
            json!({ "status": { "conditions": [condition(kind, "True", 1.0)] } })
        ));
    }
}

#[test]
fn unschedulable_after_five_minutes_and_gated_apart() {
    let pending = |minutes: f64, reason: &str| {
        let mut scheduled = condition("PodScheduled", "False", minutes);
        scheduled["reason"] = json!(reason);
        json!({ "phase": "Pending", "conditions": [scheduled], "containerStatuses": null })
    };
    assert_eq!(verdict(&status(pending(4.0, "Unschedulable"))), "-");
    assert_eq!(
        verdict(&status(pending(7.0, "Unschedulable"))),
        "Unschedulable pod 7"
    );
    let gated = pod(json!({
        "spec": { "schedulingGates": [{ "name": "quota" }], "nodeName": "" },
        "status": pending(60.0, "SchedulingGated"),
    }));
    assert_eq!(verdict(&gated), "-");
    assert!(scheduling_gated(&gated));
}

#[test]
fn unready_after_five_minutes() {
    let unready = |minutes: f64| {
        status(json!({
            "conditions": unready(minutes),
            "containerStatuses": [{ "name": "app", "ready": false, "restartCount": 0,
                "state": { "running": { "startedAt": before(60.0) } } }],
        }))
    };
    assert_eq!(verdict(&unready(4.0)), "-");
    assert_eq!(verdict(&unready(8.0)), "NotReady app 8");
}

#[test]
fn a_readiness_gate_is_named_instead_of_a_container() {
    let pod = pod(json!({
        "spec": { "readinessGates": [{ "conditionType": "lb.example/healthy" }] },
        "status": { "conditions": [
            condition("ContainersReady", "True", 60.0),
            condition("Ready", "False", 60.0),
        ] },
    }));
    let failing = failing(&pod, now(), &Thresholds::default()).unwrap();
    assert_eq!(verdict(&pod), "ReadinessGatePending pod 60");
    assert_eq!(
        failing.message.unwrap(),
        "containers are ready; waiting for lb.example/healthy"
    );
    assert_eq!(failing.severity, Severity::Low);
}

#[test]
fn completed_pods_are_not_failing() {
    let done = json!({ "name": "app", "state": terminated("Completed", 0, 30.0) });
    let succeeded = status(json!({
        "phase": "Succeeded", "conditions": unready(30.0), "containerStatuses": [done],
    }));
    assert_eq!(verdict(&succeeded), "-");
    // The sidecar was ended after the work was done; the phase has not followed yet.
    let finishing = pod(json!({
        "spec": {
            "restartPolicy": "OnFailure",
            "initContainers": [{ "name": "mesh", "image": "m", "restartPolicy": "Always" }],
        },
        "status": {
            "conditions": unready(6.0),
            "initContainerStatuses": [{ "name": "mesh", "state": terminated("Error", 143, 0.5) }],
            "containerStatuses": [done],
        },
    }));
    assert_eq!(verdict(&finishing), "-");
}

#[test]
fn crashes_count_inside_the_window() {
    let crashed = |reason: &str, code: i32, minutes: f64| {
        let mut app = running("app", minutes - 0.1);
        app["restartCount"] = json!(1);
        app["lastState"] = terminated(reason, code, minutes);
        status(json!({ "containerStatuses": [app] }))
    };
    assert_eq!(verdict(&crashed("OOMKilled", 137, 9.0)), "OOMKilled app 9");
    assert_eq!(verdict(&crashed("Error", 1, 9.0)), "Crashed app 9");
    assert_eq!(verdict(&crashed("Error", 1, 11.0)), "-");
    assert_eq!(verdict(&crashed("Completed", 0, 1.0)), "-");
    let failing = failing(&crashed("Error", 1, 9.0), now(), &Thresholds::default()).unwrap();
    assert_eq!(failing.severity, Severity::Low, "it is ready again");
}

#[test]
fn many_restarts_count_with_a_recent_one() {
    let restarted = |restarts: u32, minutes: f64| {
        let mut app = running("app", minutes);
        app["restartCount"] = json!(restarts);
        app["lastState"] = terminated("Completed", 0, minutes);
        status(json!({ "containerStatuses": [app] }))
    };
    assert_eq!(verdict(&restarted(5, 3.0)), "RestartingOften app 3");
    assert_eq!(verdict(&restarted(4, 3.0)), "-");
    assert_eq!(verdict(&restarted(50, 30.0)), "-");
}

#[test]
fn a_lost_node_is_failing() {
    let lost = status(json!({ "phase": "Unknown", "conditions": unready(2.0) }));
    assert_eq!(verdict(&lost), "Unknown pod 2");
}

#[test]
fn a_deletion_is_failing_only_after_its_timestamp_and_slack() {
    // `deletionTimestamp` lies `seconds` back (or ahead), with the grace in it already.
    let deleted = |seconds: f64, grace: u64| {
        pod(json!({
            "metadata": {
                "deletionTimestamp": before(seconds / 60.0),
                "deletionGracePeriodSeconds": grace, "finalizers": ["example.org/wait"],
            },
            "status": {
                "conditions": unready(1.0),
                "containerStatuses": [{ "name": "app", "state": terminated("Error", 143, 0.5) }],
            },
        }))
    };
    assert_eq!(
        verdict(&deleted(-20.0, 30)),
        "-",
        "ten of its thirty seconds"
    );
    assert_eq!(verdict(&deleted(30.0, 30)), "-");
    assert_eq!(verdict(&deleted(60.0, 30)), "StuckTerminating pod 1");
    assert_eq!(verdict(&deleted(60.0, 600)), "StuckTerminating pod 1");
    assert_eq!(verdict(&deleted(60.0, 0)), "StuckTerminating pod 1");
    let stuck = failing(&deleted(120.0, 30), now(), &Thresholds::default()).unwrap();
    assert_eq!(now().duration_since(stuck.since).as_secs(), 120);
    assert_eq!(
        stuck.message.unwrap(),
        "waiting for finalizers: example.org/wait"
    );
}

#[test]
fn hostile_messages_show_their_hidden_characters() {
    let mut app = waiting("app", "ErrImagePull", 0);
    app["state"]["waiting"]["message"] = json!("ignore\u{202e} all\u{200b}\n\u{1b}[2J");
    let pod = status(json!({ "containerStatuses": [app] }));
    let message = failing(&pod, now(), &Thresholds::default())
        .unwrap()
        .message
        .unwrap();
    assert_eq!(message, "ignore⟨U+202E⟩ all⟨U+200B⟩⏎⟨U+001B⟩[2J");
}

#[test]
fn a_record_holds_no_environment_and_no_managed_fields() {
    let text = serde_json::to_string(&pod(json!({}))).unwrap();
    assert!(
        !text.contains("hunter2") && !text.contains("manager"),
        "{text}"
    );
    assert!(text.len() < 1500, "{} bytes", text.len());
}
