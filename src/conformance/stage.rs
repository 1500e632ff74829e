//! The trials played: one after the other, each measured from both ends.
//!
//! Must not know what the trials are. The filter's own word counts for nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use tokio::time::sleep;

use crate::props::{Arrival, Mark};

use super::Error;
use super::filter::Filter;
use super::map::{A_RECORD, AT_HINTED, GATEWAY};
use super::order::{Answer, Order, Tls};
use super::outcome::{Fate, Row};
use super::talk::Talk;
use super::trial::{Step, Trial, Verdict, Who, ask, https, tls};
use super::trials::SERVICE;
use super::world::World;

/// Everything that a trial needs.
#[derive(Debug)]
pub(super) struct Stage {
    world: World,
    filter: Filter,
    a: Talk,
    b: Talk,
    /// A program in the gateway's network, whose service only the gateway should reach.
    gateway: Talk,
    /// Who signed the servers' certificate, PEM.
    trust: String,
    /// Ports that were open in the gateway's network before the filter was there.
    own: Vec<u16>,
    /// Addresses that look-ups of the trial gave.
    given: Vec<IpAddr>,
    /// Whether the filter was killed, and must be started again.
    killed: bool,
}

/// What a trial began with.
#[derive(Debug, Clone, Copy)]
struct Before {
    mark: Mark,
    strays: usize,
    count: usize,
}

/// How long what is on its way may take to arrive.
const SETTLE: Duration = Duration::from_millis(60);

impl Stage {
    pub(super) async fn open(world: World, filter: Filter, trust: &str) -> Result<Self, Error> {
        let (a, b, gateway) = (Talk::within("a")?, Talk::within("b")?, Talk::within("gateway")?);
        let trust = trust.to_owned();
        let mut stage =
            Self { world, filter, a, b, gateway, trust, own: Vec::new(), given: Vec::new(), killed: false };
        stage.gateway.tell(&Order::Listen { port: SERVICE }).await?;
        stage.own = stage.gateway.tell(&Order::Ports).await?.ports;
        Ok(stage)
    }

    /// Does what comes before the filter, starts it, and plays the trials. `refused` are ordinary uses that the
    /// filter is known to refuse.
    pub(super) async fn play(&mut self, trials: &[Trial], refused: &[&str]) -> Result<Vec<Row>, Error> {
        for order in trials.iter().filter_map(|trial| trial.early.as_ref()) {
            self.b.tell(order).await?;
        }
        self.filter.start().await?;
        let mut rows = Vec::with_capacity(trials.len());
        for trial in trials {
            let (fate, seen) = self.take(trial).await?;
            let wanted = match trial.number {
                Some(_) => Fate::Blocked,
                None if refused.contains(&trial.name) => Fate::Broke,
                None => Fate::Works,
            };
            let Trial { number, name, tried, .. } = *trial;
            tracing::debug!(name, ?fate, seen, "tried");
            rows.push(Row { number, name, tried, fate, seen, expected: fate == wanted });
        }
        Ok(rows)
    }

    async fn take(&mut self, trial: &Trial) -> Result<(Fate, String), Error> {
        let before = Before {
            mark: self.world.seen.mark(),
            strays: self.world.strays.count(),
            count: self.gateway.tell(&Order::Count).await?.count,
        };
        self.given.clear();
        let mut answers = Vec::new();
        for step in &trial.steps {
            if let Err(why) = self.do_step(step, &mut answers).await? {
                return Ok((if trial.number.is_some() { Fate::Untried } else { Fate::Broke }, why));
            }
        }
        sleep(SETTLE).await;
        self.judge(trial, before, &answers).await
    }

    /// `Err` inside: a look-up that had to work did not.
    async fn do_step(&mut self, step: &Step, answers: &mut Vec<Answer>) -> Result<Result<(), String>, Error> {
        match step {
            Step::LookUp(who, name, qtype) => {
                let answer = self.tell(*who, ask(name, *qtype)).await?;
                let given = addresses(&answer.heard, *qtype);
                self.given.extend(&given);
                if given.is_empty() {
                    let end = if answer.end.is_empty() { "no address" } else { answer.end.as_str() };
                    return Ok(Err(format!("the look-up of {name} gave nothing: {end}")));
                }
            }
            Step::Wait(milliseconds) => sleep(Duration::from_millis(*milliseconds)).await,
            Step::Do(who, order) => answers.push(self.tell(*who, order.clone()).await?),
            Step::DialGiven(name) => {
                self.given.dedup();
                for address in self.given.clone() {
                    answers.push(self.tell(Who::A, https(address, name)).await?);
                }
            }
            Step::DialHint(name) => {
                let hinted = answers.last().and_then(|answer| hint(&answer.heard));
                let to = match hinted {
                    Some(address) => address,
                    None => {
                        self.tell(Who::A, ask(name, A_RECORD)).await?;
                        AT_HINTED
                    }
                };
                answers.push(self.tell(Who::A, https(to, name)).await?);
            }
            Step::DialFilter(name) => {
                let ports = self.gateway.tell(&Order::Ports).await?.ports;
                let ports = ports.into_iter().filter(|port| !self.own.contains(port) && *port != 53);
                // Without any it is answered as well: nothing comes through.
                for port in ports.collect::<Vec<_>>() {
                    let to = Some(SocketAddr::new(IpAddr::V4(GATEWAY), port));
                    let order = Order::Tls(Tls { to, ..tls(IpAddr::V4(GATEWAY), name) });
                    answers.push(self.tell(Who::A, order).await?);
                }
            }
            Step::Kill => {
                self.filter.kill(self.gateway.pid()).await.map_err(Error::Filter)?;
                self.killed = true;
            }
            Step::Flush => {
                if std::mem::take(&mut self.killed) {
                    self.filter.start().await?;
                }
                self.filter.flush().await.map_err(Error::Filter)?;
            }
        }
        Ok(Ok(()))
    }

