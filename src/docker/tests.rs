//! Looks and followers against a scripted daemon.

use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::scripted::{Boxed, Reply, Scripted, id, network};
use super::{Docker, DockerConfig, DockerError, NetworkState, Picture, View};

fn docker(daemon: &Scripted) -> Docker {
    Docker::new(DockerConfig { socket: daemon.socket(), networks: vec!["egress".to_owned()] })
}

async fn look(daemon: &Scripted) -> Result<Picture, DockerError> {
    timeout(Duration::from_secs(20), docker(daemon).look()).await.expect("every question has a deadline")
}

fn names(picture: &Picture) -> Vec<&str> {
    picture.containers.iter().map(|container| &*container.name).collect()
}

fn follow(daemon: &Scripted) -> (View, CancellationToken) {
    let (follower, view) = docker(daemon).follower();
    let cancel = CancellationToken::new();
    tokio::spawn(follower.run(cancel.clone()));
    (view, cancel)
}

/// Waits for a picture of these containers, or for none.
async fn shown(view: &View, expected: Option<&[&str]>) {
    let mut changes = view.changes();
    let waited = timeout(
        Duration::from_secs(5),
        changes.wait_for(|now| now.as_deref().map(names).as_deref() == expected),
    );
    let is_shown = waited.await.is_ok();
    assert!(is_shown, "{expected:?} is not shown: {:?}", view.picture());
}

#[tokio::test]
async fn what_is_shown_is_what_docker_says() {
    let daemon = Scripted::start();
    let mut web = Boxed::new(7, "web", "10.9.0.7");
    web.labels = json!({"tier": "ci"});
    web.places.push(("other", id(2), id(9), "10.8.0.7".to_owned()));
    daemon.containers([web]);
    let picture = look(&daemon).await.unwrap();
    let NetworkState::Found(bridge) = &picture.networks[0].state else { panic!("{picture:?}") };
    assert_eq!((&*bridge.id, bridge.bridge.as_str()), (&*id(1), "br-000000000000"));
    let web = &picture.containers[0];
    assert_eq!((&*web.name, &*web.image, web.label("tier")), ("web", "example.com/app:1", Some("ci")));
    assert_eq!(web.addresses, ["10.9.0.7".parse::<IpAddr>().unwrap()], "the other network was not asked for");
    assert_eq!(picture.attachments.len(), 1);
    assert_eq!(picture.attachments[0].mac, Some([2, 0x42, 0x0a, 9, 0, 2]));
    assert_eq!(picture.attachments[0].pid, 4242);
    assert!(picture.contested.is_empty());
}

