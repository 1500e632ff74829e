//! Learned rules on paper: `[[rule]]` tables with the evidence for each name as a comment.
//!
//! Every name and port at most once for each kind of rule, so no rule covers another. It knows nothing of events.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

use crate::facts::Name;

use super::learner::{Need, Proof, Uncovered, Why};

/// Rules that differ in nothing but their names are one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    by_address: bool,
    private: bool,
    ech: bool,
    ports: BTreeSet<u16>,
}

/// A name, with all that rules of one kind have in common but the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted<'a> {
    by_address: bool,
    private: bool,
    ech: bool,
    name: &'a Name,
}

/// The names of one rule: with their proofs, and those that were only looked up, each with a name it led to.
#[derive(Debug, Default)]
struct Names {
    claimed: BTreeMap<Name, Proof>,
    asked: BTreeMap<Name, Name>,
}

/// Writes the file.
pub(super) fn write(
    needs: &BTreeMap<Need, Proof>,
    uncovered: &BTreeMap<Uncovered, Proof>,
    beyond: u64,
) -> String {
    let connections: u64 = needs.values().map(|proof| proof.connections).sum();
    let mut out = format!(
        "# What one run needed, written by `namegate exec --learn`: {}.\n# Read it before you rely on it.\n",
        count(connections)
    );
    for (index, (kind, names)) in group(needs).iter().enumerate() {
        rule(&mut out, index, kind, names);
    }
    if !uncovered.is_empty() || beyond > 0 {
        out.push_str("\n# Without a rule:\n");
    }
    for (what, proof) in uncovered {
        let Uncovered { subject, port, why } = what;
        let _ = writeln!(out, "# {subject} port {port}: {}", evidence(proof));
        let _ = writeln!(out, "#     {}", because(*why, *port));
    }
    if beyond > 0 {
        let _ = writeln!(out, "# {} to more names and ports than are kept", count(beyond));
    }
    out
}

/// First every name's ports that need the same, then the names that have the same ports.
fn group(needs: &BTreeMap<Need, Proof>) -> BTreeMap<Kind, Names> {
    let mut wanted: BTreeMap<Wanted<'_>, (BTreeSet<u16>, Proof)> = BTreeMap::new();
    for (need, proof) in needs {
        let Need { by_address, ref name, port } = *need;
        // Nothing is read where the address decides.
        let key = Wanted { by_address, private: proof.private, ech: proof.ech && !by_address, name };
        match wanted.entry(key) {
            Entry::Occupied(mut known) => {
                known.get_mut().0.insert(port);
                known.get_mut().1.merge(proof.clone());
            }
            Entry::Vacant(place) => drop(place.insert((BTreeSet::from([port]), proof.clone()))),
        }
    }
    // One rule for a name, at whatever port, lets it be looked up.
    let may_be_asked: HashSet<(&Name, bool)> =
        wanted.keys().map(|wanted| (wanted.name, wanted.private)).collect();
    let mut groups: BTreeMap<Kind, Names> = BTreeMap::new();
    for (Wanted { by_address, private, ech, name }, (ports, proof)) in wanted {
        let names = groups.entry(Kind { by_address, private, ech, ports }).or_default();
        let is_missing = |asked: &&Name| {
            !may_be_asked.contains(&(*asked, true)) && (private || !may_be_asked.contains(&(*asked, false)))
        };
        for asked in proof.asked.iter().filter(is_missing) {
            names.asked.insert(asked.clone(), name.clone());
        }
        names.claimed.insert(name.clone(), proof);
    }
    groups
}

fn rule(out: &mut String, index: usize, kind: &Kind, names: &Names) {
    // Writing to memory cannot fail.
    let _ = write!(out, "\n[[rule]]\nid = \"{}\"\nnames = [\n", id(index, kind));
    for (name, proof) in &names.claimed {
        let _ = write!(out, "    # {}\n    \"{name}\",\n", evidence(proof));
    }
    for (name, led_to) in &names.asked {
        let _ = write!(out, "    # looked up on the way to {led_to}\n    \"{name}\",\n");
    }
    out.push_str("]\n");
    if !is_default(&kind.ports) {
        let ports: Vec<String> = kind.ports.iter().map(u16::to_string).collect();
        let _ = writeln!(out, "ports = [{}]", ports.join(", "));
    }
    if kind.by_address {
        out.push_str("match = \"address\"\n");
    }
    if kind.private {
        out.push_str("private = true\n");
    }
    if kind.ech {
        out.push_str("ech = \"allow\"\n");
    }
}

/// Tells the kind, as far as an id has room.
fn id(index: usize, kind: &Kind) -> String {
    let mut id = "learned".to_owned();
    if kind.by_address {
        id.push_str("-address");
    }
    if kind.private {
        id.push_str("-private");
    }
    if kind.ech {
        id.push_str("-ech");
    }
    if kind.ports.len() > MOST_PORTS_IN_ID {
        let _ = write!(id, ":rule-{}", index + 1);
    } else if !is_default(&kind.ports) {
        let ports: Vec<String> = kind.ports.iter().map(u16::to_string).collect();
        let _ = write!(id, ":{}", ports.join("/"));
    }
    id
}

/// Whether these are the ports of a rule that names none.
fn is_default(ports: &BTreeSet<u16>) -> bool {
    ports.iter().copied().eq([80, 443])
}

fn evidence(proof: &Proof) -> String {
    let addresses: Vec<String> = proof.addresses.iter().map(ToString::to_string).collect();
    let more = if proof.more_addresses { " and others" } else { "" };
    let spoken: Vec<&str> = proof.spoken.iter().copied().collect();
    format!(
        "{} ({}) to {}{more}, first at {}",
        count(proof.connections),
        spoken.join(", "),
        addresses.join(", "),
        instant(proof.first)
    )
}

fn because(why: Why, port: u16) -> String {
    match why {
        Why::Unresolved => "DNS did not give this address for it: no rule can cover that".to_owned(),
        Why::Stale => "the DNS answer was too old: raise `grace` in [ledger]".to_owned(),
        Why::HostPort => format!("a port of this host: --host-port {port}"),
        Why::Denied(code) => format!("{code}: left out on purpose"),
    }
}

fn count(connections: u64) -> String {
    match connections {
        0 => "no connection".to_owned(),
        1 => "1 connection".to_owned(),
        _ => format!("{connections} connections"),
    }
}

/// RFC 3339 in UTC, seconds. An instant that no calendar has is the nearest end of it.
fn instant(wall: SystemTime) -> String {
    let end = if wall < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    SECONDS.timestamp_to_string(&Timestamp::try_from(wall).unwrap_or(end))
}

const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

/// Four ports of five digits leave room in an id of 64 bytes.
const MOST_PORTS_IN_ID: usize = 4;
