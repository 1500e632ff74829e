//! Real HTTP/2 clients through the corridor: curl, nghttp, python h2, and gRPC, which waits for the server's
//! SETTINGS before it says a name.
//!
//! Programs that are not installed are skipped, and said so; with `NAMEGATE_TEST_ALL=1` that is a failure.

#![allow(clippy::print_stderr, reason = "a skip is said loudly")]

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use namegate::facts::Protocol;
use namegate::gate::Reason;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::h2::serve;
use super::world::*;

/// Whether a command that asks for a program or module succeeds.
fn has(command: &[&str]) -> bool {
    let found = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        let what = command.join(" ");
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "not installed: {what}");
        eprintln!("SKIPPED: not installed: {what}");
    }
    found
}

/// Returns a Python that has this module: the distribution's packages are not seen by every one.
fn python(module: &str) -> Option<&'static str> {
    let import = format!("import {module}");
    let has_module = |python: &&&str| {
        let mut command = Command::new(python);
        command.args(["-c", &import]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].iter().find(has_module).copied();
    // Says what is missing.
    if found.is_some() || has(&["python3", "-c", &import]) { found } else { None }
}

async fn run(command: &[&str]) -> Output {
    let child = tokio::process::Command::new(command[0]).args(&command[1..]).kill_on_drop(true).output();
    tokio::time::timeout(std::time::Duration::from_secs(20), child).await.expect("took too long").unwrap()
}

/// Runs a client for an allowed and for a denied name; returns what it said.
async fn both_names(client: impl Fn(SocketAddr, &str) -> Vec<String>) -> [String; 2] {
    let mut said = Vec::new();
    for name in ["good.example", "evil.example"] {
        let world = World::new(Plan::on_port(80)).await;
        let command = client(world.proxy, name);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = if name == "good.example" {
            let (output, asked) = tokio::join!(run(&command), async { serve(world.accepted().await).await });
            assert!(asked.iter().all(|authority| authority.starts_with("good.example")), "{asked:?}");
            output
        } else {
            let output = run(&command).await;
            assert!(world.dialled().is_empty());
            output
        };
        assert_eq!(world.decision().await.protocol, Some(Protocol::H2));
        let text = [output.stdout, output.stderr].concat();
        said.push(String::from_utf8_lossy(&text).into_owned());
    }
    said.try_into().unwrap()
}

#[tokio::test]
async fn curl_with_prior_knowledge() {
    if !has(&["curl", "--version"]) {
        return;
    }
    let [good, evil] = both_names(|proxy, name| {
        let to = format!("{name}:80:{}:{}", proxy.ip(), proxy.port());
        ["curl", "-sS", "--http2-prior-knowledge", "--connect-to", &to, "-w", "%{http_code}"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("http://{name}/")])
            .collect()
    })
    .await;
    assert!(good.contains("good.example") && good.ends_with("200"), "{good}");
    assert!(
        evil.contains("namegate: name_not_allowed\nname: evil.example\n") && evil.ends_with("403"),
        "{evil}"
    );
}

#[tokio::test]
async fn nghttp() {
    if !has(&["nghttp", "--version"]) {
        return;
    }
    let [good, evil] = both_names(|proxy, name| {
        let authority = format!(":authority: {name}");
        vec!["nghttp".into(), "-H".into(), authority, format!("http://{proxy}/")]
    })
    .await;
    assert!(good.contains("good.example"), "{good}");
    assert!(evil.contains("namegate: name_not_allowed"), "{evil}");
}

#[tokio::test]
async fn python_h2_over_two_names() {
    let Some(python) = python("h2") else { return };
    let world = World::new(Plan::on_port(80)).await;
    let port = world.proxy.port().to_string();
    let command = [python, "tests/data/h2/two_names.py", &port];
    let (output, asked) = tokio::join!(run(&command), async { serve(world.accepted().await).await });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("1: 200 good.example") && said.contains("3: 403 namegate: name_changed"),
        "{output:?}"
    );
    assert_eq!(asked, ["good.example"]);
}

#[tokio::test]
async fn grpc_that_says_no_name_before_it_is_greeted() {
    let Some(python) = python("grpc") else { return };
    let mut server = tokio::process::Command::new(python)
        .args(["tests/data/h2/grpc_server.py"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port: u16 = within(lines.next_line()).await.unwrap().unwrap().parse().unwrap();
    for (name, reason) in [("good.example", Reason::Allowed), ("evil.example", Reason::NameNotAllowed)] {
        let plan = Plan { behind: Some(SocketAddr::from(([127, 0, 0, 1], port))), ..Plan::on_port(80) };
        let world = World::new(plan).await;
        let target = world.proxy.to_string();
        let output = run(&[python, "tests/data/h2/grpc_client.py", &target, name]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(world.decision().await.reason, reason);
        if reason == Reason::Allowed {
            // A hundred calls, a stream of answers, and a stream of questions.
            assert_eq!(said.trim(), "unary 100, answers 50, questions 50", "{output:?}");
        } else {
            assert!(said.contains("PERMISSION_DENIED"), "{output:?}");
        }
    }
}