#[tokio::test]
async fn a_network_is_found_missing_no_bridge_doubtful_or_garbled() {
    let daemon = Scripted::start();
    let state = async |networks: Vec<serde_json::Value>| {
        daemon.script.lock().networks = networks;
        look(&daemon).await.unwrap().networks[0].state.clone()
    };
    let with = |key: &str, value: serde_json::Value| {
        let mut changed = network("egress", 1);
        changed[key] = value;
        vec![changed]
    };
    assert_eq!(state(vec![network("egress2", 1)]).await, NetworkState::Missing);
    assert_eq!(state(vec![network("egress", 1), network("egress", 2)]).await, NetworkState::Ambiguous);
    assert_eq!(
        state(with("Driver", json!("macvlan"))).await,
        NetworkState::NotABridge { driver: "macvlan".to_owned() }
    );
    for name in ["br/../x", "sixteen-letters-", "a b", "..", "br\n0"] {
        let options = json!({ "com.docker.network.bridge.name": name });
        assert_eq!(
            state(with("Options", options)).await,
            NetworkState::Garbled { field: "bridge name" },
            "{name}"
        );
    }
    assert_eq!(state(with("Id", json!("../x"))).await, NetworkState::Garbled { field: "identifier" });
    let ipam = json!({"Config": [{"Subnet": "10.9.0.0/99"}]});
    assert_eq!(state(with("IPAM", ipam)).await, NetworkState::Garbled { field: "subnet" });
    let ipam = json!({"Config": [{"Subnet": "2001:db8::/64", "Gateway": "2001:db8::1/64"}]});
    let NetworkState::Found(bridge) = state(with("IPAM", ipam)).await else { panic!("not found") };
    assert_eq!(bridge.gateways, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    let NetworkState::Found(bridge) =
        state(with("Options", json!({"com.docker.network.bridge.default_bridge": "true"}))).await
    else {
        panic!("not found")
    };
    assert_eq!(bridge.bridge, "docker0");
}

#[tokio::test]
async fn a_container_that_vanishes_or_is_strange_costs_no_other() {
    let daemon = Scripted::start();
    let strange = |number, reply| {
        let mut one = Boxed::new(number, "strange", "10.9.0.200");
        one.inspected = Some(reply);
        one
    };
    for reply in [
        Reply::Status(404, "No such container"),
        Reply::Status(500, "no idea"),
        Reply::Silence,
        Reply::Endless,
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"Id\":".to_vec()),
        Reply::Raw(b"\x16\x03\x01".to_vec()),
        Reply::Raw(Vec::new()),
        Reply::Json(json!([1, 2])),
        Reply::Json(json!({"Id": id(9)})),
        Reply::Json(
            json!({"Id": id(8), "State": {"Running": false}, "Config": {}, "NetworkSettings": {"Networks": {}}}),
        ),
    ] {
        daemon.containers([Boxed::new(7, "web", "10.9.0.7"), strange(8, reply.clone())]);
        let picture = look(&daemon).await.unwrap();
        assert_eq!(names(&picture), ["web"], "{reply:?}");
    }
    // Nothing of this can be addressed or named.
    let slash = Boxed::new(8, "a/b", "10.9.0.8");
    let mut long = Boxed::new(9, "long", "10.9.0.9");
    long.id = "../../info".to_owned();
    let nowhere = Boxed::new(10, "nowhere", "not an address");
    daemon.containers([Boxed::new(7, "web", "10.9.0.7"), slash, long, nowhere]);
    assert_eq!(names(&look(&daemon).await.unwrap()), ["web"]);
    assert!(
        !daemon.script.lock().asked.iter().any(|path| path.contains("..")),
        "a stranger's text in a path"
    );
}

