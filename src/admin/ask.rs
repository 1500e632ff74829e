//! The other side: asks a running gate for its status.
//!
//! Must not know what is in the answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::token::Token;
use super::{AdminConfig, TokenError};

/// For the whole answer.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("the gate is not running")]
    Absent {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody listens and does not answer.
    #[error("the gate does not answer within {} s", DEADLINE.as_secs())]
    Mute,
    /// Not for this user, or not with this token.
    #[error("this user may not ask the gate")]
    Refused {
        /// What the system says, where it is the system that refused.
        #[source]
        source: Option<io::Error>,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The answer is none.
    #[error("what answers is not namegate")]
    Foreign,
    /// The connection broke.
    #[error("the gate ended the connection")]
    Broken {
        /// How.
        #[source]
        source: io::Error,
    },
}

/// Asks for `/status`, and returns the JSON.
///
/// # Errors
/// [`AskError`], within [`DEADLINE`].
pub async fn ask(config: &AdminConfig) -> Result<String, AskError> {
    timeout(DEADLINE, ask_at(config)).await.unwrap_or(Err(AskError::Mute))
}

async fn ask_at(config: &AdminConfig) -> Result<String, AskError> {
    match config {
        AdminConfig::Unix { path, .. } => {
            converse(UnixStream::connect(path).await.map_err(unconnected)?, None).await
        }
        AdminConfig::Tcp { address, token_file } => {
            let token = Token::read(token_file)?;
            converse(TcpStream::connect(address).await.map_err(unconnected)?, Some(&token)).await
        }
    }
}

fn unconnected(source: io::Error) -> AskError {
    if source.kind() == io::ErrorKind::PermissionDenied {
        AskError::Refused { source: Some(source) }
    } else if source.kind() == io::ErrorKind::WouldBlock {
        // On a unix socket: as many wait for an answer as may.
        AskError::Mute
    } else {
        AskError::Absent { source }
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    token: Option<&Token>,
) -> Result<String, AskError> {
    let broken = |source| AskError::Broken { source };
    let authorization =
        token.map_or_else(String::new, |token| format!("Authorization: {}\r\n", token.bearer()));
    // Of version 1.0: the answer comes in one piece, and ends with the connection.
    let question = format!("GET /status HTTP/1.0\r\nHost: localhost\r\n{authorization}\r\n");
    stream.write_all(question.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer).await.map_err(broken)?;
    let answer = String::from_utf8(answer).map_err(|_| AskError::Foreign)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(AskError::Foreign)?;
    let mut words = head.split(' ');
    let protocol = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match (protocol, words.next()) {
        (true, Some("200")) => Ok(body.to_owned()),
        (true, Some("401")) => Err(AskError::Refused { source: None }),
        (true | false, _) => Err(AskError::Foreign),
    }
}

/// Bytes; an answer has one or two thousand.
const LARGEST_ANSWER: u64 = 1 << 20;
