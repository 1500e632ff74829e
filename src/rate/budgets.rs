//! Token buckets, one a client.
//!
//! A bucket is one instant: that at which it is full again (the generic cell rate algorithm, ITU-T I.371). One that is
//! full tells nothing and is forgotten, so forgetting never gives anybody a token. Must not know what a token buys.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::facts::{Client, Tick};

/// So many in such a time, and as many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The whole bucket, from empty to full.
    fills_in: Duration,
    /// From one token to the next.
    token: Duration,
}

impl Rate {
    /// So many a second; zero counts as one.
    pub fn per_second(tokens: u32) -> Self {
        Self::new(tokens, Duration::from_secs(1))
    }

    /// So many a minute; zero counts as one.
    pub fn per_minute(tokens: u32) -> Self {
        Self::new(tokens, Duration::from_secs(60))
    }

    fn new(tokens: u32, fills_in: Duration) -> Self {
        Self { fills_in, token: fills_in / tokens.max(1) }
    }

    /// Takes one token, where there is one; returns when the bucket is full again.
    fn take(self, full_at: Tick, now: Tick) -> Option<Tick> {
        let full_at = full_at.max(now).after(self.token);
        (full_at.since(now) <= self.fills_in).then_some(full_at)
    }
}

/// The buckets of all clients.
///
/// There are at most so many at a time. When none can be forgotten, clients without a bucket share one: whoever makes
/// up addresses to fill the table spends as many tokens as all those clients could.
#[derive(Debug)]
pub struct Budgets {
    rate: Rate,
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// When each client's bucket is full again.
    full_at: HashMap<Client, Tick>,
    /// The bucket of those who have none of their own.
    shared: Tick,
    /// Before this instant another search for full buckets is not worth its time.
    search_at: Tick,
}

impl Budgets {
    /// Makes budgets for at most so many clients at a time, each beginning full.
    pub fn new(rate: Rate, max: usize) -> Self {
        Self { rate, max, table: Mutex::default() }
    }

    /// Takes one token of a client; `false`: it has none left.
    pub fn take(&self, client: Client, now: Tick) -> bool {
        let mut table = self.table.lock();
        let full = table.full_at.len() >= self.max;
        if full && now >= table.search_at && !table.full_at.contains_key(&client) {
            table.full_at.retain(|_, full_at| *full_at > now);
            table.search_at = now.after(BETWEEN_SEARCHES);
        }
        let room = table.full_at.len() < self.max;
        let table = &mut *table;
        let bucket = match table.full_at.get_mut(&client) {
            Some(bucket) => bucket,
            None if room => table.full_at.entry(client).or_default(),
            None => &mut table.shared,
        };
        match self.rate.take(*bucket, now) {
            Some(full_at) => {
                *bucket = full_at;
                true
            }
            None => false,
        }
    }
}

/// A search looks at every bucket: some 100 us for 16,384 of them.
const BETWEEN_SEARCHES: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> Client {
        Client::at(std::net::Ipv4Addr::from(0x0a00_0000 + number).into())
    }

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    fn granted(budgets: &Budgets, client: Client, times: usize, now: Tick) -> usize {
        (0..times).filter(|_| budgets.take(client, now)).count()
    }

    #[test]
    fn a_bucket_holds_its_tokens_and_not_one_more() {
        for tokens in [1, 2, 7, 500, 999, 10_000] {
            let budgets = Budgets::new(Rate::per_second(tokens), 4);
            assert_eq!(granted(&budgets, client(1), 20_000, at(0)), tokens as usize);
            assert_eq!(granted(&budgets, client(1), 20_000, at(500)), tokens as usize / 2, "{tokens}");
            assert_eq!(granted(&budgets, client(1), 20_000, at(60_000)), tokens as usize, "no hoarding");
        }
        let budgets = Budgets::new(Rate::per_minute(600), 4);
        assert_eq!(granted(&budgets, client(1), 1_000, at(0)), 600);
        assert_eq!(granted(&budgets, client(1), 1_000, at(1_000)), 10);
    }

    #[test]
    fn one_client_takes_nothing_from_another() {
        let budgets = Budgets::new(Rate::per_second(10), 4);
        assert_eq!(granted(&budgets, client(1), 100, at(0)), 10);
        assert_eq!(granted(&budgets, client(2), 100, at(0)), 10);
    }

    #[test]
    fn a_clock_that_is_read_out_of_order_gives_nothing_away() {
        let budgets = Budgets::new(Rate::per_second(10), 4);
        assert_eq!(granted(&budgets, client(1), 100, at(1_000)), 10);
        assert_eq!(granted(&budgets, client(1), 100, at(0)), 0);
        assert_eq!(granted(&budgets, client(1), 100, at(1_000)), 0);
    }

    #[test]
    fn made_up_clients_fill_no_memory_and_those_who_come_then_share() {
        let budgets = Budgets::new(Rate::per_second(10), 100);
        for number in 0..100 {
            assert!(budgets.take(client(number), at(0)));
        }
        // Each is still one token short: nobody can be forgotten.
        assert_eq!((100..1_000).filter(|number| budgets.take(client(*number), at(50))).count(), 10);
        assert_eq!(budgets.table.lock().full_at.len(), 100);
        assert_eq!(granted(&budgets, client(7), 100, at(50)), 9, "who has a bucket keeps it");
        // 100 ms after the first search, all but that one are full again.
        assert_eq!(granted(&budgets, client(2_000), 100, at(200)), 10);
        assert_eq!(budgets.table.lock().full_at.len(), 2);
    }

    #[test]
    fn forgetting_gives_nobody_a_token() {
        let budgets = Budgets::new(Rate::per_second(10), 2);
        assert_eq!(granted(&budgets, client(1), 100, at(0)), 10);
        assert!(budgets.take(client(2), at(0)));
        // The second is forgotten for the third; the first, which is empty, is not.
        assert!(budgets.take(client(3), at(200)));
        assert_eq!(granted(&budgets, client(1), 100, at(200)), 2);
    }
}
