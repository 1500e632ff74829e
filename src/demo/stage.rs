//! The story played: one step after the other, each measured and judged.
//!
//! Must not know what the steps are.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::facts::Transport;
use crate::props::{Mark, Seen};
use crate::sys::clock;
use crate::wire::dns::qtype;

use super::Row;
use super::audit::Audit;
use super::gate::{Gate, Process, Talk};
use super::judge::{Measured, belongs};
use super::map::Map;
use super::order::{Answer, Heard, Order};
use super::story::{Fate, Step, Who};

/// Everything that a step needs.
#[derive(Debug)]
pub(super) struct Stage {
    map: Map,
    seen: Seen,
    gate: Process,
    clients: [Talk; 2],
    audit: Audit,
    /// What was seen when the step before was judged: what came late then counts against the next one.
    mark: Mark,
}

/// How long the whole story may take. It takes about three seconds, most of them for a lease to end; the rest is
/// for a busy machine, and a gate that hangs.
const WHOLE: Duration = Duration::from_secs(20);

impl Stage {
    /// Needs the runtime.
    pub(super) fn new(map: Map, seen: Seen, gate: Gate, trust: &str, audit: Audit) -> io::Result<Self> {
        let Gate { process, clients: [a, b] } = gate;
        let clients = [Talk::with(a, trust)?, Talk::with(b, trust)?];
        Ok(Self { map, seen, gate: process, clients, audit, mark: Mark::default() })
    }

    /// Plays the steps. Those for which no time is left fail.
    pub(super) async fn play(&mut self, steps: &[Step]) -> Vec<Row> {
        let end = Instant::now() + WHOLE;
        let mut rows = Vec::with_capacity(steps.len());
        for step in steps {
            let row = timeout_at(end, self.take(step)).await;
            rows.push(row.unwrap_or_else(|_| row_of(step, None, Err("no time was left".to_owned()))));
        }
        rows
    }

    async fn take(&mut self, step: &Step) -> Row {
        let given = self.look_up(step).await;
        sleep(step.pause).await;
        if step.fate == Fate::Dead {
            self.gate.kill().await;
        }
        self.mark.questions = self.seen.mark().questions;
        let begin = clock::tick();
        let answer = self.client(step.who).tell(&step.order).await;
        let took = clock::tick().since(begin);
        let line = match step.fate.reason() {
            Some(_) => self.audit.find(|line| belongs(line, step, answer.port)).await,
            None => None,
        };
        let notes = self.seen.since(self.mark);
        self.mark = self.seen.mark();
        let measured = Measured { answer, notes, line, took };
        let verdict = given.and_then(|()| measured.judge(step));
        row_of(step, Some(&measured), verdict)
    }

    /// Looks up what the step needs to know; the answers must be as they should.
    async fn look_up(&mut self, step: &Step) -> Result<(), String> {
        let server = self.map.dns_at(self.map.resolver);
        for (name, given) in &step.before {
            let order =
                Order::Ask { server, over: Transport::Udp, name: (*name).to_owned(), qtype: qtype::A };
            let Answer { heard, addresses, detail, .. } = self.client(step.who).tell(&order).await;
            let good = if given.is_empty() { Heard::NoAddress } else { Heard::Passed };
            if heard != good || addresses != given.iter().copied().map(IpAddr::V4).collect::<Vec<_>>() {
                return Err(format!("the look-up of {name} before it gave: {} ({detail})", heard.words()));
            }
        }
        Ok(())
    }

    fn client(&mut self, who: Who) -> &mut Talk {
        let [a, b] = &mut self.clients;
        match who {
            Who::A => a,
            Who::B => b,
        }
    }
}

fn row_of(step: &Step, measured: Option<&Measured>, verdict: Result<(), String>) -> Row {
    let event = |field| measured.and_then(|measured| measured.event(field)).map(str::to_owned);
    Row {
        tried: step.tried,
        heard: measured.map_or("not tried".to_owned(), |measured| heard(step, &measured.answer)),
        reason: event("reason"),
        expected: step.fate.reason(),
        id: event("id"),
        bypass: step.fate != Fate::Passes,
        fault: verdict.err(),
    }
}

fn heard(step: &Step, answer: &Answer) -> String {
    let words = answer.heard.words();
    match step.fate {
        Fate::CutOff if answer.pages == 1 => format!("one page, then {words}"),
        Fate::Truth(address) if answer.addresses == [IpAddr::V4(address)] => {
            format!("the true answer, {address}")
        }
        Fate::Passes | Fate::Denied(_) | Fate::CutOff | Fate::Unasked(_) | Fate::Truth(_) | Fate::Dead => {
            words.to_owned()
        }
    }
}
