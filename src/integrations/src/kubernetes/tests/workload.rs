//! Which workloads are well, and what is said of the others.

use super::super::failing::Severity;
use super::super::workload::{fold_runs, health};
use super::*;

fn told(kind: &str, patch: Value) -> (Option<Severity>, String) {
    let verdict = health(&workload(kind, "web", patch));
    (verdict.severity, verdict.why.unwrap_or_default())
}

fn counts(ready: i32, available: i32) -> Value {
    json!({ "status": {
        "replicas": 3, "updatedReplicas": 3, "readyReplicas": ready, "availableReplicas": available,
    } })
}

#[test]
fn replicas_decide() {
    for (patch, severity, why) in [
        (counts(3, 3), None, ""),
        (counts(2, 2), Some(Severity::Medium), "2 of 3 ready"),
        (
            counts(3, 2),
            Some(Severity::Medium),
            "2 of 3 available, all ready",
        ),
        (counts(0, 0), Some(Severity::High), "none of 3 is ready"),
        (
            json!({ "spec": { "replicas": 0 }, "status": { "readyReplicas": 0 } }),
            None,
            "scaled to 0",
        ),
    ] {
        assert_eq!(
            told("Deployment", patch.clone()),
            (severity, why.into()),
            "{patch}"
        );
    }
}

#[test]
fn a_rollout_under_way_is_well_and_a_stuck_one_is_not() {
    let mut rolling = counts(4, 4);
    merge(
        &mut rolling,
        json!({ "status": { "replicas": 4, "updatedReplicas": 1 } }),
    );
    let (severity, why) = told("Deployment", rolling.clone());
    assert_eq!(
        (severity, why.as_str()),
        (None, "1 of 3 pods have the newest revision")
    );
    merge(
        &mut rolling,
        json!({ "status": { "conditions": [{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        }] } }),
    );
    let (severity, why) = told("Deployment", rolling);
    assert_eq!(severity, Some(Severity::High));
    assert!(why.starts_with("rollout stuck"), "{why}");
}

fn job(name: &str, failed: bool, minutes: f64) -> Value {
    let kind = if failed { "Failed" } else { "Complete" };
    json!({
        "metadata": {
            "name": name, "uid": name, "creationTimestamp": before(minutes),
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly",
                "uid": "nightly-uid", "controller": true,
            }],
        },
        "status": { "failed": 1, "conditions": [{
            "type": kind, "status": "True", "reason": "BackoffLimitExceeded",
            "lastTransitionTime": before(minutes - 1.0),
        }] },
    })
}

#[test]
fn jobs_and_cron_jobs_are_judged_by_how_they_ended() {
    let (severity, why) = told("Job", job("once", true, 10.0));
    assert_eq!(
        (severity, why.as_str()),
        (Some(Severity::High), "failed: BackoffLimitExceeded")
    );
    assert_eq!(
        told("Job", job("once", false, 10.0)),
        (None, "completed".into())
    );
    let trying = json!({ "status": { "failed": 2, "active": 1 } });
    assert_eq!(told("Job", trying).0, Some(Severity::Medium));

    let newest = |failed_last: bool| {
        let cron = json!({
            "status": { "lastScheduleTime": before(5.0), "active": [{ "name": "x" }] },
        });
        let mut all = vec![
            workload("Job", "nightly-1", job("nightly-1", !failed_last, 60.0)),
            workload("CronJob", "nightly", cron),
            workload("Job", "nightly-2", job("nightly-2", failed_last, 5.0)),
        ];
        fold_runs(&mut all);
        assert_eq!(all.len(), 1, "its Jobs are part of the CronJob");
        assert_eq!(all[0].batch.as_ref().unwrap().active, 1);
        health(&all[0])
    };
    assert_eq!(newest(false).severity, None);
    let ill = newest(true);
    assert_eq!(ill.severity, Some(Severity::High));
    assert!(ill.why.unwrap().contains("nightly-2"));
}
