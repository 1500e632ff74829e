//! A ClientHello reads the same in one piece, in two, and asked again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::wire::Look;
use namegate::wire::tls::HelloReader;

fuzz_target!(|data: &[u8]| {
    let whole = HelloReader::default().look(data);
    let mut reader = HelloReader::default();
    let early = reader.look(&data[..namegate_fuzz::cut(data)]);
    assert!(early == Look::More || early == whole, "{early:?}, then {whole:?}");
    assert_eq!(reader.look(data), whole);
    assert_eq!(reader.look(data), whole);
});
