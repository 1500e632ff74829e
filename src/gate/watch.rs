//! Waiting for evidence that may be on its way: who waits for what, and the future they hold.
//!
//! Wakers are woken and dropped outside the shard's lock: either may run a stranger's code.
//! Must not know why somebody waits.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin as StdPin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::facts::{Client, Name};

use super::Ledger;

/// Ready when a lease for the watched client, name and address was written since the watch began, or
/// is live when the watch is polled. When too many wait already it is never woken: the caller's deadline
/// ends the wait, and asking once more then is all that is lost.
#[derive(Debug)]
pub struct Watch {
    ledger: Arc<Ledger>,
    client: Client,
    name: Option<Name>,
    address: IpAddr,
    state: State,
}

/// Where a watch is.
#[derive(Debug, Clone, Copy)]
enum State {
    Waiting(u64),
    /// Too many waited when it began.
    Refused,
    Done,
}

impl Watch {
    pub(super) fn new(ledger: Arc<Ledger>, client: Client, name: Option<&Name>, address: IpAddr) -> Self {
        let number = ledger.shard(client).waiting.enter(client, name, address);
        let state = number.map_or(State::Refused, State::Waiting);
        Self { ledger, client, name: name.cloned(), address, state }
    }

    /// Takes the waiter out and returns what it held, to be dropped where no lock is held.
    fn leave(&mut self) -> Option<Waiter> {
        let State::Waiting(number) = std::mem::replace(&mut self.state, State::Done) else { return None };
        self.ledger.shard(self.client).waiting.leave(self.client, self.address, number)
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut shard = self.ledger.shard(self.client);
        let live = self.name.as_ref().is_some_and(|name| shard.is_live(self.client, name, self.address));
        let waiter = match self.state {
            State::Waiting(number) => shard.waiting.waiter(self.client, self.address, number),
            State::Refused if !live => return Poll::Pending,
            State::Refused | State::Done => None,
        };
        let old = match waiter {
            Some(waiter) if !waiter.ready && !live => waiter.waker.replace(waker),
            Some(_) | None => {
                drop(shard);
                drop(self.leave());
                return Poll::Ready(());
            }
        };
        drop(shard);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

/// Who waits in one shard.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    places: HashMap<(Client, IpAddr), Vec<Waiter>, RandomState>,
    per_client: HashMap<Client, usize, RandomState>,
    total: usize,
    next_number: u64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    /// `None`: any name of an address rule.
    name: Option<Name>,
    ready: bool,
    waker: Option<Waker>,
}

impl Waiting {
    /// Registers a waiter; `None` when too many wait.
    fn enter(&mut self, client: Client, name: Option<&Name>, address: IpAddr) -> Option<u64> {
        let mine = self.per_client.entry(client).or_insert(0);
        if *mine >= MAX_PER_CLIENT || self.total >= MAX_PER_SHARD {
            if *mine == 0 {
                self.per_client.remove(&client);
            }
            return None;
        }
        *mine += 1;
        self.total += 1;
        self.next_number += 1;
        let waiter = Waiter { number: self.next_number, name: name.cloned(), ready: false, waker: None };
        self.places.entry((client, address)).or_default().push(waiter);
        Some(self.next_number)
    }

    fn waiter(&mut self, client: Client, address: IpAddr, number: u64) -> Option<&mut Waiter> {
        self.places.get_mut(&(client, address))?.iter_mut().find(|waiter| waiter.number == number)
    }

    fn leave(&mut self, client: Client, address: IpAddr, number: u64) -> Option<Waiter> {
        let place = self.places.get_mut(&(client, address))?;
        let at = place.iter().position(|waiter| waiter.number == number)?;
        let waiter = place.swap_remove(at);
        if place.is_empty() {
            self.places.remove(&(client, address));
        }
        self.total -= 1;
        if let Some(mine) = self.per_client.get_mut(&client) {
            *mine -= 1;
            if *mine == 0 {
                self.per_client.remove(&client);
            }
        }
        Some(waiter)
    }

    /// Whether anybody waits at all: most writes need not look further.
    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Marks those who wait for a written lease and collects their wakers. `by_address`: the name is
    /// one of an address rule.
    pub(super) fn written(
        &mut self,
        client: Client,
        name: &Name,
        address: IpAddr,
        by_address: bool,
        wake: &mut Vec<Waker>,
    ) {
        let Some(place) = self.places.get_mut(&(client, address)) else { return };
        for waiter in place {
            if waiter.name.as_ref().map_or(by_address, |wanted| wanted == name) {
                waiter.ready = true;
                wake.extend(waiter.waker.take());
            }
        }
    }
}

/// Waiters of one client: more flows than a browser opens at once.
const MAX_PER_CLIENT: usize = 1024;
/// Waiters of one shard: about a megabyte.
const MAX_PER_SHARD: usize = 8192;
