//! The doors of a captured interface: which form, and the listeners that fit it.
//!
//! Everything that can fail is tried here, before a rule is installed. Must not know what is served.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use ipnet::IpNet;

use crate::nft::{CaptureConfig, DnsCapture, Facts, Form, Netfilter, Plan, choose};
use crate::settings::Settings;
use crate::sys::origdst::Capture;
use crate::sys::socket::{self, ListenError};
use crate::sys::udp::CapturedUdp;

use super::gateways::Gateways;
use super::{Error, networks};

/// The plan and every listener it needs.
pub(super) struct Doors {
    /// What is to be installed.
    pub(super) plan: Plan,
    /// Addresses to be taken when it is.
    pub(super) gateways: Gateways,
    /// How connections come to the listeners.
    pub(super) capture: Capture,
    /// Captured connections.
    pub(super) proxy: Vec<TcpListener>,
    /// Questions over TCP, captured or asked for.
    pub(super) dns_tcp: Vec<TcpListener>,
    /// Questions over UDP, captured or asked for.
    pub(super) dns_udp: Vec<CapturedUdp>,
}

impl Doors {
    /// Chooses the form and opens the listeners. Nothing is installed yet.
    pub(super) async fn open(settings: &Settings, kernel: &Arc<dyn Netfilter>) -> Result<Self, Error> {
        let gateways = Gateways::find(&settings.gateways).await?;
        let config = with_links(&settings.capture, &gateways);
        let mut facts = Facts::read(&config, &**kernel).await?;
        facts.addresses.extend(settings.gateways.iter().map(IpNet::addr));
        let form = choose(&config, &facts)?;
        gateways.check().await?;
        let plan = Plan::new(config.clone(), form)?;
        let capture = match form {
            Form::Redirect => Capture::Redirected,
            Form::Tproxy => Capture::Transparent,
        };
        let proxy = listeners(form, config.proxy_port)?;
        let mut dns_tcp = Vec::new();
        let mut dns_udp = Vec::new();
        match config.dns {
            DnsCapture::Forwarder => {
                dns_tcp = listeners(form, config.dns_port)?;
                dns_udp = datagrams(form, config.dns_port)?;
            }
            DnsCapture::External(_) => {}
        }
        for &address in &settings.dns_listen {
            dns_tcp.push(socket::listen(address)?);
            dns_udp.push(bind(address, false)?);
        }
        Ok(Self { plan, gateways, capture, proxy, dns_tcp, dns_udp })
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
/// No link leads to a network whose gateway this is to be, or Docker does not tell of a network.
pub async fn captured(settings: &Settings) -> Result<CaptureConfig, Error> {
    let mut config = with_links(&settings.capture, &Gateways::find(&settings.gateways).await?);
    if let Some(docker) = settings.docker.as_ref().filter(|docker| !docker.networks.is_empty()) {
        config.interfaces.extend(networks::look(docker).await?.bridges(docker));
    }
    Ok(config)
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
