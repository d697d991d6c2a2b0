//! Workloads and events as bytes; see [`super::packed_pod`].

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::records::{
    BatchRecord, EventRecord, JobEnd, JobState, ObjectRef, UpdateStrategy, WorkloadRecord,
};
use super::super::selector::{LabelSelector, Requirement, SelectorOperator};
use super::packing::{Pack, Packer, Unpacker, pack_choice, pack_symbols, unpack_symbols};
use super::symbols::Symbols;

/// All but namespace and name, which are the key.
pub(super) fn pack_workload(workload: &WorkloadRecord, symbols: &mut Symbols) -> Box<[u8]> {
    let WorkloadRecord {
        kind,
        namespace: _,
        name: _,
        uid,
        resource_version,
        created_at,
        generation,
        observed_generation,
        replicas,
        ready,
        available,
        updated,
        paused,
        revision,
        conditions,
        owner,
        managed_by,
        job,
        selector,
        current,
        misscheduled,
        strategy,
        update_revision,
        current_revision,
        batch,
    } = workload;
    let mut bytes = Vec::with_capacity(128);
    let to = &mut Packer {
        bytes: &mut bytes,
        symbols,
    };
    to.symbol(kind);
    to.uid(uid);
    to.version(resource_version);
    created_at.pack(to);
    to.signed(*generation);
    to.signed(*observed_generation);
    to.maybe(replicas.as_ref(), |to, count| to.signed((*count).into()));
    for count in [ready, available, updated] {
        to.signed((*count).into());
    }
    to.flag(*paused);
    to.maybe(revision.as_ref(), |to, revision| to.text(revision));
    conditions.pack(to);
    owner.pack(to);
    to.maybe(managed_by.as_ref(), |to, by| to.symbol(by));
    job.pack(to);
    selector.pack(to);
    for count in [current, misscheduled] {
        to.signed((*count).into());
    }
    strategy.pack(to);
    for revision in [update_revision, current_revision] {
        to.maybe(revision.as_ref(), |to, revision| to.text(revision));
    }
    batch.pack(to);
    bytes.into_boxed_slice()
}

pub(super) fn unpack_workload(
    namespace: &str,
    name: &str,
    bytes: &[u8],
    symbols: &Symbols,
) -> WorkloadRecord {
    let from = &mut Unpacker { bytes, symbols };
    let count = |from: &mut Unpacker<'_>| i32::try_from(from.signed()).unwrap_or_default();
    WorkloadRecord {
        kind: from.symbol(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: from.uid(),
        resource_version: from.version(),
        created_at: Timestamp::unpack(from),
        generation: from.signed(),
        observed_generation: from.signed(),
        replicas: from.maybe(count),
        ready: count(from),
        available: count(from),
        updated: count(from),
        paused: from.flag(),
        revision: from.maybe(Unpacker::text),
        conditions: Vec::unpack(from),
        owner: Option::unpack(from),
        managed_by: from.maybe(Unpacker::symbol),
        job: Option::unpack(from),
        selector: Option::unpack(from),
        current: count(from),
        misscheduled: count(from),
        strategy: UpdateStrategy::unpack(from),
        update_revision: from.maybe(Unpacker::text),
        current_revision: from.maybe(Unpacker::text),
        batch: Option::unpack(from),
    }
}

impl Pack for LabelSelector {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            match_labels,
            match_expressions,
        } = self;
        match_labels.pack(to);
        match_expressions.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            match_labels: BTreeMap::unpack(from),
            match_expressions: Vec::unpack(from),
        }
    }
}

impl Pack for Requirement {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            key,
            operator,
            values,
        } = self;
        to.symbol(key);
        operator.pack(to);
        pack_symbols(values, to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            key: from.symbol(),
            operator: SelectorOperator::unpack(from),
            values: unpack_symbols(from),
        }
    }
}

pack_choice!(SelectorOperator: In = 0, NotIn = 1, Exists = 2, DoesNotExist = 3; else In);

