//! The corpus as values, and the order in which a new connection is looked at.

use std::path::Path;

use namegate::facts::Name;
use namegate::wire::Look;
use namegate::wire::h2::{ClientFrames, PREFACE, Step};
use namegate::wire::http::HeadReader;
use namegate::wire::tls::HelloReader;
use serde::Deserialize;

/// One line of a `cases.jsonl`, as far as tests read it.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    file: String,
    #[serde(default)]
    segments: Vec<usize>,
    #[serde(default)]
    segments_rle: Vec<(usize, usize)>,
    pub(crate) expected: Expected,
    #[serde(default)]
    pub(crate) also_ok: Vec<Expected>,
    #[serde(default)]
    pub(crate) must_not: Vec<String>,
    pub(crate) complete_at: Option<usize>,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

/// A result as the corpus writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) alpn: Vec<String>,
    pub(crate) ech: String,
}

impl Case {
    /// Returns where each recorded segment ends.
    pub(crate) fn segment_ends(&self) -> Vec<usize> {
        let repeated = self.segments_rle.iter().flat_map(|&(len, count)| std::iter::repeat_n(len, count));
        let mut at = 0;
        let ends = self.segments.iter().copied().chain(repeated).map(|len| {
            at += len;
            at
        });
        ends.collect()
    }
}

/// Reads a family.
pub(crate) fn family(name: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let lines = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let read = |line: &str| {
        let mut case: Case = serde_json::from_str(line).unwrap();
        case.bytes = std::fs::read(folder.join(&case.file)).unwrap();
        case
    };
    lines.lines().map(read).collect()
}

/// What was read from the opening of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) name: Option<Name>,
    /// `None` where the protocol has neither ALPN nor ECH.
    pub(crate) tls: Option<(Vec<Vec<u8>>, bool)>,
}

/// Looks for TLS, and where that is foreign for HTTP/2 and HTTP/1, as the proxy does.
#[derive(Default)]
pub(crate) struct Sniffer {
    hello: HelloReader,
    head: HeadReader,
    frames: ClientFrames,
    /// Bytes that the frames have passed.
    passed: usize,
}

impl Sniffer {
    /// Looks at everything received so far.
    pub(crate) fn look(&mut self, received: &[u8]) -> Look<Opening> {
        match self.hello.look(received) {
            Look::Got(hello) => Look::Got(Opening { name: hello.name, tls: Some((hello.alpn, hello.ech)) }),
            Look::More => Look::More,
            Look::Bad(fault) => Look::Bad(fault),
            Look::Foreign if received.starts_with(PREFACE) => self.look_at_frames(received),
            Look::Foreign if PREFACE.starts_with(received) => Look::More,
            Look::Foreign => match self.head.look(received) {
                Look::Got(head) => Look::Got(Opening { name: head.name, tls: None }),
                Look::More => Look::More,
                Look::Bad(fault) => Look::Bad(fault),
                Look::Foreign => Look::Foreign,
            },
        }
    }

    fn look_at_frames(&mut self, received: &[u8]) -> Look<Opening> {
        loop {
            match self.frames.next(&received[self.passed..]) {
                Step::More => return Look::More,
                Step::Pass(len)
                | Step::Trailers(len)
                | Step::Drop(len)
                | Step::Ack(len)
                | Step::Reset(len, _) => self.passed += len,
                Step::Request(request) => return Look::Got(Opening { name: request.name, tls: None }),
                Step::Bad(fault) => return Look::Bad(fault),
            }
        }
    }
}

/// The same numbers on every run (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % bound.max(1)
    }
}
