//! The first packet of a PostgreSQL client: what it asks for before a name can be read, if it asks at all.
//!
//! It must not know who answers, nor what is said after the answer: a TLS hello is `tls`' matter. Sources:
//! "Message Formats" and "SSL Session Encryption" in the PostgreSQL documentation, chapter 55.

use super::Look;
use crate::facts::Fault;

/// What a client opens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// SSLRequest: it waits for `S`, and then says hello in TLS.
    Tls,
    /// GSSENCRequest: it waits for `G` or `N`. What GSSAPI encrypts carries no name.
    Gss,
    /// A startup or a CancelRequest in clear text, which names no host.
    Plain,
}

/// An SSLRequest, as a server is sent it.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// A GSSENCRequest.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// A CancelRequest's code; its length depends on the version.
const CANCEL: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];
/// Longest first packet that a server takes, in bytes (`MAX_STARTUP_PACKET_LENGTH`).
const MAX_PACKET: u32 = 10_000;

/// Looks at everything received so far. Bytes after the first eight are not looked at, except that a request
/// for encryption has none: what is sent before its answer was injected, or is not meant for a database.
pub fn look(received: &[u8]) -> Look<Opening> {
    let opening = received.get(..8).unwrap_or(received);
    match opening {
        [] => return Look::More,
        [0] | [0, 0] | [0, 0, _] => return Look::More,
        [0, 0, high, low, code @ ..] => {
            let len = u32::from(u16::from_be_bytes([*high, *low]));
            if !(8..=MAX_PACKET).contains(&len) || !begins_code(code) {
                return Look::Foreign;
            }
        }
        _ => return Look::Foreign,
    }
    let Some((len, code)) = opening.split_at_checked(4).filter(|(_, code)| code.len() == 4) else {
        return Look::More;
    };
    let asks = |request: &[u8; 8]| request.ends_with(code);
    match (asks(&SSL_REQUEST), asks(&GSS_REQUEST)) {
        (false, false) => Look::Got(Opening::Plain),
        // Servers that do not look at the length would take the rest of the packet for part of it.
        _ if len != [0, 0, 0, 8] || received.len() > 8 => Look::Bad(Fault::Startup),
        (true, _) => Look::Got(Opening::Tls),
        (false, true) => Look::Got(Opening::Gss),
    }
}

/// Whether a code begins like this: a request of version 1234, or protocol 2 or 3 of any minor version.
fn begins_code(bytes: &[u8]) -> bool {
    let requests = [&SSL_REQUEST[4..], &GSS_REQUEST[4..], &CANCEL];
    matches!(bytes, [] | [0] | [0, 2 | 3, ..]) || requests.iter().any(|request| request.starts_with(bytes))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    /// A startup for protocol 3.0, as psql sends it.
    const STARTUP: &[u8] = b"\0\0\0\x1e\0\x03\0\0user\0app\0database\0app\0\0";
    const CANCEL_REQUEST: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";

    #[test]
    fn each_opening_is_told_by_its_first_eight_bytes_and_by_no_fewer() {
        let version_2 = [&[0, 0, 1, 40, 0, 2, 0, 0][..], &[0; 288]].concat();
        let grown = [&[0, 0, 0, 20][..], &CANCEL, &[7; 12]].concat();
        for (bytes, expected) in [
            (&SSL_REQUEST[..], Opening::Tls),
            (&GSS_REQUEST, Opening::Gss),
            (STARTUP, Opening::Plain),
            (CANCEL_REQUEST, Opening::Plain),
            (&version_2, Opening::Plain),
            (&grown, Opening::Plain),
            (&[0, 0, 0, 8, 0, 3, 0, 2], Opening::Plain),
        ] {
            for end in 0..8 {
                assert_eq!(look(&bytes[..end]), Look::More, "{bytes:?} at {end}");
            }
            for end in 8..=bytes.len() {
                assert_eq!(look(&bytes[..end]), Look::Got(expected), "{bytes:?} at {end}");
            }
        }
    }

    #[test]
    fn bytes_that_did_not_wait_for_the_answer_are_refused() {
        for request in [SSL_REQUEST, GSS_REQUEST] {
            for tail in [&b"\0"[..], STARTUP, &SSL_REQUEST, b"\x16\x03\x01"] {
                let bytes = [&request[..], tail].concat();
                assert_eq!(look(&bytes), Look::Bad(Fault::Startup), "{bytes:?}");
            }
            let mut longer = request;
            longer[3] = 9;
            assert_eq!(look(&longer), Look::Bad(Fault::Startup));
        }
    }

    #[test]
    fn other_protocols_are_foreign_as_soon_as_it_shows() {
        for bytes in [
            &b"\x16\x03\x01"[..],
            b"GET / HTTP/1.1\r\n",
            b"\x00\x01",
            b"\0\x80",
            b"\0\0\0\x07",
            b"\0\0\0\x04",
            b"\0\0\x27\x11",
            b"\0\0\0\x08\x01",
            b"\0\0\0\x08\0\x04",
            b"\0\0\0\x08\x04\xd3",
            b"\0\0\0\x08\x04\xd2\x16\x31",
        ] {
            let (last, before) = (bytes.len(), bytes.len() - 1);
            assert_eq!(look(bytes), Look::Foreign, "{bytes:?}");
            let early = look(&bytes[..before]);
            assert!(matches!(early, Look::More | Look::Foreign), "{bytes:?} before {last}: {early:?}");
        }
    }

    #[test]
    fn every_changed_byte_of_a_request_is_another_opening_or_none() {
        for at in 0..8 {
            for byte in 0..=255 {
                let mut bytes = SSL_REQUEST;
                bytes[at] = byte;
                let is_request = bytes == SSL_REQUEST || bytes == GSS_REQUEST;
                let taken = matches!(look(&bytes), Look::Got(Opening::Tls | Opening::Gss));
                assert_eq!(taken, is_request, "{bytes:?}");
            }
        }
    }
}
