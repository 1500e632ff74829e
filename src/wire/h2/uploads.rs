//! How much of each announced body is still to come.
//!
//! Must not know frames.

use std::collections::BTreeMap;

use crate::facts::Fault;

/// Bodies with an announced length, by stream.
#[derive(Debug, Default)]
pub(super) struct Uploads(BTreeMap<u32, u64>);

/// Bodies that may be under way at a time; servers allow 100 to 250 streams.
const MAX_UPLOADS: usize = 1024;

impl Uploads {
    /// A request announced its body.
    ///
    /// # Errors
    /// [`Fault::TooBig`]: too many are under way.
    pub(super) fn begin(&mut self, stream: u32, length: u64) -> Result<(), Fault> {
        if self.0.len() >= MAX_UPLOADS {
            return Err(Fault::TooBig);
        }
        self.0.insert(stream, length);
        Ok(())
    }

    /// So many bytes of a body pass.
    ///
    /// # Errors
    /// [`Fault::Framing`]: more than was announced (RFC 9113 section 8.1.1).
    pub(super) fn take(&mut self, stream: u32, bytes: usize) -> Result<(), Fault> {
        let Some(left) = self.0.get_mut(&stream) else { return Ok(()) };
        *left = left.checked_sub(bytes as u64).ok_or(Fault::Framing)?;
        Ok(())
    }

    /// A body is complete.
    ///
    /// # Errors
    /// [`Fault::Framing`]: less than was announced.
    pub(super) fn end(&mut self, stream: u32) -> Result<(), Fault> {
        match self.0.remove(&stream) {
            None | Some(0) => Ok(()),
            Some(_) => Err(Fault::Framing),
        }
    }

    /// Nothing is expected on a stream any more.
    pub(super) fn forget(&mut self, stream: u32) {
        self.0.remove(&stream);
    }
}
