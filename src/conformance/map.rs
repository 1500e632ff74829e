//! Who lives where in the world of the suite, what is allowed, and what DNS says.
//!
//! Opens no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::rdata::svcb::{EchConfigList, IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::props::Zone;

/// An allowed name. It shares its address with [`OTHER`].
pub(super) const GOOD: &str = "good.example.com";
/// Another, at an address of its own.
pub(super) const ALSO: &str = "also.example.com";
/// One that only one client asks for.
pub(super) const SOLO: &str = "solo.example.com";
/// One whose answers are good for a second.
pub(super) const SHORT: &str = "short.example.com";
/// One that moves with every answer, each good for a second.
pub(super) const MOVING: &str = "moving.example.com";
/// One with other addresses in every answer.
pub(super) const ROTATING: &str = "rotating.example.com";
/// One with a record of [`ALSO`] in its answer, which leads to the attacker.
pub(super) const STRAY: &str = "stray.example.com";
/// One that is an alias of [`EDGE`].
pub(super) const ALIAS: &str = "www.example.com";
/// Allowed names that lead where nothing public lives.
pub(super) const PRIVATE: &str = "private.example.com";
pub(super) const METADATA: &str = "metadata.example.com";
pub(super) const METADATA6: &str = "metadata6.example.com";
pub(super) const MAPPED: &str = "mapped.example.com";
/// One whose server wants another key share than clients offer first.
pub(super) const RETRYING: &str = "retrying.example.com";
/// One with an address hint and an ECH key in its HTTPS record.
pub(super) const HINTED: &str = "hinted.example.com";
/// One with a database.
pub(super) const DATABASE: &str = "database.example.com";
/// One whose server speaks first, on port 25: a rule by address is meant.
pub(super) const MAIL: &str = "mail.example.com";

/// Names that are to be reached on ports 80, 443 and 5432.
pub(super) const ALLOWED: [&str; 15] = [
    GOOD, ALSO, SOLO, SHORT, MOVING, ROTATING, STRAY, ALIAS, PRIVATE, METADATA, METADATA6, MAPPED, RETRYING,
    HINTED, DATABASE,
];

/// A name that is not allowed, at the address of [`GOOD`].
pub(super) const OTHER: &str = "other.example.net";
/// What [`ALIAS`] stands for; not allowed itself.
pub(super) const EDGE: &str = "edge.example.net";
/// Denied names that look like an allowed one.
pub(super) const LOOKALIKES: [&str; 2] = ["evilgood.example.com", "good.example.com.attacker.test"];
/// A question that carries data out.
pub(super) const TUNNEL: &str = "mfwgy33xmvscazlyn53gk4tjmzuwk3tu.c2vjcmv0.tunnel.attacker.test";
/// The same for what goes to the attacker's own name server.
pub(super) const TUNNEL_TCP: &str = "mfwgy33xmvscazlyn53gk4tjmzuwk3tu.c2vjcmv0.tcp.attacker.test";

/// What the servers' certificate is for.
pub(super) const CERTIFIED: [&str; 4] =
    ["*.example.com", "*.example.net", "*.attacker.test", "good.example.com.attacker.test"];

pub(super) const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const GATEWAY_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where [`GOOD`] and [`OTHER`] live.
pub(super) const SHARED: IpAddr = four(10);
pub(super) const SHARED6: IpAddr = six(0x10);
pub(super) const AT_ALSO: IpAddr = four(20);
pub(super) const AT_SOLO: IpAddr = four(31);
pub(super) const AT_SHORT: IpAddr = four(30);
/// Where [`MOVING`] was at first.
pub(super) const AT_FIRST: IpAddr = four(34);
pub(super) const AT_ALIAS: IpAddr = four(12);
pub(super) const AT_RETRYING: IpAddr = four(25);
pub(super) const AT_DATABASE: IpAddr = four(27);
pub(super) const AT_MAIL: IpAddr = four(26);
pub(super) const AT_HINTED: IpAddr = four(13);
/// No answer names it.
pub(super) const UNNAMED: IpAddr = four(40);
pub(super) const UNNAMED6: IpAddr = six(0x40);
pub(super) const ATTACKER: IpAddr = four(66);
pub(super) const ATTACKER6: IpAddr = six(0x66);
pub(super) const AT_PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 5));
/// Where clouds keep secrets.
pub(super) const AT_METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
pub(super) const AT_METADATA6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
/// The same, behind a translator (RFC 6052).
pub(super) const AT_MAPPED: IpAddr = IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe));

