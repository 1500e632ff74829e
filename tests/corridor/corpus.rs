//! The recorded and the made openings carried whole, with every name denied but the first.
//!
//! What the cases say is in `tests/corpus/README.md`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use namegate::facts::Name;
use namegate::gate::{Ech, Rule};
use namegate::wire::postgres::SSL_REQUEST;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::world::*;

const FAMILIES: [&str; 6] = ["http1-real", "http1-adv", "tls-real", "tls-adv", "upgrade", "other"];

/// After so long without a byte a server or a client leaves.
const QUIET: Duration = Duration::from_millis(150);

#[derive(Debug, Deserialize)]
struct Case {
    id: String,
    file: String,
    #[serde(default)]
    segments: Vec<usize>,
    #[serde(default)]
    events: Vec<(char, usize)>,
    server_file: Option<String>,
    expected: Said,
    #[serde(default)]
    also_ok: Vec<Said>,
    #[serde(default)]
    requests: Vec<Said>,
    #[serde(default)]
    hidden_names: Vec<String>,
    later: Option<Said>,
    #[serde(skip)]
    client: Vec<u8>,
    #[serde(skip)]
    server: Vec<u8>,
}

/// A result, or what is claimed at a place in the client's bytes.
#[derive(Debug, Deserialize)]
struct Said {
    name: Option<String>,
    at: Option<usize>,
}

/// What a server makes of what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Nothing, but for what was recorded.
    Silent,
    /// Answers every request, and every hello.
    Serves,
    /// Changes protocols with whoever asks, and asks for second hellos.
    Turns,
}

fn family(name: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let lines = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let read = |line: &str| {
        let mut case: Case = serde_json::from_str(line).unwrap();
        case.client = std::fs::read(folder.join(&case.file)).unwrap();
        let server = case.server_file.as_ref().map(|file| std::fs::read(folder.join(file)).unwrap());
        case.server = server.unwrap_or_default();
        case
    };
    lines.lines().map(read).collect()
}

impl Case {
    /// The names that a gate may find first.
    fn first_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.expected)
            .chain(&self.also_ok)
            .filter_map(|said| said.name.as_deref())
            .filter(|name| Name::parse(name).is_ok())
    }

    /// A real client that asks for a name is served, unless it asks for a tunnel.
    fn must_pass(&self) -> bool {
        let is_made = ["ha-", "ta-", "ua-"].iter().any(|made| self.id.starts_with(made));
        self.expected.name.is_some() && !is_made && self.id != "h1-curl-connect.0"
    }

    /// Bytes of requests for encryption, which the gate answers itself.
    fn answered(&self) -> usize {
        let is_request = |eight: &&[u8]| eight.starts_with(&SSL_REQUEST[..7]);
        8 * self.client.chunks(8).take_while(is_request).count()
    }

    /// Where a name stands that is not the allowed one: no byte of that may pass.
    fn stops(&self, allowed: &str) -> impl Iterator<Item = usize> {
        let later = self.requests.iter().chain(&self.later);
        later.filter(move |said| said.name.as_deref() != Some(allowed)).filter_map(|said| said.at)
    }
}

/// Says the client's part, waiting where the recorded one waited; ends its stream and listens.
async fn speak(mut client: TcpStream, case: &Case) {
    let whole = [('c', case.client.len())];
    let cut: Vec<_> = case.segments.iter().map(|&len| ('c', len)).collect();
    let turns = match (&case.events[..], &cut[..]) {
        ([], []) => &whole[..],
        ([], cut) => cut,
        (events, _) => events,
    };
    let mut at = 0;
    for &(who, len) in turns {
        if who == 'c' {
            let end = (at + len).min(case.client.len());
            let Ok(Ok(())) = timeout(QUIET, client.write_all(&case.client[at..end])).await else { break };
            at = end;
        } else {
            let _ = timeout(QUIET, client.read(&mut [0; 65_536])).await;
        }
    }
    let _ = client.shutdown().await;
    while matches!(timeout(QUIET, client.read(&mut [0; 65_536])).await, Ok(Ok(1..))) {}
}

