//! Other people's tables, as far as they can take from our listeners what was redirected to them.
//!
//! Must not know our own rules.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Code, Finding};
use crate::nft::{BaseChain, Mention};
use crate::settings::{Settings, TABLE};

use super::rules::proxy_port;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    // What hinders looking at our own table hinders looking at others, and has been told of.
    // What processes of this host send comes by way of `lo`, which every firewall lets in.
    let forwarded = !settings.capture.interfaces.is_empty();
    for chain in facts.chains.iter().flatten().filter(|chain| forwarded && drops_input(chain)) {
        let subject = format!("{} {} {}", chain.family, chain.table, chain.name);
        let port = proxy_port(settings);
        let (code, what) = match chain.mention {
            Mention::Yes => continue,
            Mention::No => (
                Code::InputDropped,
                format!(
                    "chain {subject} drops what it does not know, and no rule of its table names port {port}"
                ),
            ),
            Mention::Unclear => (
                Code::InputMayDrop,
                format!(
                    "chain {subject} drops what it does not know, and its rules cannot be read for port {port}"
                ),
            ),
        };
        found.push(Finding::new(code, subject, what, fix(settings, chain)));
    }
    if let Ok(true) = facts.legacy_tables {
        let fix = "iptables-legacy -S INPUT; iptables-legacy -t nat -S PREROUTING: look for DROP and for port redirections";
        found.push(Finding::new(Code::LegacyTables, "iptables-legacy", "its tables are loaded", fix));
    }
}

fn drops_input(chain: &BaseChain) -> bool {
    let ours = chain.table == TABLE && chain.family == "inet";
    let of_ip = matches!(chain.family.as_str(), "inet" | "ip" | "ip6");
    chain.drops && chain.hook == "input" && of_ip && !ours
}

/// Who made the table tells how its rules are kept.
fn fix(settings: &Settings, chain: &BaseChain) -> String {
    let (proxy, dns) = (settings.capture.proxy_port, settings.capture.dns_port);
    let interfaces = &settings.capture.interfaces;
    let each = |spell: &dyn Fn(&str) -> String| {
        interfaces.iter().map(|name| spell(name)).collect::<Vec<_>>().join("; ")
    };
    match chain.table.as_str() {
        "firewalld" => each(&|name| {
            format!("firewall-cmd --permanent --zone=trusted --add-interface={name} && firewall-cmd --reload")
        }),
        "filter" if chain.name == "INPUT" => {
            let tool = if chain.family == "ip6" { "ip6tables" } else { "iptables" };
            each(&|name| {
                format!(
                    "with ufw: `ufw allow in on {name}`; else {tool} -I INPUT -i {name} -m conntrack --ctstate DNAT -j ACCEPT"
                )
            })
        }
        _ => each(&|name| {
            format!(
                "nft insert rule {} {} {} iifname \"{name}\" meta l4proto {{ tcp, udp }} th dport {{ {proxy}, {dns} }} accept",
                chain.family, chain.table, chain.name
            )
        }),
    }
}
