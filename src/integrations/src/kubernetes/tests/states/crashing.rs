//! Containers that ran and ended.

use super::*;

/// Container app in CrashLoopBackOff; the pod started `minutes` ago and lost readiness then.
fn looping(restarts: u32, minutes: f64, lost: f64, last: Value) -> Value {
    let mut app = waiting("app", "CrashLoopBackOff", restarts);
    app["lastState"] = last;
    app["state"]["waiting"]["message"] =
        json!("back-off 5m0s restarting failed container=app pod=web-7d9f-abcde");
    json!({ "status": {
        "startTime": before(minutes), "conditions": unready(lost), "containerStatuses": [app],
    } })
}

/// `running` as the API has it: from `began` to `ended` minutes ago.
fn ran(reason: &str, code: i32, began: f64, ended: f64) -> Value {
    let mut end = terminated(reason, code, ended);
    end["terminated"]["startedAt"] = json!(before(began));
    end
}

pub(super) fn states() -> Vec<State> {
    let mut words = ran("Error", 1, 3.0, 2.0);
    words["terminated"]["message"] = json!("panic: no route to \"db\"\n");
    let mut no_limit = looping(3, 40.0, 12.0, ran("OOMKilled", 137, 9.0, 4.0));
    no_limit["spec"] = json!({ "containers": [{ "name": "app", "image": "web:1.2" }] });
    let mut liveness = looping(6, 60.0, 25.0, ran("Error", 137, 6.0, 3.0));
    liveness["spec"] = json!({ "containers": [{
        "name": "app", "image": "web:1.2",
        "livenessProbe": { "httpGet": { "path": "/healthz?token=s3cret", "port": 8080 } },
    }] });
    let oom_ready = {
        let mut app = running("app", 8.0);
        app["restartCount"] = json!(2);
        app["lastState"] = ran("OOMKilled", 137, 300.0, 8.5);
        json!({ "status": { "startTime": before(600.0), "containerStatuses": [app] } })
    };
    let never = json!({
        "spec": { "restartPolicy": "Never" },
        "status": { "conditions": unready(2.0), "containerStatuses": [
            { "name": "app", "ready": false, "restartCount": 0,
              "state": ran("Error", 3, 60.0, 2.0) },
            running("helper", 60.0),
        ] },
    });
    let often = {
        let mut app = running("app", 3.0);
        app["restartCount"] = json!(9);
        app["lastState"] = ran("Completed", 0, 9.0, 4.0);
        json!({ "status": { "startTime": before(90.0), "containerStatuses": [app] } })
    };
    let init = json!({
        "spec": { "initContainers": [{ "name": "migrate", "image": "m:1" }] },
        "status": {
            "phase": "Pending", "startTime": before(13.0), "conditions": unready(13.0),
            "initContainerStatuses": [{
                "name": "migrate", "restartCount": 6, "ready": false,
                "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                "lastState": ran("Error", 127, 4.0, 4.0),
            }],
            "containerStatuses": [waiting("app", "PodInitializing", 0)],
        },
    });
    let sidecar = json!({
        "spec": { "initContainers": [{ "name": "mesh", "image": "mesh:1",
                                       "restartPolicy": "Always" }] },
        "status": {
            "conditions": unready(18.0),
            "initContainerStatuses": [{
                "name": "mesh", "restartCount": 8, "ready": false,
                "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                "lastState": ran("Error", 139, 5.0, 4.5),
            }],
            "containerStatuses": [running("app", 119.0)],
        },
    });
    let unknown = {
        let mut app = running("app", 5.0);
        app["restartCount"] = json!(1);
        app["lastState"] = ran("ContainerStatusUnknown", 137, 300.0, 6.0);
        json!({ "status": { "startTime": before(600.0), "containerStatuses": [app] } })
    };
    vec![
        state(
            "crash loop, out of memory",
            "Running, CrashLoopBackOff, last state OOMKilled",
            looping(5, 20.0, 2.0, ran("OOMKilled", 137, 4.0, 2.0)),
        )
        .rollout(2, "14", 21.0)
        .judged("CrashLoopBackOff, 2 min")
        .says(
            "Container app is in CrashLoopBackOff: 5 restarts in 20 min, the last run was \
             OOMKilled at its memory limit of 512Mi after 2 min, 2 min ago. Last ready at 01:58 \
             UTC; revision 14 of Deployment web was first rolled out at 01:39 UTC; Deployment web \
             has 2 of 3 available.",
        ),
        state(
            "crash loop, out of memory without a limit",
            "Running, CrashLoopBackOff, last state OOMKilled, no memory limit",
            no_limit,
        )
        .node(&json!([
            condition("Ready", "True", 9000.0),
            condition("MemoryPressure", "True", 5.0)
        ]))
        .judged("CrashLoopBackOff, 12 min")
        .says(
            "Container app is in CrashLoopBackOff: 3 restarts in 40 min, the last run was \
             OOMKilled (it has no memory limit of its own, so its node or a limit on the whole \
             pod ran out) after 5 min, 4 min ago. Last ready at 01:48 UTC; node \
             node-1 reports MemoryPressure.",
        ),
        state(
            "crash loop, error with last words",
            "Running, CrashLoopBackOff, exit code 1, a termination message",
            looping(7, 30.0, 30.0, words),
        )
        .judged("CrashLoopBackOff, 30 min")
        .says(
            "Container app is in CrashLoopBackOff: 7 restarts in 30 min, the last run exited with \
             code 1 (an error of the program: its log says which) after 60 s, 2 min ago, with the \
             words ⟦panic: no route to \"db\"⟧. Not ready since it started at 01:30 UTC.",
        ),
        state(
            "crash loop, command not found",
            "Running, CrashLoopBackOff, exit code 127",
            looping(4, 10.0, 10.0, ran("Error", 127, 1.0, 1.0)),
        )
        .rollout(3, "3", 10.0)
        .judged("CrashLoopBackOff, 10 min")
        .says(
            "Container app is in CrashLoopBackOff: 4 restarts in 10 min, the last run exited with \
             code 127 (the command or a library was not found in the image) after 0 s, 60 s ago. \
             Not ready since it started at 01:50 UTC; revision 3 of Deployment web was first \
             rolled out at 01:50 UTC.",
        ),
        state(
            "crash loop, command not executable",
            "Running, CrashLoopBackOff, exit code 126",
            looping(4, 10.0, 10.0, terminated("Error", 126, 1.0)),
        )
        .judged("CrashLoopBackOff, 10 min")
        .says(
            "Container app is in CrashLoopBackOff: 4 restarts in 10 min, the last run exited with \
             code 126 (the command is there but cannot be executed), 60 s ago. Not ready since it \
             started at 01:50 UTC.",
        ),
        state(
            "crash loop, segmentation fault",
            "Running, CrashLoopBackOff, exit code 139",
            looping(4, 300.0, 10.0, ran("Error", 139, 3.0, 1.0)),
        )
        .judged("CrashLoopBackOff, 10 min")
        .says(
            "Container app is in CrashLoopBackOff: 4 restarts in 5 h, the last run exited with \
             code 139 (SIGSEGV: a segmentation fault in native code) after 2 min, 60 s ago. Last \
             ready at 01:50 UTC.",
        ),
        state(
            "crash loop, killed without an OOM mark",
            "Running, CrashLoopBackOff, exit code 137, reason Error",
            looping(4, 60.0, 10.0, ran("Error", 137, 3.0, 1.0)),
        )
        .judged("CrashLoopBackOff, 10 min")
        .says(
            "Container app is in CrashLoopBackOff: 4 restarts in 60 min, the last run exited with \
             code 137 (SIGKILL without an OOM mark: killed from outside, as when a probe fails, \
             the grace period passes or the node lacks memory) after 2 min, 60 s ago. Last ready \
             at 01:50 UTC.",
        ),
        state(
            "crash loop, killed by its liveness probe",
            "Running, CrashLoopBackOff, exit code 137, event Killing",
            liveness,
        )
        .event(
            "Killing",
            "Container app failed liveness probe, will be restarted",
            6,
            3.5,
        )
        .event(
            "Unhealthy",
            "Liveness probe failed: HTTP probe failed with statuscode: 500",
            18,
            3.5,
        )
        .judged("CrashLoopBackOff, 25 min")
        .says(
            "Container app is in CrashLoopBackOff: 6 restarts in 60 min, the last run was killed \
             (exit code 137) after 3 min, 3 min ago, because its liveness probe (GET \
             :8080/healthz, 3 failures 10 s apart, timeout 1 s) failed: ⟦HTTP probe failed with \
             statuscode: 500⟧. Last ready at 01:35 UTC.",
        ),
        state(
            "crash loop, told to stop",
            "Running, CrashLoopBackOff, exit code 143",
            looping(4, 60.0, 10.0, ran("Error", 143, 3.0, 1.0)),
        )
        .judged("CrashLoopBackOff, 10 min")
        .says(
            "Container app is in CrashLoopBackOff: 4 restarts in 60 min, the last run exited with \
             code 143 (SIGTERM: it was told to stop) after 2 min, 60 s ago. Last ready at 01:50 \
             UTC.",
        ),
        state(
            "crash loop, finishes by itself",
            "Running, CrashLoopBackOff, Completed, exit code 0",
            looping(11, 45.0, 2.0, ran("Completed", 0, 2.5, 2.0)),
        )
        .judged("CrashLoopBackOff, 2 min")
        .says(
            "Container app is in CrashLoopBackOff: 11 restarts in 45 min, the last run exited \
             with code 0 (it finished by itself, and restartPolicy Always starts it again) after \
             30 s, 2 min ago. Last ready at 01:58 UTC.",
        ),
        state(
            "init container in a crash loop",
            "Init:CrashLoopBackOff",
            init,
        )
        .judged("CrashLoopBackOff, 13 min")
        .says(
            "Init container migrate is in CrashLoopBackOff: 6 restarts in 13 min, the last run \
             exited with code 127 (the command or a library was not found in the image) after \
             0 s, 4 min ago; the app containers wait for it.",
        ),
        state(
            "native sidecar in a crash loop",
            "Running, 1/2 ready, a sidecar in CrashLoopBackOff",
            sidecar,
        )
        .judged("CrashLoopBackOff, 18 min")
        .says(
            "Sidecar mesh is in CrashLoopBackOff: 8 restarts in 2 h, the last run exited with \
             code 139 (SIGSEGV: a segmentation fault in native code) after 30 s, 4 min ago; the \
             app containers run meanwhile. Last ready at 01:42 UTC.",
        ),
        state(
            "out of memory once, ready again",
            "Running and Ready, last state OOMKilled 8 min ago",
            oom_ready,
        )
        .judged("OOMKilled, 8 min")
        .says(
            "Container app was OOMKilled at its memory limit of 512Mi after 4 h, 8 min ago; it is \
             ready again, 2 restarts in 10 h.",
        ),
        state(
            "lost by the kubelet, ready again",
            "Running and Ready, last state ContainerStatusUnknown",
            unknown,
        )
        .judged("Crashed, 6 min")
        .says(
            "Container app exited with code 137 (the kubelet lost track of it, as after a restart \
             of its node) after 4 h, 6 min ago; it is ready again, 1 restart in 10 h.",
        ),
        state(
            "ended for good, the other container runs",
            "Running, 1/2 ready, restartPolicy Never, exit code 3",
            never,
        )
        .judged("Crashed, 2 min")
        .says(
            "Container app exited with code 3 after 58 min, 2 min ago; restartPolicy Never leaves \
             it so. Last ready at 01:58 UTC.",
        ),
        state(
            "restarts often, each run ends well",
            "Running and Ready, 9 restarts, the last 4 min ago, exit code 0",
            often,
        )
        .judged("RestartingOften, 4 min")
        .says(
            "Container app keeps restarting: 9 restarts in 90 min, the last run exited with code \
             0 (it finished by itself, and restartPolicy Always starts it again) after 5 min, \
             4 min ago.",
        ),
    ]
}
