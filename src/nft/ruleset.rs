//! A plan as the text that `nft` loads: one table, replaced whole in one transaction.
//!
//! The order of a packet's life is the order of the chains: fragments go first, the guard says what may
//! come at all, the divert or steer chain hands it to a listener, the input chain lets in only what was
//! handed over, the forward chain lets nothing through. Whatever is not named is refused. Every base chain
//! ends in `accept` for traffic of other interfaces, and a verdict of ours never overrules another table.
//!
//! Pure text: must not know this machine, and must not do I/O.

use std::fmt::Write as _;

use super::listing;
use super::local;
use super::plan::{DnsCapture, Form, Plan};
use super::queries::{self, Side};
use super::route::Piece;

/// The mark that sends a captured packet to this host's own sockets: "NG". Nothing else may use it.
pub const MARK: u32 = 0x4e47;

/// First port that Linux gives to outgoing connections by itself (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: u16 = 32_768;

/// The families in which we have a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// IPv4 and IPv6: what captures.
    Inet,
    /// Frames that cross a bridge: what pins.
    Bridge,
}

impl TableFamily {
    /// Returns the word for it in rulesets.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }
}

/// A ruleset, ready to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    pub(super) family: TableFamily,
    pub(super) table: String,
    /// What it is, for people.
    pub(super) kind: &'static str,
    pub(super) pieces: Vec<Piece>,
    pub(super) marker: String,
    pub(super) text: String,
}

impl Ruleset {
    /// Writes the ruleset of a plan.
    pub fn of(plan: &Plan) -> Self {
        let config = plan.config();
        let (form, mut body, mut chains) = match plan.form() {
            _ if config.interfaces.is_empty() => ("local", String::new(), vec![refuse()]),
            form @ Form::Redirect => (form.as_str(), captured_set(plan), redirect_chains(plan)),
            form @ Form::Tproxy => (form.as_str(), captured_set(plan), tproxy_chains(plan)),
        };
        chains.extend(config.local.iter().flat_map(local::chains));
        for chain in &chains {
            chain.write(&mut body);
        }
        Self::written(TableFamily::Inet, &config.table, form, pieces(plan), &body)
    }

    /// Makes a ruleset of the body of its table.
    pub(super) fn written(
        family: TableFamily,
        table: &str,
        kind: &'static str,
        pieces: Vec<Piece>,
        body: &str,
    ) -> Self {
        let marker = format!("namegate {kind} {:016x}", listing::digest(body));
        let place = format!("{} {table}", family.as_str());
        let text = format!(
            "add table {place}\ndelete table {place}\ntable {place} {{\n\tcomment \"{marker}\"\n{body}}}\n"
        );
        Self { family, table: table.to_owned(), kind, pieces, marker, text }
    }

    /// Returns the text for `nft -f -`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the family of the table.
    pub fn family(&self) -> TableFamily {
        self.family
    }

    /// Returns the name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }
}

/// What policy routing has to do for a plan.
fn pieces(plan: &Plan) -> Vec<Piece> {
    let home = match plan.form() {
        Form::Tproxy if !plan.config().interfaces.is_empty() => Some(Piece::Home),
        Form::Redirect | Form::Tproxy => None,
    };
    let fences = plan.config().interfaces.iter().map(|name| Piece::Fence(name.clone()));
    home.into_iter().chain(fences).collect()
}

/// One chain: its first line if the kernel calls it, then its rules.
pub(super) struct Chain {
    name: &'static str,
    hook: Option<&'static str>,
    rules: Vec<String>,
}

impl Chain {
    /// A chain that the kernel calls at a hook.
    pub(super) fn at(name: &'static str, hook: &'static str) -> Self {
        Self { name, hook: Some(hook), rules: Vec::new() }
    }

    /// A chain that other chains lead to.
    pub(super) fn called(name: &'static str) -> Self {
        Self { name, hook: None, rules: Vec::new() }
    }

    /// A chain on a hook whose rules are for captured interfaces alone.
    fn captured(name: &'static str, hook: &'static str) -> Self {
        Self { rules: vec![OTHERS.to_owned()], ..Self::at(name, hook) }
    }

    pub(super) fn rule(&mut self, rule: impl Into<String>) {
        self.rules.push(rule.into());
    }

    pub(super) fn rules(&mut self, rules: impl IntoIterator<Item = String>) {
        self.rules.extend(rules);
    }

    pub(super) fn write(&self, out: &mut String) {
        let _ = writeln!(out, "\n\tchain {} {{", self.name);
        if let Some(hook) = self.hook {
            let _ = writeln!(out, "\t\ttype {hook}; policy accept;");
        }
        for rule in &self.rules {
            let _ = writeln!(out, "\t\t{rule}");
        }
        out.push_str("\t}\n");
    }
}