#[tokio::test]
async fn an_address_that_two_claim_is_nobodys() {
    let daemon = Scripted::start();
    let mut two = Boxed::new(8, "two", "10.9.0.7");
    two.places.push(("egress", id(1), id(801), "10.9.0.7".to_owned()));
    let three = Boxed::new(9, "three", "::ffff:10.9.0.9");
    daemon.containers([Boxed::new(7, "one", "10.9.0.7"), two, three]);
    let picture = look(&daemon).await.unwrap();
    assert_eq!(names(&picture), ["three"]);
    assert_eq!(picture.containers[0].addresses, ["10.9.0.9".parse::<IpAddr>().unwrap()], "canonical");
    assert_eq!(picture.contested, ["10.9.0.7".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn each_failure_has_its_name() {
    let mut daemon = Scripted::start();
    let list = async |reply: Reply| {
        daemon.script.lock().list = Some(reply);
        look(&daemon).await.unwrap_err()
    };
    let error = list(Reply::Status(500, "the database is locked\nand so on")).await;
    assert!(
        matches!(&error, DockerError::Refused { status: 500, said, .. } if said == "the database is locked"),
        "{error:?}"
    );
    let error = list(Reply::Endless).await;
    assert!(matches!(error, DockerError::TooMuch { .. }) && error.hint().is_some(), "{error:?}");
    let error =
        list(Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{\"I".to_vec())).await;
    assert!(matches!(error, DockerError::HungUp { .. }), "{error:?}");
    let error = list(Reply::Raw(Vec::new())).await;
    assert!(matches!(error, DockerError::HungUp { .. }), "{error:?}");
    let error = list(Reply::Json(json!({"no": "list"}))).await;
    assert!(matches!(error, DockerError::Garbled { .. }), "{error:?}");
    let error = list(Reply::Json(json!("x".repeat(100_000)))).await;
    assert!(matches!(&error, DockerError::Garbled { said, .. } if said.len() <= 200), "{error:?}");
    let error = list(Reply::Late(Duration::from_secs(30), Box::new(Reply::Json(json!([]))))).await;
    assert!(matches!(error, DockerError::Timeout { .. }) && error.hint().is_some(), "{error:?}");

    let hello = async |reply: Reply| {
        daemon.script.lock().version = reply;
        look(&daemon).await.unwrap_err()
    };
    let error = hello(Reply::Json(json!({"ApiVersion": "1.40"}))).await;
    assert_eq!(
        error.to_string(),
        "Docker speaks version 1.40 of its interface, 1.41 is the oldest that will do"
    );
    for reply in [
        Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Reply::Status(404, "not found"),
        Reply::Json(json!({"ApiVersion": "latest"})),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<!do".to_vec()),
    ] {
        let error = hello(reply.clone()).await;
        assert!(matches!(error, DockerError::NotDocker { .. }), "{reply:?}: {error:?}");
    }
    daemon.leave().await;
    assert!(matches!(look(&daemon).await, Err(DockerError::NotListening { .. })));
    std::fs::remove_file(daemon.socket()).unwrap();
    let error = look(&daemon).await.unwrap_err();
    assert!(matches!(error, DockerError::NoSocket { .. }) && error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn what_leaves_is_gone_at_once_and_no_stale_list_brings_it_back() {
    let daemon = Scripted::start();
    let web = Boxed::new(7, "web", "10.9.0.7");
    daemon.containers([web.clone()]);
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&["web"])).await;
    // The list goes on showing it, as a daemon does that has not written down its end yet.
    let mut ending = web.clone();
    ending.inspected = Some(Reply::Json(json!({"Id": web.id, "Name": "/web",
        "State": {"Running": true, "Restarting": true, "Pid": 0, "StartedAt": web.started_at}, "Config": {},
        "NetworkSettings": {"Networks": {"egress": {"NetworkID": id(1), "EndpointID": "", "IPAddress": ""}}}})));
    daemon.containers([ending]);
    daemon.event("network", "disconnect", &id(1), &web.id);
    shown(&view, Some(&[])).await;
    let looks = daemon.count("/containers/json");
    view.fresh().await;
    assert!(daemon.count("/containers/json") > looks);
    shown(&view, Some(&[])).await;
    // Started again, it is at another endpoint.
    let mut again = Boxed::new(7, "web", "10.9.0.7");
    (again.places[0].2, again.started_at) = (id(701), "2026-01-02T00:00:00Z".to_owned());
    daemon.containers([again]);
    daemon.event("container", "start", &id(7), "");
    shown(&view, Some(&["web"])).await;
    assert_eq!(&*view.picture().unwrap().containers[0].started_at, "2026-01-02T00:00:00Z");
    // No look could tell so soon.
    let late = Reply::Late(Duration::from_secs(4), Box::new(daemon.list_now()));
    daemon.script.lock().list = Some(late);
    let told = Instant::now();
    daemon.event("container", "die", &id(7), "");
    shown(&view, Some(&[])).await;
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

#[tokio::test]
async fn what_leaves_during_a_look_is_not_in_its_picture() {
    let daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7"), Boxed::new(8, "shop", "10.9.0.8")]);
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&["web", "shop"])).await;
    // The list is made now, and comes later.
    let late = daemon.list_now();
    daemon.script.lock().list = Some(Reply::Late(Duration::from_millis(500), Box::new(late)));
    let looks = daemon.count("/containers/json");
    daemon.event("container", "update", &id(8), "");
    timeout(Duration::from_secs(5), async {
        while daemon.count("/containers/json") == looks {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    daemon.event("container", "die", &id(7), "");
    shown(&view, Some(&["shop"])).await;
    let mut changes = view.changes();
    changes.mark_unchanged();
    let back = timeout(
        Duration::from_millis(1500),
        changes.wait_for(|now| now.as_deref().is_none_or(|now| names(now) != ["shop"])),
    );
    assert!(back.await.is_err(), "it came back: {:?}", view.picture());
}

#[tokio::test]
async fn a_name_that_was_taken_away_counts_no_more() {
    let daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&["web"])).await;
    daemon.containers([Boxed::new(7, "shop", "10.9.0.7")]);
    daemon.script.lock().list = Some(Reply::Late(Duration::from_millis(300), Box::new(daemon.list_now())));
    daemon.event("container", "rename", &id(7), "");
    // It is who it was, by no name.
    shown(&view, Some(&[""])).await;
    shown(&view, Some(&["shop"])).await;
}

#[tokio::test]
async fn a_network_that_is_removed_takes_its_containers_along() {
    let daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&["web"])).await;
    daemon.script.lock().list = Some(Reply::Late(Duration::from_secs(4), Box::new(Reply::Json(json!([])))));
    let told = Instant::now();
    daemon.event("network", "destroy", &id(1), "");
    shown(&view, Some(&[])).await;
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    assert_eq!(view.picture().unwrap().networks[0].state, NetworkState::Missing);
}

#[tokio::test]
async fn only_what_is_new_is_asked_for() {
    let daemon = Scripted::start();
    daemon.containers((10..30).map(|number| Boxed::new(number, "web", &format!("10.9.0.{number}"))));
    let (view, _cancel) = follow(&daemon);
    let mut changes = view.changes();
    let all = |now: &Option<Arc<Picture>>| now.as_ref().is_some_and(|now| now.containers.len() == 20);
    timeout(Duration::from_secs(5), changes.wait_for(all)).await.unwrap().unwrap();
    for _ in 0..3 {
        view.fresh().await;
    }
    assert_eq!(daemon.count("/json") - daemon.count("/containers/json"), 20);
    let first = view.picture().unwrap();
    // An event was lost, and with it that one was started again.
    let mut again = daemon.script.lock().containers[3].clone();
    (again.places[0].2, again.started_at) = (id(77), "2026-01-02T00:00:00Z".to_owned());
    daemon.script.lock().containers[3] = again;
    view.fresh().await;
    assert_eq!(daemon.count("/json") - daemon.count("/containers/json"), 21);
    let second = view.picture().unwrap();
    let same = first
        .containers
        .iter()
        .zip(&second.containers)
        .filter(|(one, other)| Arc::ptr_eq(one, other))
        .count();
    assert_eq!(same, 19, "what did not change is not made again");
    assert!(!first.containers[3].is_same_run(&second.containers[3]));
}

#[tokio::test]
async fn what_the_lists_show_only_after_the_event_is_seen() {
    let daemon = Scripted::start();
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&[])).await;
    // As Docker 20.10 tells that a container was connected.
    daemon.event("network", "connect", &id(1), &id(7));
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    shown(&view, Some(&["web"])).await;
    // Then the daemon has rest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let looks = daemon.count("/containers/json");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(daemon.count("/containers/json"), looks);
}

