//! `get_recent_events`: newest first, repeats folded.

use super::*;

impl View<'_> {
    pub async fn get_recent_events(&self, args: GetRecentEvents) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let namespace = args.namespace.as_str();
        if !self.caller.sees(namespace) {
            return Err(cluster.no_namespace(namespace).await);
        }
        let place = cluster.place().await?;
        let mut events = cluster
            .reader
            .list_events(Some(namespace), None)
            .await
            .map_err(|error| unreadable(&error))?;
        if let Some(pod) = &args.pod {
            // By name, not by UID: the events of a pod that was just replaced are the point.
            events.retain(|event| event.object.kind == "Pod" && event.object.name == *pod);
            if events.is_empty() {
                // The look for near names takes a place of its own.
                drop(place);
                cluster.pod(namespace, pod).await?;
            }
        } else if events.is_empty() {
            cluster.namespace_exists(namespace).await?;
        }
        if !args.include_normal.unwrap_or(false) {
            events.retain(|event| event.kind == "Warning");
        }
        let folded = fold_events(&events);
        let limit = args.limit.unwrap_or(20) as usize;
        let lines: Vec<EventLine> = folded.iter().take(limit).map(event_line).collect();
        let of = args
            .pod
            .as_ref()
            .map_or_else(String::new, |pod| format!(" of pod {pod}"));
        let mut text = if lines.is_empty() {
            format!(
                "No such events{of} in {}/{namespace}. Clusters forget them, usually after an hour.",
                cluster.title()
            )
        } else {
            format!(
                "{} of {} events{of} in {}/{namespace}, newest first:",
                lines.len(),
                folded.len(),
                cluster.title()
            )
        };
        for line in &lines {
            text.push_str(&format!(
                "\n- {} {} {}x {} {}: {}",
                line.last_seen, line.r#type, line.count, line.reason, line.object, line.message
            ));
        }
        text.push_str(&format!("\n({UNTRUSTED})"));
        let body = RecentEvents {
            cluster: cluster.id.to_owned(),
            namespace: namespace.to_owned(),
            pod: args.pod,
            events: lines,
            total: bounded(folded.len()),
            observed_at: self.now.to_string(),
            simulated: cluster.simulated,
            note: UNTRUSTED.to_owned(),
        };
        Ok(Answer::new(text, &body))
    }
}

pub(super) fn event_line(event: &FoldedEvent) -> EventLine {
    EventLine {
        last_seen: event.last_seen.to_string(),
        first_seen: event.first_seen.to_string(),
        count: u32::try_from(event.count).unwrap_or(u32::MAX),
        r#type: event.kind.clone(),
        reason: event.reason.clone(),
        object: format!("{}/{}", event.object.kind, event.object.name),
        message: short(&event.message),
    }
}
