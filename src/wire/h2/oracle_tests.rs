//! The `h2` crate as second opinion: what its client writes is read here as it was meant, and what is read here
//! its server reads in the same way or not at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use http::Request;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ClientFrames, Step};
use crate::facts::Fault;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Every request's stream and name, every one approved, and what ended the reading.
fn read(bytes: &[u8]) -> (Vec<(u32, Option<String>)>, Option<Fault>) {
    let mut frames = ClientFrames::default();
    let (mut requests, mut at) = (Vec::new(), 0);
    loop {
        match frames.next(&bytes[at..]) {
            Step::Pass(len)
            | Step::Trailers(len)
            | Step::Drop(len)
            | Step::Ack(len)
            | Step::Reset(len, _) => at += len,
            Step::Request(request) => {
                requests.push((request.stream, request.name.map(|name| name.as_str().to_owned())));
                frames.approve();
            }
            Step::More => return (requests, None),
            Step::Bad(fault) => return (requests, Some(fault)),
        }
    }
}

/// What the client writes for these requests: name, path, and a field that compression may remember.
async fn written(requests: &[(String, String, String)]) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    let driver = tokio::spawn(async move { drop(connection.await) });
    far.write_all(&super::GREETING).await.unwrap();
    let mut send = send.ready().await.unwrap();
    let mut answers = Vec::new();
    for (name, path, field) in requests {
        let uri = format!("http://{name}/{path}");
        let request =
            Request::get(uri).header("x-field", field).header("user-agent", "oracle").body(()).unwrap();
        answers.push(send.send_request(request, true).unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut bytes = vec![0; 1 << 20];
    let mut len = 0;
    while let Ok(Ok(read @ 1..)) =
        tokio::time::timeout(Duration::from_millis(5), far.read(&mut bytes[len..])).await
    {
        len += read;
    }
    driver.abort();
    bytes.truncate(len);
    bytes
}

/// The authorities that the server reads, up to its first error.
async fn served(bytes: &[u8]) -> Vec<String> {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    near.write_all(bytes).await.unwrap();
    let patience = Duration::from_millis(5);
    let Ok(Ok(mut connection)) = tokio::time::timeout(patience, h2::server::handshake(far)).await else {
        return vec![];
    };
    let mut seen = Vec::new();
    while let Ok(Some(Ok((request, _)))) = tokio::time::timeout(patience, connection.accept()).await {
        let authority = request.uri().authority().map(|authority| authority.host().to_owned());
        let host = request.headers().get("host").and_then(|host| host.to_str().ok().map(str::to_owned));
        seen.extend(authority.or(host));
    }
    seen
}

fn requests() -> impl Strategy<Value = Vec<(String, String, String)>> {
    let name = "[a-c]{1,3}\\.example";
    proptest::collection::vec((name, "[a-z0-9/]{0,40}", "[!-~]{1,900}"), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_another_client_writes_is_read_as_it_was_meant(requests in requests()) {
        let runtime = runtime();
        let bytes = runtime.block_on(written(&requests));
        let (read, fault) = read(&bytes);
        prop_assert_eq!(fault, None);
        let served = runtime.block_on(served(&bytes));
        let names: Vec<_> = read.into_iter().filter_map(|(_, name)| name).collect();
        let meant: Vec<_> = requests.into_iter().map(|(name, ..)| name).collect();
        prop_assert_eq!(&names, &meant);
        prop_assert_eq!(served, meant);
    }

    #[test]
    fn no_server_reads_a_name_that_was_not_read_here(
        requests in requests(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let runtime = runtime();
        let mut bytes = runtime.block_on(written(&requests));
        for (at, byte) in changes {
            let at = 24 + at.index(bytes.len() - 24);
            bytes[at] = byte;
        }
        let (read, _) = read(&bytes);
        let names: Vec<_> = read.into_iter().map(|(_, name)| name.unwrap_or_default()).collect();
        // Only what passed here reaches a server: up to the first fault, every request is approved.
        let passed = passed(&bytes);
        for seen in runtime.block_on(served(&bytes[..passed])) {
            let seen = seen.to_ascii_lowercase();
            let known = names.iter().any(|name| *name == seen.trim_end_matches('.'));
            prop_assert!(known || seen.parse::<std::net::IpAddr>().is_ok(), "{:?} is not in {:?}", seen, names);
        }
    }
}

/// How many bytes pass before the first fault.
fn passed(bytes: &[u8]) -> usize {
    let mut frames = ClientFrames::default();
    let mut at = 0;
    loop {
        match frames.next(&bytes[at..]) {
            Step::Pass(len)
            | Step::Trailers(len)
            | Step::Drop(len)
            | Step::Ack(len)
            | Step::Reset(len, _) => at += len,
            Step::Request(_) => frames.approve(),
            Step::More | Step::Bad(_) => return at,
        }
    }
}
