//! Approval by moving the ticket: the executor's own look, with its own account.

use countersign_domain::{ActionId, Channel, Code, StateName, Statement};
use countersign_integrations::jira::ticket::render_ticket;
use countersign_integrations::jira::{IssueType, JiraWriter, NewIssue};
use countersign_playground::jira;
use countersign_store::Ticket;
use serde_json::{Map, Value, json};

use crate::world::{World, digest, text};

struct Site {
    server: jira::Started,
    about: Value,
}

impl Site {
    /// Starts Jira and tells the executor of it: its account, and Maria's as Ann's.
    async fn start(world: &World) -> Self {
        let server = jira::start(jira::Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: world.folder.path().join("jira"),
            webhook_url: None,
            rate_limit: false,
        })
        .await
        .unwrap();
        let about = std::fs::read_to_string(&server.credentials).unwrap();
        let about: Value = serde_json::from_str(&about).unwrap();
        let at = |pointer: &str| text(&about, pointer);
        world.policy(|policy| policy.replace("\"web\"", "\"web\", \"jira\""));
        let registry = format!(
            "jira_bots = [\"{}\"]\n[[person]]\nid = \"ann\"\ngroups = [\"sre\"]\njira = [\"{}\"]\n\
             [[person]]\nid = \"bob\"\n[[agent]]\nid = \"claude\"\npeople = [\"bob\"]\n",
            at("/users/bot/account_id"),
            at("/users/maria/account_id"),
        );
        std::fs::write(world.folder.path().join("registry.toml"), registry).unwrap();
        world.append(
            "executor.toml",
            &format!(
                "[jira]\nbase_url = \"{}\"\nemail = \"{}\"\ntoken = \"{}\"\nproject_id = \"{}\"\n\
                 issue_type_id = \"{}\"\nbot_account_id = \"{}\"\napproving_status_ids = [\"{}\"]\n\
                 declining_status_ids = [\"{}\"]\n",
                server.server.url(),
                at("/users/executor_bot/email"),
                at("/users/executor_bot/token"),
                at("/project/id"),
                at("/issue_type/id"),
                at("/users/bot/account_id"),
                at("/statuses/approved"),
                at("/statuses/declined"),
            ),
        );
        Self { server, about }
    }

    fn account(&self, who: &str) -> JiraWriter {
        let at = |field: &str| text(&self.about, &format!("/users/{who}/{field}"));
        JiraWriter::new(&self.server.server.url(), &at("email"), at("token").into()).unwrap()
    }

    fn status(&self, name: &str) -> String {
        text(&self.about, &format!("/statuses/{name}"))
    }

    /// What the server's worker does after admission.
    async fn open_ticket(&self, world: &World, id: ActionId) -> String {
        let action = world.wait(id, StateName::Pending).await;
        let statement: Statement = world.statement(&action);
        let said = render_ticket(&statement, &digest(&action));
        let new = NewIssue {
            project: text(&self.about, "/project/key"),
            issue_type: IssueType::Id(text(&self.about, "/issue_type/id")),
            summary: said.summary,
            description: said.description,
            labels: vec![format!("countersign-{id}")],
            properties: vec![],
            extra_fields: Map::new(),
        };
        let issue = self.account("bot").create_issue(&new).await.unwrap();
        let ticket = Ticket {
            issue_id: issue.id.clone(),
            key: issue.key.clone(),
            url: String::new(),
        };
        world.record_ticket(id, &ticket).await;
        issue.id
    }
}

async fn propose(world: &World) -> ActionId {
    world.propose(&world.failing_pod("inventory").await).await
}

