# The host's way to the Internet, and what the Internet counts. The host is the namespace in which this runs.
ip link add wan type veth peer name eth0 netns far
ip addr add 192.0.2.1/24 dev wan
ip addr add 2001:db8:2::1/64 dev wan nodad
ip link set wan up
ip -n far addr add 192.0.2.2/24 dev eth0
ip -n far addr add 192.0.2.53/24 dev eth0
ip -n far addr add 2001:db8:2::2/64 dev eth0 nodad
ip -n far link set eth0 up
for last in 10 11 12 13 14 66; do
    ip -n far addr add 203.0.113.$last/32 dev lo
    ip -n far addr add 2001:db8:1::$last/128 dev lo nodad
done
ip route add default via 192.0.2.2
ip -6 route add default via 2001:db8:2::2
# The far side could answer the containers directly: only the gate keeps them apart.
ip -n far route add default via 192.0.2.1
ip -n far -6 route add default via 2001:db8:2::1
# Whatever the containers send: the gate dials allowed names, which are IPv4 here, on 80 and 443, and asks one server.
nsenter --net=/run/netns/far nft -f - <<'N'
table inet watch {
    counter workload_source { }
    counter forbidden_host { }
    counter ping { }
    counter datagram { }
    counter ipv6 { }
    chain see {
        type filter hook prerouting priority -500; policy accept;
        iifname "lo" accept
        ip saddr 10.9.0.0/24 counter name workload_source
        ip daddr 203.0.113.66 counter name forbidden_host
        icmp type echo-request counter name ping
        ip daddr != 192.0.2.53 meta l4proto udp counter name datagram
        ip6 daddr 2001:db8:1::/48 counter name ipv6
    }
}
N
