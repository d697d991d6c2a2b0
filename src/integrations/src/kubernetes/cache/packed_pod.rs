//! A pod in 100 to 200 bytes: how each part of a [`PodRecord`] is packed.
//!
//! Namespace, name and Job are not in it: the first two are the key, and the Job is looked up.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::pod_detail::{ContainerDetail, PodDetail, Probe, ProbeKind};
use super::super::records::{
    ConditionRecord, ConditionStatus, ContainerKind, ContainerRecord, ContainerState, OwnerRef,
    PodPhase, PodRecord, Requests, RestartPolicy, Terminated, Volumes,
};
use super::packing::{Pack, Packer, Unpacker, pack_choice, pack_symbols, unpack_symbols};
use super::symbols::Symbols;

/// A pod with what only a close look needs.
pub(in super::super) struct PodInFull {
    pub pod: PodRecord,
    pub detail: PodDetail,
}

/// The bytes of a pod. The labels stand first, so that a selector need not read the rest.
pub(super) fn pack(whole: &PodInFull, symbols: &mut Symbols) -> Box<[u8]> {
    let PodInFull { pod, detail } = whole;
    let PodRecord {
        namespace: _,
        name: _,
        uid,
        resource_version,
        created_at,
        labels,
        mirror,
        owner,
        job: _,
        node,
        phase,
        reason,
        message,
        conditions,
        start_time,
        deletion_timestamp,
        deletion_grace_seconds,
        finalizers,
        restart_policy,
        termination_grace_seconds,
        readiness_gates,
        scheduling_gates,
        containers,
        volumes,
        requests,
    } = pod;
    let mut bytes = Vec::with_capacity(256);
    let to = &mut Packer {
        bytes: &mut bytes,
        symbols,
    };
    labels.pack(to);
    to.uid(uid);
    to.version(resource_version);
    created_at.pack(to);
    to.flag(*mirror);
    owner.pack(to);
    to.maybe(node.as_ref(), |to, node| to.symbol(node));
    phase.pack(to);
    to.maybe(reason.as_ref(), |to, reason| to.symbol(reason));
    to.maybe(message.as_ref(), |to, message| to.text(message));
    conditions.pack(to);
    start_time.pack(to);
    deletion_timestamp.pack(to);
    to.maybe(deletion_grace_seconds.as_ref(), |to, seconds| {
        to.signed(*seconds);
    });
    pack_symbols(finalizers, to);
    restart_policy.pack(to);
    to.signed(*termination_grace_seconds);
    pack_symbols(readiness_gates, to);
    pack_symbols(scheduling_gates, to);
    containers.pack(to);
    volumes.pack(to);
    requests.pack(to);
    // At the end: most looks do not get that far.
    detail.pack(to);
    bytes.into_boxed_slice()
}

pub(super) fn unpack(namespace: &str, name: &str, bytes: &[u8], symbols: &Symbols) -> PodRecord {
    pod(namespace, name, &mut Unpacker { bytes, symbols })
}

pub(super) fn unpack_in_full(
    namespace: &str,
    name: &str,
    bytes: &[u8],
    symbols: &Symbols,
) -> PodInFull {
    let from = &mut Unpacker { bytes, symbols };
    PodInFull {
        pod: pod(namespace, name, from),
        detail: PodDetail::unpack(from),
    }
}

fn pod(namespace: &str, name: &str, from: &mut Unpacker<'_>) -> PodRecord {
    let labels = BTreeMap::unpack(from);
    // Fields are evaluated in the order in which they are written: that of `pack`.
    PodRecord {
        labels,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: from.uid(),
        resource_version: from.version(),
        created_at: Timestamp::unpack(from),
        mirror: from.flag(),
        owner: Option::unpack(from),
        job: None,
        node: from.maybe(Unpacker::symbol),
        phase: PodPhase::unpack(from),
        reason: from.maybe(Unpacker::symbol),
        message: from.maybe(Unpacker::text),
        conditions: Vec::unpack(from),
        start_time: Option::unpack(from),
        deletion_timestamp: Option::unpack(from),
        deletion_grace_seconds: from.maybe(Unpacker::signed),
        finalizers: unpack_symbols(from),
        restart_policy: RestartPolicy::unpack(from),
        termination_grace_seconds: from.signed(),
        readiness_gates: unpack_symbols(from),
        scheduling_gates: unpack_symbols(from),
        containers: Vec::unpack(from),
        volumes: Volumes::unpack(from),
        requests: Requests::unpack(from),
    }
}

/// The bytes of the labels alone: pods with the same labels have the same ones.
pub(super) fn label_bytes<'a>(bytes: &'a [u8], symbols: &Symbols) -> &'a [u8] {
    let mut from = Unpacker { bytes, symbols };
    for _ in 0..from.number() {
        from.number();
        from.number();
    }
    &bytes[..bytes.len() - from.bytes.len()]
}

pub(super) fn labels(bytes: &[u8], symbols: &Symbols) -> BTreeMap<String, String> {
    BTreeMap::unpack(&mut Unpacker { bytes, symbols })
}

pack_choice!(PodPhase: Pending = 0, Running = 1, Succeeded = 2, Failed = 3, Unknown = 4; else Unknown);
pack_choice!(RestartPolicy: Always = 0, OnFailure = 1, Never = 2; else Always);
pack_choice!(ConditionStatus: True = 0, False = 1, Unknown = 2; else Unknown);
pack_choice!(ContainerKind: Init = 0, App = 1, Sidecar = 2, Ephemeral = 3; else App);

impl Pack for OwnerRef {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            api_version,
            kind,
            name,
            uid,
        } = self;
        for text in [api_version, kind, name, uid] {
            to.symbol(text);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            api_version: from.symbol(),
            kind: from.symbol(),
            name: from.symbol(),
            uid: from.symbol(),
        }
    }
}

