//! Every recorded and every made HTTP/2 connection through the corridor: no name reaches a server that the
//! policy denies, by the word of another implementation.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use namegate::facts::Name;
use namegate::gate::Pattern;
use tokio::io::AsyncWriteExt;

use super::world::*;

/// Returns the authorities and hosts that a server sees in a client's bytes.
async fn seen_by_a_server(bytes: &[u8]) -> BTreeSet<String> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    let mut seen = BTreeSet::new();
    // Everything is there: what is not shown at once is never shown.
    let patience = Duration::from_millis(30);
    let Ok(Ok(mut connection)) = tokio::time::timeout(patience, h2::server::handshake(server)).await else {
        return seen;
    };
    while let Ok(Some(Ok((request, _respond)))) = tokio::time::timeout(patience, connection.accept()).await {
        let host = request.headers().get("host").map(|host| host.to_str().unwrap_or("?").to_owned());
        let authority = request.uri().authority().map(|authority| authority.host().to_owned());
        seen.extend(authority.into_iter().chain(host));
    }
    seen
}

/// A family's cases: identifier, bytes, and the name that is asked for first.
fn family(name: &str) -> Vec<(String, Vec<u8>, Option<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let lines = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let read = |line: &str| {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let bytes = std::fs::read(folder.join(case["file"].as_str().unwrap())).unwrap();
        (text(&case["id"]).unwrap(), bytes, text(&case["expected"]["name"]))
    };
    lines.lines().map(read).collect()
}

/// Sends the bytes with these names allowed; returns what reached the server.
async fn arrived(allowed: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut plan = Plan::on_port(80);
    plan.config.sniff_timeout = Duration::from_millis(50);
    plan.rules[0].names = allowed.iter().map(|name| Pattern::parse(name, false).unwrap()).collect();
    plan.leases = vec![];
    let world = World::new(plan).await;
    for name in allowed {
        observe(&world.gate, Name::parse(name).unwrap().as_str());
    }
    let mut client = world.connect().await;
    for piece in bytes.chunks(700) {
        // A refusal may come at any byte.
        let _ = client.write_all(piece).await;
    }
    let _ = client.shutdown().await;
    world.decision().await;
    if world.dialled().is_empty() {
        return vec![];
    }
    // No end of stream but a reset tells of a refusal: what came before it counts.
    let mut server = world.accepted().await;
    let mut all = Vec::new();
    let _ = within(tokio::io::AsyncReadExt::read_to_end(&mut server, &mut all)).await;
    all
}

#[tokio::test]
async fn no_denied_name_of_any_recorded_connection_reaches_a_server() {
    let (mut carried, mut named) = (0, 0);
    for (id, bytes, name) in ["h2-real", "h2-adv"].into_iter().flat_map(family) {
        let Some(name) = name else {
            // Whatever a server would make of it: with no name in it that is allowed, nothing goes out.
            let got = arrived(&["nobody.example"], &bytes).await;
            assert_eq!(got, b"", "{id}");
            continue;
        };
        named += 1;
        let got = arrived(&[&name], &bytes).await;
        for seen in seen_by_a_server(&got).await {
            assert_eq!(Name::parse(&seen).unwrap().as_str(), name, "{id}");
            carried += 1;
        }
        assert_eq!(arrived(&["nobody.example"], &bytes).await, b"", "{id}: the name itself denied");
    }
    // One is HTTP/1 with an offer of HTTP/2, which this server does not read.
    assert!(named >= 35 && carried + 4 >= named, "{carried} of {named}");
}
