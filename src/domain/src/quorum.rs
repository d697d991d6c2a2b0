//! Filling seats. One person takes one seat; a filling is found whenever one exists.

use crate::decision::Channel;
use crate::policy::{Requirement, Tier};

/// An approval that counts, before it is given a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub person: String,
    pub groups: Vec<String>,
    pub tier: Tier,
    pub channel: Channel,
}

impl Seat {
    fn fits(&self, requirement: &Requirement) -> bool {
        self.tier >= requirement.tier
            && requirement.channels.contains(&self.channel)
            && self.groups.contains(&requirement.group)
    }
}

/// How many seats stay empty under the best filling: 0 means that the quorum is met. Seats of one
/// person count once, whichever of them is used.
pub fn seats_missing(require: &[Requirement], approvals: &[Seat]) -> usize {
    let places: Vec<&Requirement> = require
        .iter()
        .flat_map(|entry| std::iter::repeat_n(entry, entry.count.0 as usize))
        .collect();
    let mut people: Vec<&str> = approvals.iter().map(|seat| seat.person.as_str()).collect();
    people.sort_unstable();
    people.dedup();
    // Augmenting paths (Kuhn): small numbers, and exact.
    let mut taken_by: Vec<Option<usize>> = vec![None; places.len()];
    let mut filled = 0;
    for person in 0..people.len() {
        let mut seen = vec![false; places.len()];
        if place(
            person,
            &people,
            &places,
            approvals,
            &mut taken_by,
            &mut seen,
        ) {
            filled += 1;
        }
    }
    places.len() - filled
}

fn place(
    person: usize,
    people: &[&str],
    places: &[&Requirement],
    approvals: &[Seat],
    taken_by: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for (index, requirement) in places.iter().enumerate() {
        let fits = approvals
            .iter()
            .any(|seat| seat.person == people[person] && seat.fits(requirement));
        if !fits || seen[index] {
            continue;
        }
        seen[index] = true;
        let free = match taken_by[index] {
            None => true,
            Some(other) => place(other, people, places, approvals, taken_by, seen),
        };
        if free {
            taken_by[index] = Some(person);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Count;
    use proptest::prelude::*;

    fn need(group: &str, count: u32) -> Requirement {
        Requirement {
            group: group.into(),
            count: Count(count),
            tier: Tier::Attested,
            channels: vec![Channel::Web],
        }
    }

    fn seat(person: &str, groups: &[&str]) -> Seat {
        Seat {
            person: person.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            tier: Tier::Attested,
            channel: Channel::Web,
        }
    }

    #[test]
    fn a_filling_is_found_although_greedy_would_miss_it() {
        let require = [need("sre", 1), need("owners", 1)];
        // Ann fits both; taken greedily for `sre` she would leave Bob, who is only an sre, outside.
        let both = [seat("ann", &["sre", "owners"]), seat("bob", &["sre"])];
        assert_eq!(seats_missing(&require, &both), 0);
        assert_eq!(seats_missing(&require, &both[..1]), 1);
    }

    #[test]
    fn one_person_fills_one_seat_however_often_they_answer() {
        let twice = [seat("ann", &["sre"]), seat("ann", &["sre"])];
        assert_eq!(seats_missing(&[need("sre", 2)], &twice), 1);
    }

    #[test]
    fn channel_and_tier_must_fit() {
        let mut jira = seat("ann", &["sre"]);
        jira.channel = Channel::Jira;
        assert_eq!(seats_missing(&[need("sre", 1)], &[jira]), 1);
        let mut weak = seat("ann", &["sre"]);
        weak.tier = Tier::Playground;
        assert_eq!(seats_missing(&[need("sre", 1)], &[weak]), 1);
    }

    fn brute(places: &[&Requirement], people: &[Seat]) -> usize {
        let Some((first, rest)) = places.split_first() else {
            return 0;
        };
        let mut best = brute(rest, people);
        for (index, seat) in people.iter().enumerate() {
            if seat.fits(first) {
                let mut others = people.to_vec();
                others.remove(index);
                best = best.max(1 + brute(rest, &others));
            }
        }
        best
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_filling(
            needs in prop::collection::vec((0usize..3, 1u32..3), 1..4),
            people in prop::collection::vec(prop::collection::vec(0usize..3, 0..3), 0..5),
        ) {
            let groups = ["a", "b", "c"];
            let require: Vec<_> = needs.iter().map(|(g, n)| need(groups[*g], *n)).collect();
            let seats: Vec<_> = people.iter().enumerate().map(|(i, gs)| {
                let gs: Vec<&str> = gs.iter().map(|g| groups[*g]).collect();
                seat(&format!("p{i}"), &gs)
            }).collect();
            let places: Vec<&Requirement> = require.iter()
                .flat_map(|r| std::iter::repeat_n(r, r.count.0 as usize)).collect();
            prop_assert_eq!(seats_missing(&require, &seats), places.len() - brute(&places, &seats));
        }
    }
}
