//! The Docker room against a real daemon: what is started, stopped, renamed, moved and killed shows in the picture.
//!
//! Each test starts a daemon of its own; see `common/dockerd.rs` for what that takes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::dockerd::{Dockerd, IMAGE};
use namegate::docker::{Bridge, Docker, DockerConfig, DockerError, NetworkState, Picture, View};
use namegate::facts::Container;
use tokio_util::sync::CancellationToken;

fn docker(daemon: &Dockerd, networks: &[&str]) -> Docker {
    let networks = networks.iter().map(|&name| name.to_owned()).collect();
    Docker::new(DockerConfig { socket: daemon.socket(), networks })
}

/// A follower on a runtime of its own, so that a test may block.
struct Followed {
    view: View,
    cancel: CancellationToken,
    runtime: tokio::runtime::Runtime,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Followed {
    fn new(docker: Docker) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (follower, view) = docker.follower();
        let cancel = CancellationToken::new();
        let task = runtime.spawn(follower.run(cancel.clone()));
        Self { view, cancel, runtime, task: Some(task) }
    }

    /// Waits for a picture of which this holds, and returns it.
    fn until(&self, what: &str, holds: impl Fn(&Picture) -> bool) -> Arc<Picture> {
        self.present(what, |picture| picture.is_some_and(&holds)).expect("a picture")
    }

    fn until_none(&self, what: &str) {
        self.present(what, |picture| picture.is_none());
    }

    fn present(&self, what: &str, holds: impl Fn(Option<&Picture>) -> bool) -> Option<Arc<Picture>> {
        let mut changes = self.view.changes();
        let waited = self.runtime.block_on(async {
            let wait = changes.wait_for(|picture| holds(picture.as_deref()));
            tokio::time::timeout(Duration::from_secs(15), wait).await.map(|found| found.unwrap().clone())
        });
        waited.unwrap_or_else(|_| panic!("waited in vain: {what}; now {:#?}", self.view.picture()))
    }

    fn end(mut self) -> View {
        self.cancel.cancel();
        let task = self.task.take().unwrap();
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(5), task).await })
            .unwrap()
            .unwrap();
        self.view.clone()
    }
}

fn found<'a>(picture: &'a Picture, network: &str) -> Option<&'a Bridge> {
    let network = picture.networks.iter().find(|known| &*known.name == network)?;
    match &network.state {
        NetworkState::Found(bridge) => Some(bridge),
        NetworkState::Missing
        | NetworkState::NotABridge { .. }
        | NetworkState::Ambiguous
        | NetworkState::Garbled { .. } => None,
    }
}

fn named<'a>(picture: &'a Picture, name: &str) -> Option<&'a Arc<Container>> {
    picture.containers.iter().find(|known| &*known.name == name)
}

fn at<'a>(picture: &'a Picture, address: &str) -> Option<&'a Arc<Container>> {
    let address: IpAddr = address.parse().unwrap();
    picture.containers.iter().find(|known| known.addresses.contains(&address))
}

