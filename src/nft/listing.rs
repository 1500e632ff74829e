//! What `nft list table` prints, compared without believing in its order of set elements.
//!
//! Pure text: must not know how a listing is come by.

use std::collections::BTreeMap;

use super::ruleset::Ruleset;

/// Says what of a ruleset is missing or surplus in a listing of its table, or nothing if all is there.
///
/// `nft` writes rules in words of its own, so they are counted, chain by chain, and the marker compared;
/// what the rules say is the kernel's promise, since a transaction is loaded whole or not at all.
pub(super) fn difference(ruleset: &Ruleset, listing: &str) -> Option<String> {
    let marker = format!("comment \"{}\"", ruleset.marker);
    if !listing.lines().any(|line| line.trim() == marker) {
        return Some("the marker of this ruleset is not there".to_owned());
    }
    other_rules(ruleset, listing)
}

/// The same without the marker.
pub(super) fn other_rules(ruleset: &Ruleset, listing: &str) -> Option<String> {
    let (asked, found) = (rules_by_chain(&ruleset.text), rules_by_chain(listing));
    for (chain, rules) in &asked {
        match found.get(chain) {
            None => return Some(format!("chain {chain} is not there")),
            Some(there) if there != rules => {
                return Some(format!("chain {chain} has {there} rules instead of {rules}"));
            }
            Some(_) => {}
        }
    }
    found.keys().find(|chain| !asked.contains_key(*chain)).map(|chain| format!("chain {chain} is not ours"))
}

/// Brings two listings of the same table to the same text: elements of a set are printed in hash order, and a
/// control group by whatever path has its number just then, or by none.
pub(super) fn normalise(listing: &str) -> String {
    let mut out = in_order(listing);
    let mut done = 0;
    while let Some(at) = out.get(done..).and_then(|rest| rest.find(CGROUP)) {
        let from = done + at + CGROUP.len();
        let value = out.get(from..).map_or(0, |rest| rest.find(" goto").unwrap_or(0));
        out.replace_range(from..from + value, "");
        done = from;
    }
    out
}

/// Which one it was is in the rule's comment.
const CGROUP: &str = "socket cgroupv2 ";

fn in_order(listing: &str) -> String {
    let mut out = String::with_capacity(listing.len());
    let mut rest = listing;
    // A block opens with a brace and a new line, a set with a brace and a space.
    while let Some((before, after)) = rest.split_once("{ ") {
        let (elements, tail) = after.split_once('}').unwrap_or((after, ""));
        let mut sorted: Vec<&str> = elements.split(',').map(str::trim).collect();
        sorted.sort_unstable();
        out.push_str(before);
        out.push_str("{ ");
        out.push_str(&sorted.join(", "));
        out.push_str(" }");
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// FNV-1a, 64 bits: tells rulesets apart for people and for read-back, protects against nobody.
pub(super) fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn rules_by_chain(text: &str) -> BTreeMap<&str, usize> {
    let mut chains = BTreeMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
            chains.insert(name, 0);
            current = Some(name);
        } else if line == "}" {
            current = None;
        } else if !line.is_empty()
            && !line.starts_with("type ")
            && let Some(count) = current.and_then(|chain| chains.get_mut(chain))
        {
            *count += 1;
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::config;
    use super::super::plan::{Form, Plan};
    use super::*;

    fn ruleset() -> Ruleset {
        Ruleset::of(&Plan::new(config(&["br0", "br1"]), Form::Tproxy).expect("plan"))
    }

    #[test]
    fn a_ruleset_does_not_differ_from_itself() {
        let ruleset = ruleset();
        assert_eq!(difference(&ruleset, &ruleset.text), None);
    }

    #[test]
    fn a_lost_rule_a_lost_chain_a_strange_chain_and_another_marker_are_seen() {
        let ruleset = ruleset();
        let without_rule = ruleset.text.replacen("\t\tgoto refuse\n", "", 1);
        let without_chain = ruleset.text.replace("chain forward", "chain backward");
        let surplus = ruleset.text.replacen("\tchain early", "\tchain mine {\n\t}\n\tchain early", 1);
        let other = ruleset.text.replace(&ruleset.marker, "namegate tproxy 0");
        for (text, word) in [
            (without_rule, "chain divert has"),
            (without_chain, "chain forward is not there"),
            (surplus, "chain mine is not ours"),
            (other, "marker"),
            (String::new(), "marker"),
        ] {
            let said = difference(&ruleset, &text).expect("must differ");
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn the_order_of_set_elements_does_not_matter_and_everything_else_does() {
        let one = "table inet x {\n\tset s {\n\t\telements = { \"b\",\n\t\t\t     \"a\" }\n\t}\n\tchain c {\n\t\tth dport { 2, 1 } accept\n\t\tdrop\n\t}\n}\n";
        let same = "table inet x {\n\tset s {\n\t\telements = { \"a\", \"b\" }\n\t}\n\tchain c {\n\t\tth dport { 1, 2 } accept\n\t\tdrop\n\t}\n}\n";
        assert_eq!(normalise(one), normalise(same));
        assert_ne!(normalise(one), normalise(&same.replace("1, 2", "1, 3")));
        assert_ne!(normalise(one), normalise(&same.replace("\t\tdrop\n", "")));
        assert_ne!(normalise(one), normalise(&same.replace("\"a\", ", "")));
    }

    #[test]
    fn a_cut_listing_is_compared_without_a_panic() {
        let ruleset = ruleset();
        for end in 0..ruleset.text.len() - 3 {
            let cut = &ruleset.text[..end];
            let _ = normalise(cut);
            let _ = difference(&ruleset, cut);
        }
    }
}
