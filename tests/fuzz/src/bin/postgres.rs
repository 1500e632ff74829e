//! The first packet of a PostgreSQL client is told from eight bytes: no byte more changes it, but for a request
//! that did not wait, and each of the protocols that a gate reads has its own first byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::wire::Look;
use namegate::wire::postgres::{self, Opening, SSL_REQUEST};
use namegate::wire::tls::HelloReader;

fuzz_target!(|data: &[u8]| {
    let whole = postgres::look(data);
    for end in 0..data.len().min(16) {
        match postgres::look(&data[..end]) {
            Look::More => assert!(end < 8),
            Look::Foreign => assert_eq!(whole, Look::Foreign),
            Look::Bad(fault) => assert_eq!(whole, Look::Bad(fault)),
            Look::Got(Opening::Plain) => assert_eq!(whole, Look::Got(Opening::Plain)),
            Look::Got(Opening::Tls | Opening::Gss) => assert!(end == 8 && matches!(whole, Look::Bad(_))),
        }
    }
    match whole {
        Look::Got(Opening::Tls) => assert_eq!(data, SSL_REQUEST),
        Look::Got(Opening::Gss) => assert_eq!(data.len(), SSL_REQUEST.len()),
        Look::Got(Opening::Plain) | Look::Bad(_) => assert!(data.len() >= SSL_REQUEST.len()),
        Look::More | Look::Foreign => return,
    }
    assert_eq!(HelloReader::default().look(data), Look::Foreign);
});
