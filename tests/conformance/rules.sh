# Sourced by the filters that are proxies: clients reach what is redirected to them, and the resolver. All else is
# dropped, with or without a process that listens.
: "${CONFORMANCE_FOLDER:?is set by namegate conformance}"
family=
# shellcheck disable=SC2153
redirect() { # PORT=LISTENER...; $family says which packets, when not all
    nft -f - <<N
table inet conformance { }
delete table inet conformance
table inet conformance {
    chain capture {
        type nat hook prerouting priority dstnat; policy accept;
$(for pair; do echo "        iifname $CONFORMANCE_INSIDE $family tcp dport ${pair%=*} redirect to :${pair#*=}"; done)
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        iifname $CONFORMANCE_INSIDE ip daddr $CONFORMANCE_DNS udp dport 53 accept
        iifname $CONFORMANCE_INSIDE ip daddr $CONFORMANCE_DNS tcp dport 53 accept
        iifname $CONFORMANCE_OUTSIDE ct state established,related accept
    }
    chain input {
        type filter hook input priority filter; policy accept;
        iifname != $CONFORMANCE_INSIDE accept
        ct status dnat accept
        meta mark 1 accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        drop
    }
}
N
}
# The same for IPv6 by TPROXY, for proxies that cannot ask where a redirected connection went.
redirect6() {
    nft -f - <<N
table inet conformance {
    chain capture6 {
        type filter hook prerouting priority mangle; policy accept;
$(for pair; do echo "        iifname $CONFORMANCE_INSIDE meta nfproto ipv6 tcp dport ${pair%=*}" \
        "tproxy ip6 to :${pair#*=} meta mark set 1 accept"; done)
    }
}
N
    ip -6 rule add fwmark 1 lookup 100 2>/dev/null || :
    ip -6 route replace local ::/0 dev lo table 100
}
# Each name on a line.
printf '%s\n' $CONFORMANCE_NAMES >"$CONFORMANCE_FOLDER/names"
cat >"$CONFORMANCE_FOLDER/private" <<'N'
0.0.0.0/8
10.0.0.0/8
100.64.0.0/10
127.0.0.0/8
169.254.0.0/16
172.16.0.0/12
192.168.0.0/16
::/127
64:ff9b::/96
fc00::/7
fe80::/10
N