const fn four(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, last))
}

const fn six(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last))
}

/// Types of records, by number (RFC 1035, 3596, 9460).
pub(super) const A_RECORD: u16 = 1;
pub(super) const TXT_RECORD: u16 = 16;
pub(super) const AAAA_RECORD: u16 = 28;
pub(super) const HTTPS_RECORD: u16 = 65;

/// What stands for an ECH key (RFC 9849): it is looked for by its bytes.
pub(super) const ECH_KEY: &[u8] = b"\x00\x14\xfe\x0dthis is an ech key";

/// Seconds that answers are good for.
const TTL: u32 = 300;

/// What the true resolver says.
pub(super) fn truth() -> Zone {
    let (turn, moves) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(move |owner, name, kind| {
        let rotated = || match turn.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => vec![four(21), four(22)],
            _ => vec![four(23), four(24)],
        };
        let addresses = match name {
            ROTATING => rotated(),
            MOVING if kind == RecordType::A => match moves.fetch_add(1, Ordering::Relaxed) {
                0 => vec![AT_FIRST],
                _ => vec![four(35)],
            },
            MOVING => Vec::new(),
            ALIAS => return alias(owner, kind),
            name => fixed(name)?,
        };
        let ttl = if matches!(name, SHORT | MOVING) { 1 } else { TTL };
        let mut records = of_kind(owner, ttl, kind, &addresses);
        if name == STRAY && kind == RecordType::A {
            let also = Name::from_ascii(format!("{ALSO}.")).ok()?;
            records.extend(of_kind(&also, TTL, kind, &[ATTACKER]));
        }
        if name == HINTED && kind == RecordType::HTTPS {
            records.push(hint(owner));
        }
        Some(records)
    })
}

/// What the attacker's name server says: everything is at his own address.
pub(super) fn lies() -> Zone {
    Arc::new(|owner, _, kind| Some(of_kind(owner, TTL, kind, &[ATTACKER, ATTACKER6])))
}

fn fixed(name: &str) -> Option<Vec<IpAddr>> {
    Some(match name {
        GOOD | OTHER => vec![SHARED, SHARED6],
        ALSO => vec![AT_ALSO],
        SOLO => vec![AT_SOLO],
        SHORT => vec![AT_SHORT],
        STRAY => vec![four(32)],
        EDGE => vec![AT_ALIAS],
        PRIVATE => vec![AT_PRIVATE],
        METADATA => vec![AT_METADATA],
        METADATA6 => vec![AT_METADATA6],
        MAPPED => vec![AT_MAPPED],
        RETRYING => vec![AT_RETRYING],
        HINTED => vec![AT_HINTED],
        DATABASE => vec![AT_DATABASE],
        MAIL => vec![AT_MAIL],
        name if name.ends_with(".attacker.test") => vec![ATTACKER],
        name if LOOKALIKES.contains(&name) => vec![SHARED],
        _ => return None,
    })
}

fn of_kind(owner: &Name, ttl: u32, kind: RecordType, addresses: &[IpAddr]) -> Vec<Record> {
    let data = |address: &IpAddr| match address {
        IpAddr::V4(four) => (RecordType::A, RData::A(A(*four))),
        IpAddr::V6(six) => (RecordType::AAAA, RData::AAAA(AAAA(*six))),
    };
    let data = addresses.iter().map(data).filter(|(is, _)| *is == kind);
    data.map(|(_, data)| Record::from_rdata(owner.clone(), ttl, data)).collect()
}

fn alias(owner: &Name, kind: RecordType) -> Option<Vec<Record>> {
    let edge = Name::from_ascii(format!("{EDGE}.")).ok()?;
    let mut records = vec![Record::from_rdata(owner.clone(), TTL, RData::CNAME(CNAME(edge.clone())))];
    records.extend(of_kind(&edge, TTL, kind, &[AT_ALIAS]));
    Some(records)
}

/// An HTTPS record with another address than the A record has, and an ECH key.
fn hint(owner: &Name) -> Record {
    let hint = IpHint(vec![A::new(203, 0, 113, 14)]);
    let params = vec![
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(hint)),
        (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(ECH_KEY.to_vec()))),
    ];
    Record::from_rdata(owner.clone(), TTL, RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params))))
}