#[test]
fn one_look_tells_networks_containers_and_postures() {
    let Some(daemon) = Dockerd::start("one_look_tells_networks_containers_and_postures") else { return };
    daemon.docker(
        "network create --subnet 10.91.0.0/24 --gateway 10.91.0.1 --ipv6 --subnet 2001:db8:91::/64 egress",
    );
    daemon.docker("network create --internal -o com.docker.network.bridge.name=ngt-named named");
    let web = daemon.run("--name web --network egress --ip 10.91.0.20 --ip6 2001:db8:91::20 --label namegate.allow=example.com --label tier=ci");
    daemon.run("--name aside --cap-drop ALL --cap-add NET_ADMIN --user app --dns 10.91.0.1");
    daemon.run(&format!(
        "--name mighty --cap-add CAP_SYS_PTRACE --pid host --network host -v {}:/var/run/docker.sock",
        daemon.socket().display()
    ));
    daemon.run("--name sharing --network container:web");
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let picture =
        runtime.block_on(docker(&daemon, &["egress", "named", "bridge", "host", "nowhere"]).look()).unwrap();
    let egress = found(&picture, "egress").expect("found");
    assert_eq!(egress.bridge, format!("br-{}", &egress.id[..12]));
    assert_eq!(
        egress.subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.91.0.0/24", "2001:db8:91::/64"]
    );
    assert_eq!(egress.gateways[0].to_string(), "10.91.0.1");
    assert!(egress.ipv6 && !egress.internal);
    let named_bridge = found(&picture, "named").expect("found");
    assert_eq!(named_bridge.bridge, "ngt-named");
    assert!(named_bridge.internal && !named_bridge.ipv6);
    assert_eq!(found(&picture, "bridge").expect("found").bridge, "docker0");
    assert_eq!(picture.networks[3].state, NetworkState::NotABridge { driver: "host".to_owned() });
    assert_eq!(picture.networks[4].state, NetworkState::Missing);
    for bridge in [&egress.bridge, "ngt-named", "docker0"] {
        common::namespace::sh(&format!("ip -n {} link show dev {bridge}", daemon.netns()));
    }

    assert_eq!(picture.containers.len(), 2, "{:#?}", picture.containers);
    let container = named(&picture, "web").expect("known");
    assert_eq!((&*container.id, &*container.image), (&*web, IMAGE));
    assert_eq!(container.label("namegate.allow"), Some("example.com"));
    assert_eq!(container.label("tier"), Some("ci"));
    assert_eq!(&*container.started_at, daemon.docker("inspect -f '{{.State.StartedAt}}' web"));
    let addresses: Vec<String> = container.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.91.0.20", "2001:db8:91::20"]);
    let place = picture.attachments.iter().find(|place| *place.container == *web).expect("attached");
    assert_eq!(&*place.network, "egress");
    assert_eq!(place.addresses, container.addresses);
    let mac = place.mac.expect("an Ethernet address").map(|octet| format!("{octet:02x}")).join(":");
    assert_eq!(mac, daemon.docker("inspect -f '{{.NetworkSettings.Networks.egress.MacAddress}}' web"));
    assert_eq!(place.pid.to_string(), daemon.docker("inspect -f '{{.State.Pid}}' web"));
    assert!(named(&picture, "aside").is_some(), "it is on the network bridge");

    let everywhere = runtime.block_on(docker(&daemon, &[]).look()).unwrap();
    let names: Vec<&str> = everywhere.networks.iter().map(|network| &*network.name).collect();
    assert_eq!(names, ["bridge", "egress", "named"]);

    let all = runtime.block_on(docker(&daemon, &["egress"]).inspect_all()).unwrap();
    let names: Vec<&str> = all.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["aside", "mighty", "sharing", "web"]);
    let [aside, mighty, sharing, web] = &all[..] else { unreachable!() };
    assert!(aside.posture.may("NET_ADMIN") && !aside.posture.may("NET_RAW"));
    assert_eq!((aside.posture.user.as_str(), &aside.posture.dns[..]), ("app", &["10.91.0.1".to_owned()][..]));
    assert!(mighty.posture.may("SYS_PTRACE") && !mighty.posture.privileged);
    assert_eq!((mighty.posture.network_mode.as_str(), mighty.posture.pid_mode.as_str()), ("host", "host"));
    assert_eq!(mighty.posture.docker_sockets, ["/var/run/docker.sock"]);
    assert!(sharing.posture.network_mode.starts_with("container:"));
    assert!(
        web.posture.may("NET_RAW") && !web.posture.may("NET_ADMIN") && web.posture.docker_sockets.is_empty()
    );
    assert_eq!(web.networks, ["egress"]);
}

