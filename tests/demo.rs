//! `cargo demo`: the try-out. A playground cluster and a playground Jira (simulated), the server
//! and the executor, as separate processes, until Ctrl-C.

use anyhow::Result;
use countersign_tests::stack::{Options, Stack};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let starting = Stack::start_with(Options::default(), |step| {
        let what = match step {
            "cluster" => "a playground cluster (SIMULATED)",
            "jira" => "a playground Jira (SIMULATED)",
            "countersign" => "countersign: MCP, pages, ticket worker",
            other => other,
        };
        println!("  starting {what}");
    });
    println!("\nCountersign demo\n");
    let mut stack = tokio::select! {
        stack = starting => stack?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    print(&stack);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
        }
        let ended = [&mut stack.server, &mut stack.executor]
            .into_iter()
            .flatten()
            .any(|process| !process.is_running());
        if ended {
            anyhow::bail!("a process ended by itself\n{}", stack.logs());
        }
    }
    println!("\nstopping...");
    stack.stop().await
}

fn print(stack: &Stack) {
    let url = &stack.url;
    let key = &stack.secrets.api_key;
    let jira = &stack.jira;
    println!(
        r#"
Everything below is SIMULATED except Countersign itself: the cluster and the Jira are a playground.
Credentials are random and end with this run.

  Pages        {url}
  Log in as    li     {li}      may approve
               omar   {omar}      may approve, too: open two browsers and see who is first
               maria  {maria}      the human behind the AI: may not approve her own AI's action
  Jira         {jira_url}/?as={li_token}   (as Li Wei; simulated)

Connect an AI client. Claude Code:

  claude mcp add --transport http countersign {url}/mcp --header "Authorization: Bearer {key}"

Cursor (.cursor/mcp.json):

  {{"mcpServers": {{"countersign": {{"url": "{url}/mcp", "headers": {{"Authorization": "Bearer {key}"}}}}}}}}

VS Code (.vscode/mcp.json):

  {{"servers": {{"countersign": {{"type": "http", "url": "{url}/mcp", "headers": {{"Authorization": "Bearer {key}"}}}}}}}}

Plain HTTP, the failing pods:

  curl -s {url}/mcp -H 'Authorization: Bearer {key}' \
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -d '{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"list_failing_pods","arguments":{{}}}}}}'

Ask your AI: "Which pods are failing in namespace shop? Restart one of checkout." Then open the page.
Logs: {folder}/server/log and executor/log.
Ctrl-C ends everything.
"#,
        li = stack.secrets.li_password,
        omar = stack.secrets.omar_password,
        maria = stack.secrets.maria_password,
        jira_url = jira.url,
        li_token = jira.li.token,
        folder = stack.folder.path().display(),
    );
}
