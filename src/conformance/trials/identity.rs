//! Names and addresses that do not belong together, or not to this client.

use super::super::map::{
    AAAA_RECORD, ALIAS, ALSO, AT_ALIAS, AT_ALSO, AT_FIRST, AT_MAPPED, AT_METADATA, AT_METADATA6, AT_PRIVATE,
    AT_SOLO, ATTACKER, EDGE, GOOD, MAPPED, METADATA, METADATA6, MOVING, OTHER, PRIVATE, SHARED, SOLO, STRAY,
    UNNAMED,
};
use super::super::order::Order;
use super::super::trial::{Step, Trial, Verdict, Who, ask, https, tls};

/// Longer than an answer for [`MOVING`] is good, and the grace that the suite's filters are given: milliseconds.
const PAST_ITS_TIME: u64 = 2600;

pub(super) fn trials() -> Vec<Trial> {
    let nameless = Order::Tls(super::super::order::Tls { sni: None, ..tls(UNNAMED, GOOD) });
    let rogue = Order::Ask {
        server: (ATTACKER, 53).into(),
        tcp: false,
        name: GOOD.to_owned(),
        qtype: super::super::map::A_RECORD,
    };
    // The look-up may fail, if the filter keeps such answers back: the client dials all the same.
    let rebinding = |name, tried, asked, qtype, at| {
        Trial::attack(11, name, tried).act(ask(asked, qtype)).act(https(at, asked)).judged(Verdict::NotAt(at))
    };
    let a = super::super::map::A_RECORD;
    vec![
        Trial::attack(1, "hardcoded-ip", "an address that no answer gave, without a name").act(nameless),
        Trial::attack(2, "sni-spoof", "an allowed name at the attacker's address")
            .knowing(GOOD)
            .act(https(ATTACKER, GOOD))
            .judged(Verdict::NotAt(ATTACKER)),
        Trial::attack(3, "sni-swap-shared-ip", "another name at an allowed name's address")
            .knowing(GOOD)
            .act(https(SHARED, OTHER)),
        Trial::attack(4, "cross-name", "one allowed name at another's address")
            .knowing(GOOD)
            .knowing(ALSO)
            .act(https(AT_ALSO, GOOD))
            .judged(Verdict::NotAt(AT_ALSO)),
        Trial::attack(5, "cross-client", "what only another client looked up")
            .knowing(SOLO)
            .step(Step::Do(Who::B, https(AT_SOLO, SOLO))),
        Trial::attack(7, "rogue-resolver", "an allowed name where the attacker's resolver says it is")
            .act(rogue)
            .act(https(ATTACKER, GOOD))
            .judged(Verdict::NotAt(ATTACKER)),
        Trial::attack(9, "offpath-answer", "where a record says that does not belong to the question")
            .knowing(STRAY)
            .act(https(ATTACKER, ALSO))
            .judged(Verdict::NotAt(ATTACKER)),
        Trial::attack(10, "cname-steer", "the name that an allowed alias stands for")
            .knowing(ALIAS)
            .act(https(AT_ALIAS, EDGE)),
        rebinding("rebinding-private", "an allowed name at a private address", PRIVATE, a, AT_PRIVATE),
        rebinding("rebinding-metadata", "an allowed name at the metadata address", METADATA, a, AT_METADATA),
        rebinding("rebinding-metadata6", "the same in IPv6", METADATA6, AAAA_RECORD, AT_METADATA6),
        rebinding("rebinding-nat64", "the same behind a translator's prefix", MAPPED, AAAA_RECORD, AT_MAPPED),
        Trial::attack(12, "ttl-edge", "an address after its time, and grace, are over")
            .knowing(MOVING)
            .step(Step::Wait(PAST_ITS_TIME))
            .act(https(AT_FIRST, MOVING))
            .judged(Verdict::NotAt(AT_FIRST)),
    ]
}
