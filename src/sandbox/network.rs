//! The inside's network: `lo` alone, every address at home on it, and listeners that catch what is sent there.
//!
//! The listeners are handed out; their sockets keep to this network namespace wherever they are served. Must not
//! know who serves them.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys::{clock, confine, loopback, socket, udp};

use super::message::Part;
use super::{Capture, Form, Spec};

/// What went wrong, at which step.
pub(super) type Failure = (&'static str, io::Error);

/// Listeners, made and not yet handed out.
pub(super) struct Doors {
    pub(super) form: Form,
    tcp: Vec<(Part, TcpListener)>,
    udp: Vec<UdpSocket>,
}

/// A ruleset that is being loaded.
pub(super) struct Loading {
    child: Child,
}

/// Brings the network up.
pub(super) fn bring_up(home: (Ipv4Addr, Ipv6Addr)) -> Result<(), Failure> {
    // On this thread alone: a process with threads could not be copied any more.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| ("start a runtime", error))?;
    runtime.block_on(loopback::take_in_everything(home)).map_err(|error| ("bring the network up", error))?;
    // As outside, where the user may have the right to it: it is a port of the inside alone.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    Ok(())
}

impl Doors {
    /// Opens the listeners of the form that catches every port, and starts loading the ruleset that brings
    /// connections there. The network need not be up yet.
    pub(super) fn for_every_port(capture: &Capture) -> Result<(Self, io::Result<Loading>), Failure> {
        let refused = |error| ("listen for connections", error);
        let four = socket::listen_transparent(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let four = four.map_err(|error| refused(error.source))?;
        let port = four.local_addr().map_err(refused)?.port();
        let six = socket::listen_transparent(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        let six = match six {
            Ok(six) => Some((Part::Proxy, six)),
            Err(error) if socket::lacks_ipv6(&error.source) => None,
            Err(error) => return Err(refused(error.source)),
        };
        let loading = Loading::start(capture, &(capture.script)(port, six.is_some()));
        let tcp = [(Part::Proxy, four)].into_iter().chain(six).collect();
        Ok((Self { form: Form::EveryPort, tcp, udp: Vec::new() }, loading))
    }

    /// Opens the listeners of the form that needs no ruleset: one at every port of the list.
    pub(super) fn for_listed_ports(spec: &Spec) -> Result<Self, Failure> {
        let mut tcp = Vec::new();
        for &port in spec.ports.iter().filter(|port| **port != DNS) {
            let listener = socket::listen_everywhere(port);
            tcp.push((Part::Proxy, listener.map_err(|error| ("listen at the listed ports", error.source))?));
        }
        Ok(Self { form: Form::ListedPorts, tcp, udp: Vec::new() })
    }

    /// Opens the listeners that both forms have.
    pub(super) fn open_the_rest(&mut self, spec: &Spec) -> Result<(), Failure> {
        let dns = |error| ("listen for questions", error);
        let questions = socket::listen_everywhere(DNS).map_err(|error| dns(error.source))?;
        let everywhere = questions.local_addr().map_err(dns)?.ip();
        self.tcp.push((Part::DnsTcp, questions));
        self.udp.push(udp::open_for_capture((everywhere, DNS).into()).map_err(dns)?);
        for &port in &spec.host_ports {
            // IPv4 alone: a client that finds nobody at ::1 goes on to 127.0.0.1.
            let listener = socket::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            self.tcp.push((
                Part::Host,
                listener.map_err(|error| ("listen at a port of the host", error.source))?,
            ));
        }
        Ok(())
    }

    /// Returns what each descriptor is for, and the descriptors in the same order.
    pub(super) fn parts(&self) -> (Vec<Part>, Vec<BorrowedFd<'_>>) {
        let tcp = self.tcp.iter().map(|(part, listener)| (*part, listener.as_fd()));
        tcp.chain(self.udp.iter().map(|socket| (Part::DnsUdp, socket.as_fd()))).unzip()
    }
}

impl Loading {
    fn start(capture: &Capture, script: &str) -> io::Result<Self> {
        confine::pass_on_network_administration()?;
        let mut child = Command::new(&capture.loader)
            .args(capture.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A loader that is gone already says why on its standard error.
            let _ = input.write_all(script.as_bytes());
        }
        Ok(Self { child })
    }

    /// Waits for the end of the loading.
    fn finish_it(&mut self) -> Result<(), String> {
        let mut said = Vec::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Its end is that of the loader; a loader that hangs is none.
            let started = clock::tick();
            loop {
                let left = PATIENCE.saturating_sub(clock::tick().since(started));
                let mut awaited = [PollFd::new(&stderr, PollFlags::IN)];
                let ready = poll(&mut awaited, Timespec::try_from(left).ok().as_ref());
                let mut buffer = [0; 1024];
                match ready.map(|ready| if ready == 0 { None } else { stderr.read(&mut buffer).ok() }) {
                    Ok(Some(0)) => break,
                    Ok(Some(read)) => said.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                    Ok(None) => return Err("it takes too long".to_owned()),
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Err(format!("{status}: {line}"))
    }

    /// Waits for the end of the loading, and ends a loader that does not come to one.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let outcome = self.finish_it();
        if outcome.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        outcome
    }
}

/// A ruleset of twenty lines takes two milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

const DNS: u16 = 53;