/// What one server heard.
async fn listen(mut server: TcpStream, case: &Case, manner: Manner) -> Vec<u8> {
    let mut heard = Vec::new();
    if case.answered() > 0 {
        let mut request = [0; SSL_REQUEST.len()];
        if server.read_exact(&mut request).await.is_err() {
            return heard;
        }
        assert_eq!(request, SSL_REQUEST, "{}", case.id);
        server.write_all(b"S").await.unwrap();
    }
    let mut recorded = &case.server[..];
    let mut buffer = vec![0; 65_536];
    while let Ok(Ok(read @ 1..)) = timeout(QUIET, server.read(&mut buffer)).await {
        let new = &buffer[..read];
        heard.extend_from_slice(new);
        let is_tls = heard.first() == Some(&0x16);
        let answer = match manner {
            Manner::Silent => std::mem::take(&mut recorded).to_vec(),
            Manner::Serves if is_tls => ANSWERED.to_vec(),
            Manner::Turns if is_tls => retry_request(),
            Manner::Turns if contains(new, "upgrade:") => {
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                    .to_vec()
            }
            Manner::Serves | Manner::Turns => {
                let heads = new.windows(4).filter(|four| four == b"\r\n\r\n").count();
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(heads)
            }
        };
        if server.write_all(&answer).await.is_err() {
            break;
        }
    }
    heard
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

/// What reached a server while one name was allowed; `None`: nothing was dialled.
async fn carried(case: &Case, allowed: &str, manner: Manner) -> Option<Vec<u8>> {
    let mut plan = Plan {
        rules: vec![Rule { ech: Some(Ech::Allow), ..rule("first", &[allowed]) }],
        leases: vec![],
        ..Plan::on_port(443)
    };
    plan.config.sniff_timeout = 2 * QUIET;
    plan.config.sniff_bytes = 65_536;
    let world = World::new(plan).await;
    observe(&world.gate, allowed);
    let client = world.connect().await;
    client.set_nodelay(true).unwrap();
    let spoken = CancellationToken::new();
    let speaking = async {
        speak(client, case).await;
        spoken.cancel();
    };
    let serving = async {
        let server = tokio::select! {
            server = world.accepted() => server,
            () = spoken.cancelled() => {
                world.decision().await;
                if world.dialled().is_empty() {
                    return None;
                }
                world.accepted().await
            }
        };
        Some(listen(server, case, manner).await)
    };
    let (heard, ()) = tokio::join!(serving, speaking);
    assert_eq!(world.dialled().len(), usize::from(heard.is_some()), "{}", case.id);
    heard
}

/// What is wrong with what a server heard.
fn faults(case: &Case, allowed: &str, heard: &[u8]) -> Vec<String> {
    let mut faults = Vec::new();
    if !case.first_names().any(|name| name == allowed) {
        faults.push("was dialled".to_owned());
    }
    let sent = &case.client[case.answered()..];
    if !sent.starts_with(heard) {
        faults.push("bytes came changed".to_owned());
    }
    for stop in case.stops(allowed).filter(|&stop| stop > 0) {
        if case.answered() + heard.len() > stop {
            faults.push(format!("{} bytes passed, another name stands at {stop}", heard.len()));
        }
    }
    for name in case.hidden_names.iter().filter(|name| *name != allowed) {
        if contains(heard, name) {
            faults.push(format!("{name} passed"));
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_of_the_corpus_reaches_a_server_but_the_one_that_is_allowed() {
    let room = Arc::new(Semaphore::new(48));
    let mut running = JoinSet::new();
    for case in FAMILIES.into_iter().flat_map(family) {
        let case = Arc::new(case);
        for manner in [Manner::Silent, Manner::Serves, Manner::Turns] {
            let (case, room) = (Arc::clone(&case), Arc::clone(&room));
            running.spawn(async move {
                let _place = room.acquire().await.unwrap();
                let allowed = case.first_names().next().unwrap_or("good.example.com").to_owned();
                let heard = carried(&case, &allowed, manner).await;
                let faults = heard.as_ref().map_or_else(Vec::new, |heard| faults(&case, &allowed, heard));
                let unserved = heard.is_none_or(|heard| heard.is_empty()) && case.must_pass();
                (!faults.is_empty() || unserved).then(|| format!("{} {manner:?}: {faults:?}", case.id))
            });
        }
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    while let Some(done) = running.join_next().await {
        count += 1;
        wrong.extend(done.unwrap());
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, 611 * 3);
}
