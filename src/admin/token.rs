//! The secret that lets somebody ask over TCP.
//!
//! It is never shown. Must not know who presents it.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What an `Authorization: Bearer` header has to hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(Box<[u8]>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token in {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What it holds is too easily guessed, or cannot stand in a header.
    #[error("{} holds no token: {SHORTEST} to {LONGEST} letters, digits and signs, without a space", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
    },
}

impl Token {
    /// Reads the file; white space around the token does not count.
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        let mut text = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(LARGEST_FILE).read_to_end(&mut text).map_err(unreadable)?;
        let token = text.trim_ascii();
        let fit = (SHORTEST..=LONGEST).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        if fit { Ok(Self(token.into())) } else { Err(TokenError::Unfit { path: path.to_owned() }) }
    }

    /// Whether this is it. How long the answer takes tells the length of the token at most.
    pub(super) fn is(&self, presented: &[u8]) -> bool {
        let differences = self.0.iter().zip(presented).fold(0, |seen, (ours, theirs)| seen | (ours ^ theirs));
        self.0.len() == presented.len() && black_box(differences) == 0
    }

    /// Spells the header's value.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// As many hexadecimal digits as 64 random bits have.
const SHORTEST: usize = 16;
const LONGEST: usize = 1_024;
const LARGEST_FILE: u64 = 4_096;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_alone_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "  0123456789abcdef\n").unwrap();
        let token = Token::read(&path).unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF", "1123456789abcdef"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn what_is_short_or_no_header_value_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for text in
            ["", "short", "0123456789abcde", "0123456789 abcdef", "0123456789\nabcdef", "0123456789abcdé"]
        {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Token::read(&path), Err(TokenError::Unfit { .. })), "{text}");
        }
        std::fs::write(&path, "x".repeat(5_000)).unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Unfit { .. })));
        let nowhere = dir.path().join("nowhere");
        assert!(matches!(Token::read(&nowhere), Err(TokenError::Unreadable { .. })));
    }
}
