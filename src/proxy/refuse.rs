//! How a client hears no, in its own language, without losing the words to a reset.
//!
//! Must not know how the refusal came about.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::facts::{FlowId, Name, Protocol};
use crate::gate::Reason;
use crate::sys::socket;
use crate::wire::h2::{self, Goodbye};

use super::standing::Refusal;

/// A refusal, as the client is told.
#[derive(Debug)]
pub(super) struct Refusing<'a> {
    /// What the client speaks, where it is known.
    pub(super) spoke: Option<Protocol>,
    /// The request was HEAD: no body.
    pub(super) head_only: bool,
    /// The HTTP/2 stream of the request, where there is one.
    pub(super) stream: Option<u32>,
    /// No server has said anything yet, which an HTTP/2 client waits for.
    pub(super) unopened: bool,
    pub(super) reason: Reason,
    pub(super) name: Option<&'a Name>,
    pub(super) flow: FlowId,
}

/// Fatal alert `access_denied` in a TLS 1.2 record (RFC 8446 sections 5.1 and 6.2), the record version that
/// every stack takes before a version is agreed.
const ACCESS_DENIED: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x31];

/// How long a refused client may take to read its refusal.
const LINGER: Duration = Duration::from_secs(1);

/// Unread bytes that are thrown away so that the refusal is not overtaken by a reset.
const MAX_DISCARDED: usize = 256 * 1024;

/// Says no and closes, without losing the words or what was said before them. Without words: a reset.
pub(super) async fn refuse(mut client: TcpStream, words: Option<Box<[u8]>>) {
    let Some(words) = words else {
        return reset(client);
    };
    let deadline = Instant::now() + LINGER;
    let said = timeout_at(deadline, async {
        client.write_all(&words).await?;
        client.shutdown().await?;
        discard(&client).await
    });
    // Neither a client that went away nor one that never closes changes anything: what could be said
    // was said.
    let _ = said.await;
}

/// Closes with a reset.
pub(super) fn reset(client: TcpStream) {
    // Without the option the socket closes all the same, only more politely.
    let _ = socket::reset_on_close(&client);
    drop(client);
}

/// Reads to the end of stream, so that closing finds nothing unread: that would send a reset, and a
/// reset overtakes what was said.
async fn discard(client: &TcpStream) -> io::Result<()> {
    // On the heap: a refusal is rare, and every connection would carry the room for it.
    let mut sink = vec![0_u8; 2048];
    let mut left = MAX_DISCARDED;
    loop {
        client.readable().await?;
        match client.try_read(&mut sink) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                left = left.checked_sub(read).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts a refusal in the words of the client's protocol; `None`: it has none.
pub(super) fn words(refusing: &Refusing<'_>) -> Option<Box<[u8]>> {
    match refusing.spoke? {
        // An alert is for a refusal; a server that cannot be reached looks like one that hung up.
        Protocol::Tls if refusing.reason == Reason::UpstreamFailed => None,
        Protocol::Tls => Some(ACCESS_DENIED.into()),
        Protocol::Http => Some(http_words(refusing).into()),
        Protocol::H2 => Some(h2_words(refusing).into()),
        Protocol::Quic | Protocol::Postgres => None,
    }
}

/// Returns the text of a refusal: what a person reads who looks at the answer.
fn text(reason: Reason, name: Option<&Name>, flow: FlowId) -> String {
    let name = name.map_or("-", Name::as_str);
    format!("namegate: {reason}\nname: {name}\nflow: {flow}\n")
}

/// Says to an HTTP/2 client that a request is not served, nor any after it, while those up to `last` go on. A
/// response would have to keep step with the server's flow control; a client may ask again on another connection,
/// and there hears it.
pub(super) fn farewell(last: u32, refusal: &Refusal, flow: FlowId) -> Vec<u8> {
    h2::goaway(last, Goodbye::InOrder, &text(refusal.reason, refusal.name.as_ref(), flow))
}

fn h2_words(refusing: &Refusing<'_>) -> Vec<u8> {
    let text = text(refusing.reason, refusing.name, refusing.flow);
    let mut words = Vec::new();
    if refusing.unopened {
        words.extend_from_slice(&h2::GREETING);
    }
    let Some(stream) = refusing.stream else {
        words.extend(h2::goaway(0, Goodbye::Protocol, &text));
        return words;
    };
    let status = if refusing.reason == Reason::UpstreamFailed { "502" } else { "403" };
    let body = (!refusing.head_only).then_some(text.as_str());
    words.extend(h2::response(stream, status, text.len(), body));
    words.extend(h2::goaway(stream, Goodbye::InOrder, ""));
    words
}

fn http_words(refusing: &Refusing<'_>) -> Vec<u8> {
    let status = if refusing.reason == Reason::UpstreamFailed { "502 Bad Gateway" } else { "403 Forbidden" };
    let body = text(refusing.reason, refusing.name, refusing.flow);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if refusing.head_only { "" } else { &body };
    [head.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn refusing(spoke: Option<Protocol>, reason: Reason) -> Refusing<'static> {
        Refusing {
            spoke,
            head_only: false,
            stream: None,
            unopened: false,
            reason,
            name: None,
            flow: FlowId(0xab),
        }
    }

    #[test]
    fn a_refused_request_names_reason_name_and_flow() {
        let name = Name::parse("evil.example").unwrap();
        let refusing =
            Refusing { name: Some(&name), ..refusing(Some(Protocol::Http), Reason::NameNotAllowed) };
        let text = String::from_utf8(words(&refusing).unwrap().into()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(head.ends_with("Connection: close"));
        assert_eq!(body, "namegate: name_not_allowed\nname: evil.example\nflow: 00000000000000ab\n");
    }

    #[test]
    fn a_head_request_is_refused_without_a_body() {
        let refusing = Refusing { head_only: true, ..refusing(Some(Protocol::Http), Reason::Nameless) };
        assert!(words(&refusing).unwrap().ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn each_protocol_is_refused_in_its_own_words_or_by_a_reset() {
        assert_eq!(*words(&refusing(Some(Protocol::Tls), Reason::Silent)).unwrap(), ACCESS_DENIED);
        assert_eq!(words(&refusing(Some(Protocol::Tls), Reason::UpstreamFailed)), None);
        assert!(
            words(&refusing(Some(Protocol::Http), Reason::UpstreamFailed))
                .unwrap()
                .starts_with(b"HTTP/1.1 502 ")
        );
        assert_eq!(words(&refusing(None, Reason::Nameless)), None);
    }
}
