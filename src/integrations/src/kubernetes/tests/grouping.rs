//! Short answers over many pods, complete in their counts.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::kubernetes::{
    BadCursor, FailingCollector, FailingFilter, FailingPage, OwnerFilter, Thresholds,
};

fn crashing(name: &str, replica_set: &str, restarts: u32) -> PodRecord {
    let mut pod = pod(json!({ "status": {
        "conditions": unready(f64::from(restarts)),
        "containerStatuses": [waiting("app", "CrashLoopBackOff", restarts)],
    } }));
    pod.name = name.into();
    pod.owner = Some(owner_ref("ReplicaSet", replica_set));
    pod
}

fn page_of(
    pods: &[PodRecord],
    tops: &HashMap<String, OwnerRef>,
    filter: &FailingFilter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<FailingPage, BadCursor> {
    let limits = Thresholds::default();
    let mut collector = FailingCollector::new(now(), &limits, filter);
    pods.iter().for_each(|pod| collector.see(pod));
    collector.page(tops, "shop", limit, cursor)
}

fn tops_of_web() -> HashMap<String, OwnerRef> {
    ["web-rs0-uid", "web-rs1-uid"]
        .into_iter()
        .map(|uid| (uid.to_owned(), owner_ref("Deployment", "web")))
        .collect()
}

#[test]
fn pods_are_grouped_by_workload_and_reason_and_paged() {
    let mut pods: Vec<PodRecord> = (1..=7)
        .map(|n| crashing(&format!("web-{n}"), &format!("web-rs{}", n % 2), n))
        .collect();
    pods.push(pod(json!({})));
    let mut alone = crashing("alone", "x", 2);
    alone.owner = None;
    pods.push(alone);
    let mut unready = pod(json!({ "status": { "conditions": unready(20.0) } }));
    unready.name = "slow".into();
    pods.push(unready);
    let (tops, all) = (tops_of_web(), FailingFilter::default());
    let page = |limit, cursor: Option<&str>| page_of(&pods, &tops, &all, limit, cursor).unwrap();

    let first = page(1, None);
    assert_eq!(
        (first.pods_seen, first.pods_failing, first.groups_total),
        (10, 9, 3)
    );
    let web = &first.groups[0];
    assert_eq!(web.owner.as_ref().unwrap().kind, "Deployment");
    assert_eq!(
        (web.count, web.restarts, web.worst.name.as_str()),
        (7, 28, "web-7")
    );
    assert_eq!(web.names[..3], ["web-7", "web-6", "web-5"]);
    assert_eq!(web.since, before(7.0).parse().unwrap());

    let mut seen = vec![web.reason.clone()];
    let mut cursor = first.next_cursor;
    while let Some(at) = cursor {
        let next = page(1, Some(&at));
        assert_eq!(next.pods_failing, 9, "counts cover all pages");
        seen.extend(next.groups.iter().map(|group| group.reason.clone()));
        cursor = next.next_cursor;
    }
    assert_eq!(seen, ["CrashLoopBackOff", "CrashLoopBackOff", "NotReady"]);
    assert!(page(10, None).next_cursor.is_none());
    for bad in ["x", "00", "zz", "!", "AQ", ""] {
        let told = page_of(&pods, &tops, &all, 1, Some(bad)).unwrap_err();
        assert_eq!(told, BadCursor::Unreadable, "{bad}");
    }
}

#[test]
fn filters_by_owner_at_both_levels_by_reason_and_by_label() {
    let mut pods = vec![
        crashing("web-1", "web-rs0", 3),
        crashing("api-1", "api-rs", 3),
    ];
    pods[0].containers[0].last_terminated = Some(crate::kubernetes::Terminated {
        reason: Some("OOMKilled".into()),
        message: None,
        exit_code: 137,
        signal: None,
        started_at: None,
        finished_at: None,
    });
    pods[1].labels = [("app".to_owned(), "api".to_owned())].into();
    let found = |filter: FailingFilter| {
        let page = page_of(&pods, &tops_of_web(), &filter, 9, None).unwrap();
        let names = page.groups.iter().map(|group| group.worst.name.clone());
        (page.pods_seen, names.collect::<Vec<_>>().join(" "))
    };
    let owner = |kind: Option<&str>, name: &str| {
        found(FailingFilter {
            owner: Some(OwnerFilter {
                kind: kind.map(str::to_owned),
                name: name.into(),
            }),
            ..FailingFilter::default()
        })
        .1
    };
    assert_eq!(owner(None, "web"), "web-1");
    assert_eq!(owner(Some("deployment"), "web"), "web-1");
    assert_eq!(owner(Some("ReplicaSet"), "web-rs0"), "web-1");
    assert_eq!(owner(Some("StatefulSet"), "web"), "");
    assert_eq!(owner(None, "we"), "");
    let reason = |reason: &str| {
        found(FailingFilter {
            reason: Some(reason.into()),
            ..FailingFilter::default()
        })
        .1
    };
    assert_eq!(reason("crashloopbackoff"), "web-1 api-1");
    assert_eq!(reason("OOMKilled"), "web-1");
    assert_eq!(reason("NotReady"), "");
    let labels = serde_json::from_str(r#"{"matchLabels":{"app":"api"}}"#).unwrap();
    let filter = FailingFilter {
        labels: Some(labels),
        ..FailingFilter::default()
    };
    assert_eq!(found(filter), (1, "api-1".to_owned()));
}

#[test]
fn a_cursor_shows_each_lasting_group_once_while_pods_change() {
    let of = |workload: usize, pods: u32| {
        (0..pods).map(move |n| {
            crashing(
                &format!("w{workload}-{n}"),
                &format!("w{workload}-rs"),
                n + 1,
            )
        })
    };
    let (tops, all) = (HashMap::new(), FailingFilter::default());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut cursor: Option<String> = None;
    // Counts, and with them the order by badness, change completely from page to page.
    for round in 0..100 {
        let pods: Vec<PodRecord> = (0..20)
            .flat_map(|workload| {
                let pods = u32::try_from((workload * 7 + round * 13) % 20).unwrap() + 1;
                of(workload, pods)
            })
            .chain(of(100 + round, 30))
            .collect();
        let page = page_of(&pods, &tops, &all, 3, cursor.as_deref()).unwrap();
        for group in &page.groups {
            *seen.entry(group.owner.clone().unwrap().name).or_default() += 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert!(cursor.is_none(), "the pages end");
    for workload in 0..20 {
        assert_eq!(seen.get(&format!("w{workload}-rs")), Some(&1), "{seen:?}");
    }
}

#[test]
fn a_page_can_be_cut_and_its_cursor_follows() {
    let pods: Vec<PodRecord> = (0..9)
        .map(|n| crashing(&format!("p{n}"), &format!("w{n}"), n))
        .collect();
    let (tops, all) = (HashMap::new(), FailingFilter::default());
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let mut page = page_of(&pods, &tops, &all, 4, cursor.as_deref()).unwrap();
        page.keep(2);
        assert!(page.groups.len() <= 2);
        names.extend(page.groups.into_iter().map(|group| group.worst.name));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    names.sort();
    assert_eq!(
        names,
        (0..9).map(|n| format!("p{n}")).collect::<Vec<_>>(),
        "each once"
    );
}

#[test]
fn a_cursor_is_good_for_its_own_question_only() {
    let pods = [crashing("a", "a", 1), crashing("b", "b", 1)];
    let tops = HashMap::new();
    let cursor = page_of(&pods, &tops, &FailingFilter::default(), 1, None)
        .unwrap()
        .next_cursor;
    let other = FailingFilter {
        reason: Some("CrashLoopBackOff".into()),
        ..FailingFilter::default()
    };
    let told = page_of(&pods, &tops, &other, 1, cursor.as_deref()).unwrap_err();
    assert_eq!(told, BadCursor::OtherQuestion);
}

#[test]
fn fifty_thousand_owners_are_counted_and_the_groups_bounded() {
    let (limits, all) = (Thresholds::default(), FailingFilter::default());
    let mut collector = FailingCollector::new(now(), &limits, &all);
    let mut pod = crashing("p", "x", 1);
    for n in 0..50_000 {
        pod.name = format!("p{n}");
        pod.owner = Some(owner_ref("Job", &format!("job-{n}")));
        collector.see(&pod);
    }
    let page = collector.page(&HashMap::new(), "", 10, None).unwrap();
    assert_eq!(page.pods_seen, 50_000);
    assert_eq!(page.pods_failing + page.pods_ungrouped, 50_000);
    assert_eq!(page.groups_total, 10_000);
    assert_eq!(page.groups.len(), 10);
}
