//! Which addresses may come from which port of a bridge: a table of family `bridge`, beside the one that captures.
//!
//! A known container sends with its own link-layer address and its own addresses from its own port, and nobody
//! else sends with them: neither packets, nor claims to them by ARP or neighbour discovery. A port and an address
//! of which nothing is known yet pass: a container that has just begun must not lose its first packets. Pure
//! text: must not know containers, nor how ports are found.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::plan::{self, PlanError};
use super::ruleset::{Chain, Ruleset, TableFamily};

/// What is known of one port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The port, as the host calls it.
    pub port: String,
    /// The link-layer address behind it.
    pub mac: [u8; 6],
    /// The addresses behind it. Its link-local one is understood.
    pub addresses: Vec<IpAddr>,
}

/// Ports that are pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// Every port of the bridges that are watched; others are left alone. (That a frame came by a bridge of some
    /// name cannot be asked on every kernel: `meta ibrname` needs `CONFIG_NFT_BRIDGE_META`.)
    pub members: Vec<String>,
    /// What is known.
    pub bindings: Vec<Binding>,
    /// Name of our table in family `bridge`.
    pub table: String,
}

impl Pins {
    /// Writes the ruleset.
    ///
    /// # Errors
    /// A name that is no plain name of an interface or a table.
    pub fn ruleset(&self) -> Result<Ruleset, PlanError> {
        plan::check_table(&self.table)?;
        plan::check_interfaces(&self.members)?;
        for binding in &self.bindings {
            plan::check_interfaces(std::slice::from_ref(&binding.port))?;
        }
        let mut body = self.sets();
        for chain in [self.arriving(), self.advertising(), self.claiming()] {
            chain.write(&mut body);
        }
        Ok(Ruleset::written(TableFamily::Bridge, &self.table, "pins", Vec::new(), &body))
    }

    fn sets(&self) -> String {
        let (mut bound4, mut bound6, mut own4, mut own6) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (binding, address) in self.pairs() {
            let station = binding.station();
            match address {
                IpAddr::V4(_) => {
                    (bound4.insert(format!("{station} . {address}")), own4.insert(address.to_string()))
                }
                IpAddr::V6(_) => {
                    (bound6.insert(format!("{station} . {address}")), own6.insert(address.to_string()))
                }
            };
        }
        let each =
            |what: &dyn Fn(&Binding) -> String| self.bindings.iter().map(what).collect::<BTreeSet<_>>();
        let ports = each(&|binding| format!("\"{}\"", binding.port));
        let members =
            self.members.iter().map(|name| format!("\"{name}\"")).chain(ports.iter().cloned()).collect();
        [
            set("members", "ifname", &members),
            set("ports", "ifname", &ports),
            set("stations", "ifname . ether_addr", &each(&Binding::station)),
            set("macs", "ether_addr", &each(&|binding| spell(binding.mac))),
            set("bound4", "ifname . ether_addr . ipv4_addr", &bound4),
            set("bound6", "ifname . ether_addr . ipv6_addr", &bound6),
            set("own4", "ipv4_addr", &own4),
            set("own6", "ipv6_addr", &own6),
        ]
        .concat()
    }

    /// Every address with its binding, link-local ones included.
    fn pairs(&self) -> impl Iterator<Item = (&Binding, IpAddr)> {
        self.bindings.iter().flat_map(|binding| {
            let own = binding.addresses.iter().map(|address| address.to_canonical());
            own.chain([IpAddr::V6(link_local(binding.mac))]).map(move |address| (binding, address))
        })
    }

    fn arriving(&self) -> Chain {
        let mut chain = Chain::at("arriving", HOOK);
        chain.rule("iifname != @members accept");
        // Claims to an address, before the address that they come from is looked at.
        chain.rule("ether type ip6 icmpv6 type nd-neighbor-advert goto advertising");
        chain.rule("ether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit goto claiming");
        // A container is no router.
        chain.rule("iifname @ports icmpv6 type { nd-router-advert, nd-redirect } counter drop");
        chain.rule("ether type arp iifname . ether saddr @stations iifname . arp saddr ether . arp saddr ip @bound4 accept");
        // A probe claims nothing (RFC 5227 section 1.1).
        chain.rule("ether type arp iifname . ether saddr @stations arp saddr ip 0.0.0.0 accept");
        chain.rule("ether type ip iifname . ether saddr . ip saddr @bound4 accept");
        chain.rule("ether type ip6 iifname . ether saddr . ip6 saddr @bound6 accept");
        // Membership of groups, before a host has an address (RFC 3810 section 5.2.13).
        chain.rule("iifname . ether saddr @stations ip6 saddr :: icmpv6 type mld2-listener-report accept");
        // A known port with anything else.
        chain.rule("iifname @ports counter drop");
        // What is bound elsewhere.
        chain.rule("ether saddr @macs counter drop");
        chain.rule("ether type arp arp saddr ether @macs counter drop");
        chain.rule("ether type arp arp saddr ip @own4 counter drop");
        chain.rule("ether type ip ip saddr @own4 counter drop");
        chain.rule("ether type ip6 ip6 saddr @own6 counter drop");
        chain
    }

