//! The server's direction of an HTTP/2 connection: where frames end, which streams have, and what was set.
//!
//! Nothing is refused here: the bytes pass as they come. Must not read what answers say.

use super::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEADER, Frame, HEADERS, PUSH_PROMISE, RST_STREAM,
    SETTINGS,
};

/// What a server's bytes told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The answer on this stream is complete.
    Answered(u32),
    /// The server gave this stream up.
    Reset(u32),
    /// SETTINGS have come, to be acknowledged.
    Settings,
    /// One of them: identifier and value.
    Setting(u16, u32),
}

/// Follows the frames of a server.
#[derive(Debug, Default)]
pub struct ServerFrames {
    /// What has come of a frame's header.
    header: Vec<u8>,
    /// What is to come of its payload.
    left: usize,
    /// The frame is SETTINGS, and this much of an entry has come.
    setting: Option<Vec<u8>>,
    /// A header block goes on in the next frame.
    in_block: bool,
    opened: Opened,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Opened {
    #[default]
    NotYet,
    Yes,
    /// This is not HTTP/2: nothing can be told.
    Never,
}

impl ServerFrames {
    /// Follows bytes. Returns how many of them stand behind the last place where another frame may be put in;
    /// `None`: there is no such place among them.
    pub fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Told)) -> Option<usize> {
        let mut behind = None;
        while !bytes.is_empty() && !self.is_lost() {
            if self.left == 0 {
                let (taken, rest) = bytes.split_at(bytes.len().min(FRAME_HEADER - self.header.len()));
                bytes = rest;
                self.header.extend_from_slice(taken);
                let Some(frame) = Frame::read(&self.header) else { break };
                self.header.clear();
                self.begin(frame, &mut tell);
            } else {
                let (taken, rest) = bytes.split_at(bytes.len().min(self.left));
                bytes = rest;
                self.left -= taken.len();
                self.settings(taken, &mut tell);
            }
            if self.is_between() {
                behind = Some(bytes.len());
            }
        }
        behind
    }

    /// Whether another frame may be put in here: nothing is half said.
    pub fn is_between(&self) -> bool {
        self.opened == Opened::Yes && self.left == 0 && self.header.is_empty() && !self.in_block
    }

    /// Whether these are no frames.
    pub fn is_lost(&self) -> bool {
        self.opened == Opened::Never
    }

    fn begin(&mut self, frame: Frame, tell: &mut impl FnMut(Told)) {
        if self.opened == Opened::NotYet {
            let is_settings = frame.kind == SETTINGS && frame.stream == 0 && !frame.has(ACK);
            self.opened = if is_settings { Opened::Yes } else { Opened::Never };
            if !is_settings {
                return;
            }
        }
        let stream = frame.stream & 0x7fff_ffff;
        self.left = frame.len;
        self.setting = None;
        match frame.kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => self.in_block = !frame.has(END_HEADERS),
            _ => {}
        }
        match frame.kind {
            HEADERS | DATA if frame.has(END_STREAM) => tell(Told::Answered(stream)),
            RST_STREAM => tell(Told::Reset(stream)),
            SETTINGS if !frame.has(ACK) => {
                self.setting = Some(Vec::new());
                tell(Told::Settings);
            }
            _ => {}
        }
    }

    fn settings(&mut self, payload: &[u8], tell: &mut impl FnMut(Told)) {
        let Some(entry) = &mut self.setting else { return };
        for byte in payload {
            entry.push(*byte);
            if let [a, b, c, d, e, f] = entry[..] {
                tell(Told::Setting(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])));
                entry.clear();
            }
        }
    }
}
