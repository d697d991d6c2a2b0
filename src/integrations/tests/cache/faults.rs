//! What becomes of the answers when the watch or the API server fails.

use std::time::Duration;

use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::{CacheSettings, ClusterReads, ReadSource, Scope};
use serde_json::{Value, json};

use crate::api::{Api, eventually, meta, pod, quick};
use crate::warm::{failing, furnish};

async fn pods_seen(reads: &ClusterReads) -> usize {
    failing(reads, &Scope::All).await.0.pods_seen
}

#[tokio::test]
async fn a_frozen_watch_is_noticed_and_the_api_is_asked_instead() {
    let api = Api::start().await;
    furnish(&api);
    let settings = CacheSettings {
        fresh_for: Duration::from_millis(700),
        ..quick()
    };
    let reads = api.cached_with(None, settings).await;
    api.behave(|world| world.frozen = true);
    api.put("pods", pod("shop", "new", "CrashLoopBackOff"));
    eventually("the change is seen, live", || async {
        let (page, fresh) = failing(&reads, &Scope::All).await;
        assert!(page.pods_seen == 8 || fresh.source == ReadSource::Live);
        page.pods_seen == 9 && fresh.source == ReadSource::Live
    })
    .await;
    api.behave(|world| world.frozen = false);
    eventually("the watch works again", || async {
        api.put("pods", pod("shop", "new", "CrashLoopBackOff"));
        let (page, fresh) = failing(&reads, &Scope::All).await;
        page.pods_seen == 9 && fresh.source == ReadSource::Cache
    })
    .await;
}