    /// RFC 4861 section 4.4: whose address it is stands in the message.
    fn advertising(&self) -> Chain {
        let mut chain = Chain::called("advertising");
        chain.rules(self.targets(|binding, target| {
            let own = "iifname . ether saddr . ip6 saddr @bound6";
            format!("iifname \"{}\" {own} {target} accept", binding.port)
        }));
        chain.rule("iifname @ports counter drop");
        chain.rule("ether saddr @macs counter drop");
        chain.rules(self.targets(|_, target| format!("{target} counter drop")));
        chain
    }

    /// RFC 4862 section 5.4: who asks without an address is about to take the one that is asked for.
    fn claiming(&self) -> Chain {
        let mut chain = Chain::called("claiming");
        chain.rules(self.targets(|binding, target| {
            format!("iifname \"{}\" ether saddr {} {target} accept", binding.port, spell(binding.mac))
        }));
        chain.rule("iifname @ports counter drop");
        chain.rule("ether saddr @macs counter drop");
        chain.rules(self.targets(|_, target| format!("{target} counter drop")));
        chain
    }

    fn targets(&self, rule: impl Fn(&Binding, &str) -> String) -> Vec<String> {
        let six = self.pairs().filter_map(|(binding, address)| match address {
            IpAddr::V6(address) => Some(rule(binding, &format!("@th,64,128 {:#034x}", u128::from(address)))),
            IpAddr::V4(_) => None,
        });
        six.collect()
    }
}

impl Binding {
    fn station(&self) -> String {
        format!("\"{}\" . {}", self.port, spell(self.mac))
    }
}

fn set(name: &str, kind: &str, elements: &BTreeSet<String>) -> String {
    let listed: Vec<&str> = elements.iter().map(String::as_str).collect();
    let elements = match listed.as_slice() {
        [] => String::new(),
        several => format!("\t\telements = {{ {} }}\n", several.join(", ")),
    };
    format!("\n\tset {name} {{\n\t\ttype {kind}\n{elements}\t}}\n")
}

fn spell(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// RFC 4291 appendix A: what Linux gives a link by itself.
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

/// Before the bridge hands frames to the IP hooks (0) and learns by them.
const HOOK: &str = "filter hook prerouting priority -300";

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(port: &str, last: u8) -> Binding {
        let addresses = vec![
            IpAddr::from([10, 9, 0, last]),
            IpAddr::from([0x2001, 0xdb8, 0, 9, 0, 0, 0, u16::from(last)]),
        ];
        Binding { port: port.to_owned(), mac: [2, 0x42, 10, 9, 0, last], addresses }
    }

    fn pins(bindings: &[Binding]) -> Pins {
        Pins { members: vec!["veth9".to_owned()], bindings: bindings.to_vec(), table: "namegate".to_owned() }
    }

    #[test]
    fn two_containers_on_a_bridge() {
        let pins = pins(&[binding("veth1", 2), binding("veth2", 3)]);
        insta::assert_snapshot!(pins.ruleset().expect("ruleset").text());
    }

    #[test]
    fn a_bridge_of_which_nothing_is_known_yet() {
        insta::assert_snapshot!(pins(&[]).ruleset().expect("ruleset").text());
    }

    #[test]
    fn a_name_that_could_say_more_than_a_name_is_refused() {
        for port in ["", "a\"b", "veth*", "lo", "sixteen-bytes-xx"] {
            assert!(pins(&[binding(port, 2)]).ruleset().is_err(), "{port:?}");
        }
        let strange = Pins { members: vec!["br 0".to_owned()], ..pins(&[]) };
        assert!(strange.ruleset().is_err());
    }

    #[test]
    fn a_link_local_address_is_made_of_the_link_layer_one() {
        let made = link_local([0x02, 0x42, 0xac, 0x11, 0, 2]);
        assert_eq!(made, "fe80::42:acff:fe11:2".parse::<Ipv6Addr>().expect("address"));
    }
}
