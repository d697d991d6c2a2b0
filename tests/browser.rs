//! A person with a browser: logs in, reads, approves, and sees the page follow the action to its
//! verified end by itself. At phone and desktop width, light and dark.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::time::Duration;

use countersign_tests::stack::browser::{Browser, Scheme};
use countersign_tests::stack::{Options, Stack};

const SOON: Duration = Duration::from_secs(25);

/// Pictures are kept for looking at when this names a folder.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("COUNTERSIGN_PICTURES").map(PathBuf::from)
}

async fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = pictures() {
        std::fs::create_dir_all(&folder).unwrap();
        browser
            .screenshot(&folder.join(format!("{name}.png")))
            .await
            .unwrap();
    }
}

/// The accessibility checker, a script.
fn axe() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../.cache/node/node_modules/axe-core/axe.min.js"
    );
    std::fs::read_to_string(path).expect("axe is installed by `cargo xtask test`")
}

/// Every size and scheme: nothing overflows, axe finds nothing against WCAG 2.2 AA; pictures where
/// wanted.
async fn looks(browser: &Browser, axe: &str, name: &str) {
    for (width, height) in [(390, 844), (1280, 900)] {
        for scheme in [Scheme::Light, Scheme::Dark] {
            browser.look_like(width, height, scheme).await.unwrap();
            let overflow = browser.overflow().await.unwrap();
            assert!(
                overflow <= 0,
                "{name} at {width} px is {overflow} px too wide"
            );
            let found = browser.violations(axe).await.unwrap();
            assert!(
                found.is_empty(),
                "{name} at {width} px, {scheme:?}: {found:#?}"
            );
            picture(
                browser,
                &format!("{name}-{width}-{scheme:?}").to_lowercase(),
            )
            .await;
        }
    }
    browser.look_like(390, 844, Scheme::Dark).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_on_a_phone_and_sees_it_verified() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let pod = stack
        .cluster
        .deploy("shop", "till", 3, 1, "slow-ready=1500")
        .await
        .unwrap();
    let ai = stack.ai().await.unwrap();
    let reason =
        "Memory at 97% for 22 min; restarting frees it. <script>document.title='owned'</script>";
    let proposed = ai.restart("shop", &pod.name, reason).await.unwrap();
    let id = proposed.str("action_id").to_owned();
    let address = proposed.str("approval_url").to_owned();

    let axe = axe();
    let browser = Browser::start().await.unwrap();
    browser.look_like(390, 844, Scheme::Dark).await.unwrap();
    browser.open(&address).await.unwrap();
    assert!(
        browser.url().await.unwrap().contains("/login"),
        "a stranger sees no action"
    );
    looks(&browser, &axe, "login").await;
    log_in(&browser, &stack).await;
    browser.until_text(&pod.name, SOON).await.unwrap();
    assert_eq!(
        browser.url().await.unwrap(),
        address,
        "the link lands on the decision"
    );

    let text = browser.text().await.unwrap();
    for must in [
        pod.uid.as_str(),
        "claude-ops",
        "Maria Keller",
        "97%",
        "<script>",
    ] {
        assert!(text.contains(must), "the page does not say {must}: {text}");
    }
    assert_ne!(
        browser.script("return document.title").await.unwrap(),
        "owned"
    );
    looks(&browser, &axe, "pending").await;

    browser.open(&stack.url).await.unwrap();
    browser.until_text(&pod.name, SOON).await.unwrap();
    looks(&browser, &axe, "list").await;

    browser.open(&format!("{address}/approve")).await.unwrap();
    looks(&browser, &axe, "confirm").await;
    browser
        .type_into("[name=reason]", "seen on the dashboard")
        .await
        .unwrap();
    browser
        .click("button[name=verb][value=approve]")
        .await
        .unwrap();
    // No reload from here on: the page follows by itself.
    for _ in 0..200 {
        if browser.url().await.unwrap() == address {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    browser.script("window.untouched = true").await.unwrap();
    browser.until_text("verified after", SOON).await.unwrap();
    assert_eq!(
        browser.script("return window.untouched").await.unwrap(),
        true
    );
    looks(&browser, &axe, "verified").await;

    browser
        .open(&format!("{}/audit?action={id}", stack.url))
        .await
        .unwrap();
    browser.until_text("action.succeeded", SOON).await.unwrap();
    looks(&browser, &axe, "audit").await;
    // What goes wrong: a wrong password, a cut-off link, a decision by following a link, a page
    // that is out of date, and an action that a person said no to.
    browser
        .open(&format!("{}/nothing", stack.url))
        .await
        .unwrap();
    browser.until_text("Nothing is here", SOON).await.unwrap();
    looks(&browser, &axe, "missing").await;
    browser.open(&format!("{address}/decision")).await.unwrap();
    looks(&browser, &axe, "not-by-link").await;
    browser.open(&format!("{address}/approve")).await.unwrap();
    looks(&browser, &axe, "too-late").await;
    let other = stack.cluster.deploy("shop", "oven", 2, 1, "ready").await;
    let other = ai.restart("shop", &other.unwrap().name, "it crashes").await;
    let other = other.unwrap().str("action_id").to_owned();
    let li = stack.li().await.unwrap();
    li.reject(&other, "wait for the deploy").await.unwrap();
    browser
        .open(&format!("{}/actions/{other}", stack.url))
        .await
        .unwrap();
    browser
        .until_text("wait for the deploy", SOON)
        .await
        .unwrap();
    looks(&browser, &axe, "rejected").await;
    browser
        .click("form[action='/logout'] button")
        .await
        .unwrap();
    browser.until_text("Log in", SOON).await.unwrap();
    browser.type_into("input[name=person]", "li").await.unwrap();
    browser
        .type_into("input[name=password]", "not it")
        .await
        .unwrap();
    browser.click("main form button").await.unwrap();
    looks(&browser, &axe, "wrong-password").await;
    assert_eq!(stack.cluster.evictions(&pod.name).await.unwrap(), 1);
    stack.stop().await.unwrap();
}

fn signal(process: u32, name: &str) {
    let kill = std::process::Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// Li, on the log-in page that a stranger is sent to.
async fn log_in(browser: &Browser, stack: &Stack) {
    browser.type_into("input[name=person]", "li").await.unwrap();
    browser
        .type_into("input[name=password]", &stack.secrets.li_password)
        .await
        .unwrap();
    browser.click("main form button").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_a_while_ago_is_not_called_live() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let pod = stack.cluster.deploy("shop", "scale", 3, 1, "ready").await;
    let ai = stack.ai().await.unwrap();
    let proposed = ai.restart("shop", &pod.unwrap().name, "it crashes").await;
    let address = proposed.unwrap().str("approval_url").to_owned();
    let browser = Browser::start().await.unwrap();
    browser.open(&address).await.unwrap();
    log_in(&browser, &stack).await;
    browser.until_text("live · ", SOON).await.unwrap();

    // The server freezes: no stream, no fragment, no word about it.
    let server = stack.server.as_ref().unwrap().id().unwrap();
    signal(server, "-STOP");
    let told = browser.until_text("now: unknown · seen", SOON).await;
    let text = browser.text().await;
    signal(server, "-CONT");
    told.unwrap();
    assert!(!text.unwrap().to_lowercase().contains("live · "));
    browser.until_text("live · ", SOON).await.unwrap();
    stack.stop().await.unwrap();
}
