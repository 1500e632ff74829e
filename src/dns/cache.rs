//! Answers that may be told again: as upstreams gave them, until their TTLs run out.
//!
//! It holds no verdicts, so it must not know clients nor rules: whoever is answered from here is judged first, and what he
//! is told is observed for him, as if it had just come.

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::facts::Tick;
use crate::wire::dns::{Ask, Lifetime};

/// A bounded store. What is asked for stays longer than what is not.
#[derive(Debug)]
pub(super) struct Cache {
    /// Of each generation: half of the whole.
    most: usize,
    generations: Mutex<Generations>,
}

/// When the young are as many as may be, they become the old, and the old are gone.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Ask, Kept, RandomState>,
    old: HashMap<Ask, Kept, RandomState>,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Kept {
    message: Box<[u8]>,
    lifetime: Lifetime,
    since: Tick,
}

const NANOS: u64 = 1_000_000_000;

impl Cache {
    /// Makes room for so many answers.
    pub(super) fn new(answers: usize) -> Self {
        Self { most: answers.div_ceil(2), generations: Mutex::default() }
    }

    /// Returns the answer to a question, each TTL what is left of it; `None`: it has to be asked for.
    pub(super) fn answer(&self, ask: &Ask, now: Tick) -> Option<Vec<u8>> {
        if self.most == 0 {
            return None;
        }
        let mut generations = self.generations.lock();
        if let Some(old) = generations.old.remove(ask) {
            generations.put(ask.clone(), old, self.most);
        }
        let kept = generations.young.get(ask)?;
        // A second that has begun is over: never is more told than is left.
        let age = u32::try_from(now.nanos().checked_sub(kept.since.nanos())?.div_ceil(NANOS)).ok()?;
        if age >= kept.lifetime.seconds {
            generations.young.remove(ask);
            return None;
        }
        let mut message = kept.message.to_vec();
        kept.lifetime.age(&mut message, age).ok()?;
        Some(message)
    }

    /// Returns what of an answer may be kept.
    pub(super) fn worth(&self, answer: &[u8]) -> Option<Kept> {
        if self.most == 0 {
            return None;
        }
        let lifetime = Lifetime::of(answer)?;
        Some(Kept { message: answer.into(), lifetime, since: Tick::default() })
    }

    /// Keeps an answer that came just now.
    pub(super) fn keep(&self, ask: Ask, kept: Option<Kept>, now: Tick) {
        let Some(kept) = kept else { return };
        let mut generations = self.generations.lock();
        generations.old.remove(&ask);
        generations.put(ask, Kept { since: now, ..kept }, self.most);
    }
}

impl Generations {
    fn put(&mut self, ask: Ask, kept: Kept, most: usize) {
        if self.young.len() >= most && !self.young.contains_key(&ask) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ask, kept);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};

    use crate::facts::Name;

    use super::*;

    fn named(name: &str) -> HickoryName {
        HickoryName::from_ascii(name).unwrap()
    }

    fn address(ttl: u32) -> Record {
        Record::from_rdata(named("www.example.com"), ttl, RData::A(A::new(203, 0, 113, 1)))
    }

    fn answer(code: ResponseCode, answers: Vec<Record>, soa: Option<(u32, u32)>) -> Vec<u8> {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(named("www.example.com"), RecordType::A));
        for record in answers {
            message.add_answer(record);
        }
        if let Some((ttl, minimum)) = soa {
            let soa = SOA::new(named("ns.example.com"), named("mail.example.com"), 1, 2, 3, 4, minimum);
            message.add_authority(Record::from_rdata(named("example.com"), ttl, RData::SOA(soa)));
        }
        message.to_vec().unwrap()
    }

    fn ask(number: usize) -> Ask {
        Ask::new(Name::parse(format!("n{number}.example.com")).unwrap(), 1)
    }

    fn at(seconds: f64) -> Tick {
        Tick::from_nanos((seconds * 1e9) as u64)
    }

    fn ttl(message: &[u8]) -> u32 {
        Message::from_vec(message).unwrap().answers[0].ttl
    }

    #[test]
    fn ttls_count_down_and_nothing_outlives_the_smallest() {
        let cache = Cache::new(10);
        let bytes = answer(ResponseCode::NoError, vec![address(300), address(10)], None);
        cache.keep(ask(1), cache.worth(&bytes), at(100.0));
        assert_eq!(ttl(&cache.answer(&ask(1), at(100.0)).unwrap()), 300);
        assert_eq!(ttl(&cache.answer(&ask(1), at(100.1)).unwrap()), 299, "never more than is left");
        assert_eq!(ttl(&cache.answer(&ask(1), at(109.0)).unwrap()), 291);
        assert_eq!(cache.answer(&ask(1), at(109.1)), None);
        assert_eq!(cache.answer(&ask(1), at(100.0)), None, "gone");
        cache.keep(ask(1), cache.worth(&bytes), at(100.0));
        assert_eq!(cache.answer(&ask(1), at(99.0)), None, "a clock that went back grants nothing");
    }

    #[test]
    fn what_may_not_be_told_again_is_not_kept() {
        let worth = |bytes: &[u8]| Cache::new(10).worth(bytes).map(|kept| kept.lifetime.seconds);
        let positive = |ttl| answer(ResponseCode::NoError, vec![address(ttl)], None);
        assert_eq!(worth(&positive(0)), None);
        assert_eq!(worth(&positive(1)), Some(1));
        assert_eq!(worth(&positive(1 << 31)), None);
        assert_eq!(worth(&positive((1 << 31) - 1)), Some(3600));
        let mut cut = positive(60);
        cut[2] |= 2;
        assert_eq!(worth(&cut), None, "a part of an answer");
        let mut query = positive(60);
        query[2] &= 0x7f;
        assert_eq!(worth(&query), None, "no answer");
        let target = RData::CNAME(CNAME(named("other.example.com")));
        let alias = vec![Record::from_rdata(named("www.example.com"), 60, target)];
        assert_eq!(worth(&answer(ResponseCode::NoError, alias, None)), None, "leads nowhere");
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            assert_eq!(worth(&answer(code, Vec::new(), None)), None, "{code}");
            assert_eq!(worth(&answer(code, Vec::new(), Some((30, 3600)))), Some(30), "{code}");
            assert_eq!(worth(&answer(code, Vec::new(), Some((3600, 20)))), Some(20), "{code}");
            assert_eq!(worth(&answer(code, Vec::new(), Some((3600, 3600)))), Some(60), "{code}");
        }
        for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr] {
            assert_eq!(worth(&answer(code, vec![address(60)], Some((60, 60)))), None, "{code}");
        }
        let many = vec![address(60); 300];
        assert_eq!(worth(&answer(ResponseCode::NoError, many, None)), None, "too large");
        assert!(Cache::new(0).worth(&positive(60)).is_none());
    }

    #[test]
    fn it_is_bounded_and_what_is_asked_for_stays() {
        let cache = Cache::new(100);
        let bytes = answer(ResponseCode::NoError, vec![address(300)], None);
        for number in 0..10_000 {
            cache.keep(ask(number), cache.worth(&bytes), at(1.0));
            assert!(cache.answer(&ask(0), at(1.0)).is_some(), "{number}");
        }
        let generations = cache.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 100);
    }
}
