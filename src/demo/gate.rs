//! The seam to the gate's process, and to the two clients behind it.
//!
//! Must not know how they were started, nor what is tried.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::{sleep, timeout};

use super::order::{Answer, Heard, Order, Posted};

/// A gate with two clients behind it that run [`super::act()`]. Dropped, its process is ended.
#[derive(Debug)]
pub struct Gate {
    pub(super) process: Process,
    pub(super) clients: [Client; 2],
}

impl Gate {
    /// Takes over the process of a gate, which is a child of this one, and what its clients are told by.
    pub fn new(pid: Pid, clients: [Client; 2]) -> Self {
        Self { process: Process(Some(pid)), clients }
    }
}

/// Two pipes: orders to the client program's standard input, answers from its standard output.
#[derive(Debug)]
pub struct Client {
    orders: OwnedFd,
    answers: OwnedFd,
}

impl Client {
    /// Takes the writing end of the first pipe and the reading end of the second.
    pub fn new(orders: OwnedFd, answers: OwnedFd) -> Self {
        Self { orders, answers }
    }
}

/// The gate's process, until it was ended.
#[derive(Debug)]
pub(super) struct Process(Option<Pid>);

/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(2);

/// How often at most: a killed process is gone within a second.
const LOOKS: u32 = 500;

impl Process {
    /// Kills it, as an attacker would, and waits until the kernel has closed what it had.
    pub(super) async fn kill(&mut self) {
        let Some(pid) = self.0.take() else { return };
        // One that is gone already is as dead.
        let _ = kill_process(pid, Signal::KILL);
        for _ in 0..LOOKS {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(None) => sleep(LOOK).await,
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = self.0.take() {
            let _ = kill_process(pid, Signal::KILL);
            // A killed process ends by itself.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// A conversation with one client.
#[derive(Debug)]
pub(super) struct Talk {
    orders: pipe::Sender,
    answers: Lines<BufReader<pipe::Receiver>>,
    trust: String,
    last: u64,
}

/// How long a client may take for an answer: its own patience, and its start.
const PATIENCE: Duration = Duration::from_secs(5);

impl Talk {
    /// Begins it. Needs the runtime.
    pub(super) fn with(client: Client, trust: &str) -> io::Result<Self> {
        Ok(Self {
            orders: pipe::Sender::from_owned_fd(client.orders)?,
            answers: BufReader::new(pipe::Receiver::from_owned_fd(client.answers)?).lines(),
            trust: trust.to_owned(),
            last: 0,
        })
    }

    /// Gives an order and waits for what came of it.
    pub(super) async fn tell(&mut self, order: &Order) -> Answer {
        match timeout(PATIENCE, self.exchange(order)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::new(Heard::Other, format!("the client is gone: {error}")),
            Err(_) => Answer::new(Heard::Other, "the client says nothing"),
        }
    }

    async fn exchange(&mut self, order: &Order) -> io::Result<Answer> {
        self.last += 1;
        let posted = Posted { id: self.last, order: order.clone(), trust: self.trust.clone() };
        self.orders.write_all(posted.to_line().as_bytes()).await?;
        loop {
            let line = self.answers.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (id, answer) = Answer::read(&line).ok_or(io::ErrorKind::InvalidData)?;
            // Anything else is a late answer to an order that was given up.
            if id == self.last {
                return Ok(answer);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_gate_is_ended_once_by_killing_or_by_dropping_it() {
        let start = || Pid::from_child(&Command::new("sleep").arg("60").spawn().unwrap());
        let is_there = |pid| rustix::process::test_kill_process(pid).is_ok();
        let (killed, dropped) = (start(), start());
        let mut process = Process(Some(killed));
        process.kill().await;
        process.kill().await;
        assert!(!is_there(killed));
        drop(Process(Some(dropped)));
        assert!(!is_there(dropped));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_told_apart_from_a_refusal() {
        let (read, write) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let mut talk = Talk::with(Client::new(read.1.into(), write.0.into()), "").unwrap();
        drop((read.0, write.1));
        let to = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        let answer = talk.tell(&Order::Http { to, hosts: Vec::new() }).await;
        assert_eq!(answer.heard, Heard::Other);
        assert!(answer.detail.starts_with("the client is gone"), "{}", answer.detail);
    }
}
