use super::corpus::{HARMLESS, secrets};
use super::*;

#[test]
fn every_rule_compiled_and_stands_where_its_set_says() {
    assert_eq!(RULES.all.len(), RULES.set.len());
    assert!(RULES.all.len() > 30);
    assert!(RULES.all.iter().all(|rule| rule.shape().is_some()));
}

#[test]
fn no_secret_of_the_corpus_stays() {
    let all = secrets();
    assert!(all.len() >= 60, "{}", all.len());
    for (around, secret) in all {
        let line = around.replace("{}", &secret);
        let masked = mask(&line);
        // Every line of a secret counts, and so does the greater part of one.
        for part in secret.lines().filter(|part| !part.starts_with("-----")) {
            assert!(!masked.contains(part), "{line} -> {masked}");
            let end = &part[part.len() / 2..];
            assert!(
                part.len() < 12 || !masked.contains(end),
                "{line} -> {masked}"
            );
        }
        assert!(masked.contains(MARK), "{line} -> {masked}");
    }
}

#[test]
fn what_is_harmless_stays() {
    for line in HARMLESS {
        assert_eq!(mask(line), line);
        assert_eq!(LineMasker::default().line(line), line);
    }
}

#[test]
fn masking_twice_changes_nothing_more() {
    for (around, secret) in secrets() {
        let once = mask(&around.replace("{}", &secret)).into_owned();
        assert_eq!(mask(&once), once);
    }
}

fn lines(text: &str) -> String {
    let mut masker = LineMasker::default();
    text.lines().map(|line| masker.line(line) + "\n").collect()
}

#[test]
fn a_private_key_over_many_lines_goes_and_what_follows_stays() {
    let body = ["MIIEowIBAAKCAQEAx", "abcdefghijklmnop", "Qw=="];
    for prefix in ["", "2026-11-22 16:30:01 INFO  "] {
        let text = format!(
            "before\n{prefix}-----BEGIN RSA PRIVATE {}-----\n{}\n{}\n{}\n{prefix}-----END RSA PRIVATE KEY-----\nafter password=x1\n",
            "KEY", body[0], body[1], body[2]
        );
        let masked = lines(&text);
        for part in body {
            assert!(!masked.contains(part), "{masked}");
        }
        assert!(
            masked.starts_with("before\n") && masked.ends_with("after password=[redacted]\n"),
            "{masked}"
        );
    }
}

#[test]
fn a_key_that_never_ends_does_not_swallow_the_log() {
    let text = format!(
        "-----BEGIN PRIVATE {}-----\nMIIEow\none two\nthree four\nfive six\nMIIEow\n",
        "KEY"
    );
    let masked = lines(&text);
    assert!(
        masked.contains("three four") && masked.ends_with("MIIEow\n"),
        "{masked}"
    );
    assert_eq!(masked.matches("MIIEow").count(), 1);
    assert!(masked.contains("one two"));
}
