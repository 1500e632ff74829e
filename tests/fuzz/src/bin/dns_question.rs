//! A query that is read has a name that is valid, and is read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::facts::Name;
use namegate::wire::{Look, dns};

fuzz_target!(|data: &[u8]| {
    let read = dns::question(data);
    assert_eq!(dns::question(data), read);
    if let Look::Got(question) = read {
        assert_eq!(data[..2], question.id.to_be_bytes());
        assert_eq!(Name::parse(question.name.as_str()), Ok(question.name));
    }
});