    async fn tell(&mut self, who: Who, mut order: Order) -> Result<Answer, Error> {
        if let Order::Tls(tls) = &mut order {
            tls.trust.clone_from(&self.trust);
        }
        match who {
            Who::A => self.a.tell(&order).await,
            Who::B => self.b.tell(&order).await,
        }
    }

    async fn judge(
        &mut self,
        trial: &Trial,
        before: Before,
        answers: &[Answer],
    ) -> Result<(Fate, String), Error> {
        let notes = self.world.seen.since(before.mark);
        let last = answers.last().cloned().unwrap_or_default();
        let found = match &trial.verdict {
            Verdict::Silence => {
                let arrival = notes.arrivals.iter().find(|arrival| arrival.bytes > 0).map(told);
                arrival.or_else(|| self.world.strays.since(before.strays).into_iter().next())
            }
            Verdict::NotAt(address) => {
                let at = |arrival: &&Arrival| arrival.bytes > 0 && arrival.at.ip() == *address;
                notes.arrivals.iter().find(at).map(told)
            }
            Verdict::Unseen(bytes) => {
                // Connections of before the trial may be what it is about.
                let all = self.world.seen.since(Mark::default()).arrivals;
                all.iter().find(|arrival| contains(&arrival.head, bytes)).map(told)
            }
            Verdict::Unasked(name) => {
                let asked = notes.questions.iter().find(|question| question.name == *name);
                asked.map(|question| format!("the question came to {}", question.at))
            }
            Verdict::Without(bytes) => contains(&last.heard, bytes).then(|| "it is in the answer".to_owned()),
            Verdict::Uncounted => {
                let count = self.gateway.tell(&Order::Count).await?.count - before.count;
                (count > 0).then(|| format!("{count} bytes came"))
            }
            Verdict::Heard(wanted, times) => return Ok(heard(wanted, *times, answers)),
        };
        Ok(found.map_or((Fate::Blocked, String::new()), |seen| (Fate::Leaked, seen)))
    }
}

fn heard(wanted: &str, times: usize, answers: &[Answer]) -> (Fate, String) {
    let heard: usize = answers.iter().map(|answer| answer.text().matches(wanted).count()).sum();
    let times = if times == 0 { answers.len() } else { times };
    if heard == times && times > 0 {
        return (Fate::Works, String::new());
    }
    let last = answers.last().cloned().unwrap_or_default();
    let text: String = last.text().lines().next().unwrap_or_default().chars().take(60).collect();
    let text = text.escape_debug().to_string();
    let ends = [text, last.end].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    (Fate::Broke, format!("{heard} of {times} came through ({ends})"))
}

fn told(arrival: &Arrival) -> String {
    format!("{} bytes at {}, from {}", arrival.bytes, arrival.at, arrival.from.ip())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Addresses of a type in a reply.
fn addresses(reply: &[u8], qtype: u16) -> Vec<IpAddr> {
    let Ok(reply) = Message::from_vec(reply) else { return Vec::new() };
    let of_type = reply.answers.iter().filter(|record| u16::from(record.record_type()) == qtype);
    of_type.filter_map(|record| record.data.ip_addr()).collect()
}

/// The address that an HTTPS record hints at.
fn hint(reply: &[u8]) -> Option<IpAddr> {
    let reply = Message::from_vec(reply).ok()?;
    let records = reply
        .answers
        .iter()
        .filter_map(|record| if let RData::HTTPS(https) = &record.data { Some(https) } else { None });
    records.flat_map(|https| https.svc_params.iter()).find_map(|(_, value)| {
        if let SvcParamValue::Ipv4Hint(hint) = value { hint.0.first().map(|a| IpAddr::V4(a.0)) } else { None }
    })
}
