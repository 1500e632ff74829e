//! The client program: it does what it is told with real sockets, and says what it heard.
//!
//! Must not know that there is a gate, nor what is to be expected.

mod ask;
mod told;
mod web;

use std::io::{self, BufRead, Write};
use std::time::Duration;

use super::order::{Answer, Heard, Order, Posted};

/// How long one order may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Carries out orders, a line each, until there are no more.
///
/// # Errors
/// Orders cannot be read or are none, answers cannot be written, or the system gives no event loop.
pub fn act(orders: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for line in orders.lines() {
        let posted = Posted::read(&line?).ok_or(io::ErrorKind::InvalidData)?;
        let answer = runtime.block_on(carry_out(&posted));
        answers.write_all(answer.to_line(posted.id).as_bytes())?;
        answers.flush()?;
    }
    Ok(())
}

async fn carry_out(posted: &Posted) -> Answer {
    // Where an order hangs is told by what was heard until then.
    let mut so_far = Answer::new(Heard::Timeout, "nothing in time");
    let work = async {
        match &posted.order {
            Order::Ask { server, over, name, qtype } => {
                ask::ask(*server, *over, name, *qtype, &mut so_far).await
            }
            Order::Https { to, sni, host } => {
                web::https(*to, sni.as_deref(), host, &posted.trust, &mut so_far).await
            }
            Order::Http { to, hosts } => web::http(*to, hosts, &mut so_far).await,
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, work).await;
    match outcome {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => (so_far.heard, so_far.detail) = told::told(&error),
    }
    so_far
}

#[cfg(test)]
#[path = "act_tests.rs"]
mod tests;