fn captured_set(plan: &Plan) -> String {
    let names: Vec<String> = plan.config().interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    format!("\n\tset captured {{\n\t\ttype ifname\n\t\telements = {{ {} }}\n\t}}\n", names.join(", "))
}

/// NAT: the kernel rewrites the destination and remembers it (connection tracking, -200, runs before).
fn redirect_chains(plan: &Plan) -> Vec<Chain> {
    let proxy = plan.config().proxy_port;
    let mut guard = Chain::captured("guard", GUARD_HOOK);
    guard.rules(admission());
    // Replies to what this host itself asked of a client.
    guard.rule("ct state established ct direction reply accept");
    guard.rules(queries::guard(plan));
    guard.rules(not_for_others());
    // Opened before these rules were, so never translated: a reset is kinder than silence.
    guard.rule("meta l4proto tcp ct state established ct status & dnat == 0 goto refuse");
    guard.rule("meta l4proto tcp accept");
    guard.rule("goto refuse");

    let mut steer = Chain::captured("steer", NAT_HOOK);
    steer.rules(queries::listen(plan));
    steer.rules(queries::translate(plan));
    steer.rule(format!("meta l4proto tcp redirect to :{proxy}"));

    let mut input = input(plan);
    input.rule("ct state invalid counter drop");
    input.rule("ct state established ct direction reply accept");
    // Only what was redirected: nobody connects to the proxy itself.
    input.rule(format!("ct status dnat tcp dport {proxy} accept"));
    input.rules(queries::input(plan));
    input.rule("counter drop");
    vec![early(plan), refuse(), guard, steer, input, outside(plan), forward()]
}

/// Transparent sockets: the packet stays as it is, a mark and a route of ours bring it home. Nothing is
/// tracked but what an external resolver needs.
fn tproxy_chains(plan: &Plan) -> Vec<Chain> {
    let config = plan.config();
    let mut divert = Chain::captured("divert", GUARD_HOOK);
    divert.rules(admission());
    divert.rules(under_way());
    match &config.dns {
        DnsCapture::Forwarder => divert.rules(tproxy(queries::QUERY, config.dns_port)),
        DnsCapture::External(_) => {}
    }
    divert.rules(queries::guard(plan));
    // Replies to what this host itself asked of a client: a socket of that very connection exists, at a port
    // that the kernel chose. A bare SYN never passes, and services live on lower ports, so none can be called
    // this way, nor go on with a connection from before these rules.
    divert.rule(format!(
        "fib daddr type local tcp dport >= {EPHEMERAL} tcp flags & (syn | ack) != syn socket wildcard 0 socket transparent 0 {TO_US}"
    ));
    divert.rules(not_for_others());
    divert.rules(tproxy("meta l4proto tcp", config.proxy_port));
    divert.rule("goto refuse");

    let mut chains = vec![early(plan), refuse(), divert];
    if let DnsCapture::External(_) = config.dns {
        let mut steer = Chain::captured("steer", NAT_HOOK);
        steer.rules(queries::translate(plan));
        chains.push(steer);
    }
    let mut input = input(plan);
    input.rule(format!("meta mark {MARK:#x} accept"));
    input.rules(queries::input(plan));
    input.rule("counter drop");
    let mut out = Chain::at("out", "filter hook output priority -300");
    out.rule("oifname != @captured accept");
    out.rules(queries::tracked(plan, Side::Reply));
    out.rule("notrack");
    chains.extend([input, outside(plan), forward(), out]);
    chains
}

/// Before the kernel puts fragments together (-400): afterwards they look like whole packets.
fn early(plan: &Plan) -> Chain {
    let mut early = Chain::captured("early", "filter hook prerouting priority -450");
    early.rule("ip frag-off & 0x3fff != 0 counter drop");
    early.rule("exthdr frag exists counter drop");
    match plan.form() {
        Form::Redirect => {}
        Form::Tproxy => {
            early.rules(queries::tracked(plan, Side::Query));
            early.rule("notrack");
        }
    }
    early
}

/// A quick and honest no, so that clients try the next thing at once: QUIC falls back to TCP. The kernel
/// limits ICMP errors for each receiver; ours bounds the rest in all.
fn refuse() -> Chain {
    let rules = [
        "meta l4proto tcp counter reject with tcp reset",
        "udp dport 443 counter reject with icmpx admin-prohibited",
        "limit rate 50/second burst 50 packets counter reject with icmpx admin-prohibited",
        "counter drop",
    ];
    let mut refuse = Chain::called("refuse");
    refuse.rules(rules.map(str::to_owned));
    refuse
}