impl Pack for UpdateStrategy {
    fn pack(&self, to: &mut Packer<'_>) {
        match self {
            Self::None => to.number(0),
            Self::OnDelete => to.number(1),
            Self::Recreate => to.number(2),
            Self::RollingUpdate { partition } => {
                to.number(3);
                to.signed((*partition).into());
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        match from.number() {
            0 => Self::None,
            1 => Self::OnDelete,
            2 => Self::Recreate,
            _ => Self::RollingUpdate {
                partition: i32::try_from(from.signed()).unwrap_or_default(),
            },
        }
    }
}

impl Pack for BatchRecord {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            completions,
            active,
            succeeded,
            failed,
            suspended,
            ended,
            schedule,
            last_scheduled,
            last_succeeded,
            // Joined from the Jobs when somebody asks.
            last_run: _,
        } = self;
        to.maybe(completions.as_ref(), |to, count| {
            to.signed((*count).into());
        });
        for count in [active, succeeded, failed] {
            to.number((*count).into());
        }
        to.flag(*suspended);
        ended.pack(to);
        to.maybe(schedule.as_ref(), |to, schedule| to.symbol(schedule));
        last_scheduled.pack(to);
        last_succeeded.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let count = |from: &mut Unpacker<'_>| u32::try_from(from.number()).unwrap_or(u32::MAX);
        Self {
            completions: from.maybe(|from| i32::try_from(from.signed()).unwrap_or_default()),
            active: count(from),
            succeeded: count(from),
            failed: count(from),
            suspended: from.flag(),
            ended: Option::unpack(from),
            schedule: from.maybe(Unpacker::symbol),
            last_scheduled: Option::unpack(from),
            last_succeeded: Option::unpack(from),
            last_run: None,
        }
    }
}

impl Pack for JobEnd {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            succeeded,
            reason,
            message,
            at,
        } = self;
        to.flag(*succeeded);
        to.maybe(reason.as_ref(), |to, reason| to.symbol(reason));
        to.maybe(message.as_ref(), |to, message| to.text(message));
        at.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self {
            succeeded: from.flag(),
            reason: from.maybe(Unpacker::symbol),
            message: from.maybe(Unpacker::text),
            at: Option::unpack(from),
        }
    }
}

impl Pack for JobState {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self {
            failed,
            backoff_limit,
            retrying,
            complete,
            suspended,
        } = self;
        to.number((*failed).into());
        to.number((*backoff_limit).into());
        for flag in [retrying, complete, suspended] {
            to.flag(*flag);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let count = |from: &mut Unpacker<'_>| u32::try_from(from.number()).unwrap_or(u32::MAX);
        Self {
            failed: count(from),
            backoff_limit: count(from),
            retrying: from.flag(),
            complete: from.flag(),
            suspended: from.flag(),
        }
    }
}

pub(super) fn pack_event(event: &EventRecord, symbols: &mut Symbols) -> Box<[u8]> {
    let EventRecord {
        namespace: _,
        name: _,
        uid,
        kind,
        reason,
        message,
        object,
        count,
        first_seen,
        last_seen,
        source,
    } = event;
    let ObjectRef {
        kind: object_kind,
        namespace: object_namespace,
        name: object_name,
        uid: object_uid,
    } = object;
    let mut bytes = Vec::with_capacity(256);
    let to = &mut Packer {
        bytes: &mut bytes,
        symbols,
    };
    to.uid(uid);
    to.symbol(kind);
    to.symbol(reason);
    to.text(message);
    to.symbol(object_kind);
    to.maybe(object_namespace.as_ref(), |to, namespace| {
        to.symbol(namespace);
    });
    to.text(object_name);
    to.maybe(object_uid.as_ref(), |to, uid| to.uid(uid));
    to.number((*count).into());
    first_seen.pack(to);
    last_seen.pack(to);
    to.maybe(source.as_ref(), |to, source| to.symbol(source));
    bytes.into_boxed_slice()
}

pub(super) fn unpack_event(
    namespace: &str,
    name: &str,
    bytes: &[u8],
    symbols: &Symbols,
) -> EventRecord {
    let from = &mut Unpacker { bytes, symbols };
    EventRecord {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: from.uid(),
        kind: from.symbol(),
        reason: from.symbol(),
        message: from.text(),
        object: ObjectRef {
            kind: from.symbol(),
            namespace: from.maybe(Unpacker::symbol),
            name: from.text(),
            uid: from.maybe(Unpacker::uid),
        },
        count: u32::try_from(from.number()).unwrap_or(u32::MAX),
        first_seen: Timestamp::unpack(from),
        last_seen: Timestamp::unpack(from),
        source: from.maybe(Unpacker::symbol),
    }
}
