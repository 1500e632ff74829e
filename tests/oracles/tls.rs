//! ClientHellos: rustls, and OpenSSL.

use namegate::facts::Name;
use namegate::wire::Look;
use namegate::wire::tls::HelloReader;
use rustls::server::Acceptor;
use serde::Deserialize;

use crate::python::opinions;
use crate::{openings, with_mutations};

/// Bytes that matter in a hello.
const FAVOURITES: &[u8] = &[0, 1, 2, 3, 0x16, 0x17, 0x14, 0xfe, 0xff, b'.', b'a', b'-'];

/// Returns the name that rustls would serve, `None` inside where it accepts a hello without one.
fn rustls_view(bytes: &[u8]) -> Option<Option<Name>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    loop {
        if acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(|name| Name::parse(name).unwrap()));
        }
    }
}

#[test]
fn rustls_never_sees_another_name_than_we_do() {
    let (mut agreed, mut stricter) = (0, 0);
    let mut compare = |bytes: &[u8]| {
        let ours = HelloReader::default().look(bytes);
        let shown = || bytes.escape_ascii().to_string();
        match (rustls_view(bytes), ours) {
            (Some(theirs), Look::Got(hello)) => {
                assert_eq!(hello.name, theirs, "{}", shown());
                agreed += 1;
            }
            (Some(theirs), Look::Foreign | Look::More) => {
                panic!("rustls: {theirs:?}, we: no hello: {}", shown())
            }
            (Some(_), Look::Bad(_)) => stricter += 1,
            (None, _) => {}
        }
    };
    for bytes in with_mutations(&openings(["tls-real", "tls-adv"]), 150, 1, FAVOURITES) {
        compare(&bytes);
    }
    assert!(agreed > 5_000, "{agreed} hellos were read by both");
    assert!(stricter < agreed / 5, "{stricter} hellos of {agreed} were refused by us alone");
}

/// What OpenSSL does with a hello.
#[derive(Debug, Deserialize)]
struct OpenSsl {
    /// It got as far as picking a certificate.
    acts: bool,
    name: Option<String>,
}

#[test]
fn openssl_never_acts_on_another_name_than_we_see() {
    let cases = with_mutations(&openings(["tls-real", "tls-adv"]), 60, 3, FAVOURITES);
    let Some(views) = opinions::<OpenSsl>("tls", "python3", &cases) else { return };
    let (mut agreed, mut stricter) = (0, 0);
    for (bytes, theirs) in cases.iter().zip(views) {
        if !theirs.acts {
            continue;
        }
        let shown = || format!("OpenSSL: {:?}: {}", theirs.name, bytes.escape_ascii());
        match HelloReader::default().look(bytes) {
            Look::Got(hello) => {
                // An address literal is a name for OpenSSL, and for us one that no rule has.
                let name = theirs.name.as_deref().and_then(|name| Name::parse(name).ok());
                assert_eq!(hello.name, name, "{}", shown());
                agreed += 1;
            }
            Look::Bad(_) => stricter += 1,
            other @ (Look::Foreign | Look::More) => {
                assert_eq!(theirs.name, None, "we: {other:?}, {}", shown());
            }
        }
    }
    assert!(agreed > 3_000, "{agreed} hellos were read by both");
    assert!(stricter < agreed / 2, "{stricter} hellos of {agreed} were refused by us alone");
}
