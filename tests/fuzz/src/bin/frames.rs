//! A Frame Streams session takes no byte twice, never more than there are, and reads the same from one piece
//! as from two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::wire::Look;
use namegate::wire::frames::{Session, Step};
use namegate_fuzz::cut;

/// Runs a session over what has come so far; returns the payloads, and what the last look said.
fn run(session: &mut Session, bytes: &[u8], at: &mut usize) -> (Vec<Vec<u8>>, &'static str) {
    let mut payloads = Vec::new();
    loop {
        match session.step(&bytes[*at..]) {
            Look::Got((step, used)) => {
                assert!(used > 0 && used <= bytes.len() - *at);
                if let Step::Data(data) = step {
                    assert!(!data.is_empty() && session.is_started());
                    payloads.push(data.to_vec());
                }
                *at += used;
            }
            Look::More => return (payloads, "more"),
            Look::Foreign => return (payloads, "foreign"),
            Look::Bad(_) => return (payloads, "bad"),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = run(&mut Session::default(), data, &mut 0);
    let (mut session, mut at) = (Session::default(), 0);
    let (mut payloads, said) = run(&mut session, &data[..cut(data)], &mut at);
    if said == "more" {
        let (rest, said) = run(&mut session, data, &mut at);
        payloads.extend(rest);
        assert_eq!((payloads, said), whole);
    } else {
        assert_eq!((payloads, said), whole);
    }
});
