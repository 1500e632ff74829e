//! Spellings of places to talk to: upstream resolvers, dnstap listeners, audit targets.
//!
//! Text in, checked value out. Nothing is opened or looked up here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::dns::{TapAddress, Upstream};
use crate::facts::Name;
use crate::record::Target;

use super::scalar::{Complaint, server, socket};

/// Parses an upstream: `system`, `ADDR[:PORT]`, or `SCHEME://ADDR[:PORT][/PATH][#NAME]` with schemes
/// udp, tcp, tls (RFC 7858) and https (RFC 8484).
pub(super) fn upstream(text: &str) -> Result<Upstream, Complaint> {
    if text == "system" {
        return Ok(Upstream::System);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return server(text, 53)
            .map(Upstream::Udp)
            .map_err(|complaint| Complaint { hint: Some(UPSTREAMS.to_owned()), ..complaint });
    };
    let (place, name) = rest.split_once('#').map_or((rest, None), |(place, name)| (place, Some(name)));
    let (address, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let bare = |what: &str| -> Result<(), Complaint> {
        if name.is_some() {
            return Err(Complaint::new(format!("{what} has no certificate, so no `#name`"))
                .hint(format!("write \"{what}://{address}\"")));
        }
        if path.is_empty() {
            return Ok(());
        }
        Err(Complaint::new(format!("{what} has no path")).hint(format!("write \"{what}://{address}\"")))
    };
    match scheme {
        "udp" => bare(scheme).and_then(|()| resolver(address, 53)).map(Upstream::Udp),
        "tcp" => bare(scheme).and_then(|()| resolver(address, 53)).map(Upstream::Tcp),
        "tls" if path.is_empty() => {
            Ok(Upstream::Tls(resolver(address, 853)?, certificate_name(scheme, address, name)?))
        }
        "tls" => Err(Complaint::new("tls has no path").hint(format!("write \"tls://{address}#NAME\""))),
        "https" => {
            let path = if path.is_empty() { "/dns-query" } else { path };
            let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
            if !visible {
                return Err(Complaint::new("the path holds bytes that a URL may not hold").hint(UPSTREAMS));
            }
            let name = certificate_name(scheme, address, name)?;
            Ok(Upstream::Https(resolver(address, 443)?, name, path.to_owned()))
        }
        _ => Err(Complaint::new("unknown kind of upstream").hint(UPSTREAMS)),
    }
}

/// The address of an upstream. Names are refused: looking one up would need the upstream it names.
fn resolver(address: &str, port: u16) -> Result<SocketAddr, Complaint> {
    server(address, port).map_err(|complaint| {
        let host = address.split(':').next().unwrap_or(address);
        if Name::parse(host).is_ok() {
            Complaint::new("an upstream is given by address, not by name").hint(format!(
                "\"tls://192.0.2.1#{host}\": the address to dial, then the name its certificate is for"
            ))
        } else {
            complaint
        }
    })
}

fn certificate_name(scheme: &str, address: &str, name: Option<&str>) -> Result<Name, Complaint> {
    let Some(name) = name else {
        return Err(Complaint::new(format!("{scheme} needs the name that the server's certificate is for"))
            .hint(format!("add it after a `#`: \"{scheme}://{address}#dns.example.net\"")));
    };
    Name::parse(name).map_err(|fault| {
        Complaint::new(format!("the name after `#`: {fault}")).hint("a host name, such as dns.example.net")
    })
}

/// Parses where dnstap senders connect: `unix:PATH`, a plain path, or `tcp:ADDR:PORT`. Relative paths
/// start at `base`.
pub(super) fn tap(text: &str, base: &Path) -> Result<TapAddress, Complaint> {
    let hint = "\"unix:/run/namegate/dnstap.sock\" or \"tcp:127.0.0.1:6000\"";
    if let Some(address) = text.strip_prefix("tcp:") {
        let socket = socket(address.trim_start_matches("//"), 0)
            .map_err(|_| Complaint::new("not an address with a port").hint(hint))?;
        return Ok(TapAddress::Tcp(socket));
    }
    socket_path(text, base, hint).map(TapAddress::Unix)
}

/// Where the admin socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AdminAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Parses where the admin socket listens: `unix:PATH`, a plain path, or a loopback address with a port.
pub(super) fn admin(text: &str, base: &Path) -> Result<AdminAddress, Complaint> {
    let hint = "\"unix:/run/namegate/admin.sock\", or \"127.0.0.1:9053\" with a `token_file`";
    let address = text.strip_prefix("tcp:").unwrap_or(text);
    match socket(address, 0) {
        Ok(address) if address.ip().is_loopback() => Ok(AdminAddress::Tcp(address)),
        Ok(_) => Err(Complaint::new("the admin socket is for this host alone").hint(hint)),
        Err(_) => socket_path(text, base, hint).map(AdminAddress::Unix),
    }
}

fn socket_path(text: &str, base: &Path, hint: &str) -> Result<PathBuf, Complaint> {
    let path = match text.strip_prefix("unix:") {
        Some(path) => path.strip_prefix("//").unwrap_or(path),
        None if text.contains('/') && !text.contains(':') => text,
        None => return Err(Complaint::new("not a place to listen at").hint(hint)),
    };
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(Complaint::new("not the path of a socket").hint(hint));
    }
    let path = base.join(path);
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(Complaint::new(format!("the path is longer than {LONGEST_SOCKET_PATH} bytes"))
            .hint("the kernel takes no longer one (unix(7)); choose a directory such as /run/namegate"));
    }
    Ok(path)
}

