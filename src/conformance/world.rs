//! The Internet of the suite: servers on every address, a true resolver, an attacker with one of his own. All write
//! down what comes.
//!
//! Must not know what the filter lets through.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::props::{Authority, Counted, Resolver, Seen, listen, serve};

use super::map::{ATTACKER, RESOLVER, lies, truth};
use super::strays::Strays;
use super::{Error, serve as talk};

/// Running servers; dropped, they are gone.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seen: Seen,
    pub(super) strays: Strays,
    _servers: JoinSet<()>,
}

/// Ports of datagrams: time, QUIC, DNS over QUIC, names of the neighbourhood, and one for fragments.
const DATAGRAMS: [u16; 5] = [123, 443, 853, 5353, FRAGMENTS];
pub(super) const FRAGMENTS: u16 = 9999;

/// IP protocols beside TCP and UDP: ICMP, GRE, SCTP.
const PROTOCOLS: [u8; 3] = [1, 47, 132];

impl World {
    /// Opens every server before it returns.
    pub(super) async fn open(authority: Arc<Authority>) -> Result<Self, Error> {
        let (seen, strays, mut servers) = (Seen::default(), Strays::default(), JoinSet::new());
        for port in [25, 80, 443, 853, 5432, FRAGMENTS] {
            // Every address of the world is a local one. The resolvers sit on theirs.
            let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let (listener, seen, authority) = (listen(at).await?, seen.clone(), Arc::clone(&authority));
            servers.spawn(serve(listener, at, seen, move |stream: Counted| {
                let authority = Arc::clone(&authority);
                async move {
                    match port {
                        25 => talk::mail(stream).await,
                        80 => talk::web(stream).await,
                        5432 => talk::database(stream, authority).await,
                        FRAGMENTS => talk::swallow(stream).await,
                        _ => talk::secured(stream, authority).await,
                    }
                }
            }));
        }
        for (at, zone) in [(RESOLVER, truth()), (SocketAddr::new(ATTACKER, 53), lies())] {
            Resolver::open(at, zone, seen.clone()).await?.serve_in(&mut servers);
        }
        for port in DATAGRAMS {
            strays.datagrams(port, &mut servers).await.map_err(|source| Error::Stray { source })?;
        }
        for protocol in PROTOCOLS {
            strays.packets(protocol).map_err(|source| Error::Stray { source })?;
        }
        Ok(Self { seen, strays, _servers: servers })
    }
}
