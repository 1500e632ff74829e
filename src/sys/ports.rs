//! Ports of bridges: which one a process's network namespace hangs on, and whether it sees its neighbours.
//!
//! Nobody's network namespace is entered. Must not know containers, nor why a port matters.

use std::io;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::{Handle, LinkBridgePort};

use super::netlink::{Netlink, os_error};

/// Returns the names of the ports of this bridge whose other end is in the network namespace of that process. None
/// when it is this process's own namespace, or hangs elsewhere.
///
/// # Errors
/// The kernel does not answer; there is no such process, or no such bridge.
pub async fn of_process(pid: u32, bridge: &str) -> io::Result<Vec<String>> {
    let netlink = Netlink::open()?;
    let Some(namespace) = namespace_of(netlink.handle(), pid).await? else { return Ok(Vec::new()) };
    let there = LinkAttribute::LinkNetNsId(namespace);
    ports(&netlink, index(bridge)?, |link| link.attributes.contains(&there)).await
}

/// Returns the names of all ports of a bridge.
///
/// # Errors
/// The kernel does not answer; there is no such bridge.
pub async fn of_bridge(bridge: &str) -> io::Result<Vec<String>> {
    let netlink = Netlink::open()?;
    ports(&netlink, index(bridge)?, |_| true).await
}

/// Keeps a port from its neighbours on the bridge that are kept apart too, or no longer (`IFLA_BRPORT_ISOLATED`).
///
/// # Errors
/// It is no port of a bridge, or this is not permitted.
pub async fn isolate(port: &str, on: bool) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let message = LinkBridgePort::new(index(port)?).isolated(on).build();
    netlink.handle().link().set_port(message).execute().await.map_err(os_error)
}

/// The number under which this namespace knows that of a process; none when it knows none.
async fn namespace_of(handle: &Handle, pid: u32) -> io::Result<Option<i32>> {
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Pid(pid));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    message.header.flags = NLM_F_REQUEST;
    let mut answers = handle.clone().request(message).map_err(os_error)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) = answer.payload {
            let id = |attribute| if let NsidAttribute::Id(id) = attribute { Some(id) } else { None };
            // Less than zero: it has none.
            return Ok(found.attributes.into_iter().find_map(id).filter(|id| *id >= 0));
        } else if let NetlinkPayload::Error(refusal) = answer.payload {
            return Err(refusal.to_io());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

async fn ports(
    netlink: &Netlink,
    bridge: u32,
    meant: impl Fn(&LinkMessage) -> bool,
) -> io::Result<Vec<String>> {
    let mut links = std::pin::pin!(netlink.handle().link().get().execute());
    let mut found = Vec::new();
    while let Some(link) = links.try_next().await.map_err(os_error)? {
        if link.attributes.contains(&LinkAttribute::Controller(bridge)) && meant(&link) {
            found.extend(name(&link));
        }
    }
    Ok(found)
}

fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

fn name(link: &LinkMessage) -> Option<String> {
    let name = |attribute: &LinkAttribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
    };
    link.attributes.iter().find_map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_process_no_bridge_and_no_port_is_an_error() {
        of_process(u32::MAX >> 1, "lo").await.expect_err("no such process");
        isolate("no-such-link", true).await.expect_err("no such link");
        isolate("lo", true).await.expect_err("no port");
        // Its own namespace has no number in itself.
        assert_eq!(of_process(std::process::id(), "lo").await.expect("answer"), Vec::<String>::new());
    }
}
