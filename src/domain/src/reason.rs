//! Why something was denied, held, refused or ended: a code for programs and a sentence for people.

use serde::{Deserialize, Serialize};

use crate::action::word_enum;

word_enum! {
    /// Stable codes: they appear in MCP answers, metrics, tickets and audit rows.
    Code, "code" {
        // Denied at proposal or admission.
        NoRule => "no_rule",
        UnknownAgent => "unknown_agent",
        TargetMissing => "target_missing",
        NoController => "no_controller",
        OwnerGone => "owner_gone",
        MirrorPod => "mirror_pod",
        Terminating => "terminating",
        WrongCluster => "wrong_cluster",
        CoolDown => "cool_down",
        AlreadySpent => "already_spent",
        DryRunRejected => "dry_run_rejected",
        // Held: nothing moves yet.
        MissingEvidence => "missing_evidence",
        BudgetExhausted => "disruption_budget",
        SourceUnreachable => "source_unreachable",
        ClockSkew => "clock_skew",
        Frozen => "frozen",
        PolicyUnmet => "policy_unmet",
        RateLimited => "rate_limited",
        // Refused: a positive contradiction.
        StatementForged => "statement_forged",
        StatementMismatch => "statement_mismatch",
        DecisionForged => "decision_forged",
        SelfApproval => "self_approval",
        NotEligible => "not_eligible",
        WasRejected => "rejected",
        DenyListed => "deny_listed",
        TargetReplaced => "target_replaced",
        OwnerChanged => "owner_changed",
        Recovered => "recovered",
        TooLate => "too_late",
        // Ends of an execution.
        Verified => "verified",
        ReplacementNotReady => "replacement_not_ready",
        NotApplied => "not_applied",
        Interrupted => "interrupted",
        Unobservable => "unobservable",
        // Ends without one.
        ByApprover => "by_approver",
        ByProposer => "by_proposer",
        NobodyDecided => "nobody_decided",
        NotAdmitted => "not_admitted",
        NotExecuted => "not_executed",
    }
}

/// A code and one sentence. The sentence is safe to show: it never carries internal error text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: Code,
    pub message: String,
}

impl Reason {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}
