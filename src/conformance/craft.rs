//! Bytes that no library sends: hellos with two names, with none that can be read, encrypted or endless ones, and
//! what else an attacker writes by hand.
//!
//! Must not know where they go.

/// A ClientHello (RFC 8446 section 4.1.2) as it is wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Hello {
    /// `server_name` extensions, each with its names.
    names: Vec<Vec<Vec<u8>>>,
    /// Other extensions, before the names.
    extensions: Vec<(u16, Vec<u8>)>,
    /// Cipher suites that nobody knows, besides real ones.
    suites: usize,
}

const SERVER_NAME: u16 = 0;
/// RFC 7685.
const PADDING: u16 = 21;
/// RFC 9849 section 5.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const HANDSHAKE: u8 = 22;
/// Longest record, bytes (RFC 8446 section 5.1).
const RECORD: usize = 1 << 14;

impl Hello {
    /// One that claims a name.
    pub(super) fn of(name: impl AsRef<[u8]>) -> Self {
        Self { names: vec![vec![name.as_ref().to_vec()]], ..Self::default() }
    }

    /// With another name in the same list.
    pub(super) fn beside(mut self, name: &str) -> Self {
        if let Some(list) = self.names.last_mut() {
            list.push(name.into());
        }
        self
    }

    /// With another extension for another name.
    pub(super) fn and(mut self, name: &str) -> Self {
        self.names.push(vec![name.into()]);
        self
    }

    /// With the extension in which a real hello is hidden: an outer one (RFC 9849 section 5).
    pub(super) fn encrypted(mut self) -> Self {
        let mut outer = vec![0, 0, 1, 0, 1, 7, 0, 32];
        outer.extend([0x5a; 32]);
        outer.extend(with_length([0xa5; 208].to_vec()));
        self.extensions.push((ENCRYPTED_CLIENT_HELLO, outer));
        self
    }

    /// So long that the name comes after so many bytes, in tens of thousands.
    pub(super) fn behind(mut self, padding: usize, suites: usize) -> Self {
        self.extensions.push((PADDING, vec![0; padding]));
        self.suites = suites;
        self
    }

    /// The handshake message in TLS records.
    pub(super) fn records(&self) -> Vec<u8> {
        records(&self.message(), RECORD)
    }

    fn message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x11; 32]);
        body.push(32);
        body.extend([0x22; 32]);
        let known = [0x1301_u16, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xcca8];
        let suites = known.into_iter().chain(std::iter::repeat_n(0x5a5a, self.suites));
        body.extend(with_length(suites.flat_map(u16::to_be_bytes).collect()));
        body.extend([1, 0]);
        let mut extensions = self.extensions.clone();
        for names in &self.names {
            let list = names.iter().flat_map(|name| [vec![0], with_length(name.clone())].concat());
            extensions.push((SERVER_NAME, with_length(list.collect())));
        }
        extensions.push((10, with_length(vec![0, 0x1d, 0, 0x17, 0, 0x18])));
        extensions.push((13, with_length(vec![4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1])));
        extensions.push((43, vec![4, 3, 4, 3, 3]));
        extensions.push((51, with_length([vec![0, 0x1d], with_length(vec![9; 32])].concat())));
        let extensions = extensions.into_iter();
        let extensions =
            extensions.flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), with_length(data)].concat());
        body.extend(with_length(extensions.collect()));
        let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
        let [_, length @ ..] = length;
        [vec![1], length.to_vec(), body].concat()
    }
}

/// With its length in two bytes before it.
fn with_length(bytes: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().to_vec(), bytes].concat()
}

fn records(message: &[u8], most: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [vec![HANDSHAKE, 3, 1], with_length(piece.to_vec())].concat();
    message.chunks(most.max(1)).flat_map(record).collect()
}