#[tokio::test]
async fn whoever_moves_the_ticket_is_found_by_the_executors_own_look() {
    let world = World::new().await;
    let site = Site::start(&world).await;
    let _executor = world.executor(None);
    let id = propose(&world).await;
    let issue = site.open_ticket(&world, id).await;
    site.account("maria")
        .transition_to_status(&issue, &site.status("approved"))
        .await
        .unwrap();
    world.pointer(id, "ann").await;
    world.wait(id, StateName::Succeeded).await;
    let detail = world.detail(id).await;
    assert!(detail.records[0].0.details["approvals"].starts_with("ann (jira,"));
    assert_eq!(detail.decisions[0].channel, Channel::Jira);
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn the_servers_word_that_a_ticket_was_moved_moves_nothing() {
    let world = World::new().await;
    let site = Site::start(&world).await;
    let _executor = world.executor(None);
    let id = propose(&world).await;
    let issue = site.open_ticket(&world, id).await;
    world.pointer(id, "ann").await;
    let held = world
        .wait_until(id, "held", |action| action.state.held().is_some())
        .await;
    assert_eq!(
        held.state.held().unwrap().reason.code,
        Code::MissingEvidence
    );

    // Somebody rewrites the ticket before Maria moves it: she approved another text.
    let url = format!("{}/rest/api/3/issue/{issue}", site.server.server.url());
    let at = |field: &str| text(&site.about, &format!("/users/admin/{field}"));
    let edited = reqwest::Client::builder()
        .build()
        .unwrap()
        .put(url)
        .basic_auth(at("email"), Some(at("token")))
        .json(&json!({"fields": {"summary": "Something harmless"}}))
        .send()
        .await
        .unwrap();
    assert!(edited.status().is_success(), "{:?}", edited.text().await);
    site.account("maria")
        .transition_to_status(&issue, &site.status("approved"))
        .await
        .unwrap();
    let held = world
        .wait_until(id, "the note", |action| {
            action
                .state
                .held()
                .is_some_and(|held| held.reason.message.contains("edited"))
        })
        .await;
    assert_eq!(held.state.name(), StateName::Approved);
    assert!(world.evictions().await.is_empty());
}

#[tokio::test]
async fn an_account_that_is_nobodys_approves_nothing() {
    let world = World::new().await;
    let site = Site::start(&world).await;
    let _executor = world.executor(None);
    let id = propose(&world).await;
    let issue = site.open_ticket(&world, id).await;
    site.account("li")
        .transition_to_status(&issue, &site.status("approved"))
        .await
        .unwrap();
    world.pointer(id, "ann").await;
    let held = world
        .wait_until(id, "held", |action| action.state.held().is_some())
        .await;
    assert_eq!(
        held.state.held().unwrap().reason.code,
        Code::MissingEvidence
    );
    assert!(world.evictions().await.is_empty());
}

#[tokio::test]
async fn a_ticket_with_an_endless_history_holds_and_says_why() {
    let world = World::new().await;
    let site = Site::start(&world).await;
    let _executor = world.executor(None);
    let id = propose(&world).await;
    let issue = site.open_ticket(&world, id).await;
    let url = format!("{}/rest/api/3/issue/{issue}", site.server.server.url());
    let at = |field: &str| text(&site.about, &format!("/users/admin/{field}"));
    let admin = reqwest::Client::builder().build().unwrap();
    for _ in 0..251 {
        for verb in ["add", "remove"] {
            let noise = json!({"update": {"labels": [{verb: "noise"}]}});
            let edit = admin.put(&url).basic_auth(at("email"), Some(at("token")));
            let edited = edit.json(&noise).send().await.unwrap();
            assert!(edited.status().is_success());
        }
    }
    site.account("maria")
        .transition_to_status(&issue, &site.status("approved"))
        .await
        .unwrap();
    world.pointer(id, "ann").await;
    let held = world
        .wait_until(id, "held", |action| action.state.held().is_some())
        .await;
    let reason = &held.state.held().unwrap().reason;
    assert_eq!(reason.code, Code::SourceUnreachable);
    assert!(
        reason.message.contains("longer than any history of ours"),
        "{}",
        reason.message
    );
    assert!(world.evictions().await.is_empty());
}