fn input(plan: &Plan) -> Chain {
    let mut input = Chain::at("input", "filter hook input priority filter");
    input.rule("iifname \"lo\" accept");
    input.rule("iifname != @captured goto outside");
    input.rule(NEIGHBOURS.to_owned());
    input.rules(queries::listen(plan));
    input
}

/// What comes by interfaces that are not captured: our listeners are not for them.
fn outside(plan: &Plan) -> Chain {
    let config = plan.config();
    let mut outside = Chain::called("outside");
    let ports = match config.dns {
        DnsCapture::Forwarder => vec![config.proxy_port, config.dns_port],
        DnsCapture::External(_) => vec![config.proxy_port],
    };
    match plan.form() {
        Form::Redirect => {
            let same_port = config.dns_listen.iter().filter(|a| a.port() == config.dns_port);
            outside.rules(same_port.map(|address| format!("{} accept", queries::service(address))));
            outside.rule(format!("tcp dport {} goto refuse", port_set(&ports)));
            if config.dns == DnsCapture::Forwarder {
                outside.rule(format!("udp dport {} goto refuse", config.dns_port));
            }
        }
        // The listeners are on loopback, which only `route_localnet` would open.
        Form::Tproxy => outside.rule(format!(
            "ip daddr 127.0.0.0/8 meta l4proto {{ tcp, udp }} th dport {} counter drop",
            port_set(&ports)
        )),
    }
    outside
}

/// Nothing is routed, whichever way and whatever `ip_forward` says.
fn forward() -> Chain {
    let mut forward = Chain::at("forward", "filter hook forward priority filter");
    forward.rule("iifname @captured goto refuse");
    forward.rule("oifname @captured counter drop");
    forward
}

/// Neighbour discovery lives; a source address that is not behind that interface does not: our reply to it
/// (a reset, an ICMP error with bytes of the packet, a DNS answer) would carry bytes out.
fn admission() -> [String; 2] {
    [NEIGHBOURS.to_owned(), "fib saddr . iif oif missing counter drop".to_owned()]
}

/// Packets of a connection that has been through all of the rules already, and is open: what follows would find the
/// same socket, later. Our listeners are at loopback addresses, and never meant.
fn under_way() -> [String; 2] {
    ["ip daddr != 127.0.0.0/8", "ip6 daddr != ::1"].map(|elsewhere| {
        format!("tcp flags & (syn | ack) == ack {elsewhere} socket wildcard 0 socket transparent 1 {TO_US}")
    })
}

/// This host's own addresses, and those that name no single other host. The literals are what the `fib`
/// look-up judges by the interface, or not at all.
fn not_for_others() -> [String; 4] {
    [
        "fib daddr type local goto refuse".to_owned(),
        "fib daddr type { broadcast, anycast, multicast } counter drop".to_owned(),
        "ip daddr { 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 } counter drop".to_owned(),
        "ip6 daddr { ::/127, ::ffff:0:0/96, fe80::/10, ff00::/8 } counter drop".to_owned(),
    ]
}

fn tproxy(what: &str, port: u16) -> [String; 2] {
    [
        format!("meta nfproto ipv4 {what} tproxy ip to 127.0.0.1:{port} {TO_US}"),
        format!("meta nfproto ipv6 {what} tproxy ip6 to [::1]:{port} {TO_US}"),
    ]
}

pub(super) fn port_set(ports: &[u16]) -> String {
    match ports {
        [port] => port.to_string(),
        several => {
            let listed: Vec<String> = several.iter().map(u16::to_string).collect();
            format!("{{ {} }}", listed.join(", "))
        }
    }
}

/// First rule of the chains that are about captured interfaces.
const OTHERS: &str = "iifname != @captured accept";

/// After connection tracking (-200), before any translation (-100): no table may have sent it elsewhere yet.
const GUARD_HOOK: &str = "filter hook prerouting priority -150";

/// Ten before the usual place: the first translation wins, also over published container ports.
const NAT_HOOK: &str = "nat hook prerouting priority -110";

/// RFC 4861 section 7.1: a hop limit of 255 proves that no router passed it on. No advertisements of
/// routers and no redirects: a client does not configure its gate.
pub(super) const NEIGHBOURS: &str =
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept";

/// Sends a packet to this host, by way of the mark's route.
const TO_US: &str = "meta mark set 0x4e47 accept";

#[cfg(test)]
mod tests {
    use super::super::plan::tests::config;
    use super::*;

    fn text(interfaces: &[&str], form: Form, dns: DnsCapture, listen: &[&str]) -> String {
        let mut config = config(interfaces);
        config.dns = dns;
        config.dns_listen = listen.iter().map(|a| a.parse().expect("address")).collect();
        Ruleset::of(&Plan::new(config, form).expect("plan")).text
    }

