//! Patterns over names: exact, `*.x` for one label, `**.x` for one or more, `*` inside a label for any
//! run of bytes there, also none.
//!
//! Wildcards that would span the customers of a registry are refused at the door (public suffix list).
//! Must not know rules, clients or ports.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use idna::AsciiDenyList;

use crate::facts::{Name, NameFault};

/// A checked pattern in its one canonical spelling. Cloning is a reference count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Arc<str>,
    shape: Shape,
}

/// How a pattern is matched, and where an index finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// No star: the text is the name.
    Exact,
    /// `*.suffix`: exactly one label more than the suffix.
    One,
    /// `**.suffix`: one or more labels more than the suffix.
    Deep,
    /// Stars elsewhere, label by label; `deep` when the leftmost label is `**`.
    Glob {
        /// One or more labels may stand on the left.
        deep: bool,
    },
    /// `*` or `**` alone: every name.
    Everything,
}

/// Why text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatternFault {
    /// Nothing, or only a dot.
    Empty,
    /// More than 253 bytes.
    TooLong,
    /// A label of no bytes or of more than 63.
    Label,
    /// A byte that no host name has.
    Byte,
    /// An address literal.
    Address,
    /// `**` that is not the whole leftmost label, or three stars in a row.
    DoubleStar,
    /// A label outside ASCII that IDNA does not convert, or that mixes with a star.
    Unicode,
    /// `*` or `**` alone without `wide`.
    Everything,
    /// A wildcard at or straight under a public suffix without `wide`.
    PublicSuffix,
}

impl PatternFault {
    /// Returns a short lower-case description.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty pattern",
            Self::TooLong => "pattern over 253 bytes",
            Self::Label => "label empty or over 63 bytes",
            Self::Byte => "character that no host name has",
            Self::Address => "address in place of a name",
            Self::DoubleStar => "`**` that is not the whole leftmost label",
            Self::Unicode => "label that IDNA cannot convert",
            Self::Everything => "pattern that matches every name",
            Self::PublicSuffix => "wildcard straight under a public suffix",
        }
    }

    /// Returns what the operator can do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Empty => "write a name such as example.com, or take the entry out",
            Self::TooLong | Self::Label => {
                "a name has at most 253 bytes, its labels 1 to 63 (RFC 1035 section 2.3.4)"
            }
            Self::Byte => {
                "letters, digits, `-`, `_`, `.` and `*` are taken; no scheme, port, path, space or range"
            }
            Self::Address => "rules speak of names; an address is reached when DNS gives it for a name",
            Self::DoubleStar => "`**.example.com` is one or more labels, `*` exactly one or a part of one",
            Self::Unicode => "write the label in its xn-- form; a star cannot stand beside non-ASCII letters",
            Self::Everything => "say `wide = true` if every name is really meant",
            Self::PublicSuffix => {
                "anyone can register a name there; name the domain (`*.example.com`), or say `wide = true`"
            }
        }
    }
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PatternFault {}

impl Pattern {
    /// Parses a pattern: any case, with or without the final dot; U-labels become A-labels. `wide`
    /// permits a wildcard straight under a public suffix, and `*` alone.
    ///
    /// A suffix that the list does not know (`*.internal`) counts as public: asking for `wide` once too
    /// often is the safe mistake.
    ///
    /// # Errors
    /// [`PatternFault`] tells which rule is broken; its hint says what to write instead.
    pub fn parse(text: &str, wide: bool) -> Result<Self, PatternFault> {
        let text = canonical_text(text)?;
        if text == "*" || text == "**" {
            let shape = Shape::Everything;
            return if wide { Ok(Self { text: "**".into(), shape }) } else { Err(PatternFault::Everything) };
        }
        let shape = shape_of(&text)?;
        // A star stands for at least nothing: with `z` in its place the text must be a name.
        Name::parse(text.replace('*', "z")).map_err(|fault| match fault {
            NameFault::Empty => PatternFault::Empty,
            NameFault::TooLong => PatternFault::TooLong,
            NameFault::Label => PatternFault::Label,
            NameFault::Byte => PatternFault::Byte,
            NameFault::Address => PatternFault::Address,
        })?;
        if !wide && shape != Shape::Exact && !registrable_part_is_literal(&text) {
            return Err(PatternFault::PublicSuffix);
        }
        Ok(Self { text: text.into(), shape })
    }

