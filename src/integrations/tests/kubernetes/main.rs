//! The cluster reader over real HTTP, against a server that answers as an API server does.

#![expect(clippy::unwrap_used, reason = "a failure here is the test failing")]

mod api;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::SystemClock;
use countersign_integrations::kubernetes::{
    ClusterReads, KubeError, KubeReader, OwnerLookup, OwnerRef,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::api::{Api, TOKEN, kubeconfig, list, owned, pod, reader, workload};
use crate::logs::{EVERYTHING, part};

#[tokio::test]
async fn lists_are_read_page_by_page_to_the_end() {
    let api = Api::default();
    api.on(
        "/api/v1/pods?limit=500",
        200,
        list(&[pod("a"), pod("b")], "t 1"),
    )
    .on(
        "/api/v1/pods?limit=500&continue=t+1",
        200,
        list(&[pod("c")], ""),
    );
    let (_dir, reader) = reader(&api).await;
    let all = reader.list_pods(None, None, 10_000).await.unwrap();
    assert_eq!(
        all.pods
            .iter()
            .map(|pod| pod.name.as_str())
            .collect::<String>(),
        "abc"
    );
    assert!(all.complete);
    assert_eq!(all.resource_version.as_deref(), Some("9"));

    let selected = "/api/v1/namespaces/shop/pods?limit=2&labelSelector=app%3Dweb";
    api.on(selected, 200, list(&[pod("a"), pod("b")], "more"));
    let some = reader
        .list_pods(Some("shop"), Some("app=web"), 2)
        .await
        .unwrap();
    assert_eq!((some.pods.len(), some.complete), (2, false));
}

/// Servers spawn what handles a request, so no read may hold something of its own thread.
#[tokio::test]
async fn reads_can_be_spawned() {
    fn spawnable<F: Future + Send>(future: F) -> F {
        future
    }
    let (_dir, reader) = reader(&Api::default()).await;
    drop(spawnable(reader.list_pods(None, None, 1)));
    drop(spawnable(reader.pod_log(
        "shop",
        "x",
        &part("app"),
        &EVERYTHING,
    )));
    drop(spawnable(reader.list_events(None, None)));
    drop(spawnable(reader.server_date()));
    drop(spawnable(reader.top_owners(None)));
}

#[tokio::test]
async fn an_expired_continue_token_begins_anew_once() {
    let api = Api::default();
    let second = "/api/v1/pods?limit=500&continue=t";
    api.on("/api/v1/pods?limit=500", 200, list(&[pod("a")], "t"))
        .on(second, 410, json!({ "reason": "Expired" }))
        .on(second, 200, list(&[pod("b")], ""));
    let (_dir, reader) = reader(&api).await;
    assert_eq!(
        reader
            .list_pods(None, None, 10_000)
            .await
            .unwrap()
            .pods
            .len(),
        2
    );
    assert_eq!(api.seen().len(), 4);

    let api = Api::default();
    api.on("/api/v1/pods?limit=500", 410, "{}");
    let (_dir, reader) = self::reader(&api).await;
    let error = reader.list_pods(None, None, 10_000).await.unwrap_err();
    assert!(matches!(error, KubeError::Gone { .. }), "{error}");
}

/// A broken API or a proxy that drops the query: reading on would never end.
#[tokio::test]
async fn a_page_that_leads_to_itself_is_refused_by_every_list() {
    let api = Api::default();
    for plural in ["v1/pods", "v1/namespaces/shop/pods", "v1/events"] {
        let first = format!("/api/{plural}?limit=500");
        api.on(&first, 200, list(&[], "t"));
        api.on(&format!("{first}&continue=t"), 200, list(&[], "t"));
    }
    let sets = "/apis/apps/v1/replicasets?limit=500";
    api.on(sets, 200, list(&[], "t"));
    api.on(&format!("{sets}&continue=t"), 200, list(&[], "t"));
    let (_dir, reader) = reader(&api).await;
    let reads = ClusterReads::live(reader.clone(), None, Arc::new(SystemClock));
    let results = [
        reader.list_pods(None, None, 10_000).await.map(drop),
        reader.list_events(None, None).await.map(drop),
        reader
            .newest_events(None, None, |_| true, 10)
            .await
            .map(drop),
        reader.top_owners(None).await.map(drop),
        reads.begin().pod_names("shop").await.map(drop),
    ];
    for result in results {
        let error = result.unwrap_err();
        assert!(
            matches!(error, KubeError::Unexpected { .. }) && error.to_string().contains("itself"),
            "{error}"
        );
    }
    assert_eq!(api.seen().len(), 10, "{:?}", api.seen());
}

#[tokio::test]
async fn answers_become_sentences_without_retries_or_tokens() {
    let api = Api::default();
    let (_dir, reader) = reader(&api).await;
    let target = "/api/v1/namespaces/shop/pods/x";
    for (status, code) in [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (410, "gone"),
        (400, "invalid"),
        (422, "invalid"),
        (429, "unavailable"),
        (500, "unavailable"),
        (503, "unavailable"),
        (302, "unexpected"),
    ] {
        api.forget();
        api.on(
            target,
            status,
            json!({ "kind": "Status", "message": "because\u{202e}" }),
        );
        let before = api.seen().len();
        let error = reader.get_pod("shop", "x").await.unwrap_err();
        assert_eq!(error.code(), code, "{status}: {error}");
        assert!(
            !format!("{error} {error:?}").contains('\u{202e}'),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error}");
        assert_eq!(api.seen().len(), before + 1, "{status} is not retried");
    }
    api.forget();
    api.on(target, 200, "<html>");
    let error = reader.get_pod("shop", "x").await.unwrap_err();
    assert_eq!(error.code(), "unexpected");
    assert!(api.seen().iter().all(|request| request.starts_with("GET ")));
}

#[tokio::test]
async fn names_that_are_none_never_reach_the_server() {
    let api = Api::default();
    let (_dir, reader) = reader(&api).await;
    for (namespace, name) in [("shop", "../nodes"), ("shop", ""), ("", "x"), ("a/b", "x")] {
        let error = reader.get_pod(namespace, name).await.unwrap_err();
        assert!(matches!(error, KubeError::Invalid { .. }), "{error}");
    }
    let no_name = part("a b");
    let refused = reader.pod_log("shop", "x", &no_name, &EVERYTHING);
    assert!(refused.await.is_err());
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_answer_is_unavailable() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (_dir, path) = kubeconfig(&format!("http://{free}"), &json!({ "token": TOKEN }));
    let nowhere = KubeReader::from_kubeconfig(Some(&path), None);
    let error = nowhere.readyz().await.unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("refused"),
        "{error}"
    );

    let (_dir, reader) = reader(&Api::default()).await;
    let started = tokio::time::Instant::now();
    let error = reader.get_pod("shop", "slow").await.unwrap_err();
    assert!(error.to_string().contains("within 5 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn owners_are_followed_to_the_top_and_checked_by_uid() {
    let api = Api::default();
    let replica_set = owned(workload("web-7d9f"), "apps/v1", "Deployment", "web");
    api.on(
        "/apis/apps/v1/namespaces/shop/replicasets/web-7d9f",
        200,
        replica_set,
    )
    .on(
        "/apis/apps/v1/namespaces/shop/deployments/web",
        200,
        workload("web"),
    );
    let (_dir, reader) = reader(&api).await;
    let owner = |api_version: &str, kind: &str, name: &str, uid: &str| OwnerRef {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
    };
    let look = async |owner: OwnerRef| reader.get_owner("shop", &owner).await.unwrap();

    let OwnerLookup::Found(chain) =
        look(owner("apps/v1", "ReplicaSet", "web-7d9f", "uid-web-7d9f")).await
    else {
        panic!("not found");
    };
    assert_eq!(
        (chain.controller.kind.as_str(), chain.top.kind.as_str()),
        ("ReplicaSet", "Deployment")
    );
    assert_eq!(chain.top.replicas, Some(3));
    let other = look(owner("apps/v1", "ReplicaSet", "web-7d9f", "another-uid")).await;
    assert!(matches!(other, OwnerLookup::Gone { .. }));
    let missing = look(owner("apps/v1", "StatefulSet", "db", "u")).await;
    assert!(matches!(missing, OwnerLookup::Gone { .. }));
    let custom = look(owner("argoproj.io/v1alpha1", "Rollout", "web", "u")).await;
    assert!(matches!(custom, OwnerLookup::Unverified { .. }));
    let imitation = look(owner("example.org/v1", "Deployment", "web", "uid-web")).await;
    assert!(matches!(imitation, OwnerLookup::Unverified { .. }));
}

#[tokio::test]
async fn failed_pods_of_jobs_come_with_the_job() {
    let api = Api::default();
    let mut failed = owned(pod("import-1"), "batch/v1", "Job", "import");
    failed["status"] = json!({ "phase": "Failed" });
    let mut job = workload("import");
    job["spec"] = json!({ "backoffLimit": 4 });
    job["status"] = json!({ "failed": 1, "active": 1 });
    api.on("/api/v1/namespaces/shop/pods/import-1", 200, failed.clone())
        .on(
            "/apis/batch/v1/namespaces/shop/jobs/import",
            200,
            job.clone(),
        )
        .on(
            "/api/v1/namespaces/shop/pods?limit=500",
            200,
            list(&[failed, pod("web")], ""),
        )
        .on(
            "/apis/batch/v1/namespaces/shop/jobs?limit=500",
            200,
            list(&[job], ""),
        );
    let (_dir, reader) = reader(&api).await;
    let one = reader.get_pod("shop", "import-1").await.unwrap();
    assert!(one.job.as_ref().unwrap().retrying);
    let all = reader
        .list_pods(Some("shop"), None, 1000)
        .await
        .unwrap()
        .pods;
    assert_eq!(all[0].job, one.job);
    assert_eq!(all[1].job, None);
    let owned = reader
        .list_pods_of_controller("shop", "uid-import")
        .await
        .unwrap();
    assert_eq!(owned.len(), 1);
}

#[tokio::test]
async fn events_are_ordered_by_their_last_sighting() {
    let api = Api::default();
    let event = |name: &str, times: Value| {
        let mut event = json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
                "creationTimestamp": "2026-11-22T01:00:00Z",
            },
            "type": "Warning", "reason": "BackOff", "message": "m",
            "involvedObject": { "kind": "Pod", "name": "web", "namespace": "shop", "uid": "u" },
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(times.as_object().unwrap().clone());
        event
    };
    let events = [
        event(
            "created",
            json!({ "lastTimestamp": null, "eventTime": null }),
        ),
        event(
            "evented",
            json!({ "eventTime": "2026-11-22T01:20:00.123456Z" }),
        ),
        event(
            "series",
            json!({
                "series": { "count": 9, "lastObservedTime": "2026-11-22T01:30:00.000000Z" },
                "lastTimestamp": "2026-11-22T01:05:00Z", "count": 2,
            }),
        ),
        event(
            "last",
            json!({ "lastTimestamp": "2026-11-22T01:10:00Z", "count": 3 }),
        ),
    ];
    let target = "/api/v1/namespaces/shop/events?limit=500&fieldSelector=involvedObject.uid%3Du";
    api.on(target, 200, list(&events, ""));
    let (_dir, reader) = reader(&api).await;
    let found = reader.list_events(Some("shop"), Some("u")).await.unwrap();
    let order: Vec<(&str, u32)> = found.iter().map(|e| (e.name.as_str(), e.count)).collect();
    assert_eq!(
        order,
        [("series", 9), ("evented", 1), ("last", 3), ("created", 1)]
    );
}

#[tokio::test]
async fn the_cluster_is_identified_and_timed() {
    let api = Api::default();
    let namespace = json!({ "metadata": { "name": "kube-system", "uid": "cluster-1" } });
    api.on("/api/v1/namespaces/kube-system", 200, namespace)
        .on("/readyz", 200, "ok")
        .on(
            "/version",
            200,
            json!({ "gitVersion": "v1.36.3", "major": "1", "minor": "36" }),
        );
    let (_dir, reader) = reader(&api).await;
    assert_eq!(reader.kube_system_uid().await.unwrap(), "cluster-1");
    assert_eq!(reader.version().await.unwrap().git_version, "v1.36.3");
    reader.readyz().await.unwrap();
    // hyper stamps its answers with the machine's own clock.
    let date = reader.server_date().await.unwrap();
    assert!(date.as_second() > 1_700_000_000, "{date}");
}

#[tokio::test]
async fn an_unusable_kubeconfig_is_explained_without_its_contents() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let refusal = async |path: &std::path::Path, context: Option<&str>| {
        let error = KubeReader::from_kubeconfig(Some(path), context)
            .readyz()
            .await
            .unwrap_err();
        assert!(matches!(error, KubeError::Access { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error}");
        error.to_string()
    };
    let (dir, path) = kubeconfig("http://127.0.0.1:1", &json!({ "token": TOKEN }));
    assert!(
        refusal(&path, Some("prod"))
            .await
            .contains("no context `prod`")
    );
    assert!(
        refusal(&dir.path().join("none"), None)
            .await
            .contains("cannot be read")
    );
    std::fs::write(&path, format!("users: [{{token: {TOKEN}")).unwrap();
    assert!(refusal(&path, None).await.contains("not valid YAML"));
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/plugin",
        "interactiveMode": "IfAvailable", "env": [{ "name": "SECRET", "value": TOKEN }],
    } });
    let (_dir, path) = kubeconfig("http://127.0.0.1:1", &exec);
    assert!(
        refusal(&path, None)
            .await
            .contains("credential plugin failed")
    );
    let (_dir, path) = kubeconfig(
        "http://127.0.0.1:1",
        &json!({ "exec": { "command": "x", "interactiveMode": "Always" } }),
    );
    assert!(refusal(&path, None).await.contains("wants a terminal"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_credential_plugin_runs_without_our_standard_input() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let api = Api::default();
    api.on("/readyz", 200, "ok");
    // Reads its input to the end, so it would hang on an open pipe.
    let script = format!(
        "case \"$KUBERNETES_EXEC_INFO\" in *'\"interactive\":false'*) ;; *) exit 7;; esac; \
         cat >/dev/null; echo '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\
         \"kind\":\"ExecCredential\",\"status\":{{\"token\":\"{TOKEN}\"}}}}'"
    );
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
        "args": ["-c", script], "interactiveMode": "IfAvailable",
    } });
    let (_dir, path) = kubeconfig(&api.start().await, &exec);
    KubeReader::from_kubeconfig(Some(&path), None)
        .readyz()
        .await
        .unwrap();
}
