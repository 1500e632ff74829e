//! The event loops of connections: one a core, each with a listener of its own.
//!
//! A connection lives and ends on the loop that accepted it, so nothing of it crosses threads. Must not know what
//! is served.

use std::future::Future;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::thread;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::sys::socket;

use super::Error;
use super::engine::Tasks;

/// Loops in all: beyond these more cores add nothing but memory.
const MOST: usize = 64;

/// The loops; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    loops: Vec<Handle>,
    stop: CancellationToken,
}

impl Workers {
    /// Starts a loop for each core that this process may use.
    pub(super) fn start() -> Result<Self, Error> {
        let cores = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let mut workers = Self { loops: Vec::with_capacity(cores), stop: CancellationToken::new() };
        for number in 0..cores {
            let worker = start(number, workers.stop.clone());
            let system = |source| Error::System { action: "start a thread for connections", source };
            workers.loops.push(worker.map_err(system)?);
        }
        Ok(workers)
    }

    /// Returns the loops, for whoever wants to know whether they turn.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.loops
    }

    /// Serves one address by every loop. The kernel shares its connections out among them.
    ///
    /// # Errors
    /// The address cannot be listened on more than once.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: &Tasks,
        first: StdTcpListener,
        mut work: impl FnMut(TcpListener) -> F,
    ) -> Result<(), Error> {
        let others: io::Result<Vec<_>> =
            self.loops.iter().skip(1).map(|_| socket::listen_beside(&first)).collect();
        let others = others.map_err(|source| Error::System { action: "share a listener", source })?;
        for (worker, listener) in self.loops.iter().zip(std::iter::once(first).chain(others)) {
            let _inside = worker.enter();
            let listener = TcpListener::from_std(listener)
                .map_err(|source| Error::System { action: "adopt a listener", source })?;
            tasks.serving.spawn_on(work(listener), worker);
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start(number: usize, stop: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("connections-{number}"))
        .spawn(move || runtime.block_on(stop.cancelled()))?;
    Ok(handle)
}
