//! The base chains of all tables, as `nft -j list ruleset` prints them, and whether their tables know of us.
//!
//! A packet that we redirect still meets the input chains of every other table, and one that drops has the
//! last word. Pure text: must not know how it is come by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

/// What a table that lets our packets in would name.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Captured interfaces.
    pub interfaces: &'a [String],
    /// Ports of our listeners.
    pub ports: &'a [u16],
}

/// Whether the rules of a table name one of our interfaces or ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// One does.
    Yes,
    /// None does.
    No,
    /// Some speak of addresses, or are written in the words of iptables, which are not shown.
    Unclear,
}

/// A chain that the kernel calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// Address family of its table: `inet`, `ip`, `ip6`, ...
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `input`, `forward`, ...
    pub hook: String,
    /// Whether what no rule speaks of is dropped.
    pub drops: bool,
    /// Whether the rules of its table know of us.
    pub mention: Mention,
}

/// Reads the base chains; `None`: this is no listing.
pub(super) fn parse(listing: &str, known: &Known<'_>) -> Option<Vec<BaseChain>> {
    let document: Value = serde_json::from_str(listing).ok()?;
    let items = document.get("nftables")?.as_array()?;
    let word = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let place = |item: &Value| (word(item, "family"), word(item, "table"));
    let mut mentions: BTreeMap<(String, String), Mention> = BTreeMap::new();
    for item in items {
        let Some(item) = item.get("rule").or_else(|| item.get("set")).or_else(|| item.get("map")) else {
            continue;
        };
        let seen = mention(item.get("expr").unwrap_or(item), known);
        let before = mentions.entry(place(item)).or_insert(Mention::No);
        *before = stronger(*before, seen);
    }
    let chains =
        items.iter().filter_map(|item| item.get("chain")).filter(|chain| chain.get("hook").is_some());
    let chain = |item: &Value| BaseChain {
        family: word(item, "family"),
        table: word(item, "table"),
        name: word(item, "name"),
        kind: word(item, "type"),
        hook: word(item, "hook"),
        drops: word(item, "policy") == "drop",
        mention: mentions.get(&place(item)).copied().unwrap_or(Mention::No),
    };
    Some(chains.map(chain).collect())
}

fn stronger(one: Mention, other: Mention) -> Mention {
    match (one, other) {
        (Mention::Yes, _) | (_, Mention::Yes) => Mention::Yes,
        (Mention::Unclear, _) | (_, Mention::Unclear) => Mention::Unclear,
        (Mention::No, Mention::No) => Mention::No,
    }
}

/// Looks through everything that an expression holds.
fn mention(value: &Value, known: &Known<'_>) -> Mention {
    match value {
        Value::String(text) if known.interfaces.contains(text) => Mention::Yes,
        Value::Number(number) => {
            let ours = number.as_u64().is_some_and(|n| known.ports.iter().any(|port| u64::from(*port) == n));
            if ours { Mention::Yes } else { Mention::No }
        }
        Value::Array(items) => items.iter().map(|item| mention(item, known)).fold(Mention::No, stronger),
        Value::Object(fields) => {
            let inner = fields.values().map(|field| mention(field, known)).fold(Mention::No, stronger);
            if fields.contains_key("xt") { stronger(inner, Mention::Unclear) } else { inner }
        }
        // The clients may be let in by their addresses.
        Value::String(text) if text.parse::<IpAddr>().is_ok() => Mention::Unclear,
        Value::Null | Value::Bool(_) | Value::String(_) => Mention::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(rules: &str) -> Vec<BaseChain> {
        let listing = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}},
            {{"table": {{"family": "inet", "name": "fw"}}}},
            {{"chain": {{"family": "inet", "table": "fw", "name": "in", "type": "filter", "hook": "input",
                         "prio": 0, "policy": "drop"}}}},
            {{"chain": {{"family": "inet", "table": "fw", "name": "other"}}}}{rules}]}}"#
        );
        let known = Known { interfaces: &["br0".to_owned()], ports: &[15_001] };
        parse(&listing, &known).expect("a listing")
    }

    #[test]
    fn a_chain_that_drops_is_told_with_what_its_table_knows() {
        let rule =
            |expr: &str| format!(r#", {{"rule": {{"family": "inet", "table": "fw", "expr": [{expr}]}}}}"#);
        let port = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
            "right": {"set": [22, 15001]}}}"#;
        for (rules, mention) in [
            (String::new(), Mention::No),
            (rule(r#"{"accept": null}"#), Mention::No),
            (rule(port), Mention::Yes),
            (rule(r#"{"match": {"left": {"meta": {"key": "iifname"}}, "right": "br0"}}"#), Mention::Yes),
            (rule(r#"{"xt": null}"#), Mention::Unclear),
            (rule(r#"{"match": {"right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}"#), Mention::Unclear),
            (rule(r#"{"xt": null}"#) + &rule(port), Mention::Yes),
            (rule(port).replace(r#""table": "fw""#, r#""table": "else""#), Mention::No),
        ] {
            let chains = chains(&rules);
            assert_eq!(chains.len(), 1, "only base chains");
            assert!(chains[0].drops && chains[0].hook == "input");
            assert_eq!(chains[0].mention, mention, "{rules}");
        }
    }

    #[test]
    fn what_is_no_listing_is_not_taken_for_an_empty_one() {
        let known = Known { interfaces: &[], ports: &[] };
        for text in ["", "{}", "[]", "{\"nftables\": 1}", "nonsense"] {
            assert_eq!(parse(text, &known), None, "{text}");
        }
        assert_eq!(parse("{\"nftables\": []}", &known), Some(Vec::new()));
    }
}
