//! Questions of every manner at a desk. They know no connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::admin::{Capture, Listener, Reload, Ruleset, Status};
use crate::gate::{Mode, Reason};
use crate::record::{Metrics, Snapshot, samples};

/// A gate that is well.
pub(crate) fn well() -> Status {
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_454_506_400);
    Status {
        version: "1.2.3",
        since,
        stopping: false,
        mode: Mode::Enforce,
        rules: 3,
        generation: 1,
        reload: Some(Reload { at: since + Duration::from_secs(60), refused: None }),
        leases: 12,
        leases_evicted: 3,
        capture: Capture {
            interfaces: vec!["br-egress".to_owned()],
            local: vec!["user app".to_owned()],
            networks: Vec::new(),
            missing: Vec::new(),
            form: "redirect",
            ruleset: Ruleset::Intact,
            checked: since + Duration::from_secs(61),
            checked_ago: Duration::from_secs(2),
        },
        listeners: vec![Listener { what: "connections", alive: true }],
        stuck: None,
        docker: None,
    }
}

/// The counters of one event of each kind.
pub(crate) fn counted() -> Snapshot {
    let metrics = Metrics::default();
    for (_, event) in samples::all() {
        metrics.count(&event);
    }
    metrics.snapshot()
}

fn desk(status: Status, token: Option<&str>) -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let token = token.map(|token| {
        let file = dir.path().join("token");
        std::fs::write(&file, token).unwrap();
        Token::read(&file).unwrap()
    });
    Desk { facts: Arc::new(move || status.clone()), log: Log::memory().0, token }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn said(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

const HERE: (&str, &str) = ("host", "localhost");

#[tokio::test]
async fn what_there_is_not_is_refused_in_one_line() {
    let desk = desk(well(), None);
    for (method, target, status) in [
        ("GET", "/", 404),
        ("GET", "/status/", 404),
        ("GET", "/../status", 404),
        ("GET", "/Status", 404),
        ("POST", "/nowhere", 404),
        ("POST", "/status", 405),
        ("HEAD", "/healthz", 405),
        ("OPTIONS", "/metrics", 405),
        ("TRACE", "/metrics", 405),
        ("DELETE", "/metrics", 405),
    ] {
        let answer = desk.answer(&request(method, target, &[HERE]));
        assert_eq!(answer.headers().contains_key(ALLOW), status == 405);
        let (seen, body) = said(answer).await;
        assert_eq!((seen, body.lines().count()), (status, 1), "{method} {target}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_is_not_answered() {
    let desk = desk(well(), None);
    for host in ["localhost", "LocalHost:9053", "127.0.0.1", "127.0.0.1:80", "[::1]:9053"] {
        assert_eq!(said(desk.answer(&request("GET", "/healthz", &[("host", host)]))).await.0, 200, "{host}");
    }
    for host in [
        "example.com",
        "localhost.example.com",
        "localhost:",
        "localhost:port",
        "localhost@example.com",
        "127.0.0.1.example.com",
        "127.0.0.2",
        "::1",
        "[::1",
        "",
        "192.0.2.1:9053",
        "lоcalhost",
    ] {
        let request = request("GET", "/status", &[("host", host)]);
        assert_eq!(said(desk.answer(&request)).await.0, 421, "{host}");
    }
    let without = request("GET", "/status", &[]);
    assert_eq!(said(desk.answer(&without)).await.0, 421);
    let twice = request("GET", "/status", &[HERE, HERE]);
    assert_eq!(said(desk.answer(&twice)).await.0, 421);
    let elsewhere = request("GET", "http://example.com/status", &[HERE]);
    assert_eq!(said(desk.answer(&elsewhere)).await.0, 421);
}

#[tokio::test]
async fn without_the_token_nothing_is_told_not_even_what_there_is() {
    let desk = desk(well(), Some("0123456789abcdef"));
    let with = |header: &str| request("GET", "/status", &[HERE, ("authorization", header)]);
    assert_eq!(said(desk.answer(&with("Bearer 0123456789abcdef"))).await.0, 200);
    assert_eq!(said(desk.answer(&with("bearer 0123456789abcdef"))).await.0, 200);
    for header in
        ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "0123456789abcdef"]
    {
        let (status, body) = said(desk.answer(&with(header))).await;
        assert_eq!((status, body.as_str()), (401, "a token is needed\n"), "{header}");
    }
    for target in ["/healthz", "/metrics", "/nowhere"] {
        assert_eq!(said(desk.answer(&request("GET", target, &[HERE]))).await.0, 401, "{target}");
    }
    let good = ("authorization", "Bearer 0123456789abcdef");
    let twice = request("GET", "/status", &[HERE, good, good]);
    assert_eq!(said(desk.answer(&twice)).await.0, 401);
}

#[tokio::test]
async fn health_is_told_by_code_and_by_word() {
    let health = |status: Status| async move {
        said(desk(status, None).answer(&request("GET", "/healthz?verbose", &[HERE]))).await
    };
    assert_eq!(health(well()).await, (200, "ok\n".to_owned()));
    type Change = fn(&mut Status);
    let wrongs: [(Change, &str); 8] = [
        (|status| status.stopping = true, "the gate is stopping\n"),
        (|status| status.capture.ruleset = Ruleset::Missing, "the kernel rules are missing\n"),
        (|status| status.capture.ruleset = Ruleset::Changed, "the kernel rules were changed\n"),
        (|status| status.capture.ruleset = Ruleset::Unknown, "the kernel rules cannot be read\n"),
        (
            |status| status.capture.checked_ago = Duration::from_secs(75),
            "the kernel rules were not looked at for 75 s\n",
        ),
        (|status| status.listeners[0].alive = false, "nobody listens for connections any more\n"),
        (|status| status.stuck = Some("the audit log takes no line"), "the audit log takes no line\n"),
        (
            |status| {
                status.capture.ruleset = Ruleset::Missing;
                status.stuck = Some("x");
            },
            "the kernel rules are missing; x\n",
        ),
    ];
    for (change, words) in wrongs {
        let mut status = well();
        change(&mut status);
        assert_eq!(health(status).await, (503, words.to_owned()));
    }
    // What can wait is no reason to restart a gate.
    let mut status = well();
    (status.docker, status.rules) = (Some(false), 0);
    status.reload = status.reload.map(|reload| Reload { refused: Some("a fault".into()), ..reload });
    assert_eq!(health(status).await.0, 200);
}

#[tokio::test]
async fn a_status_tells_everything_in_json() {
    let mut status = well();
    (status.docker, status.rules) = (Some(false), 0);
    status.capture.missing = vec!["egress".to_owned()];
    status.reload = status.reload.map(|reload| Reload { refused: Some("a fault".into()), ..reload });
    let told: Value = serde_json::from_str(&super::status::spell(&status, &counted())).unwrap();
    assert_eq!(told["healthy"], true);
    assert_eq!(told["warnings"].as_array().map(Vec::len), Some(5), "{told}");
    assert_eq!(told["since"], "2026-11-23T17:21:46Z");
    let counted = counted();
    let refused = Reason::ALL.into_iter().filter(|reason| !reason.lets_pass());
    let refused: u64 = refused.map(|reason| counted.flows(reason)).sum();
    assert_eq!(told["flows"], serde_json::json!({ "open": 2, "allowed": 4, "denied": refused }), "{told}");
    assert_eq!(told["policy"]["reload"]["outcome"], "refused");
    assert_eq!(told["policy"]["reload"]["why"], "a fault");
    assert_eq!(told["capture"]["ruleset"], "intact");
    assert_eq!(told["capture"]["local"][0], "user app");
    assert_eq!(told["docker"]["connected"], false);
    let answer = desk(well(), None).answer(&request("GET", "/status", &[HERE]));
    assert_eq!(answer.headers()[CONTENT_TYPE], JSON);
    let told: Value = serde_json::from_str(&said(answer).await.1).unwrap();
    assert_eq!((&told["warnings"], &told["docker"]), (&serde_json::json!([]), &Value::Null));
}
