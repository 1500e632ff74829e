//! One conversation with the kernel about links, addresses, rules and routes (rtnetlink).
//!
//! It speaks of the network namespace of the thread that opens it. Must not know what is asked, nor why.

use std::io;

use rtnetlink::Handle;
use tokio::task::JoinHandle;

/// An open netlink socket and the task that serves it; both end when this is dropped.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Netlink {
    /// Opens a socket; dumps are filtered by the kernel, so that a big routing table costs nothing.
    ///
    /// # Errors
    ///
    /// No netlink sockets are to be had.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// Returns the handle that requests are made of.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Turns a refusal of the kernel into the error number it carries.
pub fn os_error(error: rtnetlink::Error) -> io::Error {
    match &error {
        rtnetlink::Error::NetlinkError(message) => io::Error::from_raw_os_error(message.raw_code().abs()),
        rtnetlink::Error::UnexpectedMessage(_)
        | rtnetlink::Error::RequestFailed
        | rtnetlink::Error::NamespaceError(_)
        | rtnetlink::Error::InvalidHardwareAddress(_)
        | rtnetlink::Error::InvalidIp(_)
        | rtnetlink::Error::InvalidAddress(_, _)
        | rtnetlink::Error::InvalidNla(_) => io::Error::other(error),
    }
}