    /// Whether the name is meant. Takes time linear in the name for every pattern without two stars in
    /// one label, and is bounded by the square of a label (63 bytes) for those.
    pub fn matches(&self, name: &Name) -> bool {
        let text = name.as_str();
        match self.shape {
            Shape::Everything => true,
            Shape::Exact => *self.text == *text,
            Shape::One => text.split_once('.').is_some_and(|(_, rest)| rest == self.literal_suffix()),
            Shape::Deep => text
                .strip_suffix(self.literal_suffix())
                .is_some_and(|left| left.len() > 1 && left.ends_with('.')),
            Shape::Glob { .. } => self.matches_labels(name),
        }
    }

    fn matches_labels(&self, name: &Name) -> bool {
        let mut labels = name.labels().rev();
        for glob in self.text.rsplit('.') {
            match labels.next() {
                None => return false,
                Some(_) if glob == "**" => return true,
                Some(label) if label_matches(glob.as_bytes(), label.as_bytes()) => {}
                Some(_) => return false,
            }
        }
        labels.next().is_none()
    }

    /// Returns the canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the longest run of whole labels without a star at the right end; may be empty.
    pub(super) fn literal_suffix(&self) -> &str {
        match self.text.rsplit_once('*') {
            None => &self.text,
            Some((_, right)) => right.split_once('.').map_or("", |(_, suffix)| suffix),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Brings text to lower-case A-labels without the final dot. Stars stay where they are.
fn canonical_text(text: &str) -> Result<String, PatternFault> {
    // The dots of UTS #46 section 2.3.
    let text: Cow<'_, str> = if text.is_ascii() {
        text.into()
    } else {
        text.replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".").into()
    };
    if text.contains(':') || text.starts_with('[') {
        return Err(PatternFault::Address);
    }
    let text = text.strip_suffix('.').unwrap_or(&text);
    if text.is_empty() {
        return Err(PatternFault::Empty);
    }
    let mut spelled = String::with_capacity(text.len());
    for label in text.split('.') {
        if !spelled.is_empty() {
            spelled.push('.');
        }
        if label.is_empty() {
            return Err(PatternFault::Label);
        }
        if label.is_ascii() {
            spelled.extend(label.chars().map(|letter| letter.to_ascii_lowercase()));
        } else {
            spelled.push_str(&to_a_label(label)?);
        }
    }
    Ok(spelled)
}

fn to_a_label(label: &str) -> Result<String, PatternFault> {
    if label.contains('*') {
        return Err(PatternFault::Unicode);
    }
    let converted = idna::domain_to_ascii_cow(label.as_bytes(), AsciiDenyList::EMPTY)
        .map_err(|_| PatternFault::Unicode)?;
    // The mapping turns full-width signs into plain ones: what was no star or dot must not become one.
    if converted.is_empty() || converted.contains(['*', '.']) {
        return Err(PatternFault::Unicode);
    }
    Ok(converted.into_owned())
}

fn shape_of(text: &str) -> Result<Shape, PatternFault> {
    for (place, label) in text.split('.').enumerate() {
        if label.contains("**") && (label != "**" || place > 0) {
            return Err(PatternFault::DoubleStar);
        }
    }
    Ok(match text.split_once('.') {
        _ if !text.contains('*') => Shape::Exact,
        Some(("*", rest)) if !rest.contains('*') => Shape::One,
        Some(("**", rest)) if !rest.contains('*') => Shape::Deep,
        Some((first, _)) => Shape::Glob { deep: first == "**" },
        None => Shape::Glob { deep: false },
    })
}

/// Whether the registrable domain (public suffix and one label) of every matched name is spelled out.
fn registrable_part_is_literal(text: &str) -> bool {
    // In place of a starred label stands one that no rule of the list names.
    let probe: Vec<&str> =
        text.split('.').map(|label| if label.contains('*') { STAR_PROBE } else { label }).collect();
    psl::domain_str(&probe.join("."))
        .is_some_and(|domain| !domain.split('.').any(|label| label == STAR_PROBE))
}

/// Greedy match of one label: the last star alone is ever retried, so there is no explosion.
fn label_matches(glob: &[u8], label: &[u8]) -> bool {
    let (mut at_glob, mut at_label) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = label.get(at_label) {
        match glob.get(at_glob) {
            Some(b'*') => {
                retry = Some((at_glob + 1, at_label));
                at_glob += 1;
            }
            Some(wanted) if wanted == byte => {
                at_glob += 1;
                at_label += 1;
            }
            Some(_) | None => match retry {
                None => return false,
                Some((glob_from, label_from)) => {
                    retry = Some((glob_from, label_from + 1));
                    at_glob = glob_from;
                    at_label = label_from + 1;
                }
            },
        }
    }
    glob.get(at_glob..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// A label that stands in for a starred one when the public suffix list is asked.
const STAR_PROBE: &str = "0--namegate-star--0";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, false).unwrap()
    }