#[tokio::test]
async fn a_dead_api_server_leaves_old_answers_that_say_so() {
    let mut api = Api::start().await;
    furnish(&api);
    let reads = api.cached().await;
    let died = SystemClock.now();
    api.kill();
    eventually("old", || async {
        let (page, fresh) = failing(&reads, &Scope::All).await;
        assert_eq!(page.pods_failing, 4);
        matches!(fresh.source, ReadSource::Old(_))
    })
    .await;
    let (_, fresh) = failing(&reads, &Scope::All).await;
    assert!(
        fresh.as_of <= died,
        "{} is not older than {died}",
        fresh.as_of
    );
    let reading = reads.begin();
    let old = reading.get_pod("shop", "web-1-a").await.unwrap();
    assert_eq!(old.name, "web-1-a");
    assert!(matches!(reading.freshness().source, ReadSource::Old(_)));
    // Nobody waits for a time-out again and again.
    let began = std::time::Instant::now();
    for _ in 0..50 {
        failing(&reads, &Scope::All).await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );

    api.put("pods", pod("shop", "born-in-the-dark", "CrashLoopBackOff"));
    api.revive().await;
    eventually("right again, from the cache", || async {
        let (page, fresh) = failing(&reads, &Scope::All).await;
        page.pods_failing == 5 && fresh.source == ReadSource::Cache
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_accepts_and_does_not_answer_costs_one_time_out() {
    let api = Api::start().await;
    furnish(&api);
    let settings = CacheSettings {
        fresh_for: Duration::from_millis(300),
        ..quick()
    };
    let reads = api.cached_with(None, settings).await;
    api.behave(|world| {
        world.frozen = true;
        world.hanging = true;
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (page, fresh) = failing(&reads, &Scope::All).await;
    assert_eq!(page.pods_failing, 4);
    assert!(matches!(fresh.source, ReadSource::Old(_)));
}

#[tokio::test]
async fn forgotten_history_means_a_new_list() {
    let api = Api::start().await;
    furnish(&api);
    let reads = api.cached().await;
    let lists = || {
        let world = api.world();
        let list = |target: &&String| target.starts_with("/api/v1/pods?limit");
        world.requests.iter().filter(list).count()
    };
    let before = lists();
    api.delete("pods", "billing", "web-1-b");
    api.put("pods", pod("shop", "new", "CrashLoopBackOff"));
    api.compact();
    eventually("listed again", || async {
        let (page, fresh) = failing(&reads, &Scope::All).await;
        let right = page.pods_seen == 8 && page.pods_failing == 5;
        right && fresh.source == ReadSource::Cache && lists() > before
    })
    .await;
}

#[tokio::test]
async fn errors_in_the_stream_and_garbage_do_no_harm() {
    let api = Api::start().await;
    furnish(&api);
    let reads = api.cached().await;
    let error = r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd"}}"#;
    let garbled = [
        error,
        "not json",
        r#"{"type":"STRANGE","object":{}}"#,
        "[]",
        "",
    ];
    for (at, garbage) in garbled.into_iter().enumerate() {
        api.say("pods", garbage);
        let name = format!("after-{at}");
        let before = pods_seen(&reads).await;
        api.put("pods", pod("shop", &name, "ready"));
        eventually("still following", || async {
            let (page, fresh) = failing(&reads, &Scope::All).await;
            page.pods_seen == before + 1 && fresh.source == ReadSource::Cache
        })
        .await;
    }
}

#[tokio::test]
async fn lines_may_come_in_any_pieces() {
    let api = Api::start().await;
    furnish(&api);
    api.behave(|world| world.chunk = Some(7));
    let reads = api.cached().await;
    let mut strange = pod("shop", "new", "CrashLoopBackOff");
    strange["metadata"]["labels"]["größe"] = "再起動\n🚀".into();
    api.put("pods", strange);
    eventually("pieced together", || async {
        let pod = reads.begin().get_pod("shop", "new").await;
        let (_, fresh) = failing(&reads, &Scope::All).await;
        pod.is_ok_and(|pod| pod.labels["größe"] == "再起動\n🚀")
            && fresh.source == ReadSource::Cache
    })
    .await;
}

/// What a cut watch tells after it is resumed may be long past: it makes no answer younger.
#[tokio::test]
async fn after_a_cut_an_answer_is_no_younger_until_the_watch_has_caught_up() {
    let mut api = Api::start().await;
    furnish(&api);
    let settings = CacheSettings {
        watch_for: Duration::from_mins(5),
        fresh_for: Duration::from_mins(5),
        ..quick()
    };
    let reads = api.cached_with(None, settings).await;
    // The names come from the one watch on pods.
    let look = async || {
        let reading = reads.begin();
        let names = reading.pod_names("shop").await.unwrap();
        let fresh = reading.freshness();
        (names.len(), fresh.source, fresh.as_of)
    };
    let seen = async |count: usize| {
        eventually("followed", || async {
            let (names, source, _) = look().await;
            (names, source) == (count, ReadSource::Cache)
        })
        .await;
        look().await.2
    };
    let began = SystemClock.now();
    api.put("pods", pod("shop", "before", "ready"));
    assert!(seen(5).await >= began, "a change that is told is news");

    api.kill();
    let cut = SystemClock.now();
    api.put("pods", pod("shop", "meanwhile", "ready"));
    api.revive().await;
    assert!(seen(6).await <= cut);
    api.put("pods", pod("shop", "behind", "ready"));
    assert!(seen(7).await <= cut);

    let bookmark =
        r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"{version}"}}}"#;
    let marked = SystemClock.now();
    api.say("pods", bookmark);
    eventually("caught up", || async { look().await.2 >= marked }).await;
    let later = SystemClock.now();
    api.put("pods", pod("shop", "news", "ready"));
    assert!(seen(8).await >= later);
}

#[tokio::test]
async fn what_does_not_decode_is_counted_once_where_it_is() {
    let api = Api::start().await;
    furnish(&api);
    let (shop, billing) = (Scope::namespace("shop"), Scope::namespace("billing"));
    let strange = |name: &str, restarts: u32| {
        let mut pod = pod("shop", name, "ready");
        pod["status"]["conditions"] = json!(format!("what? {restarts}"));
        pod
    };
    api.put("pods", strange("first", 0));
    let reads = api.cached().await;
    let missing = async |reads: &ClusterReads, scope: &Scope| {
        let (_, fresh) = failing(reads, scope).await;
        fresh.unreadable
    };
    let live = api.live();
    for reads in [&reads, &live] {
        assert_eq!(missing(reads, &shop).await, 1);
        assert_eq!(missing(reads, &billing).await, 0, "it is not told of there");
        assert_eq!(missing(reads, &Scope::All).await, 1);
    }
    for restarts in 0..3 {
        api.put("pods", strange("first", restarts));
        api.put("pods", strange("second", restarts));
    }
    eventually("each once", || async { missing(&reads, &shop).await == 2 }).await;
    // What comes after has been told of, too: the count stays.
    api.put("pods", pod("billing", "after", "ready"));
    eventually("followed", || async { pods_seen(&reads).await == 9 }).await;
    assert_eq!(missing(&reads, &Scope::All).await, 2);
    api.put("pods", pod("shop", "first", "ready"));
    api.delete("pods", "shop", "second");
    eventually("none", || async { missing(&reads, &shop).await == 0 }).await;
}

/// One namespace with more events than are held does not make a cluster's be read live, says that
/// some are missing, and is whole again when the cluster has forgotten those.
#[tokio::test]
async fn a_flood_of_events_is_bounded_for_its_namespace_and_recovers() {
    let api = Api::start().await;
    furnish(&api);
    let event = |number: u32| {
        json!({
            "metadata": meta("flooded", &format!("e{number}")), "type": "Warning",
            "reason": "BackOff", "message": "again",
            "lastTimestamp": format!("2026-11-22T02:{:02}:{:02}Z", number / 60, number % 60),
            "involvedObject": {
                "kind": "Pod", "namespace": "flooded", "name": "a", "uid": "uid-a",
            },
        })
    };
    for number in 0..2100 {
        api.put("events", event(number));
    }
    let settings = CacheSettings {
        page: 500,
        ..quick()
    };
    let reads = api.cached_with(None, settings).await;
    let look = async |scope: &Scope, object: Option<(&str, &str)>| {
        let reading = reads.begin();
        let list = reading
            .newest_events(scope, object, |_| true, 10_000)
            .await
            .unwrap();
        let names: Vec<String> = list.events.into_iter().map(|event| event.name).collect();
        (names, list.complete, reading.freshness().source)
    };
    let (names, complete, source) = look(&Scope::All, None).await;
    assert_eq!((complete, source), (false, ReadSource::Cache));
    // The newest are held, whatever the order of the list, and those of the other namespace.
    let newest = (0..2100).rev().map(|number| format!("e{number}"));
    let held = names.len() - 1;
    assert!((1000..2000).contains(&held), "{held}");
    assert!(
        names[..held]
            .iter()
            .eq(newest.take(held).collect::<Vec<_>>().iter())
    );
    let (names, complete, source) = look(&Scope::namespace("shop"), None).await;
    assert_eq!(
        (names.len(), complete, source),
        (1, true, ReadSource::Cache)
    );
    let some = Scope::Namespaces(vec!["shop".to_owned(), "billing".to_owned()]);
    assert!(look(&some, None).await.1, "it is not told of there");
    // Who asks for that namespace, or for one object, gets all there is.
    for object in [None, Some(("Pod", "a"))] {
        let (names, complete, source) = look(&Scope::namespace("flooded"), object).await;
        assert_eq!(
            (names.len(), complete, source),
            (2100, true, ReadSource::Live)
        );
    }
    // One that was dropped is seen again, the others are forgotten.
    let mut again = event(7);
    again["lastTimestamp"] = "2026-11-22T03:00:00Z".into();
    api.put("events", again);
    for number in (0..1500).filter(|number| *number != 7) {
        api.delete("events", "flooded", &format!("e{number}"));
    }
    eventually("whole again", || async {
        let (names, complete, source) = look(&Scope::All, None).await;
        (names[0].as_str(), names.len(), complete, source) == ("e7", 602, true, ReadSource::Cache)
    })
    .await;
}

#[tokio::test]
async fn huge_and_malformed_objects_hide_nobody_else() {
    let api = Api::start().await;
    furnish(&api);
    let mut malformed = pod("shop", "malformed", "ready");
    malformed["status"]["conditions"] = json!("what?");
    api.put("pods", malformed.clone());
    let reads = api.cached().await;
    let (page, fresh) = failing(&reads, &Scope::All).await;
    assert_eq!((page.pods_seen, fresh.unreadable), (8, 1));
    let (page, fresh) = failing(&api.live(), &Scope::All).await;
    assert_eq!(
        (page.pods_seen, fresh.unreadable),
        (8, 1),
        "live says the same"
    );

    // One that was fine and is not any more.
    let mut broken = pod("shop", "web-1-a", "ready");
    broken["metadata"]["creationTimestamp"] = Value::Null;
    api.put("pods", broken);
    eventually("left out", || async {
        let (page, fresh) = failing(&reads, &Scope::All).await;
        page.pods_seen == 7 && fresh.unreadable == 2
    })
    .await;
    let mut huge = pod("shop", "huge", "CrashLoopBackOff");
    huge["metadata"]["annotations"] = json!({"x": "y".repeat(3 << 20)});
    api.put("pods", huge);
    eventually("the huge one", || async {
        let pod = reads.begin().get_pod("shop", "huge").await;
        pod.is_ok() && pods_seen(&reads).await == 8
    })
    .await;
    // No object is that large: a line without end must not take all memory.
    let endless = format!(
        r#"{{"type":"ADDED","object":{{"x":"{}"}}}}"#,
        "y".repeat(20 << 20)
    );
    api.say("pods", &endless);
    api.put("pods", pod("shop", "after", "ready"));
    eventually("skipped", || async { pods_seen(&reads).await == 9 }).await;
}
