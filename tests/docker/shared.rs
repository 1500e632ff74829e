//! `config/compose/shared-namespace.yml` as it stands: the gate in the network namespace of what it guards.

use std::time::Duration;

use crate::common::world::wait_until;
use crate::project::{Project, forged};
use crate::world::alone;

#[test]
fn a_service_in_the_gates_own_namespace_reaches_what_the_rules_allow() {
    alone(|world| {
        let project = Project::up(world, "config/compose/shared-namespace.yml", "shared");
        let status = project.run("shop", "cat /proc/self/status").out;
        for line in ["Uid:\t1000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
        {
            assert!(status.contains(line), "the namespace is shared, the rights are not: {status}");
        }
        let lines = project.told("decision", || assert!(project.greets("shop", "https://example.com/")));
        assert_eq!(
            (&lines[0]["event"]["reason"], &lines[0]["rule"]["id"]),
            (&"allowed".into(), &"shop".into())
        );
        assert_eq!(lines[0]["user"]["id"], "1000");
        assert!(project.greets("shop", "http://www.example.com/"));
        let arrived = world.far.all_connections();

        for (args, reason) in [
            ("-k https://203.0.113.66/".to_owned(), "nameless"),
            ("-k https://203.0.113.10/".to_owned(), "nameless"),
            (forged("example.com", "203.0.113.66"), "address_not_observed"),
            (forged("www.example.net", "203.0.113.12"), "name_not_allowed"),
            (
                "--resolve example.com:853:203.0.113.10 https://example.com:853/".to_owned(),
                "port_not_allowed",
            ),
        ] {
            let lines = project.told("decision", || {
                assert!(!project.greets("shop", &args), "{args}");
            });
            assert_eq!(lines[0]["event"]["reason"], reason, "{args}: {}", lines[0]);
        }
        for server in ["127.0.0.11", "8.8.8.8", "8.8.8.8 +tcp"] {
            let ask = |name: &str| project.run("shop", &format!("dig +tries=1 +time=3 @{server} {name}")).out;
            assert!(ask("example.com").contains("203.0.113.10"), "{server}");
            assert!(ask("www.example.net").contains("REFUSED"), "{server}");
        }
        // Docker's own resolver, which asks as root, at the ports where it waits for what is led there.
        for (list, transport) in [("udp", "+notcp"), ("tcp", "+tcp")] {
            let list = project.run("shop", &format!("cat /proc/net/{list}")).out;
            let mut places = list.lines().filter_map(|line| line.split_whitespace().nth(1));
            let port = places.find_map(|place| place.strip_prefix("0B00007F:")).expect("Docker's resolver");
            let port = u16::from_str_radix(port, 16).expect("a port");
            let dig = format!("dig @127.0.0.11 -p {port} {transport} +tries=1 +time=1 example.com");
            let run = project.run("shop", &dig);
            assert!(run.code != 0 && !run.out.contains("203.0.113.10"), "{run:?}");
        }
        for port in [443, 9999] {
            let run =
                project.run("shop", &format!("dig @203.0.113.66 -p {port} +tries=1 +time=1 example.com"));
            assert_eq!(run.code, 9, "{run:?}");
        }
        for line in [
            "curl -sS --max-time 3 -g 'http://[2001:db8:1::10]/'",
            "attack syn 172.18.0.9 203.0.113.66 80",
            "curl -sS --max-time 3 http://127.0.0.1:15001/",
        ] {
            assert_ne!(project.run("shop", line).code, 0, "{line}");
        }
        assert_eq!(world.far.all_connections(), arrived, "no byte of a denied flow leaves");
        assert_eq!(world.strays(), []);

        // With the gate gone the service has no link, and gets none back before it is restarted.
        world.must("docker kill shared_gateway_1");
        for args in ["https://example.com/".to_owned(), forged("example.com", "203.0.113.10")] {
            assert!(!project.greets("shop", &args), "{args}");
        }
        project.compose("up -d");
        assert!(!project.greets("shop", "https://example.com/"));
        assert_eq!(world.far.all_connections(), arrived);
        wait_until("the gate is healthy", Duration::from_secs(20), || {
            world.must("docker ps --format '{{.Names}} {{.Status}}'").contains("(healthy)")
        });
        project.compose("restart -t 1 shop");
        assert!(project.greets("shop", "https://example.com/"));
        project.compose("down -t 1");
        assert_eq!(world.strays(), []);
    });
}
