//! `docker-compose.yml` as it stands: the gate as the default gateway of a network, two services with different rules.

use std::time::Duration;

use crate::common::world::wait_until;
use crate::project::{Project, forged};
use crate::world::{World, alone};

const GATEWAY: &str = "10.9.0.1";
const SHOP: &str = "10.9.0.11";
const BLOG: &str = "10.9.0.12";
const RAW: &str = "10.9.0.13";

/// The services of the Compose file at the top, up.
fn up(world: &World) -> Project<'_> {
    let project = Project::up(world, "docker-compose.yml", "namegate");
    project.wait_for_gate(GATEWAY);
    project
}

/// Another container on the network, that may send raw packets.
fn add_raw(world: &World) {
    world.must(&format!(
        "docker run -d --name raw --network namegate_workloads --ip {RAW} --dns {GATEWAY} --cap-add NET_RAW \
         namegate-test-app /bin/sleep 600"
    ));
}

/// A container of the network and its address.
fn client(name: &str) -> (&'static str, &'static str) {
    match name {
        "shop" => ("namegate_shop_1", SHOP),
        "blog" => ("namegate_blog_1", BLOG),
        _ => ("raw", RAW),
    }
}

/// The link-layer address of the host's side of the network.
fn bridge(world: &World) -> String {
    let link = world.must("ip -o link show namegate0");
    link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("an address").to_owned()
}