    fn external(list: &[&str]) -> DnsCapture {
        DnsCapture::External(list.iter().map(|a| a.parse().expect("address")).collect())
    }

    #[test]
    fn the_mark_in_the_text_is_the_mark_of_the_route() {
        assert!(TO_US.contains(&format!("{MARK:#x} ")));
    }

    #[test]
    fn redirect_with_the_forwarder() {
        insta::assert_snapshot!(text(&["br-egress"], Form::Redirect, DnsCapture::Forwarder, &[]));
    }

    #[test]
    fn redirect_with_the_forwarder_listening_on_three_interfaces() {
        insta::assert_snapshot!(text(
            &["br-a", "br-b", "eth1.100"],
            Form::Redirect,
            DnsCapture::Forwarder,
            &["172.18.0.1:53", "172.18.0.1:5353", "[::]:5353", "127.0.0.1:5300", "192.0.2.7:15353"]
        ));
    }

    #[test]
    fn redirect_with_a_resolver_for_each_family() {
        let dns = external(&["172.18.0.1:53", "[2001:db8::1]:5353"]);
        insta::assert_snapshot!(text(&["br-egress"], Form::Redirect, dns, &[]));
    }

    #[test]
    fn redirect_with_a_resolver_for_one_family() {
        insta::assert_snapshot!(text(&["br-egress"], Form::Redirect, external(&["172.18.0.1:53"]), &[]));
    }

    #[test]
    fn redirect_with_the_resolver_at_the_captured_interface() {
        insta::assert_snapshot!(text(&["br-egress"], Form::Redirect, external(&[]), &[]));
    }

    #[test]
    fn tproxy_with_the_forwarder() {
        insta::assert_snapshot!(text(&["eth1"], Form::Tproxy, DnsCapture::Forwarder, &[]));
    }

    #[test]
    fn tproxy_with_the_forwarder_listening_on_three_interfaces() {
        insta::assert_snapshot!(text(
            &["br-a", "br-b", "eth1.100"],
            Form::Tproxy,
            DnsCapture::Forwarder,
            &["172.18.0.1:53", "172.18.0.1:5353", "[2001:db8::1]:5353"]
        ));
    }

    #[test]
    fn tproxy_with_a_resolver_for_each_family() {
        let dns = external(&["172.18.0.1:53", "[2001:db8::1]:5353"]);
        insta::assert_snapshot!(text(&["eth1"], Form::Tproxy, dns, &[]));
    }

    #[test]
    fn tproxy_with_a_resolver_for_one_family() {
        insta::assert_snapshot!(text(&["eth1"], Form::Tproxy, external(&["[2001:db8::1]:53"]), &[]));
    }

    #[test]
    fn tproxy_with_the_resolver_at_the_captured_interface() {
        insta::assert_snapshot!(text(&["eth1"], Form::Tproxy, external(&[]), &[]));
    }

    #[test]
    fn a_forwarder_on_port_53_itself_is_let_in_without_a_trace_of_translation() {
        let mut config = config(&["br0"]);
        config.dns_port = 53;
        let text = Ruleset::of(&Plan::new(config, Form::Redirect).expect("plan")).text;
        assert!(
            text.contains("\t\tmeta l4proto { tcp, udp } th dport 53 accept\n\t\tcounter drop\n"),
            "{text}"
        );
        assert!(!text.contains("ct status dnat meta l4proto { tcp, udp }"), "{text}");
    }

    #[test]
    fn two_plans_that_differ_carry_different_markers() {
        let one = text(&["br-a"], Form::Redirect, DnsCapture::Forwarder, &[]);
        let other = text(&["br-b"], Form::Redirect, DnsCapture::Forwarder, &[]);
        let marker = |text: &str| text.lines().find(|l| l.contains("comment")).map(str::to_owned);
        assert_ne!(marker(&one), marker(&other));
    }

    #[test]
    fn every_ruleset_refuses_at_the_end_of_the_guard_and_of_the_input_and_forwards_nothing() {
        for form in [Form::Redirect, Form::Tproxy] {
            for dns in [DnsCapture::Forwarder, external(&[]), external(&["192.0.2.1:53"])] {
                let text = text(&["br0"], form, dns, &["0.0.0.0:5353"]);
                let ends = |chain: &str, last: &str| {
                    let body = text.split(&format!("chain {chain} {{\n")).nth(1).expect(chain);
                    let body = body.split("\t}\n").next().expect("end");
                    assert!(body.ends_with(&format!("\t\t{last}\n")), "{chain}: {body}");
                };
                ends(if form == Form::Redirect { "guard" } else { "divert" }, "goto refuse");
                ends("input", "counter drop");
                ends("refuse", "counter drop");
                ends("forward", "oifname @captured counter drop");
            }
        }
    }
}
