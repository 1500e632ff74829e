//! The doors of captured interfaces and of processes of this host: which form, and the listeners that fit it.
//!
//! Everything that can fail is tried here, before a rule is installed. Must not know what is served.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use ipnet::IpNet;

use crate::nft::{CaptureConfig, DnsCapture, Facts, Form, Netfilter, Plan, choose};
use crate::settings::Settings;
use crate::sys::origdst::Capture;
use crate::sys::owner::Owners;
use crate::sys::socket::{self, ListenError};
use crate::sys::udp::CapturedUdp;

use super::gateways::Gateways;
use super::local::Local;
use super::{Error, networks};

/// The plan and every listener it needs.
pub(super) struct Doors {
    /// What is to be installed.
    pub(super) plan: Plan,
    /// Addresses to be taken when it is.
    pub(super) gateways: Gateways,
    /// The door of processes of this host.
    pub(super) local: Option<LocalDoor>,
    /// How connections come to the listeners.
    pub(super) capture: Capture,
    /// The listeners of captured interfaces, and those that were asked for.
    pub(super) sockets: Sockets,
}

/// The listeners of one door.
#[derive(Default)]
pub(super) struct Sockets {
    /// Captured connections.
    pub(super) proxy: Vec<TcpListener>,
    /// Questions over TCP.
    pub(super) dns_tcp: Vec<TcpListener>,
    /// Questions over UDP.
    pub(super) dns_udp: Vec<CapturedUdp>,
}

impl Doors {
    /// Chooses the form and opens the listeners. Nothing is installed yet.
    pub(super) async fn open(
        settings: &Settings,
        capture: &CaptureConfig,
        kernel: &Arc<dyn Netfilter>,
    ) -> Result<Self, Error> {
        let gateways = Gateways::find(&settings.gateways).await?;
        let mut local = Local::find(settings)?;
        let linked = with_links(capture, &gateways);
        let config = &local.as_ref().map_or(linked.clone(), |local| local.with(&linked));
        let mut facts = Facts::read(config, &**kernel).await?;
        facts.addresses.extend(settings.gateways.iter().map(IpNet::addr));
        let form = choose(config, &facts)?;
        gateways.check().await?;
        let plan = Plan::new(config.clone(), form)?;
        if let Some(local) = &mut local {
            local.besides(&linked, form);
        }
        let local = local.map(LocalDoor::open).transpose()?;
        let capture = match form {
            Form::Redirect => Capture::Redirected,
            Form::Tproxy => Capture::Transparent,
        };
        let mut sockets = Sockets::default();
        if !config.interfaces.is_empty() {
            sockets.proxy = listeners(form, config.proxy_port)?;
        }
        match config.dns {
            DnsCapture::Forwarder if config.interfaces.is_empty() => {}
            DnsCapture::Forwarder => {
                sockets.dns_tcp = listeners(form, config.dns_port)?;
                sockets.dns_udp = datagrams(form, config.dns_port)?;
            }
            DnsCapture::External(_) => {}
        }
        for &address in &settings.dns_listen {
            sockets.dns_tcp.push(socket::listen(address)?);
            sockets.dns_udp.push(bind(address, false)?);
        }
        Ok(Self { plan, gateways, local, capture, sockets })
    }
}

/// The listeners of processes of this host. A translation of what this host sends itself leads to loopback.
pub(super) struct LocalDoor {
    /// Who is captured.
    pub(super) local: Local,
    /// Its listeners.
    pub(super) sockets: Sockets,
    /// Tells users by their sockets.
    pub(super) owners: Owners,
}

impl LocalDoor {
    fn open(local: Local) -> Result<Self, Error> {
        let owners =
            Owners::open().map_err(|source| Error::System { action: "tell whose sockets are", source })?;
        let mut sockets = Sockets::default();
        let [proxy_port, dns_port] = local.ports();
        let families =
            |port| loopbacks(port).into_iter().filter(|address| address.is_ipv4() || ipv6_is_there());
        for address in families(proxy_port) {
            sockets.proxy.push(socket::listen(address)?);
        }
        for address in families(dns_port) {
            sockets.dns_tcp.push(socket::listen(address)?);
            sockets.dns_udp.push(bind(address, false)?);
        }
        Ok(Self { local, sockets, owners })
    }
}

/// What is captured, the links of gateways included.
fn with_links(config: &CaptureConfig, gateways: &Gateways) -> CaptureConfig {
    let mut config = config.clone();
    for link in gateways.links() {
        if !config.interfaces.contains(&link) {
            config.interfaces.push(link);
        }
    }
    config
}

/// What would be captured on this machine now. Changes nothing.
///
/// # Errors
/// What a network, a user or a control group is cannot be found out.
pub async fn captured(settings: &Settings) -> Result<CaptureConfig, Error> {
    let mut config = with_links(&settings.capture, &Gateways::find(&settings.gateways).await?);
    if let Some(docker) = settings.docker.as_ref().filter(|docker| !docker.networks.is_empty()) {
        config = networks::with_bridges(&config, &networks::look(docker).await?, docker);
    }
    let local = Local::find(settings)?;
    Ok(local.map_or(config.clone(), |local| local.with(&config)))
}

fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
}

/// Whether the error says that this host has no IPv6, so that one family is enough.
fn without_ipv6(address: SocketAddr, error: &ListenError) -> bool {
    address.is_ipv6() && error.source.kind() != std::io::ErrorKind::AddrInUse && !ipv6_is_there()
}

fn ipv6_is_there() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn listeners(form: Form, port: u16) -> Result<Vec<TcpListener>, Error> {
    match form {
        Form::Redirect => Ok(vec![socket::listen_everywhere(port)?]),
        Form::Tproxy => {
            let mut open = Vec::new();
            for address in loopbacks(port) {
                match socket::listen_transparent(address) {
                    Ok(listener) => open.push(listener),
                    Err(error) if without_ipv6(address, &error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(open)
        }
    }
}

fn datagrams(form: Form, port: u16) -> Result<Vec<CapturedUdp>, Error> {
    match form {
        Form::Redirect if ipv6_is_there() => Ok(vec![bind((Ipv6Addr::UNSPECIFIED, port).into(), false)?]),
        Form::Redirect => Ok(vec![bind((Ipv4Addr::UNSPECIFIED, port).into(), false)?]),
        Form::Tproxy => {
            let families = loopbacks(port).into_iter().filter(|address| address.is_ipv4() || ipv6_is_there());
            families.map(|address| bind(address, true)).collect()
        }
    }
}

fn bind(address: SocketAddr, transparent: bool) -> Result<CapturedUdp, Error> {
    CapturedUdp::bind(address, transparent).map_err(|source| ListenError { address, source }.into())
}
