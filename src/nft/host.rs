//! Which form this machine can carry, and what forbids it.
//!
//! Reading facts and choosing are apart: the choice is a pure function of a configuration and facts, and
//! knows nothing of where facts come from. `ip_forward` is no fact of ours: interception does not need it.

use std::net::IpAddr;

use super::error::NftError;
use super::netfilter::{Netfilter, NftVersion};
use super::plan::{CaptureConfig, DnsCapture, Form, FormChoice};
use crate::sys::host::{self, BridgeFiltering, Link};

/// What the choice depends on.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Each configured interface, and what there is under that name.
    pub links: Vec<(String, Option<Link>)>,
    /// Whether bridged frames meet the IP hooks.
    pub bridge_filtering: BridgeFiltering,
    /// The addresses of this host.
    pub addresses: Vec<IpAddr>,
    /// The `nft` that would be run; none: not installed.
    pub nft: Option<NftVersion>,
    /// Whether we, and `nft` as our child, hold `CAP_NET_ADMIN`.
    pub net_admin: bool,
}

impl Facts {
    /// Reads the facts about this machine that a configuration asks for.
    ///
    /// # Errors
    ///
    /// The kernel or `nft` does not answer.
    pub async fn read(config: &CaptureConfig, kernel: &dyn Netfilter) -> Result<Self, NftError> {
        let failed = |action| move |source| NftError::Netlink { action, source };
        let mut links = Vec::new();
        for name in &config.interfaces {
            links.push((name.clone(), host::link(name).await.map_err(failed("show an interface"))?));
        }
        let nft = match kernel.version().await {
            Ok(version) => Some(version),
            Err(NftError::NotInstalled) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            links,
            bridge_filtering: host::bridge_filtering(),
            addresses: host::addresses().await.map_err(failed("list addresses"))?,
            nft,
            net_admin: host::may_administer_network(),
        })
    }
}

/// Decides the form.
///
/// # Errors
///
/// Whatever would make the ruleset miss packets, lose them, or not load; with `NftError::hint` for a cure.
pub fn choose(config: &CaptureConfig, facts: &Facts) -> Result<Form, NftError> {
    if let Some(objection) = objections(config, facts).into_iter().next() {
        return Err(objection);
    }
    Ok(suggested(config, facts))
}

/// Lists everything that speaks against capturing here, the gravest first.
pub fn objections(config: &CaptureConfig, facts: &Facts) -> Vec<NftError> {
    let mut found = Vec::new();
    found.extend(check_means(facts).err());
    found.extend(facts.links.iter().filter_map(|(name, link)| check_link(name, link.as_ref()).err()));
    if let DnsCapture::External(resolvers) = &config.dns {
        let elsewhere = resolvers.iter().filter(|resolver| !facts.addresses.contains(&resolver.ip()));
        found.extend(elsewhere.map(|&address| NftError::ResolverElsewhere { address }));
    }
    if let (FormChoice::Tproxy, Some(name), Some(switches)) =
        (config.form, bridge(facts), switches(facts.bridge_filtering))
    {
        found.push(NftError::TproxyOnBridge { name: name.to_owned(), switches });
    }
    found
}

/// The form that fits, if any does.
pub fn suggested(config: &CaptureConfig, facts: &Facts) -> Form {
    let filtered = bridge(facts).is_some() && switches(facts.bridge_filtering).is_some();
    match config.form {
        FormChoice::Redirect => Form::Redirect,
        FormChoice::Auto if filtered => Form::Redirect,
        FormChoice::Auto | FormChoice::Tproxy => Form::Tproxy,
    }
}

fn bridge(facts: &Facts) -> Option<&str> {
    let bridge = facts.links.iter().find(|(_, link)| link.as_ref().is_some_and(|link| link.bridge));
    bridge.map(|(name, _)| name.as_str())
}

fn check_means(facts: &Facts) -> Result<(), NftError> {
    let Some(nft) = &facts.nft else { return Err(NftError::NotInstalled) };
    if *nft < OLDEST {
        return Err(NftError::TooOld { found: nft.to_string(), needed: OLDEST_TEXT });
    }
    if facts.net_admin { Ok(()) } else { Err(NftError::NoPrivilege) }
}

fn check_link(name: &str, link: Option<&Link>) -> Result<(), NftError> {
    let name = name.to_owned();
    let Some(link) = link else { return Err(NftError::NoInterface { name }) };
    if link.name != name {
        return Err(NftError::OtherName { name, real: link.name.clone() });
    }
    match &link.controller {
        Some(controller) => Err(NftError::Port { name, controller: controller.clone() }),
        None => Ok(()),
    }
}

fn switches(filtering: BridgeFiltering) -> Option<String> {
    let ipv4 = filtering.ipv4.then_some("net.bridge.bridge-nf-call-iptables = 1");
    let ipv6 = filtering.ipv6.then_some("net.bridge.bridge-nf-call-ip6tables = 1");
    let on: Vec<&str> = ipv4.into_iter().chain(ipv6).collect();
    (!on.is_empty()).then(|| on.join(" and "))
}

/// The first that knows `socket wildcard` and table comments.
const OLDEST: NftVersion = NftVersion(1, 0, 0);