#[test]
fn a_network_that_is_made_again_has_another_bridge() {
    let Some(daemon) = Dockerd::start("a_network_that_is_made_again_has_another_bridge") else { return };
    let followed = Followed::new(docker(&daemon, &["egress", "bridge"]));
    let picture = followed.until("the default network", |picture| found(picture, "bridge").is_some());
    assert_eq!(picture.networks[0].state, NetworkState::Missing);
    daemon.docker("network create egress");
    let first = followed.until("the network", |picture| found(picture, "egress").is_some());
    let first = found(&first, "egress").unwrap().bridge.clone();
    daemon.docker("network rm egress");
    followed.until("no network", |picture| picture.networks[0].state == NetworkState::Missing);
    daemon.docker("network create egress");
    let second = followed.until("the network again", |picture| found(picture, "egress").is_some());
    assert_ne!(found(&second, "egress").unwrap().bridge, first);
    // The client asks the daemon to look for twins; others do not. Which one is meant, nobody knows.
    let twin = daemon.post("networks/create", r#"{"Name":"egress"}"#)["Id"]
        .as_str()
        .expect("an identifier")
        .to_owned();
    followed.until("two of one name", |picture| picture.networks[0].state == NetworkState::Ambiguous);
    daemon.docker(&format!("network rm {twin}"));
    let left = followed.until("one of that name", |picture| found(picture, "egress").is_some());
    assert_eq!(found(&left, "egress"), found(&second, "egress"));
    assert!(followed.end().picture().is_none(), "nobody keeps it fresh");
}

#[test]
fn a_container_is_followed_through_its_life() {
    let Some(daemon) = Dockerd::start("a_container_is_followed_through_its_life") else { return };
    daemon.docker("network create --subnet 10.92.0.0/24 egress");
    daemon.docker("network create --subnet 10.93.0.0/24 second");
    daemon.docker("network create --subnet 10.94.0.0/24 unseen");
    let followed = Followed::new(docker(&daemon, &["egress", "second"]));
    followed.until("an empty picture", |picture| picture.containers.is_empty());

    daemon.run("--name web --network egress --ip 10.92.0.20");
    let first = followed.until("its start", |picture| named(picture, "web").is_some());
    let first = Arc::clone(at(&first, "10.92.0.20").expect("at its address"));

    daemon.docker("network connect --ip 10.93.0.20 second web");
    daemon.docker("network connect unseen web");
    let both = followed.until("a second network", |picture| at(picture, "10.93.0.20").is_some());
    let both = at(&both, "10.92.0.20").expect("still on the first");
    assert!(both.is_same_run(&first));
    daemon.docker("network disconnect egress web");
    let one = followed.until("one network less", |picture| {
        at(picture, "10.92.0.20").is_none() && named(picture, "web").is_some()
    });
    assert_eq!(named(&one, "web").unwrap().addresses, ["10.93.0.20".parse::<IpAddr>().unwrap()]);
    let asked = Instant::now();
    daemon.docker("network connect --ip 10.92.0.20 egress web");
    followed.until("the first network again", |picture| at(picture, "10.92.0.20").is_some());
    assert!(asked.elapsed() < Duration::from_secs(5), "by an event, not by chance: {:?}", asked.elapsed());

    daemon.docker("rename web shop");
    let shop = followed.until("another name", |picture| named(picture, "shop").is_some());
    assert!(named(&shop, "web").is_none() && named(&shop, "shop").unwrap().is_same_run(&first));

    daemon.docker("restart -t 0 shop");
    let again = followed
        .until("another run", |picture| named(picture, "shop").is_some_and(|shop| !shop.is_same_run(&first)));
    assert_eq!(named(&again, "shop").unwrap().id, first.id);
    assert_eq!(
        &*named(&again, "shop").unwrap().started_at,
        daemon.docker("inspect -f '{{.State.StartedAt}}' shop")
    );

    daemon.docker("stop -t 0 shop");
    let none = followed.until("its end", |picture| picture.containers.is_empty());
    assert!(none.attachments.is_empty());
}

#[test]
fn an_address_that_another_container_takes_is_never_said_to_be_the_first_ones() {
    let Some(daemon) =
        Dockerd::start("an_address_that_another_container_takes_is_never_said_to_be_the_first_ones")
    else {
        return;
    };
    daemon.docker("network create --subnet 10.95.0.0/24 egress");
    let followed = Followed::new(docker(&daemon, &["egress"]));
    let address: IpAddr = "10.95.0.20".parse().unwrap();
    let mut last = daemon.run(&format!("--name one0 --network egress --ip {address}"));
    for round in 1..=5 {
        followed.until("the one before", |picture| picture.containers.iter().any(|known| *known.id == *last));
        // From the moment on at which the other one runs, as seen by whoever started it.
        daemon.docker(&format!("rm -f one{}", round - 1));
        let next = daemon.run(&format!("--name one{round} --network egress --ip {address}"));
        let picture = followed.view.picture().expect("Docker answers");
        assert!(
            !picture.containers.iter().any(|known| *known.id == *last),
            "round {round}: the first one is still there"
        );
        followed.runtime.block_on(followed.view.fresh());
        let picture = followed.view.picture().expect("Docker answers");
        assert_eq!(*at(&picture, "10.95.0.20").expect("after a fresh look").id, *next, "round {round}");
        last = next;
    }
}

#[test]
fn nobody_is_known_while_the_daemon_is_dead() {
    let Some(mut daemon) = Dockerd::start("nobody_is_known_while_the_daemon_is_dead") else { return };
    daemon.docker("network create --subnet 10.96.0.0/24 egress");
    daemon.run("--name web --restart always --network egress --ip 10.96.0.20");
    let followed = Followed::new(docker(&daemon, &["egress"]));
    let before = followed.until("the container", |picture| named(picture, "web").is_some());
    daemon.kill_daemon();
    followed.until_none("Docker is dead");
    let once = followed.runtime.block_on(docker(&daemon, &["egress"]).look());
    assert!(matches!(once, Err(DockerError::NotListening { .. } | DockerError::NoSocket { .. })), "{once:?}");
    daemon.start_daemon();
    let after = followed.until("the container again", |picture| named(picture, "web").is_some());
    let (before, after) = (named(&before, "web").unwrap(), named(&after, "web").unwrap());
    assert_eq!((&after.id, &after.addresses), (&before.id, &before.addresses));
    assert!(!after.is_same_run(before), "it was started again");
}
