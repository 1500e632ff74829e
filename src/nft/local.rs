//! The chains that capture processes of this host, by user or control group, or all but the gate's own user.
//!
//! Only what is positively matched is captured (`!=` matches nothing where there is no owner to look at), and
//! every chain that captured packets come through ends in a refusal: what was not translated does not leave.
//! Services of this host itself stay reachable, except those that answer questions for others: port 53 leads to the
//! gate wherever it is addressed, and nothing else is heard at the address of Docker's resolver. A resolver of another
//! kind, at a port of its own, is a service like any. Pure text: must not know what users and groups are called.

use std::net::Ipv4Addr;

use super::plan::{CaptureConfig, DNS_PORT, DnsCapture, PlanError};
use super::ruleset::{Chain, NEIGHBOURS, port_set};

/// Which processes are captured, and where they are led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// Whose sockets.
    pub who: Locals,
    /// Port of the TCP listener, on 127.0.0.1 and ::1.
    pub proxy_port: u16,
    /// Port of the DNS listener, on 127.0.0.1 and ::1.
    pub dns_port: u16,
    /// The user that the gate runs as.
    pub gate: u32,
}

/// Whose sockets are captured. A socket is its opener's, whoever holds it later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locals {
    /// Those of these users, and those made in these control groups or beneath. None: of groups that are still to come.
    These {
        /// By number.
        users: Vec<u32>,
        /// Version 2.
        cgroups: Vec<Cgroup>,
    },
    /// Those of everybody in this network namespace but the gate's own user.
    AllButGate,
}

/// A control group, held open by this process: `nft` is told its number by way of the held folder, so that a
/// group of the same path that comes later is not taken for it, and one that is gone can still be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cgroup {
    /// The kernel's number for it, which is never used again.
    pub id: u64,
    /// How many folders it is below the root of the hierarchy that this process sees.
    pub level: u8,
    /// The process that holds it.
    pub holder: u32,
    /// Its descriptor there.
    pub descriptor: i32,
}

impl Cgroup {
    /// `nft` looks for a group beneath `/sys/fs/cgroup`, wherever the hierarchy really is.
    fn matched(&self) -> String {
        let Self { id, level, holder, descriptor } = self;
        format!(
            "socket cgroupv2 level {level} \"../../../proc/{holder}/fd/{descriptor}\" goto {{}} comment \"cgroup {id}\""
        )
    }
}

/// Refuses what cannot be captured, and ports that clash with each other or with the door of interfaces.
pub(super) fn check(local: &LocalConfig, config: &CaptureConfig) -> Result<(), PlanError> {
    if let Locals::These { users, cgroups } = &local.who {
        if users.contains(&local.gate) {
            return Err(PlanError::OwnUser { uid: local.gate });
        }
        // Level 0 is the root: everybody, the gate included.
        let unfit = |group: &&Cgroup| group.level == 0 || group.descriptor < 0;
        if let Some(&Cgroup { id, level, .. }) = cgroups.iter().find(unfit) {
            return Err(PlanError::Cgroup { id, level });
        }
    }
    let clash = |port, role| Err(PlanError::Port { port, role });
    let (proxy, dns) = (local.proxy_port, local.dns_port);
    let door = match config.dns {
        DnsCapture::Forwarder => vec![config.proxy_port, config.dns_port],
        DnsCapture::External(_) => vec![config.proxy_port],
    };
    let others = config.dns_listen.iter().map(|address| address.port()).chain(door);
    let taken: Vec<u16> = others.chain([0, DNS_PORT]).collect();
    if taken.contains(&proxy) {
        return clash(proxy, "the proxy port of local processes");
    }
    if taken.contains(&dns) || dns == proxy {
        return clash(dns, "the DNS port of local processes");
    }
    Ok(())
}

