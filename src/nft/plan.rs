//! What is to be captured, and in which form.
//!
//! Everything the ruleset text depends on, checked once: a `Plan` that exists cannot break out of its
//! quotes. Must not know how text is written nor what this machine can do.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::local::{self, LocalConfig};

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormChoice {
    /// TPROXY where it works, else REDIRECT.
    #[default]
    Auto,
    /// NAT in prerouting.
    Redirect,
    /// Transparent sockets.
    Tproxy,
}

/// The form in force. It also says how the listeners have to be born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// NAT in prerouting: listeners on all addresses, the original destination by `SO_ORIGINAL_DST`.
    /// The DNS listener is an ordinary socket, connection tracking restores the source of its replies.
    Redirect,
    /// Transparent sockets (`IP_TRANSPARENT` before bind) on 127.0.0.1 and ::1: the local address of an
    /// accepted connection is the original destination. A UDP reply must be sent from the address that
    /// was asked (`IP_RECVORIGDSTADDR`), as nothing translates it.
    Tproxy,
}

impl Form {
    /// Returns the word for this form in configuration, rulesets and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Tproxy => "tproxy",
        }
    }
}

/// What becomes of queries to port 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsCapture {
    /// To the built-in forwarder.
    Forwarder,
    /// To the operator's resolver, which must be at an address of this host; at most one per family.
    /// Empty: whatever listens on port 53 of the captured interface's own address.
    External(Vec<SocketAddr>),
}

/// Capture as configured.
#[derive(Debug, Clone)]
pub struct CaptureConfig {
    /// Interfaces whose entering traffic is captured; none only where local processes are.
    pub interfaces: Vec<String>,
    /// Which form.
    pub form: FormChoice,
    /// Port of the TCP listener.
    pub proxy_port: u16,
    /// Port of the DNS listener.
    pub dns_port: u16,
    /// What becomes of queries.
    pub dns: DnsCapture,
    /// DNS service addresses on this host that the workload may reach besides captured queries (`dns.listen`).
    pub dns_listen: Vec<SocketAddr>,
    /// Which processes of this host are captured.
    pub local: Option<LocalConfig>,
    /// Name of our table in family `inet`.
    pub table: String,
}

/// Why a configuration cannot become a ruleset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to capture.
    #[error("no interface and no local process to capture")]
    Nothing,
    /// Not a name that the kernel and `nft` both take literally.
    #[error("{name:?} is not an interface name: 1 to 15 of A-Z a-z 0-9 . _ - @ : +")]
    InterfaceName {
        /// As configured.
        name: String,
    },
    /// Loopback carries this host's own traffic.
    #[error("the loopback interface cannot be captured")]
    Loopback,
    /// Not a table name.
    #[error("{name:?} is not a table name: a letter, then up to 62 of A-Z a-z 0-9 _ -")]
    TableName {
        /// As configured.
        name: String,
    },
    /// Two services on one port, or port 0, or the proxy on port 53.
    #[error("port {port} cannot serve as {role}")]
    Port {
        /// The port.
        port: u16,
        /// What it was to serve as.
        role: &'static str,
    },
    /// Not a control group that a rule can name.
    #[error("control group {id} cannot be matched at depth {level}")]
    Cgroup {
        /// The kernel's number for it.
        id: u64,
        /// How many folders it is below the root.
        level: u8,
    },
    /// The gate would capture itself.
    #[error("user {uid} runs the gate and cannot be captured by it")]
    OwnUser {
        /// Who.
        uid: u32,
    },
    /// Queries cannot be sent there.
    #[error("{address} cannot be the resolver of captured clients: {reason}")]
    Resolver {
        /// As configured.
        address: SocketAddr,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Capture as decided: everything the text depends on, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    config: CaptureConfig,
    form: Form,
}

impl Plan {
    /// Checks a configuration against what a ruleset can say.
    ///
    /// # Errors
    ///
    /// Names that are not plain interface or table names, ports that clash, and resolvers that a packet
    /// from a captured interface cannot be sent to.
    pub fn new(config: CaptureConfig, form: Form) -> Result<Self, PlanError> {
        if config.interfaces.is_empty() && config.local.is_none() {
            return Err(PlanError::Nothing);
        }
        check_interfaces(&config.interfaces)?;
        check_table(&config.table)?;
        check_ports(&config)?;
        if let DnsCapture::External(resolvers) = &config.dns {
            check_resolvers(resolvers)?;
        }
        if let Some(local) = &config.local {
            local::check(local, &config)?;
        }
        Ok(Self { config, form })
    }

    /// Returns the configuration this plan was made from.
    pub const fn config(&self) -> &CaptureConfig {
        &self.config
    }

    /// Returns the form in force.
    pub const fn form(&self) -> Form {
        self.form
    }
}

/// Refuses everything that is not plainly a table name; also asked when only the name is known (`down`).
pub(super) fn check_table(name: &str) -> Result<(), PlanError> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_alphabetic());
    if starts && name.len() <= 63 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        Ok(())
    } else {
        Err(PlanError::TableName { name: name.to_owned() })
    }
}

/// The kernel takes nearly any byte in a name; `nft` reads `*` as a wildcard and `"` as the end. Only the
/// characters that real names have are let through.
pub(super) fn check_interfaces(names: &[String]) -> Result<(), PlanError> {
    for name in names {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@:+".contains(&b);
        let fits = !name.is_empty() && name.len() <= MAX_INTERFACE_NAME && name != "." && name != "..";
        if !fits || !name.bytes().all(plain) {
            return Err(PlanError::InterfaceName { name: name.clone() });
        }
        if name == "lo" {
            return Err(PlanError::Loopback);
        }
    }
    Ok(())
}

