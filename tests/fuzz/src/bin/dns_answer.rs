//! A response that is read starts its chain at its question, and invents neither addresses nor TTLs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::wire::dns;

fuzz_target!(|data: &[u8]| {
    let read = dns::answer(data);
    assert_eq!(dns::answer(data), read);
    if let Ok(answer) = read {
        assert_eq!(answer.chain.first(), Some(&answer.question.name));
        // The smallest A record: a compressed owner, ten fixed bytes, the address.
        assert!(answer.addresses.len() * 16 <= data.len());
        assert!(answer.addresses.iter().all(|address| address.ttl_secs <= i32::MAX.unsigned_abs()));
    }
});