/// Parses where audit lines go: `-` or a path.
pub(super) fn audit_target(text: &str, base: &Path) -> Result<Target, Complaint> {
    match text {
        "-" => Ok(Target::Stdout),
        "journal" => Err(Complaint::new("the journal is not available as an audit target in this version")
            .hint("\"-\": under systemd, standard output goes to the journal")),
        "" => Err(Complaint::new("an empty path").hint("\"-\" is standard output")),
        path if path.ends_with('/') || path.contains('\0') => {
            Err(Complaint::new("not the path of a file").hint("\"/var/log/namegate/audit.jsonl\""))
        }
        path => Ok(Target::File(base.join(path))),
    }
}

const UPSTREAMS: &str = "\"system\", \"192.0.2.1\", \"udp://192.0.2.1:5353\", \"tcp://192.0.2.1\", \
     \"tls://192.0.2.1#dns.example.net\" or \"https://192.0.2.1/dns-query#dns.example.net\"";

/// `sun_path` is 108 bytes with its final NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_of_an_upstream_is_understood() {
        let name = Name::parse("dns.example.net").unwrap();
        for (text, expected) in [
            ("system", Upstream::System),
            ("192.0.2.1", Upstream::Udp(at("192.0.2.1:53"))),
            ("192.0.2.1:5353", Upstream::Udp(at("192.0.2.1:5353"))),
            ("2001:db8::1", Upstream::Udp(at("[2001:db8::1]:53"))),
            ("udp://192.0.2.1", Upstream::Udp(at("192.0.2.1:53"))),
            ("tcp://[2001:db8::1]:5353", Upstream::Tcp(at("[2001:db8::1]:5353"))),
            ("tls://192.0.2.1#dns.example.net", Upstream::Tls(at("192.0.2.1:853"), name.clone())),
            (
                "https://192.0.2.1#DNS.example.net.",
                Upstream::Https(at("192.0.2.1:443"), name.clone(), "/dns-query".to_owned()),
            ),
            (
                "https://[2001:db8::1]:8443/q?x=1#dns.example.net",
                Upstream::Https(at("[2001:db8::1]:8443"), name, "/q?x=1".to_owned()),
            ),
        ] {
            assert_eq!(upstream(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_upstream_that_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "System",
            "udp://",
            "udp://192.0.2.1#dns.example.net",
            "udp://192.0.2.1/dns-query",
            "tls://192.0.2.1",
            "tls://192.0.2.1#",
            "tls://192.0.2.1#192.0.2.1",
            "tls://192.0.2.1/x#dns.example.net",
            "tls://dns.example.net",
            "https://192.0.2.1/dns query#dns.example.net",
            "quic://192.0.2.1",
            "udp://0.0.0.0",
            "udp://192.0.2.1:0",
        ] {
            assert!(upstream(text).is_err(), "{text}");
        }
        let hint = upstream("tls://dns.example.net:853#dns.example.net").unwrap_err().hint.unwrap();
        assert!(hint.contains("tls://192.0.2.1#dns.example.net"), "{hint}");
    }

    #[test]
    fn taps_are_sockets_by_path_or_by_address_and_port() {
        let base = Path::new("/etc/namegate");
        for (text, expected) in [
            ("unix:/run/tap.sock", TapAddress::Unix("/run/tap.sock".into())),
            ("unix:///run/tap.sock", TapAddress::Unix("/run/tap.sock".into())),
            ("/run/tap.sock", TapAddress::Unix("/run/tap.sock".into())),
            ("unix:tap.sock", TapAddress::Unix("/etc/namegate/tap.sock".into())),
            ("./tap.sock", TapAddress::Unix("/etc/namegate/./tap.sock".into())),
            ("tcp:127.0.0.1:6000", TapAddress::Tcp(at("127.0.0.1:6000"))),
            ("tcp://[::1]:6000", TapAddress::Tcp(at("[::1]:6000"))),
        ] {
            assert_eq!(tap(text, base), Ok(expected), "{text}");
        }
        let long = format!("unix:/{}", "a".repeat(107));
        for text in
            ["", "unix:", "unix:/run/", "tcp:127.0.0.1", "tcp:127.0.0.1:0", "tap", "udp:127.0.0.1:1", &long]
        {
            assert!(tap(text, base).is_err(), "{text}");
        }
    }

    #[test]
    fn the_admin_socket_is_a_path_or_a_port_of_this_host() {
        let base = Path::new("/etc/namegate");
        for (text, expected) in [
            ("unix:/run/admin.sock", AdminAddress::Unix("/run/admin.sock".into())),
            ("./admin.sock", AdminAddress::Unix("/etc/namegate/./admin.sock".into())),
            ("127.0.0.1:9053", AdminAddress::Tcp(at("127.0.0.1:9053"))),
            ("tcp:[::1]:9053", AdminAddress::Tcp(at("[::1]:9053"))),
        ] {
            assert_eq!(admin(text, base), Ok(expected), "{text}");
        }
        for text in [
            "",
            "9053",
            "0.0.0.0:9053",
            "[::]:9053",
            "192.0.2.1:9053",
            "127.0.0.1:0",
            "127.0.0.1",
            "localhost:9053",
        ] {
            assert!(admin(text, base).is_err(), "{text}");
        }
    }

    #[test]
    fn audit_goes_to_standard_output_or_to_a_file() {
        let base = Path::new("/etc/namegate");
        assert_eq!(audit_target("-", base), Ok(Target::Stdout));
        assert_eq!(audit_target("/var/log/a.jsonl", base), Ok(Target::File("/var/log/a.jsonl".into())));
        assert_eq!(audit_target("a.jsonl", base), Ok(Target::File("/etc/namegate/a.jsonl".into())));
        for text in ["", "journal", "/var/log/"] {
            assert!(audit_target(text, base).is_err(), "{text}");
        }
    }
}
