//! A dnstap payload decodes to the same thing twice, and only an answer to a client becomes an observation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::facts::{Client, Tick};
use namegate::wire::Look;
use namegate::wire::dnstap::decode;

fuzz_target!(|data: &[u8]| {
    let frame = || data.to_vec().into();
    let read = decode(frame());
    assert!(!matches!(read, Look::More));
    assert_eq!(decode(frame()), read);
    let Look::Got(tapped) = read else { return };
    let told = tapped.told();
    assert!(!matches!(told, Look::More));
    if let Look::Got(told) = told
        && let Some(observation) = told.observation(Client::at(told.address), Tick::from_nanos(1))
    {
        assert_eq!(Some(observation.client), tapped.query_address.map(Client::at));
        assert!(!observation.chain.is_empty() && !observation.addresses.is_empty());
    }
});
