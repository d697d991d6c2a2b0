//! What can happen to the store, and how often.

use countersign_domain::Verb;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub enum Op {
    /// What is usual next for an action: without it, hardly any gets far.
    Onward {
        which: u8,
        choice: u8,
    },
    Propose {
        pod: u8,
    },
    Claim {
        what: u8,
    },
    Admit {
        hand: u8,
    },
    Deny {
        hand: u8,
    },
    Decide {
        which: u8,
        person: u8,
        verb: Verb,
        next: u8,
        stale: bool,
        jira: bool,
    },
    Cancel {
        which: u8,
    },
    Hold {
        hand: u8,
        event: bool,
    },
    Release {
        hand: u8,
    },
    Renew {
        hand: u8,
    },
    Begin {
        hand: u8,
    },
    Refuse {
        hand: u8,
    },
    Finish {
        hand: u8,
        outcome: u8,
    },
    /// A run that lost its row keeps what it saw.
    Append {
        which: u8,
        outcome: u8,
    },
    /// Somebody with every right sets a begun action back.
    SetBack {
        which: u8,
        approved: bool,
    },
    Advance {
        seconds: u16,
    },
    Expire,
}

pub fn op() -> impl Strategy<Value = Op> {
    let hand = any::<u8>;
    prop_oneof![
        9 => (hand(), 0..3u8).prop_map(|(which, choice)| Op::Onward { which, choice }),
        3 => (0..4u8).prop_map(|pod| Op::Propose { pod }),
        6 => (0..3u8).prop_map(|what| Op::Claim { what }),
        4 => hand().prop_map(|hand| Op::Admit { hand }),
        1 => hand().prop_map(|hand| Op::Deny { hand }),
        6 => (hand(), 0..2u8, prop::sample::select(Verb::ALL), 0..4u8, prop::bool::weighted(0.1),
              prop::bool::weighted(0.2))
            .prop_map(|(which, person, verb, next, stale, jira)|
                Op::Decide { which, person, verb, next, stale, jira }),
        1 => hand().prop_map(|which| Op::Cancel { which }),
        1 => (hand(), any::<bool>()).prop_map(|(hand, event)| Op::Hold { hand, event }),
        1 => hand().prop_map(|hand| Op::Release { hand }),
        1 => hand().prop_map(|hand| Op::Renew { hand }),
        4 => hand().prop_map(|hand| Op::Begin { hand }),
        1 => hand().prop_map(|hand| Op::Refuse { hand }),
        4 => (hand(), 0..3u8).prop_map(|(hand, outcome)| Op::Finish { hand, outcome }),
        1 => (hand(), 0..3u8).prop_map(|(which, outcome)| Op::Append { which, outcome }),
        2 => (hand(), any::<bool>()).prop_map(|(which, approved)| Op::SetBack { which, approved }),
        2 => (1..200u16).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Expire),
    ]
}
