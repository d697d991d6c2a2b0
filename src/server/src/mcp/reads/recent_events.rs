//! `get_recent_events`: newest first, repeats folded.

use countersign_integrations::kubernetes::{EventList, EventRecord, FoldedEvent, fold_events};

use super::{ClusterView, View, bounded, short, unreadable};
use crate::mcp::answers::{Answer, Complaint, EventLine, RecentEvents};
use crate::mcp::arguments::GetRecentEvents;

/// Events kept of one list: of more the newest.
const MOST_EVENTS: usize = 20_000;

impl View<'_> {
    pub async fn get_recent_events(&self, args: GetRecentEvents) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let namespace = args.namespace.as_deref();
        cluster.scopes(namespace).await?;
        let kind = match (&args.kind, &args.name) {
            (None, Some(_)) => Some("Pod"),
            (kind, _) => kind.as_deref(),
        };
        // By name, not by UID: the events of a pod that was just replaced are the point.
        let object = kind.zip(args.name.as_deref());
        let normal = args.include_normal.unwrap_or(false);
        let wanted = |event: &EventRecord| {
            (normal || event.kind == "Warning") && kind.is_none_or(|kind| event.object.kind == kind)
        };
        let scope = cluster.scope(namespace);
        let found = cluster
            .reading
            .newest_events(&scope, object, wanted, MOST_EVENTS);
        let EventList {
            events, complete, ..
        } = found.await.map_err(|error| unreadable(&error))?;
        if events.is_empty() {
            cluster.explain_no_events(namespace, object).await?;
        }
        let folded = fold_events(&events);
        let limit = args.limit.unwrap_or(20) as usize;
        let lines: Vec<EventLine> = folded.iter().take(limit).map(event_line).collect();
        let mut place = cluster.title();
        if let Some(namespace) = namespace {
            place.push_str(&format!(", namespace {namespace}"));
        }
        let of = match (kind, args.name.as_deref()) {
            (Some(kind), Some(name)) => format!(" of {kind} {name}"),
            (Some(kind), None) => format!(" of kind {kind}"),
            _ => String::new(),
        };
        let mut text = if lines.is_empty() {
            let which = if normal { "events" } else { "warnings" };
            format!(
                "No {which}{of} in {place}. Clusters forget events, usually after an hour{}.",
                if normal {
                    ""
                } else {
                    "; include_normal shows the harmless ones"
                }
            )
        } else {
            format!(
                "{} of {} events{of} in {place}, newest first:",
                lines.len(),
                folded.len()
            )
        };
        for line in &lines {
            text.push_str(&format!(
                "\n- {} {} {}x {} {}/{}: ⟦{}⟧",
                line.last_seen,
                line.r#type,
                line.count,
                line.reason,
                line.namespace,
                line.object,
                line.message
            ));
            if line.count > 1 {
                text.push_str(&format!(" (since {})", line.first_seen));
            }
        }
        if lines.len() < folded.len() {
            text.push_str(&format!(
                "\n{} older ones are left out: raise `limit`, or ask for one namespace, kind or \
                 name.",
                folded.len() - lines.len()
            ));
        }
        if !complete {
            text.push_str(
                "\nThere were too many to keep all: older ones are missing. Ask for one namespace or \
                 object to see them.",
            );
        }
        let text = cluster.framed(&text);
        let body = RecentEvents {
            cluster: cluster.id.to_owned(),
            namespace: args.namespace,
            events: lines,
            total: bounded(folded.len()),
            complete: complete && cluster.understood(),
            origin: cluster.origin(),
        };
        Ok(Answer::new(text, &body))
    }
}

impl ClusterView<'_> {
    /// No events of a thing that exists are an answer; of a thing that does not, a mistake.
    async fn explain_no_events(
        &self,
        namespace: Option<&str>,
        object: Option<(&str, &str)>,
    ) -> Result<(), Complaint> {
        match (namespace, object) {
            (Some(namespace), Some(("Pod", name))) => self.pod(namespace, name).await.map(drop),
            (Some(namespace), _) => self.namespace_exists(namespace).await,
            (None, _) => Ok(()),
        }
    }
}

pub(super) fn event_line(event: &FoldedEvent) -> EventLine {
    EventLine {
        last_seen: event.last_seen.to_string(),
        first_seen: event.first_seen.to_string(),
        count: u32::try_from(event.count).unwrap_or(u32::MAX),
        r#type: event.kind.clone(),
        reason: event.reason.clone(),
        namespace: event.object.namespace.clone().unwrap_or_default(),
        object: format!("{}/{}", event.object.kind, event.object.name),
        message: short(&event.message),
    }
}
