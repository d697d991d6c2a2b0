//! "Did you mean": names that exist, near one that does not.

/// Up to three of `candidates` that resemble `name`, the nearest first.
///
/// A generated name (`checkout-7d9f-x2x1l`) is near the others of the same workload: what
/// remains of a replaced pod is usually its prefix.
pub fn near_matches<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut near: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (likeness(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .collect();
    near.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    near.dedup_by(|(_, left), (_, right)| left == right);
    near.into_iter()
        .take(3)
        .map(|(_, candidate)| candidate)
        .collect()
}

fn likeness(wanted: &str, candidate: &str) -> f64 {
    let contained =
        !wanted.is_empty() && (candidate.contains(wanted) || wanted.contains(candidate));
    let similar = strsim::jaro_winkler(wanted, candidate);
    if contained {
        similar.max(0.85)
    } else {
        similar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typing_errors_and_siblings_and_nothing_far() {
        let pods = [
            "checkout-7d9f-abcde",
            "checkout-7d9f-fghij",
            "cart-1",
            "payments-5c4-xyz",
        ];
        assert_eq!(
            near_matches("chekout-7d9f-abcde", pods)[0],
            "checkout-7d9f-abcde"
        );
        assert_eq!(near_matches("checkout-7d9f-zzzzz", pods).len(), 2);
        assert_eq!(near_matches("PAYMENTS", pods), ["payments-5c4-xyz"]);
        assert!(near_matches("zebra", pods).is_empty());
        assert_eq!(near_matches("a", ["aa", "ab", "ac", "ad", "aa"]).len(), 3);
    }
}
