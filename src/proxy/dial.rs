//! The way out: a connection to the address that was judged, and to no other.
//!
//! Must not know why a permit was given.

use std::future::Future;
use std::io;
use std::pin::Pin as StdPin;

use tokio::net::{TcpSocket, TcpStream};

use crate::gate::{Permit, Pin};
use crate::sys::socket;

/// An open connection to the server, and what keeps its lease alive.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub server: TcpStream,
    /// To be held as long as the flow is open.
    pub pin: Option<Pin>,
}

/// A connection under way.
pub type Dialling<'a> = StdPin<Box<dyn Future<Output = io::Result<Dialled>> + Send + 'a>>;

/// Opens connections for permits. The caller sets the deadline.
pub trait Dial: Send + Sync {
    /// Uses up the permit: dials its destination once.
    fn dial(&self, permit: Permit) -> Dialling<'_>;
}

/// Dials with the kernel's own TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, permit: Permit) -> Dialling<'_> {
        Box::pin(async move {
            let destination = permit.destination();
            let socket = if destination.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket::send_at_once(&socket)?;
            let server = socket.connect(destination).await?;
            Ok(Dialled { server, pin: permit.into_pin() })
        })
    }
}
