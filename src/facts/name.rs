//! Host names with one spelling: lower-case A-labels, no final dot.
//!
//! The only door is [`Name::parse`]. It knows nothing of patterns, suffixes or who asked.

use std::fmt;
use std::sync::Arc;

/// A host name in its one canonical spelling. Cloning is a reference count.
///
/// Lengths follow RFC 1035 section 2.3.4: labels of 1 to 63 bytes, at most 253 bytes in all. Letters,
/// digits, hyphen and underscore are taken; underscore because real services use it in SNI.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why bytes are not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameFault {
    /// Nothing, or only a dot.
    Empty,
    /// More than 253 bytes.
    TooLong,
    /// A label of no bytes or of more than 63.
    Label,
    /// A byte that is not a letter, digit, hyphen, underscore or dot.
    Byte,
    /// An address literal, or a spelling that some resolver reads as one (`0x7f.1`, `2130706433`).
    Address,
}

impl Name {
    /// Longest name, in bytes without the final dot (RFC 1035 section 2.3.4).
    pub const MAX: usize = 253;

    /// Parses one spelling of a host name: any case, with or without the final dot.
    ///
    /// # Errors
    /// [`NameFault`] tells which rule is broken. Refusing a name is the safe mistake: what has no
    /// name is not let through.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, NameFault> {
        let bytes = bytes.as_ref();
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(NameFault::Empty);
        }
        if bytes.len() > Self::MAX {
            return Err(NameFault::TooLong);
        }
        if looks_like_address(bytes) {
            return Err(NameFault::Address);
        }
        for label in bytes.split(|&byte| byte == b'.') {
            if label.is_empty() || label.len() > 63 {
                return Err(NameFault::Label);
            }
        }
        let mut spelled = String::with_capacity(bytes.len());
        for &byte in bytes {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'A'..=b'Z' => {
                    spelled.push(char::from(byte.to_ascii_lowercase()));
                }
                _ => return Err(NameFault::Byte),
            }
        }
        Ok(Self(spelled.into()))
    }

    /// Returns the canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the labels from left to right.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

/// Whether a resolver or URL library would take these bytes for an address: an IPv6 literal with or
/// without brackets, or a last label that is a number (WHATWG URL, "ends in a number").
fn looks_like_address(bytes: &[u8]) -> bool {
    if bytes.contains(&b':') || bytes.starts_with(b"[") {
        return true;
    }
    let last = bytes.rsplit(|&byte| byte == b'.').next().unwrap_or(bytes);
    let hex = last.strip_prefix(b"0x").or_else(|| last.strip_prefix(b"0X"));
    if let Some(digits) = hex {
        return digits.iter().all(u8::is_ascii_hexdigit);
    }
    !last.is_empty() && last.iter().all(u8::is_ascii_digit)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by `Name` be asked with a suffix of another name, without allocating.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl NameFault {
    /// Returns a short lower-case description.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty name",
            Self::TooLong => "name over 253 bytes",
            Self::Label => "label empty or over 63 bytes",
            Self::Byte => "byte not allowed in a host name",
            Self::Address => "address literal in place of a name",
        }
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for NameFault {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_equal() {
        let name = Name::parse("www.example.com").unwrap();
        for spelling in ["WWW.Example.COM", "www.example.com.", "wWw.eXample.com."] {
            assert_eq!(Name::parse(spelling).unwrap(), name);
        }
        assert_eq!(name.labels().collect::<Vec<_>>(), ["www", "example", "com"]);
    }

    #[test]
    fn broken_names_are_refused_with_their_fault() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        assert_eq!(long_name.len(), 254);
        for (text, fault) in [
            ("", NameFault::Empty),
            (".", NameFault::Empty),
            ("..", NameFault::Label),
            ("a..b", NameFault::Label),
            (".a", NameFault::Label),
            ("a.b..", NameFault::Label),
            (long_label.as_str(), NameFault::Label),
            (long_name.as_str(), NameFault::TooLong),
            ("a b.test", NameFault::Byte),
            ("a\0b.test", NameFault::Byte),
            ("bücher.test", NameFault::Byte),
            ("*.example.com", NameFault::Byte),
            ("a/b.test", NameFault::Byte),
        ] {
            assert_eq!(Name::parse(text).err(), Some(fault), "{text:?}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_an_address() {
        for text in [
            "203.0.113.10",
            "203.0.113.10.",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "1.2.3.0x4",
            "::1",
            "[::1]",
            "2001:db8::1",
            "0x",
            "example.0X7F",
        ] {
            assert_eq!(Name::parse(text).err(), Some(NameFault::Address), "{text:?}");
        }
        for text in ["1.example.com", "0x.example.com", "3com", "a.1b"] {
            assert!(Name::parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn longest_legal_name_is_taken() {
        let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(Name::parse(&name).unwrap().as_str(), name);
        assert_eq!(Name::parse(name.clone() + ".").unwrap().as_str(), name);
    }
}
