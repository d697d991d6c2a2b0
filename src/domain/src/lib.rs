//! The rules of Countersign, pure: what an action is, what is signed, who may approve it, and the
//! one function, [`authorize`], that turns evidence into permission to write.
//!
//! Nothing here may do I/O: no tokio, sqlx, axum or kube. Time comes in through [`Clock`] or as an
//! argument; randomness through [`Entropy`].

mod action;
mod audit;
mod authorize;
mod canonical;
mod clock;
mod decision;
mod execution;
mod ids;
mod policy;
mod quorum;
mod reason;
mod registry;
mod signing;
mod statement;
mod text;

pub use action::{
    Action, ActionKind, Actor, End, Held, Inconsistent, Parts, Proposal, RestartMode, State,
    StateName, Target, UnknownWord,
};
pub use audit::{AuditEvent, Author, EventName};
pub use authorize::{
    Authorized, Evidence, JiraMove, LiveFacts, LivePod, SKEW_OF_A_NO, StoredDecision, Verdict,
    authorize, eligible,
};
pub use canonical::{CanonicalError, Digest, canonical_json, digest_text};
pub use clock::{Clock, ManualClock, SystemClock, to_millis};
pub use decision::{Channel, Decision, Verb};
pub use execution::{ExecutionRecord, RecordKind};
pub use ids::{ActionId, Entropy, InvalidId, OsEntropy, random_token};
pub use policy::{Freeze, Policy, PolicyError, Requirement, Risk, Rule, Subject, Tier};
pub use quorum::{Seat, seats_missing};
pub use reason::{Code, Reason};
pub use registry::{Agent, Person, Registry, RegistryError};
pub use signing::{KeyRing, Sealed, Signed, SignedObject, Signer, SigningError, VerifyError};
pub use statement::{ClusterRef, Count, Inverse, OwnerRef, Predicate, Statement, Success};
pub use text::{one_line, visible};