#[test]
fn each_service_reaches_what_its_own_rules_allow() {
    alone(|world| {
        let project = up(world);
        for (url, server) in [
            ("https://example.com/", "203.0.113.10"),
            ("http://example.com/", "203.0.113.10"),
            ("https://www.example.com/", "203.0.113.11"),
        ] {
            let lines = project.told("decision", || {
                let run = project.run("shop", &format!("curl -sS --max-time 8 {url}"));
                assert!(run.greeted() && run.out.contains(server), "{url}: {run:?}");
            });
            assert_eq!(
                (&lines[0]["event"]["reason"], &lines[0]["source"]["ip"]),
                (&"allowed".into(), &SHOP.into())
            );
            assert_eq!(lines[0]["rule"]["id"], "shop");
            assert_eq!(lines[0]["destination"]["ip"], server);
        }
        let lines = project.told("decision", || {
            assert!(project.run("blog", "curl -sS --max-time 8 https://www.example.net/").greeted());
        });
        assert_eq!((&lines[0]["rule"]["id"], &lines[0]["source"]["ip"]), (&"blog".into(), &BLOG.into()));

        // The other one's names are no names here: not in DNS, nor at their address.
        for (service, name, address) in
            [("shop", "www.example.net", "203.0.113.12"), ("blog", "example.com", "203.0.113.10")]
        {
            let lines = project.told("dns", || {
                let run =
                    world.inside(&format!("namegate_{service}_1"), &format!("curl -sS https://{name}/"));
                assert_eq!(run.code, 6, "{run:?}");
            });
            assert!(lines.iter().all(|line| line["event"]["reason"] == "name_not_allowed"), "{lines:?}");
            project.refused(client(service), &forged(name, address), "name_not_allowed");
        }
        project.refused(client("blog"), "http://www.example.net/", "port_not_allowed");
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn docker_is_told_how_the_gate_is() {
    alone(|world| {
        up(world);
        wait_until("the gate is healthy", Duration::from_secs(20), || {
            let health = world.must("docker inspect -f '{{.State.Health.Status}}' namegate_gateway_1");
            assert_ne!(health.trim(), "unhealthy");
            health.trim() == "healthy"
        });
        let status = world.must("docker exec namegate_gateway_1 /namegate status");
        assert!(!status.is_empty());
    });
}

#[test]
fn every_bypass_from_inside_a_service_dies_with_its_reason() {
    alone(|world| {
        let project = up(world);
        assert!(project.run("shop", "curl -sS https://example.com/").greeted());
        assert!(project.run("blog", "curl -sS https://www.example.net/").greeted());
        let arrived = world.far.all_connections();
        let outside =
            world.must("docker network inspect -f '{{(index .IPAM.Config 0).Gateway}}' namegate_outside");
        for (args, reason) in [
            // An address that nobody told it, and one that it was told, without a name.
            ("-k https://203.0.113.66/".to_owned(), "nameless"),
            ("-k https://203.0.113.10/".to_owned(), "nameless"),
            ("http://203.0.113.66:8080/".to_owned(), "nameless"),
            // A name that is allowed, at other addresses.
            (forged("example.com", "203.0.113.66"), "address_not_observed"),
            ("-H 'Host: example.com' http://203.0.113.66/".to_owned(), "address_not_observed"),
            // What the other service resolved.
            (forged("example.com", "203.0.113.12"), "address_not_observed"),
            (forged("www.example.net", "203.0.113.12"), "name_not_allowed"),
            // DNS over TLS and over HTTPS meet the same rules.
            (
                "--resolve example.com:853:203.0.113.10 https://example.com:853/".to_owned(),
                "port_not_allowed",
            ),
            (forged("dns.example.org", "203.0.113.10"), "name_not_allowed"),
            // The host, by its address on the gate's other network, and what clouds have there.
            (format!("http://{}/", outside.trim()), "nameless"),
            (
                format!("--resolve www.example.com:80:{} http://www.example.com/", outside.trim()),
                "private_address",
            ),
            (
                "--resolve www.example.com:80:169.254.169.254 http://www.example.com/".to_owned(),
                "private_address",
            ),
        ] {
            project.refused(client("shop"), &args, reason);
        }
        let lines = project.told("decision", || {
            let run = project.run("shop", "printf 'SSH-2.0-x\\r\\n' | nc -w 3 203.0.113.66 22");
            assert_eq!(run.out, "", "{run:?}");
        });
        assert_eq!(lines[0]["event"]["reason"], "nameless");
        assert_eq!(world.far.all_connections(), arrived, "no byte of a denied flow leaves");
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn what_is_no_connection_and_no_question_goes_nowhere() {
    alone(|world| {
        let project = up(world);
        let arrived = world.far.all_connections();
        // `dig` sends a datagram to whatever port.
        for (server, port) in
            [("203.0.113.10", 443), ("203.0.113.66", 443), ("203.0.113.66", 123), ("203.0.113.66", 9999)]
        {
            let run = project.run("shop", &format!("dig @{server} -p {port} +tries=1 +time=1 example.com"));
            assert!(
                run.code == 9 && run.out.contains("no servers could be reached"),
                "{server}:{port}: {run:?}"
            );
        }
        // A ping needs CAP_NET_RAW.
        add_raw(world);
        let ping = world.inside("raw", "ping -c 2 -W 1 203.0.113.10");
        assert!(ping.out.contains("2 packets transmitted, 0 packets received"), "{ping:?}");
        let refused = project.gateway("nft list chain inet namegate refuse").out;
        let counted =
            |rule: &str| refused.lines().any(|line| line.contains(rule) && !line.contains("packets 0 "));
        assert!(counted("udp dport 443") && counted("limit rate"), "they came as far as the gate: {refused}");
        for line in [
            "curl -sS --max-time 3 -g -k 'https://[2001:db8:1::10]/'",
            "dig @2001:db8:1::10 +tries=1 +time=1 example.com",
            "attack syn 10.9.0.11 203.0.113.66 80",
        ] {
            let run = project.run("shop", line);
            assert!(run.code != 0 && !run.out.contains("status:"), "{line}: {run:?}");
        }
        // There is no IPv6 that could be left open, and no way to have it.
        assert_eq!(
            project.run("shop", "cat /proc/sys/net/ipv6/conf/*/disable_ipv6 | grep -vc 1").out.trim(),
            "0"
        );
        assert_eq!(project.run("shop", "ip -6 address; ip -6 route").out, "");
        let switch = project.run("shop", "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
        assert!(switch.code != 0 && switch.err.contains("Read-only"), "{switch:?}");
        let route = project.run("shop", "ip route replace default via 10.9.0.12");
        assert!(route.code != 0 && route.err.contains("not permitted"), "{route:?}");

        // The gate itself, by each of its addresses.
        let outside = world.must(
            "docker inspect -f '{{(index .NetworkSettings.Networks \"namegate_outside\").IPAddress}}' namegate_gateway_1",
        );
        for address in ["10.9.0.1", "10.9.0.254", outside.trim()] {
            for port in [22, 80, 9053, 15001, 15353] {
                let run = project.run("shop", &format!("curl -sS --max-time 3 http://{address}:{port}/"));
                assert_eq!(run.code, 7, "refused at once: {address}:{port}: {run:?}");
            }
            let run = project.run("shop", &format!("dig @{address} -p 15353 +tries=1 +time=1 example.com"));
            assert_ne!(run.code, 0, "{run:?}");
        }
        assert_eq!(world.far.all_connections(), arrived);
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn every_question_is_answered_by_the_gate_whatever_server_it_goes_to() {
    alone(|world| {
        let project = up(world);
        // By way of Docker's own resolver: the service's address survives.
        let lines = project.told("dns", || {
            let run = project.run("shop", "dig +tries=1 +time=3 www.example.net");
            assert!(run.out.contains("status: REFUSED"), "{run:?}");
            assert!(run.out.contains("EDE: 15 (Blocked): (name_not_allowed: www.example.net)"), "{run:?}");
        });
        assert_eq!(
            (&lines[0]["source"]["ip"], &lines[0]["destination"]["ip"]),
            (&SHOP.into(), &"10.9.0.1".into())
        );

        // Straight to any server: UDP, TCP, known and unknown ones, and the gate's own addresses.
        for server in ["8.8.8.8", "8.8.8.8 +tcp", "203.0.113.66", "192.0.2.53", "10.9.0.254", "10.9.0.1 +tcp"]
        {
            let ask = |name: &str, kind: &str| {
                project.run("shop", &format!("dig +tries=1 +time=3 @{server} {name} {kind}")).out
            };
            assert!(ask("example.com", "A").contains("203.0.113.10"), "{server}");
            assert!(ask("x.evil.example.org", "A").contains("REFUSED"), "{server}");
            assert!(ask("example.com", "TXT").contains("REFUSED"), "{server}");
        }
        assert!(!world.far.was_asked("evil.example.org"), "a denied name never travels");
        assert!(
            !world.far.seen.lock().questions.iter().any(|(_, kind)| *kind == 16),
            "nor does a denied type"
        );

        // Other services are Docker's to know, and on the same link.
        assert!(project.run("shop", "nslookup blog").out.contains(BLOG));
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn the_services_and_the_gate_have_the_rights_they_need_and_no_other() {
    alone(|world| {
        let project = up(world);
        let raw = project.run("shop", &format!("attack syn {BLOG} 203.0.113.66 80"));
        assert!(raw.code != 0 && raw.err.contains("not permitted"), "{raw:?}");
        let pid = world.must("docker inspect -f '{{.State.Pid}}' namegate_gateway_1");
        let status = world.must(&format!("cat /proc/{}/status", pid.trim()));
        for line in [
            // CAP_NET_ADMIN is number 12.
            "CapPrm:\t0000000000001000",
            "CapEff:\t0000000000001000",
            "CapBnd:\t0000000000001000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{line}\n{status}");
        }
        let root = world
            .must(&format!("grep ' / / ' /proc/{}/mountinfo || grep ' / ' /proc/{0}/mountinfo", pid.trim()));
        assert!(root.lines().next().is_some_and(|line| line.contains(" ro,")), "{root}");

        // Nothing to live off: the program, `nft`, and the libraries of both.
        let files = world.must(
            "id=$(docker create namegate-test); docker export $id | tar -t | grep -v /$; docker rm $id >/dev/null",
        );
        let own =
            |file: &&str| !file.contains("/lib") && !file.starts_with("lib") && !file.starts_with("usr/lib");
        let mut programs: Vec<&str> = files.lines().filter(own).collect();
        // What Docker puts into every container.
        programs
            .retain(|file| !file.starts_with("etc/") && !file.starts_with("dev/") && *file != ".dockerenv");
        programs.sort_unstable();
        assert_eq!(programs, ["namegate", "usr/sbin/nft"], "{files}");
    });
}

#[test]
fn a_container_that_may_send_raw_packets_gets_nothing_by_its_neighbours_address() {
    alone(|world| {
        let project = up(world);
        add_raw(world);
        assert!(project.run("shop", "curl -sS https://example.com/").greeted());
        let decisions = project.events("decision").len();
        let arrived = world.far.all_connections();
        // Answers to a forged source go to its owner, who knows of nothing: no connection comes about.
        let mut forgeries = String::new();
        for source in [SHOP, BLOG, GATEWAY, "10.9.0.254", "172.18.0.9", "203.0.113.66", "127.0.0.1"] {
            for target in ["203.0.113.10 443", "203.0.113.66 80", "10.9.0.1 15001", "10.9.0.254 15001"] {
                forgeries.push_str(&format!("attack syn {source} {target}; "));
            }
        }
        let run = world.inside("raw", &forgeries);
        assert_eq!(run.out, "sent\n".repeat(28), "{run:?}");
        // A question in the neighbour's name gives the neighbour a lease, and nobody else.
        let lines = project.told("dns", || {
            world.inside("raw", &format!("attack query {SHOP} 8.8.8.8 www.example.com"));
        });
        assert_eq!(
            (&lines[0]["source"]["ip"], &lines[0]["event"]["reason"]),
            (&SHOP.into(), &"allowed".into())
        );
        assert_eq!(project.events("decision").len(), decisions, "no flow came about");
        project.refused(client("raw"), &forged("www.example.com", "203.0.113.11"), "name_not_allowed");
        project.refused(client("raw"), "-k https://203.0.113.11/", "nameless");
        assert_eq!(world.far.all_connections(), arrived);
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn a_frame_past_the_gate_is_routed_by_the_host_unless_the_host_is_told_not_to() {
    alone(|world| {
        let project = up(world);
        add_raw(world);
        let frame = format!("attack frame eth0 {} {RAW} 203.0.113.66 9999", bridge(world));
        // Who may not send raw packets cannot choose where a frame goes.
        let run = project.run("shop", &frame);
        assert!(run.code != 0 && run.err.contains("not permitted"), "{run:?}");
        assert_eq!(world.strays(), []);
        let rule = "DOCKER-USER -i namegate0 ! -o namegate0 -j DROP";
        world.must(&format!("iptables -I {rule}"));
        assert_eq!(world.inside("raw", &frame).out, "sent\n");
        world.must("iptables -L DOCKER-USER -vn | grep -E ' 1 +[0-9]+ DROP'");
        assert_eq!(world.strays(), [], "with the rule on the host");
        assert!(
            project.run("shop", "curl -sS https://example.com/").greeted(),
            "the gate's clients do not meet it"
        );
        // Without it one packet leaves, and no answer finds back: docs/gaps.md.
        world.must(&format!("iptables -D {rule}"));
        assert_eq!(world.inside("raw", &frame).out, "sent\n");
        wait_until("the stray packet", Duration::from_secs(3), || !world.strays().is_empty());
    });
}

#[test]
fn rules_that_are_flushed_come_back_and_nothing_leaks_meanwhile() {
    alone(|world| {
        let project = up(world);
        assert!(project.run("shop", "curl -sS https://example.com/").greeted());
        let seen = project.events("ruleset").len();
        let arrived = world.far.connections("203.0.113.66:443") + world.far.connections("203.0.113.66:80");
        project.gateway("nft flush ruleset");
        let traffic = "for i in 1 2 3 4 5 6; do curl -sk --max-time 1 https://203.0.113.66/; \
                       curl -s --max-time 1 http://203.0.113.66/; echo x | nc -u -w 1 203.0.113.66 9999; done";
        let run = project.run("shop", traffic);
        assert!(!run.out.contains("hello"), "{run:?}");
        wait_until("the rules are back", Duration::from_secs(10), || {
            project.events("ruleset").len() >= seen + 2
        });
        let told = project.events("ruleset");
        assert_eq!(told[seen]["event"]["reason"], "missing", "{}", told[seen]);
        assert_eq!(told[seen + 1]["event"]["reason"], "installed", "{}", told[seen + 1]);
        let again =
            project.run("shop", &format!("curl -sS --max-time 5 {}", forged("example.com", "203.0.113.10")));
        assert!(again.greeted(), "what was resolved is still known: {again:?}");
        project.refused(client("shop"), &forged("example.com", "203.0.113.66"), "address_not_observed");
        assert_eq!(
            world.far.connections("203.0.113.66:443") + world.far.connections("203.0.113.66:80"),
            arrived
        );
        assert_eq!(world.strays(), []);
        // The flush took Docker's own rules in that namespace as well, by which the gate reaches Docker's resolver.
        world.must("docker restart -t 5 namegate_gateway_1");
        project.wait_for_gate(GATEWAY);
        assert!(project.run("shop", "curl -sS --max-time 8 https://example.com/").greeted());
    });
}

#[test]
fn services_of_a_killed_gate_reach_nothing_until_it_runs_again() {
    alone(|world| {
        let project = up(world);
        assert!(project.run("shop", "curl -sS https://example.com/").greeted());
        let arrived = world.far.all_connections();
        world.must("docker kill namegate_gateway_1");
        for args in [
            "https://example.com/",
            "--resolve example.com:443:203.0.113.10 https://example.com/",
            "-k https://203.0.113.66/",
            "http://203.0.113.66/",
        ] {
            let run = project.run("shop", &format!("curl -sS --max-time 1 {args}"));
            assert_ne!(run.code, 0, "{args}: {run:?}");
        }
        assert_ne!(project.run("shop", "dig +tries=1 +time=1 @8.8.8.8 example.com").code, 0);
        assert_eq!(world.far.all_connections(), arrived);
        assert_eq!(world.strays(), []);
        project.compose("up -d");
        project.wait_for_gate(GATEWAY);
        assert!(project.run("shop", "curl -sS --max-time 8 https://example.com/").greeted());
        project.refused(client("shop"), &forged("example.com", "203.0.113.66"), "address_not_observed");
    });
}

#[test]
fn a_published_port_of_a_service_leads_nowhere() {
    alone(|world| {
        up(world);
        world.must(&format!(
            "docker run -d --name published --network namegate_workloads --ip {RAW} -p 8080:80 namegate-test-app \
             /bin/sh -c 'while :; do echo hello from inside | nc -l -p 80; done'"
        ));
        let run = world.host(["curl", "-sS", "--max-time", "2", "http://127.0.0.1:8080/"]);
        assert!(!run.out.contains("hello"), "{run:?}");
    });
}

#[test]
fn a_network_that_cannot_be_guarded_is_refused_with_the_way_out() {
    alone(|world| {
        world.must(
            "docker network create --subnet 10.7.0.0/24 zone >/dev/null
             docker network create able >/dev/null
             mkdir -p /run/world/refused
             printf '[capture]\\ngateways = [\"10.7.0.1/24\"]\\n' >/run/world/refused/namegate.toml",
        );
        let create = "docker create --network zone --ip 10.7.0.254 --cap-drop ALL --cap-add NET_ADMIN \
                      -v /run/world/refused:/etc/namegate:ro namegate-test";
        // One network: its default route leads to the address that is to be its own.
        let run = world.host(["sh", "-c", &format!("docker start -a $({create})")]);
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.err.contains("default route of this host leads to 10.7.0.1"), "{run:?}");
        // Two, and the host's bridge has the address.
        let line = format!("id=$({create}); docker network connect able $id; docker start -a $id");
        let run = world.host(["sh", "-c", &line]);
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.err.contains("another host on eth") && run.err.contains("inhibit_ipv4"), "{run:?}");
        // None at all.
        let run = world.host([
            "sh",
            "-c",
            "docker run --rm --network able --cap-add NET_ADMIN -v /run/world/refused:/etc/namegate:ro namegate-test",
        ]);
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.err.contains("no interface has an address in 10.7.0.0/24"), "{run:?}");
        world.must("docker container prune -f; docker network rm zone able");
    });
}

#[test]
fn down_leaves_nothing_behind_and_up_works_again() {
    alone(|world| {
        let project = up(world);
        project.compose("down -t 1");
        assert_eq!(world.must("docker ps -aq"), "");
        assert!(!world.must("docker network ls").contains("namegate"));
        assert!(!world.must("nft list tables").contains("namegate"), "the host's rules are the host's");
        assert!(
            !world.must("ip rule; ip -6 rule; ip address").contains("proto"),
            "as are its routes and addresses"
        );
        let project = up(world);
        let names = project.compose("ps --services");
        let mut names: Vec<&str> = names.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["blog", "gateway", "shop"]);
        assert!(project.run("shop", "curl -sS --max-time 8 https://example.com/").greeted());
    });
}