    fn matches(text: &str, name: &str) -> bool {
        Pattern::parse(text, true).unwrap().matches(&Name::parse(name).unwrap())
    }

    #[test]
    fn each_pattern_means_exactly_its_names() {
        for (text, yes, no) in [
            (
                "example.com",
                &["example.com", "EXAMPLE.com."][..],
                &["www.example.com", "evilexample.com", "example.com.evil.test", "example.co", "com"][..],
            ),
            (
                "*.example.com",
                &["a.example.com", "_x.example.com", "xn--bcher-kva.example.com"],
                &["example.com", "a.b.example.com", "aexample.com", "a.example.com.evil.test"],
            ),
            (
                "**.example.com",
                &["a.example.com", "a.b.example.com", "a.b.c.d.example.com"],
                &["example.com", "evilexample.com", "example.com.evil.test"],
            ),
            (
                "api-*.example.com",
                &["api-1.example.com", "api-.example.com", "api--x.example.com"],
                &["api.example.com", "api-1.x.example.com", "xapi-1.example.com", "api-1example.com"],
            ),
            (
                "a.*.example.com",
                &["a.b.example.com"],
                &["a.example.com", "a.b.c.example.com", "b.b.example.com", "x.a.b.example.com"],
            ),
            (
                "*a*b*.example.com",
                &["ab.example.com", "xaybz.example.com", "aab.example.com", "abab.example.com"],
                &["ba.example.com", "a.b.example.com", "a.example.com"],
            ),
            (
                "**.eu-*.example.com",
                &["a.eu-1.example.com", "a.b.eu-.example.com"],
                &["eu-1.example.com", "a.us-1.example.com", "a.eu-1.b.example.com"],
            ),
            ("*.*.example.com", &["a.b.example.com"], &["a.example.com", "a.b.c.example.com"]),
            ("**", &["com", "a.example.com"], &[]),
            ("*", &["com", "a.example.com"], &[]),
            ("*.com", &["example.com"], &["a.example.com", "com"]),
            ("a*", &["a", "abc"], &["a.com", "ba"]),
        ] {
            for name in yes {
                assert!(matches(text, name), "{text} should match {name}");
            }
            for name in no {
                assert!(!matches(text, name), "{text} should not match {name}");
            }
        }
    }

    #[test]
    fn spellings_become_one() {
        for (text, canonical) in [
            ("Example.COM.", "example.com"),
            ("*.Bücher.example.com", "*.xn--bcher-kva.example.com"),
            ("bücher。example。com", "xn--bcher-kva.example.com"),
            ("_dmarc.example.com", "_dmarc.example.com"),
            ("_bü.example.com", "xn--_b-yka.example.com"),
            ("API-*.example.com.", "api-*.example.com"),
            ("github.io", "github.io"),
        ] {
            assert_eq!(pattern(text).to_string(), canonical, "{text}");
            assert_eq!(pattern(canonical), pattern(text));
        }
        assert_eq!(Pattern::parse("*", true), Pattern::parse("**.", true));
    }