fn check_ports(config: &CaptureConfig) -> Result<(), PlanError> {
    let clash = |port, role| Err(PlanError::Port { port, role });
    let proxy = config.proxy_port;
    if proxy == 0 || proxy == DNS_PORT {
        return clash(proxy, "the proxy port");
    }
    if config.dns == DnsCapture::Forwarder && (config.dns_port == 0 || config.dns_port == proxy) {
        return clash(config.dns_port, "the DNS port");
    }
    if let Some(address) = config.dns_listen.iter().find(|a| a.port() == 0 || a.port() == proxy) {
        return clash(address.port(), "a DNS listen address");
    }
    if let DnsCapture::External(list) = &config.dns
        && let Some(address) = list.iter().find(|a| a.port() == 0 || a.port() == proxy)
    {
        return clash(address.port(), "the resolver");
    }
    Ok(())
}

fn check_resolvers(resolvers: &[SocketAddr]) -> Result<(), PlanError> {
    for (at, &address) in resolvers.iter().enumerate() {
        let refuse = |reason| Err(PlanError::Resolver { address, reason });
        if address.ip().is_unspecified() {
            return refuse("name one address, not all of them");
        }
        if address.ip().is_loopback() {
            return refuse("a packet from another interface cannot be sent to a loopback address");
        }
        if address.ip().is_multicast() || address.ip() == IpAddr::from(std::net::Ipv4Addr::BROADCAST) {
            return refuse("it is not the address of one host");
        }
        if let IpAddr::V6(v6) = address.ip()
            && (v6.to_ipv4_mapped().is_some() || is_link_local(v6))
        {
            return refuse("link-local and IPv4-mapped addresses depend on where the packet came from");
        }
        if resolvers.iter().take(at).any(|earlier| earlier.is_ipv4() == address.is_ipv4()) {
            return refuse("there is already one of this address family");
        }
    }
    Ok(())
}

/// `fe80::/10`, RFC 4291 section 2.5.6.
fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments().first().is_some_and(|head| head & 0xffc0 == 0xfe80)
}

/// `IFNAMSIZ` less the final NUL.
const MAX_INTERFACE_NAME: usize = 15;

/// RFC 1035 section 4.2.
pub(super) const DNS_PORT: u16 = 53;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::nft) fn config(interfaces: &[&str]) -> CaptureConfig {
        CaptureConfig {
            interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
            form: FormChoice::Auto,
            proxy_port: 15001,
            dns_port: 15353,
            dns: DnsCapture::Forwarder,
            dns_listen: Vec::new(),
            local: None,
            table: "namegate".to_owned(),
        }
    }

    fn refused(change: impl FnOnce(&mut CaptureConfig)) -> PlanError {
        let mut config = config(&["br0"]);
        change(&mut config);
        Plan::new(config, Form::Redirect).expect_err("must be refused")
    }

    #[test]
    fn a_name_that_could_say_more_than_a_name_is_refused() {
        for name in
            ["", "br0\"", "br\n0", "br*", "a b", "br0\\", "sixteen-bytes-xx", "..", "brü", "$x", "{a}", "a/b"]
        {
            let error = Plan::new(config(&[name]), Form::Tproxy).expect_err(name);
            assert_eq!(error, PlanError::InterfaceName { name: name.to_owned() });
        }
        for name in ["br0", "br-0123456789ab", "eth0.100", "wg0", "veth@x", "en_1+", "eth0:1"] {
            Plan::new(config(&[name]), Form::Tproxy).expect(name);
        }
        for name in ["", "1a", "a b", "a;", "a{", "ünï", "-a", &"a".repeat(64)] {
            assert!(matches!(refused(|c| c.table = name.to_owned()), PlanError::TableName { .. }), "{name}");
        }
    }

    #[test]
    fn loopback_and_nothing_cannot_be_captured() {
        assert_eq!(refused(|c| c.interfaces = vec!["br0".into(), "lo".into()]), PlanError::Loopback);
        assert_eq!(refused(|c| c.interfaces.clear()), PlanError::Nothing);
    }

    #[test]
    fn ports_that_clash_are_refused() {
        let listen = |text: &str| vec![text.parse().expect("address")];
        for error in [
            refused(|c| c.proxy_port = 0),
            refused(|c| c.proxy_port = 53),
            refused(|c| c.dns_port = 15001),
            refused(|c| c.dns_port = 0),
            refused(|c| c.dns_listen = listen("192.0.2.1:15001")),
            refused(|c| c.dns_listen = listen("192.0.2.1:0")),
            refused(|c| c.dns = DnsCapture::External(listen("192.0.2.1:15001"))),
        ] {
            assert!(matches!(error, PlanError::Port { .. }), "{error}");
        }
    }

    #[test]
    fn a_resolver_must_be_one_reachable_address_of_each_family() {
        for bad in [
            &["0.0.0.0:53"][..],
            &["127.0.0.1:53"],
            &["[::1]:53"],
            &["224.0.0.1:53"],
            &["255.255.255.255:53"],
            &["[fe80::1]:53"],
            &["[::ffff:192.0.2.1]:53"],
            &["192.0.2.1:53", "192.0.2.2:53"],
            &["[2001:db8::1]:53", "[2001:db8::1]:54"],
        ] {
            let list = bad.iter().map(|a| a.parse().expect("address")).collect();
            let error = refused(|c| c.dns = DnsCapture::External(list));
            assert!(matches!(error, PlanError::Resolver { .. }), "{bad:?}: {error}");
        }
        let mut fine = config(&["br0"]);
        fine.dns = DnsCapture::External(vec![
            "192.0.2.1:53".parse().expect("address"),
            "[2001:db8::1]:5353".parse().expect("address"),
        ]);
        Plan::new(fine, Form::Redirect).expect("one of each family");
    }
}