/// Writes the chains.
pub(super) fn chains(local: &LocalConfig) -> Vec<Chain> {
    let mut guard = Chain::at("local_guard", GUARD_HOOK);
    let mut steer = Chain::at("local_steer", NAT_HOOK);
    let mut out = Chain::at("local_out", OUT_HOOK);
    match &local.who {
        Locals::These { users, cgroups } => {
            for (chain, goal) in [(&mut guard, "held"), (&mut steer, "turned"), (&mut out, "leaving")] {
                chain.rules(users.iter().map(|uid| format!("meta skuid {uid} goto {goal}")));
                chain.rules(cgroups.iter().map(|group| group.matched().replace("{}", goal)));
            }
        }
        Locals::AllButGate => {
            let gate = local.gate;
            guard.rule(format!("meta skuid {gate} ct direction original ct mark set {GATE_MARK:#x}"));
            for (chain, goal) in [(&mut guard, "held"), (&mut steer, "turned"), (&mut out, "leaving")] {
                chain.rule(format!("meta skuid {gate} accept"));
                chain.rule(format!("meta skuid != {gate} goto {goal}"));
                // From here on packets without an owner: what the kernel sends on for a socket that is closed
                // already, and what it says by itself. The gate's connections are known by their mark; a packet
                // with an owner cannot ride on one, for it would have matched above.
                chain.rule(format!("ct mark {GATE_MARK:#x} ct direction original accept"));
                chain.rules(KERNEL_TALK.map(str::to_owned));
                chain.rule(format!("goto {goal}"));
            }
        }
    }
    vec![guard, held(local), steer, turned(local), out, leaving(local), inward(local)]
}

/// What may come at all, before any translation.
fn held(local: &LocalConfig) -> Chain {
    let mut held = Chain::called("held");
    held.rule(REPLIES);
    held.rule(format!("{QUERY} accept"));
    held.rule(to_docker());
    // Opened before these rules were, so never translated.
    held.rule(format!("meta l4proto tcp {ELSEWHERE} ct state established ct status & dnat == 0 goto refuse"));
    held.rule(format!("{} fib daddr type local goto refuse", doors(local)));
    held.rule("fib daddr type local accept");
    held.rule(NEIGHBOURS);
    held.rule("meta l4proto tcp accept");
    held.rule("goto refuse");
    held
}

/// Where it goes: REDIRECT leads what this host sends itself to 127.0.0.1 or ::1.
fn turned(local: &LocalConfig) -> Chain {
    let mut turned = Chain::called("turned");
    turned.rule(format!("{QUERY} redirect to :{}", local.dns_port));
    turned.rule("fib daddr type local accept");
    turned.rule(format!("meta l4proto tcp redirect to :{}", local.proxy_port));
    turned
}

/// What leaves, after every translation, ours or another's.
fn leaving(local: &LocalConfig) -> Chain {
    let mut leaving = Chain::called("leaving");
    leaving.rule(REPLIES);
    leaving.rules(LOOPBACKS.map(|loopback| format!("{loopback} ct status dnat {} accept", doors(local))));
    // A question that was not translated: its exchange is older than these rules.
    leaving.rule(format!("{QUERY} goto refuse"));
    leaving.rule(to_docker());
    leaving.rule(format!("{} fib daddr type local goto refuse", doors(local)));
    leaving.rule("fib daddr type local accept");
    leaving.rule(NEIGHBOURS);
    leaving.rule("goto refuse");
    leaving
}

/// The listeners are for what was led to them, whoever calls.
fn inward(local: &LocalConfig) -> Chain {
    let mut inward = Chain::at("local_in", "filter hook input priority filter");
    inward.rule("iifname \"lo\" ct status dnat accept");
    inward.rules(LOOPBACKS.map(|loopback| format!("{loopback} {} goto refuse", doors(local))));
    inward
}

/// The ports of this door; the proxy hears no UDP, and nobody else is to there.
fn doors(local: &LocalConfig) -> String {
    format!("meta l4proto {{ tcp, udp }} th dport {}", port_set(&[local.proxy_port, local.dns_port]))
}

/// Docker's resolver waits at a port that is told in `/proc/net/udp`, behind a translation of port 53, and asks as root.
/// What is left for it when port 53 is led away would ask it directly, or goes on with an exchange from before.
fn to_docker() -> String {
    format!("ip daddr {DOCKER_RESOLVER} goto refuse")
}

/// Where Docker answers the containers of its own networks (Docker manual, "Networking overview", "DNS services").
pub const DOCKER_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Says that a connection is the gate's own: "NGL". Set on the connection, not on packets, which processes can
/// mark by themselves.
const GATE_MARK: u32 = 0x004e_474c;

/// Membership of multicast groups, without which switches keep neighbour discovery away (RFC 3810, RFC 3376).
const KERNEL_TALK: [&str; 2] = ["icmpv6 type mld2-listener-report accept", "ip protocol igmp accept"];

/// After connection tracking (-200), before any translation.
const GUARD_HOOK: &str = "filter hook output priority -150";

