//! The very bytes that an order says, over TCP.
//!
//! Must not know what they mean.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::order::{Answer, Tcp, pages};
use super::{MOMENT, in_a_moment};

/// So long nothing is said after something was: there is no more to come.
const QUIET: Duration = Duration::from_millis(200);

/// Most bytes that are listened to.
const MOST: usize = 64 << 10;

pub(super) async fn speak(order: &Tcp, kept: &mut Option<TcpStream>, answer: &mut Answer) -> io::Result<()> {
    let resumed = if order.resume { kept.take() } else { None };
    let mut stream = match (resumed, order.to) {
        (Some(stream), _) => stream,
        (None, Some(to)) if !order.resume => in_a_moment(TcpStream::connect(to)).await?,
        (None, _) => return Err(io::ErrorKind::NotConnected.into()),
    };
    stream.set_nodelay(true)?;
    for part in &order.parts {
        sleep(Duration::from_millis(part.pause)).await;
        if part.hear {
            listen(&mut stream, answer, MOMENT).await?;
        }
        stream.write_all(&part.bytes).await?;
    }
    while order.pages == 0 || pages(&answer.heard) < order.pages {
        let patience = if answer.heard.is_empty() { MOMENT } else { QUIET };
        if !listen(&mut stream, answer, patience).await? {
            break;
        }
    }
    if order.keep {
        *kept = Some(stream);
    }
    Ok(())
}

/// Takes in what is said next; `false`: no more comes.
async fn listen(stream: &mut TcpStream, answer: &mut Answer, patience: Duration) -> io::Result<bool> {
    let mut piece = [0; 4096];
    let Ok(read) = timeout(patience, stream.read(&mut piece)).await else {
        answer.end = "silence".to_owned();
        return Ok(false);
    };
    let read = read?;
    answer.heard.extend(piece.iter().take(read));
    if read == 0 {
        answer.end = "closed".to_owned();
    }
    Ok(read > 0 && answer.heard.len() < MOST)
}