#[tokio::test]
async fn lost_events_are_made_up_for_after_a_while() {
    let daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&["web"])).await;
    daemon.containers([Boxed::new(8, "shop", "10.9.0.7")]);
    let mut changes = view.changes();
    let healed = changes.wait_for(|now| now.as_deref().is_some_and(|now| names(now) == ["shop"]));
    timeout(Duration::from_secs(15), healed).await.expect("a look though nothing happened").unwrap();
}

#[tokio::test]
async fn while_docker_does_not_answer_there_is_no_picture() {
    let mut daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    let (view, cancel) = follow(&daemon);
    shown(&view, Some(&["web"])).await;
    daemon.stop();
    shown(&view, None).await;
    timeout(Duration::from_secs(3), view.fresh()).await.expect("who asks meanwhile is not kept");
    assert!(view.picture().is_none());
    daemon.containers([Boxed::new(8, "shop", "10.9.0.8")]);
    daemon.listen();
    shown(&view, Some(&["shop"])).await;
    // A look that fails, a stream that ends, and one that says what no daemon says.
    daemon.script.lock().list = Some(Reply::Status(500, "no idea"));
    daemon.event("container", "start", &id(9), "");
    shown(&view, None).await;
    daemon.script.lock().list = None;
    shown(&view, Some(&["shop"])).await;
    daemon.event_text("");
    shown(&view, None).await;
    shown(&view, Some(&["shop"])).await;
    daemon.event_text("{\"Type\": 7}\n");
    shown(&view, None).await;
    shown(&view, Some(&["shop"])).await;
    cancel.cancel();
    shown(&view, None).await;
    let is_fresh = timeout(Duration::from_secs(1), view.fresh()).await.expect("nobody looks any more");
    assert!(!is_fresh);
}

