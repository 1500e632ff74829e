//! Refusals over a limit, of which a client can cause any number: one line a second for each client and limit, which
//! tells of the others.
//!
//! Every refusal is counted somewhere: by its own line, by the `repeated` of another, or by a gap. It knows no files
//! and no clock: time is what the events carry.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use crate::facts::{Client, Limit, Moment, Tick};

use super::Event;

/// What was over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// The limit.
    pub limit: Limit,
    /// How many refusals of the same client by the same limit came before this one and have no line of their own.
    pub repeated: u64,
}

impl Over {
    /// A refusal for itself.
    pub const fn once(limit: Limit) -> Self {
        Self { limit, repeated: 0 }
    }
}

/// What becomes of an event.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Fate {
    /// It has a line.
    Line(Event),
    /// A later line tells of it.
    Told,
    /// No line will tell of it: too many clients are over a limit at once.
    Lost(Moment),
}

/// Refusals that are still to be told.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<(Client, Limit), Spell>);

/// Refusals of one client by one limit.
#[derive(Debug)]
struct Spell {
    /// From then on there may be another line.
    next: Tick,
    /// The last one that has no line yet, and how many came before it.
    last: Option<(Box<Event>, u64)>,
}

impl Repeats {
    /// Decides on an event. Only refusals over a limit are ever put off.
    pub(super) fn take(&mut self, mut event: Event) -> Fate {
        let Some((client, over)) = over(&mut event) else { return Fate::Line(event) };
        let key = (client, over.limit);
        let at = event.at();
        if self.0.len() >= MAX_SPELLS && !self.0.contains_key(&key) {
            self.0.retain(|_, spell| spell.last.is_some() || spell.next > at.tick);
            if self.0.len() >= MAX_SPELLS {
                return Fate::Lost(at);
            }
        }
        let next = at.tick.after(BETWEEN_LINES);
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Spell { next, last: None });
                Fate::Line(event)
            }
            Entry::Occupied(mut entry) => {
                let spell = entry.get_mut();
                let before = spell.last.take().map_or(0, |(_, before)| before + 1);
                if at.tick < spell.next {
                    spell.last = Some((Box::new(event), before));
                    return Fate::Told;
                }
                spell.next = next;
                Fate::Line(repeating(event, before))
            }
        }
    }

    /// Takes out the closing lines that are due, and forgets what is over. `None`: all of them.
    pub(super) fn due(&mut self, now: Option<Tick>) -> Vec<Event> {
        let mut lines = Vec::new();
        self.0.retain(|_, spell| {
            if now.is_some_and(|now| now < spell.next) {
                return true;
            }
            let Some((event, before)) = spell.last.take() else { return false };
            spell.next = event.at().tick.after(BETWEEN_LINES);
            lines.push(repeating(*event, before));
            true
        });
        lines
    }
}

/// Whether an event is a refusal over a limit, which a client can cause in any number.
pub(super) fn concerns(event: &Event) -> bool {
    if let Event::Decided(event) = event {
        event.over.is_some()
    } else if let Event::Dns(event) = event {
        event.over.is_some()
    } else {
        false
    }
}

/// Whose refusal by which limit an event is.
fn over(event: &mut Event) -> Option<(Client, &mut Over)> {
    if let Event::Decided(event) = event {
        Some((event.flow.client(), event.over.as_mut()?))
    } else if let Event::Dns(event) = event {
        Some((event.client, event.over.as_mut()?))
    } else {
        None
    }
}

fn repeating(mut event: Event, before: u64) -> Event {
    if let Some((_, over)) = over(&mut event) {
        over.repeated = before;
    }
    event
}

/// From one line to the next.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Clients and limits at a time, and so lines a second; what goes beyond is a gap.
const MAX_SPELLS: usize = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::samples;
    use super::*;

    fn lines(fates: impl Iterator<Item = Fate>) -> Vec<u64> {
        fates
            .filter_map(|fate| if let Fate::Line(event) = fate { Some(repeated(event)) } else { None })
            .collect()
    }

    fn repeated(mut event: Event) -> u64 {
        over(&mut event).unwrap().1.repeated
    }

    #[test]
    fn a_flood_is_a_line_a_second_and_every_refusal_is_told_once() {
        let mut repeats = Repeats::default();
        // 10 a second for 3.5 seconds.
        let told = lines((0..35).map(|tenth| repeats.take(samples::over_limit(1, tenth * 100))));
        assert_eq!(told, [0, 9, 9, 9]);
        assert!(repeats.due(Some(samples::moment(3_999).tick)).is_empty());
        let rest: Vec<u64> =
            repeats.due(Some(samples::moment(4_000).tick)).into_iter().map(repeated).collect();
        assert_eq!(rest, [3]);
        assert_eq!(told.len() + rest.len() + 30, 35);
        assert!(repeats.due(Some(samples::moment(9_000).tick)).is_empty() && repeats.0.is_empty());
    }

    #[test]
    fn clients_and_limits_are_told_apart_and_nothing_else_is_put_off() {
        let mut repeats = Repeats::default();
        assert_eq!(lines((0..9).map(|client| repeats.take(samples::over_limit(client, 0)))), [0; 9]);
        let mut other = samples::over_limit(1, 0);
        over(&mut other).unwrap().1.limit = Limit::Questions;
        assert!(matches!(repeats.take(other), Fate::Line(_)));
        for (name, event) in samples::all() {
            assert!(name.contains("over") || matches!(repeats.take(event), Fate::Line(_)), "{name}");
        }
    }

    #[test]
    fn clients_without_end_fill_no_memory_and_are_lost_in_plain_sight() {
        let mut repeats = Repeats::default();
        let flood = |repeats: &mut Repeats, millis| {
            let fates: Vec<Fate> =
                (0..1_000).map(|client| repeats.take(samples::over_limit(client, millis))).collect();
            (
                fates.iter().filter(|fate| matches!(fate, Fate::Lost(_))).count(),
                lines(fates.into_iter()).len(),
            )
        };
        assert_eq!(flood(&mut repeats, 0), (1_000 - MAX_SPELLS, MAX_SPELLS));
        assert_eq!(flood(&mut repeats, 10), (1_000 - MAX_SPELLS, 0));
        assert_eq!(repeats.due(None).len(), MAX_SPELLS);
        assert!(repeats.0.len() <= MAX_SPELLS);
    }
}
