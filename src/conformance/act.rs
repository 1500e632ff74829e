//! The client program: it does what it is told with real sockets, and says what it heard.
//!
//! Must not know that there is a filter, nor what is to be expected.

mod secured;
mod spoken;
mod strange;

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::props::{over_tcp, over_udp, query};

use super::order::{Answer, Order};

/// How long one order may take, but for its pauses.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a connection may take to come about, and a reply to come.
const MOMENT: Duration = Duration::from_millis(1500);

/// What lasts longer than an order.
#[derive(Debug, Default)]
struct Actor {
    kept: Option<TcpStream>,
    counted: Arc<AtomicUsize>,
}

/// Carries out orders, a line each, until there are no more.
///
/// # Errors
/// Orders cannot be read or are none, answers cannot be written, or the system gives no event loop.
pub(super) fn act(orders: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut actor = Actor::default();
    for line in orders.lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let answer = runtime.block_on(actor.carry_out(&order));
        serde_json::to_writer(&mut answers, &answer)?;
        answers.write_all(b"\n")?;
        answers.flush()?;
    }
    Ok(())
}

impl Actor {
    async fn carry_out(&mut self, order: &Order) -> Answer {
        // Where an order hangs is told by what was heard until then.
        let mut answer = Answer::default();
        let patience = PATIENCE + Duration::from_millis(order.pauses());
        let done = tokio::time::timeout(patience, self.work(order, &mut answer)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => answer.end = error.to_string(),
            Err(_) => answer.end = "nothing in time".to_owned(),
        }
        answer
    }

    async fn work(&mut self, order: &Order, answer: &mut Answer) -> io::Result<()> {
        match order {
            Order::Ask { server, tcp, name, qtype } => {
                let (query, mut port) = (query(name, *qtype)?, 0);
                answer.heard = if *tcp {
                    in_a_moment(over_tcp(*server, &query, &mut port)).await?
                } else {
                    in_a_moment(over_udp(*server, &query, &mut port)).await?
                };
                Ok(())
            }
            Order::Tls(tls) => secured::fetch(tls, answer).await,
            Order::Tcp(tcp) => spoken::speak(tcp, &mut self.kept, answer).await,
            Order::Udp { to, bytes } => strange::datagram(*to, bytes, answer).await,
            Order::Raw { protocol, to, packets } => strange::raw(*protocol, *to, packets),
            Order::Listen { port } => self.listen(*port).await,
            Order::Count => {
                answer.count = self.counted.load(Ordering::Relaxed);
                Ok(())
            }
            Order::Ports => {
                answer.ports = strange::listening()?;
                Ok(())
            }
        }
    }

    async fn listen(&self, port: u16) -> io::Result<()> {
        let listener = TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await?;
        let counted = Arc::clone(&self.counted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 512];
                let read = tokio::time::timeout(MOMENT, stream.read(&mut bytes)).await;
                counted.fetch_add(read.ok().and_then(Result::ok).unwrap_or(0), Ordering::Relaxed);
            }
        });
        Ok(())
    }
}

/// Waits a moment and no longer.
async fn in_a_moment<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(MOMENT, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
