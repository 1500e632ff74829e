//! A conversation with a process of this program in another network namespace.
//!
//! Must not know what it is told to do.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::Error;
use super::order::{Answer, Order};

/// Dropped, the process is killed.
#[derive(Debug)]
pub(super) struct Talk {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// How long an answer may take, beyond the pauses of its order.
const PATIENCE: Duration = Duration::from_secs(8);

impl Talk {
    pub(super) fn within(namespace: &str) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(Error::Program)?;
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg(program)
            .args(["conformance", "--act"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::Client)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(answers)) => {
                Ok(Self { child, orders, answers: BufReader::new(answers).lines() })
            }
            (None, _) | (_, None) => Err(Error::Client(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Its process, which `nsenter` became.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Gives an order and waits for what came of it.
    pub(super) async fn tell(&mut self, order: &Order) -> Result<Answer, Error> {
        let patience = PATIENCE + Duration::from_millis(order.pauses());
        match timeout(patience, self.exchange(order)).await {
            Ok(answer) => answer.map_err(Error::Client),
            Err(_) => Err(Error::Client(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn exchange(&mut self, order: &Order) -> io::Result<Answer> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).await?;
        let line = self.answers.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_str(&line)?)
    }
}
