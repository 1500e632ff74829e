//! What an error of a socket means for a client.

use std::io::{self, ErrorKind};

use rustls::{AlertDescription, Error as TlsError};

use super::Heard;

/// Names what was heard, and the words of it.
pub(super) fn told(error: &io::Error) -> (Heard, String) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    (tls.map_or_else(|| plain(error), secured), error.to_string())
}

// Other crates' enums with a variant for everything that can go wrong.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not told apart is `Other`")]
fn secured(error: &TlsError) -> Heard {
    match error {
        TlsError::AlertReceived(AlertDescription::AccessDenied) => Heard::AccessDenied,
        TlsError::InvalidCertificate(_) => Heard::Untrusted,
        _ => Heard::Other,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not told apart is `Other`")]
fn plain(error: &io::Error) -> Heard {
    match error.kind() {
        ErrorKind::ConnectionRefused => Heard::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Heard::Reset,
        ErrorKind::UnexpectedEof => Heard::Closed,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::PermissionDenied => Heard::Unreachable,
        ErrorKind::TimedOut => Heard::Timeout,
        _ => Heard::Other,
    }
}
