//! The ruleset of a sandbox's own network namespace: `lo` alone, every address at home on it.
//!
//! Every TCP connection is diverted to two transparent listeners, questions go to sockets on port 53 of every address,
//! the sandbox's own localhost is left alone, and what is neither is refused at once. Nothing could leave without it:
//! it brings connections to the gate, it does not keep them in. The namespace is new, so no earlier table is replaced:
//! `nft` would wait 10 ms for the old one's memory. Pure text.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Writes the ruleset for `nft -f -`. `port` is that of the listeners on `127.0.0.1` and `::1`; `home` are the
/// addresses of `lo` besides these.
pub fn inside(port: u16, home: (Ipv4Addr, Ipv6Addr), ipv6: bool) -> String {
    let (four, six) = home;
    let own_six = format!("\t\tip6 daddr {{ ::1, {six} }} accept\n");
    let own = format!("\t\tip daddr {{ 127.0.0.0/8, {four} }} accept\n{own_six}");
    let divert_six = if ipv6 {
        format!("\t\tmeta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port} accept\n")
    } else {
        String::new()
    };
    format!(
        "table inet namegate {{
\tchain arriving {{
\t\ttype filter hook prerouting priority mangle; policy drop;
\t\tmeta l4proto {{ tcp, udp }} th dport 53 accept
{own}\t\tmeta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port} accept
{divert_six}\t\tmeta l4proto tcp reject with tcp reset
\t}}
\tchain leaving {{
\t\ttype filter hook output priority filter; policy drop;
\t\toifname != \"lo\" drop
\t\ttcp dport {port} ip daddr 127.0.0.0/8 reject with tcp reset
\t\ttcp dport {port} ip6 daddr ::1 reject with tcp reset
{own}\t\tmeta l4proto tcp accept
\t\tudp dport 53 accept
\t\tudp sport 53 accept
\t\treject with icmpx admin-prohibited
\t}}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ruleset_of_a_sandbox_catches_tcp_and_refuses_what_is_neither_tcp_nor_dns() {
        let home = (Ipv4Addr::new(198, 18, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0x6e67, 0, 0, 0, 0, 1));
        insta::assert_snapshot!(inside(15_001, home, true));
    }
}
