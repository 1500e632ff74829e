//! A packet filter for tests: remembers tables as text, fails when told to.
//!
//! Must not know what rules mean.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::error::NftError;
use super::netfilter::{Netfilter, NftVersion, Pending};
use super::route::{Family, Piece, Steering};
use super::ruleset::TableFamily;

#[derive(Default)]
struct State {
    tables: BTreeMap<String, String>,
    steering: Steering,
    refuse: bool,
    refuse_of: Option<String>,
    refused: usize,
    distort: bool,
}

/// The scripted one.
#[derive(Default)]
pub(crate) struct Scripted {
    state: Mutex<State>,
}

impl Scripted {
    pub(crate) fn tables(&self) -> usize {
        self.state.lock().tables.len()
    }

    pub(crate) fn pieces(&self) -> Vec<Piece> {
        self.state.lock().steering.iter().map(|(_, piece)| piece.clone()).collect()
    }

    pub(crate) fn forget(&self, table: &str) {
        self.forget_of(TableFamily::Inet, table);
    }

    pub(crate) fn forget_of(&self, family: TableFamily, table: &str) {
        self.state.lock().tables.remove(&place(family, table));
    }

    pub(crate) fn edit(&self, table: &str, change: impl FnOnce(&str) -> String) {
        if let Some(text) = self.state.lock().tables.get_mut(&place(TableFamily::Inet, table)) {
            *text = change(text);
        }
    }

    pub(crate) fn refuse_next_load(&self) {
        self.state.lock().refuse = true;
    }

    /// Whatever speaks of this interface.
    pub(crate) fn refuse_loads_of(&self, interface: &str) {
        self.state.lock().refuse_of = Some(format!("\"{interface}\""));
    }

    /// How many loads were refused.
    pub(crate) fn refused(&self) -> usize {
        self.state.lock().refused
    }

    pub(crate) fn distort_loads(&self) {
        self.state.lock().distort = true;
    }

    fn take(&self, script: &str) -> Result<(), NftError> {
        let mut state = self.state.lock();
        let unwanted = state.refuse_of.as_ref().is_some_and(|word| script.contains(word));
        if std::mem::take(&mut state.refuse) || unwanted {
            state.refused += 1;
            return Err(NftError::Refused { action: "load the ruleset", said: "told to".to_owned() });
        }
        for line in script.lines() {
            if let Some(table) = line.strip_prefix("delete table ") {
                state.tables.remove(table);
            }
        }
        if let Some((_, rest)) = script.split_once("\ntable ") {
            let (table, _) = rest.split_once(" {").unwrap_or((rest, ""));
            let mut listing = format!("table {rest}");
            if state.distort {
                listing = listing.replacen("\t\tcounter drop\n", "", 1);
            }
            state.tables.insert(table.to_owned(), listing);
        }
        Ok(())
    }
}

fn place(family: TableFamily, table: &str) -> String {
    format!("{} {table}", family.as_str())
}

impl Netfilter for Scripted {
    fn load<'a>(&'a self, script: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { self.take(script) })
    }

    fn list<'a>(&'a self, family: TableFamily, table: &'a str) -> Pending<'a, Option<String>> {
        Box::pin(async move { Ok(self.state.lock().tables.get(&place(family, table)).cloned()) })
    }

    fn version(&self) -> Pending<'_, NftVersion> {
        Box::pin(async { Ok(NftVersion(1, 0, 6)) })
    }

    /// A host without IPv6.
    fn steer(&self, pieces: Vec<Piece>) -> Pending<'_, Steering> {
        Box::pin(async move {
            let added: Steering = pieces.into_iter().map(|piece| (Family::V4, piece)).collect();
            self.state.lock().steering.extend(added.clone());
            Ok(added)
        })
    }

    fn unsteer(&self, pieces: Option<Vec<Piece>>) -> Pending<'_, Steering> {
        Box::pin(async move {
            let mut state = self.state.lock();
            let meant = |(_, piece): &(Family, Piece)| pieces.as_ref().is_none_or(|p| p.contains(piece));
            let (gone, left) = std::mem::take(&mut state.steering).into_iter().partition(meant);
            state.steering = left;
            Ok(gone)
        })
    }

    fn steered(&self) -> Pending<'_, Steering> {
        Box::pin(async move { Ok(self.state.lock().steering.clone()) })
    }
}
