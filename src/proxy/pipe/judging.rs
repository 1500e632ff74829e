//! What of a carried flow's client may pass, and what a refusal leaves to be said.
//!
//! Must not know sockets, nor how bytes are carried.

use tokio::time::Instant;

use crate::facts::Claim;
use crate::proxy::later::Next;
use crate::proxy::refuse::{Refusing, farewell, words};
use crate::proxy::standing::Refusal;
use crate::sys::clock;

use super::Pipe;

/// Requests that are judged in one go. A few bytes of HPACK can stand for some kilobytes of fields.
const JUDGED: u32 = 8;

impl Pipe<'_> {
    /// Lets judged bytes of the client pass, and has later requests judged. Returns whether more of what is here is to
    /// be judged: others have their turn first.
    pub(super) fn admit(&mut self) -> bool {
        let others_first = self.admit_in_place();
        self.up.close_hole();
        others_first
    }

    fn admit_in_place(&mut self) -> bool {
        let mut judged = 0;
        while self.hears_client() {
            let Some(later) = &mut self.later else {
                self.head_since = None;
                self.up.release_all();
                return false;
            };
            if judged == JUDGED {
                return true;
            }
            match later.next(self.up.unjudged()) {
                Next::Free => self.later = None,
                Next::Pass(len) => {
                    self.head_since = None;
                    self.up.release(len);
                }
                Next::Weigh(len) => {
                    self.head_since = None;
                    judged += 1;
                    self.up.release(len);
                }
                Next::Drop(len) => {
                    self.head_since = None;
                    self.up.drop_next(len);
                }
                Next::Judge(claim) => {
                    judged += 1;
                    self.judge(claim);
                }
                Next::Wait => break,
            }
        }
        let in_head = self.later.as_ref().is_some_and(|later| later.is_underway(self.up.unjudged()));
        if self.refused.is_some() || !in_head {
            self.head_since = None;
        } else if self.head_since.is_none() {
            self.head_since = Some(Instant::now());
        }
        if !self.hears_client() || (self.up.end.is_some() && in_head) {
            // Half a head is never sent on.
            self.up.drop_unjudged();
        }
        false
    }

    /// Has a later request judged; on a refusal nothing more of the client passes.
    pub(super) fn judge(&mut self, claim: Claim) {
        if self.refused.is_some() {
            // What goes on after a refusal cannot be read: now nothing does.
            if let Some(later) = &mut self.later {
                later.refuse();
            }
            return;
        }
        let may_change = self.later.as_ref().is_some_and(|later| later.may_change_name());
        let verdict = self.standing.next(claim, may_change, clock::now());
        let Some(later) = &mut self.later else { return };
        match verdict {
            Ok(()) if later.is_read() => later.approve(),
            // Observe mode lets pass what cannot be read: from here on nothing can be.
            Ok(()) => {
                if later.go_blind() {
                    self.later = None;
                }
            }
            Err(refusal) => {
                self.head_since = None;
                if let Some(last) = later.refuse() {
                    later.tell(farewell(last, &refusal, self.standing.flow()));
                    if later.is_between() {
                        self.say_aside(0);
                    }
                }
                self.refused = Some(refusal);
            }
        }
    }

    /// Whether the client is listened to: all the time, unless a refusal makes whatever else it says worthless.
    pub(super) fn hears_client(&self) -> bool {
        self.refused.is_none() || self.later.as_ref().is_some_and(|later| later.is_closing())
    }

    /// Tells the client what is to be told before the last so many bytes of the server.
    pub(super) fn say_aside(&mut self, behind: usize) {
        if let Some(words) = self.later.as_mut().and_then(|later| later.aside()) {
            self.down.put_in(words, behind);
        }
    }

    /// Returns the words of a refusal that are still to be said; where the flow was cut off there is nobody to
    /// hear them.
    pub(super) fn untold(&mut self) -> Option<Box<[u8]>> {
        let Refusal { reason, name } = self.refused.take().filter(|_| self.in_order)?;
        let later = self.later.as_ref()?;
        if later.is_closing() {
            // They were said while answers were under way: all that is left is to close.
            return Some(Box::default());
        }
        let refusing = Refusing {
            spoke: Some(later.protocol()),
            head_only: later.is_head_only(),
            stream: later.stream(),
            unopened: false,
            reason,
            name: name.as_ref(),
            flow: self.standing.flow(),
        };
        words(&refusing)
    }
}
