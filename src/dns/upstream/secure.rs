//! An upstream over TLS (RFC 7858) or HTTPS (RFC 8484): one connection, many questions, spoken by hickory.
//!
//! Of hickory we take the connection and not the lookup: that one answers some names by itself, and keeps of a
//! negative answer only a part. What the server said goes on as it came. It does not know other upstreams.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, ResolverOpts};
use hickory_resolver::net::runtime::{RuntimeProvider, Spawn, TokioRuntimeProvider};
use hickory_resolver::net::tls::tls_client_connect;
use hickory_resolver::net::xfer::{DnsExchange, DnsMultiplexer, FirstAnswer};
use hickory_resolver::net::{DnsHandle, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message};
use hickory_resolver::{ConnectionProvider, PoolContext, TlsConfig};
use http::uri::PathAndQuery;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::facts::Name;
use crate::wire::dns::{Ask, Echo, Spelling, echo};

use super::pulse::Pulse;
use super::{StartError, UpstreamError, trust};

/// One server, and the connection to it while there is one.
pub(super) struct Secure {
    server: SocketAddr,
    door: Door,
    /// Holds the tasks that carry questions and answers; they end with it.
    runtime: TokioRuntimeProvider,
    open: tokio::sync::Mutex<Open>,
    pulse: Pulse,
}

/// How a connection is made.
enum Door {
    Tls { tls: Arc<ClientConfig>, name: ServerName<'static>, timeout: Duration },
    Https { connection: ConnectionConfig, context: Box<PoolContext> },
}

type Exchange = DnsExchange<TokioRuntimeProvider>;

/// The connection, and how many there were: who found one dead must not throw away its successor.
#[derive(Default)]
struct Open {
    exchange: Option<Exchange>,
    count: u64,
}

/// Questions under way on one connection.
const UNDER_WAY: usize = 512;

impl Secure {
    pub(super) fn tls(
        server: SocketAddr,
        tls: ClientConfig,
        name: &Name,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let name = trust::server_name(name)?;
        Ok(Self::new(server, Door::Tls { tls: Arc::new(tls), name, timeout }))
    }

    pub(super) fn https(
        server: SocketAddr,
        tls: ClientConfig,
        name: &Name,
        path: &str,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        trust::server_name(name)?;
        PathAndQuery::try_from(path).map_err(|_| StartError::Path(path.to_owned()))?;
        let mut connection = ConnectionConfig::https(name.as_str().into(), Some(path.into()));
        connection.port = server.port();
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        let context = Box::new(PoolContext::new(options, TlsConfig { config: tls }));
        Ok(Self::new(server, Door::Https { connection, context }))
    }

    fn new(server: SocketAddr, door: Door) -> Self {
        Self {
            server,
            door,
            runtime: TokioRuntimeProvider::new(),
            open: tokio::sync::Mutex::default(),
            pulse: Pulse::default(),
        }
    }

    /// Asks, within the caller's deadline. A connection that turns out to be closed is replaced once.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let (exchange, count, fresh) = self.exchange().await?;
        match self.ask_over(&exchange, ask).await {
            Err(error) if !fresh && is_of_connection(&error) => {
                tracing::debug!(upstream = %self, %error, "connection to an upstream ended");
                self.forget(count).await;
                let (exchange, ..) = self.exchange().await?;
                self.ask_over(&exchange, ask).await
            }
            outcome => outcome,
        }
    }

    /// The id is hickory's: random over TLS, zero over HTTPS (RFC 8484 section 4.1). Of the rest of the answer
    /// it looks at nothing but that it is one.
    async fn ask_over(&self, exchange: &Exchange, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let query = ask.encode(0, &Spelling::PLAIN, true);
        let query = Message::from_vec(&query).map_err(|error| UpstreamError::Exchange(error.into()))?;
        let listening = self.pulse.listen();
        let outcome =
            exchange.send(DnsRequest::new(query, DnsRequestOptions::default())).first_answer().await;
        if !matches!(outcome, Err(NetError::Timeout)) {
            listening.heard();
        }
        let answer = outcome?;
        let query = ask.encode(answer.id, &Spelling::PLAIN, true);
        let answer = answer.into_buffer();
        match echo(&answer, &query) {
            Echo::Exact | Echo::OtherCase => Ok(answer),
            Echo::Foreign => Err(UpstreamError::Garbled),
        }
    }

    /// Returns the open connection with its number, or opens one; the flag tells which. Whoever comes meanwhile
    /// waits for the same connection.
    async fn exchange(&self) -> Result<(Exchange, u64, bool), UpstreamError> {
        let mut open = self.open.lock().await;
        if let Some(exchange) = open.exchange.as_ref().filter(|_| !self.pulse.is_lost()) {
            return Ok((exchange.clone(), open.count, false));
        }
        let exchange = self.connect().await?;
        self.pulse.reset();
        open.exchange = Some(exchange.clone());
        open.count += 1;
        Ok((exchange, open.count, true))
    }

    async fn connect(&self) -> Result<Exchange, NetError> {
        let runtime = &self.runtime;
        match &self.door {
            Door::Https { connection, context } => {
                runtime.new_connection(self.server.ip(), connection, context)?.await
            }
            // Hickory's own way withholds the server's name, and by it some tell their customers apart.
            Door::Tls { tls, name, timeout } => {
                let (stream, handle) =
                    tls_client_connect(self.server, name.clone(), Arc::clone(tls), runtime.clone());
                let multiplexer = DnsMultiplexer::new(stream.await?, handle)
                    .with_timeout(*timeout)
                    .with_max_active_requests(UNDER_WAY);
                let (exchange, driver) = DnsExchange::from_stream(multiplexer);
                runtime.create_handle().spawn_bg(driver);
                Ok(exchange)
            }
        }
    }

    async fn forget(&self, count: u64) {
        let mut open = self.open.lock().await;
        if open.count == count {
            open.exchange = None;
        }
    }
}

/// Whether another connection may help. Hickory calls a closed connection busy, like one with too much to do,
/// or says that the answer's receiver was cancelled.
fn is_of_connection(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Busy => true,
        UpstreamError::Exchange(error) => {
            matches!(error, NetError::Message(_) | NetError::H2(_)) || error.is_connection_closed()
        }
        UpstreamError::Timeout
        | UpstreamError::Io(_)
        | UpstreamError::Closed
        | UpstreamError::Garbled
        | UpstreamError::Nobody => false,
    }
}

impl From<NetError> for UpstreamError {
    fn from(error: NetError) -> Self {
        if matches!(error, NetError::Timeout) {
            Self::Timeout
        } else if matches!(error, NetError::Busy) {
            Self::Busy
        } else {
            Self::Exchange(error)
        }
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secure").field(&format_args!("{self}")).finish()
    }
}

impl fmt::Display for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.door {
            Door::Tls { .. } => "tls",
            Door::Https { .. } => "https",
        };
        write!(f, "{scheme}://{}", self.server)
    }
}
