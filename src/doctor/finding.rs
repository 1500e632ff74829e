//! Findings: what is wrong on this machine, how grave it is, and the exact fix.
//!
//! Words only; must not know how anything was seen.

use std::fmt;

/// How grave a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Traffic can go around the gate.
    Leak,
    /// Something that was asked for does not work.
    Broken,
    /// A protection is weaker than it should be.
    Risk,
    /// Something that matters could not be looked at: unknown, which is not fine.
    Unseen,
    /// Worth knowing; nothing has to be done.
    Advice,
}

impl Severity {
    /// Every severity, the worst first.
    pub const ALL: [Self; 5] = [Self::Leak, Self::Broken, Self::Risk, Self::Unseen, Self::Advice];

    /// Returns the lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Broken => "broken",
            Self::Risk => "risk",
            Self::Unseen => "unseen",
            Self::Advice => "advice",
        }
    }
}

/// The codes, each with its spelling, its severity and why it matters.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident: $text:literal, $severity:ident, $why:literal;)*) => {
        /// What was found. The spelling of each is stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(
                #[doc = $why]
                $name,
            )*
        }

        impl Code {
            /// Every code, the worst first.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the stable code.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns how grave it is.
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }

            /// Returns why it matters.
            pub const fn why(self) -> &'static str {
                match self {
                    $(Self::$name => $why,)*
                }
            }
        }
    };
}

