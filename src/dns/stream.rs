//! DNS over TCP for one client (RFC 7766): many questions on one connection, answered as answers come.
//!
//! It does not know how a question is judged or answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::facts::Transport;
use crate::sys::origdst::{Capture, original_destination};

use super::forwarder::Forwarder;

/// Questions of one connection under way at once; the next one is not read before one is answered.
const UNDER_WAY: usize = 32;
/// A connection without a new question is closed after this long (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// A question that began to come is here by then, and an answer is taken by then.
const MESSAGE: Duration = Duration::from_secs(5);

/// Serves a connection until the client closes it, is idle or too slow, or `cancel` says so.
pub(super) async fn serve(
    forwarder: &Forwarder,
    connection: TcpStream,
    peer: SocketAddr,
    cancel: CancellationToken,
) {
    // Whom the client wanted to ask, also where it was led here: a connection that was not is its own answer.
    let Ok(server) = original_destination(&connection, Capture::Redirected) else { return };
    // Answers are small and whole: waiting to fill a segment only delays them.
    let _ = connection.set_nodelay(true);
    let (reader, writer) = connection.into_split();
    let (replies, queue) = mpsc::channel(UNDER_WAY);
    let writing = write(writer, queue);
    tokio::pin!(writing);
    let outcome = tokio::select! {
        outcome = read(forwarder, reader, replies, (peer, server)) => outcome,
        () = cancel.cancelled() => Ok(()),
        // The client takes no answers: what is under way is answered to nobody.
        outcome = &mut writing => return log(peer, outcome),
    };
    log(peer, outcome);
    // Every question under way holds a way to the writer; it ends with the last.
    log(peer, writing.await);
}

fn log(peer: SocketAddr, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "DNS connection ended");
    }
}

async fn read(
    forwarder: &Forwarder,
    mut reader: OwnedReadHalf,
    replies: mpsc::Sender<Vec<u8>>,
    (peer, server): (SocketAddr, SocketAddr),
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let mut length = [0; 2];
        if timeout(IDLE, reader.read(length.get_mut(..1).unwrap_or_default())).await?? == 0 {
            return Ok(());
        }
        let message = timeout(MESSAGE, async {
            reader.read_exact(length.get_mut(1..).unwrap_or_default()).await?;
            let mut message = Vec::new();
            let length = u16::from_be_bytes(length);
            (&mut reader).take(u64::from(length)).read_to_end(&mut message).await?;
            if message.len() < usize::from(length) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok::<_, io::Error>(message)
        })
        .await??;
        let (forwarder, replies) = (forwarder.clone(), replies.clone());
        forwarder.tasks().clone().spawn(async move {
            let reply = forwarder.answer(forwarder.asked(&message, peer, server, Transport::Tcp)).await;
            // A client that does not read keeps its replies waiting, not its questions besides.
            drop(message);
            if let Some(reply) = reply {
                // The writer may have given up on the client.
                let _ = replies.send(reply).await;
            }
            drop(place);
        });
    }
}

async fn write(mut writer: OwnedWriteHalf, mut replies: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(reply) = replies.recv().await {
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?.to_be_bytes();
        let framed = [length.as_slice(), &reply].concat();
        timeout(MESSAGE, writer.write_all(&framed)).await??;
    }
    writer.shutdown().await
}
