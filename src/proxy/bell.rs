//! Tells the open flows of one listener what concerns them all: the policy has changed, or it is over.
//!
//! A flow looks once a turn, at no cost worth a name, and is woken when it waits. Must not know what flows make of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// One for all flows of a listener.
#[derive(Debug, Default)]
pub(super) struct Bell {
    changes: AtomicU64,
    over: AtomicBool,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// What was rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// The policy has changed.
    Change,
    /// No flow may go on.
    Over,
}

/// A flow's ear for the bell.
#[derive(Debug)]
pub(super) struct Seat {
    bell: Arc<Bell>,
    seen: u64,
    /// Where its waker is kept, and which one that is.
    place: Option<(usize, Waker)>,
}

impl Bell {
    /// Hears changes from here on.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        Seat { bell: Arc::clone(self), seen: self.changes.load(Ordering::SeqCst), place: None }
    }

    /// The policy has changed.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// No flow may go on.
    pub(super) fn over(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        self.seats.lock().wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

impl Seat {
    /// Returns what was rung and not heard yet.
    pub(super) fn heard(&mut self) -> Option<Rung> {
        if self.bell.over.load(Ordering::SeqCst) {
            return Some(Rung::Over);
        }
        let changes = self.bell.changes.load(Ordering::SeqCst);
        (std::mem::replace(&mut self.seen, changes) != changes).then_some(Rung::Change)
    }

    /// Whether something was rung that was not heard yet.
    pub(super) fn has_news(&self) -> bool {
        self.bell.over.load(Ordering::SeqCst) || self.bell.changes.load(Ordering::SeqCst) != self.seen
    }

    /// Has the task woken when the bell rings. What was rung before is to be looked for afterwards.
    pub(super) fn listen(&mut self, waker: &Waker) {
        if self.place.as_ref().is_some_and(|(_, known)| known.will_wake(waker)) {
            return;
        }
        let mut seats = self.bell.seats.lock();
        let at = match &self.place {
            Some((at, _)) => *at,
            None => seats.free.pop().unwrap_or_else(|| {
                seats.wakers.push(None);
                seats.wakers.len() - 1
            }),
        };
        if let Some(seat) = seats.wakers.get_mut(at) {
            *seat = Some(waker.clone());
        }
        self.place = Some((at, waker.clone()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((at, _)) = self.place.take() else { return };
        let mut seats = self.bell.seats.lock();
        let left = seats.wakers.get_mut(at).and_then(Option::take);
        seats.free.push(at);
        drop(seats);
        // Not under the lock: the last waker of a task may take the task with it.
        drop(left);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_seat_hears_each_change_once_and_the_end_for_ever() {
        let bell = Arc::new(Bell::default());
        bell.changed();
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let mut seats = counts.clone().map(|count| {
            let mut seat = bell.seat();
            seat.listen(&count.into());
            seat
        });
        assert_eq!(seats[0].heard(), None, "it came after the change");
        bell.changed();
        bell.changed();
        assert_eq!(counts[1].0.load(Ordering::SeqCst), 2);
        assert_eq!((seats[1].heard(), seats[1].heard()), (Some(Rung::Change), None));
        drop(seats);
        let count = Arc::new(Count::default());
        let mut seat = bell.seat();
        seat.listen(&Arc::clone(&count).into());
        bell.over();
        assert_eq!((count.0.load(Ordering::SeqCst), counts[0].0.load(Ordering::SeqCst)), (1, 2));
        assert_eq!((seat.heard(), seat.heard()), (Some(Rung::Over), Some(Rung::Over)));
        assert_eq!(bell.seats.lock().wakers.len(), 2, "places are used again");
    }

    #[test]
    fn a_seat_that_moved_to_another_task_wakes_that_one() {
        let bell = Arc::new(Bell::default());
        let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut seat = bell.seat();
        seat.listen(&Arc::clone(&old).into());
        seat.listen(&Arc::clone(&new).into());
        bell.changed();
        assert_eq!((old.0.load(Ordering::SeqCst), new.0.load(Ordering::SeqCst)), (0, 1));
        assert_eq!(bell.seats.lock().wakers.len(), 1);
    }
}