/// Ten before the usual place, where Docker's own leads 127.0.0.11 to its resolver.
const NAT_HOOK: &str = "nat hook output priority -110";

/// After every translation.
const OUT_HOOK: &str = "filter hook output priority filter";

/// Answers to what was asked of a captured process from elsewhere.
const REPLIES: &str = "ct state established,related ct direction reply accept";

const QUERY: &str = "meta l4proto { tcp, udp } th dport 53";
const ELSEWHERE: &str = "fib daddr type != local";
const LOOPBACKS: [&str; 2] = ["ip daddr 127.0.0.0/8", "ip6 daddr ::1"];

#[cfg(test)]
mod tests {
    use super::super::plan::tests::config;
    use super::super::plan::{Form, Plan};
    use super::super::ruleset::Ruleset;
    use super::*;

    fn local(who: Locals) -> LocalConfig {
        LocalConfig { who, proxy_port: 15002, dns_port: 15054, gate: 0 }
    }

    fn these(users: &[u32], cgroups: &[Cgroup]) -> Locals {
        Locals::These { users: users.to_vec(), cgroups: cgroups.to_vec() }
    }

    const GROUP: Cgroup = Cgroup { id: 4711, level: 2, holder: 99, descriptor: 7 };

    fn plan(interfaces: &[&str], form: Form, local: LocalConfig) -> Result<Plan, PlanError> {
        let mut config = config(interfaces);
        config.local = Some(local);
        Plan::new(config, form)
    }

    fn text(interfaces: &[&str], form: Form, who: Locals) -> String {
        Ruleset::of(&plan(interfaces, form, local(who)).expect("plan")).text().to_owned()
    }

    #[test]
    fn users_and_control_groups_alone() {
        insta::assert_snapshot!(text(&[], Form::Redirect, these(&[1000, 1001], &[GROUP])));
    }

    #[test]
    fn everybody_but_the_gate() {
        insta::assert_snapshot!(text(&[], Form::Redirect, Locals::AllButGate));
    }

    #[test]
    fn a_user_besides_an_interface() {
        insta::assert_snapshot!(text(&["br-egress"], Form::Tproxy, these(&[1000], &[])));
    }

    #[test]
    fn every_chain_that_captured_packets_end_in_refuses() {
        for who in [these(&[1000], &[]), these(&[], &[GROUP]), Locals::AllButGate] {
            let text = text(&[], Form::Redirect, who);
            for chain in ["held", "leaving"] {
                let body = text.split(&format!("chain {chain} {{\n")).nth(1).expect(chain);
                let body = body.split("\t}\n").next().expect("end");
                assert!(body.ends_with("\t\tgoto refuse\n"), "{chain}: {body}");
            }
        }
    }

    #[test]
    fn the_gate_itself_and_the_root_of_all_groups_cannot_be_captured_and_nobody_yet_can() {
        let refused = |who| plan(&[], Form::Redirect, local(who)).expect_err("must be refused");
        assert_eq!(refused(these(&[1000, 0], &[])), PlanError::OwnUser { uid: 0 });
        let root = Cgroup { level: 0, ..GROUP };
        assert_eq!(refused(these(&[], &[root])), PlanError::Cgroup { id: 4711, level: 0 });
        assert!(!text(&[], Form::Redirect, these(&[], &[])).contains("goto held"));
    }

    #[test]
    fn the_ports_of_both_doors_are_apart() {
        for (proxy, dns) in
            [(15001, 15054), (15002, 15353), (15002, 15002), (0, 15054), (15002, 0), (53, 15054), (15002, 53)]
        {
            let who = these(&[1000], &[]);
            let local = LocalConfig { who, proxy_port: proxy, dns_port: dns, gate: 0 };
            let error = plan(&["br0"], Form::Redirect, local).expect_err("must be refused");
            assert!(matches!(error, PlanError::Port { .. }), "{proxy} {dns}: {error}");
        }
    }

    #[test]
    fn another_group_of_the_same_descriptor_makes_another_ruleset() {
        let later = Cgroup { id: 4712, ..GROUP };
        let of = |group| text(&[], Form::Redirect, these(&[], &[group]));
        let marker = |text: &str| text.lines().find(|line| line.contains("comment")).map(str::to_owned);
        assert_ne!(marker(&of(GROUP)), marker(&of(later)));
    }
}