/// Cuts handshake records into such of `most` bytes; what is no handshake stays as it is.
pub(super) fn recut(bytes: &[u8], most: usize) -> Vec<u8> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while let [HANDSHAKE, _, _, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (piece, after) = tail.split_at(length);
        out.extend(records(piece, most));
        rest = after;
    }
    out.extend(rest);
    out
}

/// A request for a page.
pub(super) fn get(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: conformance\r\n\r\n").into_bytes()
}

/// HTTP/2 with prior knowledge (RFC 9113 section 3.3): the preface, empty SETTINGS and one request for a page.
pub(super) fn h2(authority: &str) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // `:method: GET`, `:path: /` and `:scheme: http` are in the static table (RFC 7541 appendix A); `:authority` is
    // index 1, its value in clear.
    let length = u8::try_from(authority.len()).unwrap_or(0).min(126);
    let block = [&[0x82, 0x84, 0x86, 0x01, length], authority.as_bytes()].concat();
    // END_STREAM and END_HEADERS on stream 1.
    let length = u8::try_from(block.len()).unwrap_or(0);
    let header = [0, 0, length, 1, 0x05, 0, 0, 0, 1];
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &SETTINGS, &header, &block].concat()
}

/// A datagram that looks like a first one of QUIC v1 (RFC 9000 section 17.2.2), with nothing in it that can be read.
pub(super) fn quic() -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x96];
    packet.resize(1200, 0x5a);
    packet
}

/// PostgreSQL's SSLRequest (protocol 3.0, "SSL Session Encryption").
pub(super) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

/// A ping (RFC 792).
pub(super) fn ping() -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x4e, 0x47, 0, 1];
    message.extend(b"data in a ping!!");
    let sum: u32 =
        message.chunks(2).map(|two| two.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from(folded & 0xffff).unwrap_or(0);
    message.splice(2..4, sum.to_be_bytes());
    message
}

/// A datagram to a port, in two fragments with their IPv4 headers; the kernel fills in source, length and checksum.
pub(super) fn fragments(to: std::net::Ipv4Addr, port: u16) -> Vec<Vec<u8>> {
    let body = b"data in two fragments, cut behind eight bytes";
    let length = u16::try_from(8 + body.len()).unwrap_or(0).to_be_bytes();
    // A checksum of zero is none (RFC 768).
    let datagram = [&[0x4e, 0x47][..], &port.to_be_bytes(), &length, &[0, 0], body].concat();
    let header = |flags: u8, offset: u8| {
        let mut header = vec![0x45, 0, 0, 0, 0x4e, 0x47, flags, offset, 64, 17, 0, 0, 0, 0, 0, 0];
        header.extend(to.octets());
        header
    };
    let (first, second) = datagram.split_at(16);
    // More fragments; and an offset of two times eight bytes.
    vec![[header(0x20, 0), first.to_vec()].concat(), [header(0, 2), second.to_vec()].concat()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Cursor;

    use rustls::server::Acceptor;

    use super::*;

    fn name(bytes: &[u8]) -> Option<String> {
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut Cursor::new(bytes)).unwrap();
        let accepted = acceptor.accept().ok()??;
        accepted.client_hello().server_name().map(str::to_owned)
    }

    #[test]
    fn a_server_reads_the_name_that_was_written() {
        let hello = Hello::of("good.example.com");
        assert_eq!(name(&hello.records()).unwrap(), "good.example.com");
        assert_eq!(name(&hello.clone().encrypted().records()).unwrap(), "good.example.com");
        assert_eq!(name(&recut(&hello.records(), 7)).unwrap(), "good.example.com");
        assert_eq!(name(&Hello::default().records()), None);
    }

    #[test]
    fn the_lengths_of_an_endless_hello_are_those_of_its_bytes() {
        let hello = Hello::of("good.example.com").behind(60_000, 16_000);
        let message = hello.message();
        let length = message.get(1..4).unwrap().iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        assert_eq!(length + 4, message.len());
        assert!(message.len() > 90_000, "{}", message.len());
    }
}
