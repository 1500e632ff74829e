# Clients, gateway and Internet, in network namespaces of one mount, process and network namespace: the caller's own
# network is the Internet. Nothing filters, nothing translates: every client reaches everything by plain routing.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/netns /run/conformance
ip link set lo up
for n in gateway switch a b; do ip netns add $n; ip -n $n link set lo up; done
in_gateway() { nsenter --net=/run/netns/gateway "$@"; }
in_gateway sh -c 'cd /proc/sys/net; echo 1 >ipv4/ip_forward
    for key in ipv6/conf/all/forwarding ipv6/conf/all/accept_dad ipv6/conf/default/accept_dad; do
        case $key in *forwarding) echo 1 >$key ;; *) echo 0 >$key ;; esac
    done'
# The bridge stands by itself: what the machine's bridges do with packets (br_netfilter) is no matter of the gateway's.
ip -n switch link add bridge type bridge
ip -n switch link set bridge up
ip -n switch link add uplink type veth peer name inside netns gateway
ip -n switch link set uplink master bridge up
ip -n gateway addr add 10.77.0.1/24 dev inside
ip -n gateway addr add 2001:db8:77::1/64 dev inside nodad
ip -n gateway link set inside up
last=2
for c in a b; do
    ip -n switch link add port-$c type veth peer name eth0 netns $c
    ip -n switch link set port-$c master bridge up
    ip -n $c addr add 10.77.0.$last/24 dev eth0
    ip -n $c addr add 2001:db8:77::$last/64 dev eth0 nodad
    ip -n $c link set eth0 up
    ip -n $c route add default via 10.77.0.1
    ip -n $c -6 route add default via 2001:db8:77::1
    last=$((last + 1))
done
ip link add internet type veth peer name outside netns gateway
ip -n gateway addr add 192.0.2.1/24 dev outside
ip -n gateway addr add 2001:db8:2::1/64 dev outside nodad
ip -n gateway link set outside up
ip addr add 192.0.2.2/24 dev internet
ip addr add 192.0.2.53/24 dev internet
ip addr add 2001:db8:2::2/64 dev internet nodad
ip link set internet up
# Every address of the world is at home here, the private ones among them.
for net in 203.0.113.0/24 10.99.0.0/24 169.254.169.254/32; do ip route add local $net dev lo; done
for net in 2001:db8:1::/64 64:ff9b::/96 fd00:ec2::/64; do ip -6 route add local $net dev lo; done
ip -n gateway route add default via 192.0.2.2
ip -n gateway -6 route add default via 2001:db8:2::2
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8:2::1