#[tokio::test]
async fn no_picture_is_shown_before_events_come() {
    let daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    daemon.script.lock().events = Some(Reply::Status(500, "no events today"));
    let (view, _cancel) = follow(&daemon);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(view.picture().is_none());
    assert_eq!(daemon.count("/containers/json"), 0, "subscribe first");
    daemon.script.lock().events = None;
    shown(&view, Some(&["web"])).await;
    let asked = daemon.script.lock().asked.join("\n");
    assert!(asked.contains("/events?since="), "{asked}");
}

#[tokio::test]
async fn events_in_pieces_are_read_and_a_flood_without_an_end_is_not_kept() {
    let daemon = Scripted::start();
    daemon.containers([Boxed::new(7, "web", "10.9.0.7")]);
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&["web"])).await;
    let event = json!({"Type": "container", "Action": "die", "Actor": {"ID": id(7)}}).to_string();
    for piece in event.as_bytes().chunks(7) {
        daemon.event_text(std::str::from_utf8(piece).unwrap());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // A look would bring back what the daemon still lists.
    daemon.containers([]);
    daemon.event_text("\n");
    shown(&view, Some(&[])).await;
    daemon.script.lock().events = Some(Reply::Endless);
    daemon.event_text("");
    shown(&view, None).await;
    daemon.script.lock().events = None;
    daemon.containers([Boxed::new(8, "shop", "10.9.0.8")]);
    shown(&view, Some(&["shop"])).await;
}

#[tokio::test]
async fn those_who_ask_share_a_look_and_a_crowd_is_turned_away() {
    let daemon = Scripted::start();
    let (view, _cancel) = follow(&daemon);
    shown(&view, Some(&[])).await;
    view.fresh().await;
    let looks = daemon.count("/containers/json");
    let began = Instant::now();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let view = view.clone();
        crowd.spawn(async move { view.fresh().await });
    }
    let served = timeout(Duration::from_secs(3), crowd.join_all()).await.expect("nobody waits long");
    let served = served.into_iter().filter(|&served| served).count();
    assert!((64..500).contains(&served), "{served} had a look");
    let looked = daemon.count("/containers/json") - looks;
    assert!((1..=4).contains(&looked), "{looked} looks");
    while began.elapsed() < Duration::from_secs(1) {
        view.fresh().await;
    }
    let looked = daemon.count("/containers/json") - looks;
    assert!((2..=14).contains(&looked), "{looked} looks in a second");
    daemon.script.lock().list = Some(Reply::Silence);
    let asked = Instant::now();
    assert!(!view.fresh().await);
    assert!(asked.elapsed() < Duration::from_millis(2500), "{:?}", asked.elapsed());
    assert!(view.picture().is_some(), "the look may still succeed");
    shown(&view, None).await;
}
