//! Pods that run and do not serve.

use super::context::node_trouble;
use super::exits::{ending, last_end, probe_failure, probe_words};
use super::words::{count, named, quote};
use super::{Cause, Situation};
use crate::kubernetes::failing::Failing;
use crate::kubernetes::pod_detail::ProbeKind;
use crate::kubernetes::records::{ContainerRecord, ContainerState};

pub(super) fn not_ready(
    situation: &Situation,
    failing: &Failing,
    container: Option<&ContainerRecord>,
) -> Cause {
    let lasting = situation.ago(failing.since);
    if let Some(trouble) = situation
        .node
        .and_then(|node| node_trouble(node, situation))
    {
        return Cause::explained(format!(
            "The pod has not been ready for {lasting}: {trouble}"
        ));
    }
    let Some(container) = container else {
        return Cause::unexplained(format!("The pod runs but has not been ready for {lasting}"));
    };
    let name = named(container);
    if let Some(ContainerState::Terminated(_)) = &container.state {
        let how = last_end(container).map(|end| ending(situation, container, end));
        return Cause::explained(format!(
            "The pod has not been ready for {lasting}: {} {}",
            name,
            how.unwrap_or_default()
        ));
    }
    // The probe that holds it up: startup comes first, and readiness is not asked until it passes.
    let failure = [ProbeKind::Startup, ProbeKind::Readiness]
        .into_iter()
        .filter_map(|kind| Some((kind, probe_failure(situation, kind)?)))
        .max_by_key(|(_, event)| event.last_seen);
    let start = format!("{name} runs but has not been ready for {lasting}");
    let Some((kind, event)) = failure else {
        let probes = situation.detail_of(container).map(|detail| &detail.probes);
        return match probes.and_then(|all| all.iter().find(|p| p.kind == ProbeKind::Readiness)) {
            Some(probe) => Cause::unexplained(format!(
                "{start}; its readiness probe is {probe}, and no event says how it fails"
            )),
            None => Cause::unexplained(start),
        };
    };
    let probe = situation
        .detail_of(container)
        .and_then(|detail| detail.probe(kind))
        .map(|probe| format!(" ({probe})"))
        .unwrap_or_default();
    Cause::explained(format!(
        "{start}: its {} probe{probe} fails with {} ({}, last {} ago)",
        kind.as_str(),
        quote(probe_words(event)),
        count(event.count, "time"),
        situation.ago(event.last_seen)
    ))
}

pub(super) fn gate_pending(situation: &Situation, failing: &Failing) -> Cause {
    let open: Vec<String> = situation
        .pod
        .open_readiness_gates()
        .into_iter()
        .map(|gate| {
            let said = situation
                .pod
                .condition(gate)
                .and_then(|c| c.message.as_deref());
            said.map_or_else(
                || gate.to_owned(),
                |said| format!("{gate} ({})", quote(said)),
            )
        })
        .collect();
    Cause::explained(format!(
        "All containers are ready, but for {} the pod has waited for the readiness gate {}, which \
         another controller has to set",
        situation.ago(failing.since),
        open.join(", ")
    ))
}
