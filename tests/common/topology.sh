# The namespaces of the test world. Run inside a user, network and mount namespace of its own.
for n in c1 c2 gw web; do ip netns add $n; ip -n $n link set lo up; done
nsenter --net=/run/netns/gw sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
ip -n gw link add br-egress type bridge
ip -n gw addr add 10.77.0.1/24 dev br-egress
ip -n gw addr add 2001:db8:77::1/64 dev br-egress nodad
ip -n gw link set br-egress up
i=2
for c in c1 c2; do
    ip -n gw link add v$c type veth peer name eth0 netns $c
    ip -n gw link set v$c master br-egress up
    ip -n $c addr add 10.77.0.$i/24 dev eth0
    ip -n $c addr add 2001:db8:77::$i/64 dev eth0 nodad
    ip -n $c link set eth0 up
    ip -n $c route add default via 10.77.0.1
    ip -n $c -6 route add default via 2001:db8:77::1
    i=$((i + 1))
done
ip -n gw link add wan type veth peer name eth0 netns web
ip -n gw addr add 192.0.2.1/24 dev wan
ip -n gw addr add 2001:db8:2::1/64 dev wan nodad
ip -n gw link set wan up
ip -n web addr add 192.0.2.2/24 dev eth0
ip -n web addr add 192.0.2.53/24 dev eth0
ip -n web addr add 2001:db8:2::2/64 dev eth0 nodad
ip -n web link set eth0 up
for last in 10 11 12 13 14 66; do
    ip -n web addr add 203.0.113.$last/32 dev lo
    ip -n web addr add 2001:db8:1::$last/128 dev lo nodad
done
ip -n web addr add 10.99.0.5/32 dev lo
ip -n gw route add 203.0.113.0/24 via 192.0.2.2
ip -n gw route add 10.99.0.0/24 via 192.0.2.2
ip -n gw -6 route add default via 2001:db8:2::2
# The far side could answer the clients directly: only the gate keeps them apart.
ip -n web route add default via 192.0.2.1
ip -n web -6 route add default via 2001:db8:2::1
nsenter --net=/run/netns/web nft -f - <<'N'
table inet watch {
    counter leak4 { }
    counter leak6 { }
    chain see {
        type filter hook prerouting priority -500; policy accept;
        ip saddr 10.77.0.0/24 counter name leak4
        ip6 saddr 2001:db8:77::/64 counter name leak6
    }
}
N
