//! An upstream over TCP (RFC 7766): one connection, many questions, answers in any order.
//!
//! It does not know other upstreams.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::wire::dns::{Ask, Echo, Spelling, echo};

use super::UpstreamError;
use super::pulse::Pulse;

/// One server, and the connection to it while there is one.
pub(super) struct Lane {
    server: SocketAddr,
    open: tokio::sync::Mutex<Option<Open>>,
    pulse: Pulse,
}

/// A connection. Its task ends with it.
struct Open {
    jobs: mpsc::Sender<Job>,
    task: AbortOnDropHandle<()>,
}

/// A question that waits to be sent.
struct Job {
    ask: Ask,
    answer: oneshot::Sender<Vec<u8>>,
}

/// A question that was sent.
struct Waiting {
    query: Vec<u8>,
    answer: oneshot::Sender<Vec<u8>>,
}

/// Questions under way on one connection.
const UNDER_WAY: usize = 512;
/// A connection without questions is closed after this long (RFC 7766 section 6.2.3 asks for seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Writing one question takes no longer, or the server has stopped reading.
const WRITE: Duration = Duration::from_secs(5);

impl Lane {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, open: tokio::sync::Mutex::default(), pulse: Pulse::default() }
    }

    /// Asks, within the caller's deadline. A connection that turns out to be closed is replaced once.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let (jobs, fresh) = self.jobs().await?;
        match self.ask_over(jobs, ask).await {
            Err(UpstreamError::Closed) if !fresh => {
                let (jobs, _) = self.jobs().await?;
                self.ask_over(jobs, ask).await
            }
            outcome => outcome,
        }
    }

    async fn ask_over(&self, jobs: mpsc::Sender<Job>, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let (answer, came) = oneshot::channel();
        let job = Job { ask: ask.clone(), answer };
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(UpstreamError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(UpstreamError::Closed),
        }
        let listening = self.pulse.listen();
        let outcome = came.await;
        listening.heard();
        outcome.map_err(|_| UpstreamError::Closed)
    }

    /// Returns the way to the open connection, or opens one; the flag tells which. Whoever comes meanwhile
    /// waits for the same connection.
    async fn jobs(&self) -> Result<(mpsc::Sender<Job>, bool), UpstreamError> {
        let mut open = self.open.lock().await;
        let usable = |open: &&Open| !open.jobs.is_closed() && !open.task.is_finished();
        if let Some(open) = open.as_ref().filter(usable).filter(|_| !self.pulse.is_lost()) {
            return Ok((open.jobs.clone(), false));
        }
        let stream = TcpStream::connect(self.server).await.map_err(UpstreamError::Io)?;
        stream.set_nodelay(true).map_err(UpstreamError::Io)?;
        let (jobs, queue) = mpsc::channel(UNDER_WAY);
        let task = tokio::spawn(run(stream, queue));
        self.pulse.reset();
        *open = Some(Open { jobs: jobs.clone(), task: AbortOnDropHandle::new(task) });
        Ok((jobs, true))
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lane").field(&self.server).finish()
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.server)
    }
}

/// Carries questions and answers until either side ends; then those who still wait hear `Closed`.
async fn run(stream: TcpStream, jobs: mpsc::Receiver<Job>) {
    let (reader, writer) = stream.into_split();
    let waiting = Mutex::new(HashMap::new());
    let outcome = tokio::select! {
        outcome = write(writer, jobs, &waiting) => outcome,
        outcome = read(reader, &waiting) => outcome,
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection to an upstream ended");
    }
}

async fn write(
    mut stream: OwnedWriteHalf,
    mut jobs: mpsc::Receiver<Job>,
    waiting: &Mutex<HashMap<u16, Waiting>>,
) -> io::Result<()> {
    loop {
        let job = match timeout(IDLE, jobs.recv()).await {
            Ok(Some(job)) => job,
            Ok(None) => return Ok(()),
            Err(_) => {
                // Whoever asked gave up long ago, and the server has not said a word.
                jobs.close();
                return Ok(());
            }
        };
        let Some(query) = register(job, waiting) else { continue };
        let length = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes();
        let framed = [length.as_slice(), &query].concat();
        timeout(WRITE, stream.write_all(&framed)).await??;
    }
}

/// Gives a question an id that is not in use. `None`: too many wait already; the asker hears `Closed`.
fn register(job: Job, waiting: &Mutex<HashMap<u16, Waiting>>) -> Option<Vec<u8>> {
    let mut waiting = waiting.lock();
    if waiting.len() >= UNDER_WAY {
        waiting.retain(|_, waiting| !waiting.answer.is_closed());
        if waiting.len() >= UNDER_WAY {
            return None;
        }
    }
    let mut id: u16 = rand::random();
    while waiting.contains_key(&id) {
        id = id.wrapping_add(1);
    }
    let query = job.ask.encode(id, &Spelling::PLAIN, true);
    waiting.insert(id, Waiting { query: query.clone(), answer: job.answer });
    Some(query)
}

async fn read(mut stream: OwnedReadHalf, waiting: &Mutex<HashMap<u16, Waiting>>) -> io::Result<()> {
    let mut answer = Vec::new();
    loop {
        let length = stream.read_u16().await?;
        answer.clear();
        (&mut stream).take(u64::from(length)).read_to_end(&mut answer).await?;
        let Some(id) = answer.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if answer.len() < usize::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(asked) = waiting.lock().remove(&id) else { continue };
        match echo(&answer, &asked.query) {
            Echo::Exact | Echo::OtherCase => {
                // Whoever asked may have given up.
                let _ = asked.answer.send(std::mem::take(&mut answer));
            }
            Echo::Foreign => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
