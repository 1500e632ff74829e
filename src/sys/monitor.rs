//! What the kernel tells of changes to packet filter tables and policy routing, whoever makes them.
//!
//! A change is told after it is in force. Must not know whose tables they are, nor what is done about it.

use std::io;

use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

/// A table that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `NFPROTO_INET` or `NFPROTO_BRIDGE`.
    pub family: u8,
    /// Its name.
    pub name: String,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Something of it: a look will tell what. Also said when more changed than could be told.
    Touched,
    /// A watched table was taken away, and had not come back when this was said.
    Gone,
}

/// An ear for changes. Silent about other tables, and about routes of other routing tables.
pub struct Monitor {
    filter: TokioSocket,
    routing: TokioSocket,
    tables: Vec<Table>,
    routing_table: u8,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Begins to listen; what changes from now on is told.
    ///
    /// # Errors
    /// The kernel permits no such listener.
    pub fn open(tables: Vec<Table>, routing_table: u8) -> io::Result<Self> {
        let filter = listener(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?;
        let groups = [RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
        Ok(Self { filter, routing: listener(NETLINK_ROUTE, &groups)?, tables, routing_table })
    }

    /// Waits for a change that concerns what is watched, and takes all that were told until then together.
    ///
    /// # Errors
    /// The kernel's word cannot be read.
    pub async fn changed(&mut self) -> io::Result<Change> {
        loop {
            let (from_filter, heard) = tokio::select! {
                heard = next(&mut self.filter) => (true, heard),
                heard = next(&mut self.routing) => (false, heard),
            };
            let mut change = match heard {
                Ok(heard) if from_filter => self.of_filter(&heard),
                Ok(heard) => self.of_routing(&heard),
                Err(error) => Some(overrun(error)?),
            };
            while let Some(more) = waiting(&self.filter)? {
                change = later(change, self.of_filter(&more));
            }
            while let Some(more) = waiting(&self.routing)? {
                change = change.or(self.of_routing(&more));
            }
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }

    fn of_filter(&self, heard: &[u8]) -> Option<Change> {
        messages(heard).fold(None, |change, message| later(change, self.of_filter_message(message)))
    }

    fn of_filter_message(&self, Message { kind, body }: Message<'_>) -> Option<Change> {
        let [subsystem, what] = kind.to_be_bytes();
        let family = body.first()?;
        if subsystem != NFNL_SUBSYS_NFTABLES || matches!(what, NFT_MSG_NEWGEN) {
            return None;
        }
        let name = first_attribute(body.get(4..)?)?;
        let watched =
            self.tables.iter().any(|table| table.family == *family && table.name.as_bytes() == name);
        watched.then_some(if what == NFT_MSG_DELTABLE { Change::Gone } else { Change::Touched })
    }

    fn of_routing(&self, heard: &[u8]) -> Option<Change> {
        let concerns = |Message { kind, body }: Message<'_>| match kind {
            libc::RTM_NEWRULE | libc::RTM_DELRULE => true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => body.get(4) == Some(&self.routing_table),
            _ => false,
        };
        messages(heard).any(concerns).then_some(Change::Touched)
    }
}

/// The last word counts: a table that is replaced is taken away first.
fn later(change: Option<Change>, next: Option<Change>) -> Option<Change> {
    next.or(change)
}

struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

/// Takes netlink messages apart (netlink(7)); what is cut short is left out.
fn messages(mut heard: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*heard.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*heard.get(4..)?.first_chunk()?);
        let body = heard.get(HEADER..length)?;
        heard = heard.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

/// In every message about tables but `NFT_MSG_NEWGEN` the attribute 1 is the table's name (`nf_tables.h`).
fn first_attribute(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..length)?;
        if kind & 0x3fff == 1 {
            return Some(value.split(|byte| *byte == 0).next().unwrap_or_default());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn listener(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    groups.iter().try_for_each(|group| socket.socket_mut().add_membership(*group))?;
    Ok(socket)
}

async fn next(socket: &mut TokioSocket) -> io::Result<Vec<u8>> {
    let mut heard = Vec::with_capacity(LARGEST);
    socket.recv(&mut heard).await?;
    Ok(heard)
}

/// Takes what is there, without waiting.
fn waiting(socket: &TokioSocket) -> io::Result<Option<Vec<u8>>> {
    let mut heard = Vec::with_capacity(LARGEST);
    match socket.socket_ref().recv(&mut heard, libc::MSG_DONTWAIT) {
        Ok(_) => Ok(Some(heard)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // Told at the next wait.
        Err(error) => overrun(error).map(|_| None),
    }
}

/// More changed than fits: everything may have.
fn overrun(error: io::Error) -> io::Result<Change> {
    if error.raw_os_error() == Some(libc::ENOBUFS) { Ok(Change::Touched) } else { Err(error) }
}

/// The most that the kernel puts into one message of this kind, bytes (`NLMSG_GOODSIZE` of `nf_tables_commit_notify`
/// is a page less).
const LARGEST: usize = 65_536;

/// Of a message, bytes.
const HEADER: usize = 16;

const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFT_MSG_DELTABLE: u8 = 2;
const NFT_MSG_NEWGEN: u8 = 15;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_RULE: u32 = 8;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV6_RULE: u32 = 19;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn of_table(what: u8, family: u8, name: &str) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        // An attribute before it, then the name with its final zero.
        body.extend([8u16, 7, 0, 0].map(u16::to_ne_bytes).concat());
        body.extend(u16::try_from(name.len() + 5).unwrap().to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(name.as_bytes());
        body.push(0);
        message(u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, what]), &body)
    }

    fn monitor() -> Monitor {
        let table = |family, name: &str| Table { family, name: name.to_owned() };
        Monitor::open(vec![table(1, "namegate"), table(7, "namegate")], 231).unwrap()
    }

    #[tokio::test]
    async fn only_changes_of_watched_tables_count_and_the_last_word_is_taken() {
        let monitor = monitor();
        let (new, gone) = (|f, n| of_table(0, f, n), |f, n| of_table(NFT_MSG_DELTABLE, f, n));
        let rule = of_table(8, 1, "namegate");
        for (heard, expected) in [
            (new(1, "namegate"), Some(Change::Touched)),
            (gone(1, "namegate"), Some(Change::Gone)),
            (gone(7, "namegate"), Some(Change::Gone)),
            (rule.clone(), Some(Change::Touched)),
            (gone(2, "namegate"), None),
            (gone(1, "namegate2"), None),
            (gone(1, "nat"), None),
            (of_table(NFT_MSG_NEWGEN, 1, "namegate"), None),
            ([gone(1, "namegate"), new(1, "namegate"), rule.clone()].concat(), Some(Change::Touched)),
            ([rule, gone(1, "namegate"), gone(1, "nat")].concat(), Some(Change::Gone)),
        ] {
            assert_eq!(monitor.of_filter(&heard), expected, "{heard:?}");
            for end in 0..heard.len() {
                let _ = monitor.of_filter(&heard[..end]);
            }
        }
    }

    #[tokio::test]
    async fn rules_and_routes_of_the_watched_routing_table_count() {
        let monitor = monitor();
        let route = |table| message(libc::RTM_DELROUTE, &[2, 0, 0, 0, table, 0, 0, 0]);
        for (heard, expected) in [
            (message(libc::RTM_DELRULE, &[2; 12]), Some(Change::Touched)),
            (route(231), Some(Change::Touched)),
            (route(254), None),
            (message(libc::RTM_NEWADDR, &[2; 8]), None),
            (Vec::new(), None),
        ] {
            assert_eq!(monitor.of_routing(&heard), expected);
        }
    }
}
