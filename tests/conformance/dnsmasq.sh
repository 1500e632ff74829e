#!/bin/sh
# dnsmasq with nftables sets: it resolves the allowed names alone, and puts their addresses into sets; what is in a
# set is forwarded. The principle of on-his-name, and of resolvers with ipset or nftset in general: names are not read.
# `stop-dns-rebind` takes addresses for documentation for private ones: rules do what it would do elsewhere.
set -eu
: "${CONFORMANCE_FOLDER:?is set by namegate conformance}"
nft -f - <<N
table inet conformance { }
delete table inet conformance
table inet conformance {
    set web4 { type ipv4_addr; }
    set web6 { type ipv6_addr; }
    set mail4 { type ipv4_addr; }
    chain capture {
        type nat hook prerouting priority dstnat; policy accept;
        iifname $CONFORMANCE_INSIDE meta l4proto { tcp, udp } th dport 53 redirect to :53
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        iifname $CONFORMANCE_INSIDE ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 } drop
        iifname $CONFORMANCE_INSIDE ip6 daddr { ::/127, 64:ff9b::/96, fc00::/7, fe80::/10 } drop
        iifname $CONFORMANCE_INSIDE ip daddr @web4 tcp dport { 80, 443, 5432 } accept
        iifname $CONFORMANCE_INSIDE ip6 daddr @web6 tcp dport { 80, 443, 5432 } accept
        iifname $CONFORMANCE_INSIDE ip daddr @mail4 tcp dport 25 accept
        iifname $CONFORMANCE_OUTSIDE ct state established,related accept
    }
    chain input {
        type filter hook input priority filter; policy accept;
        iifname != $CONFORMANCE_INSIDE accept
        meta l4proto { tcp, udp } th dport 53 accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        drop
    }
}
N
conf=$CONFORMANCE_FOLDER/dnsmasq.conf
cat >"$conf" <<D
no-resolv
no-hosts
bind-interfaces
interface=$CONFORMANCE_INSIDE
user=root
pid-file=$CONFORMANCE_FOLDER/dnsmasq.pid
server=/$CONFORMANCE_MAIL/$CONFORMANCE_DNS
nftset=/$CONFORMANCE_MAIL/4#inet#conformance#mail4
D
for name in $CONFORMANCE_NAMES; do
    echo "server=/$name/$CONFORMANCE_DNS"
    echo "nftset=/$name/4#inet#conformance#web4,6#inet#conformance#web6"
done >>"$conf"
exec dnsmasq --keep-in-foreground --conf-file="$conf"