impl Pack for ConditionRecord {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            kind,
            status,
            reason,
            message,
            last_transition_at,
        } = self;
        to.symbol(kind);
        status.pack(to);
        to.maybe(reason.as_ref(), |to, reason| to.symbol(reason));
        to.maybe(message.as_ref(), |to, message| to.text(message));
        last_transition_at.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            kind: from.symbol(),
            status: ConditionStatus::unpack(from),
            reason: from.maybe(Unpacker::symbol),
            message: from.maybe(Unpacker::text),
            last_transition_at: Option::unpack(from),
        }
    }
}

impl Pack for ContainerRecord {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            name,
            image,
            kind,
            ready,
            restart_count,
            state,
            last_terminated,
            memory_limit,
        } = self;
        to.symbol(name);
        to.symbol(image);
        kind.pack(to);
        to.flag(*ready);
        to.number((*restart_count).into());
        state.pack(to);
        last_terminated.pack(to);
        to.maybe(memory_limit.as_ref(), |to, limit| to.symbol(limit));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            name: from.symbol(),
            image: from.symbol(),
            kind: ContainerKind::unpack(from),
            ready: from.flag(),
            restart_count: u32::try_from(from.number()).unwrap_or(u32::MAX),
            state: Option::unpack(from),
            last_terminated: Option::unpack(from),
            memory_limit: from.maybe(Unpacker::symbol),
        }
    }
}

impl Pack for ContainerState {
    fn pack(&self, to: &mut Packer<'_>) {
        match self {
            Self::Waiting { reason, message } => {
                to.number(0);
                to.maybe(reason.as_ref(), |to, reason| to.symbol(reason));
                to.maybe(message.as_ref(), |to, message| to.text(message));
            }
            Self::Running { since } => {
                to.number(1);
                since.pack(to);
            }
            Self::Terminated(end) => {
                to.number(2);
                end.pack(to);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        match from.number() {
            0 => Self::Waiting {
                reason: from.maybe(Unpacker::symbol),
                message: from.maybe(Unpacker::text),
            },
            1 => Self::Running {
                since: Option::unpack(from),
            },
            _ => Self::Terminated(Terminated::unpack(from)),
        }
    }
}

impl Pack for Terminated {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            reason,
            message,
            exit_code,
            signal,
            started_at,
            finished_at,
        } = self;
        to.maybe(reason.as_ref(), |to, reason| to.symbol(reason));
        to.maybe(message.as_ref(), |to, message| to.text(message));
        to.signed((*exit_code).into());
        to.maybe(signal.as_ref(), |to, signal| to.signed((*signal).into()));
        started_at.pack(to);
        finished_at.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let number = |from: &mut Unpacker<'_>| i32::try_from(from.signed()).unwrap_or_default();
        Self {
            reason: from.maybe(Unpacker::symbol),
            message: from.maybe(Unpacker::text),
            exit_code: number(from),
            signal: from.maybe(number),
            started_at: Option::unpack(from),
            finished_at: Option::unpack(from),
        }
    }
}

impl Pack for Requests {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            cpu_milli,
            memory_bytes,
        } = self;
        to.signed(*cpu_milli);
        to.signed(*memory_bytes);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            cpu_milli: from.signed(),
            memory_bytes: from.signed(),
        }
    }
}

impl Pack for Volumes {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            empty_dir,
            host_path,
            persistent_volume_claims,
        } = self;
        for names in [empty_dir, host_path, persistent_volume_claims] {
            pack_symbols(names, to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            empty_dir: unpack_symbols(from),
            host_path: unpack_symbols(from),
            persistent_volume_claims: unpack_symbols(from),
        }
    }
}

impl Pack for PodDetail {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            qos_class,
            priority_class,
            image_pull_secrets,
            active_deadline_seconds,
            containers,
        } = self;
        for class in [qos_class, priority_class] {
            to.maybe(class.as_ref(), |to, class| to.symbol(class));
        }
        pack_symbols(image_pull_secrets, to);
        to.maybe(active_deadline_seconds.as_ref(), |to, seconds| {
            to.signed(*seconds);
        });
        containers.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            qos_class: from.maybe(Unpacker::symbol),
            priority_class: from.maybe(Unpacker::symbol),
            image_pull_secrets: unpack_symbols(from),
            active_deadline_seconds: from.maybe(Unpacker::signed),
            containers: Vec::unpack(from),
        }
    }
}

impl Pack for ContainerDetail {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            name,
            requests,
            limits,
            probes,
        } = self;
        to.symbol(name);
        requests.pack(to);
        limits.pack(to);
        probes.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            name: from.symbol(),
            requests: BTreeMap::unpack(from),
            limits: BTreeMap::unpack(from),
            probes: Vec::unpack(from),
        }
    }
}

impl Pack for Probe {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            kind,
            check,
            failures,
            period_seconds,
            timeout_seconds,
            initial_delay_seconds,
        } = self;
        kind.pack(to);
        to.symbol(check);
        for number in [
            failures,
            period_seconds,
            timeout_seconds,
            initial_delay_seconds,
        ] {
            to.number((*number).into());
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let number = |from: &mut Unpacker<'_>| u32::try_from(from.number()).unwrap_or(u32::MAX);
        Self {
            kind: ProbeKind::unpack(from),
            check: from.symbol(),
            failures: number(from),
            period_seconds: number(from),
            timeout_seconds: number(from),
            initial_delay_seconds: number(from),
        }
    }
}

pack_choice!(ProbeKind: Startup = 0, Readiness = 1, Liveness = 2; else Startup);