const OLDEST_TEXT: &str = "1.0.0";

#[cfg(test)]
mod tests {
    use super::super::plan::tests::config;
    use super::*;

    fn link(name: &str) -> (String, Option<Link>) {
        (name.to_owned(), Some(Link { name: name.to_owned(), bridge: false, controller: None }))
    }

    fn bridge(name: &str) -> (String, Option<Link>) {
        (name.to_owned(), Some(Link { name: name.to_owned(), bridge: true, controller: None }))
    }

    fn facts(links: Vec<(String, Option<Link>)>, ipv4: bool, ipv6: bool) -> Facts {
        Facts {
            links,
            bridge_filtering: BridgeFiltering { ipv4, ipv6 },
            addresses: vec!["172.18.0.1".parse().expect("address")],
            nft: Some(NftVersion(1, 0, 6)),
            net_admin: true,
        }
    }

    fn chosen(form: FormChoice, facts: &Facts) -> Result<Form, NftError> {
        let mut config = config(&["x"]);
        config.form = form;
        choose(&config, facts)
    }

    #[test]
    fn auto_takes_tproxy_unless_a_bridge_shows_its_frames_to_the_ip_hooks() {
        use Form::{Redirect, Tproxy};
        for (links, ipv4, ipv6, expected) in [
            (vec![link("eth1")], false, false, Tproxy),
            (vec![link("eth1")], true, true, Tproxy),
            (vec![bridge("br0")], false, false, Tproxy),
            (vec![bridge("br0")], true, false, Redirect),
            (vec![bridge("br0")], false, true, Redirect),
            (vec![link("eth1"), bridge("br0")], true, true, Redirect),
        ] {
            let facts = facts(links, ipv4, ipv6);
            assert_eq!(chosen(FormChoice::Auto, &facts).expect("form"), expected, "{facts:?}");
            assert_eq!(chosen(FormChoice::Redirect, &facts).expect("form"), Redirect);
        }
    }

    #[test]
    fn tproxy_on_such_a_bridge_is_refused_with_the_switch_to_turn() {
        for (ipv4, ipv6, cure) in [
            (true, false, "`sysctl -w net.bridge.bridge-nf-call-iptables=0`"),
            (false, true, "`sysctl -w net.bridge.bridge-nf-call-ip6tables=0`"),
            (
                true,
                true,
                "`sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`",
            ),
        ] {
            let error =
                chosen(FormChoice::Tproxy, &facts(vec![bridge("br0")], ipv4, ipv6)).expect_err("refused");
            assert!(matches!(&error, NftError::TproxyOnBridge { name, .. } if name == "br0"), "{error}");
            assert!(error.hint().expect("hint").contains(cure), "{:?}", error.hint());
        }
        assert_eq!(
            chosen(FormChoice::Tproxy, &facts(vec![bridge("br0")], false, false)).expect("form"),
            Form::Tproxy
        );
    }

    #[test]
    fn an_interface_that_would_match_no_packet_is_refused() {
        let absent = facts(vec![("x".to_owned(), None)], false, false);
        assert!(matches!(chosen(FormChoice::Auto, &absent), Err(NftError::NoInterface { .. })));

        let other = facts(vec![("x".to_owned(), link("eth0").1)], false, false);
        let error = chosen(FormChoice::Auto, &other).expect_err("refused");
        assert_eq!(error.hint().as_deref(), Some("write \"eth0\""));

        let mut port = facts(vec![link("x")], false, false);
        if let Some((_, Some(link))) = port.links.first_mut() {
            link.controller = Some("br0".to_owned());
        }
        let error = chosen(FormChoice::Redirect, &port).expect_err("refused");
        assert_eq!(error.hint().as_deref(), Some("capture \"br0\" instead"));
    }

    #[test]
    fn a_resolver_elsewhere_is_refused() {
        let facts = facts(vec![link("x")], false, false);
        let mut config = config(&["x"]);
        config.dns = DnsCapture::External(vec!["172.18.0.1:53".parse().expect("address")]);
        choose(&config, &facts).expect("an own address");
        config.dns = DnsCapture::External(vec!["9.9.9.9:53".parse().expect("address")]);
        assert!(matches!(choose(&config, &facts), Err(NftError::ResolverElsewhere { .. })));
    }

    #[test]
    fn without_nft_with_an_old_one_or_without_privilege_nothing_is_chosen() {
        let good = facts(vec![link("x")], false, false);
        let none = Facts { nft: None, ..good.clone() };
        let error = chosen(FormChoice::Auto, &none).expect_err("refused");
        assert!(error.hint().expect("hint").contains("apt install nftables"));
        let old = Facts { nft: Some(NftVersion(0, 9, 8)), ..good.clone() };
        let error = chosen(FormChoice::Auto, &old).expect_err("refused");
        assert_eq!(error.to_string(), "nft 0.9.8 is too old, 1.0.0 is the oldest that knows our rules");
        let plain = Facts { net_admin: false, ..good };
        assert!(matches!(chosen(FormChoice::Auto, &plain), Err(NftError::NoPrivilege)));
    }
}