    #[test]
    fn broken_patterns_are_refused_with_their_fault() {
        let long = format!("{}.example.com", "a".repeat(64));
        let huge = format!("**.{}", ["abcdefgh"; 30].join("."));
        for (text, fault) in [
            ("", PatternFault::Empty),
            (".", PatternFault::Empty),
            ("a..example.com", PatternFault::Label),
            (".example.com", PatternFault::Label),
            ("example.com..", PatternFault::Label),
            ("*..com", PatternFault::Label),
            (long.as_str(), PatternFault::Label),
            (huge.as_str(), PatternFault::TooLong),
            ("a b.example.com", PatternFault::Byte),
            (" example.com", PatternFault::Byte),
            ("example.com/x", PatternFault::Byte),
            ("a?.example.com", PatternFault::Byte),
            ("[a-z].example.com", PatternFault::Address),
            ("https://example.com", PatternFault::Address),
            ("example.com:443", PatternFault::Address),
            ("203.0.113.1", PatternFault::Address),
            ("*.1", PatternFault::Address),
            ("2001:db8::1", PatternFault::Address),
            ("a.0x7f", PatternFault::Address),
            ("***.example.com", PatternFault::DoubleStar),
            ("a.**.example.com", PatternFault::DoubleStar),
            ("a**.example.com", PatternFault::DoubleStar),
            ("**a.example.com", PatternFault::DoubleStar),
            ("***", PatternFault::DoubleStar),
            ("example.**", PatternFault::DoubleStar),
            ("bü*.example.com", PatternFault::Unicode),
            ("ü\u{ff0a}.example.com", PatternFault::Unicode),
            ("\u{ff0a}.example.com", PatternFault::Unicode),
            ("a\u{200d}.example.com", PatternFault::Unicode),
        ] {
            assert_eq!(Pattern::parse(text, true).err(), Some(fault), "{text:?}");
            assert!(!fault.hint().is_empty() && !fault.as_str().is_empty());
        }
    }

    #[test]
    fn a_star_never_stands_where_anyone_can_register() {
        for text in [
            "*.com",
            "**.com",
            "**.co.uk",
            "*.co.uk",
            "*.github.io",
            "**.github.io",
            "foo*.com",
            "*.foo*.com",
            "a.*.com",
            "**.*.co.uk",
            "*.ck",
            "*.foo.ck",
            "a.*.foo.ck",
            "*.compute.amazonaws.com",
            "a.*.compute.amazonaws.com",
            "*.s3.amazonaws.com",
            "*.internal",
            "*.xn--55qx5d.cn",
            "*.公司.cn",
            "a*",
            "a.*",
            "10.0.0.*",
        ] {
            assert_eq!(Pattern::parse(text, false).err(), Some(PatternFault::PublicSuffix), "{text}");
            assert!(Pattern::parse(text, true).is_ok(), "{text}");
        }
        for text in ["*", "**"] {
            assert_eq!(Pattern::parse(text, false).err(), Some(PatternFault::Everything), "{text}");
        }
        for text in [
            "*.example.com",
            "**.example.co.uk",
            "*.someone.github.io",
            "*.www.ck",
            "*.svc.internal",
            "a-*.b.example.com",
            "com",
            "github.io",
        ] {
            assert!(Pattern::parse(text, false).is_ok(), "{text}");
        }
    }

    #[test]
    fn many_stars_in_a_label_stay_cheap() {
        let glob = pattern(&format!("{}b.example.com", "*a".repeat(30)));
        let name = Name::parse(format!("{}.example.com", "a".repeat(63))).unwrap();
        assert!(!glob.matches(&name));
    }
}