codes! {
    ForwardingUnfenced: "forwarding_unfenced", Leak,
        "this host routes, and neither the table nor a fence stops these packets: they leave unjudged";
    BridgeWithUplink: "bridge_with_uplink", Leak,
        "what is plugged into a captured bridge is reached without passing this host's rules";
    ServicesReachable: "services_reachable", Leak,
        "the table closes them to captured clients; without it they are open, and any of them may lead on";
    ContainerPrivileged: "container_privileged", Leak,
        "root in it owns this host: it can change the rules, or leave its network";
    ContainerDockerSocket: "container_docker_socket", Leak,
        "who may speak to the Docker socket can start a container that is not captured, or owns this host";
    ContainerSecondNetwork: "container_second_network", Leak,
        "the other network is a way out that the gate does not see";
    ContainerDnsUnset: "container_dns_unset", Leak,
        "Docker's resolver (127.0.0.11) then asks from this host, not from the container: denied names travel, and no answer counts for the container";
    NftMissing: "nft_missing", Broken,
        "the rules are loaded by the program nft";
    NftTooOld: "nft_too_old", Broken,
        "it cannot read our rules";
    NoNetAdmin: "no_net_admin", Broken,
        "rules cannot be installed without CAP_NET_ADMIN";
    CaptureUndecided: "capture_undecided", Broken,
        "it cannot be told what is to be captured, and serve does not start";
    InterfaceMissing: "interface_missing", Broken,
        "nothing can be captured at an interface that is not there, and serve does not start";
    InterfaceAlias: "interface_alias", Broken,
        "rules match the name that packets carry; by this one nothing would be captured";
    InterfaceIsPort: "interface_is_port", Broken,
        "its packets enter by another interface; captured by this one they would pass";
    TproxyOnBridge: "tproxy_on_bridge", Broken,
        "br_netfilter takes the socket off packets that cross a bridge: every captured connection is lost";
    ResolverElsewhere: "resolver_elsewhere", Broken,
        "only a resolver of this host sees the clients' own addresses, by which its dnstap tells them apart";
    TableMissing: "table_missing", Broken,
        "without the table nothing is captured: no client is served";
    TableDiffers: "table_differs", Broken,
        "what is captured is not what this configuration says";
    HomeMissing: "home_missing", Broken,
        "packets that are marked for the gate find no way to it, and are dropped";
    GateNotRunning: "gate_not_running", Broken,
        "the rules lead to a listener that is not there: captured connections are reset";
    InputDropped: "input_dropped", Broken,
        "a redirected packet meets the input chains of every table, and one that drops has the last word";
    ResolverLoop: "resolver_loop", Broken,
        "the gate would ask itself, until its limit of questions is reached";
    NoUpstream: "no_upstream", Broken,
        "no name can be resolved, so no connection is allowed";
    HoldTooShort: "hold_too_short", Broken,
        "most resolvers send dnstap frames up to two seconds late: connections are denied before the evidence is there";
    AuditFolderMissing: "audit_folder_missing", Broken,
        "serve does not start when it cannot write its log";
    AuditNotWritable: "audit_not_writable", Broken,
        "serve does not start when it cannot write its log";
    TapFolderMissing: "tap_folder_missing", Broken,
        "serve does not start when it cannot make the dnstap socket";
    DockerUnreachable: "docker_unreachable", Broken,
        "the configuration speaks of containers, and serve does not start without Docker";
    ContainerLabelBroken: "container_label_broken", Broken,
        "a container with a label that cannot be read is denied everything";
    ClockBehindProgram: "clock_behind_program", Broken,
        "this program is newer than now: dates of rules, audit times and certificates are judged wrongly";
    ExecUnavailable: "exec_unavailable", Broken,
        "`namegate exec` runs a command in namespaces of its own";
    CallFiltersMissing: "call_filters_missing", Broken,
        "`namegate exec` refuses system calls that lead out of the sandbox, and does not start without";
    FenceMissing: "fence_missing", Risk,
        "this host routes: should the table be flushed, nothing else stops these packets";
    NamesBySocket: "names_by_socket", Risk,
        "a service that is asked for names over a socket asks for itself: denied names travel, and no answer counts";
    ContainerNetRaw: "container_net_raw", Risk,
        "it may send with a neighbour's address, and so be taken for it (NET_RAW is Docker's default)";
    ContainerNetAdmin: "container_net_admin", Risk,
        "it may take a neighbour's addresses, and so be taken for it";
    ContainerSharesNetwork: "container_shares_network", Risk,
        "the gate cannot tell them apart: what one resolved or may reach, the other may too";
    ObserveMode: "observe_mode", Risk,
        "observe mode refuses nothing; the log says what would have been denied";
    ConfigurationWritable: "configuration_writable", Risk,
        "who may write the configuration opens the gate at the next reload";
    TapNotInProfile: "tap_not_in_profile", Risk,
        "AppArmor keeps the resolver from a socket that its profile does not name: no evidence arrives";
    DescriptorsTooFew: "descriptors_too_few", Risk,
        "every connection takes two descriptors; when they run out, new connections wait or are refused";
    ConntrackTooSmall: "conntrack_too_small", Risk,
        "the redirect form tracks every connection, and those upstream; when the table is full, packets are dropped";
    AuditDiskFull: "audit_disk_full", Risk,
        "on a full disk audit lines are lost, and counted in a gap event";
    NotSeen: "not_seen", Unseen,
        "what could not be looked at is unknown, which is not fine";
    NoConfiguration: "no_configuration", Advice,
        "what depends on a configuration was not checked";
    BridgeNotCaptured: "bridge_not_captured", Advice,
        "what is behind this bridge does not pass the gate";
    PortsNotIsolated: "ports_not_isolated", Advice,
        "neighbours on one bridge reach each other directly, and one that is allowed more can relay for the others";
    SetUidPrograms: "set_uid_programs", Advice,
        "a set-user-ID program runs as another user, and what it sends is not captured";
    InputMayDrop: "input_may_drop", Advice,
        "a redirected packet meets the input chains of every table, and one that drops has the last word";
    LegacyTables: "legacy_tables", Advice,
        "rules of iptables-legacy are in force and were not looked at; one that drops has the last word";
    ClockNotSynchronised: "clock_not_synchronised", Advice,
        "audit times and dates of rules follow this clock";
    ClockNotSeen: "clock_not_seen", Advice,
        "audit times and dates of rules follow this clock";
    PortsOverlap: "ports_overlap", Advice,
        "an outgoing connection may hold the port just when the gate starts";
    OnMissResolve: "on_miss_resolve", Advice,
        "the gate asks for a claimed name itself, so a client passes that never asked DNS";
    ExecWithoutNft: "exec_without_nft", Advice,
        "without nft, `namegate exec` reads only the ports of its rules";
    LandlockOld: "landlock_old", Advice,
        "from version 6 on, Landlock keeps signals inside the sandbox besides the namespace";
    ContainerHostNetwork: "container_host_network", Advice,
        "it uses this host's own network: no gate is in front of it";
    DockerNotSeen: "docker_not_seen", Advice,
        "containers were not looked at: their capabilities, mounts, networks and DNS";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is here.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// What it is about: an interface, a container, a file.
    pub subject: String,
    /// What was seen.
    pub what: String,
    /// The command to run, or the line to write.
    pub fix: String,
}

impl Finding {
    pub(super) fn new(
        code: Code,
        subject: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { severity: code.severity(), code, subject: subject.into(), what: what.into(), fix: fix.into() }
    }

    /// Something that matters and could not be looked at; how it could be is for who knows the looker.
    pub(super) fn not_seen(subject: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Code::NotSeen, subject, why, "")
    }

    /// The same where it is about a door that may not be in use.
    pub(super) fn into_advice(self) -> Self {
        Self { severity: Severity::Advice, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_listed_from_the_worst_on_and_spelled_apart() {
        let severities: Vec<Severity> = Code::ALL.iter().map(|code| code.severity()).collect();
        assert!(severities.is_sorted());
        let mut spelled: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let all = spelled.len();
        spelled.sort_unstable();
        spelled.dedup();
        assert_eq!(spelled.len(), all);
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(spelled.iter().all(|text| plain(text)));
        assert!(Severity::ALL.is_sorted());
    }
}
