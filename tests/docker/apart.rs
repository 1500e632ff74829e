//! `config/compose/network-each.yml` as it stands: a network for each set of rules.

use crate::project::{Project, forged};
use crate::world::alone;

#[test]
fn nobody_passes_for_a_service_of_another_network() {
    alone(|world| {
        let project = Project::up(world, "config/compose/network-each.yml", "apart");
        project.wait_for_gate("10.9.1.1");
        project.wait_for_gate("10.9.2.1");
        assert!(
            project.greets("shop", "https://example.com/")
                && project.greets("blog", "https://www.example.net/")
        );
        assert!(!project.greets("shop", "https://www.example.net/"));
        assert!(!project.greets("blog", "https://example.com/"));
        let address = |service: &str| {
            let line = format!(
                "docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {}",
                project.container(service)
            );
            world.must(&line).trim().to_owned()
        };
        let (shop, blog) = (address("shop"), address("blog"));
        assert!(shop.starts_with("10.9.1.") && blog.starts_with("10.9.2."), "{shop} {blog}");
        let arrived = world.far.all_connections();

        // Services of different networks do not reach each other, by the gate or past it.
        project.refused((&project.container("shop"), &shop), &format!("http://{blog}/"), "nameless");

        // What enters by one network with an address of the other is dropped unread: no line, no lease, no answer.
        world.must(
            "docker run -d --name raw --network apart_workloads-shop --ip 10.9.1.13 --dns 10.9.1.1 --cap-add NET_RAW \
             namegate-test-app /bin/sleep 600",
        );
        let seen = (project.events("dns").len(), project.events("decision").len());
        for line in [
            format!("attack query {blog} 8.8.8.8 www.example.net"),
            format!("attack query {blog} 10.9.1.1 www.example.net"),
            format!("attack syn {blog} 203.0.113.12 443"),
            format!("attack arp eth0 {blog}"),
            format!("attack syn {blog} 203.0.113.12 443"),
        ] {
            assert_eq!(world.inside("raw", &line).out, "sent\n", "{line}");
        }
        project.refused(("raw", "10.9.1.13"), &forged("www.example.net", "203.0.113.12"), "name_not_allowed");
        assert_eq!((project.events("dns").len(), project.events("decision").len() - 1), seen);
        assert_eq!(world.far.all_connections(), arrived);
        assert_eq!(world.strays(), []);
        world.tidy();
        project.compose("down -t 1");
    });
}
