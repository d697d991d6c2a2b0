//! `get_rollout_history`: the revisions that a cluster keeps, and what changed from one to the next.

use countersign_integrations::kubernetes::{Change, RevisionRecord, WorkloadRecord, changes};

use super::{View, bounded, short, unreadable};
use crate::mcp::answers::{Answer, ChangeLine, Complaint, RevisionLine, RolloutHistory};
use crate::mcp::arguments::GetRolloutHistory;

/// Differences told of one revision.
const MOST_CHANGES: usize = 25;

impl View<'_> {
    pub async fn get_rollout_history(&self, args: GetRolloutHistory) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let workload = cluster
            .rolling(&args.namespace, args.kind, &args.name)
            .await?;
        let revisions = {
            let _place = cluster.place().await?;
            cluster
                .reader
                .revisions_of(&workload)
                .await
                .map_err(|error| unreadable(&error))?
        };
        let limit = args.limit.unwrap_or(5) as usize;
        let lines: Vec<RevisionLine> = revisions
            .iter()
            .enumerate()
            .take(limit)
            .map(|(at, revision)| {
                let current = is_current(revision, at, &workload);
                line(revision, revisions.get(at + 1), current)
            })
            .collect();
        let left_out = revisions.len() - lines.len();
        let mut text = format!(
            "{} of {} revisions of {} {}/{} in {}, newest first:",
            lines.len(),
            revisions.len(),
            workload.kind,
            workload.namespace,
            workload.name,
            cluster.title()
        );
        for line in &lines {
            text.push_str(&told(line));
        }
        if left_out > 0 {
            text.push_str(&format!(
                "\n{left_out} older revisions are left out: set `limit`."
            ));
        }
        if let Some(by) = &workload.managed_by {
            text.push_str(&format!(
                "\n{by} manages it and would undo a rollback by hand."
            ));
        }
        let text = cluster.framed(&text);
        let body = RolloutHistory {
            cluster: cluster.id.to_owned(),
            namespace: workload.namespace,
            kind: workload.kind,
            name: workload.name,
            revisions: lines,
            revisions_total: bounded(revisions.len()),
            managed_by: workload.managed_by,
            origin: cluster.origin(),
        };
        Ok(Answer::new(text, &body))
    }
}

/// A Deployment and a StatefulSet name their revision, a DaemonSet means the newest.
fn is_current(revision: &RevisionRecord, at: usize, workload: &WorkloadRecord) -> bool {
    match (&workload.update_revision, &workload.revision) {
        (Some(name), _) => revision.name == *name,
        (None, Some(number)) => revision.number.to_string() == *number,
        (None, None) => at == 0,
    }
}

fn line(revision: &RevisionRecord, before: Option<&RevisionRecord>, current: bool) -> RevisionLine {
    let found = before
        .map(|before| changes(&before.template, &revision.template))
        .unwrap_or_default();
    let left_out = bounded(found.len().saturating_sub(MOST_CHANGES));
    RevisionLine {
        revision: revision.number,
        current,
        created_at: revision.created_at.to_string(),
        change_cause: revision.change_cause.as_deref().map(short),
        earlier_numbers: revision.earlier_numbers.iter().copied().take(20).collect(),
        compared_with: before.map(|before| before.number),
        changes: found.into_iter().take(MOST_CHANGES).map(change).collect(),
        changes_left_out: left_out,
    }
}

fn change(change: Change) -> ChangeLine {
    ChangeLine {
        container: change.container,
        what: change.what,
        change: countersign_domain::one_line(&change.change, 700),
    }
}

fn told(line: &RevisionLine) -> String {
    let current = if line.current { " (current)" } else { "" };
    let mut text = format!(
        "\n- revision {}{current}, template first used {}",
        line.revision, line.created_at
    );
    if !line.earlier_numbers.is_empty() {
        let numbers: Vec<String> = line.earlier_numbers.iter().map(i64::to_string).collect();
        text.push_str(&format!(
            ", rolled back to; it was revision {}",
            numbers.join(", ")
        ));
    }
    if let Some(cause) = &line.change_cause {
        text.push_str(&format!(", change-cause ⟦{cause}⟧"));
    }
    match line.compared_with {
        None => text.push_str(": the oldest that is kept"),
        Some(before) if line.changes.is_empty() => {
            text.push_str(&format!(": no difference to revision {before}"));
        }
        Some(before) => text.push_str(&format!(", against revision {before}:")),
    }
    for change in &line.changes {
        let of = change
            .container
            .as_ref()
            .map_or_else(String::new, |name| format!(" of {name}"));
        text.push_str(&format!("\n  - {}{of}: {}", change.what, change.change));
    }
    if line.changes_left_out > 0 {
        text.push_str(&format!("\n  - and {} more", line.changes_left_out));
    }
    text
}
